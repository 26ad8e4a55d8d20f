//! Partition tables, by the systems' own tools.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::host::command;

/// Sectors before the first partition: 2 MiB.
pub(super) const FIRST: u64 = 4096;

/// What sfdisk reads for a GPT disk with one partition of Linux's.
pub(crate) fn one_linux(mib: u64) -> String {
    format!(
        "label: gpt\nstart={FIRST}, size={}, type=linux\n",
        mib << 11
    )
}

/// What a partition holds, and its MiB.
pub(super) type Part<'a> = (&'a Path, u64);

/// A disk with one partition.
pub(crate) fn assemble(disk: &Path, part: &Path, mib: u64, table: &str) -> Result<()> {
    assemble_all(disk, &[(part, mib)], table)
}

/// A disk with these partitions, one behind the other.
pub(super) fn assemble_all(disk: &Path, parts: &[Part<'_>], table: &str) -> Result<()> {
    let mut sfdisk = Command::new("sfdisk");
    partitioned(disk, parts, sfdisk.arg("--quiet").arg(disk), table)
}

/// The same with sectors of 4096 bytes, of which sfdisk knows nothing.
pub(super) fn assemble_large(disk: &Path, part: &Path, mib: u64) -> Result<()> {
    let first = FIRST >> 3;
    let mut fdisk = Command::new("fdisk");
    fdisk.args(["--sector-size", "4096"]).arg(disk);
    // A GPT; its first partition, from this sector, as long as the part.
    let keys = format!("g\nn\n1\n{first}\n{}\nw\n", first + (mib << 8) - 1);
    partitioned(disk, &[(part, mib)], &mut fdisk, &keys)
}

/// Makes the disk, has a program partition it, and puts the parts in.
fn partitioned(disk: &Path, parts: &[Part<'_>], program: &mut Command, input: &str) -> Result<()> {
    let mut start = FIRST >> 11;
    let file = fs::File::create(disk)?;
    let all: u64 = parts.iter().map(|(_, mib)| mib).sum();
    file.set_len((start + all + 1) << 20)?;
    command::run_with(program, input.as_bytes())?;
    for (part, mib) in parts {
        let mut dd = Command::new("dd");
        dd.arg(format!("if={}", part.display()));
        dd.arg(format!("of={}", disk.display()));
        dd.arg(format!("seek={start}"));
        dd.args(["bs=1M", "conv=notrunc,sparse", "status=none"]);
        command::run(&mut dd)?;
        start += mib;
    }
    Ok(())
}
