//! What every vCPU does all the time: it reads the clock, takes its timer's
//! and its neighbours' events, and writes and checks memory of its own.
//!
//! Memory shared with others: shared info, which Xen writes; it is reached
//! through [`Place::read`] alone, so that it can move meanwhile. Events are
//! taken by looking, not by upcalls, which a PVH guest could not unset.

use alloc::{boxed::Box, vec};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kexen_abi::{event_channel::VIRQ_TIMER, shared_info::VCPU_INFO_BYTES};
use kexen_guest::{Machine, clock, events, hypercall::sched_yield, shared_info::Place, vcpus};
use kexen_platform::{Xen, vcpus as platform};
use spin::Once;

/// vCPUs at most.
pub(crate) const MOST: usize = 32;

/// Where shared info is, for all vCPUs.
pub(crate) static PLACE: Once<Place> = Once::new();

/// Nanoseconds between two events of a vCPU's timer.
const PERIOD: u64 = 5_000_000;

/// What a vCPU has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) readings: AtomicU64,
    pub(crate) wrong: AtomicU64,
    pub(crate) timers: AtomicU64,
    pub(crate) ipis: AtomicU64,
    pub(crate) damaged: AtomicU64,
    timer_port: AtomicU32,
    ipi_port: AtomicU32,
}

/// One for each vCPU.
pub(crate) static SEEN: [Seen; MOST] = [const {
    Seen {
        readings: AtomicU64::new(0),
        wrong: AtomicU64::new(0),
        timers: AtomicU64::new(0),
        ipis: AtomicU64::new(0),
        damaged: AtomicU64::new(0),
        timer_port: AtomicU32::new(0),
        ipi_port: AtomicU32::new(0),
    }
}; MOST];

fn of(vcpu: u32) -> &'static Seen {
    let index = usize::try_from(vcpu).unwrap_or(0) % MOST;
    &SEEN[index]
}

/// Opens a vCPU's ports: timer and interrupts from other vCPUs.
pub(crate) fn open_ports(m: &Xen, vcpu: u32) -> Result<[u32; 2], kexen_guest::HypercallError> {
    let timer = events::bind_virq(m, VIRQ_TIMER, vcpu)?;
    let ipi = events::bind_ipi(m, vcpu)?;
    of(vcpu).timer_port.store(timer, Ordering::Release);
    of(vcpu).ipi_port.store(ipi, Ordering::Release);
    Ok([timer, ipi])
}

/// The work of one vCPU.
pub(crate) struct Worker {
    m: &'static Xen,
    vcpu: u32,
    last: u64,
    due: u64,
    round: u64,
    memory: Box<[u64]>,
}

impl Worker {
    pub(crate) fn new(m: &'static Xen, vcpu: u32) -> Self {
        Self {
            m,
            vcpu,
            last: 0,
            due: 0,
            round: 0,
            memory: vec![0; 2048].into_boxed_slice(),
        }
    }

    /// This vCPU's clock; `None` while shared info is not to be read.
    pub(crate) fn clock(&mut self) -> Option<u64> {
        let (m, vcpu) = (self.m, self.vcpu);
        let relax = || {
            platform::checkpoint(m, vcpu);
            sched_yield(m).is_ok()
        };
        let place = PLACE.get()?;
        let read = place.read(m, vcpu, &relax, |at| {
            let info = at + u64::from(vcpu) * VCPU_INFO_BYTES;
            let seen = of(vcpu);
            let take = |port: &AtomicU32| {
                let port = port.load(Ordering::Acquire);
                port != 0 && events::take(m, at, port).unwrap_or(false)
            };
            if take(&seen.timer_port) {
                seen.timers.fetch_add(1, Ordering::Relaxed);
            }
            if take(&seen.ipi_port) {
                seen.ipis.fetch_add(1, Ordering::Relaxed);
            }
            clock::now(m, info)
        });
        let seen = of(vcpu);
        seen.readings.fetch_add(1, Ordering::Relaxed);
        match read {
            Ok(Ok(now)) if now >= self.last => {
                self.last = now;
                Some(now)
            }
            _ => {
                seen.wrong.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// One round of work.
    pub(crate) fn round(&mut self) {
        let (m, vcpu) = (self.m, self.vcpu);
        self.round += 1;
        let now = self.clock();
        let seen = of(vcpu);
        if let Some(now) = now
            && now >= self.due
            && seen.timer_port.load(Ordering::Acquire) != 0
        {
            self.due = now + PERIOD;
            let _ = vcpus::set_timer(m, vcpu, self.due);
            // The neighbour on the right.
            let next = of(vcpu + 1).ipi_port.load(Ordering::Acquire);
            let first = of(0).ipi_port.load(Ordering::Acquire);
            let port = if next == 0 { first } else { next };
            if port != 0 {
                let _ = events::notify(m, port);
            }
        }
        let word = self.round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.memory.fill(word);
        if core::hint::black_box(&self.memory)
            .iter()
            .any(|found| *found != word)
        {
            seen.damaged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The vCPU that is to crash, and one more; 0 for none.
static CRASH: AtomicU32 = AtomicU32::new(0);

/// Has a vCPU crash, and all others be stuck for good.
pub(crate) fn crash_on(m: &'static Xen, vcpu: u32) -> ! {
    CRASH.store(vcpu + 1, Ordering::Release);
    stuck_or_crash(m, 0)
}

fn stuck_or_crash(m: &'static Xen, vcpu: u32) -> ! {
    if CRASH.load(Ordering::Acquire) == vcpu + 1 {
        // All others are to be stuck by now.
        let start = m.tsc();
        while m.tsc().wrapping_sub(start) < 1_000_000_000 {
            core::hint::spin_loop();
        }
        kexen_platform::arch::heap::keep_locked();
        panic!("a crash on purpose, on vCPU {vcpu}");
    }
    loop {
        core::hint::spin_loop();
    }
}

/// The life of a vCPU but the first.
pub(crate) fn run(m: &'static Xen, vcpu: u32) -> ! {
    let mut worker = Worker::new(m, vcpu);
    loop {
        if CRASH.load(Ordering::Acquire) != 0 {
            stuck_or_crash(m, vcpu);
        }
        platform::checkpoint(m, vcpu);
        worker.round();
    }
}
