//! `menus`: boot menus as GRUB itself makes them, and entries as systemd lists
//! them, beside Kexen's.

use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;

use super::menus_bootctl;
use crate::host::tools;
use crate::lab::menus::esp;
use crate::lab::menus::known::{KNOWN, known};
use crate::lab::menus::layouts::{self, Layout};
use crate::lab::menus::seen::{Difference, differences};
use crate::lab::menus::{self, Both, Emulator, Release};

/// Options of `menus`.
#[derive(Debug, clap::Args)]
pub(crate) struct MenusArgs {
    /// Only layouts with this text in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Name every layout, and read none
    #[arg(long)]
    list: bool,
    /// Only this release of GRUB
    #[arg(long, value_enum)]
    grub: Option<Release>,
    /// Only Boot Loader Specification entries, as systemd's bootctl lists them
    #[arg(long, conflicts_with = "grub")]
    bootctl: bool,
    /// Also print what GRUB or bootctl makes of each layout
    #[arg(long)]
    show: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// What one configuration came to, with one release.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    grub: &'static str,
    entries: usize,
    /// What is meant to differ: its kind.
    meant: Vec<(&'static str, Difference)>,
    differences: Vec<Difference>,
    error: Option<String>,
    seconds: f64,
    note: String,
    #[serde(skip)]
    both: Option<Both>,
}

impl Outcome {
    fn of(name: &str, release: Release, note: &str, work: impl FnOnce() -> Result<Both>) -> Self {
        let start = Instant::now();
        let mut outcome = Self {
            name: name.to_owned(),
            grub: release.version(),
            entries: 0,
            meant: Vec::new(),
            differences: Vec::new(),
            error: None,
            seconds: 0.0,
            note: note.to_owned(),
            both: None,
        };
        match work() {
            Ok(both) => {
                outcome.entries = both.grub.entries.len();
                for difference in differences(&both.grub, &both.kexen) {
                    match known(&difference) {
                        Some(known) => outcome.meant.push((known.name, difference)),
                        None => outcome.differences.push(difference),
                    }
                }
                outcome.both = Some(both);
            }
            Err(error) => outcome.error = Some(format!("{error:#}")),
        }
        outcome.seconds = start.elapsed().as_secs_f64();
        outcome
    }

    /// What is wrong, if anything is.
    pub(crate) fn result(&self) -> Result<(), String> {
        match (&self.error, self.differences.first()) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(first)) => Err(first.to_string()),
            (None, None) => Ok(()),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            grub,
            entries,
            seconds,
            ..
        } = self;
        let result = if self.result().is_ok() {
            "ok"
        } else {
            "FAILED"
        };
        write!(
            f,
            "{name}, GRUB {grub} ... {result} ({entries} entries, {seconds:.1} s)"
        )?;
        if !self.note.is_empty() {
            write!(f, "\n  note: {}", self.note)?;
        }
        for (kind, difference) in &self.meant {
            write!(f, "\n  meant ({kind}): {difference}")?;
        }
        for difference in &self.differences {
            write!(f, "\n  {difference}")?;
        }
        if let Some(error) = &self.error {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

/// Compares the layouts that a filter wants, and says how each went.
pub(crate) fn table(
    releases: &[Release],
    wanted: &dyn Fn(&str) -> bool,
    say: &mut dyn FnMut(&Outcome),
) -> Result<Vec<Outcome>> {
    tools::require(&[tools::MKFS])?;
    let layouts: Vec<Layout> = layouts::all()?
        .into_iter()
        .filter(|layout| wanted(layout.name))
        .collect();
    let mut outcomes = Vec::new();
    for release in releases {
        let emulator = Emulator::fetch(*release)?;
        for layout in layouts.iter().filter(|one| one.wants(*release)) {
            let outcome = Outcome::of(layout.name, *release, &layout.note, || {
                menus::both(&emulator, layout)
            });
            say(&outcome);
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

/// Runs `menus`.
pub(crate) fn run(args: &MenusArgs) -> Result<()> {
    let wanted = |name: &str| args.filter.as_ref().is_none_or(|text| name.contains(text));
    if args.list {
        let scripts = layouts::all()?;
        let scripts = scripts.iter().map(|layout| layout.name);
        let partitions = esp::all();
        let partitions = partitions.iter().map(|esp| esp.name);
        let scripts = scripts.filter(|_| !args.bootctl);
        for name in scripts.chain(partitions).filter(|name| wanted(name)) {
            println!("{name}");
        }
        return Ok(());
    }
    let releases = match args.grub {
        _ if args.bootctl => Vec::new(),
        Some(release) => vec![release],
        None => Release::ALL.to_vec(),
    };
    let mut say = |outcome: &Outcome| {
        if args.json {
            return;
        }
        println!("{outcome}");
        if args.show
            && let Some(both) = &outcome.both
        {
            println!("{}", both.grub);
        }
    };
    let outcomes = table(&releases, &wanted, &mut say)?;
    let mut say = |outcome: &menus_bootctl::Outcome| {
        if args.json {
            return;
        }
        println!("{outcome}");
        if args.show {
            print!("{}", outcome.rows());
        }
    };
    let listed = match args.grub {
        Some(_) => Vec::new(),
        None => menus_bootctl::table(&wanted, &mut say)?,
    };
    let failed = outcomes.iter().filter(|one| one.result().is_err()).count();
    let failed = failed + listed.iter().filter(|one| one.result().is_err()).count();
    let count = outcomes.len() + listed.len();
    if args.json {
        let document = serde_json::json!({ "grub": outcomes, "bootctl": listed });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        for kind in KNOWN {
            let count = outcomes.iter().flat_map(|one| &one.meant);
            let count = count.filter(|(name, _)| *name == kind.name).count();
            if count > 0 {
                println!("meant: {} ({count} times): {}", kind.name, kind.why);
            }
        }
        println!("{} passed, {failed} failed", count - failed);
    }
    if count == 0 {
        bail!("no layout has this in its name");
    }
    if failed > 0 {
        bail!("{failed} of {count} differ");
    }
    Ok(())
}
