//! A guest in full swing hands over with all it can hold: to Linux, to
//! itself, from a crash, and with backends that hold on to its pages.

use std::borrow::Cow;

use super::{Case, Expect, Linux, Module, peers};
use crate::lab::{
    artefacts::{Flavour, Xen},
    build::Variant,
    guest::Mode,
    meanwhile::Meanwhile,
};

/// How many hand-offs of the busy guest to itself in a row.
const HOPS: u32 = 200;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = to_linux();
    cases.extend(crashes());
    cases.extend(in_a_row());
    cases.extend(examples());
    cases.extend(backends());
    cases.extend(memory());
    cases
}

/// The busy guest, with everything on, to Debian's Linux.
pub(super) fn case(xen: Xen, mode: Mode, name: impl Into<String>) -> Case {
    let mut case = Case::new(xen, mode, name);
    case.image = Variant::Busy;
    case.module = Module::Chain;
    case.vcpus = 4;
    match mode {
        Mode::Hvm => {
            case.linux = Linux::Debian(Flavour::Generic);
            case.options = Cow::Borrowed("busy.hold=all busy.moves=100");
            case.asked = "lab.memory lab.cpus lab.emulated xen_emul_unplug=unnecessary";
            case = case.all_devices();
        }
        // A PV guest does not choose where shared info is.
        Mode::Pv | Mode::Dom0Pv => {
            case.options = Cow::Borrowed("busy.hold=all");
            case.asked = "lab.memory lab.cpus";
        }
        Mode::Pvh | Mode::Dom0Pvh => {
            case.options = Cow::Borrowed("busy.hold=all busy.moves=100");
            case.asked = "lab.memory lab.cpus";
        }
    }
    case
}

fn to_linux() -> Vec<Case> {
    let mut cases = Vec::new();
    for xen in Xen::ALL {
        for mode in [Mode::Pv, Mode::Pvh, Mode::Hvm] {
            for vcpus in [1, 4, 8] {
                cases.push(case(xen, mode, format!("busy-{vcpus}cpu")).vcpus(vcpus));
            }
        }
        // What nothing but the toolstack undoes.
        let soft = case(xen, Mode::Hvm, "soft-reset").asked("");
        cases.push(soft.options("busy.hold=all,vcpu-info busy.soft-reset"));
    }
    cases
}

fn crashes() -> Vec<Case> {
    let mut cases = Vec::new();
    for xen in Xen::ALL {
        for (mode, vcpus, name, options) in [
            (Mode::Pvh, 4, "ap", "busy.hold=all busy.crash=2"),
            (Mode::Pvh, 2, "boot-vcpu", "busy.hold=all busy.crash=0"),
            (Mode::Hvm, 2, "ap", "busy.hold=all busy.crash=1"),
        ] {
            let case = case(xen, mode, format!("crash-{name}"));
            let case = case.vcpus(vcpus).options(options).memory(512);
            let asked = "lab.vmcore lab.marker=crash=on nr_cpus=1 reset_devices";
            cases.push(case.asked(asked).expect(Expect::Vmcore));
        }
    }
    cases
}

/// To itself, and shared info there and back.
fn in_a_row() -> Vec<Case> {
    use Mode::{Hvm, Pvh};
    use Xen::{V4_17, V4_20};
    const MOVES: &str = "busy.hold=all busy.moves=1000";
    let case = |xen, mode, name: &str| case(xen, mode, name).asked("");
    // Without disks: their backends take seconds to close and to open.
    const CHAIN: &str =
        "busy.hold=vcpus,shared-info,ports,areas,grants,balloon,foreign busy.hops=200 busy.work=5";
    const SHORT: &str =
        "busy.hold=vcpus,shared-info,ports,areas,grants,balloon,foreign busy.hops=30 busy.work=5";
    let chain = case(V4_17, Pvh, "busy-chain").memory(192).options(CHAIN);
    let short = case(V4_17, Pvh, "busy-chain-short");
    let short = short.memory(192).options(SHORT);
    let disks = case(V4_20, Pvh, "busy-chain-disks");
    let disks = disks.options("busy.hold=all busy.hops=5 busy.work=20");
    let moves = |xen, mode| case(xen, mode, "busy-1000-moves").options(MOVES);
    vec![
        chain.expect(Expect::Hops(HOPS)),
        short.expect(Expect::Hops(30)),
        disks.expect(Expect::Hops(5)),
        moves(V4_20, Pvh).expect(Expect::Steady),
        moves(V4_17, Hvm).expect(Expect::Steady),
    ]
}

/// The smallest kernel of the guide.
fn examples() -> Vec<Case> {
    use Mode::{Hvm, Pv, Pvh};
    use Xen::{V4_17, V4_20};
    let runs = [(V4_17, Pv), (V4_20, Pvh), (V4_20, Hvm)];
    let example = |(xen, mode)| {
        let mut case = case(xen, mode, "example").options("").asked("");
        case.image = Variant::Example;
        case.module = Module::Good;
        case
    };
    runs.into_iter().map(example).collect()
}

/// Backends that have the busy guest's grants mapped when it hands over, and
/// ones that answer with garbage.
fn backends() -> Vec<Case> {
    use Expect::{Refuses, Userspace};
    use Xen::{V4_17, V4_20};
    const KEPT: Expect = Refuses(&[
        "kexen-busy: error=claims are outstanding",
        "domain 0 writes grant 32257",
        "have the backend unmap it, or abandon its page",
    ]);
    const ABANDON: &str = "busy.hold=all busy.backend busy.abandon";
    const GARBAGE: &str = "busy.hold=all busy.await=device/vbd/51776/go busy.stop=crash";
    let case = |xen, name: &str, meanwhile, options, expect| {
        let case = case(xen, Mode::Pvh, format!("backend-{name}")).vcpus(2);
        let case = case.options(options).asked("lab.memory");
        case.meanwhile(meanwhile).expect(expect)
    };
    vec![
        case(
            V4_17,
            "keeps",
            Meanwhile::Keeps,
            "busy.hold=all busy.backend busy.stop=crash",
            KEPT,
        ),
        case(
            V4_20,
            "keeps-on",
            Meanwhile::Keeps,
            "busy.hold=all busy.backend busy.patience=2000 busy.stop=crash",
            KEPT,
        ),
        case(
            V4_17,
            "late",
            Meanwhile::Late,
            "busy.hold=all busy.backend busy.patience=30000",
            Userspace,
        ),
        case(
            V4_20,
            "dies",
            Meanwhile::Dies,
            "busy.hold=all busy.backend busy.patience=30000",
            Userspace,
        ),
        case(V4_17, "abandoned", Meanwhile::Keeps, ABANDON, Userspace),
        case(V4_20, "abandoned", Meanwhile::Keeps, ABANDON, Userspace),
        case(
            V4_17,
            "forgotten",
            Meanwhile::Keeps,
            "busy.hold=all busy.backend busy.omit=grants,foreign",
            // What the backend writes lands in the unpacked initrd.
            Expect::Fails(&["the initrd did not come through whole"]),
        ),
        case(
            V4_20,
            "garbage-store",
            Meanwhile::GarbageInStore,
            GARBAGE,
            Refuses(&["error=device/vbd/51776", "sectors", "cannot be \"2^64\""]),
        ),
        case(
            V4_17,
            "garbage-ring",
            Meanwhile::GarbageInRing,
            GARBAGE,
            Refuses(&["error=xvde", "device/vbd/51776", "the ring cannot be"]),
        ),
    ]
}

/// The toolstack has taken memory away, as it may: what was ballooned out
/// cannot come back, and the next kernel gets a memory map without it.
fn memory() -> Vec<Case> {
    let shrunk = |xen, mode| {
        let case = case(xen, mode, "busy-shrunk").asked("lab.memory");
        let case = case.options("busy.hold=all busy.balloon=2048 busy.shrink busy.stop=crash");
        case.meanwhile(Meanwhile::Shrinks)
    };
    // A PV guest's memory has no map that could say so.
    let hole = Expect::Refuses(&[
        "kexen-busy: error=claims are outstanding",
        "a hole at page",
        "raise the domain's memory",
    ]);
    vec![
        shrunk(Xen::V4_17, Mode::Pvh),
        shrunk(Xen::V4_20, Mode::Pv).expect(hole),
    ]
}

/// Hand-offs of the busy guest to itself, to measure their phases.
pub(crate) fn measured(xen: Xen, vcpus: u32, grants: u32, ports: u32, hops: u32) -> Case {
    let name = format!("measured-{vcpus}-{grants}-{ports}");
    let mut case = case(xen, Mode::Pvh, name).vcpus(vcpus).asked("");
    case.options = Cow::Owned(format!(
        "busy.hold=all busy.work=50 busy.hops={hops} busy.grants={grants} busy.ports={ports}"
    ));
    case.expect(Expect::Hops(hops))
}

/// An HVM guest to Linux by Kexen, and from Linux to Linux by the usual tools.
pub(crate) fn measured_hvm(xen: Xen) -> (Case, Case) {
    let kexen = case(xen, Mode::Hvm, "measured-kexen").asked("").vcpus(1);
    (
        kexen,
        peers::by_reset(xen, Mode::Hvm, "measured-soft-reset"),
    )
}
