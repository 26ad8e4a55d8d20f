//! Carries out a case, step by step, and brings the world back.

mod cleanup;
mod events;
mod grants;
mod observe;
mod pages;
mod physmap;

use alloc::vec::Vec;

use kexen_abi::hypercall::Hypercall;
use kexen_guest::{Arg, Machine};

use crate::Digest;
use crate::op::Op;
use crate::world::World;

/// What came of one step: results, then what the guest sees afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Results of calls and structures that Xen wrote.
    pub results: Vec<u64>,
    /// What the guest can see.
    pub seen: Vec<u64>,
    /// Hypercalls made.
    pub calls: u32,
}

impl Outcome {
    fn call<M: Machine + ?Sized>(&mut self, m: &M, call: Hypercall, args: &mut [Arg<'_>]) -> i64 {
        let result = m.hypercall(call, args);
        self.calls += 1;
        self.results.push(result.cast_unsigned());
        result
    }

    /// A call whose result is not compared.
    fn quiet<M: Machine + ?Sized>(&mut self, m: &M, call: Hypercall, args: &mut [Arg<'_>]) -> i64 {
        self.calls += 1;
        m.hypercall(call, args)
    }

    /// Folds it into a digest.
    pub fn fold(&self, digest: &mut Digest) {
        for value in self.results.iter().chain(&self.seen) {
            digest.add(*value);
        }
    }
}

impl World {
    /// One step.
    fn step<M: Machine + ?Sized>(&mut self, m: &M, op: &Op) -> Outcome {
        let mut out = Outcome::default();
        match op {
            Op::MmuUpdate(..)
            | Op::VaMapping { .. }
            | Op::Extended(..)
            | Op::SetGdt { .. }
            | Op::Descriptor { .. } => self.page_step(m, op, &mut out),
            Op::Reservation { .. }
            | Op::Exchange { .. }
            | Op::MemoryQuestion(_)
            | Op::AddToPhysmap { .. }
            | Op::RemoveFromPhysmap(_) => self.physmap_step(m, op, &mut out),
            Op::GrantEntry(_)
            | Op::Map { .. }
            | Op::Unmap { .. }
            | Op::Copy { .. }
            | Op::GrantQuestion(_) => self.grant_step(m, op, &mut out),
            _ => self.event_step(m, op, &mut out),
        }
        self.observe(m, &mut out);
        out
    }
}

/// Carries out a case; one outcome a step, and the clean-up's at the end.
/// `keep` says which steps are carried out at all.
pub fn run_case<M: Machine + ?Sized>(
    m: &M,
    world: &mut World,
    ops: &[Op],
    keep: &dyn Fn(usize) -> bool,
    with: &mut dyn FnMut(usize, &Outcome),
) -> u64 {
    let mut calls = 0;
    // What earlier cases left charged is not this one's.
    world.charged = kexen_guest::hypercall::current_reservation(m).unwrap_or(0);
    for (n, op) in ops.iter().enumerate() {
        if keep(n) {
            let outcome = world.step(m, op);
            calls += u64::from(outcome.calls);
            with(n, &outcome);
        }
    }
    let mut outcome = Outcome::default();
    world.clean_up(m, &mut outcome);
    world.observe(m, &mut outcome);
    calls += u64::from(outcome.calls);
    with(ops.len(), &outcome);
    calls
}
