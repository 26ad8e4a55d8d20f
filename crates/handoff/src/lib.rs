//! The hand-off: from this kernel to the next, as a transaction.
//!
//! `Loaded → Staged → Quiesced → Released → jump() -> !`. Each step consumes
//! the one before; each but the last can be undone, and is, when the next
//! one fails. What outlives a step is entered in the [`ledger`], and
//! nothing jumps while a claim is outstanding.
//!
//! | module | what it is |
//! |---|---|
//! | [`ledger`] | claims: who still refers to this guest's memory or state |
//! | [`placement`] | which page of the kernel file becomes which page of memory |
//! | [`pv`] | layout, page exchange, page tables, M2P: a PV hand-off |
//! | [`pvh`] | start structure, copy list: the hand-off of a PVH or HVM guest |
//! | [`on_demand`] | which pages may be touched where Xen has not all of them |
//! | [`crash`] | a hand-off that is prepared in advance, for a crash |
//! | [`linux`] | Linux's own boot protocol, for HVM guests and capture kernels |
//!
//! The plans are pure: they make no hypercall and are tested on the host.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod crash;
pub mod error;
pub mod ledger;
pub mod linux;
pub mod on_demand;
pub mod placement;
pub mod pv;
pub mod pvh;
mod released;

pub use error::HandoffError;
pub use ledger::{Claim, Ledger};
pub use on_demand::OnDemand;
pub use released::Released;
