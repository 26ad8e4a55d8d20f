//! The whole PV hand-off on the model, up to the next kernel's first
//! instruction; then the model's check looks for what was left behind. Each
//! of the hand-off's own defences left out is found.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kexen_abi::PAGE_SIZE;
use kexen_abi::mmu::MmuExtOp;
use kexen_guest::hypercall::mmuext_op;
use kexen_guest::{Extent, Extents, Machine, pv};
use kexen_handoff::ledger::{Claim, Holder, Kind};
use kexen_handoff::placement::{Placement, Segment, finish};
use kexen_handoff::pv::{Input, Kernel, Loaded, Omit, Own, Stage};
use kexen_handoff::{HandoffError, Ledger};
use kexen_model::check::{NewKernel, Violation};
use kexen_model::{Build, PvImage, StartOfDay, Vcpu, Xen};
use zerocopy::{FromBytes, IntoBytes};

const PAGES: u64 = 12_288;
const BUFFER: u64 = 0x0000_0400_0000_0000;
/// The next kernel: where it wants to be, and its bytes.
const NEXT: u64 = 0xffff_ffff_8000_0000;
const FIRST: u64 = 0x100_0000;
const FILE_PAGES: u64 = 5;
/// `TrampolineData`: where it is, and its words.
const DATA: u64 = 2048;

/// What came of it.
struct Outcome {
    m: Vcpu,
    new: StartOfDay,
    entry: u64,
    found: Vec<String>,
}

/// The byte that page `n` of the next kernel is full of.
fn filling(n: u64) -> u8 {
    u8::try_from(0x40 + n).unwrap()
}

fn hand_off(omit: Omit) -> Result<Outcome, HandoffError> {
    let image = PvImage {
        virt_base: 0xffff_ffff_c000_0000,
        pages: 64,
        p2m_base: Some(0x80_0000_0000),
    };
    let build = Build {
        pages: PAGES,
        ..Build::default()
    };
    let guest = Xen::default().pv_guest(build, image);
    let m = guest.vcpu(0);
    let day = guest.start_of_day().unwrap();
    let start = pv::Start::read(&m, day.start_info, day.virt_base)?;
    let boot = start.boot_pages();
    let padding = pv::start::PADDING_PAGES;
    let root = (start.info.pt_base - day.virt_base) / PAGE_SIZE;
    let root = m.read64(start.info.mfn_list + root * 8)?;
    let pool = Extent::new(boot, padding);
    let mut space = pv::AddressSpace::new(&start, root, boot + padding, pool);
    let mut free = Extents::new();
    free.insert(Extent::new(0, PAGES));
    free.remove(Extent::new(0, (day.end - day.virt_base) / PAGE_SIZE));
    let p2m = start.p2m_frames().unwrap();
    free.remove(p2m);
    space.map_window_read_only(&m, p2m)?;
    // The kernel's file, in pages that become its own.
    let segment = Segment {
        offset: 0,
        address: FIRST,
        filesz: FILE_PAGES * PAGE_SIZE - 100,
        memsz: (FILE_PAGES + 2) * PAGE_SIZE,
    };
    let placement = Placement::plan(&[segment], FILE_PAGES * PAGE_SIZE, PAGES)?;
    let chosen = placement.choose(&mut free)?;
    space.reserve_tables(&m, &mut free, 40)?;
    space.map(&m, BUFFER, &chosen.file)?;
    let mut fresh = Extents::new();
    for (_, page) in &chosen.fresh {
        fresh.insert(Extent::new(*page, 1));
    }
    space.map_window(&m, &fresh)?;
    for n in 0..FILE_PAGES {
        m.fill(BUFFER + n * PAGE_SIZE, PAGE_SIZE, filling(n))?;
    }
    let addresses = space.addresses();
    finish(
        &m,
        &placement,
        &chosen,
        BUFFER,
        &|page| addresses.of(page),
        None,
    )?;
    space.close_pools(&m, &mut free)?;
    let mut ledger = Ledger::new();
    let mfn = space.root();
    ledger.enter(Claim::of(Kind::CurrentTables { mfn }, Holder::Xen));

    let mut mapped_free = Extents::new();
    for page in chosen.scratch(&placement) {
        mapped_free.insert(Extent::new(page, 1));
    }
    let input = Input {
        kernel: Kernel {
            entry: NEXT + FIRST,
            virt_base: NEXT,
            p2m_base: None,
            unmapped_initrd: true,
            hypercall_page: None,
        },
        placement: &placement,
        chosen: &chosen,
        initrd: None,
        command_line: "console=hvc0",
        mapped_free,
        own: Own {
            pages: boot + padding,
            buffer: (BUFFER, FILE_PAGES * PAGE_SIZE),
        },
    };
    let loaded = Loaded::load(&m, &space, &start, &mut free, &input)?;
    let end = NEXT + loaded.layout().mapped * PAGE_SIZE;
    let kernel_address = |page: u64| match chosen.file.iter().position(|own| *own == page) {
        Some(n) => BUFFER + u64::try_from(n).unwrap() * PAGE_SIZE,
        None => addresses.of(page),
    };
    let stage = Stage {
        code: &[0xcc],
        stubs: &[0; 4096],
        kernel_address: &kernel_address,
    };
    let staged = loaded.stage(&m, &mut space, &mut free, &stage, omit)?;
    let quiesced = staged.quiesce(&space, &ledger)?;
    let released = quiesced.release(&m, &mut space, &mut ledger)?;
    // The jump does not come back: it leaves with the trampoline's address.
    let jump = || -> Infallible {
        released.jump(|trampoline| -> Infallible { std::panic::panic_any(trampoline) })
    };
    let Err(trampoline) = catch_unwind(AssertUnwindSafe(jump));
    let trampoline = *trampoline
        .downcast::<u64>()
        .expect("the trampoline's address");
    let (entry, start_info) = run_trampoline(&m, trampoline);
    let new = StartOfDay {
        virt_base: NEXT,
        start_info,
        end,
    };
    let kept = [start.info.store_mfn, start.info.console_mfn];
    let found = guest.check(&NewKernel::Pv(new), &kept);
    Ok(Outcome {
        m,
        new,
        entry,
        found: found.iter().map(Violation::to_string).collect(),
    })
}

/// What the trampoline's instructions do: one `mmuext_op`, three registers.
/// Returns the entry point and the address of `start_info`.
fn run_trampoline(m: &Vcpu, at: u64) -> (u64, u64) {
    let mut words = [0_u64; 11];
    m.read(at + DATA, words.as_mut_bytes()).unwrap();
    let op = |words: &[u64]| MmuExtOp::read_from_bytes(words.as_bytes()).unwrap();
    let ops = [op(&words[..3]), op(&words[3..6])];
    let count = usize::try_from(words[6]).unwrap();
    mmuext_op(m, "jump", &ops[..count]).unwrap();
    // It runs on, at the same address of the new address space.
    assert_eq!(m.read64(at).unwrap() & 0xff, 0xcc);
    (words[8], words[10])
}

#[test]
fn nothing_is_left_behind_and_the_next_kernel_finds_its_start_of_day() {
    let Outcome {
        m,
        new,
        entry,
        found,
    } = hand_off(Omit::default()).unwrap();
    assert_eq!(found, [""; 0]);
    assert_eq!(entry, NEXT + FIRST);
    for n in 0..FILE_PAGES {
        let mut page = [0; 4096];
        m.read(entry + n * PAGE_SIZE, &mut page).unwrap();
        let whole = if n + 1 < FILE_PAGES { 4096 } else { 4096 - 100 };
        assert!(
            page[..whole].iter().all(|byte| *byte == filling(n)),
            "page {n}"
        );
        assert!(page[whole..].iter().all(|byte| *byte == 0), "page {n}");
    }
    for n in FILE_PAGES..FILE_PAGES + 2 {
        assert_eq!(m.read64(entry + n * PAGE_SIZE), Ok(0));
    }
    let start = pv::Start::read(&m, new.start_info, NEXT).unwrap();
    assert_eq!(
        (start.info.nr_pages, start.command_line().as_str()),
        (PAGES, "console=hvc0")
    );
    // It can build on what it was given: the p2m list is true.
    let mfn = m.read64(start.info.mfn_list + 5000 * 8).unwrap();
    assert_eq!(
        m.read64(kexen_abi::mmu::MACH2PHYS_VIRT_START + mfn * 8),
        Ok(5000)
    );
    assert_eq!(m.last_fault(), None);
}

#[test]
fn tables_left_writable_are_refused_and_the_running_kernel_goes_on() {
    let omit = Omit {
        read_only_tables: true,
        ..Omit::default()
    };
    let Err(error) = hand_off(omit) else {
        panic!("Xen took tables that are mapped writable")
    };
    let text = error.to_string();
    assert!(
        text.contains("pin the new page tables") && text.contains("EINVAL"),
        "{text}"
    );
}

#[test]
fn old_tables_left_pinned_are_found() {
    let omit = Omit {
        unpin_old_tables: true,
        ..Omit::default()
    };
    let found = hand_off(omit).unwrap().found;
    assert!(
        found
            .iter()
            .any(|line| line.contains("pinned as an L4 table")),
        "{found:?}"
    );
}

#[test]
fn an_m2p_left_as_it_was_is_found() {
    let omit = Omit {
        m2p: true,
        ..Omit::default()
    };
    let found = hand_off(omit).unwrap().found;
    assert!(
        found
            .iter()
            .any(|line| line.contains("whose M2P entry says page")),
        "{found:?}"
    );
}
