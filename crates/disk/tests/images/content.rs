//! What is put into images, and whether it comes out again.

use std::{collections::BTreeMap, fs, path::Path};

use kexen_disk::fs::{FileSystem, FileType, Problem};

use super::tools::Temporary;

/// xorshift64: repeatable noise.
#[derive(Clone, Debug)]
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        std::iter::repeat_with(|| (self.next() >> 32) as u8)
            .take(len)
            .collect()
    }
}

/// What is in an image: files with their bytes, directories, links with the
/// path they lead to in the end, if to any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Directory,
    File(Vec<u8>),
    Link(Option<&'static str>),
}

pub(crate) type Things = BTreeMap<String, Thing>;

/// What a file system can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    /// Links, and names that differ in case.
    Unix,
    /// Neither.
    Fat,
}

/// Files of the sizes where readers go wrong.
const SIZES: [usize; 10] = [0, 1, 59, 61, 511, 512, 4095, 4096, 4097, 100_000];

/// Fills a directory, and says with what.
pub(crate) fn fill(with: With) -> (Temporary, Things) {
    let root = Temporary::directory();
    let mut things = Things::new();
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let add = |things: &mut Things, path: &str, bytes: Vec<u8>| {
        let mut parent = String::new();
        for name in path.split('/').skip(1) {
            let at = things.entry(parent.clone()).or_insert(Thing::Directory);
            assert_eq!(*at, Thing::Directory);
            parent = format!("{parent}/{name}");
        }
        let file = root.as_path().join(&path[1..]);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, &bytes).unwrap();
        things.insert(path.into(), Thing::File(bytes));
    };
    for size in SIZES {
        add(&mut things, &format!("/sizes/{size}"), noise.bytes(size));
    }
    add(
        &mut things,
        "/boot/vmlinuz-6.1.0-13-amd64",
        noise.bytes(1_300_000),
    );
    add(&mut things, "/boot/initrd.img", noise.bytes(300_001));
    let text = (0..40_000)
        .map(|n| format!("line {n}\n"))
        .collect::<String>();
    add(&mut things, "/boot/System.map", text.into_bytes());
    let deep: String = (0..20).map(|n| format!("/level-{n}")).collect();
    add(&mut things, &format!("{deep}/file"), noise.bytes(10));
    add(
        &mut things,
        &format!("/{}", "long name ".repeat(20).trim_end()),
        noise.bytes(20),
    );
    add(&mut things, "/Größe — 日本 🦀.txt", noise.bytes(30));
    for n in 0..400 {
        add(
            &mut things,
            &format!("/many/file number {n} of many"),
            noise.bytes(n % 7),
        );
    }
    fs::create_dir(root.as_path().join("empty")).unwrap();
    things.insert("/empty".into(), Thing::Directory);
    if with == With::Unix {
        add(&mut things, "/case/File", noise.bytes(5));
        add(&mut things, "/case/file", noise.bytes(6));
        sparse(root.as_path(), &mut things);
        let links = [
            (
                "/vmlinuz",
                "boot/vmlinuz-6.1.0-13-amd64",
                Some("/boot/vmlinuz-6.1.0-13-amd64"),
            ),
            (
                "/boot/absolute",
                "/boot/initrd.img",
                Some("/boot/initrd.img"),
            ),
            ("/boot/up", "../sizes/../sizes/4097", Some("/sizes/4097")),
            ("/kernels", "boot", Some("/boot")),
            ("/kernels-2", "/kernels/", Some("/boot")),
            ("/through", "kernels-2/up", Some("/sizes/4097")),
            ("/dangling", "nowhere/at/all", None),
            ("/loop", "loop-2", None),
            ("/loop-2", "/loop", None),
            ("/long-link", LONG_LINK, Some("/boot/initrd.img")),
        ];
        for (name, target, end) in links {
            std::os::unix::fs::symlink(target, root.as_path().join(&name[1..])).unwrap();
            things.insert(name.into(), Thing::Link(end));
        }
    }
    (root, things)
}

/// Longer than what fits into an inode of ext4 (60 bytes) or XFS.
const LONG_LINK: &str = "boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../\
    boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../\
    boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../\
    boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/../boot/initrd.img";

/// A file with holes before, between and behind its data.
fn sparse(root: &Path, things: &mut Things) {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; 3 << 20];
    let file = fs::File::create(root.join("sparse")).unwrap();
    for at in [1 << 20, 1_500_000] {
        bytes[at..at + 5000].fill(0x5a);
        file.write_all_at(&[0x5a; 5000], at as u64).unwrap();
    }
    file.set_len(3 << 20).unwrap();
    things.insert("/sparse".into(), Thing::File(bytes));
}

/// Whether a file has these bytes, read whole and in pieces.
#[track_caller]
pub(crate) fn check_file(fs: &dyn FileSystem, path: &str, bytes: &[u8]) {
    let read = fs.read(path, 64 << 20);
    let read = read.unwrap_or_else(|error| panic!("{error}"));
    assert!(read == bytes, "{path} has other bytes");
    let mut file = fs.open(path).unwrap();
    assert_eq!(file.bytes(), bytes.len() as u64);
    let mut noise = Noise(bytes.len() as u64 + 1);
    for _ in 0..8 {
        let from = noise.below(bytes.len() as u64 + 1) as usize;
        let len = noise.below((bytes.len() - from).min(100_000) as u64 + 1) as usize;
        let mut part = vec![0xee; len];
        file.read_at(from as u64, &mut part)
            .unwrap_or_else(|error| panic!("{from}+{len}: {error}"));
        assert!(part == bytes[from..from + len], "{path}: {from}+{len}");
    }
    assert!(
        file.read_at(bytes.len() as u64, &mut [0]).is_err(),
        "{path}"
    );
    assert!(file.read_at(u64::MAX, &mut [0; 2]).is_err(), "{path}");
}

/// Whether a file system has exactly these things, but for some names in its
/// root.
#[track_caller]
pub(crate) fn check(fs: &dyn FileSystem, things: &Things, besides: &[&str]) {
    for (path, thing) in things {
        let metadata = |path: &str| fs.metadata(path);
        match thing {
            Thing::Directory => {
                let mut names = fs.read_dir(path).unwrap_or_else(|error| panic!("{error}"));
                names.sort_unstable();
                if path.is_empty() {
                    names.retain(|name| !besides.contains(&name.as_str()));
                }
                let prefix = format!("{path}/");
                let mut want: Vec<&str> = things
                    .keys()
                    .filter_map(|path| path.strip_prefix(&prefix))
                    .filter(|name| !name.contains('/'))
                    .collect();
                want.sort_unstable();
                assert_eq!(names, want, "in {path:?}");
                assert_eq!(metadata(path).unwrap().kind, FileType::Directory);
                let problem = fs.open(path).err().unwrap().problem;
                assert_eq!(problem, Problem::NotAFile);
                let missing = metadata(&format!("{path}/is not there")).unwrap_err();
                assert_eq!(missing.problem, Problem::Missing);
            }
            Thing::File(bytes) => {
                let found = metadata(path).unwrap();
                assert_eq!(
                    (found.kind, found.len),
                    (FileType::Regular, bytes.len() as u64)
                );
                check_file(fs, path, bytes);
                let problem = fs.read_dir(path).unwrap_err().problem;
                assert_eq!(problem, Problem::NotADirectory);
                let problem = fs.metadata(&format!("{path}/x")).unwrap_err().problem;
                assert_eq!(problem, Problem::NotADirectory);
            }
            Thing::Link(None) => {
                assert!(metadata(path).is_err(), "{path} leads somewhere");
            }
            Thing::Link(Some(end)) => {
                let found = metadata(path).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(Ok(found), metadata(end), "{path}");
                if found.kind == FileType::Regular {
                    let (one, two) = (fs.read(path, 8 << 20), fs.read(end, 8 << 20));
                    assert!(one.is_ok() && one == two, "{path}");
                } else {
                    assert_eq!(fs.read_dir(path), fs.read_dir(end));
                }
            }
        }
    }
}
