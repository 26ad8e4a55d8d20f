//! Which p2m entries change: a permutation of the guest's frames.
//!
//! The start of day wants certain frames at certain pfns. Instead of
//! copying bytes, the p2m entries are exchanged: the frame that holds the
//! bytes gets the pfn, and the frame that was there gets a pfn that became
//! vacant. Pure: page numbers in, page numbers out. "Old" pages are pfns
//! as this kernel counts them, "new" ones as the next kernel will.

use alloc::vec::Vec;

use kexen_guest::{Extent, Extents};

use crate::HandoffError;

/// One change: the frames of a run of old pfns become those of a run of new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// First pfn for the next kernel.
    pub new: u64,
    /// First pfn until now.
    pub old: u64,
    /// Pages.
    pub count: u64,
}

impl Move {
    const fn targets(&self) -> Extent {
        Extent::new(self.new, self.count)
    }

    const fn sources(&self) -> Extent {
        Extent::new(self.old, self.count)
    }
}

/// Changes, page by page, kept as runs: an initrd of hundreds of MiB is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves(Vec<Move>);

impl Moves {
    /// Adds a page: the frame of `old` becomes that of `new`.
    pub fn push(&mut self, new: u64, old: u64) {
        if let Some(last) = self.0.last_mut()
            && last.targets().end() == new
            && last.sources().end() == old
        {
            last.count += 1;
        } else {
            self.0.push(Move { new, old, count: 1 });
        }
    }
}

impl Extend<(u64, u64)> for Moves {
    fn extend<T: IntoIterator<Item = (u64, u64)>>(&mut self, pages: T) {
        for (new, old) in pages {
            self.push(new, old);
        }
    }
}

impl FromIterator<(u64, u64)> for Moves {
    fn from_iter<T: IntoIterator<Item = (u64, u64)>>(pages: T) -> Self {
        let mut moves = Self::default();
        moves.extend(pages);
        moves
    }
}

/// The whole exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// By new pfn.
    moves: Vec<Move>,
}

impl Exchange {
    /// Plans the exchange.
    ///
    /// `content`: pages whose bytes matter, each pfn at most once on its side.
    /// `region`: new pfns that must have a frame of the guest's that is no page
    /// table, whatever is in it (those in `content` need not be left out).
    /// `clean`: old pfns with such a frame that is free; what the exchange uses
    /// of them is taken out.
    pub fn plan(content: Moves, region: Extent, clean: &mut Extents) -> Result<Self, HandoffError> {
        let mut targets = Extents::new();
        let mut sources = Extents::new();
        for run in &content.0 {
            targets.insert(run.targets());
            sources.insert(run.sources());
            clean.remove(run.sources());
        }
        let mut moves = content;
        // The rest of the region: a page stays where it is if it is clean.
        let mut missing = Extents::new();
        missing.insert(region);
        for run in targets.runs() {
            missing.remove(*run);
        }
        targets.insert(region);
        for run in missing.clone().runs() {
            for stays in clean.within(*run).runs() {
                missing.remove(*stays);
                clean.remove(*stays);
                sources.insert(*stays);
            }
        }
        let want = missing.count();
        let have = clean.count();
        let short = HandoffError::Memory {
            what: "pages that take the place of Kexen's own",
            want,
            have,
        };
        // Those first that do not stay put anyway: what else is clean can become
        // a table of this kernel's.
        let mut stand_in = Extents::new();
        for run in targets.runs() {
            let mut here = clean.within(*run);
            let count = here.count().min(want.saturating_sub(stand_in.count()));
            stand_in.extend(&here.take(count).unwrap_or_default());
        }
        for run in stand_in.runs() {
            clean.remove(*run);
        }
        let rest = clean.take(want.saturating_sub(stand_in.count()));
        stand_in.extend(&rest.ok_or(short)?);
        sources.extend(&stand_in);
        moves.extend(missing.pages().zip(stand_in.pages()));
        // A clean page whose pfn somebody else gets does not stay put.
        for run in targets.runs() {
            clean.remove(*run);
        }
        // What is displaced goes to what became vacant.
        let displaced = without(&targets, &sources);
        let vacant = without(&sources, &targets);
        moves.extend(vacant.pages().zip(displaced.pages()));
        let Moves(mut moves) = moves;
        moves.retain(|run| run.new != run.old);
        moves.sort_unstable();
        Ok(Self { moves })
    }

    /// How many p2m entries change.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.moves.iter().map(|run| run.count).sum()
    }

    /// The entries that change, by new pfn: pairs (new pfn, old pfn).
    pub fn pages(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let pages = |run: &Move| (run.new..).zip(run.old..run.sources().end());
        self.moves.iter().flat_map(pages)
    }

    /// The old pfn whose frame a new pfn gets.
    #[must_use]
    pub fn old(&self, new: u64) -> u64 {
        let at = self.moves.partition_point(|run| run.targets().end() <= new);
        let run = self.moves.get(at);
        let run = run.filter(|run| run.targets().contains(new));
        run.map_or(new, |run| run.old + (new - run.new))
    }
}

/// The pages of `a` that are not in `b`.
fn without(a: &Extents, b: &Extents) -> Extents {
    let mut rest = a.clone();
    for run in b.runs() {
        rest.remove(*run);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    fn set(runs: &[(u64, u64)]) -> Extents {
        let mut all = Extents::new();
        for (start, count) in runs {
            all.insert(Extent::new(*start, *count));
        }
        all
    }

    fn moves(pages: &[(u64, u64)]) -> Moves {
        pages.iter().copied().collect()
    }

    #[test]
    fn what_lies_in_order_is_one_run() {
        let pages: Vec<(u64, u64)> = (0..64_000).map(|n| (20_000 + n, 22_000 + n)).collect();
        let mut all = moves(&pages);
        all.push(84_001, 86_000);
        all.push(84_002, 86_002);
        all.push(84_003, 86_003);
        assert_eq!(all.0.len(), 3);
        let plan = Exchange::plan(all, Extent::default(), &mut Extents::new()).unwrap();
        // The 2,000 frames that were there go to what is vacant then.
        assert!(plan.moves.len() < 10, "{:?}", plan.moves);
        assert_eq!((plan.old(20_000), plan.old(83_999)), (22_000, 85_999));
        assert_eq!((plan.old(84_001), plan.old(84_002)), (86_000, 86_002));
        assert_eq!((plan.old(19_999), plan.old(90_000)), (19_999, 90_000));
        let changed = plan.pages().map(|(new, _)| new).collect::<BTreeSet<_>>();
        assert_eq!(u64::try_from(changed.len()), Ok(plan.count()));
    }

    #[test]
    fn what_is_in_place_does_not_move() {
        let mut clean = set(&[(10, 10)]);
        let plan =
            Exchange::plan(moves(&[(10, 10), (11, 11)]), Extent::new(10, 5), &mut clean).unwrap();
        assert_eq!((plan.count(), plan.pages().count()), (0, 0));
        assert_eq!(clean, set(&[(15, 5)]));
    }

    #[test]
    fn a_busy_page_in_the_region_is_swapped_out() {
        // Pfn 0 is Kexen's own; 1 holds what belongs at 0; 2.. are clean.
        let mut clean = set(&[(2, 8)]);
        let plan = Exchange::plan(moves(&[(0, 1)]), Extent::new(0, 3), &mut clean).unwrap();
        assert_eq!(plan.old(0), 1);
        // 1 gets a clean stand-in, 0's old frame gets that one's place.
        assert_eq!(plan.old(1), 9);
        assert_eq!(plan.old(9), 0);
        assert_eq!(plan.old(2), 2);
    }

    #[test]
    fn too_few_clean_pages_are_an_error() {
        let mut clean = set(&[(8, 1)]);
        assert!(matches!(
            Exchange::plan(moves(&[]), Extent::new(0, 2), &mut clean),
            Err(HandoffError::Memory {
                want: 2,
                have: 1,
                ..
            })
        ));
    }

    #[test]
    fn what_else_is_clean_stays_clean_if_it_can() {
        // 0 is Kexen's own, 2 somebody's whose place 1 is; both are in the region.
        let mut clean = set(&[(1, 1), (3, 5)]);
        let plan = Exchange::plan(moves(&[(1, 2)]), Extent::new(0, 2), &mut clean).unwrap();
        assert_eq!(plan.old(0), 1);
        assert_eq!(clean, set(&[(3, 5)]));
    }

    proptest! {
        #[test]
        fn it_is_a_permutation_that_gives_what_was_asked(
            seed in any::<u64>(), pages in 8_u64..120, region in 1_u64..40, pairs in 0_usize..30,
        ) {
            let mut state = seed | 1;
            let mut random = |n: u64| {
                state ^= state << 13; state ^= state >> 7; state ^= state << 17;
                state % n
            };
            let region = Extent::new(0, region.min(pages));
            let mut used_new = BTreeSet::new();
            let mut used_old = BTreeSet::new();
            let mut content = Vec::new();
            for _ in 0..pairs {
                let (new, old) = (random(pages), random(pages));
                if !used_new.contains(&new) && !used_old.contains(&old) {
                    used_new.insert(new);
                    used_old.insert(old);
                    content.push((new, old));
                }
            }
            let mut clean = Extents::new();
            let mut was_clean = BTreeSet::new();
            for page in 0..pages {
                if random(3) > 0 {
                    clean.insert(Extent::new(page, 1));
                    was_clean.insert(page);
                }
            }
            let Ok(plan) = Exchange::plan(moves(&content), region, &mut clean) else {
                return Ok(());
            };
            let map: Vec<u64> = (0..pages).map(|new| plan.old(new)).collect();
            let image: BTreeSet<u64> = map.iter().copied().collect();
            let changed: Vec<(u64, u64)> = (0..).zip(map.iter().copied())
                .filter(|(new, old)| new != old).collect();
            prop_assert_eq!(plan.pages().collect::<Vec<_>>(), changed);
            prop_assert_eq!(plan.count(), u64::try_from(plan.pages().count()).unwrap());
            prop_assert_eq!(image.len(), map.len());
            prop_assert!(map.iter().all(|old| *old < pages));
            for (new, old) in &content {
                prop_assert_eq!(plan.old(*new), *old);
            }
            for new in region.start..region.end() {
                if !used_new.contains(&new) {
                    prop_assert!(was_clean.contains(&plan.old(new)), "pfn {}", new);
                    prop_assert!(!used_old.contains(&plan.old(new)));
                }
            }
            // What is left clean stays put.
            for page in clean.pages() {
                prop_assert_eq!(plan.old(page), page);
            }
        }
    }
}
