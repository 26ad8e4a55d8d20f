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

/// The frame of the grant table of that index.
pub(crate) fn grant_frame(
    _state: &mut crate::state::State,
    _domain: usize,
    _idx: u64,
) -> Result<u64, Errno> {
    Err(Errno::ENOSYS)
}
