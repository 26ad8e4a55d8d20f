//! Guests with other memory than most: populated on demand or ballooned
//! (`maxmem` above `memory`), and large.

use std::borrow::Cow;

use super::{Case, Expect, Linux, Module, busy};
use crate::lab::{
    artefacts::{Flavour, Xen},
    boot_disk::DiskLayout,
    build::Variant,
    guest::Mode,
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = on_demand();
    cases.extend(on_demand_limits());
    cases.extend(large());
    cases
}

/// A guest that has half of what its memory map says.
fn pod(xen: Xen, mode: Mode, name: &str) -> Case {
    let case = Case::new(xen, mode, name).memory(400);
    case.config("maxmem = 800").asked("lab.memory")
}

fn from_disk(mut case: Case) -> Case {
    case.disk = Some(DiskLayout::BlsExt4);
    case.options = Cow::Borrowed("kexen.timeout=0");
    case
}

/// From the boot module and from the disk, in each type of guest. A PV guest has
/// holes where it is not ballooned up.
fn on_demand() -> Vec<Case> {
    let mut cases = Vec::new();
    for xen in Xen::ALL {
        for mode in [Mode::Pv, Mode::Pvh, Mode::Hvm] {
            cases.push(pod(xen, mode, "pod-module"));
            cases.push(from_disk(pod(xen, mode, "pod-disk")));
        }
    }
    // A kernel in full swing.
    let busy = busy::case(Xen::V4_17, Mode::Pvh, "pod-busy").memory(400);
    cases.push(busy.config("maxmem = 800"));
    cases
}

/// What is touched is counted.
fn on_demand_limits() -> Vec<Case> {
    let case = |name, options| {
        let mut case = pod(Xen::V4_20, Mode::Pvh, name).asked("").options(options);
        case.module = Module::Chain;
        case
    };
    // A hand-off to itself, with a marker over what it may touch.
    let counted = case("pod-chain", "kexen.chain=3 kexen.verify-memory");
    // With a marker over all that the map has: Xen ends the guest.
    let mut omitted = case(
        "pod-omit",
        "kexen.chain=3 kexen.verify-memory kexen.omit=on-demand",
    );
    omitted.image = Variant::Lab;
    // The kernel, unpacked beside its file, is more than the guest has.
    let mut short = pod(Xen::V4_17, Mode::Pvh, "pod-short").asked("");
    short.memory = 64;
    short.linux = Linux::Debian(Flavour::Generic);
    vec![
        counted.expect(Expect::Chain(3)),
        omitted.expect(Expect::Lost(&["kexen: starting"])),
        short.expect(Expect::Prompt(&["kexen: error: not enough memory"])),
    ]
}

/// Memory above 4 GiB, and several processors. On a busy host their ticks take
/// all the time of the one emulated processor for a while (see `TIMER_SLOP` in
/// `dom0.rs`): Linux's watchdog is given more patience, and a guest that stays there meets the run's limit.
fn large() -> Vec<Case> {
    let mut cases = Vec::new();
    for xen in Xen::ALL {
        for mode in [Mode::Pv, Mode::Pvh, Mode::Hvm] {
            let case = Case::new(xen, mode, "eight-gib").memory(8192).vcpus(4);
            cases.push(case.asked("lab.memory lab.cpus watchdog_thresh=60"));
        }
    }
    cases
}
