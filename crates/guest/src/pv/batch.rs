//! Updates of page tables that go to Xen together.
//!
//! One trap for all of it: pages to clear, entries to write, translations to
//! flush, as `mmuext_op`, `mmu_update`, `mmuext_op` of one multicall. Each
//! call's result is checked, and an error says how many requests were done.

use alloc::vec::Vec;

use kexen_abi::mmu::{MMUEXT_CLEAR_PAGE, MmuExtOp, MmuUpdate};

use super::pool::OwedFlush;
use crate::{HypercallError, Machine, hypercall::mmu_batch};

/// Entries in one call at most: bounds the memory that a batch takes.
pub(super) const FULL: usize = 4096;

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    clear: Vec<MmuExtOp>,
    updates: Vec<MmuUpdate>,
    after: Vec<MmuExtOp>,
}

impl Batch {
    /// Clears a page before anything else.
    pub(super) fn clear(&mut self, mfn: u64) {
        self.clear.push(MmuExtOp {
            cmd: MMUEXT_CLEAR_PAGE,
            pad: 0,
            arg1: mfn,
            arg2: 0,
        });
    }

    /// Writes an entry.
    pub(super) fn update(&mut self, update: MmuUpdate) {
        self.updates.push(update);
    }

    /// Writes entries.
    pub(super) fn extend(&mut self, updates: Vec<MmuUpdate>) {
        self.updates.extend(updates);
    }

    /// Pays for entries of this batch that became writable.
    pub(super) fn pay(&mut self, owed: OwedFlush) {
        self.after.extend(owed.into_ops());
    }

    /// Whether it should go to Xen before more is added.
    pub(super) const fn is_full(&self) -> bool {
        self.updates.len() >= FULL
    }

    /// Has it all done; the batch is empty then.
    pub(super) fn commit<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        what: &'static str,
    ) -> Result<(), HypercallError> {
        let result = mmu_batch(m, what, &self.clear, &self.updates, &self.after);
        *self = Self::default();
        result
    }
}
