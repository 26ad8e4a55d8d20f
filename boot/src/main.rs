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

use kexen_guest::{hvm, pv};
use kexen_platform::{
    Boot,
    arch::machine,
    give_up,
    pv_guest::{self, PvGuest},
    pvh_guest::PvhGuest,
};

kexen_platform::entry!(start);

/// Takes stock of the guest, whatever its type, and goes on.
fn start(boot: Boot) -> ! {
    let m = boot.machine();
    let why = match boot {
        Boot::Pv(m, start_info) => {
            let start = pv::Start::read(m, start_info, pv_guest::VIRT_BASE);
            match start
                .map_err(Into::into)
                .and_then(|start| PvGuest::new(m, start))
            {
                Ok(mut guest) => flow::run(&mut guest),
                Err(error) => error,
            }
        }
        Boot::Pvh(m, start_info) => {
            let start = hvm::Start::read(m, start_info, machine::scratch());
            match start
                .map_err(Into::into)
                .and_then(|start| PvhGuest::new(m, start))
            {
                Ok(mut guest) => flow::run(&mut guest),
                Err(error) => error,
            }
        }
        Boot::Hvm(m, info) => {
            let start = hvm::Start::from_boot_params(m, info);
            match start
                .map_err(Into::into)
                .and_then(|start| PvhGuest::hvm(m, start))
            {
                Ok(mut guest) => flow::run(&mut guest),
                Err(error) => error,
            }
        }
    };
    give_up(m, format_args!("start of day: {why}"))
}
