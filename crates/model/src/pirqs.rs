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

impl crate::state::State {
    pub(crate) fn unbind_pirq(&mut self, _domain: usize, _pirq: u32) {}
    pub(crate) fn can_bind_pirq(&self, _domain: usize, _pirq: u32) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
    pub(crate) fn pirq_bound(&mut self, _domain: usize, _pirq: u32, _port: u32) {}
}
