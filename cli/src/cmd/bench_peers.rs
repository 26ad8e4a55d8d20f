//! `bench --peers`: a guest that boots its own disk, by Kexen and by GRUB's
//! images for Xen guests (package grub-xen-host), beside the toolstack loading
//! the same kernel and initrd itself: same disk, same dom0, one run.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::lab::artefacts::{Flavour, Grub, Kernel, Xen};
use crate::lab::boot_disk::{self, DiskLayout};
use crate::lab::build::{self, Variant};
use crate::lab::dom0::Dom0;
use crate::lab::guest::{self, Attach, Guest, Mode, Reply, Run};
use crate::ui;

/// MiB of each guest.
const MEMORY: u64 = 384;
/// Filler in the initrd.
const BALLAST: usize = 32 << 20;
/// The first line of the guest's own kernel.
const LINUX: &str = "Linux version";

/// One guest, started in one way.
#[derive(Debug, Serialize)]
struct Row {
    guest: &'static str,
    kernel: &'static str,
    by: &'static str,
    image_bytes: u64,
    /// Nothing else is known of one that does not boot, but why.
    boots: Result<Figures, String>,
}

#[derive(Debug, Serialize)]
struct Figures {
    /// Wall clock, from xl create.
    seconds_to_linux: f64,
    seconds_to_userspace: f64,
    /// CPU seconds of the domain when Linux said its first line.
    cpu_to_linux: f64,
    /// What the backend had been asked for by then.
    requests: u64,
    bytes: u64,
}

/// All of it.
pub(crate) fn run(xen: Xen, json: bool) -> Result<()> {
    let image = build::image(Variant::Normal)?;
    let grub = Grub::debian()?;
    let scratch = tempfile::tempdir()?;
    let mut dom0 = Dom0::boot(xen, MEMORY)?;
    let mut rows = Vec::new();
    for flavour in [Flavour::Cloud, Flavour::Generic] {
        let kernel = Kernel::debian(flavour)?;
        let initrd = kernel.test_initrd(BALLAST, "")?;
        for mode in [Mode::Pv, Mode::Pvh] {
            let cmdline = mode.console();
            let layout = DiskLayout::GrubExt4;
            let disk = format!("peer-{}-{}", mode.name(), flavour.name());
            let (linux, folder) = (&kernel.image, scratch.path());
            let disk = boot_disk::make(&disk, layout, linux, &initrd, cmdline, None, folder)?;
            let grub = match mode {
                Mode::Pv => &grub.pv,
                _ => &grub.pvh,
            };
            for (by, start, module, words) in [
                ("xl itself", &kernel.image, Some(&initrd), cmdline),
                ("Kexen", &image.stripped, None, "kexen.on-error=crash"),
                ("GRUB", grub, None, ""),
            ] {
                let step = ui::step(format!(
                    "{} guest, {} kernel, started by {by}",
                    mode.name(),
                    flavour.name()
                ));
                let name = format!("peer-{}-{}-{}", mode.name(), flavour.name(), rows.len());
                let guest = Guest {
                    replies: vec![(LINUX.to_owned(), Reply::Dom0(look(&name)))],
                    name,
                    mode,
                    kernel: start.clone(),
                    module: module.cloned(),
                    cmdline: words.to_owned(),
                    memory: MEMORY,
                    vcpus: 1,
                    disks: false,
                    images: vec![(disk.clone(), Attach::Disk)],
                    before: String::new(),
                    plain: false,
                    devices: &[],
                    asked: "",
                    extra: String::new(),
                    files: Vec::new(),
                    afterwards: String::new(),
                    until: None,
                    timeout: Duration::from_secs(150),
                };
                let run = dom0.run_guest(&guest)?;
                let boots = match guest::check(&guest, &run, Some(&kernel.release)) {
                    Ok(()) => Ok(figures(&guest, &run)?),
                    Err(error) => Err(first_error(&run).unwrap_or_else(|| format!("{error:#}"))),
                };
                step.done("measured");
                rows.push(Row {
                    guest: mode.name(),
                    kernel: flavour.name(),
                    by,
                    image_bytes: fs::metadata(start)?.len(),
                    boots,
                });
            }
        }
    }
    show(xen, json, &rows)
}

/// What dom0 looks at when Linux has said its first line.
fn look(name: &str) -> String {
    format!(
        "xl list {name} > /lab/log/peer-{name}.log\n\
         domid=$(xl domid {name})\n\
         for vbd in /sys/bus/xen-backend/devices/vbd-$domid-*; do\n\
             echo \"vbd $(cat $vbd/statistics/rd_req) $(cat $vbd/statistics/rd_sect)\"\n\
         done >> /lab/log/peer-{name}.log\n"
    )
}

/// What a boot loader said was wrong.
fn first_error(run: &Run) -> Option<String> {
    let line = run
        .lines
        .iter()
        .find(|line| line.text.contains("error: "))?;
    Some(line.text.trim().to_owned())
}

fn figures(guest: &Guest, run: &Run) -> Result<Figures> {
    let file = run.log.with_file_name(format!("peer-{}.log", guest.name));
    let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    let cpu = text
        .lines()
        .find(|line| line.split_whitespace().next() == Some(&guest.name))
        .and_then(|line| line.split_whitespace().last()?.parse().ok());
    let vbds = text.lines().filter_map(|line| line.strip_prefix("vbd "));
    let (mut requests, mut sectors) = (0, 0);
    for line in vbds {
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        requests += numbers.next().context("no requests")??;
        sectors += numbers.next().context("no sectors")??;
    }
    let to = |text| run.seconds_to(text).with_context(|| format!("no `{text}`"));
    Ok(Figures {
        seconds_to_linux: to(LINUX)?,
        seconds_to_userspace: to("kexen-lab: userspace=reached")?,
        cpu_to_linux: cpu.context("no CPU time from xl")?,
        requests,
        bytes: sectors * 512,
    })
}

#[expect(clippy::cast_precision_loss, reason = "figures for a table")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn show(xen: Xen, json: bool, rows: &[Row]) -> Result<()> {
    if json {
        let document = serde_json::json!({ "xen": xen.version(), "peers": rows });
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    println!(
        "\nA guest that boots its own disk (ext4, grub.cfg), Xen {}, {MEMORY} MiB, 1 vCPU, initrd of 32 MiB:",
        xen.version()
    );
    println!(
        "{:<5} {:<8} {:<10} {:>9} {:>10} {:>10} {:>9} {:>9} {:>9}  adds to xl's",
        "guest",
        "kernel",
        "started by",
        "image",
        "to Linux",
        "userspace",
        "CPU",
        "requests",
        "read"
    );
    let mut direct = 0.0;
    for row in rows {
        let start = format!(
            "{:<5} {:<8} {:<10} {:>5.2} MiB",
            row.guest,
            row.kernel,
            row.by,
            mib(row.image_bytes)
        );
        match &row.boots {
            Ok(f) => {
                if row.by == "xl itself" {
                    direct = f.cpu_to_linux;
                }
                println!(
                    "{start} {:>8.1} s {:>8.1} s {:>7.1} s {:>9} {:>5.1} MiB  {:.1} s of CPU",
                    f.seconds_to_linux,
                    f.seconds_to_userspace,
                    f.cpu_to_linux,
                    f.requests,
                    mib(f.bytes),
                    f.cpu_to_linux - direct
                );
            }
            Err(why) => println!("{start}  does not boot: {why}"),
        }
    }
    println!(
        "To Linux, userspace: wall clock from xl create. CPU: of the domain, until Linux's first line. \
         Read: by the backend's count."
    );
    Ok(())
}
