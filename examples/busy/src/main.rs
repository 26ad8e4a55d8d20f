//! A kernel that behaves like a full operating system as far as Xen is
//! concerned, and hands over to the next kernel in the middle of it: an
//! example of what a kernel does with Kexen's library, and its hardest test.
//!
//! Order of steps: start of day; claims (`busy.hold=`), each entered in the
//! ledger; further vCPUs, which work; the next kernel from the boot module;
//! the hand-off. What each word of the command line does is in [`options`].
//!
//! | module | what it is |
//! |---|---|
//! | [`options`] | the command line |
//! | [`work`] | what every vCPU does all the time |
//! | [`hold`] | the claims |
//! | [`leftovers`] | what the kernel before should not have left |
//! | [`field`] | what differs between types of guest |
//! | [`devices`] | interrupts of emulated devices as event channels |
//! | [`disks`] | block devices, connected meanwhile |
//! | [`handover`] | how all that stops |

#![no_std]
#![no_main]

extern crate alloc;

mod devices;
mod disks;
mod field;
mod handover;
mod hold;
mod leftovers;
mod options;
mod work;

use alloc::{format, string::String};
use core::{convert::Infallible, sync::atomic::Ordering};

use kexen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use kexen_guest::{Machine as _, hypercall};
use kexen_platform::{
    Boot, Started, Xen, crash, exec, kernel, loan::offset_len, module, report::Report,
};

use field::Field;
use handover::Busy;
use options::Options;
use work::{SEEN, Worker};

/// How often the memory limit is looked at, and nanoseconds between.
const SHRINK_LOOKS: u32 = 600;
const SHRINK_NAP: u64 = 50_000_000;

kexen_platform::entry!(start);

fn start(boot: Boot) -> ! {
    let entered = boot.machine().tsc();
    match boot.guest() {
        Started::Pv(mut guest) => run(&mut guest, entered),
        Started::Translated(mut guest) => run(&mut guest, entered),
    }
}

/// Runs to the hand-off, or to the end.
fn run<G: Field>(guest: &mut G, entered: u64) -> ! {
    let m = guest.machine();
    let report = Report::new(guest.console());
    report.keep_for_panic();
    let options = Options::parse(&guest.command_line());
    let crash = matches!(&options, Ok(options) if options.crash_when_blocked);
    let why = match options {
        Ok(options) => match attempt(guest, &report, &options, entered) {
            Ok(never) => match never {},
            Err(why) => why,
        },
        Err(why) => why,
    };
    say(m, &report, "error", &why);
    alive(m, &report);
    report.console().drain(m);
    let reason = if crash {
        SHUTDOWN_CRASH
    } else {
        SHUTDOWN_POWEROFF
    };
    loop {
        let _ = hypercall::shutdown(m, reason);
    }
}

/// An error in words: all that becomes of one here.
pub(crate) fn text(error: impl core::fmt::Display) -> String {
    format!("{error}")
}

fn say(m: &Xen, report: &Report, key: &str, value: impl core::fmt::Display) {
    report.raw(m, &format!("kexen-busy: {key}={value}\n"));
}

/// Works on after a refusal: the guest must not have suffered from it.
fn alive(m: &'static Xen, report: &Report) {
    let before = totals();
    let mut worker = Worker::new(m, 0);
    let start = worker.clock().unwrap_or(0);
    let mut rounds = 0_u32;
    while rounds < 100_000 && worker.clock().unwrap_or(u64::MAX) < start + 200_000_000 {
        worker.round();
        rounds += 1;
    }
    let after = totals();
    let running = SEEN
        .iter()
        .filter(|seen| seen.readings.load(Ordering::Relaxed) > 0);
    say(
        m,
        report,
        "alive",
        format!(
            "{} vcpus, {} rounds, {} readings",
            running.count(),
            rounds,
            after.0 - before.0
        ),
    );
}

/// Clock readings, wrong ones, timer events, interrupts, damaged memory.
fn totals() -> (u64, u64, u64, u64, u64) {
    let sum = |f: fn(&work::Seen) -> u64| SEEN.iter().map(f).sum();
    (
        sum(|s| s.readings.load(Ordering::Relaxed)),
        sum(|s| s.wrong.load(Ordering::Relaxed)),
        sum(|s| s.timers.load(Ordering::Relaxed)),
        sum(|s| s.ipis.load(Ordering::Relaxed)),
        sum(|s| s.damaged.load(Ordering::Relaxed)),
    )
}

fn attempt<G: Field>(
    guest: &mut G,
    report: &Report,
    options: &Options,
    entered: u64,
) -> Result<Infallible, String> {
    let m = guest.machine();
    say(m, report, "started", guest.kind());
    // The firmware of an HVM guest leaves things too.
    if !m.is_pv() && options.times.is_some() {
        let left = leftovers::find(m);
        if let Some(first) = left.first() {
            return Err(format!(
                "{} things are left of another kernel: {first}",
                left.len()
            ));
        }
    }
    if let Some(marker) = &options.marker {
        let found = leftovers::count(m, options.hops + 1, guest.free()).text();
        if found != *marker {
            return Err(format!(
                "memory has changed: {marker} pages and sum, now {found}"
            ));
        }
        say(m, report, "memory", found);
    }
    if !m.is_pv() && (options.times.is_some() || options.hops > 0) {
        leftovers::steady(m, guest.free())?;
    }
    let mut busy = Busy::new(guest, report, options)?;
    if let Some(times) = &options.times {
        say(m, report, "phases", busy.phases(times, entered)?);
    }
    say(m, report, "vcpus", busy.vcpus());
    for claim in guest.ledger().claims() {
        report.raw(m, &format!("kexen-busy: claim {claim}\n"));
    }
    if options.backend
        && let Some((first, count)) = Busy::granted(guest.ledger().claims())
    {
        say(m, report, "refs", format!("{first} {count}"));
        report.console().drain(m);
        busy.wait_for_backend(guest.ledger().claims())?;
        say(m, report, "mapped", count);
    }
    if options.shrink {
        shrink(m, report)?;
    }
    let mut worker = Worker::new(m, 0);
    let begin = worker.clock().unwrap_or(0);
    let end = begin + options.work_ms * 1_000_000;
    let mut moves = options.moves;
    while worker.clock().unwrap_or(0) < end || moves > 0 {
        worker.round();
        if moves > 0 {
            busy.move_there_and_back()?;
            moves -= 1;
        }
    }
    if options.moves > 0 {
        say(m, report, "moves", options.moves);
    }
    let (readings, wrong, timers, ipis, damaged) = totals();
    say(
        m,
        report,
        "work",
        format!("readings {readings} wrong {wrong} timers {timers} ipis {ipis} damaged {damaged}"),
    );
    if wrong > 0 || damaged > 0 {
        return Err(format!(
            "{wrong} wrong readings of the clock, {damaged} damaged blocks of memory"
        ));
    }
    if let Some(disks) = busy.disks()? {
        say(m, report, "disks", disks);
    }
    if let Some(vcpu) = options.crash {
        crash(guest, report, options, vcpu)?;
    }
    for (kind, came) in busy.interrupts()? {
        say(m, report, kind, format!("{came} events"));
    }
    exec::check(guest, &busy).map_err(text)?;
    let (at, len) = module::find(guest, report, true).map_err(text)?;
    let archive = module::read(m, at, len).map_err(text)?;
    let again = options.hops > 0;
    let wanted = if again {
        Some("kexen")
    } else {
        options.entry.as_deref()
    };
    let entry = module::choose(&archive, wanted).map_err(text)?;
    let next = kernel::load(guest, report, true, at, entry).map_err(text)?;
    hold::hopeless(guest, &|what| options.takes_late(what))?;
    let (initrd, line) = if again {
        (
            Some((0, len)),
            busy.next_command_line(&guest.command_line()),
        )
    } else {
        let initrd = entry.initrd.as_ref().map(offset_len);
        (initrd, entry.cmdline.clone().unwrap_or_default())
    };
    say(m, report, "exec", &next.what);
    report.console().drain(m);
    exec::exec(guest, &mut busy, &next.ready(initrd, &line)).map_err(text)
}

/// Waits until the toolstack has lowered this domain's memory limit: what was
/// given back stays away then.
fn shrink(m: &'static Xen, report: &Report) -> Result<(), String> {
    let limit = || hypercall::maximum_reservation(m).map_err(text);
    let before = limit()?;
    say(m, report, "ask", "shrink");
    report.console().drain(m);
    for _ in 0..SHRINK_LOOKS {
        let now = limit()?;
        if now < before {
            say(m, report, "limit", format!("{now} pages, of {before}"));
            return Ok(());
        }
        hypercall::nap(m, SHRINK_NAP).map_err(text)?;
    }
    Err(String::from("the toolstack did not lower the memory limit"))
}

/// Prepares a capture kernel from the boot module, and crashes on a vCPU with
/// the heap locked and all other vCPUs stuck.
fn crash<G: Field>(
    guest: &mut G,
    report: &Report,
    options: &Options,
    vcpu: u32,
) -> Result<(), String> {
    let m = guest.machine();
    let (at, len) = module::find(guest, report, true).map_err(text)?;
    let archive = module::read(m, at, len).map_err(text)?;
    let entry = module::choose(&archive, options.entry.as_deref()).map_err(text)?;
    let place = |range| {
        let (offset, len) = offset_len(range);
        (at + offset, len)
    };
    let files = crash::Files {
        kernel: place(&entry.kernel),
        initrd: entry.initrd.as_ref().map_or((0, 0), place),
        command_line: entry.cmdline.as_deref().unwrap_or_default(),
    };
    if !options.omits("capture") {
        let region = guest.capture(&files)?;
        say(m, report, "crash-region", crash::describe(region));
    }
    say(m, report, "crash", format!("on vCPU {vcpu}"));
    report.console().drain(m);
    work::crash_on(m, vcpu)
}
