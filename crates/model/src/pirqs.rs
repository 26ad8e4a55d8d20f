//! pirqs

use kexen_abi::errno::Errno;

use crate::call::{Answer, Call};

/// State.
#[derive(Debug, Default)]
pub(crate) struct Pirqs {}

/// The hypercall.
pub(crate) fn physdev_op(_call: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
