//! Block devices that are connected side by side.

use std::collections::BTreeMap;

use kexen_guest::block::{Block, Connecting, Io, Memory, NotConnected, Page, Problem};
use kexen_guest::references::References;
use kexen_guest::xenbus::{self, Closed, Device, XenbusState};
use kexen_guest::xenstore::{Session, Store, Why};
use kexen_model::{Machine, Vcpu};

use super::world::{World, ends};
use kexen_model::dom0::BlockFault as Fault;

/// The numbers of six devices, the first of which is there in any world.
pub(super) const NUMBERS: [u32; 6] = [51712, 51728, 51744, 51760, 51776, 51792];
/// One patience, in turns.
pub(super) const PATIENCE: u32 = 2000;
/// Turns in which one is connected that is well (24 where each request of the
/// store is waited for by itself).
const FEW: u32 = 16;
/// Turns in which all that are well have long been connected.
const SOON: u32 = 600;

/// Devices whose backends have these faults, in the order of [`NUMBERS`].
fn world(faults: &[Option<Fault>]) -> World {
    let world = World::with_others(&NUMBERS[1..faults.len()]);
    set_faults(&world, faults);
    world
}

/// Has the backends of a world have these faults from now on.
pub(super) fn set_faults(world: &World, faults: &[Option<Fault>]) {
    world.peers().backend.fault = faults[0];
    for (other, fault) in world.others().iter_mut().zip(&faults[1..]) {
        other.fault = *fault;
    }
}

/// The devices of these numbers, each with a ring of one page.
fn open<'r>(
    s: &mut Session<'_, Vcpu>,
    numbers: &[u32],
    rings: &'r [Page],
) -> Vec<(Device, Memory<'r>)> {
    let mut device = |(number, ring): (&u32, &'r [Page])| {
        let device = Device::open(s, "vbd", *number).unwrap();
        (device, Memory { ring, lists: &[] })
    };
    let each = numbers.iter().zip(rings.chunks(1));
    each.map(&mut device).collect()
}

/// What came of connecting them, one wait for all.
pub(super) struct Connected<'a> {
    world: &'a World,
    pub(super) store: Store,
    pub(super) references: References,
    pub(super) all: Vec<Result<Block, Box<NotConnected>>>,
    /// Turns until a device was waited for no more.
    until: BTreeMap<u32, u32>,
    /// Turns until all were done.
    took: u32,
}

impl<'a> Connected<'a> {
    pub(super) fn new(world: &'a World, numbers: &[u32]) -> Self {
        Self::within(world, numbers, PATIENCE, 0)
    }

    fn within(world: &'a World, numbers: &[u32], patience: u32, anew: u32) -> Self {
        let (mut store, mut references) = (world.store(), world.references());
        let mut time = world.time(patience);
        time.anew = anew;
        let mut s = store.on(&world.m, &mut time);
        let rings: Vec<Page> = (20..).take(numbers.len()).map(|n| world.page(n)).collect();
        let devices = open(&mut s, numbers, &rings);
        let start = world.turned.get();
        let mut connecting = Connecting::new(devices);
        let mut until = BTreeMap::new();
        let mut more = true;
        while more {
            more = connecting.step(&mut s, &mut references);
            let waits: Vec<u32> = connecting.waits_for().map(Device::number).collect();
            for number in numbers.iter().filter(|number| !waits.contains(number)) {
                until.entry(*number).or_insert(world.turned.get() - start);
            }
        }
        let took = world.turned.get() - start;
        let all = connecting.finish(&mut s, &mut references);
        assert_eq!(world.turned.get() - start, took);
        Self {
            world,
            store,
            references,
            all,
            until,
            took,
        }
    }

    fn problem(&self, n: usize) -> &NotConnected {
        self.all[n].as_ref().unwrap_err()
    }

    /// Those that are connected read what is their own, and close; the store is
    /// left as it was.
    fn works(mut self, numbers: &[u32]) {
        let page = self.world.page(40);
        let mut connected = Vec::new();
        for block in self.all.iter_mut().flatten() {
            connected.push(block.device().number());
            let mut time = self.world.time(200);
            let mut io = Io {
                m: &self.world.m as &dyn Machine,
                wait: &mut time,
                references: &mut self.references,
            };
            block.read(&mut io, 8, 8, &[page]).unwrap();
            let mut bytes = [0; 4096];
            self.world.m.read(page.address, &mut bytes).unwrap();
            assert_eq!(bytes[..], self.world.peers().backend.disk[4096..8192]);
            let mut time = self.world.time(500);
            let mut s = self.store.on(&self.world.m, &mut time);
            let closing = block.close(&mut s, &mut self.references);
            assert_eq!(closing.outcome, Ok(Closed::Ready));
            assert_eq!((closing.held, closing.port), (vec![], None));
        }
        assert_eq!(connected, numbers);
        self.leaves_nothing();
    }

    /// Nothing is granted, and the store is as it was.
    pub(super) fn leaves_nothing(&self) {
        for reference in 8..512 {
            let flags = self.world.grants.flags(&self.world.m, reference);
            assert_eq!(flags, Ok(0), "grant {reference}");
        }
        let daemon = &mut self.world.peers().daemon;
        daemon.turn();
        assert_eq!(daemon.watches, []);
        assert_eq!(daemon.open(), 0, "transactions");
    }
}

#[test]
fn no_device_waits_for_anothers_backend() {
    let world = world(&[
        Some(Fault::Still),
        Some(Fault::Late(7)),
        Some(Fault::Leaves),
        None,
        Some(Fault::Goes(6)),
        None,
    ]);
    let [_, garbage] = ends(NUMBERS[3]);
    let sectors = format!("{garbage}/sectors");
    world.peers().daemon.set(&sectors, "2^64");
    let connected = Connected::new(&world, &NUMBERS);
    // The deaf one and the one that does not come back from Closed have had one
    // patience between them, and cost the others nothing.
    assert!(connected.took <= PATIENCE, "{}", connected.took);
    for n in [1, 2, 3, 5] {
        let until = connected.until[&NUMBERS[n]];
        assert!(until < SOON, "device {n}: {until}");
    }
    let said = |n| connected.problem(n).error.to_string();
    assert_eq!(
        said(0),
        "device/vbd/51712: its backend in domain 0 is InitWait (2), \
         and did not come in time to Connected (4)"
    );
    assert_eq!(
        said(2),
        "device/vbd/51744: its backend in domain 0 is gone instead of Connected (4)"
    );
    assert!(said(3).contains("cannot be \"2^64\""), "{}", said(3));
    assert_eq!(
        said(4),
        "device/vbd/51776: its backend in domain 0 is Closed (6) instead of Connected (4)"
    );
    // Those that could not be brought to close keep their ports.
    for (n, open) in [(0, true), (2, false), (3, false), (4, true)] {
        let failed = connected.problem(n);
        assert_eq!(failed.held, [], "device {n}");
        assert_eq!(failed.port.is_some(), open, "device {n}");
    }
    connected.works(&[NUMBERS[1], NUMBERS[5]]);
}

/// Waits for the store are most of what a device costs that is well: what does
/// not need another's answer is asked for together.
#[test]
fn a_device_is_connected_in_a_few_waits() {
    let world = world(&[None]);
    let connected = Connected::new(&world, &NUMBERS[..1]);
    assert!(connected.took <= FEW, "{}", connected.took);
    connected.works(&NUMBERS[..1]);
}

#[test]
fn many_deaf_backends_cost_one_patience() {
    let world = world(&[Some(Fault::Still); 6]);
    let connected = Connected::new(&world, &NUMBERS);
    assert_eq!(connected.all.len(), 6);
    assert!(connected.took <= PATIENCE, "{}", connected.took);
    for (n, number) in NUMBERS.iter().enumerate() {
        let failed = connected.problem(n);
        assert_eq!(failed.error.device, format!("device/vbd/{number}"));
        assert!(matches!(
            failed.error.problem,
            Problem::Xenbus(xenbus::Problem::NotInTime {
                state: Some(XenbusState::INIT_WAIT),
                ..
            })
        ));
    }
    connected.works(&[]);
}

#[test]
fn results_are_in_the_order_of_the_devices() {
    // The later it stands, the sooner it is connected.
    let world = world(&[Some(Fault::Late(90)), Some(Fault::Late(50)), None]);
    for numbers in [&NUMBERS[..3], &[NUMBERS[1], NUMBERS[0], NUMBERS[2]]] {
        let connected = Connected::new(&world, numbers);
        assert!(connected.until[&NUMBERS[2]] < connected.until[&NUMBERS[0]]);
        connected.works(numbers);
    }
}

/// Where the store is so slow that the time does not do for all, it does for
/// those in front.
#[test]
fn what_is_begun_first_is_done_before_all_are_begun() {
    let world = world(&[Some(Fault::Late(20)); 6]);
    let connected = Connected::within(&world, &NUMBERS, 70, 0);
    let done: Vec<bool> = connected.all.iter().map(Result::is_ok).collect();
    assert_eq!(done[..2], [true, true]);
    assert!(!done[5]);
}

/// As long as one of them gets on, there is time; then it ends.
#[test]
fn progress_is_given_time() {
    let healthy = world(&[None; 6]);
    let connected = Connected::within(&healthy, &NUMBERS, 80, 80);
    assert!(connected.all.iter().all(Result::is_ok));
    assert!(connected.took > 80, "{} turns", connected.took);
    let mut faults = [None; 6];
    faults[3] = Some(Fault::Still);
    let with_a_deaf_one = world(&faults);
    let connected = Connected::within(&with_a_deaf_one, &NUMBERS, 80, 80);
    let done: Vec<bool> = connected.all.iter().map(Result::is_ok).collect();
    assert_eq!(done, [true, true, true, false, true, true]);
    assert!(connected.took < 6 * 80, "{} turns", connected.took);
}

#[test]
fn a_device_that_an_earlier_kernel_left_open_holds_nobody_up() {
    let world = world(&[Some(Fault::Still), None, None]);
    for end in ends(NUMBERS[0]) {
        world.peers().daemon.set(&format!("{end}/state"), "4");
    }
    // This one comes to close.
    let [front, back] = ends(NUMBERS[1]);
    world.peers().daemon.set(&format!("{front}/state"), "6");
    world.peers().daemon.set(&format!("{back}/state"), "5");
    let connected = Connected::new(&world, &NUMBERS[..3]);
    let failed = connected.problem(0);
    assert_eq!(
        failed.error.to_string(),
        "device/vbd/51712: its backend in domain 0 is Connected (4), \
         and did not come in time to Closing (5) or Closed (6)"
    );
    assert_eq!((&failed.held[..], failed.port), (&[][..], None));
    assert!(connected.until[&NUMBERS[1]] < SOON && connected.until[&NUMBERS[2]] < SOON);
    connected.works(&NUMBERS[1..3]);
}

#[test]
fn a_ring_that_is_kept_is_its_own_devices() {
    let world = world(&[None, Some(Fault::KeepsRing), None]);
    let [_, garbage] = ends(NUMBERS[1]);
    let sectors = format!("{garbage}/sectors");
    world.peers().daemon.set(&sectors, "0");
    let mut connected = Connected::new(&world, &NUMBERS[..3]);
    let failed = connected.all.remove(1).unwrap_err();
    let held: Vec<Page> = failed.held.iter().map(|granted| granted.page).collect();
    assert_eq!((held, failed.port), (vec![world.page(21)], None));
    // It lets go at last.
    for mapping in world.others()[0].kept.drain(..) {
        mapping.unmap().unwrap();
    }
    let reference = failed.held[0].reference;
    let ended = world.grants.try_end(&world.m, reference);
    assert_eq!(ended, Ok(kexen_guest::grants::End::Ended));
    connected.works(&[NUMBERS[0], NUMBERS[2]]);
}

#[test]
fn a_store_that_falls_silent_is_named_and_ends() {
    let world = world(&[None, Some(Fault::Still)]);
    let (mut store, mut references) = (world.store(), world.references());
    let mut time = world.time(PATIENCE);
    let mut s = store.on(&world.m, &mut time);
    let rings = [world.page(20), world.page(21)];
    let devices = open(&mut s, &NUMBERS[..2], &rings);
    world.peers().daemon.fault = Some(kexen_model::dom0::StoreFault::Silent);
    let failed = Connecting::new(devices).finish(&mut s, &mut references);
    assert_eq!(failed.len(), 2);
    for failed in failed {
        let failed = failed.unwrap_err();
        assert!(matches!(
            &failed.error.problem,
            Problem::Xenbus(xenbus::Problem::Store(error)) if error.why == Why::TimeOver
        ));
        assert_eq!((&failed.held[..], failed.port), (&[][..], None));
    }
}
