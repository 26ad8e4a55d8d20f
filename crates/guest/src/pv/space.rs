//! The address space of a PV guest: walking, mapping, protecting, pinning.
//!
//! Rules: Xen's `arch/x86/mm.c`. A frame has one type at a time; a page
//! table must have no writable mapping anywhere when it is hooked into a
//! table that is in use, and is changed by `mmu_update` from then on.
//!
//! Order of steps of [`AddressSpace::map`]: take table pages from the pool
//! (each mapped writable at exactly one address); fill them with plain
//! stores; then, in one `mmu_update`: make each of them read-only at that
//! address, hook them in, and write what belongs into tables that were
//! there before.

use alloc::vec::Vec;

use kexen_abi::{
    PAGE_SHIFT, PAGE_SIZE,
    mmu::{
        MACH2PHYS_VIRT_START, MMU_NORMAL_PT_UPDATE, MMUEXT_PIN_L4_TABLE, MMUEXT_TLB_FLUSH_LOCAL,
        MMUEXT_UNPIN_TABLE, MmuExtOp, MmuUpdate, PAGE_ACCESSED, PAGE_DIRTY, PAGE_FRAME_MASK,
        PAGE_PRESENT, PAGE_PSE, PAGE_RW, PAGE_USER,
    },
};

use crate::{
    Extent, Extents, HypercallError, Machine,
    hypercall::{mmu_update, mmuext_op},
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
    pool: Vec<u64>,
    /// Runs of pages that were taken for tables since the start.
    taken: Vec<Extent>,
}

impl AddressSpace {
    /// The address space that the builder made. `direct_pages` pages from
    /// `virt_base` are mapped; the `pool` of them is free for tables.
    #[must_use]
    pub fn new(start: &super::Start, root_mfn: u64, direct_pages: u64, pool: Extent) -> Self {
        Self {
            addresses: Addresses {
                virt_base: start.virt_base,
                direct_pages,
            },
            p2m: start.info.mfn_list,
            nr_pages: start.info.nr_pages,
            root: root_mfn,
            pool: (pool.start..pool.end()).rev().collect(),
            taken: Vec::new(),
        }
    }

    /// The frame of the page directory.
    #[must_use]
    pub const fn root(&self) -> u64 {
        self.root
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

    /// The rule by which [`Self::address`] goes.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Entry for `va` in the table of `level`, as (frame of that table,
    /// entry), or `None` where a table above it is missing. A large page
    /// ends the way down early, with an entry of a level above.
    fn entry<M: Machine + ?Sized>(
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
    fn l1_updates<M: Machine + ?Sized>(
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

    /// Makes pages that are mapped at [`Self::address`] read-only, or
    /// writable again; the change holds for this vCPU's TLB on return.
    pub fn protect<M: Machine + ?Sized>(
        &self,
        m: &M,
        pages: &Extents,
        writable: bool,
    ) -> Result<(), SpaceError> {
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
        mmu_update(m, "protect", &updates)?;
        mmuext_op(m, "flush", &[flush()])?;
        Ok(())
    }

    /// Maps pages, writable, one after the other from `va`. What was mapped
    /// there before is replaced and flushed.
    pub fn map<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        va: u64,
        pages: &[u64],
    ) -> Result<(), SpaceError> {
        let mut frames = Vec::new();
        for pfn in pages {
            frames.push(self.mfn(m, *pfn)?);
        }
        self.map_frames(m, va, &frames, true)
    }

    /// Maps pages that may be page tables, read-only, in the window.
    pub fn map_window_read_only<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        run: Extent,
    ) -> Result<(), SpaceError> {
        let mut frames = Vec::new();
        for pfn in run.start..run.end() {
            frames.push(self.mfn(m, pfn)?);
        }
        self.map_frames(m, WINDOW + run.start * PAGE_SIZE, &frames, false)
    }

    /// As [`Self::map`], for frames that need not be in the p2m list.
    pub fn map_frames<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        va: u64,
        frames: &[u64],
        writable: bool,
    ) -> Result<(), SpaceError> {
        let bits = if writable {
            PAGE_BITS
        } else {
            PAGE_BITS & !PAGE_RW
        };
        let mut updates = Vec::new();
        let mut fresh: Vec<u64> = Vec::new();
        let mut replaced = false;
        let mut next = 0;
        while next < frames.len() {
            let at = va + u64::try_from(next).unwrap_or(0) * PAGE_SIZE;
            let room = usize::try_from(512 - index(at, 1)).unwrap_or(0);
            let end = frames.len().min(next + room);
            let values: Vec<u64> = frames[next..end]
                .iter()
                .map(|mfn| (mfn << PAGE_SHIFT) | bits)
                .collect();
            self.map_in_one_table(m, at, &values, &mut fresh, &mut updates, &mut replaced)?;
            next = end;
        }
        // Read-only first, hooked in after that.
        let mut batch = Vec::new();
        for pfn in &fresh {
            let value = (self.mfn(m, *pfn)? << PAGE_SHIFT) | (PAGE_BITS & !PAGE_RW);
            batch.extend(self.l1_updates(m, self.address(*pfn), &[value])?);
        }
        batch.append(&mut updates);
        mmu_update(m, "map", &batch)?;
        if replaced {
            mmuext_op(m, "flush", &[flush()])?;
        }
        Ok(())
    }

    /// Maps the entries of one L1 table: into a live table by updates, into
    /// fresh ones by stores.
    fn map_in_one_table<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        va: u64,
        values: &[u64],
        fresh: &mut Vec<u64>,
        updates: &mut Vec<MmuUpdate>,
        replaced: &mut bool,
    ) -> Result<(), SpaceError> {
        // Down through what is there, live or fresh.
        let mut table_mfn = self.root;
        let mut table_pfn = self.pfn(m, table_mfn)?;
        for level in (1..=4).rev() {
            let live = !fresh.contains(&table_pfn);
            let slot = self.address(table_pfn) + index(va, level) * 8;
            let entry_ma = (table_mfn << PAGE_SHIFT) + index(va, level) * 8;
            if level == 1 {
                for (n, value) in (0_u64..).zip(values) {
                    if live {
                        *replaced |= m.read64(slot + n * 8)? & PAGE_PRESENT != 0;
                        updates.push(MmuUpdate {
                            ptr: (entry_ma + n * 8) | MMU_NORMAL_PT_UPDATE,
                            val: *value,
                        });
                    } else {
                        m.write64(slot + n * 8, *value)?;
                    }
                }
                return Ok(());
            }
            let entry = m.read64(slot)?;
            // An entry of a live table may be waiting in the batch.
            let waiting = updates.iter().find(|u| u.ptr == entry_ma).map(|u| u.val);
            let entry = waiting.unwrap_or(entry);
            if entry & PAGE_PRESENT != 0 {
                table_mfn = (entry & PAGE_FRAME_MASK) >> PAGE_SHIFT;
                table_pfn = self.pfn(m, table_mfn)?;
                continue;
            }
            let pfn = self.pool.pop().ok_or(SpaceError::NoTablePage)?;
            let mfn = self.mfn(m, pfn)?;
            m.fill(self.address(pfn), PAGE_SIZE, 0)?;
            fresh.push(pfn);
            let value = (mfn << PAGE_SHIFT) | TABLE_BITS;
            if live {
                updates.push(MmuUpdate {
                    ptr: entry_ma | MMU_NORMAL_PT_UPDATE,
                    val: value,
                });
            } else {
                m.write64(slot, value)?;
            }
            table_mfn = mfn;
            table_pfn = pfn;
        }
        Ok(())
    }

    /// Maps pages in the window. Returns nothing: page n is then at
    /// [`Self::address`] of n.
    pub fn map_window<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        pages: &Extents,
    ) -> Result<(), SpaceError> {
        for run in pages.runs() {
            // The start-of-day region is mapped already.
            let start = run.start.max(self.addresses.direct_pages);
            if start < run.end() {
                let pages: Vec<u64> = (start..run.end()).collect();
                self.map(m, WINDOW + start * PAGE_SIZE, &pages)?;
            }
        }
        Ok(())
    }

    /// Unmaps pages from `va`.
    pub fn unmap<M: Machine + ?Sized>(&self, m: &M, va: u64, count: u64) -> Result<(), SpaceError> {
        let values: Vec<u64> = (0..count).map(|_| 0).collect();
        let updates = self.l1_updates(m, va, &values)?;
        mmu_update(m, "unmap", &updates)?;
        mmuext_op(m, "flush", &[flush()])?;
        Ok(())
    }

    /// Table pages that mapping `pages` more pages can need at most.
    #[must_use]
    pub const fn tables_for(pages: u64) -> u64 {
        pages.div_ceil(512) + pages.div_ceil(512 * 512) + 5
    }

    /// Makes sure that `need` table pages are in the pool, with free pages
    /// from `free`, which are in use from then on.
    pub fn reserve_tables<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        free: &mut Extents,
        need: u64,
    ) -> Result<(), SpaceError> {
        let have = u64::try_from(self.pool.len()).unwrap_or(0);
        let margin = 8;
        if have >= need + margin {
            return Ok(());
        }
        let more = need + margin - have + Self::tables_for(need);
        let run = free.take_run(more).ok_or(SpaceError::NoTablePage)?;
        let mut pages = Extents::new();
        pages.insert(run);
        if let Err(error) = self.map_window(m, &pages) {
            free.insert(run);
            return Err(error);
        }
        self.pool.splice(0..0, (run.start..run.end()).rev());
        self.taken.push(run);
        Ok(())
    }

    /// Pages that were taken for tables since the start: in use for good.
    #[must_use]
    pub fn taken(&self) -> &[Extent] {
        &self.taken
    }

    /// Pins an L4 table.
    pub fn pin<M: Machine + ?Sized>(&self, m: &M, l4_mfn: u64) -> Result<(), SpaceError> {
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

const fn flush() -> MmuExtOp {
    MmuExtOp {
        cmd: MMUEXT_TLB_FLUSH_LOCAL,
        pad: 0,
        arg1: 0,
        arg2: 0,
    }
}
