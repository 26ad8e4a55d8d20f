//! What the trampolines of translated guests read, and how it is written.
//!
//! The trampoline's code is in its first page, its data at
//! [`TRAMPOLINE_DATA`], the copy list behind that. Memory shared with others:
//! none.

use kexen_abi::{
    PAGE_SIZE,
    mmu::{PAGE_PRESENT, PAGE_PSE, PAGE_RW},
};
use kexen_guest::{Fault, Machine};
use zerocopy::IntoBytes;

/// Offset of [`TrampolineData`] in the trampoline's first page; the copy
/// list follows it.
pub const TRAMPOLINE_DATA: u64 = 2048;

/// What the trampoline reads. Addresses are physical.
#[derive(Clone, Copy, Debug, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct TrampolineData {
    /// Null, flat 32-bit code, flat data.
    pub gdt: [u64; 3],
    /// Limit of the table.
    pub gdt_limit: u16,
    /// Its address, split as `lgdt` reads it in long mode.
    pub gdt_base: [u16; 4],
    /// Padding.
    pub pad: [u16; 3],
    /// The next kernel's entry point.
    pub entry: u32,
    /// Its start structure.
    pub start_info: u32,
    /// Entries of the copy list.
    pub copies: u32,
    /// Padding.
    pub pad2: u32,
}

/// What the trampoline to Linux's 64-bit entry reads. Addresses are physical.
#[derive(Clone, Copy, Debug, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct LinuxTrampolineData {
    /// Null, nothing, flat 64-bit code, flat data: Linux's own selectors.
    pub gdt: [u64; 4],
    /// Limit of the table.
    pub gdt_limit: u16,
    /// Its address, split as `lgdt` reads it.
    pub gdt_base: [u16; 4],
    /// Padding.
    pub pad: [u16; 3],
    /// The next kernel's entry point.
    pub entry: u64,
    /// Its `boot_params`.
    pub boot_params: u64,
    /// Page tables that map the low 4 GiB one to one.
    pub tables: u64,
    /// Entries of the copy list.
    pub copies: u64,
}

/// Pages of tables that map 4 GiB one to one in pages of 2 MiB.
pub const IDENTITY_TABLES: u64 = 6;

/// Writes tables that map the low 4 GiB one to one, in pages of 2 MiB, into
/// [`IDENTITY_TABLES`] pages at physical address `at`.
fn identity_tables<M: Machine + ?Sized>(m: &M, at: u64) -> Result<(), Fault> {
    const TABLE: u64 = PAGE_PRESENT | PAGE_RW;
    let (l3, l2) = (at + PAGE_SIZE, at + 2 * PAGE_SIZE);
    m.fill(at, IDENTITY_TABLES * PAGE_SIZE, 0)?;
    m.write64(at, l3 | TABLE)?;
    for n in 0..4 {
        m.write64(l3 + 8 * n, (l2 + n * PAGE_SIZE) | TABLE)?;
    }
    let mut table = [0_u64; 512];
    for part in 0..4 {
        for (n, entry) in (0_u64..).zip(&mut table) {
            *entry = ((part * 512 + n) << 21) | TABLE | PAGE_PSE;
        }
        m.write(l2 + part * PAGE_SIZE, table.as_bytes())?;
    }
    Ok(())
}

/// An address as `lgdt` reads it, behind a 16-bit limit.
fn split(address: u64) -> [u16; 4] {
    [0, 16, 32, 48].map(|shift| u16::try_from((address >> shift) & 0xffff).unwrap_or(0))
}

/// Writes the trampoline to a PVH entry into its page; where its copy list
/// goes.
pub(super) fn write<M: Machine + ?Sized>(
    m: &M,
    page: u64,
    code: &[u8],
    entry: u32,
    start_info: u32,
    copies: u32,
) -> Result<u64, Fault> {
    let at = page + TRAMPOLINE_DATA;
    let data = TrampolineData {
        gdt: [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff],
        gdt_limit: 23,
        gdt_base: split(at),
        pad: [0; 3],
        entry,
        start_info,
        copies,
        pad2: 0,
    };
    put(m, page, code, data.as_bytes())
}

/// Writes the trampoline to Linux's 64-bit entry into its page, and its
/// tables; where its copy list goes.
pub(crate) fn write_linux<M: Machine + ?Sized>(
    m: &M,
    page: u64,
    code: &[u8],
    entry: u64,
    boot_params: u64,
    tables: u64,
    copies: u32,
) -> Result<u64, Fault> {
    identity_tables(m, tables)?;
    let at = page + TRAMPOLINE_DATA;
    let data = LinuxTrampolineData {
        gdt: [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff],
        gdt_limit: 31,
        gdt_base: split(at),
        pad: [0; 3],
        entry,
        boot_params,
        tables,
        copies: copies.into(),
    };
    put(m, page, code, data.as_bytes())
}

fn put<M: Machine + ?Sized>(m: &M, page: u64, code: &[u8], data: &[u8]) -> Result<u64, Fault> {
    m.write(page, code)?;
    m.write(page + TRAMPOLINE_DATA, data)?;
    Ok(page + TRAMPOLINE_DATA + u64::try_from(data.len()).unwrap_or(0))
}
