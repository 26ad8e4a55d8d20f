//! Devices on their ways from one state to another, one or several side by side
//! in the time of one wait.
//!
//! Order of steps: each goes as far as it can without its backend; then all
//! backends are waited for together, by the watches on their states. A backend
//! that does not answer costs the others nothing.

use alloc::vec::Vec;
use core::{fmt::Debug, task::Poll};

use crate::{
    Machine,
    xenstore::{Session, StoreError},
};

/// What is done with a device, with waits for its backend in between.
pub(crate) trait Course {
    /// What it needs beside the store.
    type Context: ?Sized;
    /// What comes of it.
    type Outcome: Debug;
    /// The rank of one that is over.
    const END: u32;

    /// Goes on until the backend has to be waited for.
    fn poll<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        context: &mut Self::Context,
    ) -> Poll<Self::Outcome>;

    /// How far it has got: that only ever grows.
    fn rank(&self) -> u32;

    /// What the watch is set with that it waits for.
    fn token(&self) -> &str;

    /// The wait is over, by its time or by an error.
    fn give_up<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        context: &mut Self::Context,
        error: StoreError,
    ) -> Self::Outcome;
}

/// The course of one device, to its end.
pub(crate) fn alone<C: Course, M: Machine + ?Sized>(
    mut one: C,
    s: &mut Session<'_, M>,
    context: &mut C::Context,
) -> C::Outcome {
    let mut rests = 0;
    loop {
        if let Poll::Ready(outcome) = one.poll(s, context) {
            return outcome;
        }
        if let Err(error) = s.rest([one.token()].into_iter(), &mut rests) {
            return one.give_up(s, context, error);
        }
    }
}

/// The courses of several devices.
///
/// No device may be among them twice. Each has one of the 32 watches of a
/// connection to the store while its backend is waited for.
#[derive(Debug)]
pub(crate) struct SideBySide<C: Course> {
    all: Vec<State<C>>,
    /// How many have been begun.
    begun: usize,
    rests: u32,
    /// How far all had got when that was last told to the wait.
    rank: u32,
}

#[derive(Debug)]
enum State<C: Course> {
    Underway(C),
    Over(C::Outcome),
}

impl<C: Course> State<C> {
    fn rank(&self) -> u32 {
        self.underway().map_or(C::END, C::rank)
    }

    const fn underway(&self) -> Option<&C> {
        match self {
            Self::Underway(one) => Some(one),
            Self::Over(_) => None,
        }
    }
}

impl<C: Course> SideBySide<C> {
    /// Nothing is done yet.
    pub(crate) fn new(courses: impl IntoIterator<Item = C>) -> Self {
        Self {
            all: courses.into_iter().map(State::Underway).collect(),
            begun: 0,
            rests: 0,
            rank: 0,
        }
    }

    /// Has each go as far as it can, and then waits once, for all of them;
    /// whether there are any left to wait for. At the end of the wait's time
    /// there are none. The wait is told when one has got further.
    pub(crate) fn step<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        context: &mut C::Context,
    ) -> bool {
        // Those in front go on before one more is begun: where the store is slow,
        // the first devices need not wait until all have been.
        for until in self.begun.max(1)..=self.all.len() {
            for state in self.all.iter_mut().take(until) {
                if let State::Underway(one) = state
                    && let Poll::Ready(outcome) = one.poll(s, context)
                {
                    *state = State::Over(outcome);
                }
            }
            let rank = self.all.iter().map(State::rank).sum();
            if rank > self.rank {
                self.rank = rank;
                s.progress();
            }
        }
        self.begun = self.all.len();
        let underway = self.all.iter().filter_map(State::underway);
        let mut tokens = underway.map(C::token).peekable();
        if tokens.peek().is_none() {
            return false;
        }
        let Err(error) = s.rest(tokens, &mut self.rests) else {
            return true;
        };
        for state in &mut self.all {
            if let State::Underway(one) = state {
                *state = State::Over(one.give_up(s, context, error.clone()));
            }
        }
        false
    }

    /// Those whose backends are waited for.
    pub(crate) fn underway(&self) -> impl Iterator<Item = &C> {
        self.all.iter().filter_map(State::underway)
    }

    /// Waits for those that are left: what came of each, in the order in which
    /// they were given.
    pub(crate) fn finish<M: Machine + ?Sized>(
        mut self,
        s: &mut Session<'_, M>,
        context: &mut C::Context,
    ) -> Vec<C::Outcome> {
        while self.step(s, context) {}
        let over = |state| match state {
            State::Over(outcome) => Some(outcome),
            State::Underway(_) => None,
        };
        self.all.into_iter().filter_map(over).collect()
    }
}
