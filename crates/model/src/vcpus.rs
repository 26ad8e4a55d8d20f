//! vCPUs: initialised, up, down; the areas that Xen writes for them.
//!
//! Rules: `do_vcpu_op` in Xen's `arch/x86/domain.c`, `common_vcpu_op`,
//! `map_vcpu_info` (4.17) and `map_guest_area` (4.18 and later) in
//! `common/domain.c`. A registered `vcpu_info` stays for good; areas by
//! physical address hold a reference and a writable type; areas by virtual
//! address are written under whatever page tables are loaded then.

use kexen_abi::errno::Errno;
use kexen_abi::shared_info::EVTCHN_PENDING_SEL;
use kexen_abi::vcpu::{
    VCPUOP_DOWN, VCPUOP_GET_PHYSID, VCPUOP_GET_RUNSTATE_INFO, VCPUOP_INITIALISE, VCPUOP_IS_UP,
    VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, VCPUOP_REGISTER_RUNSTATE_PHYS_AREA,
    VCPUOP_REGISTER_VCPU_INFO, VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA,
    VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA, VCPUOP_SEND_NMI, VCPUOP_SET_PERIODIC_TIMER,
    VCPUOP_SET_SINGLESHOT_TIMER, VCPUOP_STOP_PERIODIC_TIMER, VCPUOP_STOP_SINGLESHOT_TIMER,
    VCPUOP_UP, VcpuRegisterVcpuInfo, VcpuRunstateInfo,
};
use kexen_abi::{PAGE_SHIFT, sched};

use crate::call::{Answer, Call};
use crate::frame::{PGT_L4, PGT_WRITABLE};
use crate::state::{State, Version, Who};

/// Bytes of `vcpu_info`.
const INFO_BYTES: u64 = 64;
/// Where `cr3` is in a PV `vcpu_guest_context`, in bytes.
const CONTEXT_CR3: u64 = 5008;
/// `STIME_DELTA_MAX` and the shortest period, in nanoseconds.
const PERIOD: std::ops::RangeInclusive<u64> = 1_000_000..=(1 << 62);

/// What Xen writes for a vCPU, beside shared info.
#[derive(Debug, Default)]
pub(crate) struct Areas {
    /// Frame and offset of a registered `vcpu_info`.
    pub(crate) vcpu_info: Option<(u64, u64)>,
    /// Virtual address of the runstate area.
    pub(crate) runstate: Option<u64>,
    /// Virtual address of the time area.
    pub(crate) time: Option<u64>,
    /// The same by frame and offset.
    pub(crate) runstate_page: Option<(u64, u64)>,
    /// The same for the time area.
    pub(crate) time_page: Option<(u64, u64)>,
}

impl Areas {
    /// The areas that hold a frame, with their names.
    pub(crate) fn held(&self) -> impl Iterator<Item = (u64, &'static str)> {
        let info = self.vcpu_info.map(|(mfn, _)| (mfn, "vcpu_info"));
        let runstate = self
            .runstate_page
            .map(|(mfn, _)| (mfn, "the runstate area"));
        let time = self.time_page.map(|(mfn, _)| (mfn, "the time area"));
        [info, runstate, time].into_iter().flatten()
    }
}

/// `HYPERVISOR_vcpu_op`.
pub(crate) fn vcpu_op(call: &mut Call<'_, '_, '_>) -> Answer {
    let domain = call.who.domain;
    let target = usize::try_from(call.word(1)).map_err(|_| Errno::ENOENT)?;
    if target >= call.state.domains[domain].vcpus.len() {
        return Err(Errno::ENOENT);
    }
    let own = target == call.who.vcpu;
    let newer = call.state.version >= Version::Xen4_20;
    match call.value(0) {
        VCPUOP_INITIALISE => initialise(call, target),
        VCPUOP_UP => {
            let vcpu = &mut call.state.domains[domain].vcpus[target];
            if !vcpu.initialised {
                return Err(Errno::EINVAL);
            }
            vcpu.up = true;
            Ok(0)
        }
        VCPUOP_DOWN => {
            let vcpus = &call.state.domains[domain].vcpus;
            let others = vcpus
                .iter()
                .enumerate()
                .any(|(n, vcpu)| n != target && vcpu.up);
            if others {
                call.state.domains[domain].vcpus[target].up = false;
            } else {
                // The last one: the domain powers off.
                call.state.domains[domain].life.shutdown = Some(sched::SHUTDOWN_POWEROFF);
            }
            Ok(0)
        }
        VCPUOP_IS_UP => Ok(u64::from(call.state.domains[domain].vcpus[target].up)),
        VCPUOP_GET_RUNSTATE_INFO => {
            let info = call.state.runstate(domain, target);
            call.write(2, 0, &info)?;
            Ok(0)
        }
        VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => {
            let at: u64 = call.read(2, 0)?;
            let areas = &mut call.state.domains[domain].vcpus[target].areas;
            areas.runstate = (at != 0).then_some(at);
            call.state.write_runstate(domain, target);
            Ok(0)
        }
        VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA => {
            let at: u64 = call.read(2, 0)?;
            let areas = &mut call.state.domains[domain].vcpus[target].areas;
            areas.time = (at != 0).then_some(at);
            call.state.write_time(domain, target);
            Ok(0)
        }
        VCPUOP_SET_PERIODIC_TIMER => {
            let period: u64 = call.read(2, 0)?;
            if PERIOD.contains(&period) {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            }
        }
        VCPUOP_STOP_PERIODIC_TIMER => Ok(0),
        VCPUOP_SET_SINGLESHOT_TIMER if !own => Err(Errno::EINVAL),
        VCPUOP_SET_SINGLESHOT_TIMER => {
            // Time-out in nanoseconds; flag 1: only in the future.
            let arg: [u64; 2] = call.read(2, 0)?;
            let past = arg[1] & 1 != 0 && arg[0] < call.state.time;
            if past { Err(Errno::ETIME) } else { Ok(0) }
        }
        VCPUOP_STOP_SINGLESHOT_TIMER => {
            if own {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            }
        }
        VCPUOP_REGISTER_VCPU_INFO => {
            let arg: VcpuRegisterVcpuInfo = call.read(2, 0)?;
            register_info(call, target, &arg).map(|()| 0)
        }
        VCPUOP_SEND_NMI => {
            if call.is_null(2) {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            }
        }
        VCPUOP_GET_PHYSID => Err(Errno::EINVAL),
        VCPUOP_REGISTER_RUNSTATE_PHYS_AREA if newer => {
            let at: u64 = call.read(2, 0)?;
            let page = call.state.area_page(domain, at, 48)?;
            let areas = &mut call.state.domains[domain].vcpus[target].areas;
            let old = std::mem::replace(&mut areas.runstate_page, page);
            call.state.drop_area(old);
            call.state.write_runstate(domain, target);
            Ok(0)
        }
        VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA if newer => {
            let at: u64 = call.read(2, 0)?;
            let page = call.state.area_page(domain, at, 32)?;
            let areas = &mut call.state.domains[domain].vcpus[target].areas;
            let old = std::mem::replace(&mut areas.time_page, page);
            call.state.drop_area(old);
            call.state.write_time(domain, target);
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn initialise(call: &mut Call<'_, '_, '_>, target: usize) -> Answer {
    let domain = call.who.domain;
    let translated = call.state.domains[domain].kind.translated();
    // The context is read before anything is looked at.
    let mut word = [0; 8];
    call.read_bytes(2, if translated { 0 } else { CONTEXT_CR3 }, &mut word)?;
    if call.state.domains[domain].vcpus[target].initialised {
        return Err(Errno::EEXIST);
    }
    if !translated {
        let id = call.state.domains[domain].id;
        let base = u64::from_le_bytes(word) >> PAGE_SHIFT;
        call.state.get_page_and_type(base, id, PGT_L4)?;
        call.state.domains[domain].vcpus[target].base = Some(base);
    }
    call.state.domains[domain].vcpus[target].initialised = true;
    Ok(0)
}

fn register_info(
    call: &mut Call<'_, '_, '_>,
    target: usize,
    arg: &VcpuRegisterVcpuInfo,
) -> Result<(), Errno> {
    let domain = call.who.domain;
    let own = target == call.who.vcpu;
    let offset = u64::from(arg.offset);
    let newer = call.state.version >= Version::Xen4_20;
    let vcpu = &call.state.domains[domain].vcpus[target];
    let (registered, up) = (vcpu.areas.vcpu_info.is_some(), vcpu.up);
    if newer && registered {
        return Err(Errno::EBUSY);
    }
    if newer && offset >= 1 << PAGE_SHIFT {
        // It would name another page.
        return Err(Errno::EINVAL);
    }
    if offset > (1 << PAGE_SHIFT) - INFO_BYTES || offset & 7 != 0 {
        return Err(Errno::ENXIO);
    }
    if registered || (!newer && !own && up) {
        return Err(Errno::EINVAL);
    }
    let refused = if newer { Errno::EACCES } else { Errno::EINVAL };
    let id = call.state.domains[domain].id;
    let mfn = call
        .state
        .frame_of_gfn(domain, arg.mfn)
        .ok_or(Errno::EINVAL)?;
    if !call.state.get_page(mfn, id) {
        return Err(Errno::EINVAL);
    }
    if call.state.get_page_type(mfn, PGT_WRITABLE).is_err() {
        call.state.put_page(mfn);
        return Err(refused);
    }
    let old = call.state.vcpu_info(domain, target);
    for word in (0..INFO_BYTES).step_by(8) {
        let value = old.map_or(0, |(mfn, at)| call.state.word(mfn, at + word));
        call.state.set_word(mfn, offset + word, value);
    }
    // Nothing shall get lost: everything is marked pending.
    call.state
        .set_word(mfn, offset + EVTCHN_PENDING_SEL, u64::MAX);
    let flags = call.state.word(mfn, offset) | 1;
    call.state.set_word(mfn, offset, flags);
    call.state.domains[domain].vcpus[target].areas.vcpu_info = Some((mfn, offset));
    call.state.write_time(domain, target);
    Ok(())
}

impl State {
    /// A page for an area by physical address: aligned, within one page,
    /// with a reference and a writable type. All ones: no area.
    fn area_page(
        &mut self,
        domain: usize,
        at: u64,
        size: u64,
    ) -> Result<Option<(u64, u64)>, Errno> {
        if at == u64::MAX {
            return Ok(None);
        }
        let crosses = at >> PAGE_SHIFT != at.wrapping_add(size - 1) >> PAGE_SHIFT;
        if crosses || at & 7 != 0 {
            return Err(Errno::ENXIO);
        }
        let id = self.domains[domain].id;
        let mfn = self
            .frame_of_gfn(domain, at >> PAGE_SHIFT)
            .ok_or(Errno::EINVAL)?;
        if !self.get_page(mfn, id) {
            return Err(Errno::EINVAL);
        }
        if self.get_page_type(mfn, PGT_WRITABLE).is_err() {
            self.put_page(mfn);
            return Err(Errno::EACCES);
        }
        Ok(Some((mfn, at & 0xfff)))
    }

    fn drop_area(&mut self, area: Option<(u64, u64)>) {
        if let Some((mfn, _)) = area {
            self.put_page_and_type(mfn);
        }
    }

    pub(crate) fn runstate(&mut self, domain: usize, vcpu: usize) -> VcpuRunstateInfo {
        self.time += 1;
        let running = self.domains[domain].vcpus[vcpu].up;
        VcpuRunstateInfo {
            // Running, or offline.
            state: if running { 0 } else { 3 },
            pad: 0,
            state_entry_time: self.time,
            time: [self.time, 0, 0, 0],
        }
    }

    /// INIT: the vCPU is down, and as if it had never been initialised.
    /// SIPI: it runs again. Translated guests, through the local APIC.
    pub(crate) fn init_sipi(&mut self, domain: usize, vcpu: usize, sipi: bool) {
        if let Some(vcpu) = self.domains[domain].vcpus.get_mut(vcpu) {
            vcpu.up = sipi;
            vcpu.initialised = sipi;
            vcpu.base = None;
            vcpu.tlb.clear();
        }
    }

    /// Soft reset of the areas (`domain_soft_reset`).
    pub(crate) fn forget_areas(&mut self, domain: usize) {
        for vcpu in 0..self.domains[domain].vcpus.len() {
            let areas = std::mem::take(&mut self.domains[domain].vcpus[vcpu].areas);
            for (mfn, _) in areas.held() {
                self.put_page_and_type(mfn);
            }
        }
    }
}

impl crate::xen::Vcpu {
    /// HVM, PVH: sends INIT to another vCPU, and SIPI if `start`.
    pub fn send_init(&self, target: usize, start: bool) {
        self.xen().step();
        let Who { domain, .. } = self.who();
        self.xen().state().init_sipi(domain, target, start);
    }
}
