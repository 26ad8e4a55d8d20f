//! The size of a guest's memory: `increase_reservation`,
//! `decrease_reservation`, `populate_physmap`, `exchange`.
//!
//! Rules: Xen's `common/memory.c`; `steal_page` in `arch/x86/mm.c`;
//! `assign_pages` in `common/page_alloc.c` (a domain may not have more than
//! `max_pages`). A frame that somebody else still holds stays charged.

use kexen_abi::errno::Errno;
use kexen_abi::memory::{
    MemoryExchange, MemoryReservation, XENMEM_DECREASE_RESERVATION, XENMEM_INCREASE_RESERVATION,
    XENMEMF_POPULATE_ON_DEMAND,
};

use super::memory_op::own_domain;
use crate::call::{Answer, Call};
use crate::frame::Frame;
use crate::state::State;

/// The largest extent of a domU (`CONFIG_DOMU_MAX_ORDER`), log2 of pages.
const MAX_ORDER: u32 = 9;
/// More extents than this cannot be asked for in one call.
const MAX_EXTENTS: u64 = 0xffff_ffff >> 6;

/// The three calls that change the reservation: extents done.
pub(super) fn adjust(call: &mut Call<'_, '_, '_>, op: u64, start: u64) -> u64 {
    let Ok(arg) = call.read::<MemoryReservation>(1, 0) else {
        return start;
    };
    if arg.nr_extents > MAX_EXTENTS || start >= arg.nr_extents || arg.extent_order > MAX_ORDER {
        return start;
    }
    let bits = arg.mem_flags & 0xff;
    if (1..=12).contains(&bits) {
        return start;
    }
    let Ok(domain) = own_domain(call, arg.domid) else {
        return start;
    };
    let mut done = start;
    while done < arg.nr_extents {
        if one_extent(call, op, domain, &arg, done).is_none() {
            break;
        }
        done += 1;
    }
    done
}

fn one_extent(
    call: &mut Call<'_, '_, '_>,
    op: u64,
    domain: usize,
    arg: &MemoryReservation,
    n: u64,
) -> Option<()> {
    let who = call.who;
    let pages = 1_u64 << arg.extent_order;
    let at = arg.extent_start.wrapping_add(n * 8);
    let state = &mut *call.state;
    let translated = state.domains[domain].kind.translated();
    if op == XENMEM_INCREASE_RESERVATION {
        let first = state.allocate_extent(domain, pages)?;
        if !translated && arg.extent_start != 0 {
            state.copy_to_guest(who, at, &first.to_le_bytes()).ok()?;
        }
        return Some(());
    }
    let mut number = [0; 8];
    state.copy_from_guest(who, at, &mut number).ok()?;
    let number = u64::from_le_bytes(number);
    if op == XENMEM_DECREASE_RESERVATION {
        for page in 0..pages {
            let number = number.checked_add(page)?;
            if !state.decrease_on_demand(domain, number) {
                state.remove_guest_page(domain, number).ok()?;
            }
        }
        return Some(());
    }
    if arg.mem_flags & XENMEMF_POPULATE_ON_DEMAND != 0 {
        // Not on oneself.
        return None;
    }
    let first = state.allocate_extent(domain, pages)?;
    for page in 0..pages {
        state
            .physmap_add(domain, number.checked_add(page)?, first + page)
            .ok()?;
    }
    if !translated {
        state.copy_to_guest(who, at, &first.to_le_bytes()).ok()?;
    }
    Some(())
}

impl State {
    /// An extent of consecutive frames, within what the domain may have.
    fn allocate_extent(&mut self, domain: usize, pages: u64) -> Option<u64> {
        let id = self.domains[domain].id;
        let (have, most) = (
            self.domains[domain].tot_pages,
            self.domains[domain].max_pages,
        );
        if have + pages > most {
            self.say(format!(
                "Over-allocation for d{id}: {} > {most}",
                have + pages
            ));
            return None;
        }
        if pages == 1 {
            return self.allocate(id);
        }
        let first = self.free_run(pages)?;
        self.free
            .retain(|mfn| !(first..first + pages).contains(mfn));
        // Taken one by one, lowest first.
        self.free.extend((first..first + pages).rev());
        for page in 0..pages {
            let mfn = self.allocate(id)?;
            debug_assert_eq!(mfn, first + page);
        }
        Some(first)
    }

    /// The first aligned run of free frames.
    fn free_run(&self, pages: u64) -> Option<u64> {
        let mut free = self.free.clone();
        free.sort_unstable();
        let count = usize::try_from(pages).ok()?;
        free.windows(count)
            .find(|run| run[0].is_multiple_of(pages) && run[count - 1] - run[0] == pages - 1)
            .map(|run| run[0])
    }

    /// `steal_page`: only a frame that nobody refers to but its allocation.
    fn can_steal(&self, domain: usize, mfn: u64) -> Result<(), Errno> {
        let domain = &self.domains[domain];
        if domain.kind.translated() {
            return Err(Errno::EOPNOTSUPP);
        }
        let fits = |frame: &Frame| {
            frame.owner == Some(domain.id) && !frame.special && frame.allocated && frame.refs == 1
        };
        if self.frame(mfn).is_some_and(fits) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }
}

/// `XENMEM_exchange`, chunk by chunk; each chunk is all or nothing.
pub(super) fn exchange(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: MemoryExchange = call.read(1, 0)?;
    let result = exchange_chunks(call, &mut arg);
    call.write(1, 0, &arg)?;
    result.map(|()| 0)
}

fn exchange_chunks(call: &mut Call<'_, '_, '_>, arg: &mut MemoryExchange) -> Result<(), Errno> {
    let (give, get) = (arg.give, arg.get);
    if give.extent_order.max(get.extent_order) > MAX_ORDER {
        return Err(Errno::EPERM);
    }
    let overflows = |r: &MemoryReservation| (u64::MAX >> r.extent_order) < r.nr_extents;
    if arg.nr_exchanged > give.nr_extents
        || give.domid != get.domid
        || overflows(&give)
        || overflows(&get)
        || give.nr_extents << give.extent_order != get.nr_extents << get.extent_order
    {
        return Err(Errno::EINVAL);
    }
    if arg.nr_exchanged == give.nr_extents {
        return Ok(());
    }
    let domain = own_domain(call, give.domid)?;
    let in_chunk = get.extent_order.saturating_sub(give.extent_order);
    let out_chunk = give.extent_order.saturating_sub(get.extent_order);
    let first = arg.nr_exchanged >> in_chunk;
    for chunk in first..give.nr_extents >> in_chunk {
        if let Err(error) = exchange_chunk(call, domain, arg, chunk, in_chunk, out_chunk) {
            arg.nr_exchanged = chunk << in_chunk;
            return Err(error);
        }
    }
    arg.nr_exchanged = give.nr_extents;
    Ok(())
}

fn exchange_chunk(
    call: &mut Call<'_, '_, '_>,
    domain: usize,
    arg: &MemoryExchange,
    chunk: u64,
    in_chunk: u32,
    out_chunk: u32,
) -> Result<(), Errno> {
    let who = call.who;
    let state = &mut *call.state;
    let id = state.domains[domain].id;
    let mut taken: Vec<u64> = Vec::new();
    for n in 0..1_u64 << in_chunk {
        let at = arg
            .give
            .extent_start
            .wrapping_add(((chunk << in_chunk) + n) * 8);
        let mut number = [0; 8];
        state.copy_from_guest(who, at, &mut number)?;
        for page in 0..1_u64 << arg.give.extent_order {
            let number = u64::from_le_bytes(number).wrapping_add(page);
            let mfn = state.frame_of_gfn(domain, number).ok_or(Errno::EINVAL)?;
            state.can_steal(domain, mfn)?;
            if taken.contains(&mfn) {
                return Err(Errno::EINVAL);
            }
            taken.push(mfn);
        }
    }
    let pages = 1_u64 << arg.get.extent_order;
    if state.free.len() < taken.len() {
        return Err(Errno::ENOMEM);
    }
    // The new ones first: they are not the ones that are given.
    let most = state.domains[domain].max_pages;
    state.domains[domain].max_pages = u64::MAX;
    let mut fresh = Vec::new();
    for _ in 0..1_u64 << out_chunk {
        fresh.extend(state.allocate_extent(domain, pages));
    }
    state.domains[domain].max_pages = most;
    if fresh.len() != 1 << out_chunk {
        for first in fresh {
            (first..first + pages).for_each(|mfn| state.put_allocation(mfn));
        }
        return Err(Errno::ENOMEM);
    }
    for mfn in taken {
        debug_assert_eq!(state.at(mfn).owner, Some(id));
        state.put_allocation(mfn);
    }
    let mut result = Ok(());
    for (n, first) in (0_u64..).zip(fresh) {
        let at = arg
            .get
            .extent_start
            .wrapping_add(((chunk << out_chunk) + n) * 8);
        let mut number = [0; 8];
        if state.copy_from_guest(who, at, &mut number).is_err() {
            result = Err(Errno::EFAULT);
            continue;
        }
        for page in 0..pages {
            let number = u64::from_le_bytes(number).wrapping_add(page);
            state.physmap_add(domain, number, first + page)?;
        }
        if state.copy_to_guest(who, at, &first.to_le_bytes()).is_err() {
            result = Err(Errno::EFAULT);
        }
    }
    result
}
