//! Schedules: which vCPU, or the outside world, makes the next step.
//!
//! The explorer is [`shuttle`]. A test is a closure that makes a machine,
//! calls [`switchable`] on it, and starts its vCPUs with [`together`]; each
//! step of the model is then a point where another may go on.
//!
//! - [`every`]: every schedule there is; for small tests.
//! - [`some`]: random ones out of a seed; a failure prints a schedule.
//! - [`again`]: the schedule that a failure printed.

use std::sync::Arc;

use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;

use crate::xen::Xen;

/// Makes each step of a machine a point where the schedule may switch. To be
/// called inside the closure that is explored.
pub fn switchable(xen: &Xen) {
    // The explorer switches where threads could meet: at this counter.
    let meeting = Arc::new(AtomicUsize::new(0));
    xen.before_each_step(move || {
        meeting.fetch_add(1, Ordering::SeqCst);
    });
}

/// Somebody who makes steps.
pub type Actor = Box<dyn FnOnce() + Send>;

/// Lets all of them go on together until each is done.
pub fn together(actors: Vec<Actor>) {
    let threads: Vec<_> = actors.into_iter().map(thread::spawn).collect();
    for one in threads {
        if let Err(panic) = one.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Explores every schedule; how many there were.
pub fn every(test: impl Fn() + Send + Sync + 'static) -> usize {
    let scheduler = shuttle::scheduler::DfsScheduler::new(None, false);
    shuttle::Runner::new(scheduler, shuttle::Config::default()).run(test)
}

/// Explores `count` random schedules out of a seed.
pub fn some(seed: u64, count: usize, test: impl Fn() + Send + Sync + 'static) -> usize {
    let scheduler = shuttle::scheduler::RandomScheduler::new_from_seed(seed, count);
    shuttle::Runner::new(scheduler, shuttle::Config::default()).run(test)
}

/// Replays the schedule that a failure printed.
pub fn again(schedule: &str, test: impl Fn() + Send + Sync + 'static) {
    shuttle::replay(test, schedule);
}
