//! The boot image starts Linux: kernels, sizes, compressions, chains; input
//! that it must refuse; what it does left out, on purpose; questions to Xen.

use std::borrow::Cow;

use kexen_image::Compression;

use super::{Case, Expect, Linux, Module};
use crate::lab::{
    artefacts::{Flavour, Xen},
    boot_disk::DiskLayout,
    build::Variant,
    guest::Mode,
    other_elf::Form,
    probe::Probe,
};

/// How many hand-offs a chain has.
const CHAIN: u32 = 20;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = plain();
    cases.extend(compressions());
    cases.extend(chains());
    cases.extend(others());
    cases.extend(bad_input());
    cases.extend(omissions());
    cases.extend(probes());
    cases
}

/// Kernels, sizes and processors: each value with each mode and each Xen.
pub(super) fn plain() -> Vec<Case> {
    use Flavour::{Cloud, Generic};
    use Mode::{Dom0Pv, Dom0Pvh, Pv, Pvh};
    use Xen::{V4_17, V4_20};
    [
        (V4_17, Pv, Cloud, 1, 256),
        (V4_17, Pv, Generic, 4, 4096),
        (V4_17, Pvh, Cloud, 1, 256),
        (V4_17, Pvh, Generic, 4, 4096),
        (V4_17, Dom0Pv, Generic, 1, 256),
        (V4_17, Dom0Pv, Generic, 4, 4096),
        (V4_20, Pv, Generic, 1, 256),
        (V4_20, Pv, Cloud, 4, 4096),
        (V4_20, Pvh, Cloud, 4, 4096),
        (V4_20, Pvh, Generic, 1, 256),
        (V4_20, Dom0Pv, Generic, 4, 256),
        (V4_20, Dom0Pv, Generic, 1, 4096),
        (V4_20, Dom0Pvh, Generic, 1, 4096),
        (V4_20, Dom0Pvh, Generic, 4, 4096),
    ]
    .into_iter()
    .map(|(xen, mode, flavour, vcpus, memory)| {
        let name = format!("{}-{vcpus}cpu-{memory}m", flavour.name());
        let mut case = Case::new(xen, mode, name);
        case.linux = Linux::Debian(flavour);
        case.vcpus = vcpus;
        case.memory = memory;
        case
    })
    .collect()
}

/// Every payload compression, and none at all.
fn compressions() -> Vec<Case> {
    let mut cases = Vec::new();
    let choices = Compression::ALL
        .map(Linux::Repacked)
        .into_iter()
        .chain([Linux::Elf]);
    for (index, linux) in choices.enumerate() {
        let mode = if index % 2 == 0 { Mode::Pv } else { Mode::Pvh };
        let xen = if index % 4 < 2 {
            Xen::V4_17
        } else {
            Xen::V4_20
        };
        let name = match linux {
            Linux::Repacked(compression) => compression.name(),
            _ => "elf",
        };
        let mut case = Case::new(xen, mode, format!("payload-{name}"));
        case.linux = linux;
        // zstd's largest window alone is 128 MiB.
        case.memory = 512;
        cases.push(case);
    }
    cases
}

/// Kexen starts Kexen … starts Linux.
fn chains() -> Vec<Case> {
    [Mode::Pv, Mode::Pvh]
        .into_iter()
        .map(|mode| {
            let mut case = Case::new(Xen::V4_17, mode, format!("chain-of-{CHAIN}"));
            case.module = Module::Chain;
            case.options = Cow::Borrowed("kexen.chain=20 kexen.verify-memory kexen.stats");
            case.expect = Expect::Chain(CHAIN);
            case
        })
        .collect()
}

/// What is no Linux: Kexen once more, in other forms of file; GRUB, which boots
/// from the guest's disk.
fn others() -> Vec<Case> {
    use Form::{GuestSection, Gzip, Narrow, NoEntry};
    use Mode::{Dom0Pvh, Pv, Pvh};
    use Xen::{V4_17, V4_20};
    let mut cases: Vec<Case> = [
        (V4_17, Pvh, Narrow),
        (V4_20, Pvh, Narrow),
        (V4_20, Dom0Pvh, Narrow),
        (V4_17, Pv, NoEntry),
        (V4_20, Pv, NoEntry),
        (V4_17, Pv, GuestSection),
        (V4_20, Pvh, Gzip),
    ]
    .into_iter()
    .map(|(xen, mode, form)| {
        let mut case = Case::new(xen, mode, form.name());
        case.module = Module::Other(form);
        case.options = Cow::Borrowed("kexen.chain=1 kexen.verify-memory kexen.stats");
        case.expect(Expect::Chain(1))
    })
    .collect();
    for (xen, mode) in [(V4_17, Pvh), (V4_20, Pvh), (V4_17, Pv), (V4_20, Pv)] {
        let mut case = Case::new(xen, mode, "other-grub");
        case.module = Module::Grub;
        if mode == Pv {
            // GRUB's PV image of Debian 12 unpacks no LZ4.
            case.linux = Linux::Debian(Flavour::Generic);
        }
        case.disk = Some(DiskLayout::GrubExt4);
        cases.push(case.memory(512));
    }
    for xen in Xen::ALL {
        let mut case = Case::new(xen, Pvh, "other-shim");
        case.module = Module::Shim;
        case.disk = Some(DiskLayout::GrubExt4);
        cases.push(case.memory(768));
    }
    let mut disk = Case::new(V4_20, Pvh, "other-from-disk");
    disk.disk = Some(DiskLayout::GrubElf);
    cases.push(disk.memory(384));
    cases
}

/// Input that must be refused, with the guest going on.
fn bad_input() -> Vec<Case> {
    use Module::{
        BadThenGood, CorruptPayload, CutArchive, CutKernel, Empty, Good, LargeInitrd, LargeKernel,
        LongCmdline, NoNotes,
    };
    let mut cases = Vec::new();
    let mut add = |mode, name: &str, module, options, expect| {
        let mut case = Case::new(Xen::V4_17, mode, format!("bad-{name}"));
        case.module = module;
        case.options = Cow::Borrowed(options);
        case.expect = expect;
        if let NoNotes | LargeKernel = module {
            case.linux = Linux::Elf;
        } else if mode == Mode::Pvh {
            case.linux = Linux::Debian(Flavour::Generic);
        }
        cases.push(case);
    };
    let prompt = Expect::Prompt;
    const MODULE: &[&str] = &["kexen: error: boot module"];
    const KERNEL: &[&str] = &["kexen: error: ", "kernel"];
    const MEMORY: &[&str] = &["kexen: error: not enough memory"];
    add(Mode::Pv, "empty-module", Empty, "", prompt(MODULE));
    add(Mode::Pvh, "empty-module", Empty, "", prompt(MODULE));
    add(Mode::Pv, "cut-archive", CutArchive, "", prompt(MODULE));
    add(Mode::Pvh, "cut-kernel", CutKernel, "", prompt(KERNEL));
    add(
        Mode::Pv,
        "corrupt-payload",
        CorruptPayload,
        "",
        prompt(KERNEL),
    );
    add(
        Mode::Pvh,
        "corrupt-payload",
        CorruptPayload,
        "",
        prompt(KERNEL),
    );
    add(
        Mode::Pv,
        "no-notes",
        NoNotes,
        "",
        prompt(&["kexen: error: ", "note"]),
    );
    add(Mode::Pv, "large-initrd", LargeInitrd, "", prompt(MEMORY));
    add(Mode::Pv, "large-kernel", LargeKernel, "", prompt(MEMORY));
    add(Mode::Pvh, "large-kernel", LargeKernel, "", prompt(MEMORY));
    add(
        Mode::Pv,
        "long-cmdline",
        LongCmdline,
        "",
        prompt(&["kexen: error: ", "command line"]),
    );
    add(
        Mode::Pvh,
        "unknown-option",
        Good,
        "kexen.no-such-option=1",
        prompt(&["kexen: error: command line", "no-such-option"]),
    );
    add(
        Mode::Pv,
        "then-good",
        BadThenGood,
        "",
        Expect::Retry(KERNEL),
    );
    add(
        Mode::Pvh,
        "then-good",
        BadThenGood,
        "",
        Expect::Retry(KERNEL),
    );
    add(
        Mode::Pv,
        "crash-on-error",
        Empty,
        "kexen.on-error=crash",
        Expect::Ends(MODULE, 3),
    );
    add(
        Mode::Pvh,
        "poweroff-on-error",
        Empty,
        "kexen.on-error=poweroff",
        Expect::Ends(MODULE, 0),
    );
    cases
}

/// A defence left out must be missed, and in the way that it prevents; the
/// same image with nothing left out must do its work.
fn omissions() -> Vec<Case> {
    /// The jump was made; the kernel found what it does not expect, and died.
    const JUMPED: &[&str] = &["kexen: starting kernel"];
    [
        ("nothing", "", Expect::Userspace),
        (
            "writable-tables",
            "kexen.omit=writable-tables",
            // Xen refuses to validate a table that is mapped writable.
            Expect::Prompt(&["kexen: error: ", "pin the new page tables", "EINVAL"]),
        ),
        (
            "pinned-tables",
            "kexen.omit=pinned-tables",
            // Linux maps all its memory writable, and cannot the old tables.
            Expect::Ends(JUMPED, 3),
        ),
        (
            "m2p",
            "kexen.omit=m2p",
            // Linux goes astray when it looks its own tables up in M2P: it has
            // been seen to power off without having found its console.
            Expect::Lost(JUMPED),
        ),
        (
            "writable-pool",
            "kexen.omit=writable-pool",
            // Xen refuses to make a table of a page that is mapped writable.
            Expect::Prompt(&["kexen: error: ", "mmu_update (map)", "EINVAL"]),
        ),
        (
            "read-only-tail",
            "kexen.omit=read-only-tail",
            // The next user of the tail takes a write fault; nobody handles
            // it, and Xen ends the domain.
            Expect::Lost(&["kexen: "]),
        ),
        (
            "flush",
            "kexen.omit=flush",
            // QEMU's emulation looks the tables up again before it faults: a
            // stale read-only translation is not to be seen there. The model
            // shows it.
            Expect::Userspace,
        ),
    ]
    .into_iter()
    .map(|(name, options, expect)| {
        let mut case = Case::new(Xen::V4_17, Mode::Pv, format!("omit-{name}"));
        case.image = Variant::Lab;
        case.options = Cow::Borrowed(options);
        case.expect = expect;
        case
    })
    .collect()
}

/// Questions to Xen itself, on every Xen and in every type of guest.
fn probes() -> Vec<Case> {
    let mut cases = Vec::new();
    for xen in Xen::ALL {
        for mode in [Mode::Pv, Mode::Pvh] {
            for probe in [Probe::Abandon, Probe::AbandonOmit] {
                let mut case = Case::new(xen, mode, format!("probe-{}", probe.name()));
                case.image = Variant::Lab;
                case.options = Cow::Borrowed(probe.options());
                case.expect = Expect::Probe(probe);
                cases.push(case);
            }
        }
    }
    cases
}
