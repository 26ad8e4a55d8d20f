//! The same without Kexen: guests as the toolstack starts them, and Linux's
//! own ways from one kernel to the next.

use super::{Case, Expect, Linux, Start};
use crate::lab::{
    artefacts::{Flavour, Xen},
    guest::Mode,
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::from(alone());
    cases.extend(Xen::ALL.into_iter().flat_map(kexec));
    cases
}

/// Debian's Linux, by the toolstack.
fn toolstack(xen: Xen, mode: Mode, name: &str) -> Case {
    let mut case = Case::new(xen, mode, name).linux(Linux::Debian(Flavour::Generic));
    case.start = Start::Toolstack;
    case
}

/// HVM guests: what the lab makes of one, before anything else runs there.
fn alone() -> [Case; 2] {
    let plain = toolstack(Xen::V4_17, Mode::Hvm, "toolstack").vcpus(2);
    let emulated = toolstack(Xen::V4_20, Mode::Hvm, "toolstack-emulated").vcpus(2);
    [
        plain.asked("lab.memory lab.cpus"),
        emulated
            .all_devices()
            .asked("lab.emulated xen_emul_unplug=unnecessary"),
    ]
}

/// Linux's own kexec, by which every guest but a PV one asks the toolstack for
/// a soft reset.
pub(super) fn by_reset(xen: Xen, mode: Mode, name: &str) -> Case {
    let case = toolstack(xen, mode, name).memory(384).asked("lab.kexec");
    case.expect(Expect::Reset)
}

/// That, which loses a PVH guest; and one of the two HVM ways on each Xen.
fn kexec(xen: Xen) -> [Case; 2] {
    let pvh = by_reset(xen, Mode::Pvh, "peer-kexec").expect(Expect::Gone);
    let hvm = match xen {
        Xen::V4_17 => by_reset(xen, Mode::Hvm, "peer-kexec"),
        Xen::V4_20 => toolstack(xen, Mode::Hvm, "peer-kdump")
            .memory(384)
            .asked("lab.kdump lab.marker=kexen-marker-7391 crashkernel=160M")
            .expect(Expect::Captured),
    };
    [pvh, hvm]
}
