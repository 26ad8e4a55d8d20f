//! vcpus

use kexen_abi::errno::Errno;

use crate::call::{Answer, Call};

/// State.
#[derive(Debug, Default)]
pub(crate) struct Areas {
    /// Frame and offset of a registered `vcpu_info`.
    pub(crate) vcpu_info: Option<(u64, u64)>,
}

/// The hypercall.
pub(crate) fn vcpu_op(_call: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
