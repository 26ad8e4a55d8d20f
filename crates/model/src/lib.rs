//! Xen's rules for a guest's memory, executable: a [`Machine`] to test guest
//! code against, at the level of raw hypercalls on guest memory.
//!
//! A wrong order of two hypercalls fails in `cargo test`, with the reason in
//! Xen's words, instead of in a crash dump. Several guests and backends live
//! in one [`Xen`]; what the outside world does comes between any two steps,
//! and schedules are explored ([`explore`]).
//!
//! ```
//! use kexen_model::{Build, Kind, Machine, Xen};
//!
//! let guest = Xen::default().domain(Kind::Pvh, Build { pages: 64, ..Build::default() });
//! let vcpu = guest.vcpu(0);
//! vcpu.write64(0x3000, 7).unwrap();
//! assert_eq!(vcpu.read64(0x3000), Ok(7));
//! // Beyond its memory is a hole: reads give all ones.
//! assert_eq!(vcpu.read64(64 * 4096), Ok(u64::MAX));
//! ```
//!
//! | to | see |
//! |---|---|
//! | make a machine and guests | [`Xen`], [`Config`], [`Build`], [`PvImage`] |
//! | act as a guest | [`Vcpu`], which is a [`Machine`] |
//! | act as a backend | [`Guest::map_grant`], [`Mapping`]; whole ones: [`dom0`] |
//! | have Xen and the world act | [`Guest::xen_schedules`], [`Guest::timer_fires`], [`Guest::pirq_fires`] |
//! | find what outlives a hand-off | [`Guest::check`], [`check`] |
//! | explore orders | [`explore`] |
//! | read the rules and their sources | [`rules`] |
//!
//! A newcomer starts with the crate `examples/first-test`, which depends on
//! this one alone. How far the model agrees with a real Xen is what
//! `cargo kexen test --differential` shows.

#![forbid(unsafe_code)]

mod access;
mod builder;
mod call;
pub mod check;
pub mod dom0;
mod domain;
mod events;
#[cfg(feature = "explore")]
pub mod explore;
mod frame;
mod grants;
mod hash;
mod layout;
mod leftovers;
mod outside;
mod physmap;
mod pirqs;
mod pv;
#[doc = include_str!("../RULES.md")]
pub mod rules {}
mod state;
mod vcpus;
mod xen;

pub use builder::Build;
pub use frame::DomId;
pub use grants::{Mapping, RevokeHow};
pub use kexen_abi as abi;
pub use kexen_guest::{Arg, Fault, Machine, MultiCall};
pub use layout::TypeLayout;
pub use pirqs::Interrupt;
pub use pv::start::{PvImage, StartOfDay};
pub use state::{Kind, PageFault, Version};
pub use xen::{Config, Guest, Vcpu, Xen};
