//! Damaged and malicious images: nothing panics, everything ends.
//!
//! Bytes that are in use are changed at random (but repeatably); then
//! everything is opened, listed and read as far as it can be. Sums are made
//! right again where there are any, so that the change is seen at all.

use std::{collections::BTreeMap, rc::Rc, time::Instant};

use kexen_disk::{
    BlockSource, Cache, CacheOptions, FileSystem,
    fs::{FileType, probe},
    partition,
};

use super::{
    btrfs,
    content::{Noise, With, fill},
    disk::FileDisk,
    fat, iso9660, kernel,
    tools::{Temporary, run, run_with},
    xfs,
};

/// A change of an image. Often one of the values that hurt most.
fn mutation(noise: &mut Noise, used: &[u64]) -> BTreeMap<u64, u8> {
    let mut changes = BTreeMap::new();
    for _ in 0..=noise.below(4) {
        let sector = used[noise.below(used.len() as u64) as usize];
        let at = sector * 512 + noise.below(512);
        let value = match noise.below(4) {
            0 => 0xff,
            1 => 0,
            2 => 0x80,
            _ => noise.next() as u8,
        };
        for n in 0..=noise.below(4) {
            changes.insert(at + n, value);
        }
    }
    changes
}

/// The sectors that have something in them, of which tables are more likely.
fn used(image: &Temporary, is_table: impl Fn(&[u8]) -> bool) -> Vec<u64> {
    let bytes = std::fs::read(image.as_path()).unwrap();
    let sectors = bytes.chunks(512).enumerate();
    sectors
        .filter(|(_, sector)| is_table(sector) && sector.iter().any(|byte| *byte != 0))
        .map(|(n, _)| n as u64)
        .collect()
}

/// What is not noise: tables have many zeros, the files here do not.
fn has_zeros(sector: &[u8]) -> bool {
    sector.iter().filter(|byte| **byte == 0).count() > 100
}

/// Opens, lists and reads what there is, within bounds.
fn use_all(source: Rc<dyn BlockSource>) -> u32 {
    let Ok(Some(fs)) = probe(source) else {
        return 0;
    };
    let mut good = 0;
    let mut todo = vec![(String::new(), 0)];
    let mut looks = 0;
    while let Some((path, depth)) = todo.pop() {
        looks += 1;
        if looks > 300 {
            break;
        }
        good += u32::from(look(&*fs, &path, depth, &mut todo));
    }
    for path in ["/vmlinuz", "/through", "/loop", "/kernels-2/up", "/../x"] {
        let _ = fs.metadata(path);
        let _ = fs.read(path, 2 << 20);
    }
    good
}

fn look(fs: &dyn FileSystem, path: &str, depth: u32, todo: &mut Vec<(String, u32)>) -> bool {
    let Ok(found) = fs.metadata(path) else {
        return false;
    };
    match found.kind {
        FileType::Directory if depth < 6 => {
            let Ok(names) = fs.read_dir(path) else {
                return false;
            };
            // Not each of 400 files.
            let step = names.len() / 40 + 1;
            let names = names.iter().step_by(step);
            todo.extend(names.map(|name| (format!("{path}/{name}"), depth + 1)));
        }
        FileType::Regular => {
            let Ok(mut file) = fs.open(path) else {
                return false;
            };
            let len = file.bytes();
            let mut bytes = vec![0; len.min(200_000) as usize];
            let first = file.read_at(0, &mut bytes).is_ok();
            let most = bytes.len().min(5000);
            // On after an error, and from any place.
            let _ = file.read_at(len / 2, &mut bytes[..most.min((len / 2) as usize)]);
            let _ = file.read_at(0, &mut bytes[..most]);
            return first;
        }
        _ => {}
    }
    true
}

/// Whether so many changes of an image are survived, each within seconds.
fn survive(image: &Temporary, rounds: u64, fix: impl Fn(&FileDisk, &mut BTreeMap<u64, u8>)) {
    let used = used(image, has_zeros);
    let mut noise = Noise(0x5eed);
    let (mut good, mut longest) = (0, 0.0_f32);
    for round in 0..rounds {
        let mut changes = mutation(&mut noise, &used);
        fix(&FileDisk::new(image), &mut changes);
        let disk = FileDisk::new(image).with_changes(changes.clone());
        let cache: Rc<dyn BlockSource> = Rc::new(Cache::new(
            disk.shared(),
            CacheOptions {
                block: 64 << 10,
                ..CacheOptions::default()
            },
        ));
        let begin = Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| use_all(cache)));
        let Ok(read) = result else {
            panic!("round {round}: {changes:x?}");
        };
        let seconds = begin.elapsed().as_secs_f32();
        longest = longest.max(seconds);
        assert!(seconds < 60.0, "round {round}: {seconds} s: {changes:x?}");
        good += read;
    }
    println!("{good} good reads in {rounds} rounds, the longest {longest:.2} s");
    assert!(good > 0);
}

fn nothing(_: &FileDisk, _: &mut BTreeMap<u64, u8>) {}

/// Every truncation at a power of two, and some between.
fn survive_truncation(image: &Temporary) {
    let whole = FileDisk::new(image).bytes();
    let mut noise = Noise(0x7a11);
    let mut lengths: Vec<u64> = (0..40).map(|n| 1 << n).filter(|n| *n < whole).collect();
    lengths.extend((0..20).map(|_| noise.below(whole)));
    for bytes in lengths {
        use_all(FileDisk::new(image).with_bytes(bytes).cached());
    }
}

fn ext(options: &[&str]) -> Temporary {
    let (root, _) = fill(With::Unix);
    let image = Temporary::file(16 << 20);
    let common = ["-q", "-F", "-d", root.as_str()];
    run(
        "mke2fs",
        &[&common[..], options, &[image.as_str()]].concat(),
    );
    image
}

#[test]
fn ext_survives() {
    for options in [
        &["-t", "ext4", "-O", "^metadata_csum,uninit_bg"][..],
        &["-t", "ext2", "-b", "1024"],
        &["-t", "ext4"],
    ] {
        let image = ext(options);
        survive(&image, 100, nothing);
        survive_truncation(&image);
    }
}

/// One whose journal has to be replayed.
#[test]
fn a_journal_survives() {
    let image = kernel::fixture("ext4");
    survive(&image, 100, nothing);
    survive_truncation(&image);
}

#[test]
fn fat_survives() {
    for (mib, options) in [(8, ["-F", "12"]), (16, ["-F", "16"]), (40, ["-F", "32"])] {
        let (image, _) = fat::image(mib, &options);
        survive(&image, 100, nothing);
        survive_truncation(&image);
    }
}

#[test]
fn iso9660_survives() {
    let (image, _) = iso9660::image();
    survive(&image, 100, nothing);
    survive_truncation(&image);
}

#[test]
fn xfs_survives() {
    // Version 4 has no sums that would hide a change.
    let (image, _) = xfs::image(&["-m", "crc=0"]);
    survive(&image, 100, nothing);
    survive_truncation(&image);
    let (image, _) = xfs::image(&[]);
    survive(&image, 50, nothing);
}

/// Makes the sums of changed blocks of tables right again.
fn fix_btrfs(disk: &FileDisk, changes: &mut BTreeMap<u64, u8>) {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    for at in changes.keys().copied().collect::<Vec<_>>() {
        let (start, len) = if (0x1_0000..0x1_1000).contains(&at) {
            (0x1_0000, 0x1000)
        } else {
            (at & !0x3fff, 0x4000)
        };
        let mut block = vec![0; len];
        if disk.read_at(start, &mut block).is_err() {
            continue;
        }
        for (at, byte) in changes.range(start..start + len as u64) {
            block[(at - start) as usize] = *byte;
        }
        let sum = CRC.checksum(&block[32..]).to_le_bytes();
        changes.extend((start..).zip(sum));
    }
}

#[test]
fn btrfs_survives() {
    let (image, _) = btrfs::image(&["-m", "single"]);
    survive(&image, 60, fix_btrfs);
    survive_truncation(&image);
}

#[test]
fn partition_tables_survive() {
    let gpt = Temporary::file(4 << 20);
    run("sgdisk", &["-n", "1:0:+1M", "-n", "2:0:0", gpt.as_str()]);
    let mbr = Temporary::file(4 << 20);
    let script = "label: dos\nsize=1M\nsize=2M, type=5\nsize=100K\nsize=200K\n";
    run_with("sfdisk", &["-q", mbr.as_str()], script);
    for image in [&gpt, &mbr] {
        let used = used(image, |_| true);
        let mut noise = Noise(9);
        for _ in 0..2000 {
            let changes = mutation(&mut noise, &used);
            let disk = FileDisk::new(image).with_changes(changes).shared();
            if let Ok(table) = partition::read(&disk) {
                for entry in table.partitions {
                    assert!(entry.open(&disk).is_some(), "{entry:?}");
                }
            }
        }
    }
}
