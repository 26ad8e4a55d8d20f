//! stub
use crate::call::{Answer, Call};
use kexen_abi::errno::Errno;
pub(crate) fn mmuext_op(_c: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
