//! The rules of vCPUs and their areas, one by one.

use kexen_abi::errno::Errno;
use kexen_abi::hypercall::Hypercall;
use kexen_abi::shared_info as si;
use kexen_abi::vcpu::{
    self as abi, HVM_MODE_32B, HVM_MODE_64B, VGCF_IN_KERNEL, VcpuGuestContext, VcpuHvmContext,
    VcpuHvmX86_32, VcpuHvmX86_64, VcpuRegisterArea, VcpuRegisterVcpuInfo, VcpuRunstateInfo,
    VcpuSetPeriodicTimer, VcpuSetSingleshotTimer, VcpuTimeInfo,
};
use kexen_guest::{Arg, Machine};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::frame::{PGT_SEG_DESC, PGT_WRITABLE};
use crate::{Build, Config, Guest, Kind, PvImage, Vcpu, Version, Xen};

const VERSIONS: [Version; 2] = [Version::Xen4_17, Version::Xen4_20];

fn guest(version: Version, kind: Kind, vcpus: usize) -> Guest {
    let xen = Xen::new(Config {
        version,
        ..Config::default()
    });
    xen.domain(
        kind,
        Build {
            vcpus,
            ..Build::default()
        },
    )
}

fn pv_build() -> Build {
    Build {
        pages: 2048,
        vcpus: 2,
        ..Build::default()
    }
}

fn raw(m: &Vcpu, op: u64, vcpu: u64, arg: Arg<'_>) -> Result<u64, Errno> {
    let result = m.hypercall(
        Hypercall::VCPU_OP,
        &mut [Arg::Value(op), Arg::Value(vcpu), arg],
    );
    u64::try_from(result).map_err(|_| Errno(u32::try_from(-result).unwrap()))
}

fn op(m: &Vcpu, number: u64, vcpu: u64, arg: &(impl IntoBytes + Immutable)) -> Result<u64, Errno> {
    raw(m, number, vcpu, Arg::In(arg.as_bytes()))
}

fn plain(m: &Vcpu, number: u64, vcpu: u64) -> Result<u64, Errno> {
    raw(m, number, vcpu, Arg::Value(0))
}

fn info(m: &Vcpu, vcpu: u64, mfn: u64, offset: u32) -> Result<u64, Errno> {
    let arg = VcpuRegisterVcpuInfo {
        mfn,
        offset,
        rsvd: 0,
    };
    op(m, abi::VCPUOP_REGISTER_VCPU_INFO, vcpu, &arg)
}

fn area(m: &Vcpu, number: u64, vcpu: u64, address: u64) -> Result<u64, Errno> {
    op(m, number, vcpu, &VcpuRegisterArea { address })
}

/// References to a page, and uses as a writable one.
fn held(guest: &Guest, gfn: u64) -> (u32, u64) {
    let mut state = guest.xen().state();
    let mfn = state.frame_of_gfn(guest.index(), gfn).unwrap();
    let frame = state.at(mfn);
    (frame.refs, frame.type_count())
}

/// Gives a page another type than that of a writable page.
fn spoil(guest: &Guest, gfn: u64) {
    let mut state = guest.xen().state();
    let mfn = state.frame_of_gfn(guest.index(), gfn).unwrap();
    state.get_page_type(mfn, PGT_SEG_DESC).unwrap();
    assert_ne!(state.at(mfn).kind(), PGT_WRITABLE);
}

#[test]
fn vcpu_info_is_registered_once_and_for_all() {
    for version in VERSIONS {
        let old = version == Version::Xen4_17;
        let guest = guest(version, Kind::Pvh, 2);
        let m = guest.vcpu(0);
        spoil(&guest, 9);
        let wrong_type = if old { Errno::EINVAL } else { Errno::EACCES };
        let far = if old { Errno::ENXIO } else { Errno::EINVAL };
        assert_eq!(info(&m, 2, 5, 0), Err(Errno::ENOENT));
        assert_eq!(info(&m, 0, 5, 4), Err(Errno::ENXIO));
        assert_eq!(info(&m, 0, 5, 4096 - 56), Err(Errno::ENXIO));
        assert_eq!(info(&m, 0, 5, 4096), Err(far));
        assert_eq!(info(&m, 0, 1 << 30, 0), Err(Errno::EINVAL));
        assert_eq!(info(&m, 0, u64::MAX, 0), Err(Errno::EINVAL));
        assert_eq!(info(&m, 0, 1 << 60, 0), Err(Errno::EINVAL));
        assert_eq!(info(&m, 0, 9, 0), Err(wrong_type));
        assert_eq!(held(&guest, 5), (1, 0));
        m.write(5 * 4096 + 64, &[0xaa; 64]).unwrap();
        assert_eq!(info(&m, 0, 5, 64), Ok(0));
        assert_eq!(held(&guest, 5), (2, 1));
        // What the old one had, everything pending, and the time.
        let at = 5 * 4096 + 64;
        assert_eq!(m.read64(at).unwrap() & 0xff, 1);
        assert_eq!(m.read64(at + si::EVTCHN_PENDING_SEL), Ok(u64::MAX));
        assert_ne!(m.read64(at + si::VCPU_TIME + 16), Ok(0));
        let again = if old { Errno::EINVAL } else { Errno::EBUSY };
        assert_eq!(info(&m, 0, 5, 64), Err(again));
        assert_eq!(info(&m, 0, 6, 0), Err(again));
        assert_eq!(info(&m, 0, u64::MAX, 0), Err(Errno::EINVAL));
        // Another vCPU's: while it is down, up to 4.17.
        assert_eq!(info(&m, 1, 5, 128), Ok(0));
    }
}

#[test]
fn another_vcpu_has_to_be_down_up_to_4_17() {
    for version in VERSIONS {
        let guest = guest(version, Kind::Pvh, 2);
        let m = guest.vcpu(0);
        m.send_init(1, true);
        let result = info(&m, 1, 5, 0);
        let allowed = version == Version::Xen4_20;
        assert_eq!(result.is_ok(), allowed);
    }
}

#[test]
fn vcpus_beyond_shared_info_need_their_own() {
    let guest = guest(Version::Xen4_17, Kind::Pvh, 33);
    let m = guest.vcpu(0);
    let context = VcpuHvmContext::new_zeroed();
    assert_eq!(
        op(&m, abi::VCPUOP_INITIALISE, 32, &context),
        Err(Errno::EINVAL)
    );
    m.write(5 * 4096, &[0xaa; 64]).unwrap();
    assert_eq!(info(&m, 32, 5, 0), Ok(0));
    // Xen's dummy: upcalls are masked.
    assert_eq!(m.read64(5 * 4096), Ok(0x0101));
}

#[test]
fn areas_by_frame_are_replaced_and_given_up() {
    let runstate = abi::VCPUOP_REGISTER_RUNSTATE_PHYS_AREA;
    let time = abi::VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA;
    let m = guest(Version::Xen4_17, Kind::Pvh, 1).vcpu(0);
    assert_eq!(area(&m, runstate, 0, 0x5000), Err(Errno::ENOSYS));
    assert_eq!(area(&m, time, 0, 0x5000), Err(Errno::ENOSYS));
    let guest = guest(Version::Xen4_20, Kind::Pvh, 2);
    let m = guest.vcpu(0);
    for (number, size) in [(runstate, 48), (time, 32)] {
        assert_eq!(area(&m, number, 0, 0x5004), Err(Errno::ENXIO));
        assert_eq!(area(&m, number, 0, 0x6008 - size), Err(Errno::ENXIO));
        assert_eq!(area(&m, number, 0, u64::MAX - 7), Err(Errno::ENXIO));
        assert_eq!(area(&m, number, 0, 1 << 45), Err(Errno::EINVAL));
        assert_eq!(area(&m, number, 0, u64::MAX), Ok(0));
        assert_eq!(area(&m, number, 0, 0x5000), Ok(0));
        assert_eq!(held(&guest, 5), (2, 1));
        assert_eq!(area(&m, number, 0, 0x6000 - size), Ok(0));
        assert_eq!(held(&guest, 5), (2, 1));
        assert_eq!(area(&m, number, 0, 0x7000), Ok(0));
        assert_eq!((held(&guest, 5), held(&guest, 7)), ((1, 0), (2, 1)));
        guest.xen_schedules(0);
        assert_ne!(m.read64(0x7010), Ok(0));
        assert_eq!(m.load32(0x7000).unwrap() & 1, 0);
        assert_eq!(area(&m, number, 0, u64::MAX), Ok(0));
        assert_eq!(held(&guest, 7), (1, 0));
        m.fill(0x7000, 64, 0).unwrap();
        guest.xen_schedules(0);
        assert_eq!(m.read64(0x7010), Ok(0));
    }
    spoil(&guest, 9);
    assert_eq!(area(&m, time, 0, 0x9000), Err(Errno::EACCES));
}

#[test]
fn areas_by_address_follow_the_page_tables() {
    let guest = guest(Version::Xen4_17, Kind::Pvh, 1);
    let m = guest.vcpu(0);
    let number = abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA;
    assert_eq!(area(&m, number, 0, 0x5000), Ok(0));
    // Nothing is held, and nothing refused.
    assert_eq!(held(&guest, 5), (1, 0));
    assert_eq!(area(&m, number, 0, 1 << 40), Ok(0));
    guest.xen_schedules(0);
    assert_eq!(area(&m, number, 0, 0x5000), Ok(0));
    m.fill(0x5000, 64, 0).unwrap();
    guest.xen_schedules(0);
    assert_ne!(m.read64(0x5008), Ok(0));
    // Tables that map the address to another page: Xen writes there.
    for (table, next) in [(10, 11), (11, 12), (12, 13)] {
        m.write64(table * 4096, next << 12 | 3).unwrap();
    }
    m.write64(13 * 4096 + 5 * 8, 20 << 12 | 3).unwrap();
    m.set_base(Some(10));
    guest.xen_schedules(0);
    m.set_base(None);
    assert_ne!(m.read64(20 * 4096 + 8), Ok(0));
    // The null address stops it, and is written once.
    assert_eq!(area(&m, number, 0, 0), Ok(0));
    m.fill(0, 64, 0).unwrap();
    m.fill(0x5000, 64, 0).unwrap();
    guest.xen_schedules(0);
    assert_eq!((m.read64(8), m.read64(0x5008)), (Ok(0), Ok(0)));
}

#[test]
fn a_pv_guest_cannot_name_xens_addresses() {
    let xen = Xen::default();
    let m = xen.pv_guest(pv_build(), PvImage::default()).vcpu(0);
    for number in [
        abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
        abi::VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA,
    ] {
        assert_eq!(area(&m, number, 0, 1 << 47), Err(Errno::EFAULT));
        assert_eq!(
            area(&m, number, 0, 0xffff_8000_0000_0000),
            Err(Errno::EFAULT)
        );
        assert_eq!(area(&m, number, 0, 0), Ok(0));
    }
}

#[test]
fn time_is_odd_while_it_is_written() {
    let guest = guest(Version::Xen4_20, Kind::Pvh, 1);
    let m = guest.vcpu(0);
    let by_address = abi::VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA;
    assert_eq!(area(&m, by_address, 0, 0x5000), Ok(0));
    let read = |at| {
        let mut bytes = [0; 32];
        m.read(at, &mut bytes).unwrap();
        VcpuTimeInfo::read_from_bytes(&bytes).unwrap()
    };
    let first = read(0x5000);
    assert_eq!(first.version & 1, 0);
    let who = m.who();
    let begun = guest.xen().state().begin_time(who);
    assert_eq!(begun.version, first.version + 1);
    let shared_info = guest.xen().state().domains[guest.index()].shared_info;
    let word = guest.xen().state().word(shared_info, si::VCPU_TIME);
    assert_eq!(word & 1, 1);
    guest.xen().state().end_time(who, who, begun);
    let second = read(0x5000);
    assert_eq!(second.version, first.version + 2);
    assert!(second.system_time > first.system_time);
    // An area by frame comes first, from then on.
    let by_frame = abi::VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA;
    assert_eq!(area(&m, by_frame, 0, 0x6000), Ok(0));
    guest.xen_tells_time(0);
    assert_eq!(read(0x5000).version, second.version);
    assert!(read(0x6000).system_time > second.system_time);
}

#[test]
fn up_and_down() {
    for kind in [Kind::Pv, Kind::Pvh] {
        let guest = guest(Version::Xen4_20, kind, 2);
        let m = guest.vcpu(0);
        assert_eq!(plain(&m, abi::VCPUOP_IS_UP, 0), Ok(1));
        assert_eq!(plain(&m, abi::VCPUOP_IS_UP, 1), Ok(0));
        assert_eq!(plain(&m, abi::VCPUOP_UP, 1), Err(Errno::EINVAL));
        for bad in [2, u64::from(u32::MAX)] {
            assert_eq!(plain(&m, abi::VCPUOP_UP, bad), Err(Errno::ENOENT));
            assert_eq!(plain(&m, 99, bad), Err(Errno::ENOENT));
        }
        assert_eq!(plain(&m, 99, 0), Err(Errno::ENOSYS));
        assert_eq!(plain(&m, abi::VCPUOP_GET_PHYSID, 0), Err(Errno::EINVAL));
        assert_eq!(plain(&m, abi::VCPUOP_SEND_NMI, 1), Ok(0));
        let nmi = raw(&m, abi::VCPUOP_SEND_NMI, 1, Arg::Value(8));
        assert_eq!(nmi, Err(Errno::EINVAL));
        assert_eq!(plain(&m, abi::VCPUOP_DOWN, 1), Ok(0));
        // The last one ends the domain.
        assert_eq!(plain(&m, abi::VCPUOP_DOWN, 0), Ok(0));
        assert_eq!(guest.shutdown_reason(), Some(0));
    }
}

#[test]
fn runstate() {
    let guest = guest(Version::Xen4_20, Kind::Pvh, 2);
    let m = guest.vcpu(0);
    for (vcpu, state) in [(0, abi::RUNSTATE_RUNNING), (1, abi::RUNSTATE_OFFLINE)] {
        let mut info = VcpuRunstateInfo::default();
        let number = abi::VCPUOP_GET_RUNSTATE_INFO;
        raw(&m, number, vcpu, Arg::InOut(info.as_mut_bytes())).unwrap();
        assert_eq!(info.state, state);
        assert!(info.time[usize::try_from(state).unwrap()] > 0);
    }
    let nowhere = raw(&m, abi::VCPUOP_GET_RUNSTATE_INFO, 0, Arg::Value(1 << 40));
    assert_eq!(nowhere, Err(Errno::EFAULT));
}

#[test]
fn timers() {
    for version in VERSIONS {
        let guest = guest(version, Kind::Pvh, 2);
        let m = guest.vcpu(0);
        let periodic = |period_ns| {
            let arg = VcpuSetPeriodicTimer { period_ns };
            op(&m, abi::VCPUOP_SET_PERIODIC_TIMER, 1, &arg)
        };
        assert_eq!(periodic(999_999), Err(Errno::EINVAL));
        assert_eq!(periodic(1_000_000), Ok(0));
        assert_eq!(periodic(u64::MAX >> 2), Ok(0));
        assert_eq!(periodic((u64::MAX >> 2) + 1), Err(Errno::EINVAL));
        assert_eq!(plain(&m, abi::VCPUOP_STOP_PERIODIC_TIMER, 1), Ok(0));
        let past = VcpuSetSingleshotTimer {
            timeout_abs_ns: 1,
            flags: abi::SINGLESHOT_FUTURE,
            pad: 0,
        };
        let number = abi::VCPUOP_SET_SINGLESHOT_TIMER;
        assert_eq!(op(&m, number, 1, &past), Err(Errno::EINVAL));
        let expected = match version {
            Version::Xen4_17 => Err(Errno::ETIME),
            Version::Xen4_20 => Ok(0),
        };
        assert_eq!(op(&m, number, 0, &past), expected);
        let stop = abi::VCPUOP_STOP_SINGLESHOT_TIMER;
        assert_eq!(plain(&m, stop, 1), Err(Errno::EINVAL));
        assert_eq!(plain(&m, stop, 0), Ok(0));
    }
}

fn context_64() -> VcpuHvmX86_64 {
    VcpuHvmX86_64 {
        cr0: 1 << 31 | 1,
        cr3: 0xa000,
        cr4: 1 << 5,
        efer: 1 << 8,
        ..VcpuHvmX86_64::default()
    }
}

fn context_32() -> VcpuHvmX86_32 {
    VcpuHvmX86_32 {
        cr0: 1,
        limit: [0xf_ffff, 0xf_ffff, 0xf_ffff, 0xf_ffff, 0x67],
        ar: [0xc9b, 0xc93, 0xc93, 0xc93, 0x8b],
        ..VcpuHvmX86_32::default()
    }
}

fn in_mode(mode: u32, regs: &(impl IntoBytes + Immutable)) -> VcpuHvmContext {
    let mut context = VcpuHvmContext::new_zeroed();
    context.mode = mode;
    context
        .cpu_regs
        .as_mut_bytes()
        .copy_from_slice(regs.as_bytes());
    context
}

#[test]
fn a_translated_vcpu_is_initialised_once_between_two_inits() {
    let guest = guest(Version::Xen4_20, Kind::Pvh, 2);
    let m = guest.vcpu(0);
    let start = |context: &VcpuHvmContext| op(&m, abi::VCPUOP_INITIALISE, 1, context);
    let fine = in_mode(HVM_MODE_64B, &context_64());
    assert_eq!(start(&in_mode(2, &context_64())), Err(Errno::EINVAL));
    let mut padded = fine;
    padded.pad = 1;
    assert_eq!(start(&padded), Err(Errno::EINVAL));
    let wrongs: [fn(&mut VcpuHvmX86_64); 6] = [
        |c| c.rip = 1 << 47,
        |c| c.cr0 = 1,
        |c| c.cr4 = 0,
        |c| c.efer = 0,
        |c| c.cr4 |= 1 << 13,
        |c| c.efer |= 1 << 12,
    ];
    for spoil in wrongs {
        let mut context = context_64();
        spoil(&mut context);
        assert_eq!(start(&in_mode(HVM_MODE_64B, &context)), Err(Errno::EINVAL));
    }
    assert_eq!(raw(&m, 0, 1, Arg::Value(1 << 40)), Err(Errno::EFAULT));
    assert_eq!(start(&fine), Ok(0));
    assert_eq!(start(&fine), Err(Errno::EEXIST));
    assert_eq!(start(&padded), Err(Errno::EEXIST));
    assert_eq!(plain(&m, abi::VCPUOP_IS_UP, 1), Ok(0));
    assert_eq!(plain(&m, abi::VCPUOP_UP, 1), Ok(0));
    assert_eq!(plain(&m, abi::VCPUOP_DOWN, 1), Ok(0));
    assert_eq!(start(&fine), Err(Errno::EEXIST));
    // Its area stays over an INIT.
    info(&m, 1, 5, 0).unwrap();
    m.send_init(1, false);
    assert_eq!(plain(&m, abi::VCPUOP_UP, 1), Err(Errno::EINVAL));
    assert_eq!(held(&guest, 5), (2, 1));
    assert_eq!(start(&in_mode(HVM_MODE_32B, &context_32())), Ok(0));
    m.send_init(1, true);
    assert_eq!(plain(&m, abi::VCPUOP_IS_UP, 1), Ok(1));
    m.send_init(7, true);
}

#[test]
fn segments_of_a_32_bit_context() {
    let m = guest(Version::Xen4_20, Kind::Pvh, 2).vcpu(0);
    let wrongs: [fn(&mut VcpuHvmX86_32); 12] = [
        |c| c.ar[0] = 0xc93,
        |c| c.ar[0] = 0,
        |c| c.ar[2] = 0xc9b,
        |c| c.ar[2] |= 0x20,
        |c| c.ar[1] |= 0x60,
        |c| c.ar[4] = 0x93,
        |c| c.ar[4] = 0,
        |c| c.ar[3] |= 0x1000,
        |c| c.pad1 = 1,
        |c| c.pad2[2] = 1,
        |c| c.efer = 1 << 10,
        |c| (c.ar[0], c.eip) = (0x49b, 0x10_0000),
    ];
    for spoil in wrongs {
        let mut context = context_32();
        spoil(&mut context);
        let context = in_mode(HVM_MODE_32B, &context);
        assert_eq!(
            op(&m, abi::VCPUOP_INITIALISE, 1, &context),
            Err(Errno::EINVAL)
        );
    }
    // A data segment may be null; the busy bit of a task is set for it.
    let mut context = context_32();
    (context.ar[1], context.ar[4]) = (0, 0x89);
    let context = in_mode(HVM_MODE_32B, &context);
    assert_eq!(op(&m, abi::VCPUOP_INITIALISE, 1, &context), Ok(0));
}

#[test]
fn a_pv_vcpu_is_initialised_once() {
    let xen = Xen::default();
    let guest = xen.pv_guest(pv_build(), PvImage::default());
    let m = guest.vcpu(0);
    let root = xen.state().vcpu(m.who()).base.unwrap();
    let mut context = VcpuGuestContext::new_zeroed();
    context.flags = VGCF_IN_KERNEL;
    context.ctrlreg[3] = root << 12;
    let start = |context: &VcpuGuestContext| op(&m, abi::VCPUOP_INITIALISE, 1, context);
    let before = held(&guest, root);
    let wrongs: [fn(&mut VcpuGuestContext); 11] = [
        |c| c.user_regs.rip = 1 << 47,
        |c| c.event_callback_eip = 1 << 60,
        |c| c.trap_ctxt[3].address = 1 << 50,
        |c| c.ldt_base = 8,
        |c| c.ldt_ents = 8193,
        |c| c.flags = 0,
        |c| c.gdt_ents = u64::MAX,
        |c| c.gdt_ents = 1,
        |c| c.ctrlreg[3] = 0,
        |c| c.ctrlreg[3] = u64::MAX,
        |c| c.ctrlreg[1] = 1 << 50,
    ];
    for spoil in wrongs {
        let mut wrong = context;
        spoil(&mut wrong);
        assert_eq!(start(&wrong), Err(Errno::EINVAL));
        assert_eq!(held(&guest, root), before);
    }
    assert_eq!(start(&context), Ok(0));
    assert_eq!(held(&guest, root), (before.0 + 1, before.1 + 1));
    assert_eq!(start(&context), Err(Errno::EEXIST));
    assert_eq!(plain(&m, abi::VCPUOP_UP, 1), Ok(0));
    assert_eq!(plain(&m, abi::VCPUOP_DOWN, 1), Ok(0));
    assert_eq!(start(&context), Err(Errno::EEXIST));
    // There is no local APIC to reset it with.
    m.send_init(1, true);
    assert_eq!(start(&context), Err(Errno::EEXIST));
}
