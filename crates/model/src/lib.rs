//! Xen's rules for a guest's memory, executable.

#![forbid(unsafe_code)]

mod access;
mod builder;
mod call;
pub mod check;
mod domain;
mod events;
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
mod state;
mod vcpus;
mod xen;

pub use builder::Build;
pub use frame::DomId;
pub use grants::{Mapping, RevokeHow};
pub use layout::TypeLayout;
pub use pv::start::{PvImage, StartOfDay};
pub use state::{Kind, PageFault, Version};
pub use xen::{Config, Guest, Vcpu, Xen};
