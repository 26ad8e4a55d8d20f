//! Copies and transfers.

use kexen_abi::grant_table::*;
use kexen_abi::hypercall::Hypercall;
use kexen_abi::{DOMID_SELF, PAGE_SIZE};
use kexen_guest::{Arg, Machine};
use zerocopy::{FromZeros, IntoBytes};

use super::tools::*;
use crate::{Build, Config, Guest, Kind};

const GREF: u32 = 8;
const FROM: u16 = GNTCOPY_SOURCE_GREF;
const TO: u16 = GNTCOPY_DEST_GREF;

fn ptr(domid: u16, u: u64, offset: u16) -> GnttabCopyPtr {
    let pad = 0;
    GnttabCopyPtr {
        u,
        domid,
        offset,
        pad,
    }
}

fn copy(flags: u16, source: GnttabCopyPtr, dest: GnttabCopyPtr, len: u16) -> GnttabCopy {
    GnttabCopy {
        source,
        dest,
        len,
        flags,
        status: 1,
        pad: 0,
    }
}

fn copies(guest: &Guest, ops: &mut [GnttabCopy]) -> (i64, Vec<i16>) {
    let count = u64::try_from(ops.len()).unwrap();
    let mut args = [
        Arg::Value(GNTTABOP_COPY),
        Arg::InOut(ops.as_mut_bytes()),
        Arg::Value(count),
    ];
    let result = guest
        .vcpu(0)
        .hypercall(Hypercall::GRANT_TABLE_OP, &mut args);
    (result, ops.iter().map(|op| op.status).collect())
}

fn one(guest: &Guest, op: GnttabCopy) -> i16 {
    let (result, status) = copies(guest, &mut [op]);
    assert_eq!(result, 0);
    status[0]
}

fn put(guest: &Guest, pfn: u64, offset: usize, bytes: &[u8]) {
    let frame = mfn(guest, pfn);
    let mut state = guest.xen().state();
    state.bytes_mut(frame)[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn got(guest: &Guest, pfn: u64, offset: usize, len: usize) -> Vec<u8> {
    let frame = mfn(guest, pfn);
    guest.xen().state().bytes(frame)[offset..offset + len].to_vec()
}

fn version_2(guest: &Guest) {
    let mut op = GnttabSetVersion { version: 2 };
    assert_eq!(guest.op(GNTTABOP_SET_VERSION, &mut op), 0);
}

#[test]
fn bytes_go_both_ways_and_nothing_stays() {
    for front in KINDS {
        for back in KINDS {
            let t = pair(front, back);
            let before = census(&t.xen);
            t.front.grant(GREF, BACK, 500, false);
            put(&t.front, 500, 100, b"hello");
            let own = frame_number(&t.back, 600);
            let (theirs, ours) = (ptr(FRONT, 8, 100), ptr(DOMID_SELF, own, 7));
            assert_eq!(one(&t.back, copy(FROM, theirs, ours, 5)), 0);
            assert_eq!(got(&t.back, 600, 7, 5), b"hello");
            let theirs = ptr(FRONT, 8, 4091);
            assert_eq!(one(&t.back, copy(TO, ours, theirs, 5)), 0);
            assert_eq!(got(&t.front, 500, 4091, 5), b"hello");
            assert_eq!(t.front.flags(GREF), GTF_PERMIT_ACCESS);
            assert_eq!(t.front.pin(GREF), 0);
            same_as(&before, &t.xen);
        }
    }
}

#[test]
fn a_copy_between_two_others_and_within_oneself() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    let third = guest(&t.xen, Kind::Pv, 3);
    t.front.grant(GREF, BACK, 500, true);
    third.grant(9, BACK, 700, false);
    put(&t.front, 500, 0, b"data");
    let op = copy(FROM | TO, ptr(FRONT, 8, 0), ptr(3, 9, 8), 4);
    assert_eq!(one(&t.back, op), 0);
    assert_eq!(got(&third, 700, 8, 4), b"data");
    put(&t.back, 10, 0, b"mine");
    let op = copy(0, ptr(DOMID_SELF, 10, 0), ptr(DOMID_SELF, 10, 2), 4);
    assert_eq!(one(&t.back, op), 0);
    // Upwards: what was written is copied again.
    assert_eq!(got(&t.back, 10, 0, 6), b"mimimi");
    // The upper half beside a reference is not looked at.
    let op = copy(FROM | TO, ptr(FRONT, 8 | 7 << 32, 0), ptr(3, 9, 8), 4);
    assert_eq!(one(&t.back, op), 0);
}

#[test]
fn what_may_not_be_copied_is_refused() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    let before = census(&t.xen);
    t.front.grant(GREF, BACK, 500, true);
    t.front.grant(9, 7, 500, false);
    t.front.grant(10, BACK, 0xffff_fff0, false);
    let own = ptr(DOMID_SELF, 600, 0);
    let status = |flags, source, dest, len| one(&t.back, copy(flags, source, dest, len));
    let theirs = |gref| ptr(FRONT, gref, 0);
    assert_eq!(status(0, theirs(8), own, 4), GNTST_PERMISSION_DENIED);
    assert_eq!(status(FROM, own, theirs(8), 4), GNTST_PERMISSION_DENIED);
    assert_eq!(status(FROM, ptr(99, 8, 0), own, 4), GNTST_BAD_DOMAIN);
    assert_eq!(status(FROM, theirs(512), own, 4), GNTST_BAD_GNTREF);
    assert_eq!(status(FROM, theirs(0xffff_ffff), own, 4), GNTST_BAD_GNTREF);
    assert_eq!(status(FROM, theirs(9), own, 4), GNTST_GENERAL_ERROR);
    assert_eq!(status(FROM, theirs(10), own, 4), GNTST_BAD_PAGE);
    assert_eq!(status(TO, own, theirs(8), 4), GNTST_GENERAL_ERROR);
    let bad = ptr(DOMID_SELF, u64::MAX, 0);
    assert_eq!(status(FROM, theirs(8), bad, 4), GNTST_BAD_PAGE);
    for (offset, len) in [(4096, 1), (4095, 2), (0, 4097), (0xffff, 0xffff)] {
        let source = ptr(FRONT, 8, offset);
        assert_eq!(status(FROM, source, own, len), GNTST_BAD_COPY_ARG);
        let dest = ptr(DOMID_SELF, 600, offset);
        assert_eq!(status(FROM, theirs(8), dest, len), GNTST_BAD_COPY_ARG);
    }
    for gref in 8..11 {
        assert_eq!(t.front.pin(gref), 0);
        assert_eq!(t.front.flags(gref) & (GTF_READING | GTF_WRITING), 0);
    }
    same_as(&before, &t.xen);
}

#[test]
fn a_page_table_is_never_a_destination() {
    let t = pair(Kind::Pv, Kind::Pv);
    let before = census(&t.xen);
    let table = l1(&t.front, va(&t.front, 0)).1 / PAGE_SIZE;
    t.front.entry(GREF, GTF_PERMIT_ACCESS, BACK, table);
    let own = ptr(DOMID_SELF, mfn(&t.back, 600), 0);
    let op = copy(TO, own, ptr(FRONT, 8, 0), 8);
    assert_eq!(one(&t.back, op), GNTST_GENERAL_ERROR);
    assert_eq!(one(&t.back, copy(FROM, ptr(FRONT, 8, 0), own, 8)), 0);
    assert_eq!(t.front.pin(GREF), 0);
    same_as(&before, &t.xen);
}

#[test]
fn a_copy_of_nothing_is_looked_at_before_4_20() {
    for version in BOTH {
        let config = Config {
            version,
            ..Config::default()
        };
        let t = two(Kind::Pvh, Kind::Pvh, config);
        let op = copy(FROM, ptr(99, 8, 0), ptr(DOMID_SELF, u64::MAX, 0), 0);
        let expected = if version == BOTH[0] {
            GNTST_BAD_DOMAIN
        } else {
            0
        };
        assert_eq!(one(&t.back, op), expected, "{version:?}");
    }
}

#[test]
fn each_operation_of_a_call_has_its_status() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    let before = census(&t.xen);
    t.front.grant(GREF, BACK, 500, false);
    put(&t.front, 500, 0, b"abc");
    let own = |offset| ptr(DOMID_SELF, 600, offset);
    let mut ops = [
        copy(FROM, ptr(FRONT, 8, 0), own(0), 1),
        copy(FROM, ptr(FRONT, 8, 1), own(1), 1),
        copy(FROM, ptr(FRONT, 9, 0), own(0), 1),
        copy(0, ptr(FRONT, 8, 0), own(0), 1),
        copy(FROM, ptr(FRONT, 8, 2), own(2), 1),
    ];
    let expected = vec![0, 0, GNTST_GENERAL_ERROR, GNTST_PERMISSION_DENIED, 0];
    assert_eq!(copies(&t.back, &mut ops), (0, expected));
    assert_eq!(got(&t.back, 600, 0, 3), b"abc");
    same_as(&before, &t.xen);
    assert_eq!(t.front.pin(GREF), 0);
}

#[test]
fn a_part_of_a_page_can_be_copied_and_not_mapped() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    version_2(&t.front);
    let flags = GTF_PERMIT_ACCESS | GTF_SUB_PAGE;
    t.front.entry(GREF, flags, BACK, 500);
    let place = t.xen.state().entry(t.front.index(), GREF);
    let part = crate::grants::table::Place {
        mfn: place.mfn,
        offset: place.offset + 4,
    };
    t.xen.state().set_half(part, 100);
    let length = crate::grants::table::Place {
        offset: part.offset + 2,
        ..part
    };
    t.xen.state().set_half(length, 10);
    put(&t.front, 500, 100, b"0123456789");
    let own = ptr(DOMID_SELF, 600, 0);
    let status = |offset, len| one(&t.back, copy(FROM, ptr(FRONT, 8, offset), own, len));
    assert_eq!(status(100, 10), 0);
    assert_eq!(status(99, 2), GNTST_GENERAL_ERROR);
    assert_eq!(status(105, 6), GNTST_GENERAL_ERROR);
    assert_eq!(t.front.status(GREF), 0);
    let mapped = t.back.map(FRONT, GREF, address(&t.back, 0), false);
    assert_eq!(mapped, Err(GNTST_GENERAL_ERROR));
    t.xen.state().set_half(length, 0xffff);
    t.xen.state().set_half(part, 0xffff);
    assert_eq!(status(4095, 1), GNTST_GENERAL_ERROR);
}

#[test]
fn a_grant_is_passed_on_once() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    let third = guest(&t.xen, Kind::Pvh, 3);
    version_2(&t.front);
    version_2(&third);
    let before = census(&t.xen);
    let pass_on = |from: &Guest, gref, to, whose: u16, which: u32| {
        let frame = u64::from(which);
        from.entry(gref, GTF_TRANSITIVE, to, frame);
        let mut state = t.xen.state();
        let place = state.entry(from.index(), gref);
        let offset = place.offset + 4;
        state.set_half(crate::grants::table::Place { offset, ..place }, whose);
    };
    third.grant(20, FRONT, 700, false);
    put(&third, 700, 0, b"far");
    pass_on(&t.front, GREF, BACK, 3, 20);
    let own = ptr(DOMID_SELF, 600, 0);
    let through = |gref| one(&t.back, copy(FROM, ptr(FRONT, gref, 0), own, 3));
    assert_eq!(through(8), 0);
    assert_eq!(got(&t.back, 600, 0, 3), b"far");
    let back = copy(TO, own, ptr(FRONT, 8, 8), 3);
    assert_eq!(one(&t.back, back), 0);
    assert_eq!((t.front.pin(GREF), third.pin(20)), (0, 0));
    assert_eq!((t.front.status(GREF), third.status(20)), (0, 0));
    // Not to oneself, not to nobody, not twice, and not to be mapped.
    pass_on(&t.front, 9, BACK, FRONT, GREF);
    assert_eq!(through(9), GNTST_GENERAL_ERROR);
    pass_on(&t.front, 9, BACK, 99, GREF);
    assert_eq!(through(9), GNTST_GENERAL_ERROR);
    pass_on(&third, 21, FRONT, BACK, 8);
    pass_on(&t.front, 9, BACK, 3, 21);
    assert_eq!(through(9), GNTST_GENERAL_ERROR);
    assert_eq!(
        t.back.map(FRONT, GREF, address(&t.back, 0), false),
        Err(GNTST_GENERAL_ERROR)
    );
    same_as(&before, &t.xen);
    // Pinned for something else: Xen would try for ever.
    t.front.grant(10, BACK, 500, false);
    let handle = t.back.map(FRONT, 10, address(&t.back, 0), false).unwrap();
    pass_on(&t.front, 10, BACK, 3, 20);
    let op = copy(FROM, ptr(FRONT, 10, 0), own, 3);
    assert_eq!(copies(&t.back, &mut [op]).0, -11);
    assert_eq!((t.front.pin(10), third.pin(20)), (0x100, 0));
    assert_eq!(t.back.unmap(handle, address(&t.back, 0), 0), 0);
    same_as(&before, &t.xen);
}

fn transfer(guest: &Guest, mfn: u64, domid: u16, gref: u32) -> i16 {
    let mut op = GnttabTransfer::new_zeroed();
    (op.mfn, op.domid, op.gref) = (mfn, domid, gref);
    assert_eq!(guest.op(GNTTABOP_TRANSFER, &mut op), 0);
    op.status
}

#[test]
fn a_frame_changes_hands() {
    for receiver in KINDS {
        let t = pair(receiver, Kind::Pv);
        let giver_had = t.xen.state().domains[t.back.index()].tot_pages;
        let had = t.xen.state().domains[t.front.index()].tot_pages;
        let frame = mfn(&t.back, 1900);
        t.front.entry(GREF, GTF_ACCEPT_TRANSFER, BACK, HOLE);
        assert_eq!(transfer(&t.back, frame, FRONT, GREF), 0);
        let done = GTF_ACCEPT_TRANSFER | GTF_TRANSFER_COMMITTED | GTF_TRANSFER_COMPLETED;
        assert_eq!(t.front.flags(GREF), done);
        let mut state = t.xen.state();
        assert_eq!(state.domains[t.back.index()].tot_pages, giver_had - 1);
        assert_eq!(state.domains[t.front.index()].tot_pages, had + 1);
        assert_eq!(state.at(frame).owner, Some(FRONT));
        assert_eq!(state.at(frame).m2p, HOLE);
        let written = state.entry_frame(t.front.index(), GREF);
        if receiver == Kind::Pv {
            assert_eq!(written, frame);
        } else {
            assert_eq!(written, HOLE);
            assert_eq!(state.populated(t.front.index(), HOLE), Some(frame));
        }
    }
}

#[test]
fn a_transfer_that_fails_late_loses_the_frame() {
    let t = pair(Kind::Pvh, Kind::Pv);
    let total = |t: &Two| t.xen.state().domains[t.back.index()].tot_pages;
    let had = total(&t);
    // Held by more than its allocation, not the giver's, Xen's, or nothing.
    let shared = t.xen.state().domains[t.back.index()].shared_info;
    for bad in [mfn(&t.back, 100), mfn(&t.front, 9), shared, u64::MAX, 0] {
        assert_eq!(transfer(&t.back, bad, FRONT, GREF), GNTST_BAD_PAGE);
    }
    assert_eq!(total(&t), had);
    let free = t.xen.state().free.len();
    let frames: Vec<u64> = (1900..1904).map(|pfn| mfn(&t.back, pfn)).collect();
    assert_eq!(transfer(&t.back, frames[0], 99, GREF), GNTST_BAD_DOMAIN);
    assert_eq!(
        transfer(&t.back, frames[1], FRONT, 512),
        GNTST_GENERAL_ERROR
    );
    t.front.grant(GREF, BACK, 500, false);
    assert_eq!(
        transfer(&t.back, frames[2], FRONT, GREF),
        GNTST_GENERAL_ERROR
    );
    t.front.entry(GREF, GTF_ACCEPT_TRANSFER, BACK, HOLE);
    let front = t.front.index();
    let pages = t.xen.state().domains[front].tot_pages;
    t.xen.state().domains[front].max_pages = pages;
    assert_eq!(
        transfer(&t.back, frames[3], FRONT, GREF),
        GNTST_GENERAL_ERROR
    );
    assert_eq!(t.front.flags(GREF), GTF_ACCEPT_TRANSFER);
    assert_eq!(total(&t), had - 4);
    assert_eq!(t.xen.state().free.len(), free + 4);
    // A translated guest has none to give.
    assert_eq!(transfer(&t.front, 9, BACK, GREF), GNTST_GENERAL_ERROR);
    assert_eq!(transfer(&t.front, HOLE, BACK, GREF), GNTST_BAD_PAGE);
}

#[test]
fn random_use_leaves_nothing_behind() {
    for (front, back) in KINDS
        .iter()
        .flat_map(|a| KINDS.iter().map(move |b| (*a, *b)))
    {
        for seed in 1..6_u64 {
            random_use(front, back, seed);
        }
    }
}

/// Maps, unmaps and copies at random, some of it wrong; then undoes all.
fn random_use(front: Kind, back: Kind, seed: u64) {
    let t = pair(front, back);
    let slots = 12_u64;
    make_room(&t.back, slots);
    let third = t.xen.domain(
        Kind::Pvh,
        Build {
            id: 3,
            pages: 64,
            ..Build::default()
        },
    );
    t.xen.state().init_table(third.index());
    let before = census(&t.xen);
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut live: Vec<(u32, u64)> = Vec::new();
    for _ in 0..600 {
        let gref = 8 + u32::try_from(next(4)).unwrap();
        match next(6) {
            0 => {
                let to = [BACK, 3, 99][usize::try_from(next(3)).unwrap()];
                t.front.grant(gref, to, 500 + next(4), next(2) == 0);
            }
            1 | 2 => {
                let used: Vec<u64> = live.iter().map(|(_, at)| *at).collect();
                let at = address(&t.back, next(slots));
                if !used.contains(&at)
                    && let Ok(handle) = t.back.map(FRONT, gref, at, next(2) == 0)
                {
                    live.push((handle, at));
                }
            }
            3 if !live.is_empty() => {
                let n = usize::try_from(next(u64::try_from(live.len()).unwrap())).unwrap();
                let (handle, at) = live.swap_remove(n);
                assert_eq!(t.back.unmap(handle, at, 0), 0);
            }
            4 => {
                let who = if next(2) == 0 { &t.back } else { &third };
                let own = frame_number(who, 20);
                let (own, theirs) = (ptr(DOMID_SELF, own, 0), ptr(FRONT, u64::from(gref), 0));
                let op = if next(2) == 0 {
                    copy(FROM, theirs, own, 16)
                } else {
                    copy(TO, own, theirs, 16)
                };
                let _ = one(who, op);
            }
            _ => {
                let handle = u32::try_from(next(300)).unwrap();
                let known = live.iter().any(|(live, _)| *live == handle);
                if !known {
                    let at = address(&t.back, next(slots));
                    assert_ne!(t.back.unmap(handle, at, 0), 0);
                }
            }
        }
    }
    for (handle, at) in live {
        assert_eq!(t.back.unmap(handle, at, 0), 0);
    }
    for gref in 8..12 {
        assert_eq!(t.front.pin(gref), 0);
        assert_eq!(t.front.flags(gref) & (GTF_READING | GTF_WRITING), 0);
    }
    same_as(&before, &t.xen);
    let state = t.xen.state();
    assert!(state.domains[t.back.index()].grants.track.used.is_empty());
}
