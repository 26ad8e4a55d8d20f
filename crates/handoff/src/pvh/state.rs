//! The hand-off of a PVH or HVM guest as a type-state.
//!
//! Specification: `docs/misc/pvh.pandoc`, `public/arch-x86/hvm/start_info.h`;
//! for an HVM guest Linux's own boot protocol ([`crate::linux`]).
//!
//! Order of steps:
//! 1. [`Loaded::load`]: checks the memory map, chooses pages for the start
//!    structure and the trampoline.
//! 2. [`Loaded::stage`]: start structure, command line and trampoline are
//!    written; an initrd that lies where the kernel goes is moved.
//! 3. [`Staged::quiesce`]: the ledger must be empty.
//! 4. [`Quiesced::release`]: nothing of a PVH guest's state is left to give
//!    up here; the step keeps the order of a hand-off.
//! 5. [`Released::jump`]: the trampoline leaves long mode (but for Linux's
//!    64-bit entry), copies the pages that could not be in their place while
//!    this kernel ran, zeroes those that are to be given up, and jumps with
//!    `ebx` at the start structure (`rsi` at `boot_params`).
//!
//! Memory shared with others: none but the console and xenstore rings,
//! which go to the next kernel as they are.

use alloc::vec::Vec;

use kexen_abi::{
    PAGE_SIZE,
    hvm::{HvmModlistEntry, HvmStartInfo},
};
use kexen_guest::{Extent, Extents, Machine, hvm::Start, hvm::space::IDENTITY_PAGES};
use zerocopy::IntoBytes;

use crate::{
    HandoffError, Ledger, Released,
    linux::BootParams,
    placement::{Chosen, Placement},
    pvh::trampoline::{
        self, IDENTITY_TABLES, LinuxTrampolineData, TRAMPOLINE_DATA, TrampolineData,
    },
};

/// Bytes of command line that are passed on, the NUL not included: what
/// Linux reads (`COMMAND_LINE_SIZE`).
pub const COMMAND_LINE_LIMIT: usize = 2047;

/// The start structure lies below this page, 1 GiB: Linux reads it, and
/// what it points to, through its first page tables, which map no more.
const START_PAGES: u64 = 1 << 18;

/// How the next kernel is entered.
#[derive(Clone, Copy, Debug)]
pub enum Protocol<'a> {
    /// At its PVH entry, as a toolstack enters it.
    Pvh,
    /// At its 64-bit entry with `boot_params`: in an HVM guest, where Linux
    /// would take itself for PVH otherwise.
    Linux {
        /// The setup header of a bzImage.
        setup_header: Option<&'a [u8]>,
    },
}

/// One entry of the copy list. Where `from` is 0, which nothing is copied from,
/// the words are zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct CopyEntry {
    /// Where to.
    pub to: u32,
    /// Where from.
    pub from: u32,
    /// 32-bit words.
    pub words: u32,
}

/// What [`Loaded::load`] works on.
#[derive(Debug)]
pub struct Input<'a> {
    /// How the kernel is entered.
    pub protocol: Protocol<'a>,
    /// Physical entry point.
    pub entry: u64,
    /// Where the kernel's bytes go.
    pub placement: &'a Placement,
    /// Where they are.
    pub chosen: &'a Chosen,
    /// Address and bytes of the initrd.
    pub initrd: Option<(u64, u64)>,
    /// The command line.
    pub command_line: &'a str,
    /// Pages that this kernel has used, and the next one is to find empty: those
    /// that are in neither one's way are zeroed last.
    pub give_up: &'a Extents,
}

/// A hand-off of which everything is decided.
#[derive(Debug)]
pub struct Loaded {
    start: Start,
    /// The setup header, for Linux's own protocol.
    linux: Option<Option<Vec<u8>>>,
    entry: u32,
    copies: Vec<CopyEntry>,
    command_line: Vec<u8>,
    initrd: Option<Initrd>,
    info_pages: Extent,
    trampoline: Extent,
}

#[derive(Clone, Copy, Debug)]
struct Initrd {
    from: u64,
    to: u64,
    len: u64,
}

/// Runs that the pages given up may fall into once more: one for each run that
/// is kept.
const MORE_RUNS: usize = 4;

/// Offsets in the block of pages that hold the start structure.
const MODLIST_AT: u64 = 64;
const MEMMAP_AT: u64 = 128;

impl Loaded {
    /// Decides everything. Pages that it needs are taken from `free`.
    pub fn load(
        start: &Start,
        free: &mut Extents,
        input: &Input<'_>,
    ) -> Result<Self, HandoffError> {
        let len = input.command_line.len();
        if len > COMMAND_LINE_LIMIT {
            return Err(HandoffError::CommandLine {
                len,
                limit: COMMAND_LINE_LIMIT,
            });
        }
        let kernel = input.placement.kernel;
        let entry_field = match input.protocol {
            Protocol::Pvh => "PHYS32_ENTRY",
            Protocol::Linux { .. } => "e_entry",
        };
        check_target(start, kernel, entry_field, input.entry)?;
        let mut copies = copy_list(&input.chosen.content(input.placement))?;
        let memmap = 24 * u64::try_from(start.memmap.len()).unwrap_or(u64::MAX);
        let linux = match input.protocol {
            Protocol::Pvh => None,
            Protocol::Linux { setup_header } => Some(setup_header.map(<[u8]>::to_vec)),
        };
        let params = if linux.is_some() {
            PAGE_SIZE
        } else {
            MEMMAP_AT + memmap
        };
        let info_len = params + u64::try_from(len).unwrap_or(0) + 1;
        let info_pages = take_below(
            free,
            START_PAGES,
            info_len.div_ceil(PAGE_SIZE),
            "the start structure",
        )?;
        // What is taken from now on may make more runs of the pages given up.
        let give_up = input.give_up.within(Extent::new(1, IDENTITY_PAGES - 1));
        let runs = copies.len() + give_up.runs().len() + MORE_RUNS;
        let list = 12 * u64::try_from(runs).unwrap_or(u64::MAX);
        let data = size_of::<TrampolineData>().max(size_of::<LinuxTrampolineData>());
        let bytes = TRAMPOLINE_DATA + u64::try_from(data).unwrap_or(0) + list;
        let tables = if linux.is_some() { IDENTITY_TABLES } else { 0 };
        let pages = bytes.div_ceil(PAGE_SIZE) + tables;
        let trampoline = take_low(free, pages, "the trampoline")?;
        let initrd = match input.initrd {
            None => None,
            Some((from, len)) => {
                let pages = Extent::covering(from, len);
                let clear = pages.end() <= kernel.start || pages.start >= kernel.end();
                let to = if clear {
                    from
                } else {
                    // It lies where the kernel is linked to be.
                    let len = len + from % PAGE_SIZE;
                    take_low(
                        free,
                        len.div_ceil(PAGE_SIZE),
                        "an initrd in the kernel's way",
                    )?
                    .start
                        * PAGE_SIZE
                        + from % PAGE_SIZE
                };
                Some(Initrd { from, to, len })
            }
        };
        let mut kept = Extents::new();
        for run in [kernel, info_pages, trampoline] {
            kept.insert(run);
        }
        if let Some(initrd) = initrd {
            kept.insert(Extent::covering(initrd.to, initrd.len));
        }
        zero_list(give_up, &kept, &mut copies)?;
        let mut command_line = input.command_line.as_bytes().to_vec();
        command_line.push(0);
        Ok(Self {
            start: start.clone(),
            linux,
            entry: u32::try_from(input.entry).unwrap_or(0),
            copies,
            command_line,
            initrd,
            info_pages,
            trampoline,
        })
    }

    /// Pages that are copied by the trampoline.
    #[must_use]
    pub fn copied_late(&self) -> u64 {
        let copied = self.copies.iter().filter(|c| c.from != 0);
        copied.map(|c| u64::from(c.words) / 1024).sum()
    }

    /// Pages that are zeroed by the trampoline.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        let zeroed = self.copies.iter().filter(|c| c.from == 0);
        zeroed.map(|c| u64::from(c.words) / 1024).sum()
    }

    /// Writes everything into its place. `code` is the trampoline's.
    pub fn stage<M: Machine + ?Sized>(self, m: &M, code: &[u8]) -> Result<Staged, HandoffError> {
        let base = self.info_pages.start * PAGE_SIZE;
        m.fill(base, self.info_pages.count * PAGE_SIZE, 0)?;
        if let Some(initrd) = self.initrd
            && initrd.to != initrd.from
        {
            m.copy(initrd.from, initrd.to, initrd.len)?;
        }
        let command_line_at = self.write_start_info(m, base)?;
        m.write(command_line_at, &self.command_line)?;
        let list = self.write_trampoline(m, code, base)?;
        m.write(list, self.copies.as_bytes())?;
        Ok(Staged {
            trampoline: self.trampoline.start * PAGE_SIZE,
            command_line_at,
        })
    }

    /// Writes the trampoline but for its copy list; where that goes.
    fn write_trampoline<M: Machine + ?Sized>(
        &self,
        m: &M,
        code: &[u8],
        base: u64,
    ) -> Result<u64, HandoffError> {
        let page = self.trampoline.start * PAGE_SIZE;
        let copies = u32::try_from(self.copies.len()).unwrap_or(0);
        let written = if self.linux.is_none() {
            let start_info = u32::try_from(base).unwrap_or(0);
            trampoline::write(m, page, code, self.entry, start_info, copies)
        } else {
            let tables = (self.trampoline.end() - IDENTITY_TABLES) * PAGE_SIZE;
            trampoline::write_linux(m, page, code, self.entry.into(), base, tables, copies)
        };
        Ok(written?)
    }

    /// Writes the start structure with memory map and command line; where the
    /// command line is.
    fn write_start_info<M: Machine + ?Sized>(&self, m: &M, base: u64) -> Result<u64, HandoffError> {
        let initrd = self.initrd.map(|initrd| (initrd.to, initrd.len));
        if let Some(setup_header) = &self.linux {
            let params = BootParams {
                setup_header: setup_header.as_deref(),
                memmap: &self.start.memmap,
                command_line: base + PAGE_SIZE,
                initrd,
                rsdp: self.start.info.rsdp_paddr,
                code: 0,
            };
            m.write(base, &params.page())?;
            return Ok(base + PAGE_SIZE);
        }
        let memmap_bytes = 24 * u64::try_from(self.start.memmap.len()).unwrap_or(0);
        let was = &self.start.info;
        let info = HvmStartInfo {
            nr_modules: u32::from(initrd.is_some()),
            modlist_paddr: if initrd.is_some() {
                base + MODLIST_AT
            } else {
                0
            },
            cmdline_paddr: base + MEMMAP_AT + memmap_bytes,
            memmap_paddr: if was.memmap_entries > 0 {
                base + MEMMAP_AT
            } else {
                0
            },
            memmap_entries: if was.memmap_entries > 0 {
                u32::try_from(self.start.memmap.len()).unwrap_or(0)
            } else {
                0
            },
            ..*was
        };
        m.write(base, info.as_bytes())?;
        if let Some((paddr, size)) = initrd {
            let module = HvmModlistEntry {
                paddr,
                size,
                cmdline_paddr: 0,
                reserved: 0,
            };
            m.write(base + MODLIST_AT, module.as_bytes())?;
        }
        m.write(base + MEMMAP_AT, self.start.memmap.as_bytes())?;
        Ok(info.cmdline_paddr)
    }
}

/// The kernel must lie in RAM below 4 GiB, its entry in the kernel.
fn check_target(
    start: &Start,
    kernel: Extent,
    entry_field: &'static str,
    entry: u64,
) -> Result<(), HandoffError> {
    let bad = |field, value, why| Err(HandoffError::Kernel { field, value, why });
    let address = kernel.start * PAGE_SIZE;
    if kernel.end() > IDENTITY_PAGES {
        return bad("p_paddr", address, "the kernel reaches beyond 4 GiB");
    }
    if start.ram().within(kernel).count() != kernel.count {
        return bad(
            "p_paddr",
            address,
            "the guest's memory map has no RAM for all of the kernel there",
        );
    }
    if !kernel.contains(entry / PAGE_SIZE) {
        return bad(entry_field, entry, "outside the kernel");
    }
    Ok(())
}

/// Runs of pages that are not in their place.
fn copy_list(content: &[(u64, u64)]) -> Result<Vec<CopyEntry>, HandoffError> {
    let mut list: Vec<(u64, u64, u64)> = Vec::new();
    for (to, from) in content.iter().filter(|(to, from)| to != from) {
        match list.last_mut() {
            Some((t, f, n)) if *t + *n == *to && *f + *n == *from => *n += 1,
            _ => list.push((*to, *from, 1)),
        }
    }
    list.into_iter()
        .map(|(to, from, pages)| {
            let word = |page: u64| u32::try_from(page * PAGE_SIZE).ok();
            match (word(to), word(from), u32::try_from(pages * 1024)) {
                (Some(to), Some(from), Ok(words)) => Ok(CopyEntry { to, from, words }),
                _ => Err(HandoffError::Kernel {
                    field: "p_paddr",
                    value: to * PAGE_SIZE,
                    why: "a page of it is beyond 4 GiB",
                }),
            }
        })
        .collect()
}

/// Enters the pages that are given up, without those that are kept.
fn zero_list(
    mut pages: Extents,
    kept: &Extents,
    list: &mut Vec<CopyEntry>,
) -> Result<(), HandoffError> {
    for run in kept.runs() {
        pages.remove(*run);
    }
    for run in pages.runs() {
        let (to, words) = (run.start * PAGE_SIZE, run.count * 1024);
        let (Ok(to), Ok(words)) = (u32::try_from(to), u32::try_from(words)) else {
            return Err(HandoffError::Memory {
                what: "the pages that are given up",
                want: run.end(),
                have: IDENTITY_PAGES,
            });
        };
        list.push(CopyEntry { to, from: 0, words });
    }
    Ok(())
}

/// Takes a run of pages below 4 GiB.
fn take_low(free: &mut Extents, pages: u64, what: &'static str) -> Result<Extent, HandoffError> {
    take_below(free, IDENTITY_PAGES, pages, what)
}

/// Takes a run of pages that ends at or below page `end`. `what` it is for is
/// in the error.
pub fn take_below(
    free: &mut Extents,
    end: u64,
    pages: u64,
    what: &'static str,
) -> Result<Extent, HandoffError> {
    let mut low = free.within(Extent::new(0, end));
    let have = low.count();
    let run = low.take_run(pages).ok_or(HandoffError::Memory {
        what,
        want: pages,
        have,
    })?;
    free.remove(run);
    Ok(run)
}

/// A hand-off that is written.
#[derive(Debug)]
pub struct Staged {
    trampoline: u64,
    command_line_at: u64,
}

impl Staged {
    /// Where the next kernel's command line can still be changed, in place.
    #[must_use]
    pub const fn command_line_at(&self) -> u64 {
        self.command_line_at
    }

    /// Checks that nothing is outstanding.
    pub fn quiesce(self, ledger: &Ledger) -> Result<Quiesced, HandoffError> {
        let blockers = ledger.blockers(&[]);
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
    /// Gives up what is left; a second look at the ledger, the last one.
    pub fn release(self, ledger: &Ledger) -> Result<Released, HandoffError> {
        let Self(staged) = self.0.quiesce(ledger)?;
        Ok(Released::new(staged.trampoline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_out_of_place_are_copied() {
        let list = copy_list(&[(1, 1), (2, 9), (3, 10), (4, 4), (5, 30)]).unwrap();
        let entry = |to, from, pages: u32| CopyEntry {
            to,
            from,
            words: pages * 1024,
        };
        assert_eq!(list, [entry(0x2000, 0x9000, 2), entry(0x5000, 0x1e000, 1)]);
        assert!(copy_list(&[(1, 1 << 20)]).is_err());
    }

    #[test]
    fn what_is_given_up_is_zeroed_but_for_what_is_kept() {
        let set = |runs: &[(u64, u64)]| {
            let mut all = Extents::new();
            for (start, count) in runs {
                all.insert(Extent::new(*start, *count));
            }
            all
        };
        let mut list = Vec::new();
        zero_list(
            set(&[(1, 10), (20, 2)]),
            &set(&[(4, 2), (21, 5)]),
            &mut list,
        )
        .unwrap();
        let entry = |to, pages: u32| CopyEntry {
            to,
            from: 0,
            words: pages * 1024,
        };
        assert_eq!(
            list,
            [entry(0x1000, 3), entry(0x6000, 5), entry(0x14000, 1)]
        );
        assert!(zero_list(set(&[(1 << 20, 1)]), &set(&[]), &mut list).is_err());
    }
}
