//! Pending and mask bits of the 2-level interface.
//!
//! Memory shared with the guest: the words in shared info, and the selector
//! and upcall flag in each vCPU's `vcpu_info`.

use kexen_abi::shared_info::{
    EVTCHN_MASK, EVTCHN_PENDING, EVTCHN_PENDING_SEL, EVTCHN_UPCALL_PENDING, VCPU_INFO_BYTES,
};

use crate::state::State;

impl State {
    /// Frame and offset of a vCPU's `vcpu_info`, if it has one.
    pub(crate) fn vcpu_info(&self, domain: usize, vcpu: usize) -> Option<(u64, u64)> {
        let registered = self.domains[domain].vcpus.get(vcpu)?.areas.vcpu_info;
        registered.or_else(|| {
            let number = u64::try_from(vcpu).ok().filter(|number| *number < 32)?;
            Some((self.domains[domain].shared_info, number * VCPU_INFO_BYTES))
        })
    }

    fn bit(&self, domain: usize, words: u64, port: u32) -> bool {
        let at = words + u64::from(port / 64) * 8;
        self.word(self.domains[domain].shared_info, at) >> (port % 64) & 1 == 1
    }

    fn set_bit(&mut self, domain: usize, words: u64, port: u32, on: bool) {
        let at = words + u64::from(port / 64) * 8;
        let frame = self.domains[domain].shared_info;
        let word = self.word(frame, at);
        let bit = 1 << (port % 64);
        self.set_word(frame, at, if on { word | bit } else { word & !bit });
    }

    /// An event arrives at a port.
    pub(crate) fn set_pending(&mut self, domain: usize, vcpu: usize, port: u32) {
        if self.domains[domain].events.fifo.active() {
            self.fifo_pending(domain, port);
            return;
        }
        if self.bit(domain, EVTCHN_PENDING, port) {
            return;
        }
        self.set_bit(domain, EVTCHN_PENDING, port, true);
        if !self.bit(domain, EVTCHN_MASK, port) {
            self.raise(domain, vcpu, port);
        }
    }

    /// Selector bit and upcall flag.
    fn raise(&mut self, domain: usize, vcpu: usize, port: u32) {
        let Some((frame, offset)) = self.vcpu_info(domain, vcpu) else {
            return;
        };
        let selector = self.word(frame, offset + EVTCHN_PENDING_SEL);
        self.set_word(
            frame,
            offset + EVTCHN_PENDING_SEL,
            selector | 1 << (port / 64 % 64),
        );
        let flags = self.word(frame, offset + EVTCHN_UPCALL_PENDING);
        self.set_word(frame, offset + EVTCHN_UPCALL_PENDING, flags | 1);
    }

    /// A port is closed: what was pending is not.
    pub(crate) fn clear_pending(&mut self, domain: usize, port: u32) {
        if port < 4096 {
            self.set_bit(domain, EVTCHN_PENDING, port, false);
        }
    }

    /// `evtchn_unmask`: an event that waited behind the mask is raised.
    pub(crate) fn unmask(&mut self, domain: usize, port: u32) {
        if port >= 4096 || self.domains[domain].events.fifo.active() {
            return;
        }
        let was = self.bit(domain, EVTCHN_MASK, port);
        self.set_bit(domain, EVTCHN_MASK, port, false);
        if was && self.bit(domain, EVTCHN_PENDING, port) {
            let open = self.domains[domain].events.ports.get(&port);
            let vcpu = open.map_or(0, |port| port.vcpu);
            self.raise(domain, vcpu, port);
        }
    }
}
