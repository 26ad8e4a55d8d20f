//! The runs on a real Xen that show Kexen to work, as data.
//!
//! | module | what it is |
//! |---|---|
//! | `boot` | the boot image starts kernels, and refuses bad ones |
//! | `disk` | the boot image starts what is on the guest's own disk |
//! | `busy` | a guest in full swing hands over |
//! | `blocked` | what a hand-off refuses |
//! | `forgotten` | what comes of a claim that a hand-off forgets |
//! | `memory` | guests with other memory than most |
//! | `peers` | the same without Kexen, and the lab itself |

mod blocked;
mod boot;
pub(crate) mod busy;
mod disk;
mod forgotten;
mod memory;
mod peers;

use std::borrow::Cow;
use std::fmt;

use kexen_image::Compression;

use super::artefacts::{Flavour, Xen};
use super::boot_disk::{DiskLayout, Signing};
use super::build::Variant;
use super::distro::Distro;
use super::example::Toolstack;
use super::guest::{Attach, Device, Mode};
use super::hostile::Hostile;
use super::meanwhile::Meanwhile;
use super::other_elf::Form;
use super::probe::Probe;
use super::talk::Talk;

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
    /// The same with one in another form of file.
    Other(Form),
    /// GRUB's image for this guest, which boots from the disk.
    Grub,
    /// Xen's shim, and Kexen as the PV guest inside, which boots from the disk.
    Shim,
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
    /// The distribution's own system comes up on its own root.
    System,
    /// What is said and typed on the console goes like this.
    Talk(&'static Talk),
    /// The package's example of this name for this toolstack comes up, and ends.
    Example(Toolstack, &'static str),
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
    /// The disk that the kernel is on, instead of a boot module.
    pub(crate) disk: Option<DiskLayout>,
    /// The distribution whose disk the guest boots, as it is.
    pub(crate) distro: Option<Distro>,
    /// How that disk is attached.
    pub(crate) attach: Attach,
    /// More block devices, and what their backends do.
    pub(crate) hostile: &'static [Hostile],
    /// Whether a disk comes beside it for which there is not memory enough.
    pub(crate) greedy: bool,
    /// Whether what is on it is signed; then it has to be.
    pub(crate) signing: Option<Signing>,
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
    /// More lines of xl's configuration.
    pub(crate) config: String,
    /// What dom0 does while the busy guest runs.
    pub(crate) meanwhile: Option<Meanwhile>,
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
            disk: None,
            distro: None,
            attach: Attach::Disk,
            hostile: &[],
            greedy: false,
            signing: None,
            start: Start::Kexen,
            image: Variant::Normal,
            options: Cow::Borrowed(""),
            memory: 256,
            vcpus: 1,
            devices: &[],
            asked: "",
            config: String::new(),
            meanwhile: None,
            expect: Expect::Userspace,
        }
    }

    fn options(mut self, options: &'static str) -> Self {
        self.options = Cow::Borrowed(options);
        self
    }

    fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    const fn vcpus(mut self, vcpus: u32) -> Self {
        self.vcpus = vcpus;
        self
    }

    const fn memory(mut self, mib: u64) -> Self {
        self.memory = mib;
        self
    }

    const fn asked(mut self, words: &'static str) -> Self {
        self.asked = words;
        self
    }

    const fn linux(mut self, linux: Linux) -> Self {
        self.linux = linux;
        self
    }

    fn config(mut self, line: impl Into<String>) -> Self {
        self.config.push_str(&line.into());
        self.config.push('\n');
        self
    }

    /// With every emulated device, and their interrupts as event channels: that
    /// is so by default up to Xen 4.18.
    fn all_devices(mut self) -> Self {
        self.devices = Device::ALL;
        match self.xen {
            Xen::V4_17 => self,
            Xen::V4_20 => self.config("hvm_pirq = 1"),
        }
    }

    const fn meanwhile(mut self, meanwhile: Meanwhile) -> Self {
        self.meanwhile = Some(meanwhile);
        self
    }
}

/// MiB that a dom0's machine has for guests, if one wants as much.
const LARGE: u64 = 4096;

/// One run of each kind: PV, PVH, HVM and dom0, a boot module and a disk, an
/// omission. `test` makes them each time.
const SHORT: &[&str] = &[
    "xen-4.17/pv/cloud-1cpu-256m",
    "xen-4.17/pv/disk-grub-xfs",
    "xen-4.17/pv/omit-writable-tables",
    "xen-4.17/pvh/cloud-1cpu-256m",
    "xen-4.17/pvh/disk-bls-ext4",
    "xen-4.17/dom0-pv/generic-1cpu-256m",
    "xen-4.17/hvm/disk-hvm",
];

impl Case {
    /// Whether it wants more memory than most machines of the lab have.
    pub(crate) const fn is_large(&self) -> bool {
        self.memory > LARGE
    }

    /// Whether `test` makes it each time.
    pub(crate) fn is_short(&self) -> bool {
        SHORT.contains(&self.to_string().as_str())
    }
}

/// All runs, in the order of the dom0s that they share.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = boot::cases();
    cases.extend(disk::cases());
    cases.extend(busy::cases());
    cases.extend(blocked::cases());
    cases.extend(forgotten::cases());
    cases.extend(memory::cases());
    cases.extend(peers::cases());
    // One dom0 for each Xen, and one for large guests; small ones first, so that
    // trouble shows early.
    cases.sort_by_key(|case| (case.xen, case.mode.is_dom0(), case.is_large()));
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
        let all = boot::plain();
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
    fn a_short_test_has_each_kind() {
        let all = cases();
        let short: Vec<&Case> = all.iter().filter(|case| case.is_short()).collect();
        assert_eq!(short.len(), SHORT.len());
        let has = |test: &dyn Fn(&Case) -> bool| assert!(short.iter().any(|case| test(case)));
        for mode in [Mode::Pv, Mode::Pvh, Mode::Hvm, Mode::Dom0Pv] {
            has(&|case| case.mode == mode);
        }
        has(&|case| case.disk.is_none() && case.expect == Expect::Userspace);
        has(&|case| case.disk.is_some() && case.expect == Expect::Userspace);
        has(&|case| case.image == Variant::Lab && case.expect != Expect::Userspace);
        // One Xen's files are fewer to fetch.
        assert!(short.iter().all(|case| case.xen == short[0].xen));
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
