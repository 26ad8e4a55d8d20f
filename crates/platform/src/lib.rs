//! What a Rust kernel stands on under Xen: how it is entered, hypercalls,
//! memory, vCPUs, and the hand-off to the next kernel.
//!
//! A kernel names its main function with [`entry!`], is linked with this
//! crate's `kexen.ld`, and finds itself in 64-bit mode with a stack and a
//! heap, whichever way it was started:
//!
//! | started as | by | `Boot` |
//! |---|---|---|
//! | PV | a toolstack, or Xen (dom0) | `Boot::Pv` |
//! | PVH | a toolstack, or Xen (dom0) | `Boot::Pvh` |
//! | HVM | the device model, as a Linux kernel (`kernel=`) | `Boot::Hvm` |
//!
//! | module | what it is |
//! |---|---|
//! | `arch` | entry code, hypercalls, heap, trampolines: all `unsafe` |
//! | [`guest`] | what a guest of any type offers; [`pv_guest`], [`pvh_guest`] |
//! | [`module`], [`kernel`] | the boot module; a kernel from file to memory |
//! | [`native`] | the machine underneath; in tests one on the model |
//! | [`ground`] | what frontends stand on: pages, grants, the store |
//! | [`loan`], [`report`] | guest memory as slices; lines for the console |
//! | `crash` | the hand-off from a panic |
//! | [`wait`] | waiting for another domain, with an end |
//! | [`pci`] | the devices of an HVM guest |
//! | [`disks`] | block devices as sources of bytes |
//! | [`exec`] | the hand-off of a kernel in full swing |
//! | `vcpus`, [`lapic`] | further vCPUs: started, parked, made as new |
//! | [`failure`] | why something could not be started |

#![no_std]

extern crate alloc;
// `memcpy` and the like, which only the compiler calls.
#[cfg(target_os = "none")]
extern crate kexen_copy as _;

#[cfg(target_os = "none")]
pub mod arch;
#[cfg(target_os = "none")]
pub mod crash;
pub mod disks;
pub mod exec;
pub mod failure;
pub mod ground;
pub mod guest;
pub mod kernel;
pub mod lapic;
pub mod loan;
pub mod module;
pub mod native;
pub mod pci;
pub mod pv_guest;
pub mod pvh_guest;
pub mod report;
#[cfg(target_os = "none")]
pub mod start;
#[cfg(target_os = "none")]
pub mod vcpus;
pub mod wait;

#[cfg(target_os = "none")]
pub use self::{
    arch::Xen,
    start::{Boot, Kernel, PvGuest, PvhGuest, Started, give_up},
};

/// Names the function that a kernel begins with: `fn(Boot) -> !`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn kexen_main(boot: $crate::Boot) -> ! {
            $main(boot)
        }
    };
}
