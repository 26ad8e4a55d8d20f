//! `readers`: the file systems' readers against Linux.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, available_parallelism};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use kexen_disk::{BlockSource, FileSystem, fs, partition};

use crate::lab::boot_disk::DiskLayout;
use crate::lab::distro::Distro;
use crate::lab::readers::FileDisk;
use crate::lab::readers::boot::{self, LAYOUTS, Looked};
use crate::lab::readers::compare::{Report, compare};
use crate::lab::readers::make;
use crate::lab::readers::manifest::{self, Manifest};
use crate::lab::readers::table::{Expect, Group, Image, Way};
use crate::ui;

/// Options of `readers`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReadersArgs {
    /// Only images with this text in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Name every image, and read none
    #[arg(long)]
    list: bool,
    /// An image of your own; --mounted says where Linux has it mounted
    #[arg(long, value_name = "FILE", requires = "mounted")]
    image: Option<PathBuf>,
    /// The folder where the image is mounted, read only
    #[arg(long, value_name = "DIR", requires = "image")]
    mounted: Option<PathBuf>,
    /// Bytes of a sector of the image's disk
    #[arg(long, value_name = "N", default_value_t = 512)]
    sector: u32,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// What one image came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    seconds: f64,
    what: What,
}

#[derive(Debug)]
enum What {
    /// All was read, and compared.
    Read(Report),
    /// Refused, as it has to be: why.
    Refused(String),
    /// Anything else.
    Failed(String),
}

impl Outcome {
    fn of(name: &str, work: impl FnOnce() -> Result<What>) -> Self {
        let start = Instant::now();
        let what = work().unwrap_or_else(|error| What::Failed(format!("{error:#}")));
        Self {
            name: name.to_owned(),
            seconds: start.elapsed().as_secs_f64(),
            what,
        }
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.result().is_ok()
    }

    /// What is wrong, if anything is: of several differences the first.
    pub(crate) fn result(&self) -> Result<(), &str> {
        match &self.what {
            What::Read(report) => match report.differences.first() {
                Some(first) => Err(first),
                None if report.files == 0 => Err("it has no files"),
                None => Ok(()),
            },
            What::Refused(_) => Ok(()),
            What::Failed(why) => Err(why),
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self.what, What::Refused(_))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, seconds, .. } = self;
        match &self.what {
            What::Read(report) => {
                let result = if self.is_ok() { "ok" } else { "FAILED" };
                let Report {
                    files,
                    bytes,
                    names,
                    ..
                } = report;
                write!(
                    f,
                    "{name} ... {result} ({files} files, {bytes} bytes, \
                     {names} other names, {seconds:.1} s)"
                )?;
                if let Some(note) = &report.note {
                    write!(f, "\n    note: {note}")?;
                }
                for difference in report.differences.iter().take(MOST_SHOWN) {
                    write!(f, "\n    {difference}")?;
                }
                match report.differences.len().checked_sub(MOST_SHOWN) {
                    Some(more @ 1..) => write!(f, "\n    and {more} more"),
                    _ => Ok(()),
                }
            }
            What::Refused(why) => write!(f, "{name} ... ok, refused by name ({why})"),
            What::Failed(why) => write!(f, "{name} ... FAILED ({seconds:.1} s)\n    {why}"),
        }
    }
}

/// Differences that are shown of an image.
const MOST_SHOWN: usize = 12;

/// The names of all images that a filter wants.
pub(crate) fn names(wanted: &dyn Fn(&str) -> bool) -> Vec<&'static str> {
    let groups = Group::ALL.into_iter().flat_map(make::images);
    groups
        .map(|image| image.name)
        .chain(LAYOUTS.map(DiskLayout::name))
        .chain(Distro::DEBIANS.map(Distro::name))
        .chain(Distro::LAYOUTS.map(Distro::name))
        .filter(|name| wanted(name))
        .collect()
}

/// Whether `test` reads that image each time.
pub(crate) fn often(name: &str) -> bool {
    let rare = Group::ALL
        .into_iter()
        .filter(|group| *group != Group::Often);
    let mut rare = rare.flat_map(make::images).map(|image| image.name);
    let mut layouts = Distro::LAYOUTS.map(Distro::name).into_iter();
    !rare.any(|rare| rare == name) && !layouts.any(|layout| layout == name)
}

/// Which distributions' disks are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disks {
    /// Those that there are.
    Made,
    /// All: what is not there is made.
    All,
}

/// Reads all images that a filter wants, and says how each went.
pub(crate) fn all(
    wanted: &dyn Fn(&str) -> bool,
    disks: Disks,
    say: &mut dyn FnMut(&Outcome),
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut take = |outcome: Outcome| {
        say(&outcome);
        outcomes.push(outcome);
    };
    for group in Group::ALL {
        if !make::images(group).any(|image| wanted(image.name)) {
            continue;
        }
        let dir = make::group(group)?;
        let images: Vec<&Image> = make::images(group)
            .filter(|image| wanted(image.name))
            .collect();
        let read = |image: &&Image| Outcome::of(image.name, || read_image(image, &dir));
        at_once(&images, &read, &mut take);
    }
    let mut looked = Vec::new();
    if LAYOUTS.iter().any(|layout| wanted(layout.name())) {
        looked = boot::layouts()?;
    }
    for distro in Distro::DEBIANS {
        if !wanted(distro.name()) {
            continue;
        }
        let image = match disks {
            Disks::All => Some(distro.disk()?),
            Disks::Made => distro.cached()?,
        };
        match image {
            Some(image) => looked.extend(boot::distros(distro.name(), &[(distro, image)])?),
            None => eprintln!("{}: its disk has not been made yet", distro.name()),
        }
    }
    if Distro::LAYOUTS.iter().any(|layout| wanted(layout.name())) {
        let disk = |distro: Distro| Ok((distro, distro.disk()?));
        let all: Vec<_> = Distro::LAYOUTS
            .into_iter()
            .map(disk)
            .collect::<Result<_>>()?;
        looked.extend(boot::distros("layouts", &all)?);
    }
    looked.retain(|disk| wanted(disk.name));
    let read = |disk: &Looked| Outcome::of(disk.name, || read_looked(disk));
    at_once(&looked, &read, &mut take);
    Ok(outcomes)
}

/// Reads images, as many at once as there are processors; what each came to
/// is taken in as it ends.
fn at_once<T: Sync>(
    images: &[T],
    read: &(dyn Fn(&T) -> Outcome + Sync),
    take: &mut dyn FnMut(Outcome),
) {
    let next = AtomicUsize::new(0);
    let (sender, outcomes) = channel();
    let workers = available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(image) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send(read(image)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        outcomes.iter().for_each(take);
    });
}

/// Runs the command.
pub(crate) fn run(args: &ReadersArgs) -> Result<()> {
    let filter = args.filter.as_deref().unwrap_or_default();
    let wanted = |name: &str| name.contains(filter);
    if args.list {
        for name in names(&wanted) {
            ui::say(name);
        }
        return Ok(());
    }
    let mut say = |outcome: &Outcome| {
        if !args.json {
            ui::say(outcome);
        }
    };
    let outcomes = match (&args.image, &args.mounted) {
        (Some(image), Some(mounted)) => {
            let outcome = Outcome::of(&image.display().to_string(), || {
                let manifest = manifest::of_folder(mounted)?;
                read(image, args.sector, "", &manifest).map(What::Read)
            });
            say(&outcome);
            vec![outcome]
        }
        _ => all(&wanted, Disks::All, &mut say)?,
    };
    if args.json {
        let outcomes: Vec<_> = outcomes.iter().map(json).collect();
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else {
        ui::say(total(&outcomes));
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.is_ok()).count();
    if failed > 0 {
        bail!("{failed} failed");
    }
    if outcomes.is_empty() {
        bail!("no image has this in its name");
    }
    Ok(())
}

fn total(outcomes: &[Outcome]) -> String {
    let (mut files, mut bytes) = (0, 0);
    for outcome in outcomes {
        if let What::Read(report) = &outcome.what {
            files += report.files;
            bytes += report.bytes;
        }
    }
    let refused = outcomes.iter().filter(|one| one.is_refused()).count();
    let failed = outcomes.iter().filter(|one| !one.is_ok()).count();
    let same = outcomes.len() - refused - failed;
    format!(
        "{same} as Linux reads them ({files} files, {bytes} bytes), \
         {refused} refused by name, {failed} failed"
    )
}

fn json(outcome: &Outcome) -> serde_json::Value {
    let (report, why) = match &outcome.what {
        What::Read(report) => (report.clone(), None),
        What::Refused(why) | What::Failed(why) => (Report::default(), Some(why)),
    };
    serde_json::json!({
        "image": outcome.name,
        "ok": outcome.is_ok(),
        "refused": outcome.is_refused(),
        "files": report.files,
        "bytes": report.bytes,
        "seconds": outcome.seconds,
        "note": report.note,
        "differences": report.differences,
        "why": why,
    })
}

/// What is on a partition of an image; without a number, the only file system.
fn open(image: &Path, sector: u32, number: Option<u32>) -> Result<Box<dyn FileSystem>> {
    let disk = FileDisk::cached(image, sector)?;
    let mut found = Vec::new();
    let table = partition::read(&disk).map_err(|error| anyhow::anyhow!("{error}"))?;
    let parts = table.partitions.iter();
    for entry in parts.filter(|entry| number.is_none_or(|number| number == entry.number)) {
        let part = entry.open(&disk).context("a partition beyond the disk")?;
        let part: Rc<dyn BlockSource> = Rc::new(part);
        found.extend(fs::probe(part)?);
    }
    if found.is_empty() && number.is_none() {
        found.extend(fs::probe(disk)?);
    }
    let first = found.pop().context("no file system that is known here")?;
    if !found.is_empty() {
        bail!("more than one file system");
    }
    Ok(first)
}

fn read(image: &Path, sector: u32, from: &str, manifest: &Manifest) -> Result<Report> {
    let fs = open(image, sector, None)?;
    let mut report = compare(&*fs, from, manifest);
    report.note = fs.note().map(str::to_owned);
    Ok(report)
}

/// From the top level, as boot loaders write their paths: what has no name in
/// the default subvolume.
fn compare_top(fs: &dyn FileSystem, default: &Manifest, top: &Manifest, report: &mut Report) {
    let firsts = top.keys().filter(|path| path.matches('/').count() == 1);
    for first in firsts.filter(|first| !default.contains_key(*first)) {
        report.add(compare(fs, first, top));
    }
}

fn read_looked(disk: &Looked) -> Result<What> {
    let mut all = Report::default();
    for part in &disk.parts {
        let number = Some(part.number).filter(|number| *number != 0);
        let at = || format!("partition {}", part.number);
        let fs = open(&disk.image, disk.sector, number).with_context(at)?;
        if let Some(note) = fs.note() {
            bail!("{}: it notes {note:?}", at());
        }
        let (end, top) = part.endings();
        let manifest = manifest::read(&disk.dir, &format!("{}{end}", disk.name))?;
        let mut report = compare(&*fs, "", &manifest);
        if part.has_top {
            let top = manifest::read(&disk.dir, &format!("{}{top}", disk.name))?;
            compare_top(&*fs, &manifest, &top, &mut report);
        }
        for difference in &mut report.differences {
            *difference = format!("{}: {difference}", at());
        }
        all.add(report);
    }
    Ok(What::Read(all))
}

fn read_image(image: &Image, dir: &Path) -> Result<What> {
    let file = make::file(dir, image);
    let fs = match (open(&file, image.sector, None), image.expect) {
        (Ok(fs), Expect::Same) => fs,
        (Err(error), Expect::Same) => return Err(error),
        (Ok(_), Expect::Refused(why)) => bail!("read, not refused ({why})"),
        (Err(error), Expect::Refused(why)) => {
            let error = format!("{error:#}");
            if !error.contains("not supported") || !error.contains(why) {
                bail!("refused, but not by that name ({why}): {error}");
            }
            return Ok(What::Refused(error));
        }
    };
    check_note(image, fs.note())?;
    let manifest = match image.way {
        Way::Synced(_) => {
            let dir = make::after(dir);
            let manifest = manifest::read(&dir, image.name)?;
            let replayed = manifest::read(&dir, &format!("{}.replayed", image.name))?;
            if manifest == replayed {
                bail!("the log has nothing in it: there is nothing to tell apart");
            }
            manifest
        }
        _ => manifest::read(dir, image.name)?,
    };
    let mut report = compare(&*fs, "", &manifest);
    if image.way == Way::Subvolumes {
        let top = manifest::read(dir, &format!("{}.top", image.name))?;
        compare_top(&*fs, &manifest, &top, &mut report);
    }
    report.note = fs.note().map(str::to_owned);
    Ok(What::Read(report))
}

/// What a file system says of itself is what is expected: neither less nor more.
fn check_note(image: &Image, note: Option<&str>) -> Result<()> {
    match (image.note, note) {
        (None, None) => Ok(()),
        (Some(want), Some(note)) if note.contains(want) => Ok(()),
        (want, note) => bail!("it notes {note:?}, not {want:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_neither_missing_nor_unasked() {
        let image = |name: &str| {
            let mut all = Group::ALL.into_iter().flat_map(make::images);
            all.find(|image| image.name == name).unwrap()
        };
        let (synced, clean) = (image("btrfs-synced"), image("btrfs-zstd"));
        check_note(clean, None).unwrap();
        check_note(synced, Some("its log is not replayed: more")).unwrap();
        check_note(synced, None).unwrap_err();
        check_note(synced, Some("something else")).unwrap_err();
        check_note(clean, Some("its log is not replayed")).unwrap_err();
    }

    #[test]
    fn distributions_layouts_are_read_when_asked_for() {
        let all = names(&|_| true);
        for distro in Distro::LAYOUTS {
            assert!(all.contains(&distro.name()) && !often(distro.name()));
        }
        assert!(often("btrfs-synced") && !often("btrfs-raid1-one"));
    }
}
