//! Ports that come: `EVTCHNOP_alloc_unbound` and `EVTCHNOP_bind_*`.
//!
//! Rules: the functions of these names in Xen's `common/event_channel.c`,
//! with the dummy XSM policy: a domU is privileged over itself alone.
//! The order of checks is Xen's, as it shows in the error.

use kexen_abi::DOMID_SELF;
use kexen_abi::errno::Errno;
use kexen_abi::event_channel::{
    EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindIpi, EvtchnBindPirq, EvtchnBindVirq,
    NR_VIRQS,
};

use super::{Binding, virq_is_global};
use crate::call::{Answer, Call};
use crate::frame::DomId;
use crate::state::{State, Who};

/// A domain that a hypercall names.
pub(super) enum Named {
    /// The caller.
    Own,
    /// Another one that the model has.
    Other(usize),
    /// Domain 0, which the model has not.
    Unmodelled,
}

impl State {
    /// `rcu_lock_domain_by_any_id`
    pub(super) fn named(&self, who: Who, id: DomId) -> Result<Named, Errno> {
        if id == DOMID_SELF || id == self.id(who) {
            return Ok(Named::Own);
        }
        match self.index_of(id) {
            Some(other) => Ok(Named::Other(other)),
            None if id == 0 => Ok(Named::Unmodelled),
            None => Err(Errno::ESRCH),
        }
    }

    /// Whether a domain may ask things for other domains.
    pub(super) fn privileged(&self, who: Who) -> bool {
        self.id(who) == 0
    }

    /// `domain_vcpu`
    fn vcpu_index(&self, who: Who, vcpu: u32) -> Result<usize, Errno> {
        usize::try_from(vcpu)
            .ok()
            .filter(|vcpu| *vcpu < self.domains[who.domain].vcpus.len())
            .ok_or(Errno::ENOENT)
    }

    /// `evtchn_alloc_unbound`, on a domain that is known.
    pub(crate) fn open_unbound(&mut self, domain: usize, remote: DomId) -> Result<u32, Errno> {
        self.open_port(domain, Binding::Unbound(remote), 0)
    }

    /// Opens the lowest free port.
    pub(crate) fn open_port(
        &mut self,
        domain: usize,
        binding: Binding,
        vcpu: usize,
    ) -> Result<u32, Errno> {
        let port = self.free_port(domain)?;
        self.bind(domain, port, binding, vcpu);
        Ok(port)
    }
}

pub(super) fn alloc_unbound(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnAllocUnbound = call.read(1, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    let remote = match arg.remote_dom {
        DOMID_SELF => state.id(who),
        other => other,
    };
    arg.port = match state.named(who, arg.dom)? {
        Named::Own => state.open_unbound(who.domain, remote)?,
        Named::Other(other) => {
            // A full table is found before a missing privilege.
            state.free_port(other)?;
            if !state.privileged(who) {
                return Err(Errno::EPERM);
            }
            state.open_unbound(other, remote)?
        }
        Named::Unmodelled => return Err(Errno::EPERM),
    };
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn bind_interdomain(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnBindInterdomain = call.read(1, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    let id = state.id(who);
    let far = state.named(who, arg.remote_dom)?;
    let port = state.free_port(who.domain)?;
    let peer = match far {
        Named::Own => who.domain,
        Named::Other(other) => other,
        // No port of it waits for this guest: the model would know.
        Named::Unmodelled => return Err(Errno::EINVAL),
    };
    let (remote, remote_port) = (state.domains[peer].id, arg.remote_port);
    let waits = state.domains[peer].events.port(remote_port);
    if waits.map(|channel| channel.binding) != Some(Binding::Unbound(id)) {
        return Err(Errno::EINVAL);
    }
    let to = Binding::Interdomain {
        remote,
        port: remote_port,
    };
    state.bind(who.domain, port, to, 0);
    if let Some(channel) = state.domains[peer].events.port_mut(remote_port) {
        channel.binding = Binding::Interdomain { remote: id, port };
    }
    // What was sent while the far end was unbound may have been lost.
    state.set_pending(who.domain, 0, port);
    arg.local_port = port;
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn bind_virq(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnBindVirq = call.read(1, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    if arg.virq >= NR_VIRQS || (virq_is_global(arg.virq) && arg.vcpu != 0) {
        return Err(Errno::EINVAL);
    }
    let vcpu = state.vcpu_index(who, arg.vcpu)?;
    if state
        .domain(who)
        .events
        .virqs
        .contains_key(&(vcpu, arg.virq))
    {
        return Err(Errno::EEXIST);
    }
    let port = state.free_port(who.domain)?;
    state.bind(who.domain, port, Binding::Virq(arg.virq), vcpu);
    let events = &mut state.domain(who).events;
    events.virqs.insert((vcpu, arg.virq), port);
    arg.port = port;
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn bind_ipi(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnBindIpi = call.read(1, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    let vcpu = state.vcpu_index(who, arg.vcpu)?;
    let port = state.free_port(who.domain)?;
    state.bind(who.domain, port, Binding::Ipi, vcpu);
    arg.port = port;
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn bind_pirq(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnBindPirq = call.read(1, 0)?;
    let (state, who) = (&mut *call.state, call.who);
    state.can_bind_pirq(who.domain, arg.pirq)?;
    let port = state.free_port(who.domain)?;
    state.bind_pirq(who.domain, arg.pirq, port);
    state.bind(who.domain, port, Binding::Pirq(arg.pirq), 0);
    arg.port = port;
    call.write(1, 0, &arg)?;
    Ok(0)
}
