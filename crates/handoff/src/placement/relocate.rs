//! A kernel that lies elsewhere than it is linked to be.

use alloc::vec::Vec;

use kexen_abi::PAGE_SIZE;
use kexen_guest::{Extent, Extents};

use super::{Chosen, Placement};
use crate::HandoffError;

impl Placement {
    /// Moves the finished kernel to the page `start`. What was chosen for it
    /// and lies in its new place without being there already is to be copied
    /// away: pairs (page, page that takes its bytes), the latter from `free`.
    /// Free pages of the new place are taken, too.
    pub fn relocate(
        &mut self,
        chosen: &mut Chosen,
        start: u64,
        free: &mut Extents,
    ) -> Result<Vec<(u64, u64)>, HandoffError> {
        let was = self.kernel.start;
        let shift = |page: &mut u64| *page = (*page - was) + start;
        self.kernel.start = start;
        self.targets.iter_mut().flatten().for_each(shift);
        chosen.fresh.iter_mut().for_each(|(page, _)| shift(page));
        let pages: Vec<u64> = self.fresh.pages().collect();
        self.fresh = Extents::new();
        for mut page in pages {
            shift(&mut page);
            self.fresh.insert(Extent::new(page, 1));
        }
        // Done at the old place.
        self.copies.clear();
        self.zeroes.clear();

        let place = self.kernel;
        free.remove(place);
        let file = self.targets.iter().copied().zip(&mut chosen.file);
        let fresh = chosen
            .fresh
            .iter_mut()
            .map(|(page, own)| (Some(*page), own));
        let mut moves = Vec::new();
        for (target, own) in file.chain(fresh) {
            if target.is_none() || target == Some(*own) || !place.contains(*own) {
                continue;
            }
            let have = free.count();
            let spare = free.take(1).ok_or(HandoffError::Memory {
                what: "the kernel in another place than its own",
                want: 1,
                have,
            })?;
            for page in spare.pages() {
                moves.push((*own, page));
                *own = page;
            }
        }
        Ok(moves)
    }
}

/// The highest place in `ram` for the bytes `[start, end)` of a kernel, at a
/// multiple of `align`, not below `min`, with its last byte at `max` at most
/// (`find_kernel_memory` of Xen's `hvm/dom0_build.c`). Whole pages of the
/// kernel stay whole.
#[must_use]
pub fn elsewhere(
    ram: &Extents,
    (start, end): (u64, u64),
    align: u64,
    (min, max): (u64, u64),
) -> Option<u64> {
    let size = end.checked_sub(start)?;
    if !align.is_power_of_two() {
        return None;
    }
    let align = align.max(PAGE_SIZE);
    let start_of_page = start % PAGE_SIZE;
    if start_of_page != 0 {
        return None;
    }
    for run in ram.runs().iter().rev() {
        let from = run.start * PAGE_SIZE;
        let to = (run.end() * PAGE_SIZE).min(max.saturating_add(1));
        let Some(place) = to.checked_sub(size) else {
            continue;
        };
        let place = place & !(align - 1);
        // Page 0 is no place: to Xen it says that there is none.
        if place >= from && place >= min && place > 0 {
            return Some(place);
        }
    }
    None
}
