//! Each kind of claim on the model: created, entered, given up, and the
//! check after the hand-off finds nothing; forgotten, and the check finds it.

use kexen_abi::PAGE_SIZE;
use kexen_abi::event_channel::{
    EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_PIRQ, EVTCHNOP_INIT_CONTROL, EvtchnInitControl,
};
use kexen_abi::grant_table::{GTF_WRITING, GnttabMapGrantRef};
use kexen_abi::hvm::HvmParam;
use kexen_abi::hypercall::Hypercall;
use kexen_abi::mmu::{MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L1_TABLE, MMUEXT_SET_LDT, MmuExtOp};
use kexen_abi::physdev::{MAP_PIRQ_TYPE_GSI, PHYSDEVOP_MAP_PIRQ, PhysdevMapPirq};
use kexen_abi::vcpu::{
    HVM_MODE_64B, TrapInfo, VCPUOP_INITIALISE, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
    VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, VCPUOP_REGISTER_VCPU_INFO,
    VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA, VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA, VCPUOP_UP,
    VGCF_IN_KERNEL, VcpuGuestContext, VcpuHvmContext, VcpuHvmX86_64, VcpuRegisterVcpuInfo,
};
use kexen_guest::grants::Grants;
use kexen_guest::{Arg, Machine, hypercall, pv};
use kexen_handoff::Ledger;
use kexen_handoff::ledger::{Claim, Holder, Hopes, Kind, Tools};
use kexen_model::check::{NewKernel, Violation};
use kexen_model::{Build, Guest, Kind as Type, Mapping, PvImage, Vcpu, Xen};
use zerocopy::{FromZeros, IntoBytes};

const RAM: u64 = 64;
const HOLE: u64 = 0x1000;
const PAGE: u64 = 20;
const SCRATCH: u64 = 9 * PAGE_SIZE;

/// A guest with its ledger.
struct Scene {
    guest: Guest,
    m: Vcpu,
    ledger: Ledger,
    grants: Option<Grants>,
    backend: Option<Mapping>,
    scratch: u64,
    start: Option<pv::Start>,
    new: NewKernel,
    kept: Vec<u64>,
}

type Made = (Scene, Kind);

impl Scene {
    fn translated(kind: Type) -> Self {
        let build = Build {
            pages: RAM,
            vcpus: 2,
            ..Build::default()
        };
        let guest = Xen::default().domain(kind, build);
        guest.set_hvm_pirqs(kind == Type::Hvm);
        Self {
            m: guest.vcpu(0),
            guest,
            ledger: Ledger::new(),
            grants: None,
            backend: None,
            scratch: SCRATCH,
            start: None,
            new: NewKernel::Translated(vec![(0, RAM)]),
            kept: Vec::new(),
        }
    }

    fn pv() -> Self {
        let build = Build {
            vcpus: 2,
            ..Build::default()
        };
        let guest = Xen::default().pv_guest(build, PvImage::default());
        let day = guest.start_of_day().unwrap();
        let m = guest.vcpu(0);
        let start = pv::Start::read(&m, day.start_info, day.virt_base).unwrap();
        Self {
            m,
            guest,
            ledger: Ledger::new(),
            grants: None,
            backend: None,
            scratch: day.virt_base + PAGE_SIZE,
            kept: vec![start.info.store_mfn, start.info.console_mfn],
            start: Some(start),
            new: NewKernel::Pv(day),
        }
    }

    fn with(mut self, kind: Kind, holder: Holder) -> Made {
        self.ledger.enter(Claim::of(kind, holder));
        (self, kind)
    }

    fn call(&self, call: Hypercall, command: u64, arg: &mut [u8]) {
        let mut args = [Arg::Value(command), Arg::InOut(arg), Arg::Value(1)];
        assert_eq!(self.m.hypercall(call, &mut args), 0);
    }

    fn vcpu_op(&self, command: u64, vcpu: u64, arg: &[u8]) {
        let mut args = [Arg::Value(command), Arg::Value(vcpu), Arg::In(arg)];
        assert_eq!(self.m.hypercall(Hypercall::VCPU_OP, &mut args), 0);
    }

    fn extended(&self, cmd: u32, arg1: u64, arg2: u64) {
        let op = MmuExtOp {
            cmd,
            pad: 0,
            arg1,
            arg2,
        };
        hypercall::mmuext_op(&self.m, "test", &[op]).unwrap();
    }

    fn set_vector_callback(&self) {
        let mut via = HvmParam {
            domid: 0x7ff0,
            pad: 0,
            index: 0,
            value: (2 << 56) | 0xf3,
        };
        self.call(Hypercall::HVM_OP, 0, via.as_mut_bytes());
    }

    /// The frame of a PV guest's page.
    fn frame(&self, pfn: u64) -> u64 {
        let list = self.start.as_ref().unwrap().info.mfn_list;
        self.m.read64(list + pfn * 8).unwrap()
    }

    /// A frame of a PV guest that is mapped nowhere.
    fn free_frame(&self) -> u64 {
        self.frame(1500)
    }

    /// Hands off: gives up what is in the ledger, but `forgotten`.
    fn hand_off(&mut self, forgotten: Option<Kind>) -> Vec<String> {
        let m = self.m.clone();
        let init = |vcpu: u32| {
            m.send_init(usize::try_from(vcpu).unwrap(), false);
            true
        };
        let omit = |kind| Some(kind) == forgotten;
        let tools = Tools {
            scratch: self.scratch,
            grants: self.grants,
            init: Some(&init),
            refill: None,
            omit: &omit,
        };
        self.ledger.give_up(&self.m, &tools).unwrap();
        self.ledger.blockers(&[])
    }

    /// What the check finds, but lines with one of these texts.
    fn left(&self, but: &[&str]) -> Vec<String> {
        let left = self.guest.check(&self.new, &self.kept);
        let left = left.iter().map(Violation::to_string);
        left.filter(|line| !but.iter().any(|text| line.contains(text)))
            .collect()
    }
}

const NOTHING: [String; 0] = [];

/// Given up nothing is left; forgotten the check finds it.
fn given_up_and_forgotten(make: &dyn Fn() -> Made, but: &[&str]) {
    let (mut scene, kind) = make();
    assert_ne!(scene.left(but), NOTHING, "{kind} is no claim by the check");
    assert_eq!(scene.hand_off(None), NOTHING, "{kind}");
    assert_eq!(scene.left(but), NOTHING, "{kind}");
    let (mut scene, kind) = make();
    let blockers = scene.hand_off(Some(kind));
    assert_eq!(blockers.len(), 1);
    assert!(blockers[0].contains(kind.remedy()), "{blockers:?}");
    assert_ne!(scene.left(but), NOTHING, "{kind}, forgotten, is not caught");
}

/// Nothing gives the claim up: a blocker, with what to do.
fn blocks(make: &dyn Fn() -> Made) {
    let (mut scene, kind) = make();
    assert_ne!(scene.left(&[]), NOTHING, "{kind} is no claim by the check");
    let blockers = scene.hand_off(None);
    assert_eq!(blockers.len(), 1);
    assert!(blockers[0].contains(kind.remedy()), "{blockers:?}");
}

#[test]
fn shared_info_in_a_hole_goes() {
    let scene = Scene::translated(Type::Pvh);
    hypercall::map_shared_info(&scene.m, HOLE).unwrap();
    let (mut scene, _) = scene.with(Kind::SharedInfoPhysmap { gfn: HOLE }, Holder::Xen);
    assert_ne!(scene.m.read64(HOLE * PAGE_SIZE).unwrap(), u64::MAX);
    assert_eq!(scene.hand_off(None), NOTHING);
    assert_eq!(scene.m.read64(HOLE * PAGE_SIZE).unwrap(), u64::MAX);
    assert_eq!(scene.left(&[]), NOTHING);
}

#[test]
fn shared_info_over_ram() {
    let make = || {
        let scene = Scene::translated(Type::Pvh);
        hypercall::map_shared_info(&scene.m, PAGE).unwrap();
        scene.with(Kind::SharedInfoInRam { gfn: PAGE }, Holder::Xen)
    };
    given_up_and_forgotten(&make, &[]);
}

#[test]
fn a_grant_that_a_backend_keeps_blocks_until_it_lets_go() {
    let make = || {
        let mut scene = Scene::translated(Type::Pvh);
        let build = Build {
            id: 0,
            pages: 16,
            ..Build::default()
        };
        let backend = scene.guest.xen().domain(Type::Pv, build);
        hypercall::map_grant_frame(&scene.m, 0, HOLE).unwrap();
        let grants = Grants::new(HOLE * PAGE_SIZE);
        let frame = u32::try_from(PAGE).unwrap();
        assert!(grants.grant_access(&scene.m, 8, 0, frame).unwrap());
        scene.backend = Some(backend.map_grant(scene.guest.id(), 8, true).unwrap());
        scene.grants = Some(grants);
        let (reference, page) = (8, PAGE);
        scene.with(Kind::Grant { reference, page }, Holder::Domain(0))
    };
    blocks(&make);
    let (mut scene, _) = make();
    assert!(scene.hand_off(None)[0].starts_with("domain 0 writes grant 8, page 0x14"));
    assert_eq!(scene.backend.take().unwrap().unmap(), Ok(()));
    assert_eq!(scene.hand_off(None), NOTHING);
    assert_eq!(scene.left(&[]), NOTHING);
}

#[test]
fn a_foreign_mapping() {
    let make = || {
        let scene = Scene::translated(Type::Pvh);
        let build = Build {
            id: 5,
            pages: 16,
            ..Build::default()
        };
        let granter = scene.guest.xen().domain(Type::Pvh, build).vcpu(0);
        hypercall::map_grant_frame(&granter, 0, HOLE).unwrap();
        let grants = Grants::new(HOLE * PAGE_SIZE);
        assert!(
            grants
                .grant_access(&granter, 8, scene.guest.id(), 3)
                .unwrap()
        );
        let mut map = GnttabMapGrantRef::new_zeroed();
        let address = (HOLE + 1) * PAGE_SIZE;
        (map.host_addr, map.flags, map.gref, map.dom) = (address, 2, 8, 5);
        scene.call(Hypercall::GRANT_TABLE_OP, 0, map.as_mut_bytes());
        assert_eq!(map.status, 0);
        let handle = map.handle;
        scene.with(Kind::ForeignMapping { address, handle }, Holder::Domain(5))
    };
    given_up_and_forgotten(&make, &[]);
}

#[test]
fn an_event_channel() {
    let make = || {
        let scene = Scene::translated(Type::Pvh);
        let mut ipi = [0_u32, 0];
        scene.call(
            Hypercall::EVENT_CHANNEL_OP,
            EVTCHNOP_BIND_IPI,
            ipi.as_mut_bytes(),
        );
        scene.with(Kind::EventChannel { port: ipi[1] }, Holder::Xen)
    };
    given_up_and_forgotten(&make, &[]);
}

#[test]
fn a_pirq_with_its_port() {
    let make = || {
        let scene = Scene::translated(Type::Hvm);
        scene.set_vector_callback();
        let mut map = PhysdevMapPirq::new_zeroed();
        (map.domid, map.kind, map.index, map.pirq) = (0x7ff0, MAP_PIRQ_TYPE_GSI, 9, -1);
        scene.call(
            Hypercall::PHYSDEV_OP,
            PHYSDEVOP_MAP_PIRQ,
            map.as_mut_bytes(),
        );
        let pirq = u32::try_from(map.pirq).unwrap();
        let mut bind = [pirq, 0, 0];
        scene.call(
            Hypercall::EVENT_CHANNEL_OP,
            EVTCHNOP_BIND_PIRQ,
            bind.as_mut_bytes(),
        );
        let port = Some(bind[2]);
        scene.with(Kind::Pirq { pirq, port }, Holder::Xen)
    };
    // In HVM the callback is set back by a parameter of 0.
    given_up_and_forgotten(&make, &["callback vector"]);
}

#[test]
fn runstate_and_time_areas() {
    let (vcpu, page, address) = (0, PAGE, PAGE * PAGE_SIZE);
    let kinds = [
        (
            VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
            Kind::RunstateAddress { vcpu, address },
        ),
        (
            VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA,
            Kind::TimeAddress { vcpu, address },
        ),
        (
            VCPUOP_REGISTER_RUNSTATE_PHYS_AREA,
            Kind::RunstatePage { vcpu, page },
        ),
        (
            VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA,
            Kind::TimePage { vcpu, page },
        ),
    ];
    for (command, kind) in kinds {
        let make = || {
            let scene = Scene::translated(Type::Pvh);
            scene.vcpu_op(command, 0, &address.to_le_bytes());
            scene.with(kind, Holder::Xen)
        };
        given_up_and_forgotten(&make, &[]);
    }
}

#[test]
fn a_vcpu_info_a_fifo_block_and_an_upcall_vector_block() {
    blocks(&|| {
        let scene = Scene::translated(Type::Pvh);
        let info = VcpuRegisterVcpuInfo {
            mfn: PAGE,
            offset: 0,
            rsvd: 0,
        };
        scene.vcpu_op(VCPUOP_REGISTER_VCPU_INFO, 0, info.as_bytes());
        scene.with(
            Kind::VcpuInfo {
                vcpu: 0,
                page: PAGE,
            },
            Holder::Xen,
        )
    });
    blocks(&|| {
        let scene = Scene::translated(Type::Pvh);
        let mut arg = EvtchnInitControl::new_zeroed();
        arg.control_gfn = PAGE;
        scene.call(
            Hypercall::EVENT_CHANNEL_OP,
            EVTCHNOP_INIT_CONTROL,
            arg.as_mut_bytes(),
        );
        scene.with(Kind::EventFifo { pages: 1 }, Holder::Xen)
    });
    blocks(&|| {
        let scene = Scene::translated(Type::Pvh);
        scene.set_vector_callback();
        scene.with(Kind::UpcallVector { vector: 0xf3 }, Holder::Xen)
    });
}

#[test]
fn a_vcpu_goes_by_init_and_blocks_in_pv() {
    let make = || {
        let scene = Scene::translated(Type::Pvh);
        // Long mode, paging on.
        let mut context = VcpuHvmContext::new_zeroed();
        context.mode = HVM_MODE_64B;
        let regs = VcpuHvmX86_64 {
            cr0: 1 << 31,
            cr4: 1 << 5,
            efer: 1 << 8,
            ..VcpuHvmX86_64::default()
        };
        context.cpu_regs = zerocopy::transmute!(regs);
        scene.vcpu_op(VCPUOP_INITIALISE, 1, context.as_bytes());
        scene.vcpu_op(VCPUOP_UP, 1, &[]);
        let (vcpu, by_init) = (1, true);
        scene.with(Kind::Vcpu { vcpu, by_init }, Holder::Xen)
    };
    given_up_and_forgotten(&make, &[]);
    blocks(&|| {
        let scene = Scene::pv();
        let start = scene.start.as_ref().unwrap();
        let root = scene.frame((start.info.pt_base - start.virt_base) / PAGE_SIZE);
        let mut context = VcpuGuestContext::new_zeroed();
        context.flags = VGCF_IN_KERNEL;
        context.ctrlreg[3] = root << 12;
        scene.vcpu_op(VCPUOP_INITIALISE, 1, context.as_bytes());
        let (vcpu, by_init) = (1, false);
        scene.with(Kind::Vcpu { vcpu, by_init }, Holder::Xen)
    });
}

#[test]
fn a_ballooned_hole() {
    let make = || {
        let scene = Scene::translated(Type::Pvh);
        scene.m.write64(SCRATCH, PAGE).unwrap();
        assert_eq!(hypercall::decrease_reservation(&scene.m, SCRATCH), Ok(true));
        scene.with(Kind::Hole { page: PAGE }, Holder::Xen)
    };
    given_up_and_forgotten(&make, &[]);
}

#[test]
fn pins_descriptor_tables_and_upcalls_of_a_pv_guest() {
    let pinned = || {
        let scene = Scene::pv();
        let mfn = scene.free_frame();
        scene.extended(MMUEXT_PIN_L1_TABLE, mfn, 0);
        scene.with(Kind::PinnedTables { mfn }, Holder::Xen)
    };
    let user = || {
        let scene = Scene::pv();
        let mfn = scene.free_frame();
        scene.extended(MMUEXT_NEW_USER_BASEPTR, mfn, 0);
        scene.with(Kind::UserTables { mfn }, Holder::Xen)
    };
    let gdt = || {
        let scene = Scene::pv();
        let frames = scene.free_frame().to_le_bytes();
        let mut args = [Arg::In(&frames), Arg::Value(512)];
        assert_eq!(scene.m.hypercall(Hypercall::SET_GDT, &mut args), 0);
        scene.with(Kind::Gdt { frames: 1 }, Holder::Xen)
    };
    let ldt = || {
        let scene = Scene::pv();
        let address = scene.scratch;
        scene.extended(MMUEXT_SET_LDT, address, 8);
        scene.with(Kind::Ldt { address }, Holder::Xen)
    };
    let upcalls = || {
        let scene = Scene::pv();
        let fault = TrapInfo {
            vector: 14,
            address: scene.scratch,
            ..TrapInfo::default()
        };
        let table = [fault, TrapInfo::default()];
        let mut args = [Arg::In(table.as_bytes())];
        assert_eq!(scene.m.hypercall(Hypercall::SET_TRAP_TABLE, &mut args), 0);
        scene.with(Kind::Upcalls, Holder::Xen)
    };
    let all: [&dyn Fn() -> Made; 5] = [&pinned, &user, &gdt, &ldt, &upcalls];
    for make in all {
        given_up_and_forgotten(make, &[]);
    }
}

#[test]
fn every_kind_says_what_to_do_and_who_holds_it() {
    let device = Kind::Device {
        class: "vbd",
        number: 51712,
    };
    let mut ledger = Ledger::new();
    ledger.enter(Claim::of(device, Holder::Domain(0)));
    ledger.enter(Claim::of(Kind::Exchange { pages: 3 }, Holder::Xen));
    ledger.enter(Claim::of(Kind::CurrentTables { mfn: 5 }, Holder::Xen));
    ledger.enter(Claim::of(
        Kind::SharedInfoMapping { address: 0x1000 },
        Holder::Xen,
    ));
    let blockers = ledger.blockers(&[Kind::CurrentTables { mfn: 5 }]);
    assert_eq!(
        blockers,
        [
            "domain 0 writes device vbd/51712, connected \
             (to give it up: close the frontend, and wait for the backend)",
            "Xen holds 3 exchanged p2m entries (to give it up: bring M2P in step)",
            "Xen writes shared info, mapped at 0x1000 (to give it up: unmap it)",
        ]
    );
}

#[test]
fn the_callback_of_an_hvm_guest_goes() {
    let make = || {
        let scene = Scene::translated(Type::Hvm);
        scene.set_vector_callback();
        scene.with(Kind::Callback { vector: 0xf3 }, Holder::Xen)
    };
    given_up_and_forgotten(&make, &[]);
}

#[test]
fn the_grant_table_in_a_hole_goes() {
    let scene = Scene::translated(Type::Pvh);
    hypercall::map_grant_frame(&scene.m, 0, HOLE).unwrap();
    let (mut scene, _) = scene.with(Kind::GrantTable { gfn: HOLE }, Holder::Xen);
    assert_eq!(scene.m.read64(HOLE * PAGE_SIZE).unwrap(), 0);
    assert_eq!(scene.hand_off(None), NOTHING);
    // Nothing is there: all ones.
    assert_eq!(scene.m.read64(HOLE * PAGE_SIZE).unwrap(), u64::MAX);
}

/// What stands in the way for certain, with these hopes.
fn now(scene: &Scene, hopes: Hopes) -> usize {
    let found = scene
        .ledger
        .blockers_now(&scene.m, scene.grants, hopes, &|_| false);
    found.unwrap().len()
}

#[test]
fn what_will_block_is_known_before_anything_is_done() {
    let mut scene = Scene::translated(Type::Pvh);
    for kind in [
        Kind::VcpuInfo { vcpu: 0, page: 1 },
        Kind::EventFifo { pages: 2 },
        Kind::UpcallVector { vector: 3 },
        Kind::Vcpu {
            vcpu: 1,
            by_init: false,
        },
    ] {
        scene.ledger.enter(Claim::of(kind, Holder::Xen));
    }
    // What a hand-off gives up is in nobody's way.
    for kind in [
        Kind::EventChannel { port: 9 },
        Kind::Hole { page: 7 },
        Kind::Vcpu {
            vcpu: 2,
            by_init: true,
        },
    ] {
        scene.ledger.enter(Claim::of(kind, Holder::Xen));
    }
    assert_eq!(now(&scene, Hopes::default()), 4);
    // A soft reset undoes all of them but the vCPU's context.
    let soft_reset = Hopes {
        soft_reset: true,
        ..Hopes::default()
    };
    assert_eq!(now(&scene, soft_reset), 1);
    scene.ledger.strike_soft_reset();
    assert_eq!(scene.ledger.claims().len(), 3);
}

#[test]
fn a_grant_that_is_mapped_blocks_but_for_what_is_hoped_for() {
    let wait = Hopes {
        wait: true,
        ..Hopes::default()
    };
    let abandon = Hopes {
        abandon: true,
        ..Hopes::default()
    };
    for (frame, abandoned) in [(0, false), (1, true)] {
        let mut scene = Scene::translated(Type::Pvh);
        hypercall::map_grant_frame(&scene.m, frame, HOLE).unwrap();
        let number = u32::try_from(frame).unwrap();
        let grants = Grants::frame(HOLE * PAGE_SIZE, number);
        let reference = grants.references().start;
        let page = u32::try_from(PAGE).unwrap();
        assert!(grants.grant_access(&scene.m, reference, 1, page).unwrap());
        scene.grants = Some(grants);
        let kind = Kind::Grant {
            reference,
            page: PAGE,
        };
        scene.ledger.enter(Claim::of(kind, Holder::Domain(1)));
        assert_eq!(now(&scene, Hopes::default()), 0);
        // A backend maps it: the flag is Xen's to set.
        let entry = HOLE * PAGE_SIZE + u64::from(reference % 512) * 8;
        let word = scene.m.load32(entry).unwrap();
        scene
            .m
            .store32(entry, word | u32::from(GTF_WRITING))
            .unwrap();
        assert_eq!(now(&scene, Hopes::default()), 1);
        assert_eq!(now(&scene, wait), 0);
        assert_eq!(now(&scene, abandon), usize::from(!abandoned));
        let m = scene.m.clone();
        assert_eq!(scene.ledger.end_grants(&m, grants).unwrap(), 1);
        scene.m.store32(entry, word).unwrap();
        assert_eq!(scene.ledger.end_grants(&m, grants).unwrap(), 0);
        assert!(scene.ledger.claims().is_empty());
    }
}
