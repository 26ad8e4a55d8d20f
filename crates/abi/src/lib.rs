//! Xen's public interface as plain types: numbers, layouts, no logic.
//!
//! Every item is translated by hand from Xen's `xen/include/public/`
//! headers (MIT), the file of which each module names. Names are Xen's
//! own, in Rust's case. The layouts are those of a 64-bit x86 guest.
//! Nothing here calls, allocates or decides.

#![no_std]
#![forbid(unsafe_code)]

pub mod callback;
pub mod console;
pub mod errno;
pub mod event_channel;
pub mod features;
pub mod grant_table;
pub mod hvm;
pub mod hypercall;
pub mod io;
pub mod memory;
pub mod mmu;
pub mod physdev;
pub mod revocation;
pub mod sched;
pub mod shared_info;
pub mod start_info;
pub mod vcpu;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// The calling domain (`public/xen.h`, `DOMID_SELF`).
pub const DOMID_SELF: u16 = 0x7ff0;
