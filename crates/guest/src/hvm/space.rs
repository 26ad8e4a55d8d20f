//! The long-mode address space of a PVH guest.
//!
//! The low 4 GiB are mapped one to one, so a page below is at its own
//! address; [`AddressSpace::map`] adds mappings elsewhere. No hypercall is
//! needed: the tables are the guest's own, under nested paging.

use alloc::vec::Vec;

use kexen_abi::{
    PAGE_SHIFT, PAGE_SIZE,
    mmu::{PAGE_DIRTY, PAGE_FRAME_MASK, PAGE_PRESENT, PAGE_PSE, PAGE_RW},
};

use crate::{Extent, Extents, Machine, machine::Fault, pv::space::index};

/// Pages that are mapped one to one: 4 GiB.
pub const IDENTITY_PAGES: u64 = 1 << 20;

/// Pages of a large page.
const LARGE: u64 = 512;

/// Why a mapping could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceError {
    /// Guest memory could not be reached.
    Fault(Fault),
    /// No free page for a table.
    NoTablePage,
    /// A large page stands where a table is needed.
    LargePage(u64),
}

impl From<Fault> for SpaceError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl core::fmt::Display for SpaceError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::NoTablePage => f.write_str("no free page below 4 GiB for a page table"),
            Self::LargePage(va) => write!(f, "address {va:#x} is part of a large page"),
        }
    }
}

/// The address space: the physical address of its L4, and its tables.
#[derive(Debug)]
pub struct AddressSpace {
    root: u64,
    tables: Vec<u64>,
}

impl AddressSpace {
    /// The address space of the L4 table at physical address `root`.
    #[must_use]
    pub const fn new(root: u64) -> Self {
        Self {
            root,
            tables: Vec::new(),
        }
    }

    /// Goes on with the same tables, the first of which is at `root` now.
    pub const fn moved(&mut self, root: u64) {
        self.root = root;
    }

    /// Maps pages, writable, one after the other from `va`, with tables
    /// from `free` (below 4 GiB). What was there before is replaced.
    pub fn map<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        free: &mut Extents,
        va: u64,
        pages: &[u64],
    ) -> Result<(), SpaceError> {
        let mut l1 = None;
        for (n, page) in (0_u64..).zip(pages) {
            let at = va + n * PAGE_SIZE;
            let table = match l1 {
                Some(table) if index(at, 1) != 0 => table,
                _ => self.l1(m, free, at)?,
            };
            l1 = Some(table);
            let slot = table + index(at, 1) * 8;
            let old = m.read64(slot)?;
            m.write64(slot, (page << PAGE_SHIFT) | PAGE_PRESENT | PAGE_RW)?;
            if old & PAGE_PRESENT != 0 {
                m.invalidate(at);
            }
        }
        Ok(())
    }

    /// Unmaps pages from `va`, which [`Self::map`] mapped.
    pub fn unmap<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        free: &mut Extents,
        va: u64,
        count: u64,
    ) -> Result<(), SpaceError> {
        for n in 0..count {
            let at = va + n * PAGE_SIZE;
            let table = self.l1(m, free, at)?;
            m.write64(table + index(at, 1) * 8, 0)?;
            m.invalidate(at);
        }
        Ok(())
    }

    fn l1<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        free: &mut Extents,
        va: u64,
    ) -> Result<u64, SpaceError> {
        let mut table = self.root;
        for level in (2..=4).rev() {
            let slot = table + index(va, level) * 8;
            let entry = m.read64(slot)?;
            if entry & PAGE_PRESENT != 0 {
                if entry & PAGE_PSE != 0 && level != 4 {
                    return Err(SpaceError::LargePage(va));
                }
                table = entry & PAGE_FRAME_MASK;
                continue;
            }
            let page = take_low(free).ok_or(SpaceError::NoTablePage)?;
            let address = page << PAGE_SHIFT;
            m.fill(address, PAGE_SIZE, 0)?;
            m.write64(slot, address | PAGE_PRESENT | PAGE_RW)?;
            self.tables.push(page);
            table = address;
        }
        Ok(table)
    }

    /// The pages of a run below 4 GiB that may have been written at their own
    /// address: those of the large pages that the processor has marked dirty.
    pub fn written<M: Machine + ?Sized>(&self, m: &M, run: Extent) -> Result<Extents, Fault> {
        let mut written = Extents::new();
        let mut at = run.start;
        while at < run.end().min(IDENTITY_PAGES) {
            let end = (at / LARGE + 1) * LARGE;
            let part = Extent::new(at, end.min(run.end()) - at);
            if self.is_written(m, at << PAGE_SHIFT)? {
                written.insert(part);
            }
            at = end;
        }
        Ok(written)
    }

    fn is_written<M: Machine + ?Sized>(&self, m: &M, va: u64) -> Result<bool, Fault> {
        let mut table = self.root;
        for level in (2..=4).rev() {
            let entry = m.read64(table + index(va, level) * 8)?;
            if entry & PAGE_PRESENT == 0 {
                return Ok(false);
            }
            if entry & PAGE_PSE != 0 && level != 4 {
                return Ok(entry & PAGE_DIRTY != 0);
            }
            table = entry & PAGE_FRAME_MASK;
        }
        // In small pages: some of them may have been.
        Ok(true)
    }

    /// Pages that are tables of mappings made here.
    #[must_use]
    pub fn tables(&self) -> &[u64] {
        &self.tables
    }
}

/// Takes a page below 4 GiB.
fn take_low(free: &mut Extents) -> Option<u64> {
    let low = free.within(Extent::new(0, IDENTITY_PAGES));
    let last = low.runs().last()?;
    let page = last.end() - 1;
    free.remove(Extent::new(page, 1));
    Some(page)
}
