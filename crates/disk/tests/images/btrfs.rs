//! btrfs.

use kexen_disk::fs::{FileSystem, probe};

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
