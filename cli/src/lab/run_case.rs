//! One case of the matrix: its files made, its guest run; `judge` says whether
//! it came to what it must.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::artefacts::{Flavour, Grub, Kernel, Xen};
use super::build::{self, Image, Variant};
use super::distro::PATIENT;
use super::dom0::Dom0;
use super::example::{self, Toolstack};
use super::guest::{Attach, Guest, Mode, Reply, Run};
use super::judge::{backtrace, judge};
use super::matrix::{Case, Expect, Linux, Module, Start};
use super::probe::{self, Probe};
use super::{bare, boot_disk, greedy_disk, hostile, meanwhile, payload, repack};
use crate::cmd::package;

/// What Kexen's prompt says, and a line that it answers.
const PROMPT: &str = "kexen> ";
const ASKED: &str = "help";
const ANSWER: &str = "the entries of the boot module";

/// Filler in the test initrd: its checksum shows that all of it came through.
const BALLAST: usize = 8 << 20;

/// A stretch of runs that share boot images and dom0s.
#[derive(Debug)]
pub(crate) struct Bench {
    images: HashMap<Variant, Image>,
    dom0: Option<(Xen, Toolstack, u64, Dom0)>,
    scratch: tempfile::TempDir,
    /// The backend for probes, once it is built.
    backend: Option<PathBuf>,
    /// The most memory that a guest of each Xen will want.
    most: HashMap<Xen, u64>,
    /// Whether the toolstack starts the kernels, without Kexen.
    control: bool,
}

impl Bench {
    /// Gets ready for these cases.
    pub(crate) fn new(cases: &[Case], control: bool) -> Result<Self> {
        let mut most = HashMap::new();
        // A large guest gets a machine of its own, and does not make all others
        // as large.
        let usual = |case: &&Case| !case.mode.is_dom0() && !case.is_large();
        for case in cases.iter().filter(usual) {
            let entry = most.entry(case.xen).or_insert(0);
            *entry = case.memory.max(*entry);
        }
        Ok(Self {
            images: HashMap::new(),
            backend: None,
            dom0: None,
            scratch: tempfile::tempdir()?,
            most,
            control,
        })
    }

    fn image(&mut self, variant: Variant) -> Result<Image> {
        if let Some(image) = self.images.get(&variant) {
            return Ok(image.clone());
        }
        let image = build::image(variant)?;
        self.images.insert(variant, image.clone());
        Ok(image)
    }

    /// Runs a guest where it belongs: under a dom0 of that Xen, or as dom0.
    pub(crate) fn run_guest(&mut self, xen: Xen, guest: &Guest) -> Result<Run> {
        if guest.mode.is_dom0() {
            self.dom0 = None;
            return bare::run_guest(xen, guest);
        }
        let dom0 = self.dom0(xen, Toolstack::Xl, guest.memory)?;
        let run = dom0.run_guest(guest);
        if run.is_err() {
            // Whatever went wrong there, the next guest gets a fresh one.
            self.dom0 = None;
        }
        run
    }

    /// A dom0 with room for a guest of so many MiB: the one that is there, if it
    /// will do.
    fn dom0(&mut self, xen: Xen, toolstack: Toolstack, memory: u64) -> Result<&mut Dom0> {
        let fits = |(version, stack, room, _): &(Xen, Toolstack, u64, Dom0)| {
            *version == xen && *stack == toolstack && *room >= memory
        };
        if !self.dom0.as_ref().is_some_and(fits) {
            // The old one goes first: two would not fit into the machine.
            self.dom0 = None;
            let most = match toolstack {
                Toolstack::Xl => self.most.get(&xen).copied().unwrap_or(0).max(memory),
                Toolstack::Libvirt => memory,
            };
            let dom0 = Dom0::boot_with(xen, most, toolstack)?;
            self.dom0 = Some((xen, toolstack, most, dom0));
        }
        let (.., dom0) = self.dom0.as_mut().context("no dom0")?;
        Ok(dom0)
    }

    /// Runs one of the package's examples.
    fn example(&mut self, case: &Case, toolstack: Toolstack, name: &str) -> Result<()> {
        let package = package::deb()?;
        let kernel = Kernel::debian(Flavour::Cloud)?;
        let initrd = kernel.test_initrd(BALLAST, "")?;
        let disk = boot_disk::make(
            &guest_name(case),
            case.disk.context("no disk")?,
            &kernel.image,
            &initrd,
            case.mode.console(),
            None,
            self.scratch.path(),
        )?;
        let dom0 = self.dom0(case.xen, toolstack, case.memory)?;
        let run = example::run(dom0, toolstack, name, &package, &disk);
        if run.is_err() {
            self.dom0 = None;
        }
        run
    }

    /// Runs a case; an error says how it went wrong.
    pub(crate) fn make(&mut self, case: &Case) -> Result<()> {
        match case.expect {
            Expect::Example(toolstack, name) => self.example(case, toolstack, name),
            _ => self.run(case).map(drop),
        }
    }

    /// Runs a case with a guest of the lab's own configuration.
    pub(crate) fn run(&mut self, case: &Case) -> Result<Run> {
        let (guest, release) = match case.expect {
            Expect::Probe(what) => (self.probed(case, what)?, String::new()),
            Expect::System => (self.system(case)?, String::new()),
            _ => self.guest(case)?,
        };
        let run = self.run_guest(case.xen, &guest)?;
        judge(case, &guest, &run, &release)?;
        if case.expect == Expect::Vmcore {
            backtrace(&run, &self.image(case.image)?.symbols)?;
        }
        Ok(run)
    }

    fn backend(&mut self) -> Result<PathBuf> {
        Ok(match &self.backend {
            Some(backend) => backend.clone(),
            None => self.backend.insert(build::backend()?).clone(),
        })
    }

    /// A probe as a guest: it starts nothing, and needs the backend.
    fn probed(&mut self, case: &Case, what: Probe) -> Result<Guest> {
        let backend = self.backend()?;
        let name = guest_name(case);
        Ok(Guest {
            cmdline: case.options.clone().into_owned(),
            memory: case.memory,
            vcpus: case.vcpus,
            plain: self.control,
            files: vec![(meanwhile::BACKEND.to_owned(), backend)],
            replies: probe::replies(what, &name),
            afterwards: meanwhile::afterwards(&name),
            ..Guest::new(name, case.mode, self.image(case.image)?.stripped)
        })
    }

    /// A distribution's disk, and nothing else.
    fn system(&mut self, case: &Case) -> Result<Guest> {
        let distro = case.distro.context("no distribution")?;
        Ok(Guest {
            cmdline: format!("kexen.on-error=crash kexen.timeout=2 {PATIENT}"),
            memory: case.memory,
            vcpus: case.vcpus,
            images: vec![(distro.disk()?, Attach::Disk)],
            // A whole system in an emulated processor.
            timeout: Duration::from_secs(900),
            ..Guest::new(
                guest_name(case),
                case.mode,
                self.image(case.image)?.stripped,
            )
        })
    }

    /// The case as a guest, and what `uname -r` should say.
    fn guest(&mut self, case: &Case) -> Result<(Guest, String)> {
        let flavour = match case.linux {
            Linux::Debian(flavour) => flavour,
            Linux::Repacked(_) | Linux::Elf => Flavour::Cloud,
        };
        let debian = Kernel::debian(flavour)?;
        let kernel = match case.linux {
            Linux::Debian(_) => debian.image.clone(),
            Linux::Repacked(compression) => repack::kernel(compression)?,
            Linux::Elf => repack::elf()?,
        };
        // The device model hands over what xl starts byte by byte, at
        // seconds for each MiB.
        let ballast = match case.mode {
            Mode::Hvm => 0,
            _ => BALLAST,
        };
        let initrd = debian.test_initrd(ballast, case.asked)?;
        let disks = !case.mode.is_dom0();
        let mut cmdline = case.mode.console().to_owned();
        let captures = case.expect == Expect::Vmcore;
        if disks && !captures {
            cmdline.push_str(" lab.disks");
        }
        if !case.asked.is_empty() {
            cmdline.push_str(&format!(" {}", case.asked));
        }
        let name = guest_name(case);
        let mut images = Vec::new();
        let (start, module, words) = if let Some(layout) = case.disk {
            let image = self.image(case.image)?;
            let scratch = self.scratch.path();
            let signing = case.signing;
            let disk =
                boot_disk::make(&name, layout, &kernel, &initrd, &cmdline, signing, scratch)?;
            images.push((disk, case.attach));
            if case.greedy {
                let disk = scratch.join(format!("{name}-greedy.img"));
                greedy_disk::make(&disk)?;
                images.push((disk, Attach::Disk));
            }
            let module = match signing {
                None if case.module == Module::Shim => {
                    let module = scratch.join(format!("{name}.module"));
                    payload::write(&module, &case.xen.shim()?, Some(&image.stripped), SHIM)?;
                    Some(module)
                }
                None if case.module == Module::Grub => {
                    let grub = Grub::debian()?;
                    let image = match case.mode {
                        Mode::Pv => grub.pv,
                        _ => grub.pvh,
                    };
                    let module = scratch.join(format!("{name}.module"));
                    payload::write(&module, &image, None, "")?;
                    Some(module)
                }
                Some(_) => {
                    let module = scratch.join(format!("{name}.module"));
                    payload::write_keys(&module, &boot_disk::public_key(scratch))?;
                    Some(module)
                }
                None => None,
            };
            let mut options = case.options.clone().into_owned();
            if !matches!(case.expect, Expect::Talk(_)) {
                options.push_str(" kexen.on-error=crash");
            }
            let image = match case.mode {
                Mode::Hvm => image.hvm,
                _ => image.stripped,
            };
            (image, module, options)
        } else if self.control || case.start == Start::Toolstack {
            (kernel, Some(initrd), cmdline)
        } else {
            let image = self.image(case.image)?;
            let module = self.scratch.path().join(format!("{name}.module"));
            write_module(
                case.module,
                &module,
                &image.stripped,
                &kernel,
                &initrd,
                &cmdline,
                case.memory,
            )?;
            let mut options = case.options.clone().into_owned();
            if let Expect::Userspace | Expect::Chain(_) = case.expect {
                // Nobody is at the prompt: an error ends the run.
                options.push_str(" kexen.on-error=crash");
            }
            let image = match case.mode {
                Mode::Hvm => image.hvm,
                _ => image.stripped,
            };
            (image, Some(module), options.trim().to_owned())
        };
        let (replies, until) = match case.expect {
            Expect::Prompt(_) => (
                vec![(PROMPT.to_owned(), Reply::Type(ASKED.to_owned()))],
                Some(ANSWER.to_owned()),
            ),
            Expect::Retry(_) => {
                let boot = Reply::Type("boot good".to_owned());
                (vec![(PROMPT.to_owned(), boot)], None)
            }
            Expect::Talk(talk) => (talk.replies(), talk.until()),
            _ => (Vec::new(), None),
        };
        let mut before = String::new();
        let mut files = Vec::new();
        let mut afterwards = String::new();
        let mut replies = replies;
        if let Some(what) = case.meanwhile {
            replies = meanwhile::replies(what, &name, case.memory);
            if what.has_backend() {
                files.push((meanwhile::BACKEND.to_owned(), self.backend()?));
                afterwards = meanwhile::afterwards(&name);
            }
        }
        if !case.hostile.is_empty() {
            before = hostile::before(&name, case.hostile);
            files.push((meanwhile::BACKEND.to_owned(), self.backend()?));
            afterwards = hostile::afterwards(&name, case.hostile) + &meanwhile::afterwards(&name);
        }
        let timeout = match case.expect {
            // Three of them take all the time that they are given.
            _ if !case.hostile.is_empty() => 420,
            // A Xen in a Xen in an emulated processor.
            _ if case.module == Module::Shim => 600,
            // Xen looks for pages that are zeroes, and takes them away.
            Expect::Userspace if case.config.contains("maxmem") => 480,
            Expect::Userspace
            | Expect::Retry(_)
            | Expect::Reset
            | Expect::Gone
            | Expect::Refuses(_)
            | Expect::Talk(_)
            | Expect::Example(..)
            | Expect::Fails(_) => 240,
            Expect::System | Expect::Captured | Expect::Vmcore | Expect::Steady => 300,
            Expect::Chain(_) | Expect::Hops(_) => 900,
            Expect::Prompt(_) | Expect::Ends(..) | Expect::Lost(_) | Expect::Probe(_) => 120,
        };
        // Its memory is tested.
        let timeout = if case.is_large() {
            3 * timeout
        } else {
            timeout
        };
        // Emulated devices in an emulated processor.
        let timeout = match case.mode {
            Mode::Hvm => 2 * timeout,
            _ => timeout,
        };
        let guest = Guest {
            name,
            mode: case.mode,
            kernel: start,
            module,
            cmdline: words,
            memory: case.memory,
            vcpus: case.vcpus,
            disks,
            images,
            before,
            plain: self.control || case.start == Start::Toolstack,
            linux: match case.module {
                Module::Shim => Mode::Pv,
                _ => case.mode,
            },
            devices: case.devices,
            asked: case.asked,
            extra: case.config.clone(),
            files,
            replies,
            afterwards,
            until,
            timeout: Duration::from_secs(timeout),
        };
        Ok((guest, debian.release))
    }
}

/// A name for xl and for files.
fn guest_name(case: &Case) -> String {
    case.to_string().replace(['/', '.'], "-")
}

/// The command line of Xen's shim: it says what it does.
const SHIM: &str = "console=xen,pv loglvl=all";

/// Makes the boot module, good or bad.
fn write_module(
    module: Module,
    out: &Path,
    image: &Path,
    kernel: &Path,
    initrd: &Path,
    cmdline: &str,
    memory: u64,
) -> Result<()> {
    let bad_kernel = out.with_extension("kernel");
    match module {
        Module::Good => payload::write(out, kernel, Some(initrd), cmdline),
        Module::Chain => payload::write_chain(out, image, kernel, initrd, cmdline),
        Module::Other(form) => {
            let other = out.with_extension("kexen");
            fs::write(&other, form.of(&fs::read(image)?)?)?;
            payload::write_chain(out, &other, kernel, initrd, cmdline)
        }
        Module::Grub | Module::Shim => {
            bail!("it boots from a disk, which this case does not have")
        }
        Module::Empty => payload::write_empty(out),
        Module::CutArchive => {
            payload::write(out, kernel, None, cmdline)?;
            let bytes = fs::read(out)?;
            fs::write(out, &bytes[..bytes.len() / 2])?;
            Ok(())
        }
        Module::CutKernel => {
            let bytes = fs::read(kernel)?;
            let (start, length) = repack::payload_range(&bytes)?;
            fs::write(&bad_kernel, &bytes[..start + length / 2])?;
            payload::write(out, &bad_kernel, Some(initrd), cmdline)
        }
        Module::CorruptPayload => {
            fs::write(&bad_kernel, repack::corrupted(&fs::read(kernel)?)?)?;
            payload::write(out, &bad_kernel, Some(initrd), cmdline)
        }
        Module::NoNotes => {
            fs::write(&bad_kernel, repack::without_notes(&fs::read(kernel)?))?;
            payload::write(out, &bad_kernel, Some(initrd), cmdline)
        }
        Module::LargeKernel => {
            fs::write(&bad_kernel, repack::grown(&fs::read(kernel)?)?)?;
            payload::write(out, &bad_kernel, Some(initrd), cmdline)
        }
        Module::LargeInitrd => {
            let large = out.with_extension("initrd");
            // Fits into the guest as it is, but not beside an unpacked kernel.
            let file = fs::File::create(&large)?;
            file.set_len((memory - 48) << 20)?;
            payload::write(out, kernel, Some(&large), cmdline)
        }
        Module::BadThenGood => {
            fs::write(&bad_kernel, repack::corrupted(&fs::read(kernel)?)?)?;
            payload::write_bad_and_good(out, &bad_kernel, kernel, initrd, cmdline)
        }
        Module::LongCmdline => {
            let long = format!("{cmdline} {}", "a".repeat(1100));
            payload::write(out, kernel, Some(initrd), &long)
        }
    }
}
