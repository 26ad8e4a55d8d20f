//! Images that only a kernel can make: aged ones, with a log that has to be
//! replayed, or compressed with subvolumes. `fixtures/make.sh` makes them.

use std::collections::BTreeSet;

use kexen_disk::fs::{FileSystem, Problem, probe};

use super::{
    content::check_file,
    disk::FileDisk,
    tools::{Temporary, run},
};

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

pub(crate) fn fixture(name: &str) -> Temporary {
    let packed = format!(
        "{}/tests/images/fixtures/{name}.img.zst",
        env!("CARGO_MANIFEST_DIR")
    );
    let image = Temporary::file(0);
    run("zstd", &["-d", "-q", "-f", &packed, "-o", image.as_str()]);
    image
}

fn open(image: &Temporary) -> Box<dyn FileSystem> {
    probe(FileDisk::new(image).cached()).unwrap().unwrap()
}

/// What `make.sh` writes into a file.
fn lines(name: &str, count: usize) -> Vec<u8> {
    (0..count)
        .map(|n| format!("{name} {n}\n"))
        .collect::<String>()
        .into_bytes()
}

/// What is in an aged directory, but for what was allocated in advance.
fn check_aged(fs: &dyn FileSystem, directory: &str) {
    let at = |name: &str| format!("{directory}/{name}");
    let names: BTreeSet<String> = fs.read_dir(&at("many")).unwrap().into_iter().collect();
    let want = (1..600)
        .step_by(2)
        .map(|n| format!("a name that is not short {n}"));
    assert!(names == want.collect());
    for n in (1..600).step_by(38) {
        let path = at(&format!("many/a name that is not short {n}"));
        check_file(fs, &path, &lines(&format!("many {n}"), 3));
    }
    check_file(fs, &at("one"), &lines("one", 15_000));
    check_file(fs, &at("two"), &lines("two", 15_000));
    let mut sparse = vec![0; 1 << 20];
    sparse.extend(lines("sparse", 1000));
    sparse.resize(3 << 20, 0);
    check_file(fs, &at("sparse"), &sparse);
}

/// A file that was allocated and written in its middle.
fn reserved() -> Vec<u8> {
    let mut reserved = vec![0; 64 << 10];
    reserved.extend(lines("reserved", 1000));
    reserved.resize(256 << 10, 0);
    reserved
}

/// What is in the journal alone.
fn check_late(fs: &dyn FileSystem) {
    check_file(fs, "/late", &lines("late", 100));
    for path in ["/kernels/vmlinuz", "/boot/vmlinuz", "/vmlinuz"] {
        check_file(fs, path, &lines("vmlinuz", 20_000));
    }
}

#[test]
fn a_journal_of_ext4_is_replayed() {
    let fs = open(&fixture("ext4"));
    assert_eq!((fs.kind(), fs.uuid()), ("ext4", UUID));
    check_late(&*fs);
    check_aged(&*fs, "");
    check_file(&*fs, "/reserved", &reserved());
}

#[test]
fn a_log_of_xfs_is_replayed() {
    let fs = open(&fixture("xfs"));
    assert_eq!((fs.kind(), fs.uuid()), ("xfs", UUID));
    check_late(&*fs);
    check_aged(&*fs, "");
    check_file(&*fs, "/reserved", &reserved());
}

#[test]
fn subvolumes_and_compression_of_btrfs_are_read() {
    let fs = open(&fixture("btrfs"));
    assert_eq!((fs.kind(), fs.uuid()), ("btrfs", UUID));
    // The default subvolume, by its own path and through all the others.
    let snapshot = "/@/.snapshots/1/snapshot";
    for root in ["", "/@", snapshot] {
        for algorithm in ["zstd", "zlib", "lzo"] {
            let at = |name| format!("{root}/{algorithm}/{name}");
            check_file(&*fs, &at("file"), &lines(algorithm, 25_000));
            check_file(&*fs, &at("small"), &lines(algorithm, 20));
        }
        check_aged(&*fs, root);
        check_file(&*fs, &format!("{root}/reserved"), &reserved());
        let name = if root == "/@" { "newer" } else { "vmlinuz" };
        check_file(&*fs, &format!("{root}/vmlinuz"), &lines(name, 20_000));
    }
    // The top level is seen where the default subvolume has no such name.
    check_file(&*fs, "/top", &lines("top", 10));
    check_file(&*fs, "/@/beyond", &lines("top", 10));
    check_file(&*fs, "/@home/home", &lines("home", 10));
    let root = fs.read_dir("/").unwrap();
    assert!(root.contains(&"zstd".into()) && !root.contains(&"@".into()));
    // A snapshot has no subvolumes of its own: an empty directory stands there.
    assert_eq!(fs.read_dir(&format!("{snapshot}/.snapshots")), Ok(vec![]));
    assert_eq!(fs.read_dir("/.snapshots"), Ok(vec![]));
    for missing in ["/nowhere", "/boot/nowhere", "/@/nowhere", "/boot/top"] {
        assert_eq!(fs.metadata(missing).unwrap_err().problem, Problem::Missing);
    }
}

/// Every extent of a file gets an offset that no file has, and the tables new
/// sums: `lambutter` 0.5.0 alone panics at the compressed ones.
#[test]
fn wild_extents_of_btrfs_are_refused() {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    const NODE: usize = 16 << 10;
    let image = fixture("btrfs");
    let mut bytes = std::fs::read(image.as_path()).unwrap();
    let id = bytes[0x1_0020..0x1_0030].to_vec();
    let number =
        |bytes: &[u8], at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
    let mut wild = 0;
    for node in bytes.chunks_exact_mut(NODE) {
        let is_superblock = &node[0x40..0x48] == b"_BHRfS_M";
        if is_superblock || node[0x20..0x30] != id || node[100] != 0 || number(node, 96) > 600 {
            continue;
        }
        for item in 0..number(node, 96) {
            let at = 101 + item * 25;
            if node[at + 8] != 108 {
                continue;
            }
            let data = 101 + number(node, at + 17);
            if node[data + 20] == 1 && node[data + 16] != 0 {
                node[data + 37..data + 45].fill(0xff);
                wild += 1;
            }
        }
        let sum = CRC.checksum(&node[32..]).to_le_bytes();
        node[..4].copy_from_slice(&sum);
    }
    assert!(wild > 3, "{wild}");
    std::fs::write(image.as_path(), bytes).unwrap();
    let fs = open(&image);
    for path in ["/zstd/file", "/zlib/file", "/lzo/file"] {
        let error = fs
            .open(path)
            .and_then(|mut file| file.read_at(100, &mut [0; 9]));
        let error = error.unwrap_err();
        assert!(error.to_string().contains("an extent's offset"), "{error}");
    }
}
