//! Event channel ports of the 2-level interface.
//!
//! Protocol: `public/event_channel.h`. Kexen registers no upcall: it notifies
//! on the ports that the toolstack bound and on those that it opened for a
//! device's backend, and waits with `SCHEDOP_poll`. Pending bits live in the shared info page, which
//! Xen writes; the guest clears a bit before it looks for work.

use kexen_abi::{
    DOMID_SELF,
    event_channel::{EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_SEND, EvtchnAllocUnbound},
    hypercall::Hypercall,
    shared_info as si,
};
use zerocopy::IntoBytes;

use crate::{
    HypercallError, Machine,
    hypercall::{check, event_channel, poll},
    machine::{Arg, Fault},
};

/// Notifies the other end of a port.
pub fn notify<M: Machine + ?Sized>(m: &M, port: u32) -> Result<(), HypercallError> {
    event_channel(m, "send", EVTCHNOP_SEND, port)
}

/// Opens a port that a domain may bind to (`evtchn_alloc_unbound`).
pub fn alloc_unbound<M: Machine + ?Sized>(m: &M, remote: u16) -> Result<u32, HypercallError> {
    let mut arg = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: remote,
        port: 0,
    };
    let result = m.hypercall(
        Hypercall::EVENT_CHANNEL_OP,
        &mut [
            Arg::Value(EVTCHNOP_ALLOC_UNBOUND),
            Arg::InOut(arg.as_mut_bytes()),
        ],
    );
    check(Hypercall::EVENT_CHANNEL_OP, "alloc_unbound", result)?;
    Ok(arg.port)
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
