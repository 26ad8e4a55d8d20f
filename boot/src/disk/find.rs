//! From disks to volumes, and to what can be started from them.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use kexen_bootconfig::{
    disk,
    find::{self, Found},
    grub::Platform,
    volumes::{Volume, Volumes},
};
use kexen_disk::BlockSource;
use kexen_platform::{
    Xen,
    disks::{Disk, Disks},
    failure::Failure,
    guest::Guest,
    report::{Report, size},
};

use super::room;

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
        let own: Rc<dyn BlockSource> = Rc::<Disk>::clone(disk);
        let (mut found, problems) = disk::volumes(own, disk.partition(), room::of_one(disks));
        if !quiet {
            let notes = found.iter().filter_map(Volume::note);
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
            for note in notes {
                report.line(m, format_args!("{note}"));
            }
        }
        for problem in problems {
            report.line(m, format_args!("error: {problem}"));
        }
        volumes.append(&mut found);
    }
    room::give_the_rest();
    Ok(Volumes::with_disks(names, volumes))
}

fn tell(volume: &Volume<'_>) -> String {
    format!("{} {}", volume.name, volume.fs.kind())
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
