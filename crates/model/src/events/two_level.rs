//! The 2-level interface: pending and mask bits in the shared info page, a
//! selector and a flag in the `vcpu_info`.
//!
//! Rules: `common/event_2l.c`; `vcpu_mark_events_pending` in
//! `arch/x86/domain.c`. Memory shared with the guest: the shared info page,
//! and the page of a registered `vcpu_info`.

use kexen_abi::shared_info::{
    EVTCHN_2L_PORTS, EVTCHN_MASK, EVTCHN_PENDING, EVTCHN_PENDING_SEL, EVTCHN_UPCALL_PENDING,
    LEGACY_MAX_VCPUS, VCPU_INFO_BYTES,
};

use crate::state::State;

/// Ports of one word.
const WORD: u32 = 64;

impl State {
    /// Sets or clears a bit of a bitmap in a page; what it was.
    pub(crate) fn change_bit(&mut self, mfn: u64, base: u64, bit: u32, on: bool) -> bool {
        let at = base + u64::from(bit / WORD) * 8;
        let mask = 1_u64 << (bit % WORD);
        let old = self.word(mfn, at);
        let new = if on { old | mask } else { old & !mask };
        if new != old {
            self.set_word(mfn, at, new);
        }
        old & mask != 0
    }

    fn bit(&self, mfn: u64, base: u64, bit: u32) -> bool {
        let word = self.word(mfn, base + u64::from(bit / WORD) * 8);
        word & (1 << (bit % WORD)) != 0
    }

    /// Frame and offset of a vCPU's `vcpu_info`; a vCPU without one has
    /// Xen's dummy, which no guest sees.
    pub(crate) fn vcpu_info(&self, domain: usize, vcpu: usize) -> Option<(u64, u64)> {
        let owner = &self.domains[domain];
        let areas = &owner.vcpus.get(vcpu)?.areas;
        if let Some(area) = areas.vcpu_info {
            return Some(area);
        }
        let number = u64::try_from(vcpu).ok()?;
        (number < LEGACY_MAX_VCPUS).then_some((owner.shared_info, number * VCPU_INFO_BYTES))
    }

    /// `vcpu_mark_events_pending`: sets the flag that makes an upcall due.
    pub(crate) fn mark_events_pending(&mut self, domain: usize, vcpu: usize) {
        if let Some((mfn, offset)) = self.vcpu_info(domain, vcpu) {
            self.change_bit(mfn, offset + EVTCHN_UPCALL_PENDING, 0, true);
        }
    }

    /// Sets the selector bit of a port, and the flag if it was clear.
    fn select(&mut self, domain: usize, vcpu: usize, port: u32) {
        if let Some((mfn, offset)) = self.vcpu_info(domain, vcpu)
            && !self.change_bit(mfn, offset + EVTCHN_PENDING_SEL, port / WORD, true)
        {
            self.mark_events_pending(domain, vcpu);
        }
    }

    pub(super) fn two_level_set_pending(&mut self, domain: usize, vcpu: usize, port: u32) {
        let shared_info = self.domains[domain].shared_info;
        if self.change_bit(shared_info, EVTCHN_PENDING, port, true) {
            return;
        }
        if !self.bit(shared_info, EVTCHN_MASK, port) {
            self.select(domain, vcpu, port);
        }
    }

    pub(super) fn two_level_clear_pending(&mut self, domain: usize, port: u32) {
        let shared_info = self.domains[domain].shared_info;
        self.change_bit(shared_info, EVTCHN_PENDING, port, false);
    }

    pub(super) fn two_level_unmask(&mut self, domain: usize, port: u32) {
        let shared_info = self.domains[domain].shared_info;
        let Some(vcpu) = self.domains[domain].events.port(port).map(|c| c.vcpu) else {
            return;
        };
        if self.change_bit(shared_info, EVTCHN_MASK, port, false)
            && self.bit(shared_info, EVTCHN_PENDING, port)
        {
            self.select(domain, vcpu, port);
        }
    }

    /// Whether the pending bit is set.
    pub(super) fn two_level_is_pending(&self, domain: usize, port: u32) -> bool {
        let shared_info = self.domains[domain].shared_info;
        port < EVTCHN_2L_PORTS && self.bit(shared_info, EVTCHN_PENDING, port)
    }
}
