//! The table of layouts: disks as distributions' installers and generators of
//! configurations leave them, in words and values of our own.
//!
//! Each is a text in `lab/menus/layouts`. Lines that begin with `@`:
//!
//! ```text
//! @start DEVICE FILE        where the distribution's GRUB starts to read
//! @only RELEASE             compared with this release of GRUB alone
//! @note TEXT                what is compared, where that needs a word
//! @disk gpt|msdos|none      the next disk
//! @part FS TYPE UUID LABEL  its next file system; TYPE as sfdisk has it
//! @file PATH                a file, of the lines that follow
//! @files PATH…              files that are not looked into: kernels, initrds
//! @env PATH                 an environment block with the lines that follow
//! @rawenv OFFSET            one outside files, that many bytes into the part
//! ```

use anyhow::{Context as _, Result, bail};

use super::Release;
use super::image::{Disk, File, Fs, Part, Table};
use super::session::{Start, envblock_of};

/// A layout.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    pub(crate) disks: Vec<Disk>,
    /// Where the distribution's GRUB starts to read.
    pub(crate) start: Start,
    /// What is compared where Debian's GRUB lacks a command of the distribution's.
    pub(crate) note: String,
    only: Option<Release>,
}

macro_rules! texts {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../lab/menus/layouts/", $name, ".txt")))),*]
    };
}

const TEXTS: &[(&str, &str)] = texts![
    "alpine",
    "arch",
    "centos-stream-efi",
    "coreos",
    "debian-efi",
    "debian",
    "fedora-efi",
    "guix",
    "haos-b",
    "haos",
    "live-iso-menu",
    "nixos",
    "opensuse-envblock",
    "opensuse",
    "openwrt",
    "qubes-vm",
    "qubes",
    "rhel10-bios",
    "rhel10-efi",
    "rhel8-bios",
    "rhel8-efi",
    "rhel9-bios",
    "rhel9-efi",
    "ubuntu-cloud",
    "ubuntu-next",
    "ubuntu-recordfail",
    "ubuntu",
    "vyos",
];

impl Layout {
    /// Whether it is compared with that release.
    pub(crate) fn wants(&self, release: Release) -> bool {
        self.only.is_none_or(|only| only == release)
    }

    /// Whether a file of it has this word.
    pub(crate) fn says(&self, word: &str) -> bool {
        let parts = self.disks.iter().flat_map(|disk| &disk.parts);
        let mut files = parts.flat_map(|part| &part.files);
        files.any(|file| String::from_utf8_lossy(&file.bytes).contains(word))
    }

    /// The disks for the emulator, where they must be others: its `blscfg` reads
    /// the host's `/boot` unless it is told a folder
    /// (`grub-core/commands/blsuki.c`, `GRUB_MACHINE_EMU`), and `--root-dev-only`
    /// is an option of Fedora's `search` alone.
    pub(crate) fn emulated(&self) -> Option<Vec<Disk>> {
        const OTHERS: [(&str, &str); 2] = [
            ("\nblscfg\n", "\nblscfg --path (${root})/loader/entries\n"),
            (" --root-dev-only ", " "),
        ];
        let mut disks = self.disks.clone();
        let mut changed = false;
        let parts = disks.iter_mut().flat_map(|disk| &mut disk.parts);
        for file in parts.flat_map(|part| &mut part.files) {
            let Ok(text) = std::str::from_utf8(&file.bytes) else {
                continue;
            };
            let mut text = text.to_owned();
            for (ours, theirs) in OTHERS {
                changed |= text.contains(ours);
                text = text.replace(ours, theirs);
            }
            file.bytes = text.into_bytes();
        }
        changed.then_some(disks)
    }

    fn parse(name: &'static str, text: &str) -> Result<Self> {
        let mut layout = Self {
            name,
            disks: Vec::new(),
            start: Start::default(),
            note: String::new(),
            only: None,
        };
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(line) = line.strip_prefix('@') else {
                bail!("a line that belongs to no file: {line:?}");
            };
            let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
            let mut body = String::new();
            while let Some(next) = lines.next_if(|next| !next.starts_with('@')) {
                body += next;
                body.push('\n');
            }
            let words: Vec<&str> = rest.split_ascii_whitespace().collect();
            match (what, words.as_slice()) {
                ("start", [device, file]) => layout.start = Start::at(device, file),
                ("note", _) => layout.note = rest.to_owned(),
                ("only", [version]) => {
                    let mut all = Release::ALL.into_iter();
                    layout.only = all.find(|release| release.version() == *version);
                }
                ("disk", [table]) => layout.disks.push(Disk {
                    table: match *table {
                        "gpt" => Table::Gpt,
                        "msdos" => Table::Msdos,
                        _ => Table::None,
                    },
                    parts: Vec::new(),
                }),
                ("part", [fs, kind, uuid, label]) => {
                    let disk = layout.disks.last_mut().context("no @disk before it")?;
                    disk.parts.push(Part {
                        fs: match *fs {
                            "ext4" => Fs::Ext4,
                            "fat" => Fs::Fat,
                            "btrfs" => Fs::Btrfs,
                            other => bail!("no file system is called {other}"),
                        },
                        kind: (*kind).to_owned(),
                        uuid: (*uuid).to_owned(),
                        label: (*label).to_owned(),
                        files: Vec::new(),
                        raw: Vec::new(),
                    });
                }
                ("file", [path]) => last_part(&mut layout.disks)?
                    .files
                    .push(File::new(path, body.as_bytes())),
                ("files", paths) => {
                    let files = paths.iter().map(|path| File::new(path, path.as_bytes()));
                    last_part(&mut layout.disks)?.files.extend(files);
                }
                ("env", [path]) => last_part(&mut layout.disks)?
                    .files
                    .push(File::new(path, &block(&body))),
                ("rawenv", [offset]) => last_part(&mut layout.disks)?
                    .raw
                    .push((offset.parse()?, block(&body))),
                _ => bail!("not understood: @{line}"),
            }
        }
        Ok(layout)
    }
}

fn last_part(disks: &mut [Disk]) -> Result<&mut Part> {
    let disk = disks.last_mut().context("no @disk before it")?;
    disk.parts.last_mut().context("no @part before it")
}

/// A block of 1024 bytes.
fn block(lines: &str) -> Vec<u8> {
    let mut block = envblock_of(0);
    block.extend_from_slice(lines.as_bytes());
    block.resize(1024, b'#');
    block
}

/// All of them.
pub(crate) fn all() -> Result<Vec<Layout>> {
    let texts = TEXTS.iter();
    texts
        .map(|(name, text)| Layout::parse(name, text).with_context(|| format!("layout {name}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_starts_on_a_disk_of_its_own() {
        for layout in all().unwrap() {
            assert!(!layout.disks.is_empty(), "{}", layout.name);
            let file = layout.start.file.trim_start_matches('/');
            let mut parts = layout.disks.iter().flat_map(|disk| &disk.parts);
            assert!(
                parts.any(|part| part.files.iter().any(|there| there.path == file)),
                "{}: {file}",
                layout.name
            );
        }
    }
}
