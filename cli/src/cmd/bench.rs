//! `bench`: what a hand-off costs, seen from inside the guest, and beside a
//! guest whose kernel the toolstack starts itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{bench_handoff, bench_model, bench_peers, bench_unpack};
use crate::host::tools;
use crate::lab::artefacts::{Flavour, Kernel, Xen};
use crate::lab::build::{self, Variant};
use crate::lab::dom0::Dom0;
use crate::lab::guest::{self, Guest, Mode};
use crate::lab::payload;
use crate::lab::stats::Stats;
use crate::ui;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Version of Xen
    #[arg(long, value_enum, default_value = "4.17")]
    xen: Xen,
    /// Memory sizes of the guests, separated by commas
    #[arg(
        long,
        value_name = "MiB",
        value_delimiter = ',',
        default_value = "256,1024,4096"
    )]
    memory: Vec<u64>,
    /// Measure guests that boot their own disk, beside GRUB's Xen images
    #[arg(long)]
    peers: bool,
    /// With --peers: also how little memory the guests can do with (minutes more)
    #[arg(long, requires = "peers")]
    least_memory: bool,
    /// With --peers: only guests with this text in their name (`pvh cloud, LZ4, Kexen`); may be
    /// given several times
    #[arg(long, value_name = "TEXT", requires = "peers")]
    filter: Vec<String>,
    /// With --peers: how often each guest is started; what is shown is the start with the median
    /// time to userspace
    #[arg(long, value_name = "N", requires = "peers", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9))]
    times: u32,
    /// With --peers: how much filler the initrds have (default: 32)
    #[arg(long, value_name = "MiB", requires = "peers", value_parser = clap::value_parser!(u64).range(..=512))]
    initrd: Option<u64>,
    /// Measure the decompressors alone, beside GRUB's, on this host
    #[arg(long, conflicts_with = "peers")]
    unpack: bool,
    /// Print one JSON document on stdout
    #[arg(long)]
    json: bool,
}

/// Guest-side and toolstack-side figures of one pair of runs.
#[derive(Debug, Serialize)]
struct Row {
    guest: &'static str,
    memory: u64,
    stats: Stats,
    /// Bytes written per byte of the unpacked kernel.
    written_per_payload: f64,
    seconds_to_linux: f64,
    seconds_to_linux_direct: f64,
    /// CPU seconds of the domain, from creation to power-off.
    cpu_seconds: f64,
    cpu_seconds_direct: f64,
}

/// Hypercalls that have to do with page tables.
const TABLE_CALLS: [&str; 4] = ["mmu_update", "mmuext_op", "multicall", "update_va_mapping"];

/// Filler in the initrd, so that copying it would show.
const BALLAST: usize = 32 << 20;

/// Runs the benchmark and prints its tables.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    if args.unpack {
        return bench_unpack::alone(args.json);
    }
    tools::require_lab()?;
    if args.peers {
        return bench_peers::run(bench_peers::Asked {
            xen: args.xen,
            json: args.json,
            least: args.least_memory,
            initrd: args.initrd,
            filter: args.filter.clone(),
            times: args.times,
        });
    }
    let model = bench_model::measure()?;
    let image = build::image(Variant::Normal)?;
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let initrd = kernel.test_initrd(BALLAST, "")?;
    let scratch = tempfile::tempdir()?;
    let most = args
        .memory
        .iter()
        .copied()
        .max()
        .context("no memory size")?;
    let mut dom0 = Dom0::boot(args.xen, most)?;
    let mut rows = Vec::new();
    for &memory in &args.memory {
        for mode in [Mode::Pv, Mode::Pvh] {
            let step = ui::step(format!(
                "{} guest of {memory} MiB, with Kexen and without",
                mode.name()
            ));
            let cmdline = mode.console();
            let module = scratch.path().join(format!("{}.module", mode.name()));
            payload::write(&module, &kernel.image, Some(&initrd), cmdline)?;
            let mut guest = Guest {
                module: Some(module),
                cmdline: "kexen.stats kexen.on-error=crash".to_owned(),
                memory,
                timeout: Duration::from_secs(300),
                ..Guest::new(
                    format!("bench-{}-{memory}", mode.name()),
                    mode,
                    image.stripped.clone(),
                )
            };
            let through = dom0.run_guest(&guest)?;
            guest::check(&guest, &through, Some(&kernel.release))?;
            guest.name.push_str("-direct");
            guest.kernel = kernel.image.clone();
            guest.module = Some(initrd.clone());
            guest.cmdline = cmdline.to_owned();
            let direct = dom0.run_guest(&guest)?;
            guest::check(&guest, &direct, Some(&kernel.release))?;
            let stats = through
                .lines
                .iter()
                .find_map(|line| Stats::parse(&line.text))
                .context("Kexen printed no stats line")?;
            let linux = "Linux version";
            rows.push(Row {
                guest: mode.name(),
                memory,
                written_per_payload: ratio(stats.figure("written")?, stats.figure("payload")?),
                seconds_to_linux: through
                    .seconds_to(linux)
                    .context("no first line of Linux")?,
                seconds_to_linux_direct: direct
                    .seconds_to(linux)
                    .context("no first line of Linux")?,
                cpu_seconds: through.cpu_seconds.context("no CPU time from xl")?,
                cpu_seconds_direct: direct.cpu_seconds.context("no CPU time from xl")?,
                stats,
            });
            step.done("measured");
        }
    }
    drop(dom0);
    let handoff = bench_handoff::measure(args.xen)?;
    show(args, image.size, &rows, &model, &handoff)
}

#[expect(clippy::cast_precision_loss, reason = "figures for a table")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn show(
    args: &BenchArgs,
    image: u64,
    rows: &[Row],
    model: &bench_model::Figures,
    handoff: &bench_handoff::Figures,
) -> Result<()> {
    if args.json {
        let document = serde_json::json!({
            "xen": args.xen.version(), "image_bytes": image, "runs": rows, "model": model,
            "handoff": handoff,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    println!(
        "\nBoot image: {image} bytes, stripped. Kernel: Debian's cloud kernel (LZ4); initrd of 32 MiB."
    );
    println!("\nInside the guest, from the domain's start to the jump:");
    println!(
        "{:<5} {:>9} {:>10} {:>11} {:>16} {:>11}  by kind",
        "guest", "memory", "CPU", "blocked", "written/payload", "hypercalls"
    );
    for row in rows {
        let ms = |key: &str| {
            row.stats
                .figure(key)
                .map(|ns| format!("{:.1} ms", ratio(ns, 1_000_000)))
        };
        let kinds: Vec<String> = row
            .stats
            .calls
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        println!(
            "{:<5} {:>5} MiB {:>10} {:>11} {:>16.3} {:>11}  {}",
            row.guest,
            row.memory,
            ms("running_ns")?,
            ms("blocked_ns")?,
            row.written_per_payload,
            row.stats.figure("hypercalls")?,
            kinds.join(", ")
        );
    }
    println!("\nPage tables (PV), from pools whose pages are read-only before they are tables:");
    for row in rows.iter().filter(|row| row.guest == "pv") {
        let calls: u64 = TABLE_CALLS
            .iter()
            .filter_map(|call| row.stats.calls.get(*call))
            .sum();
        let mapped = ratio(row.stats.figure("mapped")?, 1 << 20);
        println!(
            "{:<5} {:>5} MiB {mapped:>8.1} MiB mapped, {calls} hypercalls on tables: {:.2} a MiB",
            row.guest,
            row.memory,
            ratio(calls, 1) / mapped.max(0.001)
        );
    }
    bench_model::show(model);
    bench_handoff::show(handoff);
    println!("\nBeside the same kernel started by xl itself, in the same run of the same dom0:");
    println!(
        "{:<5} {:>9} {:>12} {:>12} {:>7} {:>12} {:>12} {:>7}",
        "guest", "memory", "to Linux", "direct", "ratio", "CPU", "direct", "ratio"
    );
    for row in rows {
        println!(
            "{:<5} {:>5} MiB {:>10.2} s {:>10.2} s {:>7.2} {:>10.1} s {:>10.1} s {:>7.2}",
            row.guest,
            row.memory,
            row.seconds_to_linux,
            row.seconds_to_linux_direct,
            row.seconds_to_linux / row.seconds_to_linux_direct.max(0.001),
            row.cpu_seconds,
            row.cpu_seconds_direct,
            row.cpu_seconds / row.cpu_seconds_direct.max(0.001)
        );
    }
    println!(
        "To Linux: wall clock from xl create to Linux's first line. CPU: of the domain, to its power-off."
    );
    Ok(())
}
