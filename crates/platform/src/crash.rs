//! The crash hand-off on this platform: prepared once, taken from a panic.
//!
//! Order of steps of a crash: the first vCPU that comes wins, others stop;
//! its registers go into the note; all other vCPUs are made as new by one INIT
//! through the local APIC, whatever they were doing and whichever lock they
//! hold; ports, PIRQs and the callback that were in the ledger when the
//! hand-off was prepared are given up, since the capture kernel would be
//! refused its own; jump, on vCPU 0 whichever vCPU it was. No allocation, no lock, no wait.

use alloc::{format, string::String, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kexen_abi::PAGE_SIZE;
use kexen_guest::{
    Extent, HypercallError, Machine, release,
    vcpus::{self, Context64, no_callback},
};
use kexen_handoff::{
    Ledger,
    crash::{
        Capture, Prepared, Source,
        elfcore::{self, Range},
    },
    ledger::Kind,
    pvh::trampoline::TRAMPOLINE_DATA,
};
use kexen_image::Kernel;

use crate::{
    arch::{Xen, jump, machine, vcpu},
    failure::Failure,
    guest::Guest as _,
    lapic,
    loan::lent,
    native::{Entry, Native as _},
    pvh_guest::PvhGuest,
};

static TRAMPOLINE: AtomicU64 = AtomicU64::new(0);
static NOTE: AtomicU64 = AtomicU64::new(0);
/// What is given up: a word of [`PORT`] and so on and a number; 0 ends it.
static CLAIMS: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];
const PORT: u64 = 1 << 32;
const PIRQ: u64 = 2 << 32;
const CALLBACK: u64 = 3 << 32;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// A capture kernel in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// Address and bytes of the kernel, a bzImage.
    pub kernel: (u64, u64),
    /// Address and bytes of the initrd.
    pub initrd: (u64, u64),
    /// Its command line.
    pub command_line: &'a str,
}

/// Keeps `pages` of memory for a capture kernel and writes it there. From now
/// on a panic on any vCPU hands over to it.
pub fn prepare(
    guest: &mut PvhGuest<Xen>,
    files: &Files<'_>,
    pages: u64,
) -> Result<Extent, Failure> {
    let m = guest.machine();
    let region = guest.take_low(pages, "the crash region")?;
    let (at, len) = files.kernel;
    let file = String::from("capture kernel");
    let (prepared, code) = lent(m, at, len, |bytes| {
        let kernel = Kernel::parse(bytes).map_err(|error| Failure::Kernel {
            file: file.clone(),
            error,
        })?;
        let Kernel::BzImage(image) = kernel else {
            return Err(Failure::CannotStart {
                file: file.clone(),
                guest: guest.kind(),
                why: String::from("a capture kernel must be a bzImage, which can be moved"),
            });
        };
        let size = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let (physical, end) = m.image();
        let seen = Range {
            physical,
            virt: physical + m.image_offset(),
            len: end - physical,
        };
        let capture = Capture {
            setup_header: image.setup_header,
            relocatable: image.relocatable,
            alignment: image.alignment.into(),
            init_size: image.init_size.into(),
            code_len: size(image.code.len()),
            initrd_len: files.initrd.1,
            command_line: files.command_line,
        };
        let prepared = Prepared::plan(guest.start(), region, seen, &capture)?;
        Ok((prepared, at + size(image.code_offset)))
    })?;
    let source = Source {
        code,
        initrd: files.initrd.0,
    };
    let ready = prepared.stage(m, source, m.trampoline(Entry::Linux))?;
    note_claims(guest.ledger());
    NOTE.store(ready.note, Ordering::Release);
    TRAMPOLINE.store(ready.trampoline, Ordering::Release);
    Ok(region)
}

/// Notes which ports, PIRQs and callback of the ledger a crash has to give up.
/// To be called again when they have changed.
pub fn note_claims(ledger: &Ledger) {
    let mut words = Vec::new();
    for claim in ledger.claims() {
        match claim.kind {
            Kind::EventChannel { port } => words.push(PORT | u64::from(port)),
            Kind::Pirq { pirq, port } => {
                words.extend(port.map(|port| PORT | u64::from(port)));
                words.push(PIRQ | u64::from(pirq));
            }
            Kind::Callback { .. } => words.push(CALLBACK),
            _ => {}
        }
    }
    words.resize(CLAIMS.len(), 0);
    for (slot, word) in CLAIMS.iter().zip(words) {
        slot.store(word, Ordering::Release);
    }
}

/// Has vCPU 0, which is as new, go through the trampoline: a kernel that boots
/// on another one gets no interrupts by PIRQ (Xen asks for the upcall vector
/// of vCPU 0 alone, `is_hvm_pv_evtchn_domain`) and its ports are bound to a
/// vCPU that does not run.
fn on_vcpu_0(m: &Xen, trampoline: u64) -> Result<(), HypercallError> {
    let context = Context64 {
        rip: trampoline,
        rsp: trampoline + TRAMPOLINE_DATA,
        rdi: trampoline,
        cr3: trampoline + PAGE_SIZE,
    };
    vcpus::initialise(m, 0, &context)?;
    vcpus::up(m, 0)
}

fn give_up_claims(m: &Xen) {
    for slot in &CLAIMS {
        let word = slot.load(Ordering::Acquire);
        let number = u32::try_from(word & 0xffff_ffff).unwrap_or(0);
        // What is refused now is not there any more.
        let _ = match word & !0xffff_ffff {
            PORT => release::close_port(m, number),
            PIRQ => release::unmap_pirq(m, number),
            CALLBACK => no_callback(m),
            _ => break,
        };
    }
}

/// What a person reads of it.
#[must_use]
pub fn describe(region: Extent) -> String {
    format!("{} MiB at {:#x}", region.count >> 8, region.start << 12)
}

/// Hands over to the capture kernel, if one was prepared; comes back if not.
/// From any vCPU, whatever the others do.
pub fn take(m: &Xen) {
    let trampoline = TRAMPOLINE.load(Ordering::Acquire);
    if trampoline == 0 || m.is_pv() {
        return;
    }
    if TAKEN.swap(true, Ordering::AcqRel) {
        // Another vCPU is on the way, and will make this one as new.
        machine::halt()
    }
    let registers = vcpu::registers();
    let note = elfcore::note(vcpu::apic_id() / 2, &registers);
    let _ = m.write(NOTE.load(Ordering::Acquire), &note);
    if lapic::init_others(m).is_ok() {
        give_up_claims(m);
        let own = vcpu::apic_id() / 2;
        if own != 0 && on_vcpu_0(m, trampoline).is_ok() {
            let _ = release::vcpu_down(m, own);
            machine::halt()
        }
        jump::run(trampoline);
    }
}
