//! Event channel ports of the 2-level interface.
//!
//! Protocol: `public/event_channel.h`. The boot stage binds no port and
//! registers no upcall: it notifies on the ports that the toolstack bound, and
//! waits with `SCHEDOP_poll`. Pending bits live in the shared info page, which
//! Xen writes; the guest clears a bit before it looks for work.

use kexen_abi::{
    DOMID_SELF,
    event_channel::{
        EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_VIRQ, EVTCHNOP_SEND,
        EVTCHNOP_STATUS, EvtchnAllocUnbound, EvtchnBindIpi, EvtchnBindVirq, EvtchnStatus,
    },
    hypercall::Hypercall,
    shared_info as si,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{
    HypercallError, Machine,
    hypercall::{check, event_channel, poll},
    machine::{Arg, Fault},
};

fn open<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    op: u64,
    arg: &mut [u8],
) -> Result<(), HypercallError> {
    let mut args = [Arg::Value(op), Arg::InOut(arg)];
    let result = m.hypercall(Hypercall::EVENT_CHANNEL_OP, &mut args);
    check(Hypercall::EVENT_CHANNEL_OP, what, result).map(drop)
}

/// Opens a port for a virtual interrupt (`VIRQ_*`) of a vCPU.
pub fn bind_virq<M: Machine + ?Sized>(m: &M, virq: u32, vcpu: u32) -> Result<u32, HypercallError> {
    let mut arg = EvtchnBindVirq {
        virq,
        vcpu,
        port: 0,
    };
    open(m, "bind_virq", EVTCHNOP_BIND_VIRQ, arg.as_mut_bytes())?;
    Ok(arg.port)
}

/// Opens a port by which other vCPUs interrupt one.
pub fn bind_ipi<M: Machine + ?Sized>(m: &M, vcpu: u32) -> Result<u32, HypercallError> {
    let mut arg = EvtchnBindIpi { vcpu, port: 0 };
    open(m, "bind_ipi", EVTCHNOP_BIND_IPI, arg.as_mut_bytes())?;
    Ok(arg.port)
}

/// Opens a port that another domain may bind to.
pub fn alloc_unbound<M: Machine + ?Sized>(m: &M, remote: u16) -> Result<u32, HypercallError> {
    let mut arg = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: remote,
        port: 0,
    };
    open(
        m,
        "alloc_unbound",
        EVTCHNOP_ALLOC_UNBOUND,
        arg.as_mut_bytes(),
    )?;
    Ok(arg.port)
}

/// What a port is bound to.
pub fn status<M: Machine + ?Sized>(m: &M, port: u32) -> Result<EvtchnStatus, HypercallError> {
    let mut arg = EvtchnStatus::new_zeroed();
    arg.dom = DOMID_SELF;
    arg.port = port;
    open(m, "status", EVTCHNOP_STATUS, arg.as_mut_bytes())?;
    Ok(arg)
}

/// Takes the event of a port: whether it was pending, and it is so no more.
/// Other bits of its word may change meanwhile. A page that is not there
/// reads as all ones: nothing is taken from it.
pub fn take<M: Machine + ?Sized>(m: &M, shared_info: u64, port: u32) -> Result<bool, Fault> {
    let at = shared_info + si::EVTCHN_PENDING + u64::from(port / 32) * 4;
    let bit = 1 << (port % 32);
    let mut seen = m.load32(at)?;
    // Each failure means that another bit came or went.
    for _ in 0..1000 {
        if seen & bit == 0 || seen == u32::MAX {
            return Ok(false);
        }
        let was = m.exchange32(at, seen, seen & !bit)?;
        if was == seen {
            return Ok(true);
        }
        seen = was;
    }
    Ok(false)
}

/// Notifies the other end of a port.
pub fn notify<M: Machine + ?Sized>(m: &M, port: u32) -> Result<(), HypercallError> {
    event_channel(m, "send", EVTCHNOP_SEND, port)
}

/// Why waiting for a port failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// Shared info could not be reached.
    Fault(Fault),
    /// Xen refused to wait.
    Hypercall(HypercallError),
}

impl From<Fault> for WaitError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Waits until a port is pending and clears it. `shared_info` is where the
/// shared info page is mapped; `scratch` is four bytes of guest memory.
pub fn wait<M: Machine + ?Sized>(
    m: &M,
    shared_info: u64,
    port: u32,
    scratch: u64,
) -> Result<(), WaitError> {
    m.write(scratch, &port.to_le_bytes())?;
    poll(m, scratch).map_err(WaitError::Hypercall)?;
    clear(m, shared_info, port)?;
    Ok(())
}

/// Clears the pending bit of a port.
fn clear<M: Machine + ?Sized>(m: &M, shared_info: u64, port: u32) -> Result<(), Fault> {
    // 32-bit halves of the 64-bit words: Xen sets bits with a locked
    // operation on the byte level, and no other port of ours is in use.
    let at = shared_info + si::EVTCHN_PENDING + u64::from(port / 32) * 4;
    let word = m.load32(at)?;
    m.store32(at, word & !(1 << (port % 32)))
}

/// Puts the event words of shared info back to what a toolstack leaves:
/// nothing pending, nothing masked, upcalls of vCPU 0 masked.
pub fn reset<M: Machine + ?Sized>(m: &M, shared_info: u64, pv: bool) -> Result<(), Fault> {
    m.write(shared_info + si::EVTCHN_UPCALL_PENDING, &[0])?;
    if pv {
        m.write(shared_info + si::EVTCHN_UPCALL_MASK, &[1])?;
    }
    m.write64(shared_info + si::EVTCHN_PENDING_SEL, 0)?;
    m.fill(shared_info + si::EVTCHN_PENDING, 64 * 8, 0)?;
    m.fill(shared_info + si::EVTCHN_MASK, 64 * 8, 0)
}
