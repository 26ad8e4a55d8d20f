//! Figures of the model on one core, for `cargo kexen bench`: one line of
//! `key=value` each, operations (or schedules) in a second.

use std::time::{Duration, Instant};

use kexen_abi::PAGE_SIZE;
use kexen_abi::event_channel::{EVTCHNOP_BIND_IPI, EVTCHNOP_SEND};
use kexen_abi::grant_table::{GnttabMapGrantRef, GnttabUnmapGrantRef};
use kexen_abi::hypercall::Hypercall;
use kexen_abi::mmu::{MMUEXT_PIN_L4_TABLE, MMUEXT_UNPIN_TABLE, MmuExtOp, MmuUpdate};
use kexen_guest::grants::Grants;
use kexen_guest::{Arg, Machine, hypercall, pv};
use kexen_model::{Build, Kind, PvImage, Vcpu, Xen, explore};
use zerocopy::{FromZeros, IntoBytes};

/// How long each kind is measured.
const SPAN: Duration = Duration::from_millis(500);

/// Runs `batch`, which does `each` operations, over and over.
fn measure(name: &str, each: u32, mut batch: impl FnMut()) {
    let start = Instant::now();
    let mut done = 0.0;
    while start.elapsed() < SPAN {
        batch();
        done += f64::from(each);
    }
    println!("{name}={:.0}", done / start.elapsed().as_secs_f64());
}

fn pv() -> (Vcpu, pv::Start) {
    let guest = Xen::default().pv_guest(Build::default(), PvImage::default());
    let m = guest.vcpu(0);
    let day = guest.start_of_day().expect("a PV guest has a start of day");
    let start = pv::Start::read(&m, day.start_info, day.virt_base).expect("it is mapped");
    (m, start)
}

fn page_types() {
    let (m, start) = pv();
    let frame = |pfn: u64| {
        m.read64(start.info.mfn_list + pfn * 8)
            .expect("it is mapped")
    };
    // Entry 5 of the padding, in the L1 table that maps it.
    let pfn = start.boot_pages() + 5;
    let tables = (start.info.pt_base - start.virt_base) / PAGE_SIZE;
    let wanted = frame(pfn);
    let table = (tables + 1..tables + start.info.nr_pt_frames).find(|table| {
        let at = start.virt_base + table * PAGE_SIZE + (pfn & 511) * 8;
        m.read64(at)
            .is_ok_and(|entry| entry >> 12 & 0xff_ffff == wanted)
    });
    let table = frame(table.expect("the padding is mapped"));
    let at = (table << 12) + (pfn & 511) * 8;
    let entry = (wanted << 12) | 0x67;
    let updates: Vec<MmuUpdate> = (0..512)
        .map(|n| MmuUpdate {
            ptr: at,
            val: if n % 2 == 0 { entry & !2 } else { entry },
        })
        .collect();
    measure("page_type_updates", 512, || {
        hypercall::mmu_update(&m, "figures", &updates).expect("it is valid");
    });
    let one = &updates[..2];
    measure("page_type_calls", 2, || {
        for update in one {
            hypercall::mmu_update(&m, "figures", &[*update]).expect("it is valid");
        }
    });
    // An L4 with nothing in it: validated and given up again.
    let l4 = frame(1500);
    let op = |cmd| MmuExtOp {
        cmd,
        pad: 0,
        arg1: l4,
        arg2: 0,
    };
    let pair = [op(MMUEXT_PIN_L4_TABLE), op(MMUEXT_UNPIN_TABLE)];
    measure("pin_unpin", 2, || {
        hypercall::mmuext_op(&m, "figures", &[MmuExtOp { cmd: 16, ..pair[0] }]).expect("valid");
        hypercall::mmuext_op(&m, "figures", &pair).expect("it is valid");
    });
    let at = start.virt_base + PAGE_SIZE;
    let mut value = 0;
    measure("loads_and_stores", 2, || {
        value += 1;
        m.write64(at, value).expect("it is mapped");
        assert_eq!(m.read64(at), Ok(value));
    });
}

fn grants_physmap_events() {
    let xen = Xen::default();
    let guest = xen.domain(Kind::Pvh, Build::default());
    let m = guest.vcpu(0);
    let build = Build {
        id: 9,
        ..Build::default()
    };
    let other = xen.domain(Kind::Pvh, build).vcpu(0);
    hypercall::map_grant_frame(&m, 0, 0x1000).expect("the hole is free");
    let grants = Grants::new(0x1000 * PAGE_SIZE);
    assert_eq!(grants.grant_access(&m, 8, 9, 20), Ok(true));
    let mut map = GnttabMapGrantRef::new_zeroed();
    (map.host_addr, map.flags, map.gref, map.dom) = (0x1001 * PAGE_SIZE, 2, 8, guest.id());
    let mut unmap = GnttabUnmapGrantRef::new_zeroed();
    unmap.host_addr = map.host_addr;
    measure("grant_map_unmap", 2, || {
        let mut args = [Arg::Value(0), Arg::InOut(map.as_mut_bytes()), Arg::Value(1)];
        assert_eq!(other.hypercall(Hypercall::GRANT_TABLE_OP, &mut args), 0);
        assert_eq!(map.status, 0);
        unmap.handle = map.handle;
        let mut args = [
            Arg::Value(1),
            Arg::InOut(unmap.as_mut_bytes()),
            Arg::Value(1),
        ];
        assert_eq!(other.hypercall(Hypercall::GRANT_TABLE_OP, &mut args), 0);
    });
    let list = 9 * PAGE_SIZE;
    m.write64(list, 30).expect("it is RAM");
    measure("decrease_populate", 2, || {
        assert_eq!(hypercall::decrease_reservation(&m, list), Ok(true));
        assert_eq!(hypercall::populate_physmap(&m, list), Ok(true));
    });
    let mut ipi = [0_u32, 0];
    let mut args = [
        Arg::Value(EVTCHNOP_BIND_IPI),
        Arg::InOut(ipi.as_mut_bytes()),
    ];
    assert_eq!(m.hypercall(Hypercall::EVENT_CHANNEL_OP, &mut args), 0);
    let port = ipi[1].to_le_bytes();
    measure("event_send", 1, || {
        let mut args = [Arg::Value(EVTCHNOP_SEND), Arg::In(&port)];
        assert_eq!(m.hypercall(Hypercall::EVENT_CHANNEL_OP, &mut args), 0);
    });
}

/// Two vCPUs that write and read each other's page.
fn schedules() {
    let scene = || {
        let build = Build {
            pages: 16,
            vcpus: 2,
            ..Build::default()
        };
        let guest = Xen::default().domain(Kind::Pvh, build);
        explore::switchable(guest.xen());
        let actor = |vcpu: usize| -> explore::Actor {
            let m = guest.vcpu(vcpu);
            Box::new(move || {
                for page in [1, 2] {
                    m.write64(page * PAGE_SIZE, page).expect("it is RAM");
                    m.read64((3 - page) * PAGE_SIZE).expect("it is RAM");
                }
            })
        };
        explore::together(vec![actor(0), actor(1)]);
    };
    let start = Instant::now();
    let count = explore::some(1, 2000, scene);
    let count = u32::try_from(count).expect("few schedules");
    println!(
        "schedules={:.0}",
        f64::from(count) / start.elapsed().as_secs_f64()
    );
}

fn main() {
    page_types();
    grants_physmap_events();
    schedules();
}
