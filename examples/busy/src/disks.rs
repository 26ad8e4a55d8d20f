//! The busy guest's block devices: connected while it works, and closed for
//! the hand-off so that the next kernel finds them at their beginning.
//!
//! Memory shared with others: the store's ring, each device's ring and the
//! page that is read into, as `kexen_guest::block` says.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use kexen_guest::{
    block::{Block, Io, Memory, Page},
    references::References,
    shared_info::Place,
    xenbus::{self, Device},
    xenstore::{Store, if_present},
};
use kexen_handoff::{
    Ledger,
    ledger::{Claim, Holder, Kind},
};
use kexen_platform::{Xen, wait::Patience};

use crate::text;

/// How long a backend may take for anything, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;
const CLASS: &str = "vbd";
/// The token of the watch on a node.
const NODE: &str = "await";

/// Small requests, in a ring of as many pages.
const fn memory(ring: &[Page]) -> Memory<'_> {
    Memory { ring, lists: &[] }
}

/// One of them.
#[derive(Debug)]
struct Disk {
    number: u32,
    block: Block,
    ring: Page,
    page: Page,
    /// The first page of the device, as it was read first.
    first: u64,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Disks {
    m: &'static Xen,
    place: Place,
    store: Store,
    disks: Vec<Disk>,
}

impl Disks {
    /// None yet. The store's ring is at this address, with this port.
    pub(crate) fn new(m: &'static Xen, place: Place, (page, port): (u64, u32)) -> Self {
        Self {
            m,
            place,
            store: Store::new(page, port),
            disks: Vec::new(),
        }
    }

    /// Waits for a node of the store.
    pub(crate) fn await_node(&mut self, path: &str) -> Result<(), String> {
        let mut wait = Patience::new(self.m, self.place, PATIENCE);
        let mut s = self.store.on(self.m, &mut wait);
        s.watch(path, NODE).map_err(text)?;
        while if_present(s.read(path)).map_err(text)?.is_none() {
            s.wait_event(NODE).map_err(text)?;
        }
        s.unwatch(path, NODE).map_err(text)
    }

    /// Connects every block device that there is. `pages` gives one page after
    /// the other.
    pub(crate) fn connect(
        &mut self,
        references: &mut References,
        pages: &mut dyn FnMut() -> Result<Page, String>,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let mut wait = Patience::new(self.m, self.place, PATIENCE);
        let numbers = {
            let mut s = self.store.on(self.m, &mut wait);
            xenbus::numbers(&mut s, CLASS).map_err(text)?
        };
        for number in numbers {
            let mut s = self.store.on(self.m, &mut wait);
            let device = Device::open(&mut s, CLASS, number).map_err(text)?;
            let backend = device.backend_id();
            let ring = pages()?;
            let block = Block::connect(&mut s, references, device, memory(&[ring]))
                .map_err(|failed| text(&failed.error))?;
            ledger.enter(Claim::of(
                Kind::Device {
                    class: CLASS,
                    number,
                },
                Holder::Domain(backend),
            ));
            self.disks.push(Disk {
                number,
                block,
                ring,
                page: pages()?,
                first: 0,
            });
        }
        for n in 0..self.disks.len() {
            self.disks[n].first = self.read(references, n)?;
        }
        Ok(())
    }

    /// Reads the first page of a disk; a sum over it.
    fn read(&mut self, references: &mut References, n: usize) -> Result<u64, String> {
        let m = self.m;
        let mut wait = Patience::new(m, self.place, PATIENCE);
        let disk = &mut self.disks[n];
        let mut io = Io {
            m,
            wait: &mut wait,
            references,
        };
        disk.block.read(&mut io, 0, 8, &[disk.page]).map_err(text)?;
        let mut bytes = [0; 4096];
        kexen_guest::Machine::read(m, disk.page.address, &mut bytes).map_err(text)?;
        let words = bytes.as_chunks::<8>().0.iter();
        Ok(words.fold(1, |sum: u64, word| {
            sum.rotate_left(7) ^ u64::from_le_bytes(*word)
        }))
    }

    /// Reads every disk once more; it must be as it was.
    pub(crate) fn work(&mut self, references: &mut References) -> Result<usize, String> {
        for n in 0..self.disks.len() {
            let (number, first) = (self.disks[n].number, self.disks[n].first);
            if self.read(references, n)? != first {
                return Err(format!("{CLASS}/{number} reads otherwise than before"));
            }
        }
        Ok(self.disks.len())
    }

    /// Closes all of them and leaves the store; what does not close is a
    /// blocker, with its holder.
    pub(crate) fn close(
        &mut self,
        references: &mut References,
        ledger: &mut Ledger,
    ) -> Result<(), Vec<String>> {
        let mut blockers = Vec::new();
        for disk in &mut self.disks {
            let kind = Kind::Device {
                class: CLASS,
                number: disk.number,
            };
            if !ledger.claims().iter().any(|claim| claim.kind == kind) {
                continue;
            }
            let mut wait = Patience::new(self.m, self.place, PATIENCE);
            let mut s = self.store.on(self.m, &mut wait);
            let closing = disk.block.close(&mut s, references);
            if let Err(error) = &closing.outcome {
                blockers.push(error.to_string());
            }
            for held in &closing.held {
                blockers.push(format!(
                    "{CLASS}/{}: domain {} keeps grant {}, page {:#x}",
                    disk.number,
                    disk.block.device().backend_id(),
                    held.reference,
                    held.page.number
                ));
            }
            if closing.outcome.is_ok() && closing.held.is_empty() {
                ledger.strike(kind);
            }
        }
        if blockers.is_empty() {
            let mut wait = Patience::new(self.m, self.place, PATIENCE);
            let left = self.store.on(self.m, &mut wait).finish();
            if let Err(error) = left {
                blockers.push(text(error));
            }
        }
        if blockers.is_empty() {
            Ok(())
        } else {
            Err(blockers)
        }
    }

    /// Connects again what was closed for a hand-off that did not happen.
    pub(crate) fn reopen(
        &mut self,
        references: &mut References,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        for disk in &mut self.disks {
            let kind = Kind::Device {
                class: CLASS,
                number: disk.number,
            };
            if ledger.claims().iter().any(|claim| claim.kind == kind) {
                continue;
            }
            let mut wait = Patience::new(self.m, self.place, PATIENCE);
            let mut s = self.store.on(self.m, &mut wait);
            let device = Device::open(&mut s, CLASS, disk.number).map_err(text)?;
            let holder = Holder::Domain(device.backend_id());
            disk.block = Block::connect(&mut s, references, device, memory(&[disk.ring]))
                .map_err(|failed| text(&failed.error))?;
            ledger.enter(Claim::of(kind, holder));
        }
        Ok(())
    }
}
