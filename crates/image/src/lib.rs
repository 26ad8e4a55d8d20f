//! Kernel images: what a file is, where its parts go, what is in it.
//!
//! | module | what it is |
//! |---|---|
//! | [`kernel`] | a file of any format |
//! | [`bzimage`] | the Linux boot protocol's setup header and payload |
//! | [`elf`] | the headers of an ELF kernel, and its segments |
//! | [`notes`], [`guest_section`], [`features`] | Xen's notes, and what was before them |
//! | [`symbols`] | the symbol table that a BSD kernel asks for |
//! | [`start`] | in which guest types a kernel can start, and how |
//! | [`compression`], [`payload`] | what a payload is packed with, and unpacking it |
//!
//! Files are hostile: every read is checked, every length bounded, and
//! nothing panics.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

extern crate alloc;

pub mod bzimage;
pub mod compression;
mod decompress;
pub mod elf;
#[cfg(test)]
mod elf_tests;
pub mod error;
pub mod features;
pub mod guest_section;
pub mod kernel;
pub mod notes;
pub mod payload;
mod sections;
pub mod start;
#[cfg(test)]
mod start_tests;
pub mod symbols;
#[cfg(any(test, feature = "testelf"))]
pub mod testelf;

pub use bzimage::BzImage;
pub use compression::Compression;
pub use elf::{Elf, Segment};
pub use error::ImageError;
pub use kernel::Kernel;
pub use notes::XenNotes;
pub use payload::{DecompressError, Payload, heap_for, unpack, unpack_scratch};
pub use start::{CannotStart, GuestType, Plan, plan};
pub use symbols::Symbols;
