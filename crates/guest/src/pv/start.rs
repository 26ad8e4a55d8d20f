//! The PV start of day, as this kernel finds it.
//!
//! Protocol: "Start-of-day memory layout" in Xen's `include/public/xen.h`.
//! The builder maps one region from the virtual base, pfn 0 first; the
//! boot stack is its last element and at least 512 KiB of padding follow.
//! The module and the p2m list lie outside it where the notes ask for that.

use alloc::string::String;

use kexen_abi::{
    PAGE_SIZE,
    start_info::{SIF_INITDOMAIN, SIF_MOD_START_PFN, StartInfo},
};
use zerocopy::FromZeros;

use crate::{Extent, Machine, machine::Fault};

/// Pages of padding that every builder leaves mapped behind the boot stack.
pub const PADDING_PAGES: u64 = 512 * 1024 / PAGE_SIZE;

/// Pages of 52 bits of addresses.
const MOST_PAGES: u64 = 1 << 40;

/// Whether a machine can have these pages.
const fn are_pages(start: u64, count: u64) -> bool {
    start <= MOST_PAGES && count <= MOST_PAGES - start
}

/// What the builder told the guest.
#[derive(Clone, Debug)]
pub struct Start {
    /// The structure, as it was.
    pub info: StartInfo,
    /// Virtual address of pfn 0.
    pub virt_base: u64,
    /// Guest address of the structure.
    pub address: u64,
}

impl Start {
    /// Reads the structure at `address` (register `rsi`). What is refused is
    /// what the sums here and of whoever uses it would wrap over.
    pub fn read<M: Machine + ?Sized>(m: &M, address: u64, virt_base: u64) -> Result<Self, Fault> {
        let mut info = StartInfo::new_zeroed();
        m.read(address, zerocopy::IntoBytes::as_mut_bytes(&mut info))?;
        let start = Self {
            info,
            virt_base,
            address,
        };
        let bad = |at, why| Fault {
            address: address.saturating_add(at),
            len: 8,
            why,
        };
        if !start.are_mapped(start.info.pt_base, start.info.nr_pt_frames) {
            return Err(bad(88, "pt_base: no page tables of this guest's"));
        }
        if start.info.nr_pages > MOST_PAGES {
            return Err(bad(32, "nr_pages: more than a processor can address"));
        }
        let module = start.info.mod_len.div_ceil(PAGE_SIZE);
        let is_there = if start.info.flags & SIF_MOD_START_PFN == 0 {
            start.are_mapped(start.info.mod_start, module)
        } else {
            are_pages(start.info.mod_start, module)
        };
        if module > 0 && !is_there {
            return Err(bad(112, "mod_start: no pages of this guest's"));
        }
        if !are_pages(start.info.first_p2m_pfn, start.info.nr_p2m_frames) {
            return Err(bad(1152, "first_p2m_pfn: no pages of this guest's"));
        }
        Ok(start)
    }

    /// Whether so many pages can be at an address of the region.
    const fn are_mapped(&self, address: u64, pages: u64) -> bool {
        match address.checked_sub(self.virt_base) {
            Some(offset) => are_pages(offset / PAGE_SIZE, pages),
            None => false,
        }
    }

    /// Whether this is the initial control domain.
    #[must_use]
    pub const fn is_dom0(&self) -> bool {
        self.info.flags & SIF_INITDOMAIN != 0
    }

    /// The command line, up to its NUL.
    #[must_use]
    pub fn command_line(&self) -> String {
        let text = self.info.cmd_line.split(|byte| *byte == 0).next();
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }

    /// Pages of the start-of-day region up to the end of the boot stack,
    /// pfn 0 first. What follows is padding, [`PADDING_PAGES`] of it at least.
    #[must_use]
    pub const fn boot_pages(&self) -> u64 {
        let tables = (self.info.pt_base - self.virt_base) / PAGE_SIZE;
        tables + self.info.nr_pt_frames + 1
    }

    /// The module as (first pfn, pages, bytes), if there is one.
    #[must_use]
    pub const fn module(&self) -> Option<(Extent, u64)> {
        if self.info.mod_len == 0 {
            return None;
        }
        let start = if self.info.flags & SIF_MOD_START_PFN != 0 {
            self.info.mod_start
        } else {
            (self.info.mod_start - self.virt_base) / PAGE_SIZE
        };
        let pages = self.info.mod_len.div_ceil(PAGE_SIZE);
        Some((Extent::new(start, pages), self.info.mod_len))
    }

    /// The p2m list's own frames, if they lie outside the region.
    #[must_use]
    pub const fn p2m_frames(&self) -> Option<Extent> {
        if self.info.nr_p2m_frames == 0 {
            return None;
        }
        Some(Extent::new(
            self.info.first_p2m_pfn,
            self.info.nr_p2m_frames,
        ))
    }
}
