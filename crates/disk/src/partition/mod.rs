//! Partition tables: GPT, MBR, or none.
//!
//! Specifications: UEFI 2.10, chapter 5, for GPT; for MBR, whose extended
//! partitions were never specified, what Linux and `fdisk` do. Numbers, names
//! and PARTUUIDs are those that Linux gives, as `root=PARTUUID=` and
//! `/dev/xvda1` on a kernel's command line mean them.
//!
//! Order of steps: the first sector is read; one that is no partition table
//! ends it; one with a partition of type `EE` stands before a GPT (`gpt`);
//! any other is an MBR (`mbr`).

use alloc::{format, rc::Rc, string::String, vec::Vec};

use crate::{BlockSource, Partition, ReadError};

mod gpt;
mod mbr;

pub use gpt::MOST_ENTRIES;
pub use mbr::MOST_LOGICAL;

/// Which kind of table a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// None: a file system has the whole disk, or nothing does.
    None,
    /// A master boot record, with extended partitions or not.
    Mbr,
    /// A GUID partition table.
    Gpt,
}

/// What a partition is for, as its table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionType {
    /// An MBR's type, one byte.
    Mbr(u8),
    /// A GPT's type: a GUID in lower case.
    Guid(String),
}

/// A partition of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As Linux calls it: `xvda1`, `nvme0n1p1`.
    pub name: String,
    /// Its number, from 1; logical ones of an MBR from 5.
    pub number: u32,
    /// Where it begins, in bytes.
    pub start: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// What it is for.
    pub kind: PartitionType,
    /// Its PARTUUID as Linux prints it: a GPT's GUID in lower case, an MBR's
    /// `1234abcd-01`.
    pub part_uuid: String,
    /// Its name in a GPT (PARTLABEL); empty if it has none.
    pub label: String,
    /// A GPT's attributes; of an MBR, 0x80 if it is marked active.
    pub flags: u64,
}

impl Entry {
    /// The partition as a source.
    #[must_use]
    pub fn open(&self, disk: &Rc<dyn BlockSource>) -> Option<Partition> {
        Partition::new(disk.clone(), self.name.clone(), self.start, self.bytes)
    }
}

/// What the table of a disk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which kind it is.
    pub scheme: Scheme,
    /// Partitions with something in them, in the order of the table; extended
    /// partitions of an MBR, which only hold others, are left out.
    pub partitions: Vec<Entry>,
    /// Whether the whole disk can hold a file system: there is no table, or
    /// there is an ISO 9660 file system around it (isohybrid).
    pub whole: bool,
    /// What was found wrong and worked around: a damaged primary GPT.
    pub notes: Vec<String>,
}

/// Why there is no table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionError {
    /// The disk cannot be read.
    Read(ReadError),
    /// Neither of the two headers of a GPT is good.
    Gpt {
        /// On which disk.
        disk: String,
        /// What is wrong with the first.
        primary: String,
        /// What is wrong with the other.
        backup: String,
    },
    /// Sectors that are none: 512 to 4096 bytes, a power of two.
    Sector {
        /// Of which disk.
        disk: String,
        /// How many bytes.
        bytes: u32,
    },
}

impl core::fmt::Display for PartitionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Gpt {
                disk,
                primary,
                backup,
            } => write!(
                f,
                "{disk}: damaged GPT: primary: {primary}; backup: {backup}; \
                 `gdisk` can repair one"
            ),
            Self::Sector { disk, bytes } => write!(
                f,
                "{disk}: sectors of {bytes} bytes, not 512, 1024, 2048 or 4096"
            ),
        }
    }
}

impl core::error::Error for PartitionError {}

impl From<ReadError> for PartitionError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// A partition's name: Linux puts a `p` before the number if the disk's name
/// ends with a digit.
fn name(disk: &str, number: u32) -> String {
    let p = if disk.ends_with(|c: char| c.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    format!("{disk}{p}{number}")
}

/// Reads the partition table of a disk.
///
/// # Errors
/// If the disk cannot be read, or both copies of a GPT are damaged.
pub fn read(disk: &Rc<dyn BlockSource>) -> Result<Table, PartitionError> {
    let sector = disk.sector();
    if !(512..=4096).contains(&sector) || !sector.is_power_of_two() {
        return Err(PartitionError::Sector {
            disk: disk.name().into(),
            bytes: sector,
        });
    }
    let mut table = Table {
        scheme: Scheme::None,
        partitions: Vec::new(),
        whole: true,
        notes: Vec::new(),
    };
    let mut first = [0; 512];
    if disk.bytes() < u64::from(sector) {
        return Ok(table);
    }
    disk.read_at(0, &mut first)?;
    let Some(record) = mbr::Record::parse(&first) else {
        return Ok(table);
    };
    if record.is_protective() {
        table.scheme = Scheme::Gpt;
        gpt::read(&**disk, &mut table)?;
    } else {
        table.scheme = Scheme::Mbr;
        mbr::read(&**disk, &record, &mut table)?;
    }
    table.whole = has_iso9660(&**disk)?;
    Ok(table)
}

/// Whether the whole disk begins as ISO 9660 does: the first volume descriptor
/// is at 32 KiB whatever the sectors are.
fn has_iso9660(disk: &dyn BlockSource) -> Result<bool, ReadError> {
    const AT: u64 = 32 << 10;
    let mut magic = [0; 6];
    if disk.bytes() < AT.saturating_add(2048) {
        return Ok(false);
    }
    disk.read_at(AT, &mut magic)?;
    Ok(magic.get(1..) == Some(b"CD001"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_as_linux_names_them() {
        assert_eq!(name("xvda", 1), "xvda1");
        assert_eq!(name("nvme0n1", 12), "nvme0n1p12");
    }
}
