//! The boot image starts what is on the guest's own disk, by the
//! configuration that is there.

use super::{Case, Expect};
use crate::lab::{
    artefacts::Xen,
    boot_disk::{DiskLayout, Signing},
    distro::Distro,
    guest::Mode,
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, layout) in DiskLayout::ALL.into_iter().enumerate() {
        // Each layout once, in turn on each Xen and in each type of guest.
        let xen = if n % 2 == 0 { Xen::V4_17 } else { Xen::V4_20 };
        let mode = if n / 2 % 2 == 0 { Mode::Pvh } else { Mode::Pv };
        cases.push(case(xen, mode, layout));
    }
    cases.extend(signed());
    cases.extend(distributions());
    cases
}

/// What is not signed, or not as it was signed, does not start.
fn signed() -> [Case; 3] {
    use Signing::{All, Changed, KernelAlone};
    let case = |xen, mode, name: &str, signing| {
        let mut case = case(xen, mode, DiskLayout::BlsExt4);
        case.name = format!("disk-{name}");
        case.signing = Some(signing);
        case
    };
    const REFUSED: &str = "not started, since keys are asked for";
    [
        case(Xen::V4_17, Mode::Pv, "signed", All),
        case(Xen::V4_17, Mode::Pvh, "signed-in-part", KernelAlone).expect(Expect::Ends(
            &["/boot/initrd", REFUSED, "no such file or directory"],
            3,
        )),
        case(Xen::V4_20, Mode::Pvh, "signed-and-changed", Changed).expect(Expect::Ends(
            &["/boot/initrd", REFUSED, "the signature does not fit"],
            3,
        )),
    ]
}

fn case(xen: Xen, mode: Mode, layout: DiskLayout) -> Case {
    let mut case = Case::new(xen, mode, format!("disk-{}", layout.name()));
    case.disk = Some(layout);
    case.memory = 384;
    case.options("kexen.timeout=0 kexen.stats")
        .expect(Expect::Userspace)
}

/// Distributions' images, as they are: their own, or laid out as theirs.
fn distributions() -> Vec<Case> {
    let mut cases = Vec::new();
    for (distro, xen, mode) in [
        (Distro::Debian12, Xen::V4_17, Mode::Pvh),
        (Distro::Debian12, Xen::V4_20, Mode::Pv),
        (Distro::Debian13, Xen::V4_20, Mode::Pvh),
        (Distro::Debian13, Xen::V4_17, Mode::Pv),
        (Distro::Fedora, Xen::V4_17, Mode::Pv),
        (Distro::RhelXfs, Xen::V4_20, Mode::Pvh),
        (Distro::OpenSuse, Xen::V4_17, Mode::Pvh),
        (Distro::Alpine, Xen::V4_20, Mode::Pv),
        (Distro::ArchSystemdBoot, Xen::V4_17, Mode::Pv),
        (Distro::ArchUki, Xen::V4_20, Mode::Pvh),
    ] {
        let mut case = Case::new(xen, mode, format!("disk-{}", distro.name()));
        case.distro = Some(distro);
        case.memory = 512;
        cases.push(case.expect(Expect::System));
    }
    cases
}
