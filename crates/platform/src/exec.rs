//! The hand-off of a kernel in full swing.
//!
//! Order of steps:
//! 1. [`check`]: what will stand in the way for certain. Nothing is changed.
//!    Ballooned pages get their memory back, or are left out of the memory map.
//! 2. The next kernel is loaded and staged ([`Guest::stage`]); a second
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
    ledger::{Hopes, Kind, Tools},
};

use crate::{
    guest::{Guest, Ready, Staged},
    native::Native,
};

/// What a kernel does beside its hand-off, and how it stops.
pub trait Swing<M: Native> {
    /// Stops the kernel's own doings, so that they could go on: parks vCPUs,
    /// closes frontends and strikes their claims. An error is the list of
    /// what does not stop, each with its holder and what to do.
    fn quiesce(&mut self, m: &'static M, ledger: &mut Ledger) -> Result<(), Vec<String>> {
        let _ = ledger;
        m.park_vcpus()
            .map_err(|error| alloc::vec![format!("{error}")])
    }

    /// Has everything go on that [`Self::quiesce`] stopped.
    fn resume(&mut self, m: &'static M, ledger: &mut Ledger) {
        let _ = ledger;
        m.unpark_vcpus();
    }

    /// The grant table, where it is set up.
    fn grants(&self) -> Option<Grants> {
        None
    }

    /// How long to wait for backends that have grants mapped, in nanoseconds.
    fn patience(&self) -> u64 {
        0
    }

    /// Whether pages whose grants stay mapped are abandoned to the backend, and
    /// given other memory (`kexen_guest::abandon`). Grants of the first frame
    /// of the table are not: the next kernel would use their references. Nor is
    /// anything in a guest that is populated on demand.
    fn abandon(&self) -> bool {
        false
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
    fn staged(&mut self, m: &'static M, free: &Extents) {
        let _ = (m, free);
    }

    /// Runs right before the last instructions, when nothing can fail any
    /// more. `command_line_at` is where the next kernel's command line is.
    fn at_jump(&mut self, m: &'static M, times: &Times, command_line_at: u64) {
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
pub fn check<G: Guest>(guest: &mut G, swing: &dyn Swing<G::M>) -> Result<(), HandoffError> {
    let m = guest.machine();
    let hopes = Hopes {
        soft_reset: swing.soft_reset(),
        wait: swing.patience() > 0,
        abandon: may_abandon(guest, swing),
    };
    let found = guest
        .ledger()
        .blockers_now(m, swing.grants(), hopes, &|kind| swing.omit(kind))?;
    if found.is_empty() {
        Ok(())
    } else {
        Err(HandoffError::Blocked(found))
    }
}

/// Whether pages are abandoned to backends. Not where Xen populates on demand:
/// what such a guest gives back goes to its cache as it is
/// (`decrease_reservation` in `arch/x86/mm/p2m-pod.c`), and comes back as another
/// page, with the backend still writing to it.
fn may_abandon<G: Guest>(guest: &G, swing: &dyn Swing<G::M>) -> bool {
    swing.abandon() && guest.on_demand().is_none()
}

/// Hands over; comes back only with the reason why not, and with everything
/// that was stopped going on again.
pub fn exec<G: Guest>(
    guest: &mut G,
    swing: &mut dyn Swing<G::M>,
    kernel: &Ready<'_>,
) -> Result<Infallible, HandoffError> {
    let m = guest.machine();
    let mut times = Times {
        start: m.tsc(),
        ..Times::default()
    };
    check(guest, swing)?;
    fill_holes(guest, swing);
    let mut staged = Staged::new(guest, kernel)?;
    swing.staged(m, staged.guest().free());
    times.staged = m.tsc();
    if let Err(error) = stop(staged.guest(), swing, &mut times) {
        swing.resume(m, staged.guest().ledger());
        return Err(error);
    }
    let line = staged.outcome().command_line_at;
    let released = staged.release()?;
    swing.at_jump(m, &times, line);
    released.jump()
}

/// Gives ballooned pages their memory back, while the next kernel's memory map
/// can still be changed: where Xen has none, the page is left out of it.
fn fill_holes<G: Guest>(guest: &mut G, swing: &dyn Swing<G::M>) {
    let m = guest.machine();
    let kinds: Vec<Kind> = guest.ledger().claims().iter().map(|c| c.kind).collect();
    for kind in kinds {
        let Kind::Hole { page: number } = kind else {
            continue;
        };
        if swing.omit(kind) {
            continue;
        }
        let page = Page {
            number,
            address: guest.address(number),
        };
        let mut memory = guest.memory_to_abandon();
        let filled = abandon::refill(m, &mut memory, page, m.scratch()).is_ok();
        if filled || guest.leave_out(number) {
            guest.ledger().strike(kind);
        }
    }
}

/// Quiesce and release: what [`exec`] does when everything is written, for a
/// kernel that goes its own way to the jump.
pub fn stop<G: Guest>(
    guest: &mut G,
    swing: &mut dyn Swing<G::M>,
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
    swing: &mut dyn Swing<G::M>,
    ledger: &mut Ledger,
    times: &mut Times,
) -> Result<(), HandoffError> {
    let m = guest.machine();
    swing.quiesce(m, ledger).map_err(HandoffError::Blocked)?;
    times.quiesced = m.tsc();
    grants(guest, swing, ledger)?;
    let init = |vcpu| m.init_vcpu(vcpu);
    let guest = RefCell::new(guest);
    let refill = |number| {
        let mut guest = guest.borrow_mut();
        let page = Page {
            number,
            address: guest.address(number),
        };
        let mut memory = guest.memory_to_abandon();
        abandon::refill(m, &mut memory, page, m.scratch()).is_ok()
    };
    let tools = Tools {
        scratch: m.scratch(),
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

/// Ends all grants, before anything is given up that could not be put back:
/// waits for backends, and abandons what they keep if that is asked for.
fn grants<G: Guest>(
    guest: &mut G,
    swing: &dyn Swing<G::M>,
    ledger: &mut Ledger,
) -> Result<(), HandoffError> {
    let m = guest.machine();
    let Some(table) = swing.grants() else {
        return Ok(());
    };
    let omitted = |kind: &Kind| swing.omit(*kind);
    let held = |ledger: &Ledger| -> Vec<Kind> {
        let kinds = ledger.claims().iter().map(|claim| claim.kind);
        kinds
            .filter(|kind| matches!(kind, Kind::Grant { .. }) && !omitted(kind))
            .collect()
    };
    if held(ledger).is_empty() {
        return Ok(());
    }
    // What this kernel maps of its own grants is in its own way.
    ledger.unmap_foreign(m, &|kind| swing.omit(kind))?;
    let until = now(m)?.saturating_add(swing.patience());
    while ledger.end_grants(m, table)? > 0 && now(m)? < until {
        hypercall::sched_yield(m)?;
    }
    for kind in held(ledger) {
        let Kind::Grant { reference, page } = kind else {
            continue;
        };
        if !may_abandon(guest, swing) || reference < Grants::PER_FRAME {
            continue;
        }
        let page = Page {
            number: page,
            address: guest.address(page),
        };
        let mut memory = guest.memory_to_abandon();
        if abandon::abandon(m, &mut memory, page, m.scratch()).is_ok() {
            ledger.strike(kind);
        }
    }
    let left = held(ledger);
    if left.is_empty() {
        return Ok(());
    }
    let claims = ledger.claims().iter();
    let blockers = claims.filter(|claim| left.contains(&claim.kind));
    Err(HandoffError::Blocked(
        blockers.map(|claim| format!("{claim}")).collect(),
    ))
}

/// Nanoseconds since this vCPU was made.
fn now<M: Native>(m: &M) -> Result<u64, HandoffError> {
    Ok(hypercall::runstate(m)?.time.iter().sum())
}
