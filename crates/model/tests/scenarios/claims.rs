//! Each kind of claim: left behind the check names it; given up it does not.

use kexen_abi::PAGE_SIZE;
use kexen_abi::event_channel::{
    EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_PIRQ, EVTCHNOP_BIND_VIRQ,
    EVTCHNOP_CLOSE, EVTCHNOP_INIT_CONTROL, EVTCHNOP_RESET,
};
use kexen_abi::hypercall::Hypercall;
use kexen_abi::mmu::{MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, MmuExtOp};
use kexen_abi::physdev::{
    MAP_PIRQ_TYPE_GSI, MAP_PIRQ_TYPE_MSI, PHYSDEVOP_GET_FREE_PIRQ, PHYSDEVOP_MAP_PIRQ,
    PHYSDEVOP_UNMAP_PIRQ, PhysdevGetFreePirq, PhysdevMapPirq, PhysdevUnmapPirq,
};
use kexen_abi::vcpu::{
    HVM_MODE_64B, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, VCPUOP_REGISTER_RUNSTATE_PHYS_AREA,
    VCPUOP_REGISTER_VCPU_INFO, VcpuHvmContext, VcpuHvmX86_64, VcpuRegisterVcpuInfo,
};
use kexen_guest::grants::Grants;
use kexen_guest::{Arg, Extent, Extents, Machine, hypercall};
use kexen_model::check::{NewKernel, Violation};
use kexen_model::{Build, Guest, Interrupt, Kind, TypeLayout, Vcpu, Xen};
use zerocopy::{FromZeros, IntoBytes};

use crate::pv_guest;

const RAM: u64 = 64;
const HOLE: u64 = 0x1000;
const LIST: u64 = 9 * PAGE_SIZE;
const PAGE: u64 = 20;

fn guest_of(kind: Kind) -> (Guest, Vcpu) {
    let build = Build {
        pages: RAM,
        vcpus: 2,
        ..Build::default()
    };
    let guest = Xen::default().domain(kind, build);
    let m = guest.vcpu(0);
    assert_eq!(check(&guest), Vec::<String>::new());
    (guest, m)
}

fn check(guest: &Guest) -> Vec<String> {
    let found = guest.check(&NewKernel::Translated(vec![(0, RAM)]), &[]);
    found.iter().map(Violation::to_string).collect()
}

/// The check finds just this, and a line of it has all of these words.
fn finds(guest: &Guest, words: &[&str]) {
    let found = check(guest);
    let named = |line: &String| words.iter().all(|word| line.contains(word));
    assert!(found.iter().any(named), "{words:?} is not in {found:?}");
}

fn op(m: &Vcpu, call: Hypercall, command: u64, arg: &mut [u8]) -> i64 {
    m.hypercall(call, &mut [Arg::Value(command), Arg::InOut(arg)])
}

#[test]
fn a_grant_that_a_backend_maps() {
    let (guest, m) = guest_of(Kind::Pvh);
    let build = Build {
        id: 0,
        pages: 16,
        ..Build::default()
    };
    let backend = guest.xen().domain(Kind::Pv, build);
    hypercall::map_grant_frame(&m, 0, HOLE).unwrap();
    let grants = Grants::new(HOLE * PAGE_SIZE);
    assert!(
        grants
            .grant_access(&m, 8, 0, u32::try_from(PAGE).unwrap())
            .unwrap()
    );
    let mapping = backend.map_grant(guest.id(), 8, true).unwrap();
    finds(&guest, &["page 0x14", "grant 8, mapped by domain 0"]);
    // The new kernel's bytes change under it.
    m.fill(PAGE * PAGE_SIZE, PAGE_SIZE, 0).unwrap();
    mapping.write(0, b"gone").unwrap();
    let mut bytes = [0; 4];
    m.read(PAGE * PAGE_SIZE, &mut bytes).unwrap();
    assert_eq!(&bytes, b"gone");
    assert_eq!(mapping.unmap(), Ok(()));
    assert_eq!(check(&guest), Vec::<String>::new());
}

#[test]
fn an_open_port() {
    let (guest, m) = guest_of(Kind::Pvh);
    let own = 0x7ff0_u32;
    let mut unbound = [own | (own << 16), 0];
    let mut virq = [0_u32, 0, 0];
    let mut ipi = [0_u32, 0];
    for (command, arg) in [
        (EVTCHNOP_ALLOC_UNBOUND, unbound.as_mut_bytes()),
        (EVTCHNOP_BIND_VIRQ, virq.as_mut_bytes()),
        (EVTCHNOP_BIND_IPI, ipi.as_mut_bytes()),
    ] {
        assert_eq!(op(&m, Hypercall::EVENT_CHANNEL_OP, command, arg), 0);
    }
    finds(&guest, &["port 3 is open: unbound"]);
    finds(&guest, &["port 4 is open: VIRQ 0"]);
    finds(&guest, &["port 5 is open: IPI"]);
    for port in [3_u32, 4, 5] {
        let mut arg = port.to_le_bytes();
        assert_eq!(
            op(&m, Hypercall::EVENT_CHANNEL_OP, EVTCHNOP_CLOSE, &mut arg),
            0
        );
    }
    assert_eq!(check(&guest), Vec::<String>::new());
    // The reset closes too much: console and store go with the rest.
    let mut id = 0x7ff0_u16.to_le_bytes();
    assert_eq!(
        op(&m, Hypercall::EVENT_CHANNEL_OP, EVTCHNOP_RESET, &mut id),
        0
    );
    finds(&guest, &["port 1 of store or console is closed"]);
}

#[test]
fn a_fifo_control_block() {
    let (guest, m) = guest_of(Kind::Pvh);
    let mut arg = kexen_abi::event_channel::EvtchnInitControl::new_zeroed();
    arg.control_gfn = PAGE;
    let call = Hypercall::EVENT_CHANNEL_OP;
    assert_eq!(op(&m, call, EVTCHNOP_INIT_CONTROL, arg.as_mut_bytes()), 0);
    finds(&guest, &["page 0x14", "the event FIFO"]);
    finds(&guest, &["FIFO interface"]);
    // Once on a vCPU, and only a reset gives the page back.
    assert!(op(&m, call, EVTCHNOP_INIT_CONTROL, arg.as_mut_bytes()) < 0);
    let mut id = 0x7ff0_u16.to_le_bytes();
    assert_eq!(op(&m, call, EVTCHNOP_RESET, &mut id), 0);
    assert!(check(&guest).iter().all(|line| !line.contains("FIFO")));
}

/// A vector callback, without which no PIRQ is mapped.
fn set_vector_callback(m: &Vcpu) {
    let mut param = kexen_abi::hvm::HvmParam {
        domid: 0x7ff0,
        pad: 0,
        index: 0,
        value: (2 << 56) | 0xf3,
    };
    assert_eq!(op(m, Hypercall::HVM_OP, 0, param.as_mut_bytes()), 0);
}

#[test]
fn a_pirq_of_a_line_and_of_a_message() {
    let (guest, m) = guest_of(Kind::Hvm);
    guest.set_hvm_pirqs(true);
    let call = Hypercall::PHYSDEV_OP;
    let mut map = PhysdevMapPirq::new_zeroed();
    (map.domid, map.kind, map.index, map.pirq) = (0x7ff0, MAP_PIRQ_TYPE_GSI, 11, -1);
    // Not without a vector callback.
    assert_eq!(op(&m, call, PHYSDEVOP_MAP_PIRQ, map.as_mut_bytes()), -22);
    set_vector_callback(&m);
    finds(&guest, &["callback vector"]);
    assert_eq!(op(&m, call, PHYSDEVOP_MAP_PIRQ, map.as_mut_bytes()), 0);
    let pirq = u32::try_from(map.pirq).unwrap();
    let mut bind = [pirq, 0, 0];
    let events = Hypercall::EVENT_CHANNEL_OP;
    assert_eq!(op(&m, events, EVTCHNOP_BIND_PIRQ, bind.as_mut_bytes()), 0);
    finds(&guest, &["mapped to GSI 11"]);
    finds(&guest, &["is open: PIRQ"]);
    let mut message = PhysdevGetFreePirq {
        kind: MAP_PIRQ_TYPE_MSI,
        pirq: 0,
    };
    assert_eq!(
        op(&m, call, PHYSDEVOP_GET_FREE_PIRQ, message.as_mut_bytes()),
        0
    );
    finds(&guest, &["handed out for an MSI"]);
    // Closing the port leaves the line mapped, and its interrupts are lost:
    // it has to be unmapped. A number that was handed out stays so.
    let mut port = bind[2].to_le_bytes();
    assert_eq!(op(&m, events, EVTCHNOP_CLOSE, &mut port), 0);
    finds(&guest, &["mapped to GSI 11"]);
    assert_eq!(guest.gsi_fires(11), Interrupt::Lost);
    let unmap = |pirq| {
        let mut unmap = PhysdevUnmapPirq {
            domid: 0x7ff0,
            pad: 0,
            pirq,
        };
        op(&m, call, PHYSDEVOP_UNMAP_PIRQ, unmap.as_mut_bytes())
    };
    assert_eq!(unmap(pirq), 0);
    assert_eq!(guest.gsi_fires(11), Interrupt::IoApic);
    assert_eq!(unmap(message.pirq), 0);
    let mut left = check(&guest);
    left.retain(|line| line.contains("PIRQ"));
    assert_eq!(
        left,
        [format!("PIRQ {} is handed out for an MSI", message.pirq)]
    );
}

#[test]
fn a_vcpu_info_is_for_good() {
    let (guest, m) = guest_of(Kind::Pvh);
    let info = VcpuRegisterVcpuInfo {
        mfn: PAGE,
        offset: 0,
        rsvd: 0,
    };
    let register = || {
        let mut args = [
            Arg::Value(VCPUOP_REGISTER_VCPU_INFO),
            Arg::Value(0),
            Arg::In(info.as_bytes()),
        ];
        m.hypercall(Hypercall::VCPU_OP, &mut args)
    };
    assert_eq!(register(), 0);
    finds(&guest, &["page 0x14", "vcpu_info of vCPU 0"]);
    finds(&guest, &["vCPU 0: vcpu_info is registered"]);
    // There is no call that takes it back.
    assert_eq!(register(), -16);
}

#[test]
fn a_runstate_area_by_page_and_by_address() {
    let (guest, m) = guest_of(Kind::Pvh);
    let call = |command: u64, at: u64| {
        let bytes = at.to_le_bytes();
        let mut args = [Arg::Value(command), Arg::Value(0), Arg::In(&bytes)];
        m.hypercall(Hypercall::VCPU_OP, &mut args)
    };
    let (by_page, by_address) = (
        VCPUOP_REGISTER_RUNSTATE_PHYS_AREA,
        VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
    );
    assert_eq!(call(by_page, PAGE * PAGE_SIZE), 0);
    finds(&guest, &["page 0x14", "the runstate area of vCPU 0"]);
    assert_eq!(call(by_page, u64::MAX), 0);
    assert_eq!(call(by_address, PAGE * PAGE_SIZE), 0);
    finds(&guest, &["Xen writes runstate to address 0x14000"]);
    // Whatever is there now is written.
    m.fill(PAGE * PAGE_SIZE, PAGE_SIZE, 0).unwrap();
    guest.xen_schedules(0);
    assert_ne!(m.read64(PAGE * PAGE_SIZE + 8).unwrap(), 0);
    assert_eq!(call(by_address, 0), 0);
    assert_eq!(check(&guest), Vec::<String>::new());
}

#[test]
fn a_running_vcpu() {
    let (guest, m) = guest_of(Kind::Pvh);
    let vcpu_op = |command: u64| {
        // Paging on, in long mode.
        let mut context = VcpuHvmContext::new_zeroed();
        context.mode = HVM_MODE_64B;
        let regs = VcpuHvmX86_64 {
            cr0: 1 << 31,
            cr4: 1 << 5,
            efer: 1 << 8,
            ..VcpuHvmX86_64::default()
        };
        context.cpu_regs = zerocopy::transmute!(regs);
        let arg = Arg::In(context.as_bytes());
        let mut args = [Arg::Value(command), Arg::Value(1), arg];
        m.hypercall(Hypercall::VCPU_OP, &mut args)
    };
    assert_eq!(vcpu_op(0), 0);
    assert_eq!(vcpu_op(1), 0);
    finds(&guest, &["vCPU 1 still runs"]);
    // Down is not enough: it cannot be started afresh. INIT makes it so.
    assert_eq!(vcpu_op(2), 0);
    finds(&guest, &["vCPU 1", "initialised"]);
    assert_eq!(vcpu_op(0), -17);
    m.send_init(1, false);
    assert_eq!(check(&guest), Vec::<String>::new());
    assert_eq!(vcpu_op(0), 0);
}

#[test]
fn a_ballooned_hole() {
    let (guest, m) = guest_of(Kind::Pvh);
    m.write64(LIST, PAGE).unwrap();
    assert_eq!(hypercall::decrease_reservation(&m, LIST), Ok(true));
    finds(&guest, &["page 0x14 is RAM by the memory map, and a hole"]);
    assert_eq!(hypercall::populate_physmap(&m, LIST), Ok(true));
    assert_eq!(check(&guest), Vec::<String>::new());
}

#[test]
fn a_grant_that_the_guest_maps_itself() {
    let (guest, m) = guest_of(Kind::Pvh);
    let build = Build {
        id: 5,
        pages: 16,
        ..Build::default()
    };
    let other = guest.xen().domain(Kind::Pvh, build);
    let granter = other.vcpu(0);
    hypercall::map_grant_frame(&granter, 0, HOLE).unwrap();
    let grants = Grants::new(HOLE * PAGE_SIZE);
    assert!(grants.grant_access(&granter, 8, guest.id(), 3).unwrap());
    let mut map = kexen_abi::grant_table::GnttabMapGrantRef::new_zeroed();
    (map.host_addr, map.flags, map.gref, map.dom) = ((HOLE + 1) * PAGE_SIZE, 2, 8, 5);
    let call = Hypercall::GRANT_TABLE_OP;
    let grant_op = |command: u64, arg: &mut [u8]| {
        let mut args = [Arg::Value(command), Arg::InOut(arg), Arg::Value(1)];
        m.hypercall(call, &mut args)
    };
    assert_eq!(grant_op(0, map.as_mut_bytes()), 0);
    assert_eq!(map.status, 0);
    finds(&guest, &["a grant is mapped at page 0x1001"]);
    let mut unmap = kexen_abi::grant_table::GnttabUnmapGrantRef::new_zeroed();
    (unmap.host_addr, unmap.handle) = (map.host_addr, map.handle);
    assert_eq!(grant_op(1, unmap.as_mut_bytes()), 0);
    assert_eq!(unmap.status, 0);
    assert_eq!(check(&guest), Vec::<String>::new());
}

#[test]
fn page_tables_gdt_ldt_and_user_base_of_a_pv_guest() {
    let mut pv = pv_guest(TypeLayout::Current, Build::default());
    let m = pv.m.clone();
    let new = NewKernel::Pv(pv.guest.start_of_day().unwrap());
    let kept = [pv.start.info.store_mfn, pv.start.info.console_mfn];
    let found = |pv: &crate::Pv| -> Vec<String> {
        let found = pv.guest.check(&new, &kept);
        found.iter().map(Violation::to_string).collect()
    };
    assert_eq!(found(&pv), Vec::<String>::new());
    // A page that is not mapped: pinned, it is an L1 table.
    let pfn = 1500;
    let mfn = pv.space.mfn(&m, pfn).unwrap();
    let extended = |cmd, arg1| {
        let op = MmuExtOp {
            cmd,
            pad: 0,
            arg1,
            arg2: 0,
        };
        hypercall::mmuext_op(&m, "test", &[op])
    };
    extended(MMUEXT_PIN_L1_TABLE, mfn).unwrap();
    let left = found(&pv);
    assert!(
        left.iter()
            .any(|line| line.contains("pinned as an L1 table")),
        "{left:?}"
    );
    extended(MMUEXT_UNPIN_TABLE, mfn).unwrap();
    // A GDT of it.
    let frames = mfn.to_le_bytes();
    let set_gdt = |entries| {
        m.hypercall(
            Hypercall::SET_GDT,
            &mut [Arg::In(&frames), Arg::Value(entries)],
        )
    };
    assert_eq!(set_gdt(512), 0);
    let left = found(&pv);
    assert!(
        left.iter().any(|line| line.contains("the GDT of vCPU 0")),
        "{left:?}"
    );
    assert_eq!(set_gdt(0), 0);
    // A user base pointer: the page as an empty L4.
    extended(MMUEXT_NEW_USER_BASEPTR, mfn).unwrap();
    let left = found(&pv);
    assert!(
        left.iter()
            .any(|line| line.contains("the user base pointer")),
        "{left:?}"
    );
    extended(MMUEXT_NEW_USER_BASEPTR, 0).unwrap();
    // A second mapping of it, in tables that are no longer in use.
    let mut pages = Extents::new();
    pages.insert(Extent::new(pfn, 1));
    assert_eq!(found(&pv), Vec::<String>::new());
    pv.space.map_window(&m, &pages).unwrap();
    // The pool that the mapping's tables came from is read-only: its tail is
    // not what the start of day says.
    let left = found(&pv);
    assert!(
        left.iter().any(|line| line.contains("mapped read-only")),
        "{left:?}"
    );
    pv.space.close_pools(&m, &mut Extents::new()).unwrap();
    assert_eq!(found(&pv), Vec::<String>::new());
}
