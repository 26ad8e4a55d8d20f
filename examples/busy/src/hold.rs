//! The claims that the busy guest holds, each entered in the ledger as it is
//! made: the order of a kernel's life, shared info first.

use alloc::{format, string::String, vec::Vec};

use kexen_abi::PAGE_SIZE;
use kexen_guest::{
    Machine,
    block::Page,
    events,
    grants::Grants,
    hypercall, pirqs,
    references::{Access, References},
    release::Area,
    shared_info::Place,
    vcpus,
};
use kexen_handoff::ledger::{Claim, Holder, Kind, Ledger};
use kexen_platform::{
    Xen, arch::machine, guest::Guest, pci, pvh_guest::PvhGuest, vcpus as platform,
};

use crate::{
    devices::{self, Interrupt},
    disks::Disks,
    options::Options,
    work::{self, MOST, PLACE},
};

/// Pages that are granted, and ballooned out.
const PAGES: u64 = 16;
/// The callback vector.
const VECTOR: u8 = 0xf3;

fn text(error: impl core::fmt::Display) -> String {
    format!("{error}")
}

fn enter(ledger: &mut Ledger, kind: Kind, holder: Holder) {
    ledger.enter(Claim::of(kind, holder));
}

/// What is held beside what the ledger says.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) vcpus: u32,
    pub(crate) place: Place,
    pub(crate) references: Option<References>,
    pub(crate) disks: Option<Disks>,
    /// Another page number outside the memory map, for moves.
    pub(crate) other: u32,
    /// Whether shared info is over RAM, as that of an operating system that
    /// needs the clock before it knows of the platform device.
    pub(crate) in_ram: bool,
    /// Interrupts of devices.
    pub(crate) interrupts: Vec<Interrupt>,
}

/// Takes pages of free memory.
fn take(guest: &mut PvhGuest, count: u64) -> Result<Vec<u64>, String> {
    let low = guest.free().within(kexen_guest::Extent::new(0, 1 << 20));
    let mut low = low;
    let pages = low.take(count).ok_or("too few pages are free")?;
    for run in pages.runs() {
        guest.free().remove(*run);
    }
    Ok(pages.pages().collect())
}

/// Takes everything that `busy.hold` names.
pub(crate) fn all(guest: &mut PvhGuest, options: &Options) -> Result<Held, String> {
    let m = guest.machine();
    let count = vcpus::count(m).map_err(text)?;
    let most = u32::try_from(MOST).unwrap_or(0);
    let count = count.min(most);
    // Page numbers that nothing backs: the platform device's memory in an HVM
    // guest, the end of the memory map in a PVH one.
    let room = if guest.is_hvm() {
        let (first, _) = pci::platform_pages(m).ok_or("there is no platform device")?;
        first
    } else {
        guest.hole()
    };
    let room = u32::try_from(room).map_err(text)?;
    let words = take(guest, 1)?[0] * PAGE_SIZE;
    let in_ram = guest.is_hvm() && options.holds("shared-info");
    let first = if in_ram {
        u32::try_from(take(guest, 1)?[0]).map_err(text)?
    } else {
        room
    };
    let mut held = Held {
        vcpus: if options.holds("vcpus") { count } else { 1 },
        place: Place::map(m, words, count, first).map_err(text)?,
        references: None,
        disks: None,
        other: room + 1,
        in_ram,
        interrupts: Vec::new(),
    };
    let gfn = first.into();
    let kind = if in_ram {
        Kind::SharedInfoInRam { gfn }
    } else {
        Kind::SharedInfoPhysmap { gfn }
    };
    enter(guest.ledger(), kind, Holder::Xen);
    PLACE.call_once(|| held.place);
    if options.holds("grants") || options.holds("device") {
        held.references = Some(grants(guest, options, u64::from(room) + 2)?);
    }
    if options.holds("balloon") {
        balloon(guest)?;
    }
    if guest.is_hvm() && options.holds("callback") {
        vcpus::set_callback_vector(m, VECTOR).map_err(text)?;
        enter(
            guest.ledger(),
            Kind::Callback { vector: VECTOR },
            Holder::Xen,
        );
    }
    if guest.is_hvm() && pirqs::available(m).map_err(text)? {
        if options.holds("pirq-gsi") {
            held.interrupts.push(devices::by_line(m)?);
        }
        if options.holds("pirq-msi") {
            held.interrupts.push(devices::by_message(m)?);
        }
    }
    for interrupt in &held.interrupts {
        enter(
            guest.ledger(),
            Kind::Pirq {
                pirq: interrupt.pirq,
                port: Some(interrupt.port),
            },
            Holder::Xen,
        );
    }
    for vcpu in 1..held.vcpus {
        platform::start(m, vcpu, work::run).map_err(text)?;
        enter(
            guest.ledger(),
            Kind::Vcpu {
                vcpu,
                by_init: true,
            },
            Holder::Xen,
        );
    }
    for vcpu in 0..held.vcpus {
        if options.holds("areas") {
            areas(guest, m, vcpu)?;
        }
        if options.holds("ports") {
            for port in work::open_ports(m, vcpu).map_err(text)? {
                enter(guest.ledger(), Kind::EventChannel { port }, Holder::Xen);
            }
        }
    }
    if options.holds("ports") {
        let port = events::alloc_unbound(m, 0).map_err(text)?;
        enter(
            guest.ledger(),
            Kind::EventChannel { port },
            Holder::Domain(0),
        );
    }
    if options.holds("device") {
        disks(guest, &mut held)?;
    }
    hopeless(guest, m, options)?;
    Ok(held)
}

/// The grant table, and pages granted to the backend domain.
fn grants(guest: &mut PvhGuest, options: &Options, gfn: u64) -> Result<References, String> {
    let m = guest.machine();
    hypercall::map_grant_frame(m, 0, gfn).map_err(text)?;
    enter(guest.ledger(), Kind::GrantTable { gfn }, Holder::Xen);
    let mut references = References::new(Grants::new(gfn * PAGE_SIZE));
    let count = if options.holds("grants") { PAGES } else { 0 };
    for page in take(guest, count)? {
        let frame = u32::try_from(page).map_err(text)?;
        let reference = references.grant(m, 0, frame, Access::Write).map_err(text)?;
        enter(
            guest.ledger(),
            Kind::Grant { reference, page },
            Holder::Domain(0),
        );
    }
    Ok(references)
}

/// Connects the block devices.
fn disks(guest: &mut PvhGuest, held: &mut Held) -> Result<(), String> {
    let m = guest.machine();
    let Some(references) = &mut held.references else {
        return Ok(());
    };
    let mut pages = take(guest, 16)?.into_iter();
    let mut page = || {
        let number = pages.next().ok_or("more disks than there are pages for")?;
        Ok(Page {
            number,
            address: number * PAGE_SIZE,
            frame: u32::try_from(number).map_err(text)?,
        })
    };
    let disks = Disks::connect(m, held.place, references, &mut page, guest.ledger())?;
    held.disks = Some(disks);
    Ok(())
}

/// Pages given back to Xen, every other one, so that no two are together.
fn balloon(guest: &mut PvhGuest) -> Result<(), String> {
    let m = guest.machine();
    let list = machine::scratch();
    for page in take(guest, 2 * PAGES)?.into_iter().step_by(2) {
        m.write64(list, page).map_err(text)?;
        if !hypercall::decrease_reservation(m, list).map_err(text)? {
            return Err(format!("Xen does not take page {page:#x}"));
        }
        enter(guest.ledger(), Kind::Hole { page }, Holder::Xen);
    }
    Ok(())
}

/// Runstate and time areas: by page where Xen has that, by address elsewhere.
fn areas(guest: &mut PvhGuest, m: &'static Xen, vcpu: u32) -> Result<(), String> {
    let page = take(guest, 1)?[0];
    let at = page * PAGE_SIZE;
    m.fill(at, PAGE_SIZE, 0).map_err(text)?;
    let by_page = vcpus::register_area(m, vcpu, Area::RunstatePage, at).is_ok();
    let (runstate, time) = if by_page {
        vcpus::register_area(m, vcpu, Area::TimePage, at + 2048).map_err(text)?;
        (
            Kind::RunstatePage { vcpu, page },
            Kind::TimePage { vcpu, page },
        )
    } else {
        vcpus::register_area(m, vcpu, Area::RunstateAddress, at).map_err(text)?;
        vcpus::register_area(m, vcpu, Area::TimeAddress, at + 2048).map_err(text)?;
        (
            Kind::RunstateAddress { vcpu, address: at },
            Kind::TimeAddress {
                vcpu,
                address: at + 2048,
            },
        )
    };
    enter(guest.ledger(), runstate, Holder::Xen);
    enter(guest.ledger(), time, Holder::Xen);
    Ok(())
}

/// What nothing gives up, if it is asked for: the hand-off must refuse.
fn hopeless(guest: &mut PvhGuest, m: &'static Xen, options: &Options) -> Result<(), String> {
    if options.holds("vcpu-info") {
        let page = take(guest, 1)?[0];
        vcpus::register_vcpu_info(m, 0, page, 0).map_err(text)?;
        enter(
            guest.ledger(),
            Kind::VcpuInfo { vcpu: 0, page },
            Holder::Xen,
        );
    }
    if options.holds("vector") {
        vcpus::set_callback_vector(m, VECTOR).map_err(text)?;
        enter(
            guest.ledger(),
            Kind::UpcallVector { vector: VECTOR },
            Holder::Xen,
        );
    }
    Ok(())
}
