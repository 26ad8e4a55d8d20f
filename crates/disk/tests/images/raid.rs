//! Members of Linux's RAID.
//!
//! The superblocks are written here, since `mdadm` makes none without a kernel
//! that takes part; `blkid`, which checks place and sum, has to know them.

use std::rc::Rc;

use kexen_disk::{
    BlockSource,
    fs::probe,
    raid::{Member, member},
};

use super::{
    content::{Things, With, check, fill},
    disk::FileDisk,
    ext4,
    tools::{Temporary, blkid, run},
};

const MIB: u64 = 1 << 20;

/// A superblock of version 1, of an array of two disks.
#[derive(Clone, Copy)]
struct Superblock {
    at: u64,
    level: i32,
    data: u64,
    bytes: u64,
    features: u32,
    role: u16,
}

impl Superblock {
    fn mirror(at: u64, data: u64) -> Self {
        Self {
            at,
            level: 1,
            data,
            bytes: 24 * MIB,
            features: 0,
            role: 1,
        }
    }

    fn put(self, disk: &mut [u8]) {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &0xa92b_4efc_u32.to_le_bytes());
        put(4, &1_u32.to_le_bytes());
        put(8, &self.features.to_le_bytes());
        put(0x10, &[0x5a; 16]);
        put(0x20, b"host:root");
        put(0x48, &self.level.to_le_bytes());
        put(0x50, &(self.bytes / 512).to_le_bytes());
        put(0x5c, &2_u32.to_le_bytes());
        put(0x80, &(self.data / 512).to_le_bytes());
        put(0x88, &(self.bytes / 512).to_le_bytes());
        put(0x90, &(self.at / 512).to_le_bytes());
        put(0x98, &1000_u64.to_le_bytes());
        // The third device is spare; an odd number, so that the sum has half a word.
        put(0xa0, &1_u32.to_le_bytes());
        put(0xdc, &3_u32.to_le_bytes());
        put(0x102, &self.role.to_le_bytes());
        put(0x104, &[0xff; 2]);
        let words = block[..0x106].chunks(4);
        let sum: u64 = words
            .map(|word| {
                let mut all = [0; 4];
                all[..word.len()].copy_from_slice(word);
                u64::from(u32::from_le_bytes(all))
            })
            .sum();
        let sum = (sum + (sum >> 32)) as u32;
        block[0xd8..0xdc].copy_from_slice(&sum.to_le_bytes());
        let at = self.at as usize;
        disk[at..at + 512].copy_from_slice(&block);
    }
}

/// The file system on the array.
fn inner() -> (Vec<u8>, Things) {
    let (root, things) = fill(With::Unix);
    let inner = ext4::image(&root, 24, &["-t", "ext4"]);
    (std::fs::read(inner.as_path()).unwrap(), things)
}

fn image(bytes: &[u8]) -> Temporary {
    let image = Temporary::file(0);
    std::fs::write(image.as_path(), bytes).unwrap();
    image
}

fn found(image: &Temporary) -> Option<Member> {
    let source: Rc<dyn BlockSource> = FileDisk::new(image).cached();
    member(&source).unwrap()
}

fn unread(image: &Temporary) -> &'static str {
    match found(image) {
        Some(Member::Unread(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_mirror_is_read_from_one_disk() {
    let (inner, things) = inner();
    for (at, data) in [(0, MIB), (4096, 2 * MIB)] {
        let mut disk = vec![0; 28 << 20];
        // What was there before.
        disk[..inner.len()].copy_from_slice(&inner);
        disk[data as usize..data as usize + inner.len()].copy_from_slice(&inner);
        let superblock = Superblock::mirror(at, data);
        superblock.put(&mut disk);
        let member_image = image(&disk);
        assert_eq!(blkid(&member_image)[0], "linux_raid_member");
        let Some(Member::Mirror(within)) = found(&member_image) else {
            panic!("no mirror");
        };
        assert_eq!(within.bytes(), 24 * MIB);
        check(&*probe(within).unwrap().unwrap(), &things, &["lost+found"]);
        for (bad, what) in [
            (
                Superblock {
                    level: 0,
                    ..superblock
                },
                "Linux RAID that is no mirror",
            ),
            (
                Superblock {
                    level: 5,
                    ..superblock
                },
                "Linux RAID that is no mirror",
            ),
            (
                Superblock {
                    role: 0xffff,
                    ..superblock
                },
                "a spare of a Linux RAID",
            ),
            (
                Superblock {
                    features: 2,
                    ..superblock
                },
                "a member of a Linux RAID that is being rebuilt",
            ),
            (
                Superblock {
                    features: 4,
                    ..superblock
                },
                "Linux RAID that is being reshaped",
            ),
            (
                Superblock {
                    data: 1 << 40,
                    ..superblock
                },
                "Linux RAID whose data is beyond the end",
            ),
        ] {
            let mut disk = disk.clone();
            bad.put(&mut disk);
            assert_eq!(unread(&image(&disk)), what);
        }
        // One that is left from before, and is damaged.
        disk[at as usize + 0x30] ^= 1;
        assert!(found(&image(&disk)).is_none());
    }
}

/// With its superblock at the end, a mirror is what it holds.
#[test]
fn a_superblock_at_the_end_is_no_hindrance() {
    let (inner, things) = inner();
    let mut disk = vec![0; 25 << 20];
    disk[..inner.len()].copy_from_slice(&inner);
    let superblock = Superblock::mirror((25 << 20) - 8192, 0);
    superblock.put(&mut disk);
    let mirror = image(&disk);
    assert_eq!(blkid(&mirror)[0], "linux_raid_member");
    assert!(found(&mirror).is_none());
    let fs = probe(FileDisk::new(&mirror).cached()).unwrap().unwrap();
    check(&*fs, &things, &["lost+found"]);
    Superblock {
        level: 5,
        ..superblock
    }
    .put(&mut disk);
    assert_eq!(unread(&image(&disk)), "Linux RAID that is no mirror");
    // Metadata 0.90: the level is the eighth word.
    let mut disk = vec![0; 25 << 20];
    let at = (25 << 20) - (64 << 10);
    let words = [0xa92b_4efc_u32, 0, 90, 0, 0, 0, 0, 1];
    for (word, at) in words.iter().zip((at..).step_by(4)) {
        disk[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    assert!(found(&image(&disk)).is_none());
    disk[at + 28] = 5;
    assert_eq!(unread(&image(&disk)), "Linux RAID that is no mirror");
}

/// What the real tools make, by its name.
#[test]
fn what_is_not_read_is_named() {
    let named = |tool: &str, args: &[&str], want: &str| {
        let image = Temporary::file(32 << 20);
        run(tool, &[args, &[image.as_str()]].concat());
        let disk = FileDisk::new(&image).cached();
        assert!(probe(disk.clone()).unwrap().is_none(), "{tool}");
        assert_eq!(kexen_disk::fs::foreign(&*disk), Some(want), "{tool}");
    };
    named("mkswap", &[], "swap");
    named("mkfs.minix", &[], "Minix");
}
