//! Ports that are there: send, status, close, unmask, bind to a vCPU, reset.
//!
//! Rules: the functions of these names in Xen's `common/event_channel.c`.
//! Releases differ in one: up to 4.17 the status of a Xen-attached port is
//! `EACCES`, later it is told.

use kexen_abi::errno::Errno;
use kexen_abi::event_channel::{
    self as abi, EvtchnBindVcpu, EvtchnPort, EvtchnReset, EvtchnSetPriority, EvtchnStatus,
};

use super::ops::Named;
use super::{Binding, Channel, virq_is_global};
use crate::call::{Answer, Call};
use crate::state::{State, Version, Who};

impl State {
    /// A valid port of the caller's.
    fn own_port(&mut self, who: Who, port: u32) -> Result<&mut Channel, Errno> {
        self.domain(who).events.port_mut(port).ok_or(Errno::EINVAL)
    }

    /// `evtchn_send`
    pub(crate) fn send_event(&mut self, domain: usize, port: u32) -> Result<(), Errno> {
        let channel = self.domains[domain]
            .events
            .port_mut(port)
            .ok_or(Errno::EINVAL)?;
        if channel.xen {
            return Err(Errno::EINVAL);
        }
        match channel.binding {
            Binding::Interdomain { remote, port: far } => {
                channel.sent += 1;
                if let Some(peer) = self.index_of(remote)
                    && let Some(other) = self.domains[peer].events.port(far).copied()
                    && !other.xen
                {
                    self.set_pending(peer, other.vcpu, far);
                }
                Ok(())
            }
            Binding::Ipi => {
                let vcpu = channel.vcpu;
                self.set_pending(domain, vcpu, port);
                Ok(())
            }
            // Dropped without a word.
            Binding::Unbound(_) => Ok(()),
            _ => Err(Errno::EINVAL),
        }
    }
}

pub(super) fn close(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: EvtchnPort = call.read(1, 0)?;
    call.state.close_port(call.who.domain, arg.port, true)?;
    Ok(0)
}

pub(super) fn send(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: EvtchnPort = call.read(1, 0)?;
    call.state.send_event(call.who.domain, arg.port)?;
    Ok(0)
}

pub(super) fn status(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnStatus = call.read(1, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    let (domain, own) = match state.named(who, arg.dom)? {
        Named::Own => (who.domain, true),
        Named::Other(other) => (other, state.privileged(who)),
        Named::Unmodelled => return Err(Errno::EPERM),
    };
    let events = &state.domains[domain].events;
    let channel = *events.port(arg.port).ok_or(Errno::EINVAL)?;
    if channel.xen && state.version == Version::Xen4_17 {
        return Err(Errno::EACCES);
    }
    if !own {
        return Err(Errno::EPERM);
    }
    // The union keeps the bytes that a kind of port does not have.
    let with_domain = |old: u32, domain: u16| (old & 0xffff_0000) | u32::from(domain);
    arg.status = match channel.binding {
        Binding::Free | Binding::Reserved => abi::EVTCHNSTAT_CLOSED,
        Binding::Unbound(remote) => {
            arg.first = with_domain(arg.first, remote);
            abi::EVTCHNSTAT_UNBOUND
        }
        Binding::Interdomain { remote, port } => {
            arg.first = with_domain(arg.first, remote);
            arg.second = port;
            abi::EVTCHNSTAT_INTERDOMAIN
        }
        Binding::Pirq(pirq) => {
            arg.first = pirq;
            abi::EVTCHNSTAT_PIRQ
        }
        Binding::Virq(virq) => {
            arg.first = virq;
            abi::EVTCHNSTAT_VIRQ
        }
        Binding::Ipi => abi::EVTCHNSTAT_IPI,
    };
    arg.vcpu = u32::try_from(channel.vcpu).unwrap_or(u32::MAX);
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn bind_vcpu(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: EvtchnBindVcpu = call.read(1, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    let vcpus = state.domain(who).vcpus.len();
    let vcpu = usize::try_from(arg.vcpu).unwrap_or(usize::MAX);
    if vcpu >= vcpus {
        return Err(Errno::ENOENT);
    }
    let channel = state.own_port(who, arg.port)?;
    if channel.xen {
        return Err(Errno::EINVAL);
    }
    match channel.binding {
        Binding::Virq(virq) if virq_is_global(virq) => {}
        Binding::Unbound(_) | Binding::Interdomain { .. } | Binding::Pirq(_) => {}
        _ => return Err(Errno::EINVAL),
    }
    channel.vcpu = vcpu;
    Ok(0)
}

pub(super) fn unmask(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: EvtchnPort = call.read(1, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    state.own_port(who, arg.port)?;
    state.unmask(who.domain, arg.port);
    Ok(0)
}

pub(super) fn reset(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: EvtchnReset = call.read(1, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    match state.named(who, arg.dom)? {
        Named::Own => state.reset_events(who.domain),
        // Domain 0 may, but only while the domain is paused.
        Named::Other(_) if state.privileged(who) => return Err(Errno::EINVAL),
        Named::Other(_) | Named::Unmodelled => return Err(Errno::EPERM),
    }
    Ok(0)
}

pub(super) fn set_priority(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: EvtchnSetPriority = call.read(1, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    let fifo = state.domain(who).events.fifo.is_some();
    let channel = state.own_port(who, arg.port)?;
    if !fifo {
        return Err(Errno::ENOSYS);
    }
    if !channel.usable() {
        return Err(Errno::EACCES);
    }
    if arg.priority > abi::FIFO_PRIORITY_MIN {
        return Err(Errno::EINVAL);
    }
    channel.priority = arg.priority;
    Ok(0)
}
