//! Partition tables and file systems: what is promised of their readers is
//! that they come to an end without a panic, soon, and with little memory.
//!
//! The bounds that are asserted are on what is read for one operation: those
//! of `kexen_disk::fs::budget`, of ext4's directories and trees and of XFS's
//! log, with room for a path of a few links.

use std::rc::Rc;

use kexen_disk::{
    BlockSource, FileSystem, MemoryDisk,
    fs::{FileType, FsError, MOST_NAMES, xfs::MOST_LOG},
    partition,
    raid::{self, Member},
};

use crate::sparse::{self, Base, PatchedDisk, btrfs_sums, gpt_sums, no_sums, raid_sum, xfs_sums};

macro_rules! base {
    ($name:literal, $sums:expr) => {
        Base {
            packed: include_bytes!(concat!("../images/", $name, ".gz")),
            sums: $sums,
        }
    };
}

const EXT4: &[Base] = &[
    base!("ext2", no_sums),
    base!("ext4", no_sums),
    base!("ext4-sums", no_sums),
    base!("ext4-journal", no_sums),
];
const XFS: &[Base] = &[
    base!("xfs-4", no_sums),
    base!("xfs-5", xfs_sums),
    base!("xfs-small", xfs_sums),
];
const BTRFS: &[Base] = &[base!("btrfs", btrfs_sums), base!("btrfs-mixed", btrfs_sums)];
const FAT: &[Base] = &[
    base!("fat12", no_sums),
    base!("fat16", no_sums),
    base!("fat32", no_sums),
];
const ISO9660: &[Base] = &[base!("iso9660", no_sums), base!("iso9660-plain", no_sums)];
const PARTITIONS: &[Base] = &[base!("gpt", gpt_sums), base!("mbr", no_sums)];

/// Bytes that one operation may read.
const MOST_READ: u64 = 192 << 20;
/// Bytes after which an input has had its share: what it is allowed to read
/// is bounded for an operation, not for all of them.
const ENOUGH: u64 = 48 << 20;
/// Paths that are looked at.
const MOST_LOOKS: usize = 16;
/// Names of a directory that are followed.
const MOST_FOLLOWED: usize = 4;

/// ext2, ext3 and ext4.
pub fn ext4(data: &[u8]) {
    file_system(EXT4, data);
}

/// XFS of versions 4 and 5.
pub fn xfs(data: &[u8]) {
    file_system(XFS, data);
}

/// btrfs.
pub fn btrfs(data: &[u8]) {
    file_system(BTRFS, data);
}

/// FAT of all three widths.
pub fn fat(data: &[u8]) {
    file_system(FAT, data);
}

/// ISO 9660 with and without Rock Ridge.
pub fn iso9660(data: &[u8]) {
    file_system(ISO9660, data);
}

/// GPT and MBR.
pub fn partitions(data: &[u8]) {
    let (disk, _) = PatchedDisk::new(PARTITIONS, data);
    let counted = Rc::new(disk);
    let disk: Rc<dyn BlockSource> = counted.clone();
    if let Ok(table) = partition::read(&disk) {
        let most = partition::MOST_ENTRIES.max(partition::MOST_LOGICAL.saturating_add(4));
        assert!(table.partitions.len() <= usize::try_from(most).unwrap_or(0));
        for entry in &table.partitions {
            let part = entry.open(&disk).expect("a partition is on its disk");
            let mut first = [0; 512];
            if part.bytes() >= 512 {
                part.read_at(0, &mut first).expect("its first sector");
            }
        }
    }
    // The entries of a header for each size of a sector, and of its backup.
    assert!(counted.taken() <= 12 << 20, "too much is read");
}

/// Members of Linux's RAID: a byte says where the superblock that follows is, and
/// whether its place and sum are made right.
pub fn raid(data: &[u8]) {
    const BYTES: usize = 128 << 10;
    let Some((place, superblock)) = data.split_first() else {
        return;
    };
    let at = [0, 4096, BYTES - 8192, BYTES - (64 << 10)][usize::from(place & 3)];
    let mut disk = vec![0; BYTES];
    let len = superblock.len().min(4096);
    disk[at..at + len].copy_from_slice(&superblock[..len]);
    if place & 4 != 0 {
        let sector = u64::try_from(at / 512).unwrap_or(0).to_le_bytes();
        disk[at + 0x90..at + 0x98].copy_from_slice(&sector);
        raid_sum(&mut disk[at..at + 4096]);
    }
    let disk: Rc<dyn BlockSource> = Rc::new(MemoryDisk::new("xvda", disk));
    let found = raid::member(&disk).expect("no sector is bad");
    if let Some(Member::Mirror(within)) = found {
        assert!(within.bytes() <= disk.bytes());
        let mut last = vec![0; usize::try_from(within.bytes()).unwrap_or(0)];
        within.read_at(0, &mut last).expect("all of it is there");
    }
}

fn file_system(bases: &[Base], data: &[u8]) {
    let (disk, switches) = PatchedDisk::new(bases, data);
    let disk = Rc::new(disk);
    let found = kexen_disk::fs::probe(sparse::source(&disk, switches));
    let mut all = disk.taken();
    assert!(all <= MOST_LOG + MOST_READ, "{all} bytes to open it");
    let Ok(Some(fs)) = found else {
        return;
    };
    assert!(fs.label().len() <= 1024 && fs.uuid().len() <= 36);
    let mut todo: Vec<(String, usize)> = vec![(String::new(), 0)];
    let more = ["/vmlinuz", "/through", "/loop", "/long"];
    todo.extend(more.map(|path| (path.into(), 0)));
    for _ in 0..MOST_LOOKS {
        let Some((path, depth)) = todo.pop() else {
            break;
        };
        let more = look(&*fs, &path);
        let read = disk.taken();
        assert!(read <= 4 * MOST_READ, "{read} bytes for {path}");
        all += read;
        if all > ENOUGH {
            break;
        }
        if depth < 5 {
            let start = usize::from(switches >> 2).min(more.len());
            let mut names = more;
            names.rotate_left(start);
            names.truncate(MOST_FOLLOWED);
            let names = names.into_iter();
            todo.extend(names.map(|name| (format!("{path}/{name}"), depth + 1)));
        }
    }
}

/// Looks at a path with all that can be asked of it; the names that are in it.
fn look(fs: &dyn FileSystem, path: &str) -> Vec<String> {
    let Ok(found) = fs.metadata(path) else {
        return Vec::new();
    };
    match found.kind {
        FileType::Directory => {
            let names = fs.read_dir(path).unwrap_or_default();
            assert!(names.len() <= MOST_NAMES, "{} names", names.len());
            return names;
        }
        FileType::Regular => drop(read_file(fs, path, found.len)),
        FileType::Other => assert!(fs.open(path).is_err()),
    }
    Vec::new()
}

fn read_file(fs: &dyn FileSystem, path: &str, len: u64) -> Result<(), FsError> {
    let mut file = fs.open(path)?;
    assert_eq!(file.bytes(), len);
    let mut bytes = vec![0; 40_000];
    let room = usize::try_from(len).map_or(bytes.len(), |len| len.min(bytes.len()));
    let here = u64::try_from(room).unwrap_or(0);
    // On after an error, and from any place.
    let first = file.read_at(0, &mut bytes[..room]);
    let _last = file.read_at(len - here, &mut bytes[..room]);
    let _middle = file.read_at(len / 2, &mut bytes[..room / 2]);
    assert!(file.read_at(len, &mut bytes[..1]).is_err());
    assert!(file.read_at(u64::MAX, &mut bytes[..1]).is_err());
    let whole = fs.read(path, 40_000);
    assert!(whole.is_err() || len <= 40_000);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else nothing but the way to an error would be tried.
    #[test]
    fn images_can_be_read_as_they_are() {
        let systems = [EXT4, XFS, BTRFS, FAT, ISO9660];
        for base in systems.into_iter().flatten() {
            for switches in [0, 1] {
                let (disk, _) = PatchedDisk::new(core::slice::from_ref(base), &[switches]);
                let fs = kexen_disk::fs::probe(Rc::new(disk)).unwrap().unwrap();
                let small = fs.read("/boot/small", 1000).unwrap();
                assert_eq!(small, [b's'; 200], "{}", fs.kind());
            }
        }
        for (base, count) in PARTITIONS.iter().zip([2, 3]) {
            let (disk, _) = PatchedDisk::new(core::slice::from_ref(base), &[1]);
            let disk: Rc<dyn BlockSource> = Rc::new(disk);
            let table = partition::read(&disk).unwrap();
            assert_eq!(table.partitions.len(), count);
            assert!(table.notes.is_empty());
        }
    }
}
