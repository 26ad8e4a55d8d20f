//! What the parts of Xen still hold, for the check after a hand-off.

use crate::check::Violation;
use crate::state::State;

impl State {
    /// Who but page tables and descriptor tables holds a frame.
    pub(crate) fn other_holders(&self, _domain: usize, _mfn: u64) -> Vec<String> {
        Vec::new()
    }

    /// Areas of vCPUs that are registered.
    pub(crate) fn check_areas(&self, _domain: usize, _found: &mut Vec<Violation>) {}

    /// Ports that are open, but console and store.
    pub(crate) fn check_ports(&self, _domain: usize, _found: &mut Vec<Violation>) {}

    /// Mapped PIRQs, callbacks, shutdown.
    pub(crate) fn check_domain(&self, _domain: usize, _found: &mut Vec<Violation>) {}
}
