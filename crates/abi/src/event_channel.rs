//! Event channels (`public/event_channel.h`; virtual interrupts: `public/xen.h`).

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

/// `VIRQ_TIMER`
pub const VIRQ_TIMER: u32 = 0;
/// `VIRQ_DEBUG`
pub const VIRQ_DEBUG: u32 = 1;
/// `VIRQ_CONSOLE`
pub const VIRQ_CONSOLE: u32 = 2;
/// `VIRQ_XENOPROF`
pub const VIRQ_XENOPROF: u32 = 7;
/// `VIRQ_XENPMU`
pub const VIRQ_XENPMU: u32 = 13;
/// `NR_VIRQS`
pub const NR_VIRQS: u32 = 24;

/// `EVTCHN_FIFO_PRIORITY_DEFAULT`
pub const FIFO_PRIORITY_DEFAULT: u32 = 7;
/// `EVTCHN_FIFO_PRIORITY_MIN`: the lowest, which has the largest number.
pub const FIFO_PRIORITY_MIN: u32 = 15;
/// `EVTCHN_FIFO_PENDING`, a bit of an event word.
pub const FIFO_PENDING: u32 = 31;
/// `EVTCHN_FIFO_MASKED`, a bit of an event word.
pub const FIFO_MASKED: u32 = 30;
/// `EVTCHN_FIFO_LINKED`, a bit of an event word.
pub const FIFO_LINKED: u32 = 29;
/// `EVTCHN_FIFO_BUSY`, a bit of an event word.
pub const FIFO_BUSY: u32 = 28;
/// `EVTCHN_FIFO_LINK_BITS`: the low bits of an event word, the next port.
pub const FIFO_LINK_BITS: u32 = 17;
/// `EVTCHN_FIFO_NR_CHANNELS`
pub const FIFO_NR_CHANNELS: u32 = 1 << FIFO_LINK_BITS;
/// Bytes of `struct evtchn_fifo_control_block`.
pub const FIFO_CONTROL_BLOCK_BYTES: u64 = 72;
/// In the control block: which queues have something (`ready`).
pub const FIFO_READY: u64 = 0;
/// In the control block: the queues' first ports (`head`).
pub const FIFO_HEAD: u64 = 8;

/// `struct evtchn_send`, `struct evtchn_close`, `struct evtchn_unmask`: a port.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnPort {
    /// The local port.
    pub port: u32,
}

/// `struct evtchn_alloc_unbound`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnAllocUnbound {
    /// Whose port it will be.
    pub dom: u16,
    /// Who may bind to it.
    pub remote_dom: u16,
    /// Out: the port.
    pub port: u32,
}

/// `struct evtchn_bind_interdomain`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindInterdomain {
    /// Whose port.
    pub remote_dom: u16,
    /// Padding.
    pub pad: u16,
    /// Which port of its.
    pub remote_port: u32,
    /// Out: the local port.
    pub local_port: u32,
}

/// `struct evtchn_bind_virq`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindVirq {
    /// `VIRQ_*`
    pub virq: u32,
    /// Of which vCPU.
    pub vcpu: u32,
    /// Out: the port.
    pub port: u32,
}

/// `struct evtchn_bind_pirq`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindPirq {
    /// Which.
    pub pirq: u32,
    /// Bit 0: it may be shared.
    pub flags: u32,
    /// Out: the port.
    pub port: u32,
}

/// `struct evtchn_bind_ipi`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindIpi {
    /// Who is interrupted.
    pub vcpu: u32,
    /// Out: the port.
    pub port: u32,
}

/// `struct evtchn_status`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnStatus {
    /// Whose port.
    pub dom: u16,
    /// Padding.
    pub pad: u16,
    /// Which.
    pub port: u32,
    /// Out: `EVTCHNSTAT_*`.
    pub status: u32,
    /// Out: the vCPU that is told.
    pub vcpu: u32,
    /// Out: by status: a domain (low 16 bits), a PIRQ, a VIRQ.
    pub first: u32,
    /// Out: the other side's port.
    pub second: u32,
}

/// `struct evtchn_bind_vcpu`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindVcpu {
    /// Which port.
    pub port: u32,
    /// Who is told from now on.
    pub vcpu: u32,
}

/// `struct evtchn_reset`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnReset {
    /// Which domain.
    pub dom: u16,
}

/// `struct evtchn_init_control`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnInitControl {
    /// The page of the control block.
    pub control_gfn: u64,
    /// Where in the page.
    pub offset: u32,
    /// Whose control block.
    pub vcpu: u32,
    /// Out: [`FIFO_LINK_BITS`].
    pub link_bits: u8,
    /// Padding.
    pub pad: [u8; 7],
}

/// `struct evtchn_expand_array`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnExpandArray {
    /// The next page of the array.
    pub array_gfn: u64,
}

/// `struct evtchn_set_priority`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnSetPriority {
    /// Which port.
    pub port: u32,
    /// 0 (highest) to [`FIFO_PRIORITY_MIN`].
    pub priority: u32,
}

const _: () = {
    assert!(size_of::<EvtchnAllocUnbound>() == 8);
    assert!(size_of::<EvtchnBindInterdomain>() == 12);
    assert!(size_of::<EvtchnStatus>() == 24);
    assert!(size_of::<EvtchnInitControl>() == 24);
};
