//! Event channels: the ports of a domain, and what each is bound to.
//!
//! Rules: `common/event_channel.c`, `common/event_2l.c`,
//! `common/event_fifo.c` in Xen. Hypercalls are in [`ops`] (ports that come
//! and go) and [`bound`] (ports that are there); how a pending event is
//! shown to the guest in [`two_level`] and [`fifo`].
//!
//! Domain 0 is always there, even when the model has no such [`Domain`]:
//! what it does on its ends is in [`crate::outside`].
//!
//! [`Domain`]: crate::state::Domain

pub(crate) mod bound;
pub(crate) mod fifo;
pub(crate) mod ops;
#[cfg(test)]
mod tests;
pub(crate) mod toolstack;
pub(crate) mod two_level;

use std::collections::BTreeMap;
use std::fmt;

use kexen_abi::errno::Errno;
use kexen_abi::event_channel as abi;
use kexen_abi::shared_info::EVTCHN_2L_PORTS;

use crate::call::{Answer, Call};
use crate::frame::DomId;
use crate::state::State;

/// Ports that become valid together (`EVTCHNS_PER_BUCKET`).
const BUCKET: usize = 64;
/// libxl's limit, `max_event_channels`.
const MAX_PORT: u32 = 1023;

/// What a port is bound to (`ECS_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Binding {
    #[default]
    Free,
    /// Port 0.
    Reserved,
    /// Waits for this domain to bind to it.
    Unbound(DomId),
    /// The other end, which the model may not know.
    Interdomain {
        remote: DomId,
        port: u32,
    },
    Pirq(u32),
    Virq(u32),
    Ipi,
}

/// One port.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Channel {
    pub(crate) binding: Binding,
    /// Who is told (`notify_vcpu_id`).
    pub(crate) vcpu: usize,
    /// Xen itself listens: the guest may not touch it (`xen_consumer`).
    pub(crate) xen: bool,
    /// FIFO: the queue that it goes to.
    priority: u32,
    /// FIFO: an event that came before there was a word for it.
    pending: bool,
    /// FIFO: vCPU and queue that it was on last.
    last_queue: (usize, u32),
    /// Notifications sent to an end that the model does not know.
    pub(crate) sent: u64,
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("closed"),
            Self::Reserved => f.write_str("reserved"),
            Self::Unbound(domain) => write!(f, "unbound, for domain {domain}"),
            Self::Interdomain { remote, port } => {
                write!(f, "interdomain, with port {port} of domain {remote}")
            }
            Self::Pirq(pirq) => write!(f, "PIRQ {pirq}"),
            Self::Virq(virq) => write!(f, "VIRQ {virq}"),
            Self::Ipi => f.write_str("IPI"),
        }
    }
}

impl Channel {
    /// `evtchn_usable`
    fn usable(&self) -> bool {
        !self.xen && !matches!(self.binding, Binding::Free | Binding::Reserved)
    }
}

/// The ports of a domain.
#[derive(Debug)]
pub(crate) struct EventChannels {
    /// The valid ports (`valid_evtchns`).
    pub(crate) ports: Vec<Channel>,
    /// The largest port that may be (`max_evtchn_port`).
    pub(crate) max_port: u32,
    /// Bound virtual interrupts, by vCPU and number.
    virqs: BTreeMap<(usize, u32), u32>,
    /// Ports that may stay open over a hand-off: store and console.
    pub(crate) kept: Vec<u32>,
    /// The FIFO interface, once it is switched on.
    pub(crate) fifo: Option<fifo::Fifo>,
}

impl Default for EventChannels {
    fn default() -> Self {
        let mut ports = vec![Channel::default(); BUCKET];
        ports[0].binding = Binding::Reserved;
        Self {
            ports,
            max_port: MAX_PORT,
            virqs: BTreeMap::new(),
            kept: Vec::new(),
            fifo: None,
        }
    }
}

impl EventChannels {
    /// A valid port.
    pub(crate) fn port(&self, port: u32) -> Option<&Channel> {
        self.ports.get(usize::try_from(port).ok()?)
    }

    /// As [`Self::port`], to change.
    pub(crate) fn port_mut(&mut self, port: u32) -> Option<&mut Channel> {
        self.ports.get_mut(usize::try_from(port).ok()?)
    }

    /// Ports that the current interface has (`max_evtchns`).
    fn limit(&self) -> u32 {
        if self.fifo.is_some() {
            abi::FIFO_NR_CHANNELS
        } else {
            EVTCHN_2L_PORTS
        }
    }

    /// Ports in use, by number (not port 0).
    pub(crate) fn open(&self) -> impl Iterator<Item = (u32, &Channel)> {
        (0..)
            .zip(&self.ports)
            .filter(|(_, channel)| !matches!(channel.binding, Binding::Free | Binding::Reserved))
    }
}

/// `virq_is_global`: whether there is one for the domain, not per vCPU.
fn virq_is_global(virq: u32) -> bool {
    !matches!(
        virq,
        abi::VIRQ_TIMER | abi::VIRQ_DEBUG | abi::VIRQ_XENOPROF | abi::VIRQ_XENPMU
    )
}

impl State {
    /// `get_free_port`: the lowest one. It is not bound yet.
    fn free_port(&mut self, domain: usize) -> Result<u32, Errno> {
        let max = self.domains[domain].events.max_port;
        for port in 0..=max {
            if self.allocate_port(domain, port)? {
                return Ok(port);
            }
        }
        Err(Errno::ENOSPC)
    }

    /// `evtchn_allocate_port`: makes a port valid; whether it is free.
    fn allocate_port(&mut self, domain: usize, port: u32) -> Result<bool, Errno> {
        let events = &mut self.domains[domain].events;
        if port > events.max_port || port >= events.limit() {
            return Err(Errno::ENOSPC);
        }
        match events.port(port) {
            Some(channel) => Ok(channel.binding == Binding::Free && !self.busy(domain, port)),
            None => {
                let count = events.ports.len() + BUCKET;
                events.ports.resize(count, Channel::default());
                Ok(true)
            }
        }
    }

    /// Binds a free port, and tells vCPU `vcpu` of its events.
    fn bind(&mut self, domain: usize, port: u32, binding: Binding, vcpu: usize) {
        if let Some(channel) = self.domains[domain].events.port_mut(port) {
            channel.binding = binding;
            channel.vcpu = vcpu;
            channel.sent = 0;
            self.fifo_port_init(domain, port);
        }
    }

    /// `evtchn_free`
    fn free_channel(&mut self, domain: usize, port: u32) {
        self.clear_pending(domain, port);
        if let Some(channel) = self.domains[domain].events.port_mut(port) {
            channel.binding = Binding::Free;
            channel.vcpu = 0;
            channel.xen = false;
        }
    }

    /// `evtchn_close`, for the guest itself (`guest`) or for Xen.
    pub(crate) fn close_port(
        &mut self,
        domain: usize,
        port: u32,
        guest: bool,
    ) -> Result<(), Errno> {
        let channel = *self.domains[domain]
            .events
            .port(port)
            .ok_or(Errno::EINVAL)?;
        if channel.xen && guest {
            return Err(Errno::EINVAL);
        }
        match channel.binding {
            Binding::Free | Binding::Reserved => return Err(Errno::EINVAL),
            Binding::Unbound(_) | Binding::Ipi => {}
            Binding::Pirq(pirq) => self.unbind_pirq(domain, pirq),
            Binding::Virq(virq) => {
                let vcpu = if virq_is_global(virq) {
                    0
                } else {
                    channel.vcpu
                };
                self.domains[domain].events.virqs.remove(&(vcpu, virq));
            }
            Binding::Interdomain { remote, port: far } => {
                let id = self.domains[domain].id;
                if let Some(peer) = self.index_of(remote)
                    && let Some(other) = self.domains[peer].events.port_mut(far)
                {
                    other.binding = Binding::Unbound(id);
                }
            }
        }
        self.free_channel(domain, port);
        Ok(())
    }

    /// A virtual interrupt arrives, where it is bound
    /// (`send_guest_vcpu_virq`, `send_guest_global_virq`).
    pub(crate) fn raise_virq(&mut self, domain: usize, vcpu: usize, virq: u32) {
        let events = &self.domains[domain].events;
        let global = virq_is_global(virq);
        let of = if global { 0 } else { vcpu };
        let Some(port) = events.virqs.get(&(of, virq)).copied() else {
            return;
        };
        let told = events.port(port).map_or(vcpu, |channel| channel.vcpu);
        self.set_pending(domain, if global { told } else { vcpu }, port);
    }

    /// Shows the guest that an event came (`evtchn_port_set_pending`).
    pub(crate) fn set_pending(&mut self, domain: usize, vcpu: usize, port: u32) {
        if self.domains[domain].vcpus.get(vcpu).is_none() {
            return;
        }
        if self.domains[domain].events.fifo.is_some() {
            self.fifo_set_pending(domain, vcpu, port);
        } else {
            self.two_level_set_pending(domain, vcpu, port);
        }
    }

    /// `evtchn_port_unmask`: what waited behind the mask is shown.
    pub(crate) fn unmask(&mut self, domain: usize, port: u32) {
        let events = &self.domains[domain].events;
        if !events.port(port).is_some_and(Channel::usable) {
            return;
        }
        if events.fifo.is_some() {
            self.fifo_unmask(domain, port);
        } else {
            self.two_level_unmask(domain, port);
        }
    }

    fn clear_pending(&mut self, domain: usize, port: u32) {
        if self.domains[domain].events.fifo.is_some() {
            self.fifo_clear_pending(domain, port);
        } else {
            self.two_level_clear_pending(domain, port);
        }
    }

    /// `evtchn_port_is_pending`: what `SCHEDOP_poll` looks at.
    pub(crate) fn is_pending(&self, domain: usize, port: u32) -> bool {
        let events = &self.domains[domain].events;
        if !events.port(port).is_some_and(Channel::usable) {
            return false;
        }
        if events.fifo.is_some() {
            self.fifo_is_pending(domain, port)
        } else {
            self.two_level_is_pending(domain, port)
        }
    }

    /// `evtchn_is_busy`: on a queue still, though free.
    fn busy(&self, domain: usize, port: u32) -> bool {
        self.domains[domain].events.fifo.is_some() && self.fifo_is_linked(domain, port)
    }

    /// `evtchn_reset`: closes what the guest may close, and goes back to the
    /// 2-level interface.
    pub(crate) fn reset_events(&mut self, domain: usize) {
        let open: Vec<u32> = self.domains[domain]
            .events
            .open()
            .map(|(port, _)| port)
            .collect();
        for port in open {
            // Xen-attached ports refuse, and stay.
            let _refused = self.close_port(domain, port, true);
        }
        self.fifo_destroy(domain);
    }
}

/// `HYPERVISOR_event_channel_op`
pub(crate) fn event_channel_op(call: &mut Call<'_, '_, '_>) -> Answer {
    match call.value(0) & 0xffff_ffff {
        abi::EVTCHNOP_ALLOC_UNBOUND => ops::alloc_unbound(call),
        abi::EVTCHNOP_BIND_INTERDOMAIN => ops::bind_interdomain(call),
        abi::EVTCHNOP_BIND_VIRQ => ops::bind_virq(call),
        abi::EVTCHNOP_BIND_IPI => ops::bind_ipi(call),
        abi::EVTCHNOP_BIND_PIRQ => ops::bind_pirq(call),
        abi::EVTCHNOP_CLOSE => bound::close(call),
        abi::EVTCHNOP_SEND => bound::send(call),
        abi::EVTCHNOP_STATUS => bound::status(call),
        abi::EVTCHNOP_BIND_VCPU => bound::bind_vcpu(call),
        abi::EVTCHNOP_UNMASK => bound::unmask(call),
        abi::EVTCHNOP_RESET => bound::reset(call),
        abi::EVTCHNOP_INIT_CONTROL => fifo::init_control(call),
        abi::EVTCHNOP_EXPAND_ARRAY => fifo::expand_array(call),
        abi::EVTCHNOP_SET_PRIORITY => bound::set_priority(call),
        _ => Err(Errno::ENOSYS),
    }
}
