//! The runs on a real Xen that `test` makes: the order, and how many at once.
//!
//! An emulated machine keeps one processor of the host busy most of the time.
//! Where there are two, the Xens' runs go side by side, each Xen's in their
//! order. What emulates devices in the emulated machine uses both by itself,
//! and comes afterwards, alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::host::{memory, tools};
use crate::lab::artefacts::Xen;
use crate::lab::guest::Mode;
use crate::lab::matrix::Case;
use crate::lab::run_case::Bench;
use crate::ui;

/// MiB of the host's memory that two machines want.
const MEMORY_FOR_TWO: u64 = 14 << 10;

/// How many came out how.
#[derive(Debug, Default)]
struct Counts {
    passed: AtomicUsize,
    failed: AtomicUsize,
}

/// Makes the runs; how many passed, and how many did not.
pub(crate) fn run(cases: Vec<Case>, control: bool, jobs: Option<u8>) -> Result<(usize, usize)> {
    if cases.is_empty() {
        return Ok((0, 0));
    }
    tools::require_lab()?;
    let counts = Counts::default();
    for group in groups(cases, jobs.unwrap_or_else(default_jobs)) {
        thread::scope(|scope| {
            let lanes: Vec<_> = group
                .iter()
                .map(|lane| scope.spawn(|| make(lane, control, &counts)))
                .collect();
            lanes
                .into_iter()
                .map(|lane| {
                    let panicked = |_| anyhow::anyhow!("a run's thread panicked");
                    lane.join().map_err(panicked)?
                })
                .collect::<Result<Vec<()>>>()
        })?;
    }
    let Counts { passed, failed } = counts;
    Ok((passed.into_inner(), failed.into_inner()))
}

fn default_jobs() -> u8 {
    let two = thread::available_parallelism().is_ok_and(|count| count.get() > 1)
        && memory::available().is_some_and(|mib| mib >= MEMORY_FOR_TWO);
    if two { 2 } else { 1 }
}

/// Groups that come one after another, each of lanes that go side by side.
fn groups(cases: Vec<Case>, jobs: u8) -> Vec<Vec<Vec<Case>>> {
    if jobs < 2 {
        return vec![vec![cases]];
    }
    let (alone, together): (Vec<Case>, Vec<Case>) =
        cases.into_iter().partition(|case| case.mode == Mode::Hvm);
    let mut lanes: Vec<Vec<Case>> = Xen::ALL
        .iter()
        .map(|xen| {
            let of_it = |case: &&Case| case.xen == *xen;
            together.iter().filter(of_it).cloned().collect()
        })
        .collect();
    lanes.retain(|lane| !lane.is_empty());
    vec![lanes, vec![alone]]
}

/// The runs of one lane.
fn make(cases: &[Case], control: bool, counts: &Counts) -> Result<()> {
    if cases.is_empty() {
        return Ok(());
    }
    let mut bench = Bench::new(cases, control)?;
    for case in cases {
        let start = Instant::now();
        let result = bench.make(case);
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                counts.passed.fetch_add(1, Ordering::Relaxed);
                ui::say(format!("real-xen: {case} ... ok ({seconds:.1} s)"));
            }
            Err(error) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                ui::say(format!(
                    "real-xen: {case} ... FAILED ({seconds:.1} s)\n    {error:#}"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::matrix;

    #[test]
    fn each_case_is_in_one_lane() {
        for jobs in [1, 2] {
            let mut names: Vec<String> = groups(matrix::cases(), jobs)
                .iter()
                .flatten()
                .flatten()
                .map(ToString::to_string)
                .collect();
            names.sort();
            let mut all: Vec<String> = matrix::cases().iter().map(ToString::to_string).collect();
            all.sort();
            assert_eq!(names, all);
        }
    }

    #[test]
    fn emulated_devices_are_alone() {
        for lanes in groups(matrix::cases(), 2) {
            let emulate = |lane: &Vec<Case>| lane.iter().any(|case| case.mode == Mode::Hvm);
            assert!(lanes.len() == 1 || !lanes.iter().any(emulate));
        }
    }
}
