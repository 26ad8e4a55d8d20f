//! `bench --peers`: a guest that boots its own disk, by Kexen and by GRUB's
//! images for Xen guests (package grub-xen-host), beside the toolstack loading
//! the same kernel and initrd itself: same disk, same dom0, one run.
//!
//! Where the figures come from: `peers.rs` has the scripts that dom0 measures
//! with.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kexen_image::Compression;
use serde::Serialize;

use super::bench_unpack;
use super::peers::{self, Figures};
use crate::lab::artefacts::{Flavour, Grub, GrubImages, Kernel, Xen};
use crate::lab::boot_disk::{self, DiskLayout};
use crate::lab::build::{self, Variant};
use crate::lab::dom0::Dom0;
use crate::lab::guest::{self, Attach, Guest, Mode, Reply};
use crate::lab::repack;
use crate::lab::stats::Stats;
use crate::ui;

/// MiB of each guest beside the filler in its initrd, which Linux has twice while it
/// unpacks it, and of that by default.
const MEMORY: u64 = 320;
const BALLAST: u64 = 32;
/// The least MiB that a guest is tried with, and by how many they differ.
const LEAST: u64 = 64;
const STEP: u64 = 8;
/// Who starts the kernel.
const DIRECT: &str = "xl itself";
const KEXEN: &str = "Kexen";
/// Which GRUB the cost of unpacking is compared with.
const GRUB: &str = "GRUB 2.14";

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) xen: Xen,
    pub(super) json: bool,
    /// Also how little memory does.
    pub(super) least: bool,
    /// MiB of filler in the initrd.
    pub(super) initrd: Option<u64>,
    /// Only what has one of these texts in its name, if there are any: `pv cloud,
    /// LZ4, Kexen`.
    pub(super) filter: Vec<String>,
    /// How often each guest is started.
    pub(super) times: u32,
}

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
    /// What Kexen says of itself.
    stats: Option<Stats>,
    /// Nothing else is known of one that does not boot, but why.
    boots: Result<Figures, String>,
}

/// What came of a start, and what Kexen says of itself.
type Start = (Result<Figures, String>, Option<Stats>);

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
    grubs: Vec<GrubImages>,
    asked: Asked,
    /// MiB of each guest, and bytes of filler in the initrd.
    memory: u64,
    ballast: usize,
    rows: Vec<Row>,
}

/// All of it, or what is asked for.
pub(super) fn run(asked: Asked) -> Result<()> {
    let ballast = asked.initrd.unwrap_or(BALLAST);
    let memory = MEMORY + 2 * ballast;
    let mut bench = Bench {
        dom0: Dom0::boot(asked.xen, memory)?,
        scratch: tempfile::tempdir()?,
        kexen: build::image(Variant::Normal)?.stripped,
        grubs: GrubImages::all()?,
        asked,
        memory,
        ballast: usize::try_from(ballast << 20)?,
        rows: Vec::new(),
    };
    bench.dom0.caches = true;
    let mut ways = vec![DIRECT, KEXEN];
    ways.extend(bench.grubs.iter().map(|grub| grub.name));
    let cloud = || Kernel::debian(Flavour::Cloud);
    let generic = || Kernel::debian(Flavour::Generic);
    for mode in [Mode::Pv, Mode::Pvh] {
        bench.each("cloud, LZ4", &cloud, None, mode, &ways)?;
        bench.each("generic, xz", &generic, None, mode, &ways)?;
        bench.each("cloud 7, zstd", &Kernel::forky, None, mode, &ways)?;
    }
    // Its own unpacker, which GRUB leaves it to in PVH guests, knows LZ4 alone.
    let gzip = || repack::kernel(Compression::Gzip);
    let ways = [DIRECT, KEXEN];
    bench.each("cloud, gzip", &cloud, Some(&gzip), Mode::Pvh, &ways)?;
    // The same kernel in forms that GRUB unpacks too: what unpacking costs.
    let forms = [
        ("cloud, plain", None),
        ("cloud, gzip", Some(Compression::Gzip)),
        ("cloud, xz", Some(Compression::Xz)),
        ("cloud, LZO", Some(Compression::Lzo)),
    ];
    for (name, packed) in forms {
        let image = || packed.map_or_else(repack::elf, repack::kernel);
        bench.each(name, &cloud, Some(&image), Mode::Pv, &[KEXEN, GRUB])?;
    }
    if bench.rows.is_empty() {
        bail!("nothing is called so; names are such as \"pvh cloud, LZ4, Kexen\"");
    }
    // That is a bench of its own, too.
    let unpacked = if bench.asked.filter.is_empty() {
        bench_unpack::run(&Grub::debian()?)?
    } else {
        Vec::new()
    };
    show(&bench, &unpacked)
}

impl Bench {
    /// A guest of this kind and kernel, or another form of its image, started in
    /// each of these ways, if the filter wants it: what it boots is fetched and
    /// made only then.
    fn each(
        &mut self,
        name: &str,
        kernel: &dyn Fn() -> Result<Kernel>,
        image: Option<&dyn Fn() -> Result<PathBuf>>,
        mode: Mode,
        ways: &[&'static str],
    ) -> Result<()> {
        let wanted = |by: &&&str| {
            let whole = format!("{} {name}, {by}", mode.name());
            let texts = &self.asked.filter;
            texts.is_empty() || texts.iter().any(|text| whole.contains(text))
        };
        let ways: Vec<_> = ways.iter().filter(wanted).copied().collect();
        if ways.is_empty() {
            return Ok(());
        }
        let kernel = kernel()?;
        let payload = Payload {
            name: name.to_owned(),
            release: kernel.release.clone(),
            image: image.map_or_else(|| Ok(kernel.image.clone()), |image| image())?,
            initrd: kernel.test_initrd(self.ballast, "")?,
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
            KEXEN => (&self.kexen, None, "kexen.on-error=crash kexen.stats"),
            grub => {
                let found = self.grubs.iter().find(|one| one.name == grub);
                let found = found.context("no such release of GRUB")?;
                let image = match mode {
                    Mode::Pv => &found.pv,
                    _ => &found.pvh,
                };
                (image, None, "")
            }
        };
        let template = Guest {
            module: module.cloned(),
            cmdline: words.to_owned(),
            memory: self.memory,
            images: vec![(disk.to_path_buf(), Attach::Disk)],
            timeout: self.patience(payload, mode),
            ..Guest::new(format!("peer-{}", self.rows.len()), mode, start.clone())
        };
        let mut starts = Vec::new();
        for time in 0..self.asked.times {
            let name = format!("{}-{time}", template.name);
            let guest = Guest {
                replies: vec![(peers::LINUX.to_owned(), Reply::Dom0(peers::look(&name)))],
                before: peers::before(&name),
                afterwards: peers::afterwards(&name),
                name,
                ..template.clone()
            };
            let (boots, stats) = measure(&mut self.dom0, &guest, &payload.release)?;
            let over = boots.is_err();
            starts.push((boots, stats));
            if over {
                break;
            }
        }
        let (boots, stats) = median(starts).context("no start")?;
        let image_bytes = fs::metadata(start)?.len();
        step.done("measured");
        let least_memory = match &boots {
            Ok(figures) if self.asked.least => Some(self.least_memory(template, figures)?),
            _ => None,
        };
        self.rows.push(Row {
            guest: mode.name(),
            kernel,
            by,
            image_bytes,
            least_memory,
            stats,
            boots,
        });
        Ok(())
    }

    /// How long a guest may take: many times what the toolstack's start of the same
    /// kernel took, if that is known. A GRUB that cannot boot it stays in its menu.
    fn patience(&self, payload: &Payload, mode: Mode) -> Duration {
        let most = Duration::from_secs(150 + self.memory / 2);
        figures(&self.rows, mode.name(), &payload.name, DIRECT).map_or(most, |f| {
            most.min(Duration::from_secs_f64(30.0 + 6.0 * f.seconds_to_userspace))
        })
    }

    /// MiB of the smallest guest in which Linux begins with its initrd (GRUB goes
    /// on without one that it has no memory for), found by halving. What Linux
    /// needs after that is the same whoever started it.
    fn least_memory(&mut self, mut guest: Guest, figures: &Figures) -> Result<u64> {
        // One that begins has as long as it took with much, and half of that.
        guest.timeout = Duration::from_secs_f64(10.0 + figures.seconds_to_linux * 1.5);
        guest.until = Some(peers::INITRD.to_owned());
        // Each has a console of its own.
        let name = guest.name.clone();
        // It does not begin with the first, which has no room for the filler, or there
        // is no such guest; it does with the second.
        let filler = (u64::try_from(self.ballast)? >> 20) / STEP * STEP;
        let (mut fails, mut works) = (LEAST.max(filler) - STEP, self.memory);
        while works - fails > STEP {
            guest.memory = fails + (works - fails) / 2 / STEP * STEP;
            guest.name = format!("{name}-{}", guest.memory);
            let step = ui::step(format!("the same guest with {} MiB", guest.memory));
            let began = match self.dom0.run_guest(&guest) {
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

fn show(bench: &Bench, unpacked: &[bench_unpack::Row]) -> Result<()> {
    let (rows, xen) = (bench.rows.as_slice(), bench.asked.xen);
    if bench.asked.json {
        let document = serde_json::json!({
            "xen": xen.version(),
            "peers": rows,
            "decompressors": unpacked,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    println!(
        "\nA guest that boots its own disk (ext4, grub.cfg), Xen {}, {} MiB, 1 vCPU, initrd of {} MiB:",
        xen.version(),
        bench.memory,
        bench.ballast >> 20,
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
        let direct = figures(rows, row.guest, &row.kernel, DIRECT).map(|direct| {
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
    if bench.asked.times > 1 {
        println!(
            "Each is, of {} starts one after the other, the one with the median time to userspace.",
            bench.asked.times
        );
    }
    waiting(rows);
    unpacking(rows);
    if !unpacked.is_empty() {
        bench_unpack::show(unpacked);
    }
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

/// Starts a guest once: what came of it, and what Kexen says of itself.
fn measure(dom0: &mut Dom0, guest: &Guest, release: &str) -> Result<Start> {
    let run = dom0.run_guest(guest)?;
    let boots = match guest::check(guest, &run, Some(release)) {
        Ok(()) => Ok(peers::figures(guest, &run)?),
        Err(error) => Err(peers::first_error(&run).unwrap_or_else(|| format!("{error:#}"))),
    };
    let stats = run.lines.iter().find_map(|line| Stats::parse(&line.text));
    Ok((boots, stats))
}

/// The start that failed, or else the one with the median time to userspace: of
/// an even number the later of the two in the middle.
fn median(mut starts: Vec<Start>) -> Option<Start> {
    let seconds = |start: &Start| {
        start
            .0
            .as_ref()
            .map_or(f64::INFINITY, |f| f.seconds_to_userspace)
    };
    starts.sort_by(|a, b| seconds(a).total_cmp(&seconds(b)));
    let failed = starts.iter().any(|(boots, _)| boots.is_err());
    let at = if failed {
        starts.len().checked_sub(1)?
    } else {
        starts.len() / 2
    };
    starts.into_iter().nth(at)
}

/// The figures of a guest and kernel, if it was started so and boots.
fn figures<'a>(rows: &'a [Row], guest: &str, kernel: &str, by: &str) -> Option<&'a Figures> {
    let is_it = |row: &&Row| row.guest == guest && row.kernel == kernel && row.by == by;
    rows.iter().find(is_it)?.boots.as_ref().ok()
}

/// What Kexen waited for.
#[expect(clippy::cast_precision_loss, reason = "figures for a table")]
fn waiting(rows: &[Row]) {
    for row in rows {
        let figure = |key: &str| row.stats.as_ref()?.figures.get(key).copied();
        let waits = ["connect", "read", "close"].map(|what| {
            let seconds = figure(&format!("waited_{what}_ns"))? as f64 / 1e9;
            let times = figure(&format!("waited_{what}"))?;
            Some(format!("to {what} {seconds:.1} s in {times}"))
        });
        if let [Some(connect), Some(read), Some(close)] = waits {
            println!(
                "{} {}: waits of Kexen's {connect}, {read}, {close}",
                row.guest, row.kernel
            );
        }
    }
}

/// What a packed kernel costs more than a plain one, by each.
fn unpacking(rows: &[Row]) {
    let plain = |by| figures(rows, "pv", "cloud, plain", by).map(|f| f.cpu_to_linux);
    let (Some(base), Some(peer_base)) = (plain(KEXEN), plain(GRUB)) else {
        return;
    };
    println!("\nUnpacking, PV: CPU to Linux, less that of the same kernel as plain ELF:");
    let ours = |row: &&Row| row.guest == "pv" && row.by == KEXEN && row.kernel.starts_with("cloud");
    for row in rows.iter().filter(ours) {
        if let (Ok(own), Some(peer)) = (&row.boots, figures(rows, row.guest, &row.kernel, GRUB)) {
            println!(
                "{:<12} Kexen {:.1} s, GRUB {:.1} s",
                row.kernel,
                own.cpu_to_linux - base,
                peer.cpu_to_linux - peer_base
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(seconds_to_userspace: f64) -> Start {
        let figures = Figures {
            seconds_to_linux: 0.0,
            seconds_to_userspace,
            cpu_to_linux: 0.0,
            blocked_to_linux: 0.0,
            requests: 0,
            bytes: 0,
        };
        (Ok(figures), None)
    }

    #[test]
    fn the_median_start_is_shown_and_a_failure_before_all() {
        let of = |starts: Vec<Start>| {
            median(starts).map(|(boots, _)| boots.map(|f| f.seconds_to_userspace))
        };
        assert_eq!(of(vec![start(3.0), start(9.0), start(1.0)]), Some(Ok(3.0)));
        assert_eq!(of(vec![start(2.0)]), Some(Ok(2.0)));
        let failed = (Err("no".to_owned()), None);
        assert_eq!(
            of(vec![start(3.0), start(1.0), failed]),
            Some(Err("no".to_owned()))
        );
        assert_eq!(of(vec![]), None);
    }
}
