//! The runs on a real Xen that show Kexen to work, as data.

use std::borrow::Cow;
use std::fmt;

use kexen_image::Compression;

use super::artefacts::{Flavour, Xen};
use super::build::Variant;
use super::guest::{Device, Mode};
use super::probe::{Backend, Probe};

/// A kernel to hand over to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linux {
    /// One of Debian's, as it is.
    Debian(Flavour),
    /// Debian's cloud kernel with another compression.
    Repacked(Compression),
    /// Debian's cloud kernel as plain ELF.
    Elf,
}

/// What the boot module is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Module {
    /// As it should be.
    Good,
    /// With a Kexen inside, for chains of hand-offs.
    Chain,
    /// No entries.
    Empty,
    /// The archive ends in the middle of the kernel.
    CutArchive,
    /// The kernel ends in the middle of its payload.
    CutKernel,
    /// Bytes of the kernel's payload are wrong.
    CorruptPayload,
    /// The kernel is an ELF file without Xen's notes.
    NoNotes,
    /// The kernel wants more memory than the guest has.
    LargeKernel,
    /// The initrd is larger than what the kernel leaves of the memory.
    LargeInitrd,
    /// The command line is longer than any kernel takes.
    LongCmdline,
    /// The default entry's payload is corrupt, the entry `good` is good.
    BadThenGood,
}

/// Who starts the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The toolstack starts Kexen, and Kexen the kernel.
    Kexen,
    /// The toolstack, without Kexen.
    Toolstack,
}

/// What a run must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The test userspace finds all as it should be.
    Userspace,
    /// This many hand-offs, each with its free memory intact, then as above.
    Chain(u32),
    /// An error with all of these texts on one line, then the prompt, which
    /// answers.
    Prompt(&'static [&'static str]),
    /// A refusal with all of these texts on one line, with the guest going on
    /// as before; then the end with a crash code, as it was told.
    Refuses(&'static [&'static str]),
    /// The test userspace is reached, and does not find all as it should be.
    Fails(&'static [&'static str]),
    /// An error with all of these texts on one line, then the end with this
    /// reason code.
    Ends(&'static [&'static str], u32),
    /// All of these texts on one line, then the end, with whatever code and
    /// without a word from a userspace.
    Lost(&'static [&'static str]),
    /// The test userspace hands over by Linux's own kexec; the toolstack resets
    /// the domain under it, and a second userspace finds all as it should be.
    Reset,
    /// The test userspace crashes its kernel; the one loaded for that finds the
    /// first one's memory as a core file.
    Captured,
    /// As a reset, but the toolstack loses the domain.
    Gone,
    /// An error with all of these texts on one line, then `boot good` at the
    /// prompt, and the userspace of that entry.
    Retry(&'static [&'static str]),
    /// This many hand-offs of the busy guest to itself, nothing left each time
    /// and memory as it was, then as [`Self::Userspace`].
    Hops(u32),
    /// 1,000 moves of shared info without a wrong reading, then the same.
    Steady,
    /// A capture kernel comes up after a crash and reads the dead kernel's
    /// memory.
    Vmcore,
    /// A probe's answers, and those of its backend in dom0.
    Probe(Probe),
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Its name, unique.
    pub(crate) name: String,
    /// Under which Xen.
    pub(crate) xen: Xen,
    /// How the guest runs.
    pub(crate) mode: Mode,
    /// The kernel to hand over to.
    pub(crate) linux: Linux,
    /// The boot module.
    pub(crate) module: Module,
    /// Who starts the kernel.
    pub(crate) start: Start,
    /// Which boot image.
    pub(crate) image: Variant,
    /// What the toolstack's command line tells Kexen.
    pub(crate) options: Cow<'static, str>,
    /// MiB.
    pub(crate) memory: u64,
    /// Virtual processors.
    pub(crate) vcpus: u32,
    /// Emulated devices of an HVM guest.
    pub(crate) devices: &'static [Device],
    /// What the test userspace is asked for: words of its command line.
    pub(crate) asked: &'static str,
    /// The backend that has the busy guest's grants mapped.
    pub(crate) backend: Option<Backend>,
    /// What must come of it.
    pub(crate) expect: Expect,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "xen-{}/{}/{}",
            self.xen.version(),
            self.mode.name(),
            self.name
        )
    }
}

impl Case {
    fn new(xen: Xen, mode: Mode, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            xen,
            mode,
            linux: Linux::Debian(if mode.is_dom0() {
                Flavour::Generic
            } else {
                Flavour::Cloud
            }),
            module: Module::Good,
            start: Start::Kexen,
            image: Variant::Normal,
            options: Cow::Borrowed(""),
            memory: 256,
            vcpus: 1,
            devices: &[],
            asked: "",
            backend: None,
            expect: Expect::Userspace,
        }
    }
}

/// How many hand-offs a chain has.
pub(crate) const CHAIN: u32 = 20;

/// All runs, in the order of the dom0s that they share.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = plain();
    cases.extend(compressions());
    cases.extend(chains());
    cases.extend(bad_input());
    cases.extend(omissions());
    cases.extend(probes());
    cases.extend(busy());
    cases.extend(busy_alone());
    cases.extend(backends());
    cases.extend(hvm());
    cases.extend(peers());
    // One dom0 for each Xen; small guests first, so that trouble shows early.
    cases.sort_by_key(|case| (case.xen, case.mode.is_dom0()));
    cases
}

/// Kernels, sizes and processors: each value with each mode and each Xen.
fn plain() -> Vec<Case> {
    use Flavour::{Cloud, Generic};
    use Mode::{Dom0Pv, Dom0Pvh, Pv, Pvh};
    use Xen::{V4_17, V4_20};
    [
        (V4_17, Pv, Cloud, 1, 256),
        (V4_17, Pv, Generic, 4, 4096),
        (V4_17, Pvh, Cloud, 4, 4096),
        (V4_17, Pvh, Generic, 1, 256),
        (V4_17, Dom0Pv, Generic, 1, 256),
        (V4_17, Dom0Pv, Generic, 4, 4096),
        (V4_20, Pv, Generic, 1, 256),
        (V4_20, Pv, Cloud, 4, 4096),
        (V4_20, Pvh, Cloud, 1, 256),
        (V4_20, Pvh, Generic, 4, 4096),
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
        case.image = Variant::Omission;
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
                case.image = Variant::Probe;
                case.options = Cow::Borrowed(probe.options());
                case.expect = Expect::Probe(probe);
                cases.push(case);
            }
        }
    }
    cases
}

/// A guest in full swing hands over, with all it can hold.
fn busy() -> Vec<Case> {
    let mut cases = Vec::new();
    for xen in Xen::ALL {
        for (mode, vcpus) in [
            (Mode::Pv, 1),
            (Mode::Pv, 4),
            (Mode::Pv, 8),
            (Mode::Pvh, 1),
            (Mode::Pvh, 4),
            (Mode::Pvh, 8),
            (Mode::Hvm, 1),
            (Mode::Hvm, 4),
            (Mode::Hvm, 8),
        ] {
            let mut case = busy_case(xen, mode, format!("busy-{vcpus}cpu"));
            case.vcpus = vcpus;
            cases.push(case);
        }
        for (mode, vcpus, name, options) in [
            (Mode::Pvh, 4, "ap", "busy.hold=all busy.crash=2"),
            (Mode::Pvh, 2, "boot-vcpu", "busy.hold=all busy.crash=0"),
            (Mode::Hvm, 2, "ap", "busy.hold=all busy.crash=1"),
        ] {
            let mut case = busy_case(xen, mode, format!("crash-{name}"));
            case.vcpus = vcpus;
            case.options = Cow::Borrowed(options);
            case.memory = 512;
            case.asked = "lab.vmcore lab.marker=crash=on nr_cpus=1 reset_devices";
            case.expect = Expect::Vmcore;
            cases.push(case);
        }
    }
    cases
}

/// How many hand-offs of the busy guest to itself in a row.
const HOPS: u32 = 200;

/// The busy guest to itself; what stands in its way; what is forgotten.
fn busy_alone() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |xen, mode, name: &str, options, expect| {
        let mut case = busy_case(xen, mode, name.to_owned());
        case.options = Cow::Borrowed(options);
        case.expect = expect;
        case.vcpus = 4;
        case.asked = match name {
            "forgot-pirqs" => "lab.emulated xen_emul_unplug=unnecessary",
            "forgot-shared-info" => "nokaslr",
            _ => "",
        };
        if name == "blocked-vcpus" {
            case.vcpus = 2;
        }
        if name == "busy-chain" {
            case.memory = 192;
        }
        if name == "example" {
            case.image = Variant::Example;
            case.module = Module::Good;
        }
        cases.push(case);
    };
    const BLOCKED: &str = "kexen-busy: error=claims are outstanding";
    use Mode::{Hvm, Pvh};
    use Xen::{V4_17, V4_20};
    add(
        V4_17,
        Pvh,
        "busy-chain",
        // Without disks: their backends take seconds to close and to open.
        "busy.hold=vcpus,shared-info,ports,areas,grants,balloon,foreign busy.hops=200 busy.work=5",
        Expect::Hops(HOPS),
    );
    add(
        V4_20,
        Pvh,
        "busy-chain-disks",
        "busy.hold=all busy.hops=5 busy.work=20",
        Expect::Hops(5),
    );
    add(
        V4_20,
        Pvh,
        "busy-1000-moves",
        "busy.hold=all busy.moves=1000",
        Expect::Steady,
    );
    add(
        V4_17,
        Hvm,
        "busy-1000-moves",
        "busy.hold=all busy.moves=1000",
        Expect::Steady,
    );
    for (xen, mode) in [(V4_17, Mode::Pv), (V4_20, Pvh), (V4_20, Hvm)] {
        add(xen, mode, "example", "", Expect::Userspace);
    }
    for xen in Xen::ALL {
        add(
            xen,
            Hvm,
            "soft-reset",
            "busy.hold=all,vcpu-info busy.soft-reset",
            Expect::Userspace,
        );
    }
    for (mode, name, options, expect) in FORGOTTEN_BEFORE_LINUX {
        add(V4_17, mode, name, options, expect);
    }
    for (xen, mode, name, options, texts) in BLOCKERS {
        add(xen, mode, name, options, Expect::Refuses(texts));
    }
    for (xen, mode, name, options, texts) in FORGOTTEN {
        add(xen, mode, name, options, Expect::Ends(texts, 3));
    }
    debug_assert!(BLOCKERS.iter().all(|case| case.4.contains(&BLOCKED)));
    cases
}

/// Backends that have the busy guest's grants mapped when it hands over.
fn backends() -> Vec<Case> {
    const KEPT: &[&str] = &[
        "kexen-busy: error=claims are outstanding",
        "domain 0 writes grant 32257",
        "have the backend unmap it, or abandon its page",
    ];
    let mut cases = Vec::new();
    for (xen, name, options, backend, expect) in [
        (
            Xen::V4_17,
            "backend-keeps",
            "busy.hold=all busy.backend busy.stop=crash",
            Backend::Keeps,
            Expect::Refuses(KEPT),
        ),
        (
            Xen::V4_20,
            "backend-keeps-on",
            "busy.hold=all busy.backend busy.patience=2000 busy.stop=crash",
            Backend::Keeps,
            Expect::Refuses(KEPT),
        ),
        (
            Xen::V4_17,
            "backend-late",
            "busy.hold=all busy.backend busy.patience=30000",
            Backend::Late,
            Expect::Userspace,
        ),
        (
            Xen::V4_20,
            "backend-dies",
            "busy.hold=all busy.backend busy.patience=30000",
            Backend::Dies,
            Expect::Userspace,
        ),
        (
            Xen::V4_17,
            "backend-abandoned",
            "busy.hold=all busy.backend busy.abandon",
            Backend::Keeps,
            Expect::Userspace,
        ),
        (
            Xen::V4_20,
            "backend-abandoned",
            "busy.hold=all busy.backend busy.abandon",
            Backend::Keeps,
            Expect::Userspace,
        ),
        (
            Xen::V4_17,
            "backend-forgotten",
            "busy.hold=all busy.backend busy.omit=grants,foreign",
            Backend::Keeps,
            // What the backend writes lands in the unpacked initrd.
            Expect::Fails(&["the initrd did not come through whole"]),
        ),
    ] {
        let mut case = busy_case(xen, Mode::Pvh, name.to_owned());
        case.options = Cow::Borrowed(options);
        case.vcpus = 2;
        case.backend = Some(backend);
        case.expect = expect;
        case.asked = "lab.memory";
        cases.push(case);
    }
    cases
}

/// Hand-offs of the busy guest to itself, to measure their phases.
pub(crate) fn measured(xen: Xen, vcpus: u32, grants: u32, ports: u32, hops: u32) -> Case {
    let name = format!("measured-{vcpus}-{grants}-{ports}");
    let mut case = busy_case(xen, Mode::Pvh, name);
    case.options = Cow::Owned(format!(
        "busy.hold=all busy.work=50 busy.hops={hops} busy.grants={grants} busy.ports={ports}"
    ));
    case.vcpus = vcpus;
    case.asked = "";
    case.expect = Expect::Hops(hops);
    case
}

/// An HVM guest to Linux by Kexen, and from Linux to Linux by the usual tools.
pub(crate) fn measured_hvm(xen: Xen) -> (Case, Case) {
    let mut kexen = busy_case(xen, Mode::Hvm, "measured-kexen".to_owned());
    kexen.asked = "";
    let mut linux = Case::new(xen, Mode::Hvm, "measured-soft-reset");
    linux.linux = Linux::Debian(Flavour::Generic);
    linux.start = Start::Toolstack;
    linux.asked = "lab.kexec";
    linux.memory = 384;
    linux.expect = Expect::Reset;
    (kexen, linux)
}

type Refusal = (
    Xen,
    Mode,
    &'static str,
    &'static str,
    &'static [&'static str],
);

/// What the hand-off refuses, with the claim, its holder and what to do.
const BLOCKERS: [Refusal; 6] = [
    (
        Xen::V4_17,
        Mode::Pvh,
        "blocked-on-demand",
        "busy.hold=ports busy.stop=crash",
        &[
            "kexen-busy: error=claims are outstanding",
            "Xen populates this guest on demand",
            "maxmem = memory",
        ],
    ),
    (
        Xen::V4_17,
        Mode::Pvh,
        "blocked-vcpu-info",
        "busy.hold=all,vcpu-info busy.stop=crash",
        &[
            "kexen-busy: error=claims are outstanding",
            "Xen writes vcpu_info of vCPU 0",
            "soft reset",
        ],
    ),
    (
        Xen::V4_20,
        Mode::Pvh,
        "blocked-vector",
        "busy.hold=all,vector busy.stop=crash",
        &[
            "kexen-busy: error=claims are outstanding",
            "event upcalls by vector 0xf3",
            "never unset",
        ],
    ),
    (
        Xen::V4_17,
        Mode::Pv,
        "blocked-vcpus",
        "busy.hold=ports,pv-vcpus busy.stop=crash",
        &[
            "kexen-busy: error=claims are outstanding",
            "vCPU 1, which was brought up",
            "cannot be replaced",
        ],
    ),
    (
        Xen::V4_20,
        Mode::Pv,
        "blocked-vcpu-info",
        "busy.hold=all,vcpu-info busy.stop=crash",
        &[
            "kexen-busy: error=claims are outstanding",
            "Xen writes vcpu_info of vCPU 0",
        ],
    ),
    (
        Xen::V4_17,
        Mode::Hvm,
        "blocked-vcpu-info",
        "busy.hold=all,vcpu-info busy.stop=crash",
        &[
            "kexen-busy: error=claims are outstanding",
            "Xen writes vcpu_info of vCPU 0",
            "soft reset",
        ],
    ),
];

/// What Linux makes of it when one part is left out.
const FORGOTTEN_BEFORE_LINUX: [(Mode, &str, &str, Expect); 4] = [
    (
        // A PV Linux does not reset a frontend that it finds connected.
        Mode::Pv,
        "forgot-devices",
        "busy.hold=all busy.omit=device",
        Expect::Fails(&["disk-read"]),
    ),
    (
        // The other vCPUs run on in memory that becomes Linux's.
        Mode::Pvh,
        "forgot-vcpus",
        "busy.hold=all busy.omit=park,init",
        Expect::Lost(&["kexen-busy: exec="]),
    ),
    (
        // The devices' interrupts go where nobody looks.
        Mode::Hvm,
        "forgot-pirqs",
        "busy.hold=all busy.omit=pirqs",
        Expect::Fails(&["no interrupts of"]),
    ),
    (
        // Xen writes into Linux's first page.
        Mode::Hvm,
        "forgot-shared-info",
        "busy.hold=all busy.omit=shared-info",
        Expect::Lost(&["kexen-busy: exec="]),
    ),
];

/// What the next kernel finds when one part is left out.
const FORGOTTEN: [Refusal; 8] = [
    (
        Xen::V4_20,
        Mode::Pvh,
        "forgot-foreign",
        "busy.hold=all busy.hops=1 busy.omit=foreign busy.stop=crash",
        // The grant that is mapped cannot be ended.
        &["kexen-busy: error=claims are outstanding", "writes grant"],
    ),
    (
        Xen::V4_17,
        Mode::Pvh,
        "forgot-ports",
        "busy.hold=all busy.hops=1 busy.omit=ports busy.stop=crash",
        &["kexen-busy: error=", "left of another kernel: port"],
    ),
    (
        Xen::V4_17,
        Mode::Pvh,
        "forgot-balloon",
        "busy.hold=all busy.hops=1 busy.omit=balloon busy.stop=crash",
        &["kexen-busy: error=17 pages of free memory are holes"],
    ),
    (
        Xen::V4_20,
        Mode::Pvh,
        "forgot-areas",
        "busy.hold=all busy.hops=1 busy.omit=areas busy.stop=crash",
        &[
            "kexen-busy: error=",
            "pages of free memory are holes, or somebody else's to write",
        ],
    ),
    (
        Xen::V4_17,
        Mode::Pvh,
        "forgot-grants",
        "busy.hold=all busy.hops=1 busy.omit=grants busy.stop=crash",
        &[
            "kexen-busy: error=",
            "entries of the grant table are another kernel's",
        ],
    ),
    (
        Xen::V4_17,
        Mode::Pvh,
        "forgot-shared-info",
        "busy.hold=all,early-shared-info busy.hops=1 busy.omit=shared-info busy.stop=crash",
        &["kexen-busy: error=1 pages of free memory are holes, or somebody else's to write"],
    ),
    (
        Xen::V4_20,
        Mode::Pvh,
        "forgot-shared-info",
        "busy.hold=all,early-shared-info busy.hops=1 busy.omit=shared-info busy.stop=crash",
        &["kexen-busy: error=1 pages of free memory are holes, or somebody else's to write"],
    ),
    (
        Xen::V4_17,
        Mode::Pvh,
        "careless-moves",
        "busy.hold=all busy.moves=1000 busy.omit=move busy.stop=crash",
        &["kexen-busy: error=", "wrong readings of the clock"],
    ),
];

fn busy_case(xen: Xen, mode: Mode, name: String) -> Case {
    let mut case = Case::new(xen, mode, name);
    case.image = Variant::Busy;
    case.module = Module::Chain;
    case.options = Cow::Borrowed(match mode {
        // A PV guest does not choose where shared info is.
        Mode::Pv => "busy.hold=all",
        _ => "busy.hold=all busy.moves=100",
    });
    if mode == Mode::Hvm {
        case.linux = Linux::Debian(Flavour::Generic);
        case.devices = Device::ALL;
        case.asked = "lab.memory lab.cpus lab.emulated xen_emul_unplug=unnecessary";
    } else {
        case.asked = "lab.memory lab.cpus";
    }
    case
}

/// HVM guests as the toolstack starts them: what the lab makes of such a
/// guest, before anything else runs in one.
fn hvm() -> Vec<Case> {
    let mut cases = Vec::new();
    for xen in Xen::ALL {
        let mut case = Case::new(xen, Mode::Hvm, "toolstack");
        case.linux = Linux::Debian(Flavour::Generic);
        case.start = Start::Toolstack;
        case.vcpus = 2;
        case.asked = "lab.memory lab.cpus";
        cases.push(case.clone());
        case.name = "toolstack-emulated".to_owned();
        case.asked = "lab.emulated xen_emul_unplug=unnecessary";
        case.devices = Device::ALL;
        cases.push(case);
    }
    cases
}

/// What a hand-off without Kexen comes to: Linux's own kexec, by which every
/// guest but a PV one asks the toolstack for a soft reset.
fn peers() -> Vec<Case> {
    let mut cases = Vec::new();
    for xen in Xen::ALL {
        for (mode, expect) in [(Mode::Pvh, Expect::Gone), (Mode::Hvm, Expect::Reset)] {
            let mut case = Case::new(xen, mode, "peer-kexec");
            case.linux = Linux::Debian(Flavour::Generic);
            case.start = Start::Toolstack;
            case.asked = "lab.kexec";
            case.memory = 384;
            case.expect = expect;
            cases.push(case);
        }
        let mut case = Case::new(xen, Mode::Hvm, "peer-kdump");
        case.linux = Linux::Debian(Flavour::Generic);
        case.start = Start::Toolstack;
        case.asked = "lab.kdump lab.marker=kexen-marker-7391 crashkernel=160M";
        case.memory = 384;
        case.expect = Expect::Captured;
        cases.push(case);
    }
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let all = cases();
        let names: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn each_value_meets_each_mode_and_xen() {
        let all = plain();
        for xen in Xen::ALL {
            for mode in [Mode::Pv, Mode::Pvh, Mode::Dom0Pv] {
                let of = |test: &dyn Fn(&Case) -> bool| {
                    assert!(
                        all.iter()
                            .any(|case| case.xen == xen && case.mode == mode && test(case)),
                        "{xen:?} {mode:?}"
                    );
                };
                of(&|case| case.vcpus == 1);
                of(&|case| case.vcpus == 4);
                of(&|case| case.memory == 256);
                of(&|case| case.memory == 4096);
                of(&|case| case.linux == Linux::Debian(Flavour::Generic));
                if !mode.is_dom0() {
                    of(&|case| case.linux == Linux::Debian(Flavour::Cloud));
                }
            }
        }
    }

    #[test]
    fn no_pvh_dom0_where_xen_refuses_one() {
        assert!(
            !cases()
                .iter()
                .any(|case| case.xen == Xen::V4_17 && case.mode == Mode::Dom0Pvh)
        );
    }

    #[test]
    fn each_compression_has_a_run() {
        let all = cases();
        for compression in Compression::ALL {
            assert!(
                all.iter()
                    .any(|case| case.linux == Linux::Repacked(compression))
            );
        }
    }
}
