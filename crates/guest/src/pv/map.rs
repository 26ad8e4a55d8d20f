//! Mapping pages, with table pages from the pool.
//!
//! Order of steps of one mapping: find the tables on the way down; where one
//! is missing, take a page from an open pool (it is read-only already),
//! clear it, hook it in; then write the entries. All of it is `mmu_update`
//! requests of one batch, or of a few where it is long: the tables are live
//! from the moment they are hooked in, so the batch can be cut anywhere.

use alloc::vec::Vec;

use kexen_abi::{
    PAGE_SHIFT, PAGE_SIZE,
    mmu::{MMU_NORMAL_PT_UPDATE, MmuUpdate, PAGE_FRAME_MASK, PAGE_PRESENT, PAGE_RW},
};

use super::batch::Batch;
use super::pool::{OwedFlush, Pool, TablePage};
use super::space::{AddressSpace, PAGE_BITS, SpaceError, TABLE_BITS, WINDOW, index};
use crate::{Defence, Extent, Extents, Machine, hypercall::mmu_batch};

/// Pages of the reserve that become a pool at a time.
const ROUND: u64 = 16;
/// Table pages beyond what is asked for.
const MARGIN: u64 = 8;

/// A mapping under way.
#[derive(Debug, Default)]
struct Way {
    batch: Batch,
    /// Entries above L1 that are in the batch, by machine address.
    hooked: Vec<(u64, u64)>,
    /// Frames of tables that are empty.
    fresh: Vec<u64>,
    /// An entry was there before: its translation may be cached.
    replaced: bool,
}

impl AddressSpace {
    /// Maps pages, writable, one after the other from `va`. What was mapped
    /// there before is replaced and flushed. A page that is, or may become,
    /// a table is mapped read-only.
    pub fn map<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        va: u64,
        pages: &[u64],
    ) -> Result<(), SpaceError> {
        let mut entries = Vec::new();
        for pfn in pages {
            let writable = !self.is_pooled(*pfn);
            entries.push((self.mfn(m, *pfn)?, writable));
        }
        self.map_entries(m, va, &entries)
    }

    /// Maps pages that may be page tables, read-only, in the window.
    pub fn map_window_read_only<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        run: Extent,
    ) -> Result<(), SpaceError> {
        let mut entries = Vec::new();
        for pfn in run.start..run.end() {
            entries.push((self.mfn(m, pfn)?, false));
        }
        self.window.remove(run);
        self.map_entries(m, WINDOW + run.start * PAGE_SIZE, &entries)
    }

    /// As [`Self::map`], for frames that need not be in the p2m list, and
    /// that are no pages of a pool.
    pub fn map_frames<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        va: u64,
        frames: &[u64],
        writable: bool,
    ) -> Result<(), SpaceError> {
        let entries: Vec<_> = frames.iter().map(|mfn| (*mfn, writable)).collect();
        self.map_entries(m, va, &entries)
    }

    /// Maps pages, writable, in the window: page n is then at
    /// [`Self::address`] of n. Those that are there already are left alone.
    pub fn map_window<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        pages: &Extents,
    ) -> Result<(), SpaceError> {
        let mut missing = Extents::new();
        for run in pages.runs() {
            // The start-of-day region is mapped already.
            let start = run.start.max(self.direct_pages());
            if start < run.end() {
                missing.insert(Extent::new(start, run.end() - start));
            }
        }
        for run in self.window.runs() {
            missing.remove(*run);
        }
        for run in missing.runs() {
            let pages: Vec<u64> = (run.start..run.end()).collect();
            self.map(m, WINDOW + run.start * PAGE_SIZE, &pages)?;
            self.in_window(*run);
        }
        Ok(())
    }

    /// Whether a page is of an open pool, or a table from one.
    fn is_pooled(&self, pfn: u64) -> bool {
        let table = |run: &Extent| run.start <= pfn && pfn < run.end();
        self.pools.iter().any(|pool| pool.holds(pfn)) || self.tables.iter().any(table)
    }

    fn map_entries<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        va: u64,
        entries: &[(u64, bool)],
    ) -> Result<(), SpaceError> {
        let mut way = Way::default();
        self.mapped += u64::try_from(entries.len()).unwrap_or(0);
        let mut rest = entries;
        let mut at = va;
        while !rest.is_empty() {
            let room = usize::try_from(512 - index(at, 1)).unwrap_or(0);
            let (now, later) = rest.split_at(rest.len().min(room));
            self.map_in_one_table(m, at, now, &mut way)?;
            at += u64::try_from(now.len()).unwrap_or(0) * PAGE_SIZE;
            rest = later;
            if way.batch.is_full() && !rest.is_empty() {
                way.batch.commit(m, "map")?;
                way.hooked.clear();
                way.fresh.clear();
            }
        }
        if way.replaced {
            let addresses: Vec<u64> = (va..at).step_by(4096).collect();
            if !m.omits(Defence::Flush) {
                way.batch.pay(OwedFlush::of(&addresses));
            }
        }
        Ok(way.batch.commit(m, "map")?)
    }

    /// The entries that belong into one L1 table.
    fn map_in_one_table<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        va: u64,
        entries: &[(u64, bool)],
        way: &mut Way,
    ) -> Result<(), SpaceError> {
        let mut table = self.root();
        for level in (2..=4).rev() {
            let at = (table << PAGE_SHIFT) + index(va, level) * 8;
            let entry = if let Some((_, entry)) = way.hooked.iter().find(|(ma, _)| *ma == at) {
                *entry
            } else if way.fresh.contains(&table) {
                0
            } else {
                m.read64(self.address(self.pfn(m, table)?) + index(va, level) * 8)?
            };
            table = if entry & PAGE_PRESENT != 0 {
                (entry & PAGE_FRAME_MASK) >> PAGE_SHIFT
            } else {
                let page = self.take_table(m)?;
                self.hook(m, at, &page, way)?
            };
        }
        let first = (table << PAGE_SHIFT) + index(va, 1) * 8;
        let mut was = alloc::vec![0_u8; entries.len() * 8];
        if !way.fresh.contains(&table) {
            m.read(
                self.address(self.pfn(m, table)?) + index(va, 1) * 8,
                &mut was,
            )?;
        }
        way.replaced |= was.chunks(8).any(|entry| entry[0] & 1 != 0);
        for (n, (mfn, writable)) in (0_u64..).zip(entries) {
            let bits = if *writable {
                PAGE_BITS
            } else {
                PAGE_BITS & !PAGE_RW
            };
            way.batch.update(MmuUpdate {
                ptr: (first + n * 8) | MMU_NORMAL_PT_UPDATE,
                val: (mfn << PAGE_SHIFT) | bits,
            });
        }
        Ok(())
    }

    /// Hooks a table in at the entry of that machine address; its frame.
    fn hook<M: Machine + ?Sized>(
        &self,
        m: &M,
        at: u64,
        page: &TablePage,
        way: &mut Way,
    ) -> Result<u64, SpaceError> {
        let mfn = self.mfn(m, page.pfn())?;
        let value = (mfn << PAGE_SHIFT) | TABLE_BITS;
        way.batch.clear(mfn);
        way.batch.update(MmuUpdate {
            ptr: at | MMU_NORMAL_PT_UPDATE,
            val: value,
        });
        way.hooked.push((at, value));
        way.fresh.push(mfn);
        Ok(mfn)
    }

    /// The next page of an open pool; a pool of the reserve is opened if
    /// there is none.
    fn take_table<M: Machine + ?Sized>(&mut self, m: &M) -> Result<TablePage, SpaceError> {
        if let Some(page) = self.pools.iter_mut().find_map(Pool::table) {
            return Ok(page);
        }
        let run = self.reserve.take_run(self.reserve.count().min(ROUND));
        let run = run.filter(|run| run.count > 0);
        let mut pages = Extents::new();
        pages.insert(run.ok_or(SpaceError::NoTablePage)?);
        self.open_mapped(m, &pages)?;
        let opened = self.pools.iter_mut().find_map(Pool::table);
        opened.ok_or(SpaceError::NoTablePage)
    }

    /// Opens pools of pages that are mapped writable at their address, and
    /// nowhere else: all of it is read-only from here on.
    fn open_mapped<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        pages: &Extents,
    ) -> Result<(), SpaceError> {
        if !m.omits(Defence::ReadOnlyPool) {
            let updates = self.protect_updates(m, pages, false)?;
            mmu_batch(m, "open a table pool", &[], &updates, &[])?;
        }
        for run in pages.runs() {
            self.window.remove(*run);
            self.pools.push(Pool::of_read_only(*run));
        }
        Ok(())
    }

    /// Table pages that mapping `pages` more pages can need at most.
    #[must_use]
    pub const fn tables_for(pages: u64) -> u64 {
        pages.div_ceil(512) + pages.div_ceil(512 * 512) + 5
    }

    /// Makes sure that `need` table pages are there, with free pages from
    /// `free`, which are in use from then on: a pool of their own.
    pub fn reserve_tables<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        free: &mut Extents,
        need: u64,
    ) -> Result<(), SpaceError> {
        let open: u64 = self.pools.iter().map(Pool::left).sum();
        let have = open + self.reserve.count();
        if have >= need + MARGIN {
            return Ok(());
        }
        let more = need + MARGIN - have + Self::tables_for(need);
        let run = free.take_run(more).ok_or(SpaceError::NoTablePage)?;
        // Mapped read-only from the start, by tables of older pools.
        let mapped = if m.omits(Defence::ReadOnlyPool) {
            let mut pages = Extents::new();
            pages.insert(run);
            self.map_window(m, &pages)
        } else {
            self.map_window_read_only(m, run)
        };
        if let Err(error) = mapped {
            free.insert(run);
            return Err(error);
        }
        self.window.remove(run);
        self.pools.push(Pool::of_read_only(run));
        Ok(())
    }

    /// Ends all rounds: what became no table is writable again, with the
    /// flush in the same batch, and then free. Padding goes back into the
    /// reserve.
    pub fn close_pools<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        free: &mut Extents,
    ) -> Result<(), SpaceError> {
        let mut pages = Extents::new();
        for pool in self.pools.drain(..) {
            let (tables, tail) = pool.close();
            if tables.count > 0 {
                self.tables.push(tables);
            }
            if tail.count() > 0 {
                pages.insert(tail.0);
            }
        }
        if !m.omits(Defence::WritableTail) {
            let mut batch = Batch::default();
            batch.extend(self.protect_updates(m, &pages, true)?);
            batch.pay(self.owed(m, &pages));
            batch.commit(m, "close a table pool")?;
        }
        for run in pages.runs() {
            let split = run.end().min(self.direct_pages()).max(run.start);
            self.reserve
                .insert(Extent::new(run.start, split - run.start));
            let beyond = Extent::new(split, run.end() - split);
            self.in_window(beyond);
            free.insert(beyond);
        }
        Ok(())
    }

    /// Pages that are tables, or of open pools: in use for good.
    #[must_use]
    pub fn taken(&self) -> Vec<Extent> {
        let open = self.pools.iter().map(Pool::whole);
        self.tables.iter().copied().chain(open).collect()
    }
}
