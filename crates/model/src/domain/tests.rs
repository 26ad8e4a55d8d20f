//! The rules of a domain's life, and of PIRQs, one by one.

use kexen_abi::callback::{
    CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER, CALLBACKTYPE_EVENT, CALLBACKTYPE_NMI,
    CallbackRegister, CallbackUnregister,
};
use kexen_abi::errno::Errno;
use kexen_abi::event_channel as events;
use kexen_abi::features as version;
use kexen_abi::hvm::{
    self, HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN,
    HVM_PARAM_STORE_PFN, HvmEvtchnUpcallVector, HvmParam,
};
use kexen_abi::hypercall::Hypercall;
use kexen_abi::memory::{XENMAPSPACE_SHARED_INFO, XENMEM_ADD_TO_PHYSMAP};
use kexen_abi::physdev::{self, PhysdevGetFreePirq, PhysdevMapPirq, PhysdevPirqEoiGmfn};
use kexen_abi::sched::{
    self, SHUTDOWN_SOFT_RESET, SchedPoll, SchedRemoteShutdown, SchedShutdown, SchedWatchdog,
};
use kexen_abi::vcpu::{self, TrapInfo, VcpuRegisterArea};
use kexen_abi::{DOMID_SELF, PAGE_SIZE, shared_info as si};
use kexen_guest::{Arg, Machine};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::hvm::Via;
use crate::pirqs::Interrupt;
use crate::{Build, Config, Guest, Kind, PvImage, Vcpu, Version, Xen};

fn guest(version: Version, kind: Kind) -> Guest {
    let xen = Xen::new(Config {
        version,
        ..Config::default()
    });
    xen.domain(kind, Build::default())
}

fn call(m: &Vcpu, number: Hypercall, args: &mut [Arg<'_>]) -> Result<u64, Errno> {
    let result = m.hypercall(number, args);
    u64::try_from(result).map_err(|_| Errno(u32::try_from(-result).unwrap()))
}

/// A call of a number and a structure that is read and written.
fn op<T: IntoBytes + FromBytes>(
    m: &Vcpu,
    number: Hypercall,
    command: u64,
    arg: &mut T,
) -> Result<u64, Errno> {
    let arg = Arg::InOut(arg.as_mut_bytes());
    call(m, number, &mut [Arg::Value(command), arg])
}

fn param(m: &Vcpu, command: u64, domid: u16, index: u32, value: u64) -> Result<u64, Errno> {
    let mut arg = HvmParam {
        domid,
        pad: 0,
        index,
        value,
    };
    op(m, Hypercall::HVM_OP, command, &mut arg)?;
    Ok(arg.value)
}

fn get(m: &Vcpu, index: u32) -> Result<u64, Errno> {
    param(m, hvm::HVMOP_GET_PARAM, DOMID_SELF, index, 0)
}

fn set(m: &Vcpu, index: u32, value: u64) -> Result<u64, Errno> {
    param(m, hvm::HVMOP_SET_PARAM, DOMID_SELF, index, value)
}

fn via(guest: &Guest) -> Via {
    guest.xen().state().domains[guest.index()].life.via
}

#[test]
fn the_first_reason_counts() {
    let guest = guest(Version::Xen4_20, Kind::Pv);
    let m = guest.vcpu(0);
    let mut reason = SchedShutdown { reason: 0x102 };
    let sched = Hypercall::SCHED_OP;
    assert_eq!(
        op(&m, sched, sched::SCHEDOP_SHUTDOWN_CODE, &mut reason),
        Ok(0)
    );
    assert_eq!(guest.shutdown_reason(), None);
    reason.reason = sched::SHUTDOWN_REBOOT;
    assert_eq!(op(&m, sched, sched::SCHEDOP_SHUTDOWN, &mut reason), Ok(0));
    assert_eq!(guest.shutdown_reason(), Some(sched::SHUTDOWN_SUSPEND));
    guest.resume();
    assert_eq!(op(&m, sched, sched::SCHEDOP_SHUTDOWN, &mut reason), Ok(0));
    assert_eq!(guest.shutdown_reason(), Some(sched::SHUTDOWN_REBOOT));
}

#[test]
fn a_poll_looks_until_a_port_is_pending() {
    let guest = guest(Version::Xen4_20, Kind::Pvh);
    let m = guest.vcpu(0);
    let poll = |ports, nr_ports| {
        let mut arg = SchedPoll {
            ports,
            nr_ports,
            pad: 0,
            timeout: 0,
        };
        op(&m, Hypercall::SCHED_OP, sched::SCHEDOP_POLL, &mut arg)
    };
    assert_eq!(poll(0, 129), Err(Errno::EINVAL));
    assert_eq!(poll(1 << 40, u32::MAX), Err(Errno::EINVAL));
    assert_eq!(poll(1 << 40, 1), Err(Errno::EFAULT));
    assert_eq!(poll(1 << 40, 0), Ok(0));
    m.write(0x5000, [1_u32, 64].as_bytes()).unwrap();
    assert_eq!(poll(0x5000, 1), Ok(0));
    assert_eq!(poll(0x5000, 2), Err(Errno::EINVAL));
    // The first is pending: the second is not looked at.
    assert!(guest.peer_binds(1, 7));
    assert!(guest.peer_notifies(1));
    assert_eq!(poll(0x5000, 2), Ok(0));
}

#[test]
fn a_pv_poll_returns_for_an_event_that_is_due() {
    let xen = Xen::default();
    let guest = xen.pv_guest(Build::default(), PvImage::default());
    let m = guest.vcpu(0);
    let mut arg = SchedPoll {
        ports: 0x10,
        nr_ports: 1,
        pad: 0,
        timeout: 0,
    };
    let poll = sched::SCHEDOP_POLL;
    assert_eq!(
        op(&m, Hypercall::SCHED_OP, poll, &mut arg),
        Err(Errno::EFAULT)
    );
    // A block enables upcalls; one is due then, and the ports do not matter.
    let shared_info = xen.state().domains[guest.index()].shared_info;
    xen.state().set_word(shared_info, 0, 0x0101);
    let block = [Arg::Value(sched::SCHEDOP_BLOCK), Arg::Value(0)];
    assert_eq!(call(&m, Hypercall::SCHED_OP, &mut { block }), Ok(0));
    assert_eq!(xen.state().word(shared_info, 0), 1);
    assert_eq!(op(&m, Hypercall::SCHED_OP, poll, &mut arg), Ok(0));
    arg.ports = 1 << 47;
    assert_eq!(
        op(&m, Hypercall::SCHED_OP, poll, &mut arg),
        Err(Errno::EFAULT)
    );
}

#[test]
fn watchdogs_outlive_whoever_set_them() {
    let guest = guest(Version::Xen4_20, Kind::Pvh);
    let m = guest.vcpu(0);
    let watchdog = |id, timeout| {
        let mut arg = SchedWatchdog { id, timeout };
        op(&m, Hypercall::SCHED_OP, sched::SCHEDOP_WATCHDOG, &mut arg)
    };
    assert_eq!(watchdog(1, 5), Err(Errno::EINVAL));
    assert_eq!(watchdog(0, u32::MAX), Ok(1));
    assert_eq!(watchdog(0, 3), Ok(2));
    assert_eq!(watchdog(0, 3), Err(Errno::ENOSPC));
    assert_eq!(watchdog(3, 3), Err(Errno::EINVAL));
    assert_eq!(watchdog(u32::MAX, 3), Err(Errno::EINVAL));
    assert_eq!(watchdog(1, 0), Ok(0));
    assert_eq!(watchdog(1, 0), Err(Errno::EINVAL));
    guest.time_passes(2_000_000_000);
    assert_eq!(watchdog(2, 3), Ok(0));
    guest.time_passes(2_000_000_000);
    assert_eq!(guest.shutdown_reason(), None);
    guest.time_passes(2_000_000_000);
    assert_eq!(guest.shutdown_reason(), Some(sched::SHUTDOWN_WATCHDOG));
}

#[test]
fn other_domains_are_not_shut_down() {
    let m = guest(Version::Xen4_20, Kind::Pvh).vcpu(0);
    let remote = |domain_id| {
        let mut arg = SchedRemoteShutdown {
            domain_id,
            pad: 0,
            reason: 0,
        };
        op(
            &m,
            Hypercall::SCHED_OP,
            sched::SCHEDOP_REMOTE_SHUTDOWN,
            &mut arg,
        )
    };
    assert_eq!(remote(1), Err(Errno::EPERM));
    assert_eq!(remote(0), Err(Errno::EPERM));
    assert_eq!(remote(9), Err(Errno::ESRCH));
    assert_eq!(remote(DOMID_SELF), Err(Errno::ESRCH));
}

#[test]
fn parameters() {
    for version in [Version::Xen4_17, Version::Xen4_20] {
        let guest = guest(version, Kind::Pvh);
        let m = guest.vcpu(0);
        guest.set_param(HVM_PARAM_STORE_PFN, 0xfefff);
        assert_eq!(get(&m, HVM_PARAM_STORE_PFN), Ok(0xfefff));
        assert_eq!(set(&m, HVM_PARAM_STORE_PFN, 1), Err(Errno::EPERM));
        assert_eq!(set(&m, HVM_PARAM_STORE_EVTCHN, 9), Ok(9));
        assert_eq!(get(&m, HVM_PARAM_STORE_EVTCHN), Ok(9));
        for bad in [39, u32::MAX] {
            assert_eq!(get(&m, bad), Err(Errno::EINVAL));
            assert_eq!(set(&m, bad, 0), Err(Errno::EINVAL));
        }
        for deprecated in [4, 13, 20, 26, 30] {
            assert_eq!(get(&m, deprecated), Err(Errno::EINVAL));
            assert_eq!(set(&m, deprecated, 0), Err(Errno::EINVAL));
        }
        for private in [5, 6, 10, 12, 31, 32, 38] {
            assert_eq!(get(&m, private), Err(Errno::EPERM));
            assert_eq!(set(&m, private, 0), Err(Errno::EPERM));
        }
        let altp2m = match version {
            Version::Xen4_17 => Errno::EPERM,
            Version::Xen4_20 => Errno::EEXIST,
        };
        assert_eq!((get(&m, 35), set(&m, 35, 1)), (Ok(0), Err(altp2m)));
        assert_eq!(get(&m, 36), Ok(8));
        assert_eq!(
            (set(&m, 36, 5), set(&m, 36, 4)),
            (Err(Errno::EINVAL), Ok(4))
        );
        assert_eq!(set(&m, 19, 1), Err(Errno::ENODEV));
        assert_eq!((set(&m, 15, 0x1000), get(&m, 15)), (Ok(0x1000), Ok(0x1000)));
        assert_eq!(get(&m, 37), Ok(128 << 32 | 0x1000));
        let of = |domid| param(&m, hvm::HVMOP_GET_PARAM, domid, 1, 0);
        assert_eq!(
            (of(1), of(0), of(9)),
            (Ok(0xfefff), Err(Errno::EINVAL), Err(Errno::ESRCH))
        );
        // A task state that cannot be ends the domain.
        assert_eq!(set(&m, 37, 0x1000), Err(Errno::EINVAL));
        assert!(guest.crashed().is_some());
    }
    let m = guest(Version::Xen4_20, Kind::Pv).vcpu(0);
    assert_eq!(get(&m, HVM_PARAM_STORE_PFN), Err(Errno::EINVAL));
}

#[test]
fn a_callback_is_unset_by_hvm_alone() {
    let vector = 2 << 56 | 0xf3;
    for kind in [Kind::Pvh, Kind::Hvm] {
        let guest = guest(Version::Xen4_20, kind);
        let m = guest.vcpu(0);
        assert_eq!(set(&m, HVM_PARAM_CALLBACK_IRQ, vector), Ok(vector));
        assert_eq!(via(&guest), Via::Vector(0xf3));
        for (value, then) in [
            (0, Via::None),
            (7, Via::Gsi(7)),
            (48, Via::None),
            (1 << 56 | 3 << 11 | 1, Via::PciIntx(3, 1)),
            (3 << 56, Via::None),
            (0xff << 56, Via::None),
        ] {
            // The parameter is written in any case.
            assert_eq!(set(&m, HVM_PARAM_CALLBACK_IRQ, value), Ok(value));
            assert_eq!(get(&m, HVM_PARAM_CALLBACK_IRQ), Ok(value));
            let expected = match kind {
                Kind::Hvm => then,
                _ => Via::Vector(0xf3),
            };
            assert_eq!(via(&guest), expected);
        }
    }
}

#[test]
fn an_upcall_vector_is_not_unset() {
    let guest = guest(Version::Xen4_20, Kind::Pvh);
    let m = guest.vcpu(0);
    let upcall = |vcpu, vector| {
        let mut arg = HvmEvtchnUpcallVector {
            vcpu,
            vector,
            pad: [0; 3],
        };
        let number = hvm::HVMOP_SET_EVTCHN_UPCALL_VECTOR;
        op(&m, Hypercall::HVM_OP, number, &mut arg)
    };
    assert_eq!(upcall(0, 0xf), Err(Errno::EINVAL));
    assert_eq!(upcall(9, 0), Err(Errno::EINVAL));
    assert_eq!(upcall(9, 0x20), Err(Errno::ENOENT));
    assert_eq!(upcall(0, 0x20), Ok(0));
    assert_eq!(upcall(0, 0), Err(Errno::EINVAL));
    let kept = guest.xen().state().domains[guest.index()]
        .life
        .upcall_vectors[&0];
    assert_eq!(kept, 0x20);
}

#[test]
fn features() {
    let bits = |guest: &Guest, submap_idx| {
        let mut arg = version::XenFeatureInfo {
            submap_idx,
            submap: 0,
        };
        let number = version::XENVER_GET_FEATURES;
        op(&guest.vcpu(0), Hypercall::XEN_VERSION, number, &mut arg).map(|_| arg.submap)
    };
    let since_4_18 = 7 << 18;
    let pv = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 13 | 1 << 17;
    let hvm = 1 | 1 << 2 | 1 << 8 | 1 << 9 | 1 << 13 | 1 << 16;
    let pirqs = 1 << 10;
    for (kind, old, new) in [
        (Kind::Pv, pv, pv | since_4_18),
        (Kind::Pvh, hvm, hvm | since_4_18),
        (Kind::Hvm, hvm | pirqs, hvm | since_4_18),
    ] {
        assert_eq!(bits(&guest(Version::Xen4_17, kind), 0), Ok(old));
        let newer = guest(Version::Xen4_20, kind);
        assert_eq!(bits(&newer, 0), Ok(new));
        for none in [1, u32::MAX] {
            assert_eq!(bits(&newer, none), Err(Errno::EINVAL));
        }
        newer.set_hvm_pirqs(true);
        let on = if kind == Kind::Hvm { pirqs } else { 0 };
        assert_eq!(bits(&newer, 0), Ok(new | on));
    }
}

#[test]
fn versions_and_texts() {
    let m = guest(Version::Xen4_17, Kind::Pvh).vcpu(0);
    let newer = guest(Version::Xen4_20, Kind::Pvh).vcpu(0);
    let plain = |m: &Vcpu, number| {
        let args = &mut [Arg::Value(number), Arg::Value(0)];
        call(m, Hypercall::XEN_VERSION, args)
    };
    assert_eq!(plain(&m, version::XENVER_VERSION), Ok(4 << 16 | 17));
    assert_eq!(plain(&m, version::XENVER_PAGESIZE), Ok(4096));
    assert_eq!(plain(&m, version::XENVER_EXTRAVERSION2), Err(Errno::ENOSYS));
    assert_eq!(plain(&newer, version::XENVER_EXTRAVERSION2), Ok(2));
    assert_eq!(
        plain(&newer, version::XENVER_COMMANDLINE2),
        Err(Errno::EPERM)
    );
    assert_eq!(plain(&m, version::XENVER_BUILD_ID), Err(Errno::EPERM));
    assert_eq!(plain(&m, 99), Err(Errno::ENOSYS));
    let mut room = [1_u32, 0];
    let number = version::XENVER_EXTRAVERSION2;
    let result = op(&newer, Hypercall::XEN_VERSION, number, &mut room);
    assert_eq!(result, Err(Errno::ENOBUFS));
    let mut text = [0xff_u8; 1024];
    let number = version::XENVER_COMMANDLINE;
    assert_eq!(op(&m, Hypercall::XEN_VERSION, number, &mut text), Ok(0));
    assert!(text.starts_with(b"<denied>\0\xff"));
}

#[test]
fn xens_console_is_not_for_a_domu() {
    let guest = guest(Version::Xen4_20, Kind::Pvh);
    let m = guest.vcpu(0);
    let write = |count| {
        let args = &mut [Arg::Value(0), Arg::Value(count), Arg::Value(0x5000)];
        call(&m, Hypercall::CONSOLE_IO, args)
    };
    assert_eq!(write(2), Err(Errno::EPERM));
    guest.allow_console();
    m.write(0x5000, b"hi\n").unwrap();
    assert_eq!((write(3), write(u64::MAX)), (Ok(0), Ok(0)));
    assert_eq!(guest.xen().take_log()[0], "(d1) hi");
}

#[test]
fn where_a_pv_guest_is_entered() {
    let xen = Xen::default();
    let guest = xen.pv_guest(Build::default(), PvImage::default());
    let m = guest.vcpu(0);
    let set = || {
        let mut state = xen.state();
        state.vcpu(m.who()).areas.callbacks.set()
    };
    let callbacks = Hypercall::SET_CALLBACKS;
    // What is no address is left out, and nobody is told.
    let args = &mut [Arg::Value(0x1000), Arg::Value(1 << 60), Arg::Value(0x3000)];
    assert_eq!(call(&m, callbacks, args), Ok(0));
    let expected = ["event callback at 0x1000", "syscall callback at 0x3000"];
    assert_eq!(set(), expected);
    let register = |kind, address| {
        let mut arg = CallbackRegister {
            kind,
            address,
            ..CallbackRegister::default()
        };
        op(&m, Hypercall::CALLBACK_OP, CALLBACKOP_REGISTER, &mut arg)
    };
    let unregister = |kind| {
        let mut arg = CallbackUnregister { kind, unused: 0 };
        op(&m, Hypercall::CALLBACK_OP, CALLBACKOP_UNREGISTER, &mut arg)
    };
    assert_eq!(register(3, 1), Err(Errno::ENOSYS));
    assert_eq!(register(99, 1 << 60), Err(Errno::EINVAL));
    assert_eq!(register(CALLBACKTYPE_NMI, 0x4000), Ok(0));
    assert_eq!(unregister(CALLBACKTYPE_EVENT), Err(Errno::EINVAL));
    assert_eq!(unregister(CALLBACKTYPE_NMI), Ok(0));
    assert_eq!(unregister(3), Err(Errno::ENOSYS));
    assert_eq!(register(CALLBACKTYPE_EVENT, 0), Ok(0));
    assert_eq!(set(), ["syscall callback at 0x3000"]);
    let trap = |vector, address| TrapInfo {
        vector,
        address,
        ..TrapInfo::default()
    };
    let table = |traps: &[TrapInfo]| {
        let args = &mut [Arg::In(traps.as_bytes())];
        call(&m, Hypercall::SET_TRAP_TABLE, args)
    };
    assert_eq!(table(&[trap(1, 1), trap(2, 1 << 60)]), Err(Errno::EINVAL));
    assert_eq!(table(&[trap(3, 1), trap(14, 1)]), Err(Errno::EFAULT));
    assert_eq!(table(&[trap(255, 1), trap(0, 0)]), Ok(0));
    assert_eq!(set()[1], "trap table of 4 entries");
    assert_eq!(
        call(&m, Hypercall::SET_TRAP_TABLE, &mut [Arg::Value(0)]),
        Ok(0)
    );
    assert_eq!(set().len(), 1);
}

#[test]
fn assists_and_timers() {
    let xen = Xen::default();
    let pv = xen.pv_guest(Build::default(), PvImage::default()).vcpu(0);
    let pvh = guest(Version::Xen4_20, Kind::Pvh).vcpu(0);
    let assist = |m: &Vcpu, command, kind| {
        let args = &mut [Arg::Value(command), Arg::Value(kind)];
        call(m, Hypercall::VM_ASSIST, args)
    };
    assert_eq!(
        (assist(&pv, 0, 32), assist(&pvh, 0, 32)),
        (Ok(0), Err(Errno::EINVAL))
    );
    assert_eq!((assist(&pv, 0, 3), assist(&pvh, 0, 5)), (Ok(0), Ok(0)));
    assert_eq!(assist(&pv, 0, 64), Err(Errno::EINVAL));
    assert_eq!(assist(&pv, 2, 6), Err(Errno::EINVAL));
    assert_eq!(assist(&pv, 2, 5), Err(Errno::ENOSYS));
    for time in [0, 1, 1 << 62, u64::MAX] {
        let args = &mut [Arg::Value(time)];
        assert_eq!(call(&pv, Hypercall::SET_TIMER_OP, args), Ok(0));
    }
}

#[test]
fn a_soft_reset_keeps_grants_vcpus_and_memory() {
    let guest = guest(Version::Xen4_20, Kind::Hvm);
    assert_eq!(guest.attach_ioreq_server(), 3);
    let m = guest.vcpu(0);
    let mut map = kexen_abi::memory::AddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space: XENMAPSPACE_SHARED_INFO,
        idx: 0,
        gpfn: 0xf0000,
    };
    let memory = Hypercall::MEMORY_OP;
    assert_eq!(op(&m, memory, XENMEM_ADD_TO_PHYSMAP, &mut map), Ok(0));
    let mut area = VcpuRegisterArea { address: 0x5000 };
    let register = |number, area: &mut VcpuRegisterArea| {
        let arg = Arg::InOut(area.as_mut_bytes());
        let args = &mut [Arg::Value(number), Arg::Value(0), arg];
        call(&m, Hypercall::VCPU_OP, args)
    };
    let runstate = vcpu::VCPUOP_REGISTER_RUNSTATE_PHYS_AREA;
    let time = vcpu::VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA;
    assert_eq!(register(runstate, &mut area), Ok(0));
    assert_eq!(register(time, &mut area), Ok(0));
    assert_eq!(
        set(&m, HVM_PARAM_CALLBACK_IRQ, 2 << 56 | 0xf3),
        Ok(2 << 56 | 0xf3)
    );
    assert!(guest.soft_reset().is_err());
    let mut reason = SchedShutdown {
        reason: SHUTDOWN_SOFT_RESET,
    };
    let shutdown = sched::SCHEDOP_SHUTDOWN;
    assert_eq!(op(&m, Hypercall::SCHED_OP, shutdown, &mut reason), Ok(0));
    assert_eq!(guest.soft_reset(), Ok(()));
    // Its own pages are the domain's again, and there is no hole.
    let mut state = guest.xen().state();
    let shared_info = state.domains[guest.index()].shared_info;
    let fresh = state.frame_of_gfn(guest.index(), 0xf0000);
    assert!(fresh.is_some_and(|mfn| mfn != shared_info));
    let page = state.frame_of_gfn(guest.index(), 5).unwrap();
    assert_eq!(state.at(page).refs, 1);
    drop(state);
    assert_eq!(get(&m, HVM_PARAM_STORE_EVTCHN), Ok(1));
    assert_eq!(get(&m, HVM_PARAM_CONSOLE_EVTCHN), Ok(2));
    assert_eq!(via(&guest), Via::Vector(0xf3));
    m.write(PAGE_SIZE, b"still there").unwrap();
}

#[test]
fn a_soft_reset_is_for_hvm_alone() {
    for kind in [Kind::Pv, Kind::Pvh] {
        let guest = guest(Version::Xen4_20, kind);
        let mut reason = SchedShutdown {
            reason: SHUTDOWN_SOFT_RESET,
        };
        let shutdown = sched::SCHEDOP_SHUTDOWN;
        let m = guest.vcpu(0);
        assert_eq!(op(&m, Hypercall::SCHED_OP, shutdown, &mut reason), Ok(0));
        assert!(guest.soft_reset().unwrap_err().contains("libxl"));
    }
}

#[test]
fn pirqs_by_kind_and_release() {
    let free = |guest: &Guest| {
        let mut arg = PhysdevGetFreePirq {
            kind: physdev::MAP_PIRQ_TYPE_MSI,
            pirq: 0,
        };
        let number = physdev::PHYSDEVOP_GET_FREE_PIRQ;
        let m = guest.vcpu(0);
        op(&m, Hypercall::PHYSDEV_OP, number, &mut arg).map(|_| arg.pirq)
    };
    let (old, new) = (Version::Xen4_17, Version::Xen4_20);
    assert_eq!(free(&guest(old, Kind::Hvm)), Ok(55));
    assert_eq!(free(&guest(new, Kind::Hvm)), Err(Errno::ENOSYS));
    assert_eq!(free(&guest(old, Kind::Pvh)), Err(Errno::ENOSYS));
    let pv = guest(old, Kind::Pv);
    for expected in (24..56).rev() {
        assert_eq!(free(&pv), Ok(expected));
    }
    assert_eq!(free(&pv), Err(Errno::ENOSPC));
}

fn map(m: &Vcpu, domid: u16, index: i32, pirq: i32) -> Result<i32, Errno> {
    let mut arg = PhysdevMapPirq::new_zeroed();
    (arg.domid, arg.kind) = (domid, physdev::MAP_PIRQ_TYPE_GSI);
    (arg.index, arg.pirq) = (index, pirq);
    op(
        m,
        Hypercall::PHYSDEV_OP,
        physdev::PHYSDEVOP_MAP_PIRQ,
        &mut arg,
    )?;
    Ok(arg.pirq)
}

fn bind(m: &Vcpu, pirq: u32) -> Result<u32, Errno> {
    let mut arg = events::EvtchnBindPirq {
        pirq,
        ..events::EvtchnBindPirq::default()
    };
    let number = events::EVTCHNOP_BIND_PIRQ;
    op(m, Hypercall::EVENT_CHANNEL_OP, number, &mut arg)?;
    Ok(arg.port)
}

#[test]
fn emulated_lines_as_event_channels() {
    let guest = guest(Version::Xen4_17, Kind::Hvm);
    let m = guest.vcpu(0);
    assert_eq!(map(&m, DOMID_SELF, 4, -1), Err(Errno::EINVAL));
    set(&m, HVM_PARAM_CALLBACK_IRQ, 2 << 56 | 0xf3).unwrap();
    for bad in [-1, 48, i32::MAX, i32::MIN] {
        assert_eq!(map(&m, DOMID_SELF, bad, -1), Err(Errno::EINVAL));
    }
    assert_eq!(map(&m, DOMID_SELF, 4, 56), Err(Errno::EINVAL));
    assert_eq!(map(&m, 1, 4, -1), Err(Errno::EPERM));
    assert_eq!(map(&m, 0, 4, -1), Err(Errno::EPERM));
    assert_eq!(map(&m, 9, 4, -1), Err(Errno::ESRCH));
    assert_eq!(map(&m, DOMID_SELF, 4, -1), Ok(16));
    // Mapped already: no error, and no change.
    assert_eq!(map(&m, DOMID_SELF, 4, 17), Ok(17));
    assert_eq!(guest.gsi_fires(4), Interrupt::Lost);
    assert_eq!(guest.gsi_fires(5), Interrupt::IoApic);
    assert_eq!(bind(&m, 56), Err(Errno::EINVAL));
    assert_eq!(bind(&m, 16), Ok(3));
    assert_eq!(bind(&m, 16), Err(Errno::EEXIST));
    assert_eq!(guest.gsi_fires(4), Interrupt::Port(3));
    let state = guest.xen().state();
    let shared_info = state.domains[guest.index()].shared_info;
    assert_eq!(state.word(shared_info, si::EVTCHN_PENDING), 1 << 3);
}

#[test]
fn a_pvh_guest_binds_numbers_that_mean_nothing() {
    let guest = guest(Version::Xen4_20, Kind::Pvh);
    assert_eq!(bind(&guest.vcpu(0), 5), Ok(3));
    let pv = guest_with_device();
    let m = pv.vcpu(0);
    assert_eq!(bind(&m, 6), Err(Errno::EPERM));
    assert_eq!(bind(&m, 20), Ok(3));
    pv.pirq_fires(20);
    let state = pv.xen().state();
    let shared_info = state.domains[pv.index()].shared_info;
    assert_eq!(state.word(shared_info, si::EVTCHN_PENDING), 1 << 3);
}

fn guest_with_device() -> Guest {
    let pv = guest(Version::Xen4_20, Kind::Pv);
    pv.assign_device(20);
    pv
}

#[test]
fn the_bitmap_of_pirqs_is_for_good() {
    let guest = guest(Version::Xen4_20, Kind::Pv);
    let m = guest.vcpu(0);
    let mfn = {
        let mut state = guest.xen().state();
        let shared_info = state.domains[guest.index()].shared_info;
        (1..).find(|mfn| *mfn != shared_info && state.at(*mfn).owner == Some(1))
    };
    let register = |gmfn| {
        let mut arg = PhysdevPirqEoiGmfn { gmfn };
        let number = physdev::PHYSDEVOP_PIRQ_EOI_GMFN_V2;
        op(&m, Hypercall::PHYSDEV_OP, number, &mut arg)
    };
    assert_eq!(register(u64::MAX), Err(Errno::EINVAL));
    assert_eq!(register(mfn.unwrap()), Ok(0));
    assert_eq!(register(mfn.unwrap()), Err(Errno::EBUSY));
    assert_eq!(guest.xen().state().at(mfn.unwrap()).refs, 2);
}
