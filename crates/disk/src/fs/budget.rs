//! How much a library may read for one operation.
//!
//! The libraries for ext4, XFS and btrfs check what they read, but some of their
//! walks end only after tens of thousands of blocks, and keep what they find.
//! A bound on the bytes that are read for an operation bounds its time and
//! memory too, whatever is on the disk.

use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

use super::Problem;
use crate::BlockSource;

/// Bytes of tables that may be read for one operation. A directory of 10000
/// names has less than one MiB of them, and so has a file of 64 GiB.
pub const MOST_TABLES: u64 = 16 << 20;

const TOO_MUCH: Problem = Problem::Limit {
    what: "bytes of tables for one operation",
    limit: MOST_TABLES,
};

/// A source with a budget, and the last thing that went wrong with it: the
/// libraries drop it from their errors.
#[derive(Debug)]
pub(super) struct Budget {
    source: Rc<dyn BlockSource>,
    left: Cell<u64>,
    error: RefCell<Option<Problem>>,
}

impl Budget {
    pub(super) fn new(source: Rc<dyn BlockSource>) -> Rc<Self> {
        Rc::new(Self {
            source,
            left: Cell::new(0),
            error: RefCell::new(None),
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.source.bytes()
    }

    /// Begins an operation that may read so many bytes beside tables.
    pub(super) fn begin(&self, data: u64) {
        self.left.set(MOST_TABLES.saturating_add(data));
        self.error.replace(None);
    }

    /// Why a read failed since the operation began.
    pub(super) fn failed(&self) -> Option<Problem> {
        self.error.take()
    }

    /// Has an operation fail.
    #[cfg(feature = "btrfs")]
    pub(super) fn refuse(&self, problem: Problem) -> Refused {
        self.error.replace(Some(problem));
        Refused
    }

    /// Checks how many bytes a library is going to go through for an operation,
    /// of which it may keep some and then not read them again: as many as it
    /// may read.
    #[cfg(feature = "ext4")]
    pub(super) fn check(bytes: u64, data: u64) -> Result<(), Problem> {
        if bytes <= MOST_TABLES.saturating_add(data) {
            return Ok(());
        }
        Err(TOO_MUCH)
    }

    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Refused> {
        // Even nothing costs something: it must not be read for ever.
        let cost = u64::try_from(into.len()).unwrap_or(u64::MAX).max(512);
        let problem = match self.left.get().checked_sub(cost) {
            None => TOO_MUCH,
            Some(left) => {
                self.left.set(left);
                match self.source.read_at(offset, into) {
                    Ok(()) => return Ok(()),
                    Err(error) => Problem::Read(error),
                }
            }
        };
        self.error.replace(Some(problem));
        Err(Refused)
    }
}

/// A read that failed: the [`Budget`] knows why.
#[derive(Debug)]
pub(super) struct Refused;
