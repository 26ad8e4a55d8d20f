//! The Kexen boot image: what a Xen toolstack starts as a guest's kernel,
//! and what then starts the guest's own.
//!
//! What it does is the crate `kexen-loader`; what it stands on is
//! `kexen-platform`. In this one, for the lab alone:
//!
//! | module | what it is |
//! |---|---|
//! | `differential` | cases of the differential test (feature `probe`) |
//! | `probe` | a question to Xen instead of a boot (feature `probe`) |

#![no_std]
#![no_main]

extern crate alloc;

#[cfg(feature = "probe")]
mod differential;
#[cfg(feature = "probe")]
mod probe;

#[cfg(feature = "omission")]
use kexen_bootconfig::options::Options;
#[cfg(feature = "omission")]
use kexen_guest::Defence;
use kexen_platform::{Boot, Started, ground::Ground};

kexen_platform::entry!(start);

fn start(boot: Boot) -> ! {
    #[cfg(feature = "omission")]
    omit(boot);
    match boot.guest() {
        Started::Pv(mut guest) => run(&mut guest),
        Started::Translated(mut guest) => run(&mut guest),
    }
}

/// Has the machine leave a defence out, by `kexen.omit=`.
#[cfg(feature = "omission")]
fn omit(boot: Boot) {
    let m = boot.machine();
    let line = boot.command_line();
    let Ok((
        Options {
            omit: Some(name), ..
        },
        _,
    )) = Options::parse(&line)
    else {
        return;
    };
    match Defence::ALL.iter().find(|(known, _)| *known == name) {
        Some((_, defence)) => m.omit(*defence),
        None => kexen_platform::give_up(m, format_args!("kexen.omit={name}: no defence")),
    }
}

#[cfg(not(feature = "probe"))]
fn run<G: Ground>(guest: &mut G) -> ! {
    kexen_loader::run(guest, &mut |_, _, _| {})
}

#[cfg(feature = "probe")]
fn run<G: Ground>(guest: &mut G) -> ! {
    kexen_loader::run(guest, &mut |guest, report, options| {
        if let Some(probe) = options.probe {
            probe::run(guest, report, probe);
        }
        if let Some(cases) = options.differential {
            differential::run(guest, report, cases);
        }
    })
}
