//! Directories of ext4 that are made to be searched for ever, or to be searched
//! by the library elsewhere than by us.

use std::{collections::BTreeMap, fs, iter};

use kexen_disk::{
    FileSystem,
    fs::{FsError, Problem, probe},
};

use super::{
    disk::FileDisk,
    ext4::image,
    tools::{Temporary, run},
};

/// An image with a directory `/d`, and what is changed in it.
struct Crafted {
    image: Temporary,
    block: u64,
    changes: BTreeMap<u64, u8>,
    /// Where the inode of `/d` is.
    inode: u64,
    number: u32,
    /// Where its first block is.
    first: u64,
}

/// The number behind some words.
fn number(text: &str, words: &str, radix: u32) -> u64 {
    let (_, rest) = text.split_once(words).unwrap();
    let digits = rest.split(|c: char| !c.is_digit(radix)).next().unwrap();
    u64::from_str_radix(digits, radix).unwrap()
}

impl Crafted {
    /// Two directories are in `/d`: `s` and `t`.
    fn new(block: u64, names: usize, options: &[&str]) -> Self {
        let root = Temporary::directory();
        for name in ["d/s", "d/t"] {
            fs::create_dir_all(root.as_path().join(name)).unwrap();
        }
        for n in 0..names {
            fs::write(root.as_path().join(format!("d/a rather long name {n}")), "").unwrap();
        }
        let size = block.to_string();
        let common = ["-t", "ext4", "-b", &size, "-O", "^has_journal"];
        let image = image(&root, 16, &[&common[..], options].concat());
        // What has several blocks gets a tree of hashes.
        run("e2fsck", &["-fyD", image.as_str()]);
        let ask = |what| run("debugfs", &["-R", what, image.as_str()]);
        let (imap, bmap) = (ask("imap /d"), ask("bmap /d 0"));
        Self {
            block,
            changes: BTreeMap::new(),
            inode: number(&imap, "located at block ", 10) * block + number(&imap, "offset 0x", 16),
            number: u32::try_from(number(&imap, "Inode ", 10)).unwrap(),
            first: bmap.trim().parse::<u64>().unwrap() * block,
            image,
        }
    }

    fn set(&mut self, at: u64, bytes: &[u8]) {
        self.changes.extend((at..).zip(bytes.iter().copied()));
    }

    fn bytes(&self, at: u64, len: u64) -> Vec<u8> {
        let bytes = fs::read(self.image.as_path()).unwrap();
        bytes[usize::try_from(at).unwrap()..][..usize::try_from(len).unwrap()].to_vec()
    }

    /// Where the entry of a name of one letter in `/d` is.
    fn entry(&self, letter: u8) -> u64 {
        let block = self.bytes(self.first, self.block);
        let is = |at: &usize| block[at + 6] == 1 && block[at + 8] == letter;
        let at = (0..block.len() - 8).step_by(4).find(is).unwrap();
        self.first + at as u64
    }

    /// Puts a node of a tree of extents there: its children are blocks.
    fn node(&mut self, at: u64, depth: u16, children: &[u64]) {
        let most = (self.block / 12 - 1).min(340) as u16;
        let header = [0xf30a, children.len() as u16, most, depth, 0, 0];
        self.set(at, &header.map(u16::to_le_bytes).concat());
        for (at, child) in (at + 12..).step_by(12).zip(children) {
            let entry = [0, *child as u32, 0];
            self.set(at, &entry.map(u32::to_le_bytes).concat());
        }
    }

    /// Makes this the tree of the directory.
    fn root(&mut self, depth: u16, children: &[u64]) {
        self.node(self.inode + 40, depth, children);
        self.set(self.inode + 44, &[4]);
    }

    /// The last blocks of the image, which nothing is in.
    fn free(&self) -> u64 {
        (12 << 20) / self.block
    }

    fn open(&self) -> Box<dyn FileSystem> {
        let disk = FileDisk::new(&self.image).with_changes(self.changes.clone());
        probe(disk.cached()).unwrap().unwrap()
    }

    /// What comes of listing the directory, and of finding names in it.
    fn results(&self) -> [Result<(), FsError>; 3] {
        let fs = self.open();
        [
            fs.read_dir("/d").map(|_| ()),
            fs.metadata("/d/s").map(|_| ()),
            fs.metadata("/d/missing").map(|_| ()),
        ]
    }
}

fn limit(result: Result<(), FsError>) -> &'static str {
    match result.unwrap_err().problem {
        Problem::Limit { what, .. } => what,
        problem => panic!("{problem:?}"),
    }
}

fn corrupt(result: Result<(), FsError>) -> String {
    match result.unwrap_err().problem {
        Problem::Corrupt(why) => why,
        problem => panic!("{problem:?}"),
    }
}

const TABLES: &str = "bytes of tables for one operation";
const NO_SUMS: &[&str] = &["-O", "^metadata_csum,^has_journal"];

/// Five blocks that lead to the next one 340 times each: 50 billion ways, and
/// nothing that has to be read again.
#[test]
fn the_same_few_nodes_again_and_again_are_refused() {
    let mut crafted = Crafted::new(4096, 0, NO_SUMS);
    let free = crafted.free();
    for depth in 0..5_u16 {
        let below = vec![free + u64::from(depth) - 1; if depth > 0 { 340 } else { 0 }];
        crafted.node((free + u64::from(depth)) * 4096, depth, &below);
    }
    crafted.root(5, &[free + 4; 4]);
    for result in crafted.results() {
        assert_eq!(limit(result), "blocks of a tree of extents");
    }
}

/// A directory that is in itself, behind a thousand nodes with nothing in them:
/// each may be gone through, but not as often as there are names in a path.
fn within_itself(crafted: &mut Crafted) {
    let free = crafted.free();
    let leaf = crafted.bytes(crafted.inode + 40, 60);
    let at = |n: u64| (free + n) * 4096;
    crafted.node(at(0), 0, &[]);
    crafted.node(at(1), 1, &[free; 340]);
    crafted.set(at(2), &leaf);
    crafted.node(at(3), 1, &[free + 2]);
    crafted.root(2, &[free + 1, free + 1, free + 1, free + 3]);
    let entry = crafted.entry(b's');
    crafted.set(entry, &crafted.number.to_le_bytes());
}

#[test]
fn all_that_is_gone_through_for_a_path_has_a_bound() {
    let mut crafted = Crafted::new(4096, 0, NO_SUMS);
    within_itself(&mut crafted);
    let fs = crafted.open();
    let path = |n: usize| {
        iter::once("/d")
            .chain(iter::repeat_n("/s", n))
            .collect::<String>()
    };
    for n in 0..7 {
        fs.metadata(&path(n)).unwrap();
        assert_eq!(fs.read_dir(&path(n)).unwrap().len(), 2);
    }
    fs.metadata(&path(7)).unwrap();
    assert_eq!(limit(fs.read_dir(&path(7)).map(|_| ())), TABLES);
    for n in [8, 100] {
        assert_eq!(limit(fs.metadata(&path(n)).map(|_| ())), TABLES);
    }
}

/// The tree of extents is gone through for each level of the tree of hashes.
#[test]
fn a_deep_tree_of_hashes_counts() {
    let mut crafted = Crafted::new(4096, 0, NO_SUMS);
    within_itself(&mut crafted);
    // The flag of a tree of hashes, and its depth.
    let flags = crafted.bytes(crafted.inode + 0x20, 4);
    crafted.set(crafted.inode + 0x21, &[flags[1] | 0x10]);
    crafted.set(crafted.first + 0x1e, &[255]);
    let [_, found, missing] = crafted.results();
    for result in [found, missing] {
        assert_eq!(limit(result), TABLES);
    }
}

/// The library reads 32 blocks for one: to go through blocks from the last to
/// the first, one at a time, it reads 32 times as much as it needs.
#[test]
fn what_the_library_reads_has_a_bound() {
    let mut crafted = Crafted::new(1024, 0, NO_SUMS);
    let free = crafted.free();
    let nodes = 18 * 84;
    let leaves: Vec<u64> = (0..nodes).rev().map(|n| free + n).collect();
    for leaf in &leaves {
        crafted.node(leaf * 1024, 0, &[]);
    }
    let mut middle = Vec::new();
    for (n, below) in leaves.chunks(84).enumerate() {
        middle.push(free + nodes + n as u64);
        crafted.node(middle[n] * 1024, 1, below);
    }
    let top = free + nodes + 100;
    crafted.node(top * 1024, 2, &middle);
    crafted.root(3, &[top]);
    for result in crafted.results() {
        assert_eq!(limit(result), TABLES);
    }
}

/// The library takes the sum of as many bytes as a node of hashes claims.
#[test]
fn a_node_of_hashes_with_too_many_entries_is_refused() {
    let mut crafted = Crafted::new(1024, 300, &["-O", "metadata_csum,^has_journal"]);
    for result in &crafted.results()[..2] {
        assert_eq!(*result, Ok(()));
    }
    crafted.set(crafted.first + 0x22, &[0xff, 0xff]);
    for result in crafted.results() {
        let why = corrupt(result);
        assert_eq!(why, "a tree of hashes has a node with too many entries");
    }
}

/// What is not searched here the library must not find names in.
#[test]
fn what_can_be_searched_in_two_ways_is_refused() {
    let mut twice = Crafted::new(4096, 0, NO_SUMS);
    let entry = twice.entry(b't');
    twice.set(entry + 8, b"s");
    let [listed, found, missing] = twice.results();
    listed.unwrap();
    assert_eq!(corrupt(found), "a name stands for two files");
    assert_eq!(missing.unwrap_err().problem, Problem::Missing);
    for (blocks, why) in [
        ([2, 0], "a directory has blocks behind its end"),
        ([1, 0x80], "a directory has blocks that were not written"),
    ] {
        let mut crafted = Crafted::new(4096, 0, NO_SUMS);
        crafted.set(crafted.inode + 56, &blocks);
        for result in crafted.results() {
            assert_eq!(corrupt(result), why);
        }
    }
}
