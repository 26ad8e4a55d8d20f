//! What a page table's entries hold on to, and the check of a whole table.
//!
//! Rules: `get_page_from_l1e` to `get_page_from_l4e`, `promote_l1_table` to
//! `promote_l4_table`, `demote_*` in Xen's `arch/x86/mm.c`;
//! `adjust_guest_l1e` in `arch/x86/pv/mm.h`. Each present entry of an L1
//! table holds a reference to its frame, with a writable type if it has
//! `PAGE_RW`; each present entry of a table above holds the type of the
//! level below.

use kexen_abi::PAGE_SHIFT;
use kexen_abi::errno::Errno;
use kexen_abi::mmu::{
    PAGE_ACCESSED, PAGE_FRAME_MASK, PAGE_GLOBAL, PAGE_PRESENT, PAGE_RW, PAGE_USER,
};

use crate::frame::{
    DomId, PGT_COUNT_MASK, PGT_L1, PGT_L2, PGT_L3, PGT_L4, PGT_TYPE_MASK, PGT_VALIDATED,
    PGT_WRITABLE, XEN_FRAME,
};
use crate::state::State;

/// Cache attributes: write-through, cache-disable, PAT (L1).
pub(crate) const PAGE_CACHE_ATTRS: u64 = 0x98;

/// Bits that no entry of a level may have: the cache attributes in a guest
/// without hardware, and global above L1.
pub(crate) const fn disallowed(level: u64) -> u64 {
    if level == 1 {
        PAGE_CACHE_ATTRS
    } else {
        PAGE_CACHE_ATTRS | PAGE_GLOBAL
    }
}

/// `_PAGE_GUEST_KERNEL`: the guest's own kernel page, marked by Xen.
pub(crate) const GUEST_KERNEL: u64 = 1 << 52;
/// First and last L4 slot that belong to Xen.
pub(crate) const XEN_SLOTS: std::ops::RangeInclusive<u64> = 256..=271;

/// Stands for Xen's own entries: a frame of its own.
const XEN_ENTRY: u64 = (XEN_FRAME << PAGE_SHIFT) | 0x63;

/// The level of a table type, 1 to 4.
pub(crate) const fn level_of(kind: u64) -> u64 {
    kind >> 61
}

/// The table type of a level.
pub(crate) const fn type_of(level: u64) -> u64 {
    level << 61
}

pub(crate) const fn frame_of(entry: u64) -> u64 {
    (entry & PAGE_FRAME_MASK) >> PAGE_SHIFT
}

/// What Xen makes of a present entry: reachable from user mode, since a
/// 64-bit PV kernel runs there. An L1 entry that the guest did not mean for
/// its users is marked as its kernel's; the others are made global.
pub(crate) const fn adjust(level: u64, entry: u64) -> u64 {
    if entry & PAGE_PRESENT == 0 {
        return entry;
    }
    match level {
        1 => {}
        // The processor may walk a copy of Xen's: it is accessed for sure.
        4 => return entry | PAGE_USER | PAGE_ACCESSED,
        _ => return entry | PAGE_USER,
    }
    let marked = if entry & PAGE_USER == 0 {
        entry | PAGE_USER | GUEST_KERNEL
    } else {
        entry
    };
    if marked & GUEST_KERNEL == 0 {
        marked | PAGE_GLOBAL
    } else {
        marked
    }
}

impl State {
    /// Whether an entry has only bits that one of its level may have.
    pub(crate) fn check_flags(&mut self, level: u64, entry: u64) -> Result<(), Errno> {
        match entry & disallowed(level) {
            0 => Ok(()),
            flags => {
                self.say(format!("Bad L{level} flags {flags:x}"));
                Err(Errno::EINVAL)
            }
        }
    }

    /// The references of a present L1 entry. `owner` owns the table,
    /// `pages_of` is whose frames it may map.
    pub(crate) fn hold_l1(
        &mut self,
        entry: u64,
        owner: DomId,
        pages_of: DomId,
    ) -> Result<(), Errno> {
        self.check_flags(1, entry)?;
        let mfn = frame_of(entry);
        // Frame 0 stands for the machine's low memory, which is no RAM.
        if mfn == 0 || self.frame(mfn).is_none() {
            if mfn == PAGE_FRAME_MASK >> PAGE_SHIFT {
                return Err(Errno::EINVAL);
            }
            self.say(format!(
                "d{pages_of} non-privileged attempt to map MMIO space {mfn:x}"
            ));
            return Err(Errno::EPERM);
        }
        let held = self.get_page(mfn, pages_of);
        let typed = held && (entry & PAGE_RW == 0 || self.get_page_type(mfn, PGT_WRITABLE).is_ok());
        if typed {
            return Ok(());
        }
        if held {
            self.say("Could not get page type PGT_writable_page".into());
            self.put_page(mfn);
        } else {
            let real = self.frame(mfn).and_then(|frame| frame.owner);
            let real = real.map_or(-1, i32::from);
            self.say(format!(
                "pg_owner d{pages_of} l1e_owner d{owner}, but real_pg_owner d{real}"
            ));
        }
        let pfn = self.at(mfn).m2p;
        self.say(format!(
            "Error getting mfn {mfn:x} (pfn {pfn:x}) from L1 entry {entry:016x} for \
             l1e_owner d{owner}, pg_owner d{pages_of}"
        ));
        Err(Errno::EBUSY)
    }

    /// Drops what an L1 entry held (`put_page_from_l1e`). A grant mapping
    /// took no type of a translated domain's frame, so none is dropped.
    pub(crate) fn release_l1(&mut self, entry: u64) {
        if entry & PAGE_PRESENT == 0 {
            return;
        }
        let mfn = frame_of(entry);
        if self.frame(mfn).is_none() {
            return;
        }
        let owner = self.at(mfn).owner.and_then(|owner| self.index_of(owner));
        let untyped = owner.is_some_and(|owner| self.domains[owner].kind.translated());
        if entry & PAGE_RW != 0 && !untyped {
            self.put_page_type(mfn);
        }
        self.put_page(mfn);
    }

    /// The references of a present entry of an L2, L3 or L4 table.
    pub(crate) fn hold_upper(
        &mut self,
        level: u64,
        entry: u64,
        table: u64,
        owner: DomId,
    ) -> Result<(), Errno> {
        self.check_flags(level, entry)?;
        match self.get_page_and_type(frame_of(entry), owner, type_of(level - 1)) {
            Err(Errno::EINVAL) if self.hold_linear(level, entry, table, owner) => Ok(()),
            result => result,
        }
    }

    /// A linear page table: a table that an entry of the same level maps,
    /// read-only (`define_get_linear_pagetable`).
    fn hold_linear(&mut self, level: u64, entry: u64, table: u64, owner: DomId) -> bool {
        if entry & PAGE_RW != 0 {
            self.say("Attempt to create linear p.t. with write perms".into());
            return false;
        }
        let mfn = frame_of(entry);
        if mfn == table {
            return true;
        }
        if self.at(table).owner != Some(owner) || !self.get_page(mfn, owner) {
            return false;
        }
        let (holder, used) = (self.at(table).linear, self.at(mfn).linear);
        let word = self.at(mfn).type_info;
        let wanted = type_of(level) | PGT_VALIDATED;
        let fits = word & (PGT_TYPE_MASK | PGT_VALIDATED) == wanted
            && word & PGT_COUNT_MASK != PGT_COUNT_MASK;
        if holder < 0 || used > 0 || !fits {
            self.put_page(mfn);
            return false;
        }
        self.at(table).linear += 1;
        self.at(mfn).linear -= 1;
        self.at(mfn).type_info += 1;
        true
    }

    /// Drops what an entry of an L2, L3 or L4 table held.
    pub(crate) fn release_upper(&mut self, entry: u64, table: u64) {
        let mfn = frame_of(entry);
        if entry & PAGE_PRESENT == 0 || mfn == table {
            return;
        }
        self.put_page_type_of(mfn, Some(table));
        self.put_page(mfn);
    }

    /// Validates a whole table. On an error every reference that was taken
    /// is dropped again.
    pub(crate) fn validate_table(&mut self, mfn: u64, kind: u64) -> Result<(), Errno> {
        let level = level_of(kind);
        let Some(owner) = self.at(mfn).owner else {
            return Err(Errno::EINVAL);
        };
        for slot in 0..512 {
            if kind == PGT_L4 && XEN_SLOTS.contains(&slot) {
                continue;
            }
            let entry = self.word(mfn, slot * 8);
            if entry & PAGE_PRESENT == 0 {
                continue;
            }
            let held = if kind == PGT_L1 {
                self.hold_l1(entry, owner, owner)
            } else {
                self.hold_upper(level, entry, mfn, owner)
            };
            if let Err(error) = held {
                self.say(format!(
                    "Failure {} in promote_l{level}_table: slot {slot:#x}",
                    -i64::from(error.0)
                ));
                for slot in (0..slot).rev() {
                    self.release_slot(mfn, kind, slot);
                }
                return Err(error);
            }
            let adjusted = adjust(level, entry);
            if adjusted != entry {
                self.set_word(mfn, slot * 8, adjusted);
            }
        }
        if kind == PGT_L4 {
            // Xen's own part of the address space. The entries stay when the
            // page is no L4 any more: no other table can be made of it then,
            // unless it is cleared.
            for slot in XEN_SLOTS {
                self.set_word(mfn, slot * 8, XEN_ENTRY);
            }
        }
        Ok(())
    }

    fn release_slot(&mut self, mfn: u64, kind: u64, slot: u64) {
        if kind == PGT_L4 && XEN_SLOTS.contains(&slot) {
            return;
        }
        let entry = self.word(mfn, slot * 8);
        if kind == PGT_L1 {
            self.release_l1(entry);
        } else {
            self.release_upper(entry, mfn);
        }
    }

    /// Drops what all entries of a table held, as its type goes.
    pub(crate) fn invalidate_table(&mut self, mfn: u64, kind: u64) {
        if kind == PGT_L1 {
            for slot in 0..512 {
                self.release_slot(mfn, kind, slot);
            }
        } else {
            for slot in (0..512).rev() {
                self.release_slot(mfn, kind, slot);
            }
        }
    }
}

/// The types whose names the tests and messages use.
pub(crate) const fn name_of(kind: u64) -> &'static str {
    match kind {
        PGT_L1 => "an L1 table",
        PGT_L2 => "an L2 table",
        PGT_L3 => "an L3 table",
        PGT_L4 => "an L4 table",
        PGT_WRITABLE => "writable",
        crate::frame::PGT_SEG_DESC => "a descriptor page",
        crate::frame::PGT_SHARED => "shared",
        _ => "nothing",
    }
}
