//! events

use kexen_abi::errno::Errno;

use crate::call::{Answer, Call};

/// State.
#[derive(Debug, Default)]
pub(crate) struct EventChannels {}

/// The hypercall.
pub(crate) fn event_channel_op(_call: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
