//! The hand-off of a kernel in full swing.
//!
//! Order of steps:
//! 1. [`check`]: what will stand in the way for certain. Nothing is changed.
//! 2. The next kernel is loaded and staged ([`Guest::hand_off`]); a second
//!    look at the ledger finds what came up meanwhile.
//! 3. Quiesce: [`Swing::quiesce`] stops what the kernel does, so that it can
//!    go on: other vCPUs are parked, frontends closed.
//! 4. Release: the ledger gives up every claim; what stays is a blocker, and
//!    [`Swing::resume`] puts back what was stopped.
//! 5. Jump.
//!
//! Until the release nothing has happened that cannot be undone.

use alloc::{format, string::String, vec::Vec};
use core::{cell::RefCell, convert::Infallible};

use kexen_abi::sched::SHUTDOWN_SOFT_RESET;
use kexen_guest::{
    Extents, Machine,
    abandon::{self, Page},
    grants::Grants,
    hypercall,
};
use kexen_handoff::{
    HandoffError, Ledger,
    ledger::{Kind, Tools},
};

use crate::{
    arch::{Xen, machine},
    guest::{Guest, Outcome, Ready},
    vcpus,
};

/// What a kernel does beside its hand-off, and how it stops.
pub trait Swing {
    /// Stops the kernel's own doings, so that they could go on: parks vCPUs,
    /// closes frontends and strikes their claims. An error is the list of
    /// what does not stop, each with its holder and what to do.
    fn quiesce(&mut self, m: &'static Xen, ledger: &mut Ledger) -> Result<(), Vec<String>> {
        let _ = ledger;
        vcpus::park(m).map_err(|error| alloc::vec![format!("{error}")])
    }

    /// Has everything go on that [`Self::quiesce`] stopped.
    fn resume(&mut self, m: &'static Xen, ledger: &mut Ledger) {
        let _ = ledger;
        vcpus::unpark(m);
    }

    /// The grant table, where it is set up.
    fn grants(&self) -> Option<Grants> {
        None
    }

    /// Whether a toolstack's soft reset is to undo what nothing else can. For
    /// HVM guests alone.
    fn soft_reset(&self) -> bool {
        false
    }

    /// Kinds of claim that are kept, for an omission test alone.
    fn omit(&self, kind: Kind) -> bool {
        let _ = kind;
        false
    }

    /// Runs when the next kernel is written: `free` is memory that neither it
    /// nor this kernel uses.
    fn staged(&mut self, m: &'static Xen, free: &Extents) {
        let _ = (m, free);
    }

    /// Runs right before the last instructions, when nothing can fail any
    /// more. `command_line_at` is where the next kernel's command line is.
    fn at_jump(&mut self, m: &'static Xen, times: &Times, command_line_at: u64) {
        let _ = (m, times, command_line_at);
    }
}

/// When each phase of a hand-off ended, by the time stamp counter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// It began.
    pub start: u64,
    /// Everything is written.
    pub staged: u64,
    /// The kernel's doings have stopped.
    pub quiesced: u64,
    /// Every claim is given up.
    pub released: u64,
}

/// What would stand in the way of a hand-off for certain, right now. Ask
/// before loading a kernel: nothing is changed by it.
pub fn check<G: Guest>(guest: &mut G, swing: &dyn Swing) -> Result<(), HandoffError> {
    let m = guest.machine();
    let found = guest
        .ledger()
        .blockers_now(m, swing.grants(), swing.soft_reset())?;
    if found.is_empty() {
        Ok(())
    } else {
        Err(HandoffError::Blocked(found))
    }
}

/// Hands over; comes back only with the reason why not, and with everything
/// that was stopped going on again.
pub fn exec<G: Guest>(
    guest: &mut G,
    swing: &mut dyn Swing,
    kernel: &Ready<'_>,
) -> Result<Infallible, HandoffError> {
    let m = guest.machine();
    let mut times = Times {
        start: m.tsc(),
        ..Times::default()
    };
    check(guest, swing)?;
    let mut line = 0;
    let cell = RefCell::new((&mut *swing, &mut times, &mut line));
    guest.hand_off(
        kernel,
        &mut |guest: &mut G, outcome: Outcome| {
            let mut borrowed = cell.borrow_mut();
            let (swing, times, line) = &mut *borrowed;
            **line = outcome.command_line_at;
            times.staged = m.tsc();
            swing.staged(m, guest.free());
            let result = stop(guest, *swing, times);
            if result.is_err() {
                let ledger = guest.ledger();
                swing.resume(m, ledger);
            }
            result
        },
        &mut || {
            let mut borrowed = cell.borrow_mut();
            let (swing, times, line) = &mut *borrowed;
            swing.at_jump(m, times, **line);
        },
    )
}

/// Quiesce and release.
fn stop<G: Guest>(
    guest: &mut G,
    swing: &mut dyn Swing,
    times: &mut Times,
) -> Result<(), HandoffError> {
    let m = guest.machine();
    check(guest, swing)?;
    let kept = guest.jump_gives_up();
    // The ledger is looked at while the guest's memory changes.
    let mut ledger = core::mem::take(guest.ledger());
    let result = release(guest, swing, &mut ledger, times);
    *guest.ledger() = ledger;
    result?;
    let ledger = guest.ledger();
    let done: Vec<Kind> = ledger.claims().iter().map(|claim| claim.kind).collect();
    for kind in done {
        // A mapping goes with the page tables that have it.
        if swing.omit(kind) || matches!(kind, Kind::SharedInfoMapping { .. }) {
            ledger.strike(kind);
        }
    }
    times.released = m.tsc();
    let blockers = ledger.blockers(&kept);
    if blockers.is_empty() {
        Ok(())
    } else {
        Err(HandoffError::Blocked(blockers))
    }
}

/// Gives up everything in the ledger that can be.
fn release<G: Guest>(
    guest: &mut G,
    swing: &mut dyn Swing,
    ledger: &mut Ledger,
    times: &mut Times,
) -> Result<(), HandoffError> {
    let m = guest.machine();
    swing.quiesce(m, ledger).map_err(HandoffError::Blocked)?;
    times.quiesced = m.tsc();
    let init = |vcpu| vcpus::init(m, vcpu);
    let guest = RefCell::new(guest);
    let refill = |number| {
        let mut guest = guest.borrow_mut();
        let page = Page {
            number,
            address: guest.address(number),
        };
        let mut memory = guest.memory_to_abandon();
        abandon::refill(m, &mut memory, page, machine::scratch()).is_ok()
    };
    let tools = Tools {
        scratch: machine::scratch(),
        grants: swing.grants(),
        init: (!m.is_pv()).then_some(&init),
        refill: Some(&refill),
        omit: &|kind| swing.omit(kind),
    };
    ledger.give_up(m, &tools)?;
    if swing.soft_reset() {
        hypercall::shutdown(m, SHUTDOWN_SOFT_RESET)?;
        ledger.strike_soft_reset();
    }
    Ok(())
}
