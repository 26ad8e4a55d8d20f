//! A part of a disk as a disk.

use alloc::{rc::Rc, string::String};

use super::{BlockSource, ReadError, checked_end};

/// A window of another source: a partition.
#[derive(Clone, Debug)]
pub struct Partition {
    disk: Rc<dyn BlockSource>,
    name: String,
    start: u64,
    bytes: u64,
}

impl Partition {
    /// The `bytes` bytes of `disk` from `start`; nothing if the disk ends
    /// before that.
    #[must_use]
    pub fn new(disk: Rc<dyn BlockSource>, name: String, start: u64, bytes: u64) -> Option<Self> {
        start
            .checked_add(bytes)
            .filter(|end| *end <= disk.bytes())?;
        Some(Self {
            disk,
            name,
            start,
            bytes,
        })
    }
}

impl BlockSource for Partition {
    fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn sector(&self) -> u32 {
        self.disk.sector()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        checked_end(self, offset, into.len())?;
        // The sum was checked when this was made.
        self.disk.read_at(self.start.saturating_add(offset), into)
    }
}
