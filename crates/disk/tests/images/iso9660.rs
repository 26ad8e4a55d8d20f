//! ISO 9660.

use kexen_disk::{
    fs::{FileSystem, probe},
    partition,
};

use super::{
    content::{Thing, Things, With, check, fill},
    disk::FileDisk,
    tools::{Temporary, blkid, run},
};

fn open(image: &Temporary) -> Box<dyn FileSystem> {
    let fs = probe(FileDisk::new(image).cached()).unwrap().unwrap();
    let said = [fs.kind(), fs.label(), fs.uuid()].map(String::from);
    assert_eq!(said, blkid(image));
    fs
}

fn make(tool: &str, options: &[&str], root: &Temporary) -> Temporary {
    let image = Temporary::file(0);
    let as_mkisofs = if tool == "xorriso" {
        &["-as", "mkisofs"][..]
    } else {
        &[]
    };
    let rest = ["-o", image.as_str(), root.as_str()];
    run(tool, &[as_mkisofs, &["-quiet"], options, &rest].concat());
    image
}

/// An image with Rock Ridge, and what is in it.
pub(crate) fn image() -> (Temporary, Things) {
    let (root, things) = fill(With::Unix);
    (
        make("xorriso", &["-V", "BOOT_CD", "-R", "-J"], &root),
        things,
    )
}

#[test]
fn rock_ridge_is_read() {
    let (root, things) = fill(With::Unix);
    let kinds: &[(&str, &[&str])] = &[
        ("xorriso", &["-V", "BOOT_CD", "-R"]),
        ("xorriso", &["-V", "Boot CD", "-R", "-J", "-joliet-long"]),
        ("xorriso", &["-R", "-iso-level", "3", "-J"]),
        // Deep directories are moved up by this one.
        (
            "genisoimage",
            &["-input-charset", "utf-8", "-R", "-V", "MOVED"],
        ),
        (
            "genisoimage",
            &["-input-charset", "utf-8", "-r", "-D", "-J"],
        ),
    ];
    for (tool, options) in kinds {
        println!("{tool} {options:?}");
        let image = make(tool, options, &root);
        check(&*open(&image), &things, &["rr_moved"]);
    }
}

/// The things under some directories.
fn part(things: &Things, parents: &[&str]) -> Things {
    let is_in = |path: &str| parents.iter().any(|parent| path.starts_with(parent));
    let some = things
        .iter()
        .filter(|(path, _)| path.is_empty() || is_in(path));
    some.map(|(path, thing)| (path.clone(), thing.clone()))
        .collect()
}

#[test]
fn joliet_is_read() {
    let (root, things) = fill(With::Fat);
    let image = make(
        "genisoimage",
        &[
            "-input-charset",
            "utf-8",
            "-J",
            "-joliet-long",
            "-D",
            "-V",
            "a disk",
        ],
        &root,
    );
    let fs = open(&image);
    let things = part(&things, &["/boot", "/many", "/sizes"]);
    let mut besides = fs.read_dir("/").unwrap();
    besides.retain(|name| !things.contains_key(&format!("/{name}")));
    assert!(besides.iter().any(|name| name.starts_with("Größe — 日本")));
    let besides: Vec<&str> = besides.iter().map(String::as_str).collect();
    check(&*fs, &things, &besides);
}

#[test]
fn plain_names_are_read_as_linux_shows_them() {
    let (root, things) = fill(With::Fat);
    let image = make(
        "genisoimage",
        &["-input-charset", "utf-8", "-D", "-V", "PLAIN"],
        &root,
    );
    let fs = open(&image);
    for (path, thing) in part(&things, &["/sizes"]) {
        let Thing::File(bytes) = thing else { continue };
        assert_eq!(fs.read(&path, 1 << 20).unwrap(), bytes);
        assert_eq!(fs.read(&path.to_uppercase(), 1 << 20).unwrap(), bytes);
    }
    let names = fs.read_dir("/boot").unwrap();
    assert!(names.contains(&"initrd.img".into()), "{names:?}");
}

/// Boot media are disks with partitions and a file system around them.
#[test]
fn isohybrid_is_a_disk_and_a_file_system() {
    let (root, things) = fill(With::Unix);
    let esp = Temporary::file(4 << 20);
    run("mkfs.vfat", &["-n", "ESP", esp.as_str()]);
    for options in [&[][..], &["-appended_part_as_gpt"]] {
        let append = [
            "-R",
            "-V",
            "LIVE",
            "-append_partition",
            "2",
            "0xef",
            esp.as_str(),
        ];
        let offset = ["-partition_offset", "16"];
        let image = make(
            "xorriso",
            &[&append[..], &offset[..], options].concat(),
            &root,
        );
        let disk = FileDisk::new(&image).shared();
        let table = partition::read(&disk).unwrap();
        assert!(table.whole, "{table:?}");
        let labels: Vec<String> = table
            .partitions
            .iter()
            .filter_map(|entry| {
                let partition = std::rc::Rc::new(entry.open(&disk)?);
                let fs = probe(partition).unwrap()?;
                Some(format!("{} {}", fs.kind(), fs.label()))
            })
            .collect();
        assert!(labels.contains(&"vfat ESP".into()), "{labels:?} {table:?}");
        check(&*probe(disk).unwrap().unwrap(), &things, &[]);
    }
}

/// More than 4 GiB is in several pieces.
#[test]
fn a_file_of_more_than_4_gib_is_read() {
    use std::os::unix::fs::FileExt as _;
    let root = Temporary::directory();
    let path = root.as_path().join("big");
    let file = std::fs::File::create(&path).unwrap();
    let len = (4 << 30) + 12_345_u64;
    file.set_len(len).unwrap();
    file.write_all_at(b"around the border", (4 << 30) - 2048 - 8)
        .unwrap();
    file.write_all_at(b"the end", len - 7).unwrap();
    // Only the directory is made: the data is taken from where it is.
    let image = Temporary::file(0);
    let script = format!(
        "xorriso -as mkisofs -quiet -R -iso-level 3 -o - {} | dd of={} bs=1M conv=sparse iflag=fullblock status=none",
        root.as_str(),
        image.as_str()
    );
    run("sh", &["-c", &script]);
    let fs = open(&image);
    let mut file = fs.open("/big").unwrap();
    assert_eq!(file.bytes(), len);
    let mut bytes = [0; 17];
    file.read_at((4 << 30) - 2048 - 8, &mut bytes).unwrap();
    assert_eq!(&bytes, b"around the border");
    file.read_at(len - 7, &mut bytes[..7]).unwrap();
    assert_eq!(&bytes[..7], b"the end");
}
