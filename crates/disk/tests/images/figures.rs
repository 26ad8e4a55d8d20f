//! How many requests a file of 20 MiB takes.

use std::rc::Rc;

use kexen_disk::{Cache, CacheOptions, fs::probe};

use super::{
    content::Noise,
    disk::FileDisk,
    tools::{Temporary, run},
};

const FILE: usize = 20 << 20;

/// Requests and bytes for opening the file system and reading the file in one
/// piece, then in pieces of 64 KiB.
fn figures(image: &Temporary, path: &str, bytes: &[u8]) -> [(u64, u64); 2] {
    [false, true].map(|in_pieces| {
        let disk = FileDisk::new(image).shared();
        let cache = Rc::new(Cache::new(disk, CacheOptions::default()));
        let fs = probe(cache.clone()).unwrap().unwrap();
        if in_pieces {
            let mut file = fs.open(path).unwrap();
            let mut piece = vec![0; 64 << 10];
            for (n, want) in bytes.chunks(piece.len()).enumerate() {
                file.read_at((n * piece.len()) as u64, &mut piece).unwrap();
                assert!(piece == want);
            }
        } else {
            assert!(fs.read(path, 32 << 20).unwrap() == bytes);
        }
        (cache.requests(), cache.requested_bytes())
    })
}

/// Not timed: requests are what a paravirtual disk is slow at.
#[test]
fn a_file_is_read_in_few_requests() {
    let root = Temporary::directory();
    let bytes = Noise(20).bytes(FILE);
    let file = root.as_path().join("file");
    std::fs::write(&file, &bytes).unwrap();
    let file = file.to_str().unwrap();
    let root = root.as_str();
    let prototype = Temporary::file(0);
    let text = format!("/\n0 0\nd--755 0 0\nfile ---644 0 0 {file}\n$\n");
    std::fs::write(prototype.as_path(), text).unwrap();
    let image = |mib: u64, tool: &str, options: &[&str]| {
        let image = Temporary::file(mib << 20);
        run(tool, &[options, &[image.as_str()]].concat());
        image
    };
    let fat = image(300, "mkfs.vfat", &["-F", "32"]);
    run("mcopy", &["-i", fat.as_str(), file, "::/file"]);
    let iso = Temporary::file(0);
    run(
        "xorriso",
        &["-as", "mkisofs", "-quiet", "-R", "-o", iso.as_str(), root],
    );
    let images = [
        (
            "ext4",
            image(64, "mke2fs", &["-q", "-F", "-t", "ext4", "-d", root]),
        ),
        (
            "ext2",
            image(64, "mke2fs", &["-q", "-F", "-t", "ext2", "-d", root]),
        ),
        (
            "xfs",
            image(300, "mkfs.xfs", &["-q", "-f", "-p", prototype.as_str()]),
        ),
        ("btrfs", image(200, "mkfs.btrfs", &["-q", "-f", "-r", root])),
        ("vfat", fat),
        ("iso9660", iso),
    ];
    for (name, image) in images {
        let [whole, pieces] = figures(&image, "/file", &bytes);
        println!(
            "{name}: {} requests of {} KiB in all; in pieces of 64 KiB: {} of {} KiB",
            whole.0,
            whole.1 >> 10,
            pieces.0,
            pieces.1 >> 10
        );
        for (requests, bytes) in [whole, pieces] {
            assert!(bytes < (FILE as u64) * 5 / 4, "{name}: {bytes}");
            assert!(requests < 50, "{name}: {requests}");
        }
    }
}
