//! From disks to volumes, and to what can be started from them.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use kexen_bootconfig::{
    find::{self, Found},
    grub::Platform,
    volumes::{TableKind, Volume, Volumes},
};
use kexen_disk::{
    BlockSource, Cache, CacheOptions,
    fs::probe,
    partition::{self, PartitionType, Scheme},
};
use kexen_platform::{
    Xen,
    disks::{Disk, Disks},
    failure::Failure,
    guest::Guest,
    report::{Report, size},
};

/// Volumes of a disk that are looked at.
const MOST: usize = 64;

/// All file systems on all disks. What cannot be read is named, and left.
pub(super) fn volumes(
    report: &Report,
    m: &Xen,
    quiet: bool,
    disks: &Disks,
) -> Result<Volumes<'static>, Failure> {
    let mut names = Vec::new();
    let mut volumes = Vec::new();
    for disk in disks.all() {
        names.push(disk.name().to_string());
        let before = volumes.len();
        let mut problems = Vec::new();
        of_disk(disk, &mut volumes, &mut problems);
        if !quiet {
            let found = volumes.get(before..).unwrap_or_default();
            let found: Vec<_> = found.iter().map(tell).collect();
            let found = if found.is_empty() {
                String::from("no file system that is known here")
            } else {
                found.join(", ")
            };
            report.line(
                m,
                format_args!("{}: {}: {found}", disk.name(), size(disk.bytes())),
            );
        }
        for problem in problems {
            report.line(m, format_args!("error: {problem}"));
        }
    }
    Ok(Volumes::with_disks(names, volumes))
}

fn tell(volume: &Volume<'_>) -> String {
    format!("{} {}", volume.name, volume.fs.kind())
}

fn of_disk(disk: &Rc<Disk>, volumes: &mut Vec<Volume<'static>>, problems: &mut Vec<String>) {
    let own: Rc<dyn BlockSource> = Rc::<Disk>::clone(disk);
    let cached: Rc<dyn BlockSource> = Rc::new(Cache::new(own, CacheOptions::default()));
    let name = disk.name().to_string();
    let mut add = |source: Rc<dyn BlockSource>, volume: Unread| match probe(source) {
        Ok(Some(fs)) => volumes.push(Volume {
            name: volume.name,
            disk: name.clone(),
            partition: volume.partition,
            table: volume.table,
            partuuid: volume.partuuid,
            type_guid: volume.type_guid,
            fs,
        }),
        Ok(None) => {}
        Err(error) => problems.push(format!("{}: {error}", volume.name)),
    };
    let whole = Unread {
        name: disk.name().to_string(),
        partition: disk.partition(),
        ..Unread::default()
    };
    if disk.partition().is_some() {
        // A partition by itself: it has no table.
        return add(cached, whole);
    }
    let table = match partition::read(&cached) {
        Ok(table) => table,
        Err(error) => return problems.push(error.to_string()),
    };
    if table.whole {
        add(Rc::clone(&cached), whole);
    }
    for entry in table.partitions.iter().take(MOST) {
        let Some(source) = entry.open(&cached) else {
            continue;
        };
        let type_guid = match &entry.kind {
            PartitionType::Guid(guid) => guid.clone(),
            PartitionType::Mbr(_) => String::new(),
        };
        let volume = Unread {
            name: entry.name.clone(),
            partition: Some(entry.number),
            table: match table.scheme {
                Scheme::Gpt => Some(TableKind::Gpt),
                Scheme::Mbr => Some(TableKind::Msdos),
                Scheme::None => None,
            },
            partuuid: entry.part_uuid.clone(),
            type_guid,
        };
        add(Rc::new(source), volume);
    }
}

/// A volume whose file system is not known yet.
#[derive(Default)]
struct Unread {
    name: String,
    partition: Option<u32>,
    table: Option<TableKind>,
    partuuid: String,
    type_guid: String,
}

/// What can be started, by which configurations.
pub(super) fn entries<G: Guest>(guest: &G, volumes: &Volumes<'_>) -> Found {
    let platform = if guest.machine().is_pv() {
        Platform::Pv
    } else if guest.by_boot_params() {
        Platform::Hvm
    } else {
        Platform::Pvh
    };
    find::find(volumes, platform)
}
