//! Scheduling and shutdown (`public/sched.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SCHEDOP_yield`
pub const SCHEDOP_YIELD: u64 = 0;
/// `SCHEDOP_block`
pub const SCHEDOP_BLOCK: u64 = 1;
/// `SCHEDOP_shutdown`
pub const SCHEDOP_SHUTDOWN: u64 = 2;
/// `SCHEDOP_poll`
pub const SCHEDOP_POLL: u64 = 3;

/// `SCHEDOP_remote_shutdown`
pub const SCHEDOP_REMOTE_SHUTDOWN: u64 = 4;
/// `SCHEDOP_shutdown_code`
pub const SCHEDOP_SHUTDOWN_CODE: u64 = 5;
/// `SCHEDOP_watchdog`
pub const SCHEDOP_WATCHDOG: u64 = 6;
/// `SCHEDOP_pin_override`
pub const SCHEDOP_PIN_OVERRIDE: u64 = 7;

/// `SHUTDOWN_poweroff`
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// `SHUTDOWN_reboot`
pub const SHUTDOWN_REBOOT: u32 = 1;
/// `SHUTDOWN_suspend`
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// `SHUTDOWN_crash`
pub const SHUTDOWN_CRASH: u32 = 3;
/// `SHUTDOWN_watchdog`
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// `SHUTDOWN_soft_reset`: the toolstack is asked to reset, not to destroy.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;

/// `struct sched_shutdown`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedShutdown {
    /// `SHUTDOWN_*`
    pub reason: u32,
}

/// `struct sched_poll`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedPoll {
    /// Guest address of an array of ports.
    pub ports: u64,
    /// Ports in the array.
    pub nr_ports: u32,
    /// Padding.
    pub pad: u32,
    /// System time in nanoseconds at which to wake; 0 for never.
    pub timeout: u64,
}

/// `struct sched_remote_shutdown`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedRemoteShutdown {
    /// Which domain.
    pub domain_id: u16,
    /// Padding.
    pub pad: u16,
    /// `SHUTDOWN_*`
    pub reason: u32,
}

/// `struct sched_watchdog`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedWatchdog {
    /// Which; 0 for a new one.
    pub id: u32,
    /// Seconds; 0 gives it up.
    pub timeout: u32,
}
