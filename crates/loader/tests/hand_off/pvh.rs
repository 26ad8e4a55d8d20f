//! PVH guests.

use kexen_abi::PAGE_SIZE;
use kexen_abi::grant_table::GTF_PERMIT_ACCESS;
use kexen_abi::hvm::{
    HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN,
    HvmMemmapEntry, HvmModlistEntry, HvmStartInfo, START_MAGIC,
};
use kexen_abi::mmu::{PAGE_PRESENT, PAGE_PSE, PAGE_RW};
use kexen_guest::hypercall::{map_grant_frame, remove_from_physmap};
use kexen_guest::{Machine, hvm::Start};
use kexen_handoff::pvh::trampoline::TRAMPOLINE_DATA;
use kexen_model::check::NewKernel;
use kexen_model::dom0::{BlockBackend, Xenstored, bind};
use kexen_model::{Build, Config, Guest, Kind, Vcpu, Xen};
use kexen_platform::pvh_guest::PvhGuest;
use zerocopy::{FromZeros, IntoBytes};

use crate::files;
use crate::machine::{OnModel, Own, Peers, jumped};

/// Pages of the guest, the last of which are the rings'.
const PAGES: u64 = 16_384;
/// The running kernel's image, with its tables and scratch page.
const IMAGE: u64 = 0x300_0000;
const IMAGE_PAGES: u64 = 16;
/// What the builder put behind it.
const START: u64 = IMAGE + IMAGE_PAGES * PAGE_SIZE;
const MODULE: u64 = START + 2 * PAGE_SIZE;

/// The guest's own command line.
const LINE: &str = "kexen.on-error=crash console=hvc0";

/// Tables that map the low 4 GiB one to one; where their L4 is.
fn tables(m: &Vcpu) -> u64 {
    let (l4, l3) = (IMAGE + 8 * PAGE_SIZE, IMAGE + 9 * PAGE_SIZE);
    let bits = PAGE_PRESENT | PAGE_RW;
    m.write64(l4, l3 | bits).unwrap();
    for n in 0..4 {
        m.write64(l3 + 8 * n, (n << 30) | bits | PAGE_PSE).unwrap();
    }
    m.set_base(Some(l4 / PAGE_SIZE));
    l4
}

/// What the toolstack gives the guest.
#[derive(Clone, Copy)]
enum From {
    Module,
    Disk,
}

/// Domain 0, and in it a store and a disk for the guest.
fn peers(guest: &Guest, m: &Vcpu) -> Peers {
    const HOLE: u64 = PAGES + 1;
    let build = Build {
        id: 0,
        pages: 64,
        ..Build::default()
    };
    let dom0 = guest.xen().domain(Kind::Pvh, build);
    // The toolstack's grant of the store's page: reference 1.
    map_grant_frame(m, 0, HOLE).unwrap();
    let table = HOLE * PAGE_SIZE;
    m.store32(table + 12, u32::try_from(PAGES - 2).unwrap())
        .unwrap();
    m.store32(table + 8, u32::from(GTF_PERMIT_ACCESS)).unwrap();
    remove_from_physmap(m, HOLE).unwrap();
    let mut store = Xenstored::new(dom0.map_grant(1, 1, true).unwrap());
    store.set("/local/domain/1/domid", "1");
    let (front, back) = (
        "/local/domain/1/device/vbd/51712",
        "/local/domain/0/backend/vbd/1/51712",
    );
    for (dir, name, value) in [
        (front, "backend", back),
        (front, "backend-id", "0"),
        (front, "state", "1"),
        (front, "virtual-device", "51712"),
        (back, "frontend", front),
        (back, "state", "2"),
    ] {
        store.set(&format!("{dir}/{name}"), value);
    }
    let _store = bind(&dom0, guest.store_and_console().0);
    let disk = BlockBackend::new(dom0, front, back, files::disk());
    guest.xen_tells_time(0);
    Peers {
        guest: guest.clone(),
        store,
        disk,
    }
}

/// A guest as a toolstack starts it.
fn start(from: From) -> (Guest, &'static OnModel, Start) {
    let module = match from {
        From::Module => files::module("root=/dev/xvda1"),
        From::Disk => Vec::new(),
    };
    let xen = Xen::new(Config {
        frames: 2 * PAGES,
        ..Config::default()
    });
    let build = Build {
        pages: PAGES,
        ..Build::default()
    };
    let guest = xen.domain(Kind::Pvh, build);
    let m = guest.vcpu(0);
    let (store, console) = guest.store_and_console();
    for (param, value) in [
        (HVM_PARAM_CONSOLE_PFN, PAGES - 1),
        (HVM_PARAM_CONSOLE_EVTCHN, console.into()),
        (HVM_PARAM_STORE_PFN, PAGES - 2),
        (HVM_PARAM_STORE_EVTCHN, store.into()),
    ] {
        guest.set_param(param, value);
    }
    let (list, map, line) = (START + 0x100, START + 0x200, START + 0x300);
    let mut info = HvmStartInfo::new_zeroed();
    info.magic = START_MAGIC;
    info.version = 1;
    (info.nr_modules, info.modlist_paddr) = (u32::from(!module.is_empty()), list);
    (info.memmap_paddr, info.memmap_entries) = (map, 2);
    info.cmdline_paddr = line;
    let entry = HvmModlistEntry {
        paddr: MODULE,
        size: u64::try_from(module.len()).unwrap(),
        cmdline_paddr: 0,
        reserved: 0,
    };
    let entry_of = |first: u64, count: u64, kind| HvmMemmapEntry {
        addr: first * PAGE_SIZE,
        size: count * PAGE_SIZE,
        kind,
        reserved: 0,
    };
    // RAM, and the rings, which are reserved.
    let entries = [entry_of(0, PAGES - 2, 1), entry_of(PAGES - 2, 2, 2)];
    m.write(START, info.as_bytes()).unwrap();
    m.write(list, entry.as_bytes()).unwrap();
    m.write(map, entries.as_bytes()).unwrap();
    m.write(line, LINE.as_bytes()).unwrap();
    m.write(MODULE, &module).unwrap();
    let own = Own {
        image: (IMAGE, START),
        root: tables(&m),
        scratch: IMAGE + 10 * PAGE_SIZE,
        console: (PAGES - 1) * PAGE_SIZE,
    };
    let machine = OnModel::new(m, own, false);
    if let From::Disk = from {
        machine.with_peers(peers(&guest, &machine.vcpu));
    }
    let start = Start::read(machine, START, own.scratch).unwrap();
    (guest, machine, start)
}

/// Runs the boot stage; where the trampoline is that it jumps to.
fn boot(m: &'static OnModel, start: Start) -> u64 {
    jumped(m, || {
        let mut guest = PvhGuest::new(m, start).unwrap();
        kexen_loader::run(&mut guest, &mut |_, _, _| {})
    })
}

/// What the trampoline's instructions do: its copies; then the entry point and
/// the address of the start structure.
fn run_trampoline(m: &Vcpu, page: u64) -> (u64, u64) {
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
    // Paging is off then.
    m.set_base(None);
    (word(data + 40), word(data + 44))
}

/// Boots, and looks at what the next kernel finds.
fn boots(from: From) {
    let (guest, m, start) = start(from);
    let trampoline = boot(m, start);
    let (entry, info) = run_trampoline(&m.vcpu, trampoline);
    assert_eq!(entry, files::ENTRY);
    let start = Start::read(&m.vcpu, info, 0).unwrap();
    assert_eq!(start.command_line, "root=/dev/xvda1 console=hvc0");
    let ram = [(0, PAGES - 2)];
    let map: Vec<_> = start
        .ram()
        .runs()
        .iter()
        .map(|r| (r.start, r.end()))
        .collect();
    assert_eq!(map, ram);
    let [initrd] = &start.modules[..] else {
        panic!("{} modules", start.modules.len())
    };
    let want = files::initrd();
    assert_eq!(initrd.size, u64::try_from(want.len()).unwrap());
    assert_eq!(files::bytes(&m.vcpu, initrd.paddr, want.len()), want);
    files::check_kernel(&m.vcpu, files::PLACE);
    let rings: Vec<u64> = (PAGES - 2..PAGES)
        .filter_map(|page| guest.frame(page))
        .collect();
    let found = guest.check(&NewKernel::Translated(ram.to_vec()), &rings);
    assert_eq!(found, []);
    assert!(m.said().contains("starting"), "{}", m.said());
}

#[test]
fn a_kernel_of_the_boot_module_finds_what_a_toolstack_would_give_it() {
    boots(From::Module);
}

#[test]
fn a_kernel_of_the_disk_finds_what_a_toolstack_would_give_it() {
    boots(From::Disk);
}
