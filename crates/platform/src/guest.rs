//! What the way from the module to the jump needs of a guest, of any type.

use alloc::{string::String, vec::Vec};
use core::fmt::Debug;

use kexen_abi::PAGE_SIZE;
use kexen_guest::{Extent, Extents, console::Console};
use kexen_handoff::{
    HandoffError, Ledger, OnDemand,
    ledger::Kind,
    placement::{Chosen, Placement},
};
pub use kexen_image::GuestType;
use kexen_image::{Plan, start::Relocation};

use crate::native::{Native, VcpuMain};

/// Where the decompressor's buffer is, in every guest type.
pub const BUFFER: u64 = 0x0000_0400_0000_0000;
/// Where a decompressed boot module is.
pub const MODULE_BUFFER: u64 = 0x0000_0500_0000_0000;
/// Where a boot module is while it is decompressed.
pub const UNPACKED: u64 = 0x0000_0540_0000_0000;
/// Where a copy of an initrd is made.
pub const INITRD_COPY: u64 = 0x0000_0580_0000_0000;
/// Where pages are looked at for a moment.
pub const GLANCE: u64 = 0x0000_0600_0000_0000;

/// A kernel that is in memory, ready to be handed to.
#[derive(Debug)]
pub struct Ready<'a> {
    /// How it is entered.
    pub plan: &'a Plan,
    /// The setup header of its file, if it is a bzImage.
    pub setup_header: Option<&'a [u8]>,
    /// Where its bytes go.
    pub placement: &'a Placement,
    /// Where they are.
    pub chosen: &'a Chosen,
    /// Bytes of the decompressor's buffer.
    pub buffer_len: u64,
    /// Offset in the boot module and bytes of the initrd.
    pub initrd: Option<(u64, u64)>,
    /// Its command line.
    pub command_line: &'a str,
}

/// Bytes of heap for the lists that planning so many bytes of kernel or
/// module makes: about 100 bytes for each page, twice while one grows.
#[must_use]
pub const fn lists_for(bytes: u64) -> u64 {
    bytes / 16 + (256 << 10)
}

/// The pieces of memory that the heap was given: what one attempt needed and
/// freed again serves the next one.
#[derive(Debug, Default)]
pub struct HeapPieces(Vec<(u64, bool)>);

impl HeapPieces {
    /// Whether a piece of so many bytes is there that this attempt has not
    /// counted on yet.
    pub fn reuse(&mut self, bytes: u64) -> bool {
        let fit = self
            .0
            .iter_mut()
            .filter(|(len, used)| !used && *len >= bytes);
        fit.min_by_key(|(len, _)| *len).is_some_and(|(_, used)| {
            *used = true;
            true
        })
    }

    /// Enters a new piece.
    pub fn add(&mut self, bytes: u64) {
        self.0.push((bytes, true));
    }

    /// Begins an attempt: everything is free again.
    pub fn begin(&mut self) {
        for (_, used) in &mut self.0 {
            *used = false;
        }
    }
}

/// A piece of memory that the heap has for a part of the way.
#[derive(Clone, Copy, Debug)]
pub struct LentHeap {
    /// All of it.
    whole: Extent,
    /// How many of its pages the heap has now, from the first on.
    pages: u64,
}

/// What the heap is given memory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeapFor {
    /// What is on the disks; given back before the kernel is placed. Of the
    /// first pages: what stays in use of it leaves the rest in one piece.
    Disks,
    /// To unpack. Of the last ones: the low pages are what kernels are linked to.
    Unpacking,
}

impl HeapFor {
    /// In messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disks => "reading the disks",
            Self::Unpacking => "the decompressor",
        }
    }
}

/// A guest's pages, as far as they are no matter of its type.
#[derive(Debug, Default)]
pub struct Stock {
    /// The pages that are free.
    pub free: Extents,
    /// Free pages that are kept for the hand-off of one attempt.
    pub aside: Option<Extent>,
    /// Pages that were taken from the free ones for good since the start.
    pub kept: Extents,
    /// Pages that were free once more, after they had been kept for tables.
    pub returned: Extents,
    /// What the heap was given.
    pub heap: HeapPieces,
    /// What of it is given back.
    pub lent: Option<LentHeap>,
    /// What is mapped for one attempt: address, pages.
    pub areas: Vec<(u64, u64)>,
}

impl Stock {
    /// Pages that were kept for good are free again, beyond this attempt.
    pub fn give_back(&mut self, pages: Extent) {
        self.free.insert(pages);
        self.kept.remove(pages);
        self.returned.insert(pages);
    }

    /// Notes that pages were mapped, for the end of the attempt.
    pub fn mapped(&mut self, at: u64, pages: usize) {
        if at != MODULE_BUFFER {
            self.areas
                .push((at, u64::try_from(pages).unwrap_or(u64::MAX)));
        }
    }
}

/// What is known of a hand-off that is written.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Pages that changed their place (PV), or are copied last (PVH).
    pub moved: u64,
    /// Where the next kernel's command line is.
    pub command_line_at: u64,
}

/// A hand-off that is written, with the guest that it is of: whoever has it stops
/// its devices now, and gives up its claims. To drop it is to go on.
#[derive(Debug)]
pub struct Staged<'g, G: Guest> {
    guest: &'g mut G,
    staged: G::Staged,
    outcome: Outcome,
}

impl<'g, G: Guest> Staged<'g, G> {
    /// Writes the next kernel's start of day and the trampoline.
    ///
    /// # Errors
    /// See [`Guest::stage`].
    pub fn new(guest: &'g mut G, kernel: &Ready<'_>) -> Result<Self, HandoffError> {
        let (staged, outcome) = guest.stage(kernel)?;
        Ok(Self {
            guest,
            staged,
            outcome,
        })
    }

    /// The guest.
    pub const fn guest(&mut self) -> &mut G {
        self.guest
    }

    /// What is known of it.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Gives up what only the hand-off itself can.
    ///
    /// # Errors
    /// What still stands in the way; this kernel goes on.
    pub fn release(self) -> Result<Released<G::M>, HandoffError> {
        let m = self.guest.machine();
        let released = self.guest.release(self.staged)?;
        Ok(Released { m, released })
    }
}

/// A hand-off of which only the jump is left.
#[derive(Debug)]
#[must_use = "nothing can be put back: this kernel can only jump now"]
pub struct Released<M: 'static> {
    m: &'static M,
    released: kexen_handoff::Released,
}

impl<M: Native> Released<M> {
    /// Jumps to the trampoline.
    pub fn jump(self) -> ! {
        self.m.jump(self.released)
    }
}

/// Takes pages for the heap, and gives it them.
fn give_to_heap<G: Guest>(guest: &mut G, bytes: u64, to: HeapFor) -> Result<Extent, HandoffError> {
    let run = guest.heap_run(bytes.div_ceil(PAGE_SIZE), to)?;
    guest.stock().kept.insert(run);
    let (at, len) = (guest.address(run.start), run.count * PAGE_SIZE);
    if guest.machine().give_to_heap(at, len) {
        Ok(run)
    } else {
        Err(no_more_pieces(run.count))
    }
}

/// Gives the heap again what it was lent before and has given back.
fn lengthen_heap<G: Guest>(
    guest: &mut G,
    lent: LentHeap,
    rest: Extent,
) -> Result<(), HandoffError> {
    guest.free().remove(rest);
    guest.stock().kept.insert(rest);
    let mut pages = Extents::new();
    pages.insert(rest);
    guest.map_in_place(&pages)?;
    let at = guest.address(lent.whole.start);
    let (len, new) = (lent.pages * PAGE_SIZE, lent.whole.count * PAGE_SIZE);
    if !guest.machine().lengthen_heap(at, len, new) {
        return Err(no_more_pieces(rest.count));
    }
    guest.stock().lent = Some(LentHeap {
        pages: lent.whole.count,
        ..lent
    });
    Ok(())
}

const fn no_more_pieces(want: u64) -> HandoffError {
    HandoffError::Memory {
        what: "one more piece of heap",
        want,
        have: 0,
    }
}

/// A guest of one type.
pub trait Guest: Sized {
    /// The machine that it runs on.
    type M: Native;
    /// The hypervisor and memory.
    fn machine(&self) -> &'static Self::M;
    /// What kind of guest it is, for its kernels.
    fn guest_type(&self) -> GuestType;
    /// `"PV domU"` and the like.
    fn kind(&self) -> &'static str {
        self.guest_type().name()
    }
    /// Bytes of RAM.
    fn memory(&self) -> u64;
    /// The console that the guest's user looks at.
    fn console(&self) -> Console;
    /// The guest's own command line.
    fn command_line(&self) -> String;
    /// Chooses the pages of a kernel.
    fn choose(&mut self, placement: &Placement) -> Result<Chosen, HandoffError> {
        placement.choose(self.free())
    }
    /// Maps the boot module; its address and bytes.
    fn map_module(&mut self) -> Result<Option<(u64, u64)>, HandoffError>;
    /// Maps `pages`, one after the other, at one of the addresses above.
    fn map(&mut self, at: u64, pages: &[u64]) -> Result<(), HandoffError>;
    /// Unmaps what is mapped from an address on.
    fn unmap(&mut self, at: u64, pages: u64) -> Result<(), HandoffError>;
    /// Unmaps everything that was mapped so, but for the boot module.
    fn unmap_attempt(&mut self) -> Result<(), HandoffError> {
        for (at, pages) in core::mem::take(&mut self.stock().areas) {
            self.unmap(at, pages)?;
        }
        Ok(())
    }
    /// Where a page that was taken from [`Self::free`] can be written once
    /// it is mapped by [`Self::map_in_place`].
    fn address(&self, page: u64) -> u64;
    /// Makes pages accessible at [`Self::address`].
    fn map_in_place(&mut self, pages: &Extents) -> Result<(), HandoffError>;
    /// Starts a further vCPU in `main`. A PV vCPU that was started can never
    /// be given back: it is a blocker from then on.
    fn start_vcpu(&mut self, vcpu: u32, main: VcpuMain<Self::M>) -> Result<(), String>;
    /// Takes a page, which Xen gives no memory for, out of the memory that the
    /// next kernel is told of. Whether that can be done: not in PV guests.
    fn leave_out(&mut self, page: u64) -> bool {
        let _ = page;
        false
    }
    /// What it has of its memory map's RAM, if it is populated on demand: then
    /// no more pages are free than may be touched.
    fn on_demand(&self) -> Option<OnDemand> {
        None
    }
    /// The claims on it.
    fn ledger(&mut self) -> &mut Ledger;
    /// Claims that the jump itself gives up.
    fn jump_gives_up(&self) -> Vec<Kind> {
        Vec::new()
    }
    /// Its pages.
    fn stock(&mut self) -> &mut Stock;
    /// Enters pages that became page tables among those kept for good.
    fn keep_tables(&mut self);
    /// The pages that are free.
    fn free(&mut self) -> &mut Extents {
        &mut self.stock().free
    }
    /// Keeps some of the last pages of memory for the hand-off, before much else
    /// is taken: a PV guest's tables must be where the next kernel's map nothing,
    /// and other things need not. They are free again with the attempt's others.
    fn set_aside(&mut self) {}
    /// Leaves free memory in one piece, if this kernel lies in the midst of it.
    fn step_aside(&mut self) {}
    /// Takes a run of free pages that can be written at [`Self::address`], for
    /// the heap.
    fn heap_run(&mut self, pages: u64, to: HeapFor) -> Result<Extent, HandoffError>;
    /// Gives the heap at least so many bytes more, for this attempt.
    fn grow_heap(&mut self, bytes: u64) -> Result<(), HandoffError> {
        if self.stock().heap.reuse(bytes) {
            return Ok(());
        }
        let run = give_to_heap(self, bytes, HeapFor::Unpacking)?;
        self.stock().heap.add(run.count * PAGE_SIZE);
        Ok(())
    }
    /// Gives the heap so many bytes more until [`Self::cut_heap`].
    fn lend_heap(&mut self, bytes: u64) -> Result<(), HandoffError> {
        if let Some(lent) = self.stock().lent {
            let rest = Extent::new(lent.whole.start + lent.pages, lent.whole.count - lent.pages);
            if self.free().within(rest).count() == rest.count {
                return lengthen_heap(self, lent, rest);
            }
        }
        let whole = give_to_heap(self, bytes, HeapFor::Disks)?;
        self.stock().lent = Some(LentHeap {
            whole,
            pages: whole.count,
        });
        Ok(())
    }
    /// Takes back what was lent to the heap, as far as it is not in use, but for
    /// `spare` bytes.
    fn cut_heap(&mut self, spare: u64) {
        let Some(mut lent) = self.stock().lent else {
            return;
        };
        let (at, len) = (self.address(lent.whole.start), lent.pages * PAGE_SIZE);
        let left = self.machine().cut_heap(at, len, spare).div_ceil(PAGE_SIZE);
        let rest = Extent::new(lent.whole.start + left, lent.pages.saturating_sub(left));
        lent.pages -= rest.count;
        self.stock().give_back(rest);
        self.stock().lent = Some(lent);
    }
    /// Takes the boot module's pages for another one's, whose bytes are at
    /// [`MODULE_BUFFER`] in these pages; the old ones are free.
    fn replace_module(&mut self, pages: Vec<u64>, len: u64) -> Result<(), HandoffError>;
    /// Another place for the bytes `[start, end)` of a kernel, where its own is
    /// not all RAM and it can be moved there.
    fn elsewhere(&self, (start, end): (u64, u64), how: &Relocation) -> Option<u64> {
        let _ = (start, end, how);
        None
    }
    /// A hand-off of this guest's that is written.
    type Staged: Debug;
    /// Writes the next kernel's start of day and the trampoline. Until then
    /// nothing has happened that cannot be undone, nor by it.
    ///
    /// # Errors
    /// If there is too little memory, or the kernel cannot be placed.
    fn stage(&mut self, kernel: &Ready<'_>) -> Result<(Self::Staged, Outcome), HandoffError>;
    /// Gives up what only the hand-off itself can, when all else is given up.
    ///
    /// # Errors
    /// What still stands in the way; this kernel goes on.
    fn release(&mut self, staged: Self::Staged) -> Result<kexen_handoff::Released, HandoffError>;
    /// Sets the grant table up; where its first frame is mapped.
    fn grant_table(&mut self) -> Result<u64, String>;
    /// What names a page in a grant: a PV guest's mfn, the page otherwise.
    fn frame(&self, page: u64) -> Result<u64, HandoffError>;
    /// Memory to abandon pages of.
    fn memory_to_abandon(&mut self) -> kexen_guest::abandon::Memory<'_>;
    /// Maps a frame that has no page any more, to read it at this address,
    /// and the page that M2P names. In a PVH guest there is no way to.
    #[cfg(feature = "probe")]
    fn map_orphan(&mut self, frame: u64) -> Result<Option<(u64, u64)>, HandoffError>;
    /// The world of the differential test.
    #[cfg(feature = "probe")]
    fn world(&mut self) -> Result<kexen_differential::world::World, String>;
    /// Bytes mapped so far by tables of this kernel's own making (PV).
    fn mapped(&self) -> u64;
    /// Waits until something was typed.
    fn wait_for_input(&mut self);
}
