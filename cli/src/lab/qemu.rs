//! QEMU as a machine that runs Xen: started, watched on its serial line, and
//! killed when dropped.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::artefacts::Xen;
use super::console::{Line, Lines};
use crate::host::{command, workspace};

/// The folder of the shared one that dom0 can keep in its page cache: the host
/// puts files there once. Uncached, a loop device reads them 4 KiB at a time.
pub(crate) const IMAGES: &str = "img";

/// What to boot: Xen with its options, dom0's kernel with its arguments, and
/// dom0's module.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    /// The hypervisor's version.
    pub(crate) xen: Xen,
    /// Xen's options besides the console's.
    pub(crate) xen_options: String,
    /// dom0's kernel.
    pub(crate) kernel: &'a Path,
    /// dom0's command line.
    pub(crate) cmdline: String,
    /// dom0's boot module.
    pub(crate) module: &'a Path,
    /// Memory of the whole machine, in MiB.
    pub(crate) memory: u64,
    /// Processors of the whole machine.
    pub(crate) cpus: u32,
    /// A folder of the host that dom0 can mount by the tag `lab`, and one in it by
    /// its name, [`IMAGES`].
    pub(crate) share: Option<PathBuf>,
}

impl Machine<'_> {
    /// QEMU's command line. It is started in `dir`, where links give all
    /// files plain names (QEMU splits module lists at commas).
    fn command(&self, dir: &Path) -> Result<Command> {
        let files = [
            ("xen", self.xen.hypervisor()?),
            ("dom0-kernel", self.kernel.to_path_buf()),
            ("dom0-module", self.module.to_path_buf()),
        ];
        for (name, file) in files {
            let link = dir.join(name);
            fs::remove_file(&link).ok();
            symlink(file.canonicalize()?, link)?;
        }
        let mut command = command::ending_with_us("qemu-system-x86_64");
        command
            .current_dir(dir)
            // SVM with nested paging is emulated, so PVH guests run too. On the
            // family that `qemu64` has by itself, 15, Xen's shim writes HWCR, which
            // the Xen below it does not allow (xen/arch/x86/cpu/amd.c, init_amd).
            .args(["-cpu", "qemu64,+svm,+npt,family=20,model=2"])
            .args(["-accel", "tcg,thread=multi"])
            .args(["-m", &self.memory.to_string()])
            .args(["-smp", &self.cpus.to_string()])
            .args(["-nographic", "-no-reboot", "-serial", "mon:stdio"])
            .args(["-kernel", "xen", "-append"])
            .arg(format!(
                "console=com1 com1=115200 loglvl=all guest_loglvl=all {}",
                self.xen_options
            ))
            .arg("-initrd")
            .arg(format!(
                "dom0-kernel {},dom0-module",
                self.cmdline.replace(',', ",,")
            ));
        if let Some(share) = &self.share {
            let images = share.join(IMAGES);
            fs::create_dir_all(&images)?;
            for (tag, folder) in [("lab", share), (IMAGES, &images)] {
                command.arg("-virtfs").arg(format!(
                    "local,path={},mount_tag={tag},security_model=none,id={tag}",
                    folder.display().to_string().replace(',', ",,")
                ));
            }
        }
        Ok(command)
    }

    /// Boots, with the serial line on this process's terminal.
    pub(crate) fn interactive(&self, dir: &Path) -> Result<ExitStatus> {
        let mut command = self.command(dir)?;
        command.status().context("cannot start qemu-system-x86_64")
    }

    /// Boots, with the serial line in our hands.
    pub(crate) fn boot(&self, dir: &Path) -> Result<Qemu> {
        let mut command = self.command(dir)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("qemu.err"))?)
            .spawn()
            .context("cannot start qemu-system-x86_64")?;
        fs::write(dir.join("qemu.cmd"), command::shown(&command))?;
        let log = dir.join("serial.log");
        let mut copy = File::create(&log)?;
        let mut output = child.stdout.take().context("no serial line")?;
        let input = child.stdin.take();
        let (sender, bytes) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                copy.write_all(&buffer[..read]).ok();
                if sender
                    .send((Instant::now(), buffer[..read].to_vec()))
                    .is_err()
                {
                    break;
                }
            }
        });
        Ok(Qemu {
            child,
            input,
            bytes,
            lines: Lines::default(),
            tail: Vec::new(),
            dir: dir.to_path_buf(),
        })
    }
}

/// A running QEMU.
#[derive(Debug)]
pub(crate) struct Qemu {
    child: Child,
    input: Option<ChildStdin>,
    bytes: Receiver<(Instant, Vec<u8>)>,
    lines: Lines,
    tail: Vec<String>,
    dir: PathBuf,
}

impl Qemu {
    /// The lines that came on the serial line since the last call.
    pub(crate) fn poll(&mut self) -> Vec<Line> {
        let mut new = Vec::new();
        while let Ok((at, bytes)) = self.bytes.try_recv() {
            new.extend(self.lines.feed(at, &bytes));
        }
        self.tail.extend(new.iter().map(|line| line.text.clone()));
        let over = self.tail.len().saturating_sub(30);
        self.tail.drain(..over);
        new
    }

    /// What stands on the serial line without a line's end.
    pub(crate) fn partial(&self) -> &str {
        self.lines.partial()
    }

    /// Types on the serial line.
    pub(crate) fn send(&mut self, text: &str) -> Result<()> {
        let input = self.input.as_mut().context("the serial line is closed")?;
        input.write_all(text.as_bytes())?;
        input.flush()?;
        Ok(())
    }

    /// Whether the machine has ended.
    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// An error with the end of the serial log and where to read all of it.
    pub(crate) fn error(&self, what: &str) -> anyhow::Error {
        let complaint = fs::read_to_string(self.dir.join("qemu.err")).unwrap_or_default();
        anyhow::anyhow!(
            "{what}\n{complaint}last lines of the machine's console (all: {}):\n{}",
            self.dir.join("serial.log").display(),
            command::tail(&self.tail.join("\n"), 30)
        )
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How many runs' files are kept.
const KEPT: usize = 60;

/// A new folder for one run's files, below Cargo's target folder. The oldest
/// ones go.
pub(crate) fn run_dir(name: &str) -> Result<PathBuf> {
    let runs = workspace::output().join("runs");
    fs::create_dir_all(&runs)?;
    let mut old: Vec<(u32, PathBuf)> = fs::read_dir(&runs)?
        .flatten()
        .filter_map(|entry| {
            let number = entry
                .file_name()
                .to_str()?
                .split_once('-')?
                .0
                .parse()
                .ok()?;
            Some((number, entry.path()))
        })
        .collect();
    old.sort();
    for (_, dir) in old.iter().take(old.len().saturating_sub(KEPT)) {
        fs::remove_dir_all(dir).ok();
    }
    let mut next = old.last().map_or(1, |(number, _)| number + 1);
    let dir = loop {
        let dir = runs.join(format!("{next:05}-{name}"));
        match fs::create_dir(&dir) {
            Ok(()) => break dir,
            // A run beside this one has just taken the number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => next += 1,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot create {}", dir.display()));
            }
        }
    };
    Ok(dir.canonicalize()?)
}
