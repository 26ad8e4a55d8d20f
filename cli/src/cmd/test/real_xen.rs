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

use super::budget::Budget;
use crate::cmd::tally::Tally;
use crate::host::{memory, tools};
use crate::lab::guest::Mode;
use crate::lab::matrix::Case;
use crate::lab::run_case::Bench;
use crate::ui;

/// MiB of the host's memory that two machines want.
const MEMORY_FOR_TWO: u64 = 14 << 10;

/// Percent of the time that those may take which go side by side.
const TOGETHER: u32 = 55;
/// Runs of one stretch where the order is chosen: all kinds get their turn.
const TURN: usize = 6;

/// Makes the runs, and counts them: in stretches, or, if they come in an order
/// that was chosen, in short ones.
pub(super) fn run(
    cases: Vec<Case>,
    control: bool,
    jobs: Option<u8>,
    turned: bool,
    budget: &Budget,
) -> Result<Tally> {
    if cases.is_empty() {
        return Ok(Tally::default());
    }
    tools::require_lab()?;
    let jobs = jobs.unwrap_or_else(default_jobs);
    let most = if turned { TURN } else { usize::MAX };
    let (together, alone) = stretches(cases, jobs, most);
    let share = if alone.is_empty() { 100 } else { TOGETHER };
    let mut work = Work {
        control,
        budget,
        end: budget.share(share),
        tally: Mutex::default(),
    };
    work.make_all(together, jobs)?;
    work.end = budget.share(100);
    work.make_all(alone, 1)?;
    let tally = work.tally.into_inner();
    Ok(tally.unwrap_or_else(PoisonError::into_inner))
}

/// What the runs of both parts have in common.
struct Work<'a> {
    control: bool,
    budget: &'a Budget,
    /// When no more runs are begun.
    end: Option<Instant>,
    tally: Mutex<Tally>,
}

impl Work<'_> {
    /// Makes stretches of runs, so many at once.
    fn make_all(&self, queue: Stretches, jobs: u8) -> Result<()> {
        let queue = Mutex::new(queue);
        let next = || {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.pop_front()
        };
        thread::scope(|scope| {
            let worker = || -> Result<()> {
                while let Some(cases) = next() {
                    self.make(&cases)?;
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

    /// Makes the runs of one stretch.
    fn make(&self, cases: &[Case]) -> Result<()> {
        let mut bench = Bench::new(cases, self.control)?;
        for case in cases {
            let name = format!("real-xen: {case}");
            if !self.budget.allows(&name, self.end) {
                continue;
            }
            let start = Instant::now();
            let result = bench.make(case);
            let seconds = start.elapsed().as_secs_f64();
            match &result {
                Ok(()) => ui::say(format!("{name} ... ok ({seconds:.1} s)")),
                Err(error) => ui::say(format!("{name} ... FAILED ({seconds:.1} s)\n    {error:#}")),
            }
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.count(&name, &result);
        }
        Ok(())
    }
}

fn default_jobs() -> u8 {
    let two = thread::available_parallelism().is_ok_and(|count| count.get() > 1)
        && memory::available().is_some_and(|mib| mib >= MEMORY_FOR_TWO);
    if two { 2 } else { 1 }
}

type Stretches = VecDeque<Vec<Case>>;

/// Stretches of at most so many runs, each for one machine after the other:
/// those that may go beside others, and those that may not.
fn stretches(cases: Vec<Case>, jobs: u8, most: usize) -> (Stretches, Stretches) {
    if jobs < 2 {
        return (stretch(cases, most), VecDeque::new());
    }
    let (alone, rest): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(is_heavy);
    (stretch(rest, most), stretch(alone, most))
}

/// Runs that share a Xen and a type of guest, behind the first of them.
fn stretch(cases: Vec<Case>, most: usize) -> Stretches {
    let mut all: Stretches = VecDeque::new();
    for case in cases {
        let kind = |case: &Case| (case.xen, case.mode);
        let has_room = |stretch: &&mut Vec<Case>| {
            stretch.first().map(kind) == Some(kind(&case)) && stretch.len() < most
        };
        match all.iter_mut().find(has_room) {
            Some(stretch) => stretch.push(case),
            None => all.push_back(vec![case]),
        }
    }
    all
}

/// Whether it keeps all processors busy by itself, or takes the memory of two.
fn is_heavy(case: &Case) -> bool {
    case.mode == Mode::Hvm || case.vcpus >= 8 || case.is_large()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::test::budget::in_turn;
    use crate::lab::matrix;

    #[test]
    fn each_case_is_in_one_stretch() {
        for (jobs, most) in [(1, usize::MAX), (2, usize::MAX), (2, TURN)] {
            let mut cases = matrix::cases();
            in_turn(&mut cases, "turn", Case::to_string);
            let (together, alone) = stretches(cases, jobs, most);
            assert!(together.iter().chain(&alone).all(|part| part.len() <= most));
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
        let (together, alone) = stretches(matrix::cases(), 2, usize::MAX);
        assert!(!together.iter().flatten().any(is_heavy));
        assert!(alone.iter().flatten().all(is_heavy));
        let has = |mode| alone.iter().flatten().any(|case| case.mode == mode);
        assert!(has(Mode::Hvm) && has(Mode::Pvh));
    }
}
