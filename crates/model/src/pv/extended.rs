//! `mmuext_op`: pins, base pointers, flushes, the LDT.
//!
//! Rules: `do_mmuext_op`, `new_guest_cr3` in Xen's `arch/x86/mm.c`. The
//! requests are carried out in order; the first that fails ends the call.

use kexen_abi::PAGE_SHIFT;
use kexen_abi::errno::Errno;
use kexen_abi::mmu::{
    HYPERVISOR_VIRT_END, MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE, MMUEXT_FLUSH_CACHE,
    MMUEXT_FLUSH_CACHE_GLOBAL, MMUEXT_INVLPG_ALL, MMUEXT_INVLPG_LOCAL, MMUEXT_INVLPG_MULTI,
    MMUEXT_MARK_SUPER, MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L1_TABLE,
    MMUEXT_PIN_L4_TABLE, MMUEXT_SET_LDT, MMUEXT_TLB_FLUSH_ALL, MMUEXT_TLB_FLUSH_LOCAL,
    MMUEXT_TLB_FLUSH_MULTI, MMUEXT_UNMARK_SUPER, MMUEXT_UNPIN_TABLE, MmuExtOp, UVMF_ALL,
};

use super::update::page_owner;
use super::validate::type_of;
use crate::call::{Answer, Call};
use crate::frame::{PGT_L4, PGT_PINNED, PGT_WRITABLE};
use crate::state::{State, Version, Who};

/// The most entries that an LDT has.
const LDT_ENTRIES: u64 = 8192;

/// `__addr_ok`: not in Xen's part of the address space, nor between it and
/// the lower half.
pub(crate) const fn is_guest_address(va: u64) -> bool {
    va < 0x0000_8000_0000_0000 || va >= HYPERVISOR_VIRT_END
}

/// The vCPUs that a flush means: 0 this one, `UVMF_ALL`, else a bitmap in the
/// guest's memory (`vcpumask_to_pcpumask`).
pub(crate) fn chosen_vcpus(state: &mut State, who: Who, at: u64) -> Result<Vec<usize>, Errno> {
    let all = state.domain(who).vcpus.len();
    match at {
        0 => Ok(vec![who.vcpu]),
        UVMF_ALL => Ok((0..all).collect()),
        at => bitmap_vcpus(state, who, at),
    }
}

/// The vCPUs of a bitmap in the guest's memory.
fn bitmap_vcpus(state: &mut State, who: Who, at: u64) -> Result<Vec<usize>, Errno> {
    let all = state.domain(who).vcpus.len();
    let mut chosen = Vec::new();
    for word in 0..all.div_ceil(64) {
        let mut bits = [0; 8];
        let offset = u64::try_from(word * 8).unwrap_or(0);
        state.copy_from_guest(who, at.wrapping_add(offset), &mut bits)?;
        let bits = u64::from_le_bytes(bits);
        let first = word * 64;
        chosen.extend((first..all.min(first + 64)).filter(|n| bits >> (n - first) & 1 == 1));
    }
    Ok(chosen)
}

impl State {
    pub(crate) fn pin(&mut self, owner: usize, mfn: u64, kind: u64) -> Result<(), Errno> {
        let id = self.domains[owner].id;
        if !self.get_page(mfn, id) {
            return Err(Errno::EINVAL);
        }
        if let Err(error) = self.get_page_type(mfn, kind) {
            self.say(format!(
                "Error {} while pinning mfn {mfn:x}",
                -i64::from(error.0)
            ));
            self.put_page(mfn);
            return Err(error);
        }
        if self.at(mfn).type_info & PGT_PINNED != 0 {
            self.say(format!("mfn {mfn:x} already pinned"));
            self.put_page_and_type(mfn);
            return Err(Errno::EINVAL);
        }
        self.at(mfn).type_info |= PGT_PINNED;
        Ok(())
    }

    fn unpin(&mut self, owner: usize, mfn: u64) -> Result<(), Errno> {
        let id = self.domains[owner].id;
        if !self.get_page(mfn, id) {
            self.say(format!("mfn {mfn:x} bad, or bad owner d{id}"));
            return Err(Errno::EINVAL);
        }
        if self.at(mfn).type_info & PGT_PINNED == 0 {
            self.put_page(mfn);
            self.say(format!("mfn {mfn:x} not pinned"));
            return Err(Errno::EINVAL);
        }
        self.at(mfn).type_info &= !PGT_PINNED;
        self.put_page_and_type(mfn);
        self.put_page(mfn);
        Ok(())
    }

    pub(crate) fn new_base(&mut self, who: Who, mfn: u64) -> Result<(), Errno> {
        let old = self.vcpu(who).base;
        if old != Some(mfn) {
            let id = self.id(who);
            if let Err(error) = self.get_page_and_type(mfn, id, PGT_L4) {
                self.say(format!("Error while installing new baseptr {mfn:x}"));
                return Err(error);
            }
            self.drop_ldt_pages(who);
            self.vcpu(who).base = Some(mfn);
        }
        self.flush_vcpu(who.domain, who.vcpu);
        if let Some(old) = old
            && old != mfn
        {
            self.put_page_and_type(old);
        }
        Ok(())
    }

    fn new_user_base(&mut self, who: Who, mfn: u64) -> Result<(), Errno> {
        let old = self.vcpu(who).user_base;
        if old == mfn {
            return Ok(());
        }
        if mfn != 0 {
            let id = self.id(who);
            self.get_page_and_type(mfn, id, PGT_L4)
                .inspect_err(|error| {
                    self.say(format!(
                        "Error {} installing new mfn {mfn:x}",
                        -i64::from(error.0)
                    ));
                })?;
        }
        self.vcpu(who).user_base = mfn;
        if old != 0 {
            self.put_page_and_type(old);
        }
        Ok(())
    }

    fn clear_page(&mut self, owner: usize, mfn: u64) -> Result<(), Errno> {
        let id = self.domains[owner].id;
        if self.get_page_and_type(mfn, id, PGT_WRITABLE).is_err() {
            self.say(format!("Error clearing mfn {mfn:x}"));
            return Err(Errno::EINVAL);
        }
        self.bytes_mut(mfn).fill(0);
        self.put_page_and_type(mfn);
        Ok(())
    }

    fn copy_page(&mut self, owner: usize, to: u64, from: u64) -> Result<(), Errno> {
        let id = self.domains[owner].id;
        if !self.get_page(from, id) {
            self.say(format!("Error copying from mfn {from:x}"));
            return Err(Errno::EINVAL);
        }
        if self.get_page_and_type(to, id, PGT_WRITABLE).is_err() {
            self.put_page(from);
            self.say(format!("Error copying to mfn {to:x}"));
            return Err(Errno::EINVAL);
        }
        let bytes = *self.bytes(from);
        *self.bytes_mut(to) = bytes;
        self.put_page_and_type(to);
        self.put_page(from);
        Ok(())
    }

    fn extended(&mut self, who: Who, owner: usize, op: &MmuExtOp) -> Result<(), Errno> {
        // What acts on this vCPU's own translations is for itself alone.
        let own = owner == who.domain;
        let own_only = || if own { Ok(()) } else { Err(Errno::EPERM) };
        match op.cmd {
            MMUEXT_PIN_L1_TABLE..=MMUEXT_PIN_L4_TABLE => {
                let level = u64::from(op.cmd - MMUEXT_PIN_L1_TABLE) + 1;
                self.pin(owner, op.arg1, type_of(level))
            }
            MMUEXT_UNPIN_TABLE => self.unpin(owner, op.arg1),
            MMUEXT_NEW_BASEPTR => own_only().and_then(|()| self.new_base(who, op.arg1)),
            MMUEXT_NEW_USER_BASEPTR => own_only().and_then(|()| self.new_user_base(who, op.arg1)),
            MMUEXT_TLB_FLUSH_LOCAL => {
                own_only()?;
                self.flush_vcpu(who.domain, who.vcpu);
                Ok(())
            }
            MMUEXT_INVLPG_LOCAL => {
                own_only()?;
                self.vcpu(who).tlb.remove(&(op.arg1 >> PAGE_SHIFT));
                Ok(())
            }
            MMUEXT_TLB_FLUSH_MULTI | MMUEXT_INVLPG_MULTI => {
                own_only()?;
                let chosen = bitmap_vcpus(self, who, op.arg2).map_err(|_| Errno::EINVAL)?;
                self.flush_some(
                    who,
                    &chosen,
                    (op.cmd == MMUEXT_INVLPG_MULTI).then_some(op.arg1),
                );
                Ok(())
            }
            MMUEXT_TLB_FLUSH_ALL | MMUEXT_INVLPG_ALL => {
                own_only()?;
                let all: Vec<usize> = (0..self.domain(who).vcpus.len()).collect();
                self.flush_some(who, &all, (op.cmd == MMUEXT_INVLPG_ALL).then_some(op.arg1));
                Ok(())
            }
            // A domain without hardware may not flush the processor's cache.
            MMUEXT_FLUSH_CACHE => own_only().and(Err(Errno::EACCES)),
            MMUEXT_FLUSH_CACHE_GLOBAL if self.version < Version::Xen4_20 => {
                own_only().and(Err(Errno::EINVAL))
            }
            MMUEXT_FLUSH_CACHE_GLOBAL => own_only().and(Err(Errno::EACCES)),
            MMUEXT_SET_LDT => own_only().and_then(|()| self.set_ldt(who, op.arg1, op.arg2)),
            MMUEXT_CLEAR_PAGE => self.clear_page(owner, op.arg1),
            MMUEXT_COPY_PAGE => self.copy_page(owner, op.arg1, op.arg2),
            MMUEXT_MARK_SUPER | MMUEXT_UNMARK_SUPER => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Flushes one translation, or all, on some vCPUs.
    fn flush_some(&mut self, who: Who, vcpus: &[usize], address: Option<u64>) {
        for vcpu in vcpus {
            match address {
                None => self.flush_vcpu(who.domain, *vcpu),
                Some(va) => {
                    self.domain(who).vcpus[*vcpu]
                        .tlb
                        .remove(&(va >> PAGE_SHIFT));
                }
            }
        }
    }

    fn set_ldt(&mut self, who: Who, address: u64, entries: u64) -> Result<(), Errno> {
        let entries = entries & 0xffff_ffff;
        let aligned = address & 0xfff == 0 && is_guest_address(address);
        if entries > LDT_ENTRIES || (entries > 0 && !aligned) {
            self.say(format!(
                "Bad args to SET_LDT: ptr={address:x}, ents={entries:x}"
            ));
            return Err(Errno::EINVAL);
        }
        let new = if entries == 0 {
            (0, 0)
        } else {
            (address, entries)
        };
        if self.vcpu(who).ldt != new {
            if self.drop_ldt_pages(who) {
                self.flush_vcpu(who.domain, who.vcpu);
            }
            self.vcpu(who).ldt = new;
        }
        Ok(())
    }
}

/// `HYPERVISOR_mmuext_op`.
pub(crate) fn mmuext_op(call: &mut Call<'_, '_, '_>) -> Answer {
    let who = call.who;
    let foreign = u16::try_from(call.word(3) & 0xffff).unwrap_or(0);
    let owner = page_owner(call, foreign)?;
    if call.state.domains[owner].kind.translated() {
        return Err(Errno::EINVAL);
    }
    let mut done = 0;
    let mut result = Ok(0);
    for n in 0..u64::from(call.word(1) & 0x7fff_ffff) {
        let one = match call.read::<MmuExtOp>(0, n) {
            Ok(op) => call.state.extended(who, owner, &op),
            Err(error) => Err(error),
        };
        if let Err(error) = one {
            result = Err(error);
            break;
        }
        done += 1;
    }
    if !call.is_null(2) {
        let _ = call.write::<u32>(2, 0, &done);
    }
    result
}
