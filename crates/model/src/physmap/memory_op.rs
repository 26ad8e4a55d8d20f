//! `memory_op`: which operation, on whose memory.
//!
//! Rules: `do_memory_op` in Xen's `common/memory.c`, `arch_memory_op` in
//! `arch/x86/mm.c`. The reservation calls answer with the number of extents
//! done, not with an error: a caller compares it with what it asked for.

use kexen_abi::errno::Errno;
use kexen_abi::memory::{
    ForeignMemoryMap, MemoryDomain, MemoryMap, XENMEM_ADD_TO_PHYSMAP, XENMEM_CURRENT_RESERVATION,
    XENMEM_DECREASE_RESERVATION, XENMEM_EXCHANGE, XENMEM_INCREASE_RESERVATION,
    XENMEM_MACHINE_MEMORY_MAP, XENMEM_MACHPHYS_MAPPING, XENMEM_MAXIMUM_GPFN,
    XENMEM_MAXIMUM_RAM_PAGE, XENMEM_MAXIMUM_RESERVATION, XENMEM_MEMORY_MAP,
    XENMEM_POPULATE_PHYSMAP, XENMEM_REMOVE_FROM_PHYSMAP, XENMEM_SET_MEMORY_MAP,
};
use kexen_abi::mmu::MACH2PHYS_VIRT_START;

use super::{map, reservation};
use crate::call::{Answer, Call};
use crate::state::Version;

/// Bits of the command that are the operation; the rest says where an
/// interrupted call goes on (`MEMOP_EXTENT_SHIFT`).
const OPERATION: u64 = 0x3f;
/// Entries of the memory map that Xen keeps (`E820MAX`).
const E820MAX: u32 = 1024;
/// Size of the M2P as told to guests (`MACH2PHYS_VIRT_END`, entries).
const M2P_END: u64 = 0xffff_8040_0000_0000;

/// The domain that an argument names, which a guest may act on: itself.
pub(super) fn own_domain(call: &Call<'_, '_, '_>, id: u16) -> Result<usize, Errno> {
    let domain = call.state.resolve(call.who, id)?;
    if domain == call.who.domain {
        Ok(domain)
    } else {
        Err(Errno::EPERM)
    }
}

/// `HYPERVISOR_memory_op`.
pub(crate) fn memory_op(call: &mut Call<'_, '_, '_>) -> Answer {
    let command = call.value(0);
    let start = command >> 6;
    match command & OPERATION {
        op @ (XENMEM_INCREASE_RESERVATION
        | XENMEM_DECREASE_RESERVATION
        | XENMEM_POPULATE_PHYSMAP) => Ok(reservation::adjust(call, op, start)),
        XENMEM_EXCHANGE if start == 0 => reservation::exchange(call),
        XENMEM_MAXIMUM_RAM_PAGE if start == 0 => {
            Ok(u64::try_from(call.state.frames.len()).unwrap_or(0))
        }
        op @ (XENMEM_CURRENT_RESERVATION | XENMEM_MAXIMUM_RESERVATION | XENMEM_MAXIMUM_GPFN)
            if start == 0 =>
        {
            let arg: MemoryDomain = call.read(1, 0)?;
            let domain = own_domain(call, arg.domid)?;
            let domain = &call.state.domains[domain];
            Ok(match op {
                XENMEM_CURRENT_RESERVATION => domain.tot_pages,
                XENMEM_MAXIMUM_RESERVATION => domain.max_pages,
                _ => domain
                    .physmap
                    .entries
                    .keys()
                    .next_back()
                    .copied()
                    .unwrap_or(0),
            })
        }
        XENMEM_ADD_TO_PHYSMAP => map::add(call, start),
        XENMEM_REMOVE_FROM_PHYSMAP if start == 0 => map::remove(call),
        XENMEM_MEMORY_MAP => memory_map(call),
        XENMEM_SET_MEMORY_MAP => set_memory_map(call),
        XENMEM_MACHINE_MEMORY_MAP
            if call.state.domain(call.who).kind.translated()
                && call.state.version < Version::Xen4_20 =>
        {
            Err(Errno::ENOSYS)
        }
        XENMEM_MACHPHYS_MAPPING if call.state.domain(call.who).kind.translated() => {
            Err(Errno::ENOSYS)
        }
        XENMEM_MACHINE_MEMORY_MAP => Err(Errno::EPERM),
        XENMEM_MACHPHYS_MAPPING => {
            let entries = (M2P_END - MACH2PHYS_VIRT_START) / 8;
            let mapping = [MACH2PHYS_VIRT_START, M2P_END, entries - 1];
            call.write(1, 0, &mapping)?;
            Ok(0)
        }
        XENMEM_EXCHANGE
        | XENMEM_MAXIMUM_RAM_PAGE
        | XENMEM_CURRENT_RESERVATION
        | XENMEM_MAXIMUM_RESERVATION
        | XENMEM_MAXIMUM_GPFN
        | XENMEM_REMOVE_FROM_PHYSMAP => Err(Errno::EINVAL),
        _ => Err(Errno::ENOSYS),
    }
}

/// One entry of an e820 map as the interface has it: 20 bytes.
fn e820_bytes(entry: (u64, u64, u32)) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&entry.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&entry.1.to_le_bytes());
    bytes[16..].copy_from_slice(&entry.2.to_le_bytes());
    bytes
}

fn memory_map(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: MemoryMap = call.read(1, 0)?;
    let entries = call.state.domain(call.who).physmap.memory_map.clone();
    if entries.is_empty() {
        return Err(Errno::ENOSYS);
    }
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    arg.nr_entries = arg.nr_entries.min(count);
    let who = call.who;
    for (n, entry) in (0..arg.nr_entries).zip(entries) {
        let at = arg.buffer.wrapping_add(u64::from(n) * 20);
        call.state.copy_to_guest(who, at, &e820_bytes(entry))?;
    }
    call.write(1, 0, &arg)?;
    Ok(0)
}

fn set_memory_map(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: ForeignMemoryMap = call.read(1, 0)?;
    if arg.map.nr_entries > E820MAX {
        return Err(Errno::EINVAL);
    }
    let domain = own_domain(call, arg.domid)?;
    let who = call.who;
    let mut entries = Vec::new();
    for n in 0..u64::from(arg.map.nr_entries) {
        let mut bytes = [0; 20];
        let at = arg.map.buffer.wrapping_add(n * 20);
        call.state.copy_from_guest(who, at, &mut bytes)?;
        let word = |from: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[from..from + 8]);
            u64::from_le_bytes(word)
        };
        let kind = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
        entries.push((word(0), word(8), kind));
    }
    call.state.domains[domain].physmap.memory_map = entries;
    Ok(0)
}
