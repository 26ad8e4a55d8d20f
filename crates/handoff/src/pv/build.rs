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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pv::layout::Request;
    use core::cell::RefCell;
    use kexen_abi::{hypercall::Hypercall, mmu::PAGE_FRAME_MASK, start_info::SIF_INITDOMAIN};
    use kexen_guest::{Arg, Extent, Fault};
    use zerocopy::FromZeros;

    /// Just memory, from address 0.
    struct Memory(RefCell<Vec<u8>>);

    impl Memory {
        fn new(len: usize) -> Self {
            Self(RefCell::new(alloc::vec![0; len]))
        }
        fn at<T>(&self, at: u64, len: usize, f: impl FnOnce(&mut [u8]) -> T) -> Result<T, Fault> {
            let from = usize::try_from(at).unwrap();
            Ok(f(&mut self.0.borrow_mut()[from..from + len]))
        }
    }

    impl Machine for Memory {
        fn hypercall(&self, call: Hypercall, _: &mut [Arg<'_>]) -> i64 {
            panic!("{}: nothing here calls", call.name())
        }
        fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
            self.at(at, into.len(), |bytes| into.copy_from_slice(bytes))
        }
        fn write(&self, at: u64, from: &[u8]) -> Result<(), Fault> {
            self.at(at, from.len(), |bytes| bytes.copy_from_slice(from))
        }
        fn fill(&self, at: u64, len: u64, byte: u8) -> Result<(), Fault> {
            self.at(at, usize::try_from(len).unwrap(), |bytes| bytes.fill(byte))
        }
        fn lend(&self, at: u64, len: u64, to: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
            self.at(at, usize::try_from(len).unwrap(), to)
        }
        fn load32(&self, _: u64) -> Result<u32, Fault> {
            Ok(0)
        }
        fn store32(&self, _: u64, _: u32) -> Result<(), Fault> {
            Ok(())
        }
        fn exchange32(&self, _: u64, old: u32, _: u32) -> Result<u32, Fault> {
            Ok(old)
        }
        fn invalidate(&self, _: u64) {}
    }

    const REQUEST: Request = Request {
        virt_base: 0xffff_ffff_8000_0000,
        kernel: Extent::new(0x100, 0x300),
        initrd_len: 5 << 20,
        unmapped_initrd: true,
        initrd_at: None,
        p2m_base: Some(0x80_0000_0000),
        nr_pages: 0x8000,
        rings: true,
    };

    /// Frames are pfns plus this, to tell them apart.
    const FRAMES: u64 = 0x10_0000;

    /// The entry for an address, or `None` where a table is missing.
    fn walk(m: &Memory, l: &Layout, va: u64) -> Option<u64> {
        let mut pfn = l.table_pfn(0);
        for level in (1..=4).rev() {
            let count = u64::try_from(l.table_slots.len()).unwrap();
            let n = (0..count).find(|n| l.table_pfn(*n) == pfn).unwrap();
            let entry = m.read64(n * PAGE_SIZE + index(va, level) * 8).unwrap();
            if entry == 0 {
                return None;
            }
            if level == 1 {
                return Some(entry);
            }
            assert_eq!(entry & !PAGE_FRAME_MASK, TABLE_BITS);
            pfn = ((entry & PAGE_FRAME_MASK) >> PAGE_SHIFT) - FRAMES;
        }
        None
    }

    #[test]
    fn tables_map_the_region_and_the_p2m_list_and_nothing_else() {
        let requests = [
            REQUEST,
            Request {
                p2m_base: None,
                unmapped_initrd: false,
                initrd_at: None,
                ..REQUEST
            },
            Request {
                virt_base: 0,
                rings: false,
                ..REQUEST
            },
        ];
        for request in requests {
            let l = Layout::plan(&request, 0).unwrap();
            let m = Memory::new(l.table_slots.len() * 4096);
            tables(&m, &l, &|pfn| Ok(pfn + FRAMES), &|n| n * PAGE_SIZE).unwrap();
            let mapped = (0..l.mapped).map(|pfn| (l.address(pfn), pfn));
            let own_p2m = l.p2m_tables.count > 0;
            let p2m = (0..l.p2m.count)
                .filter(|_| own_p2m)
                .map(|n| (l.p2m_address + n * PAGE_SIZE, l.p2m.start + n));
            for (va, pfn) in mapped.chain(p2m) {
                let bits = if l.is_table(pfn) {
                    PAGE_BITS & !PAGE_RW
                } else {
                    PAGE_BITS
                };
                let want = ((pfn + FRAMES) << PAGE_SHIFT) | bits;
                assert_eq!(walk(&m, &l, va), Some(want), "{va:#x}");
            }
            assert_eq!(walk(&m, &l, l.address(l.mapped)), None);
            if own_p2m {
                let end = l.p2m_address + l.p2m.count * PAGE_SIZE;
                assert_eq!(walk(&m, &l, end), None);
            }
        }
    }

    #[test]
    fn start_info_tells_the_layout_and_keeps_the_rest() {
        let l = Layout::plan(&REQUEST, 0).unwrap();
        let mut was = StartInfo::new_zeroed();
        was.flags = SIF_INITDOMAIN | SIF_MULTIBOOT_MOD | 0x1200;
        was.nr_pages = 0x8000;
        was.shared_info = 0x1234_5000;
        was.console_evtchn = 2;
        let info = start_info(&was, &l, 5 << 20, "quiet").unwrap();
        assert_eq!(info.flags, SIF_INITDOMAIN | SIF_MOD_START_PFN | 0x1200);
        assert_eq!(info.mod_start, l.mapped);
        assert_eq!(info.mod_len, 5 << 20);
        assert_eq!(info.pt_base, l.address(l.tables.start));
        assert_eq!(info.nr_pt_frames, l.tables.count);
        assert_eq!(info.mfn_list, 0x80_0000_0000);
        assert_eq!(info.first_p2m_pfn, l.p2m.start);
        assert_eq!(info.nr_p2m_frames, l.p2m.count + l.p2m_tables.count);
        assert_eq!(&info.cmd_line[..6], b"quiet\0");
        assert_eq!(
            (info.nr_pages, info.shared_info, info.console_evtchn),
            (0x8000, 0x1234_5000, 2)
        );
        let mapped = Layout::plan(
            &Request {
                unmapped_initrd: false,
                initrd_at: None,
                p2m_base: None,
                ..REQUEST
            },
            0,
        )
        .unwrap();
        let info = start_info(&was, &mapped, 5 << 20, "").unwrap();
        assert_eq!(info.flags, SIF_INITDOMAIN | 0x1200);
        assert_eq!(info.mod_start, mapped.address(0x400));
        assert_eq!((info.first_p2m_pfn, info.nr_p2m_frames), (0, 0));
    }

    #[test]
    fn an_overlong_command_line_is_refused() {
        let l = Layout::plan(&REQUEST, 0).unwrap();
        let was = StartInfo::new_zeroed();
        let text = "a".repeat(1024);
        assert!(start_info(&was, &l, 0, &text[..1023]).is_ok());
        assert_eq!(
            start_info(&was, &l, 0, &text).map(|_| ()),
            Err(HandoffError::CommandLine {
                len: 1024,
                limit: 1023
            })
        );
    }
}
