//! A disk that is read as long as there is memory for what is on it.
//!
//! What the libraries for file systems keep of what they read is theirs to
//! decide, and where memory cannot be had, a kernel ends. Whatever they keep
//! they have read before: reads fail in time.

use alloc::rc::Rc;

use super::{BlockSource, ReadError};

/// Whether there is memory for what the next read leads to.
pub type Room = fn() -> bool;

/// A disk, read while there is room.
#[derive(Debug)]
pub struct Limited {
    source: Rc<dyn BlockSource>,
    has_room: Room,
}

impl Limited {
    /// Over a disk, or its cache.
    #[must_use]
    pub fn new(source: Rc<dyn BlockSource>, has_room: Room) -> Self {
        Self { source, has_room }
    }
}

impl BlockSource for Limited {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn bytes(&self) -> u64 {
        self.source.bytes()
    }

    fn sector(&self) -> u32 {
        self.source.sector()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        if (self.has_room)() {
            return self.source.read_at(offset, into);
        }
        Err(ReadError {
            name: self.name().into(),
            offset,
            why: "what is on it takes more memory than is set aside for reading disks; give the \
                  guest more memory, or fewer disks and partitions"
                .into(),
        })
    }
}
