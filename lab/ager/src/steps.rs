//! The steps, in the order in which they are done.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::noise::Noise;

/// Sizes where readers go wrong: of inodes, sectors, blocks, clusters.
const SIZES: &[usize] = &[
    0, 1, 59, 60, 61, 155, 156, 157, 511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049, 4095, 4096,
    4097, 12_287, 12_289, 65_535, 65_537, 131_071, 131_073, 1_048_577, 3_000_001,
];

/// Names with what file systems store in their own ways.
const NAMES: &[&str] = &[
    "a",
    "eight.txt",
    "UPPER.TXT",
    "Mixed Case.Name",
    ".hidden",
    "..two dots",
    "trailing.tar.gz",
    "spaces  in  it",
    "plus+comma,semi;[brackets]=",
    "Größe — Äpfel",
    "日本語のファイル名",
    "crab 🦀",
    "Ελληνικά.txt",
    "percent%20",
    "exactly-13-ch",
    "exactly-26-characters-long",
    "exactly-twenty-seven-chars",
];

/// What is written where, and how much is left to write.
#[derive(Debug)]
pub(crate) struct Ager {
    root: PathBuf,
    noise: Noise,
    left: usize,
    words: Vec<String>,
}

/// A full disk is what some of this is for.
fn unless_full(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::StorageFull => Ok(()),
        result => result,
    }
}

impl Ager {
    pub(crate) fn new(root: PathBuf, seed: u64, mib: usize, words: &[String]) -> Self {
        Self {
            root,
            noise: Noise::new(seed),
            left: mib << 20,
            words: words.to_vec(),
        }
    }

    fn is(&self, word: &str) -> bool {
        self.words.iter().any(|found| found == word)
    }

    /// Whether there are links and holes.
    fn unix(&self) -> bool {
        !self.is("fat")
    }

    /// So many, or a tenth.
    fn many(&self, count: usize) -> usize {
        if self.is("few") || self.is("iso") {
            count / 10
        } else {
            count
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn directory(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.at(path))
    }

    /// Bytes, as long as there are any left of what was asked for.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let len = len.min(self.left);
        self.left -= len;
        self.noise.bytes(len)
    }

    fn write(&mut self, path: &str, len: usize) -> io::Result<()> {
        let bytes = self.bytes(len);
        unless_full(fs::write(self.at(path), bytes))
    }

    pub(crate) fn run(&mut self) -> io::Result<()> {
        if self.is("again") {
            return unless_full(self.change());
        }
        type Step = fn(&mut Ager) -> io::Result<()>;
        let steps: &[Step] = &[
            Self::sizes,
            Self::names,
            Self::directories,
            Self::interleaved,
            Self::every_second,
            Self::sliced,
            Self::sparse,
            Self::links,
            Self::change,
            Self::fill,
        ];
        for step in steps {
            unless_full(step(self))?;
        }
        Ok(())
    }

    fn sizes(&mut self) -> io::Result<()> {
        self.directory("sizes")?;
        for size in SIZES {
            self.write(&format!("sizes/{size}"), *size)?;
        }
        Ok(())
    }

    fn names(&mut self) -> io::Result<()> {
        self.directory("names")?;
        for name in NAMES {
            self.write(&format!("names/{name}"), name.len())?;
        }
        // 255 bytes, or as many as ISO 9660 has room for.
        let longest = if self.is("iso") { 60 } else { 255 };
        self.write(&format!("names/{}", "n".repeat(longest)), 9)?;
        if self.unix() {
            self.write("names/case", 4)?;
            self.write("names/CASE", 5)?;
        }
        let levels = if self.is("iso") { 12 } else { 40 };
        let deep: String = (0..levels).map(|n| format!("/level-{n}")).collect();
        self.directory(&format!("deep{deep}"))?;
        self.write(&format!("deep{deep}/file"), 10)
    }

    /// Directories of each form that a file system has for them, and one that
    /// has shrunk again.
    fn directories(&mut self) -> io::Result<()> {
        self.directory("directories/empty")?;
        let most = if self.is("names") { 6000 } else { 1100 };
        let counts = [2, 12, 90, 400, most];
        for count in counts {
            let count = self.many(count).max(2);
            let directory = format!("directories/{count}");
            self.directory(&directory)?;
            for n in 0..count {
                let tail = "long ".repeat(self.noise.below(9));
                let name = format!("{directory}/{n} {tail}name");
                let len = if n % 16 == 0 {
                    self.noise.below(300)
                } else {
                    0
                };
                self.write(&name, len)?;
            }
        }
        let directory = "directories/shrunk";
        self.directory(directory)?;
        let count = self.many(500);
        for n in 0..count {
            self.write(&format!("{directory}/this will be gone {n}"), 0)?;
        }
        for n in (0..count).filter(|n| n % 25 != 0) {
            fs::remove_file(self.at(&format!("{directory}/this will be gone {n}"))).ok();
        }
        Ok(())
    }

    /// Files that grow in turn, each piece on the disk before the next.
    fn interleaved(&mut self) -> io::Result<()> {
        self.directory("interleaved")?;
        let mut files = Vec::new();
        for n in 0..12 {
            files.push(File::create(self.at(&format!("interleaved/{n}")))?);
        }
        for _ in 0..self.many(40).max(10) {
            for file in &mut files {
                let len = 1 + self.noise.below(9000);
                let bytes = self.bytes(len);
                file.write_all(&bytes)?;
                file.sync_data()?;
            }
        }
        Ok(())
    }

    /// Small files of which every second goes, and large ones in their place.
    fn every_second(&mut self) -> io::Result<()> {
        self.directory("small")?;
        let count = self.many(400);
        for n in 0..count {
            let len = 1500 + self.noise.below(18_000);
            self.write(&format!("small/{n}"), len)?;
        }
        // Without room on the disk nothing is deferred.
        File::open(&self.root)?.sync_all().ok();
        for n in (0..count).step_by(2) {
            fs::remove_file(self.at(&format!("small/{n}"))).ok();
        }
        self.directory("large")?;
        for n in 0..4 {
            let len = (self.left / 6).min(8 << 20);
            self.write(&format!("large/{n}"), len)?;
        }
        Ok(())
    }

    /// Every second block first, some of the others later: more pieces than an
    /// inode has room for.
    fn sliced(&mut self) -> io::Result<()> {
        const PIECE: usize = 4096;
        let path = self.at("sliced");
        let pieces = self.many(1400);
        let file = File::create(path)?;
        for n in 0..pieces {
            let bytes = self.bytes(PIECE);
            let at = if self.unix() {
                2 * n * PIECE
            } else {
                n * PIECE
            };
            file.write_all_at(&bytes, at as u64)?;
            if n % 8 == 0 {
                file.sync_data()?;
            }
            if n % 8 == 0 && !self.unix() {
                self.write(&format!("small/between {n}"), PIECE)?;
            }
        }
        for n in (0..pieces).filter(|n| n % 5 == 0) {
            let len = 1 + self.noise.below(PIECE);
            let bytes = self.bytes(len);
            file.write_all_at(&bytes, ((2 * n + 1) * PIECE + 7) as u64)?;
        }
        file.sync_data()
    }

    fn sparse(&mut self) -> io::Result<()> {
        if !self.unix() || self.is("iso") {
            return Ok(());
        }
        self.directory("sparse")?;
        let scenes: [(&str, &[u64], u64); 6] = [
            ("begins with a hole", &[300_000], 310_000),
            ("ends with a hole", &[0], 3_000_000),
            ("nothing else", &[], 2_000_000),
            ("several", &[0, 50_000, 500_001, 4_999_999], 5_500_000),
            ("within a block", &[100, 5000, 9000], 10_000),
            (
                "behind the pointers of an inode",
                &[48 << 10, 300 << 10],
                600 << 10,
            ),
        ];
        let far: (&str, &[u64], u64) = ("far", &[20 << 20, 66 << 20], 70 << 20);
        let far = if self.is("far") { Some(far) } else { None };
        for (name, places, len) in scenes.into_iter().chain(far) {
            let file = File::create(self.at(&format!("sparse/{name}")))?;
            for place in places {
                let len = 1 + self.noise.below(9000);
                let bytes = self.bytes(len);
                file.write_all_at(&bytes, *place)?;
            }
            file.set_len(len)?;
        }
        Ok(())
    }

    fn links(&mut self) -> io::Result<()> {
        if !self.unix() {
            return Ok(());
        }
        self.directory("links/below")?;
        let link = |target: &str, name: &str| symlink(target, self.at(&format!("links/{name}")));
        link("../sizes/4097", "short")?;
        link("/sizes/4097", "absolute")?;
        link("nowhere", "dangling")?;
        link("loop", "loop")?;
        link("below", "directory")?;
        link("../Größe/日本語", "of other letters")?;
        // Around what inodes of 128, 256 and 512 bytes have room for.
        for len in [59, 60, 61, 150, 200, 300, 500, 1000, 1020] {
            let target = "below/../".repeat(120);
            link(&target[..len], &format!("of {len} bytes"))?;
        }
        if self.is("iso") {
            return Ok(());
        }
        fs::hard_link(self.at("sizes/4096"), self.at("links/hard"))?;
        fs::hard_link(self.at("sliced"), self.at("links/below/hard"))
    }

    /// Names and contents that change.
    fn change(&mut self) -> io::Result<()> {
        if self.is("again") {
            self.left += 1 << 20;
        }
        let count = self.many(400);
        for (way, n) in (1..count).step_by(14).enumerate() {
            let path = self.at(&format!("small/{n}"));
            let len = 1 + self.noise.below(5000);
            let bytes = self.bytes(len);
            let Ok(file) = OpenOptions::new().write(true).open(&path) else {
                continue;
            };
            match way % 4 {
                0 | 1 => file.write_all_at(&bytes, 700)?,
                2 => file.set_len(900)?,
                _ => {
                    file.set_len(2)?;
                    file.set_len(if self.unix() { 30_000 } else { 700 })?;
                }
            }
        }
        self.directory("moved")?;
        for n in (3..count).step_by(22) {
            let from = self.at(&format!("small/{n}"));
            fs::rename(from, self.at(&format!("moved/{n} has another name"))).ok();
        }
        let again = if self.is("again") { "again" } else { "once" };
        self.write(&format!("moved/{again}"), 20_000)?;
        if let Ok(mut file) = OpenOptions::new().append(true).open(self.at("sizes/65537")) {
            let bytes = self.bytes(100_000);
            file.write_all(&bytes)?;
        }
        Ok(())
    }

    /// Until nothing fits any more; a file in forty goes again.
    fn fill(&mut self) -> io::Result<()> {
        if !self.is("full") {
            return Ok(());
        }
        self.directory("fill")?;
        let mut n = 0;
        loop {
            let len = 20_000 + self.noise.below(300_000);
            let bytes = self.noise.bytes(len);
            let path = self.at(&format!("fill/{n}"));
            match fs::write(&path, bytes).and_then(|()| sync(&path, n)) {
                Ok(()) => n += 1,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
        for gone in (0..n).step_by(40) {
            fs::remove_file(self.at(&format!("fill/{gone}")))?;
        }
        Ok(())
    }
}

/// Room that was promised is taken now and then.
fn sync(path: &Path, n: usize) -> io::Result<()> {
    if n.is_multiple_of(32) {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}
