//! The Kexen boot image.
#![no_std]
#![no_main]

extern crate alloc;

mod arch;

use alloc::format;
use arch::Xen;
use kexen_guest::{console::Console, pv};

const VIRT_BASE: u64 = 0xffff_ffff_c000_0000;

extern "C" fn pv_main(start_info: u64) -> ! {
    let m = Xen::start_pv();
    let start = pv::Start::read(m, start_info, VIRT_BASE).unwrap();
    let _ = Console::Hypervisor.write(
        m,
        format!("kexen: PV {} pages\n", start.info.nr_pages).as_bytes(),
    );
    let _ = kexen_guest::hypercall::shutdown(m, 0);
    loop {}
}
extern "C" fn pvh_main(start_info: u64) -> ! {
    let m = Xen::start_pvh().unwrap();
    for b in b"kexen: PVH\n" {
        arch::machine::debug_port(*b);
    }
    let start = kexen_guest::hvm::Start::read(m, start_info).unwrap();
    for b in format!(
        "kexen: PVH {} modules {:?}\n",
        start.modules.len(),
        start.memmap
    )
    .as_bytes()
    {
        arch::machine::debug_port(*b);
    }
    let _ = kexen_guest::hypercall::shutdown(m, 0);
    arch::machine::halt()
}
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
