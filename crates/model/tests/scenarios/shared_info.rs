//! Shared info: left in RAM over a kexec, and moved while others read it.

use kexen_abi::PAGE_SIZE;
use kexen_abi::shared_info::{VCPU_INFO_BYTES, VCPU_TIME};
use kexen_guest::Machine;
use kexen_guest::clock::{self, ClockError};
use kexen_guest::hypercall::{map_shared_info, remove_from_physmap};
use kexen_guest::shared_info::{Leave, Place};
use kexen_model::check::{NewKernel, Violation};
use kexen_model::{Build, Guest, Kind, Vcpu, Xen, explore};

const RAM: u64 = 64;
/// Where an operating system that needs the clock early puts it: RAM.
const IN_RAM: u64 = 5;
/// Where it belongs: a hole.
const HOLE: u64 = 0x1000;

fn guest(vcpus: usize) -> (Guest, Vcpu) {
    let build = Build {
        pages: RAM,
        vcpus,
        ..Build::default()
    };
    let guest = Xen::default().domain(Kind::Pvh, build);
    let m = guest.vcpu(0);
    (guest, m)
}

fn check(guest: &Guest) -> Vec<Violation> {
    guest.check(&NewKernel::Translated(vec![(0, RAM)]), &[])
}

/// The new kernel uses all of its RAM, while Xen does what it does.
fn new_kernel_keeps_its_bytes(guest: &Guest, m: &Vcpu) -> bool {
    for gfn in 0..RAM {
        m.fill(gfn * PAGE_SIZE, PAGE_SIZE, 0x5a).unwrap();
    }
    guest.xen_schedules(0);
    (0..RAM).all(|gfn| {
        let mut page = [0; 4096];
        m.read(gfn * PAGE_SIZE, &mut page).unwrap();
        page.iter().all(|byte| *byte == 0x5a)
    })
}

#[test]
fn left_in_ram_the_new_kernels_bytes_change_under_it() {
    let (guest, m) = guest(1);
    map_shared_info(&m, IN_RAM).unwrap();
    assert!(!new_kernel_keeps_its_bytes(&guest, &m));
    let found = check(&guest);
    let what = "shared info";
    assert!(
        found.contains(&Violation::XenPageInRam { gfn: IN_RAM, what }),
        "{found:?}"
    );
}

#[test]
fn moved_away_it_leaves_a_hole() {
    let (guest, m) = guest(1);
    map_shared_info(&m, IN_RAM).unwrap();
    map_shared_info(&m, HOLE).unwrap();
    // All ones are read, and what is written is lost.
    assert_eq!(m.read64(IN_RAM * PAGE_SIZE).unwrap(), u64::MAX);
    assert!(!new_kernel_keeps_its_bytes(&guest, &m));
    assert_eq!(check(&guest), [Violation::Hole { gfn: IN_RAM }]);
}

#[test]
fn moved_away_and_its_page_given_back_all_is_well() {
    let (guest, m) = guest(1);
    map_shared_info(&m, IN_RAM).unwrap();
    map_shared_info(&m, HOLE).unwrap();
    give_page_back(&m, IN_RAM);
    remove_from_physmap(&m, HOLE).unwrap();
    assert!(new_kernel_keeps_its_bytes(&guest, &m));
    assert_eq!(check(&guest), []);
}

fn give_page_back(m: &Vcpu, gfn: u64) {
    // The list of page numbers, in a page of RAM.
    let list = 9 * PAGE_SIZE;
    m.write64(list, gfn).unwrap();
    assert_eq!(kexen_guest::hypercall::populate_physmap(m, list), Ok(true));
}

/// A vCPU reads the clock where its pointer says shared info is.
fn read_clock(m: &Vcpu, pointer: u64) -> u64 {
    let at = m.read64(pointer).unwrap();
    // The version, and the time between two looks at it, as a seqlock.
    m.read64(at + 32 + 8).unwrap()
}

/// Moves shared info under a vCPU that reads the clock; what it read.
fn move_under_reader(parked: bool) {
    let (guest, m) = guest(2);
    let pointer = 7 * PAGE_SIZE;
    let gate = 7 * PAGE_SIZE + 8;
    map_shared_info(&m, IN_RAM).unwrap();
    m.write64(pointer, IN_RAM * PAGE_SIZE).unwrap();
    m.write64(gate, 0).unwrap();
    guest.xen_schedules(0);
    explore::switchable(guest.xen());
    let other = guest.vcpu(1);
    let reader = move || {
        // A parked vCPU reads only when it is let on.
        while parked && other.read64(gate).unwrap() == 0 {
            shuttle::thread::yield_now();
        }
        let time = read_clock(&other, pointer);
        assert_ne!(time, u64::MAX, "the clock read as all ones");
    };
    let mover = move || {
        map_shared_info(&m, HOLE).unwrap();
        m.write64(pointer, HOLE * PAGE_SIZE).unwrap();
        give_page_back(&m, IN_RAM);
        m.write64(gate, 1).unwrap();
    };
    explore::together(vec![Box::new(reader), Box::new(mover)]);
}

#[test]
fn moved_under_a_reader_some_order_reads_all_ones() {
    let found = std::panic::catch_unwind(|| explore::every(|| move_under_reader(false)));
    let panic = found.expect_err("no order was found in which the reader meets the hole");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains("the clock read as all ones"), "{text}");
}

#[test]
fn moved_while_the_reader_is_parked_no_order_does() {
    let schedules = explore::some(7, 2000, || move_under_reader(true));
    assert_eq!(schedules, 2000);
}

/// How often shared info goes there and back in one schedule.
const ROUNDS: u32 = 3;

/// Moves shared info there and back under two vCPUs that read the clock all
/// the time, by the guest layer's own [`Place`]. Without `gate` the readers
/// are not waited for.
fn moves_of_the_guest_layer(gate: bool) {
    const READERS: u32 = 2;
    let (guest, m) = guest(1 + READERS as usize);
    let (words, list) = (7 * PAGE_SIZE, 9 * PAGE_SIZE);
    let (in_ram, hole) = (u32::try_from(IN_RAM).unwrap(), u32::try_from(HOLE).unwrap());
    let place = Place::map(&m, words, 1 + READERS, in_ram).unwrap();
    for vcpu in 0..=READERS {
        guest.xen_schedules(usize::try_from(vcpu).unwrap());
    }
    explore::switchable(guest.xen());
    let relax = || {
        shuttle::thread::yield_now();
        true
    };
    let mut all: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for vcpu in 1..=READERS {
        let m = guest.vcpu(usize::try_from(vcpu).unwrap());
        all.push(Box::new(move || {
            for _ in 0..2 {
                let info = u64::from(vcpu) * VCPU_INFO_BYTES;
                let look = |at| clock::time_info(&m, at + info + VCPU_TIME);
                let read = place.read(&m, vcpu, &relax, look).unwrap();
                assert!(
                    !matches!(read, Err(ClockError::Unbacked(_))),
                    "the clock read as all ones"
                );
                assert!(read.unwrap().system_time > 0);
            }
        }));
    }
    all.push(Box::new(move || {
        for _ in 0..ROUNDS {
            let go = |to, leave| {
                if gate {
                    place.move_to(&m, to, leave, &relax)
                } else {
                    place.move_now(&m, to, leave)
                }
            };
            assert_eq!(go(hole, Leave::Ram(list)).unwrap(), in_ram);
            assert_eq!(go(in_ram, Leave::Nothing).unwrap(), hole);
        }
    }));
    explore::together(all);
}

#[test]
fn the_guest_layers_moves_hold_readers_off_in_every_order_tried() {
    assert_eq!(
        explore::some(11, 3000, || moves_of_the_guest_layer(true)),
        3000
    );
}

#[test]
fn without_the_gate_some_order_reads_all_ones() {
    let found =
        std::panic::catch_unwind(|| explore::some(11, 3000, || moves_of_the_guest_layer(false)));
    let panic = found.expect_err("no order was found in which a reader meets the hole");
    let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
    assert_eq!(text, "the clock read as all ones");
}
