//! vCPU operations (`public/vcpu.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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
