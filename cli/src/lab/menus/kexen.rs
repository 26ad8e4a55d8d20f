//! What Kexen makes of the same disks and the same configuration.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use kexen_bootconfig::disk;
use kexen_bootconfig::entry::{Entry, Kind, Menu, MenuStyle, Place, Timeout};
use kexen_bootconfig::grub::{self, Platform};
use kexen_bootconfig::volumes::Volumes;
use kexen_disk::BlockSource;
use std::rc::Rc;

use super::seen::{Boots, Seen, SeenEntry};
use super::session::Start;
use crate::lab::readers::FileDisk;

/// The volumes of these images, with the names that the emulator has for them:
/// on Xen `hd0` is `xen/xvda`, and a configuration can look into a name.
pub(crate) fn volumes(disks: &[PathBuf]) -> Result<Volumes<'static>> {
    let names = (0..).map(|number| format!("hd{number}"));
    volumes_of(names.zip(disks))
}

/// The volumes of disks with these names.
pub(crate) fn volumes_of<'a>(
    disks: impl Iterator<Item = (String, &'a PathBuf)>,
) -> Result<Volumes<'static>> {
    let mut all = Vec::new();
    for (name, disk) in disks {
        let source: Rc<dyn BlockSource> = Rc::new(FileDisk::open(disk, &name, 512)?);
        let found = disk::volumes(source, None, disk::Memory::default());
        anyhow::ensure!(found.problems.is_empty(), "{name}: {:?}", found.problems);
        all.extend(found.volumes);
    }
    Ok(Volumes::new(all))
}

/// What Kexen reads where GRUB starts.
pub(crate) fn read(volumes: &Volumes<'_>, start: &Start) -> Result<Menu> {
    let volume = volumes
        .by_grub_name(&start.device)
        .with_context(|| format!("Kexen finds no volume {}", start.device))?;
    let place = Place {
        volume,
        path: start.file.clone(),
    };
    Ok(grub::read(volumes, &place, Platform::Pvh).menu)
}

/// The same, to be compared.
pub(super) fn seen(volumes: &Volumes<'_>, menu: &Menu) -> Seen {
    let titles = |entry: &Entry| -> Vec<String> {
        let steps = entry.steps.iter();
        let steps = steps.map(|step| step.title.trim_end().to_owned());
        steps.collect()
    };
    let by_index = |index: usize| menu.entries.get(index).map(titles);
    Seen {
        entries: menu
            .entries
            .iter()
            .map(|entry| SeenEntry {
                titles: titles(entry),
                id: Some(id(entry)),
                boots: boots(volumes, entry),
            })
            .collect(),
        default: menu.default.and_then(by_index),
        timeout: match menu.timeout {
            Some(Timeout::Seconds(seconds)) => Some(seconds.into()),
            Some(Timeout::Forever) | None => None,
        },
        style: match (menu.style, menu.timeout) {
            (_, Some(Timeout::Forever) | None) | (MenuStyle::Menu, _) => "menu",
            (MenuStyle::Hidden, _) => "hidden",
            (MenuStyle::Countdown, _) => "countdown",
        },
        fallback: menu.fallback.iter().copied().filter_map(by_index).collect(),
    }
}

/// As GRUB has it: the title where there is no other. Of a file that `blscfg` took
/// in, Kexen keeps the name whole and finds it by either.
fn id(entry: &Entry) -> String {
    let id = entry.id.strip_suffix(".conf").unwrap_or(&entry.id);
    (if id.is_empty() { &entry.title } else { id }).to_owned()
}

fn boots(volumes: &Volumes<'_>, entry: &Entry) -> Boots {
    if let Some(problem) = &entry.problem {
        return Boots::Nothing(problem.to_string());
    }
    let file = |place: &Place| {
        let name = volumes.get(place.volume).map(|volume| volume.grub_name());
        format!("{}:{}", name.unwrap_or_default(), place.path)
    };
    match &entry.kind {
        Some(Kind::Linux {
            kernel,
            initrds,
            cmdline,
        }) => Boots::Linux {
            kernel: file(kernel),
            initrds: initrds.iter().map(file).collect(),
            cmdline: cmdline.clone(),
            unquoted: None,
        },
        Some(other) => Boots::Nothing(format!("{other:?}")),
        None => Boots::Nothing("it loads no kernel".into()),
    }
}
