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

/// `MMUEXT_PIN_L1_TABLE`
pub const MMUEXT_PIN_L1_TABLE: u32 = 0;
/// `MMUEXT_PIN_L2_TABLE`
pub const MMUEXT_PIN_L2_TABLE: u32 = 1;
/// `MMUEXT_PIN_L3_TABLE`
pub const MMUEXT_PIN_L3_TABLE: u32 = 2;
/// `MMUEXT_PIN_L4_TABLE`
pub const MMUEXT_PIN_L4_TABLE: u32 = 3;
/// `MMUEXT_UNPIN_TABLE`
pub const MMUEXT_UNPIN_TABLE: u32 = 4;
/// `MMUEXT_NEW_BASEPTR`
pub const MMUEXT_NEW_BASEPTR: u32 = 5;
/// `MMUEXT_TLB_FLUSH_LOCAL`
pub const MMUEXT_TLB_FLUSH_LOCAL: u32 = 6;
/// `MMUEXT_INVLPG_LOCAL`: `arg1` is the address.
pub const MMUEXT_INVLPG_LOCAL: u32 = 7;
/// `MMUEXT_TLB_FLUSH_MULTI`: `arg2` points to a bitmap of vCPUs.
pub const MMUEXT_TLB_FLUSH_MULTI: u32 = 8;
/// `MMUEXT_INVLPG_MULTI`: `arg1` the address, `arg2` a bitmap of vCPUs.
pub const MMUEXT_INVLPG_MULTI: u32 = 9;
/// `MMUEXT_TLB_FLUSH_ALL`
pub const MMUEXT_TLB_FLUSH_ALL: u32 = 10;
/// `MMUEXT_INVLPG_ALL`: `arg1` is the address.
pub const MMUEXT_INVLPG_ALL: u32 = 11;
/// `MMUEXT_FLUSH_CACHE`
pub const MMUEXT_FLUSH_CACHE: u32 = 12;
/// `MMUEXT_SET_LDT`: `arg1` the address, `arg2` the entries.
pub const MMUEXT_SET_LDT: u32 = 13;
/// `MMUEXT_NEW_USER_BASEPTR`: `arg1` the frame, 0 for none.
pub const MMUEXT_NEW_USER_BASEPTR: u32 = 15;
/// `MMUEXT_CLEAR_PAGE`: `arg1` is the frame.
pub const MMUEXT_CLEAR_PAGE: u32 = 16;
/// `MMUEXT_COPY_PAGE`: to frame `arg1` from frame `arg2`.
pub const MMUEXT_COPY_PAGE: u32 = 17;
/// `MMUEXT_FLUSH_CACHE_GLOBAL`
pub const MMUEXT_FLUSH_CACHE_GLOBAL: u32 = 18;
/// `MMUEXT_MARK_SUPER`
pub const MMUEXT_MARK_SUPER: u32 = 19;
/// `MMUEXT_UNMARK_SUPER`
pub const MMUEXT_UNMARK_SUPER: u32 = 20;

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

/// The bits of `update_va_mapping`'s flags that say what to flush; the rest
/// says where: 0 this vCPU, [`UVMF_ALL`], or the address of a bitmap.
pub const UVMF_FLUSHTYPE_MASK: u64 = 3;
/// `UVMF_ALL`: on all vCPUs.
pub const UVMF_ALL: u64 = 1 << 2;
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
/// Entry bit: kept by the processor over a change of the base pointer.
pub const PAGE_GLOBAL: u64 = 1 << 8;
/// The frame number's bits of an entry.
pub const PAGE_FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

/// Where a 64-bit PV guest finds the M2P table, read-only
/// (`public/arch-x86/xen-x86_64.h`, `MACH2PHYS_VIRT_START`).
pub const MACH2PHYS_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// The end of Xen's own part of a 64-bit PV guest's address space.
pub const HYPERVISOR_VIRT_END: u64 = 0xffff_8800_0000_0000;
