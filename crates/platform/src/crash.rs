//! The crash hand-off on this platform: prepared once, taken from a panic.
//!
//! Order of steps of a crash: the first vCPU that comes wins, others stop;
//! its registers go into the note; all other vCPUs are made as new by one INIT
//! through the local APIC, whatever they were doing and whichever lock they
//! hold; jump. No allocation, no lock, no wait, and one trap to Xen.

use alloc::{format, string::String};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kexen_guest::{Extent, Machine};
use kexen_handoff::crash::{
    Capture, Prepared, Source,
    elfcore::{self, Range},
};
use kexen_image::Kernel;

use crate::{
    arch::{Xen, jump, machine, vcpu},
    failure::Failure,
    guest::Guest as _,
    lapic,
    loan::lent,
    pvh_guest::PvhGuest,
};

static TRAMPOLINE: AtomicU64 = AtomicU64::new(0);
static NOTE: AtomicU64 = AtomicU64::new(0);
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
pub fn prepare(guest: &mut PvhGuest, files: &Files<'_>, pages: u64) -> Result<Extent, Failure> {
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
        let (physical, end) = machine::physical_image();
        let seen = Range {
            physical,
            virt: physical + machine::IMAGE_OFFSET,
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
    let ready = prepared.stage(m, source, jump::linux_code())?;
    NOTE.store(ready.note, Ordering::Release);
    TRAMPOLINE.store(ready.trampoline, Ordering::Release);
    Ok(region)
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
        jump::run(trampoline);
    }
}
