//! Further vCPUs: started, parked, let on again.
//!
//! Order of steps of a start: a stack, the context (`VCPUOP_initialise`), up;
//! the vCPU says that it has come, with its APIC's identifier. Order of a
//! park: the hand-off asks; each vCPU comes to [`checkpoint`] by itself and
//! stays there, with a locked write that says so; one that does not come in
//! time is named. Parked vCPUs can be let on; what cannot be undone (INIT)
//! comes with the release of the hand-off.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kexen_abi::errno::Errno;
use kexen_guest::{
    Machine, events,
    hypercall::{nap, poll_until, runstate},
    release::close_port,
    vcpus::{self, Context64},
};
use spin::Once;

use crate::{
    arch::{Xen, machine, vcpu},
    lapic,
    native::{Native as _, VcpuError},
};

/// More vCPUs than these are not started.
pub const MOST: usize = 128;

/// Xen numbers local APICs so (`vlapic_init` in `arch/x86/hvm/vlapic.c`).
const APIC_IDS_PER_VCPU: u32 = 2;

/// What a vCPU is doing.
const NEVER: u32 = 0;
const RUNS: u32 = 1;
const PARKED: u32 = 2;

struct Slot {
    state: AtomicU32,
    apic_id: AtomicU32,
    main: Once<fn(&'static Xen, u32) -> !>,
}

impl Slot {
    fn is(&self, state: u32) -> bool {
        self.state.load(Ordering::Acquire) == state
    }
}

static SLOTS: [Slot; MOST] = [const {
    Slot {
        state: AtomicU32::new(NEVER),
        apic_id: AtomicU32::new(u32::MAX),
        main: Once::new(),
    }
}; MOST];

static PARK: AtomicBool = AtomicBool::new(false);

/// Starts a vCPU of a translated guest in `main`, and waits until it is there.
pub fn start(
    m: &'static Xen,
    number: u32,
    main: fn(&'static Xen, u32) -> !,
) -> Result<(), VcpuError> {
    let slot = claim(number, main)?;
    let context = Context64 {
        rip: vcpu::entry(m),
        rsp: vcpu::stack(),
        rdi: number.into(),
        cr3: vcpu::cr3(),
    };
    match vcpus::initialise(m, number, &context) {
        // The firmware of an HVM guest has had it: as new, then.
        Err(error) if error.errno == Errno::EEXIST => {
            lapic::init(m, number * APIC_IDS_PER_VCPU)?;
            vcpus::initialise(m, number, &context)?;
        }
        other => other?,
    }
    come_up(m, number, slot)
}

/// The same for a PV guest, on the page tables with this L4 frame. Nothing
/// can take the vCPU's context back: it blocks every hand-off from then on.
pub fn start_pv(
    m: &'static Xen,
    number: u32,
    root: u64,
    main: fn(&'static Xen, u32) -> !,
) -> Result<(), VcpuError> {
    let slot = claim(number, main)?;
    let context = vcpus::pv_context(vcpu::entry(m), vcpu::stack(), number.into(), root);
    vcpus::initialise_pv(m, number, &context)?;
    come_up(m, number, slot)
}

fn claim(number: u32, main: fn(&'static Xen, u32) -> !) -> Result<&'static Slot, VcpuError> {
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    let slot = SLOTS.get(index).ok_or(VcpuError::Taken(number))?;
    if slot.main.is_completed() {
        return Err(VcpuError::Taken(number));
    }
    slot.main.call_once(|| main);
    Ok(slot)
}

fn come_up(m: &Xen, number: u32, slot: &Slot) -> Result<(), VcpuError> {
    vcpus::up(m, number)?;
    wait(m, || slot.is(RUNS))
        .then_some(())
        .ok_or(VcpuError::Silent(number))
}

/// What a vCPU does first.
pub(crate) fn run(number: u32) -> ! {
    let m = machine::in_panic();
    if let Some(slot) = usize::try_from(number).ok().and_then(|n| SLOTS.get(n))
        && let Some(main) = slot.main.get()
    {
        slot.apic_id.store(vcpu::apic_id(), Ordering::Release);
        slot.state.swap(RUNS, Ordering::AcqRel);
        ring(m);
        main(m, number)
    }
    machine::halt()
}

/// Nanoseconds that a parked vCPU leaves its processor to others.
const PARKED_FOR: u64 = 20_000_000;

/// Ticks of patience: a few seconds on any processor.
const PATIENCE: u64 = 20_000_000_000;

/// The port on which a vCPU that has come, or is parked, rings; 0 if nobody
/// waits.
static BELL: AtomicU32 = AtomicU32::new(0);
/// Where the port is for Xen to read, in the scratch page.
const LIST: u64 = 768;
/// A ring that was lost costs no more than this, in nanoseconds.
const AT_MOST: u64 = 200_000_000;

/// Waits for other vCPUs, on vCPU 0, without using the processor that they may
/// need. Order of steps: a new port, which is not pending; say which it is;
/// look; block. A vCPU says what it did before it asks which port to ring, so
/// one of the two sees the other.
fn wait(m: &Xen, done: impl Fn() -> bool) -> bool {
    let start = m.tsc();
    if done() {
        return true;
    }
    loop {
        let bell = events::bind_ipi(m, 0).unwrap_or(0);
        BELL.swap(bell, Ordering::AcqRel);
        let found = done();
        if !found && bell != 0 {
            let list = m.scratch() + LIST;
            let until = runstate(m).map_or(1, |info| info.state_entry_time + AT_MOST);
            let _ = m.write(list, &bell.to_le_bytes());
            let _ = poll_until(m, list, 1, until);
        }
        BELL.swap(0, Ordering::AcqRel);
        if bell != 0 {
            let _ = close_port(m, bell);
        }
        if found || done() {
            return true;
        }
        if m.tsc().wrapping_sub(start) > PATIENCE {
            return false;
        }
        if bell == 0 {
            let _ = nap(m, PARKED_FOR);
        }
    }
}

/// Tells a vCPU that waits.
fn ring(m: &Xen) {
    let bell = BELL.load(Ordering::Acquire);
    if bell != 0 {
        // It may be gone by now: then nobody waits.
        let _ = events::notify(m, bell);
    }
}

/// Whether a park is asked for: then a vCPU has to come to [`checkpoint`].
#[must_use]
pub fn asked_to_park() -> bool {
    PARK.load(Ordering::Acquire)
}

/// Stays here while a park is asked for. A vCPU calls this where it holds no
/// lock and uses nothing that the hand-off gives up.
pub fn checkpoint(m: &Xen, number: u32) {
    if !asked_to_park() {
        return;
    }
    let Some(slot) = usize::try_from(number).ok().and_then(|n| SLOTS.get(n)) else {
        return;
    };
    slot.state.swap(PARKED, Ordering::AcqRel);
    ring(m);
    while asked_to_park() {
        // INIT ends this, or the hand-off that is not made.
        let _ = nap(m, PARKED_FOR);
    }
    slot.state.swap(RUNS, Ordering::AcqRel);
    ring(m);
}

/// Has all other vCPUs that were started come to their checkpoints. If one
/// does not in time, they are let on and it is named.
pub fn park(m: &Xen) -> Result<(), VcpuError> {
    PARK.store(true, Ordering::Release);
    let running = || (0..).zip(&SLOTS).find(|(_, slot)| slot.is(RUNS));
    if wait(m, || running().is_none()) {
        return Ok(());
    }
    let late = running().map_or(0, |(number, _)| number);
    unpark(m);
    Err(VcpuError::Unparked(late))
}

/// Lets parked vCPUs on, and waits until they run.
pub fn unpark(m: &Xen) {
    PARK.store(false, Ordering::Release);
    let _ = wait(m, || !SLOTS.iter().any(|slot| slot.is(PARKED)));
}

/// The vCPUs that were started here.
pub fn started() -> impl Iterator<Item = u32> {
    (0..)
        .zip(&SLOTS)
        .filter(|(_, slot)| slot.state.load(Ordering::Acquire) != NEVER)
        .map(|(number, _)| number)
}

/// Makes a vCPU as new by INIT; whether its APIC was known and took it.
pub fn init(m: &Xen, number: u32) -> bool {
    let Some(slot) = usize::try_from(number).ok().and_then(|n| SLOTS.get(n)) else {
        return false;
    };
    let id = slot.apic_id.load(Ordering::Acquire);
    id != u32::MAX && lapic::init(m, id).is_ok()
}
