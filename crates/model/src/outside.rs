//! The outside world: what Xen and other domains do on their own.
//!
//! Each method is one step, or several, that may come between any two of a
//! guest's. What Xen writes is in [`crate::vcpus::time`] and
//! [`crate::events`]; what a daemon in domain 0 does with its end of a port
//! in [`crate::events::toolstack`].

use kexen_abi::event_channel::VIRQ_TIMER;
use kexen_abi::vcpu::{RUNSTATE_RUNNABLE, RUNSTATE_RUNNING};

use crate::state::Who;
use crate::xen::Guest;

/// `SHUTDOWN_watchdog`
const WATCHDOG: u8 = 4;

impl Guest {
    fn who(&self, vcpu: usize) -> Who {
        Who {
            domain: self.index(),
            vcpu,
        }
    }

    /// Xen switches to another domain and back: the vCPU's runstate is
    /// written twice, then its time. In the step between the two halves of
    /// the latter the version is odd.
    ///
    /// # Panics
    /// If the domain has no such vCPU.
    pub fn xen_schedules(&self, vcpu: usize) {
        let who = self.who(vcpu);
        for state in [RUNSTATE_RUNNABLE, RUNSTATE_RUNNING] {
            self.xen().step();
            let mut xen = self.xen().state();
            xen.enter_runstate(who, state);
            xen.write_runstate(who);
        }
        self.xen_tells_time(vcpu);
    }

    /// Xen writes a vCPU's time areas.
    ///
    /// # Panics
    /// If the domain has no such vCPU.
    pub fn xen_tells_time(&self, vcpu: usize) {
        let who = self.who(vcpu);
        self.xen().step();
        let info = self.xen().state().begin_time(who);
        self.xen().step();
        self.xen().state().end_time(who, who, info);
    }

    /// The timer's virtual interrupt arrives.
    pub fn timer_fires(&self, vcpu: usize) {
        self.xen().step();
        self.xen()
            .state()
            .raise_virq(self.index(), vcpu, VIRQ_TIMER);
    }

    /// Time passes: watchdogs that are due end the domain, and the timers of
    /// all vCPUs that are due fire.
    pub fn time_passes(&self, nanoseconds: u64) {
        self.xen().step();
        let mut xen = self.xen().state();
        let before = xen.now();
        xen.time = before.saturating_add(nanoseconds);
        let (now, domain) = (xen.time, self.index());
        let watchdogs = xen.domains[domain].life.watchdogs;
        if watchdogs.iter().flatten().any(|due| *due <= now) {
            xen.shut_down(domain, WATCHDOG);
        }
        for vcpu in 0..xen.domains[domain].vcpus.len() {
            let period = xen.period(domain, vcpu);
            let areas = &mut xen.domains[domain].vcpus[vcpu].areas;
            let once = areas.singleshot.is_some_and(|at| at <= now);
            if once {
                areas.singleshot = None;
            }
            if once || (period > 0 && now / period > before / period) {
                xen.raise_virq(domain, vcpu, VIRQ_TIMER);
            }
        }
    }

    /// A physical interrupt of the guest's arrives.
    pub fn pirq_fires(&self, pirq: u32) {
        self.xen().step();
        self.xen().state().raise_pirq(self.index(), pirq);
    }

    /// The other end of an interdomain port notifies. Whether there is one.
    #[must_use]
    pub fn peer_notifies(&self, port: u32) -> bool {
        self.xen().step();
        let mut xen = self.xen().state();
        let domain = self.index();
        if xen.far_end(domain, port).is_none() {
            return false;
        }
        let told = xen.domains[domain].events.port(port);
        if let Some(vcpu) = told.filter(|c| !c.xen).map(|c| c.vcpu) {
            xen.set_pending(domain, vcpu, port);
        }
        true
    }
}
