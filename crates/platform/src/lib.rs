//! What a Rust kernel stands on under Xen: how it is entered, hypercalls,
//! memory, vCPUs, and the hand-off to the next kernel.
//!
//! A kernel names its main function with [`entry!`], is linked with this
//! crate's `kexen.ld`, and finds itself in 64-bit mode with a stack and a
//! heap, whichever way it was started:
//!
//! | started as | by | [`Boot`] |
//! |---|---|---|
//! | PV | a toolstack, or Xen (dom0) | [`Boot::Pv`] |
//! | PVH | a toolstack, or Xen (dom0) | [`Boot::Pvh`] |
//! | HVM | the device model, as a Linux kernel (`kernel=`) | [`Boot::Hvm`] |
//!
//! | module | what it is |
//! |---|---|
//! | [`arch`] | entry code, hypercalls, heap, trampolines: all `unsafe` |
//! | [`guest`] | what a guest of any type offers; [`pv_guest`], [`pvh_guest`] |
//! | [`module`], [`kernel`] | the boot module; a kernel from file to memory |
//! | [`ground`] | what frontends stand on: pages, grants, the store |
//! | [`loan`], [`report`] | guest memory as slices; lines for the console |
//! | [`crash`] | the hand-off from a panic |
//! | [`wait`] | waiting for another domain, with an end |
//! | [`pci`] | the devices of an HVM guest |
//! | [`disks`] | block devices as sources of bytes |
//! | [`exec`] | the hand-off of a kernel in full swing |
//! | [`vcpus`], [`lapic`] | further vCPUs: started, parked, made as new |
//! | [`failure`] | why something could not be started |

#![no_std]

extern crate alloc;
// `memcpy` and the like, which only the compiler calls.
extern crate kexen_copy as _;

pub mod arch;
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
pub mod pci;
pub mod pv_guest;
pub mod pvh_guest;
pub mod report;
pub mod vcpus;
pub mod wait;

use kexen_abi::sched::SHUTDOWN_CRASH;
use kexen_guest::{hvm, hypercall, pv};

pub use arch::Xen;

use arch::machine;
use pv_guest::PvGuest;
use pvh_guest::PvhGuest;

/// How this kernel was started, and the machine it runs on.
#[derive(Clone, Copy, Debug)]
pub enum Boot {
    /// Paravirtualised; the virtual address of `start_info`.
    Pv(&'static Xen, u64),
    /// PVH; the physical address of `hvm_start_info`.
    Pvh(&'static Xen, u64),
    /// HVM; the physical address of the setup header, with the memory map.
    Hvm(&'static Xen, u64),
}

impl Boot {
    /// The hypervisor and memory.
    #[must_use]
    pub const fn machine(&self) -> &'static Xen {
        match self {
            Self::Pv(m, _) | Self::Pvh(m, _) | Self::Hvm(m, _) => m,
        }
    }
}

/// A kernel that runs in a guest of any type.
pub trait Kernel {
    /// Runs to a hand-off, or to the guest's end.
    fn run<G: guest::Guest>(guest: &mut G) -> !;
}

/// A guest whose start of day has been read.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, on the stack")]
pub enum Started {
    /// A PV guest.
    Pv(PvGuest),
    /// A PVH or HVM guest.
    Translated(PvhGuest),
}

impl Boot {
    /// Takes stock of the guest. If the start of day is none, the guest ends,
    /// with the reason on Xen's console.
    #[must_use]
    pub fn guest(self) -> Started {
        let started = match self {
            Self::Pv(m, at) => pv::Start::read(m, at, pv_guest::VIRT_BASE)
                .map_err(Into::into)
                .and_then(|start| PvGuest::new(m, start))
                .map(Started::Pv),
            Self::Pvh(m, at) => hvm::Start::read(m, at, machine::scratch())
                .map_err(Into::into)
                .and_then(|start| PvhGuest::new(m, start))
                .map(Started::Translated),
            Self::Hvm(m, at) => hvm::Start::from_boot_params(m, at)
                .map_err(Into::into)
                .and_then(|start| PvhGuest::hvm(m, start))
                .map(Started::Translated),
        };
        match started {
            Ok(guest) => guest,
            Err(error) => give_up(self.machine(), format_args!("start of day: {error}")),
        }
    }

    /// Takes stock of the guest and runs a kernel in it.
    pub fn run<K: Kernel>(self) -> ! {
        match self.guest() {
            Started::Pv(mut guest) => K::run(&mut guest),
            Started::Translated(mut guest) => K::run(&mut guest),
        }
    }
}

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

/// Ends the guest where not even a console is known.
pub fn give_up(m: &Xen, why: core::fmt::Arguments<'_>) -> ! {
    report::panic(m, format_args!("error: {why}"));
    loop {
        let _ = hypercall::shutdown(m, SHUTDOWN_CRASH);
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crash::take(machine::in_panic());
    give_up(machine::in_panic(), format_args!("panic: {info}"))
}
