//! The hand-off of a guest that is populated on demand, on the model: what one
//! kernel has used the next one can have, and no more is touched than there is.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use kexen_abi::{
    PAGE_SIZE,
    hvm::{HvmMemmapEntry, HvmStartInfo, START_MAGIC},
};
use kexen_guest::{Extent, Extents, Machine, hvm::Start, hypercall};
use kexen_handoff::{
    Ledger, OnDemand,
    placement::{Placement, Segment},
    pvh::{Input, Loaded, Protocol, trampoline::TRAMPOLINE_DATA},
};
use kexen_model::{Build, Guest, Kind, Vcpu, Xen};
use zerocopy::{FromZeros, IntoBytes};

/// Pages by the memory map, those with a frame from the start, and frames in
/// Xen's cache.
const RAM: u64 = 2000;
const BUILT: u64 = 64;
const CACHE: u64 = 400;
/// The start structure and its map.
const START: u64 = PAGE_SIZE;
/// Where the next kernel is linked to, and its pages.
const KERNEL: u64 = 100;
const KERNEL_PAGES: u64 = 50;

/// A guest whose builder has written all it made.
fn guest() -> (Guest, Vcpu, Start) {
    let build = Build {
        pages: RAM,
        ..Build::default()
    };
    let guest = Xen::default().domain(Kind::Pvh, build);
    guest.on_demand(BUILT..RAM, CACHE);
    let m = guest.vcpu(0);
    for page in 0..BUILT {
        m.write64(page * PAGE_SIZE + 0x800, 1).unwrap();
    }
    let mut info = HvmStartInfo::new_zeroed();
    info.magic = START_MAGIC;
    info.version = 1;
    (info.memmap_paddr, info.memmap_entries) = (START + 0x100, 1);
    m.write(START, info.as_bytes()).unwrap();
    let map = HvmMemmapEntry {
        addr: 0,
        size: RAM * PAGE_SIZE,
        kind: 1,
        reserved: 0,
    };
    m.write(START + 0x100, map.as_bytes()).unwrap();
    let start = Start::read(&m, START, 2 * PAGE_SIZE).unwrap();
    (guest, m, start)
}

fn write_all(m: &Vcpu, pages: impl IntoIterator<Item = u64>) {
    for page in pages {
        m.write64(page * PAGE_SIZE, page | 1).ok();
    }
}

/// What the trampoline's code does: the copy list behind its data.
fn copy_list(m: &Vcpu, page: u64) {
    let data = page + TRAMPOLINE_DATA;
    let word = |at| u64::from(m.load32(at).unwrap());
    for n in 0..word(data + 48) {
        let at = data + 56 + n * 12;
        let (to, from, bytes) = (word(at), word(at + 4), word(at + 8) * 4);
        if from == 0 {
            m.fill(to, bytes, 0).unwrap();
        } else {
            m.copy(from, to, bytes).unwrap();
        }
    }
}

/// One kernel uses nearly all that may be touched, and hands over; whether it
/// zeroes what it used. The next one then wants as many pages as it would get
/// from a toolstack.
fn hand_over(zeroes: bool) -> Guest {
    let (guest, m, start) = guest();
    let reservation = hypercall::current_reservation(&m).unwrap();
    let on_demand = OnDemand::of(start.ram().count(), reservation, || 0).unwrap();
    let mut free = start.ram();
    free.remove(Extent::new(0, BUILT));
    let mut free = on_demand.limit(&free);
    assert_eq!(free.count(), CACHE);
    let segments = [Segment {
        offset: 0,
        address: KERNEL * PAGE_SIZE,
        filesz: KERNEL_PAGES * PAGE_SIZE,
        memsz: KERNEL_PAGES * PAGE_SIZE,
    }];
    let placement = Placement::plan(&segments, KERNEL_PAGES * PAGE_SIZE, RAM).unwrap();
    let chosen = placement.choose(&mut free).unwrap();
    write_all(&m, chosen.all());
    // The heap, and the files that were read.
    let used = free.take(free.count() - 10).unwrap();
    write_all(&m, used.pages());
    let give_up = if zeroes { used } else { Extents::new() };
    let input = Input {
        protocol: Protocol::Pvh,
        entry: KERNEL * PAGE_SIZE,
        placement: &placement,
        chosen: &chosen,
        initrd: None,
        command_line: "",
        give_up: &give_up,
    };
    let loaded = Loaded::load(&start, &mut free, &input).unwrap();
    let given = if zeroes { give_up.count() } else { 0 };
    assert_eq!((loaded.copied_late(), loaded.given_up()), (0, given));
    let staged = loaded.stage(&m, &[0x90]).unwrap();
    let ledger = Ledger::new();
    let released = staged.quiesce(&ledger).unwrap().release(&ledger).unwrap();
    let jump = || -> () { released.jump(|page| resume_unwind(Box::new(page))) };
    let page = catch_unwind(AssertUnwindSafe(jump)).unwrap_err();
    copy_list(&m, *page.downcast::<u64>().unwrap());
    assert_eq!(guest.crashed(), None, "this kernel touched too much");
    // Kernel, start structure and trampoline stay: a few pages more than one
    // that a toolstack starts has.
    write_all(&m, RAM - (CACHE - KERNEL_PAGES - 10)..RAM);
    guest
}

#[test]
fn what_was_used_is_the_next_kernels() {
    assert_eq!(hand_over(true).crashed(), None);
}

#[test]
fn what_is_kept_ends_the_next_kernel() {
    let why = hand_over(false).crashed();
    assert!(
        why.clone()
            .is_some_and(|why| why.contains("out of PoD memory")),
        "{why:?}"
    );
}

#[test]
fn to_touch_all_that_the_map_has_ends_the_guest() {
    let (guest, m, start) = guest();
    let mut free = start.ram();
    free.remove(Extent::new(0, BUILT));
    write_all(&m, free.pages());
    let why = guest.crashed().unwrap();
    assert!(why.contains("out of PoD memory"), "{why}");
}
