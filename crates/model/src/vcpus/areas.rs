//! Areas in the guest's memory that Xen writes.
//!
//! Rules: `map_vcpu_info` (4.17), `map_guest_area` (since 4.18) in
//! `common/domain.c`. An area by frame holds a general and a writable-type
//! reference. `vcpu_info` is registered once and for all; runstate and time
//! areas can be replaced and, with address ~0, given up. An area by linear
//! address holds nothing: Xen writes to whatever is mapped there then.

use kexen_abi::PAGE_SHIFT;
use kexen_abi::errno::Errno;
use kexen_abi::mmu::HYPERVISOR_VIRT_END;
use kexen_abi::shared_info::{EVTCHN_PENDING_SEL, EVTCHN_UPCALL_MASK, VCPU_INFO_BYTES};
use kexen_abi::vcpu::{VcpuRegisterArea, VcpuRegisterVcpuInfo, VcpuRunstateInfo, VcpuTimeInfo};
use zerocopy::IntoBytes;

use crate::call::Call;
use crate::frame::PGT_WRITABLE;
use crate::state::{State, Version, Who};

/// End of the addresses below the hole.
const LOWER_END: u64 = 1 << 47;

/// One of the areas that are registered by frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    VcpuInfo,
    Runstate,
    Time,
}

impl Which {
    fn size(self) -> u64 {
        let size = match self {
            Self::VcpuInfo => return VCPU_INFO_BYTES,
            Self::Runstate => size_of::<VcpuRunstateInfo>(),
            Self::Time => size_of::<VcpuTimeInfo>(),
        };
        u64::try_from(size).unwrap_or(0)
    }
}

impl State {
    /// Where an area is registered.
    pub(crate) fn area(&mut self, target: Who, which: Which) -> &mut Option<(u64, u64)> {
        let areas = &mut self.vcpu(target).areas;
        match which {
            Which::VcpuInfo => &mut areas.vcpu_info,
            Which::Runstate => &mut areas.runstate_phys,
            Which::Time => &mut areas.time_phys,
        }
    }

    /// `unmap_vcpu_info`, `unmap_guest_area`: only Xen itself does it.
    pub(crate) fn unmap_area(&mut self, target: Who, which: Which) {
        if let Some((mfn, _)) = self.area(target, which).take() {
            self.put_page_and_type(mfn);
        }
    }

    /// Both references to a guest's page; `wrong_type` if it has another.
    fn hold_area(&mut self, target: Who, gfn: u64, wrong_type: Errno) -> Result<u64, Errno> {
        let id = self.id(target);
        let mfn = self.frame_of_gfn(target.domain, gfn).ok_or(Errno::EINVAL)?;
        if !self.get_page(mfn, id) {
            return Err(Errno::EINVAL);
        }
        if self.get_page_type(mfn, PGT_WRITABLE).is_err() {
            self.put_page(mfn);
            return Err(wrong_type);
        }
        Ok(mfn)
    }

    /// `map_guest_area`
    fn map_area(
        &mut self,
        target: Who,
        address: u64,
        which: Which,
        own: bool,
    ) -> Result<(), Errno> {
        if address == u64::MAX {
            if which == Which::VcpuInfo {
                return Err(Errno::EINVAL);
            }
            self.unmap_area(target, which);
            return Ok(());
        }
        let gfn = address >> PAGE_SHIFT;
        let last = address.wrapping_add(which.size() - 1);
        if last >> PAGE_SHIFT != gfn || address & 7 != 0 {
            return Err(Errno::ENXIO);
        }
        let mfn = self.hold_area(target, gfn, Errno::EACCES)?;
        let area = (mfn, address & 0xfff);
        match which {
            Which::VcpuInfo => self.use_vcpu_info(target, area),
            Which::Runstate => {
                // Another vCPU's is written when that one is next switched.
                if own {
                    let runstate = self.vcpu(target).areas.runstate;
                    self.write_frame(area, runstate.as_bytes());
                }
            }
            Which::Time => {
                let mut info = self.time_info();
                // Even, and what the version was does not matter.
                info.version = 0;
                self.write_frame(area, info.as_bytes());
            }
        }
        if let Some((old, _)) = self.area(target, which).replace(area) {
            self.put_page_and_type(old);
        }
        if which == Which::VcpuInfo {
            self.mark_all_pending(target);
        }
        Ok(())
    }

    /// Soft reset (`domain_soft_reset`): all areas but that of time by
    /// linear address, which goes with the shared info page.
    pub(crate) fn forget_areas(&mut self, domain: usize) {
        for vcpu in 0..self.domains[domain].vcpus.len() {
            let target = Who { domain, vcpu };
            self.unmap_area(target, Which::VcpuInfo);
            self.unmap_area(target, Which::Runstate);
            self.vcpu(target).areas.runstate_va = 0;
        }
    }

    /// Writes bytes that lie in one page.
    pub(crate) fn write_frame(&mut self, (mfn, offset): (u64, u64), bytes: &[u8]) {
        let at = usize::try_from(offset).unwrap_or(0);
        if let Some(to) = self.bytes_mut(mfn).get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    /// Fills a new `vcpu_info` with what the old one had.
    fn use_vcpu_info(&mut self, target: Who, area: (u64, u64)) {
        let mut bytes = [0; 64];
        match self.vcpu_info(target.domain, target.vcpu) {
            Some((mfn, offset)) => {
                let at = usize::try_from(offset).unwrap_or(0);
                bytes.copy_from_slice(&self.bytes(mfn)[at..at + 64]);
            }
            // Xen's dummy.
            None => bytes[usize::try_from(EVTCHN_UPCALL_MASK).unwrap_or(1)] = 1,
        }
        self.write_frame(area, &bytes);
    }

    /// Events may have been lost: all are looked at again.
    fn mark_all_pending(&mut self, target: Who) {
        if let Some((mfn, offset)) = self.vcpu_info(target.domain, target.vcpu) {
            self.set_word(mfn, offset + EVTCHN_PENDING_SEL, u64::MAX);
            self.mark_events_pending(target.domain, target.vcpu);
        }
    }

    /// `guest_handle_okay`: a PV guest may not name Xen's addresses.
    fn address_okay(&mut self, who: Who, address: u64) -> Result<(), Errno> {
        let translated = self.domain(who).kind.translated();
        if translated || !(LOWER_END..HYPERVISOR_VIRT_END).contains(&address) {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }
}

/// `VCPUOP_register_vcpu_info`
pub(super) fn register_vcpu_info(call: &mut Call<'_, '_, '_>, target: Who) -> Result<(), Errno> {
    let arg: VcpuRegisterVcpuInfo = call.read(2, 0)?;
    let who = call.who;
    let own = target == who;
    let state = &mut *call.state;
    if state.version == Version::Xen4_17 {
        let result = map_vcpu_info(state, target, &arg, own);
        // Whether it worked or not.
        state.update_time(who, target);
        return result;
    }
    let address = (arg.mfn << PAGE_SHIFT).wrapping_add(u64::from(arg.offset));
    if address == u64::MAX || address >> PAGE_SHIFT != arg.mfn {
        return Err(Errno::EINVAL);
    }
    if state.vcpu(target).areas.vcpu_info.is_some() {
        return Err(Errno::EBUSY);
    }
    state.map_area(target, address, Which::VcpuInfo, own)?;
    state.update_time(who, target);
    Ok(())
}

/// `map_vcpu_info`, 4.17
fn map_vcpu_info(
    state: &mut State,
    target: Who,
    arg: &VcpuRegisterVcpuInfo,
    own: bool,
) -> Result<(), Errno> {
    let offset = u64::from(arg.offset);
    if offset > 0x1000 - VCPU_INFO_BYTES || offset & 7 != 0 {
        return Err(Errno::ENXIO);
    }
    let vcpu = state.vcpu(target);
    if vcpu.areas.vcpu_info.is_some() || (!own && vcpu.up) {
        return Err(Errno::EINVAL);
    }
    let mfn = state.hold_area(target, arg.mfn, Errno::EINVAL)?;
    state.use_vcpu_info(target, (mfn, offset));
    state.vcpu(target).areas.vcpu_info = Some((mfn, offset));
    state.mark_all_pending(target);
    Ok(())
}

/// `VCPUOP_register_runstate_phys_area`, `VCPUOP_register_vcpu_time_phys_area`
pub(super) fn by_frame(
    call: &mut Call<'_, '_, '_>,
    target: Who,
    which: Which,
) -> Result<(), Errno> {
    let arg: VcpuRegisterArea = call.read(2, 0)?;
    let own = target == call.who;
    call.state.map_area(target, arg.address, which, own)
}

/// `VCPUOP_register_runstate_memory_area`: Xen writes it once, at once, even
/// when the address is 0, which stops all further writes.
pub(super) fn runstate_by_address(call: &mut Call<'_, '_, '_>, target: Who) -> Result<(), Errno> {
    let arg: VcpuRegisterArea = call.read(2, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    state.address_okay(who, arg.address)?;
    state.vcpu(target).areas.runstate_va = arg.address;
    let info = if target == who {
        state.vcpu(target).areas.runstate
    } else {
        state.runstate(target)
    };
    // Nobody is told whether something is mapped there.
    let _unmapped = state.copy_to_guest(who, arg.address, info.as_bytes());
    Ok(())
}

/// `VCPUOP_register_vcpu_time_memory_area`
pub(super) fn time_by_address(call: &mut Call<'_, '_, '_>, target: Who) -> Result<(), Errno> {
    let arg: VcpuRegisterArea = call.read(2, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    state.address_okay(who, arg.address)?;
    state.vcpu(target).areas.time_va = arg.address;
    state.update_time(who, target);
    Ok(())
}
