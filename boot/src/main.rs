//! The Kexen boot image.
#![no_std]
#![no_main]

mod arch;

extern "C" fn pv_main(_start_info: u64) -> ! {
    loop {}
}
extern "C" fn pvh_main(_start_info: u64) -> ! {
    loop {}
}
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
