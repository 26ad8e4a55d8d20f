//! `menus`: boot menus as GRUB itself makes them, and entries as systemd lists
//! them, beside Kexen's.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{fs, slice, thread};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::menus_bootctl;
use crate::host::tools;
use crate::lab::menus::esp;
use crate::lab::menus::known::KNOWN;
use crate::lab::menus::layouts::{self, Layout};
use crate::lab::menus::script::Script;
use crate::lab::menus::scripts;
use crate::lab::menus::seen::{Difference, differences};
use crate::lab::menus::{self, Both, Emulator, Release};
use crate::ui;

/// Options of `menus`.
#[derive(Debug, clap::Args)]
pub(crate) struct MenusArgs {
    /// Only layouts with this text in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Name every layout, and read none
    #[arg(long)]
    list: bool,
    /// How many scripts are made up, beside the layouts (default: 100; with
    /// --filter, none)
    #[arg(long, value_name = "N")]
    scripts: Option<usize>,
    /// The seed of the scripts
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The number of the first script
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// Only a script of your own, on the disks that scripts are made up for
    #[arg(long, value_name = "FILE", conflicts_with_all = ["filter", "scripts"])]
    script: Option<PathBuf>,
    /// Only this release of GRUB
    #[arg(long, value_enum)]
    grub: Option<Release>,
    /// Only Boot Loader Specification entries, as systemd's bootctl lists them
    #[arg(long, conflicts_with = "grub")]
    bootctl: bool,
    /// Also print what GRUB or bootctl makes of each layout, and each script
    #[arg(long)]
    show: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// Scripts that are made up if no number is given.
const FEW: usize = 100;
/// Scripts on one disk.
const BATCH: usize = 50;
/// Scripts that are made small and shown, at most.
const MOST_SHOWN: usize = 3;

/// What one configuration came to, with one release.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    grub: &'static str,
    entries: usize,
    note: String,
    differences: Vec<Difference>,
    error: Option<String>,
    /// The script, as small as it goes.
    script: Option<String>,
    #[serde(skip)]
    both: Option<Both>,
}

impl Outcome {
    fn of(name: &str, release: Release, both: Result<Both>, blscfg: bool) -> Self {
        let mut outcome = Self {
            name: name.to_owned(),
            grub: release.version(),
            entries: 0,
            note: String::new(),
            differences: Vec::new(),
            error: None,
            script: None,
            both: None,
        };
        match both {
            Ok(both) => {
                outcome.entries = both.grub.entries.len();
                outcome.differences = differences(&both.grub, &both.kexen, blscfg);
                outcome.both = Some(both);
            }
            Err(error) => outcome.error = Some(format!("{error:#}")),
        }
        outcome
    }

    /// What is wrong, if anything is.
    pub(crate) fn result(&self) -> Result<(), String> {
        let mut wrong = self.differences.iter().filter(|one| one.meant.is_none());
        match (&self.error, wrong.next()) {
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
            ..
        } = self;
        let is_ok = self.result().is_ok();
        let result = if is_ok { "ok" } else { "FAILED" };
        write!(f, "{name}, GRUB {grub} ... {result} ({entries} entries)")?;
        if !self.note.is_empty() {
            write!(f, "\n  note: {}", self.note)?;
        }
        for difference in &self.differences {
            write!(f, "\n  {difference}")?;
        }
        if let Some(error) = &self.error {
            write!(f, "\n  {error}")?;
        }
        if let Some(script) = &self.script {
            write!(f, "\n{script}")?;
        }
        if let (false, Some(both)) = (is_ok, &self.both) {
            let (grub, kexen) = (both.grub.to_string(), both.kexen.to_string());
            write!(f, "\n{}", side_by_side("GRUB", &grub, "Kexen", &kexen))?;
        }
        Ok(())
    }
}

/// Two texts beside one another; lines that differ have a mark.
fn side_by_side(left_name: &str, left: &str, right_name: &str, right: &str) -> String {
    let width = left.lines().map(|line| line.chars().count()).max();
    let width = width.unwrap_or_default().clamp(20, 76);
    let mut text = format!("  {left_name:width$}   {right_name}\n");
    let (mut lefts, mut rights) = (left.lines(), right.lines());
    loop {
        let (left, right) = (lefts.next(), rights.next());
        if left.is_none() && right.is_none() {
            return text;
        }
        let mark = if left == right { ' ' } else { '|' };
        let (left, right) = (left.unwrap_or_default(), right.unwrap_or_default());
        text += &format!("  {left:width$} {mark} {right}\n");
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
        for layout in layouts.iter().filter(|layout| layout.wants(*release)) {
            let both = menus::both(&emulator, layout);
            let mut outcome = Outcome::of(layout.name, *release, both, layout.says("blscfg"));
            outcome.note.clone_from(&layout.note);
            say(&outcome);
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

/// Compares so many scripts from a seed; says what is wrong, and makes the first
/// of those that are small.
pub(crate) fn made_up(
    releases: &[Release],
    seed: u64,
    numbers: std::ops::Range<u64>,
    say: &mut dyn FnMut(&Outcome),
) -> Result<Vec<Outcome>> {
    tools::require(&[tools::MKFS])?;
    let numbers: Vec<u64> = numbers.collect();
    let mut outcomes = Vec::new();
    for release in releases {
        let emulator = Emulator::fetch(*release)?;
        let count = numbers.len();
        let step = ui::step(format!("{count} scripts with GRUB {}", release.version()));
        let mut found = at_once(&emulator, seed, &numbers)?;
        step.done(format!(
            "{} entries",
            found.iter().map(|one| one.entries).sum::<usize>()
        ));
        let wrong = found.iter_mut().zip(&numbers);
        for (outcome, number) in wrong
            .filter(|(one, _)| one.result().is_err())
            .take(MOST_SHOWN)
        {
            let script = scripts::generate(seed, *number);
            let first = outcome.differences.iter().find(|one| one.meant.is_none());
            let (script, both) = match first {
                Some(first) => scripts::shrink(&emulator, &script, first)?,
                None => (script, None),
            };
            if let Some(both) = both {
                let name = outcome.name.clone();
                *outcome = Outcome::of(&name, *release, Ok(both), false);
            }
            outcome.script = Some(script.shown());
            say(outcome);
        }
        outcomes.append(&mut found);
    }
    Ok(outcomes)
}

/// Batches of scripts, as many at once as there are processors.
fn at_once(emulator: &Emulator, seed: u64, numbers: &[u64]) -> Result<Vec<Outcome>> {
    let batches: Vec<&[u64]> = numbers.chunks(BATCH).collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = batches.get(index) else {
                    return Ok(());
                };
                let scripts: Vec<Script> = batch
                    .iter()
                    .map(|number| scripts::generate(seed, *number))
                    .collect();
                let outcomes: Vec<Outcome> = scripts::both(emulator, &scripts)?
                    .into_iter()
                    .zip(*batch)
                    .map(|(both, number)| {
                        let name = format!("script {number} of seed {seed}");
                        Outcome::of(&name, emulator.release, both, false)
                    })
                    .collect();
                if let Ok(mut done) = done.lock() {
                    done.insert(index, outcomes);
                    if done.len() % 10 == 0 {
                        ui::say(format!("{} of {} batches", done.len(), batches.len()));
                    }
                }
            }
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => bail!("a comparison has panicked"),
            }
        }
        Ok(())
    })?;
    let done = done.into_inner().unwrap_or_default();
    Ok(done.into_values().flatten().collect())
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
            ui::say(name);
        }
        return Ok(());
    }
    let releases = match args.grub {
        _ if args.bootctl => Vec::new(),
        Some(release) => vec![release],
        None => Release::ALL.to_vec(),
    };
    let count = args
        .scripts
        .unwrap_or(if args.filter.is_some() { 0 } else { FEW });
    if args.show {
        for number in 0..u64::try_from(count)? {
            let script = scripts::generate(args.seed, args.first + number);
            ui::say(format!(
                "script {}\n{}",
                args.first + number,
                script.shown()
            ));
        }
    }
    let mut say = |outcome: &Outcome| {
        if args.json {
            return;
        }
        ui::say(outcome);
        if args.show
            && let Some(both) = &outcome.both
        {
            ui::say(&both.grub);
        }
    };
    if let Some(path) = &args.script {
        return own(path, &releases, &mut say);
    }
    let start = Instant::now();
    let mut outcomes = table(&releases, &wanted, &mut say)?;
    let numbers = args.first..args.first + u64::try_from(count)?;
    outcomes.extend(made_up(&releases, args.seed, numbers, &mut say)?);
    let mut say = |outcome: &menus_bootctl::Outcome| {
        if args.json {
            return;
        }
        ui::say(outcome);
        if args.show {
            ui::say(outcome.rows());
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
        ui::say(serde_json::to_string_pretty(&document)?);
    } else {
        summary(&outcomes);
        let (passed, seconds) = (count - failed, start.elapsed().as_secs_f64());
        ui::say(format!("{passed} passed, {failed} failed ({seconds:.0} s)"));
    }
    if count == 0 {
        bail!("no layout has this in its name");
    }
    if failed > 0 {
        bail!("{failed} of {count} differ");
    }
    Ok(())
}

/// Compares a script of somebody's own.
fn own(path: &Path, releases: &[Release], say: &mut dyn FnMut(&Outcome)) -> Result<()> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let script = Script::of(&text);
    let name = path.display().to_string();
    for release in releases {
        let emulator = Emulator::fetch(*release)?;
        for both in scripts::both(&emulator, slice::from_ref(&script))? {
            let outcome = Outcome::of(&name, *release, both, false);
            say(&outcome);
            if let Err(wrong) = outcome.result() {
                bail!("{name}, GRUB {}: {wrong}", release.version());
            }
        }
    }
    Ok(())
}

/// What is meant to differ, and how often each kind of what is not was seen.
fn summary(outcomes: &[Outcome]) {
    let all = || outcomes.iter().flat_map(|one| &one.differences);
    for kind in KNOWN {
        let count = all().filter(|one| one.meant == Some(*kind)).count();
        if count > 0 {
            ui::say(format!(
                "meant: {} ({count} times): {}",
                kind.name, kind.why
            ));
        }
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for difference in all().filter(|one| one.meant.is_none()) {
        *kinds.entry(scripts::kind(difference)).or_default() += 1;
    }
    for (kind, count) in kinds {
        ui::say(format!("not meant: {kind} ({count} times)"));
    }
    // One is run again by `--seed S --first NUMBER --scripts 1`.
    for one in outcomes.iter().filter(|one| one.result().is_err()) {
        ui::say(format!("differs: {}, GRUB {}", one.name, one.grub));
    }
    let errors = outcomes
        .iter()
        .filter_map(|one| Some((&one.name, one.error.as_ref()?)));
    for (name, error) in errors.take(MOST_SHOWN) {
        ui::say(format!("{name}: {error}"));
    }
}
