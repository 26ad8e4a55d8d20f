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

/// One change: the frame of the old pfn becomes that of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// Pfn for the next kernel.
    pub new: u64,
    /// Pfn until now.
    pub old: u64,
}

/// The whole exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    moves: Vec<Move>,
}

impl Exchange {
    /// Plans the exchange.
    ///
    /// `content`: pairs (new pfn, old pfn) whose bytes matter, each pfn at
    /// most once on its side. `region`: new pfns that must have a frame of
    /// the guest's that is no page table, whatever is in it (those in
    /// `content` need not be left out). `clean`: old pfns with such a frame
    /// that is free; what the exchange uses of them is taken out.
    pub fn plan(
        content: &[(u64, u64)],
        region: Extent,
        clean: &mut Extents,
    ) -> Result<Self, HandoffError> {
        let mut targets = Extents::new();
        let mut sources = Extents::new();
        let mut moves = Vec::new();
        for (new, old) in content {
            targets.insert(Extent::new(*new, 1));
            sources.insert(Extent::new(*old, 1));
            clean.remove(Extent::new(*old, 1));
            moves.push(Move {
                new: *new,
                old: *old,
            });
        }
        // The rest of the region: a page stays where it is if it is clean.
        let mut bare = Extents::new();
        bare.insert(region);
        for run in targets.runs() {
            bare.remove(*run);
        }
        targets.insert(region);
        let mut missing = Vec::new();
        for run in bare.runs() {
            let stay = clean.within(*run);
            let mut gone = Extents::new();
            gone.insert(*run);
            for run in stay.runs() {
                gone.remove(*run);
                clean.remove(*run);
            }
            sources.extend(&stay);
            missing.extend(gone.pages());
        }
        let want = u64::try_from(missing.len()).unwrap_or(u64::MAX);
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
        moves.extend(
            missing
                .iter()
                .zip(stand_in.pages())
                .map(|(new, old)| Move { new: *new, old }),
        );
        // A clean page whose pfn somebody else gets does not stay put.
        for run in targets.runs() {
            clean.remove(*run);
        }
        // What is displaced goes to what became vacant.
        let displaced = without(&targets, &sources);
        let vacant = without(&sources, &targets);
        moves.extend(
            vacant
                .pages()
                .zip(displaced.pages())
                .map(|(new, old)| Move { new, old }),
        );
        moves.retain(|m| m.new != m.old);
        moves.sort_unstable();
        Ok(Self { moves })
    }

    /// The entries that change, by new pfn.
    #[must_use]
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// The old pfn whose frame a new pfn gets.
    #[must_use]
    pub fn old(&self, new: u64) -> u64 {
        match self.moves.binary_search_by_key(&new, |m| m.new) {
            Ok(at) => self.moves[at].old,
            Err(_) => new,
        }
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

    #[test]
    fn what_is_in_place_does_not_move() {
        let mut clean = set(&[(10, 10)]);
        let plan = Exchange::plan(&[(10, 10), (11, 11)], Extent::new(10, 5), &mut clean).unwrap();
        assert_eq!(plan.moves(), []);
        assert_eq!(clean, set(&[(15, 5)]));
    }

    #[test]
    fn a_busy_page_in_the_region_is_swapped_out() {
        // Pfn 0 is Kexen's own; 1 holds what belongs at 0; 2.. are clean.
        let mut clean = set(&[(2, 8)]);
        let plan = Exchange::plan(&[(0, 1)], Extent::new(0, 3), &mut clean).unwrap();
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
            Exchange::plan(&[], Extent::new(0, 2), &mut clean),
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
        let plan = Exchange::plan(&[(1, 2)], Extent::new(0, 2), &mut clean).unwrap();
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
            let Ok(plan) = Exchange::plan(&content, region, &mut clean) else {
                return Ok(());
            };
            let map: Vec<u64> = (0..pages).map(|new| plan.old(new)).collect();
            let image: BTreeSet<u64> = map.iter().copied().collect();
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
