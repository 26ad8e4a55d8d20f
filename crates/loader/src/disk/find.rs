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
    grub::{self, Platform, variables},
    volumes::{Volume, Volumes},
};
use kexen_disk::BlockSource;
use kexen_platform::{
    disks::{Disk, Disks},
    failure::Failure,
    guest::{Guest, GuestType},
    native::Native,
    report::{Report, size},
};

use super::room;

/// All file systems on all disks. What cannot be read is named, and left.
pub(super) fn volumes<M: Native>(
    report: &Report,
    m: &M,
    quiet: bool,
    disks: &Disks<M>,
) -> Result<Volumes<'static>, Failure> {
    let mut names = Vec::new();
    let mut volumes = Vec::new();
    for disk in disks.all() {
        names.push(disk.name().to_string());
        let own: Rc<dyn BlockSource> = Rc::<Disk<M>>::clone(disk);
        let mut found = disk::volumes(own, disk.partition(), room::of_one(disks));
        if !quiet {
            report.line(
                m,
                format_args!("{}: {}: {}", disk.name(), size(disk.bytes()), tell(&found)),
            );
            for note in &found.notes {
                report.line(m, format_args!("note: {note}"));
            }
            for note in found.volumes.iter().filter_map(Volume::note) {
                report.line(m, format_args!("{note}"));
            }
        }
        for problem in found.problems {
            report.line(m, format_args!("error: {problem}"));
        }
        volumes.append(&mut found.volumes);
    }
    room::give_the_rest();
    Ok(Volumes::with_disks(names, volumes))
}

fn tell(found: &disk::Found) -> String {
    let read = found.volumes.iter();
    let read = read.map(|volume| format!("{} {}", volume.name, volume.fs.kind()));
    let foreign = found.foreign.iter();
    let foreign = foreign.map(|(name, what)| format!("{name} {what} (not read here)"));
    let all: Vec<_> = read.chain(foreign).collect();
    if all.is_empty() {
        return String::from("no file system that is known here");
    }
    all.join(", ")
}

/// What can be started, by which configurations.
pub(super) fn entries<G: Guest>(guest: &G, volumes: &Volumes<'_>, words: &str) -> Found {
    let platform = match guest.guest_type() {
        GuestType::Pv | GuestType::Dom0Pv => Platform::Pv,
        GuestType::Pvh | GuestType::Dom0Pvh => Platform::Pvh,
        GuestType::Hvm => Platform::Hvm,
    };
    let variables = variables::of(words);
    let guest = grub::Guest {
        platform,
        variables,
    };
    find::find(volumes, guest)
}
