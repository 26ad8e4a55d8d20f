//! Block devices that are closed side by side.

use kexen_guest::block::{Block, Closing, Io, Operation, Page, close_all};
use kexen_guest::grants::End;
use kexen_guest::xenbus::Closed;
use kexen_model::Machine;

use super::connecting::{Connected, NUMBERS, PATIENCE, set_faults};
use super::world::World;
use kexen_model::dom0::BlockFault as Fault;

/// All devices connected, and what there was when the backends had these faults.
struct Open<'a> {
    world: &'a World,
    connected: Connected<'a>,
}

impl<'a> Open<'a> {
    fn new(world: &'a World) -> Self {
        let connected = Connected::new(world, &NUMBERS);
        Self { world, connected }
    }

    /// Reads that nobody waits for before the device is closed.
    fn submit(&mut self, n: usize, pages: &[Page]) {
        let mut time = self.world.time(PATIENCE);
        let mut io = Io {
            m: &self.world.m as &dyn Machine,
            wait: &mut time,
            references: &mut self.connected.references,
        };
        let block = self.connected.all[n].as_mut().unwrap();
        for page in pages {
            block
                .submit(&mut io, Operation::Read, 0, 8, &[*page])
                .unwrap();
        }
    }

    /// Closes all; what came of each, and how many turns it took.
    fn close(&mut self, anew: u32) -> (Vec<Closing>, u32) {
        let mut time = self.world.time(PATIENCE);
        time.anew = anew;
        let start = self.world.turned.get();
        let mut s = self.connected.store.on(&self.world.m, &mut time);
        let mut blocks: Vec<&mut Block> = self.connected.all.iter_mut().flatten().collect();
        let closings = close_all(&mut s, &mut self.connected.references, &mut blocks, &mut []);
        (closings, self.world.turned.get() - start)
    }
}

#[test]
fn no_device_waits_for_anothers_backend() {
    let world = World::with_others(&NUMBERS[1..]);
    let mut open = Open::new(&world);
    let faults = [
        Some(Fault::Still),
        None,
        Some(Fault::Vanishes),
        Some(Fault::KeepsRing),
        Some(Fault::Still),
        Some(Fault::Late(7)),
    ];
    set_faults(&world, &faults);
    let (closings, took) = open.close(0);
    // The two that stand still have one patience between them.
    assert!(took <= PATIENCE, "{took}");
    let said = |n: usize| closings[n].outcome.as_ref().unwrap_err().to_string();
    for (n, number) in [(0, NUMBERS[0]), (4, NUMBERS[4])] {
        assert_eq!(
            said(n),
            format!(
                "device/vbd/{number}: its backend in domain 0 is Connected (4), \
                 and did not come in time to Closing (5) or Closed (6)"
            )
        );
        assert_eq!(closings[n].held.len(), 1);
        assert!(closings[n].port.is_some());
    }
    for (n, closed) in [
        (1, Closed::Ready),
        (2, Closed::Gone),
        (3, Closed::Ready),
        (5, Closed::Ready),
    ] {
        assert_eq!(closings[n].outcome, Ok(closed), "device {n}");
        assert_eq!(closings[n].port, None, "device {n}");
        assert_eq!(closings[n].held.len(), usize::from(n == 3), "device {n}");
    }
    assert_eq!(closings[3].held[0].page, world.page(23));
    // They do their part at last, and it is asked for once more.
    set_faults(&world, &[None; 6]);
    for other in world.others().iter_mut() {
        for mapping in other.kept.drain(..) {
            mapping.unmap().unwrap();
        }
    }
    let (closings, _) = open.close(0);
    for (n, closing) in closings.iter().enumerate() {
        let is_gone = n == 2;
        assert!(closing.outcome.is_ok(), "device {n}: {closing:?}");
        assert_eq!(closing.outcome == Ok(Closed::Gone), is_gone);
        assert_eq!((&closing.held[..], closing.port), (&[][..], None));
    }
    open.connected.leaves_nothing();
}

/// What has closed is not asked to close once more: a backend that waits for a
/// new frontend need not know what to do then.
#[test]
fn what_has_closed_is_not_closed_again() {
    let world = World::with_others(&NUMBERS[1..]);
    let mut open = Open::new(&world);
    set_faults(&world, &[None, Some(Fault::KeepsRing)]);
    let (closings, _) = open.close(0);
    assert_eq!(closings[1].outcome, Ok(Closed::Ready));
    assert_eq!(closings[1].held.len(), 1);
    set_faults(&world, &[Some(Fault::Still); 6]);
    let (closings, took) = open.close(0);
    assert!(took < PATIENCE, "{took}");
    for (n, closing) in closings.iter().enumerate() {
        assert_eq!(closing.outcome, Ok(Closed::Ready), "device {n}");
        assert_eq!(closing.held.len(), usize::from(n == 1), "device {n}");
    }
}

/// Requests that are never answered cost one patience for all devices, and
/// closing them has its own.
#[test]
fn what_is_in_flight_is_waited_for_once() {
    let world = World::with_others(&NUMBERS[1..]);
    let mut open = Open::new(&world);
    let mut faults = [None; 6];
    (faults[1], faults[4]) = (Some(Fault::NoAnswer), Some(Fault::NoAnswer));
    set_faults(&world, &faults);
    let pages: Vec<Page> = (40..52).map(|n| world.page(n)).collect();
    for (n, pages) in pages.chunks(2).enumerate() {
        open.submit(n, pages);
    }
    let (closings, took) = open.close(PATIENCE);
    assert!(took >= PATIENCE, "{took}");
    assert!(took < 2 * PATIENCE, "{took}");
    for (n, closing) in closings.iter().enumerate() {
        assert_eq!(closing.outcome, Ok(Closed::Ready), "device {n}");
        assert_eq!((&closing.held[..], closing.port), (&[][..], None));
    }
    open.connected.leaves_nothing();
}

/// It has the ring when it is given up, and lets go when it is told to; not
/// before.
#[test]
fn a_backend_that_is_too_late_is_told_to_let_go() {
    let world = World::with_others(&NUMBERS[1..2]);
    set_faults(&world, &[None, Some(Fault::Mute)]);
    let mut connected = Connected::new(&world, &NUMBERS[..2]);
    let mut failed = connected.all.remove(1).unwrap_err();
    let held = failed.held[0];
    assert_eq!(held.page, world.page(21));
    let mut block = connected.all.remove(0).unwrap();
    let mut time = world.time(PATIENCE);
    let mut s = connected.store.on(&world.m, &mut time);
    let ends = || world.grants.try_end(&world.m, held.reference);
    let references = &mut connected.references;
    let closings = close_all(&mut s, references, &mut [&mut block], &mut []);
    assert_eq!(closings[0].outcome, Ok(Closed::Ready));
    assert!(matches!(ends(), Ok(End::InUse(_))));
    let closings = close_all(
        &mut s,
        references,
        &mut [],
        std::slice::from_mut(&mut *failed),
    );
    assert_eq!(closings[0].outcome, Ok(Closed::Ready));
    assert_eq!((&closings[0].held[..], closings[0].port), (&[][..], None));
    assert_eq!(ends(), Ok(End::Ended));
    connected.leaves_nothing();
}
