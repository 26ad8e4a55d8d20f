//! What comes of a claim that the hand-off forgets on purpose: in Linux, or
//! in a second busy guest that looks for what the first left.

use super::{Case, Expect, busy};
use crate::lab::{artefacts::Xen, guest::Mode};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = before_linux();
    cases.extend(before_itself());
    cases
}

fn before_linux() -> Vec<Case> {
    use Mode::{Hvm, Pv, Pvh};
    /// The jump was made, and no userspace came.
    const LOST: Expect = Expect::Lost(&["kexen-busy: exec="]);
    let case = |mode, name: &str, options, asked, expect| {
        let case = busy::case(Xen::V4_17, mode, format!("forgot-{name}"));
        case.options(options).asked(asked).expect(expect)
    };
    vec![
        case(
            Pv,
            "devices",
            "busy.hold=all busy.omit=device",
            "",
            // A PV Linux does not reset a frontend that it finds connected.
            Expect::Fails(&["disk-read"]),
        ),
        case(
            Pvh,
            "vcpus",
            "busy.hold=all busy.omit=park,init",
            "",
            // The other vCPUs run on in memory that becomes Linux's.
            LOST,
        ),
        case(
            Pvh,
            "vcpu-info",
            "busy.hold=all,vcpu-info busy.omit=vcpu-info",
            "",
            // Linux cannot register its own, and ends before its first word.
            LOST,
        ),
        case(
            Hvm,
            "pirqs",
            "busy.hold=all busy.omit=pirqs",
            "lab.emulated xen_emul_unplug=unnecessary",
            // The devices' interrupts go where nobody looks.
            Expect::Fails(&["no interrupts of"]),
        ),
        case(
            Hvm,
            "shared-info",
            "busy.hold=all busy.omit=shared-info",
            "nokaslr",
            // Xen writes into Linux's first page.
            LOST,
        ),
    ]
}

fn before_itself() -> Vec<Case> {
    use Mode::Pvh;
    use Xen::{V4_17, V4_20};
    /// Shared info's page holds no memory, or does not keep what is written.
    const ONE_PAGE: &[&str] =
        &["kexen-busy: error=1 pages of free memory are holes, or somebody else's to write"];
    const SHARED_INFO: &str =
        "busy.hold=all,early-shared-info busy.hops=1 busy.omit=shared-info busy.stop=crash";
    let case = |xen, mode, name: &str, options, texts| {
        let case = busy::case(xen, mode, name);
        case.options(options)
            .asked("")
            .expect(Expect::Ends(texts, 3))
    };
    vec![
        case(
            V4_20,
            Pvh,
            "forgot-foreign",
            "busy.hold=all busy.hops=1 busy.omit=foreign busy.stop=crash",
            // The grant that is mapped cannot be ended.
            &["kexen-busy: error=claims are outstanding", "writes grant"],
        ),
        case(
            V4_17,
            Pvh,
            "forgot-ports",
            "busy.hold=all busy.hops=1 busy.omit=ports busy.stop=crash",
            &["kexen-busy: error=", "left of another kernel: port"],
        ),
        case(
            V4_17,
            Pvh,
            "forgot-balloon",
            "busy.hold=all busy.hops=1 busy.omit=balloon busy.stop=crash",
            &["kexen-busy: error=17 pages of free memory are holes"],
        ),
        case(
            V4_20,
            Pvh,
            "forgot-areas",
            "busy.hold=all busy.hops=1 busy.omit=areas busy.stop=crash",
            &[
                "kexen-busy: error=",
                "pages of free memory are holes, or somebody else's to write",
            ],
        ),
        case(
            V4_17,
            Pvh,
            "forgot-grants",
            "busy.hold=all busy.hops=1 busy.omit=grants busy.stop=crash",
            &[
                "kexen-busy: error=",
                "entries of the grant table are another kernel's",
            ],
        ),
        case(V4_17, Pvh, "forgot-shared-info", SHARED_INFO, ONE_PAGE),
        case(V4_20, Pvh, "forgot-shared-info", SHARED_INFO, ONE_PAGE),
        case(
            V4_17,
            Pvh,
            "forgot-capture",
            "busy.hold=all busy.crash=1 busy.omit=capture busy.stop=crash",
            // Nobody looks at the dead kernel's memory.
            &["error: panic: "],
        ),
        case(
            V4_17,
            Pvh,
            "careless-moves",
            "busy.hold=all busy.moves=1000 busy.omit=move busy.stop=crash",
            &["kexen-busy: error=", "wrong readings of the clock"],
        ),
    ]
}
