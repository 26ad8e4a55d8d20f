//! A domain's life: shutdown, parameters, version, console.

use kexen_abi::errno::Errno;
use kexen_abi::hypercall::Hypercall;

use crate::call::{Answer, Call};

/// State.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// Why the domain has stopped, if it has.
    pub(crate) shutdown: Option<u32>,
    /// Why Xen ended it, if it did (`domain_crash`).
    pub(crate) crashed: Option<String>,
}

impl Life {
    /// Whether no vCPU runs any more.
    pub(crate) const fn ended(&self) -> bool {
        self.shutdown.is_some() || self.crashed.is_some()
    }
}

pub(crate) fn sched_op(_call: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
pub(crate) fn hvm_op(_call: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
pub(crate) fn xen_version(_call: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
pub(crate) fn console_io(_call: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
pub(crate) fn upcalls(_call: &mut Call<'_, '_, '_>, _number: Hypercall) -> Answer {
    Err(Errno::ENOSYS)
}
