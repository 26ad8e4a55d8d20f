//! Waiting for another domain by `SCHEDOP_poll`, with an end.
//!
//! Order of steps: take the port's event; if there was none, poll for it for
//! a moment; look again. The list for Xen is a word of the scratch page; time
//! is Xen's, by shared info, which the caller says how to reach.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kexen_guest::{
    clock, events, hypercall,
    shared_info::Place,
    wait::{TimeOver, Wait},
};

use crate::native::Native;

/// Nanoseconds of one poll: a lost event costs no more.
const MOMENT: u64 = 20_000_000;
/// Where the list is in the scratch page.
const LIST: u64 = 512;

/// What all waits so far have come to.
static NANOSECONDS: AtomicU64 = AtomicU64::new(0);
static TIMES: AtomicU64 = AtomicU64::new(0);

/// How long was waited, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Nanoseconds of Xen's clock.
    pub nanoseconds: u64,
    /// Polls.
    pub times: u64,
}

impl Waited {
    /// All waits since the start.
    #[must_use]
    pub fn so_far() -> Self {
        Self {
            nanoseconds: NANOSECONDS.load(Relaxed),
            times: TIMES.load(Relaxed),
        }
    }

    /// Adds what was waited since then.
    pub fn add_since(&mut self, then: Self) {
        let now = Self::so_far();
        self.nanoseconds += now.nanoseconds - then.nanoseconds;
        self.times += now.times - then.times;
    }
}

/// A wait of vCPU 0 that ends at a time of Xen's clock.
#[derive(Debug)]
pub struct Patience<M: 'static> {
    m: &'static M,
    place: Place,
    until: u64,
    /// How long it is anew after progress, and when it ends all the same.
    anew: u64,
    end: u64,
}

impl<M: Native> Patience<M> {
    /// A wait that ends so many nanoseconds from now.
    #[must_use]
    pub fn new(m: &'static M, place: Place, nanoseconds: u64) -> Self {
        Self::anew(m, place, nanoseconds, 1)
    }

    /// The same, begun anew after any progress, but no longer than so many of
    /// them one after the other.
    #[must_use]
    pub fn anew(m: &'static M, place: Place, nanoseconds: u64, times: u64) -> Self {
        let mut patience = Self {
            m,
            place,
            until: 0,
            anew: nanoseconds,
            end: 0,
        };
        let now = patience.now();
        patience.until = now.saturating_add(nanoseconds);
        patience.end = now.saturating_add(nanoseconds.saturating_mul(times));
        patience
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.now() >= self.until
    }

    fn look<T>(&self, look: impl FnOnce(u64) -> T) -> Option<T> {
        let m = self.m;
        let relax = || hypercall::sched_yield(m).is_ok();
        self.place.read(m, 0, &relax, look).ok()
    }

    fn now(&self) -> u64 {
        let now = self.look(|at| clock::now(self.m, at));
        now.and_then(Result::ok).unwrap_or(u64::MAX)
    }
}

impl<M: Native> Wait for Patience<M> {
    fn progress(&mut self) {
        let until = self.now().saturating_add(self.anew);
        self.until = self.until.max(until.min(self.end));
    }

    fn wait(&mut self, port: u32) -> Result<(), TimeOver> {
        let m = self.m;
        if self.look(|at| events::take(m, at, port)) == Some(Ok(true)) {
            return Ok(());
        }
        let now = self.now();
        if now >= self.until {
            return Err(TimeOver);
        }
        let list = m.scratch() + LIST;
        let end = self.until.min(now.saturating_add(MOMENT));
        if m.write(list, &port.to_le_bytes()).is_err()
            || hypercall::poll_until(m, list, 1, end).is_err()
        {
            return Err(TimeOver);
        }
        TIMES.fetch_add(1, Relaxed);
        NANOSECONDS.fetch_add(self.now().saturating_sub(now), Relaxed);
        let _ = self.look(|at| events::take(m, at, port));
        Ok(())
    }
}
