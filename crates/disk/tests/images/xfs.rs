//! XFS.

use kexen_disk::fs::{FileSystem, probe};

use super::{
    content::{Thing, Things, With, check, fill},
    disk::FileDisk,
    tools::{Temporary, blkid, run},
};

/// The least that `mkfs.xfs` makes.
const BYTES: u64 = 300 << 20;

/// A prototype (`mkfs.xfs -p`): its names cannot have blanks.
fn prototype(root: &Temporary, things: &Things) -> (String, Things) {
    let plain = |path: &str| !path.contains(' ');
    let kept: Things = things
        .iter()
        .filter(|(path, _)| plain(path))
        .map(|(path, thing)| (path.clone(), thing.clone()))
        .collect();
    let mut text = "/\n0 0\nd--755 0 0\n".to_string();
    children(&mut text, root, &kept, "");
    text += "$\n";
    (text, kept)
}

fn children(text: &mut String, root: &Temporary, things: &Things, parent: &str) {
    let prefix = format!("{parent}/");
    for (path, thing) in things {
        let Some(name) = path
            .strip_prefix(&prefix)
            .filter(|name| !name.contains('/'))
        else {
            continue;
        };
        let host = root.as_path().join(&path[1..]);
        match thing {
            Thing::Directory => {
                *text += &format!("{name} d--755 0 0\n");
                children(text, root, things, path);
                *text += "$\n";
            }
            Thing::File(_) => *text += &format!("{name} ---644 0 0 {}\n", host.display()),
            Thing::Link(_) => {
                let target = std::fs::read_link(host).unwrap();
                *text += &format!("{name} l--777 0 0 {}\n", target.display());
            }
        }
    }
}

/// An image made with these options, and what is in it.
pub(crate) fn image(options: &[&str]) -> (Temporary, Things) {
    let (root, things) = fill(With::Unix);
    // Names of which a prototype can have as many as it likes.
    let mut more = things;
    for n in 0..700 {
        let path = format!("/lots/a-name-that-is-not-too-short-{n}");
        std::fs::create_dir_all(root.as_path().join("lots")).unwrap();
        std::fs::write(root.as_path().join(&path[1..]), "x").unwrap();
        more.insert("/lots".into(), Thing::Directory);
        more.insert(path, Thing::File(b"x".into()));
    }
    let (prototype, things) = prototype(&root, &more);
    let file = root.as_path().join("prototype");
    std::fs::write(&file, prototype).unwrap();
    let image = Temporary::file(BYTES);
    let mut args = vec!["-q", "-f", "-L", "a label", "-p", file.to_str().unwrap()];
    args.extend(options);
    args.push(image.as_str());
    run("mkfs.xfs", &args);
    (image, things)
}

fn open(image: &Temporary) -> Box<dyn FileSystem> {
    let fs = probe(FileDisk::new(image).cached()).unwrap().unwrap();
    let said = [fs.kind(), fs.label(), fs.uuid()].map(String::from);
    assert_eq!(said, blkid(image));
    fs
}

#[test]
fn every_kind_of_xfs_is_read() {
    let kinds: &[&[&str]] = &[
        &[],
        &["-m", "crc=0"],
        &["-m", "crc=0", "-n", "ftype=0"],
        &["-b", "size=1024"],
        &["-b", "size=1024", "-n", "size=4096"],
        &["-i", "size=2048,nrext64=1"],
        &["-m", "reflink=0,rmapbt=1,bigtime=0,inobtcount=0"],
        &["-d", "agcount=2", "-s", "size=4096"],
    ];
    for options in kinds {
        println!("{options:?}");
        let (image, things) = image(options);
        check(&*open(&image), &things, &[]);
    }
}

/// With a realtime device beside it all is read that is not on that.
#[test]
fn what_is_not_on_a_realtime_device_is_read() {
    for options in [&[][..], &["-m", "crc=0"]] {
        let beside = Temporary::file(64 << 20);
        let device = format!("rtdev={}", beside.as_str());
        let (image, things) = image(&[options, &["-r", device.as_str()]].concat());
        check(&*open(&image), &things, &[]);
        // A damaged superblock stays so.
        if options.is_empty() {
            let disk = FileDisk::new(&image).with_changes([(110, 1)].into());
            assert!(probe(disk.shared()).is_err());
        }
        // A file that says that it is on the other.
        let change = "path /boot/initrd.img";
        run(
            "xfs_db",
            &[
                "-x",
                "-c",
                change,
                "-c",
                "write core.realtime 1",
                image.as_str(),
            ],
        );
        let fs = open(&image);
        let error = fs.open("/boot/initrd.img").err().unwrap();
        assert!(error.to_string().contains("a file on the realtime device"));
        assert!(fs.open("/boot/vmlinuz-6.1.0-13-amd64").is_ok());
    }
}
