//! A guest as Xen's first domain: no toolstack, all on the serial line.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::artefacts::Xen;
use super::console::Line;
use super::guest::{Guest, Mode, Run};
use super::qemu::{Machine, Qemu, run_dir};
use super::watch::{Console, watch};

struct Serial {
    qemu: Qemu,
    /// The reason code, once Xen has told that its first domain is down.
    down: Option<u32>,
}

/// What Xen says when its first domain shuts down, and the reason code.
/// (A dom0 with ACPI switches the machine off itself; then QEMU just ends.)
const DOWN: [(&str, u32); 4] = [
    ("Hardware Dom0 halted", 0),
    ("Hardware Dom0 shutdown: rebooting", 1),
    ("Hardware Dom0 crashed", 3),
    ("Hardware Dom0 shutdown: watchdog", 4),
];

impl Console for Serial {
    fn poll(&mut self) -> Result<Vec<Line>> {
        let lines = self.qemu.poll();
        for line in &lines {
            for (text, code) in DOWN {
                if line.text.contains(text) {
                    self.down = Some(code);
                }
            }
        }
        Ok(lines)
    }

    fn partial(&self) -> String {
        self.qemu.partial().to_owned()
    }

    fn send(&mut self, text: &str) -> Result<()> {
        self.qemu.send(text)
    }

    fn dom0(&mut self, script: &str) -> Result<()> {
        bail!("no dom0 but the guest itself can run {script:?}")
    }

    fn shutdown(&mut self) -> Result<Option<u32>> {
        Ok(self.down.or_else(|| self.qemu.ended().then_some(0)))
    }
}

/// Boots Xen with the guest as dom0 and watches it to its end.
pub(crate) fn run_guest(xen: Xen, guest: &Guest) -> Result<Run> {
    let module = guest
        .module
        .as_deref()
        .context("dom0 needs a boot module here")?;
    let memory = guest.memory;
    let mut xen_options = format!(
        "dom0_mem={memory}M,max:{memory}M dom0_max_vcpus={}",
        guest.vcpus
    );
    if guest.mode == Mode::Dom0Pvh {
        xen_options.push_str(" dom0=pvh dom0-iommu=none");
    }
    let dir = run_dir(&guest.name)?;
    let created = Instant::now();
    let qemu = Machine {
        xen,
        xen_options,
        kernel: &guest.kernel,
        cmdline: guest.cmdline.clone(),
        module,
        memory: memory + memory / 32 + 512,
        cpus: guest.vcpus.clamp(1, 2),
        share: None,
    }
    .boot(&dir)?;
    let mut serial = Serial { qemu, down: None };
    let (lines, end) = watch(&mut serial, guest, created)?;
    Ok(Run {
        created,
        lines,
        end,
        toolstack: String::new(),
        emulated: Vec::new(),
        core: None,
        disks: None,
        cpu_seconds: None,
        log: dir.join("serial.log"),
    })
}
