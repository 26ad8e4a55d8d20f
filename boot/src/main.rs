//! The Kexen boot image: what a Xen toolstack starts as a guest's kernel,
//! and what then starts the guest's own.
//!
//! The way from entry to jump is in ARCHITECTURE.md; in this crate:
//!
//! | module | what it is |
//! |---|---|
//! | `arch` | entry code, hypercalls, heap, trampolines: all `unsafe` |
//! | `guest` | what a guest of any type offers; `pv_guest`, `pvh_guest` |
//! | `flow` | from the boot module to the jump, and back on an error |
//! | `module`, `kernel` | the archive; a kernel from file to memory |
//! | `loan`, `report` | guest memory as slices; lines for the console |
//! | `prompt` | another try, by hand |
//! | `differential` | cases of the differential test (feature `probe`) |
//! | `probe` | a question to Xen instead of a boot (feature `probe`) |
//! | `marker`, `stats` | what shows that a hand-off was clean, and its cost |

#![no_std]
#![no_main]

extern crate alloc;

mod arch;
#[cfg(feature = "probe")]
mod differential;
mod failure;
mod flow;
mod guest;
mod kernel;
mod loan;
mod marker;
mod module;
#[cfg(feature = "probe")]
mod probe;
mod prompt;
mod pv_guest;
mod pvh_guest;
mod report;
mod stats;

use kexen_abi::sched::SHUTDOWN_CRASH;
use kexen_guest::{hvm, hypercall, pv};

use arch::{Xen, machine};
use pv_guest::PvGuest;
use pvh_guest::PvhGuest;

/// Rust's part of the PV entry: `rsi` was the address of `start_info`.
extern "C" fn pv_main(start_info: u64) -> ! {
    let m = Xen::start_pv();
    let guest = pv::Start::read(m, start_info, pv_guest::VIRT_BASE)
        .map_err(Into::into)
        .and_then(|start| PvGuest::new(m, start));
    match guest {
        Ok(mut guest) => flow::run(&mut guest),
        Err(error) => give_up(m, format_args!("start of day: {error}")),
    }
}

/// Rust's part of the PVH entry: `ebx` was the address of `hvm_start_info`.
extern "C" fn pvh_main(start_info: u64) -> ! {
    let Some(m) = Xen::start_pvh() else {
        // Nobody to tell but a debug port.
        b"kexen: not a Xen guest\n"
            .iter()
            .copied()
            .for_each(machine::debug_port);
        machine::halt()
    };
    let start = match hvm::Start::read(m, start_info, machine::scratch()) {
        Ok(start) => start,
        Err(error) => give_up(m, format_args!("start of day: {error}")),
    };
    match PvhGuest::new(m, start) {
        Ok(mut guest) => flow::run(&mut guest),
        Err(error) => give_up(m, format_args!("start of day: {error}")),
    }
}

/// Ends the guest where not even a console is known.
fn give_up(m: &Xen, why: core::fmt::Arguments<'_>) -> ! {
    report::panic(m, format_args!("error: {why}"));
    loop {
        let _ = hypercall::shutdown(m, SHUTDOWN_CRASH);
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    give_up(machine::in_panic(), format_args!("panic: {info}"))
}
