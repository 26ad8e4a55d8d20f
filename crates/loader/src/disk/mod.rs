//! Booting from the guest's own disks.
//!
//! Order of steps: the block devices are connected; partitions and file
//! systems are looked for; the configurations on them make a list of entries;
//! one is chosen, by what they say, by the toolstack or by somebody at the
//! console; its files are read. The hand-off closes the devices: what a
//! backend does not let go is a blocker.
//!
//! | module | what it is |
//! |---|---|
//! | `choose` | the menu on the console, or what starts without one |
//! | `find` | from disks to volumes |
//! | `load` | the files of an entry, into memory |
//! | `room` | the memory that this may take |
//! | `look` | the prompt: look around, boot by hand |
//! | `uki` | the parts of a unified kernel image |

mod choose;
mod find;
mod load;
mod look;
mod room;
mod uki;

use alloc::{string::String, vec::Vec};

use kexen_bootconfig::{compose, entry::Kind, find::spoken, grub::variables, options::Options};
use kexen_guest::{Defence, Machine as _, grants::Grants};
use kexen_handoff::{HandoffError, Ledger};
use kexen_platform::{
    disks::Disks,
    exec::{self, Swing, Times},
    failure::Failure,
    ground::Ground,
    guest::Guest,
    native::Native,
    report::{Report, size},
};

use kexen_trust::Keys;

pub(crate) use load::Loaded;

use crate::prompt::{self, Choice};

/// What is asked for, by the toolstack and at the console.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) options: &'a Options,
    /// The words on the guest's command line that are not Kexen's.
    pub(crate) words: &'a str,
    pub(crate) choice: &'a Choice,
    /// The keys by which files must be signed.
    pub(crate) keys: Option<&'a Keys>,
}

/// What has been started by itself, and did not start.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// The entry that comes next, by its place among those to fall back on.
    next: Option<usize>,
}

impl Tried {
    /// The next try, if the configuration names one.
    pub(crate) fn next(&mut self) -> Option<Choice> {
        let fallback = self.next.take();
        fallback.is_some().then(|| Choice {
            again: true,
            fallback,
            ..Choice::default()
        })
    }
}

/// The disks, as the hand-off sees them.
struct Closing<'a, M: 'static>(&'a mut Disks<M>);

impl<M: Native> Swing<M> for Closing<'_, M> {
    fn quiesce(&mut self, _: &'static M, ledger: &mut Ledger) -> Result<(), Vec<String>> {
        self.0.close(ledger)
    }

    fn grants(&self) -> Option<Grants> {
        Some(self.0.grants())
    }
}

/// Closes the disks and gives up all that came with them, with the next kernel
/// written.
pub(crate) fn stop<G: Guest>(guest: &mut G, disks: &mut Disks<G::M>) -> Result<(), HandoffError> {
    exec::stop(guest, &mut Closing(disks), &mut Times::default())
}

/// The same when there will be no hand-off.
pub(crate) fn close<G: Guest>(guest: &mut G, disks: &mut Disks<G::M>) -> Result<(), Failure> {
    // Whatever else stands in the way of a hand-off.
    let closed = disks.close(guest.ledger());
    let result = closed
        .map_err(HandoffError::Blocked)
        .and_then(|()| stop(guest, disks));
    // What a backend keeps is nobody else's memory.
    if !guest.machine().omits(Defence::Kept) {
        disks.leave(guest.ledger());
    }
    for page in disks.held() {
        guest.stock().kept.insert(page);
    }
    Ok(result?)
}

/// What to do after a failure: the menu once more, when somebody is there.
pub(crate) fn again<G: Guest>(guest: &mut G, report: &Report) -> Choice {
    report.raw(guest.machine(), "Press Enter for the menu.\n");
    let m = guest.machine();
    let _ = prompt::read_line(m, report, &mut || guest.wait_for_input());
    Choice {
        again: true,
        ..Choice::default()
    }
}

/// An entry's files in memory, and the disks that they came from, which are
/// still connected.
pub(crate) fn load<G: Ground>(
    guest: &mut G,
    report: &Report,
    asked: Asked<'_>,
    tried: &mut Tried,
) -> Result<(Loaded, Disks<G::M>), Failure> {
    let (m, quiet) = (guest.machine(), asked.options.quiet);
    if !quiet {
        // Backends have 20 seconds to answer: nobody should wonder meanwhile.
        report.line(m, format_args!("connecting the disks"));
    }
    room::make(guest)?;
    if m.omits(Defence::Room) {
        room::leave_nothing();
    }
    let mut waiting = |names: &str| {
        if !quiet {
            report.line(m, format_args!("waiting for the backends of {names}"));
        }
    };
    let mut disks = Disks::connect(guest, &mut waiting).map_err(Failure::Disk)?;
    if m.omits(Defence::Late) {
        disks.leave_late(guest.ledger());
    }
    match from(guest, report, asked, tried, &disks) {
        Ok(loaded) => {
            room::give_back(guest, loaded.initrd.map_or(0, |(_, len)| len));
            Ok((loaded, disks))
        }
        Err(failure) => {
            if let Err(error) = close(guest, &mut disks) {
                report.line(guest.machine(), format_args!("error: {error}"));
            }
            Err(failure)
        }
    }
}

fn from<G: Ground>(
    guest: &mut G,
    report: &Report,
    asked: Asked<'_>,
    tried: &mut Tried,
    disks: &Disks<G::M>,
) -> Result<Loaded, Failure> {
    let Asked {
        options,
        words,
        choice,
        keys,
    } = asked;
    let m = guest.machine();
    let quiet = options.quiet;
    for problem in disks.problems() {
        report.line(m, format_args!("error: {problem}"));
    }
    let volumes = find::volumes(report, m, quiet, disks)?;
    let found = find::entries(guest, &volumes, words);
    let menu = found.menu;
    if !quiet {
        for (_, place, entries) in &found.configs {
            let place = spoken(&volumes, place);
            report.line(m, format_args!("{place}: {entries} entries"));
        }
        for note in &menu.notes {
            report.line(m, format_args!("{note}"));
        }
    }
    // Another kernel than the guest's own default may start: never in silence.
    for doubt in &menu.doubts {
        report.line(m, format_args!("warning: {doubt}"));
    }
    let picked = choose::choose(guest, report, asked, tried, disks, &volumes, &menu)?;
    let mut loaded = load::load(guest, report, quiet, disks, &volumes, &picked.kind, keys)?;
    // Another boot loader takes GRUB's variables itself.
    let chain = matches!(picked.kind, Kind::Chain { .. });
    let kernels = if chain {
        String::from(words)
    } else {
        variables::without(words)
    };
    if !chain || !words.is_empty() {
        loaded.command_line = match picked.command_line.or_else(|| choice.command_line.clone()) {
            Some(whole) => whole,
            None => compose(&loaded.command_line, &kernels, options.cmdline),
        };
    }
    if !quiet {
        let asked = disks.all().iter().map(|disk| disk.figures());
        let (requests, bytes) =
            asked.fold((0, 0), |sum, one| (sum.0 + one.requests, sum.1 + one.bytes));
        report.line(
            m,
            format_args!("disks: {} read in {requests} requests", size(bytes)),
        );
    }
    Ok(loaded)
}
