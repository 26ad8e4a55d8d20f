//! PV page tables: `mmu_update`, `mmuext_op`, entry bits (`public/xen.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `ptr[1:0]`: checked `*ptr = val`; `ptr` is a machine address.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// `ptr[1:0]`: `val` becomes the M2P entry of the frame at `ptr`.
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// `ptr[1:0]`: as the normal one, accessed and dirty bits are kept.
pub const MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;

/// One request of `HYPERVISOR_mmu_update`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MmuUpdate {
    /// Machine address of the entry, or of the frame; the command in bits 1:0.
    pub ptr: u64,
    /// The new value.
    pub val: u64,
}

/// `MMUEXT_PIN_L4_TABLE`
pub const MMUEXT_PIN_L4_TABLE: u32 = 3;
/// `MMUEXT_UNPIN_TABLE`
pub const MMUEXT_UNPIN_TABLE: u32 = 4;
/// `MMUEXT_NEW_BASEPTR`
pub const MMUEXT_NEW_BASEPTR: u32 = 5;
/// `MMUEXT_TLB_FLUSH_LOCAL`
pub const MMUEXT_TLB_FLUSH_LOCAL: u32 = 6;

/// One request of `HYPERVISOR_mmuext_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MmuExtOp {
    /// `MMUEXT_*`
    pub cmd: u32,
    /// Padding, zero.
    pub pad: u32,
    /// A machine frame number or a linear address, by command.
    pub arg1: u64,
    /// By command.
    pub arg2: u64,
}

/// `UVMF_INVLPG`: flush the one translation, on this vCPU.
pub const UVMF_INVLPG: u64 = 2;
/// `UVMF_TLB_FLUSH`: flush the whole TLB of this vCPU.
pub const UVMF_TLB_FLUSH: u64 = 1;

/// Entry bit: present.
pub const PAGE_PRESENT: u64 = 1;
/// Entry bit: writable.
pub const PAGE_RW: u64 = 1 << 1;
/// Entry bit: reachable from user mode (and, under PV, from the kernel).
pub const PAGE_USER: u64 = 1 << 2;
/// Entry bit: accessed.
pub const PAGE_ACCESSED: u64 = 1 << 5;
/// Entry bit: dirty.
pub const PAGE_DIRTY: u64 = 1 << 6;
/// Entry bit: a large page (never in a PV guest).
pub const PAGE_PSE: u64 = 1 << 7;
/// The frame number's bits of an entry.
pub const PAGE_FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

/// Where a 64-bit PV guest finds the M2P table, read-only
/// (`public/arch-x86/xen-x86_64.h`, `MACH2PHYS_VIRT_START`).
pub const MACH2PHYS_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// The end of Xen's own part of a 64-bit PV guest's address space.
pub const HYPERVISOR_VIRT_END: u64 = 0xffff_8800_0000_0000;
