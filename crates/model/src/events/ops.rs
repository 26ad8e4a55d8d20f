//! Binding, closing, sending.
//!
//! Rules: Xen's `common/event_channel.c`, check by check in its order.

use kexen_abi::DOMID_SELF;
use kexen_abi::errno::Errno;
use kexen_abi::event_channel::{
    EVTCHNSTAT_CLOSED, EVTCHNSTAT_INTERDOMAIN, EVTCHNSTAT_IPI, EVTCHNSTAT_PIRQ, EVTCHNSTAT_UNBOUND,
    EVTCHNSTAT_VIRQ, EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindIpi, EvtchnBindPirq,
    EvtchnBindVcpu, EvtchnBindVirq, EvtchnStatus, NR_VIRQS,
};

use super::{Binding, Port};
use crate::call::{Answer, Call};
use crate::frame::DomId;
use crate::state::State;

/// Virtual interrupts that each vCPU has of its own: timer, debug, profiler,
/// performance counters.
const fn of_vcpu(virq: u32) -> bool {
    matches!(virq, 0 | 1 | 7 | 13)
}

impl State {
    /// Opens a port at the lowest free number.
    pub(crate) fn open_port(
        &mut self,
        domain: usize,
        binding: Binding,
        vcpu: usize,
    ) -> Result<u32, Errno> {
        let events = &mut self.domains[domain].events;
        let port = events.free_port()?;
        events.ports.insert(port, Port { binding, vcpu });
        Ok(port)
    }

    /// `evtchn_close`; `by_guest` may not close what is Xen's own.
    pub(crate) fn close_port(
        &mut self,
        domain: usize,
        port: u32,
        by_guest: bool,
    ) -> Result<(), Errno> {
        let open = self.domains[domain].events.ports.get(&port).copied();
        let open = open.ok_or(Errno::EINVAL)?;
        match open.binding {
            Binding::Xen if by_guest => return Err(Errno::EINVAL),
            Binding::Interdomain(other, remote) => {
                let id = self.domains[domain].id;
                if let Some(peer) = self.domains[other].events.ports.get_mut(&remote) {
                    peer.binding = Binding::Unbound(id);
                }
            }
            Binding::Pirq(pirq) => self.unbind_pirq(domain, pirq),
            _ => {}
        }
        self.domains[domain].events.ports.remove(&port);
        self.clear_pending(domain, port);
        Ok(())
    }

    /// `evtchn_send`
    pub(crate) fn send_event(&mut self, domain: usize, port: u32) -> Result<(), Errno> {
        let open = self.domains[domain].events.ports.get(&port).copied();
        let open = open.ok_or(Errno::EINVAL)?;
        match open.binding {
            Binding::Interdomain(other, remote) => {
                let peer = self.domains[other].events.ports.get(&remote).copied();
                if let Some(peer) = peer {
                    self.set_pending(other, peer.vcpu, remote);
                }
                Ok(())
            }
            Binding::Ipi => {
                self.set_pending(domain, open.vcpu, port);
                Ok(())
            }
            // Nobody is there: dropped.
            Binding::Unbound(_) => Ok(()),
            Binding::Pirq(_) | Binding::Virq(_) | Binding::Xen => Err(Errno::EINVAL),
        }
    }

    /// A virtual interrupt arrives, where it is bound.
    pub(crate) fn raise_virq(&mut self, domain: usize, vcpu: usize, virq: u32) {
        let ports = &self.domains[domain].events.ports;
        let bound = ports.iter().find(|(_, port)| {
            port.binding == Binding::Virq(virq) && (port.vcpu == vcpu || !of_vcpu(virq))
        });
        if let Some((port, vcpu)) = bound.map(|(number, port)| (*number, port.vcpu)) {
            self.set_pending(domain, vcpu, port);
        }
    }

    /// Closes all that the guest may close, and goes back to 2-level.
    pub(crate) fn reset_events(&mut self, domain: usize) {
        let ports: Vec<u32> = self.domains[domain].events.ports.keys().copied().collect();
        for port in ports {
            let _ = self.close_port(domain, port, true);
        }
        self.destroy_fifo(domain);
    }
}

fn vcpu_of(call: &Call<'_, '_, '_>, number: u32) -> Result<usize, Errno> {
    let vcpu = usize::try_from(number).map_err(|_| Errno::ENOENT)?;
    let count = call.state.domains[call.who.domain].vcpus.len();
    if vcpu < count {
        Ok(vcpu)
    } else {
        Err(Errno::ENOENT)
    }
}

pub(super) fn alloc_unbound(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnAllocUnbound = call.read(1, 0)?;
    let domain = call.state.resolve(call.who, arg.dom)?;
    if domain != call.who.domain {
        return Err(Errno::EPERM);
    }
    let remote: DomId = if arg.remote_dom == DOMID_SELF {
        call.state.id(call.who)
    } else {
        arg.remote_dom
    };
    // Nobody asks whether there is such a domain.
    arg.port = call.state.open_port(domain, Binding::Unbound(remote), 0)?;
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn bind_interdomain(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnBindInterdomain = call.read(1, 0)?;
    let own = call.state.id(call.who);
    let other = call.state.resolve(call.who, arg.remote_dom)?;
    let peer = call.state.domains[other].events.ports.get(&arg.remote_port);
    if peer.map(|port| port.binding) != Some(Binding::Unbound(own)) {
        return Err(Errno::EINVAL);
    }
    let domain = call.who.domain;
    let binding = Binding::Interdomain(other, arg.remote_port);
    arg.local_port = call.state.open_port(domain, binding, 0)?;
    if let Some(peer) = call.state.domains[other]
        .events
        .ports
        .get_mut(&arg.remote_port)
    {
        peer.binding = Binding::Interdomain(domain, arg.local_port);
    }
    // Something may have been sent before there was anybody to get it.
    call.state.set_pending(domain, 0, arg.local_port);
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn bind_virq(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnBindVirq = call.read(1, 0)?;
    if arg.virq >= NR_VIRQS || (!of_vcpu(arg.virq) && arg.vcpu != 0) {
        return Err(Errno::EINVAL);
    }
    let vcpu = vcpu_of(call, arg.vcpu)?;
    let domain = call.who.domain;
    let ports = &call.state.domains[domain].events.ports;
    let same = |port: &Port| {
        port.binding == Binding::Virq(arg.virq) && (port.vcpu == vcpu || !of_vcpu(arg.virq))
    };
    if ports.values().any(same) {
        return Err(Errno::EEXIST);
    }
    arg.port = call
        .state
        .open_port(domain, Binding::Virq(arg.virq), vcpu)?;
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn bind_ipi(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnBindIpi = call.read(1, 0)?;
    let vcpu = vcpu_of(call, arg.vcpu)?;
    let domain = call.who.domain;
    arg.port = call.state.open_port(domain, Binding::Ipi, vcpu)?;
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn bind_pirq(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnBindPirq = call.read(1, 0)?;
    let domain = call.who.domain;
    call.state.can_bind_pirq(domain, arg.pirq)?;
    arg.port = call.state.open_port(domain, Binding::Pirq(arg.pirq), 0)?;
    call.state.pirq_bound(domain, arg.pirq, arg.port);
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn status(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnStatus = call.read(1, 0)?;
    let domain = call.state.resolve(call.who, arg.dom)?;
    if arg.port >= call.state.domains[domain].events.valid {
        return Err(Errno::EINVAL);
    }
    if domain != call.who.domain {
        return Err(Errno::EPERM);
    }
    let open = call.state.domains[domain]
        .events
        .ports
        .get(&arg.port)
        .copied();
    let (status, first, second) = match open.map(|port| port.binding) {
        None => (EVTCHNSTAT_CLOSED, None, None),
        Some(Binding::Xen) => return Err(Errno::EACCES),
        Some(Binding::Unbound(remote)) => (EVTCHNSTAT_UNBOUND, Some(u32::from(remote)), None),
        Some(Binding::Interdomain(other, port)) => {
            let id = u32::from(call.state.domains[other].id);
            (EVTCHNSTAT_INTERDOMAIN, Some(id), Some(port))
        }
        Some(Binding::Pirq(pirq)) => (EVTCHNSTAT_PIRQ, Some(pirq), None),
        Some(Binding::Virq(virq)) => (EVTCHNSTAT_VIRQ, Some(virq), None),
        Some(Binding::Ipi) => (EVTCHNSTAT_IPI, None, None),
    };
    arg.status = status;
    arg.vcpu = open.map_or(0, |port| u32::try_from(port.vcpu).unwrap_or(0));
    // A domain's number is 16 bits of the word; the rest stays as it was.
    match (status, first) {
        (EVTCHNSTAT_UNBOUND | EVTCHNSTAT_INTERDOMAIN, Some(id)) => {
            arg.first = (arg.first & 0xffff_0000) | id;
        }
        (_, Some(value)) => arg.first = value,
        (_, None) => {}
    }
    arg.second = second.unwrap_or(arg.second);
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn bind_vcpu(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: EvtchnBindVcpu = call.read(1, 0)?;
    let vcpu = vcpu_of(call, arg.vcpu)?;
    let domain = call.who.domain;
    let port = call.state.domains[domain].events.ports.get_mut(&arg.port);
    let port = port.ok_or(Errno::EINVAL)?;
    match port.binding {
        Binding::Virq(virq) if of_vcpu(virq) => Err(Errno::EINVAL),
        Binding::Ipi | Binding::Xen => Err(Errno::EINVAL),
        _ => {
            port.vcpu = vcpu;
            Ok(0)
        }
    }
}

pub(super) fn reset(call: &mut Call<'_, '_, '_>) -> Answer {
    // `struct evtchn_reset`: the domain's number.
    let id: u16 = call.read(1, 0)?;
    let domain = call.state.resolve(call.who, id)?;
    if domain != call.who.domain {
        return Err(Errno::EPERM);
    }
    call.state.reset_events(domain);
    Ok(0)
}
