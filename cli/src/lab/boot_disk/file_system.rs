//! File systems, made by their real `mkfs` with what is in a folder.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::layout::{ESP_UUID, UUID};
use crate::host::command;

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fs {
    Ext4,
    /// With blocks of 4096 bytes: Linux mounts none with blocks shorter than
    /// the disk's sectors.
    Ext4Large,
    Xfs,
    Btrfs,
    Fat,
    Iso,
}

impl Fs {
    /// MiB that it has at least.
    pub(super) const fn least(self) -> u64 {
        match self {
            Self::Ext4 | Self::Ext4Large | Self::Fat | Self::Iso => 0,
            Self::Btrfs => 128,
            Self::Xfs => 300,
        }
    }

    /// Makes it, with what is in a folder.
    pub(super) fn make(self, root: &Path, part: &Path, mib: u64) -> Result<()> {
        fs::remove_file(part).ok();
        if self != Self::Iso {
            fs::File::create(part)?.set_len(mib << 20)?;
        }
        match self {
            Self::Iso => {
                let mut make = Command::new("xorriso");
                make.args(["-as", "mkisofs", "-quiet", "-R", "-J", "-V", "LAB", "-o"]);
                command::run(make.arg(part).arg(root))?;
            }
            Self::Ext4 | Self::Ext4Large => {
                let mut mkfs = Command::new("mke2fs");
                if self == Self::Ext4Large {
                    mkfs.args(["-b", "4096"]);
                }
                mkfs.args(["-q", "-F", "-t", "ext4", "-L", "lab", "-U", UUID, "-d"]);
                command::run(mkfs.arg(root).arg(part))?;
            }
            Self::Btrfs => {
                let mut mkfs = Command::new("mkfs.btrfs");
                mkfs.args(["-q", "-f", "-L", "lab", "-U", UUID, "--rootdir"]);
                command::run(mkfs.arg(root).arg(part))?;
            }
            Self::Xfs => {
                let proto = part.with_extension("proto");
                fs::write(&proto, prototype(root)?)?;
                let mut mkfs = Command::new("mkfs.xfs");
                mkfs.args(["-q", "-f", "-L", "lab", "-m", &format!("uuid={UUID}"), "-p"]);
                command::run(mkfs.arg(proto).arg(part))?;
            }
            Self::Fat => {
                let mut mkfs = Command::new("mkfs.vfat");
                let serial = ESP_UUID.replace('-', "");
                command::run(mkfs.args(["-n", "LAB", "-i", &serial]).arg(part))?;
                let mut copy = Command::new("mcopy");
                copy.args(["-s", "-i"]).arg(part);
                for entry in fs::read_dir(root)? {
                    copy.arg(entry?.path());
                }
                command::run(copy.arg("::/"))?;
            }
        }
        Ok(())
    }
}

/// What `mkfs.xfs -p` makes a folder of.
fn prototype(root: &Path) -> Result<String> {
    fn walk(folder: &Path, text: &mut String) -> Result<()> {
        let mut all: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
        all.sort_by_key(fs::DirEntry::file_name);
        for entry in all {
            let name = entry.file_name();
            let name = name.to_str().context("a name that is no text")?;
            if name.contains(char::is_whitespace) {
                bail!("{name:?}: a prototype has no names with spaces");
            }
            if entry.file_type()?.is_dir() {
                text.push_str(&format!("{name} d--755 0 0\n"));
                walk(&entry.path(), text)?;
                text.push_str("$\n");
            } else {
                let path = entry.path();
                text.push_str(&format!("{name} ---644 0 0 {}\n", path.display()));
            }
        }
        Ok(())
    }
    let mut text = String::from("/\n0 0\nd--755 0 0\n");
    walk(root, &mut text)?;
    text.push_str("$\n");
    Ok(text)
}
