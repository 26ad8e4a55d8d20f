//! The rules of event channels, one by one.

use kexen_abi::errno::Errno;
use kexen_abi::event_channel::{
    self as abi, EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindIpi, EvtchnBindVcpu,
    EvtchnBindVirq, EvtchnExpandArray, EvtchnInitControl, EvtchnPort, EvtchnReset,
    EvtchnSetPriority, EvtchnStatus,
};
use kexen_abi::hypercall::Hypercall;
use kexen_abi::{DOMID_SELF, shared_info as si};
use kexen_guest::{Arg, Machine};
use zerocopy::IntoBytes;

use crate::frame::{PGT_COUNT_MASK, PGT_WRITABLE};
use crate::{Build, Config, Guest, Kind, Vcpu, Version, Xen};

/// A domain without a port.
fn bare(xen: &Xen, id: u16, kind: Kind) -> Guest {
    let build = Build {
        id,
        vcpus: 2,
        ..Build::default()
    };
    let guest = xen.domain(kind, build);
    xen.state().reset_events(guest.index());
    guest
}

fn guest(kind: Kind) -> Guest {
    bare(&Xen::default(), 1, kind)
}

/// The call, with a structure that is read and written.
fn op<T: IntoBytes + zerocopy::FromBytes>(m: &Vcpu, op: u64, arg: &mut T) -> Result<(), Errno> {
    let result = m.hypercall(
        Hypercall::EVENT_CHANNEL_OP,
        &mut [Arg::Value(op), Arg::InOut(arg.as_mut_bytes())],
    );
    match result {
        0 => Ok(()),
        error => Err(Errno(u32::try_from(-error).unwrap())),
    }
}

fn unbound(m: &Vcpu, remote_dom: u16) -> Result<u32, Errno> {
    let mut arg = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom,
        port: 0,
    };
    op(m, abi::EVTCHNOP_ALLOC_UNBOUND, &mut arg)?;
    Ok(arg.port)
}

fn interdomain(m: &Vcpu, remote_dom: u16, remote_port: u32) -> Result<u32, Errno> {
    let mut arg = EvtchnBindInterdomain {
        remote_dom,
        remote_port,
        ..EvtchnBindInterdomain::default()
    };
    op(m, abi::EVTCHNOP_BIND_INTERDOMAIN, &mut arg)?;
    Ok(arg.local_port)
}

fn virq(m: &Vcpu, virq: u32, vcpu: u32) -> Result<u32, Errno> {
    let mut arg = EvtchnBindVirq {
        virq,
        vcpu,
        port: 0,
    };
    op(m, abi::EVTCHNOP_BIND_VIRQ, &mut arg)?;
    Ok(arg.port)
}

fn ipi(m: &Vcpu, vcpu: u32) -> Result<u32, Errno> {
    let mut arg = EvtchnBindIpi { vcpu, port: 0 };
    op(m, abi::EVTCHNOP_BIND_IPI, &mut arg)?;
    Ok(arg.port)
}

fn port(m: &Vcpu, number: u64, port: u32) -> Result<(), Errno> {
    op(m, number, &mut EvtchnPort { port })
}

fn status_of(m: &Vcpu, dom: u16, port: u32) -> Result<EvtchnStatus, Errno> {
    let mut arg = EvtchnStatus {
        dom,
        port,
        ..EvtchnStatus::default()
    };
    op(m, abi::EVTCHNOP_STATUS, &mut arg)?;
    Ok(arg)
}

fn status(m: &Vcpu, port: u32) -> EvtchnStatus {
    status_of(m, DOMID_SELF, port).unwrap()
}

fn bind_vcpu(m: &Vcpu, port: u32, vcpu: u32) -> Result<(), Errno> {
    op(
        m,
        abi::EVTCHNOP_BIND_VCPU,
        &mut EvtchnBindVcpu { port, vcpu },
    )
}

fn reset(m: &Vcpu, dom: u16) -> Result<(), Errno> {
    op(m, abi::EVTCHNOP_RESET, &mut EvtchnReset { dom })
}

/// A word of the shared info page.
fn shared(guest: &Guest, offset: u64) -> u64 {
    let state = guest.xen().state();
    state.word(state.domains[guest.index()].shared_info, offset)
}

fn set_shared(guest: &Guest, offset: u64, value: u64) {
    let mut state = guest.xen().state();
    let mfn = state.domains[guest.index()].shared_info;
    state.set_word(mfn, offset, value);
}

#[test]
fn the_toolstacks_ports_come_first() {
    let guest = Xen::default().domain(Kind::Pvh, Build::default());
    assert_eq!(guest.store_and_console(), (1, 2));
    let m = guest.vcpu(0);
    assert_eq!(status(&m, 1).status, abi::EVTCHNSTAT_UNBOUND);
    assert!(guest.peer_binds(1, 40));
    let bound = status(&m, 1);
    assert_eq!(bound.status, abi::EVTCHNSTAT_INTERDOMAIN);
    assert_eq!((bound.first, bound.second), (0, 40));
    port(&m, abi::EVTCHNOP_SEND, 1).unwrap();
    assert_eq!(guest.sent(1), 1);
    assert_eq!(unbound(&m, 0), Ok(3));
    assert!(guest.peer_closes(1));
    assert!(!guest.peer_closes(1));
    assert_eq!(status(&m, 1).status, abi::EVTCHNSTAT_UNBOUND);
}

#[test]
fn ports_are_the_lowest_free_ones() {
    let guest = guest(Kind::Pv);
    let m = guest.vcpu(0);
    assert_eq!((1..6).map(|_| unbound(&m, 0).unwrap()).max(), Some(5));
    port(&m, abi::EVTCHNOP_CLOSE, 3).unwrap();
    port(&m, abi::EVTCHNOP_CLOSE, 2).unwrap();
    assert_eq!(ipi(&m, 0), Ok(2));
    assert_eq!(virq(&m, abi::VIRQ_TIMER, 0), Ok(3));
    assert_eq!(unbound(&m, 0), Ok(6));
}

#[test]
fn the_table_is_as_large_as_the_toolstack_says() {
    let guest = guest(Kind::Pv);
    let m = guest.vcpu(0);
    for expected in 1..=1023 {
        assert_eq!(unbound(&m, 0), Ok(expected));
    }
    assert_eq!(unbound(&m, 0), Err(Errno::ENOSPC));
    guest.set_max_port(u32::MAX);
    for expected in 1024..4096 {
        assert_eq!(unbound(&m, 0), Ok(expected));
    }
    // The interface has no more, whatever the toolstack says.
    assert_eq!(unbound(&m, 0), Err(Errno::ENOSPC));
    assert_eq!(interdomain(&m, DOMID_SELF, 1), Err(Errno::ENOSPC));
}

#[test]
fn ports_that_are_not_valid_differ_from_closed_ones() {
    let m = guest(Kind::Pv).vcpu(0);
    assert_eq!(status(&m, 0).status, abi::EVTCHNSTAT_CLOSED);
    assert_eq!(status(&m, 63).status, abi::EVTCHNSTAT_CLOSED);
    for bad in [64, 4096, u32::MAX] {
        assert_eq!(status_of(&m, DOMID_SELF, bad).err(), Some(Errno::EINVAL));
        assert_eq!(port(&m, abi::EVTCHNOP_SEND, bad), Err(Errno::EINVAL));
        assert_eq!(port(&m, abi::EVTCHNOP_CLOSE, bad), Err(Errno::EINVAL));
        assert_eq!(port(&m, abi::EVTCHNOP_UNMASK, bad), Err(Errno::EINVAL));
        assert_eq!(bind_vcpu(&m, bad, 0), Err(Errno::EINVAL));
        assert_eq!(interdomain(&m, DOMID_SELF, bad), Err(Errno::EINVAL));
    }
    for closed in [0, 5] {
        assert_eq!(port(&m, abi::EVTCHNOP_SEND, closed), Err(Errno::EINVAL));
        assert_eq!(port(&m, abi::EVTCHNOP_CLOSE, closed), Err(Errno::EINVAL));
        assert_eq!(port(&m, abi::EVTCHNOP_UNMASK, closed), Ok(()));
    }
}

#[test]
fn which_domain() {
    let xen = Xen::default();
    let guest = bare(&xen, 1, Kind::Pv);
    let other = bare(&xen, 7, Kind::Pv);
    let m = guest.vcpu(0);
    let at = |dom| {
        let mut arg = EvtchnAllocUnbound {
            dom,
            ..EvtchnAllocUnbound::default()
        };
        op(&m, abi::EVTCHNOP_ALLOC_UNBOUND, &mut arg)
    };
    assert_eq!(at(1), Ok(()));
    assert_eq!(at(7), Err(Errno::EPERM));
    assert_eq!(at(0), Err(Errno::EPERM));
    assert_eq!(at(9), Err(Errno::ESRCH));
    assert_eq!(status_of(&m, 1, 1).unwrap().status, 1);
    assert_eq!(status_of(&m, 7, 0).err(), Some(Errno::EPERM));
    assert_eq!(status_of(&m, 7, 64).err(), Some(Errno::EINVAL));
    assert_eq!(status_of(&m, 9, 0).err(), Some(Errno::ESRCH));
    assert_eq!(reset(&m, 7), Err(Errno::EPERM));
    assert_eq!(reset(&m, 9), Err(Errno::ESRCH));
    assert_eq!(interdomain(&m, 9, 1), Err(Errno::ESRCH));
    assert_eq!(interdomain(&m, 0, 1), Err(Errno::EINVAL));
    // A full table hides the missing privilege.
    other.set_max_port(0);
    assert_eq!(at(7), Err(Errno::ENOSPC));
}

#[test]
fn the_peer_of_a_closed_port_waits_again() {
    let xen = Xen::default();
    let one = bare(&xen, 1, Kind::Pvh);
    let two = bare(&xen, 2, Kind::Pvh);
    let far = unbound(&two.vcpu(0), 1).unwrap();
    let near = interdomain(&one.vcpu(0), 2, far).unwrap();
    assert_eq!(interdomain(&one.vcpu(0), 2, far), Err(Errno::EINVAL));
    // Binding makes the local port pending, and the send the far one.
    assert_eq!(shared(&one, si::EVTCHN_PENDING), 1 << near);
    assert_eq!(shared(&two, si::EVTCHN_PENDING), 0);
    port(&one.vcpu(0), abi::EVTCHNOP_SEND, near).unwrap();
    assert_eq!(shared(&two, si::EVTCHN_PENDING), 1 << far);
    port(&one.vcpu(0), abi::EVTCHNOP_CLOSE, near).unwrap();
    assert_eq!(shared(&one, si::EVTCHN_PENDING), 0);
    let left = status(&two.vcpu(0), far);
    assert_eq!((left.status, left.first), (abi::EVTCHNSTAT_UNBOUND, 1));
    assert_eq!(interdomain(&one.vcpu(0), 2, far), Ok(near));
}

#[test]
fn a_port_may_be_bound_to_another_of_the_same_domain() {
    let guest = guest(Kind::Pv);
    let m = guest.vcpu(0);
    let first = unbound(&m, DOMID_SELF).unwrap();
    let second = interdomain(&m, DOMID_SELF, first).unwrap();
    port(&m, abi::EVTCHNOP_SEND, second).unwrap();
    assert_eq!(shared(&guest, si::EVTCHN_PENDING) >> first & 1, 1);
    port(&m, abi::EVTCHNOP_CLOSE, first).unwrap();
    assert_eq!(status(&m, second).status, abi::EVTCHNSTAT_UNBOUND);
    port(&m, abi::EVTCHNOP_SEND, second).unwrap();
}

#[test]
fn virtual_interrupts() {
    let m = guest(Kind::Pv).vcpu(0);
    assert_eq!(virq(&m, abi::NR_VIRQS, 0), Err(Errno::EINVAL));
    assert_eq!(virq(&m, u32::MAX, 0), Err(Errno::EINVAL));
    assert_eq!(virq(&m, abi::VIRQ_CONSOLE, 1), Err(Errno::EINVAL));
    assert_eq!(virq(&m, abi::VIRQ_TIMER, 2), Err(Errno::ENOENT));
    assert_eq!(virq(&m, abi::VIRQ_TIMER, 1), Ok(1));
    assert_eq!(virq(&m, abi::VIRQ_TIMER, 1), Err(Errno::EEXIST));
    assert_eq!(virq(&m, abi::VIRQ_TIMER, 0), Ok(2));
    assert_eq!(virq(&m, abi::VIRQ_CONSOLE, 0), Ok(3));
    assert_eq!((status(&m, 1).first, status(&m, 1).vcpu), (0, 1));
    // A global one can be moved; one of a vCPU's cannot.
    assert_eq!(bind_vcpu(&m, 3, 1), Ok(()));
    assert_eq!(bind_vcpu(&m, 1, 0), Err(Errno::EINVAL));
    assert_eq!(bind_vcpu(&m, 9, 2), Err(Errno::ENOENT));
    port(&m, abi::EVTCHNOP_CLOSE, 3).unwrap();
    assert_eq!(virq(&m, abi::VIRQ_CONSOLE, 0), Ok(3));
}

#[test]
fn bits_of_an_event() {
    let guest = guest(Kind::Pv);
    let m = guest.vcpu(0);
    for _ in 0..70 {
        unbound(&m, 0).unwrap();
    }
    let local = ipi(&m, 1).unwrap();
    assert_eq!(local, 71);
    let second = si::VCPU_INFO_BYTES;
    set_shared(&guest, si::EVTCHN_MASK + 8, 1 << 7);
    port(&m, abi::EVTCHNOP_SEND, local).unwrap();
    assert_eq!(shared(&guest, si::EVTCHN_PENDING + 8), 1 << 7);
    assert_eq!(shared(&guest, second + si::EVTCHN_PENDING_SEL), 0);
    port(&m, abi::EVTCHNOP_UNMASK, local).unwrap();
    assert_eq!(shared(&guest, si::EVTCHN_MASK + 8), 0);
    assert_eq!(shared(&guest, second + si::EVTCHN_PENDING_SEL), 2);
    assert_eq!(shared(&guest, second) & 0xff, 1);
    assert_eq!(shared(&guest, 0) & 0xff, 0);
    // Pending already: the selector stays as the guest left it.
    set_shared(&guest, second + si::EVTCHN_PENDING_SEL, 0);
    port(&m, abi::EVTCHNOP_SEND, local).unwrap();
    assert_eq!(shared(&guest, second + si::EVTCHN_PENDING_SEL), 0);
    // Closing clears the pending bit, and leaves the mask.
    set_shared(&guest, si::EVTCHN_MASK + 8, 1 << 7);
    port(&m, abi::EVTCHNOP_CLOSE, local).unwrap();
    assert_eq!(shared(&guest, si::EVTCHN_PENDING + 8), 0);
    assert_eq!(shared(&guest, si::EVTCHN_MASK + 8), 1 << 7);
}

#[test]
fn a_reset_closes_console_and_store_but_not_xens() {
    for version in [Version::Xen4_17, Version::Xen4_20] {
        let xen = Xen::new(Config {
            version,
            ..Config::default()
        });
        let guest = xen.domain(Kind::Hvm, Build::default());
        assert_eq!(guest.attach_ioreq_server(), 3);
        let m = guest.vcpu(0);
        assert_eq!(unbound(&m, 0), Ok(5));
        assert_eq!(port(&m, abi::EVTCHNOP_CLOSE, 3), Err(Errno::EINVAL));
        assert_eq!(port(&m, abi::EVTCHNOP_SEND, 3), Err(Errno::EINVAL));
        assert_eq!(bind_vcpu(&m, 3, 0), Err(Errno::EINVAL));
        let seen = status_of(&m, DOMID_SELF, 3);
        if version == Version::Xen4_17 {
            assert_eq!(seen.err(), Some(Errno::EACCES));
        } else {
            assert_eq!(seen.unwrap().status, abi::EVTCHNSTAT_UNBOUND);
        }
        reset(&m, DOMID_SELF).unwrap();
        assert_eq!(unbound(&m, 0), Ok(1));
        assert_eq!(unbound(&m, 0), Ok(2));
        assert_eq!(unbound(&m, 0), Ok(5));
    }
}

fn init_control(m: &Vcpu, vcpu: u32, gfn: u64, offset: u32) -> Result<u8, Errno> {
    let mut arg = EvtchnInitControl {
        control_gfn: gfn,
        offset,
        vcpu,
        ..EvtchnInitControl::default()
    };
    op(m, abi::EVTCHNOP_INIT_CONTROL, &mut arg)?;
    Ok(arg.link_bits)
}

fn expand(m: &Vcpu, array_gfn: u64) -> Result<(), Errno> {
    op(
        m,
        abi::EVTCHNOP_EXPAND_ARRAY,
        &mut EvtchnExpandArray { array_gfn },
    )
}

/// References and uses as a writable page of a page of a PVH guest.
fn held(guest: &Guest, gfn: u64) -> (u32, u64) {
    let mut state = guest.xen().state();
    let mfn = state.frame_of_gfn(guest.index(), gfn).unwrap();
    let frame = state.at(mfn);
    let uses = if frame.kind() == PGT_WRITABLE {
        frame.type_info & PGT_COUNT_MASK
    } else {
        0
    };
    (frame.refs, uses)
}

#[test]
fn fifo_pages_are_held_until_a_reset() {
    let guest = guest(Kind::Pvh);
    let m = guest.vcpu(0);
    assert_eq!(expand(&m, 11), Err(Errno::EOPNOTSUPP));
    assert_eq!(init_control(&m, 2, 10, 0), Err(Errno::ENOENT));
    assert_eq!(init_control(&m, 0, 10, 4), Err(Errno::EINVAL));
    assert_eq!(init_control(&m, 0, 10, 4096 - 64), Err(Errno::EINVAL));
    assert_eq!(init_control(&m, 0, 1 << 40, 0), Err(Errno::EINVAL));
    // The failure left the 2-level interface on.
    assert_eq!(expand(&m, 11), Err(Errno::EOPNOTSUPP));
    assert_eq!(init_control(&m, 0, 10, 8), Ok(17));
    assert_eq!(init_control(&m, 0, 10, 128), Err(Errno::EINVAL));
    assert_eq!(init_control(&m, 1, 10, 128), Ok(17));
    expand(&m, 11).unwrap();
    assert_eq!((held(&guest, 10), held(&guest, 11)), ((3, 2), (2, 1)));
    reset(&m, DOMID_SELF).unwrap();
    assert_eq!((held(&guest, 10), held(&guest, 11)), ((1, 0), (1, 0)));
    assert_eq!(init_control(&m, 0, 10, 8), Ok(17));
}

#[test]
fn fifo_queues() {
    let guest = guest(Kind::Pvh);
    let m = guest.vcpu(0);
    let (one, two) = (ipi(&m, 0).unwrap(), ipi(&m, 0).unwrap());
    let word = |port: u32| m.load32(11 * 4096 + u64::from(port) * 4).unwrap();
    let control = |at: u64| m.load32(10 * 4096 + at).unwrap();
    // Pending before there are words: kept for when there are.
    port(&m, abi::EVTCHNOP_SEND, one).unwrap();
    init_control(&m, 0, 10, 0).unwrap();
    expand(&m, 11).unwrap();
    let pending = 1 << abi::FIFO_PENDING | 1 << abi::FIFO_LINKED;
    assert_eq!(word(one), pending);
    let head = abi::FIFO_HEAD + 4 * u64::from(abi::FIFO_PRIORITY_DEFAULT);
    assert_eq!((control(0), control(head)), (1 << 7, one));
    port(&m, abi::EVTCHNOP_SEND, two).unwrap();
    assert_eq!((word(one), word(two)), (pending | two, pending));
    // Masked: pending alone.
    let mut third = EvtchnSetPriority {
        port: ipi(&m, 0).unwrap(),
        priority: 16,
    };
    let set = |arg: &mut EvtchnSetPriority| op(&m, abi::EVTCHNOP_SET_PRIORITY, arg);
    assert_eq!(set(&mut third), Err(Errno::EINVAL));
    third.priority = 0;
    assert_eq!(set(&mut third), Ok(()));
    let masked = 1_u32 << abi::FIFO_MASKED;
    m.store32(11 * 4096 + u64::from(third.port) * 4, masked)
        .unwrap();
    port(&m, abi::EVTCHNOP_SEND, third.port).unwrap();
    assert_eq!(word(third.port), masked | 1 << abi::FIFO_PENDING);
    port(&m, abi::EVTCHNOP_UNMASK, third.port).unwrap();
    assert_eq!(word(third.port), pending);
    assert_eq!(control(abi::FIFO_HEAD), third.port);
    assert_eq!(control(0), 1 << 7 | 1);
    // A port that is closed on a queue is not given out again.
    port(&m, abi::EVTCHNOP_CLOSE, one).unwrap();
    assert_eq!(word(one), 1 << abi::FIFO_LINKED | two);
    assert_eq!(ipi(&m, 0), Ok(4));
}

#[test]
fn fifo_events_without_a_control_block_are_lost() {
    let guest = guest(Kind::Pvh);
    let m = guest.vcpu(0);
    init_control(&m, 0, 10, 0).unwrap();
    expand(&m, 11).unwrap();
    let local = ipi(&m, 1).unwrap();
    port(&m, abi::EVTCHNOP_SEND, local).unwrap();
    assert_eq!(m.load32(11 * 4096 + u64::from(local) * 4), Ok(0));
    let log = guest.xen().take_log();
    assert_eq!(log, ["d1v1 has no FIFO event channel control block"]);
}

#[test]
fn fifo_words_that_the_guest_spoils_harm_no_one() {
    let guest = guest(Kind::Pvh);
    let m = guest.vcpu(0);
    let ports: Vec<u32> = (0..8).map(|_| ipi(&m, 0).unwrap()).collect();
    init_control(&m, 0, 10, 0).unwrap();
    expand(&m, 11).unwrap();
    for value in [0, u32::MAX, 1 << abi::FIFO_LINKED, 0x1ffff] {
        for local in &ports {
            let at = 11 * 4096 + u64::from(*local) * 4;
            m.store32(at, value).unwrap();
            port(&m, abi::EVTCHNOP_SEND, *local).unwrap();
            port(&m, abi::EVTCHNOP_UNMASK, *local).unwrap();
        }
    }
    for _ in 1..128 {
        expand(&m, 11).unwrap();
    }
    assert_eq!(expand(&m, 11), Err(Errno::ENOSPC));
    reset(&m, DOMID_SELF).unwrap();
    assert_eq!(held(&guest, 11), (1, 0));
}

#[test]
fn there_is_no_other_call() {
    let m = guest(Kind::Pv).vcpu(0);
    for number in [14, 15, u64::from(u32::MAX)] {
        assert_eq!(port(&m, number, 1), Err(Errno::ENOSYS));
    }
    let mut set = EvtchnSetPriority {
        port: 1,
        priority: 99,
    };
    let set_priority = abi::EVTCHNOP_SET_PRIORITY;
    assert_eq!(op(&m, set_priority, &mut set), Err(Errno::ENOSYS));
    set.port = 4096;
    assert_eq!(op(&m, set_priority, &mut set), Err(Errno::EINVAL));
}
