//! The table itself: its frames, its size, its versions.

use kexen_abi::grant_table::*;
use kexen_abi::hypercall::Hypercall;
use kexen_abi::{DOMID_SELF, PAGE_SIZE};
use kexen_guest::{Arg, Machine};
use zerocopy::FromZeros;

use super::tools::*;
use crate::grants::grant_frame;
use crate::{Config, Guest, Kind, Version};

fn setup(guest: &Guest, dom: u16, nr_frames: u32, frame_list: u64) -> (i64, i16) {
    let mut op = GnttabSetupTable::new_zeroed();
    (op.dom, op.nr_frames, op.frame_list) = (dom, nr_frames, frame_list);
    let result = guest.op(GNTTABOP_SETUP_TABLE, &mut op);
    (result, op.status)
}

fn status_frames(guest: &Guest, nr_frames: u32, frame_list: u64) -> (i64, i16) {
    let mut op = GnttabGetStatusFrames::new_zeroed();
    (op.dom, op.nr_frames, op.frame_list) = (DOMID_SELF, nr_frames, frame_list);
    let result = guest.op(GNTTABOP_GET_STATUS_FRAMES, &mut op);
    (result, op.status)
}

fn size(guest: &Guest, dom: u16) -> (u32, u32, i16) {
    let mut op = GnttabQuerySize::new_zeroed();
    op.dom = dom;
    assert_eq!(guest.op(GNTTABOP_QUERY_SIZE, &mut op), 0);
    (op.nr_frames, op.max_nr_frames, op.status)
}

fn set_version(guest: &Guest, version: u32) -> (i64, u32) {
    let mut op = GnttabSetVersion { version };
    let result = guest.op(GNTTABOP_SET_VERSION, &mut op);
    (result, op.version)
}

fn version(guest: &Guest, dom: u16) -> Result<u32, i64> {
    let mut op = GnttabGetVersion::new_zeroed();
    op.dom = dom;
    match guest.op(GNTTABOP_GET_VERSION, &mut op) {
        0 => Ok(op.version),
        error => Err(error),
    }
}

#[test]
fn a_table_grows_and_never_shrinks() {
    let t = pair(Kind::Pv, Kind::Pvh);
    let list = va(&t.front, 200);
    assert_eq!(size(&t.front, DOMID_SELF), (1, 64, 0));
    assert_eq!(setup(&t.front, DOMID_SELF, 3, list), (0, 0));
    let frames: Vec<u64> = (0..3)
        .map(|n| t.front.vcpu(0).read64(list + n * 8).unwrap())
        .collect();
    assert_eq!(frames, t.xen.state().table(t.front.index()).frames);
    assert_eq!(setup(&t.front, FRONT, 1, list), (0, 0));
    assert_eq!(size(&t.front, FRONT), (3, 64, 0));
    assert_eq!(setup(&t.front, DOMID_SELF, 0, list), (0, 0));
    let too_many = (0, GNTST_GENERAL_ERROR);
    assert_eq!(setup(&t.front, DOMID_SELF, 65, list), too_many);
    assert_eq!(setup(&t.front, DOMID_SELF, u32::MAX, list), too_many);
    assert_eq!(setup(&t.front, DOMID_SELF, 64, list), (0, 0));
    assert_eq!(t.xen.state().nr_entries(t.front.index()), 32768);
    // An entry of the guest's is bytes of the frame.
    t.front.entry(513, 0xffff, 0x1234, 0x5678_9abc);
    let state = t.xen.state();
    assert_eq!(state.word(frames[1], 8), 0x5678_9abc_1234_ffff);
}

#[test]
fn others_tables_are_the_control_domains_business() {
    let t = pair(Kind::Pv, Kind::Pv);
    let dom0 = guest(&t.xen, Kind::Pv, 0);
    let list = va(&t.back, 200);
    let denied = GNTST_PERMISSION_DENIED;
    assert_eq!(setup(&t.back, FRONT, 1, list), (0, denied));
    assert_eq!(setup(&t.back, 99, 1, list), (0, GNTST_BAD_DOMAIN));
    assert_eq!(size(&t.back, FRONT).2, denied);
    assert_eq!(size(&t.back, 99).2, GNTST_BAD_DOMAIN);
    assert_eq!(version(&t.back, FRONT), Err(-1));
    assert_eq!(version(&t.back, 99), Err(-3));
    assert_eq!(version(&dom0, FRONT), Ok(1));
    assert_eq!(setup(&dom0, FRONT, 2, va(&dom0, 200)), (0, 0));
    assert_eq!(size(&dom0, FRONT), (2, 64, 0));
}

#[test]
fn a_list_that_cannot_be_written_ends_earlier_since_4_20() {
    for version in BOTH {
        let config = Config {
            version,
            ..Config::default()
        };
        let t = two(Kind::Pv, Kind::Pv, config);
        let list = va(&t.front, 201) - 8;
        // The page after the first number is not there; one more follows.
        make_room_at(&t.front, 201);
        let bad = (0, GNTST_BAD_VIRT_ADDR);
        assert_eq!(setup(&t.front, DOMID_SELF, 4, list), bad, "{version:?}");
        assert_ne!(t.front.vcpu(0).read64(list).unwrap(), 0);
        assert_eq!(size(&t.front, DOMID_SELF).0, 4, "it has grown");
    }
    // A list in Xen's part is refused as such.
    let t = pair(Kind::Pv, Kind::Pv);
    let xen = kexen_abi::mmu::MACH2PHYS_VIRT_START;
    assert_eq!(setup(&t.front, DOMID_SELF, 4, xen).0, -14);
}

fn make_room_at(guest: &Guest, pfn: u64) {
    let all = kexen_abi::mmu::UVMF_TLB_FLUSH | kexen_abi::mmu::UVMF_ALL;
    let mut args = [va(guest, pfn), 0, all].map(Arg::Value);
    let call = Hypercall::UPDATE_VA_MAPPING;
    assert_eq!(guest.vcpu(0).hypercall(call, &mut args), 0);
}

#[test]
fn the_physmap_grows_a_table_too() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    let domain = t.front.index();
    let frame = |idx| grant_frame(&mut t.xen.state(), domain, idx);
    let first = frame(0).unwrap();
    assert_eq!(frame(1 << 32), Ok(first), "the low half counts");
    assert!(frame(63).is_ok());
    assert_eq!(size(&t.front, DOMID_SELF).0, 64);
    for bad in [64, 0x8000_0000, 0xffff_ffff, u64::MAX] {
        assert!(frame(bad).is_err(), "{bad:#x}");
    }
    assert_eq!(set_version(&t.front, 2), (0, 2));
    assert_eq!(t.xen.state().table(domain).status.len(), 8);
    let status = frame(0x8000_0000).unwrap();
    assert_ne!(status, first);
    assert!(frame(0x8000_0007).is_ok());
    for bad in [0x8000_0008, 0xffff_ffff] {
        assert!(frame(bad).is_err(), "{bad:#x}");
    }
    // A status frame stands for eight frames, which come with it.
    assert_eq!(set_version(&t.back, 2), (0, 2));
    assert!(grant_frame(&mut t.xen.state(), t.back.index(), 0x8000_0001).is_ok());
    assert_eq!(size(&t.back, DOMID_SELF).0, 16);
}

#[test]
fn setup_table_tells_a_translated_guest_its_own_numbers() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    let domain = t.front.index();
    let first = grant_frame(&mut t.xen.state(), domain, 0).unwrap();
    t.xen.state().physmap_add(domain, HOLE, first).unwrap();
    assert_eq!(setup(&t.front, DOMID_SELF, 2, PAGE_SIZE), (0, 0));
    let m = t.front.vcpu(0);
    assert_eq!(m.read64(PAGE_SIZE), Ok(HOLE));
    assert_eq!(m.read64(PAGE_SIZE + 8), Ok(u64::MAX), "not mapped");
    // Through its page number the guest writes the entries.
    m.write64(HOLE * PAGE_SIZE + 64, 0x1_0002_0001).unwrap();
    assert_eq!(t.front.flags(8), GTF_PERMIT_ACCESS);
}

#[test]
fn a_change_of_version_wipes_all_but_the_first_eight() {
    let t = pair(Kind::Pv, Kind::Pvh);
    t.front.grant(0, BACK, 300, false);
    t.front.grant(7, BACK, 301, true);
    t.front.grant(8, BACK, 302, false);
    // The toolstack keeps the first ones mapped.
    let at = address(&t.back, 0);
    let handle = t.back.map(FRONT, 0, at, true).unwrap();
    assert_eq!(set_version(&t.front, 2), (0, 2));
    assert_eq!(version(&t.front, DOMID_SELF), Ok(2));
    assert_eq!(t.front.flags(0), GTF_PERMIT_ACCESS);
    assert_eq!(t.front.status(0), GTF_READING | GTF_WRITING);
    assert_eq!(t.front.flags(7), GTF_PERMIT_ACCESS | GTF_READONLY);
    assert_eq!(t.front.flags(8), 0);
    let domain = t.front.index();
    let frame = t.xen.state().entry_frame(domain, 7);
    assert_eq!(frame, mfn(&t.front, 301));
    assert_eq!(t.xen.state().nr_entries(domain), 256);
    // It is undone where the status now is.
    assert_eq!(t.back.unmap(handle, at, 0), 0);
    assert_eq!(t.front.status(0), 0);
    let handle = t.back.map(FRONT, 0, at, false).unwrap();
    assert_eq!(set_version(&t.front, 1), (0, 1));
    assert_eq!(t.front.flags(0), GTF_PERMIT_ACCESS | GTF_READING);
    assert_eq!(t.back.unmap(handle, at, 0), 0);
    let frame = t.xen.state().entry_frame(domain, 7);
    assert_eq!(frame, mfn(&t.front, 301));
    assert!(t.xen.state().table(domain).status.is_empty());
}

#[test]
fn a_pin_from_eight_on_stops_a_change_whatever_the_flags_say() {
    let t = pair(Kind::Pv, Kind::Pvh);
    t.front.grant(8, BACK, 300, false);
    let at = address(&t.back, 0);
    let handle = t.back.map(FRONT, 8, at, true).unwrap();
    t.front.entry(8, 0, 0, 0);
    assert_eq!(set_version(&t.front, 2), (-16, 1));
    assert_eq!(set_version(&t.front, 1), (0, 1), "no change, no look");
    assert_eq!(t.back.unmap(handle, at, 0), 0);
    assert_eq!(set_version(&t.front, 2), (0, 2));
    for bad in [0, 3, u32::MAX] {
        assert_eq!(set_version(&t.front, bad), (-22, 2));
    }
    t.xen.state().table(t.back.index()).max_version = 1;
    assert_eq!(set_version(&t.back, 2), (-38, 1));
}

#[test]
fn entries_that_version_1_cannot_say_stop_a_change() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    assert_eq!(set_version(&t.front, 2), (0, 2));
    t.front.entry(3, GTF_PERMIT_ACCESS, BACK, 1 << 32);
    assert_eq!(set_version(&t.front, 1), (-34, 2));
    t.front.entry(3, GTF_TRANSITIVE, BACK, 0);
    assert_eq!(set_version(&t.front, 1), (-34, 2));
    t.front.entry(3, GTF_ACCEPT_TRANSFER, BACK, 77);
    t.front.entry(4, GTF_INVALID, BACK, 77);
    assert_eq!(set_version(&t.front, 1), (0, 1));
    let state = t.xen.state();
    assert_eq!(state.entry_frame(t.front.index(), 3), 0);
    assert_eq!(state.entry_frame(t.front.index(), 4), 0);
}

#[test]
fn a_status_frame_in_use_stops_a_change_or_the_guest() {
    let t = pair(Kind::Pv, Kind::Pvh);
    assert_eq!(set_version(&t.front, 2), (0, 2));
    assert_eq!(set_version(&t.back, 2), (0, 2));
    let list = va(&t.front, 200);
    assert_eq!(status_frames(&t.front, 1, list), (0, 0));
    assert_eq!(status_frames(&t.front, 2, list).1, GNTST_GENERAL_ERROR);
    let mfn = t.front.vcpu(0).read64(list).unwrap();
    t.xen.state().at(mfn).refs += 1;
    assert_eq!(set_version(&t.front, 1), (-16, 2));
    t.xen.state().put_page(mfn);
    assert_eq!(set_version(&t.front, 1), (0, 1));
    // Mapped by its page number alone it is unhooked; held, it is fatal.
    let domain = t.back.index();
    let frame = grant_frame(&mut t.xen.state(), domain, 0x8000_0000).unwrap();
    t.xen.state().physmap_add(domain, HOLE, frame).unwrap();
    assert_eq!(set_version(&t.back, 1), (0, 1));
    assert_eq!(physmap(&t.back, HOLE), None);
    assert_eq!(set_version(&t.back, 2), (0, 2));
    let frame = grant_frame(&mut t.xen.state(), domain, 0x8000_0000).unwrap();
    t.xen.state().at(frame).refs += 1;
    assert_eq!(set_version(&t.back, 1), (-16, 2));
    assert!(t.xen.state().domains[domain].life.ended());
}

#[test]
fn two_free_entries_can_be_swapped() {
    for version in [1, 2] {
        let t = pair(Kind::Pvh, Kind::Pvh);
        assert_eq!(set_version(&t.front, version), (0, version));
        let swap = |a, b| {
            let mut op = GnttabSwapGrantRef::new_zeroed();
            (op.ref_a, op.ref_b) = (a, b);
            assert_eq!(t.front.op(GNTTABOP_SWAP_GRANT_REF, &mut op), 0);
            op.status
        };
        t.front.grant(8, BACK, 300, true);
        t.front.grant(9, BACK, 301, false);
        assert_eq!(swap(8, 9), 0);
        assert_eq!(t.front.flags(8), GTF_PERMIT_ACCESS);
        assert_eq!(t.xen.state().entry_frame(t.front.index(), 9), 300);
        assert_eq!(swap(8, u32::MAX), GNTST_BAD_GNTREF);
        assert_eq!(swap(512, 8), GNTST_BAD_GNTREF);
        t.back.map(FRONT, 8, address(&t.back, 0), false).unwrap();
        assert_eq!(swap(8, 8), 0);
        assert_eq!(swap(8, 9), GNTST_EAGAIN);
        assert_eq!(swap(9, 8), GNTST_EAGAIN);
    }
}

#[test]
fn flushing_a_cache_needs_the_frame() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    t.front.grant(8, BACK, 300, false);
    let frame = mfn(&t.front, 300) * PAGE_SIZE;
    let (clean, invalidate) = (GNTTAB_CACHE_CLEAN, GNTTAB_CACHE_INVAL);
    let flush = |guest: &Guest, dev_bus_addr, offset, length, op| {
        let mut op = GnttabCacheFlush {
            dev_bus_addr,
            offset,
            length,
            op,
        };
        guest.op(GNTTABOP_CACHE_FLUSH, &mut op)
    };
    assert_eq!(flush(&t.front, frame, 0, 4096, clean), 0);
    assert_eq!(flush(&t.front, frame, 0, 8, invalidate), -95);
    assert_eq!(flush(&t.front, frame, 0, 8, clean | invalidate), 0);
    for (offset, length) in [(4096, 0), (1, 4096), (0, 4097), (0xffff, 0xffff)] {
        assert_eq!(flush(&t.front, frame, offset, length, clean), -22);
    }
    assert_eq!(flush(&t.front, frame, 0, 8, GNTTAB_CACHE_SOURCE_GREF), -22);
    assert_eq!(flush(&t.front, u64::MAX, 0, 0, clean), 0);
    assert_eq!(flush(&t.front, u64::MAX, 0, 8, clean), -22);
    assert_eq!(flush(&t.back, frame, 0, 8, clean), -22);
    t.back.map(FRONT, 8, address(&t.back, 0), false).unwrap();
    assert_eq!(flush(&t.back, frame, 0, 8, clean), 0);
    // A frame of nobody's.
    let free = *t.xen.state().free.last().unwrap();
    assert_eq!(flush(&t.back, free * PAGE_SIZE, 0, 8, clean), -1);
}

#[test]
fn hostile_commands_are_refused() {
    let t = pair(Kind::Pvh, Kind::Pv);
    let call = |guest: &Guest, command: u64, at: u64, count: u64| {
        let mut args = [command, at, count].map(Arg::Value);
        guest
            .vcpu(0)
            .hypercall(Hypercall::GRANT_TABLE_OP, &mut args)
    };
    for guest in [&t.front, &t.back] {
        for command in 0..16 {
            assert_eq!(call(guest, command, 0, 1 << 31), -22, "{command}");
            let opaque = call(guest, command | 1 << 12, u64::MAX - 4096, 0);
            if command != GNTTABOP_CACHE_FLUSH {
                assert_eq!(opaque, -22, "{command}");
            }
            for at in [
                1 << 40,
                u64::MAX,
                u64::MAX - 7,
                kexen_abi::mmu::MACH2PHYS_VIRT_START,
            ] {
                for count in [1, 2, 0x7fff_ffff] {
                    assert!(call(guest, command, at, count) < 0, "{command} {at:#x}");
                }
            }
        }
        for unknown in [GNTTABOP_DUMP_TABLE, 13, 0xf00, 0xf01, 0xfff] {
            assert_eq!(call(guest, unknown, 0, 1), -38);
        }
    }
    // Zero operations are none; the address of a PV guest's is looked at.
    assert_eq!(call(&t.front, GNTTABOP_COPY, u64::MAX, 0), 0);
    let xen = kexen_abi::mmu::MACH2PHYS_VIRT_START;
    assert_eq!(call(&t.back, GNTTABOP_COPY, xen, 0), -14);
    for command in [
        GNTTABOP_SETUP_TABLE,
        GNTTABOP_QUERY_SIZE,
        GNTTABOP_GET_STATUS_FRAMES,
    ] {
        for count in [0, 2] {
            assert_eq!(call(&t.front, command, 0, count), -22);
        }
    }
}

#[test]
fn a_machine_without_frames_refuses_growth() {
    let config = Config {
        frames: 4300,
        version: Version::Xen4_17,
        ..Config::default()
    };
    let t = two(Kind::Pvh, Kind::Pvh, config);
    let free = t.xen.state().free.len();
    assert_eq!(setup(&t.front, DOMID_SELF, 64, PAGE_SIZE), (0, 0));
    let left = free - 63;
    assert!(left >= 60, "{left}");
    while t.xen.state().free.len() > 5 {
        t.xen.state().allocate(BACK);
    }
    let status = setup(&t.back, DOMID_SELF, 64, PAGE_SIZE).1;
    assert_eq!(status, GNTST_GENERAL_ERROR);
    assert_eq!(size(&t.back, DOMID_SELF).0, 1);
    assert_eq!(t.xen.state().free.len(), 5, "none is lost");
}
