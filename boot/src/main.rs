//! The Kexen boot image: what a Xen toolstack starts as a guest's kernel,
//! and what then starts the guest's own.
//!
//! The way from entry to jump is in ARCHITECTURE.md; what it stands on is the
//! crate `kexen-platform`. In this one:
//!
//! | module | what it is |
//! |---|---|
//! | `flow` | from the boot module to the jump, and back on an error |
//! | `prompt` | another try, by hand |
//! | `differential` | cases of the differential test (feature `probe`) |
//! | `probe` | a question to Xen instead of a boot (feature `probe`) |
//! | `marker`, `stats` | what shows that a hand-off was clean, and its cost |

#![no_std]
#![no_main]

extern crate alloc;

#[cfg(feature = "probe")]
mod differential;
mod flow;
mod marker;
#[cfg(feature = "probe")]
mod probe;
mod prompt;
mod stats;

use kexen_platform::{Boot, Kernel, guest::Guest};

kexen_platform::entry!(start);

/// The boot image, in a guest of any type.
struct Kexen;

impl Kernel for Kexen {
    fn run<G: Guest>(guest: &mut G) -> ! {
        flow::run(guest)
    }
}

fn start(boot: Boot) -> ! {
    boot.run::<Kexen>()
}
