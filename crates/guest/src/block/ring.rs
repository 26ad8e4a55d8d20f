//! The frontend's side of a ring of requests and responses.
//!
//! Shared with the backend: all of it. What the frontend has to rely on, how
//! far it has asked and read, it keeps for itself. Order of steps: entry,
//! then `req_prod` (release); `rsp_prod` (acquire), then entry. Before it
//! waits, it says in `rsp_event` which response it wants to be told of, and
//! looks once more: the two have to be in this order, which a locked
//! exchange makes sure of.

use alloc::vec::Vec;

use kexen_abi::{
    PAGE_SIZE,
    io::ring::{ENTRIES, FIRST_EVENT, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, entries},
};

use super::{Lie, Page, Problem};
use crate::{Machine, machine::Fault};

/// A ring of one page or several, which need not lie side by side.
#[derive(Clone, Debug)]
pub(super) struct FrontRing {
    pages: Vec<Page>,
    entry: u64,
    entries: u32,
    /// Entries that are filled; those of them that the backend was told of.
    filled: u32,
    req_prod: u32,
    rsp_cons: u32,
}

impl FrontRing {
    /// An empty ring.
    pub(super) fn new<M: Machine + ?Sized>(
        m: &M,
        pages: &[Page],
        entry: u64,
    ) -> Result<Self, Problem> {
        let count = u64::try_from(pages.len()).unwrap_or(u64::MAX);
        let entries = entries(count.saturating_mul(PAGE_SIZE), entry);
        let first = pages.first().filter(|_| entries > 0);
        let first = first.ok_or(Problem::Pages(pages.len()))?.address;
        for page in pages {
            m.fill(page.address, PAGE_SIZE, 0)?;
        }
        m.store32(first + REQ_EVENT, FIRST_EVENT)?;
        m.store32(first + RSP_EVENT, FIRST_EVENT)?;
        Ok(Self {
            pages: pages.into(),
            entry,
            entries,
            filled: 0,
            req_prod: 0,
            rsp_cons: 0,
        })
    }

    pub(super) const fn entries(&self) -> u32 {
        self.entries
    }

    /// Whether there is room for one more request.
    pub(super) const fn room(&self) -> bool {
        self.filled.wrapping_sub(self.rsp_cons) < self.entries
    }

    /// Where the indices are.
    fn header(&self) -> u64 {
        self.pages.first().map_or(0, |page| page.address)
    }

    /// Guest addresses of the first bytes of an entry, with the range of
    /// them, page by page: an entry of a ring of several may lie on two.
    fn parts(&self, index: u32, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
        let start = ENTRIES + u64::from(index % self.entries.max(1)) * self.entry;
        let mut done = 0_usize;
        core::iter::from_fn(move || {
            let at = start + u64::try_from(done).ok()?;
            let page = self.pages.get(usize::try_from(at / PAGE_SIZE).ok()?)?;
            let room = usize::try_from(PAGE_SIZE - at % PAGE_SIZE).ok()?;
            let from = done;
            done = len.min(from.checked_add(room)?);
            (done > from).then_some((page.address + at % PAGE_SIZE, from, done))
        })
    }

    /// Fills the next entry. There has to be room.
    pub(super) fn fill<M: Machine + ?Sized>(&mut self, m: &M, request: &[u8]) -> Result<(), Fault> {
        for (at, from, to) in self.parts(self.filled, request.len()) {
            m.write(at, request.get(from..to).unwrap_or_default())?;
        }
        self.filled = self.filled.wrapping_add(1);
        Ok(())
    }

    /// Shows the backend all entries that are filled; whether there are any
    /// that it has not been shown.
    pub(super) fn push<M: Machine + ?Sized>(&mut self, m: &M) -> Result<bool, Fault> {
        if self.req_prod == self.filled {
            return Ok(false);
        }
        m.store32(self.header() + REQ_PROD, self.filled)?;
        self.req_prod = self.filled;
        Ok(true)
    }

    /// Copies the next response, if there is one.
    pub(super) fn take<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        response: &mut [u8],
    ) -> Result<bool, Problem> {
        let rsp_prod = m.load32(self.header() + RSP_PROD)?;
        let there = rsp_prod.wrapping_sub(self.rsp_cons);
        let asked = self.req_prod.wrapping_sub(self.rsp_cons);
        if there > asked {
            return Err(Problem::Lie(Lie::Producer {
                rsp_prod,
                rsp_cons: self.rsp_cons,
                req_prod: self.req_prod,
            }));
        }
        if there == 0 {
            return Ok(false);
        }
        for (at, from, to) in self.parts(self.rsp_cons, response.len()) {
            m.read(at, response.get_mut(from..to).unwrap_or_default())?;
        }
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        Ok(true)
    }

    /// Asks to be told of the next response. The caller looks once more.
    pub(super) fn want_event<M: Machine + ?Sized>(&self, m: &M) -> Result<(), Fault> {
        let at = self.header() + RSP_EVENT;
        let seen = m.load32(at)?;
        // Nobody else has to write it; a backend that does is told once more
        // next time, and loses nothing but its own time.
        m.exchange32(at, seen, self.rsp_cons.wrapping_add(1))
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(pages: u64) -> FrontRing {
        let page = |n| Page {
            number: n,
            address: 0x10_0000 * (n + 1),
            frame: 0,
        };
        FrontRing {
            pages: (0..pages).map(page).collect(),
            entry: 112,
            entries: entries(pages * PAGE_SIZE, 112),
            filled: 0,
            req_prod: 0,
            rsp_cons: 0,
        }
    }

    #[test]
    fn entries_lie_one_after_another_across_pages() {
        let ring = ring(4);
        assert_eq!(ring.entries(), 128);
        for index in 0..256 {
            let start = 64 + u64::from(index % 128) * 112;
            let mut done = 0;
            for (at, from, to) in ring.parts(index, 112) {
                assert_eq!(from, done);
                let offset = start + u64::try_from(from).unwrap();
                assert_eq!(at, 0x10_0000 * (offset / 4096 + 1) + offset % 4096);
                assert!(offset % 4096 + u64::try_from(to - from).unwrap() <= 4096);
                done = to;
            }
            assert_eq!(done, 112, "entry {index}");
        }
        // One that lies on two pages.
        assert_eq!(ring.parts(72, 112).count(), 2);
    }

    #[test]
    fn indices_wrap_and_the_ring_fills() {
        let mut ring = ring(1);
        ring.filled = u32::MAX;
        ring.rsp_cons = u32::MAX - 31;
        assert!(ring.room());
        ring.filled = 0;
        assert!(!ring.room());
    }
}
