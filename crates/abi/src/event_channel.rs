//! Event channels (`public/event_channel.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `EVTCHNOP_bind_interdomain`
pub const EVTCHNOP_BIND_INTERDOMAIN: u64 = 0;
/// `EVTCHNOP_bind_virq`
pub const EVTCHNOP_BIND_VIRQ: u64 = 1;
/// `EVTCHNOP_bind_pirq`
pub const EVTCHNOP_BIND_PIRQ: u64 = 2;
/// `EVTCHNOP_close`
pub const EVTCHNOP_CLOSE: u64 = 3;
/// `EVTCHNOP_send`
pub const EVTCHNOP_SEND: u64 = 4;
/// `EVTCHNOP_status`
pub const EVTCHNOP_STATUS: u64 = 5;

/// `EVTCHNOP_alloc_unbound`
pub const EVTCHNOP_ALLOC_UNBOUND: u64 = 6;
/// `EVTCHNOP_bind_ipi`
pub const EVTCHNOP_BIND_IPI: u64 = 7;
/// `EVTCHNOP_bind_vcpu`
pub const EVTCHNOP_BIND_VCPU: u64 = 8;
/// `EVTCHNOP_unmask`
pub const EVTCHNOP_UNMASK: u64 = 9;
/// `EVTCHNOP_reset`
pub const EVTCHNOP_RESET: u64 = 10;
/// `EVTCHNOP_init_control`
pub const EVTCHNOP_INIT_CONTROL: u64 = 11;
/// `EVTCHNOP_expand_array`
pub const EVTCHNOP_EXPAND_ARRAY: u64 = 12;
/// `EVTCHNOP_set_priority`
pub const EVTCHNOP_SET_PRIORITY: u64 = 13;

/// `EVTCHNSTAT_closed`
pub const EVTCHNSTAT_CLOSED: u32 = 0;
/// `EVTCHNSTAT_unbound`
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
/// `EVTCHNSTAT_interdomain`
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
/// `EVTCHNSTAT_pirq`
pub const EVTCHNSTAT_PIRQ: u32 = 3;
/// `EVTCHNSTAT_virq`
pub const EVTCHNSTAT_VIRQ: u32 = 4;
/// `EVTCHNSTAT_ipi`
pub const EVTCHNSTAT_IPI: u32 = 5;

/// `VIRQ_TIMER`: of each vCPU.
pub const VIRQ_TIMER: u32 = 0;
/// `VIRQ_DEBUG`: of each vCPU.
pub const VIRQ_DEBUG: u32 = 1;
/// Numbers of virtual interrupts.
pub const NR_VIRQS: u32 = 24;

/// `struct evtchn_alloc_unbound`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnAllocUnbound {
    /// Whose port it is.
    pub dom: u16,
    /// Who may bind to it.
    pub remote_dom: u16,
    /// Out: the port.
    pub port: u32,
}

/// `struct evtchn_bind_interdomain`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindInterdomain {
    /// The other domain.
    pub remote_dom: u16,
    /// Padding.
    pub pad: u16,
    /// Its port.
    pub remote_port: u32,
    /// Out: the local port.
    pub local_port: u32,
}

/// `struct evtchn_bind_virq`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindVirq {
    /// `VIRQ_*`
    pub virq: u32,
    /// On which vCPU.
    pub vcpu: u32,
    /// Out: the port.
    pub port: u32,
}

/// `struct evtchn_bind_ipi`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindIpi {
    /// On which vCPU.
    pub vcpu: u32,
    /// Out: the port.
    pub port: u32,
}

/// `struct evtchn_bind_vcpu`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindVcpu {
    /// The port.
    pub port: u32,
    /// The vCPU that gets its events.
    pub vcpu: u32,
}

/// `struct evtchn_bind_pirq`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindPirq {
    /// The physical interrupt.
    pub pirq: u32,
    /// `BIND_PIRQ__WILL_SHARE`
    pub flags: u32,
    /// Out: the port.
    pub port: u32,
}

/// `struct evtchn_status`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnStatus {
    /// Whose port.
    pub dom: u16,
    /// Padding.
    pub pad: u16,
    /// Which.
    pub port: u32,
    /// Out: `EVTCHNSTAT_*`
    pub status: u32,
    /// Out: the vCPU that gets its events.
    pub vcpu: u32,
    /// Out: by status: a domain, a PIRQ, a VIRQ.
    pub first: u32,
    /// Out: the other side's port.
    pub second: u32,
}

/// `struct evtchn_init_control`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnInitControl {
    /// Page of the control block.
    pub control_gfn: u64,
    /// Where in it.
    pub offset: u32,
    /// Of which vCPU.
    pub vcpu: u32,
    /// Out: 17.
    pub link_bits: u8,
    /// Padding.
    pub pad: [u8; 7],
}

/// `struct evtchn_send`, `struct evtchn_close`: a port.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnPort {
    /// The local port.
    pub port: u32,
}
