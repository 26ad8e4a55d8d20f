//! The PV hand-off as a type-state.
//!
//! Order of steps:
//! 1. [`Loaded::load`]: layout, exchange and every page chosen; nothing of
//!    the guest's state has changed but what is reserved.
//! 2. [`Loaded::stage`]: `start_info`, trampoline and page tables written
//!    into their pages, through mappings that are still writable.
//! 3. [`Staged::quiesce`]: one vCPU, no devices: the ledger must hold
//!    nothing but what the rest of the way gives up.
//! 4. [`Quiesced::release`]: the table pages made read-only and the L4
//!    pinned, M2P and p2m list exchanged.
//! 5. [`Released::jump`]: base pointer, unpin, registers, jump.
//!
//! Memory shared with others: the console and xenstore rings with their backends, which go to
//! the next kernel as they are.

use alloc::vec::Vec;
use core::mem::offset_of;

use kexen_abi::{
    PAGE_SHIFT, PAGE_SIZE,
    mmu::{MMU_MACHPHYS_UPDATE, MmuUpdate},
    start_info::StartInfo,
};
use kexen_guest::{
    Defence, Extent, Extents, HypercallError, Machine,
    hypercall::mmu_update,
    pv::{AddressSpace, Start, space::WINDOW},
};

use super::{
    build,
    exchange::{Exchange, Moves},
    layout::{Layout, Request},
};
use crate::{
    HandoffError, Ledger, Released,
    ledger::{Claim, Holder, Kind},
    placement::{Chosen, Placement, holder},
};

/// What the kernel's notes and headers say.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Virtual entry point.
    pub entry: u64,
    /// Virtual address of pfn 0.
    pub virt_base: u64,
    /// Where the kernel wants the p2m list.
    pub p2m_base: Option<u64>,
    /// Takes its initrd unmapped.
    pub unmapped_initrd: bool,
    /// Virtual address of the page for hypercall stubs.
    pub hypercall_page: Option<u64>,
}

/// What the jump needs to know of the trampoline, and the other way round.
///
/// The trampoline is a page of the padding, mapped at the same address in
/// both address spaces. The code is at its start; this follows at
/// [`TRAMPOLINE_DATA`].
#[derive(Clone, Copy, Debug, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct TrampolineData {
    /// `mmuext_op` requests: new base pointer, unpin the old L4.
    pub ops: [kexen_abi::mmu::MmuExtOp; 2],
    /// How many of them to make.
    pub op_count: u64,
    /// Requests done, as Xen reports.
    pub done: u64,
    /// The next kernel's entry point.
    pub entry: u64,
    /// Its stack pointer.
    pub stack: u64,
    /// Its `start_info`.
    pub start_info: u64,
}

/// Offset of [`TrampolineData`] in the trampoline's page.
pub const TRAMPOLINE_DATA: u64 = 2048;

/// Addresses of this kernel that the trampoline's must keep clear of.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// Pages of the start-of-day region that this kernel uses.
    pub pages: u64,
    /// Where the decompressor's buffer is, and its bytes.
    pub buffer: (u64, u64),
}

/// A hand-off of which everything is decided.
#[derive(Debug)]
pub struct Loaded {
    kernel: Kernel,
    layout: Layout,
    exchange: Exchange,
    info: StartInfo,
    start: Start,
    /// Old pfns of the pages that this step reserved.
    table_pages: Extent,
    info_page: u64,
    trampoline_page: u64,
    trampoline_pfn: u64,
    /// Old pfn of the page for hypercall stubs.
    hypercall_page: Option<u64>,
}

/// What [`Loaded::load`] works on.
#[derive(Debug)]
pub struct Input<'a> {
    /// The kernel's notes.
    pub kernel: Kernel,
    /// Where its bytes go.
    pub placement: &'a Placement,
    /// Where they are.
    pub chosen: &'a Chosen,
    /// Pages and bytes of the initrd.
    pub initrd: Option<(&'a [u64], u64)>,
    /// The command line.
    pub command_line: &'a str,
    /// Pages that are free, but mapped writable in places: no table may be
    /// made of them.
    pub mapped_free: Extents,
    /// This kernel's own addresses.
    pub own: Own,
}

/// What [`Loaded::stage`] writes from.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct Stage<'a> {
    /// The trampoline's code, at most [`TRAMPOLINE_DATA`] bytes.
    pub code: &'a [u8],
    /// A copy of this kernel's hypercall page.
    pub stubs: &'a [u8; 4096],
    /// Where a page that holds bytes of the kernel can be written.
    pub kernel_address: &'a dyn Fn(u64) -> u64,
}

impl Loaded {
    /// Decides everything. What is left of `free` afterwards is untouched by
    /// the exchange: those pages keep their pfn and their bytes.
    pub fn load<M: Machine + ?Sized>(
        m: &M,
        space: &AddressSpace,
        start: &Start,
        free: &mut Extents,
        input: &Input<'_>,
    ) -> Result<Self, HandoffError> {
        let (initrd_pages, initrd_len) = input.initrd.unwrap_or_default();
        build::check_command_line(input.command_line)?;
        let request = Request {
            virt_base: input.kernel.virt_base,
            kernel: input.placement.kernel,
            initrd_len,
            unmapped_initrd: input.kernel.unmapped_initrd,
            initrd_at: in_order(initrd_pages),
            p2m_base: input.kernel.p2m_base,
            nr_pages: start.info.nr_pages,
            rings: !start.is_dom0(),
        };
        let (layout, trampoline_pfn) = with_trampoline(&request, &input.own, start)?;
        check_kernel(&input.kernel, &layout)?;

        let tables = u64::try_from(layout.table_slots.len()).unwrap_or(u64::MAX);
        let have = free.count();
        let short = |want| HandoffError::Memory {
            what: "page tables",
            want,
            have,
        };
        let table_pages = free.take_run(tables).ok_or_else(|| short(tables))?;
        let rest = free.take_run(3).ok_or_else(|| short(3))?;
        let (info_page, stack_page, trampoline_page) = (rest.start, rest.start + 1, rest.start + 2);

        let kernel = input.chosen.content(input.placement);
        let hypercall_page = input
            .kernel
            .hypercall_page
            .and_then(|va| holder(&kernel, (va - layout.virt_base) / PAGE_SIZE));
        let mut content: Moves = kernel.into_iter().collect();
        if let Some(run) = layout.initrd {
            content.extend((run.start..run.end()).zip(initrd_pages.iter().copied()));
        }
        content.extend((layout.p2m.start..).zip(build::p2m_pages(m, space)?));
        content.push(layout.start_info, info_page);
        content.push(layout.stack, stack_page);
        content.push(trampoline_pfn, trampoline_page);
        for (pfn, mfn) in [
            (layout.store, start.info.store_mfn),
            (layout.console, start.info.console_mfn),
        ] {
            if let Some(pfn) = pfn {
                content.push(pfn, space.pfn(m, mfn)?);
            }
        }
        let slots = (0..tables).map(|n| layout.table_pfn(n));
        content.extend(slots.zip(table_pages.start..));

        let mut untouched = free.clone();
        untouched.extend(&input.mapped_free);
        let region = Extent::new(0, layout.mapped);
        let exchange = Exchange::plan(content, region, &mut untouched)?;
        for run in input.mapped_free.runs() {
            untouched.remove(*run);
        }
        *free = untouched;
        let info = build::start_info(&start.info, &layout, initrd_len, input.command_line)?;
        Ok(Self {
            kernel: input.kernel,
            layout,
            exchange,
            info,
            start: start.clone(),
            table_pages,
            info_page,
            trampoline_page,
            trampoline_pfn,
            hypercall_page,
        })
    }

    /// The layout that the next kernel finds.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// P2m entries that change.
    #[must_use]
    pub fn exchanged(&self) -> u64 {
        self.exchange.count()
    }

    /// Writes everything into its place.
    pub fn stage<M: Machine + ?Sized>(
        self,
        m: &M,
        space: &mut AddressSpace,
        free: &mut Extents,
        with: &Stage<'_>,
    ) -> Result<Staged, HandoffError> {
        let mut pages = Extents::new();
        pages.insert(self.table_pages);
        pages.insert(Extent::new(self.info_page, 1));
        pages.insert(Extent::new(self.trampoline_page, 1));
        space.reserve_tables(m, free, 3 * AddressSpace::tables_for(pages.count()))?;
        space.map_window(m, &pages)?;
        let addresses = space.addresses();
        let at = |page: u64| addresses.of(page);
        build::write_start_info(m, at(self.info_page), &self.start, &self.info)?;
        if let Some(page) = self.hypercall_page {
            m.write((with.kernel_address)(page), with.stubs)?;
        }
        let frame = |pfn: u64| Ok(space.mfn(m, self.exchange.old(pfn))?);
        let table = |n: u64| at(self.table_pages.start + n);
        build::tables(m, &self.layout, &frame, &table)?;
        let new_root = space.mfn(m, self.table_pages.start)?;

        let op = |cmd, mfn| kexen_abi::mmu::MmuExtOp {
            cmd,
            pad: 0,
            arg1: mfn,
            arg2: 0,
        };
        let data = TrampolineData {
            ops: [
                op(kexen_abi::mmu::MMUEXT_NEW_BASEPTR, new_root),
                op(kexen_abi::mmu::MMUEXT_UNPIN_TABLE, space.root()),
            ],
            op_count: if m.omits(Defence::OldTables) { 1 } else { 2 },
            done: 0,
            entry: self.kernel.entry,
            stack: self.layout.address(self.layout.stack + 1),
            start_info: self.layout.address(self.layout.start_info),
        };
        let page = at(self.trampoline_page);
        m.write(page, with.code)?;
        m.write(page + TRAMPOLINE_DATA, zerocopy::IntoBytes::as_bytes(&data))?;
        // The same page at the address where the next kernel will see it.
        let va = self.layout.address(self.trampoline_pfn);
        space.map(m, va, &[self.trampoline_page])?;
        let command_line_at =
            at(self.info_page) + u64::try_from(offset_of!(StartInfo, cmd_line)).unwrap_or(0);
        Ok(Staged {
            loaded: self,
            new_root,
            command_line_at,
        })
    }
}

/// Lays out the kernel so that a page of the padding is free, in this
/// kernel's address space too, for the trampoline.
fn with_trampoline(
    request: &Request,
    own: &Own,
    start: &Start,
) -> Result<(Layout, u64), HandoffError> {
    let taken = [
        (start.virt_base, own.pages * PAGE_SIZE),
        (start.info.mfn_list, start.info.nr_pages * 8),
        (own.buffer.0, own.buffer.1),
        (WINDOW, start.info.nr_pages * PAGE_SIZE),
    ];
    for extra in [0, 1024, 2048, 4096] {
        let layout = Layout::plan(request, extra)?;
        let padding = layout.padding();
        let clear = |pfn: &u64| {
            let va = layout.address(*pfn);
            taken
                .iter()
                .all(|(from, len)| va + PAGE_SIZE <= *from || va >= from + len)
        };
        if let Some(pfn) = (padding.start..padding.end()).rev().find(clear) {
            return Ok((layout, pfn));
        }
    }
    Err(HandoffError::Kernel {
        field: "VIRT_BASE",
        value: request.virt_base,
        why: "its padding lies where Kexen itself runs",
    })
}

/// Addresses of the notes must lie in what they are about.
fn check_kernel(kernel: &Kernel, layout: &Layout) -> Result<(), HandoffError> {
    let from = layout.address(layout.kernel.start);
    let to = layout.address(layout.kernel.end());
    if !(from..to).contains(&kernel.entry) {
        return Err(HandoffError::Kernel {
            field: "ENTRY",
            value: kernel.entry,
            why: "outside the kernel",
        });
    }
    if let Some(va) = kernel.hypercall_page
        && (!(from..to).contains(&va) || !va.is_multiple_of(PAGE_SIZE))
    {
        return Err(HandoffError::Kernel {
            field: "HYPERCALL_PAGE",
            value: va,
            why: "not a page of the kernel",
        });
    }
    Ok(())
}

/// A hand-off that is written, but for the exchange.
#[derive(Debug)]
pub struct Staged {
    loaded: Loaded,
    new_root: u64,
    command_line_at: u64,
}

impl Staged {
    /// Where the next kernel's command line can still be changed, in place.
    #[must_use]
    pub const fn command_line_at(&self) -> u64 {
        self.command_line_at
    }

    /// Where the trampoline's page is mapped, in this address space too.
    #[must_use]
    pub const fn trampoline(&self) -> u64 {
        self.loaded.layout.address(self.loaded.trampoline_pfn)
    }

    /// Checks that nothing but what the jump gives up is outstanding.
    pub fn quiesce(self, space: &AddressSpace, ledger: &Ledger) -> Result<Quiesced, HandoffError> {
        let blockers = ledger.blockers(&[Kind::CurrentTables { mfn: space.root() }]);
        if blockers.is_empty() {
            Ok(Quiesced(self))
        } else {
            Err(HandoffError::Blocked(blockers))
        }
    }
}

/// A hand-off with nothing outstanding.
#[derive(Debug)]
pub struct Quiesced(Staged);

impl Quiesced {
    /// Pins the new tables and makes the exchange. On an error everything is as it was before.
    pub fn release<M: Machine + ?Sized>(
        self,
        m: &M,
        space: &mut AddressSpace,
        ledger: &mut Ledger,
    ) -> Result<Released, HandoffError> {
        let Self(staged) = self;
        let loaded = &staged.loaded;
        let mut tables = Extents::new();
        tables.insert(loaded.table_pages);
        let sealed = space.seal(m, &tables)?;
        if let Err(error) = space.pin(m, &sealed, staged.new_root) {
            space.unseal(m, sealed)?;
            return Err(error.into());
        }
        let pinned = Kind::PinnedTables {
            mfn: staged.new_root,
        };
        ledger.enter(Claim {
            kind: pinned,
            holder: Holder::Xen,
            writes: false,
            remedy: "MMUEXT_UNPIN_TABLE",
        });
        if let Err(error) = commit(m, space, loaded) {
            space.unpin(m, staged.new_root)?;
            ledger.strike(pinned);
            space.unseal(m, sealed)?;
            return Err(error);
        }
        // From here on the pinned tables are the next kernel's, and the
        // current ones go with the jump.
        ledger.strike(pinned);
        Ok(Released::new(loaded.layout.address(loaded.trampoline_pfn)))
    }
}

/// The first of these pages, if they are in order.
fn in_order(pages: &[u64]) -> Option<u64> {
    let ordered = pages.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    pages.first().copied().filter(|_| ordered)
}

/// Makes the exchange in M2P and p2m list. Undone on an error.
fn commit<M: Machine + ?Sized>(
    m: &M,
    space: &AddressSpace,
    loaded: &Loaded,
) -> Result<(), HandoffError> {
    let exchange = &loaded.exchange;
    let mut frames = Vec::with_capacity(usize::try_from(exchange.count()).unwrap_or(0));
    for (_, old) in exchange.pages() {
        frames.push(space.mfn(m, old)?);
    }
    let to = |pfn: fn((u64, u64)) -> u64| {
        let pages = exchange.pages().zip(&frames);
        pages.map(move |(change, mfn)| MmuUpdate {
            ptr: (mfn << PAGE_SHIFT) | MMU_MACHPHYS_UPDATE,
            val: pfn(change),
        })
    };
    if !m.omits(Defence::M2p)
        && let Err(error) = update_m2p(m, "M2P", to(|(new, _)| new))
    {
        update_m2p(m, "M2P undone", to(|(_, old)| old))?;
        return Err(error.into());
    }
    for ((new, _), mfn) in exchange.pages().zip(&frames) {
        m.write64(space.p2m_list() + new * 8, *mfn)?;
    }
    Ok(())
}

/// Entries of M2P of one call: 128 KiB of them.
const M2P_BATCH: usize = 8192;

/// Writes entries of M2P, a batch at a time: all of them would be as large as the
/// lists that the exchange is planned with.
fn update_m2p<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    mut entries: impl Iterator<Item = MmuUpdate>,
) -> Result<(), HypercallError> {
    let mut batch = Vec::with_capacity(M2P_BATCH);
    loop {
        batch.clear();
        batch.extend(entries.by_ref().take(M2P_BATCH));
        if batch.is_empty() {
            return Ok(());
        }
        mmu_update(m, what, &batch)?;
    }
}
