//! Where a further vCPU starts, and what a vCPU says of itself.
//!
//! Protocol: `VCPUOP_initialise` with 64-bit registers in translated guests
//! (flat segments come from Xen, descriptor tables do not), with
//! `struct vcpu_guest_context` in PV ones. In both `rdi` is the vCPU's number
//! and `rsp` the end of its stack. Memory shared with others: none.

use alloc::{boxed::Box, vec};
use core::arch::{asm, global_asm, x86_64};

use kexen_handoff::crash::elfcore::Registers;

use super::Xen;

global_asm!(
    r#"
    .section .text.vcpu, "ax", @progbits
    .global kexen_vcpu_start
kexen_vcpu_start:
    lgdt kexen_gdt_pointer_high(%rip)
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %ebp, %ebp
    push $8
    lea 1f(%rip), %rax
    push %rax
    lretq
1:  call {main}
    ud2

    .global kexen_vcpu_start_pv
kexen_vcpu_start_pv:
    xor %ebp, %ebp
    call {main}
    ud2

    .section .rodata.kexen_gdt_high, "a", @progbits
    .balign 16
kexen_gdt_high:
    .quad 0
    .quad 0x00af9b000000ffff            /* 8: 64-bit code */
    .quad 0x00cf93000000ffff            /* 16: flat data */
kexen_gdt_pointer_high:
    .word kexen_gdt_pointer_high - kexen_gdt_high - 1
    .quad kexen_gdt_high
    .text
    "#,
    main = sym vcpu_main,
    options(att_syntax)
);

unsafe extern "C" {
    static kexen_vcpu_start: u8;
    static kexen_vcpu_start_pv: u8;
}

/// Bytes of a vCPU's stack.
const STACK: usize = 64 * 1024;

/// Rust's part of the entry.
extern "C" fn vcpu_main(vcpu: u64) -> ! {
    crate::vcpus::run(u32::try_from(vcpu).unwrap_or(u32::MAX))
}

/// Where a vCPU starts.
pub fn entry(m: &Xen) -> u64 {
    let symbol = if m.is_pv() {
        &raw const kexen_vcpu_start_pv
    } else {
        &raw const kexen_vcpu_start
    };
    u64::try_from(symbol.addr()).unwrap_or(0)
}

/// A stack for a vCPU, for the rest of this kernel's life: its end.
#[must_use]
pub fn stack() -> u64 {
    let stack = Box::leak(vec![0_u128; STACK / 16].into_boxed_slice());
    let end = stack.as_mut_ptr_range().end;
    u64::try_from(end.expose_provenance()).unwrap_or(0)
}

/// This vCPU's page tables: physical address of the L4 (translated guests).
#[must_use]
pub fn cr3() -> u64 {
    let value: u64;
    // SAFETY: reads a control register, at the privilege that a translated
    // guest's kernel runs at.
    unsafe { asm!("mov {0}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Where this vCPU is, for the note of a crash.
#[inline(always)]
pub(crate) fn registers() -> Registers {
    let (rip, rsp, rbp): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe {
        asm!("lea {0}, [rip]", "mov {1}, rsp", "mov {2}, rbp", out(reg) rip, out(reg) rsp,
            out(reg) rbp, options(nomem, nostack, preserves_flags));
    }
    Registers { rip, rsp, rbp }
}

/// The identifier of this vCPU's local APIC (`CPUID` leaf 1).
#[must_use]
pub fn apic_id() -> u32 {
    x86_64::__cpuid(1).ebx >> 24
}

/// This domain's number, where Xen tells a translated guest
/// (`XEN_HVM_CPUID_DOMID_PRESENT` of `public/arch-x86/cpuid.h`).
#[must_use]
pub fn domid() -> Option<u16> {
    const PRESENT: u32 = 1 << 4;
    let base = (0x4000_0000..0x4001_0000_u32)
        .step_by(0x100)
        .find(|leaf| x86_64::__cpuid(*leaf).ebx == 0x566e_6558)?;
    let leaf = x86_64::__cpuid(base + 4);
    (leaf.eax & PRESENT != 0)
        .then(|| u16::try_from(leaf.ecx).ok())
        .flatten()
}

/// The time stamp counter.
#[must_use]
pub fn tsc() -> u64 {
    // SAFETY: reads a counter; Xen lets every guest do so.
    unsafe { x86_64::_rdtsc() }
}

/// Tells the processor that this is a loop that waits.
pub fn relax() {
    core::hint::spin_loop();
}
