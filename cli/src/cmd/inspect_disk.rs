//! `inspect` of a disk: its volumes, the configurations on them, and what
//! would boot, as the boot image finds it.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;

use anyhow::Result;
use kexen_bootconfig::bls::image;
use kexen_bootconfig::disk;
use kexen_bootconfig::entry::{Entry, Kind, Place};
use kexen_bootconfig::find::{self, spoken};
use kexen_bootconfig::grub::Platform;
use kexen_bootconfig::volumes::Volumes;
use kexen_disk::{BlockSource, ReadError};
use kexen_image::Compression;
use serde::Serialize;

/// What the disk is called: the first one of a guest.
const NAME: &str = "xvda";

/// Whose configurations are read: scripts ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum GuestKind {
    Pv,
    #[default]
    Pvh,
    Hvm,
}

/// What is on a disk.
#[derive(Debug, Serialize)]
pub(super) struct DiskReport {
    volumes: Vec<VolumeReport>,
    configurations: Vec<String>,
    entries: Vec<EntryReport>,
    /// The entry that starts by itself.
    default: Option<usize>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct VolumeReport {
    name: String,
    file_system: &'static str,
    uuid: String,
    label: String,
}

#[derive(Debug, Serialize)]
struct EntryReport {
    title: String,
    id: String,
    source: String,
    files: Vec<String>,
    cmdline: Option<String>,
    problem: Option<String>,
}

/// A file as a disk.
#[derive(Debug)]
struct Image {
    file: File,
    bytes: u64,
    sector: u32,
}

impl BlockSource for Image {
    fn name(&self) -> &str {
        NAME
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn sector(&self) -> u32 {
        self.sector
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let read = self.file.read_exact_at(into, offset);
        read.map_err(|error| ReadError {
            name: NAME.into(),
            offset,
            why: error.to_string(),
        })
    }
}

/// A file that is no disk: not so long, or not of whole sectors.
const SHORTEST: u64 = 32 << 10;

/// Bytes of a sector of the disk that an image is of: a file does not say it, but
/// a GPT lies in the second one.
fn sector(file: &File) -> u32 {
    let has_gpt = |size: &u32| {
        let mut magic = [0; 8];
        file.read_exact_at(&mut magic, u64::from(*size)).is_ok() && &magic == b"EFI PART"
    };
    [512, 1024, 2048, 4096]
        .into_iter()
        .find(has_gpt)
        .unwrap_or(512)
}

/// What is on a disk; none if the file is something else.
pub(super) fn report(path: &Path, guest: GuestKind) -> Result<Option<DiskReport>> {
    use std::io::{Seek as _, SeekFrom};
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    file.by_ref().take(4096).read_to_end(&mut head)?;
    // A kernel's first sector may end as a boot sector does.
    let kernel = head.starts_with(b"\x7fELF") || head.get(0x202..0x206) == Some(b"HdrS");
    if kernel || head.starts_with(b"0707") || Compression::detect(&head) != Compression::None {
        return Ok(None);
    }
    // Of a device, metadata does not say it.
    let bytes = file.seek(SeekFrom::End(0))?;
    let sector = sector(&file);
    let image = Rc::new(Image {
        file,
        bytes,
        sector,
    });
    let on_it = disk::volumes(image, None, disk::Memory::default());
    let (problems, foreign) = (on_it.problems, on_it.foreign);
    let mut of_disk = on_it.notes;
    if on_it.volumes.is_empty() && problems.is_empty() && foreign.is_empty() {
        let is_disk = bytes >= SHORTEST && bytes % 512 == 0;
        if !is_disk && of_disk.is_empty() {
            return Ok(None);
        }
        of_disk.push("no file system that is known here is on it".into());
    }
    if sector != 512 {
        of_disk.push(format!("it is a disk with sectors of {sector} bytes"));
    }
    let volumes = Volumes::new(on_it.volumes);
    let platform = match guest {
        GuestKind::Pv => Platform::Pv,
        GuestKind::Pvh => Platform::Pvh,
        GuestKind::Hvm => Platform::Hvm,
    };
    let found = find::find(&volumes, platform);
    let volume = |(_, volume): (usize, &kexen_bootconfig::volumes::Volume<'_>)| VolumeReport {
        name: volume.name.clone(),
        file_system: volume.fs.kind(),
        uuid: volume.fs.uuid().to_owned(),
        label: volume.fs.label().to_owned(),
    };
    let configurations = found.configs.iter().map(|(kind, place, entries)| {
        format!("{kind:?}, {}: {entries} entries", spoken(&volumes, place))
    });
    let doubts = found.menu.doubts.iter();
    let doubts = doubts.map(|doubt| format!("warning: {doubt}"));
    let notes = found.menu.notes.iter().map(ToString::to_string);
    let foreign = foreign.into_iter();
    let foreign = foreign.map(|(name, what)| format!("{name}: {what} is not read here"));
    let of_volumes = (volumes.iter())
        .filter_map(|(_, volume)| Some(format!("{}: {}", volume.name, volume.fs.note()?)));
    Ok(Some(DiskReport {
        configurations: configurations.collect(),
        entries: (found.menu.entries.iter())
            .map(|found| entry(&volumes, found))
            .collect(),
        default: found.menu.default,
        notes: problems
            .into_iter()
            .chain(of_disk)
            .chain(foreign)
            .chain(of_volumes)
            .chain(doubts)
            .chain(notes)
            .collect(),
        volumes: volumes.iter().map(volume).collect(),
    }))
}

fn entry(volumes: &Volumes<'_>, entry: &Entry) -> EntryReport {
    let name = |place: &Place| spoken(volumes, place);
    let (files, cmdline) = match &entry.kind {
        Some(Kind::Linux {
            kernel,
            initrds,
            cmdline,
        }) => {
            let files = std::iter::once(kernel).chain(initrds);
            (files.map(name).collect(), Some(cmdline.clone()))
        }
        Some(Kind::Uki {
            image,
            profile,
            addons,
            cmdline,
        }) => {
            let open = |place: &Place| volumes.fs(place)?.open(&place.path);
            let parts = image::parts(&open, image, *profile, addons, cmdline.as_deref());
            let files = std::iter::once(image).chain(addons);
            (
                files.map(name).collect(),
                parts.ok().map(|parts| parts.cmdline),
            )
        }
        Some(Kind::Chain { image }) => (vec![name(image)], None),
        _ => (Vec::new(), None),
    };
    EntryReport {
        title: entry.title.clone(),
        id: entry.id.clone(),
        source: name(&entry.source.place),
        files,
        cmdline,
        problem: entry.problem.as_ref().map(ToString::to_string),
    }
}

impl std::fmt::Display for DiskReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "disk, called {NAME}")?;
        for v in &self.volumes {
            writeln!(
                f,
                "volume {}  {}  {}  {}",
                v.name, v.file_system, v.uuid, v.label
            )?;
        }
        for configuration in &self.configurations {
            writeln!(f, "configuration {configuration}")?;
        }
        if self.entries.is_empty() {
            writeln!(f, "boots nothing: no configuration that is read is on it")?;
        }
        for (number, entry) in self.entries.iter().enumerate() {
            let default = if self.default == Some(number) {
                ", the default"
            } else {
                ""
            };
            writeln!(f, "entry {number}{default}: {}", entry.title)?;
            writeln!(f, "  from         {}", entry.source)?;
            for file in &entry.files {
                writeln!(f, "  file         {file}")?;
            }
            if let Some(cmdline) = &entry.cmdline {
                writeln!(f, "  cmdline      {cmdline}")?;
            }
            if let Some(problem) = &entry.problem {
                writeln!(f, "  cannot boot  {problem}")?;
            }
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::boot_disk::{self, DiskLayout};
    use crate::lab::menus::{self, layouts};
    use std::fs;
    use std::path::PathBuf;

    /// A disk of that layout; the entry's words are `a b`.
    fn made(layout: DiskLayout, scratch: &Path) -> PathBuf {
        let (kernel, initrd) = (scratch.join("k"), scratch.join("i"));
        fs::write(&kernel, vec![1; 10_000]).unwrap();
        fs::write(&initrd, vec![2; 5_000]).unwrap();
        boot_disk::make("t", layout, &kernel, &initrd, "a b", None, scratch).unwrap()
    }

    #[test]
    fn a_disk_says_what_it_would_boot() {
        let scratch = tempfile::tempdir().unwrap();
        let disk = made(DiskLayout::SystemdFat, scratch.path());
        let disk = report(&disk, GuestKind::Pv).unwrap().unwrap();
        let default = &disk.entries[disk.default.unwrap()];
        assert_eq!(default.files, ["xvda1:/vmlinuz", "xvda1:/initrd"]);
        assert_eq!(default.cmdline.as_deref(), Some("a b"));
        // An entry without its kernel is none: it is told of.
        assert_eq!(disk.entries.len(), 1);
        assert!(disk.notes[0].contains("\"/missing\""), "{:?}", disk.notes);
        assert!(disk.to_string().contains(", the default: The lab's Linux"));
    }

    #[test]
    fn the_configurations_own_choice_is_the_default() {
        let scratch = tempfile::tempdir().unwrap();
        for layout in DiskLayout::CHOOSERS {
            let disk = made(layout, scratch.path());
            let disk = report(&disk, GuestKind::Pvh).unwrap().unwrap();
            let default = disk.default.map(|number| &disk.entries[number]);
            let cmdline = default.and_then(|entry| entry.cmdline.as_deref());
            assert_eq!(cmdline, Some("a b lab.wanted"), "{layout:?}: {disk}");
        }
    }

    /// The configuration is found, and is read as where the distribution's own GRUB
    /// begins: that reading is compared with GRUB's by `cargo kexen menus`.
    #[test]
    fn distributions_disks_boot_what_their_own_grub_does() {
        for layout in layouts::all().unwrap() {
            let scratch = tempfile::tempdir().unwrap();
            let images = menus::make_disks(&layout.disks, scratch.path()).unwrap();
            let names = ('a'..).map(|letter| format!("xvd{letter}"));
            let volumes = menus::kexen::volumes_of(names.zip(&images)).unwrap();
            let menu = menus::kexen::read(&volumes, &layout.start).unwrap();
            let expected = menu.default.map(|at| entry(&volumes, &menu.entries[at]));
            let disk = report(&images[0], GuestKind::Pvh).unwrap().unwrap();
            let found = disk.default.map(|at| &disk.entries[at]);
            let boots = |entry: &EntryReport| {
                let EntryReport {
                    title,
                    files,
                    cmdline,
                    problem,
                    ..
                } = entry;
                // Qubes' own disk is a hypervisor's.
                let can = layout.name != "qubes";
                assert_eq!(
                    (problem.is_none(), files.is_empty()),
                    (can, !can),
                    "{problem:?}"
                );
                (
                    title.clone(),
                    files.clone(),
                    cmdline.clone(),
                    problem.clone(),
                )
            };
            assert!(expected.is_some(), "{}: {:?}", layout.name, menu.notes);
            assert_eq!(
                found.map(boots),
                expected.as_ref().map(boots),
                "{}: {disk}",
                layout.name
            );
        }
    }

    #[test]
    fn a_log_that_is_not_replayed_is_a_note() {
        let scratch = tempfile::tempdir().unwrap();
        let disk = made(DiskLayout::GrubBtrfs, scratch.path());
        let clean = report(&disk, GuestKind::Pvh).unwrap().unwrap();
        assert!(!clean.to_string().contains("its log"), "{clean}");
        // `log_root` is not 0, and the sum is right again.
        let mut bytes = fs::read(&disk).unwrap();
        let magic = bytes.windows(8).position(|bytes| bytes == b"_BHRfS_M");
        let superblock = magic.unwrap() - 0x40;
        bytes[superblock + 0x62] = 1;
        let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
        let sum = sum.checksum(&bytes[superblock + 0x20..superblock + 0x1000]);
        bytes[superblock..superblock + 4].copy_from_slice(&sum.to_le_bytes());
        fs::write(&disk, bytes).unwrap();
        let crashed = report(&disk, GuestKind::Pvh).unwrap().unwrap();
        assert_eq!(crashed.default, clean.default);
        assert!(
            crashed
                .to_string()
                .contains("note: xvda1: its log is not replayed"),
            "{crashed}"
        );
    }

    #[test]
    fn a_disk_with_nothing_known_says_so() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("disk");
        let mut bytes = vec![0; 1 << 20];
        for signature in [[0, 0], [0x55, 0xaa]] {
            bytes[510..512].copy_from_slice(&signature);
            fs::write(&file, &bytes).unwrap();
            let text = report(&file, GuestKind::Pvh).unwrap().unwrap().to_string();
            assert!(text.contains("boots nothing"), "{text}");
            assert!(text.contains("no file system that is known"), "{text}");
        }
        // A partition with something that is known by name.
        bytes[446 + 4] = 0xa5;
        bytes[446 + 8] = 64;
        bytes[446 + 13] = 4;
        bytes[64 * 512..64 * 512 + 8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
        fs::write(&file, &bytes).unwrap();
        let text = report(&file, GuestKind::Pvh).unwrap().unwrap().to_string();
        assert!(text.contains("xvda1: LUKS is not read here"), "{text}");
    }

    #[test]
    fn what_is_no_disk_is_left_to_others() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        for bytes in [&b""[..], b"\x7fELF", b"070701", &[0; 100_000]] {
            fs::write(&file, bytes).unwrap();
            assert!(report(&file, GuestKind::Pvh).unwrap().is_none());
        }
    }
}
