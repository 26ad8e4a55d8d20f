//! Where bytes come from: disks and their parts.
//!
//! A disk's driver is a [`BlockSource`]. A [`Cache`] goes over the whole disk,
//! [`Partition`]s over the cache, file systems over those: what two file
//! systems read is kept once, and in one budget.

use alloc::string::String;

mod cache;
mod memory;
mod partition;

pub use cache::{Cache, CacheOptions, Room};
pub use memory::MemoryDisk;
pub use partition::Partition;

/// A disk, or a part of one, that can be read.
///
/// The methods take `&self`: a disk is shared by the file systems on it. One
/// that has to change for a read (a ring, a cache) keeps that inside.
pub trait BlockSource: core::fmt::Debug {
    /// How it is called in errors and menus (`xvda1`).
    fn name(&self) -> &str;

    /// How long it is, in bytes.
    fn bytes(&self) -> u64;

    /// Bytes of a logical sector: 512 to 4096, a power of two.
    fn sector(&self) -> u32;

    /// Reads as many bytes as `into` has, from any offset in bytes.
    ///
    /// # Errors
    /// If any of them is beyond the end or cannot be read; what is in `into`
    /// then means nothing.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError>;
}

/// Bytes that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// From which disk or partition.
    pub name: String,
    /// From where, in bytes.
    pub offset: u64,
    /// Why not, in words.
    pub why: String,
}

impl core::fmt::Display for ReadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: at byte {:#x}: {}", self.name, self.offset, self.why)
    }
}

impl core::error::Error for ReadError {}

/// The end of a read of `len` bytes from `offset`, both in bytes.
///
/// # Errors
/// If that is beyond the last byte of `source`.
pub fn checked_end(source: &dyn BlockSource, offset: u64, len: usize) -> Result<u64, ReadError> {
    u64::try_from(len)
        .ok()
        .and_then(|len| offset.checked_add(len))
        .filter(|end| *end <= source.bytes())
        .ok_or_else(|| ReadError {
            name: source.name().into(),
            offset,
            why: alloc::format!("{len} bytes end beyond the last of {}", source.bytes()),
        })
}
