//! A disk that asks for more memory than there is to read it.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::host::command;

/// Makes a disk of 16 partitions with an ext4 each, of as many groups of blocks
/// as are read, and of nothing else: the file is a hole but for superblocks.
pub(crate) fn make(disk: &Path) -> Result<()> {
    /// Sectors before the first partition.
    const FIRST: u64 = 4096;
    const GROUPS: u32 = 1 << 18;
    const BLOCKS: u32 = 8 * GROUPS;
    /// Sectors of a partition; blocks are of 1 KiB.
    const SIZE: u64 = 2 * BLOCKS as u64;
    let mut superblock = [0; 1024];
    // Fields as `struct ext4_super_block` has them.
    for (at, field) in [
        (0x0, 8 * GROUPS),
        (0x4, BLOCKS),
        (0x14, 1),
        (0x20, BLOCKS / GROUPS),
        (0x24, BLOCKS / GROUPS),
        (0x28, 8),
        (0x38, 0xef53),
        (0x4c, 1),
        (0x54, 11),
        (0x58, 256),
        (0x60, 0x42),
    ] {
        let field: u32 = field;
        superblock[at..at + 4].copy_from_slice(&field.to_le_bytes());
    }
    let starts = (0..16).map(|number| FIRST + number * SIZE);
    let mut table = "label: gpt\n".to_owned();
    let mut file = fs::File::create(disk)?;
    for start in starts {
        table.push_str(&format!("start={start}, size={SIZE}, type=linux\n"));
        file.seek(SeekFrom::Start((start << 9) + 1024))?;
        file.write_all(&superblock)?;
    }
    file.set_len((2 * FIRST + 16 * SIZE) << 9)?;
    let mut sfdisk = Command::new("sfdisk");
    command::run_with(sfdisk.arg("--quiet").arg(disk), table.as_bytes())?;
    Ok(())
}
