//! The claims that the busy guest holds, each entered in the ledger as it is
//! made: the order of a kernel's life, shared info first.

use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::cell::RefCell;

use kexen_abi::PAGE_SIZE;
use kexen_guest::{
    Machine, abandon, events, pirqs,
    references::{Access, References},
    release::{self, Area},
    shared_info::Place,
    vcpus,
};
use kexen_handoff::ledger::{Claim, Holder, Kind, Ledger};
use kexen_platform::{
    Xen,
    arch::{machine, vcpu as platform},
    disks,
};

use crate::{
    devices::{self, Interrupt},
    disks::Disks,
    field::Field,
    options::Options,
    text,
    work::{self, MOST, PLACE},
};

/// Pages that are ballooned out one by one, with one in between; if there are
/// more, the rest is in one piece.
const ALONE: u64 = 16;
/// The callback vector.
const VECTOR: u8 = 0xf3;

fn enter(ledger: &mut Ledger, kind: Kind, holder: Holder) {
    ledger.enter(Claim::of(kind, holder));
}

/// What is held beside what the ledger says.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) vcpus: u32,
    pub(crate) place: Place,
    pub(crate) references: Option<Rc<RefCell<References>>>,
    pub(crate) disks: Option<Disks>,
    /// Another page number outside the memory map, for moves.
    pub(crate) other: u32,
    /// Whether shared info is over RAM, as that of an operating system that
    /// needs the clock before it knows of the platform device.
    pub(crate) in_ram: bool,
    /// Interrupts of devices.
    pub(crate) interrupts: Vec<Interrupt>,
}

/// Takes everything that `busy.hold` names.
pub(crate) fn all<G: Field>(guest: &mut G, options: &Options) -> Result<Held, String> {
    let m = guest.machine();
    let count = vcpus::count(m).map_err(text)?;
    let most = u32::try_from(MOST).unwrap_or(0);
    let count = count.min(most);
    let words = guest.take(1)?[0].address;
    let (place, other, in_ram) = guest.busy_place(words, count, options)?;
    // A PV vCPU can never be given back: only if it is asked for by name.
    let several = options.holds(if m.is_pv() { "pv-vcpus" } else { "vcpus" });
    let mut held = Held {
        vcpus: if several { count } else { 1 },
        place,
        references: None,
        disks: None,
        other,
        in_ram,
        interrupts: Vec::new(),
    };
    PLACE.call_once(|| held.place);
    if options.holds("grants") || options.holds("device") {
        let references = grants(guest, options)?;
        held.references = Some(Rc::new(RefCell::new(references)));
    }
    if options.holds("balloon") {
        balloon(guest, options.balloon)?;
    }
    if options.holds("callback") {
        callback(guest)?;
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
        guest.start_vcpu(vcpu, work::run)?;
        enter(
            guest.ledger(),
            Kind::Vcpu {
                vcpu,
                by_init: !m.is_pv(),
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
        for _ in 0..options.ports {
            let port = events::alloc_unbound(m, 0).map_err(text)?;
            let kind = Kind::EventChannel { port };
            enter(guest.ledger(), kind, Holder::Domain(0));
        }
    }
    if options.holds("device") {
        disks(guest, options, &mut held)?;
    }
    hopeless(guest, &|what| options.holds(what))?;
    Ok(held)
}

/// The grant table, and pages granted to the backend domain.
fn grants<G: Field>(guest: &mut G, options: &Options) -> Result<References, String> {
    let m = guest.machine();
    let table = guest.grants()?;
    let taken = |&reference: &u32| table.flags(m, reference).is_ok_and(|flags| flags != 0);
    let others = table.references().filter(taken).count();
    if others > 0 {
        return Err(format!(
            "{others} entries of the grant table are another kernel's"
        ));
    }
    let mut references = References::new(table);
    if options.holds("foreign") {
        foreign(guest, &mut references)?;
    }
    let count = if options.holds("grants") {
        options.grants
    } else {
        0
    };
    let pages = guest.take(count)?;
    for page in pages {
        let reference = references
            .grant(m, 0, page.frame, Access::Write)
            .map_err(text)?;
        let kind = Kind::Grant {
            reference,
            page: page.number,
        };
        enter(guest.ledger(), kind, Holder::Domain(0));
    }
    Ok(references)
}

/// A mapping of a granted page: this guest's own, as there is no other domain
/// that grants it any. Its page number is a hole from then on (`p2m_add_page`).
fn foreign<G: Field>(guest: &mut G, references: &mut References) -> Result<(), String> {
    let m = guest.machine();
    let (Some(address), Some(own)) = (guest.foreign()?, platform::domid()) else {
        return Ok(());
    };
    let page = guest.take(1)?[0];
    let reference = references
        .grant(m, own, page.frame, Access::Write)
        .map_err(text)?;
    let handle = release::map_grant(m, own, reference, address)
        .map_err(text)?
        .map_err(|status| format!("mapping a grant: status {status}"))?;
    for kind in [
        Kind::ForeignMapping { address, handle },
        Kind::Grant {
            reference,
            page: page.number,
        },
        Kind::Hole { page: page.number },
    ] {
        enter(guest.ledger(), kind, Holder::Domain(own));
    }
    m.write64(address, 0x5a5a).map_err(text)?;
    Ok(())
}

/// Connects the block devices.
fn disks<G: Field>(guest: &mut G, options: &Options, held: &mut Held) -> Result<(), String> {
    let Some(references) = &held.references else {
        return Ok(());
    };
    let mut all = disks::Disks::new(guest, held.place, Rc::clone(references))?;
    if let Some(node) = &options.await_node {
        all.await_node(node)?;
    }
    all.connect_all(guest, &mut |_| ())?;
    held.disks = Some(Disks::new(all)?);
    Ok(())
}

/// Pages given back to Xen, some of them with one in between.
fn balloon<G: Field>(guest: &mut G, count: u64) -> Result<(), String> {
    let m = guest.machine();
    let alone = count.min(ALONE);
    let mut pages: Vec<_> = guest.take(2 * alone)?.into_iter().step_by(2).collect();
    pages.extend(guest.take(count - alone)?);
    for page in pages {
        let page = abandon::Page {
            number: page.number,
            address: page.address,
        };
        let mut memory = guest.memory_to_abandon();
        abandon::release(m, &mut memory, page, machine::scratch()).map_err(text)?;
        enter(
            guest.ledger(),
            Kind::Hole { page: page.number },
            Holder::Xen,
        );
    }
    Ok(())
}

/// Where Xen would call this kernel: by a vector in an HVM guest, by addresses
/// in a PV one. In a PVH guest nothing could take it back.
fn callback<G: Field>(guest: &mut G) -> Result<(), String> {
    let m = guest.machine();
    let kind = if m.is_pv() {
        vcpus::set_pv_callbacks(m, platform::entry(m)).map_err(text)?;
        Kind::Upcalls
    } else if guest.is_hvm() {
        vcpus::set_callback_vector(m, VECTOR).map_err(text)?;
        Kind::Callback { vector: VECTOR }
    } else {
        return Ok(());
    };
    enter(guest.ledger(), kind, Holder::Xen);
    Ok(())
}

/// Runstate and time areas: by page where Xen has that, by address elsewhere.
fn areas<G: Field>(guest: &mut G, m: &'static Xen, vcpu: u32) -> Result<(), String> {
    let held = guest.take(1)?[0];
    let (page, at) = (held.number, held.address);
    m.fill(at, PAGE_SIZE, 0).map_err(text)?;
    let frame = u64::from(held.frame) * PAGE_SIZE;
    let by_page = vcpus::register_area(m, vcpu, Area::RunstatePage, frame).is_ok();
    let (runstate, time) = if by_page {
        vcpus::register_area(m, vcpu, Area::TimePage, frame + 2048).map_err(text)?;
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
pub(crate) fn hopeless<G: Field>(
    guest: &mut G,
    asked: &dyn Fn(&str) -> bool,
) -> Result<(), String> {
    let m = guest.machine();
    if asked("vcpu-info") {
        let held = guest.take(1)?[0];
        vcpus::register_vcpu_info(m, 0, held.frame.into(), 0).map_err(text)?;
        let kind = Kind::VcpuInfo {
            vcpu: 0,
            page: held.number,
        };
        enter(guest.ledger(), kind, Holder::Xen);
    }
    if asked("vector") {
        vcpus::set_callback_vector(m, VECTOR).map_err(text)?;
        enter(
            guest.ledger(),
            Kind::UpcallVector { vector: VECTOR },
            Holder::Xen,
        );
    }
    Ok(())
}
