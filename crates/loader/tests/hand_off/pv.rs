//! PV guests.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kexen_abi::PAGE_SIZE;
use kexen_abi::mmu::{MACH2PHYS_VIRT_START, MmuExtOp};
use kexen_abi::start_info::SIF_MOD_START_PFN;
use kexen_guest::hypercall::mmuext_op;
use kexen_guest::{Defence, Machine, pv::Start};
use kexen_model::check::{NewKernel, Violation};
use kexen_model::{Build, Config, Guest, PvImage, StartOfDay, Vcpu, Xen};
use kexen_platform::pv_guest::{PvGuest, VIRT_BASE};
use zerocopy::{FromBytes, IntoBytes};

use crate::files;
use crate::machine::{OnModel, Own, jumped};

const PAGES: u64 = 16_384;
/// Pages of the running kernel's image; the last of them is its scratch page.
const IMAGE: u64 = 64;
/// The guest's own command line, and what of it is for its kernels.
const LINE: &str = "kexen.on-error=crash console=hvc0";
const KERNELS: &str = "console=hvc0";
/// Behind the code of the trampoline: its data.
const DATA: u64 = 2048;

/// A guest as a toolstack starts it with this boot module and command line.
fn start(omit: Option<Defence>) -> (Guest, &'static OnModel, Start) {
    let (module, command_line) = (files::module("root=/dev/xvda1"), LINE);
    let xen = Xen::new(Config {
        frames: 2 * PAGES,
        ..Config::default()
    });
    if let Some(defence) = omit {
        xen.omit(defence);
    }
    let build = Build {
        pages: PAGES,
        ..Build::default()
    };
    let image = PvImage {
        virt_base: VIRT_BASE,
        pages: IMAGE,
        p2m_base: Some(0x80_0000_0000),
    };
    let guest = xen.pv_guest(build, image);
    let m = guest.vcpu(0);
    let day = guest.start_of_day().unwrap();
    let mut info = Start::read(&m, day.start_info, VIRT_BASE).unwrap().info;
    info.mod_start = info.first_p2m_pfn + info.nr_p2m_frames;
    info.mod_len = u64::try_from(module.len()).unwrap();
    info.flags |= SIF_MOD_START_PFN;
    info.cmd_line[..command_line.len()].copy_from_slice(command_line.as_bytes());
    m.write(day.start_info, info.as_bytes()).unwrap();
    guest.load(info.mod_start, &module);
    let own = Own {
        image: (0, 0),
        root: 0,
        scratch: VIRT_BASE + (IMAGE - 1) * PAGE_SIZE,
        console: day.start_info + 2 * PAGE_SIZE,
    };
    let machine = OnModel::new(m, own, true);
    let start = Start::read(machine, day.start_info, VIRT_BASE).unwrap();
    (guest, machine, start)
}

/// Runs the boot stage; where the trampoline is that it jumps to.
fn boot(m: &'static OnModel, start: Start) -> u64 {
    jumped(m, || {
        let mut guest = PvGuest::new(m, start).unwrap();
        kexen_loader::run(&mut guest, &mut |_, _, _| {})
    })
}

/// What the trampoline's instructions do: one `mmuext_op`, three registers. The
/// entry point and the address of `start_info`.
fn run_trampoline(m: &Vcpu, at: u64) -> (u64, u64) {
    let mut words = [0_u64; 11];
    m.read(at + DATA, words.as_mut_bytes()).unwrap();
    let op = |words: &[u64]| MmuExtOp::read_from_bytes(words.as_bytes()).unwrap();
    let ops = [op(&words[..3]), op(&words[3..6])];
    let count = usize::try_from(words[6]).unwrap();
    mmuext_op(m, "jump", &ops[..count]).unwrap();
    // It runs on, at the same address of the new address space.
    assert_eq!(files::bytes(m, at, 2), b"pv");
    (words[8], words[10])
}

/// The next kernel's start of day, and what the check found.
fn handed_over(guest: &Guest, m: &OnModel, trampoline: u64, rings: &[u64]) -> (Start, Vec<String>) {
    let (entry, at) = run_trampoline(&m.vcpu, trampoline);
    assert_eq!(entry, files::VIRT_BASE + files::ENTRY);
    let start = Start::read(&m.vcpu, at, files::VIRT_BASE).unwrap();
    let boot_pages = start.boot_pages() * PAGE_SIZE;
    let new = StartOfDay {
        virt_base: files::VIRT_BASE,
        start_info: at,
        end: (files::VIRT_BASE + boot_pages + (512 << 10)).next_multiple_of(4 << 20),
    };
    let found = guest.check(&NewKernel::Pv(new), rings);
    (start, found.iter().map(Violation::to_string).collect())
}

/// What the check finds with a defence left out.
fn found_without(defence: Defence) -> Vec<String> {
    let (guest, m, start) = start(Some(defence));
    let rings = [start.info.store_mfn, start.info.console_mfn];
    let trampoline = boot(m, start);
    handed_over(&guest, m, trampoline, &rings).1
}

/// What the boot stage says where it does not get to the jump.
fn refused_without(defence: Defence) -> String {
    let (_, m, start) = start(Some(defence));
    let run = || boot(m, start);
    catch_unwind(AssertUnwindSafe(run)).expect_err("it jumped");
    m.said()
}

#[test]
fn a_kernel_of_the_boot_module_finds_what_a_toolstack_would_give_it() {
    let (guest, m, start) = start(None);
    let (store, console) = (start.info.store_mfn, start.info.console_mfn);
    let trampoline = boot(m, start);
    let (start, found) = handed_over(&guest, m, trampoline, &[store, console]);
    assert_eq!(found, [""; 0]);
    let info = &start.info;
    assert_eq!(start.command_line(), format!("root=/dev/xvda1 {KERNELS}"));
    assert_eq!(
        (info.nr_pages, info.store_mfn, info.console_mfn),
        (PAGES, store, console)
    );
    files::check_kernel(&m.vcpu, files::VIRT_BASE + files::PLACE);
    // The initrd, which the next kernel maps by its page numbers.
    let want = files::initrd();
    let (pages, len) = start.module().unwrap();
    assert_eq!(len, u64::try_from(want.len()).unwrap());
    let mut initrd = Vec::new();
    for page in pages.start..pages.end() {
        let mfn = m.vcpu.read64(info.mfn_list + page * 8).unwrap();
        assert_eq!(m.vcpu.read64(MACH2PHYS_VIRT_START + mfn * 8), Ok(page));
        initrd.extend(guest.stored(page));
    }
    assert_eq!(initrd[..want.len()], want);
    assert_eq!(m.vcpu.last_fault(), None);
    assert!(m.said().contains("starting"), "{}", m.said());
}

#[test]
fn tables_left_writable_are_refused_and_the_running_kernel_goes_on() {
    let said = refused_without(Defence::ReadOnlyTables);
    let line = said.lines().find(|line| line.contains("error:"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(
        line.contains("pin the new page tables") && line.contains("EINVAL"),
        "{line}"
    );
}

#[test]
fn old_tables_left_pinned_are_found() {
    let found = found_without(Defence::OldTables);
    let pinned = |line: &String| line.contains("pinned as an L4 table");
    assert!(found.iter().any(pinned), "{found:?}");
}

#[test]
fn an_m2p_left_as_it_was_is_found() {
    let found = found_without(Defence::M2p);
    let wrong = |line: &String| line.contains("whose M2P entry says page");
    assert!(found.iter().any(wrong), "{found:?}");
}
