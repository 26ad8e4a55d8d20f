//! A disk in memory, for tests and for images that are loaded already.

use alloc::{string::String, vec::Vec};

use super::{BlockSource, ReadError, checked_end};

/// Bytes in memory as a disk.
#[derive(Clone)]
pub struct MemoryDisk {
    name: String,
    sector: u32,
    bytes: Vec<u8>,
}

impl MemoryDisk {
    /// A disk of these bytes with sectors of 512.
    #[must_use]
    pub fn new(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            sector: 512,
            bytes,
        }
    }

    /// The same with sectors of another size.
    #[must_use]
    pub fn with_sector(self, sector: u32) -> Self {
        Self { sector, ..self }
    }
}

impl core::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MemoryDisk")
            .field("name", &self.name)
            .field("sector", &self.sector)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

impl BlockSource for MemoryDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }

    fn sector(&self) -> u32 {
        self.sector
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let end = checked_end(self, offset, into.len())?;
        // Both are at most `bytes.len()`.
        let range = usize::try_from(offset).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
        into.copy_from_slice(self.bytes.get(range).unwrap_or_default());
        Ok(())
    }
}
