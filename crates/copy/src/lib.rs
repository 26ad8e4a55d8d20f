//! `memcpy`, `memmove` and `memset` for a kernel without a C library.
//!
//! A decompressor copies some ten bytes at a time, millions of times. The
//! functions of Rust's `compiler_builtins` begin three string instructions
//! (`rep movs`) for each copy, which costs more than the bytes do: this crate has
//! them only where many bytes follow. Up to 32 bytes are loaded whole, from both
//! ends, before anything is stored, so that source and destination may overlap;
//! of more, one end is loaded first.
//!
//! Contract: that of C's functions, in the System V ABI; the direction flag is
//! clear. On bare metal the names are weak: a kernel that has its own has those.
//! On a host the functions have names of their own, for the tests.

#![no_std]
#![cfg(target_arch = "x86_64")]

use core::arch::global_asm;

/// Bytes from which on a string instruction is the fastest.
const LONG: usize = 2048;

global_asm!(
    r#"
    .section .text.kexen_copy, "ax", @progbits
    .balign 16
    .global kexen_copy
    .type kexen_copy, @function
kexen_copy:                             /* rdi: to, rsi: from, rdx: bytes */
    mov %rdi, %rax
    cmp $16, %rdx
    jb 2f
    cmp $32, %rdx
    ja 5f
    mov (%rsi), %rcx
    mov 8(%rsi), %r8
    mov -16(%rsi,%rdx), %r9
    mov -8(%rsi,%rdx), %r10
    mov %rcx, (%rdi)
    mov %r8, 8(%rdi)
    mov %r9, -16(%rdi,%rdx)
    mov %r10, -8(%rdi,%rdx)
    ret

2:  cmp $8, %edx
    jb 3f
    mov (%rsi), %rcx
    mov -8(%rsi,%rdx), %r8
    mov %rcx, (%rdi)
    mov %r8, -8(%rdi,%rdx)
    ret

3:  cmp $4, %edx
    jb 4f
    mov (%rsi), %ecx
    mov -4(%rsi,%rdx), %r8d
    mov %ecx, (%rdi)
    mov %r8d, -4(%rdi,%rdx)
    ret

4:  test %edx, %edx
    jz 1f
    /* The first, the last, and the one between them. */
    mov %edx, %r9d
    shr $1, %r9d
    movzbl (%rsi), %ecx
    movzbl (%rsi,%r9), %r8d
    movzbl -1(%rsi,%rdx), %r10d
    mov %cl, (%rdi)
    mov %r8b, (%rdi,%r9)
    mov %r10b, -1(%rdi,%rdx)
1:  ret

5:  mov %rdi, %rcx
    sub %rsi, %rcx
    cmp %rdx, %rcx
    jb 7f                               /* it begins inside the source */
    mov -32(%rsi,%rdx), %r8
    mov -24(%rsi,%rdx), %r9
    mov -16(%rsi,%rdx), %r10
    mov -8(%rsi,%rdx), %r11
    cmp ${long}, %rdx
    jae 8f
6:  mov (%rsi), %rcx
    mov %rcx, (%rdi)
    mov 8(%rsi), %rcx
    mov %rcx, 8(%rdi)
    mov 16(%rsi), %rcx
    mov %rcx, 16(%rdi)
    mov 24(%rsi), %rcx
    mov %rcx, 24(%rdi)
    add $32, %rsi
    add $32, %rdi
    sub $32, %rdx
    cmp $32, %rdx
    ja 6b
9:  mov %r8, -32(%rdi,%rdx)
    mov %r9, -24(%rdi,%rdx)
    mov %r10, -16(%rdi,%rdx)
    mov %r11, -8(%rdi,%rdx)
    ret

8:  mov %rdx, %rcx
    shr $3, %rcx
    and $7, %edx
    rep movsq
    jmp 9b

7:  mov (%rsi), %r8
    mov 8(%rsi), %r9
    mov 16(%rsi), %r10
    mov 24(%rsi), %r11
1:  mov -8(%rsi,%rdx), %rcx
    mov %rcx, -8(%rdi,%rdx)
    mov -16(%rsi,%rdx), %rcx
    mov %rcx, -16(%rdi,%rdx)
    mov -24(%rsi,%rdx), %rcx
    mov %rcx, -24(%rdi,%rdx)
    mov -32(%rsi,%rdx), %rcx
    mov %rcx, -32(%rdi,%rdx)
    sub $32, %rdx
    cmp $32, %rdx
    ja 1b
    mov %r8, (%rdi)
    mov %r9, 8(%rdi)
    mov %r10, 16(%rdi)
    mov %r11, 24(%rdi)
    ret
    .size kexen_copy, . - kexen_copy

    .section .text.kexen_set, "ax", @progbits
    .balign 16
    .global kexen_set
    .type kexen_set, @function
kexen_set:                              /* rdi: to, esi: byte, rdx: bytes */
    mov %rdi, %rax
    movzbl %sil, %esi
    movabs $0x0101010101010101, %rcx
    imul %rcx, %rsi
    cmp $8, %rdx
    jb 2f
    mov %rsi, -8(%rdi,%rdx)
    cmp ${long}, %rdx
    jae 3f
1:  mov %rsi, (%rdi)
    add $8, %rdi
    sub $8, %rdx
    cmp $8, %rdx
    jae 1b
    ret

2:  cmp $4, %edx
    jb 4f
    mov %esi, (%rdi)
    mov %esi, -4(%rdi,%rdx)
    ret

3:  mov %rax, %r8
    mov %rsi, %rax
    mov %rdx, %rcx
    shr $3, %rcx
    rep stosq
    mov %r8, %rax
    ret

4:  test %edx, %edx
    jz 1f
    mov %edx, %ecx
    shr $1, %ecx
    mov %sil, (%rdi)
    mov %sil, (%rdi,%rcx)
    mov %sil, -1(%rdi,%rdx)
1:  ret
    .size kexen_set, . - kexen_set
    "#,
    long = const LONG,
    options(att_syntax)
);

// Nothing says in Rust that these are called: the compiler does.
#[cfg(target_os = "none")]
global_asm!(
    ".weak memcpy, memmove, memset",
    ".set memcpy, kexen_copy",
    ".set memmove, kexen_copy",
    ".set memset, kexen_set",
    options(att_syntax)
);

#[cfg(test)]
mod tests {
    extern crate std;

    use super::LONG;
    use std::{vec, vec::Vec};

    unsafe extern "C" {
        fn kexen_copy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
        fn kexen_set(to: *mut u8, byte: i32, bytes: usize) -> *mut u8;
    }

    /// All short lengths, and some around where another way is taken.
    fn lengths() -> impl Iterator<Item = usize> {
        let around = |n: usize| n - 34..n + 35;
        (0..140).chain(around(LONG)).chain(around(2 * LONG))
    }

    /// Bytes of which none is like its neighbours.
    fn noise(len: usize) -> Vec<u8> {
        let byte = |n: usize| u8::try_from(n.wrapping_mul(0x9e37_79b9) >> 13 & 0xff).unwrap();
        (1..=len).map(byte).collect()
    }

    #[test]
    fn copies_are_those_of_the_standard_library() {
        for len in lengths() {
            // Apart, and overlapping by every number of bytes, both ways.
            let near = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100];
            let apart = len + 40;
            for distance in near.into_iter().chain([0, apart]) {
                let ways = [(50, 50 + distance), (50 + distance, 50)];
                for (from, to) in ways {
                    let mut have = noise(2 * len + 200);
                    let mut want = have.clone();
                    want.copy_within(from..from + len, to);
                    let start = have.as_mut_ptr();
                    // SAFETY: both ranges are inside the vector, by its length.
                    let end = unsafe {
                        kexen_copy(start.wrapping_add(to), start.wrapping_add(from), len)
                    };
                    assert_eq!(end.addr(), start.addr() + to);
                    assert!(have == want, "{len} bytes from {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn bytes_are_set_and_no_others() {
        for len in lengths() {
            for at in 0..9 {
                let mut have = noise(len + 20);
                let mut want = have.clone();
                want[at..at + len].copy_from_slice(&vec![0xa5; len]);
                let start = have.as_mut_ptr();
                // SAFETY: the range is inside the vector, by its length.
                let end = unsafe { kexen_set(start.wrapping_add(at), 0x7a5, len) };
                assert_eq!(end.addr(), start.addr() + at);
                assert!(have == want, "{len} bytes at {at}");
            }
        }
    }
}
