//! `bench --peers`: a guest that boots its own disk, by Kexen and by GRUB's
//! images for Xen guests (package grub-xen-host), beside the toolstack loading
//! the same kernel and initrd itself: same disk, same dom0, one run.
//!
//! Where the figures come from: `peers.rs` has the scripts that dom0 measures
//! with.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use kexen_image::Compression;
use serde::Serialize;

use super::bench_unpack;
use super::peers::{self, Figures};
use crate::lab::artefacts::{Flavour, Grub, Kernel, Xen};
use crate::lab::boot_disk::{self, DiskLayout};
use crate::lab::build::{self, Variant};
use crate::lab::dom0::Dom0;
use crate::lab::guest::{self, Attach, Guest, Mode, Reply};
use crate::lab::repack;
use crate::ui;

/// MiB of each guest.
const MEMORY: u64 = 384;
/// Filler in the initrd.
const BALLAST: usize = 32 << 20;
/// The least MiB that a guest is tried with, and by how many they differ.
const LEAST: u64 = 64;
const STEP: u64 = 8;
/// Who starts the kernel.
const DIRECT: &str = "xl itself";
const KEXEN: &str = "Kexen";
const GRUB: &str = "GRUB";

/// One guest, started in one way.
#[derive(Debug, Serialize)]
struct Row {
    guest: &'static str,
    kernel: String,
    by: &'static str,
    image_bytes: u64,
    /// MiB of the smallest guest in which Linux begins with its initrd, if asked
    /// for.
    least_memory: Option<u64>,
    /// Nothing else is known of one that does not boot, but why.
    boots: Result<Figures, String>,
}

/// What is started.
struct Payload {
    name: String,
    release: String,
    image: PathBuf,
    initrd: PathBuf,
}

struct Bench {
    dom0: Dom0,
    scratch: tempfile::TempDir,
    kexen: PathBuf,
    grub: Grub,
    least: bool,
    /// Only what has this text in its name: `pv cloud, LZ4`.
    filter: Option<String>,
    rows: Vec<Row>,
}

/// All of it, or what a filter wants.
pub(crate) fn run(xen: Xen, json: bool, least: bool, filter: Option<String>) -> Result<()> {
    let mut bench = Bench {
        dom0: Dom0::boot(xen, MEMORY)?,
        scratch: tempfile::tempdir()?,
        kexen: build::image(Variant::Normal)?.stripped,
        grub: Grub::debian()?,
        least,
        filter,
        rows: Vec::new(),
    };
    for flavour in [Flavour::Cloud, Flavour::Generic] {
        let kernel = Kernel::debian(flavour)?;
        let name = match flavour {
            Flavour::Cloud => "cloud, LZ4",
            Flavour::Generic => "generic, xz",
        };
        for mode in [Mode::Pv, Mode::Pvh] {
            let image = || Ok(kernel.image.clone());
            bench.each(name, &kernel, image, mode, &[DIRECT, KEXEN, GRUB])?;
        }
    }
    // The same kernel in forms that GRUB unpacks too: what unpacking costs.
    let cloud = Kernel::debian(Flavour::Cloud)?;
    let forms = [
        ("cloud, plain", None),
        ("cloud, gzip", Some(Compression::Gzip)),
        ("cloud, xz", Some(Compression::Xz)),
        ("cloud, LZO", Some(Compression::Lzo)),
    ];
    for (name, packed) in forms {
        let image = || packed.map_or_else(repack::elf, repack::kernel);
        bench.each(name, &cloud, image, Mode::Pv, &[KEXEN, GRUB])?;
    }
    if bench.rows.is_empty() {
        bail!("nothing is called so; names are such as \"pvh cloud, LZ4\"");
    }
    let unpacked = bench_unpack::run(&bench.grub)?;
    show(xen, json, &bench.rows, &unpacked)
}

impl Bench {
    /// A guest of this kind and kernel, started in each of these ways, if the
    /// filter wants it: what it boots is made only then.
    fn each(
        &mut self,
        name: &str,
        kernel: &Kernel,
        image: impl FnOnce() -> Result<PathBuf>,
        mode: Mode,
        ways: &[&'static str],
    ) -> Result<()> {
        let whole = format!("{} {name}", mode.name());
        if self.filter.as_ref().is_some_and(|t| !whole.contains(t)) {
            return Ok(());
        }
        let payload = Payload {
            name: name.to_owned(),
            release: kernel.release.clone(),
            image: image()?,
            initrd: kernel.test_initrd(BALLAST, "")?,
        };
        let disk = format!("peer-{}", self.rows.len());
        let disk = boot_disk::make(
            &disk,
            DiskLayout::GrubExt4,
            &payload.image,
            &payload.initrd,
            mode.console(),
            None,
            self.scratch.path(),
        )?;
        for by in ways {
            self.one(&payload, mode, by, &disk)?;
        }
        Ok(())
    }

    fn one(&mut self, payload: &Payload, mode: Mode, by: &'static str, disk: &Path) -> Result<()> {
        let (guest, kernel) = (mode.name(), payload.name.clone());
        let step = ui::step(format!("{guest} guest, {kernel}, started by {by}"));
        let (start, module, words) = match by {
            DIRECT => (&payload.image, Some(&payload.initrd), mode.console()),
            KEXEN => (&self.kexen, None, "kexen.on-error=crash"),
            _ if mode == Mode::Pv => (&self.grub.pv, None, ""),
            _ => (&self.grub.pvh, None, ""),
        };
        let name = format!("peer-{}", self.rows.len());
        let mut guest = Guest {
            replies: vec![(peers::LINUX.to_owned(), Reply::Dom0(peers::look(&name)))],
            before: peers::before(&name),
            afterwards: peers::afterwards(&name),
            module: module.cloned(),
            cmdline: words.to_owned(),
            memory: MEMORY,
            images: vec![(disk.to_path_buf(), Attach::Disk)],
            timeout: Duration::from_secs(150),
            ..Guest::new(name, mode, start.clone())
        };
        let run = self.dom0.run_guest(&guest)?;
        let boots = match guest::check(&guest, &run, Some(&payload.release)) {
            Ok(()) => Ok(peers::figures(&guest, &run)?),
            Err(error) => Err(peers::first_error(&run).unwrap_or_else(|| format!("{error:#}"))),
        };
        let image_bytes = fs::metadata(start)?.len();
        step.done("measured");
        let least_memory = match &boots {
            Ok(figures) if self.least => Some(self.least_memory(&mut guest, figures)?),
            _ => None,
        };
        self.rows.push(Row {
            guest: mode.name(),
            kernel,
            by,
            image_bytes,
            least_memory,
            boots,
        });
        Ok(())
    }

    /// MiB of the smallest guest in which Linux begins with its initrd (GRUB goes
    /// on without one that it has no memory for), found by halving. What Linux
    /// needs after that is the same whoever started it.
    fn least_memory(&mut self, guest: &mut Guest, figures: &Figures) -> Result<u64> {
        // One that begins has as long as it took with much, and half of that.
        guest.timeout = Duration::from_secs_f64(10.0 + figures.seconds_to_linux * 1.5);
        guest.until = Some(peers::INITRD.to_owned());
        // Nothing is measured, and each has a console of its own.
        (guest.before, guest.afterwards) = (String::new(), String::new());
        guest.replies.clear();
        let name = guest.name.clone();
        // It does not begin with the first, or there is no such guest; it does
        // with the second.
        let (mut fails, mut works) = (LEAST - STEP, MEMORY);
        while works - fails > STEP {
            guest.memory = fails + (works - fails) / 2 / STEP * STEP;
            guest.name = format!("{name}-{}", guest.memory);
            let step = ui::step(format!("the same guest with {} MiB", guest.memory));
            let began = match self.dom0.run_guest(guest) {
                Ok(run) => run.saw(peers::INITRD),
                // The toolstack may refuse so small a guest. If dom0 is not
                // there any more, that is the error.
                Err(_) => {
                    self.dom0.run("true")?;
                    false
                }
            };
            if began {
                step.done("Linux begins");
                works = guest.memory;
            } else {
                step.done("Linux does not begin");
                fails = guest.memory;
            }
        }
        Ok(works)
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for a table")]
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn show(xen: Xen, json: bool, rows: &[Row], unpacked: &[bench_unpack::Row]) -> Result<()> {
    if json {
        let document = serde_json::json!({
            "xen": xen.version(),
            "peers": rows,
            "decompressors": unpacked,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    println!(
        "\nA guest that boots its own disk (ext4, grub.cfg), Xen {}, {MEMORY} MiB, 1 vCPU, initrd of 32 MiB:",
        xen.version()
    );
    println!(
        "{:<5} {:<12} {:<10} {:>8} {:>9} {:>9} {:>9} {:>9} {:>7} {:>9}  adds to xl's",
        "guest",
        "kernel",
        "started by",
        "image",
        "to Linux",
        "userspace",
        "CPU",
        "blocked",
        "asked",
        "read"
    );
    for row in rows {
        let start = format!(
            "{:<5} {:<12} {:<10} {:>4.2} MiB",
            row.guest,
            row.kernel,
            row.by,
            mib(row.image_bytes)
        );
        let f = match &row.boots {
            Ok(f) => f,
            Err(why) => {
                println!("{start}  does not boot: {why}");
                continue;
            }
        };
        let direct = same(rows, row, DIRECT).map(|direct| {
            let adds = f.cpu_to_linux - direct.cpu_to_linux;
            let ratio = f.seconds_to_userspace / direct.seconds_to_userspace;
            format!("  {adds:.1} s of CPU, userspace {ratio:.2}")
        });
        println!(
            "{start} {:>7.1} s {:>7.1} s {:>7.1} s {:>7.1} s {:>7} {:>5.1} MiB{}",
            f.seconds_to_linux,
            f.seconds_to_userspace,
            f.cpu_to_linux,
            f.blocked_to_linux,
            f.requests,
            mib(f.bytes),
            direct.unwrap_or_default()
        );
    }
    println!(
        "To Linux, userspace: wall clock from xl create. CPU, blocked: of the domain, from its first \
         instruction to Linux's first line. Asked: requests on the ring, looked at each 100 ms. Read: \
         from the disk's file."
    );
    unpacking(rows);
    bench_unpack::show(unpacked);
    let least: Vec<_> = rows
        .iter()
        .filter(|row| row.least_memory.is_some())
        .collect();
    if !least.is_empty() {
        println!("\nThe smallest guest in which Linux begins with its initrd, to {STEP} MiB:");
    }
    for row in least {
        let mib = row.least_memory.unwrap_or_default();
        println!(
            "{:<5} {:<12} {:<10} {mib} MiB",
            row.guest, row.kernel, row.by
        );
    }
    Ok(())
}

/// The figures of the same guest and kernel, started by another.
fn same<'a>(rows: &'a [Row], row: &Row, by: &str) -> Option<&'a Figures> {
    let same = |other: &&Row| other.guest == row.guest && other.kernel == row.kernel;
    let other = rows.iter().filter(same).find(|other| other.by == by)?;
    other.boots.as_ref().ok()
}

/// What a packed kernel costs more than a plain one, by each.
fn unpacking(rows: &[Row]) {
    let plain = |by| {
        let row = rows
            .iter()
            .find(|row| row.kernel == "cloud, plain" && row.by == by)?;
        row.boots.as_ref().ok().map(|f| f.cpu_to_linux)
    };
    let (Some(base), Some(peer_base)) = (plain(KEXEN), plain(GRUB)) else {
        return;
    };
    println!("\nUnpacking, PV: CPU to Linux, less that of the same kernel as plain ELF:");
    let ours = |row: &&Row| row.guest == "pv" && row.by == KEXEN && row.kernel.starts_with("cloud");
    for row in rows.iter().filter(ours) {
        if let (Ok(own), Some(peer)) = (&row.boots, same(rows, row, GRUB)) {
            println!(
                "{:<12} Kexen {:.1} s, GRUB {:.1} s",
                row.kernel,
                own.cpu_to_linux - base,
                peer.cpu_to_linux - peer_base
            );
        }
    }
}
