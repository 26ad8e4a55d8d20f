//! vCPU operations (`public/vcpu.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `VCPUOP_initialise`
pub const VCPUOP_INITIALISE: u64 = 0;
/// `VCPUOP_up`
pub const VCPUOP_UP: u64 = 1;
/// `VCPUOP_down`
pub const VCPUOP_DOWN: u64 = 2;
/// `VCPUOP_is_up`
pub const VCPUOP_IS_UP: u64 = 3;
/// `VCPUOP_register_runstate_memory_area`: by virtual address.
pub const VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: u64 = 5;
/// `VCPUOP_set_periodic_timer`
pub const VCPUOP_SET_PERIODIC_TIMER: u64 = 6;
/// `VCPUOP_stop_periodic_timer`
pub const VCPUOP_STOP_PERIODIC_TIMER: u64 = 7;
/// `VCPUOP_set_singleshot_timer`
pub const VCPUOP_SET_SINGLESHOT_TIMER: u64 = 8;
/// `VCPUOP_stop_singleshot_timer`
pub const VCPUOP_STOP_SINGLESHOT_TIMER: u64 = 9;
/// `VCPUOP_register_vcpu_info`: once, and for good.
pub const VCPUOP_REGISTER_VCPU_INFO: u64 = 10;
/// `VCPUOP_send_nmi`
pub const VCPUOP_SEND_NMI: u64 = 11;
/// `VCPUOP_get_physid`
pub const VCPUOP_GET_PHYSID: u64 = 12;
/// `VCPUOP_register_vcpu_time_memory_area`: by virtual address.
pub const VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: u64 = 13;
/// `VCPUOP_register_runstate_phys_area` (4.18 and later)
pub const VCPUOP_REGISTER_RUNSTATE_PHYS_AREA: u64 = 14;
/// `VCPUOP_register_vcpu_time_phys_area` (4.18 and later)
pub const VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA: u64 = 15;

/// `struct vcpu_register_vcpu_info`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuRegisterVcpuInfo {
    /// The page: an mfn (PV) or gfn.
    pub mfn: u64,
    /// Where in it, 8-aligned.
    pub offset: u32,
    /// Zero.
    pub rsvd: u32,
}

/// `VCPUOP_get_runstate_info`
pub const VCPUOP_GET_RUNSTATE_INFO: u64 = 4;

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
