//! The failures that a kexec under Xen was reported to have, one by one:
//! each fails without its defence, with the symptom that was reported, and
//! passes with it.

mod claims;
mod pool;
mod shared_info;
mod tlb;

use kexen_abi::PAGE_SIZE;
use kexen_guest::{Extent, Machine, pv};
use kexen_model::{Build, Config, Guest, PvImage, TypeLayout, Vcpu, Xen};

/// A PV guest with its address space, as the guest layer sees it.
struct Pv {
    guest: Guest,
    m: Vcpu,
    start: pv::Start,
    space: pv::AddressSpace,
}

fn pv_guest(layout: TypeLayout, build: Build) -> Pv {
    let xen = Xen::new(Config {
        layout,
        ..Config::default()
    });
    let guest = xen.pv_guest(build, PvImage::default());
    let m = guest.vcpu(0);
    let day = guest.start_of_day().unwrap();
    let start = pv::Start::read(&m, day.start_info, day.virt_base).unwrap();
    let boot = start.boot_pages();
    let padding = pv::start::PADDING_PAGES;
    let table = (start.info.pt_base - day.virt_base) / PAGE_SIZE;
    let root = m.read64(start.info.mfn_list + table * 8).unwrap();
    let pool = Extent::new(boot, padding);
    let space = pv::AddressSpace::new(&start, root, boot + padding, pool);
    Pv {
        guest,
        m,
        start,
        space,
    }
}
