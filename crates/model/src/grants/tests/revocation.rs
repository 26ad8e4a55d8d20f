//! The rules of revocation, one by one.

use kexen_abi::grant_table::*;
use kexen_abi::revocation::*;
use kexen_abi::{DOMID_SELF, PAGE_SHIFT};
use kexen_guest::Machine;
use zerocopy::FromZeros;

use super::tools::*;
use crate::physmap::Entry;
use crate::{Config, Guest, Kind};

const GREF: u32 = 8;

fn machine(front: Kind, back: Kind) -> Two {
    let config = Config {
        revocation: true,
        ..Config::default()
    };
    two(front, back, config)
}

impl Guest {
    /// Maps revocably; the stand-in is a page of this guest's.
    pub(super) fn map_revocable(
        &self,
        dom: u16,
        gref: u32,
        host_addr: u64,
        stand_in: Option<u64>,
    ) -> Result<u32, i16> {
        let mut op = GnttabMapRevocable::new_zeroed();
        op.map.host_addr = host_addr;
        op.map.flags = GNTMAP_HOST_MAP;
        if stand_in.is_none() {
            op.map.flags |= GNTMAP_READONLY;
        }
        op.map.gref = gref;
        op.map.dom = dom;
        op.stand_in = stand_in.map_or(NO_STAND_IN, |pfn| frame_number(self, pfn));
        assert_eq!(self.op(GNTTABOP_MAP_REVOCABLE, &mut op), 0);
        if op.map.status == GNTST_OKAY {
            Ok(op.map.handle)
        } else {
            Err(op.map.status)
        }
    }

    pub(super) fn revoke(&self, gref: u32) -> Result<u32, i16> {
        let mut op = GnttabRevoke::new_zeroed();
        op.gref = gref;
        assert_eq!(self.op(GNTTABOP_REVOKE, &mut op), 0);
        if op.status == GNTST_OKAY {
            Ok(op.replaced)
        } else {
            Err(op.status)
        }
    }
}

#[test]
fn no_xen_has_it() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    let mut op = GnttabRevoke::new_zeroed();
    assert_eq!(t.front.op(GNTTABOP_REVOKE, &mut op), -38);
    let mut op = GnttabMapRevocable::new_zeroed();
    assert_eq!(t.front.op(GNTTABOP_MAP_REVOCABLE, &mut op), -38);
}

#[test]
fn every_mapping_is_replaced_and_the_reference_is_clean() {
    for front in KINDS {
        for back in KINDS {
            let t = machine(front, back);
            make_room(&t.back, 4);
            let before = census(&t.xen);
            t.front.grant(GREF, BACK, 500, false);
            let frame = mfn(&t.front, 500);
            t.xen.state().bytes_mut(frame).fill(0xaa);
            for pfn in [600, 601] {
                let stand_in = mfn(&t.back, pfn);
                t.xen.state().bytes_mut(stand_in).fill(0xbb);
            }
            let at = |n| address(&t.back, n);
            let map = |n, stand_in| t.back.map_revocable(FRONT, GREF, at(n), stand_in);
            let handles = [
                map(0, Some(600)).unwrap(),
                map(1, Some(601)).unwrap(),
                map(2, None).unwrap(),
                // Plain and read-only: there is nothing to leave for it.
                t.back.map(FRONT, GREF, at(3), false).unwrap(),
            ];
            t.xen.state().flush_domain(t.back.index());
            let m = t.back.vcpu(0);
            for n in 0..4 {
                assert_eq!(m.read64(at(n)), Ok(0xaaaa_aaaa_aaaa_aaaa));
            }
            assert_eq!(t.front.revoke(GREF), Ok(4));
            // The granter's frame is its own again, and the entry is free.
            assert_eq!(
                counts(&t.xen, frame),
                before[usize::try_from(frame).unwrap()]
            );
            assert_eq!((t.front.flags(GREF), t.front.pin(GREF)), (0, 0));
            let state = t.xen.state();
            let place = state.entry(t.front.index(), GREF);
            assert_eq!(state.word(place.mfn, place.offset), 0);
            drop(state);
            // The backend is where it was, in memory of its own.
            m.write64(at(0), 1).unwrap();
            m.write64(at(1), 2).unwrap();
            let seen: Vec<u64> = (0..4).map(|n| m.read64(at(n)).unwrap()).collect();
            assert_eq!(seen, [1, 2, 0, 0]);
            assert_eq!(t.xen.state().bytes(frame), &[0xaa; 4096]);
            // It is undone as ever, and everybody has what was theirs.
            for (n, handle) in (0..).zip(handles) {
                assert_eq!(t.back.unmap(handle, at(n), 0), 0);
                assert_eq!(t.back.unmap(handle, at(n), 0), GNTST_BAD_HANDLE);
            }
            assert!(t.xen.state().stand_ins(t.back.index()).is_empty());
            let zeroes = t.xen.state().table(t.back.index()).zeroes.unwrap();
            assert_eq!(counts(&t.xen, zeroes).0, 1);
            t.xen.state().put_allocation(zeroes);
            same_as(&before, &t.xen);
        }
    }
}

#[test]
fn a_read_only_mapping_stays_read_only() {
    let t = machine(Kind::Pvh, Kind::Pv);
    t.front.grant(GREF, BACK, 500, false);
    let at = address(&t.back, 0);
    t.back.map_revocable(FRONT, GREF, at, None).unwrap();
    assert_eq!(t.front.revoke(GREF), Ok(1));
    assert!(t.back.vcpu(0).write64(at, 1).is_err());
    // The frame of zeroes is nobody's to map.
    let zeroes = t.xen.state().table(t.back.index()).zeroes.unwrap();
    let entry = zeroes << PAGE_SHIFT | 7;
    let mut args = [address(&t.back, 1), entry, 0].map(kexen_guest::Arg::Value);
    let call = kexen_abi::hypercall::Hypercall::UPDATE_VA_MAPPING;
    assert!(t.back.vcpu(0).hypercall(call, &mut args) < 0);
}

#[test]
fn one_plain_writable_mapping_stops_it_all() {
    for front in KINDS {
        let t = machine(front, Kind::Pv);
        make_room(&t.back, 3);
        t.front.grant(GREF, BACK, 500, false);
        let at = |n| address(&t.back, n);
        let map = |n, stand_in| t.back.map_revocable(FRONT, GREF, at(n), stand_in);
        map(0, Some(600)).unwrap();
        map(1, None).unwrap();
        let plain = t.back.map(FRONT, GREF, at(2), true).unwrap();
        let before = census(&t.xen);
        let entry = l1(&t.back, at(0)).0;
        assert_eq!(t.front.revoke(GREF), Err(GNTST_NOT_REVOCABLE));
        same_as(&before, &t.xen);
        assert_eq!(l1(&t.back, at(0)).0, entry);
        assert_ne!(t.front.flags(GREF), 0);
        assert_eq!(t.back.unmap(plain, at(2), 0), 0);
        let device = GNTMAP_DEVICE_MAP | GNTMAP_READONLY;
        let op = t.back.map_flags(FRONT, GREF, 0, device);
        assert_eq!(t.front.revoke(GREF), Err(GNTST_NOT_REVOCABLE));
        assert_eq!(t.back.unmap(op.handle, 0, op.dev_bus_addr), 0);
        assert_eq!(t.front.revoke(GREF), Ok(2));
    }
}

#[test]
fn a_stand_in_is_the_callers_and_stands_in_once() {
    for back in KINDS {
        let t = machine(Kind::Pvh, back);
        make_room(&t.back, 3);
        t.front.grant(GREF, BACK, 500, false);
        t.front.grant(9, BACK, 501, false);
        let at = |n| address(&t.back, n);
        let raw = |stand_in, flags| {
            let mut op = GnttabMapRevocable::new_zeroed();
            (op.map.host_addr, op.map.flags) = (at(0), flags);
            (op.map.gref, op.map.dom) = (GREF, FRONT);
            op.stand_in = stand_in;
            assert_eq!(t.back.op(GNTTABOP_MAP_REVOCABLE, &mut op), 0);
            op.map.status
        };
        let before = census(&t.xen);
        let (rw, ro) = (GNTMAP_HOST_MAP, GNTMAP_HOST_MAP | GNTMAP_READONLY);
        let own = frame_number(&t.back, 600);
        let shared_info = t.xen.state().domains[t.back.index()].shared_info;
        let mut bad = vec![NO_STAND_IN, 0, 1 << 40, u64::MAX - 1];
        if back == Kind::Pv {
            let table = l1(&t.back, at(0)).1 >> PAGE_SHIFT;
            bad.extend([mfn(&t.front, 3), table, shared_info]);
        }
        for stand_in in bad {
            if back == Kind::Pvh && stand_in == 0 {
                continue;
            }
            assert_eq!(raw(stand_in, rw), GNTST_BAD_PAGE, "{stand_in:#x}");
        }
        assert_eq!(raw(own, ro), GNTST_BAD_PAGE, "none for reading");
        assert_eq!(raw(own, rw | GNTMAP_DEVICE_MAP), GNTST_GENERAL_ERROR);
        assert_eq!(raw(own, GNTMAP_READONLY), GNTST_GENERAL_ERROR);
        // A map that fails lets go of it.
        let failed = t.back.map_revocable(FRONT, 10, at(0), Some(600));
        assert_eq!(failed, Err(GNTST_GENERAL_ERROR));
        same_as(&before, &t.xen);
        let map = |gref, n| t.back.map_revocable(FRONT, gref, at(n), Some(600));
        let first = map(GREF, 0).unwrap();
        assert_eq!(map(9, 1), Err(GNTST_BAD_PAGE));
        assert_eq!(t.front.revoke(GREF), Ok(1));
        assert_eq!(map(9, 1), Err(GNTST_BAD_PAGE), "in use still");
        assert_eq!(t.back.unmap(first, at(0), 0), 0);
        assert!(map(9, 1).is_ok());
        if back == Kind::Pv {
            let stand_in = mfn(&t.back, 600);
            let mut state = t.xen.state();
            let table = state.get_page_type(stand_in, crate::frame::PGT_L1);
            assert!(table.is_err(), "held as writable");
        }
    }
}

#[test]
fn an_unmap_before_any_revocation_gives_the_stand_in_back() {
    for back in KINDS {
        let t = machine(Kind::Pv, back);
        make_room(&t.back, 1);
        let before = census(&t.xen);
        t.front.grant(GREF, BACK, 500, false);
        let at = address(&t.back, 0);
        let handle = t.back.map_revocable(FRONT, GREF, at, Some(600)).unwrap();
        assert_eq!(t.back.unmap(handle, at, 0), 0);
        same_as(&before, &t.xen);
    }
}

#[test]
fn an_unused_or_wrong_reference() {
    let t = machine(Kind::Pvh, Kind::Pvh);
    t.front.grant(GREF, BACK, 500, false);
    assert_eq!(t.front.revoke(GREF), Ok(0));
    assert_eq!(t.front.flags(GREF), 0);
    assert_eq!(t.front.revoke(GREF), Ok(0), "and again");
    for bad in [512, u32::MAX] {
        assert_eq!(t.front.revoke(bad), Err(GNTST_BAD_GNTREF));
    }
}

#[test]
fn a_revoked_reference_can_be_used_anew() {
    let t = machine(Kind::Pv, Kind::Pvh);
    t.front.grant(GREF, BACK, 500, false);
    let first = t
        .back
        .map_revocable(FRONT, GREF, address(&t.back, 0), Some(600));
    assert_eq!(t.front.revoke(GREF), Ok(1));
    // Another frame, another user: Xen as it is would give the old frame,
    // or an error.
    let third = guest(&t.xen, Kind::Pvh, 3);
    t.front.grant(GREF, 3, 501, false);
    let at = address(&third, 0);
    let handle = third.map_revocable(FRONT, GREF, at, Some(5)).unwrap();
    let there = Entry::Grant {
        mfn: mfn(&t.front, 501),
        writable: true,
    };
    assert_eq!(physmap(&third, HOLE), Some(there));
    // The old user's unmap does not touch the new use.
    assert_eq!(t.back.unmap(first.unwrap(), address(&t.back, 0), 0), 0);
    assert_eq!(t.front.pin(GREF), 1);
    assert_eq!(t.front.flags(GREF) & GTF_WRITING, GTF_WRITING);
    assert_eq!(third.unmap(handle, at, 0), 0);
    // What a kexec needs: nothing stops a change of version.
    let mut op = GnttabSetVersion { version: 2 };
    assert_eq!(t.front.op(GNTTABOP_SET_VERSION, &mut op), 0);
}

#[test]
fn version_2_is_cleaned_too() {
    let t = machine(Kind::Pvh, Kind::Pvh);
    let mut op = GnttabSetVersion { version: 2 };
    assert_eq!(t.front.op(GNTTABOP_SET_VERSION, &mut op), 0);
    t.front.grant(GREF, BACK, 500, false);
    t.back
        .map_revocable(FRONT, GREF, address(&t.back, 0), Some(600))
        .unwrap();
    assert_eq!(t.front.status(GREF), GTF_READING | GTF_WRITING);
    assert_eq!(t.front.revoke(GREF), Ok(1));
    assert_eq!((t.front.flags(GREF), t.front.status(GREF)), (0, 0));
    let frame = t.xen.state().entry_frame(t.front.index(), GREF);
    assert_eq!(frame, 0);
}

#[test]
fn an_entry_that_was_overwritten_is_left_alone() {
    let t = machine(Kind::Pv, Kind::Pv);
    make_room(&t.back, 1);
    let before = census(&t.xen);
    t.front.grant(GREF, BACK, 500, false);
    let at = address(&t.back, 0);
    let map = |stand_in| t.back.map_revocable(FRONT, GREF, at, Some(stand_in));
    let lost = map(600).unwrap();
    make_room(&t.back, 1);
    assert_eq!(t.front.revoke(GREF), Ok(0));
    same_as(&before, &t.xen);
    assert_eq!(t.back.unmap(lost, at, 0), GNTST_BAD_HANDLE);
    // Mapped twice at one place: the second mapping is the one there.
    t.front.grant(GREF, BACK, 500, false);
    map(600).unwrap();
    let second = map(601).unwrap();
    assert_eq!(t.front.revoke(GREF), Ok(1));
    let stand_in = mfn(&t.back, 601);
    assert_eq!(l1(&t.back, at).0 >> PAGE_SHIFT & 0xff_ffff, stand_in);
    assert_eq!(t.back.unmap(second, at, 0), 0);
    same_as(&before, &t.xen);
}

#[test]
fn a_mapping_cannot_be_moved_away() {
    let t = machine(Kind::Pvh, Kind::Pv);
    t.front.grant(GREF, BACK, 500, false);
    t.front.grant(9, BACK, 501, false);
    let at = |n| address(&t.back, n);
    let plain = t.back.map(FRONT, 9, at(1), true).unwrap();
    let map = t.back.map_revocable(FRONT, GREF, at(0), Some(600));
    assert!(map.is_ok());
    let mut op = GnttabUnmapAndReplace {
        host_addr: at(1),
        new_addr: at(0),
        handle: plain,
        status: 1,
        pad: 0,
    };
    assert_eq!(t.back.op(GNTTABOP_UNMAP_AND_REPLACE, &mut op), 0);
    assert_eq!(op.status, GNTST_GENERAL_ERROR);
    assert_eq!(t.front.revoke(GREF), Ok(1));
}

#[test]
fn a_stand_in_that_was_given_back_goes_at_the_unmap() {
    use kexen_abi::hypercall::Hypercall;
    use kexen_abi::memory::{MemoryReservation, XENMEM_DECREASE_RESERVATION};
    use kexen_guest::Arg;
    use zerocopy::IntoBytes;

    let t = machine(Kind::Pvh, Kind::Pvh);
    t.front.grant(GREF, BACK, 500, false);
    let stand_in = mfn(&t.back, 600);
    let at = address(&t.back, 0);
    let handle = t.back.map_revocable(FRONT, GREF, at, Some(600)).unwrap();
    let m = t.back.vcpu(0);
    m.write64(0x1000, 600).unwrap();
    let mut reservation = MemoryReservation::new_zeroed();
    reservation.extent_start = 0x1000;
    reservation.nr_extents = 1;
    reservation.domid = DOMID_SELF;
    let mut args = [
        Arg::Value(XENMEM_DECREASE_RESERVATION),
        Arg::In(reservation.as_bytes()),
    ];
    assert_eq!(m.hypercall(Hypercall::MEMORY_OP, &mut args), 1);
    assert_eq!(t.xen.state().at(stand_in).owner, Some(BACK));
    assert_eq!(t.front.revoke(GREF), Ok(1));
    m.write64(at, 5).unwrap();
    assert_eq!(m.read64(at), Ok(5));
    assert_eq!(t.back.unmap(handle, at, 0), 0);
    assert_eq!(t.xen.state().at(stand_in).owner, None, "freed");
}
