//! The shared info page (`public/xen.h`, `struct shared_info`), by offset.
//!
//! Xen writes this page at any time, so it is never viewed as a value:
//! the guest reads and writes single words at these offsets.

/// Bytes of one `struct vcpu_info`; vCPU n's (n < 32) is at n times this.
pub const VCPU_INFO_BYTES: u64 = 64;
/// In `vcpu_info`: an upcall is pending (one byte).
pub const EVTCHN_UPCALL_PENDING: u64 = 0;
/// In `vcpu_info`: upcalls are masked (one byte, PV).
pub const EVTCHN_UPCALL_MASK: u64 = 1;
/// In `vcpu_info`: which words of [`EVTCHN_PENDING`] to look at.
pub const EVTCHN_PENDING_SEL: u64 = 8;
/// 64 words of pending bits.
pub const EVTCHN_PENDING: u64 = 32 * VCPU_INFO_BYTES;
/// 64 words of mask bits.
pub const EVTCHN_MASK: u64 = EVTCHN_PENDING + 64 * 8;
/// Ports of the 2-level interface.
pub const EVTCHN_2L_PORTS: u32 = 64 * 64;
/// vCPUs that have a `vcpu_info` here (`XEN_LEGACY_MAX_VCPUS`).
pub const LEGACY_MAX_VCPUS: u64 = 32;
/// In `vcpu_info`: the time area, `struct vcpu_time_info` of 32 bytes.
pub const VCPU_TIME: u64 = 32;
/// Bytes of `struct vcpu_time_info`.
pub const VCPU_TIME_BYTES: u64 = 32;
