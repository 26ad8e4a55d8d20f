//! A domain's life: how it ends and starts again, what it registers.
//!
//! Rules: `domain_shutdown`, `domain_resume` in Xen's `common/domain.c`.
//! Scheduling and shutdown calls are in [`sched`], parameters of HVM and PVH
//! in [`hvm`], a soft reset in [`reset`], callbacks of PV in [`callbacks`],
//! version, features and Xen's console in [`version`].

pub(crate) mod callbacks;
pub(crate) mod hvm;
pub(crate) mod reset;
pub(crate) mod sched;
#[cfg(test)]
mod tests;
pub(crate) mod version;

use std::collections::BTreeMap;

pub(crate) use self::callbacks::upcalls;
pub(crate) use self::hvm::hvm_op;
pub(crate) use self::sched::sched_op;
pub(crate) use self::version::{console_io, xen_version};
use crate::state::State;
use crate::xen::Guest;

/// What a domain has set up, and how it ended.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// Why the domain has stopped, if it has.
    pub(crate) shutdown: Option<u32>,
    /// Why Xen ended it, if it did (`domain_crash`).
    pub(crate) crashed: Option<String>,
    /// Why it would stop, if it did (`SCHEDOP_shutdown_code`).
    code: Option<u8>,
    /// HVM parameters, as they are read back.
    pub(crate) params: BTreeMap<u32, u64>,
    /// HVM: how Xen interrupts vCPUs without a vector of their own.
    pub(crate) via: hvm::Via,
    /// Upcall vectors by vCPU: they can be changed, never unset.
    pub(crate) upcall_vectors: BTreeMap<u32, u8>,
    /// `VMASST_TYPE_*`, a bitmap.
    pub(crate) vm_assist: u64,
    /// When each watchdog ends the domain.
    pub(crate) watchdogs: [Option<u64>; 2],
    /// The domain may use Xen's console.
    pub(crate) console: bool,
}

impl Life {
    /// Whether no vCPU runs any more.
    pub(crate) const fn ended(&self) -> bool {
        self.shutdown.is_some() || self.crashed.is_some()
    }

    /// `is_hvm_pv_evtchn_domain`: whether events come by a vector.
    pub(crate) fn has_vector_callback(&self) -> bool {
        matches!(self.via, hvm::Via::Vector(_)) || self.upcall_vectors.contains_key(&0)
    }
}

impl State {
    /// `domain_shutdown`: the first reason counts.
    pub(crate) fn shut_down(&mut self, domain: usize, reason: u8) {
        let life = &mut self.domains[domain].life;
        let reason = *life.code.get_or_insert(reason);
        life.shutdown.get_or_insert(u32::from(reason));
    }

    /// `domain_resume`
    pub(crate) fn resume(&mut self, domain: usize) {
        let life = &mut self.domains[domain].life;
        life.shutdown = None;
        life.code = None;
    }
}

impl Guest {
    /// Why the domain stopped, if it did.
    #[must_use]
    pub fn shutdown_reason(&self) -> Option<u32> {
        self.xen().state().domains[self.index()].life.shutdown
    }

    /// Why Xen ended the domain, if it did.
    #[must_use]
    pub fn crashed(&self) -> Option<String> {
        self.xen().state().domains[self.index()]
            .life
            .crashed
            .clone()
    }

    /// The toolstack resumes a domain that has shut down, to suspend say.
    pub fn resume(&self) {
        self.xen().state().resume(self.index());
    }

    /// The toolstack sets an HVM parameter.
    pub fn set_param(&self, index: u32, value: u64) {
        let mut state = self.xen().state();
        let life = &mut state.domains[self.index()].life;
        life.params.insert(index, value);
    }

    /// Lets the domain use Xen's console, as a build of Xen with verbose
    /// debugging does, or `console=` in a boot protocol.
    pub fn allow_console(&self) {
        self.xen().state().domains[self.index()].life.console = true;
    }
}
