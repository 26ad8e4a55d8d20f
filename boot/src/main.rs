//! The Kexen boot image: what a Xen toolstack starts as a guest's kernel,
//! and what then starts the guest's own.
//!
//! The way from entry to jump is in ARCHITECTURE.md; what it stands on is the
//! crate `kexen-platform`. In this one:
//!
//! | module | what it is |
//! |---|---|
//! | `flow` | from the entry to the jump, and back on an error |
//! | `disk` | entries of the guest's own disks |
//! | `prompt` | another try, by hand |
//! | `differential` | cases of the differential test (feature `probe`) |
//! | `probe` | a question to Xen instead of a boot (feature `probe`) |
//! | `marker`, `stats` | what shows that a hand-off was clean, and its cost |

#![no_std]
#![no_main]

extern crate alloc;

#[cfg(feature = "probe")]
mod differential;
mod disk;
mod flow;
mod marker;
#[cfg(feature = "probe")]
mod probe;
mod prompt;
mod stats;

use kexen_platform::{Boot, Started};

kexen_platform::entry!(start);

fn start(boot: Boot) -> ! {
    match boot.guest() {
        Started::Pv(mut guest) => flow::run(&mut guest),
        Started::Translated(mut guest) => flow::run(&mut guest),
    }
}
