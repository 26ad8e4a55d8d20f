//! A guest as Xen's first domain: no toolstack, all on the serial line.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::artefacts::Xen;
use super::console::Line;
use super::guest::{Console, End, Guest, Mode, Run, watch};
use super::qemu::{Machine, Qemu, run_dir};

struct Serial(Qemu);

impl Console for Serial {
    fn poll(&mut self) -> Result<Vec<Line>> {
        Ok(self.0.poll())
    }

    fn partial(&self) -> String {
        self.0.partial().to_owned()
    }

    fn send(&mut self, text: &str) -> Result<()> {
        self.0.send(text)
    }

    fn shutdown(&mut self) -> Result<Option<u32>> {
        // Xen switches the machine off (or reboots, which ends QEMU too) when
        // its first domain does. The last lines tell which it was.
        Ok(self.0.ended().then_some(0))
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
    let mut serial = Serial(qemu);
    let (lines, mut end) = watch(&mut serial, guest, created)?;
    if lines
        .iter()
        .any(|line| line.text.contains("Hardware Dom0 crashed"))
    {
        end = End::Shutdown(3);
    }
    Ok(Run {
        created,
        lines,
        end,
        disks: None,
        cpu_seconds: None,
        log: dir.join("serial.log"),
    })
}
