//! Block devices.

use kexen_guest::block::{Block, Io, Lie, Memory, NotConnected, Operation, Page, Problem};
use kexen_guest::references::References;
use kexen_guest::xenbus::{self, Closed, Device, XenbusState};
use kexen_guest::xenstore::Store;
use kexen_model::Machine;
use kexen_model::check::NewKernel;

use proptest::collection::vec;
use proptest::prelude::*;

use kexen_model::dom0::BlockFault as Fault;

use super::world::SECTORS;
use super::world::{BACK, FRONT, World};

struct Disk<'a> {
    world: &'a World,
    store: Store,
    references: References,
    block: Block,
}

fn try_connect(world: &World) -> Result<Disk<'_>, Box<NotConnected>> {
    let ring = [world.ring_page()];
    let memory = Memory {
        ring: &ring,
        lists: &[],
    };
    connect_in(world, memory)
}

fn connect_in<'a>(world: &'a World, memory: Memory<'_>) -> Result<Disk<'a>, Box<NotConnected>> {
    let (mut store, mut references) = (world.store(), world.references());
    let mut time = world.time(500);
    let mut s = store.on(&world.m, &mut time);
    let device = Device::open(&mut s, "vbd", 51712).unwrap();
    let block = Block::connect(&mut s, &mut references, device, memory)?;
    Ok(Disk {
        world,
        store,
        references,
        block,
    })
}

impl<'a> Disk<'a> {
    fn new(world: &'a World) -> Self {
        try_connect(world).unwrap_or_else(|error| panic!("{}", error.error))
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Block, &mut Io<'_, dyn Machine>) -> T) -> T {
        let mut time = self.world.time(200);
        let mut io = Io {
            m: &self.world.m as &dyn Machine,
            wait: &mut time,
            references: &mut self.references,
        };
        work(&mut self.block, &mut io)
    }

    fn read(&mut self, sector: u64, sectors: u32, pages: &[Page]) -> Result<(), Problem> {
        self.with(|block, io| block.read(io, sector, sectors, pages))
            .map_err(|error| error.problem)
    }

    fn close(&mut self) -> kexen_guest::block::Closing {
        let mut time = self.world.time(200);
        let mut s = self.store.on(&self.world.m, &mut time);
        self.block.close(&mut s, &mut self.references)
    }

    /// Closed, and nothing is left.
    fn closes(mut self) {
        let closing = self.close();
        assert_eq!(closing.outcome, Ok(Closed::Ready));
        assert_eq!((closing.held, closing.port), (vec![], None));
        self.nothing_left();
    }

    fn nothing_left(&self) {
        assert_eq!(self.block.granted().count(), 0);
        for reference in 8..512 {
            assert_eq!(self.world.grants.flags(&self.world.m, reference), Ok(0));
        }
        let new = NewKernel::Translated(vec![(0, 64)]);
        let found = self.world.guest.check(&new, &[5]);
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let of_device = |one: &&String| one.contains("port") || one.contains("page 0x6");
        assert_eq!(found.iter().find(of_device), None, "{found:?}");
    }
}

fn pages(world: &World, count: u64) -> Vec<Page> {
    (20..20 + count).map(|number| world.page(number)).collect()
}

fn bytes(world: &World, pages: &[Page], len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for page in pages {
        let mut one = [0; 4096];
        world.m.read(page.address, &mut one).unwrap();
        all.extend_from_slice(&one);
    }
    all.truncate(len);
    all
}

#[test]
fn a_disk_is_read_and_given_back() {
    let world = World::new();
    let mut disk = Disk::new(&world);
    assert_eq!(disk.block.geometry().sectors, 1024);
    assert!(disk.block.geometry().flush);
    // One sector; a request's worth; more than that, and not whole pages.
    for (sector, sectors) in [(3, 1), (0, 88), (100, 8 * 30 + 5)] {
        let pages = pages(&world, u64::from(sectors).div_ceil(8));
        disk.read(sector, sectors, &pages).unwrap();
        let (at, len) = (sector * 512, usize::try_from(sectors).unwrap() * 512);
        let at = usize::try_from(at).unwrap();
        let expected = world.peers().backend.disk[at..at + len].to_vec();
        assert_eq!(bytes(&world, &pages, len), expected);
    }
    assert_eq!(disk.block.in_flight(), 0);
    assert!(world.peers().backend.most > 1, "one request at a time");
    disk.closes();
}

/// A ring of several pages and lists of pages, as far as the backend has them.
fn large<'a>(world: &'a World, order: &str, segments: &str) -> Disk<'a> {
    {
        let daemon = &mut world.peers().daemon;
        daemon.set(&format!("{BACK}/max-ring-page-order"), order);
        daemon.set(&format!("{BACK}/feature-max-indirect-segments"), segments);
    }
    let page = |number| world.page(number);
    let ring: Vec<Page> = (12..16).map(page).collect();
    let lists: Vec<Page> = (16..18).map(page).collect();
    let memory = Memory {
        ring: &ring,
        lists: &lists,
    };
    connect_in(world, memory).unwrap_or_else(|error| panic!("{}", error.error))
}

#[test]
fn large_requests_and_rings_are_used_where_there_are_any() {
    // The backend's order and segments; ring pages and pages of a request.
    for (order, segments, ring, most) in [
        ("4", "256", 4, 40),
        ("1", "32", 2, 32),
        ("0", "12", 1, 12),
        ("9", "8", 4, 11),
        ("2", "0", 4, 11),
    ] {
        let world = World::new();
        world.peers().backend.echoes = ring == 4;
        let mut disk = large(&world, order, segments);
        assert_eq!(disk.block.granted().count(), ring, "{order} {segments}");
        for (sector, sectors) in [(3, 1), (0, 320), (100, 8 * 39 + 5)] {
            let pages = pages(&world, u64::from(sectors).div_ceil(8));
            disk.read(sector, sectors, &pages).unwrap();
            let (at, len) = (sector * 512, usize::try_from(sectors).unwrap() * 512);
            let at = usize::try_from(at).unwrap();
            let expected = world.peers().backend.disk[at..at + len].to_vec();
            assert_eq!(bytes(&world, &pages, len), expected);
        }
        assert_eq!(world.peers().backend.segments, most, "{order} {segments}");
        let pages = pages(&world, 40);
        disk.with(|block, io| block.write(io, 8, 320, &pages))
            .unwrap();
        assert_eq!(
            world.peers().backend.disk[8 * 512..328 * 512],
            bytes(&world, &pages, 320 * 512)
        );
        disk.closes();
    }
}

/// Linux, started after a crash, writes one page's reference and leaves a size
/// that it finds; its backend would map the dead kernel's pages.
#[test]
fn a_kernel_after_a_crash_finds_no_size_of_the_ring() {
    let world = World::new();
    let disk = large(&world, "2", "0");
    assert_eq!(disk.block.granted().count(), 4);
    let daemon = &world.peers().daemon;
    assert!(daemon.get(&format!("{FRONT}/ring-ref3")).is_some());
    assert_eq!(daemon.get(&format!("{FRONT}/ring-page-order")), None);
}

#[test]
fn a_list_that_is_kept_is_named_and_not_used_again() {
    let world = World::new();
    let mut disk = large(&world, "0", "256");
    world.peers().backend.fault = Some(Fault::KeepsList);
    let pages = pages(&world, 40);
    let problem = disk.read(0, 320, &pages).unwrap_err();
    assert!(matches!(problem, Problem::StillMapped(one) if one.page.number == 17));
    world.peers().backend.fault = None;
    disk.read(0, 320, &pages).unwrap();
    let closing = disk.close();
    let held: Vec<u64> = closing.held.iter().map(|one| one.page.number).collect();
    assert_eq!(held, [17]);
}

#[test]
fn a_disk_is_written_and_flushed() {
    let world = World::new();
    let mut disk = Disk::new(&world);
    let pages = pages(&world, 13);
    for (n, page) in pages.iter().enumerate() {
        let byte = u8::try_from(n).unwrap();
        world.m.fill(page.address, 4096, byte).unwrap();
    }
    disk.with(|block, io| {
        block.write(io, 8, 100, &pages)?;
        block.flush(io)
    })
    .unwrap();
    assert_eq!(
        world.peers().backend.disk[8 * 512..108 * 512],
        bytes(&world, &pages, 100 * 512)
    );
    disk.closes();
}

#[test]
fn requests_are_in_flight_together() {
    let world = World::new();
    let mut disk = Disk::new(&world);
    let pages = pages(&world, 33);
    disk.with(|block, io| {
        let mut tickets = Vec::new();
        for (n, page) in (0..32).zip(&pages) {
            let ticket = block.submit(io, Operation::Read, n * 8, 8, &[*page]);
            tickets.push(ticket.unwrap());
        }
        assert!(!block.has_room());
        let full = block.submit(io, Operation::Read, 0, 8, &[pages[32]]);
        assert_eq!(full.unwrap_err().problem, Problem::Full);
        let busy = block.read(io, 0, 8, &[pages[32]]);
        assert_eq!(busy.unwrap_err().problem, Problem::Busy);
        assert_eq!(block.granted().count(), 33);
        while let Some(done) = block.wait_complete(io).unwrap() {
            assert_eq!(done.outcome, Ok(()));
            tickets.retain(|ticket| *ticket != done.ticket);
        }
        assert!(tickets.is_empty());
        assert_eq!(block.complete(io), Ok(None));
    });
    disk.closes();
}

#[test]
fn the_ring_goes_round() {
    let world = World::new();
    let mut disk = Disk::new(&world);
    let page = world.page(20);
    for n in 0..100 {
        disk.read(n, 1, &[page]).unwrap();
        let at = usize::try_from(n).unwrap() * 512;
        let expected = world.peers().backend.disk[at..at + 512].to_vec();
        assert_eq!(bytes(&world, &[page], 512), expected);
    }
    disk.closes();
}

#[test]
fn what_the_device_has_not_is_not_asked_for() {
    let world = World::new();
    world.peers().daemon.set(&format!("{BACK}/info"), "4");
    world
        .peers()
        .daemon
        .set(&format!("{BACK}/sector-size"), "4096");
    world
        .peers()
        .daemon
        .set(&format!("{BACK}/feature-flush-cache"), "0");
    let mut disk = Disk::new(&world);
    let two = pages(&world, 2);
    let end = u64::try_from(SECTORS).unwrap();
    for (sector, sectors) in [(end, 8), (end - 8, 16), (u64::MAX, 8), (0, 0)] {
        let count = usize::try_from(sectors / 8).unwrap();
        let problem = disk.read(sector, sectors, &two[..count]).unwrap_err();
        assert_eq!(problem, Problem::OutOfRange { sector, sectors });
    }
    for (sector, sectors) in [(1, 8), (0, 9)] {
        let problem = disk.read(sector, sectors, &two).unwrap_err();
        assert_eq!(problem, Problem::Unaligned { sector, sectors });
    }
    assert_eq!(disk.read(0, 8, &two), Err(Problem::Pages(2)));
    disk.with(|block, io| {
        let written = block.write(io, 0, 8, &two[..1]);
        assert_eq!(written.unwrap_err().problem, Problem::ReadOnly);
        assert_eq!(block.flush(io).unwrap_err().problem, Problem::NoFlush);
    });
    disk.closes();
}

#[test]
fn a_geometry_that_cannot_be_is_refused() {
    for (name, value) in [
        ("sectors", "0"),
        ("sectors", "-1"),
        ("sectors", "99999999999999999999"),
        ("sectors", "36028797018963968"),
        ("sector-size", "0"),
        ("sector-size", "513"),
        ("sector-size", "8192"),
        ("info", "x"),
    ] {
        let world = World::new();
        world.peers().daemon.set(&format!("{BACK}/{name}"), value);
        let failed = try_connect(&world).err().unwrap();
        let said = failed.error.to_string();
        assert!(
            said.starts_with("device/vbd/51712") && said.contains(name),
            "{said}"
        );
        assert_eq!((failed.held, failed.port), (vec![], None), "{name}={value}");
        for reference in 8..512 {
            assert_eq!(world.grants.flags(&world.m, reference), Ok(0));
        }
    }
}

#[test]
fn a_backend_that_does_not_connect_is_named() {
    let world = World::new();
    world.peers().backend.fault = Some(Fault::Still);
    let failed = try_connect(&world).err().unwrap();
    assert_eq!(
        failed.error.to_string(),
        "device/vbd/51712: its backend in domain 0 is InitWait (2), \
         and did not come in time to Connected (4)"
    );
    // The ring was not mapped, so the page is free; the port waits.
    assert_eq!(failed.held, []);
    assert!(failed.port.is_some());
    // One that refuses is not waited for.
    let world = World::new();
    world.peers().backend.fault = Some(Fault::Goes(6));
    let failed = try_connect(&world).err().unwrap();
    assert!(matches!(
        failed.error.problem,
        Problem::Xenbus(xenbus::Problem::Unexpected {
            state: Some(XenbusState::CLOSED),
            ..
        })
    ));
}

#[test]
fn lies_are_named_and_the_device_is_closed_all_the_same() {
    for (fault, lie) in [
        (Fault::Id(0), None),
        (Fault::Id(u64::MAX), Some(Lie::Id(u64::MAX))),
        (Fault::Id(0x1_0000_0001), Some(Lie::Id(0x1_0000_0001))),
        (Fault::Twice, None),
        (Fault::Operation, None),
        (Fault::Producer(1), None),
        (Fault::Producer(0x8000_0000), None),
        (Fault::Producer(u32::MAX - 1), None),
    ] {
        let world = World::new();
        let mut disk = Disk::new(&world);
        world.peers().backend.fault = Some(fault);
        let pages = pages(&world, 3);
        let problem = disk.read(0, 24, &pages).unwrap_err();
        let Problem::Lie(found) = &problem else {
            panic!("{fault:?}: {problem}");
        };
        assert!(lie.is_none_or(|lie| lie == *found), "{fault:?}: {problem}");
        let of_index = matches!(found, Lie::Producer { .. });
        let index = matches!(fault, Fault::Producer(_) | Fault::Twice);
        assert_eq!(of_index, index, "{fault:?}: {problem}");
        assert_eq!(disk.read(0, 8, &pages[..1]), Err(Problem::NotConnected));
        disk.closes();
    }
}

#[test]
fn a_second_answer_is_one_to_nobody() {
    let world = World::new();
    let mut disk = Disk::new(&world);
    let two = pages(&world, 2);
    disk.with(|block, io| {
        for page in &two {
            block.submit(io, Operation::Read, 0, 8, &[*page]).unwrap();
        }
        world.peers().backend.fault = Some(Fault::Id(0x1_0000_0000));
        let first = block.wait_complete(io).unwrap().unwrap();
        assert_eq!(first.outcome, Ok(()));
        let second = block.wait_complete(io).unwrap_err();
        assert_eq!(second.problem, Problem::Lie(Lie::Id(0x1_0000_0000)));
    });
    disk.closes();
}

#[test]
fn a_request_that_failed_says_so() {
    for (status, words) in [
        (-1, "input or output error"),
        (-2, "not support"),
        (7, "no known"),
    ] {
        let world = World::new();
        let mut disk = Disk::new(&world);
        world.peers().backend.fault = Some(Fault::Status(status));
        let pages = pages(&world, 30);
        let problem = disk.read(16, 240, &pages).unwrap_err();
        assert!(matches!(
            problem,
            Problem::Failed { operation: Operation::Read, status: found, .. } if found == status
        ));
        assert!(problem.to_string().contains(words), "{problem}");
        // The device is still good.
        world.peers().backend.fault = None;
        disk.read(16, 240, &pages).unwrap();
        disk.closes();
    }
}

#[test]
fn requests_that_are_not_answered_are_given_back_at_the_end() {
    let world = World::new();
    let mut disk = Disk::new(&world);
    world.peers().backend.fault = Some(Fault::Unanswered(2));
    let pages = pages(&world, 22);
    assert_eq!(disk.read(0, 176, &pages), Err(Problem::Unanswered(1)));
    assert_eq!(disk.block.granted().count(), 1 + 11);
    // Other requests go on.
    let other = Disk {
        world: &world,
        ..disk
    };
    assert_eq!(other.block.in_flight(), 1);
    // No more time for the one: all there is is for the states.
    other.closes();
}

#[test]
fn pages_that_stay_mapped_are_named_and_handed_over() {
    let world = World::new();
    let mut disk = Disk::new(&world);
    world.peers().backend.fault = Some(Fault::KeepsPages);
    let page = world.page(20);
    let problem = disk.read(0, 8, &[page]).unwrap_err();
    let Problem::StillMapped(granted) = problem else {
        panic!("{problem}");
    };
    assert_eq!(granted.page, page);
    // Its reference is not used again.
    assert!(disk.references.poisoned(granted.reference));
    world.peers().backend.fault = None;
    disk.read(0, 8, &[world.page(21)]).unwrap();
    assert!(disk.references.poisoned(granted.reference));
    let closing = disk.close();
    assert_eq!(closing.outcome, Ok(Closed::Ready));
    assert_eq!(closing.held, [granted]);
    assert_eq!(closing.port, None);
    // Xen agrees.
    let found = world
        .guest
        .check(&NewKernel::Translated(vec![(0, 64)]), &[]);
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(
        found.iter().any(|one| one.contains("page 0x14")),
        "{found:?}"
    );
    // The backend lets go at last.
    for mapping in world.peers().backend.kept.drain(..) {
        mapping.unmap().unwrap();
    }
    let closing = disk.close();
    assert_eq!(closing.held, []);
    assert!(disk.references.poisoned(granted.reference));
}

#[test]
fn a_ring_that_stays_mapped_is_handed_over() {
    let world = World::new();
    let mut disk = Disk::new(&world);
    world.peers().backend.fault = Some(Fault::KeepsRing);
    let closing = disk.close();
    assert_eq!(closing.outcome, Ok(Closed::Ready));
    assert_eq!(closing.held.len(), 1);
    assert_eq!(closing.held[0].page, world.ring_page());
}

#[test]
fn a_backend_that_does_not_close_keeps_what_it_has() {
    let world = World::new();
    let mut disk = Disk::new(&world);
    world.peers().backend.fault = Some(Fault::Still);
    let closing = disk.close();
    assert_eq!(
        closing.outcome.unwrap_err().to_string(),
        "device/vbd/51712: its backend in domain 0 is Connected (4), \
         and did not come in time to Closing (5) or Closed (6)"
    );
    assert_eq!(closing.held.len(), 1);
    assert!(closing.port.is_some());
    world.peers().backend.fault = None;
    let closing = disk.close();
    assert_eq!(closing.outcome, Ok(Closed::Ready));
    assert_eq!((closing.held, closing.port), (vec![], None));
    disk.nothing_left();
}

#[test]
fn a_backend_that_vanishes_leaves_nothing() {
    let world = World::new();
    let mut disk = Disk::new(&world);
    world.peers().backend.fault = Some(Fault::Vanishes);
    let closing = disk.close();
    assert_eq!(closing.outcome, Ok(Closed::Gone));
    assert_eq!((closing.held, closing.port), (vec![], None));
    disk.nothing_left();
}

#[test]
fn a_slow_backend_is_waited_for() {
    let world = World::new();
    world.peers().backend.fault = Some(Fault::Late(5));
    let mut disk = Disk::new(&world);
    let pages = pages(&world, 22);
    disk.read(0, 176, &pages).unwrap();
    disk.closes();
}

#[test]
fn references_of_an_earlier_kernel_are_passed_over() {
    let world = World::new();
    for reference in [8, 9, 11] {
        assert!(
            world
                .grants
                .grant_access(&world.m, reference, 0, 30)
                .unwrap()
        );
    }
    let mut disk = Disk::new(&world);
    assert_eq!(disk.block.granted().next().unwrap().reference, 10);
    disk.read(0, 8, &[world.page(20)]).unwrap();
    assert!(disk.references.poisoned(11));
    let closing = disk.close();
    assert_eq!(closing.held, []);
    assert_ne!(world.grants.flags(&world.m, 8), Ok(0));
}

#[test]
fn without_references_nothing_is_asked_and_nothing_left() {
    let world = World::new();
    let mut disk = Disk::new(&world);
    // All but five are somebody else's.
    for reference in 9..507 {
        assert!(
            world
                .grants
                .grant_access(&world.m, reference, 7, 30)
                .unwrap()
        );
    }
    let pages = pages(&world, 11);
    assert!(matches!(disk.read(0, 88, &pages), Err(Problem::Grant(_))));
    assert_eq!(disk.block.granted().count(), 1);
    disk.read(0, 40, &pages[..5]).unwrap();
    assert_eq!(disk.close().held, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in the ring, at most each request is answered once,
    /// and the device is closed with nothing left.
    #[test]
    fn any_ring_at_all(
        rounds in vec((0..6_u32, vec((0..5_u64, 0..4_u64, 0..3_u8, -2..1_i16), 4)), 1..4),
        garbage in vec(any::<u8>(), 0..64),
    ) {
        let world = World::new();
        let mut disk = Disk::new(&world);
        world.peers().backend.fault = Some(Fault::NoAnswer);
        let pages = pages(&world, 3);
        disk.with(|block, io| {
            for page in &pages {
                block.submit(io, Operation::Read, 0, 8, &[*page]).unwrap();
            }
            let mut answered = 0;
            for (prod, responses) in rounds {
                let backend = &world.peers().backend;
                for (n, (serial, slot, operation, status)) in (0..).zip(responses) {
                    let mut response = [0; 16];
                    response[..8].copy_from_slice(&((serial << 32) | slot).to_le_bytes());
                    response[8] = operation;
                    response[10..12].copy_from_slice(&status.to_le_bytes());
                    backend.scribble(64 + n * 112, &response);
                }
                backend.scribble(16, &garbage);
                backend.scribble(8, &prod.to_le_bytes());
                while let Ok(Some(_)) = block.complete(io) {
                    answered += 1;
                }
            }
            assert_eq!(answered + block.in_flight(), 3);
        });
        let closing = disk.close();
        // Time may go by with what was not answered; then once more.
        let closing = if closing.outcome.is_err() { disk.close() } else { closing };
        prop_assert_eq!(closing.outcome, Ok(Closed::Ready));
        prop_assert_eq!(closing.held, vec![]);
        disk.nothing_left();
    }
}
