//! Scheduling, shutdown, watchdogs.
//!
//! Rules: `do_sched_op`, `do_poll`, `domain_watchdog` in Xen's
//! `common/sched/core.c`. No vCPU ever waits here: what would block returns
//! at once, as if the time were over.

use kexen_abi::errno::Errno;
use kexen_abi::mmu::HYPERVISOR_VIRT_END;
use kexen_abi::sched::{
    SCHEDOP_BLOCK, SCHEDOP_PIN_OVERRIDE, SCHEDOP_POLL, SCHEDOP_REMOTE_SHUTDOWN, SCHEDOP_SHUTDOWN,
    SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG, SCHEDOP_YIELD, SchedPoll, SchedRemoteShutdown,
    SchedShutdown, SchedWatchdog,
};
use kexen_abi::shared_info::{EVTCHN_UPCALL_MASK, EVTCHN_UPCALL_PENDING};

use crate::call::{Answer, Call};
use crate::state::{State, Who};

/// Ports that one poll may name.
const POLL_PORTS: u32 = 128;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// `HYPERVISOR_sched_op`.
pub(crate) fn sched_op(call: &mut Call<'_, '_, '_>) -> Answer {
    let domain = call.who.domain;
    match call.value(0) & 0xffff_ffff {
        SCHEDOP_YIELD => {}
        // Enables upcalls, for whoever looks at the mask.
        SCHEDOP_BLOCK => call.state.set_upcall_mask(call.who, 0),
        SCHEDOP_SHUTDOWN => {
            let arg: SchedShutdown = call.read(1, 0)?;
            // Eight bits of it count.
            let [reason, ..] = arg.reason.to_le_bytes();
            call.state.shut_down(domain, reason);
        }
        SCHEDOP_SHUTDOWN_CODE => {
            let arg: SchedShutdown = call.read(1, 0)?;
            let [reason, ..] = arg.reason.to_le_bytes();
            call.state.domains[domain].life.code.get_or_insert(reason);
        }
        SCHEDOP_POLL => poll(call)?,
        SCHEDOP_REMOTE_SHUTDOWN => remote_shutdown(call)?,
        SCHEDOP_WATCHDOG => return watchdog(call),
        // For the hardware domain.
        SCHEDOP_PIN_OVERRIDE => return Err(Errno::EPERM),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

impl State {
    fn set_upcall_mask(&mut self, who: Who, mask: u8) {
        if let Some((mfn, offset)) = self.vcpu_info(who.domain, who.vcpu) {
            self.write_frame((mfn, offset + EVTCHN_UPCALL_MASK), &[mask]);
        }
    }

    /// `local_events_need_delivery`. Whether an HVM or PVH vCPU takes
    /// interrupts is not known here: it counts as one that does not.
    fn events_need_delivery(&mut self, who: Who) -> bool {
        if self.domain(who).kind.translated() {
            return false;
        }
        let Some((mfn, offset)) = self.vcpu_info(who.domain, who.vcpu) else {
            return false;
        };
        let bytes = self.word(mfn, offset).to_le_bytes();
        let byte = |at| usize::try_from(at).ok().and_then(|at| bytes.get(at));
        byte(EVTCHN_UPCALL_PENDING).is_some_and(|pending| *pending != 0)
            && byte(EVTCHN_UPCALL_MASK).is_some_and(|mask| *mask == 0)
    }
}

/// `do_poll`: ports are looked at until one is pending.
fn poll(call: &mut Call<'_, '_, '_>) -> Result<(), Errno> {
    let arg: SchedPoll = call.read(1, 0)?;
    let who = call.who;
    if arg.nr_ports > POLL_PORTS {
        return Err(Errno::EINVAL);
    }
    let state = &mut *call.state;
    let xens = (1 << 47..HYPERVISOR_VIRT_END).contains(&arg.ports);
    if xens && !state.domain(who).kind.translated() {
        return Err(Errno::EFAULT);
    }
    if state.events_need_delivery(who) {
        return Ok(());
    }
    for n in 0..u64::from(arg.nr_ports) {
        let mut port = [0; 4];
        state.copy_from_guest(who, arg.ports.wrapping_add(n * 4), &mut port)?;
        let port = u32::from_le_bytes(port);
        if state.domain(who).events.port(port).is_none() {
            return Err(Errno::EINVAL);
        }
        if state.is_pending(who.domain, port) {
            return Ok(());
        }
    }
    Ok(())
}

fn remote_shutdown(call: &mut Call<'_, '_, '_>) -> Result<(), Errno> {
    let arg: SchedRemoteShutdown = call.read(1, 0)?;
    let target = call.state.index_of(arg.domain_id);
    // Domain 0 is always there; a domU may not even shut itself down so.
    if target.is_none() && arg.domain_id != 0 {
        return Err(Errno::ESRCH);
    }
    if call.state.id(call.who) != 0 {
        return Err(Errno::EPERM);
    }
    if let Some(target) = target {
        let [reason, ..] = arg.reason.to_le_bytes();
        call.state.shut_down(target, reason);
    }
    Ok(())
}

fn watchdog(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: SchedWatchdog = call.read(1, 0)?;
    let due = call.state.now() + u64::from(arg.timeout) * SECOND;
    let watchdogs = &mut call.state.domains[call.who.domain].life.watchdogs;
    let Some(index) = arg.id.checked_sub(1) else {
        let free = watchdogs.iter().position(Option::is_none);
        let free = free.ok_or(Errno::ENOSPC)?;
        watchdogs[free] = Some(due);
        return Ok(u64::try_from(free).unwrap_or(0) + 1);
    };
    let index = usize::try_from(index).map_err(|_| Errno::EINVAL)?;
    match watchdogs.get_mut(index) {
        Some(Some(timer)) if arg.timeout > 0 => *timer = due,
        Some(timer @ Some(_)) => *timer = None,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
