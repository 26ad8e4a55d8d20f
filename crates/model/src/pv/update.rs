//! `mmu_update` and `update_va_mapping`.
//!
//! Rules: `do_mmu_update`, `mod_l1_entry` to `mod_l4_entry`,
//! `__do_update_va_mapping` in Xen's `arch/x86/mm.c`. Order of one update of
//! a table entry: reject forbidden bits; if nothing but soft bits changes,
//! write; else take what the new entry holds, write, drop what the old one
//! held. A change above L1 flushes the TLBs of the whole domain.

use kexen_abi::errno::Errno;
use kexen_abi::mmu::{
    MMU_MACHPHYS_UPDATE, MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_PRESERVE_AD, MmuUpdate, PAGE_ACCESSED,
    PAGE_DIRTY, PAGE_FRAME_MASK, PAGE_PRESENT, PAGE_RW, UVMF_FLUSHTYPE_MASK, UVMF_INVLPG,
    UVMF_TLB_FLUSH,
};
use kexen_abi::{DOMID_SELF, PAGE_SHIFT};

use super::validate::{PAGE_CACHE_ATTRS, XEN_SLOTS, adjust, level_of};
use crate::call::{Answer, Call};
use crate::frame::{DomId, PGT_L1, PGT_L4, PGT_LOCKED, PGT_VALIDATED, PGT_WRITABLE};
use crate::state::{State, Who};

/// `MMU_PT_UPDATE_NO_TRANSLATE`: as the normal one for a PV guest.
const NO_TRANSLATE: u64 = 3;
/// Bits of an entry whose change needs no new check: everything but the
/// frame, present, writable and the cache attributes.
const HARD_BITS: u64 = PAGE_FRAME_MASK | PAGE_PRESENT | PAGE_RW | PAGE_CACHE_ATTRS;

/// Whose frames a foreign-domain argument means (`get_pg_owner`); a domain
/// may not name itself by its number, and has no rights over others.
pub(crate) fn page_owner(call: &mut Call<'_, '_, '_>, id: u16) -> Result<usize, Errno> {
    if id == DOMID_SELF {
        return Ok(call.who.domain);
    }
    if id == call.state.id(call.who) {
        call.state
            .say("Cannot specify itself as foreign domain".into());
        return Err(Errno::ESRCH);
    }
    match call.state.index_of(id) {
        Some(_) => Err(Errno::EPERM),
        None => {
            call.state.say(format!("Unknown domain d{id}"));
            Err(Errno::ESRCH)
        }
    }
}

impl State {
    /// Writes one L1 entry; `offset` is that of the entry in its table.
    pub(crate) fn update_l1(
        &mut self,
        who: Who,
        table: u64,
        offset: u64,
        value: u64,
        keep_accessed: bool,
        pages_of: DomId,
    ) -> Result<(), Errno> {
        let owner = self.id(who);
        let old = self.word(table, offset);
        let mut new = value;
        if new & PAGE_PRESENT != 0 {
            self.check_flags(1, new)?;
            new = adjust(1, new);
            if (old ^ new) & HARD_BITS == 0 {
                self.set_entry(table, offset, old, new, keep_accessed);
                return Ok(());
            }
            self.hold_l1(new, owner, pages_of)?;
        }
        self.set_entry(table, offset, old, new, keep_accessed);
        self.release_l1(old);
        Ok(())
    }

    fn set_entry(&mut self, table: u64, offset: u64, old: u64, new: u64, keep: bool) {
        let kept = if keep {
            old & (PAGE_ACCESSED | PAGE_DIRTY)
        } else {
            0
        };
        self.set_word(table, offset, new | kept);
    }

    /// Writes one entry of an L2, L3 or L4 table.
    fn update_upper(
        &mut self,
        who: Who,
        table: u64,
        offset: u64,
        value: u64,
        keep_accessed: bool,
        kind: u64,
    ) -> Result<(), Errno> {
        let level = level_of(kind);
        let owner = self.id(who);
        if kind == PGT_L4 && XEN_SLOTS.contains(&(offset / 8)) {
            self.say(format!(
                "L4 update in Xen-private area, slot {:#x}",
                offset / 8
            ));
            return Err(Errno::EINVAL);
        }
        let old = self.word(table, offset);
        let mut new = value;
        if new & PAGE_PRESENT != 0 {
            self.check_flags(level, new)?;
            new = adjust(level, new);
            if (old ^ new) & HARD_BITS == 0 {
                self.set_entry(table, offset, old, new, keep_accessed);
                return Ok(());
            }
            self.hold_upper(level, new, table, owner)?;
        }
        self.set_entry(table, offset, old, new, keep_accessed);
        self.release_upper(old, table);
        Ok(())
    }

    /// One normal update. Whether a table above L1 changed.
    fn normal_update(
        &mut self,
        who: Who,
        pages_of: usize,
        request: MmuUpdate,
    ) -> Result<bool, Errno> {
        let owner = self.id(who);
        let command = request.ptr & 7;
        let at = request.ptr - command;
        let (mfn, offset) = (at >> PAGE_SHIFT, at & 0xff8);
        if !self.get_page(mfn, owner) {
            self.say("Could not get page for normal update".into());
            return Err(Errno::EINVAL);
        }
        let keep = command == MMU_PT_UPDATE_PRESERVE_AD;
        let frame = self.at(mfn);
        let (kind, count) = (frame.kind(), frame.type_count());
        let result = if count > 0 && frame.type_info & PGT_VALIDATED != 0 {
            // `page_lock`: one more use while the entry changes.
            frame.type_info = (frame.type_info | PGT_LOCKED) + 1;
            let pages = self.domains[pages_of].id;
            let result = match kind {
                PGT_L1 => self
                    .update_l1(who, mfn, offset, request.val, keep, pages)
                    .map(|()| false),
                PGT_WRITABLE => {
                    self.set_word(mfn, offset, request.val);
                    Ok(false)
                }
                kind if (PGT_L1..=PGT_L4).contains(&kind) && pages_of == who.domain => self
                    .update_upper(who, mfn, offset, request.val, keep, kind)
                    .map(|()| true),
                _ => Err(Errno::EINVAL),
            };
            let frame = self.at(mfn);
            frame.type_info = (frame.type_info - 1) & !PGT_LOCKED;
            result
        } else if self.get_page_type(mfn, PGT_WRITABLE).is_ok() {
            self.set_word(mfn, offset, request.val);
            self.put_page_type(mfn);
            Ok(false)
        } else {
            Err(Errno::EINVAL)
        };
        self.put_page(mfn);
        result
    }

    fn machphys_update(&mut self, pages_of: usize, request: MmuUpdate) -> Result<(), Errno> {
        if self.domains[pages_of].kind.translated() {
            return Err(Errno::EINVAL);
        }
        let owner = self.domains[pages_of].id;
        let mfn = request.ptr >> PAGE_SHIFT;
        if !self.get_page(mfn, owner) {
            self.say("Could not get page for mach->phys update".into());
            return Err(Errno::EINVAL);
        }
        self.at(mfn).m2p = request.val;
        self.put_page(mfn);
        Ok(())
    }
}

/// `HYPERVISOR_mmu_update`.
pub(crate) fn mmu_update(call: &mut Call<'_, '_, '_>) -> Answer {
    let who = call.who;
    let foreign = call.word(3);
    let tables_of = u16::try_from(foreign >> 16).unwrap_or(0);
    if tables_of != 0 && tables_of - 1 != call.state.id(who) {
        // Tables of another domain.
        return Err(match call.state.index_of(tables_of - 1) {
            Some(_) => Errno::EPERM,
            None => Errno::ESRCH,
        });
    }
    let foreign = u16::try_from(foreign & 0xffff).unwrap_or(0);
    let pages_of = page_owner(call, foreign).inspect_err(|_| {
        if !call.is_null(2) {
            let _ = call.write::<u32>(2, 0, &0);
        }
    })?;
    let mut done = 0;
    let mut upper = false;
    let mut result = Ok(0);
    for n in 0..u64::from(call.word(1) & 0x7fff_ffff) {
        let request: MmuUpdate = match call.read(0, n) {
            Ok(request) => request,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        let one = match request.ptr & 7 {
            MMU_NORMAL_PT_UPDATE | MMU_PT_UPDATE_PRESERVE_AD | NO_TRANSLATE => {
                call.state.normal_update(who, pages_of, request)
            }
            MMU_MACHPHYS_UPDATE => call
                .state
                .machphys_update(pages_of, request)
                .map(|()| false),
            _ => Err(Errno::ENOSYS),
        };
        match one {
            Ok(changed) => upper |= changed,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
        done += 1;
    }
    if upper {
        call.state.flush_domain(who.domain);
    }
    if !call.is_null(2) {
        // Xen does not look whether this worked.
        let _ = call.write::<u32>(2, 0, &done);
    }
    result
}

/// `HYPERVISOR_update_va_mapping`.
pub(crate) fn update_va_mapping(call: &mut Call<'_, '_, '_>) -> Answer {
    let who = call.who;
    let (va, value, flags) = (call.value(0), call.value(1), call.value(2));
    let owner = call.state.id(who);
    let table = call.state.l1_table(who, va).ok_or(Errno::EINVAL)?;
    if !call.state.get_page(table, owner) {
        return Err(Errno::EINVAL);
    }
    let frame = call.state.at(table);
    let usable =
        frame.type_count() > 0 && frame.type_info & PGT_VALIDATED != 0 && frame.kind() == PGT_L1;
    let result = if usable {
        frame.type_info = (frame.type_info | PGT_LOCKED) + 1;
        let result = call.state.update_l1(
            who,
            table,
            ((va >> PAGE_SHIFT) & 511) * 8,
            value,
            false,
            owner,
        );
        let frame = call.state.at(table);
        frame.type_info = (frame.type_info - 1) & !PGT_LOCKED;
        result
    } else {
        Err(Errno::EINVAL)
    };
    call.state.put_page(table);
    result?;
    let vcpus = flags & !UVMF_FLUSHTYPE_MASK;
    let chosen = match flags & UVMF_FLUSHTYPE_MASK {
        UVMF_TLB_FLUSH | UVMF_INVLPG => super::extended::chosen_vcpus(call.state, who, vcpus)?,
        _ => Vec::new(),
    };
    for vcpu in chosen {
        if flags & UVMF_FLUSHTYPE_MASK == UVMF_TLB_FLUSH {
            call.state.flush_vcpu(who.domain, vcpu);
        } else {
            call.state.domains[who.domain].vcpus[vcpu]
                .tlb
                .remove(&(va >> PAGE_SHIFT));
        }
    }
    Ok(0)
}

impl State {
    /// The L1 table that covers an address, by the tables in memory.
    pub(crate) fn l1_table(&self, who: Who, va: u64) -> Option<u64> {
        use kexen_abi::mmu::{HYPERVISOR_VIRT_END, MACH2PHYS_VIRT_START, PAGE_PSE};
        if (MACH2PHYS_VIRT_START..HYPERVISOR_VIRT_END).contains(&va) {
            return None;
        }
        let mut table = self.domains[who.domain].vcpus[who.vcpu].base?;
        for level in (2..=4_u32).rev() {
            let entry = self.word(table, ((va >> (PAGE_SHIFT + 9 * (level - 1))) & 511) * 8);
            if entry & PAGE_PRESENT == 0 || entry & PAGE_PSE != 0 {
                return None;
            }
            table = (entry & PAGE_FRAME_MASK) >> PAGE_SHIFT;
            self.frame(table)?;
        }
        Some(table)
    }
}
