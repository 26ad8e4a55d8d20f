//! PIRQs: interrupts of devices as event channels, emulated ones among them.
//!
//! Rules: `physdev_map_pirq`, `physdev_unmap_pirq` in Xen's
//! `arch/x86/physdev.c`, `map_domain_emuirq_pirq`, `get_free_pirq` in
//! `arch/x86/irq.c`, `evtchn_bind_pirq` in `common/event_channel.c`. HVM
//! guests have them for the device model's interrupts if the domain was made
//! so (`hvm_pirq`: up to 4.18 always, later by option); PVH guests never.

use std::collections::BTreeMap;

use kexen_abi::errno::Errno;
use kexen_abi::physdev::{
    MAP_PIRQ_TYPE_GSI, MAP_PIRQ_TYPE_MSI, PHYSDEVOP_EOI, PHYSDEVOP_GET_FREE_PIRQ,
    PHYSDEVOP_IRQ_STATUS_QUERY, PHYSDEVOP_MAP_PIRQ, PHYSDEVOP_UNMAP_PIRQ, PhysdevGetFreePirq,
    PhysdevMapPirq, PhysdevUnmapPirq,
};

use crate::call::{Answer, Call};
use crate::state::{Kind, State, Version};

/// Lines of the emulated interrupt controller, the first of the PIRQs.
const GSIS: u32 = 48;
/// PIRQs of a domain.
const PIRQS: u32 = 256;
/// `XENIRQSTAT_needs_eoi`
const NEEDS_EOI: u32 = 1;

/// What a PIRQ is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A line of the emulated interrupt controller.
    Gsi(u32),
    /// A message-signalled interrupt: its number was handed out, and the
    /// device model maps it when the guest writes it to the device.
    Msi,
}

/// A domain's PIRQs.
#[derive(Debug, Default)]
pub(crate) struct Pirqs {
    /// Whether the domain has them at all, if not as the release says.
    pub(crate) enabled: Option<bool>,
    pub(crate) mapped: BTreeMap<u32, Source>,
    /// Ports by PIRQ.
    pub(crate) bound: BTreeMap<u32, u32>,
}

impl State {
    fn has_pirqs(&self, domain: usize) -> bool {
        let domain = &self.domains[domain];
        let default = self.version < Version::Xen4_20;
        domain.kind == Kind::Hvm && domain.pirqs.enabled.unwrap_or(default)
    }

    /// Whether a port may be bound to a PIRQ.
    pub(crate) fn can_bind_pirq(&self, domain: usize, pirq: u32) -> Result<(), Errno> {
        let pirqs = &self.domains[domain].pirqs;
        if pirq >= PIRQS || !self.has_pirqs(domain) {
            return Err(Errno::EINVAL);
        }
        if pirqs.bound.contains_key(&pirq) {
            return Err(Errno::EEXIST);
        }
        if pirqs.mapped.contains_key(&pirq) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    pub(crate) fn bind_pirq(&mut self, domain: usize, pirq: u32, port: u32) {
        self.domains[domain].pirqs.bound.insert(pirq, port);
    }

    /// A bound port is closed: an emulated interrupt is unmapped with it.
    pub(crate) fn unbind_pirq(&mut self, domain: usize, pirq: u32) {
        self.domains[domain].pirqs.bound.remove(&pirq);
        self.domains[domain].pirqs.mapped.remove(&pirq);
    }

    /// The interrupt arrives: at the port if it is bound, else as the
    /// emulated interrupt that the new kernel's drivers wait for.
    pub(crate) fn raise_pirq(&mut self, domain: usize, pirq: u32) {
        if let Some(port) = self.domains[domain].pirqs.bound.get(&pirq).copied() {
            let open = self.domains[domain].events.port(port);
            let vcpu = open.map_or(0, |port| port.vcpu);
            self.set_pending(domain, vcpu, port);
        }
    }
}

/// `HYPERVISOR_physdev_op`.
pub(crate) fn physdev_op(call: &mut Call<'_, '_, '_>) -> Answer {
    let domain = call.who.domain;
    let has = call.state.has_pirqs(domain);
    if call.state.domains[domain].kind.translated() && !has {
        return Err(Errno::ENOSYS);
    }
    match call.value(0) {
        PHYSDEVOP_MAP_PIRQ => map(call, has),
        PHYSDEVOP_UNMAP_PIRQ => {
            let arg: PhysdevUnmapPirq = call.read(1, 0)?;
            call.state.resolve(call.who, arg.domid)?;
            if !has || arg.domid != kexen_abi::DOMID_SELF {
                return Err(Errno::EPERM);
            }
            call.state.domains[domain].pirqs.mapped.remove(&arg.pirq);
            Ok(0)
        }
        PHYSDEVOP_GET_FREE_PIRQ => {
            let mut arg: PhysdevGetFreePirq = call.read(1, 0)?;
            let pirqs = &mut call.state.domains[domain].pirqs;
            let free = (GSIS..PIRQS)
                .rev()
                .find(|pirq| !pirqs.mapped.contains_key(pirq));
            arg.pirq = free.ok_or(Errno::ENOSPC)?;
            if arg.kind != MAP_PIRQ_TYPE_MSI || !has {
                return Err(Errno::EINVAL);
            }
            pirqs.mapped.insert(arg.pirq, Source::Msi);
            call.write(1, 0, &arg)?;
            Ok(0)
        }
        PHYSDEVOP_EOI => {
            let pirq: u32 = call.read(1, 0)?;
            if pirq < PIRQS {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            }
        }
        PHYSDEVOP_IRQ_STATUS_QUERY => {
            let mut arg: [u32; 2] = call.read(1, 0)?;
            if arg[0] >= PIRQS {
                return Err(Errno::EINVAL);
            }
            arg[1] = if has { 0 } else { NEEDS_EOI };
            call.write(1, 0, &arg)?;
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn map(call: &mut Call<'_, '_, '_>, has: bool) -> Answer {
    let mut arg: PhysdevMapPirq = call.read(1, 0)?;
    call.state.resolve(call.who, arg.domid)?;
    if arg.domid != kexen_abi::DOMID_SELF || !has {
        return Err(Errno::EPERM);
    }
    let domain = call.who.domain;
    if !call.state.domains[domain].life.has_vector_callback() {
        // The emulated interrupt would call back into itself.
        return Err(Errno::EINVAL);
    }
    let gsi = u32::try_from(arg.index).ok().filter(|gsi| *gsi < GSIS);
    let gsi = gsi
        .filter(|_| arg.kind == MAP_PIRQ_TYPE_GSI)
        .ok_or(Errno::EINVAL)?;
    let pirqs = &mut call.state.domains[domain].pirqs;
    let pirq = match u32::try_from(arg.pirq) {
        Ok(pirq) if pirq < PIRQS => pirq,
        Ok(_) => return Err(Errno::EINVAL),
        Err(_) => (16..GSIS)
            .find(|pirq| !pirqs.mapped.contains_key(pirq))
            .ok_or(Errno::ENOSPC)?,
    };
    pirqs.mapped.entry(pirq).or_insert(Source::Gsi(gsi));
    arg.pirq = i32::try_from(pirq).unwrap_or(0);
    call.write(1, 0, &arg)?;
    Ok(0)
}

impl crate::xen::Guest {
    /// Makes the domain with PIRQs for emulated interrupts, or without
    /// (`hvm_pirq=` in its configuration).
    pub fn set_hvm_pirqs(&self, on: bool) {
        self.xen().state().domains[self.index()].pirqs.enabled = Some(on);
    }
}
