//! btrfs.

use kexen_disk::fs::{FileSystem, Problem, probe};

use super::{
    content::{Things, With, check, fill},
    disk::FileDisk,
    tools::{Temporary, blkid, run},
};

/// An image made with these options, and what is in it.
pub(crate) fn image(options: &[&str]) -> (Temporary, Things) {
    let (root, things) = fill(With::Unix);
    let image = Temporary::file(130 << 20);
    let mut args = vec!["-q", "-f", "-L", "a label", "-r", root.as_str()];
    args.extend(options);
    args.push(image.as_str());
    run("mkfs.btrfs", &args);
    (image, things)
}

fn open(image: &Temporary) -> Box<dyn FileSystem> {
    let fs = probe(FileDisk::new(image).cached()).unwrap().unwrap();
    let said = [fs.kind(), fs.label(), fs.uuid()].map(String::from);
    assert_eq!(said, blkid(image));
    fs
}

#[test]
fn every_kind_of_btrfs_is_read() {
    let kinds: &[&[&str]] = &[
        &[],
        &["-m", "single"],
        &["-m", "dup", "-d", "dup"],
        &["-M", "-n", "4096"],
        &["-n", "65536"],
        &["-O", "^no-holes,^skinny-metadata"],
        &["--csum", "xxhash"],
        &["--csum", "sha256", "-n", "4096", "-M"],
        &["--csum", "blake2"],
    ];
    for options in kinds {
        println!("{options:?}");
        let (image, things) = image(options);
        check(&*open(&image), &things, &[]);
    }
}

/// A table is believed if its sum is right, whichever it is.
#[test]
fn every_kind_of_sum_is_checked() {
    for sum in ["crc32c", "xxhash", "sha256", "blake2"] {
        let (image, _) = image(&["--csum", sum, "-m", "single"]);
        let bytes = std::fs::read(image.as_path()).unwrap();
        let id = &bytes[0x1_0020..0x1_0030];
        let tables = bytes.chunks(4096).enumerate();
        let tables = tables.filter(|(at, page)| *at != 16 && page[0x20..0x30] == *id);
        // In the middle of each table, of which some are out of use.
        let changes = tables.map(|(at, page)| (at as u64 * 4096 + 3000, !page[3000]));
        let disk = FileDisk::new(&image).with_changes(changes.collect());
        let error = probe(disk.shared()).unwrap_err();
        assert!(error.to_string().contains("damaged: "), "{sum}: {error}");
        // The superblock: the only copy on so small a disk.
        let changes = [(0x1_0800, 1)].into();
        let disk = FileDisk::new(&image).with_changes(changes);
        let error = probe(disk.with_bytes(60 << 20).shared()).unwrap_err();
        assert!(error.to_string().contains("damaged: "), "{sum}: {error}");
    }
}

/// A file may hold a table of its own file system, byte for byte.
#[test]
fn a_copy_of_a_table_in_a_file_stays_as_it_is() {
    let (image, _) = image(&["--csum", "xxhash", "-m", "single"]);
    let mut bytes = std::fs::read(image.as_path()).unwrap();
    let id = bytes[0x1_0020..0x1_0030].to_vec();
    let pages: Vec<usize> = (17..bytes.len() / 4096).map(|page| page * 4096).collect();
    let table = pages
        .iter()
        .find(|at| bytes[**at + 0x20..**at + 0x30] == id)
        .unwrap();
    let table = bytes[*table..*table + 16_384].to_vec();
    // In the place of what is on the disk of a large file.
    let fs = open(&image);
    let before = fs.read("/boot/initrd.img", 16 << 20).unwrap();
    let page = &before[1 << 16..(1 << 16) + 4096];
    let mut places = pages.iter().filter(|at| &bytes[**at..**at + 4096] == page);
    let place = *places.next().unwrap();
    assert!(places.next().is_none());
    bytes[place..place + table.len()].copy_from_slice(&table);
    std::fs::write(image.as_path(), &bytes).unwrap();
    let fs = open(&image);
    let mut file = fs.open("/boot/initrd.img").unwrap();
    let mut read = vec![0; table.len()];
    file.read_at(1 << 16, &mut read).unwrap();
    assert!(read == table);
}

/// A file system that has a log tree, as after a crash: it is read as it was at
/// its last commit, and says so.
#[test]
fn a_log_that_is_not_replayed_is_noted() {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    const SUPERBLOCK: usize = 0x1_0000;
    let (image, things) = image(&[]);
    assert_eq!(open(&image).note(), None);
    let mut bytes = std::fs::read(image.as_path()).unwrap();
    let superblock = &mut bytes[SUPERBLOCK..SUPERBLOCK + 0x1000];
    // `log_root`: where nothing is read.
    superblock[0x60..0x68].copy_from_slice(&0x1234_5000_u64.to_le_bytes());
    let sum = CRC.checksum(&superblock[0x20..]).to_le_bytes();
    superblock[..4].copy_from_slice(&sum);
    std::fs::write(image.as_path(), bytes).unwrap();
    let fs = open(&image);
    let want = "its log is not replayed: what was synced after the last commit is as it was before";
    assert_eq!(fs.note(), Some(want));
    check(&*fs, &things, &[]);
}

/// Of a file system on two disks, each alone: with a copy of everything on
/// both it is opened, and refused where what is needed is on the other.
#[test]
fn one_disk_of_two_is_opened_or_refused_by_name() {
    let both = |profile: &str| {
        let disks = [130, 130].map(|mib| Temporary::file(mib << 20));
        let [first, second] = disks.each_ref().map(Temporary::as_str);
        let args = ["-q", "-f", "-m", profile, "-d", profile, first, second];
        run("mkfs.btrfs", &args);
        disks
    };
    for disk in both("raid1") {
        let fs = probe(FileDisk::new(&disk).cached()).unwrap().unwrap();
        assert_eq!(fs.read_dir("/"), Ok(vec![]));
    }
    let [first, second] = both("single");
    let opened = [&first, &second].map(|disk| probe(FileDisk::new(disk).cached()).err());
    let refused: Vec<_> = opened.into_iter().flatten().collect();
    let [error] = refused.as_slice() else {
        panic!("{refused:?}");
    };
    assert!(matches!(error.problem, Problem::Unsupported(_)), "{error}");
    assert!(error.to_string().contains("on another disk"), "{error}");
}
