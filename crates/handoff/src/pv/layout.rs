//! The start-of-day layout of a PV kernel: what is at which pfn.
//!
//! Specification: "Start-of-day memory layout" in Xen's
//! `include/public/xen.h`; the order and the rounding are those of the
//! toolstack's builder (`tools/libs/guest/xg_dom_core.c`, `xg_dom_x86.c`)
//! and of Xen's own for dom0 (`arch/x86/pv/dom0_build.c`):
//!
//! kernel, (initrd), (p2m list), `start_info`, (xenstore ring), (console
//! ring), page tables, boot stack, padding to a 4 MiB boundary; then the
//! initrd if the kernel wants it unmapped, then the p2m list with tables
//! of its own if the kernel names an address for it. An unmapped initrd that
//! lies in order behind the padding already stays where it is: its pfn is all
//! that the kernel is told.

use alloc::{collections::BTreeSet, vec::Vec};

use kexen_abi::{
    PAGE_SHIFT, PAGE_SIZE,
    mmu::{HYPERVISOR_VIRT_END, MACH2PHYS_VIRT_START},
};
use kexen_guest::Extent;

use crate::HandoffError;

/// Pages of padding that at least follow the boot stack.
const PADDING_PAGES: u64 = 512 * 1024 / PAGE_SIZE;
/// Pages in the 4 MiB that the mapped region is rounded up to.
const ROUND_PAGES: u64 = 4 * 1024 * 1024 / PAGE_SIZE;

/// What the layout depends on.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Virtual address of pfn 0 (note `VIRT_BASE`).
    pub virt_base: u64,
    /// The kernel's pfns.
    pub kernel: Extent,
    /// Bytes of the initrd, 0 for none.
    pub initrd_len: u64,
    /// The kernel takes its initrd unmapped (note `MOD_START_PFN`).
    pub unmapped_initrd: bool,
    /// The first pfn of the initrd, if its pages are in order.
    pub initrd_at: Option<u64>,
    /// Where the kernel wants the p2m list (note `INIT_P2M`).
    pub p2m_base: Option<u64>,
    /// Pages of the guest.
    pub nr_pages: u64,
    /// There are a xenstore and a console ring (not in dom0).
    pub rings: bool,
}

/// What is at which pfn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Virtual address of pfn 0.
    pub virt_base: u64,
    /// The kernel.
    pub kernel: Extent,
    /// The initrd.
    pub initrd: Option<Extent>,
    /// Whether the initrd is in the mapped region.
    pub initrd_mapped: bool,
    /// The p2m list, its tables not included.
    pub p2m: Extent,
    /// Virtual address of the p2m list.
    pub p2m_address: u64,
    /// The page of `start_info`.
    pub start_info: u64,
    /// The xenstore ring.
    pub store: Option<u64>,
    /// The console ring.
    pub console: Option<u64>,
    /// The tables of the mapped region.
    pub tables: Extent,
    /// The boot stack.
    pub stack: u64,
    /// Pages of the mapped region, from pfn 0.
    pub mapped: u64,
    /// The tables of the p2m list, where it has its own.
    pub p2m_tables: Extent,
    /// What each page of `tables` and then of `p2m_tables` is.
    pub table_slots: Vec<TableSlot>,
}

/// One page table: its level (4 to 1) and the first address it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableSlot {
    /// 4 for the root, 1 for the tables of pages.
    pub level: u32,
    /// First address covered, of the 48 that count.
    pub base: u64,
}

/// Bits of an address that are translated.
const ADDRESS_BITS: u64 = (1 << 48) - 1;

/// log2 of the bytes that one table of `level` covers.
const fn span(level: u32) -> u32 {
    PAGE_SHIFT + 9 * level
}

/// The tables that map `[from, to)`, in the order root first, without those
/// in `have`.
fn tables_for(from: u64, to: u64, have: &BTreeSet<(u32, u64)>) -> Vec<TableSlot> {
    let mut slots = Vec::new();
    for level in (1..=4).rev() {
        let step = span(level);
        let first = (from & ADDRESS_BITS) >> step;
        let last = ((to - 1) & ADDRESS_BITS) >> step;
        for n in first..=last {
            let base = n << step;
            if !have.contains(&(level, base)) {
                slots.push(TableSlot { level, base });
            }
        }
    }
    slots
}

const fn count(slots: &[TableSlot]) -> u64 {
    slots.len() as u64
}

/// Where so many pages fit from `mapped` on beside an initrd that stays where it
/// is, if it can.
const fn beside(initrd: Extent, mapped: u64, pages: u64, nr_pages: u64) -> Option<u64> {
    if initrd.start < mapped || initrd.end() > nr_pages {
        None
    } else if pages <= initrd.start - mapped {
        Some(mapped)
    } else if pages <= nr_pages - initrd.end() {
        Some(initrd.end())
    } else {
        None
    }
}

const fn bad(field: &'static str, value: u64, why: &'static str) -> HandoffError {
    HandoffError::Kernel { field, value, why }
}

impl Layout {
    /// Lays out a kernel. `extra` more pages of padding can be asked for,
    /// in steps of 4 MiB.
    pub fn plan(request: &Request, extra: u64) -> Result<Self, HandoffError> {
        let r = request;
        if !r.virt_base.is_multiple_of(PAGE_SIZE) {
            return Err(bad("VIRT_BASE", r.virt_base, "not page-aligned"));
        }
        let mut next = r.kernel.end();
        let mut take = |pages: u64| {
            let run = Extent::new(next, pages);
            next = next.saturating_add(pages);
            run
        };
        let initrd_pages = r.initrd_len.div_ceil(PAGE_SIZE);
        let p2m_pages = (r.nr_pages.saturating_mul(8)).div_ceil(PAGE_SIZE);
        // As the toolstack: an address above the base is not honoured.
        let p2m_base = r
            .p2m_base
            .filter(|base| *base < r.virt_base && base.is_multiple_of(PAGE_SIZE));

        let initrd_mapped = initrd_pages > 0 && !r.unmapped_initrd;
        let mut initrd = initrd_mapped.then(|| take(initrd_pages));
        let mut p2m = if p2m_base.is_none() {
            take(p2m_pages)
        } else {
            Extent::default()
        };
        let start_info = take(1).start;
        let store = r.rings.then(|| take(1).start);
        let console = r.rings.then(|| take(1).start);
        let tables_start = next;

        // The tables map themselves: try until they fit.
        let none = BTreeSet::new();
        let mut pages = 1 + PADDING_PAGES + extra;
        let (mapped, slots) = loop {
            let mapped = (tables_start + pages).next_multiple_of(ROUND_PAGES);
            if mapped > r.nr_pages {
                return Err(HandoffError::Memory {
                    what: "the kernel's start-of-day region",
                    want: mapped,
                    have: r.nr_pages,
                });
            }
            let end = mapped
                .checked_mul(PAGE_SIZE)
                .and_then(|len| r.virt_base.checked_add(len - 1))
                .ok_or(bad("VIRT_BASE", r.virt_base, "the region wraps around"))?;
            if r.virt_base < HYPERVISOR_VIRT_END && end >= MACH2PHYS_VIRT_START {
                return Err(bad("VIRT_BASE", r.virt_base, "overlaps Xen's own range"));
            }
            let slots = tables_for(r.virt_base, end.wrapping_add(1), &none);
            pages = count(&slots) + 1 + PADDING_PAGES + extra;
            if tables_start + pages <= mapped {
                break (mapped, slots);
            }
        };
        let tables = Extent::new(tables_start, count(&slots));
        let stack = tables.end();

        // Behind the mapped region.
        let mut table_slots = slots;
        let mut more = Vec::new();
        if let Some(base) = p2m_base {
            let end = base + p2m_pages * PAGE_SIZE;
            if base < HYPERVISOR_VIRT_END && end > MACH2PHYS_VIRT_START {
                return Err(bad("INIT_P2M", base, "overlaps Xen's own range"));
            }
            let have = table_slots.iter().map(|s| (s.level, s.base)).collect();
            more = tables_for(base, end, &have);
        }
        let list = if p2m_base.is_some() { p2m_pages } else { 0 };
        let behind = list + count(&more);
        next = mapped;
        if initrd_pages > 0 && r.unmapped_initrd {
            let at = r.initrd_at.map(|at| Extent::new(at, initrd_pages));
            let stays = at.and_then(|run| Some((run, beside(run, mapped, behind, r.nr_pages)?)));
            let (run, from) = stays.unwrap_or_else(|| {
                let run = Extent::new(mapped, initrd_pages);
                (run, run.end())
            });
            initrd = Some(run);
            next = from;
        }
        let mut take = |pages: u64| {
            let run = Extent::new(next, pages);
            next = next.saturating_add(pages);
            run
        };
        let mut p2m_tables = Extent::default();
        if p2m_base.is_some() {
            p2m = take(p2m_pages);
            p2m_tables = take(count(&more));
            table_slots.extend(more);
        }
        let next = next.max(initrd.map_or(0, |run| run.end()));
        if next > r.nr_pages {
            return Err(HandoffError::Memory {
                what: "the kernel, its initrd and its page tables",
                want: next,
                have: r.nr_pages,
            });
        }
        Ok(Self {
            virt_base: r.virt_base,
            kernel: r.kernel,
            initrd,
            initrd_mapped,
            p2m_address: p2m_base.unwrap_or(r.virt_base + p2m.start * PAGE_SIZE),
            p2m,
            start_info,
            store,
            console,
            tables,
            stack,
            mapped,
            p2m_tables,
            table_slots,
        })
    }

    /// Virtual address of a pfn of the mapped region.
    #[must_use]
    pub const fn address(&self, pfn: u64) -> u64 {
        self.virt_base + pfn * PAGE_SIZE
    }

    /// The pfn of the n-th of `table_slots`.
    #[must_use]
    pub const fn table_pfn(&self, n: u64) -> u64 {
        if n < self.tables.count {
            self.tables.start + n
        } else {
            self.p2m_tables.start + (n - self.tables.count)
        }
    }

    /// Whether a pfn is a page table, to be mapped read-only.
    #[must_use]
    pub const fn is_table(&self, pfn: u64) -> bool {
        self.tables.contains(pfn) || self.p2m_tables.contains(pfn)
    }

    /// Pages of padding, the last of which the trampoline can use.
    #[must_use]
    pub const fn padding(&self) -> Extent {
        Extent::new(self.stack + 1, self.mapped - self.stack - 1)
    }

    /// One past the last pfn that the start of day uses.
    #[must_use]
    pub fn end(&self) -> u64 {
        [self.p2m.end(), self.p2m_tables.end(), self.mapped]
            .into_iter()
            .chain(self.initrd.map(|run| run.end()))
            .max()
            .unwrap_or(self.mapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux 6.1 of Debian's generic flavour in 256 MiB with a 20 MiB initrd.
    const LINUX: Request = Request {
        virt_base: 0xffff_ffff_8000_0000,
        kernel: Extent::new(0x1000, 0x3a00),
        initrd_len: 20 << 20,
        unmapped_initrd: true,
        initrd_at: None,
        p2m_base: Some(0x80_0000_0000),
        nr_pages: 0x1_0000,
        rings: true,
    };

    #[test]
    fn an_initrd_in_order_stays_where_it_is() {
        let whole = Layout::plan(&LINUX, 0).unwrap();
        let behind = whole.p2m.count + whole.p2m_tables.count;
        // The last page, the first behind what is mapped and the p2m list, just
        // behind what is mapped.
        for (at, p2m) in [
            (0xec00, whole.mapped),
            (whole.mapped + behind, whole.mapped),
            (whole.mapped, whole.mapped + 0x1400),
        ] {
            let initrd_at = Some(at);
            let l = Layout::plan(&Request { initrd_at, ..LINUX }, 0).unwrap();
            assert_eq!(l.initrd, Some(Extent::new(at, 0x1400)));
            assert_eq!((l.p2m.start, l.mapped), (p2m, whole.mapped));
            assert!(l.end() <= LINUX.nr_pages);
        }
        // In the mapped region, or beyond memory: as if it were not in order.
        for at in [whole.mapped - 1, 0xec01, u64::MAX] {
            let initrd_at = Some(at);
            assert_eq!(
                Layout::plan(&Request { initrd_at, ..LINUX }, 0).unwrap(),
                whole
            );
        }
        // Neither before nor behind it is there room for the list, by a page.
        let mut nr_pages = LINUX.nr_pages;
        for _ in 0..4 {
            nr_pages = Layout::plan(&Request { nr_pages, ..LINUX }, 0)
                .unwrap()
                .end();
        }
        for (at, start) in [
            (whole.mapped + 1, whole.mapped),
            (whole.mapped, whole.mapped),
        ] {
            let initrd_at = Some(at);
            let l = Layout::plan(
                &Request {
                    initrd_at,
                    nr_pages,
                    ..LINUX
                },
                0,
            )
            .unwrap();
            assert_eq!(l.initrd, Some(Extent::new(start, 0x1400)));
            assert_eq!(l.end(), nr_pages);
        }
    }

    #[test]
    fn linux_is_laid_out_as_by_the_toolstack() {
        let l = Layout::plan(&LINUX, 0).unwrap();
        assert_eq!(
            (l.start_info, l.store, l.console),
            (0x4a00, Some(0x4a01), Some(0x4a02))
        );
        // L4, L3, L2, and one L1 for each 2 MiB up to 0x5000 pages.
        assert_eq!(l.mapped, 0x4c00);
        assert_eq!(l.tables, Extent::new(0x4a03, 3 + 0x4c00 / 512));
        assert_eq!(l.stack, l.tables.end());
        assert_eq!(l.initrd, Some(Extent::new(0x4c00, 0x1400)));
        assert_eq!(l.p2m, Extent::new(0x6000, 0x80));
        assert_eq!(l.p2m_address, 0x80_0000_0000);
        // L3, L2 and L1: the root is shared.
        assert_eq!(l.p2m_tables, Extent::new(0x6080, 3));
        assert_eq!(l.table_slots[0], TableSlot { level: 4, base: 0 });
        assert!(l.padding().count >= PADDING_PAGES);
    }

    #[test]
    fn dom0_has_no_rings_and_a_mapped_initrd_comes_first() {
        let l = Layout::plan(
            &Request {
                rings: false,
                unmapped_initrd: false,
                p2m_base: None,
                ..LINUX
            },
            0,
        )
        .unwrap();
        assert_eq!(l.initrd, Some(Extent::new(0x4a00, 0x1400)));
        assert!(l.initrd_mapped);
        assert_eq!(l.p2m.start, 0x5e00);
        assert_eq!(l.p2m_address, 0xffff_ffff_8000_0000 + 0x5e00 * 4096);
        assert_eq!((l.start_info, l.store), (0x5e80, None));
        assert_eq!(l.tables.start, 0x5e81);
        assert_eq!(l.p2m_tables.count, 0);
    }

    #[test]
    fn a_p2m_address_above_the_base_is_not_honoured() {
        let l = Layout::plan(
            &Request {
                virt_base: 0,
                kernel: Extent::new(0x100, 0x10),
                ..LINUX
            },
            0,
        )
        .unwrap();
        assert_eq!(l.p2m_address, 0x110 * 4096);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let small = Request {
            nr_pages: 0x4bff,
            ..LINUX
        };
        assert!(matches!(
            Layout::plan(&small, 0),
            Err(HandoffError::Memory { want: 0x4c00, .. })
        ));
        let initrd = Request {
            initrd_len: 1 << 30,
            ..LINUX
        };
        assert!(matches!(
            Layout::plan(&initrd, 0),
            Err(HandoffError::Memory { .. })
        ));
        let base = Request {
            virt_base: 0xffff_8000_0000_0000,
            ..LINUX
        };
        assert!(matches!(
            Layout::plan(&base, 0),
            Err(HandoffError::Kernel {
                field: "VIRT_BASE",
                ..
            })
        ));
        let wrap = Request {
            virt_base: 0xffff_ffff_ffc0_0000,
            ..LINUX
        };
        assert!(Layout::plan(&wrap, 0).is_err());
    }

    #[test]
    fn every_mapped_address_has_its_tables() {
        for virt_base in [
            0,
            0x40_0000,
            0xffff_ffff_8000_0000,
            0x7f_ffff_f000_u64 & !0x1f_ffff,
        ] {
            let l = Layout::plan(&Request { virt_base, ..LINUX }, 0).unwrap();
            let have: BTreeSet<(u32, u64)> =
                l.table_slots.iter().map(|s| (s.level, s.base)).collect();
            assert_eq!(have.len(), l.table_slots.len());
            let p2m = (0..l.p2m.count).map(|n| l.p2m_address + n * 4096);
            for address in (0..l.mapped).map(|pfn| l.address(pfn)).chain(p2m) {
                for level in 1..=4 {
                    let base = ((address & ADDRESS_BITS) >> span(level)) << span(level);
                    assert!(have.contains(&(level, base)), "{address:#x} level {level}");
                }
            }
        }
    }
}
