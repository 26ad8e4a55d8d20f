//! Map and unmap: pins, bits, references, statuses.

use kexen_abi::PAGE_SHIFT;
use kexen_abi::grant_table::*;
use kexen_abi::mmu::{PAGE_PRESENT, PAGE_RW, PAGE_USER};
use kexen_guest::Machine;

use super::tools::*;
use crate::Kind;
use crate::frame::PGT_WRITABLE;
use crate::physmap::Entry;

const GREF: u32 = 8;
const RW: u32 = GNTMAP_HOST_MAP;
const RO: u32 = GNTMAP_HOST_MAP | GNTMAP_READONLY;

#[test]
fn a_mapping_sets_bits_and_takes_references() {
    for front in KINDS {
        for back in KINDS {
            let t = pair(front, back);
            make_room(&t.back, 2);
            let frame = mfn(&t.front, 500);
            let before = counts(&t.xen, frame);
            t.front.grant(GREF, BACK, 500, false);
            let op = t.back.map_flags(FRONT, GREF, address(&t.back, 0), RW);
            assert_eq!((op.status, op.handle), (0, 0));
            assert_eq!(op.dev_bus_addr, frame << PAGE_SHIFT);
            let bits = GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING;
            assert_eq!(t.front.flags(GREF), bits);
            assert_eq!(t.front.pin(GREF), 1);
            let typed = u64::from(front == Kind::Pv);
            assert_eq!(counts(&t.xen, frame), (before.0 + 1, before.1 + typed));
            // The same domain again, read-only: one more pin.
            let second = t.back.map(FRONT, GREF, address(&t.back, 1), false);
            assert_eq!(second, Ok(1));
            assert_eq!(t.front.pin(GREF), 0x101);
            assert_eq!(counts(&t.xen, frame), (before.0 + 2, before.1 + typed));
            // The writer goes: only its bit does.
            assert_eq!(t.back.unmap(0, address(&t.back, 0), 0), 0);
            assert_eq!(t.front.flags(GREF), GTF_PERMIT_ACCESS | GTF_READING);
            assert_eq!(counts(&t.xen, frame), (before.0 + 1, before.1));
            assert_eq!(t.back.unmap(1, address(&t.back, 1), 0), 0);
            assert_eq!(t.front.flags(GREF), GTF_PERMIT_ACCESS);
            assert_eq!(t.front.pin(GREF), 0);
            assert_eq!(counts(&t.xen, frame), before);
        }
    }
}

#[test]
fn a_mapping_is_memory() {
    for back in KINDS {
        let t = pair(Kind::Pvh, back);
        t.front.grant(GREF, BACK, 500, false);
        let at = address(&t.back, 0);
        let handle = t.back.map(FRONT, GREF, at, true).unwrap();
        if back == Kind::Pv {
            // What the processor had of the entry before is its own affair.
            t.xen.state().flush_domain(t.back.index());
        }
        t.back.vcpu(0).write64(at + 8, 77).unwrap();
        assert_eq!(t.front.vcpu(0).read64((500 << PAGE_SHIFT) + 8), Ok(77));
        assert_eq!(t.back.unmap(handle, at, 0), 0);
        if back == Kind::Pv {
            assert!(t.back.vcpu(0).read64(at).is_err(), "the TLB is flushed");
        } else {
            assert_eq!(t.back.vcpu(0).read64(at), Ok(u64::MAX), "a hole");
        }
    }
}

#[test]
fn a_pv_entry_is_as_xen_makes_it() {
    let t = pair(Kind::Pv, Kind::Pv);
    t.front.grant(GREF, BACK, 500, false);
    let frame = mfn(&t.front, 500) << PAGE_SHIFT;
    let at = address(&t.back, 0);
    let fixed = 1 << 63 | PAGE_PRESENT | PAGE_USER | 0x60;
    assert!(t.back.map(FRONT, GREF, at, false).is_ok());
    assert_eq!(l1(&t.back, at).0, frame | fixed | 1 << 52);
    let op = t.back.map_flags(
        FRONT,
        GREF,
        address(&t.back, 1),
        RW | GNTMAP_APPLICATION_MAP,
    );
    assert_eq!(op.status, 0);
    let entry = l1(&t.back, address(&t.back, 1)).0;
    assert_eq!(entry, frame | fixed | PAGE_RW | 0x100);
    // Bits of the guest's own; of those only three fit.
    let avail = 0xfffd << 16;
    let op = t
        .back
        .map_flags(FRONT, GREF, address(&t.back, 2), RO | avail);
    assert_eq!(op.status, 0);
    let entry = l1(&t.back, address(&t.back, 2)).0;
    assert_eq!(entry, frame | fixed | 1 << 52 | 5 << 9);
}

#[test]
fn a_pv_entry_can_be_named_by_its_address() {
    let t = pair(Kind::Pv, Kind::Pv);
    t.front.grant(GREF, BACK, 500, false);
    let at = address(&t.back, 0);
    let own = mfn(&t.back, PFN);
    let before = counts(&t.xen, own);
    let pte = l1(&t.back, at).1;
    let flags = RW | GNTMAP_CONTAINS_PTE;
    for bad in [
        pte + 4,
        own << PAGE_SHIFT,
        mfn(&t.front, 3) << PAGE_SHIFT,
        u64::MAX - 7,
    ] {
        let op = t.back.map_flags(FRONT, GREF, bad, flags);
        assert_eq!(op.status, GNTST_GENERAL_ERROR, "{bad:#x}");
        assert_eq!(t.front.flags(GREF), GTF_PERMIT_ACCESS);
        assert_eq!(op.handle, u32::MAX);
    }
    let op = t.back.map_flags(FRONT, GREF, pte, flags);
    assert_eq!(op.status, 0);
    // What was mapped there lost its reference and its writable type.
    assert_eq!(counts(&t.xen, own), (before.0 - 1, before.1 - 1));
    // By address it can be undone only as it was made.
    assert_eq!(t.back.unmap(op.handle, at, 0), GNTST_GENERAL_ERROR);
    assert_eq!(t.back.unmap(op.handle, pte, 0), 0);
    assert_eq!(l1(&t.back, at).0, 0);
}

#[test]
fn a_table_is_no_frame_to_write() {
    let t = pair(Kind::Pv, Kind::Pvh);
    let at = va(&t.front, 0);
    let table = l1(&t.front, at).1 >> PAGE_SHIFT;
    t.front.entry(GREF, GTF_PERMIT_ACCESS, BACK, table);
    let before = counts(&t.xen, table);
    let status = t.back.map(FRONT, GREF, address(&t.back, 0), true);
    assert_eq!(status, Err(GNTST_GENERAL_ERROR));
    assert_eq!(counts(&t.xen, table), before);
    assert_eq!(t.front.flags(GREF), GTF_PERMIT_ACCESS);
    assert_eq!(physmap(&t.back, HOLE), None);
    // To read it is one.
    assert!(t.back.map(FRONT, GREF, address(&t.back, 0), false).is_ok());
}

#[test]
fn a_writable_mapping_keeps_a_pv_frame_from_becoming_a_table() {
    let t = pair(Kind::Pv, Kind::Pv);
    t.front.grant(GREF, BACK, 1900, false);
    let frame = mfn(&t.front, 1900);
    assert!(t.back.map(FRONT, GREF, address(&t.back, 0), true).is_ok());
    let mut state = t.xen.state();
    assert_eq!(state.at(frame).kind(), PGT_WRITABLE);
    assert!(state.get_page_type(frame, crate::frame::PGT_L1).is_err());
}

#[test]
fn what_may_not_be_mapped_is_refused() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    let at = address(&t.back, 0);
    let status = |dom, gref, flags| {
        let op = t.back.map_flags(dom, gref, at, flags);
        assert_eq!(op.handle, u32::MAX);
        op.status
    };
    t.front.grant(GREF, BACK, 500, true);
    t.front.grant(9, 7, 500, false);
    t.front
        .entry(10, GTF_PERMIT_ACCESS | GTF_SUB_PAGE, BACK, 500);
    t.front.entry(11, GTF_ACCEPT_TRANSFER, BACK, 500);
    t.front.entry(12, GTF_PERMIT_ACCESS, BACK, 0xffff_ffff);
    assert_eq!(status(FRONT, GREF, 0), GNTST_BAD_GNTREF);
    assert_eq!(status(FRONT, GREF, GNTMAP_READONLY), GNTST_BAD_GNTREF);
    for flag in [
        GNTMAP_DEVICE_MAP,
        GNTMAP_APPLICATION_MAP,
        GNTMAP_CONTAINS_PTE,
    ] {
        assert_eq!(status(FRONT, GREF, RO | flag), GNTST_GENERAL_ERROR);
    }
    assert_eq!(status(FRONT, GREF, RO | 1 << 16), GNTST_GENERAL_ERROR);
    assert_eq!(status(99, GREF, RO), GNTST_BAD_DOMAIN);
    assert_eq!(status(kexen_abi::DOMID_SELF, GREF, RO), GNTST_BAD_DOMAIN);
    assert_eq!(status(FRONT, 512, RO), GNTST_BAD_GNTREF);
    assert_eq!(status(FRONT, u32::MAX, RO), GNTST_BAD_GNTREF);
    assert_eq!(status(FRONT, GREF, RW), GNTST_GENERAL_ERROR, "read-only");
    assert_eq!(status(FRONT, 9, RO), GNTST_GENERAL_ERROR, "another's");
    assert_eq!(status(FRONT, 10, RO), GNTST_GENERAL_ERROR, "a part");
    assert_eq!(status(FRONT, 11, RO), GNTST_GENERAL_ERROR, "a transfer");
    assert_eq!(status(FRONT, 12, RW), GNTST_BAD_PAGE, "no such frame");
    for gref in 8..13 {
        assert_eq!(t.front.pin(gref), 0);
        assert_eq!(t.front.flags(gref) & GTF_WRITING, 0);
    }
    assert_eq!(physmap(&t.back, HOLE), None);
}

#[test]
fn a_pinned_reference_gives_the_old_frame_to_its_user() {
    for back in KINDS {
        let t = pair(Kind::Pvh, back);
        let third = t.xen.domain(
            Kind::Pvh,
            crate::Build {
                id: 3,
                ..Default::default()
            },
        );
        t.front.grant(GREF, BACK, 500, true);
        let old = mfn(&t.front, 500);
        let first = t.back.map(FRONT, GREF, address(&t.back, 0), false).unwrap();
        // The granter forgets, and gives the reference to somebody else.
        t.front.grant(GREF, 3, 501, false);
        assert_eq!(
            third.map(FRONT, GREF, HOLE << PAGE_SHIFT, true),
            Err(GNTST_GENERAL_ERROR)
        );
        // The old user gets the old frame without a look at the domain, and
        // even to write: the entry says no "read-only" now.
        let op = t.back.map_flags(FRONT, GREF, address(&t.back, 1), RW);
        assert_eq!((op.status, op.dev_bus_addr), (0, old << PAGE_SHIFT));
        let bits = GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING;
        assert_eq!(t.front.flags(GREF), bits);
        // Bits that the guest wiped do not come back with a further reader.
        t.front.entry(GREF, 0, 0, 0);
        assert_eq!(t.back.map(FRONT, GREF, address(&t.back, 2), false), Ok(2));
        assert_eq!(t.front.flags(GREF), 0, "looks free, is pinned");
        for (n, handle) in [(0, first), (1, op.handle), (2, 2)] {
            assert_eq!(t.back.unmap(handle, address(&t.back, n), 0), 0);
        }
        assert_eq!(t.front.pin(GREF), 0);
        t.front.grant(GREF, 3, 501, false);
        assert!(third.map(FRONT, GREF, HOLE << PAGE_SHIFT, true).is_ok());
    }
}

#[test]
fn a_count_stops_at_half_its_range() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    t.front.grant(GREF, BACK, 500, false);
    for n in 0..128 {
        assert!(t.back.map(FRONT, GREF, address(&t.back, n), false).is_ok());
    }
    assert_eq!(
        t.back.map(FRONT, GREF, address(&t.back, 128), false),
        Err(GNTST_GENERAL_ERROR)
    );
    // Another count has room.
    assert!(t.back.map(FRONT, GREF, address(&t.back, 128), true).is_ok());
}

#[test]
fn a_handle_is_undone_once_and_at_its_place() {
    for back in KINDS {
        let t = pair(Kind::Pvh, back);
        t.front.grant(GREF, BACK, 500, false);
        let at = address(&t.back, 0);
        assert_eq!(t.back.unmap(0, at, 0), GNTST_BAD_HANDLE);
        let handle = t.back.map(FRONT, GREF, at, true).unwrap();
        assert_eq!(t.back.unmap(u32::MAX, at, 0), GNTST_BAD_HANDLE);
        assert_eq!(t.back.unmap(handle + 1, at, 0), GNTST_BAD_HANDLE);
        for bad in [
            address(&t.back, 1),
            1,
            u64::MAX,
            kexen_abi::mmu::MACH2PHYS_VIRT_START,
        ] {
            assert_eq!(t.back.unmap(handle, bad, 0), GNTST_GENERAL_ERROR);
        }
        assert_eq!(t.back.unmap(handle, 0, 0), 0, "nothing named, nothing done");
        assert_eq!(t.front.pin(GREF), 1);
        assert_eq!(t.back.unmap(handle, at, 0), 0);
        assert_eq!(t.back.unmap(handle, at, 0), GNTST_BAD_HANDLE);
    }
}

#[test]
fn a_map_over_a_grant_is_the_end_of_a_translated_guest() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    t.front.grant(GREF, BACK, 500, false);
    let at = address(&t.back, 0);
    assert!(t.back.map(FRONT, GREF, at, true).is_ok());
    assert_eq!(t.back.map(FRONT, GREF, at, true), Err(GNTST_GENERAL_ERROR));
    assert!(t.xen.state().domains[t.back.index()].life.ended());
}

#[test]
fn a_read_only_grant_in_a_physmap_swallows_stores() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    t.front.grant(GREF, BACK, 500, false);
    let frame = mfn(&t.front, 500);
    t.xen.state().set_word(frame, 0, 77);
    let (ro, rw) = (address(&t.back, 0), address(&t.back, 1));
    t.back.map(FRONT, GREF, ro, false).unwrap();
    t.back.map(FRONT, GREF, rw, true).unwrap();
    let m = t.back.vcpu(0);
    assert_eq!(m.write64(ro, 1), Ok(()));
    assert_eq!(m.read64(rw), Ok(77));
    assert_eq!(m.write64(rw, 2), Ok(()));
    assert_eq!(m.read64(ro), Ok(2));
    // Neither is a place for a hypercall's argument.
    for at in [ro, rw] {
        let mut args = [GNTTABOP_GET_VERSION, at, 1].map(kexen_guest::Arg::Value);
        let call = kexen_abi::hypercall::Hypercall::GRANT_TABLE_OP;
        assert_eq!(m.hypercall(call, &mut args), -14);
    }
}

#[test]
fn ram_under_a_grant_is_out_of_reach() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    t.front.grant(GREF, BACK, 500, false);
    let under = mfn(&t.back, 40);
    let handle = t.back.map(FRONT, GREF, 40 << PAGE_SHIFT, true).unwrap();
    let there = Entry::Grant {
        mfn: mfn(&t.front, 500),
        writable: true,
    };
    assert_eq!(physmap(&t.back, 40), Some(there));
    assert_eq!(t.back.unmap(handle, 40 << PAGE_SHIFT, 0), 0);
    assert_eq!(physmap(&t.back, 40), None);
    assert_eq!(counts(&t.xen, under).0, 1, "still the domain's");
}

#[test]
fn a_pv_guest_that_overwrites_the_entry_keeps_the_pin() {
    for front in KINDS {
        overwrite(front);
    }
}

fn overwrite(front: Kind) {
    let t = pair(front, Kind::Pv);
    t.front.grant(GREF, BACK, 500, false);
    let frame = mfn(&t.front, 500);
    let before = counts(&t.xen, frame);
    let at = address(&t.back, 0);
    let handle = t.back.map(FRONT, GREF, at, true).unwrap();
    make_room(&t.back, 1);
    assert_eq!(counts(&t.xen, frame), before, "the entry held it");
    assert_eq!(t.back.unmap(handle, at, 0), GNTST_GENERAL_ERROR);
    assert_eq!(t.front.pin(GREF), 1, "for good");
}

#[test]
fn devices_and_processors_are_counted_apart() {
    let t = pair(Kind::Pv, Kind::Pv);
    t.front.grant(GREF, BACK, 500, false);
    let frame = mfn(&t.front, 500);
    let before = counts(&t.xen, frame);
    let at = address(&t.back, 0);
    let op = t.back.map_flags(FRONT, GREF, at, RW | GNTMAP_DEVICE_MAP);
    assert_eq!(op.status, 0);
    assert_eq!(t.front.pin(GREF), 0x1_0001);
    assert_eq!(counts(&t.xen, frame), (before.0 + 2, before.1 + 2));
    let bus = op.dev_bus_addr;
    assert_eq!(t.back.unmap(op.handle, 0, bus + 8), GNTST_BAD_DEV_ADDR);
    assert_eq!(t.back.unmap(op.handle, at, 0), 0);
    assert_eq!(t.front.pin(GREF), 0x1_0000);
    assert_eq!(t.front.flags(GREF) & GTF_WRITING, GTF_WRITING);
    assert_eq!(t.back.unmap(op.handle, at, 0), 0, "that half is gone");
    assert_eq!(t.back.unmap(op.handle, 0, bus), 0);
    assert_eq!(counts(&t.xen, frame), before);
    assert_eq!(t.back.unmap(op.handle, 0, bus), GNTST_BAD_HANDLE);
    let op = t
        .back
        .map_flags(FRONT, GREF, 0, GNTMAP_DEVICE_MAP | GNTMAP_READONLY);
    assert_eq!((op.status, t.front.pin(GREF)), (0, 0x100_0000));
    assert_eq!(counts(&t.xen, frame), (before.0 + 1, before.1));
}

#[test]
fn a_domain_maps_its_own_grants() {
    for kind in KINDS {
        let t = pair(kind, Kind::Pvh);
        make_room(&t.front, 1);
        let frame = mfn(&t.front, 500);
        let before = counts(&t.xen, frame);
        t.front.grant(GREF, FRONT, 500, false);
        let at = address(&t.front, 0);
        let handle = t.front.map(FRONT, GREF, at, true).unwrap();
        // One's own frame is always typed.
        assert_eq!(counts(&t.xen, frame), (before.0 + 1, before.1 + 1));
        assert_eq!(t.front.unmap(handle, at, 0), 0);
        assert_eq!(counts(&t.xen, frame), before);
    }
}

#[test]
fn unmap_and_replace_moves_an_entry() {
    let t = pair(Kind::Pvh, Kind::Pv);
    t.front.grant(GREF, BACK, 500, false);
    let (at, from) = (address(&t.back, 0), address(&t.back, 1));
    let handle = t.back.map(FRONT, GREF, at, true).unwrap();
    let other = l1(&t.back, from).0;
    let own = mfn(&t.back, PFN + 1);
    let before = counts(&t.xen, own);
    let mut op = GnttabUnmapAndReplace {
        host_addr: at,
        new_addr: kexen_abi::mmu::MACH2PHYS_VIRT_START,
        handle,
        status: 1,
        pad: 0,
    };
    assert_eq!(t.back.op(GNTTABOP_UNMAP_AND_REPLACE, &mut op), 0);
    assert_eq!(op.status, GNTST_GENERAL_ERROR);
    op.new_addr = from;
    assert_eq!(t.back.op(GNTTABOP_UNMAP_AND_REPLACE, &mut op), 0);
    assert_eq!(op.status, 0);
    assert_eq!((l1(&t.back, at).0, l1(&t.back, from).0), (other, 0));
    assert_eq!(counts(&t.xen, own), before);
    assert_eq!(t.front.pin(GREF), 0);
}
