//! Event channels (`public/event_channel.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `EVTCHNOP_close`
pub const EVTCHNOP_CLOSE: u64 = 3;
/// `EVTCHNOP_send`
pub const EVTCHNOP_SEND: u64 = 4;
/// `EVTCHNOP_status`
pub const EVTCHNOP_STATUS: u64 = 5;

/// `struct evtchn_send`, `struct evtchn_close`: a port.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnPort {
    /// The local port.
    pub port: u32,
}
