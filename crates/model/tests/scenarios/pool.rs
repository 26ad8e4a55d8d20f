//! The early page-table pool `[start, end, top)`: both halves.

use kexen_abi::errno::Errno;
use kexen_abi::mmu::{MMUEXT_PIN_L1_TABLE, MmuExtOp, PAGE_PRESENT, PAGE_RW, PAGE_USER};
use kexen_guest::hypercall::mmuext_op;
use kexen_guest::pv::SpaceError;
use kexen_guest::{Defence, Extent, Extents, Machine};
use kexen_model::{Build, TypeLayout};

use crate::{Pv, pv_guest};

/// A guest that maps more memory than its padding has tables for: a second
/// round of the pool, out of free pages.
fn rounds(omit: Option<Defence>, layout: TypeLayout) -> (Pv, Result<Extents, SpaceError>) {
    let build = Build {
        pages: 12_000,
        ..Build::default()
    };
    let mut pv = pv_guest(layout, build);
    if let Some(defence) = omit {
        pv.m.xen().omit(defence);
    }
    let mut free = Extents::new();
    free.insert(Extent::new(4000, 1000));
    let result = two_rounds(&mut pv, &mut free);
    (pv, result.map(|()| free))
}

fn two_rounds(pv: &mut Pv, free: &mut Extents) -> Result<(), SpaceError> {
    let m = pv.m.clone();
    for round in 0..2 {
        pv.space.reserve_tables(&m, free, 200)?;
        let mut pages = Extents::new();
        pages.insert(Extent::new(5000 + round * 3000, 3000));
        pv.space.map_window(&m, &pages)?;
        pv.space.close_pools(&m, free)?;
    }
    Ok(())
}

/// The next user of free memory writes all of it, where it is mapped.
fn use_all(pv: &mut Pv, free: &Extents) -> Result<(), SpaceError> {
    let m = pv.m.clone();
    pv.space.map_window(&m, free)?;
    for pfn in free.pages() {
        m.write64(pv.space.address(pfn), pfn)?;
    }
    Ok(())
}

#[test]
fn both_rounds_build_and_give_their_tail_back() {
    let (mut pv, free) = rounds(None, TypeLayout::Current);
    let free = free.unwrap();
    // Some became tables for good; the rest is free, and can be used.
    assert!(
        free.count() > 900 && free.count() < 1000,
        "{}",
        free.count()
    );
    use_all(&mut pv, &free).unwrap();
    assert_eq!(pv.m.last_fault(), None);
}

#[test]
fn a_tail_that_is_mapped_writable_when_it_is_hooked_in_is_a_bad_type() {
    let omit = Some(Defence::ReadOnlyPool);
    for (layout, line) in [
        (
            TypeLayout::Xen40,
            "Bad type (saw 7400000000000001 != exp 1000000000000000) for mfn ",
        ),
        (
            TypeLayout::Current,
            "Bad type (saw e400000000000001 != exp 2000000000000000) for mfn ",
        ),
    ] {
        let (pv, result) = rounds(omit, layout);
        let Err(SpaceError::Hypercall(error)) = result else {
            panic!("{result:?}")
        };
        assert_eq!(error.errno, Errno::EINVAL);
        let log = pv.m.xen().take_log();
        let kinds = ["exp 3000000000000000", "exp 6000000000000000"];
        // The first table that is missing is an L3 or an L1, by what is
        // mapped already: the words are the same but for the type.
        let seen = log
            .iter()
            .any(|said| said.contains(line) || kinds.iter().any(|kind| said.contains(kind)));
        assert!(seen, "{log:#?}");
    }
}

#[test]
fn a_table_with_a_writable_mapping_cannot_be_pinned() {
    // The words of the report, to the last digit: an L1 table in the tail,
    // with one writable mapping, pinned.
    let pv = pv_guest(TypeLayout::Xen40, Build::default());
    let pfn = pv.start.boot_pages() + 3;
    let mfn = pv.space.mfn(&pv.m, pfn).unwrap();
    let pin = MmuExtOp {
        cmd: MMUEXT_PIN_L1_TABLE,
        pad: 0,
        arg1: mfn,
        arg2: 0,
    };
    let error = mmuext_op(&pv.m, "pin", &[pin]).unwrap_err();
    assert_eq!(error.errno, Errno::EINVAL);
    let log = pv.m.xen().take_log();
    assert_eq!(
        log,
        [
            format!(
                "Bad type (saw 7400000000000001 != exp 1000000000000000) \
                 for mfn {mfn:x} (pfn {pfn:x})"
            ),
            format!("Error -22 while pinning mfn {mfn:x}"),
        ]
    );
}

#[test]
fn a_tail_that_stays_read_only_gives_its_next_user_a_write_fault() {
    let omit = Some(Defence::WritableTail);
    let (mut pv, free) = rounds(omit, TypeLayout::Current);
    let error = use_all(&mut pv, &free.unwrap()).unwrap_err();
    assert!(matches!(error, SpaceError::Fault(_)), "{error}");
    let fault = pv.m.last_fault().unwrap();
    assert_eq!(fault.error_code, 3);
    // This one is true: the entry itself says read-only.
    let entry = fault.entry.unwrap();
    assert_eq!(
        entry & (PAGE_PRESENT | PAGE_RW | PAGE_USER),
        PAGE_PRESENT | PAGE_USER
    );
}
