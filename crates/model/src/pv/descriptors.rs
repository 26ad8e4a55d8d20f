//! GDT and LDT pages.
//!
//! Rules: `pv_set_gdt`, `check_descriptor`, `do_update_descriptor` in Xen's
//! `arch/x86/pv/descriptor-tables.c`. A GDT frame holds a descriptor type
//! until another GDT, or none, is set. Pages of an LDT get theirs when a
//! selector is first used.

use kexen_abi::PAGE_SHIFT;
use kexen_abi::errno::Errno;

use crate::call::{Answer, Call};
use crate::frame::{PGT_SEG_DESC, PGT_WRITABLE};
use crate::state::{State, Who};

/// Descriptors of a GDT before Xen's own begin (`FIRST_RESERVED_GDT_ENTRY`).
const GDT_ENTRIES: u32 = 14 * 512;
/// `FLAT_KERNEL_CS` of a 64-bit guest.
const FLAT_KERNEL_CS: u32 = 0xe033;

/// A descriptor as Xen would let it stand, or `None`.
pub(crate) fn check_descriptor(descriptor: u64) -> Option<u64> {
    let a = u32::try_from(descriptor & 0xffff_ffff).unwrap_or(0);
    let mut b = u32::try_from(descriptor >> 32).unwrap_or(0);
    if b & (1 << 15) == 0 {
        // Not present.
        return Some(descriptor);
    }
    // Privilege 0 is Xen's; a 64-bit guest's kernel runs in ring 3.
    let mut level = (b >> 13) & 3;
    if level == 0 {
        level = 3;
    }
    b = (b & !(3 << 13)) | (level << 13);
    let join = |a: u32, b: u32| u64::from(a) | (u64::from(b) << 32);
    if b & (1 << 12) != 0 {
        return Some(join(a, b));
    }
    match b & 0xf00 {
        0 => Some(descriptor),
        0xc00 => {
            let selector = a >> 16;
            let known =
                selector >> 3 < GDT_ENTRIES || selector == FLAT_KERNEL_CS || selector & 4 != 0;
            b &= !(3 << 13);
            let a = (a & 0xffff) | (((selector & !3) | level) << 16);
            (known && b & 0xff == 0).then(|| join(a, b))
        }
        _ => None,
    }
}

impl State {
    /// `validate_segdesc_page`
    pub(crate) fn validate_descriptors(&mut self, mfn: u64) -> Result<(), Errno> {
        for slot in 0..512 {
            let descriptor = self.word(mfn, slot * 8);
            let checked = check_descriptor(descriptor).ok_or(Errno::EINVAL)?;
            if checked != descriptor {
                self.set_word(mfn, slot * 8, checked);
            }
        }
        Ok(())
    }

    /// Drops the pages of the LDT that were used; whether there were any.
    pub(crate) fn drop_ldt_pages(&mut self, who: Who) -> bool {
        let pages = std::mem::take(&mut self.vcpu(who).ldt_pages);
        for mfn in &pages {
            self.put_page_and_type(*mfn);
        }
        !pages.is_empty()
    }

    /// A selector of the LDT is used: its page gets a descriptor type
    /// (`pv_map_ldt_shadow_page`). Whether that worked.
    pub(crate) fn use_ldt(&mut self, who: Who, entry: u64) -> bool {
        let (base, entries) = self.vcpu(who).ldt;
        if entry >= entries {
            return false;
        }
        let Some((mfn, _, _)) = self.walk(who, base + entry * 8) else {
            return false;
        };
        if self.vcpu(who).ldt_pages.contains(&mfn) {
            return true;
        }
        let owner = self.id(who);
        let held = self.get_page_and_type(mfn, owner, PGT_SEG_DESC).is_ok();
        if held {
            self.vcpu(who).ldt_pages.push(mfn);
        }
        held
    }
}

/// `HYPERVISOR_set_gdt`.
pub(crate) fn set_gdt(call: &mut Call<'_, '_, '_>) -> Answer {
    let who = call.who;
    let entries = call.word(1);
    if entries > GDT_ENTRIES {
        return Err(Errno::EINVAL);
    }
    let mut frames = Vec::new();
    for n in 0..u64::from(entries.div_ceil(512)) {
        frames.push(call.read::<u64>(0, n)?);
    }
    let owner = call.state.id(who);
    for (n, mfn) in frames.iter().enumerate() {
        if call
            .state
            .get_page_and_type(*mfn, owner, PGT_SEG_DESC)
            .is_err()
        {
            for taken in &frames[..n] {
                call.state.put_page_and_type(*taken);
            }
            return Err(Errno::EINVAL);
        }
    }
    let old = std::mem::replace(&mut call.state.vcpu(who).gdt, frames);
    for mfn in old {
        call.state.put_page_and_type(mfn);
    }
    call.state.flush_vcpu(who.domain, who.vcpu);
    Ok(0)
}

/// `HYPERVISOR_update_descriptor`.
pub(crate) fn update_descriptor(call: &mut Call<'_, '_, '_>) -> Answer {
    let who = call.who;
    let (at, descriptor) = (call.value(0), call.value(1));
    let checked = check_descriptor(descriptor)
        .filter(|_| at & 7 == 0)
        .ok_or(Errno::EINVAL)?;
    let (owner, mfn) = (call.state.id(who), at >> PAGE_SHIFT);
    let descriptors = call
        .state
        .frame(mfn)
        .is_some_and(|frame| frame.kind() == PGT_SEG_DESC);
    let kind = if descriptors {
        PGT_SEG_DESC
    } else {
        PGT_WRITABLE
    };
    call.state.get_page_and_type(mfn, owner, kind)?;
    call.state.set_word(mfn, at & 0xff8, checked);
    call.state.put_page_and_type(mfn);
    Ok(0)
}
