//! What is where in the region that a crash hand-off keeps.
//!
//! In order: the capture kernel's protected-mode code with the room that it
//! unpacks itself into, its initrd, `boot_params`, command line, the header
//! for `/proc/vmcore` with the note, the trampoline with tables of its own.
//! The capture kernel's memory map has the region as RAM up to that header,
//! memory below 640 KiB, and nothing else.

use alloc::{format, vec::Vec};

use kexen_abi::{
    PAGE_SIZE,
    hvm::{HvmMemmapEntry, MEMMAP_TYPE_RAM},
};
use kexen_guest::{Extent, Machine, hvm::Start};

use super::elfcore::{self, Range, Registers};
use crate::{
    HandoffError,
    linux::{BootParams, boot_params::ENTRY_64},
    pvh::trampoline::{IDENTITY_TABLES, write_linux},
};

/// The capture kernel runs in steps of this, if it says no more.
const LEAST_ALIGNMENT: u64 = 2 << 20;
/// Below this a processor starts in real mode: the capture kernel needs some.
const LOW_END: u64 = 0xa_0000;
/// The first page is the firmware's.
const LOW_START: u64 = 0x1000;
/// Bytes of a command line.
const COMMAND_LINE: u64 = PAGE_SIZE;
/// Memory that Linux wants beside what it is made of.
const SLACK: u64 = 64 << 20;

/// A capture kernel: the facts of its file.
#[derive(Clone, Copy, Debug)]
pub struct Capture<'a> {
    /// The setup header of its bzImage.
    pub setup_header: &'a [u8],
    /// Whether it runs where it is loaded.
    pub relocatable: bool,
    /// To a multiple of what.
    pub alignment: u64,
    /// Memory that it needs where it is loaded.
    pub init_size: u64,
    /// Bytes of protected-mode code.
    pub code_len: u64,
    /// Bytes of its initrd.
    pub initrd_len: u64,
    /// Its command line; `elfcorehdr=` is added to it.
    pub command_line: &'a str,
}

/// Where the bytes are.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Address of the protected-mode code.
    pub code: u64,
    /// Address of the initrd.
    pub initrd: u64,
}

/// A crash hand-off of which everything is decided.
#[derive(Clone, Debug)]
pub struct Prepared {
    region: Extent,
    code: u64,
    initrd: u64,
    params: u64,
    elfcore: u64,
    note: u64,
    trampoline: u64,
    ranges: Vec<Range>,
    page: Vec<u8>,
    line: Vec<u8>,
    code_len: u64,
    initrd_len: u64,
}

impl Prepared {
    /// Decides everything. `region` is memory that this kernel uses for
    /// nothing else; `image` is where its own image is besides its place in
    /// physical memory.
    pub fn plan(
        start: &Start,
        region: Extent,
        image: Range,
        kernel: &Capture<'_>,
    ) -> Result<Self, HandoffError> {
        let bad = |field, value, why| HandoffError::Kernel { field, value, why };
        if !kernel.relocatable {
            let why = "the capture kernel runs at one place alone, which is this kernel's";
            return Err(bad("relocatable_kernel", 0, why));
        }
        let end = region.end() * PAGE_SIZE;
        let alignment = kernel.alignment.max(LEAST_ALIGNMENT);
        let code = (region.start * PAGE_SIZE).next_multiple_of(alignment);
        let initrd = code.saturating_add(kernel.init_size.max(kernel.code_len));
        let initrd = initrd.next_multiple_of(PAGE_SIZE);
        let ranges = ranges(start, region, image);
        let header = u64::try_from(elfcore::bytes(ranges.len())).unwrap_or(u64::MAX);
        let header = header.next_multiple_of(PAGE_SIZE);
        // From the end: what the capture kernel must not use.
        let trampoline = end.saturating_sub((1 + IDENTITY_TABLES) * PAGE_SIZE);
        let note = trampoline.saturating_sub(PAGE_SIZE);
        let elfcore = note.saturating_sub(header);
        let params = elfcore.saturating_sub(PAGE_SIZE + COMMAND_LINE);
        let used = initrd.saturating_add(kernel.initrd_len);
        if used.saturating_add(SLACK) > params || end > 1 << 32 {
            return Err(HandoffError::Memory {
                what: "the crash region (below 4 GiB)",
                want: (used.saturating_add(SLACK) - region.start * PAGE_SIZE) / PAGE_SIZE + 16,
                have: region.count,
            });
        }
        let line = format!("{} elfcorehdr={elfcore:#x}\0", kernel.command_line);
        let limit = usize::try_from(COMMAND_LINE).unwrap_or(0);
        if line.len() > limit {
            return Err(HandoffError::CommandLine {
                len: line.len(),
                limit,
            });
        }
        let entry = |addr, end: u64, kind| HvmMemmapEntry {
            addr,
            size: end - addr,
            kind,
            reserved: 0,
        };
        let mut memmap = Vec::new();
        memmap.push(entry(LOW_START, LOW_END, MEMMAP_TYPE_RAM));
        memmap.push(entry(region.start * PAGE_SIZE, elfcore, MEMMAP_TYPE_RAM));
        let others = start.memmap.iter();
        memmap.extend(others.filter(|other| other.kind != MEMMAP_TYPE_RAM));
        memmap.sort_by_key(|entry| entry.addr);
        let params_page = BootParams {
            setup_header: Some(kernel.setup_header),
            memmap: &memmap,
            command_line: params + PAGE_SIZE,
            initrd: (kernel.initrd_len > 0).then_some((initrd, kernel.initrd_len)),
            rsdp: start.info.rsdp_paddr,
            code,
        };
        Ok(Self {
            region,
            code,
            initrd,
            params,
            elfcore,
            note,
            trampoline,
            ranges,
            page: params_page.page().to_vec(),
            line: line.into_bytes(),
            code_len: kernel.code_len,
            initrd_len: kernel.initrd_len,
        })
    }

    /// Writes everything into the region. `trampoline` is its code.
    pub fn stage<M: Machine + ?Sized>(
        &self,
        m: &M,
        source: Source,
        trampoline: &[u8],
    ) -> Result<Ready, HandoffError> {
        m.fill(
            self.region.start * PAGE_SIZE,
            self.region.count * PAGE_SIZE,
            0,
        )?;
        m.copy(source.code, self.code, self.code_len)?;
        m.copy(source.initrd, self.initrd, self.initrd_len)?;
        m.write(self.params, &self.page)?;
        m.write(self.params + PAGE_SIZE, &self.line)?;
        m.write(self.elfcore, &elfcore::header(self.note, &self.ranges))?;
        m.write(self.note, &elfcore::note(0, &Registers::default()))?;
        let tables = self.trampoline + PAGE_SIZE;
        let entry = self.code + ENTRY_64;
        write_linux(
            m,
            self.trampoline,
            trampoline,
            entry,
            self.params,
            tables,
            0,
        )?;
        Ok(Ready {
            trampoline: self.trampoline,
            note: self.note,
        })
    }
}

/// A crash hand-off that can be taken at any time.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Where the trampoline is.
    pub trampoline: u64,
    /// Where the note of the vCPU that crashed goes.
    pub note: u64,
}

/// The dead kernel's memory: all RAM but the region and what is below 640 KiB
/// (the capture kernel's), and the image where this kernel sees it.
fn ranges(start: &Start, region: Extent, image: Range) -> Vec<Range> {
    let mut ram = start.ram();
    ram.remove(region);
    ram.remove(Extent::new(0, LOW_END / PAGE_SIZE));
    let mut ranges = Vec::from([image]);
    ranges.extend(ram.runs().iter().map(|run| Range {
        physical: run.start * PAGE_SIZE,
        virt: run.start * PAGE_SIZE,
        len: run.count * PAGE_SIZE,
    }));
    ranges
}
