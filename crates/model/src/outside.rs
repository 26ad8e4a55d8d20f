//! The outside world: what Xen and other domains do on their own.
//!
//! Each method is one step that may come between any two of a guest's. What
//! Xen writes, by its source: time in every `vcpu_info` (`arch/x86/time.c`,
//! a version that is odd meanwhile), runstate and time areas at each switch
//! (`update_runstate_area` in `common/domain.c`), pending bits.

use kexen_abi::event_channel::VIRQ_TIMER;
use zerocopy::IntoBytes as _;

use crate::state::{State, Who};
use crate::xen::Guest;

/// Offset of `vcpu_time_info` in `vcpu_info`, and its words' meaning:
/// version, timestamp, system time, scale.
const TIME: u64 = 32;

impl State {
    /// The time of a vCPU: in its `vcpu_info`, and its time areas.
    pub(crate) fn write_time(&mut self, domain: usize, vcpu: usize) {
        self.time += 1000;
        let now = self.time;
        let mut words = [0_u64; 4];
        if let Some((mfn, at)) = self.vcpu_info(domain, vcpu) {
            let version = self.word(mfn, at + TIME) & 0xffff_fffe;
            words = [version + 2, now, now, 1 << 31];
            for (n, word) in (0_u64..).zip(words) {
                self.set_word(mfn, at + TIME + n * 8, word);
            }
        }
        let areas = &self.domains[domain].vcpus[vcpu].areas;
        let (page, address) = (areas.time_page, areas.time);
        if let Some((mfn, at)) = page {
            for (n, word) in (0_u64..).zip(words) {
                self.set_word(mfn, at + n * 8, word);
            }
        }
        if let Some(address) = address {
            // Under the tables that are loaded now; unmapped: not at all.
            let _ = self.copy_to_guest(Who { domain, vcpu }, address, words.as_bytes());
        }
    }

    /// The runstate of a vCPU, in its areas.
    pub(crate) fn write_runstate(&mut self, domain: usize, vcpu: usize) {
        let areas = &self.domains[domain].vcpus[vcpu].areas;
        let (page, address) = (areas.runstate_page, areas.runstate);
        if page.is_none() && address.is_none() {
            return;
        }
        let info = self.runstate(domain, vcpu);
        if let Some((mfn, at)) = page {
            for (n, word) in (0_u64..).zip(info.as_bytes().chunks_exact(8)) {
                let mut eight = [0; 8];
                eight.copy_from_slice(word);
                self.set_word(mfn, at + n * 8, u64::from_le_bytes(eight));
            }
        }
        if let Some(address) = address {
            let _ = self.copy_to_guest(Who { domain, vcpu }, address, info.as_bytes());
        }
    }
}

impl Guest {
    /// Xen schedules a vCPU: its time and runstate are written.
    pub fn xen_schedules(&self, vcpu: usize) {
        self.xen().step();
        let mut state = self.xen().state();
        state.write_time(self.index(), vcpu);
        state.write_runstate(self.index(), vcpu);
    }

    /// The timer's virtual interrupt arrives.
    pub fn timer_fires(&self, vcpu: usize) {
        self.xen().step();
        self.xen()
            .state()
            .raise_virq(self.index(), vcpu, VIRQ_TIMER);
    }

    /// A physical interrupt of the guest's arrives.
    pub fn pirq_fires(&self, pirq: u32) {
        self.xen().step();
        self.xen().state().raise_pirq(self.index(), pirq);
    }
}
