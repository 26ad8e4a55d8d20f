//! Disks for configurations: partitions with small file systems, files of a few
//! bytes in place of kernels.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::host::command;

/// A disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) table: Table,
    pub(crate) parts: Vec<Part>,
}

/// How a disk is parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Gpt,
    Msdos,
    /// One file system over all of it.
    None,
}

/// A file system in a partition.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) fs: Fs,
    /// As the tool that makes the file system takes it.
    pub(crate) uuid: String,
    pub(crate) label: String,
    /// As sfdisk takes it: `linux`, `uefi`, a GUID.
    pub(crate) kind: String,
    pub(crate) files: Vec<File>,
    /// Bytes that are put outside files: where, from the file system's beginning.
    pub(crate) raw: Vec<(u64, Vec<u8>)>,
}

/// A file: its path without a slash before it.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
}

impl File {
    pub(crate) fn new(path: &str, bytes: &[u8]) -> Self {
        Self {
            path: path.to_owned(),
            bytes: bytes.to_vec(),
        }
    }
}

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fs {
    Ext4,
    Fat,
    Btrfs,
}

impl Fs {
    /// Its MiB.
    const fn mib(self) -> u64 {
        match self {
            Self::Ext4 => 24,
            // FAT32 has 65525 clusters at least.
            Self::Fat => 40,
            Self::Btrfs => 128,
        }
    }
}

/// Makes the image of a disk.
pub(crate) fn make(disk: &Disk, image: &Path, scratch: &Path) -> Result<()> {
    let mut parts = Vec::new();
    for (number, part) in disk.parts.iter().enumerate() {
        parts.push(make_part(part, &scratch.join(format!("part{number}")))?);
    }
    if disk.table == Table::None {
        let only = parts.first().context("a disk without a file system")?;
        fs::rename(only, image)?;
        return Ok(());
    }
    let mut text = match disk.table {
        Table::Gpt => String::from("label: gpt\n"),
        _ => String::from("label: dos\n"),
    };
    let mut at = 1_u64;
    let mut places = Vec::new();
    for part in &disk.parts {
        let mib = part.fs.mib();
        text += &format!(
            "start={}, size={}, type={}\n",
            at << 11,
            mib << 11,
            part.kind
        );
        places.push(at << 20);
        at += mib;
    }
    let mut file = fs::File::create(image)?;
    file.set_len((at + 1) << 20)?;
    let mut sfdisk = Command::new("sfdisk");
    command::run_with(sfdisk.arg("--quiet").arg(image), text.as_bytes())?;
    for (place, part) in places.into_iter().zip(parts) {
        copy(&part, &mut file, place)?;
        fs::remove_file(part)?;
    }
    Ok(())
}

/// Copies what is not zero.
fn copy(from: &Path, to: &mut fs::File, place: u64) -> Result<()> {
    let mut from = fs::File::open(from)?;
    let mut block = vec![0; 64 << 10];
    let mut at = place;
    loop {
        let count = from.read(&mut block)?;
        let bytes = &block[..count];
        if count == 0 {
            return Ok(());
        }
        if bytes.iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(at))?;
            to.write_all(bytes)?;
        }
        at += u64::try_from(count)?;
    }
}

fn make_part(part: &Part, at: &Path) -> Result<PathBuf> {
    let root = at.with_extension("root");
    fs::remove_dir_all(&root).ok();
    fs::create_dir_all(&root)?;
    for file in &part.files {
        let path = root.join(&file.path);
        if file.path.ends_with('/') {
            fs::create_dir_all(path)?;
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, &file.bytes)?;
    }
    let image = at.with_extension("img");
    fs::remove_file(&image).ok();
    fs::File::create(&image)?.set_len(part.fs.mib() << 20)?;
    match part.fs {
        Fs::Ext4 => {
            let mut mkfs = Command::new("mke2fs");
            mkfs.args(["-q", "-F", "-t", "ext4", "-L", &part.label]);
            mkfs.args(["-U", &part.uuid, "-d"]).arg(&root);
            command::run(mkfs.arg(&image))?;
        }
        Fs::Fat => {
            let mut mkfs = Command::new("mkfs.vfat");
            mkfs.args(["-F", "32", "-n", &part.label]);
            command::run(mkfs.args(["-i", &part.uuid.replace('-', "")]).arg(&image))?;
            let mut names = fs::read_dir(&root)?.collect::<Result<Vec<_>, _>>()?;
            names.sort_by_key(fs::DirEntry::file_name);
            if !names.is_empty() {
                let mut copy = Command::new("mcopy");
                copy.args(["-s", "-i"]).arg(&image);
                copy.args(names.iter().map(fs::DirEntry::path));
                command::run(copy.arg("::/"))?;
            }
        }
        Fs::Btrfs => {
            let mut mkfs = Command::new("mkfs.btrfs");
            mkfs.args(["-q", "-f", "-L", &part.label, "-U", &part.uuid, "--rootdir"]);
            command::run(mkfs.arg(&root).arg(&image))?;
        }
    }
    let mut file = fs::File::options().write(true).open(&image)?;
    for (place, bytes) in &part.raw {
        file.seek(SeekFrom::Start(*place))?;
        file.write_all(bytes)?;
    }
    fs::remove_dir_all(root)?;
    Ok(image)
}
