//! A guest to run, what came of it, and the watch over its console.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::console::{Line, lab_pair};
use super::watch::HELLO;

/// How a guest runs on Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(crate) enum Mode {
    /// A paravirtualised domain, started by xl.
    Pv,
    /// A PVH domain, started by xl.
    Pvh,
    /// An HVM domain with SeaBIOS and emulated devices, started by xl.
    Hvm,
    /// The first domain, paravirtualised, started by Xen itself.
    Dom0Pv,
    /// The first domain as PVH (Xen 4.20 and later).
    Dom0Pvh,
}

impl Mode {
    /// The name used in options and tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pv => "pv",
            Self::Pvh => "pvh",
            Self::Hvm => "hvm",
            Self::Dom0Pv => "dom0-pv",
            Self::Dom0Pvh => "dom0-pvh",
        }
    }

    /// Whether Xen starts it without a toolstack.
    pub(crate) const fn is_dom0(self) -> bool {
        matches!(self, Self::Dom0Pv | Self::Dom0Pvh)
    }

    /// Linux's options for a console that shows all of its messages. In a PVH
    /// guest the early console is elsewhere and would swallow the first ones.
    pub(crate) const fn console(self) -> &'static str {
        match self {
            Self::Pv | Self::Dom0Pv => "console=hvc0 earlyprintk=xen",
            Self::Pvh | Self::Hvm | Self::Dom0Pvh => "console=hvc0",
        }
    }

    /// What Linux says of it in `/sys/hypervisor/guest_type`.
    pub(crate) const fn guest_type(self) -> &'static str {
        match self {
            Self::Pv | Self::Dom0Pv => "xen/PV",
            Self::Pvh | Self::Dom0Pvh => "xen/PVH",
            Self::Hvm => "xen/HVM",
        }
    }
}

/// How a disk image is attached to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attach {
    /// As a disk, by dom0's Linux.
    Disk,
    /// As one with sectors of 4096 bytes.
    LargeSectors,
    /// As a partition of a disk that nobody sees.
    Partition,
    /// As a CD.
    Cd,
    /// As a disk, by a device model's block backend.
    Qdisk,
}

/// What to do when a guest's console says something.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Type this line.
    Type(String),
    /// Press these keys, after a moment.
    Keys(String),
    /// Have dom0 run this shell script. What the line has after the text that
    /// was waited for is in the variable `value`.
    Dom0(String),
}

/// An emulated device that an HVM guest gets besides the usual ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// A disk at the PIIX's IDE controller.
    Ide,
    /// A disk at an AHCI controller.
    Ahci,
    /// A network card with a pin interrupt.
    E1000,
    /// A network card with message-signalled interrupts.
    E1000e,
    /// A network card with a pin interrupt.
    Rtl8139,
}

impl Device {
    /// All of them.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Ide,
        Self::Ahci,
        Self::E1000,
        Self::E1000e,
        Self::Rtl8139,
    ];

    /// What the test userspace calls it: a network card by Linux's driver.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ide => "ide",
            Self::Ahci => "ahci",
            Self::E1000 => "e1000",
            Self::E1000e => "e1000e",
            Self::Rtl8139 => "8139cp",
        }
    }

    /// Whether it is a disk: then it has a file.
    pub(crate) const fn is_disk(self) -> bool {
        matches!(self, Self::Ide | Self::Ahci)
    }

    /// The device model's options, for the disk in `file`.
    pub(crate) fn options(self, file: &str) -> Vec<String> {
        let name = self.name();
        let drive = format!("file={file},if=none,id={name},format=raw");
        let disk = |bus| format!("ide-hd,drive={name},model=lab-{name},bus={bus}");
        // No ROM to boot from the network: it would only cost time.
        let card = |model| vec!["-device".to_owned(), format!("{model},romfile=")];
        let mut options: Vec<&str> = Vec::new();
        let (ide, ahci) = (disk("ide.1"), disk("lab.0"));
        match self {
            Self::Ide => options.extend(["-drive", &drive, "-device", &ide]),
            Self::Ahci => {
                options.extend(["-device", "ahci,id=lab", "-drive", &drive, "-device", &ahci]);
            }
            Self::E1000 | Self::E1000e => return card(name),
            Self::Rtl8139 => return card("rtl8139"),
        }
        options.into_iter().map(str::to_owned).collect()
    }

    /// What its line in `/proc/interrupts` must have one of.
    const fn interrupts(self) -> &'static [&'static str] {
        match self {
            // Straight from the I/O APIC, or through an event channel.
            Self::Ide => &["IO-APIC", "ioapic-edge"],
            Self::E1000 | Self::Rtl8139 => &["fasteoi", "ioapic-level"],
            Self::Ahci | Self::E1000e => &["PCI-MSI", "-msi"],
        }
    }
}

/// A guest to run once.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    /// Its name: unique within one dom0.
    pub(crate) name: String,
    /// How it runs.
    pub(crate) mode: Mode,
    /// What the toolstack starts.
    pub(crate) kernel: PathBuf,
    /// What the toolstack gives it as initrd.
    pub(crate) module: Option<PathBuf>,
    /// The command line that the toolstack gives it.
    pub(crate) cmdline: String,
    /// Memory in MiB.
    pub(crate) memory: u64,
    /// Virtual processors.
    pub(crate) vcpus: u32,
    /// Whether it gets the two test disks, `xvda` and `xvdb`.
    pub(crate) disks: bool,
    /// Images of more disks, `xvdc` and so on, and how they are attached.
    pub(crate) images: Vec<(PathBuf, Attach)>,
    /// What dom0 does with the domain there, before it runs.
    pub(crate) before: String,
    /// Whether the toolstack starts a Linux, not Kexen.
    pub(crate) plain: bool,
    /// What the last kernel is started as: inside Xen's shim a PV one.
    pub(crate) linux: Mode,
    /// Emulated devices of an HVM guest.
    pub(crate) devices: &'static [Device],
    /// What the test userspace is asked for: words of its command line.
    pub(crate) asked: &'static str,
    /// More lines of its configuration for xl.
    pub(crate) extra: String,
    /// Files that dom0 finds by these names in `/lab/img`.
    pub(crate) files: Vec<(String, PathBuf)>,
    /// What its console is answered, in this order: text to wait for, answer.
    pub(crate) replies: Vec<(String, Reply)>,
    /// A shell script for dom0 when the run is over, whatever came of it.
    pub(crate) afterwards: String,
    /// The text that ends the run; without it the guest's end does.
    pub(crate) until: Option<String>,
    /// How long it may take.
    pub(crate) timeout: Duration,
}

impl Guest {
    /// One of 256 MiB and one vCPU, with nothing else.
    pub(crate) fn new(name: impl Into<String>, mode: Mode, kernel: PathBuf) -> Self {
        Self {
            name: name.into(),
            mode,
            kernel,
            module: None,
            cmdline: String::new(),
            memory: 256,
            vcpus: 1,
            disks: false,
            images: Vec::new(),
            before: String::new(),
            plain: false,
            linux: mode,
            devices: &[],
            asked: "",
            extra: String::new(),
            files: Vec::new(),
            replies: Vec::new(),
            afterwards: String::new(),
            until: None,
            timeout: Duration::from_secs(240),
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The guest shut down with this reason code of Xen's (0 is power-off).
    Shutdown(u32),
    /// The text to wait for was seen, and the guest was still there.
    Text,
    /// The time was over.
    Timeout,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// When the guest was asked for.
    pub(crate) created: Instant,
    /// Its console.
    pub(crate) lines: Vec<Line>,
    /// How it ended.
    pub(crate) end: End,
    /// What xl said of the domain.
    pub(crate) toolstack: String,
    /// Hashes of the emulated disks' files.
    pub(crate) emulated: Vec<(Device, String)>,
    /// The start of another kernel's memory, where a capture kernel copied it.
    pub(crate) core: Option<PathBuf>,
    /// Hashes of the disks after the run: the one read, the one written.
    pub(crate) disks: Option<(String, String)>,
    /// CPU time of the domain by the toolstack's count, in seconds.
    pub(crate) cpu_seconds: Option<f64>,
    /// The file that has the whole console.
    pub(crate) log: PathBuf,
}

impl Run {
    /// Seconds from creation to the first line that has `text` in it.
    pub(crate) fn seconds_to(&self, text: &str) -> Option<f64> {
        self.lines
            .iter()
            .find(|line| line.text.contains(text))
            .map(|line| line.at.duration_since(self.created).as_secs_f64())
    }

    /// What the test userspace said about `key`.
    pub(crate) fn said(&self, key: &str) -> Option<&str> {
        self.lines
            .iter()
            .filter_map(|line| lab_pair(&line.text))
            .find(|(found, _)| *found == key)
            .map(|(_, value)| value)
    }

    /// Whether any line has this text in it.
    pub(crate) fn saw(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.text.contains(text))
    }

    /// The last lines of its console.
    pub(crate) fn tail(&self) -> String {
        let from = self.lines.len().saturating_sub(12);
        self.lines[from..]
            .iter()
            .map(|line| format!("    | {}\n", line.text))
            .collect()
    }
}

/// What the test userspace must have found for a run to pass.
pub(crate) fn check(guest: &Guest, run: &Run, release: Option<&str>) -> Result<()> {
    let fail = |what: String| -> Result<()> {
        bail!(
            "{what}\n{}    (whole console: {})",
            run.tail(),
            run.log.display()
        )
    };
    if let End::Timeout = run.end {
        return fail(format!("no end within {} s", guest.timeout.as_secs()));
    }
    if run.said("userspace").is_none() {
        return fail(format!("no userspace ({:?})", run.end));
    }
    if run.said("done") != Some("ok") {
        return fail("the test userspace did not come to its end".to_owned());
    }
    if run.end != End::Shutdown(0) {
        return fail(format!("ended with {:?} rather than a power-off", run.end));
    }
    let mut wanted = vec![
        ("vcpus", guest.vcpus.to_string()),
        ("type", guest.linux.guest_type().to_owned()),
        ("echo", HELLO.to_owned()),
        ("problems", "0".to_owned()),
    ];
    if let Some(release) = release {
        wanted.push(("release", release.to_owned()));
    }
    if let Some((read, write)) = &run.disks {
        wanted.push(("disk-read", read.clone()));
        wanted.push(("disk-write", write.clone()));
    }
    for (key, value) in wanted {
        let said = run.said(key).unwrap_or("nothing");
        if said != value {
            return fail(format!("{key} is `{said}`, not `{value}`"));
        }
    }
    if let Err(error) = check_asked(guest, run) {
        return fail(error.to_string());
    }
    if run.said("initrd") == Some("damaged") {
        return fail("the initrd did not come through whole".to_owned());
    }
    let memory: u64 = run.said("memory-kib").unwrap_or("0").parse().unwrap_or(0);
    let given = guest.memory * 1024;
    // Linux's own use, and what a dom0 sets aside: 64 MiB of bounce buffers
    // in a PV one; Xen leaves a PVH one without the memory under the PCI hole.
    let least = match guest.mode {
        Mode::Pv | Mode::Pvh | Mode::Hvm => given * 7 / 10,
        Mode::Dom0Pv => (given * 7 / 10).saturating_sub(64 << 10),
        Mode::Dom0Pvh => given / 2,
    };
    if memory > given || memory < least {
        return fail(format!(
            "{memory} KiB of memory where {given} KiB were given"
        ));
    }
    Ok(())
}

/// How often a processor's timer must have ticked while it was kept busy.
const TICKS: u64 = 10;

/// What the test userspace found out when it was asked for more.
fn check_asked(guest: &Guest, run: &Run) -> Result<()> {
    let asked = |word: &str| guest.asked.split(' ').any(|found| found == word);
    let number = |key: &str| -> Result<u64> {
        let said = run.said(key).unwrap_or("nothing");
        let first = said.split(' ').next().unwrap_or_default();
        first
            .parse()
            .with_context(|| format!("{key} is `{said}`, not a number"))
    };
    if asked("lab.memory") {
        ensure!(
            number("memory-errors")? == 0,
            "memory does not keep what is written to it"
        );
        let (tested, all) = (number("memory-tested")?, number("memory-kib")? << 10);
        ensure!(
            tested >= all / 2,
            "{tested} bytes of memory tested, of {all}"
        );
    }
    if asked("lab.cpus") {
        for cpu in 0..guest.vcpus {
            let ticks = number(&format!("cpu-timer-{cpu}"))?;
            ensure!(ticks >= TICKS, "processor {cpu}: {ticks} timer interrupts");
        }
    }
    if !asked("lab.emulated") {
        return Ok(());
    }
    for (device, sum) in &run.emulated {
        let key = format!("disk-{}", device.name());
        let said = run.said(&key).unwrap_or("nothing");
        ensure!(said == sum, "{key} is `{said}`, not `{sum}`");
    }
    for device in guest.devices {
        let key = format!("irq-{}", device.name());
        ensure!(number(&key)? > 0, "no interrupts of {device:?}");
        let said = run.said(&key).unwrap_or_default();
        let kinds = device.interrupts();
        ensure!(
            kinds.iter().any(|kind| said.contains(kind)),
            "{key} is `{said}`, which is none of {kinds:?}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest() -> Guest {
        Guest::new("g", Mode::Pv, PathBuf::new())
    }

    #[test]
    fn an_early_end_fails() {
        let run = Run {
            created: Instant::now(),
            lines: Vec::new(),
            end: End::Shutdown(0),
            toolstack: String::new(),
            emulated: Vec::new(),
            core: None,
            disks: None,
            cpu_seconds: None,
            log: PathBuf::new(),
        };
        let error = check(&guest(), &run, None).unwrap_err().to_string();
        assert!(error.contains("no userspace"), "{error}");
    }

    /// What comes of the answers of a userspace that was asked for all.
    fn asked(answers: &str) -> Result<()> {
        let at = Instant::now();
        let lines = answers.split(',').map(|answer| Line {
            at,
            text: format!("kexen-lab: {answer}"),
        });
        let run = Run {
            created: at,
            lines: lines.collect(),
            end: End::Shutdown(0),
            toolstack: String::new(),
            emulated: vec![(Device::Ide, "5eed".to_owned())],
            core: None,
            disks: None,
            cpu_seconds: None,
            log: PathBuf::new(),
        };
        let mut guest = guest();
        guest.asked = "lab.memory lab.cpus lab.emulated";
        guest.devices = &[Device::Ide, Device::E1000e];
        check_asked(&guest, &run)
    }

    #[test]
    fn each_answer_is_checked() {
        const GOOD: &str = "memory-kib=100,memory-tested=60000,memory-errors=0,cpu-timer-0=20,\
                            disk-ide=5eed,irq-ide=8 IO-APIC 14-edge,irq-e1000e=3 xen-pirq -msi-x";
        asked(GOOD).unwrap();
        for (from, to) in [
            ("errors=0", "errors=1"),
            ("tested=60000", "tested=6000"),
            ("timer-0=20", "timer-0=2"),
            ("timer-0=", "timer-1="),
            ("5eed", "5eee"),
            ("irq-ide=8", "irq-ide=0"),
            ("-msi-x", "-ioapic-level"),
            ("irq-e1000e", "irq-e1000"),
        ] {
            asked(&GOOD.replace(from, to)).unwrap_err();
        }
    }
}
