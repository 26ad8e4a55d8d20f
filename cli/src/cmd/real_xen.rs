//! The runs on a real Xen that `test` makes: the order, and how many at once.
//!
//! An emulated machine keeps one processor of the host busy most of the time.
//! Where there are two, two machines run side by side. Each takes the next
//! stretch of runs that share a Xen and a type of guest. What emulates devices
//! in the emulated machine keeps both busy by itself, takes four times as long
//! beside another, and comes afterwards, alone; so does a guest of many vCPUs, of
//! which Linux has all spin while it changes its clock.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Result;

use super::tally::Tally;
use crate::host::{memory, tools};
use crate::lab::guest::Mode;
use crate::lab::matrix::Case;
use crate::lab::run_case::Bench;
use crate::ui;

/// MiB of the host's memory that two machines want.
const MEMORY_FOR_TWO: u64 = 14 << 10;

/// Makes the runs, and counts them.
pub(super) fn run(cases: Vec<Case>, control: bool, jobs: Option<u8>) -> Result<Tally> {
    if cases.is_empty() {
        return Ok(Tally::default());
    }
    tools::require_lab()?;
    let tally = Mutex::new(Tally::default());
    let jobs = jobs.unwrap_or_else(default_jobs);
    let (together, alone) = stretches(cases, jobs);
    work(together, jobs, control, &tally)?;
    work(alone, 1, control, &tally)?;
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Makes stretches of runs, so many at once.
fn work(queue: VecDeque<Vec<Case>>, jobs: u8, control: bool, tally: &Mutex<Tally>) -> Result<()> {
    let queue = Mutex::new(queue);
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    };
    thread::scope(|scope| {
        let worker = || -> Result<()> {
            while let Some(cases) = next() {
                make(&cases, control, tally)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| {
            let panicked = |_| anyhow::anyhow!("a run's thread panicked");
            worker.join().map_err(panicked)?
        })
    })
}

fn default_jobs() -> u8 {
    let two = thread::available_parallelism().is_ok_and(|count| count.get() > 1)
        && memory::available().is_some_and(|mib| mib >= MEMORY_FOR_TWO);
    if two { 2 } else { 1 }
}

type Stretches = VecDeque<Vec<Case>>;

/// Stretches of runs, each for one machine after the other: those that may go
/// beside others, and the one that may not.
fn stretches(cases: Vec<Case>, jobs: u8) -> (Stretches, Stretches) {
    if jobs < 2 {
        return (VecDeque::from([cases]), VecDeque::new());
    }
    let (alone, rest): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(is_heavy);
    let mut all = VecDeque::new();
    for case in rest {
        let kind = |case: &Case| (case.xen, case.mode);
        let same = |stretch: &&mut Vec<Case>| stretch.first().map(kind) == Some(kind(&case));
        match all.iter_mut().find(same) {
            Some(stretch) => stretch.push(case),
            None => all.push_back(vec![case]),
        }
    }
    (all, VecDeque::from([alone]))
}

/// Whether it keeps all processors busy by itself.
fn is_heavy(case: &Case) -> bool {
    case.mode == Mode::Hvm || case.vcpus >= 8
}

/// The runs of one stretch.
fn make(cases: &[Case], control: bool, tally: &Mutex<Tally>) -> Result<()> {
    if cases.is_empty() {
        return Ok(());
    }
    let mut bench = Bench::new(cases, control)?;
    for case in cases {
        let start = Instant::now();
        let result = bench.make(case);
        let seconds = start.elapsed().as_secs_f64();
        let name = format!("real-xen: {case}");
        match &result {
            Ok(()) => ui::say(format!("{name} ... ok ({seconds:.1} s)")),
            Err(error) => ui::say(format!("{name} ... FAILED ({seconds:.1} s)\n    {error:#}")),
        }
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.count(&name, &result);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::matrix;

    #[test]
    fn each_case_is_in_one_stretch() {
        for jobs in [1, 2] {
            let (together, alone) = stretches(matrix::cases(), jobs);
            let mut names: Vec<String> = together
                .iter()
                .chain(&alone)
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
    fn what_is_heavy_is_alone() {
        let (together, alone) = stretches(matrix::cases(), 2);
        assert!(!together.iter().flatten().any(is_heavy));
        assert!(alone.iter().flatten().all(is_heavy) && alone.len() == 1);
        assert!(alone[0].iter().any(|case| case.mode == Mode::Hvm));
        assert!(alone[0].iter().any(|case| case.mode == Mode::Pvh));
    }
}
