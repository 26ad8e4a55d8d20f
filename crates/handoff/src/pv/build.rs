//! What is written for the next kernel: `start_info` and page tables.
//!
//! Entry bits are those of the toolstack's builder: pages present,
//! writable, accessed; tables also dirty and user; every page that is a
//! table read-only wherever it is mapped.

use alloc::{boxed::Box, vec::Vec};

use kexen_abi::{
    PAGE_SHIFT, PAGE_SIZE,
    mmu::PAGE_RW,
    start_info::{MAX_GUEST_CMDLINE, SIF_MOD_START_PFN, SIF_MULTIBOOT_MOD, StartInfo},
};
use kexen_guest::{
    Machine,
    pv::{
        self,
        space::{PAGE_BITS, TABLE_BITS, index},
    },
};
use zerocopy::IntoBytes;

use super::layout::Layout;
use crate::HandoffError;

/// Fills in the next kernel's `start_info` from this kernel's.
pub(super) fn start_info(
    was: &StartInfo,
    layout: &Layout,
    initrd_len: u64,
    command_line: &str,
) -> Result<StartInfo, HandoffError> {
    let mut info = *was;
    info.flags &= !(SIF_MOD_START_PFN | SIF_MULTIBOOT_MOD);
    (info.mod_start, info.mod_len) = match layout.initrd {
        Some(run) if layout.initrd_mapped => (layout.address(run.start), initrd_len),
        Some(run) => {
            info.flags |= SIF_MOD_START_PFN;
            (run.start, initrd_len)
        }
        None => (0, 0),
    };
    info.pt_base = layout.address(layout.tables.start);
    info.nr_pt_frames = layout.tables.count;
    info.mfn_list = layout.p2m_address;
    (info.first_p2m_pfn, info.nr_p2m_frames) = if layout.p2m_tables.count > 0 {
        (layout.p2m.start, layout.p2m.count + layout.p2m_tables.count)
    } else {
        (0, 0)
    };
    check_command_line(command_line)?;
    info.cmd_line = [0; MAX_GUEST_CMDLINE];
    for (to, from) in info.cmd_line.iter_mut().zip(command_line.bytes()) {
        *to = from;
    }
    Ok(info)
}

/// Whether a command line fits, its NUL included.
pub(super) const fn check_command_line(text: &str) -> Result<(), HandoffError> {
    if text.len() >= MAX_GUEST_CMDLINE {
        return Err(HandoffError::CommandLine {
            len: text.len(),
            limit: MAX_GUEST_CMDLINE - 1,
        });
    }
    Ok(())
}

/// Writes `start_info` to its page: the structure, and behind it what the
/// old page had there (dom0's console description).
pub(super) fn write_start_info<M: Machine + ?Sized>(
    m: &M,
    at: u64,
    old: &pv::Start,
    info: &StartInfo,
) -> Result<(), HandoffError> {
    let mut page = Box::new([0_u8; 4096]);
    m.read(old.address, &mut *page)?;
    let bytes = info.as_bytes();
    page[..bytes.len()].copy_from_slice(bytes);
    m.write(at, &*page)?;
    Ok(())
}

/// Writes the tables of a layout. `frame` tells the frame that will be at
/// a pfn, `address` where the n-th table's page can be written now.
pub(super) fn tables<M: Machine + ?Sized>(
    m: &M,
    layout: &Layout,
    frame: &dyn Fn(u64) -> Result<u64, HandoffError>,
    address: &dyn Fn(u64) -> u64,
) -> Result<(), HandoffError> {
    let slots = &layout.table_slots;
    let mut page = Box::new([0_u64; 512]);
    for (n, slot) in (0_u64..).zip(slots) {
        page.fill(0);
        if slot.level == 1 {
            for (i, entry) in (0_u64..).zip(page.iter_mut()) {
                if let Some(pfn) = mapped_pfn(layout, slot.base + i * PAGE_SIZE) {
                    let bits = if layout.is_table(pfn) {
                        PAGE_BITS & !PAGE_RW
                    } else {
                        PAGE_BITS
                    };
                    *entry = (frame(pfn)? << PAGE_SHIFT) | bits;
                }
            }
        } else {
            for (child, below) in (0_u64..).zip(slots) {
                let span = PAGE_SHIFT + 9 * slot.level;
                if below.level + 1 == slot.level && below.base >> span == slot.base >> span {
                    let at = usize::try_from(index(below.base, slot.level)).unwrap_or(0);
                    page[at] = (frame(layout.table_pfn(child))? << PAGE_SHIFT) | TABLE_BITS;
                }
            }
        }
        m.write(address(n), page.as_bytes())?;
    }
    Ok(())
}

/// The pfn that a layout maps at an address (of the 48 bits that count).
fn mapped_pfn(layout: &Layout, address: u64) -> Option<u64> {
    let low = |va: u64| va & ((1 << 48) - 1);
    let in_region = address.wrapping_sub(low(layout.virt_base)) / PAGE_SIZE;
    if address >= low(layout.virt_base) && in_region < layout.mapped {
        return Some(in_region);
    }
    if layout.p2m_tables.count > 0 {
        let in_p2m = address.wrapping_sub(low(layout.p2m_address)) / PAGE_SIZE;
        if address >= low(layout.p2m_address) && in_p2m < layout.p2m.count {
            return Some(layout.p2m.start + in_p2m);
        }
    }
    None
}

/// The pages behind this kernel's p2m list, in order.
pub(super) fn p2m_pages<M: Machine + ?Sized>(
    m: &M,
    space: &pv::AddressSpace,
) -> Result<Vec<u64>, HandoffError> {
    let pages = (space.nr_pages() * 8).div_ceil(PAGE_SIZE);
    let mut list = Vec::new();
    for n in 0..pages {
        let address = space.p2m_list() + n * PAGE_SIZE;
        let page = space
            .lookup(m, address)?
            .ok_or(pv::SpaceError::NotMapped(address))?;
        list.push(page);
    }
    Ok(list)
}
