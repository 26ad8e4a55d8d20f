//! vCPU operations: start, stop, timers, areas that Xen writes.
//!
//! Rules: `do_vcpu_op` in `arch/x86/domain.c`, `common_vcpu_op` in
//! `common/domain.c`. Areas are in [`areas`], what Xen writes into them in
//! [`time`], how a vCPU is started in [`start`].

pub(crate) mod areas;
pub(crate) mod start;
#[cfg(test)]
mod tests;
pub(crate) mod time;

use kexen_abi::errno::Errno;
use kexen_abi::event_channel::VIRQ_TIMER;
use kexen_abi::vcpu::{
    self as abi, SINGLESHOT_FUTURE, VcpuRunstateInfo, VcpuSetPeriodicTimer, VcpuSetSingleshotTimer,
};

use crate::call::{Answer, Call};
use crate::domain::callbacks::Callbacks;
use crate::state::{Kind, State, Version, Who};

/// The shortest period of a timer.
const MILLISECOND: u64 = 1_000_000;
/// `STIME_DELTA_MAX`
const LONGEST: u64 = u64::MAX >> 2;
/// `SHUTDOWN_poweroff`
const POWEROFF: u8 = 0;

/// What belongs to a vCPU beside its registers.
#[derive(Debug, Default)]
pub(crate) struct Areas {
    /// Frame and offset of a registered `vcpu_info`.
    pub(crate) vcpu_info: Option<(u64, u64)>,
    /// Frame and offset of a runstate area by physical address.
    pub(crate) runstate_phys: Option<(u64, u64)>,
    /// Frame and offset of a time area by physical address.
    pub(crate) time_phys: Option<(u64, u64)>,
    /// Linear address of a runstate area; 0 for none.
    pub(crate) runstate_va: u64,
    /// Linear address of a time area; 0 for none.
    pub(crate) time_va: u64,
    /// What Xen knows of the vCPU's time.
    pub(crate) runstate: VcpuRunstateInfo,
    /// Period of the timer, where the guest has set one; 0 for none.
    pub(crate) period: Option<u64>,
    /// System time at which the one-shot timer fires.
    pub(crate) singleshot: Option<u64>,
    /// An NMI waits.
    pub(crate) nmi_pending: bool,
    /// PV: where the guest is entered.
    pub(crate) callbacks: Callbacks,
}

impl Areas {
    /// Frames that are held, and for what.
    pub(crate) fn held(&self) -> impl Iterator<Item = (u64, &'static str)> {
        let areas = [
            (self.vcpu_info, "vcpu_info"),
            (self.runstate_phys, "the runstate area"),
            (self.time_phys, "the time area"),
        ];
        let held = areas.into_iter();
        held.filter_map(|(area, what)| area.map(|(mfn, _)| (mfn, what)))
    }
}

/// A vCPU that an operation is about.
pub(crate) fn named(call: &Call<'_, '_, '_>, number: u32) -> Result<Who, Errno> {
    let domain = call.who.domain;
    let vcpu = usize::try_from(number).map_err(|_| Errno::ENOENT)?;
    if vcpu < call.state.domains[domain].vcpus.len() {
        Ok(Who { domain, vcpu })
    } else {
        Err(Errno::ENOENT)
    }
}

/// `HYPERVISOR_vcpu_op`
pub(crate) fn vcpu_op(call: &mut Call<'_, '_, '_>) -> Answer {
    let target = named(call, call.word(1))?;
    let own = target == call.who;
    match call.value(0) & 0xffff_ffff {
        abi::VCPUOP_INITIALISE => start::initialise(call, target)?,
        abi::VCPUOP_UP => up(call, target)?,
        abi::VCPUOP_DOWN => call.state.vcpu_down(target),
        abi::VCPUOP_IS_UP => return Ok(u64::from(call.state.vcpu(target).up)),
        abi::VCPUOP_GET_RUNSTATE_INFO => {
            let info = call.state.runstate(target);
            call.write(2, 0, &info)?;
        }
        abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => areas::runstate_by_address(call, target)?,
        abi::VCPUOP_SET_PERIODIC_TIMER => {
            let arg: VcpuSetPeriodicTimer = call.read(2, 0)?;
            if !(MILLISECOND..=LONGEST).contains(&arg.period_ns) {
                return Err(Errno::EINVAL);
            }
            call.state.vcpu(target).areas.period = Some(arg.period_ns);
        }
        abi::VCPUOP_STOP_PERIODIC_TIMER => call.state.vcpu(target).areas.period = Some(0),
        abi::VCPUOP_SET_SINGLESHOT_TIMER | abi::VCPUOP_STOP_SINGLESHOT_TIMER if !own => {
            return Err(Errno::EINVAL);
        }
        abi::VCPUOP_SET_SINGLESHOT_TIMER => singleshot(call)?,
        abi::VCPUOP_STOP_SINGLESHOT_TIMER => call.state.vcpu(target).areas.singleshot = None,
        abi::VCPUOP_REGISTER_VCPU_INFO => areas::register_vcpu_info(call, target)?,
        abi::VCPUOP_SEND_NMI => {
            if !call.is_null(2) {
                return Err(Errno::EINVAL);
            }
            call.state.vcpu(target).areas.nmi_pending = true;
        }
        // Only for a hardware domain whose vCPUs are pinned.
        abi::VCPUOP_GET_PHYSID => return Err(Errno::EINVAL),
        abi::VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA => areas::time_by_address(call, target)?,
        abi::VCPUOP_REGISTER_RUNSTATE_PHYS_AREA | abi::VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA
            if call.state.version == Version::Xen4_17 =>
        {
            return Err(Errno::ENOSYS);
        }
        abi::VCPUOP_REGISTER_RUNSTATE_PHYS_AREA => {
            areas::by_frame(call, target, areas::Which::Runstate)?;
        }
        abi::VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA => {
            areas::by_frame(call, target, areas::Which::Time)?;
        }
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

fn up(call: &mut Call<'_, '_, '_>, target: Who) -> Result<(), Errno> {
    let vcpu = call.state.vcpu(target);
    if !vcpu.initialised {
        return Err(Errno::EINVAL);
    }
    vcpu.up = true;
    Ok(())
}

/// `VCPUOP_set_singleshot_timer`. Up to 4.17 a time that has passed is an
/// error if the guest said so; later the event comes at once, always.
fn singleshot(call: &mut Call<'_, '_, '_>) -> Result<(), Errno> {
    let arg: VcpuSetSingleshotTimer = call.read(2, 0)?;
    let who = call.who;
    let passed = arg.timeout_abs_ns < call.state.now();
    match call.state.version {
        Version::Xen4_17 if passed && arg.flags & SINGLESHOT_FUTURE != 0 => {
            return Err(Errno::ETIME);
        }
        Version::Xen4_20 if passed => {
            call.state.vcpu(who).areas.singleshot = None;
            call.state.raise_virq(who.domain, who.vcpu, VIRQ_TIMER);
        }
        _ => call.state.vcpu(who).areas.singleshot = Some(arg.timeout_abs_ns),
    }
    Ok(())
}

impl State {
    /// `VCPUOP_down`: the last one to go down shuts the domain down. What
    /// the vCPU was initialised with stays, and so do its areas.
    pub(crate) fn vcpu_down(&mut self, target: Who) {
        let mut vcpus = self.domain(target).vcpus.iter().enumerate();
        if vcpus.any(|(n, vcpu)| n != target.vcpu && vcpu.up) {
            self.vcpu(target).up = false;
        } else {
            self.shut_down(target.domain, POWEROFF);
        }
    }

    /// The period of a vCPU's timer: 10 ms for PV until the guest says else.
    pub(crate) fn period(&self, domain: usize, vcpu: usize) -> u64 {
        let owner = &self.domains[domain];
        let default = match owner.kind {
            Kind::Pv => 10 * MILLISECOND,
            Kind::Pvh | Kind::Hvm => 0,
        };
        let areas = owner.vcpus.get(vcpu).map(|vcpu| &vcpu.areas);
        areas.and_then(|areas| areas.period).unwrap_or(default)
    }
}
