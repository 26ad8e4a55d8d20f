//! vCPU operations (`public/vcpu.h`), and the contexts in which a vCPU is
//! started: `public/arch-x86/xen.h` (PV), `public/hvm/hvm_vcpu.h` (HVM, PVH).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `VCPUOP_initialise`
pub const VCPUOP_INITIALISE: u64 = 0;
/// `VCPUOP_up`
pub const VCPUOP_UP: u64 = 1;
/// `VCPUOP_down`
pub const VCPUOP_DOWN: u64 = 2;
/// `VCPUOP_is_up`
pub const VCPUOP_IS_UP: u64 = 3;
/// `VCPUOP_get_runstate_info`
pub const VCPUOP_GET_RUNSTATE_INFO: u64 = 4;
/// `VCPUOP_register_runstate_memory_area`
pub const VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: u64 = 5;
/// `VCPUOP_set_periodic_timer`
pub const VCPUOP_SET_PERIODIC_TIMER: u64 = 6;
/// `VCPUOP_stop_periodic_timer`
pub const VCPUOP_STOP_PERIODIC_TIMER: u64 = 7;
/// `VCPUOP_set_singleshot_timer`
pub const VCPUOP_SET_SINGLESHOT_TIMER: u64 = 8;
/// `VCPUOP_stop_singleshot_timer`
pub const VCPUOP_STOP_SINGLESHOT_TIMER: u64 = 9;
/// `VCPUOP_register_vcpu_info`
pub const VCPUOP_REGISTER_VCPU_INFO: u64 = 10;
/// `VCPUOP_send_nmi`
pub const VCPUOP_SEND_NMI: u64 = 11;
/// `VCPUOP_get_physid`
pub const VCPUOP_GET_PHYSID: u64 = 12;
/// `VCPUOP_register_vcpu_time_memory_area`
pub const VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: u64 = 13;
/// `VCPUOP_register_runstate_phys_area`, since 4.18
pub const VCPUOP_REGISTER_RUNSTATE_PHYS_AREA: u64 = 14;
/// `VCPUOP_register_vcpu_time_phys_area`, since 4.18
pub const VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA: u64 = 15;

/// `RUNSTATE_running`
pub const RUNSTATE_RUNNING: u32 = 0;
/// `RUNSTATE_runnable`
pub const RUNSTATE_RUNNABLE: u32 = 1;
/// `RUNSTATE_blocked`
pub const RUNSTATE_BLOCKED: u32 = 2;
/// `RUNSTATE_offline`
pub const RUNSTATE_OFFLINE: u32 = 3;
/// `XEN_RUNSTATE_UPDATE`: in `state_entry_time` while Xen writes the area.
pub const RUNSTATE_UPDATE: u64 = 1 << 63;
/// `VCPU_SSHOTTMR_future`: refuse a time that has passed.
pub const SINGLESHOT_FUTURE: u32 = 1;

/// `struct vcpu_runstate_info`; times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuRunstateInfo {
    /// `RUNSTATE_*`
    pub state: u32,
    /// Padding.
    pub pad: u32,
    /// System time at which the state was entered.
    pub state_entry_time: u64,
    /// Time spent running, runnable, blocked, offline.
    pub time: [u64; 4],
}

/// `struct vcpu_time_info` (`public/xen.h`)
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while Xen writes the rest.
    pub version: u32,
    /// Padding.
    pub pad0: u32,
    /// Time stamp counter at the last update.
    pub tsc_timestamp: u64,
    /// Nanoseconds since the machine started, then.
    pub system_time: u64,
    /// Scale from the counter to nanoseconds, over 2^32.
    pub tsc_to_system_mul: u32,
    /// Shift before the multiplication.
    pub tsc_shift: i8,
    /// `XEN_PVCLOCK_*`
    pub flags: u8,
    /// Padding.
    pub pad1: [u8; 2],
}

/// `struct vcpu_register_*_memory_area`: an address.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuRegisterArea {
    /// Linear, or guest-physical for a `phys_area`.
    pub address: u64,
}

/// `struct vcpu_register_vcpu_info`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuRegisterVcpuInfo {
    /// PV: a frame. HVM, PVH: a gfn.
    pub mfn: u64,
    /// Where in it.
    pub offset: u32,
    /// Zero.
    pub rsvd: u32,
}

/// `struct vcpu_set_periodic_timer`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuSetPeriodicTimer {
    /// In nanoseconds.
    pub period_ns: u64,
}

/// `struct vcpu_set_singleshot_timer`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuSetSingleshotTimer {
    /// System time.
    pub timeout_abs_ns: u64,
    /// [`SINGLESHOT_FUTURE`]
    pub flags: u32,
    /// Padding.
    pub pad: u32,
}

/// `struct trap_info`
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TrapInfo {
    /// Which exception.
    pub vector: u8,
    /// Bits 0 to 3: privilege; bit 2: events are masked on entry.
    pub flags: u8,
    /// Code selector.
    pub cs: u16,
    /// Padding.
    pub pad: u32,
    /// Where; 0 ends a list.
    pub address: u64,
}

/// `struct cpu_user_regs` of a 64-bit guest.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuUserRegs {
    /// r15 to r12, rbp, rbx, r11 to r8, rax, rcx, rdx, rsi, rdi.
    pub general: [u64; 15],
    /// Xen's own.
    pub private: [u32; 2],
    /// Where it starts.
    pub rip: u64,
    /// Code selector.
    pub cs: u16,
    /// Padding.
    pub pad0: u16,
    /// Whether events are masked.
    pub saved_upcall_mask: u8,
    /// Padding.
    pub pad1: [u8; 3],
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// ss, es, ds, fs, gs, each in the low half of 64 bits.
    pub segments: [u64; 5],
}

/// `struct vcpu_guest_context` of a 64-bit PV guest.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuGuestContext {
    /// Floating-point registers.
    pub fpu: [u64; 64],
    /// `VGCF_*`
    pub flags: u64,
    /// Registers.
    pub user_regs: CpuUserRegs,
    /// The virtual interrupt table.
    pub trap_ctxt: [TrapInfo; 256],
    /// Linear address of the LDT.
    pub ldt_base: u64,
    /// Its entries.
    pub ldt_ents: u64,
    /// Frames of the GDT.
    pub gdt_frames: [u64; 16],
    /// Its entries.
    pub gdt_ents: u64,
    /// Stack on entry to the kernel.
    pub kernel_ss: u64,
    /// Stack on entry to the kernel.
    pub kernel_sp: u64,
    /// Control registers: 3 the page tables, 1 those of user mode.
    pub ctrlreg: [u64; 8],
    /// Debug registers.
    pub debugreg: [u64; 8],
    /// Where an event is delivered.
    pub event_callback_eip: u64,
    /// Where a failed return is reported.
    pub failsafe_callback_eip: u64,
    /// Where `syscall` leads.
    pub syscall_callback_eip: u64,
    /// `VMASST_TYPE_*`, a bitmap.
    pub vm_assist: u64,
    /// Segment base.
    pub fs_base: u64,
    /// Segment base.
    pub gs_base_kernel: u64,
    /// Segment base.
    pub gs_base_user: u64,
}

/// `VGCF_in_kernel`
pub const VGCF_IN_KERNEL: u64 = 1 << 2;
/// `VGCF_online`
pub const VGCF_ONLINE: u64 = 1 << 5;

/// `VCPU_HVM_MODE_32B`
pub const HVM_MODE_32B: u32 = 0;
/// `VCPU_HVM_MODE_64B`
pub const HVM_MODE_64B: u32 = 1;

/// `struct vcpu_hvm_x86_32`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuHvmX86_32 {
    /// eax, ecx, edx, ebx, esp, ebp, esi, edi.
    pub general: [u32; 8],
    /// Where it starts.
    pub eip: u32,
    /// Flags.
    pub eflags: u32,
    /// Control register 0.
    pub cr0: u32,
    /// Control register 3.
    pub cr3: u32,
    /// Control register 4.
    pub cr4: u32,
    /// Zero.
    pub pad1: u32,
    /// Extended features.
    pub efer: u64,
    /// cs, ds, ss, es, tr.
    pub base: [u32; 5],
    /// cs, ds, ss, es, tr.
    pub limit: [u32; 5],
    /// Access rights of cs, ds, ss, es, tr.
    pub ar: [u16; 5],
    /// Zero.
    pub pad2: [u16; 3],
}

/// `struct vcpu_hvm_x86_64`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuHvmX86_64 {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi.
    pub general: [u64; 8],
    /// Where it starts.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Control register 0.
    pub cr0: u64,
    /// Control register 3.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// Extended features.
    pub efer: u64,
    /// To the size of the 32-bit structure, with which it forms a union.
    pub rest: u64,
}

/// `struct vcpu_hvm_context`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuHvmContext {
    /// `HVM_MODE_*`
    pub mode: u32,
    /// Zero.
    pub pad: u32,
    /// [`VcpuHvmX86_32`] or [`VcpuHvmX86_64`].
    pub cpu_regs: [u64; 15],
}

const _: () = {
    assert!(size_of::<VcpuRunstateInfo>() == 48);
    assert!(size_of::<VcpuTimeInfo>() == 32);
    assert!(size_of::<CpuUserRegs>() == 200);
    assert!(size_of::<VcpuGuestContext>() == 5168);
    assert!(size_of::<VcpuHvmX86_32>() == 120);
    assert!(size_of::<VcpuHvmX86_64>() == 120);
    assert!(size_of::<VcpuHvmContext>() == 128);
};
