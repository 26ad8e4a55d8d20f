//! INIT by the local APIC, for the vCPUs of a translated guest.
//!
//! Specification: Intel SDM volume 3, "Local APIC"; what Xen makes of it:
//! `vlapic_init_sipi_one` in `arch/x86/hvm/vlapic.c`: the vCPU is taken down
//! and its context is as if it had never had one, so that the next kernel can
//! start it by INIT-SIPI or `VCPUOP_initialise`. The sender waits in Xen until
//! that is done. The registers are memory of the guest's that Xen emulates.

use kexen_guest::{Fault, Machine};

const BASE: u64 = 0xfee0_0000;
const ICR_LOW: u64 = BASE + 0x300;
const ICR_HIGH: u64 = BASE + 0x310;

/// Delivery mode INIT, level asserted.
const INIT: u32 = (5 << 8) | (1 << 14);
/// Shorthand: all but this one.
const ALL_BUT_SELF: u32 = 3 << 18;

/// Makes the vCPU with this APIC identifier as new.
pub fn init<M: Machine + ?Sized>(m: &M, apic_id: u32) -> Result<(), Fault> {
    m.store32(ICR_HIGH, apic_id << 24)?;
    m.store32(ICR_LOW, INIT)
}

/// Makes all vCPUs but this one as new, whatever they were doing.
pub fn init_others<M: Machine + ?Sized>(m: &M) -> Result<(), Fault> {
    m.store32(ICR_HIGH, 0)?;
    m.store32(ICR_LOW, INIT | ALL_BUT_SELF)
}
