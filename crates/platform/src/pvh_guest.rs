//! A PVH guest: its pages, its mappings, its hand-off.

use alloc::{string::String, vec::Vec};

use kexen_abi::{
    PAGE_SIZE,
    hvm::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HvmModlistEntry, MEMMAP_TYPE_RAM},
};
use kexen_bootconfig::options::Options;
use kexen_guest::{
    Defence, Extent, Extents,
    console::Console,
    events,
    hvm::{AddressSpace, Start, space::IDENTITY_PAGES},
    hypercall,
};
use kexen_handoff::{
    HandoffError, Ledger, OnDemand, Released,
    ledger::{Claim, Holder, Kind},
    placement::{self, Chosen, Placement},
    pvh,
};
use kexen_image::{GuestType, start::Relocation};

use crate::{
    guest::{GLANCE, Guest, HeapFor, HeapPieces, MODULE_BUFFER, Outcome, Ready, Stock, lists_for},
    native::{Entry, Native, VcpuMain},
    pci,
};

/// The guest, as the boot image sees it.
#[derive(Debug)]
pub struct PvhGuest<M: 'static> {
    m: &'static M,
    start: Start,
    space: AddressSpace,
    stock: Stock,
    module: Option<Module>,
    console: Console,
    ledger: Ledger,
    /// Whether it is a full HVM guest, with firmware and emulated devices.
    hvm: bool,
    /// What it has of its memory, if it is populated on demand.
    on_demand: Option<OnDemand>,
    /// Pages that are in no use, of which Xen would have to make memory.
    beyond: Extents,
    /// If it is populated on demand: pages that were mapped so far, but to be
    /// looked at.
    touched: Extents,
}

/// The boot module: where it is, and its bytes.
#[derive(Debug)]
enum Module {
    /// Where the toolstack put it.
    InPlace(u64, u64),
    /// In pages of this guest's, mapped one after the other.
    Mapped(Vec<u64>, u64),
}

impl Module {
    const fn len(&self) -> u64 {
        match self {
            Self::InPlace(_, len) | Self::Mapped(_, len) => *len,
        }
    }
}

impl<M: Native> PvhGuest<M> {
    /// Takes stock of what the builder left.
    pub fn new(m: &'static M, start: Start) -> Result<Self, HandoffError> {
        Self::with(m, start, false)
    }

    /// The same for an HVM guest, which the firmware started.
    pub fn hvm(m: &'static M, start: Start) -> Result<Self, HandoffError> {
        Self::with(m, start, true)
    }

    fn with(m: &'static M, mut start: Start, hvm: bool) -> Result<Self, HandoffError> {
        if hvm
            && start.modules.is_empty()
            && let Some((paddr, size)) = Options::module_of(&start.command_line)
        {
            start.modules.push(HvmModlistEntry {
                paddr,
                size,
                cmdline_paddr: 0,
                reserved: 0,
            });
        }
        let ram = start.ram().count();
        // A dom0's memory map is the machine's.
        let on_demand = if start.is_dom0() || m.omits(Defence::OnDemand) {
            None
        } else {
            let reservation = hypercall::current_reservation(m)?;
            OnDemand::of(ram, reservation, || elsewhere(m, &start, hvm))
        };
        let mut free = start.ram();
        // The firmware's, in an HVM guest.
        free.remove(Extent::new(0, if hvm { 256 } else { 1 }));
        let (image, end) = m.image();
        free.remove(Extent::covering(image, end - image));
        // The start structure has been read, and is in the midst of memory.
        for module in &start.modules {
            free.remove(Extent::covering(module.paddr, module.size));
        }
        let console = if start.is_dom0() {
            Console::Hypervisor
        } else {
            let page = hypercall::hvm_param(m, "console page", HVM_PARAM_CONSOLE_PFN)?;
            let port = hypercall::hvm_param(m, "console port", HVM_PARAM_CONSOLE_EVTCHN)?;
            // The page is in a hole of the memory map, or the last of RAM.
            free.remove(Extent::new(page, 1));
            Console::Ring {
                page: page * PAGE_SIZE,
                port: u32::try_from(port).unwrap_or(0),
            }
        };
        let all = free.clone();
        if let Some(on_demand) = &on_demand {
            free = on_demand.limit(&all);
        }
        let mut beyond = all;
        for run in free.runs() {
            beyond.remove(*run);
        }
        let module = start
            .modules
            .first()
            .map(|module| Module::InPlace(module.paddr, module.size));
        let mut guest = Self {
            m,
            start,
            space: AddressSpace::new(m.root_table()),
            stock: Stock {
                free,
                ..Stock::default()
            },
            module,
            console,
            ledger: Ledger::new(),
            hvm,
            on_demand,
            beyond,
            touched: Extents::new(),
        };
        let module = guest.module.as_ref().map_or(0, Module::len);
        guest.grow_heap(lists_for(module))?;
        // This piece is for good.
        guest.stock.heap = HeapPieces::default();
        Ok(guest)
    }

    /// What the builder left.
    #[must_use]
    pub const fn start(&self) -> &Start {
        &self.start
    }

    /// Whether it is a full HVM guest.
    #[must_use]
    pub const fn is_hvm(&self) -> bool {
        self.hvm
    }

    /// A page number outside the memory map, with free ones above it: for
    /// shared info and the grant table.
    #[must_use]
    pub fn hole(&self) -> u64 {
        self.start.hole()
    }

    /// Takes a run of pages below 4 GiB.
    pub(crate) fn take_low(
        &mut self,
        pages: u64,
        what: &'static str,
    ) -> Result<Extent, HandoffError> {
        pvh::take_below(&mut self.stock.free, IDENTITY_PAGES, pages, what)
    }

    /// Maps shared info into a hole of the memory map for `look`, entered in
    /// the ledger meanwhile; afterwards neither page nor hole is left.
    fn with_shared_info(
        &mut self,
        look: &mut dyn FnMut(&Self, u64) -> Result<(), HandoffError>,
    ) -> Result<(), HandoffError> {
        let gfn = self.start.hole();
        let kind = Kind::SharedInfoPhysmap { gfn };
        hypercall::map_shared_info(self.m, gfn)?;
        self.ledger.enter(Claim {
            kind,
            holder: Holder::Xen,
            writes: true,
            remedy: "XENMEM_remove_from_physmap",
        });
        let result = look(self, gfn * PAGE_SIZE);
        hypercall::remove_from_physmap(self.m, gfn)?;
        self.ledger.strike(kind);
        result
    }
}

impl<M: Native> Guest for PvhGuest<M> {
    type M = M;

    fn machine(&self) -> &'static M {
        self.m
    }

    fn guest_type(&self) -> GuestType {
        if self.hvm {
            GuestType::Hvm
        } else if self.start.is_dom0() {
            GuestType::Dom0Pvh
        } else {
            GuestType::Pvh
        }
    }

    fn memory(&self) -> u64 {
        self.start.ram().count() * PAGE_SIZE
    }

    fn console(&self) -> Console {
        self.console
    }

    fn command_line(&self) -> String {
        self.start.command_line.clone()
    }

    fn keep_tables(&mut self) {
        for page in self.space.tables() {
            self.stock.kept.insert(Extent::new(*page, 1));
        }
    }

    fn choose(&mut self, placement: &Placement) -> Result<Chosen, HandoffError> {
        // The trampoline copies without paging: all of it below 4 GiB.
        let mut low = self.stock.free.within(Extent::new(0, IDENTITY_PAGES));
        let chosen = placement.choose(&mut low)?;
        for page in chosen.all() {
            self.stock.free.remove(Extent::new(page, 1));
        }
        // What is copied there last is touched too.
        let far = |(to, _): &&(u64, u64)| self.beyond.contains(*to);
        let want = chosen.content(placement).iter().filter(far).count();
        let (want, have) = (u64::try_from(want).unwrap_or(0), self.stock.free.count());
        self.stock.free.take(want).ok_or(HandoffError::Memory {
            what: "the kernel's place",
            want,
            have,
        })?;
        Ok(chosen)
    }

    fn map_module(&mut self) -> Result<Option<(u64, u64)>, HandoffError> {
        match &self.module {
            None => Ok(None),
            Some(Module::InPlace(at, len)) => Ok(Some((*at, *len))),
            Some(Module::Mapped(pages, len)) => {
                let (pages, len) = (pages.clone(), *len);
                self.map(MODULE_BUFFER, &pages)?;
                Ok(Some((MODULE_BUFFER, len)))
            }
        }
    }

    fn map(&mut self, at: u64, pages: &[u64]) -> Result<(), HandoffError> {
        let result = self.space.map(self.m, &mut self.stock.free, at, pages);
        self.keep_tables();
        self.stock.mapped(at, pages.len());
        if self.on_demand.is_some() && at != GLANCE {
            for page in pages {
                self.touched.insert(Extent::new(*page, 1));
            }
        }
        Ok(result?)
    }

    fn unmap(&mut self, at: u64, pages: u64) -> Result<(), HandoffError> {
        self.stock.areas.retain(|area| area.0 != at);
        Ok(self.space.unmap(self.m, &mut self.stock.free, at, pages)?)
    }

    fn address(&self, page: u64) -> u64 {
        page * PAGE_SIZE
    }

    fn map_in_place(&mut self, pages: &Extents) -> Result<(), HandoffError> {
        // Below 4 GiB everything is mapped one to one already.
        let high = pages.within(Extent::new(IDENTITY_PAGES, u64::MAX / PAGE_SIZE));
        for run in high.runs() {
            let pages: Vec<u64> = (run.start..run.end()).collect();
            self.map(run.start * PAGE_SIZE, &pages)?;
        }
        Ok(())
    }

    fn leave_out(&mut self, page: u64) -> bool {
        self.start.leave_out(page)
    }

    fn on_demand(&self) -> Option<OnDemand> {
        self.on_demand
    }

    fn start_vcpu(&mut self, vcpu: u32, main: VcpuMain<M>) -> Result<(), String> {
        self.m
            .start_vcpu(vcpu, None, main)
            .map_err(|error| alloc::format!("{error}"))
    }

    fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    fn stock(&mut self) -> &mut Stock {
        &mut self.stock
    }

    fn step_aside(&mut self) {
        // Where firmware and device model have used low memory, it stays put.
        if self.hvm {
            return;
        }
        let (image, end) = self.m.image();
        let was = Extent::covering(image, end - image);
        let below = self.stock.free.within(Extent::new(0, was.start));
        let align = M::IMAGE_ALIGN / PAGE_SIZE;
        let Some(to) = below.first_run(was.count, align) else {
            return;
        };
        if !self.m.move_image(to.start * PAGE_SIZE) {
            return;
        }
        self.space.moved(self.m.root_table());
        self.stock.free.remove(to);
        self.stock.kept.insert(to);
        self.stock.give_back(was);
    }

    fn heap_run(&mut self, pages: u64, to: HeapFor) -> Result<Extent, HandoffError> {
        if to == HeapFor::Disks {
            let low = self.stock.free.within(Extent::new(0, IDENTITY_PAGES));
            if let Some(run) = low.first_run(pages, 1) {
                self.stock.free.remove(run);
                return Ok(run);
            }
        }
        self.take_low(pages, to.name())
    }

    fn replace_module(&mut self, pages: Vec<u64>, len: u64) -> Result<(), HandoffError> {
        match self.module.replace(Module::Mapped(pages, len)) {
            Some(Module::InPlace(at, len)) => self.stock.give_back(Extent::covering(at, len)),
            Some(Module::Mapped(pages, _)) => {
                for page in pages {
                    self.stock.give_back(Extent::new(page, 1));
                }
            }
            None => {}
        }
        Ok(())
    }

    fn elsewhere(&self, kernel: (u64, u64), how: &Relocation) -> Option<u64> {
        let mut ram = self.start.ram();
        let place = Extent::covering(kernel.0, kernel.1.checked_sub(kernel.0)?);
        if ram.within(place).count() == place.count {
            return None;
        }
        // A ring that is the last page of RAM stays where it is.
        if let Console::Ring { page, .. } = self.console {
            ram.remove(Extent::covering(page, PAGE_SIZE));
        }
        let limits = (how.min.into(), how.max.into());
        placement::elsewhere(&ram, kernel, how.align?.into(), limits)
    }

    type Staged = pvh::Staged;

    fn stage(&mut self, kernel: &Ready<'_>) -> Result<(pvh::Staged, Outcome), HandoffError> {
        let m = self.m;
        let (protocol, code) = if self.hvm {
            let setup_header = kernel.setup_header;
            (
                pvh::Protocol::Linux { setup_header },
                m.trampoline(Entry::Linux),
            )
        } else {
            (pvh::Protocol::Pvh, m.trampoline(Entry::Pvh))
        };
        let initrd = match kernel.initrd {
            None => None,
            Some((offset, len)) => Some(self.initrd(offset, len)?),
        };
        let give_up = self.give_up()?;
        let input = pvh::Input {
            protocol,
            entry: kernel.plan.entry,
            give_up: &give_up,
            placement: kernel.placement,
            chosen: kernel.chosen,
            initrd,
            command_line: kernel.command_line,
        };
        let loaded = pvh::Loaded::load(&self.start, &mut self.stock.free, &input)?;
        let late = loaded.copied_late();
        let staged = loaded.stage(m, code)?;
        let outcome = Outcome {
            moved: late,
            command_line_at: staged.command_line_at(),
        };
        Ok((staged, outcome))
    }

    fn release(&mut self, staged: pvh::Staged) -> Result<Released, HandoffError> {
        staged.quiesce(&self.ledger)?.release(&self.ledger)
    }

    fn grant_table(&mut self) -> Result<u64, String> {
        // Beside the hole that is used for shared info.
        let gfn = self.start.hole() + 1;
        hypercall::map_grant_frame(self.m, 0, gfn).map_err(|error| alloc::format!("{error}"))?;
        Ok(gfn * PAGE_SIZE)
    }

    fn frame(&self, page: u64) -> Result<u64, HandoffError> {
        Ok(page)
    }

    fn memory_to_abandon(&mut self) -> kexen_guest::abandon::Memory<'_> {
        kexen_guest::abandon::Memory::Pvh
    }

    #[cfg(feature = "probe")]
    fn map_orphan(&mut self, _: u64) -> Result<Option<(u64, u64)>, HandoffError> {
        Ok(None)
    }

    #[cfg(feature = "probe")]
    fn world(&mut self) -> Result<kexen_differential::world::World, String> {
        use kexen_differential::world::{PvhPlaces, World};
        let places = PvhPlaces {
            first_hole: self.start.hole() + 3,
            scratch: self.m.scratch(),
        };
        World::pvh(self.m, &mut self.stock.free, places).map_err(|e| alloc::format!("{e}"))
    }

    fn mapped(&self) -> u64 {
        0
    }

    fn wait_for_input(&mut self) {
        let Console::Ring { port, .. } = self.console else {
            let _ = hypercall::sched_yield(self.m);
            return;
        };
        let _ = self.with_shared_info(&mut |guest, at| {
            let _ = events::wait(guest.m, at, port, guest.m.scratch());
            Ok(())
        });
    }
}

impl<M: Native> PvhGuest<M> {
    /// Where Xen populates on demand: pages that this kernel has written and the
    /// next one need not have. Full of zeroes they are Xen's to take back when it
    /// runs short, so that the next kernel has what it would have had without
    /// this one. Free ones are zeroed at once, the others by the trampoline.
    fn give_up(&mut self) -> Result<Extents, HandoffError> {
        if self.on_demand.is_none() {
            return Ok(Extents::new());
        }
        let mut pages = self.touched.clone();
        if let Some(Module::InPlace(at, len)) = self.module {
            pages.insert(Extent::covering(at, len));
        }
        let (image, end) = self.m.image();
        pages.insert(Extent::covering(image, end - image));
        // Not all that the heap has, or had, was used: what is as it was stays so.
        let heap = self.stock.kept.runs().iter();
        for run in heap.chain(self.stock.returned.runs()) {
            pages.extend(&self.space.written(self.m, *run)?);
        }
        let low = self.stock.free.within(Extent::new(0, IDENTITY_PAGES));
        for run in low.runs() {
            for part in pages.within(*run).runs() {
                let (at, bytes) = (part.start * PAGE_SIZE, part.count * PAGE_SIZE);
                self.m.fill(at, bytes, 0)?;
                pages.remove(*part);
            }
        }
        Ok(pages)
    }

    /// Address and bytes of the initrd: in the boot module where it lies
    /// there on whole pages in order, a copy of it otherwise (Linux gives
    /// the pages of an initrd back whole, and warns where they are not).
    fn initrd(&mut self, offset: u64, len: u64) -> Result<(u64, u64), HandoffError> {
        let (from, in_place) = match &self.module {
            Some(Module::InPlace(at, _)) => (at + offset, Some(at + offset)),
            Some(Module::Mapped(pages, _)) => {
                (MODULE_BUFFER + offset, in_order(pages, offset, len))
            }
            None => return Ok((0, 0)),
        };
        if let Some(address) = in_place.filter(|address| address.is_multiple_of(PAGE_SIZE)) {
            return Ok((address, len));
        }
        let run = self.take_low(len.div_ceil(PAGE_SIZE), "the initrd")?;
        self.m.copy(from, run.start * PAGE_SIZE, len)?;
        Ok((run.start * PAGE_SIZE, len))
    }
}

/// Pages of the reservation that may be outside of the memory map's RAM. In a
/// PVH guest the map names them: Xen's special pages, ACPI's tables. Those of the
/// start structure count as such: they are free, but were touched. In an HVM
/// guest they are the graphics card's memory and what the firmware has made.
fn elsewhere<M: Native>(m: &'static M, start: &Start, hvm: bool) -> u64 {
    if !hvm {
        let others = start.memmap.iter().filter(|e| e.kind != MEMMAP_TYPE_RAM);
        let others: u64 = others.map(|e| e.size.div_ceil(PAGE_SIZE)).sum();
        return others + start.bytes().div_ceil(PAGE_SIZE) + 1;
    }
    let cards = pci::functions(m).filter(|function| function.is_display());
    let bars = cards.map(|card| card.bar_bytes(0).min(MOST_VIDEO) / PAGE_SIZE);
    bars.sum::<u64>() + FIRMWARE
}

/// Pages that an HVM guest's firmware and device model make for themselves:
/// libxl allows 256 beside `memory` (`LIBXL_MAXMEM_CONSTANT`).
const FIRMWARE: u64 = 256;
/// Bytes of a graphics card's memory that are believed.
const MOST_VIDEO: u64 = 128 << 20;

/// Physical address of bytes that are in these pages, if the pages are in
/// order.
fn in_order(pages: &[u64], offset: u64, len: u64) -> Option<u64> {
    let first = usize::try_from(offset / PAGE_SIZE).ok()?;
    let last = usize::try_from((offset + len).div_ceil(PAGE_SIZE)).ok()?;
    let own = pages.get(first..last)?;
    let ordered = own.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let start = own.first().filter(|_| ordered)?;
    Some(start * PAGE_SIZE + offset % PAGE_SIZE)
}
