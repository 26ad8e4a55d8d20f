//! The address space of a PV guest: walking, mapping, protecting, pinning.
//!
//! Rules: Xen's `arch/x86/mm.c`. A frame has one type at a time; a page
//! table must have no writable mapping anywhere when it is hooked into a
//! table that is in use, and is changed by `mmu_update` from then on.
//!
//! Mapping is in [`mod@super::map`], the pages of tables in
//! [`mod@super::pool`].

use alloc::vec::Vec;

use kexen_abi::{
    PAGE_SHIFT, PAGE_SIZE,
    mmu::{
        MACH2PHYS_VIRT_START, MMU_NORMAL_PT_UPDATE, MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR,
        MMUEXT_PIN_L4_TABLE, MMUEXT_SET_LDT, MMUEXT_TLB_FLUSH_LOCAL, MMUEXT_UNPIN_TABLE, MmuExtOp,
        MmuUpdate, PAGE_ACCESSED, PAGE_DIRTY, PAGE_FRAME_MASK, PAGE_PRESENT, PAGE_PSE, PAGE_RW,
        PAGE_USER,
    },
};

use super::pool::{OwedFlush, Pool};
use crate::{
    Defence, Extent, Extents, HypercallError, Machine,
    hypercall::{mmu_batch, mmu_update, mmuext_op},
    machine::Fault,
};

/// Entry bits of a writable page, as the toolstack's builder makes them.
pub const PAGE_BITS: u64 = PAGE_PRESENT | PAGE_RW | PAGE_ACCESSED;
/// Entry bits of a table.
pub const TABLE_BITS: u64 = PAGE_PRESENT | PAGE_RW | PAGE_ACCESSED | PAGE_DIRTY | PAGE_USER;

/// An entry of the p2m list for a page without a frame: `~0`, as the
/// toolstack's `INVALID_P2M_ENTRY`.
pub const INVALID_P2M_ENTRY: u64 = u64::MAX;

/// Where the window begins: pfn n is, once mapped, at this plus n pages.
pub const WINDOW: u64 = 0x0000_0200_0000_0000;

/// Why the address space could not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceError {
    /// Guest memory could not be reached.
    Fault(Fault),
    /// Xen refused.
    Hypercall(HypercallError),
    /// No free page for a table.
    NoTablePage,
    /// An address that should be mapped is not.
    NotMapped(u64),
    /// A page number beyond the guest's memory.
    NoSuchPage(u64),
}

impl From<Fault> for SpaceError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
impl From<HypercallError> for SpaceError {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}

impl core::fmt::Display for SpaceError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Hypercall(error) => error.fmt(f),
            Self::NoTablePage => f.write_str("no free page is left for a page table"),
            Self::NotMapped(va) => write!(f, "address {va:#x} is not mapped"),
            Self::NoSuchPage(pfn) => write!(f, "page {pfn:#x} is outside the guest's memory"),
        }
    }
}

/// Bit position of the index into a table of `level` (1 to 4).
const fn shift(level: u32) -> u32 {
    PAGE_SHIFT + 9 * (level - 1)
}

/// Index into the table of `level` for an address.
#[must_use]
pub const fn index(va: u64, level: u32) -> u64 {
    (va >> shift(level)) & 511
}

/// Where a mapped page is: in the start-of-day region or the window.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    virt_base: u64,
    /// Pfns below this are at `virt_base` plus their number of pages.
    direct_pages: u64,
}

impl Addresses {
    /// The address of a page, mapped there or not.
    #[must_use]
    pub const fn of(&self, pfn: u64) -> u64 {
        if pfn < self.direct_pages {
            self.virt_base + pfn * PAGE_SIZE
        } else {
            WINDOW + pfn * PAGE_SIZE
        }
    }
}

/// A PV guest's own address space, its p2m list and table pages.
#[derive(Debug)]
pub struct AddressSpace {
    addresses: Addresses,
    p2m: u64,
    nr_pages: u64,
    root: u64,
    /// Open pools: each is read-only as a whole.
    pub(super) pools: Vec<Pool>,
    /// Padding: writable at its address, to make pools of when there is none.
    pub(super) reserve: Extents,
    /// Tables of pools that were closed.
    pub(super) tables: Vec<Extent>,
    /// Pages that are mapped, writable, in the window.
    pub(super) window: Extents,
    /// Entries of pages written since the start.
    pub(super) mapped: u64,
}

impl AddressSpace {
    /// The address space that the builder made. `direct_pages` pages from
    /// `virt_base` are mapped; the `pool` of them is free for tables.
    #[must_use]
    pub fn new(start: &super::Start, root_mfn: u64, direct_pages: u64, pool: Extent) -> Self {
        let mut reserve = Extents::new();
        reserve.insert(pool);
        Self {
            addresses: Addresses {
                virt_base: start.virt_base,
                direct_pages,
            },
            p2m: start.info.mfn_list,
            nr_pages: start.info.nr_pages,
            root: root_mfn,
            pools: Vec::new(),
            reserve,
            tables: Vec::new(),
            window: Extents::new(),
            mapped: 0,
        }
    }

    /// The frame of the page directory.
    #[must_use]
    pub const fn root(&self) -> u64 {
        self.root
    }

    /// Pages that were mapped since the start, each mapping counted.
    #[must_use]
    pub const fn mapped(&self) -> u64 {
        self.mapped
    }

    /// Pages of the guest.
    #[must_use]
    pub const fn nr_pages(&self) -> u64 {
        self.nr_pages
    }

    /// Guest address of the p2m list.
    #[must_use]
    pub const fn p2m_list(&self) -> u64 {
        self.p2m
    }

    /// Frame of a page, from the p2m list.
    pub fn mfn<M: Machine + ?Sized>(&self, m: &M, pfn: u64) -> Result<u64, SpaceError> {
        if pfn >= self.nr_pages {
            return Err(SpaceError::NoSuchPage(pfn));
        }
        let mfn = m.read64(self.p2m + pfn * 8)?;
        if mfn >> 52 != 0 {
            // INVALID_P2M_ENTRY: a hole.
            return Err(SpaceError::NoSuchPage(pfn));
        }
        Ok(mfn)
    }

    /// Gives a page another frame in the p2m list, or none. Mappings of the
    /// page and M2P are the caller's matter.
    pub fn set_mfn<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        pfn: u64,
        mfn: Option<u64>,
    ) -> Result<(), SpaceError> {
        if pfn >= self.nr_pages {
            return Err(SpaceError::NoSuchPage(pfn));
        }
        self.window.remove(Extent::new(pfn, 1));
        Ok(m.write64(self.p2m + pfn * 8, mfn.unwrap_or(INVALID_P2M_ENTRY))?)
    }

    /// Page of a frame, from the M2P table.
    pub fn pfn<M: Machine + ?Sized>(&self, m: &M, mfn: u64) -> Result<u64, SpaceError> {
        Ok(m.read64(MACH2PHYS_VIRT_START + mfn * 8)?)
    }

    /// Where a mapped page is.
    #[must_use]
    pub const fn address(&self, pfn: u64) -> u64 {
        self.addresses.of(pfn)
    }

    /// Pages of the start-of-day region, mapped there.
    pub(super) const fn direct_pages(&self) -> u64 {
        self.addresses.direct_pages
    }

    /// The rule by which [`Self::address`] goes.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Entry for `va` in the table of `level`, as (frame of that table,
    /// entry), or `None` where a table above it is missing. A large page
    /// ends the way down early, with an entry of a level above.
    pub(super) fn entry<M: Machine + ?Sized>(
        &self,
        m: &M,
        va: u64,
        level: u32,
    ) -> Result<Option<(u64, u64)>, SpaceError> {
        let mut table = self.root;
        let mut at = 4;
        loop {
            let pfn = self.pfn(m, table)?;
            let entry = m.read64(self.address(pfn) + index(va, at) * 8)?;
            if at == level {
                return Ok(Some((table, entry)));
            }
            if entry & PAGE_PRESENT == 0 || entry & PAGE_PSE != 0 {
                return Ok(None);
            }
            table = (entry & PAGE_FRAME_MASK) >> PAGE_SHIFT;
            at -= 1;
        }
    }

    /// The table of `level` on the way to an address, if there is one: its
    /// frame, and the guest address where it can be read.
    pub fn table<M: Machine + ?Sized>(
        &self,
        m: &M,
        va: u64,
        level: u32,
    ) -> Result<Option<(u64, u64)>, SpaceError> {
        let Some((mfn, _)) = self.entry(m, va, level)? else {
            return Ok(None);
        };
        Ok(Some((mfn, self.address(self.pfn(m, mfn)?))))
    }

    /// The frame that a large page maps at an address, if one does: Xen
    /// maps the p2m list of dom0 with such.
    fn large<M: Machine + ?Sized>(&self, m: &M, va: u64) -> Result<Option<u64>, SpaceError> {
        for level in [3, 2] {
            if let Some((_, entry)) = self.entry(m, va, level)?
                && entry & PAGE_PRESENT != 0
                && entry & PAGE_PSE != 0
            {
                let first = (entry & PAGE_FRAME_MASK) >> PAGE_SHIFT;
                let pages = 1 << (9 * (level - 1));
                return Ok(Some(
                    (first & !(pages - 1)) + ((va >> PAGE_SHIFT) & (pages - 1)),
                ));
            }
        }
        Ok(None)
    }

    /// The page that an address maps, if any.
    pub fn lookup<M: Machine + ?Sized>(&self, m: &M, va: u64) -> Result<Option<u64>, SpaceError> {
        match self.entry(m, va, 1)? {
            Some((_, entry)) if entry & PAGE_PRESENT != 0 => {
                Ok(Some(self.pfn(m, (entry & PAGE_FRAME_MASK) >> PAGE_SHIFT)?))
            }
            Some(_) => Ok(None),
            None => match self.large(m, va)? {
                Some(mfn) => Ok(Some(self.pfn(m, mfn)?)),
                None => Ok(None),
            },
        }
    }

    /// Machine addresses of the L1 entries of `count` pages from `va`, all
    /// of which have an L1 table.
    fn l1_entries<M: Machine + ?Sized>(
        &self,
        m: &M,
        va: u64,
        count: u64,
    ) -> Result<Vec<u64>, SpaceError> {
        let mut entries = Vec::new();
        let mut table = 0;
        for n in 0..count {
            let at = va + n * PAGE_SIZE;
            if n == 0 || index(at, 1) == 0 {
                table = self
                    .entry(m, at, 1)?
                    .map(|(table, _)| table)
                    .ok_or(SpaceError::NotMapped(at))?;
            }
            entries.push((table << PAGE_SHIFT) + index(at, 1) * 8);
        }
        Ok(entries)
    }

    /// Updates that give `count` pages from `va` new entries.
    pub(super) fn l1_updates<M: Machine + ?Sized>(
        &self,
        m: &M,
        va: u64,
        values: &[u64],
    ) -> Result<Vec<MmuUpdate>, SpaceError> {
        let count = u64::try_from(values.len()).unwrap_or(u64::MAX);
        let entries = self.l1_entries(m, va, count)?;
        Ok(entries
            .iter()
            .zip(values)
            .map(|(entry, value)| MmuUpdate {
                ptr: entry | MMU_NORMAL_PT_UPDATE,
                val: *value,
            })
            .collect())
    }

    /// Updates that make pages, which are mapped at [`Self::address`],
    /// read-only or writable there.
    pub(super) fn protect_updates<M: Machine + ?Sized>(
        &self,
        m: &M,
        pages: &Extents,
        writable: bool,
    ) -> Result<Vec<MmuUpdate>, SpaceError> {
        let bits = if writable {
            PAGE_BITS
        } else {
            PAGE_BITS & !PAGE_RW
        };
        let mut updates = Vec::new();
        for run in pages.runs() {
            let mut values = Vec::new();
            for pfn in run.start..run.end() {
                values.push((self.mfn(m, pfn)? << PAGE_SHIFT) | bits);
            }
            updates.extend(self.l1_updates(m, self.address(run.start), &values)?);
        }
        Ok(updates)
    }

    /// Makes pages that are mapped at [`Self::address`] read-only, so that
    /// they can become page tables. What the processor still holds of the
    /// writable mapping is Xen's to flush, when they do.
    pub fn seal<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        pages: &Extents,
    ) -> Result<Sealed, SpaceError> {
        if m.omits(Defence::ReadOnlyTables) {
            return Ok(Sealed(Extents::new()));
        }
        let updates = self.protect_updates(m, pages, false)?;
        mmu_update(m, "make tables read-only", &updates)?;
        for run in pages.runs() {
            self.window.remove(*run);
        }
        Ok(Sealed(pages.clone()))
    }

    /// Pages that are read-only at [`Self::address`] already, such as Xen's
    /// own start-of-day tables: `NotMapped` names one that is not.
    pub fn already_sealed<M: Machine + ?Sized>(
        &self,
        m: &M,
        pages: &Extents,
    ) -> Result<Sealed, SpaceError> {
        for pfn in pages.pages() {
            let at = self.address(pfn);
            let entry = self.entry(m, at, 1)?.map_or(0, |(_, entry)| entry);
            if entry & (PAGE_PRESENT | PAGE_RW) != PAGE_PRESENT {
                return Err(SpaceError::NotMapped(at));
            }
        }
        Ok(Sealed(pages.clone()))
    }

    /// Makes pages that were sealed writable again, with the flush, in one
    /// batch. They must be no page tables any more.
    pub fn unseal<M: Machine + ?Sized>(&mut self, m: &M, sealed: Sealed) -> Result<(), SpaceError> {
        let updates = self.protect_updates(m, &sealed.0, true)?;
        let flush = self.owed(m, &sealed.0).into_ops();
        mmu_batch(m, "make tables writable", &[], &updates, &flush)?;
        for run in sealed.0.runs() {
            self.in_window(*run);
        }
        Ok(())
    }

    /// Makes pages at [`Self::address`] writable, that are no tables any
    /// more; the flush is owed, for a caller that has a batch of its own.
    pub fn make_writable<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        pages: &Extents,
    ) -> Result<OwedFlush, SpaceError> {
        let updates = self.protect_updates(m, pages, true)?;
        mmu_update(m, "make pages writable", &updates)?;
        for run in pages.runs() {
            self.in_window(*run);
        }
        Ok(self.owed(m, pages))
    }

    /// The flush for pages that were read-only at their address.
    pub(super) fn owed<M: Machine + ?Sized>(&self, m: &M, pages: &Extents) -> OwedFlush {
        if m.omits(Defence::Flush) {
            return OwedFlush::of(&[]);
        }
        let addresses: Vec<u64> = pages.pages().map(|pfn| self.address(pfn)).collect();
        OwedFlush::of(&addresses)
    }

    /// Remembers that pages are writable in the window.
    pub(super) fn in_window(&mut self, run: Extent) {
        let start = run.start.max(self.addresses.direct_pages);
        if start < run.end() {
            self.window.insert(Extent::new(start, run.end() - start));
        }
    }

    /// Unmaps pages from `va`.
    pub fn unmap<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        va: u64,
        count: u64,
    ) -> Result<(), SpaceError> {
        if va >= WINDOW {
            let first = (va - WINDOW) / PAGE_SIZE;
            self.window.remove(Extent::new(first, count));
        }
        let values: Vec<u64> = (0..count).map(|_| 0).collect();
        let updates = self.l1_updates(m, va, &values)?;
        Ok(mmu_batch(m, "unmap", &[], &updates, &[flush()])?)
    }

    /// Pins an L4 table, which is one of the sealed pages, as are all tables
    /// below it.
    pub fn pin<M: Machine + ?Sized>(
        &self,
        m: &M,
        _sealed: &Sealed,
        l4_mfn: u64,
    ) -> Result<(), SpaceError> {
        Ok(mmuext_op(
            m,
            "pin the new page tables",
            &[MmuExtOp {
                cmd: MMUEXT_PIN_L4_TABLE,
                pad: 0,
                arg1: l4_mfn,
                arg2: 0,
            }],
        )?)
    }

    /// Goes over to other tables, and lets the current ones go: pin, base
    /// pointer, unpin, user base pointer and LDT in one `mmuext_op`, the GDT
    /// behind it. `new` is the L4's frame, one of the sealed pages. `old` are
    /// the pages of the tables that are in use now, all mapped read-only:
    /// they come back sealed, all of them tables no more.
    pub fn switch<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        _sealed: &Sealed,
        new: u64,
        old: &Extents,
    ) -> Result<Sealed, SpaceError> {
        let op = |cmd, arg1| MmuExtOp {
            cmd,
            pad: 0,
            arg1,
            arg2: 0,
        };
        let ops = [
            op(MMUEXT_PIN_L4_TABLE, new),
            op(MMUEXT_NEW_BASEPTR, new),
            op(MMUEXT_UNPIN_TABLE, self.root),
            op(MMUEXT_NEW_USER_BASEPTR, 0),
            op(MMUEXT_SET_LDT, 0),
        ];
        mmuext_op(m, "switch page tables", &ops)?;
        self.root = new;
        crate::release::no_gdt(m)?;
        self.already_sealed(m, old)
    }

    /// Unpins a table.
    pub fn unpin<M: Machine + ?Sized>(&self, m: &M, l4_mfn: u64) -> Result<(), SpaceError> {
        Ok(mmuext_op(
            m,
            "unpin page tables",
            &[MmuExtOp {
                cmd: MMUEXT_UNPIN_TABLE,
                pad: 0,
                arg1: l4_mfn,
                arg2: 0,
            }],
        )?)
    }
}

/// Pages that are read-only where they are mapped: tables can be made of
/// them. To give them to anybody else, [`AddressSpace::unseal`] them.
#[derive(Clone, Debug)]
#[must_use = "sealed pages stay read-only until they are unsealed"]
pub struct Sealed(Extents);

impl Sealed {
    /// How many pages.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.count()
    }
}

pub(super) const fn flush() -> MmuExtOp {
    MmuExtOp {
        cmd: MMUEXT_TLB_FLUSH_LOCAL,
        pad: 0,
        arg1: 0,
        arg2: 0,
    }
}
