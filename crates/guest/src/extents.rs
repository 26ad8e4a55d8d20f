//! Sets of pages as sorted runs of page numbers.

use alloc::vec::Vec;

/// A run of pages: `start` and the `count` of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// First page number.
    pub start: u64,
    /// How many.
    pub count: u64,
}

impl Extent {
    /// The run `[start, start + count)`.
    #[must_use]
    pub const fn new(start: u64, count: u64) -> Self {
        Self { start, count }
    }

    /// The run of whole pages that covers `len` bytes from `address`.
    #[must_use]
    pub const fn covering(address: u64, len: u64) -> Self {
        let start = address / kexen_abi::PAGE_SIZE;
        let end = address.saturating_add(len).div_ceil(kexen_abi::PAGE_SIZE);
        Self::new(start, end - start)
    }

    /// One past the last page number.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.count)
    }

    /// Whether `page` is in the run.
    #[must_use]
    pub const fn contains(&self, page: u64) -> bool {
        page >= self.start && page < self.end()
    }
}

/// A set of pages: runs that are sorted, apart and not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The runs, in order.
    #[must_use]
    pub fn runs(&self) -> &[Extent] {
        &self.0
    }

    /// All pages, in order.
    pub fn pages(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|run| run.start..run.end())
    }

    /// How many pages there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|run| run.count).sum()
    }

    /// Whether the page is in the set.
    #[must_use]
    pub fn contains(&self, page: u64) -> bool {
        let at = self.0.partition_point(|run| run.end() <= page);
        self.0.get(at).is_some_and(|run| run.contains(page))
    }

    /// Adds a run; pages already there stay there once.
    pub fn insert(&mut self, run: Extent) {
        if run.count == 0 {
            return;
        }
        let from = self.0.partition_point(|r| r.end() < run.start);
        let to = self.0.partition_point(|r| r.start <= run.end());
        let (mut start, mut end) = (run.start, run.end());
        for old in self.0.get(from..to).unwrap_or_default() {
            start = start.min(old.start);
            end = end.max(old.end());
        }
        self.0
            .splice(from..to, [Extent::new(start, end.saturating_sub(start))]);
    }

    /// Takes a run out; pages that are not there are no matter.
    pub fn remove(&mut self, run: Extent) {
        if run.count == 0 {
            return;
        }
        let from = self.0.partition_point(|r| r.end() <= run.start);
        let to = self.0.partition_point(|r| r.start < run.end());
        let mut left = Vec::new();
        for old in self.0.get(from..to).unwrap_or_default() {
            if old.start < run.start {
                left.push(Extent::new(old.start, run.start - old.start));
            }
            if old.end() > run.end() {
                left.push(Extent::new(run.end(), old.end() - run.end()));
            }
        }
        self.0.splice(from..to, left);
    }

    /// Takes `count` pages in one run out of the set, from its end (the low
    /// pages are what kernels are linked to).
    pub fn take_run(&mut self, count: u64) -> Option<Extent> {
        let found = self.0.iter().rev().find(|run| run.count >= count)?;
        let run = Extent::new(found.end() - count, count);
        self.remove(run);
        Some(run)
    }

    /// The first `count` pages in one run that begin at a multiple of `align`;
    /// they stay in the set.
    #[must_use]
    pub fn first_run(&self, count: u64, align: u64) -> Option<Extent> {
        self.0.iter().find_map(|run| {
            let start = run.start.checked_next_multiple_of(align)?;
            let found = Extent::new(start, count);
            (found.end() <= run.end()).then_some(found)
        })
    }

    /// Takes `count` pages in any number of runs, from the end; nothing is
    /// taken where there are not enough.
    pub fn take(&mut self, count: u64) -> Option<Self> {
        if self.count() < count {
            return None;
        }
        let mut taken = Self::new();
        let mut left = count;
        while left > 0 {
            let last = *self.0.last()?;
            let n = last.count.min(left);
            let run = Extent::new(last.end() - n, n);
            self.remove(run);
            taken.insert(run);
            left -= n;
        }
        Some(taken)
    }

    /// The first `count` pages of the set, or all of it.
    #[must_use]
    pub fn lowest(&self, count: u64) -> Self {
        let mut left = count;
        let mut lowest = Self::new();
        for run in &self.0 {
            let n = run.count.min(left);
            lowest.insert(Extent::new(run.start, n));
            left -= n;
        }
        lowest
    }

    /// Adds all runs of another set.
    pub fn extend(&mut self, other: &Self) {
        for run in &other.0 {
            self.insert(*run);
        }
    }

    /// The parts of `run` that are in the set.
    #[must_use]
    pub fn within(&self, run: Extent) -> Self {
        let from = self.0.partition_point(|r| r.end() <= run.start);
        let to = self.0.partition_point(|r| r.start < run.end());
        let mut parts = Self::new();
        for old in self.0.get(from..to).unwrap_or_default() {
            let start = old.start.max(run.start);
            let end = old.end().min(run.end());
            parts.insert(Extent::new(start, end.saturating_sub(start)));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn set(runs: &[(u64, u64)]) -> Extents {
        let mut all = Extents::new();
        for (start, count) in runs {
            all.insert(Extent::new(*start, *count));
        }
        all
    }

    #[test]
    fn the_first_run_is_aligned_and_stays() {
        let free = set(&[(1, 8), (17, 100), (300, 50)]);
        assert_eq!(free.first_run(8, 1), Some(Extent::new(1, 8)));
        assert_eq!(free.first_run(8, 16), Some(Extent::new(32, 8)));
        assert_eq!(free.first_run(9, 1), Some(Extent::new(17, 9)));
        assert_eq!(free.first_run(85, 32), Some(Extent::new(32, 85)));
        assert_eq!(free.first_run(86, 32), None);
        assert_eq!(free.first_run(101, 1), None);
        assert_eq!(free.first_run(u64::MAX, 1), None);
    }

    #[test]
    fn insert_joins_what_touches() {
        assert_eq!(
            set(&[(10, 5), (0, 3), (3, 7)]).runs(),
            vec![Extent::new(0, 15)]
        );
        assert_eq!(
            set(&[(10, 5), (0, 3), (20, 1)]).runs(),
            vec![Extent::new(0, 3), Extent::new(10, 5), Extent::new(20, 1)]
        );
    }

    #[test]
    fn remove_splits() {
        let mut all = set(&[(0, 10), (20, 10)]);
        all.remove(Extent::new(5, 17));
        assert_eq!(all, set(&[(0, 5), (22, 8)]));
        all.remove(Extent::new(24, 2));
        assert_eq!(all, set(&[(0, 5), (22, 2), (26, 4)]));
        assert!(all.contains(4) && !all.contains(5) && !all.contains(25));
    }

    #[test]
    fn take_is_all_or_nothing() {
        let mut all = set(&[(0, 4), (10, 4)]);
        assert_eq!(all.take(9), None);
        assert_eq!(all.take(6), Some(set(&[(2, 2), (10, 4)])));
        assert_eq!(all.take_run(3), None);
        assert_eq!(all.take_run(2), Some(Extent::new(0, 2)));
        assert_eq!(all.count(), 0);
    }

    #[test]
    fn within_cuts_to_the_window() {
        let all = set(&[(0, 4), (10, 4)]);
        assert_eq!(all.within(Extent::new(3, 9)), set(&[(3, 1), (10, 2)]));
    }

    #[test]
    fn the_lowest_pages_come_first() {
        let all = set(&[(0, 4), (10, 4)]);
        assert_eq!(all.lowest(0), Extents::new());
        assert_eq!(all.lowest(5), set(&[(0, 4), (10, 1)]));
        assert_eq!(all.lowest(100), all);
    }

    #[test]
    fn a_mirror_agrees() {
        // The same random inserts and removes on a plain bitmap.
        let mut state = 0x1234_5678_9abc_def1_u64;
        let mut bits = [false; 200];
        let mut all = Extents::new();
        for _ in 0..2000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let start = state % 180;
            let count = (state >> 20) % 20;
            let on = (state >> 40).is_multiple_of(2);
            let run = Extent::new(start, count);
            if on {
                all.insert(run);
            } else {
                all.remove(run);
            }
            for page in start..start + count {
                bits[usize::try_from(page).unwrap()] = on;
            }
            let want: Vec<u64> = (0..200)
                .filter(|page| bits[usize::try_from(*page).unwrap()])
                .collect();
            assert_eq!(all.pages().collect::<Vec<_>>(), want);
            assert!(all.runs().windows(2).all(|w| w[0].end() < w[1].start));
        }
    }
}
