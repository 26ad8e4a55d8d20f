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
    /// Reads the structure at `address` (register `rsi`).
    pub fn read<M: Machine + ?Sized>(m: &M, address: u64, virt_base: u64) -> Result<Self, Fault> {
        let mut info = StartInfo::new_zeroed();
        m.read(address, zerocopy::IntoBytes::as_mut_bytes(&mut info))?;
        Ok(Self {
            info,
            virt_base,
            address,
        })
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
