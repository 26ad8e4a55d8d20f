//! A PV guest: its pages, its mappings, its hand-off.

use alloc::{boxed::Box, string::String, vec::Vec};

use kexen_abi::PAGE_SIZE;
use kexen_guest::{
    Defence, Extent, Extents,
    console::Console,
    events,
    pv::{AddressSpace, Start, start::PADDING_PAGES},
};
use kexen_handoff::{
    HandoffError, Ledger, Released,
    ledger::{Claim, Holder, Kind},
    pv::{self, Own, Stage},
};
use kexen_image::GuestType;

use crate::{
    guest::{
        BUFFER, GLANCE, Guest, HeapFor, HeapPieces, INITRD_COPY, MODULE_BUFFER, Outcome, Ready,
        Stock, lists_for,
    },
    native::{Entry, Native, VcpuMain},
};

/// Virtual address of pfn 0, as this image's notes ask.
pub const VIRT_BASE: u64 = 0xffff_ffff_c000_0000;
/// Pages that are set aside for the hand-off.
const ASIDE: u64 = 256;
/// Where shared info is mapped while it is looked at.
const SHARED_INFO: u64 = GLANCE + (1 << 32);
/// Where a busy kernel has it all the time.
const SHARED_INFO_KEPT: u64 = GLANCE + (4 << 32);
/// Where the grant table is mapped.
const GRANT_TABLE: u64 = GLANCE + (2 << 32);
/// Where a probe looks at a frame without a page.
#[cfg(feature = "probe")]
const ORPHAN: u64 = GLANCE + (3 << 32);

/// Defences of the pools that tables come from.
const POOLS: [Defence; 3] = [Defence::ReadOnlyPool, Defence::WritableTail, Defence::Flush];

/// The guest, as the boot image sees it.
#[derive(Debug)]
pub struct PvGuest<M: 'static> {
    m: &'static M,
    start: Start,
    space: AddressSpace,
    stock: Stock,
    /// Free pages that are mapped writable twice: never tables.
    mapped_free: Extents,
    module: Option<Module>,
    console: Console,
    ledger: Ledger,
}

/// The boot module: its pages, and its bytes.
#[derive(Debug)]
enum Module {
    /// Where the toolstack put it.
    InPlace(Extent, u64),
    /// In pages of this guest's.
    Pages(Vec<u64>, u64),
}

impl Module {
    const fn len(&self) -> u64 {
        match self {
            Self::InPlace(_, len) | Self::Pages(_, len) => *len,
        }
    }

    /// Its pages.
    fn pages(&self) -> Vec<u64> {
        self.some_pages(0, usize::MAX)
    }

    /// So many of them, from the `first` on.
    fn some_pages(&self, first: usize, count: usize) -> Vec<u64> {
        match self {
            Self::InPlace(run, _) => (run.start..run.end()).skip(first).take(count).collect(),
            Self::Pages(pages, _) => pages.iter().copied().skip(first).take(count).collect(),
        }
    }

    /// Its pages as a set.
    fn extents(&self) -> Extents {
        let mut all = Extents::new();
        match self {
            Self::InPlace(run, _) => all.insert(*run),
            Self::Pages(pages, _) => pages
                .iter()
                .for_each(|page| all.insert(Extent::new(*page, 1))),
        }
        all
    }
}

impl<M: Native> PvGuest<M> {
    /// Takes stock of what the builder left.
    pub fn new(m: &'static M, start: Start) -> Result<Self, HandoffError> {
        let boot = start.boot_pages();
        let direct = boot + PADDING_PAGES;
        let p2m = start.info.mfn_list;
        let table = (start.info.pt_base - start.virt_base) / PAGE_SIZE;
        let root = m.read64(p2m + table * 8)?;
        let pool = Extent::new(boot, PADDING_PAGES);
        let space = AddressSpace::new(&start, root, direct, pool);
        let mut free = Extents::new();
        free.insert(Extent::new(0, start.info.nr_pages));
        // What the builder mapped beyond the padding that this image uses.
        let mut mapped_end = direct;
        while space
            .lookup(m, start.virt_base + mapped_end * PAGE_SIZE)?
            .is_some()
        {
            mapped_end += 1;
        }
        free.remove(Extent::new(0, mapped_end));
        let mut mapped_free = Extents::new();
        mapped_free.insert(Extent::new(direct, mapped_end - direct));
        let mut module = None;
        if let Some((pages, len)) = start.module() {
            free.remove(pages);
            mapped_free.remove(pages);
            module = Some(Module::InPlace(pages, len));
        }
        if let Some(pages) = start.p2m_frames() {
            free.remove(pages);
        }
        let console = if start.is_dom0() {
            Console::Hypervisor
        } else {
            let pfn = space.pfn(m, start.info.console_mfn)?;
            Console::Ring {
                page: space.address(pfn),
                port: start.info.console_evtchn,
            }
        };
        let mut ledger = Ledger::new();
        ledger.enter(Claim {
            kind: Kind::CurrentTables { mfn: root },
            holder: Holder::Xen,
            writes: false,
            remedy: "a new base pointer, then MMUEXT_UNPIN_TABLE",
        });
        let mut guest = Self {
            m,
            start,
            space,
            stock: Stock {
                free,
                ..Stock::default()
            },
            mapped_free,
            module,
            console,
            ledger,
        };
        let module = guest.module.as_ref().map_or(0, Module::len);
        guest.grow_heap(lists_for(module))?;
        // This piece is for good.
        guest.stock.heap = HeapPieces::default();
        // The p2m list's own tables are walked later.
        if let Some(pages) = guest.start.p2m_frames() {
            let need = AddressSpace::tables_for(pages.count);
            guest.space.reserve_tables(m, &mut guest.stock.free, need)?;
            guest.space.map_window_read_only(m, pages)?;
        }
        if POOLS.iter().any(|defence| m.omits(*defence)) {
            // Padding alone would do for a small guest: a round of free pages.
            guest.space.reserve_tables(m, &mut guest.stock.free, 160)?;
        }
        Ok(guest)
    }

    /// Maps shared info for the rest of this kernel's life; its address. The
    /// mapping goes with the page tables, at the jump.
    pub fn map_shared_info(&mut self) -> Result<u64, HandoffError> {
        let mfn = self.start.info.shared_info / PAGE_SIZE;
        self.space.reserve_tables(self.m, &mut self.stock.free, 4)?;
        self.space
            .map_frames(self.m, SHARED_INFO_KEPT, &[mfn], true)?;
        let kind = Kind::SharedInfoMapping {
            address: SHARED_INFO_KEPT,
        };
        self.ledger.enter(Claim::of(kind, Holder::Xen));
        Ok(SHARED_INFO_KEPT)
    }

    /// Address of the store's ring, and its port.
    pub fn store_ring(&self) -> Result<(u64, u32), HandoffError> {
        let pfn = self.space.pfn(self.m, self.start.info.store_mfn)?;
        Ok((self.space.address(pfn), self.start.info.store_evtchn))
    }

    /// Maps shared info for `look`, entered in the ledger meanwhile.
    fn with_shared_info(
        &mut self,
        look: &mut dyn FnMut(&Self, u64) -> Result<(), HandoffError>,
    ) -> Result<(), HandoffError> {
        let kind = Kind::SharedInfoMapping {
            address: SHARED_INFO,
        };
        let mfn = self.start.info.shared_info / PAGE_SIZE;
        self.space.reserve_tables(self.m, &mut self.stock.free, 4)?;
        self.space.map_frames(self.m, SHARED_INFO, &[mfn], true)?;
        self.ledger.enter(Claim {
            kind,
            holder: Holder::Xen,
            writes: true,
            remedy: "unmap it",
        });
        let result = look(self, SHARED_INFO);
        self.space.unmap(self.m, SHARED_INFO, 1)?;
        self.ledger.strike(kind);
        result
    }

    /// The pages of the initrd: the boot module's own where it begins on a
    /// page boundary there, a copy of it otherwise.
    fn initrd_pages(
        &mut self,
        kernel: &Ready<'_>,
    ) -> Result<Option<(Vec<u64>, u64)>, HandoffError> {
        let (Some((offset, len)), Some(module)) = (kernel.initrd, &self.module) else {
            return Ok(None);
        };
        let count = len.div_ceil(PAGE_SIZE);
        if offset.is_multiple_of(PAGE_SIZE) {
            let first = usize::try_from(offset / PAGE_SIZE).unwrap_or(usize::MAX);
            let count = usize::try_from(count).unwrap_or(0);
            return Ok(Some((module.some_pages(first, count), len)));
        }
        let have = self.stock.free.count();
        let pages = self.stock.free.take(count).ok_or(HandoffError::Memory {
            what: "an initrd that is not page-aligned in the boot module",
            want: count,
            have,
        })?;
        let pages: Vec<u64> = pages.pages().collect();
        self.map(INITRD_COPY, &pages)?;
        self.m.copy(MODULE_BUFFER + offset, INITRD_COPY, len)?;
        Ok(Some((pages, len)))
    }
}

impl<M: Native> Guest for PvGuest<M> {
    type M = M;

    fn machine(&self) -> &'static M {
        self.m
    }

    fn guest_type(&self) -> GuestType {
        if self.start.is_dom0() {
            GuestType::Dom0Pv
        } else {
            GuestType::Pv
        }
    }

    fn memory(&self) -> u64 {
        self.start.info.nr_pages * PAGE_SIZE
    }

    fn console(&self) -> Console {
        self.console
    }

    fn command_line(&self) -> String {
        self.start.command_line()
    }

    fn keep_tables(&mut self) {
        for run in self.space.taken() {
            self.stock.kept.insert(run);
        }
    }

    fn map_module(&mut self) -> Result<Option<(u64, u64)>, HandoffError> {
        let Some(module) = &self.module else {
            return Ok(None);
        };
        let (pages, len) = (module.pages(), module.len());
        self.map(MODULE_BUFFER, &pages)?;
        Ok(Some((MODULE_BUFFER, len)))
    }

    fn map(&mut self, at: u64, pages: &[u64]) -> Result<(), HandoffError> {
        let count = u64::try_from(pages.len()).unwrap_or(u64::MAX);
        let need = AddressSpace::tables_for(count);
        self.space
            .reserve_tables(self.m, &mut self.stock.free, need)?;
        self.space.map(self.m, at, pages)?;
        self.stock.mapped(at, pages.len());
        Ok(())
    }

    fn unmap(&mut self, at: u64, pages: u64) -> Result<(), HandoffError> {
        self.stock.areas.retain(|area| area.0 != at);
        Ok(self.space.unmap(self.m, at, pages)?)
    }

    fn address(&self, page: u64) -> u64 {
        self.space.address(page)
    }

    fn map_in_place(&mut self, pages: &Extents) -> Result<(), HandoffError> {
        let runs = u64::try_from(pages.runs().len()).unwrap_or(u64::MAX);
        let need = AddressSpace::tables_for(pages.count()) + 2 * runs;
        self.space
            .reserve_tables(self.m, &mut self.stock.free, need)?;
        Ok(self.space.map_window(self.m, pages)?)
    }

    fn start_vcpu(&mut self, vcpu: u32, main: VcpuMain<M>) -> Result<(), String> {
        self.m
            .start_vcpu(vcpu, Some(self.space.root()), main)
            .map_err(|error| alloc::format!("{error}"))
    }

    fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    fn jump_gives_up(&self) -> Vec<Kind> {
        alloc::vec![Kind::CurrentTables {
            mfn: self.space.root()
        }]
    }

    fn stock(&mut self) -> &mut Stock {
        &mut self.stock
    }

    fn heap_run(&mut self, want: u64, to: HeapFor) -> Result<Extent, HandoffError> {
        // An initrd need not be in one piece here: always the last ones.
        let have = self.stock.free.count();
        let short = HandoffError::Memory {
            what: to.name(),
            want,
            have,
        };
        let run = self.stock.free.take_run(want).ok_or(short)?;
        let mut pages = Extents::new();
        pages.insert(run);
        self.map_in_place(&pages)?;
        Ok(run)
    }

    fn set_aside(&mut self) {
        if self.stock.aside.is_none() {
            self.stock.aside = self.stock.free.take_run(ASIDE);
        }
    }

    fn replace_module(&mut self, pages: Vec<u64>, len: u64) -> Result<(), HandoffError> {
        match self.module.replace(Module::Pages(pages, len)) {
            Some(Module::Pages(pages, _)) => {
                // Nothing may map what can become a table.
                self.unmap(MODULE_BUFFER, u64::try_from(pages.len()).unwrap_or(0))?;
                for page in pages {
                    self.stock.give_back(Extent::new(page, 1));
                }
            }
            Some(old) => self.mapped_free.extend(&old.extents()),
            None => {}
        }
        Ok(())
    }

    type Staged = pv::Staged;

    fn stage(&mut self, kernel: &Ready<'_>) -> Result<(pv::Staged, Outcome), HandoffError> {
        if let Some(run) = self.stock.aside.take() {
            self.stock.free.insert(run);
        }
        let m = self.m;
        let plan = kernel.plan;
        // All is mapped: table pages that were not needed are free again.
        let mut returned = Extents::new();
        self.space.close_pools(m, &mut returned)?;
        for run in returned.runs() {
            self.stock.free.insert(*run);
            self.stock.returned.insert(*run);
        }
        let mut mapped_free = self.mapped_free.clone();
        for page in kernel.chosen.scratch(kernel.placement) {
            mapped_free.insert(Extent::new(page, 1));
        }
        let initrd = self.initrd_pages(kernel)?;
        if let Some(module) = &self.module {
            mapped_free.extend(&module.extents());
        }
        let input = pv::Input {
            kernel: pv::Kernel {
                entry: plan.entry,
                virt_base: plan.virt_base,
                p2m_base: plan.p2m_base,
                unmapped_initrd: plan.unmapped_initrd,
                hypercall_page: plan.hypercall_page,
            },
            placement: kernel.placement,
            chosen: kernel.chosen,
            initrd: initrd.as_ref().map(|(pages, len)| (pages.as_slice(), *len)),
            command_line: kernel.command_line,
            mapped_free,
            own: Own {
                pages: self.start.boot_pages() + PADDING_PAGES,
                buffer: (BUFFER, kernel.buffer_len),
            },
        };
        let loaded = pv::Loaded::load(m, &self.space, &self.start, &mut self.stock.free, &input)?;
        let end = loaded.layout().mapped;
        let moved = loaded.exchanged();
        let mut stubs = Box::new([0; 4096]);
        m.hypercall_stubs(&mut stubs);
        if let Some(value) = plan.hypercall_page
            && stubs.iter().take(2048).all(|byte| *byte == 0)
        {
            return Err(HandoffError::Kernel {
                field: "HYPERCALL_PAGE",
                value,
                why: "there are no stubs to give it: Kexen's own page was never filled",
            });
        }
        let addresses = self.space.addresses();
        let file = &kernel.chosen.file;
        let kernel_address = |page: u64| match (0_u64..).zip(file).find(|(_, p)| **p == page) {
            Some((n, _)) => BUFFER + n * PAGE_SIZE,
            None => addresses.of(page),
        };
        let staged = loaded.stage(
            m,
            &mut self.space,
            &mut self.stock.free,
            &Stage {
                code: m.trampoline(Entry::Pv),
                stubs: &stubs,
                kernel_address: &kernel_address,
            },
        )?;
        self.stock.areas.push((staged.trampoline(), 1));
        // What the next kernel's start of day uses is not free to it.
        self.stock.free.remove(Extent::new(0, end));
        let outcome = Outcome {
            moved,
            command_line_at: staged.command_line_at(),
        };
        Ok((staged, outcome))
    }

    fn release(&mut self, staged: pv::Staged) -> Result<Released, HandoffError> {
        self.with_shared_info(&mut |guest, at| Ok(events::reset(guest.m, at, true)?))?;
        let quiesced = staged.quiesce(&self.space, &self.ledger)?;
        quiesced.release(self.m, &mut self.space, &mut self.ledger)
    }

    fn grant_table(&mut self) -> Result<u64, String> {
        let error = |error: &dyn core::fmt::Display| alloc::format!("{error}");
        let mfn = kexen_guest::hypercall::setup_grant_table(self.m, self.m.scratch())
            .map_err(|e| error(&e))?;
        self.space
            .reserve_tables(self.m, &mut self.stock.free, 4)
            .and_then(|()| self.space.map_frames(self.m, GRANT_TABLE, &[mfn], true))
            .map_err(|e| error(&e))?;
        Ok(GRANT_TABLE)
    }

    fn frame(&self, page: u64) -> Result<u64, HandoffError> {
        Ok(self.space.mfn(self.m, page)?)
    }

    fn memory_to_abandon(&mut self) -> kexen_guest::abandon::Memory<'_> {
        kexen_guest::abandon::Memory::Pv(&mut self.space)
    }

    #[cfg(feature = "probe")]
    fn map_orphan(&mut self, frame: u64) -> Result<Option<(u64, u64)>, HandoffError> {
        self.space.reserve_tables(self.m, &mut self.stock.free, 4)?;
        self.space.map_frames(self.m, ORPHAN, &[frame], false)?;
        Ok(Some((ORPHAN, self.space.pfn(self.m, frame)?)))
    }

    #[cfg(feature = "probe")]
    fn world(&mut self) -> Result<kexen_differential::world::World, String> {
        use kexen_differential::world::{PvPlaces, World};
        let grants = self.grant_table()?;
        let shared_info_frame = self.start.info.shared_info / PAGE_SIZE;
        let error = |error: &dyn core::fmt::Display| alloc::format!("{error}");
        self.space
            .reserve_tables(self.m, &mut self.stock.free, 4)
            .and_then(|()| {
                let frames = [shared_info_frame];
                self.space.map_frames(self.m, SHARED_INFO, &frames, true)
            })
            .map_err(|e| error(&e))?;
        let places = PvPlaces {
            shared_info_frame,
            shared_info: SHARED_INFO,
            grants,
            scratch: self.m.scratch(),
        };
        World::pv(self.m, &mut self.space, &mut self.stock.free, places).map_err(|e| error(&e))
    }

    fn mapped(&self) -> u64 {
        self.space.mapped() * PAGE_SIZE
    }

    fn wait_for_input(&mut self) {
        let Console::Ring { port, .. } = self.console else {
            let _ = kexen_guest::hypercall::sched_yield(self.m);
            return;
        };
        let _ = self.with_shared_info(&mut |guest, at| {
            let _ = events::wait(guest.m, at, port, guest.m.scratch());
            Ok(())
        });
    }
}
