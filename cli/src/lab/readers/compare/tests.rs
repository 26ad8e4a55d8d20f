//! What is wrong is noticed: on a real image, with a manifest or a byte of the
//! disk changed.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use super::super::FileDisk;
use super::super::manifest;
use super::*;
use crate::host::{command, tools};

/// A small ext4 and what is in it.
fn image(scratch: &Path) -> (std::path::PathBuf, Manifest) {
    tools::require(&[tools::IMAGES]).unwrap();
    let root = scratch.join("root");
    fs::create_dir_all(root.join("folder")).unwrap();
    fs::write(root.join("file"), vec![0x5a; 200_000]).unwrap();
    fs::write(root.join("folder/other"), "other").unwrap();
    std::os::unix::fs::symlink("folder/other", root.join("link")).unwrap();
    // Where `mke2fs` has it too.
    fs::create_dir(root.join("lost+found")).unwrap();
    let image = scratch.join("image");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let mut mkfs = Command::new("mke2fs");
    mkfs.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&image);
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    command::run(mkfs.env("PATH", path)).unwrap();
    (image, manifest::of_folder(&root).unwrap())
}

fn compared(image: &Path, manifest: &Manifest) -> Report {
    let fs = kexen_disk::fs::probe(FileDisk::cached(image, 512).unwrap());
    compare(&*fs.unwrap().unwrap(), "", manifest)
}

#[test]
fn what_is_the_same_is_counted() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, manifest) = image(scratch.path());
    let report = compared(&image, &manifest);
    assert_eq!(report.differences, [""; 0]);
    assert_eq!((report.files, report.bytes, report.names), (2, 200_005, 4));
}

#[test]
fn whatever_differs_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, right) = image(scratch.path());
    let differs = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = right.clone();
        change(&mut manifest);
        compared(&image, &manifest).differences.join(" ")
    };
    let said = differs(&|manifest| {
        manifest.insert("/file".into(), Thing::Other);
    });
    assert!(said.contains("not what Linux has"), "{said}");
    let said = differs(&|manifest| {
        manifest.insert("/folder/more".into(), Thing::Link("x".into()));
    });
    assert!(said.contains("not listed, and Linux has it"), "{said}");
    let said = differs(&|manifest| {
        manifest.remove("/folder/other");
    });
    assert!(said.contains("Linux has no such name"), "{said}");
    let said = differs(&|manifest| {
        manifest.insert("/link".into(), Thing::Link("elsewhere".into()));
    });
    assert!(said.contains("leads to"), "{said}");
    let said = differs(&|manifest| {
        manifest.insert("/file".into(), Thing::Directory);
    });
    assert!(said.contains("not what Linux has"), "{said}");
    let said = differs(&|manifest| {
        let file = Thing::File {
            bytes: 200_001,
            sha256: String::new(),
        };
        manifest.insert("/file".into(), file);
    });
    assert!(said.contains("200000 bytes, not 200001"), "{said}");
}

/// One byte of a file, changed on the disk.
#[test]
fn a_wrong_byte_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, manifest) = image(scratch.path());
    let bytes = fs::read(&image).unwrap();
    let block = bytes.windows(4096).position(|block| block == [0x5a; 4096]);
    let disk = fs::File::options().write(true).open(&image).unwrap();
    disk.write_all_at(b"!", block.unwrap() as u64 + 7).unwrap();
    let report = compared(&image, &manifest);
    assert_eq!(report.differences, ["\"/file\": other bytes, read at once"]);
}
