//! ext2, ext3, ext4.

use kexen_disk::fs::{FileSystem, Problem, probe};

use super::{
    content::{Noise, With, check, check_file, fill},
    disk::FileDisk,
    tools::{Temporary, blkid, run, run_with},
};

/// An image of so many MiB, made with these options.
pub(crate) fn image(root: &Temporary, mib: u64, options: &[&str]) -> Temporary {
    let image = Temporary::file(mib << 20);
    let mut args = vec!["-q", "-F", "-L", "a label", "-d", root.as_str()];
    args.extend(options);
    args.push(image.as_str());
    run("mke2fs", &args);
    image
}

fn open(image: &Temporary) -> Box<dyn FileSystem> {
    let fs = probe(FileDisk::new(image).cached()).unwrap().unwrap();
    let said = [fs.kind(), fs.label(), fs.uuid()].map(String::from);
    assert_eq!(said, blkid(image));
    fs
}

/// Blocks that were allocated and not written yet read as zeros, and what is
/// behind them as what it is.
#[test]
fn unwritten_extents_are_zeros() {
    let root = Temporary::directory();
    let image = image(&root, 8, &["-t", "ext4", "-b", "1024"]);
    let data = Temporary::file(0);
    std::fs::write(data.as_path(), [0x77; 64 << 10]).unwrap();
    // What was there before would be seen.
    let script = format!(
        "write {0} old\nrm old\nwrite {0} file\npunch file 8 23\nfallocate file 8 15\n",
        data.as_str()
    );
    run_with("debugfs", &["-w", "-f", "-", image.as_str()], &script);
    let shown = run("debugfs", &["-R", "ex file", image.as_str()]);
    assert!(shown.contains("Uninit"), "{shown}");
    let mut want = [0x77; 64 << 10];
    want[8 << 10..24 << 10].fill(0);
    check_file(&*open(&image), "/file", &want);
}

#[test]
fn every_kind_of_ext_is_read() {
    let (root, things) = fill(With::Unix);
    let kinds: &[&[&str]] = &[
        &["-t", "ext2", "-b", "4096"],
        &["-t", "ext2", "-b", "1024", "-I", "128"],
        &["-t", "ext3", "-b", "4096"],
        &["-t", "ext3", "-b", "1024"],
        &["-t", "ext4"],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-b", "2048", "-O", "^64bit,^metadata_csum"],
        &["-t", "ext4", "-O", "64bit,metadata_csum,metadata_csum_seed"],
        &["-t", "ext4", "-O", "bigalloc"],
        &["-t", "ext4", "-O", "large_dir,mmp,ea_inode"],
        &["-t", "ext4", "-O", "meta_bg,^resize_inode"],
        // 96 groups, whose descriptors are in six places.
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-g",
            "256",
            "-O",
            "meta_bg,^resize_inode,^has_journal",
        ],
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-g",
            "256",
            "-O",
            "meta_bg,^resize_inode,^64bit,^flex_bg,sparse_super2",
        ],
        &[
            "-t",
            "ext2",
            "-b",
            "1024",
            "-g",
            "256",
            "-O",
            "meta_bg,^resize_inode,^sparse_super",
        ],
        &[
            "-t",
            "ext4",
            "-b",
            "4096",
            "-O",
            "^has_journal,^extent,^64bit,^flex_bg,uninit_bg,^metadata_csum",
        ],
        &[
            "-t",
            "ext4",
            "-O",
            "project,quota,sparse_super2,fast_commit,stable_inodes",
        ],
    ];
    for options in kinds {
        println!("{options:?}");
        let image = image(&root, 24, options);
        let fs = open(&image);
        check(&*fs, &things, &["lost+found"]);
    }
}

/// One that Linux goes on with, when it has no more room for descriptors in a row
/// and grows: those that there are stay.
#[test]
fn descriptors_may_be_spread_from_one_on() {
    let (root, things) = fill(With::Unix);
    let options = [
        "-t",
        "ext4",
        "-b",
        "1024",
        "-g",
        "256",
        "-O",
        "^resize_inode",
    ];
    let image = image(&root, 24, &options);
    let blocks = 24_576_u32 / 256 * 64 / 1024;
    let script = format!("set_super_value first_meta_bg {blocks}\nfeature meta_bg\n");
    run_with("debugfs", &["-w", "-f", "-", image.as_str()], &script);
    run("e2fsck", &["-f", "-n", image.as_str()]);
    check(&*open(&image), &things, &["lost+found"]);
}

/// Writes and deletes by `debugfs`: there is no need to mount.
#[test]
fn an_aged_one_is_read() {
    for kind in ["ext2", "ext3", "ext4"] {
        let image = Temporary::file(16 << 20);
        run(
            "mke2fs",
            &["-q", "-F", "-t", kind, "-b", "1024", image.as_str()],
        );
        let mut noise = Noise(7);
        let small = Temporary::directory();
        let big = small.as_path().join("big");
        let bytes = noise.bytes(4_000_000);
        std::fs::write(&big, &bytes).unwrap();
        let mut files = Vec::new();
        for n in 0..600 {
            let bytes = noise.bytes(3000 + noise.clone().below(17_000) as usize);
            std::fs::write(small.as_path().join(n.to_string()), &bytes).unwrap();
            files.push(bytes);
        }
        let at = |name: &str| format!("{}/{name}", small.as_str());
        let mut script = String::new();
        for n in 0..600 {
            script += &format!("write {} {n}\n", at(&n.to_string()));
        }
        // Every second one goes; what is written then is in pieces.
        for n in (0..600).step_by(2) {
            script += &format!("rm {n}\n");
        }
        script += &format!("write {} big\n", at("big"));
        script += "mkdir odd\n";
        for n in (0..40).step_by(2) {
            script += &format!("write {} odd/{n}\n", at(&n.to_string()));
        }
        run_with("debugfs", &["-w", "-f", "-", image.as_str()], &script);
        run("e2fsck", &["-fn", image.as_str()]);
        let fs = open(&image);
        check_file(&*fs, "/big", &bytes);
        for (n, bytes) in files.iter().enumerate() {
            let path = format!("/{n}");
            if n % 2 == 1 {
                check_file(&*fs, &path, bytes);
            } else {
                assert!(fs.metadata(&path).is_err());
            }
        }
        for n in (0..40).step_by(2) {
            check_file(&*fs, &format!("/odd/{n}"), &files[n]);
        }
        assert_eq!(fs.read_dir("/odd").unwrap().len(), 20);
    }
}

#[test]
fn a_large_directory_is_read_and_a_larger_one_refused() {
    let root = Temporary::directory();
    let mut options = vec!["-t", "ext4", "-b", "1024", "-N", "12000"];
    for n in 0..9_000 {
        std::fs::write(root.as_path().join(format!("a rather long name {n}")), "").unwrap();
    }
    let fs = open(&image(&root, 32, &options));
    assert_eq!(fs.read_dir("/").unwrap().len(), 9_001);
    assert_eq!(fs.metadata("/a rather long name 8888").unwrap().len, 0);
    for n in 9_000..10_000 {
        std::fs::write(root.as_path().join(format!("a rather long name {n}")), "").unwrap();
    }
    options.extend(["-O", "^metadata_csum"]);
    let fs = open(&image(&root, 32, &options));
    let error = fs.read_dir("/").unwrap_err();
    assert_eq!(error.to_string(), "/: more than 10000 names");
}

#[test]
fn a_full_one_is_read() {
    let root = Temporary::directory();
    let mut noise = Noise(3);
    let bytes = noise.bytes(7_200_000);
    std::fs::write(root.as_path().join("file"), &bytes).unwrap();
    let image = image(&root, 8, &["-t", "ext4", "-m", "0", "-O", "^has_journal"]);
    check_file(&*open(&image), "/file", &bytes);
}

/// What the library does not read it refuses: nothing is read wrongly.
#[test]
fn unknown_features_are_refused() {
    let root = Temporary::directory();
    // Data in directories, which only Lustre makes: bit 12.
    for (feature, bit, name) in [
        ("inline_data", 0, "DATA_IN_INODE"),
        ("^metadata_csum", 0x10, "DATA_IN_DIR_ENTRY"),
    ] {
        let image = image(&root, 24, &["-t", "ext4", "-O", feature]);
        let at = 1024 + 0x61;
        let features = std::fs::read(image.as_path()).unwrap()[at];
        let changes = [(at as u64, features | bit)].into();
        let disk = FileDisk::new(&image).with_changes(changes);
        let error = probe(disk.shared()).unwrap_err();
        assert!(matches!(error.problem, Problem::Unsupported(_)), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}
