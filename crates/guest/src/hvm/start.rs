//! The PVH start of day, as this kernel finds it.
//!
//! Protocol: `docs/misc/pvh.pandoc` and `public/arch-x86/hvm/start_info.h`.
//! All addresses are guest-physical and, in this image's address space,
//! virtual too. A toolstack is trusted, but the structure is checked all
//! the same: counts are bounded, sums do not wrap.

use alloc::{string::String, vec::Vec};

use kexen_abi::{
    PAGE_SIZE,
    hvm::{HvmMemmapEntry, HvmModlistEntry, HvmStartInfo, MEMMAP_TYPE_RAM, START_MAGIC},
    start_info::SIF_INITDOMAIN,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{Extent, Extents, HypercallError, Machine, hypercall, machine::Fault};

/// Entries of a memory map that are looked at.
const MAX_MEMMAP: u32 = 512;
/// Modules that are looked at.
const MAX_MODULES: u32 = 64;
/// Bytes of a command line that are looked at.
const MAX_COMMAND_LINE: u64 = 64 * 1024;

/// What the builder told the guest.
#[derive(Clone, Debug)]
pub struct Start {
    /// The structure, as it was.
    pub info: HvmStartInfo,
    /// The module list.
    pub modules: Vec<HvmModlistEntry>,
    /// The memory map.
    pub memmap: Vec<HvmMemmapEntry>,
    /// The command line.
    pub command_line: String,
}

/// Asks Xen for the memory map.
fn ask_for_map<M: Machine + ?Sized>(m: &M, page: u64) -> Result<Vec<HvmMemmapEntry>, StartError> {
    let count = hypercall::memory_map(m, page).map_err(StartError::Hypercall)?;
    let mut map = Vec::new();
    for n in 0..u64::from(count).min(PAGE_SIZE / 20) {
        let mut entry = HvmMemmapEntry::default();
        // The same first 20 bytes: address, size, type.
        m.read(page + n * 20, &mut entry.as_mut_bytes()[..20])?;
        map.push(entry);
    }
    Ok(map)
}

/// What is wrong with a start structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// It could not be read.
    Fault(Fault),
    /// Xen did not tell the memory map.
    Hypercall(HypercallError),
    /// A field with a value that cannot be.
    Field {
        /// Its name in `struct hvm_start_info`.
        field: &'static str,
        /// What it holds.
        value: u64,
        /// What it should be.
        want: &'static str,
    },
}

impl From<Fault> for StartError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Hypercall(error) => error.fmt(f),
            Self::Field { field, value, want } => {
                write!(f, "hvm_start_info.{field} is {value:#x}, not {want}")
            }
        }
    }
}

/// Pieces of a memory map: Linux takes no more from whoever starts it
/// (`E820_MAX_ENTRIES_ZEROPAGE`).
pub const MOST_PIECES: usize = 128;

impl Start {
    /// Reads the structure at `address` (register `ebx`). Where it has no
    /// memory map (a PVH dom0's has none), Xen is asked for it, through the
    /// page of guest memory at `scratch`.
    pub fn read<M: Machine + ?Sized>(
        m: &M,
        address: u64,
        scratch: u64,
    ) -> Result<Self, StartError> {
        let mut info = HvmStartInfo::new_zeroed();
        m.read(address, info.as_mut_bytes())?;
        let check = |ok: bool, field, value, want| {
            if ok {
                Ok(())
            } else {
                Err(StartError::Field { field, value, want })
            }
        };
        check(
            info.magic == START_MAGIC,
            "magic",
            info.magic.into(),
            "0x336ec578",
        )?;
        if info.version == 0 {
            info.memmap_paddr = 0;
            info.memmap_entries = 0;
        }
        check(
            info.memmap_entries <= MAX_MEMMAP,
            "memmap_entries",
            info.memmap_entries.into(),
            "at most 512",
        )?;
        check(
            info.nr_modules <= MAX_MODULES,
            "nr_modules",
            info.nr_modules.into(),
            "at most 64",
        )?;
        let mut modules = Vec::new();
        for n in 0..u64::from(info.nr_modules) {
            let mut module = HvmModlistEntry::default();
            let at = info.modlist_paddr.saturating_add(n * 32);
            m.read(at, module.as_mut_bytes())?;
            modules.push(module);
        }
        let mut memmap = Vec::new();
        for n in 0..u64::from(info.memmap_entries) {
            let mut entry = HvmMemmapEntry::default();
            let at = info.memmap_paddr.saturating_add(n * 24);
            m.read(at, entry.as_mut_bytes())?;
            memmap.push(entry);
        }
        if memmap.is_empty() {
            memmap = ask_for_map(m, scratch)?;
        }
        let mut text = Vec::new();
        if info.cmdline_paddr != 0 {
            for n in 0..MAX_COMMAND_LINE {
                let mut byte = [0];
                m.read(info.cmdline_paddr.saturating_add(n), &mut byte)?;
                if byte == [0] {
                    break;
                }
                text.push(byte[0]);
            }
        }
        Ok(Self {
            info,
            modules,
            memmap,
            command_line: String::from_utf8_lossy(&text).into_owned(),
        })
    }

    /// Bytes that the builder wrote for all of this, wherever they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let parts = [
            size_of_val(&self.info),
            size_of_val(&self.modules[..]),
            size_of_val(&self.memmap[..]),
            self.command_line.len() + 1,
        ];
        parts
            .map(|len| u64::try_from(len).unwrap_or(0))
            .iter()
            .sum()
    }

    /// Whether this is the initial control domain.
    #[must_use]
    pub const fn is_dom0(&self) -> bool {
        self.info.flags & SIF_INITDOMAIN != 0
    }

    /// The whole pages of RAM of the memory map.
    #[must_use]
    pub fn ram(&self) -> Extents {
        let mut ram = Extents::new();
        for entry in &self.memmap {
            if entry.kind == MEMMAP_TYPE_RAM {
                let start = entry.addr.div_ceil(PAGE_SIZE);
                let end = entry.addr.saturating_add(entry.size) / PAGE_SIZE;
                ram.insert(Extent::new(start, end.saturating_sub(start)));
            }
        }
        ram
    }

    /// Takes a page out of the memory map that the next kernel sees: it is no
    /// RAM any more. Whether it was, and the map has room for one more piece
    /// ([`MOST_PIECES`]).
    pub fn leave_out(&mut self, page: u64) -> bool {
        let (from, to) = (page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
        let found = self.memmap.iter().position(|entry| {
            let end = entry.addr.saturating_add(entry.size);
            entry.kind == MEMMAP_TYPE_RAM && entry.addr <= from && to <= end
        });
        let Some(n) = found else {
            return false;
        };
        let end = self.memmap[n].addr.saturating_add(self.memmap[n].size);
        let parts = [(self.memmap[n].addr, from), (to, end)];
        if self.memmap.len() >= MOST_PIECES && parts.iter().all(|(from, to)| from < to) {
            return false;
        }
        let whole = self.memmap.remove(n);
        for (n, (from, to)) in (n..).zip(parts.into_iter().filter(|(from, to)| from < to)) {
            let part = HvmMemmapEntry {
                addr: from,
                size: to - from,
                ..whole
            };
            self.memmap.insert(n, part);
        }
        true
    }

    /// A page that the memory map does not name at all, above everything it
    /// does: a hole where shared info can be mapped without a loss of RAM.
    #[must_use]
    pub fn hole(&self) -> u64 {
        self.memmap
            .iter()
            .map(|e| e.addr.saturating_add(e.size).div_ceil(PAGE_SIZE))
            .filter(|end| *end < (1 << 20) - 16)
            .max()
            .unwrap_or(1 << 19)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_can_be_left_out_of_the_map() {
        let entry = |addr, size, kind| HvmMemmapEntry {
            addr,
            size,
            kind,
            reserved: 0,
        };
        let map = Vec::from([entry(0, 0x4000, 1), entry(0x4000, 0x1000, 2)]);
        let mut info = HvmStartInfo::new_zeroed();
        info.magic = START_MAGIC;
        let mut start = Start {
            info,
            modules: Vec::new(),
            memmap: map,
            command_line: String::new(),
        };
        assert!(start.leave_out(1));
        let ram = |start: &Start| -> Vec<(u64, u64)> {
            let ram = start.memmap.iter().filter(|entry| entry.kind == 1);
            ram.map(|entry| (entry.addr, entry.size)).collect()
        };
        assert_eq!(ram(&start), [(0, 0x1000), (0x2000, 0x2000)]);
        assert!(start.leave_out(0));
        assert_eq!(ram(&start), [(0x2000, 0x2000)]);
        // It is none, or was none.
        assert!(!start.leave_out(0));
        assert!(!start.leave_out(4));
        assert_eq!(start.memmap.len(), 2);
    }

    #[test]
    fn the_map_gets_no_more_pieces_than_linux_takes() {
        let ram = HvmMemmapEntry {
            addr: 0,
            size: 1 << 30,
            kind: 1,
            reserved: 0,
        };
        let mut info = HvmStartInfo::new_zeroed();
        info.magic = START_MAGIC;
        let map = Vec::from([ram]);
        let mut start = Start {
            info,
            modules: Vec::new(),
            memmap: map,
            command_line: String::new(),
        };
        let left = (1..1000).step_by(2).filter(|page| start.leave_out(*page));
        assert_eq!(left.count(), MOST_PIECES - 1);
        assert_eq!(start.memmap.len(), MOST_PIECES);
        // At the edge of a piece there is always room.
        assert!(start.leave_out(0));
    }
}
