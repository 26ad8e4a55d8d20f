//! stub
use crate::call::{Answer, Call};
use crate::frame::DomId;
use crate::state::{State, Who};
use kexen_abi::errno::Errno;
impl State {
    pub(crate) fn update_l1(
        &mut self,
        _who: Who,
        _table: u64,
        _offset: u64,
        _value: u64,
        _keep: bool,
        _of: DomId,
    ) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
}
pub(crate) fn mmu_update(_c: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
pub(crate) fn update_va_mapping(_c: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
