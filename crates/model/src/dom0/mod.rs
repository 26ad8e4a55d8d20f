//! Domain 0 for one guest, domain 1: a xenstored and backends, on which drivers
//! can be tested without a real one, and with what a hostile one does.
//!
//! They do something when they are given a turn. What the guest must not do by
//! the protocol ends the test.

mod block;
mod xenstored;

use kexen_abi::event_channel::{EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_CLOSE, EvtchnBindInterdomain};
use kexen_abi::hypercall::Hypercall;
use kexen_guest::{Arg, Machine};
use zerocopy::IntoBytes;

pub use self::block::{BlockBackend, BlockFault};
pub use self::xenstored::{StoreFault, Xenstored};
use crate::Guest;

/// Domain 0 binds to a port of domain 1's; its own.
///
/// # Panics
/// If the port is not unbound, or not for domain 0.
#[must_use]
pub fn bind(dom0: &Guest, remote_port: u32) -> u32 {
    let mut arg = EvtchnBindInterdomain {
        remote_dom: 1,
        remote_port,
        ..EvtchnBindInterdomain::default()
    };
    let mut args = [
        Arg::Value(EVTCHNOP_BIND_INTERDOMAIN),
        Arg::InOut(arg.as_mut_bytes()),
    ];
    let result = dom0
        .vcpu(0)
        .hypercall(Hypercall::EVENT_CHANNEL_OP, &mut args);
    assert_eq!(result, 0, "bind to port {remote_port}");
    arg.local_port
}

/// Domain 0 closes a port of its own.
///
/// # Panics
/// If it has none of that number.
pub fn unbind(dom0: &Guest, port: u32) {
    let port = port.to_le_bytes();
    let mut args = [Arg::Value(EVTCHNOP_CLOSE), Arg::In(&port)];
    let result = dom0
        .vcpu(0)
        .hypercall(Hypercall::EVENT_CHANNEL_OP, &mut args);
    assert_eq!(result, 0);
}
