//! Entry points and ELF notes.
//!
//! Protocols: the PV start of day of Xen's `include/public/xen.h` (64-bit,
//! paging on, `rsi` = virtual address of `start_info`) and the PVH start of
//! `docs/misc/pvh.pandoc` (32-bit, paging off, `ebx` = physical address of
//! `hvm_start_info`), and in HVM guests the Linux boot protocol (real mode,
//! `ds` = setup header), which is what a device model's `-kernel` speaks.
//!
//! Order of steps:
//! - PV: own stack, clear flags, into Rust.
//! - HVM: the firmware's memory map, protected mode, the image to its place;
//!   on as PVH.
//! - PVH: identity map of the low 4 GiB in 2 MiB pages and the image's
//!   virtual range (the same L2 tables), long mode, own stack, into Rust.
//!
//! Memory shared with others: none yet; both stubs touch only the image.

use core::arch::global_asm;

use super::{Xen, machine};
use crate::Boot;

/// What the real-mode part leaves in `eax`.
const BOOT_PARAMS: u64 = 0x5372_6448;

/// Bytes of stack that all entry points switch to.
const STACK_BYTES: usize = 256 * 1024;

global_asm!(
    r#"
    .set KEXEN_VIRT, 0xffffffffc0000000
    .set KEXEN_PHYS, 0x06000000
    .set KEXEN_OFFSET, KEXEN_VIRT - KEXEN_PHYS

    .macro kexen_note type, kind:vararg
    .balign 4
    .long 4, 3f - 2f, \type
    .asciz "Xen"
2:  \kind
3:  .balign 4
    .endm

    .section .note.Xen, "a", @note
    kexen_note 6, .asciz "Kexen"                /* GUEST_OS */
    kexen_note 7, .asciz "0.1"                  /* GUEST_VERSION */
    kexen_note 5, .asciz "xen-3.0"              /* XEN_VERSION */
    kexen_note 8, .asciz "generic"              /* LOADER */
    kexen_note 3, .quad KEXEN_VIRT              /* VIRT_BASE */
    kexen_note 4, .quad KEXEN_PHYS              /* PADDR_OFFSET */
    kexen_note 1, .quad pv_start                /* ENTRY */
    kexen_note 2, .quad hypercall_page          /* HYPERCALL_PAGE */
    kexen_note 15, .quad 0x8000000000           /* INIT_P2M */
    kexen_note 16, .quad 1                      /* MOD_START_PFN */
    kexen_note 9, .asciz "yes"                  /* PAE_MODE */
    kexen_note 10, .asciz "!writable_page_tables|pae_pgdir_above_4gb"
    /* SUPPORTED_FEATURES: writable_page_tables, auto_translated,
       pae_pgdir_above_4gb, hvm_callback_vector is not used, dom0. */
    kexen_note 17, .long (1 << 0) + (1 << 4) + (1 << 11)
    kexen_note 18, .long pvh_start - KEXEN_OFFSET /* PHYS32_ENTRY */

    /*
     * The real-mode part of the file that an HVM guest starts from, which
     * the host tool makes of this image: it goes there at offset 0xd00, behind
     * the setup header and the memory map that it asks the firmware for. Xen's stubs are written over it in PV guests.
     * ds = es = ss: where the setup header is; the image is at 1 MiB.
     */
    .section .text.setup, "ax", @progbits
    .set SETUP, 0xd00
    .code16
kexen_setup:
    cli
    cld
    xor %ebx, %ebx
    mov $0x2d0, %edi                    /* e820_table */
1:  mov $0xe820, %eax
    mov $0x534d4150, %edx
    mov $20, %ecx
    int $0x15
    jc 2f
    cmp $0x534d4150, %eax
    jne 2f
    add $20, %di
    incb 0x1e8                          /* e820_entries */
    cmpb $128, 0x1e8
    je 2f
    test %ebx, %ebx
    jnz 1b
2:  cli
    xor %esi, %esi
    mov %ds, %si
    shl $4, %esi
    lea SETUP + kexen_setup_gdt - kexen_setup(%esi), %eax
    mov %eax, SETUP + kexen_setup_gdt_pointer + 2 - kexen_setup
    lgdtl SETUP + kexen_setup_gdt_pointer - kexen_setup
    lea SETUP + kexen_setup_32 - kexen_setup(%esi), %eax
    mov %cr0, %edx
    or $1, %dl
    mov %edx, %cr0
    pushl $8
    pushl %eax
    lretl
    .code32
kexen_setup_32:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %esi, %ebx
    mov $0x100000, %esi
    mov $KEXEN_PHYS, %edi
    mov $kexen_data_words, %ecx
    rep movsl
    xor %eax, %eax
    mov $kexen_bss_words, %ecx
    rep stosl
    mov $0x53726448, %eax               /* "HdrS" */
    mov $hvm_start - KEXEN_OFFSET, %ecx
    jmp *%ecx
    .balign 8
kexen_setup_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
kexen_setup_gdt_pointer:
    .word 23
    .long 0

    .section .text.entry, "ax", @progbits
    .code64
    .global pv_start
    .type pv_start, @function
pv_start:
    cld
    lea kexen_stack_end(%rip), %rsp
    mov %rsi, %rdi
    xor %ebp, %ebp
    call {pv_main}
    ud2
    .size pv_start, . - pv_start

    .code32
    .global pvh_start
    .type pvh_start, @function
pvh_start:
    xor %esi, %esi
    jmp 1f

    /* ebx: the setup header and memory map, eax: "HdrS". */
    .global hvm_start
hvm_start:
    mov %eax, %esi

1:  cld
    cli
    mov %esi, %ebp
    /* L2: 2048 entries of 2 MiB, present, writable, large. */
    mov $(kexen_boot_l2 - KEXEN_OFFSET), %edi
    mov $0x83, %eax
    mov $2048, %ecx
1:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    dec %ecx
    jnz 1b
    /* L3 low: four L2 tables, and nothing above. */
    mov $(kexen_boot_l3 - KEXEN_OFFSET), %edi
    mov $(kexen_boot_l2 - KEXEN_OFFSET + 3), %eax
    mov $4, %ecx
2:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x1000, %eax
    add $8, %edi
    dec %ecx
    jnz 2b
    /* L3 high: an L2 that maps the virtual image to where it was loaded. */
    mov $(kexen_image_l2 - KEXEN_OFFSET), %edi
    mov $(KEXEN_PHYS + 0x83), %eax
    mov $16, %ecx
3:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    dec %ecx
    jnz 3b
    mov $(kexen_image_l3 - KEXEN_OFFSET), %edi
    movl $(kexen_image_l2 - KEXEN_OFFSET + 3), 511 * 8(%edi)
    movl $0, 511 * 8 + 4(%edi)
    mov $(kexen_boot_l4 - KEXEN_OFFSET), %edi
    movl $(kexen_boot_l3 - KEXEN_OFFSET + 3), (%edi)
    movl $0, 4(%edi)
    movl $(kexen_image_l3 - KEXEN_OFFSET + 3), 511 * 8(%edi)
    movl $0, 511 * 8 + 4(%edi)

    mov %cr4, %eax
    or $(1 << 5), %eax                  /* PAE */
    mov %eax, %cr4
    mov %edi, %cr3
    mov $0xc0000080, %ecx               /* EFER */
    rdmsr
    or $(1 << 8), %eax                  /* LME */
    wrmsr
    mov %cr0, %eax
    or $(1 << 31), %eax                 /* PG */
    mov %eax, %cr0
    lgdt (kexen_gdt_pointer - KEXEN_OFFSET)
    ljmp $8, $(4f - KEXEN_OFFSET)

    .code64
4:  mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov %ebx, %edi
    mov %ebp, %esi
    movabs $5f, %rax
    jmp *%rax
5:  lea kexen_stack_end(%rip), %rsp
    xor %ebp, %ebp
    call {pvh_main}
    ud2
    .size pvh_start, . - pvh_start

    .section .rodata.kexen_gdt, "a", @progbits
    .balign 16
    .global kexen_gdt
kexen_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            /* 8: 64-bit code */
    .quad 0x00cf93000000ffff            /* 16: flat data */
kexen_gdt_pointer:
    .word kexen_gdt_pointer - kexen_gdt - 1
    .quad kexen_gdt - KEXEN_OFFSET

    /* Last in the image: guest memory, not Rust's (kexen.ld). */
    .section .bss.tables, "aw", @nobits
    .balign 4096
    .global kexen_boot_l4, kexen_boot_l3, kexen_image_l3, kexen_image_l2
kexen_boot_l4: .zero 4096
kexen_boot_l3: .zero 4096
kexen_boot_l2: .zero 16384
kexen_image_l3: .zero 4096
kexen_image_l2: .zero 4096
    .global kexen_scratch
kexen_scratch: .zero 4096

    .section .bss.stack, "aw", @nobits
    .balign 4096
kexen_stack: .zero {stack}
kexen_stack_end:
    .text
    "#,
    pv_main = sym pv_main,
    pvh_main = sym pvh_main,
    stack = const STACK_BYTES,
    options(att_syntax)
);

unsafe extern "Rust" {
    /// What [`crate::entry!`] names.
    safe fn kexen_main(boot: Boot) -> !;
}

/// Rust's part of the PV entry: `rsi` was the address of `start_info`.
extern "C" fn pv_main(start_info: u64) -> ! {
    kexen_main(Boot::Pv(Xen::start_pv(), start_info))
}

/// Rust's part of the other entries: `ebx` was the address of the start
/// structure, `eax` says whose it is if it is that of Linux's boot protocol.
extern "C" fn pvh_main(start: u64, magic: u64) -> ! {
    let Some(m) = Xen::start_pvh() else {
        // Nobody to tell but a debug port.
        b"kexen: not a Xen guest\n"
            .iter()
            .copied()
            .for_each(machine::debug_port);
        machine::halt()
    };
    kexen_main(if magic == BOOT_PARAMS {
        Boot::Hvm(m, start)
    } else {
        Boot::Pvh(m, start)
    })
}
