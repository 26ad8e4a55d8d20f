//! The volumes that configurations are looked for on, and how configurations
//! call them.
//!
//! Names: label and UUID of the file system as `blkid` prints them, PARTUUID,
//! and GRUB's device names (GNU GRUB manual, "Device syntax"): `(hd0,gpt1)`,
//! `(hd0,msdos5)`, `(hd0,1)`, `(hd0)`, and those of its Xen ports,
//! `(xen/xvda,gpt1)`. Disks are counted in the order of the list; UUIDs and
//! labels that several volumes have mean the first of them.

use alloc::{
    boxed::Box,
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use core::cell::OnceCell;

use kexen_disk::{
    BlockSource, FileSystem, FsError,
    fs::{FileType, Problem},
};

use crate::entry::Place;

/// Partition type of an EFI system partition.
pub const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// Partition type of an extended boot loader partition.
pub const XBOOTLDR: &str = "bc13c2ff-59e6-4262-a352-b275fd6f7172";
/// Root folders of one btrfs, at most.
const MAX_ROOTS: usize = 16;

/// What a partition table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// GPT.
    Gpt,
    /// MBR.
    Msdos,
}

/// A file system on a disk or partition.
#[derive(Debug)]
pub struct Volume<'d> {
    /// How Linux calls it: `xvda1`, or `xvda` without a partition table.
    pub name: String,
    /// The disk it is on: `xvda`.
    pub disk: String,
    /// The number of the partition.
    pub partition: Option<u32>,
    /// The partition table it is in.
    pub table: Option<TableKind>,
    /// Its PARTUUID; empty if it has none.
    pub partuuid: String,
    /// The GUID of its partition type; empty if it has none.
    pub type_guid: String,
    /// Its partition's name in a GPT (PARTLABEL); empty if it has none.
    pub partlabel: String,
    /// Its partition's attributes in a GPT, or 0.
    pub attributes: u64,
    /// What is on it.
    pub fs: Box<dyn FileSystem + 'd>,
    /// Its bytes, for what is outside its file system.
    pub raw: Option<Rc<dyn BlockSource>>,
}

impl Volume<'_> {
    /// How GRUB's Xen ports call it, without the parentheses. A disk that has a
    /// name of GRUB's own, `hd0`, keeps it: no disk of a guest is called so.
    #[must_use]
    pub fn grub_name(&self) -> String {
        let port = if counted(&self.disk).is_some() {
            ""
        } else {
            "xen/"
        };
        let table = match self.table {
            Some(TableKind::Gpt) => "gpt",
            Some(TableKind::Msdos) => "msdos",
            None => "",
        };
        match self.partition {
            Some(number) => format!("{port}{},{table}{number}", self.disk),
            None => format!("{port}{}", self.disk),
        }
    }

    /// Whether its partition is an ESP or XBOOTLDR one.
    #[must_use]
    pub fn is_boot_partition(&self) -> bool {
        [ESP, XBOOTLDR]
            .iter()
            .any(|guid| self.type_guid.eq_ignore_ascii_case(guid))
    }

    /// What its file system says that somebody should know, with its name.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let note = self.fs.note()?;
        Some(format!("{}: note: {note}", self.name))
    }
}

/// All volumes, in the order in which they are looked at.
#[derive(Debug, Default)]
pub struct Volumes<'d> {
    disks: Vec<String>,
    volumes: Vec<Volume<'d>>,
    /// What [`Volumes::roots`] has found, for each volume: many paths ask.
    roots: Vec<OnceCell<Vec<String>>>,
}

impl<'d> Volumes<'d> {
    /// Volumes of disks in the order in which these appear.
    #[must_use]
    pub fn new(volumes: Vec<Volume<'d>>) -> Self {
        Self::with_disks(Vec::new(), volumes)
    }

    /// The same, with disks of which no volume can be read: they count in
    /// names like `hd1`.
    #[must_use]
    pub fn with_disks(mut disks: Vec<String>, volumes: Vec<Volume<'d>>) -> Self {
        for volume in &volumes {
            if !disks.contains(&volume.disk) {
                disks.push(volume.disk.clone());
            }
        }
        let roots = volumes.iter().map(|_| OnceCell::new()).collect();
        Self {
            disks,
            volumes,
            roots,
        }
    }

    /// The volumes alone.
    #[cfg(test)]
    pub(crate) fn into_list(self) -> Vec<Volume<'d>> {
        self.volumes
    }

    /// A volume by its index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Volume<'d>> {
        self.volumes.get(index)
    }

    /// All of them with their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Volume<'d>)> {
        self.volumes.iter().enumerate()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.volumes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.volumes.is_empty()
    }

    /// Those whose file system has this UUID, in whatever case.
    pub fn with_uuid<'a>(&'a self, uuid: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.having(move |volume| volume.fs.uuid().eq_ignore_ascii_case(uuid) && !uuid.is_empty())
    }

    /// Those whose file system has this label.
    pub fn with_label<'a>(&'a self, label: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.having(move |volume| volume.fs.label() == label && !label.is_empty())
    }

    /// Those with this PARTUUID, in whatever case.
    pub fn with_partuuid<'a>(&'a self, uuid: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.having(move |volume| volume.partuuid.eq_ignore_ascii_case(uuid) && !uuid.is_empty())
    }

    fn having<'a>(
        &'a self,
        is: impl Fn(&Volume<'d>) -> bool + 'a,
    ) -> impl Iterator<Item = usize> + 'a {
        self.iter()
            .filter(move |(_, volume)| is(volume))
            .map(|(index, _)| index)
    }

    /// The volume that a GRUB device name means, with or without parentheses.
    #[must_use]
    pub fn by_grub_name(&self, name: &str) -> Option<usize> {
        let name = name.strip_prefix('(').unwrap_or(name);
        let name = name.strip_suffix(')').unwrap_or(name);
        let (disk, part) = match name.split_once(',') {
            Some((disk, part)) => (disk, Some(part)),
            None => (name, None),
        };
        let disk = self.disk_by_grub_name(disk)?;
        let part = match part {
            Some(text) => Some(partition(text)?),
            None => None,
        };
        self.having(|volume| {
            volume.disk == *disk
                && match part {
                    Some((table, number)) => {
                        volume.partition == Some(number)
                            && (table.is_none() || table == volume.table)
                    }
                    None => volume.partition.is_none(),
                }
        })
        .next()
    }

    /// All of them in the order in which GRUB lists devices: of each disk the
    /// whole, then its partitions from the last to the first.
    #[must_use]
    pub fn as_grub_lists(&self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.volumes.len()).collect();
        let disk = |index: &usize| {
            let volume = self.volumes.get(*index)?;
            Some((self.disk_number(&volume.disk), volume.partition.is_some()))
        };
        all.sort_by(|a, b| disk(a).cmp(&disk(b)).then(b.cmp(a)));
        all
    }

    /// Which disk this is, as `hd0` counts.
    #[must_use]
    pub fn disk_number(&self, disk: &str) -> Option<usize> {
        self.disks.iter().position(|known| known == disk)
    }

    /// The disk that a GRUB device name without a partition means.
    #[must_use]
    pub fn disk_by_grub_name(&self, name: &str) -> Option<&String> {
        match name.strip_prefix("xen/") {
            Some(name) => self.disks.iter().find(|disk| *disk == name),
            None => self.disks.get(counted(name)?),
        }
    }

    /// What is at a place.
    ///
    /// # Errors
    /// As [`FileSystem::metadata`].
    pub fn kind_of(&self, place: &Place) -> Result<FileType, FsError> {
        Ok(self.fs(place)?.metadata(&place.path)?.kind)
    }

    /// Whether there is a regular file.
    #[must_use]
    pub fn is_file(&self, place: &Place) -> bool {
        self.kind_of(place) == Ok(FileType::Regular)
    }

    /// All of a file of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`FileSystem::read`].
    pub fn read(&self, place: &Place, limit: u64) -> Result<Vec<u8>, FsError> {
        self.fs(place)?.read(&place.path, limit)
    }

    /// A configuration file's text; what is not UTF-8 in it is replaced.
    ///
    /// # Errors
    /// As [`FileSystem::read`].
    pub fn text(&self, place: &Place, limit: u64) -> Result<String, FsError> {
        let bytes = self.read(place, limit)?;
        Ok(String::from_utf8_lossy(&bytes).to_string())
    }

    /// The file system that a place is on.
    ///
    /// # Errors
    /// [`Problem::Missing`] if there is no such volume.
    pub fn fs(&self, place: &Place) -> Result<&(dyn FileSystem + 'd), FsError> {
        match self.volumes.get(place.volume) {
            Some(volume) => Ok(&*volume.fs),
            None => Err(FsError {
                path: place.path.clone(),
                problem: Problem::Missing,
            }),
        }
    }

    /// The folders of a volume that are a root file system's `/`: the top,
    /// and on btrfs subvolumes that are called as distributions call them:
    /// `@` (Debian, Ubuntu, Arch), `@rootfs` (Debian), `root` (Fedora), and
    /// snapper's snapshots below `@` (openSUSE), oldest first: its first one
    /// is what was installed.
    #[must_use]
    pub fn roots(&self, volume: usize) -> &[String] {
        match (self.roots.get(volume), self.volumes.get(volume)) {
            (Some(roots), Some(volume)) => roots.get_or_init(|| Self::look_for_roots(volume)),
            _ => &[],
        }
    }

    fn look_for_roots(volume: &Volume<'_>) -> Vec<String> {
        let mut roots = alloc::vec![String::new()];
        if volume.fs.kind() != "btrfs" {
            return roots;
        }
        let folder = |path: &str| {
            volume
                .fs
                .metadata(path)
                .is_ok_and(|data| data.kind == FileType::Directory)
        };
        for name in ["/@", "/@rootfs", "/root"] {
            let inside = ["boot", "etc", ".snapshots"];
            if inside
                .iter()
                .any(|inside| folder(&format!("{name}/{inside}")))
            {
                roots.push(name.into());
            }
        }
        for snapshots in ["/@/.snapshots", "/.snapshots"] {
            let names = volume.fs.read_dir(snapshots).unwrap_or_default();
            let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
            numbers.sort_unstable();
            for number in numbers.into_iter().take(MAX_ROOTS) {
                let root = format!("{snapshots}/{number}/snapshot");
                if roots.len() < MAX_ROOTS && folder(&root) {
                    roots.push(root);
                }
            }
        }
        roots
    }

    /// The place that a path in a configuration means: as it is, or, on
    /// btrfs, where such a file is in a subvolume: GRUB reads some of these
    /// below the default subvolume. Without any such file, the path as it is.
    #[must_use]
    pub fn locate(&self, volume: usize, path: &str) -> Place {
        let place = Place {
            volume,
            path: clean(path),
        };
        let Some(here) = self.volumes.get(volume) else {
            return place;
        };
        if here.fs.kind() != "btrfs" || here.fs.metadata(&place.path).is_ok() {
            return place;
        }
        self.roots(volume)
            .iter()
            .map(|root| Place {
                volume,
                path: format!("{root}{}", place.path),
            })
            .find(|place| here.fs.metadata(&place.path).is_ok())
            .unwrap_or(place)
    }
}

/// A path that begins with one slash and has one between names.
#[must_use]
pub(crate) fn clean(path: &str) -> String {
    let mut clean = String::new();
    for name in path.split('/') {
        if !name.is_empty() && name != "." {
            clean.push('/');
            clean.push_str(name);
        }
    }
    if clean.is_empty() {
        clean.push('/');
    }
    clean
}

/// A path beside another one, or from the root on if it begins with `/`.
#[must_use]
pub(crate) fn beside(file: &str, path: &str) -> String {
    if path.starts_with('/') {
        return clean(path);
    }
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    clean(&format!("{folder}/{path}"))
}

/// The number in GRUB's name of a disk, `hd0`.
fn counted(name: &str) -> Option<usize> {
    name.strip_prefix("hd")?.parse().ok()
}

/// `gpt1`, `msdos5`, `1`.
fn partition(text: &str) -> Option<(Option<TableKind>, u32)> {
    let (table, number) = if let Some(number) = text.strip_prefix("gpt") {
        (Some(TableKind::Gpt), number)
    } else if let Some(number) = text.strip_prefix("msdos") {
        (Some(TableKind::Msdos), number)
    } else {
        (None, text)
    };
    Some((table, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testfs::{TestFs, gpt};
    use alloc::vec;

    fn volumes() -> Volumes<'static> {
        let whole = |disk: &str, fs| Volume {
            name: disk.into(),
            disk: disk.into(),
            partition: None,
            table: None,
            partuuid: String::new(),
            type_guid: String::new(),
            partlabel: String::new(),
            attributes: 0,
            fs: Box::new(fs),
            raw: None,
        };
        let mut volumes = gpt(vec![
            TestFs::new("vfat", "EFI", "1234-ABCD"),
            TestFs::new("ext4", "root", "aa-bb"),
        ])
        .volumes;
        volumes.push(whole("xvdb", TestFs::new("ext4", "root", "cc-dd")));
        let mut logical = whole("xvdd", TestFs::new("xfs", "", ""));
        logical.partition = Some(5);
        logical.table = Some(TableKind::Msdos);
        volumes.push(logical);
        Volumes::with_disks(["xvda", "xvdb", "xvdc"].map(String::from).to_vec(), volumes)
    }

    #[test]
    fn volumes_have_the_names_that_grub_gives_them() {
        let volumes = volumes();
        for (name, index) in [
            ("(hd0,gpt1)", 0),
            ("hd0,2", 1),
            ("(xen/xvda,gpt2)", 1),
            ("hd1", 2),
            ("xen/xvdb", 2),
            ("(hd3,msdos5)", 3),
        ] {
            assert_eq!(volumes.by_grub_name(name), Some(index), "{name}");
        }
        for name in [
            "(hd0)",
            "hd0,msdos1",
            "hd2",
            "hd9,1",
            "",
            "()",
            "hd",
            "fd0",
            "hd0,gpt",
            "hd1,gpt1",
            "hd0,gpt1,bsd1",
            "hd99999999999999999999",
        ] {
            assert_eq!(volumes.by_grub_name(name), None, "{name}");
        }
        for (index, volume) in volumes.iter() {
            assert_eq!(volumes.by_grub_name(&volume.grub_name()), Some(index));
        }
        let mut all = gpt(vec![TestFs::new("ext4", "", "")]).into_list();
        assert_eq!(all[0].grub_name(), "xen/xvda,gpt1");
        all[0].disk = "hd2".into();
        assert_eq!(all[0].grub_name(), "hd2,gpt1");
    }

    #[test]
    fn grub_lists_partitions_from_the_last_on() {
        assert_eq!(volumes().as_grub_lists(), [1, 0, 2, 3]);
    }

    #[test]
    fn volumes_are_found_by_label_and_uuid() {
        let volumes = volumes();
        assert_eq!(volumes.with_label("root").collect::<Vec<_>>(), [1, 2]);
        assert_eq!(volumes.with_uuid("1234-abcd").next(), Some(0));
        assert_eq!(volumes.with_uuid("").next(), None);
        assert_eq!(volumes.with_label("").next(), None);
        let partuuid = "0A3F8A10-d66d-4a3c-a0bd-8d6d6b1d0a02";
        assert_eq!(volumes.with_partuuid(partuuid).next(), Some(1));
        assert!(volumes.get(0).unwrap().is_boot_partition());
        assert!(!volumes.get(1).unwrap().is_boot_partition());
    }

    #[test]
    fn paths_are_looked_for_in_subvolumes_of_btrfs_alone() {
        let files = [
            "/@/boot/vmlinuz",
            "/@/.snapshots/12/snapshot/boot/new",
            "/@/.snapshots/1/snapshot/boot/new",
            "/top",
        ];
        let volumes = gpt(vec![
            TestFs::new("btrfs", "", "").files(&files),
            TestFs::new("ext4", "", "").files(&files),
        ]);
        for (path, want) in [
            ("/boot/vmlinuz", "/@/boot/vmlinuz"),
            ("/@/boot/vmlinuz", "/@/boot/vmlinuz"),
            ("//boot/./new", "/@/.snapshots/1/snapshot/boot/new"),
            ("/top", "/top"),
            ("/none", "/none"),
        ] {
            assert_eq!(volumes.locate(0, path).path, want);
        }
        assert_eq!(volumes.locate(1, "/boot/vmlinuz").path, "/boot/vmlinuz");
        assert_eq!(volumes.locate(9, "x").path, "/x");
        assert_eq!(volumes.roots(1), [""]);
    }

    #[test]
    fn notes_have_the_name_of_their_volume() {
        let noted = TestFs::new("btrfs", "", "").noted("take care");
        let volumes = gpt(vec![TestFs::new("ext4", "", ""), noted]);
        let notes: Vec<_> = volumes.iter().map(|(_, volume)| volume.note()).collect();
        assert_eq!(notes, [None, Some("xvda2: note: take care".into())]);
    }

    #[test]
    fn paths_are_relative_to_files() {
        for (file, path, want) in [
            ("/a/b.cfg", "c", "/a/c"),
            ("/a/b.cfg", "/c//d", "/c/d"),
            ("/b.cfg", "./c", "/c"),
            ("b", "", "/"),
        ] {
            assert_eq!(beside(file, path), want);
        }
    }
}
