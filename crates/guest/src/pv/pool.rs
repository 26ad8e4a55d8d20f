//! The pool of table pages, `[start, end, top)`.
//!
//! Rules: Xen's `arch/x86/mm.c`. A frame becomes a page table only if it has
//! no writable mapping anywhere, and while it is one it gets none. So every
//! page of a range is mapped read-only *before* any of it can become a
//! table, also in the tables that come to map the range itself; and what was
//! not used goes back to writable, with a flush, before anybody else gets it.
//!
//! Order of steps of a round:
//! 1. [`AddressSpace::reserve_tables`](super::AddressSpace::reserve_tables):
//!    pages that are mapped nowhere, or writable at their one address, are
//!    mapped read-only;
//! 2. [`Pool::table`]: the next page, `end`, becomes a [`TablePage`]: the
//!    only thing that can be hooked into a table. Xen clears it first;
//! 3. [`AddressSpace::close_pools`](super::AddressSpace::close_pools): `[end, top)` leaves as a [`Tail`], which is nobody's
//!    until it has been made writable.
//!
//! A page passes through types: `Extent` (the allocator's) → [`Pool`] →
//! [`TablePage`], or [`Tail`] → `Extent`. Nothing here gives out the number
//! of a page that is read-only. Changes from read-only to writable leave an
//! [`OwedFlush`], which has to be paid.

use alloc::vec::Vec;

use kexen_abi::mmu::{MMUEXT_INVLPG_ALL, MMUEXT_TLB_FLUSH_ALL, MmuExtOp};

use crate::{Extent, HypercallError, Machine, hypercall::mmuext_op};

/// A page that is mapped read-only and nowhere else, and not yet in use: what
/// can be hooked into a table. Only a [`Pool`] makes one:
///
/// ```compile_fail,E0451
/// let writable = kexen_guest::pv::TablePage { pfn: 7 };
/// ```
#[derive(Debug)]
#[must_use = "a page that left its pool is lost unless it is hooked in"]
pub struct TablePage {
    pub(super) pfn: u64,
}

impl TablePage {
    /// Its page number.
    #[must_use]
    pub const fn pfn(&self) -> u64 {
        self.pfn
    }
}

/// One range of pages for tables: `[start, end)` are tables, `[end, top)`
/// may become some. All of it is read-only.
#[derive(Debug)]
#[must_use = "the pages of a pool that is dropped stay read-only for good"]
pub struct Pool {
    start: u64,
    end: u64,
    top: u64,
}

impl Pool {
    /// A pool of a range that was cleared and is read-only everywhere.
    pub(super) const fn of_read_only(run: Extent) -> Self {
        Self {
            start: run.start,
            end: run.start,
            top: run.end(),
        }
    }

    /// The next page that becomes a table.
    pub const fn table(&mut self) -> Option<TablePage> {
        if self.end == self.top {
            return None;
        }
        let pfn = self.end;
        self.end += 1;
        Some(TablePage { pfn })
    }

    /// Pages that may still become tables.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.top - self.end
    }

    /// `[start, end)`: the pages that became tables, in use for good.
    #[must_use]
    pub const fn tables(&self) -> Extent {
        Extent::new(self.start, self.end - self.start)
    }

    /// `[start, top)`
    #[must_use]
    pub const fn whole(&self) -> Extent {
        Extent::new(self.start, self.top - self.start)
    }

    /// Whether a page is of the range.
    #[must_use]
    pub const fn holds(&self, pfn: u64) -> bool {
        self.start <= pfn && pfn < self.top
    }

    /// Ends the round: the tables, and the pages that became none.
    pub const fn close(self) -> (Extent, Tail) {
        let tail = Tail(Extent::new(self.end, self.top - self.end));
        (self.tables(), tail)
    }
}

/// `[end, top)`: pages that are mapped read-only, and are nobody's: which
/// ones they are is not to be had, so no allocator can be given them.
///
/// ```compile_fail,E0616
/// fn give(tail: kexen_guest::pv::Tail, free: &mut kexen_guest::Extents) {
///     free.insert(tail.0);
/// }
/// ```
#[derive(Debug)]
#[must_use = "the tail stays read-only: its next user would take a write fault"]
pub struct Tail(pub(super) Extent);

impl Tail {
    /// How many pages.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.0.count
    }
}

/// A translation that may be stale in a TLB: a page that was read-only is
/// writable now. Until it is flushed on every vCPU that may hold it, a
/// write faults with error code 3 though the table says writable.
#[derive(Debug)]
#[must_use = "without the flush a write may fault on a page that is writable"]
pub struct OwedFlush {
    ops: Vec<MmuExtOp>,
}

/// More addresses than this are flushed as a whole.
const ONE_BY_ONE: usize = 8;

impl OwedFlush {
    /// Owes the flush of some addresses.
    pub(super) fn of(addresses: &[u64]) -> Self {
        let op = |cmd, arg1| MmuExtOp {
            cmd,
            pad: 0,
            arg1,
            arg2: 0,
        };
        let ops = match addresses {
            [] => Vec::new(),
            few if few.len() <= ONE_BY_ONE => {
                few.iter().map(|va| op(MMUEXT_INVLPG_ALL, *va)).collect()
            }
            _ => alloc::vec![op(MMUEXT_TLB_FLUSH_ALL, 0)],
        };
        Self { ops }
    }

    /// The requests that pay it, for a batch of the caller's own.
    #[must_use]
    pub fn into_ops(self) -> Vec<MmuExtOp> {
        self.ops
    }

    /// Pays it, on all vCPUs.
    pub fn pay<M: Machine + ?Sized>(self, m: &M) -> Result<(), HypercallError> {
        if self.ops.is_empty() {
            return Ok(());
        }
        mmuext_op(m, "flush", &self.ops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_gives_each_page_once_and_its_tail_back() {
        let mut pool = Pool::of_read_only(Extent::new(10, 4));
        assert_eq!(pool.table().map(|page| page.pfn()), Some(10));
        assert_eq!(pool.table().map(|page| page.pfn()), Some(11));
        assert!(pool.holds(10) && pool.holds(13) && !pool.holds(14));
        assert_eq!(pool.left(), 2);
        let (tables, tail) = pool.close();
        assert_eq!((tables, tail.0), (Extent::new(10, 2), Extent::new(12, 2)));
        let mut empty = Pool::of_read_only(Extent::new(3, 0));
        assert!(empty.table().is_none());
        assert_eq!(empty.close().1.count(), 0);
    }

    #[test]
    fn few_addresses_are_flushed_one_by_one() {
        assert_eq!(OwedFlush::of(&[0x1000, 0x2000]).into_ops().len(), 2);
        let many: Vec<u64> = (0..20).map(|n| n << 12).collect();
        let ops = OwedFlush::of(&many).into_ops();
        assert_eq!((ops.len(), ops[0].cmd), (1, MMUEXT_TLB_FLUSH_ALL));
        assert!(OwedFlush::of(&[]).into_ops().is_empty());
    }
}
