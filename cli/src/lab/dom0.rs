//! A running dom0 with Xen's toolstack, and guests under it.
//!
//! dom0's init runs the scripts that we put into the shared folder (see
//! `lab/dom0/init`); guests' consoles and xl's logs appear there as files, so
//! they can be watched without asking dom0 anything.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::artefacts::{Xen, noise};
use super::console::{Line, Lines, lab_pair};
use super::dom0_image;
use super::example::Toolstack;
use super::guest::{Attach, Device, Guest, Mode, Run};
use super::qemu::{IMAGES, Machine, Qemu, run_dir};
use super::watch::{Console, watch};
use crate::host::{cache, command};
use crate::ui;

/// dom0's own memory in MiB: it holds its whole root file system.
const DOM0_MEMORY: u64 = 1536;

/// The part of a dom0's command line that every use of it shares.
pub(crate) const DOM0_CMDLINE: &str = "console=hvc0 loglevel=5 panic=1";

/// A running dom0.
#[derive(Debug)]
pub(crate) struct Dom0 {
    qemu: Qemu,
    share: PathBuf,
    request: u32,
    images: HashMap<PathBuf, String>,
    /// Whether dom0 keeps images in its page cache, as it does local disks. What
    /// guests write to them stays there.
    pub(crate) caches: bool,
}

/// The machine that can run guests of up to `memory` MiB.
pub(crate) fn machine_memory(memory: u64) -> u64 {
    DOM0_MEMORY + memory + memory / 32 + 512
}

/// Nanoseconds by which Xen may delay a timer to end it with the next one (50,000
/// without the option): four vCPUs on one emulated processor, each with 250 ticks a
/// second, otherwise take all of its time, and a guest may stay in that.
const TIMER_SLOP: u32 = 1_000_000;

/// Xen's options for a dom0 with a toolstack.
///
/// dom0 keeps to processor 0 and guests to [`GUEST_CPUS`]: where a PV and a
/// PVH domain take turns on one processor, QEMU 7.2's emulated SVM now and
/// then resumes the PVH guest with the wrong state. It dies of a triple fault
/// (in 4 of 16 runs; in none of 20 since).
pub(crate) fn xen_options() -> String {
    format!(
        "dom0_mem={DOM0_MEMORY}M,max:{DOM0_MEMORY}M dom0_max_vcpus=1 dom0_vcpus_pin \
         timer_slop={TIMER_SLOP}"
    )
}

/// The processors that guests run on.
pub(crate) const GUEST_CPUS: &str = "1";

impl Dom0 {
    /// Boots Xen and dom0; guests may have up to `memory` MiB.
    pub(crate) fn boot(xen: Xen, memory: u64) -> Result<Self> {
        Self::boot_with(xen, memory, Toolstack::Xl)
    }

    /// The same with this toolstack.
    pub(crate) fn boot_with(xen: Xen, memory: u64, toolstack: Toolstack) -> Result<Self> {
        let (kernel, initrd) = dom0_image::get(xen, toolstack)?;
        let dir = run_dir(&format!("xen-{}", xen.version()))?;
        let share = dir.join("share");
        for folder in ["req", "log", IMAGES, "disk"] {
            fs::create_dir_all(share.join(folder))?;
        }
        let step = ui::step(format!(
            "booting Xen {} and its toolstack in QEMU",
            xen.version()
        ));
        let qemu = Machine {
            xen,
            xen_options: xen_options(),
            kernel: &kernel.image,
            cmdline: DOM0_CMDLINE.to_owned(),
            module: &initrd,
            memory: machine_memory(memory),
            cpus: 2,
            share: Some(share.clone()),
        }
        .boot(&dir)?;
        let mut dom0 = Self {
            qemu,
            share,
            request: 0,
            images: HashMap::new(),
            caches: false,
        };
        let ready = dom0.share.join("ready");
        dom0.wait("dom0 to come up", Duration::from_secs(300), || {
            Ok(ready.exists())
        })?;
        step.done(format!("logs in {}", dir.display()));
        Ok(dom0)
    }

    fn wait(
        &mut self,
        what: &str,
        timeout: Duration,
        mut done: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            self.qemu.poll();
            if done()? {
                return Ok(());
            }
            if self.qemu.ended() {
                self.qemu.poll();
                return Err(self
                    .qemu
                    .error(&format!("QEMU ended while waiting for {what}")));
            }
            if start.elapsed() > timeout {
                let seconds = timeout.as_secs();
                return Err(self.qemu.error(&format!("waited {seconds} s for {what}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has dom0 start a shell script; [`Self::outcome`] has the answer.
    fn ask(&mut self, script: &str) -> Result<u32> {
        self.request += 1;
        let number = self.request;
        let requests = self.share.join("req");
        fs::write(requests.join(format!("{number}.new")), script)?;
        fs::rename(
            requests.join(format!("{number}.new")),
            requests.join(format!("{number}.sh")),
        )?;
        Ok(number)
    }

    /// The exit status and output of a script, once it has ended.
    fn outcome(&self, number: u32) -> Result<Option<(i32, String)>> {
        let requests = self.share.join("req");
        let Ok(status) = fs::read_to_string(requests.join(format!("{number}.rc"))) else {
            return Ok(None);
        };
        let output = fs::read(requests.join(format!("{number}.out"))).unwrap_or_default();
        Ok(Some((
            status.trim().parse().unwrap_or(-1),
            String::from_utf8_lossy(&output).into_owned(),
        )))
    }

    /// Runs a shell script in dom0 to its end.
    pub(crate) fn run(&mut self, script: &str) -> Result<String> {
        let number = self.ask(script)?;
        let file = self.share.join(format!("req/{number}.rc"));
        self.wait("a command in dom0", Duration::from_secs(120), || {
            Ok(file.exists())
        })?;
        match self.outcome(number)? {
            Some((0, output)) => Ok(output),
            Some((status, output)) => bail!("dom0: `{script}` ended with {status}:\n{output}"),
            None => bail!("dom0 gave no answer to `{script}`"),
        }
    }

    /// Puts a file into the shared folder; gives its name in dom0.
    pub(crate) fn share_image(&mut self, file: &Path) -> Result<String> {
        if let Some(name) = self.images.get(file) {
            return Ok(name.clone());
        }
        let plain = file.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{}-{plain}", self.images.len());
        // Disks are mostly holes.
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always").arg(file);
        command::run(copy.arg(self.share.join(IMAGES).join(&name)))?;
        let folder = if self.caches { "/images" } else { "/lab/img" };
        let name = format!("{folder}/{name}");
        self.images.insert(file.to_path_buf(), name.clone());
        Ok(name)
    }

    /// A file among the logs of dom0.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.share.join("log").join(name)
    }

    /// Creates a guest, watches it to its end, and removes it.
    pub(crate) fn run_guest(&mut self, guest: &Guest) -> Result<Run> {
        let name = &guest.name;
        for (name, file) in &guest.files {
            let to = self.share.join(IMAGES).join(name);
            fs::copy(file, to).with_context(|| format!("cannot copy {}", file.display()))?;
        }
        let kernel = self.share_image(&guest.kernel)?;
        let module = match &guest.module {
            Some(module) => Some(self.share_image(module)?),
            None => None,
        };
        let disks = if guest.disks {
            Some(Disks::make(&self.share, name)?)
        } else {
            None
        };
        let mut emulated_disks = Vec::new();
        for device in guest.devices.iter().filter(|device| device.is_disk()) {
            // Each with other bytes than the rest.
            let mut bytes = noise(2 << 20);
            bytes.iter_mut().for_each(|byte| *byte ^= *device as u8);
            let file = format!("disk/{name}-{}", device.name());
            fs::write(self.share.join(file), &bytes)?;
            emulated_disks.push((*device, cache::sha256(&bytes)));
        }
        let bytes = match &guest.module {
            Some(module) => fs::metadata(module)?.len(),
            None => 0,
        };
        let module = module.as_deref().map(|module| (module, bytes));
        let images = guest.images.iter().map(|(file, _)| self.share_image(file));
        let images = images.collect::<Result<Vec<_>>>()?;
        let config = config(guest, &kernel, module, disks.is_some());
        fs::write(self.share.join(format!("{name}.cfg")), config)?;
        let mut script = String::new();
        if disks.is_some() {
            script.push_str(&format!(
                "losetup /dev/loop0 /lab/disk/{name}-a && losetup /dev/loop1 /lab/disk/{name}-b || exit\n"
            ));
        }
        for ((image, (_, attach)), device) in images.iter().zip(&guest.images).zip(IMAGE_LOOPS) {
            let sectors = match attach {
                Attach::LargeSectors => "--sector-size 4096 ",
                _ => "",
            };
            script.push_str(&format!(
                "losetup {sectors}/dev/loop{device} {image} || exit\n"
            ));
        }
        for (device, _) in &emulated_disks {
            let file = emulated(name, *device);
            script.push_str(&format!(
                "cp /lab/disk/{name}-{} {file} || exit\n",
                device.name()
            ));
        }
        if guest.before.is_empty() {
            script.push_str(&format!("xl create /lab/{name}.cfg\n"));
        } else {
            script.push_str(&format!("xl create -p /lab/{name}.cfg || exit\n"));
            script.push_str(&guest.before);
            script.push_str(&format!("xl unpause {name}\n"));
        }
        let created = Instant::now();
        let create = self.ask(&script)?;
        let log = self.share.join(format!("log/guest-{name}.log"));
        let xl = self.share.join(format!("log/xl-{name}.log"));
        let mut console = DomU {
            name: name.clone(),
            requests: vec![("xl create", create)],
            log: Tail::new(log.clone()),
            xl: xl.clone(),
            reset: None,
            dom0: self,
        };
        let watched = watch(&mut console, guest, created);
        drop(console);
        // Whatever came of it, the next guest finds dom0 as this one did.
        let clean = self.clean_up(guest);
        let (lines, end) = watched.with_context(|| format!("guest {name}"))?;
        let cpu_seconds = clean?;
        let core = match &disks {
            Some(disks) if run_said(&lines, "vmcore-copy") => {
                let file = log.with_file_name(format!("{name}.vmcore"));
                fs::write(&file, fs::read(&disks.write)?.split_off(CORE))?;
                Some(file)
            }
            _ => None,
        };
        let disks = disks.map(|disks| disks.sums()).transpose()?;
        Ok(Run {
            created,
            lines,
            end,
            toolstack: fs::read_to_string(xl).unwrap_or_default(),
            emulated: emulated_disks,
            core,
            disks,
            cpu_seconds,
            log,
        })
    }

    /// Takes the domain's CPU time, destroys it, frees the disks.
    fn clean_up(&mut self, guest: &Guest) -> Result<Option<f64>> {
        let (name, disks) = (&guest.name, guest.disks);
        let mut script = guest.afterwards.clone();
        script += &format!("xl list {name} 2>/dev/null\nxl destroy {name} 2>/dev/null\n");
        if disks {
            script.push_str("losetup -d /dev/loop0; losetup -d /dev/loop1\n");
        }
        for (_, device) in guest.images.iter().zip(IMAGE_LOOPS) {
            script.push_str(&format!("losetup -d /dev/loop{device}\n"));
        }
        for device in guest.devices.iter().filter(|device| device.is_disk()) {
            script.push_str(&format!("rm -f {}\n", emulated(name, *device)));
        }
        script.push_str("sync\ntrue\n");
        Ok(cpu_time(&self.run(&script)?, name))
    }
}

impl Drop for Dom0 {
    fn drop(&mut self) {
        // The logs stay; the images are large, and are elsewhere too.
        for folder in [IMAGES, "disk"] {
            fs::remove_dir_all(self.share.join(folder)).ok();
        }
    }
}

/// The time column of `xl list`.
fn cpu_time(list: &str, name: &str) -> Option<f64> {
    list.lines()
        .find(|line| line.split_whitespace().next() == Some(name))?
        .split_whitespace()
        .last()?
        .parse()
        .ok()
}

/// Where the device model puts the boot module of an HVM guest.
const HVM_MODULE: u64 = 128 << 20;
/// Where dom0's init has laid out firmware for device models.
const FIRMWARE: &str = "/lib/kexen-firmware";

/// Loop devices of disk images.
const IMAGE_LOOPS: std::ops::Range<u32> = 2..8;

/// The file of an emulated disk, in dom0's own memory: Linux cannot read one
/// in the shared folder straight into another domain's pages, as the device
/// model does.
fn emulated(name: &str, device: Device) -> String {
    format!("/tmp/{name}-{}", device.name())
}

/// xl's configuration of a guest.
fn config(guest: &Guest, kernel: &str, module: Option<(&str, u64)>, disks: bool) -> String {
    let mut text = format!(
        "name = \"{}\"\ntype = \"{}\"\nkernel = \"{kernel}\"\n",
        guest.name,
        guest.mode.name()
    );
    let mut cmdline = guest.cmdline.clone();
    let mut model: Vec<String> = Vec::new();
    if guest.mode == Mode::Hvm {
        model.extend(["-L".to_owned(), FIRMWARE.to_owned()]);
        for device in guest.devices {
            model.extend(device.options(&emulated(&guest.name, *device)));
        }
        text.push_str("vga = \"none\"\n");
    }
    match module {
        // The firmware reads an initrd byte by byte, minutes long: the device
        // model puts it into memory instead.
        Some((module, bytes)) if guest.mode == Mode::Hvm && !guest.plain => {
            model.push("-device".to_owned());
            model.push(format!(
                "loader,file={module},addr={HVM_MODULE:#x},force-raw=on"
            ));
            cmdline.push_str(&format!(" kexen.module={HVM_MODULE:#x}:{bytes}"));
        }
        Some((module, _)) => text.push_str(&format!("ramdisk = \"{module}\"\n")),
        None => {}
    }
    if !model.is_empty() {
        text.push_str(&format!("device_model_args = {model:?}\n"));
    }
    text.push_str(&format!(
        "cmdline = \"{}\"\nmemory = {}\nvcpus = {}\ncpus = \"{GUEST_CPUS}\"\n",
        cmdline, guest.memory, guest.vcpus
    ));
    let mut lines = Vec::new();
    let mut line = |device: u32, vdev: char, access: &str, attach: Attach| {
        let (partition, more) = match attach {
            Attach::Disk | Attach::LargeSectors => ("", ""),
            Attach::Partition => ("1", ""),
            Attach::Cd => ("", "devtype=cdrom,"),
            Attach::Qdisk => ("", "backendtype=qdisk,"),
        };
        let access = if attach == Attach::Cd { "ro" } else { access };
        lines.push(format!(
            "\"format=raw,vdev=xvd{vdev}{partition},{more}access={access},target=/dev/loop{device}\""
        ));
    };
    if disks {
        // The device model shows an HVM guest these as IDE disks too, which
        // it can only where they may be written.
        let access = if guest.mode == Mode::Hvm { "rw" } else { "ro" };
        line(0, 'a', access, Attach::Disk);
        line(1, 'b', "rw", Attach::Disk);
    }
    for (((_, attach), device), vdev) in guest.images.iter().zip(IMAGE_LOOPS).zip('c'..='h') {
        line(device, vdev, "rw", *attach);
    }
    text.push_str(&format!("disk = [ {} ]\n", lines.join(",\n         ")));
    text.push_str(&guest.extra);
    // Kept after its end, so that the reason can be read.
    for event in ["on_poweroff", "on_reboot", "on_crash"] {
        text.push_str(&format!("{event} = \"preserve\"\n"));
    }
    text
}

/// The two test disks of a guest: one to read, one to write.
#[derive(Debug)]
struct Disks {
    read: PathBuf,
    write: PathBuf,
}

/// How much the guest writes (see `lab/guest/init`).
const WRITTEN: usize = 1 << 20;

/// Where it puts the start of another kernel's memory, 8 MiB of it.
const CORE: usize = 2 << 20;

/// Whether a guest's test userspace said something of this.
fn run_said(lines: &[Line], key: &str) -> bool {
    lines
        .iter()
        .filter_map(|line| lab_pair(&line.text))
        .any(|(found, _)| found == key)
}

impl Disks {
    fn make(share: &Path, name: &str) -> Result<Self> {
        let disks = Self {
            read: share.join(format!("disk/{name}-a")),
            write: share.join(format!("disk/{name}-b")),
        };
        fs::write(&disks.read, noise(4 << 20))?;
        fs::write(&disks.write, vec![0; CORE + (8 << 20)])?;
        Ok(disks)
    }

    /// The hashes that the guest should have seen. The second is of what is
    /// in the file, and only if that is the pattern.
    fn sums(&self) -> Result<(String, String)> {
        let written = fs::read(&self.write)?;
        let pattern: Vec<u8> = b"kexen-lab-pattern\n"
            .iter()
            .copied()
            .cycle()
            .take(WRITTEN)
            .collect();
        let sum = if written.get(..WRITTEN) == Some(&pattern[..]) {
            cache::sha256(&pattern)
        } else {
            "the pattern, which is not on the disk".to_owned()
        };
        Ok((cache::sha256_file(&self.read)?, sum))
    }
}

/// A file that grows.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    offset: u64,
    lines: Lines,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            offset: 0,
            lines: Lines::default(),
        }
    }

    fn poll(&mut self) -> Result<Vec<Line>> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(Vec::new());
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        self.offset += file.read_to_end(&mut bytes)? as u64;
        Ok(self.lines.feed(Instant::now(), &bytes))
    }
}

/// A guest under dom0.
struct DomU<'a> {
    dom0: &'a mut Dom0,
    name: String,
    /// Requests that have not been answered yet: its creation first.
    requests: Vec<(&'static str, u32)>,
    log: Tail,
    xl: PathBuf,
    /// When the guest was seen to wait for a soft reset.
    reset: Option<Instant>,
}

/// The reason code of a guest that wants to be reset with its memory kept.
pub(crate) const SOFT_RESET: u32 = 5;

/// How long xl may take to do so; after that the guest is lost.
const RESETTING: Duration = Duration::from_secs(20);

impl Console for DomU<'_> {
    fn poll(&mut self) -> Result<Vec<Line>> {
        self.dom0.qemu.poll();
        if self.dom0.qemu.ended() {
            return Err(self.dom0.qemu.error("QEMU ended under the guest"));
        }
        while let Some((what, request)) = self.requests.first()
            && let Some((status, output)) = self.dom0.outcome(*request)?
        {
            if status != 0 {
                bail!("{what} ended with {status}:\n{output}");
            }
            self.requests.remove(0);
        }
        self.log.poll()
    }

    fn partial(&self) -> String {
        self.log.lines.partial().to_owned()
    }

    fn send(&mut self, text: &str) -> Result<()> {
        // The console daemon's terminal: what is written there is typed.
        self.dom0.ask(&format!(
            "tty=$(xenstore-read /local/domain/$(xl domid {})/console/tty)\nprintf %s '{text}' > \"$tty\"\n",
            self.name
        ))?;
        Ok(())
    }

    fn dom0(&mut self, script: &str) -> Result<()> {
        let request = self.dom0.ask(script)?;
        self.requests.push(("a script in dom0", request));
        Ok(())
    }

    fn shutdown(&mut self) -> Result<Option<u32>> {
        let code = fs::read_to_string(&self.xl)
            .ok()
            .as_deref()
            .and_then(reason);
        if code != Some(SOFT_RESET) {
            self.reset = None;
            return Ok(code);
        }
        let since = self.reset.get_or_insert_with(Instant::now);
        Ok(code.filter(|_| since.elapsed() > RESETTING))
    }
}

/// The reason code in xl's log of a domain. After a soft reset xl waits for
/// its end anew.
fn reason(log: &str) -> Option<u32> {
    let log = log.rsplit("Waiting for domain").next()?;
    let (_, rest) = log.split_once("reason code ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_code_is_read() {
        let log = "Waiting for domain g (domid 1) to die [pid 77]\n\
                   Domain 1 has shut down, reason code 3 0x3\n\
                   Action for shutdown reason code 3 is preserve\n";
        assert_eq!(reason(log), Some(3));
        let again = format!("{log}Waiting for domain g (domid 1) to die [pid 78]\n");
        assert_eq!(reason(&again), None);
        assert_eq!(reason("Waiting for domain g (domid 1) to die"), None);
    }

    #[test]
    fn cpu_time_is_read() {
        let list =
            "Name   ID   Mem VCPUs\tState\tTime(s)\ng      1   256     1     ---s--       5.7\n";
        assert_eq!(cpu_time(list, "g"), Some(5.7));
    }
}
