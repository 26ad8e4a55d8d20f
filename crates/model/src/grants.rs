//! grants

use kexen_abi::errno::Errno;

use crate::call::{Answer, Call};

/// State.
#[derive(Debug, Default)]
pub(crate) struct GrantTable {}

/// The hypercall.
pub(crate) fn grant_table_op(_call: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
