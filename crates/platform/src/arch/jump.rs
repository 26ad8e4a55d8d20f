//! The last instructions before a jump: three trampolines.
//!
//! Each is copied into a page that the next kernel does not use at its
//! start of day, and runs there; its data follows at offset 2048, laid out
//! by `TrampolineData` of the hand-off crate.
//!
//! - PV: the page is mapped at one address in both address spaces. One
//!   `mmuext_op` (new base pointer, unpin the old L4), then the registers
//!   of a PV start: `rsi` = `start_info`, `rsp` = boot stack, others zero.
//! - Linux's 64-bit entry: the page is identity-mapped, in tables of its own
//!   too. Those tables, Linux's segments, the copy list, `rsi` = `boot_params`.
//! - PVH: the page is identity-mapped. Out of long mode and paging, the copy
//!   list, then the registers of a PVH start: `ebx` = start structure.

use core::{arch::global_asm, convert::Infallible};

global_asm!(
    r#"
    .set DATA, 2048

    .section .rodata.trampoline, "a", @progbits
    .balign 16
kexen_pv_trampoline:                    /* rdi = address of this page */
    mov %rdi, %rbx
    lea DATA(%rbx), %rdi                /* ops */
    mov DATA + 48(%rbx), %rsi           /* op_count */
    lea DATA + 56(%rbx), %rdx           /* done */
    mov $0x7ff0, %r10d                  /* DOMID_SELF */
    mov $26, %eax                       /* mmuext_op */
    syscall
    test %rax, %rax
    jnz 1f
    mov DATA + 72(%rbx), %rsp           /* stack */
    mov DATA + 80(%rbx), %rsi           /* start_info */
    xor %eax, %eax
    xor %ebx, %ebx
    xor %ecx, %ecx
    xor %edx, %edx
    xor %edi, %edi
    xor %ebp, %ebp
    xor %r8d, %r8d
    xor %r9d, %r9d
    xor %r10d, %r10d
    xor %r11d, %r11d
    xor %r12d, %r12d
    xor %r13d, %r13d
    xor %r14d, %r14d
    xor %r15d, %r15d
    cld
    jmp *(kexen_pv_trampoline + DATA + 64)(%rip) /* entry */
1:  /* The way back is gone: tell the toolstack. */
    movl $3, DATA(%rbx)                 /* SHUTDOWN_crash */
    lea DATA(%rbx), %rsi
    mov $2, %edi                        /* SCHEDOP_shutdown */
    mov $29, %eax                       /* sched_op */
    syscall
    ud2
kexen_pv_trampoline_end:

    .balign 16
kexen_pvh_trampoline:                   /* rdi = address of this page */
    cli
    cld
    mov %edi, %ebp
    lea DATA(%rbp), %rsp
    lgdt DATA + 24(%rbp)                /* gdt_limit, gdt_base */
    lea (2f - kexen_pvh_trampoline)(%rbp), %eax
    push $8
    push %rax
    lretq
    .code32
2:  mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov $0x11, %eax                     /* PE, ET */
    mov %eax, %cr0
    /*
     * LME goes before PAE: QEMU's emulation of SVM loses the host's CR0 on
     * an exit from a guest with LME set, PAE clear and paging off.
     */
    mov $0xc0000080, %ecx               /* EFER */
    rdmsr
    and $~0x100, %eax                   /* LME */
    wrmsr
    xor %eax, %eax
    mov %eax, %cr4
    mov %eax, %cr3
    mov DATA + 48(%ebp), %edx           /* copies */
    lea DATA + 56(%ebp), %ebx
3:  test %edx, %edx
    jz 4f
    mov (%ebx), %edi
    mov 4(%ebx), %esi
    mov 8(%ebx), %ecx
    test %esi, %esi
    jz 8f
    rep movsl
    jmp 9f
8:  xor %eax, %eax                      /* given up: zeroed */
    rep stosl
9:  add $12, %ebx
    dec %edx
    jmp 3b
4:  mov DATA + 44(%ebp), %ebx           /* start_info */
    xor %eax, %eax
    xor %ecx, %ecx
    xor %edx, %edx
    xor %esi, %esi
    xor %edi, %edi
    jmp *(DATA + 40)(%ebp)              /* entry */
kexen_pvh_trampoline_end:
    .code64

    .balign 16
kexen_linux_trampoline:                 /* rdi = address of this page */
    cli
    cld
    mov %rdi, %rbx
    mov DATA + 64(%rbx), %rax           /* tables */
    mov %rax, %cr3
    lea DATA(%rbx), %rsp
    lgdt DATA + 32(%rbx)                /* gdt_limit, gdt_base */
    lea (5f - kexen_linux_trampoline)(%rbx), %rax
    push $16
    push %rax
    lretq
5:  mov $24, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov DATA + 72(%rbx), %rdx           /* copies */
    lea DATA + 80(%rbx), %r8
6:  test %rdx, %rdx
    jz 7f
    mov (%r8), %edi
    mov 4(%r8), %esi
    mov 8(%r8), %ecx
    test %esi, %esi
    jz 8f
    rep movsl
    jmp 9f
8:  xor %eax, %eax                      /* given up: zeroed */
    rep stosl
9:  add $12, %r8
    dec %rdx
    jmp 6b
7:  mov DATA + 56(%rbx), %rsi           /* boot_params */
    mov DATA + 48(%rbx), %rax           /* entry */
    xor %ebx, %ebx
    xor %ecx, %ecx
    xor %edi, %edi
    xor %ebp, %ebp
    xor %r8d, %r8d
    jmp *%rax
kexen_linux_trampoline_end:
    .text
    "#,
    options(att_syntax)
);

unsafe extern "C" {
    static kexen_pv_trampoline: u8;
    static kexen_pv_trampoline_end: u8;
    static kexen_pvh_trampoline: u8;
    static kexen_pvh_trampoline_end: u8;
    static kexen_linux_trampoline: u8;
    static kexen_linux_trampoline_end: u8;
}

const _: () = {
    use core::mem::offset_of;
    use kexen_handoff::{pv::state as pv, pvh::trampoline as pvh};
    assert!(pv::TRAMPOLINE_DATA == 2048);
    assert!(offset_of!(pv::TrampolineData, op_count) == 48);
    assert!(offset_of!(pv::TrampolineData, done) == 56);
    assert!(offset_of!(pv::TrampolineData, entry) == 64);
    assert!(offset_of!(pv::TrampolineData, stack) == 72);
    assert!(offset_of!(pv::TrampolineData, start_info) == 80);
    assert!(pvh::TRAMPOLINE_DATA == 2048);
    assert!(offset_of!(pvh::TrampolineData, gdt_limit) == 24);
    assert!(offset_of!(pvh::TrampolineData, gdt_base) == 26);
    assert!(offset_of!(pvh::TrampolineData, entry) == 40);
    assert!(offset_of!(pvh::TrampolineData, start_info) == 44);
    assert!(offset_of!(pvh::TrampolineData, copies) == 48);
    assert!(size_of::<pvh::TrampolineData>() == 56);
    assert!(offset_of!(pvh::LinuxTrampolineData, gdt_limit) == 32);
    assert!(offset_of!(pvh::LinuxTrampolineData, gdt_base) == 34);
    assert!(offset_of!(pvh::LinuxTrampolineData, entry) == 48);
    assert!(offset_of!(pvh::LinuxTrampolineData, boot_params) == 56);
    assert!(offset_of!(pvh::LinuxTrampolineData, tables) == 64);
    assert!(offset_of!(pvh::LinuxTrampolineData, copies) == 72);
    assert!(size_of::<pvh::LinuxTrampolineData>() == 80);
};

/// The code of the PV trampoline.
#[must_use]
pub fn pv_code() -> &'static [u8] {
    between(
        &raw const kexen_pv_trampoline,
        &raw const kexen_pv_trampoline_end,
    )
}

/// The code of the PVH trampoline.
#[must_use]
pub fn pvh_code() -> &'static [u8] {
    between(
        &raw const kexen_pvh_trampoline,
        &raw const kexen_pvh_trampoline_end,
    )
}

/// The code of the trampoline to Linux's 64-bit entry.
#[must_use]
pub fn linux_code() -> &'static [u8] {
    between(
        &raw const kexen_linux_trampoline,
        &raw const kexen_linux_trampoline_end,
    )
}

fn between(start: *const u8, end: *const u8) -> &'static [u8] {
    let len = end.addr() - start.addr();
    // SAFETY: both symbols are in one read-only section of this image, in
    // this order, with nothing but the code between them.
    unsafe { core::slice::from_raw_parts(start, len) }
}

/// Runs the trampoline that a `Released` hand-off put at `page`.
pub(crate) fn run(page: u64) -> Infallible {
    // SAFETY: the address is that of a `Released` hand-off's trampoline, or of the
    // crash hand-off's, into which the matching code was copied; it is mapped and
    // executable.
    unsafe {
        core::arch::asm!("jmp {0}", in(reg) page, in("rdi") page, options(noreturn));
    }
}
