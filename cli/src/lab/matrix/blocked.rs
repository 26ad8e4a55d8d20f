//! What a hand-off refuses, with the claim, its holder and what to do; the
//! guest goes on, and ends with a code that a toolstack sees.

use super::{Case, Expect, busy};
use crate::lab::{artefacts::Xen, guest::Mode};

const BLOCKED: &str = "kexen-busy: error=claims are outstanding";

pub(super) fn cases() -> Vec<Case> {
    use Mode::{Hvm, Pv, Pvh};
    use Xen::{V4_17, V4_20};
    let case = |xen, mode, name: &str, options, texts: &'static [&'static str]| {
        assert!(texts.contains(&BLOCKED));
        let case = busy::case(xen, mode, format!("blocked-{name}"));
        case.options(options)
            .asked("")
            .expect(Expect::Refuses(texts))
    };
    const INFO: &str = "busy.hold=all,vcpu-info busy.stop=crash";
    const INFO_BLOCKS: &[&str] = &[BLOCKED, "Xen writes vcpu_info of vCPU 0", "soft reset"];
    let vcpus = case(
        V4_17,
        Pv,
        "vcpus",
        "busy.hold=ports,pv-vcpus busy.stop=crash",
        &[
            BLOCKED,
            "vCPU 1, which was brought up",
            "cannot be replaced",
        ],
    );
    vec![
        vcpus,
        case(V4_17, Pvh, "vcpu-info", INFO, INFO_BLOCKS),
        case(
            V4_20,
            Pv,
            "vcpu-info",
            INFO,
            &[BLOCKED, "Xen writes vcpu_info of vCPU 0"],
        ),
        case(V4_17, Hvm, "vcpu-info", INFO, INFO_BLOCKS),
        case(
            V4_20,
            Pvh,
            "vector",
            "busy.hold=all,vector busy.stop=crash",
            &[BLOCKED, "event upcalls by vector 0xf3", "never unset"],
        ),
        // No capture kernel could run on a PV vCPU.
        busy::case(V4_17, Pv, "blocked-crash")
            .options("busy.hold=all busy.crash=0 busy.stop=crash")
            .asked("")
            .expect(Expect::Refuses(&[
                "kexen-busy: error=a PV guest has no crash hand-off",
                "nothing replaces a PV vCPU's context",
            ])),
        // Done when the next kernel was loaded already.
        case(
            V4_20,
            Pvh,
            "late",
            "busy.hold=all busy.late=vcpu-info busy.stop=crash",
            INFO_BLOCKS,
        ),
    ]
}
