//! The busy guest's block devices: read while it works, and closed for the
//! hand-off so that the next kernel finds them at their beginning.

use alloc::{format, string::String, vec::Vec};

use kexen_disk::BlockSource as _;
use kexen_handoff::Ledger;
use kexen_platform::{Xen, disks};

use crate::text;

/// All of them, and what each began with.
#[derive(Debug)]
pub(crate) struct Disks {
    all: disks::Disks<Xen>,
    first: Vec<u64>,
}

/// A sum over the first page of a disk.
fn sum(disk: &disks::Disk<Xen>) -> Result<u64, String> {
    let mut bytes = [0; 4096];
    disk.read_at(0, &mut bytes).map_err(text)?;
    let words = bytes.as_chunks::<8>().0.iter();
    Ok(words.fold(1, |sum: u64, word| {
        sum.rotate_left(7) ^ u64::from_le_bytes(*word)
    }))
}

impl Disks {
    /// These, which have to be all there are.
    pub(crate) fn new(all: disks::Disks<Xen>) -> Result<Self, String> {
        if let Some(problem) = all.problems().first() {
            return Err(problem.clone());
        }
        let first = all.all().iter().map(|disk| sum(disk));
        let first = first.collect::<Result<_, _>>()?;
        Ok(Self { all, first })
    }

    /// Reads every disk once more; it must be as it was.
    pub(crate) fn work(&self) -> Result<usize, String> {
        for (disk, first) in self.all.all().iter().zip(&self.first) {
            if sum(disk)? != *first {
                return Err(format!("{} reads otherwise than before", disk.name()));
            }
        }
        Ok(self.first.len())
    }

    /// Closes all of them; what does not close is a blocker.
    pub(crate) fn close(&mut self, ledger: &mut Ledger) -> Result<(), Vec<String>> {
        self.all.close(ledger)
    }

    /// Connects them again, as they were.
    pub(crate) fn reopen(&mut self, ledger: &mut Ledger) -> Result<(), String> {
        self.all.reopen(ledger)
    }
}
