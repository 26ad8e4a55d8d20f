//! The boot image starts what is on the guest's own disk, by the
//! configuration that is there.

use super::{Case, Expect};
use crate::lab::{artefacts::Xen, boot_disk::DiskLayout, guest::Mode};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, layout) in DiskLayout::ALL.into_iter().enumerate() {
        // Each layout once, in turn on each Xen and in each type of guest.
        let xen = if n % 2 == 0 { Xen::V4_17 } else { Xen::V4_20 };
        let mode = if n / 2 % 2 == 0 { Mode::Pvh } else { Mode::Pv };
        cases.push(case(xen, mode, layout));
    }
    cases
}

fn case(xen: Xen, mode: Mode, layout: DiskLayout) -> Case {
    let mut case = Case::new(xen, mode, format!("disk-{}", layout.name()));
    case.disk = Some(layout);
    case.memory = 384;
    case.options("kexen.timeout=0 kexen.stats")
        .expect(Expect::Userspace)
}
