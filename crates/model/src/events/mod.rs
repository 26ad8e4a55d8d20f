//! Event channels.
//!
//! Rules: Xen's `common/event_channel.c`; pending and mask bits of the
//! 2-level interface in `common/event_2l.c`, its words in the shared info
//! page (`public/xen.h`); the FIFO interface's pages in [`fifo`].

pub(crate) mod bits;
pub(crate) mod fifo;
pub(crate) mod ops;

use std::collections::BTreeMap;

use kexen_abi::errno::Errno;
use kexen_abi::event_channel::{
    EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_PIRQ,
    EVTCHNOP_BIND_VCPU, EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE, EVTCHNOP_EXPAND_ARRAY,
    EVTCHNOP_INIT_CONTROL, EVTCHNOP_RESET, EVTCHNOP_SEND, EVTCHNOP_SET_PRIORITY, EVTCHNOP_STATUS,
    EVTCHNOP_UNMASK, EvtchnPort,
};

use crate::call::{Answer, Call};
use crate::frame::DomId;

/// Ports come into being by the bucket.
const BUCKET: u32 = 64;
/// Ports of the 2-level interface.
const PORTS_2L: u32 = 4096;

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Waits for that domain.
    Unbound(DomId),
    /// Another port, of a domain by its place.
    Interdomain(usize, u32),
    /// A physical interrupt.
    Pirq(u32),
    /// A virtual interrupt.
    Virq(u32),
    /// Another vCPU of the same domain.
    Ipi,
    /// Xen itself, for the device model.
    Xen,
}

impl std::fmt::Display for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unbound(domain) => write!(f, "unbound, for domain {domain}"),
            Self::Interdomain(_, port) => write!(f, "interdomain, with port {port}"),
            Self::Pirq(pirq) => write!(f, "PIRQ {pirq}"),
            Self::Virq(virq) => write!(f, "VIRQ {virq}"),
            Self::Ipi => f.write_str("IPI"),
            Self::Xen => f.write_str("Xen's own"),
        }
    }
}

/// An open port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    pub(crate) binding: Binding,
    pub(crate) vcpu: usize,
}

/// A domain's event channels.
#[derive(Debug)]
pub(crate) struct EventChannels {
    pub(crate) ports: BTreeMap<u32, Port>,
    /// Ports that exist, open or not.
    pub(crate) valid: u32,
    /// Ports that may stay open over a hand-off: store and console.
    pub(crate) kept: Vec<u32>,
    pub(crate) fifo: fifo::Fifo,
}

impl Default for EventChannels {
    fn default() -> Self {
        Self {
            ports: BTreeMap::new(),
            valid: BUCKET,
            kept: Vec::new(),
            fifo: fifo::Fifo::default(),
        }
    }
}

impl EventChannels {
    /// The lowest free port; port 0 is never used.
    pub(crate) fn free_port(&mut self) -> Result<u32, Errno> {
        let most = if self.fifo.active() {
            fifo::PORTS
        } else {
            PORTS_2L
        };
        let port = (1..most).find(|port| !self.ports.contains_key(port));
        let port = port.ok_or(Errno::ENOSPC)?;
        self.valid = self.valid.max((port / BUCKET + 1) * BUCKET);
        Ok(port)
    }
}

/// `HYPERVISOR_event_channel_op`.
pub(crate) fn event_channel_op(call: &mut Call<'_, '_, '_>) -> Answer {
    match call.value(0) {
        EVTCHNOP_ALLOC_UNBOUND => ops::alloc_unbound(call),
        EVTCHNOP_BIND_INTERDOMAIN => ops::bind_interdomain(call),
        EVTCHNOP_BIND_VIRQ => ops::bind_virq(call),
        EVTCHNOP_BIND_IPI => ops::bind_ipi(call),
        EVTCHNOP_BIND_PIRQ => ops::bind_pirq(call),
        EVTCHNOP_CLOSE => {
            let port: EvtchnPort = call.read(1, 0)?;
            let domain = call.who.domain;
            call.state.close_port(domain, port.port, true).map(|()| 0)
        }
        EVTCHNOP_SEND => {
            let port: EvtchnPort = call.read(1, 0)?;
            let domain = call.who.domain;
            call.state.send_event(domain, port.port).map(|()| 0)
        }
        EVTCHNOP_STATUS => ops::status(call),
        EVTCHNOP_BIND_VCPU => ops::bind_vcpu(call),
        EVTCHNOP_UNMASK => {
            let port: EvtchnPort = call.read(1, 0)?;
            let domain = call.who.domain;
            if port.port >= call.state.domains[domain].events.valid {
                return Err(Errno::EINVAL);
            }
            call.state.unmask(domain, port.port);
            Ok(0)
        }
        EVTCHNOP_RESET => ops::reset(call),
        EVTCHNOP_INIT_CONTROL => fifo::init_control(call),
        EVTCHNOP_EXPAND_ARRAY => fifo::expand_array(call),
        EVTCHNOP_SET_PRIORITY => fifo::set_priority(call),
        _ => Err(Errno::ENOSYS),
    }
}
