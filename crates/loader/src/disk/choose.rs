//! Which entry starts.
//!
//! Order of steps: what the toolstack asks for, or the prompt, is taken as it
//! is; without a time to wait the default starts; otherwise the menu is on the
//! console until somebody or the clock chooses.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use kexen_bootconfig::{
    bls::image,
    entry::{self, Entry, Kind, Menu as Entries, Timeout},
    find::spoken,
    volumes::Volumes,
};
use kexen_guest::{console::Console, wait::Wait as _};
use kexen_menu::{Answer, Item, Keys, Menu, Step};
use kexen_platform::{disks::Disks, failure::Failure, ground::Ground, report::Report};

use super::{Asked, Tried, look};

/// Seconds, if nobody says how long.
const SECONDS: u32 = 5;
/// Nanoseconds of a second, and those after which an escape is a key itself.
const SECOND: u64 = 1_000_000_000;
const ESCAPE: u64 = 100_000_000;

/// What starts.
pub(super) struct Picked {
    pub(super) kind: Kind,
    /// Its whole command line, if somebody wrote one.
    pub(super) command_line: Option<String>,
}

/// What an entry starts, or why it does not.
pub(super) fn kind_of(entry: &Entry) -> Result<Kind, Failure> {
    entry.bootable().cloned().map_err(|problem| {
        let why = problem.map_or_else(|| String::from("it starts nothing"), ToString::to_string);
        Failure::Disk(format!("entry {:?}: {why}", entry.title))
    })
}

/// The entry of a name.
pub(super) fn named(entries: &Entries, name: &str) -> Result<usize, Failure> {
    entry::find(&entries.entries, name).ok_or_else(|| {
        let titles = entries
            .entries
            .iter()
            .map(|entry| format!("{:?}", entry.title));
        let titles: Vec<String> = titles.collect();
        let titles = titles.join(", ");
        Failure::Disk(format!(
            "no entry {name:?} on the disks; there are: {titles}"
        ))
    })
}

pub(super) fn choose<G: Ground>(
    guest: &mut G,
    report: &Report,
    asked: Asked<'_>,
    tried: &mut Tried,
    disks: &Disks<G::M>,
    volumes: &Volumes<'_>,
    entries: &Entries,
) -> Result<Picked, Failure> {
    let Asked {
        options, choice, ..
    } = asked;
    // Should what starts by itself fail, this one is next.
    let next = choice.fallback.map_or(0, |number| number.saturating_add(1));
    let next = Some(next).filter(|next| *next < entries.fallback.len());
    if let Some(number) = choice.fallback.and_then(|n| entries.fallback.get(n)) {
        tried.next = next;
        return pick(entries, *number, None);
    }
    let wanted = choice.entry.as_ref().or(options.entry.as_ref());
    let chosen = match wanted.map(|name| named(entries, name)) {
        Some(Ok(number)) => Some(number),
        // That was said already: the menu has what there is.
        Some(Err(_)) if choice.again && choice.entry.is_none() => entries.default,
        Some(Err(failure)) => return Err(failure),
        None => entries.default,
    };
    let timeout = match (choice.again, options.timeout.or(entries.timeout)) {
        // Chosen at the prompt: no question is open.
        _ if choice.entry.is_some() => Timeout::Seconds(0),
        // The last try failed: nothing starts by itself once more.
        (true, _) => Timeout::Forever,
        (false, timeout) => timeout.unwrap_or(Timeout::Seconds(SECONDS)),
    };
    let ring = matches!(report.console(), Console::Ring { .. });
    if let (Some(number), true) = (chosen, timeout == Timeout::Seconds(0) || !ring) {
        if wanted.is_none() {
            tried.next = next;
        }
        return pick(entries, number, None);
    }
    if entries.entries.is_empty() && !choice.again {
        return Err(Failure::Disk(String::from(
            "there is nothing on the disks to start: no configuration of a boot loader that is \
             known here",
        )));
    }
    let seconds = match (timeout, chosen) {
        (Timeout::Seconds(seconds), Some(_)) => Some(seconds.max(1)),
        _ => None,
    };
    let items = entries.entries.iter().map(|entry| item(entry, volumes));
    let heading = format!("Kexen {}, {}", env!("CARGO_PKG_VERSION"), guest.kind());
    let warning = match entries.doubts.first() {
        Some(doubt) => format!("warning: {doubt}"),
        None => String::new(),
    };
    let mut menu =
        Menu::new(&heading, items.collect(), chosen.unwrap_or(0), seconds).with_warning(&warning);
    loop {
        match show(guest, report, disks, &mut menu) {
            Answer::Start(number, command_line) => {
                // Nobody has pressed a key: each of them stops the count.
                if wanted.is_none() && !menu.touched() {
                    tried.next = next;
                }
                return pick(entries, number, command_line);
            }
            Answer::Prompt => {
                if let Some(picked) = look::ask(guest, report, disks, volumes, entries) {
                    return Ok(picked);
                }
            }
        }
    }
}

fn pick(entries: &Entries, number: usize, command_line: Option<String>) -> Result<Picked, Failure> {
    let entry = entries.entries.get(number);
    let entry = entry.ok_or_else(|| Failure::Disk(String::from("no such entry")))?;
    Ok(Picked {
        kind: kind_of(entry)?,
        command_line,
    })
}

fn item(entry: &Entry, volumes: &Volumes<'_>) -> Item {
    let place = |place: &entry::Place| spoken(volumes, place);
    let (detail, command_line) = match &entry.kind {
        Some(Kind::Linux {
            kernel, cmdline, ..
        }) => (place(kernel), Some(cmdline.clone())),
        Some(Kind::Uki {
            image,
            profile,
            addons,
            cmdline,
        }) => {
            let open = |place: &entry::Place| volumes.fs(place)?.open(&place.path);
            let parts = image::parts(&open, image, *profile, addons, cmdline.as_deref());
            (place(image), parts.ok().map(|parts| parts.cmdline))
        }
        Some(Kind::Chain { image }) => (place(image), None),
        None => (place(&entry.source.place), None),
    };
    // What is in a submenu: the list has a mark for each level, not the names,
    // which would leave no room for the entry's own.
    let above = entry.steps.split_last().map_or(&[][..], |(_, above)| above);
    let title = format!("{}{}", "> ".repeat(above.len()), entry.title);
    let within: String = above
        .iter()
        .map(|step| format!(" in {:?}", step.title))
        .collect();
    let detail = format!("{detail}{within}");
    Item {
        title,
        detail,
        command_line,
        problem: entry.problem.as_ref().map(ToString::to_string),
    }
}

/// Shows the menu until somebody, or the clock, has chosen.
fn show<G: Ground>(guest: &G, report: &Report, disks: &Disks<G::M>, menu: &mut Menu) -> Answer {
    let m = guest.machine();
    let Console::Ring { port, .. } = report.console() else {
        return Answer::Prompt;
    };
    let mut keys = Keys::default();
    report.raw(m, &menu.open());
    let answer = loop {
        let mut bytes = [0; 64];
        let n = report.console().read(m, &mut bytes);
        let pressed: Vec<_> = bytes
            .iter()
            .take(n)
            .filter_map(|byte| keys.byte(*byte))
            .collect();
        let mut answer = None;
        for key in pressed {
            answer = answer.or(take(guest, report, menu.key(key)));
        }
        if n == 0 {
            // Whatever comes first: input, or the end of this moment.
            let begun = keys.begun();
            let length = if begun { ESCAPE } else { SECOND };
            let mut patience = disks.patience(length);
            let mut over = false;
            while !over && !report.console().has_input(m) {
                over = patience.wait(port).is_err();
            }
            if over {
                answer = match keys.pause() {
                    Some(key) => take(guest, report, menu.key(key)),
                    None if begun => None,
                    None => take(guest, report, menu.tick()),
                };
            }
        }
        if let Some(answer) = answer {
            break answer;
        }
    };
    report.raw(m, Menu::close());
    answer
}

fn take<G: Ground>(guest: &G, report: &Report, step: Step) -> Option<Answer> {
    if !step.screen.is_empty() {
        report.raw(guest.machine(), &step.screen);
    }
    step.answer
}
