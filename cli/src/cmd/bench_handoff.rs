//! The part of `bench` about a guest in full swing: how long a hand-off is,
//! by phase, how it grows with vCPUs, grants and ports, and beside it Linux's
//! own kexec through the toolstack's soft reset, in an HVM guest.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::lab::artefacts::Xen;
use crate::lab::guest::Run;
use crate::lab::matrix;
use crate::lab::run_case::Bench;
use crate::ui;

/// The phases, in order, as the busy guest prints them.
const PHASES: [&str; 5] = ["stage", "quiesce", "release", "jump", "entry"];

/// vCPUs, grants and ports of one measurement: each grows alone.
const SIZES: [(u32, u32, u32); 8] = [
    (1, 16, 16),
    (2, 16, 16),
    (4, 16, 16),
    (8, 16, 16),
    (4, 100, 16),
    (4, 400, 16),
    (4, 16, 100),
    (4, 16, 1000),
];

/// The hand-offs of one measurement: the median of each phase.
const HOPS: u32 = 7;

/// Nanoseconds by phase.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    vcpus: u32,
    grants: u32,
    ports: u32,
    phases: BTreeMap<&'static str, u64>,
}

/// Seconds from the last word of one kernel to the first of the next.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    rows: Vec<Row>,
    /// The busy guest to Linux, HVM.
    hvm_kexen: f64,
    /// Linux to Linux by kexec and the toolstack's soft reset, HVM.
    hvm_soft_reset: f64,
}

/// Measures all of it.
pub(crate) fn measure(xen: Xen) -> Result<Figures> {
    let mut cases = Vec::new();
    for (vcpus, grants, ports) in SIZES {
        cases.push(matrix::busy::measured(xen, vcpus, grants, ports, HOPS));
    }
    let (busy, linux) = matrix::busy::measured_hvm(xen);
    cases.extend([busy.clone(), linux.clone()]);
    let mut bench = Bench::new(&cases, false)?;
    let mut rows = Vec::new();
    for (case, (vcpus, grants, ports)) in cases.iter().zip(SIZES) {
        let step = ui::step(format!(
            "hand-off with {vcpus} vCPUs, {grants} grants, {ports} ports"
        ));
        let run = bench.run(case)?;
        rows.push(Row {
            vcpus,
            grants,
            ports,
            phases: phases(&run)?,
        });
        step.done("measured");
    }
    let step = ui::step("HVM: a hand-off to Linux, and Linux's own by soft reset");
    let kexen = between(&bench.run(&busy)?, "kexen-busy: exec=", "Linux version")?;
    let reset = between(
        &bench.run(&linux)?,
        "kexec_core: Starting new kernel",
        "Linux version",
    )?;
    step.done("measured");
    Ok(Figures {
        rows,
        hvm_kexen: kexen,
        hvm_soft_reset: reset,
    })
}

/// The median of each phase over all hand-offs of a run.
fn phases(run: &Run) -> Result<BTreeMap<&'static str, u64>> {
    let mut medians = BTreeMap::new();
    for phase in PHASES {
        let key = format!("{phase}_ns=");
        let mut all: Vec<u64> = run
            .lines
            .iter()
            .filter(|line| line.text.contains("kexen-busy: phases="))
            .filter_map(|line| {
                let (_, rest) = line.text.split_once(&key)?;
                rest.split(' ').next()?.parse().ok()
            })
            .collect();
        all.sort_unstable();
        let median = all.get(all.len() / 2).copied();
        medians.insert(
            phase,
            median.with_context(|| format!("no {phase} was told"))?,
        );
    }
    Ok(medians)
}

/// Seconds from a line to the first later one with another text.
fn between(run: &Run, from: &str, to: &str) -> Result<f64> {
    let mut lines = run.lines.iter();
    let start = lines
        .find(|line| line.text.contains(from))
        .with_context(|| format!("no line with {from:?}"))?;
    let end = lines
        .find(|line| line.text.contains(to))
        .with_context(|| format!("no line with {to:?} after {from:?}"))?;
    Ok(end.at.duration_since(start.at).as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "figures for a table")]
fn microseconds(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

/// Prints them.
pub(crate) fn show(figures: &Figures) {
    println!("\nA PVH guest in full swing to itself, median of {HOPS} hand-offs, in microseconds:");
    print!("{:>5} {:>7} {:>6}", "vCPUs", "grants", "ports");
    for phase in PHASES {
        print!(" {phase:>10}");
    }
    println!(" {:>12}", "without load");
    for row in &figures.rows {
        print!("{:>5} {:>7} {:>6}", row.vcpus, row.grants, row.ports);
        let mut stopped = 0;
        for phase in PHASES {
            let ns = row.phases.get(phase).copied().unwrap_or(0);
            if phase != "stage" {
                stopped += ns;
            }
            print!(" {:>10.0}", microseconds(ns));
        }
        println!(" {:>12.0}", microseconds(stopped));
    }
    println!(
        "\nHVM, from the old kernel's last line to Linux's first: {:.2} s by Kexen, {:.2} s by \
         Linux's kexec and the toolstack's soft reset: ratio {:.2}",
        figures.hvm_kexen,
        figures.hvm_soft_reset,
        figures.hvm_kexen / figures.hvm_soft_reset.max(0.001)
    );
}
