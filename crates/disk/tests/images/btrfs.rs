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
    ];
    for options in kinds {
        println!("{options:?}");
        let (image, things) = image(options);
        check(&*open(&image), &things, &[]);
    }
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
