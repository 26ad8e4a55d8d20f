//! PIRQs: interrupts of devices as event channels, emulated ones among them.
//!
//! Rules: `do_physdev_op`, `physdev_map_pirq`, `physdev_unmap_pirq` in Xen's
//! `arch/x86/physdev.c`, `hvm_physdev_op` in `arch/x86/hvm/hypercall.c`,
//! `map_domain_emuirq_pirq`, `get_free_pirq` in `arch/x86/irq.c`,
//! `evtchn_bind_pirq` in `common/event_channel.c`, `assert_gsi` in
//! `arch/x86/hvm/irq.c`. HVM guests have them for emulated interrupts if the
//! domain was made so (`hvm_pirq`: up to 4.18 always, later by option), PVH
//! guests never. The machine has one I/O APIC of 24 lines. Lines are edges
//! here. Not here: devices that are passed through by MSI.
//!
//! An emulated line stays mapped when its port is closed, and its interrupts
//! are lost then: only unmapping gives it back to the I/O APIC.

use std::collections::BTreeMap;

use kexen_abi::DOMID_SELF;
use kexen_abi::errno::Errno;
use kexen_abi::physdev::{self as abi, PhysdevEoi, PhysdevGetFreePirq, PhysdevIrqStatusQuery};
use kexen_abi::physdev::{PhysdevMapPirq, PhysdevPirqEoiGmfn, PhysdevUnmapPirq};

use crate::call::{Answer, Call};
use crate::frame::PGT_WRITABLE;
use crate::state::{Kind, State, Version};
use crate::xen::Guest;

/// Lines of the machine's interrupt controller (`nr_irqs_gsi`).
const MACHINE_LINES: u32 = 24;
/// PIRQs of a domain: those, and 32 (`extra_domU_irqs`).
const PIRQS: u32 = MACHINE_LINES + 32;
/// Lines of the emulated one (`NR_HVM_DOMU_IRQS`).
const EMULATED_LINES: i32 = 48;
/// Calls for a domain that has devices to manage.
const PRIVILEGED: [u64; 12] = [
    abi::PHYSDEVOP_APIC_READ,
    abi::PHYSDEVOP_APIC_WRITE,
    abi::PHYSDEVOP_ALLOC_IRQ_VECTOR,
    15,
    16,
    20,
    24,
    25,
    26,
    29,
    30,
    31,
];

/// The emulated interrupt that a PIRQ stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A line of the emulated interrupt controller.
    Gsi(u32),
    /// A message of a device model's (`IRQ_MSI_EMU`).
    Msi,
    /// A real device's (`IRQ_PT`).
    Device,
}

/// One PIRQ.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pirq {
    /// What is emulated by it (`emuirq`).
    pub(crate) emulated: Option<Source>,
    /// Handed out by `get_free_pirq`, for good (`PIRQ_ALLOCATED`).
    pub(crate) handed_out: bool,
    /// A device of the machine's, assigned by the toolstack.
    pub(crate) device: bool,
    /// The bound port; 0 for none.
    pub(crate) port: u32,
}

/// A domain's PIRQs.
#[derive(Debug, Default)]
pub(crate) struct Pirqs {
    /// Whether the domain has them at all, if not as the release says.
    enabled: Option<bool>,
    pub(crate) known: BTreeMap<u32, Pirq>,
    /// PV: the frame of the bitmap of those that need an end of interrupt.
    pub(crate) eoi_map: Option<u64>,
    /// Whether an end of interrupt unmasks the port, too.
    auto_unmask: bool,
}

impl Pirqs {
    fn get(&self, pirq: u32) -> Pirq {
        self.known.get(&pirq).copied().unwrap_or_default()
    }

    /// A PIRQ that is mapped to a line.
    fn of_line(&self, gsi: u32) -> Option<u32> {
        let mut known = self.known.iter();
        known
            .find(|(_, pirq)| pirq.emulated == Some(Source::Gsi(gsi)))
            .map(|(number, _)| *number)
    }

    /// `get_free_pirq`
    fn free(&self, kind: i32) -> Result<u32, Errno> {
        let free = |pirq: &u32| {
            let pirq = self.get(*pirq);
            !pirq.handed_out && !pirq.device && pirq.emulated.is_none()
        };
        let lines = if kind == abi::MAP_PIRQ_TYPE_GSI {
            16..MACHINE_LINES
        } else {
            0..0
        };
        let mut all = lines.chain((MACHINE_LINES..PIRQS).rev());
        all.find(free).ok_or(Errno::ENOSPC)
    }
}

impl State {
    fn pirq(&mut self, domain: usize, pirq: u32) -> &mut Pirq {
        self.domains[domain].pirqs.known.entry(pirq).or_default()
    }

    /// `has_pirq`
    pub(crate) fn has_pirqs(&self, domain: usize) -> bool {
        let domain = &self.domains[domain];
        let default = self.version < Version::Xen4_20;
        domain.kind == Kind::Hvm && domain.pirqs.enabled.unwrap_or(default)
    }

    /// Whether a port may be bound to a PIRQ. HVM and PVH guests may bind
    /// any, mapped or not.
    pub(crate) fn can_bind_pirq(&self, domain: usize, pirq: u32) -> Result<(), Errno> {
        if pirq >= PIRQS {
            return Err(Errno::EINVAL);
        }
        let known = self.domains[domain].pirqs.get(pirq);
        if self.domains[domain].kind == Kind::Pv && !known.device {
            return Err(Errno::EPERM);
        }
        if known.port != 0 {
            return Err(Errno::EEXIST);
        }
        Ok(())
    }

    pub(crate) fn bind_pirq(&mut self, domain: usize, pirq: u32, port: u32) {
        let translated = self.domains[domain].kind.translated();
        let known = self.pirq(domain, pirq);
        known.port = port;
        if known.device && translated {
            known.emulated.get_or_insert(Source::Device);
        }
    }

    /// A bound port is closed. What is emulated stays mapped.
    pub(crate) fn unbind_pirq(&mut self, domain: usize, pirq: u32) {
        let known = self.pirq(domain, pirq);
        known.port = 0;
        if known.device {
            known.emulated = None;
        }
    }

    /// Soft reset: no emulated interrupt is mapped any more.
    pub(crate) fn unmap_emulated_pirqs(&mut self, domain: usize) {
        for pirq in self.domains[domain].pirqs.known.values_mut() {
            pirq.emulated = None;
        }
    }

    /// The interrupt of a device, or a message: at the port, or lost.
    pub(crate) fn raise_pirq(&mut self, domain: usize, pirq: u32) {
        let translated = self.domains[domain].kind.translated();
        let Some(known) = self.domains[domain].pirqs.known.get_mut(&pirq) else {
            return;
        };
        if known.handed_out && translated {
            known.emulated.get_or_insert(Source::Msi);
        }
        let port = known.port;
        if port != 0
            && let Some(vcpu) = self.domains[domain].events.port(port).map(|c| c.vcpu)
        {
            self.set_pending(domain, vcpu, port);
        }
    }
}

/// `HYPERVISOR_physdev_op`
pub(crate) fn physdev_op(call: &mut Call<'_, '_, '_>) -> Answer {
    let domain = call.who.domain;
    let command = call.value(0) & 0xffff_ffff;
    let for_hvm = [
        abi::PHYSDEVOP_MAP_PIRQ,
        abi::PHYSDEVOP_UNMAP_PIRQ,
        abi::PHYSDEVOP_EOI,
        abi::PHYSDEVOP_IRQ_STATUS_QUERY,
        abi::PHYSDEVOP_GET_FREE_PIRQ,
    ];
    let translated = call.state.domains[domain].kind.translated();
    if translated && !(for_hvm.contains(&command) && call.state.has_pirqs(domain)) {
        return Err(Errno::ENOSYS);
    }
    match command {
        abi::PHYSDEVOP_MAP_PIRQ => map(call)?,
        abi::PHYSDEVOP_UNMAP_PIRQ => unmap(call)?,
        abi::PHYSDEVOP_GET_FREE_PIRQ => {
            let mut arg: PhysdevGetFreePirq = call.read(1, 0)?;
            arg.pirq = call.state.domains[domain].pirqs.free(arg.kind)?;
            call.state.pirq(domain, arg.pirq).handed_out = true;
            call.write(1, 0, &arg)?;
        }
        abi::PHYSDEVOP_EOI => end_of_interrupt(call)?,
        abi::PHYSDEVOP_IRQ_STATUS_QUERY => {
            let mut arg: PhysdevIrqStatusQuery = call.read(1, 0)?;
            let known = call.state.domains[domain].pirqs.get(arg.irq);
            let mapped = known.device || known.emulated.is_some();
            if arg.irq >= PIRQS || (translated && !mapped) {
                return Err(Errno::EINVAL);
            }
            arg.flags = abi::XENIRQSTAT_NEEDS_EOI;
            call.write(1, 0, &arg)?;
        }
        abi::PHYSDEVOP_PIRQ_EOI_GMFN_V1 => eoi_map(call, true)?,
        abi::PHYSDEVOP_PIRQ_EOI_GMFN_V2 => eoi_map(call, false)?,
        abi::PHYSDEVOP_IRQ_UNMASK_NOTIFY => {}
        abi::PHYSDEVOP_SET_IOPL => {
            let level: u32 = call.read(1, 0)?;
            if level > 3 {
                return Err(Errno::EINVAL);
            }
        }
        _ if PRIVILEGED.contains(&command) => return Err(Errno::EPERM),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// Whether a call means the caller, in a way that lets it map its emulated
/// interrupts: up to 4.17 its own number does not.
fn means_self(call: &Call<'_, '_, '_>, domid: u16) -> Result<bool, Errno> {
    let other = match call.state.resolve(call.who, domid) {
        // Domain 0 is always there.
        Err(_) if domid == 0 => return Ok(false),
        target => target? != call.who.domain,
    };
    let named = call.state.version == Version::Xen4_17 && domid != DOMID_SELF;
    Ok(!other && !named && call.state.has_pirqs(call.who.domain))
}

/// `PHYSDEVOP_map_pirq`; the structure is written back, error or not.
fn map(call: &mut Call<'_, '_, '_>) -> Result<(), Errno> {
    let mut arg: PhysdevMapPirq = call.read(1, 0)?;
    match arg.kind {
        abi::MAP_PIRQ_TYPE_MSI_SEG => arg.kind = abi::MAP_PIRQ_TYPE_MSI,
        abi::MAP_PIRQ_TYPE_MULTI_MSI if arg.table_base != 0 => return Err(Errno::EINVAL),
        _ => {}
    }
    let result = map_emulated(call, &mut arg);
    if result != Err(Errno::ESRCH) || call.state.version == Version::Xen4_17 {
        call.write(1, 0, &arg)?;
    }
    result
}

fn map_emulated(call: &mut Call<'_, '_, '_>, arg: &mut PhysdevMapPirq) -> Result<(), Errno> {
    if !means_self(call, arg.domid)? {
        return Err(Errno::EPERM);
    }
    let domain = call.who.domain;
    // Without a vector the interrupt would call back into itself.
    let vector = call.state.domains[domain].life.has_vector_callback();
    let line = (0..EMULATED_LINES).contains(&arg.index);
    if !vector || !line || arg.kind != abi::MAP_PIRQ_TYPE_GSI {
        return Err(Errno::EINVAL);
    }
    let pirqs = &call.state.domains[domain].pirqs;
    let pirq = match u32::try_from(arg.pirq) {
        Ok(pirq) => pirq,
        Err(_) => match pirqs.free(arg.kind) {
            Ok(pirq) => pirq,
            Err(error) => {
                arg.pirq = -i32::try_from(error.0).unwrap_or(i32::MAX);
                return Err(Errno::EINVAL);
            }
        },
    };
    arg.pirq = i32::try_from(pirq).unwrap_or(i32::MAX);
    if pirq >= PIRQS {
        return Err(Errno::EINVAL);
    }
    let gsi = u32::try_from(arg.index).unwrap_or(0);
    let source = Source::Gsi(gsi);
    let known = pirqs.get(pirq).emulated;
    // Mapped otherwise already: success, and nothing is done.
    if known.is_none_or(|known| known == source)
        && pirqs.of_line(gsi).is_none_or(|other| other == pirq)
    {
        call.state.pirq(domain, pirq).emulated = Some(source);
    }
    Ok(())
}

/// `PHYSDEVOP_unmap_pirq`: one that is not mapped is no error, and a port
/// that is bound stays so.
fn unmap(call: &mut Call<'_, '_, '_>) -> Result<(), Errno> {
    let arg: PhysdevUnmapPirq = call.read(1, 0)?;
    if !means_self(call, arg.domid)? {
        return Err(Errno::EPERM);
    }
    let pirqs = &mut call.state.domains[call.who.domain].pirqs;
    if let Some(pirq) = pirqs.known.get_mut(&arg.pirq) {
        pirq.emulated = None;
    }
    Ok(())
}

fn end_of_interrupt(call: &mut Call<'_, '_, '_>) -> Result<(), Errno> {
    let arg: PhysdevEoi = call.read(1, 0)?;
    let domain = call.who.domain;
    let pirqs = &call.state.domains[domain].pirqs;
    let known = pirqs.known.get(&arg.irq).copied();
    let known = known.filter(|_| arg.irq < PIRQS).ok_or(Errno::EINVAL)?;
    if pirqs.auto_unmask {
        call.state.unmask(domain, known.port);
    }
    Ok(())
}

/// `PHYSDEVOP_pirq_eoi_gmfn_v*`: a page for good, once.
fn eoi_map(call: &mut Call<'_, '_, '_>, auto_unmask: bool) -> Result<(), Errno> {
    let arg: PhysdevPirqEoiGmfn = call.read(1, 0)?;
    let domain = call.who.domain;
    let state = &mut *call.state;
    let id = state.domains[domain].id;
    let mfn = state.frame_of_gfn(domain, arg.gmfn).ok_or(Errno::EINVAL)?;
    state.get_page_and_type(mfn, id, PGT_WRITABLE)?;
    if state.domains[domain].pirqs.eoi_map.is_some() {
        state.put_page_and_type(mfn);
        return Err(Errno::EBUSY);
    }
    let pirqs = &mut state.domains[domain].pirqs;
    pirqs.eoi_map = Some(mfn);
    pirqs.auto_unmask |= auto_unmask;
    Ok(())
}

/// Where the interrupt of an emulated line went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// To the emulated I/O APIC.
    IoApic,
    /// To a port.
    Port(u32),
    /// Nowhere: its PIRQ is mapped, and bound to no port.
    Lost,
}

impl Guest {
    /// Makes the domain with PIRQs for emulated interrupts, or without
    /// (`hvm_pirq=` in its configuration).
    pub fn set_hvm_pirqs(&self, on: bool) {
        self.xen().state().domains[self.index()].pirqs.enabled = Some(on);
    }

    /// The toolstack gives the domain a device whose interrupt is this PIRQ.
    pub fn assign_device(&self, pirq: u32) {
        let mut state = self.xen().state();
        state.pirq(self.index(), pirq).device = true;
    }

    /// A line of the emulated interrupt controller is raised (`assert_gsi`).
    #[must_use]
    pub fn gsi_fires(&self, gsi: u32) -> Interrupt {
        self.xen().step();
        let mut state = self.xen().state();
        let domain = self.index();
        let Some(pirq) = state.domains[domain].pirqs.of_line(gsi) else {
            return Interrupt::IoApic;
        };
        state.raise_pirq(domain, pirq);
        match state.pirq(domain, pirq).port {
            0 => Interrupt::Lost,
            port => Interrupt::Port(port),
        }
    }
}
