//! From the entry to the jump, in a guest of any type.
//!
//! Order of steps: options; an entry, of the boot module or of the guest's
//! disks ([`crate::disk`]); kernel; hand-off. Whatever
//! fails is printed, with what to do about it, and then `kexen.on-error`
//! says how it goes on; the way back is there until the jump.

use alloc::{format, string::String};
use core::convert::Infallible;

use kexen_abi::{PAGE_SIZE, sched};
use kexen_bootconfig::{
    compose,
    module::KEYS,
    options::{BootFrom, OnError, Options},
};
use kexen_guest::{Machine, hypercall};
use kexen_handoff::{HandoffError, OnDemand};
use kexen_trust::Keys;

use kexen_platform::{
    disks::Disks,
    failure::Failure,
    ground::Ground,
    guest::{Guest, Ready, Staged},
    kernel::{self, Kernel},
    loan::{lent, offset_len},
    module,
    report::{Report, size},
};

use crate::{
    disk::{self, Asked, Tried},
    marker,
    prompt::{self, Choice},
    stats,
};

/// What a lab does with the options before anything is started, if it does: it
/// need not come back.
pub type Instead<'a, G> = &'a mut dyn FnMut(&mut G, &Report, &Options);

/// Runs the guest to its next kernel, or to its end.
pub fn run<G: Ground>(guest: &mut G, instead: Instead<'_, G>) -> ! {
    let m = guest.machine();
    let report = Report::new(guest.console());
    report.keep_for_panic();
    let text = guest.command_line();
    let parsed = Options::parse(&text);
    let quiet = matches!(&parsed, Ok((options, _)) if options.quiet);
    if !quiet {
        banner(guest, &report);
    }
    let mut choice = Choice::default();
    let (options, words) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            report.line(m, format_args!("error: command line: {error}"));
            // What to do about errors is in the same line: find just that.
            let on_error = Options::on_error_of(&text);
            stop_on_error(m, &report, on_error);
            choice = prompt::ask(guest, &report, &choice);
            (Options::default(), String::new())
        }
    };
    instead(guest, &report, &options);
    let mut source = None;
    let mut failed = marker::check(guest, &report, &options).err();
    loop {
        if failed.is_none() {
            let Err(failure) = attempt(guest, &report, &options, &words, &choice, &mut source);
            failed = Some(failure);
        }
        if let Some(failure) = failed.take() {
            report.line(m, format_args!("error: {failure}"));
            explain(guest, &report, &failure);
        }
        if let Some(Source::Disk { tried, .. }) = &mut source
            && let Some(next) = tried.next()
        {
            report.line(m, format_args!("trying the entry to fall back on"));
            choice = next;
            continue;
        }
        stop_on_error(m, &report, options.on_error);
        choice = if matches!(source, Some(Source::Disk { .. })) {
            disk::again(guest, &report)
        } else {
            prompt::ask(guest, &report, &choice)
        };
    }
}

/// Where entries come from.
enum Source {
    Module,
    /// The guest's disks.
    Disk {
        /// The keys by which what is there must be signed.
        keys: Option<Keys>,
        tried: Tried,
    },
}

impl Source {
    fn disk(keys: Option<Keys>) -> Self {
        Self::Disk {
            keys,
            tried: Tried::default(),
        }
    }
}

/// Finds out where entries come from. Keys that cannot be read are an error,
/// not none.
fn source<G: Ground>(guest: &mut G, report: &Report, options: &Options) -> Result<Source, Failure> {
    let m = guest.machine();
    if guest.map_module()?.is_none() {
        return match options.boot {
            Some(BootFrom::Module) => Err(Failure::NoModule),
            _ => Ok(Source::disk(None)),
        };
    }
    let (at, len) = module::find(guest, report, options.quiet)?;
    let archive = module::read(m, at, len);
    if options.boot == Some(BootFrom::Module) {
        return Ok(Source::Module);
    }
    // What is wrong with a module that is to be booted is told when it is.
    let archive = match archive {
        Err(_) if options.boot.is_none() => return Ok(Source::Module),
        archive => archive?,
    };
    if options.boot.is_none() && !archive.entries().is_empty() {
        return Ok(Source::Module);
    }
    let Some(range) = archive.keys() else {
        return Ok(Source::disk(None));
    };
    let (offset, len) = offset_len(&range);
    let keys = lent(m, at + offset, len, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let keys = Keys::parse(&text);
        keys.map_err(|error| Failure::Disk(format!("boot module: {KEYS}: {error}")))
    })?;
    if !options.quiet {
        for id in keys.ids() {
            report.line(m, format_args!("starts what is signed by key {id} alone"));
        }
    }
    Ok(Source::disk(Some(keys)))
}

/// Who and where we are, in one line.
fn banner<G: Guest>(guest: &G, report: &Report) {
    let m = guest.machine();
    let version = hypercall::version(m).map_or_else(
        |_| String::from("Xen"),
        |(major, minor)| format!("Xen {major}.{minor}"),
    );
    report.line(
        m,
        format_args!(
            "Kexen {}, {} on {version}, {} of memory",
            env!("CARGO_PKG_VERSION"),
            guest.kind(),
            size(guest.memory()),
        ),
    );
    if let Some(OnDemand { own, .. }) = guest.on_demand() {
        let own = size(own * PAGE_SIZE);
        report.line(m, format_args!("populated on demand: Xen has {own} of it"));
    }
}

/// How much of what Xen has for a guest that is populated on demand is touched,
/// with the next kernel written. That little is left is told in any case.
fn tell_on_demand<G: Guest>(guest: &mut G, report: &Report, quiet: bool) {
    let Some(on_demand) = guest.on_demand() else {
        return;
    };
    let left = guest.free().count();
    let little = on_demand.is_little(left);
    if quiet && !little {
        return;
    }
    let bytes = |pages: u64| size(pages * PAGE_SIZE);
    report.line(
        guest.machine(),
        format_args!(
            "{}populated on demand: {} of {} are touched, {} are left to the next kernel{}",
            if little { "warning: " } else { "" },
            bytes(on_demand.touched(left)),
            bytes(on_demand.own),
            bytes(left),
            if little {
                ": where it needs more Xen ends the guest; give it more memory, maxmem does not help"
            } else {
                ""
            },
        ),
    );
}

/// What the memory that an error speaks of is, in a guest that is populated on
/// demand.
fn explain<G: Guest>(guest: &G, report: &Report, failure: &Failure) {
    let Failure::Handoff(HandoffError::Memory { .. }) = failure else {
        return;
    };
    if let Some(OnDemand { own, ram }) = guest.on_demand() {
        report.line(
            guest.machine(),
            format_args!(
                "populated on demand: of {} Xen has {} for this guest, and free is what is \
                 left of that; more maxmem does not help",
                size(ram * PAGE_SIZE),
                size(own * PAGE_SIZE),
            ),
        );
    }
}

/// Carries out `kexen.on-error`, unless it asks for the prompt.
fn stop_on_error<M: Machine>(m: &M, report: &Report, on_error: OnError) {
    let (reason, what) = match on_error {
        OnError::Prompt => return,
        OnError::PowerOff => (sched::SHUTDOWN_POWEROFF, "powering off"),
        OnError::Crash => (sched::SHUTDOWN_CRASH, "ending with a crash code"),
    };
    report.line(m, format_args!("{what}, as kexen.on-error says"));
    report.console().drain(m);
    if let Err(error) = hypercall::shutdown(m, reason) {
        report.line(m, format_args!("error: {error}"));
    }
}

/// One try to start something. Comes back with the reason why not; pages
/// that it took are free again.
fn attempt<G: Ground>(
    guest: &mut G,
    report: &Report,
    options: &Options,
    words: &str,
    choice: &Choice,
    source: &mut Option<Source>,
) -> Result<Infallible, Failure> {
    let free = guest.free().clone();
    guest.stock().heap.begin();
    let result = try_source(guest, report, options, words, choice, source);
    // Back to what was free, but for what was kept for good meanwhile.
    guest.keep_tables();
    let mut free = free;
    for run in guest.stock().returned.runs() {
        free.insert(*run);
    }
    for run in guest.stock().kept.runs() {
        free.remove(*run);
    }
    *guest.free() = free;
    guest.stock().aside = None;
    if let Err(error) = guest.unmap_attempt() {
        report.line(guest.machine(), format_args!("error: {error}"));
    }
    result
}

fn try_source<G: Ground>(
    guest: &mut G,
    report: &Report,
    options: &Options,
    words: &str,
    choice: &Choice,
    known: &mut Option<Source>,
) -> Result<Infallible, Failure> {
    let source = match known {
        Some(source) => source,
        None => known.insert(source(guest, report, options)?),
    };
    match source {
        Source::Module => try_module(guest, report, options, words, choice),
        Source::Disk { keys, tried } => {
            let asked = Asked {
                options,
                words,
                choice,
                keys: keys.as_ref(),
            };
            try_disk(guest, report, asked, tried)
        }
    }
}

/// An entry of the boot module.
fn try_module<G: Ground>(
    guest: &mut G,
    report: &Report,
    options: &Options,
    words: &str,
    choice: &Choice,
) -> Result<Infallible, Failure> {
    let m = guest.machine();
    let quiet = options.quiet;
    let (at, len) = module::find(guest, report, quiet)?;
    let archive = module::read(m, at, len)?;
    let chained = options.chain > 0;
    let (wanted, why) = if chained {
        (Some("kexen"), "kexen.chain")
    } else if let Some(name) = &choice.entry {
        (Some(name.as_str()), "chosen at the prompt")
    } else if let Some(name) = &options.entry {
        (Some(name.as_str()), "kexen.entry")
    } else {
        (None, "the first there is")
    };
    let entry = module::choose(&archive, wanted)?;
    if !quiet {
        module::describe(m, report, &archive, entry, why, len);
    }
    let kernel = kernel::load(guest, report, quiet, at, entry)?;
    // The marker's figures are known when all is staged: room for them.
    let marker = options.verify_memory.then_some(marker::PLACEHOLDER);
    let command_line = match &choice.command_line {
        _ if chained => options.next_chain_command_line(&guest.command_line(), marker),
        Some(text) => text.clone(),
        None => compose(
            entry.cmdline.as_deref().unwrap_or_default(),
            words,
            options.cmdline,
        ),
    };
    let initrd = if chained {
        Some((0, len))
    } else {
        entry.initrd.as_ref().map(offset_len)
    };
    let ready = kernel.ready(initrd, &command_line);
    go(guest, report, options, &kernel, &ready, None)
}

/// An entry of the guest's disks.
fn try_disk<G: Ground>(
    guest: &mut G,
    report: &Report,
    asked: Asked<'_>,
    tried: &mut Tried,
) -> Result<Infallible, Failure> {
    let options = asked.options;
    let (loaded, mut disks) = disk::load(guest, report, asked, tried)?;
    let kernel = kernel::load_file(guest, report, options.quiet, loaded.kernel);
    let result = kernel.and_then(|kernel| {
        let ready = kernel.ready(loaded.initrd, &loaded.command_line);
        go(guest, report, options, &kernel, &ready, Some(&mut disks))
    });
    if let Err(error) = disk::close(guest, &mut disks) {
        let why = result.as_ref().err().map(|failure| format!("{failure}"));
        let error = format!("{error}");
        // Mostly it is what the hand-off was refused for.
        if why.as_ref() != Some(&error) {
            report.line(guest.machine(), format_args!("error: {error}"));
        }
    }
    result
}

/// The hand-off to a kernel that is in memory.
fn go<G: Ground>(
    guest: &mut G,
    report: &Report,
    options: &Options,
    kernel: &Kernel,
    ready: &Ready<'_>,
    disks: Option<&mut Disks<G::M>>,
) -> Result<Infallible, Failure> {
    let m = guest.machine();
    if !options.quiet {
        report.line(
            m,
            format_args!("starting {} with \"{}\"", kernel.what, ready.command_line),
        );
    }
    let mut staged = Staged::new(guest, ready)?;
    let guest = staged.guest();
    let mapped = guest.mapped();
    tell_on_demand(guest, report, options.quiet);
    let mut waits = None;
    if let Some(disks) = disks {
        disk::stop(guest, disks)?;
        waits = Some(disks.waits());
    }
    let outcome = staged.outcome();
    if options.verify_memory {
        let (line, at) = (ready.command_line, outcome.command_line_at);
        marker::leave(staged.guest(), options, line, at)?;
    }
    report.console().drain(m);
    let released = staged.release()?;
    if options.stats {
        stats::print(m, report, kernel, (outcome.moved, mapped), waits);
        report.console().drain(m);
    }
    released.jump()
}
