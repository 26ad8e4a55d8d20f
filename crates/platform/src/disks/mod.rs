//! The guest's block devices as sources of bytes.
//!
//! Order of steps: shared info (events), the grant table, the store; all
//! devices connected side by side, one that cannot be is named and left; reads;
//! all closed for the hand-off, side by side too.
//!
//! Memory shared with others: rings, lists and the pages of requests, with the
//! backend of each device, as `kexen_guest::block` says; shared info with Xen.

use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::cell::RefCell;

use kexen_guest::{
    Extent,
    block::{self, Block, Connecting, Granted, Memory, NotConnected, Page},
    grants::Grants,
    references::References,
    shared_info::Place,
    xenbus::{self, Device},
    xenstore::{Session, Store, if_present},
};
use kexen_handoff::{
    Ledger,
    ledger::{Claim, Holder, Kind},
};

mod disk;

pub use self::disk::{Disk, Waits};
use self::disk::{Shared, Window, name};
use crate::{
    ground::Ground,
    native::Native,
    wait::{Patience, Waited},
};

/// How long a backend may take to answer, and all of them together to connect or
/// to close, in nanoseconds.
const PATIENCE: u64 = 20_000_000_000;
/// After how long it is said which backends are waited for, in nanoseconds.
const SOON: u64 = 2_000_000_000;
/// How many of these connecting and closing may take at most, as long as one of
/// the devices gets on.
const TIMES: u64 = 16;
/// The class of block devices.
const CLASS: &str = "vbd";
/// Devices that are looked at: each costs memory.
const MOST: usize = 16;
/// Pages of a ring, and of lists of large requests, for each device.
const RING: u64 = 4;
const LISTS: u64 = 6;
/// Pages that reads go through, for all devices.
const BOUNCE: u64 = 256;
/// Bytes of a sector of the protocol.
const SECTOR: u64 = 512;

fn text(error: impl core::fmt::Display) -> String {
    format!("{error}")
}

/// What a backend has while a device is open.
fn claim(device: &Device) -> Claim {
    let kind = Kind::Device {
        class: CLASS,
        number: device.number(),
    };
    Claim::of(kind, Holder::Domain(device.backend_id()))
}

/// Enters grants, and a port, into the ledger as claims of their own, in place of
/// that on the device.
fn enter(ledger: &mut Ledger, device: &Device, held: &[Granted], port: Option<u32>) {
    ledger.strike(claim(device).kind);
    let grants = held.iter().map(|held| Kind::Grant {
        reference: held.reference,
        page: held.page.number,
    });
    for kind in grants.chain(port.map(|port| Kind::EventChannel { port })) {
        ledger.enter(Claim::of(kind, Holder::Domain(device.backend_id())));
    }
}

/// A device that is to be connected, and the memory for it.
struct Found {
    device: Device,
    ring: Vec<Page>,
    lists: Vec<Page>,
}

impl Found {
    fn open<G: Ground>(
        guest: &mut G,
        s: &mut Session<'_, G::M>,
        number: u32,
    ) -> Result<Self, String> {
        let (ring, lists) = (guest.take(RING)?, guest.take(LISTS)?);
        let device = Device::open(s, CLASS, number).map_err(text)?;
        Ok(Self {
            device,
            ring,
            lists,
        })
    }

    fn memory(&self) -> Memory<'_> {
        Memory {
            ring: &self.ring,
            lists: &self.lists,
        }
    }

    fn connected<M: Native>(self, shared: &Rc<RefCell<Shared<M>>>, block: Block) -> Disk<M> {
        let number = self.device.number();
        let (name, partition) = name(number);
        let geometry = *block.geometry();
        Disk {
            shared: Rc::clone(shared),
            name,
            partition,
            number,
            bytes: geometry.sectors.saturating_mul(SECTOR),
            sector: geometry.sector_size,
            cdrom: geometry.cdrom,
            ring: self.ring,
            lists: self.lists,
            block: RefCell::new(block),
            lost: RefCell::new(None),
        }
    }
}

/// All block devices of this guest.
#[derive(Debug)]
pub struct Disks<M: 'static> {
    shared: Rc<RefCell<Shared<M>>>,
    all: Vec<Rc<Disk<M>>>,
    /// Devices that could not be connected, and why.
    problems: Vec<String>,
    /// Those of them whose backends have something of the ring: they may only
    /// have come too late, and let go when they are told to.
    late: Vec<NotConnected>,
    /// Whether the store was left, with nothing asked of it since.
    left: bool,
}

impl<M: Native> Disks<M> {
    /// Connects all there are. If that lasts, `waiting` is told once for whose
    /// backends: `xvdb, xvdc`.
    ///
    /// # Errors
    /// If there is no memory, or no store; what is wrong with one device is in
    /// [`Self::problems`].
    pub fn connect<G: Ground<M = M>>(
        guest: &mut G,
        waiting: &mut dyn FnMut(&str),
    ) -> Result<Self, String> {
        let words = guest.take(1)?.first().map_or(0, |page| page.address);
        let place = guest.place(words, 1)?;
        let references = Rc::new(RefCell::new(References::new(guest.grants()?)));
        let mut disks = Self::new(guest, place, references)?;
        disks.connect_all(guest, waiting)?;
        Ok(disks)
    }

    /// None yet, for a kernel that has shared info and a grant table already.
    ///
    /// # Errors
    /// If there is no memory, or no store.
    pub fn new<G: Ground<M = M>>(
        guest: &mut G,
        place: Place,
        references: Rc<RefCell<References>>,
    ) -> Result<Self, String> {
        let (page, port) = guest.store()?;
        let shared = Shared {
            m: guest.machine(),
            place,
            store: Store::new(page, port),
            references,
            bounce: guest.take(BOUNCE)?,
            window: None,
            waits: Waits::default(),
        };
        Ok(Self {
            shared: Rc::new(RefCell::new(shared)),
            all: Vec::new(),
            problems: Vec::new(),
            late: Vec::new(),
            left: false,
        })
    }

    /// Waits for a node of the store.
    ///
    /// # Errors
    /// The store's; among them that it did not come in time.
    pub fn await_node(&self, path: &str) -> Result<(), String> {
        const TOKEN: &str = "await";
        let shared = &mut *self.shared.borrow_mut();
        let mut wait = shared.patience();
        let mut s = shared.store.on(shared.m, &mut wait);
        s.watch(path, TOKEN).map_err(text)?;
        while if_present(s.read(path)).map_err(text)?.is_none() {
            s.wait_event(TOKEN).map_err(text)?;
        }
        s.unwatch(path, TOKEN).map_err(text)
    }

    /// Connects all devices that there are, side by side: one deadline is for
    /// all, put off as long as one of them gets on, and they are in the order of
    /// their numbers. If it lasts, `waiting` is told once for whose backends:
    /// `xvdb, xvdc`.
    ///
    /// # Errors
    /// The store's; what is wrong with one device is in [`Self::problems`].
    pub fn connect_all<G: Ground<M = M>>(
        &mut self,
        guest: &mut G,
        waiting: &mut dyn FnMut(&str),
    ) -> Result<(), String> {
        let before = Waited::so_far();
        let result = self.connect_these(guest, waiting);
        self.shared.borrow_mut().waits.connect.add_since(before);
        result
    }

    fn connect_these<G: Ground<M = M>>(
        &mut self,
        guest: &mut G,
        waiting: &mut dyn FnMut(&str),
    ) -> Result<(), String> {
        let mut problems = Vec::new();
        self.left = false;
        let (found, outcomes) = {
            let shared = &mut *self.shared.borrow_mut();
            // Where a host has just started, and all its guests with it, backends
            // are slow: whoever gets on has time anew.
            let mut wait = Patience::anew(shared.m, shared.place, PATIENCE, TIMES);
            let mut s = shared.store.on(shared.m, &mut wait);
            let mut found = Vec::new();
            for (n, number) in xenbus::numbers(&mut s, CLASS)
                .map_err(text)?
                .into_iter()
                .enumerate()
            {
                let one = if n < MOST {
                    Found::open(guest, &mut s, number)
                } else {
                    Err(format!("device/{CLASS}/{number}: more than {MOST} devices"))
                };
                match one {
                    Ok(one) => found.push(one),
                    Err(problem) => problems.push((number, problem)),
                }
            }
            let devices = found.iter().map(|one| (one.device.clone(), one.memory()));
            let mut connecting = Connecting::new(devices);
            let references = &mut shared.references.borrow_mut();
            let soon = Patience::new(shared.m, shared.place, SOON);
            while connecting.step(&mut s, references) {
                if soon.is_over() {
                    let names = connecting.waits_for().map(|device| name(device.number()).0);
                    waiting(&names.collect::<Vec<_>>().join(", "));
                    break;
                }
            }
            let outcomes = connecting.finish(&mut s, references);
            (found, outcomes)
        };
        for (one, outcome) in found.into_iter().zip(outcomes) {
            match outcome {
                Ok(block) => {
                    let disk = Rc::new(one.connected(&self.shared, block));
                    guest.ledger().enter(disk.claim());
                    self.all.push(disk);
                }
                Err(failed) => {
                    problems.push((one.device.number(), text(&failed.error)));
                    self.keep(guest.ledger(), *failed);
                }
            }
        }
        problems.sort_by_key(|(number, _)| *number);
        let problems = problems.into_iter().map(|(_, problem)| problem);
        self.problems.extend(problems);
        Ok(())
    }

    /// What the backend of a device has that could not be connected is a claim on
    /// this guest.
    fn keep(&mut self, ledger: &mut Ledger, failed: NotConnected) {
        if failed.held.is_empty() {
            enter(ledger, &failed.device, &[], failed.port);
        } else {
            ledger.enter(claim(&failed.device));
            self.late.push(failed);
        }
    }

    /// Those that are connected.
    #[must_use]
    pub fn all(&self) -> &[Rc<Disk<M>>] {
        &self.all
    }

    /// What is wrong with the others.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The grant table that pages are granted by.
    #[must_use]
    pub fn grants(&self) -> Grants {
        self.shared.borrow().references.borrow().grants()
    }

    /// A wait of so many nanoseconds.
    #[must_use]
    pub fn patience(&self, nanoseconds: u64) -> Patience<M> {
        let shared = self.shared.borrow();
        Patience::new(shared.m, shared.place, nanoseconds)
    }

    /// Pages that backends have not let go.
    pub fn held(&self) -> impl Iterator<Item = Extent> {
        let granted = |disk: &Rc<Disk<M>>| disk.block.borrow().granted().collect::<Vec<_>>();
        let granted = self.all.iter().flat_map(granted);
        let late = self.late.iter().flat_map(|one| one.held.iter().copied());
        granted
            .chain(late)
            .map(|granted| Extent::new(granted.page.number, 1))
    }

    /// Has reads into the memory at `at`, whose pages are these in order, go
    /// there without a copy.
    pub fn aim(&self, at: u64, pages: Vec<Page>) {
        self.shared.borrow_mut().window = Some(Window { at, pages });
    }

    /// Closes all of them, side by side, and leaves the store; what does not close
    /// is a blocker, with its holder. What was done is not done again.
    ///
    /// # Errors
    /// The blockers.
    pub fn close(&mut self, ledger: &mut Ledger) -> Result<(), Vec<String>> {
        let before = Waited::so_far();
        let result = self.close_these(ledger);
        self.shared.borrow_mut().waits.close.add_since(before);
        result
    }

    /// What was waited for so far.
    #[must_use]
    pub fn waits(&self) -> Waits {
        self.shared.borrow().waits
    }

    fn close_these(&mut self, ledger: &mut Ledger) -> Result<(), Vec<String>> {
        let mut blockers = Vec::new();
        let shared = &mut *self.shared.borrow_mut();
        let open = self.all.iter().filter(|disk| disk.is_open(ledger));
        let open: Vec<&Rc<Disk<M>>> = open.collect();
        let mut wait = Patience::anew(shared.m, shared.place, PATIENCE, TIMES);
        let closings = {
            let mut s = shared.store.on(shared.m, &mut wait);
            let mut blocks: Vec<_> = open.iter().map(|disk| disk.block.borrow_mut()).collect();
            let mut blocks: Vec<&mut Block> = blocks.iter_mut().map(|block| &mut **block).collect();
            let references = &mut shared.references.borrow_mut();
            block::close_all(&mut s, references, &mut blocks, &mut self.late)
        };
        let devices = open.iter().map(|disk| disk.block.borrow().device().clone());
        let devices = devices.chain(self.late.iter().map(|one| one.device.clone()));
        for (device, closing) in devices.zip(&closings) {
            if let Err(error) = &closing.outcome {
                blockers.push(text(error));
            }
            for held in &closing.held {
                blockers.push(format!(
                    "{CLASS}/{}: domain {} keeps grant {}, page {:#x}",
                    device.number(),
                    device.backend_id(),
                    held.reference,
                    held.page.number
                ));
            }
            if closing.outcome.is_ok() && closing.held.is_empty() {
                ledger.strike(claim(&device).kind);
            }
        }
        self.late
            .retain(|one| !one.held.is_empty() || one.port.is_some());
        if blockers.is_empty() && !self.left {
            let mut wait = shared.patience();
            let left = shared.store.on(shared.m, &mut wait).finish();
            self.left = left.is_ok();
            blockers.extend(left.err().map(text));
        }
        if blockers.is_empty() {
            Ok(())
        } else {
            Err(blockers)
        }
    }

    /// Enters what backends have kept of these disks into the ledger, page by
    /// page, before they are forgotten.
    pub fn leave(&self, ledger: &mut Ledger) {
        for disk in &self.all {
            let block = disk.block.borrow();
            let granted: Vec<Granted> = block.granted().collect();
            enter(ledger, block.device(), &granted, block.port());
        }
        for one in &self.late {
            enter(ledger, &one.device, &one.held, one.port);
        }
    }

    /// Forgets those whose backends were too late, which are not told to let go
    /// then (a test alone).
    pub fn leave_late(&mut self, ledger: &mut Ledger) {
        for one in core::mem::take(&mut self.late) {
            enter(ledger, &one.device, &one.held, one.port);
        }
    }

    /// Connects again what was closed for a hand-off that did not happen, all
    /// of it side by side.
    ///
    /// # Errors
    /// The first device that is not there as before.
    pub fn reopen(&mut self, ledger: &mut Ledger) -> Result<(), String> {
        self.left = false;
        let closed = self.all.iter().filter(|disk| !disk.is_open(ledger));
        let closed: Vec<Rc<Disk<M>>> = closed.cloned().collect();
        let outcomes = {
            let shared = &mut *self.shared.borrow_mut();
            let mut wait = Patience::anew(shared.m, shared.place, PATIENCE, TIMES);
            let mut s = shared.store.on(shared.m, &mut wait);
            let open = |disk: &Rc<Disk<M>>| Device::open(&mut s, CLASS, disk.number).map_err(text);
            let devices = closed.iter().map(open);
            let devices = devices.collect::<Result<Vec<Device>, String>>()?;
            let memory = closed.iter().map(|disk| Memory {
                ring: &disk.ring,
                lists: &disk.lists,
            });
            let connecting = Connecting::new(devices.into_iter().zip(memory));
            connecting.finish(&mut s, &mut shared.references.borrow_mut())
        };
        let mut problem = Ok(());
        for (disk, outcome) in closed.iter().zip(outcomes) {
            match outcome {
                Ok(block) => {
                    *disk.block.borrow_mut() = block;
                    *disk.lost.borrow_mut() = None;
                    ledger.enter(disk.claim());
                }
                Err(failed) => {
                    problem = problem.and(Err(text(&failed.error)));
                    self.keep(ledger, *failed);
                }
            }
        }
        problem
    }
}
