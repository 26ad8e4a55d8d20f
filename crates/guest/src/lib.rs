//! The guest side of Xen's interfaces.
//!
//! Everything here reaches the hypervisor and guest memory through one
//! trait, [`Machine`]: the boot image implements it with real hypercalls,
//! a test with a model. Nothing here is unsafe.
//!
//! | module | what it is |
//! |---|---|
//! | [`machine`] | the trait, addresses, faults |
//! | [`hypercall`] | typed calls, every result checked |
//! | [`extents`] | sets of pages as sorted runs |
//! | [`console`] | the console ring and the hypervisor's console |
//! | [`events`] | ports: open, notify, clear, wait |
//! | [`pirqs`] | interrupts of emulated devices as event channels |
//! | [`vcpus`] | virtual processors: how many, up and down, timers |
//! | [`clock`] | Xen's clock |
//! | [`shared_info`] | where shared info is, and its moves under readers |
//! | [`block`] | a block device's frontend |
//! | [`grants`] | entries of the grant table, and their legal end |
//! | [`references`] | which entries are free |
//! | [`wait`] | how a caller waits for another domain |
//! | [`xenbus`] | devices and the states of their ends |
//! | [`xenstore`] | a client of the store |
//! | [`abandon`] | a page out of another domain's hands, without its help |
//! | [`release`] | calls that give back what was taken |
//! | [`pv`] | a PV guest's address space, p2m and M2P |
//! | [`hvm`] | a PVH guest's start structure, address space, shared info |

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod abandon;
pub mod block;
pub mod clock;
pub mod console;
pub mod events;
pub mod extents;
pub mod grants;
pub mod hvm;
pub mod hypercall;
pub mod machine;
pub mod pirqs;
pub mod pv;
pub mod references;
pub mod release;
pub mod shared_info;
pub mod vcpus;
pub mod wait;
pub mod xenbus;
pub mod xenstore;

pub use extents::{Extent, Extents};
pub use hypercall::HypercallError;
pub use machine::{Arg, Defence, Fault, Machine, MultiCall};
