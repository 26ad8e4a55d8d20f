//! Port I/O: 32-bit words of the PCI configuration ports.
//!
//! Protocol: PCI Local Bus 3.0, "Configuration Mechanism #1". A translated
//! guest's ports are Xen's and the device model's to emulate; what a device
//! then does by DMA it does to memory that its driver named.

use core::arch::asm;

/// Writes a word to a port.
pub(crate) fn write32(port: u16, value: u32) {
    // SAFETY: a port of an emulated device: nothing of Rust's memory changes.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags))
    };
}

/// Reads a word from a port.
pub(crate) fn read32(port: u16) -> u32 {
    let value: u32;
    // SAFETY: as in `write32`.
    unsafe {
        asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags))
    };
    value
}
