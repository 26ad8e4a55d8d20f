//! A block device that is connected, as a source of bytes.
//!
//! A read goes straight into the caller's memory where that is in the window
//! (see [`super::Disks::aim`]) and on a page's boundary; otherwise through pages
//! of this module's, and is copied. A device that does not answer, or answers
//! what cannot be, is not asked again, and pages that its backend may still write
//! are not used for others' reads.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};
use core::cell::RefCell;

use kexen_abi::PAGE_SIZE;
use kexen_disk::{BlockSource, ReadError, source::checked_end};
use kexen_guest::{
    block::{self, Block, Figures, Io, Page, Problem},
    references::References,
    shared_info::Place,
    xenstore::Store,
};
use kexen_handoff::{Ledger, ledger::Claim};

use super::{PATIENCE, SECTOR, claim, text};
use crate::{
    native::Native,
    wait::{Patience, Waited},
};

/// What all devices share.
#[derive(Debug)]
pub(super) struct Shared<M: 'static> {
    pub(super) m: &'static M,
    pub(super) place: Place,
    pub(super) store: Store,
    pub(super) references: Rc<RefCell<References>>,
    pub(super) bounce: Vec<Page>,
    pub(super) window: Option<Window>,
    pub(super) waits: Waits,
}

/// What the guest has waited for, on the way from its disks to the next kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// For backends to connect, and the store meanwhile.
    pub connect: Waited,
    /// For answers to requests.
    pub read: Waited,
    /// For backends to close, and the store meanwhile.
    pub close: Waited,
}

impl<M: Native> Shared<M> {
    pub(super) fn patience(&self) -> Patience<M> {
        Patience::new(self.m, self.place, PATIENCE)
    }
}

/// Memory that is read into directly.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) at: u64,
    pub(super) pages: Vec<Page>,
}

impl Window {
    /// The pages of this memory, if all of it is here and begins on one.
    fn pages(&self, at: u64, len: u64) -> Option<&[Page]> {
        let from = at.checked_sub(self.at)?;
        if !from.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        let first = usize::try_from(from / PAGE_SIZE).ok()?;
        let count = usize::try_from(len.div_ceil(PAGE_SIZE)).ok()?;
        self.pages.get(first..first.checked_add(count)?)
    }
}

/// A connected block device.
#[derive(Debug)]
pub struct Disk<M: 'static> {
    pub(super) shared: Rc<RefCell<Shared<M>>>,
    pub(super) block: RefCell<Block>,
    /// Why it is not asked any more.
    pub(super) lost: RefCell<Option<String>>,
    pub(super) name: String,
    pub(super) partition: Option<u32>,
    pub(super) number: u32,
    pub(super) bytes: u64,
    pub(super) sector: u32,
    pub(super) cdrom: bool,
    /// What it is connected in.
    pub(super) ring: Vec<Page>,
    pub(super) lists: Vec<Page>,
}

impl<M: Native> Disk<M> {
    /// The partition that it is by itself, without a table.
    #[must_use]
    pub const fn partition(&self) -> Option<u32> {
        self.partition
    }

    /// Whether it is a CD.
    #[must_use]
    pub const fn cdrom(&self) -> bool {
        self.cdrom
    }

    /// What has been asked of it so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.block.borrow().figures()
    }

    /// What its backend has of this guest while it is connected.
    pub(super) fn claim(&self) -> Claim {
        claim(self.block.borrow().device())
    }

    pub(super) fn is_open(&self, ledger: &Ledger) -> bool {
        let kind = self.claim().kind;
        ledger.claims().iter().any(|one| one.kind == kind)
    }

    /// Reads whole sectors into pages.
    fn fetch(
        &self,
        shared: &mut Shared<M>,
        at: u64,
        len: u64,
        pages: &[Page],
    ) -> Result<(), String> {
        let before = Waited::so_far();
        let result = self.fetch_now(shared, at, len, pages);
        shared.waits.read.add_since(before);
        result
    }

    fn fetch_now(
        &self,
        shared: &mut Shared<M>,
        at: u64,
        len: u64,
        pages: &[Page],
    ) -> Result<(), String> {
        let mut wait = shared.patience();
        let mut io = Io {
            m: shared.m,
            wait: &mut wait,
            references: &mut shared.references.borrow_mut(),
        };
        let sectors = u32::try_from(len / SECTOR).map_err(text)?;
        let mut block = self.block.borrow_mut();
        let Err(error) = block.read(&mut io, at / SECTOR, sectors, pages) else {
            return Ok(());
        };
        if matches!(error.problem, Problem::Unanswered(_) | Problem::Lie(_)) {
            *self.lost.borrow_mut() = Some(error.to_string());
            let reach = |page: &Page| block.granted().any(|one| one.page.number == page.number);
            shared.bounce.retain(|page| !reach(page));
        }
        Err(error.to_string())
    }

    /// Reads a piece of at most so many bytes as there are pages to go through:
    /// how much of it.
    fn piece(&self, shared: &mut Shared<M>, at: u64, into: &mut [u8]) -> Result<usize, String> {
        let unit = u64::from(self.sector);
        let want = u64::try_from(into.len()).map_err(text)?;
        let address = u64::try_from(into.as_mut_ptr().expose_provenance()).map_err(text)?;
        let whole = want - want % unit;
        if at.is_multiple_of(unit) && whole > 0 {
            let most = whole.min(u64::from(u32::MAX / 2) & !(PAGE_SIZE - 1));
            let window = shared.window.take();
            let pages = window.as_ref().and_then(|w| w.pages(address, most));
            let fetched = pages.map(|pages| self.fetch(shared, at, most, pages));
            shared.window = window;
            if let Some(fetched) = fetched {
                fetched?;
                return usize::try_from(most).map_err(text);
            }
        }
        let start = at - at % unit;
        let room = u64::try_from(shared.bounce.len()).map_err(text)? * PAGE_SIZE;
        if room == 0 {
            return Err(String::from("backends keep all pages for reads"));
        }
        let end = at.saturating_add(want).min(start + room);
        let len = (end - start).next_multiple_of(unit);
        let count = usize::try_from(len.div_ceil(PAGE_SIZE)).map_err(text)?;
        let pages: Vec<Page> = shared.bounce.iter().copied().take(count).collect();
        self.fetch(shared, start, len, &pages)?;
        let mut done = 0;
        let piece = usize::try_from(end - at).map_err(text)?;
        for (n, page) in (0..).zip(&pages) {
            // The part of this page that was asked for.
            let from = (at - start).saturating_sub(n * PAGE_SIZE).min(PAGE_SIZE);
            let to = (end - start).saturating_sub(n * PAGE_SIZE).min(PAGE_SIZE);
            let len = usize::try_from(to - from).map_err(text)?;
            let part = into.get_mut(done..done + len).unwrap_or_default();
            shared.m.read(page.address + from, part).map_err(text)?;
            done += len;
        }
        Ok(piece)
    }
}

impl<M: Native> BlockSource for Disk<M> {
    fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn sector(&self) -> u32 {
        self.sector
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let fail = |offset, why| ReadError {
            name: self.name.clone(),
            offset,
            why,
        };
        checked_end(self, offset, into.len())?;
        if let Some(why) = &*self.lost.borrow() {
            return Err(fail(offset, format!("given up: {why}")));
        }
        let mut shared = self.shared.borrow_mut();
        let (mut at, mut left) = (offset, into);
        while !left.is_empty() {
            let done = self.piece(&mut shared, at, left);
            let done = done.map_err(|why| fail(at, why))?;
            at += u64::try_from(done).unwrap_or(0);
            left = left.get_mut(done..).unwrap_or_default();
        }
        Ok(())
    }
}

/// What a device of this number is called, and the partition that it is.
pub(super) fn name(number: u32) -> (String, Option<u32>) {
    match block::name(number) {
        (disk, Some(partition)) => (format!("{disk}{partition}"), Some(partition)),
        whole => whole,
    }
}
