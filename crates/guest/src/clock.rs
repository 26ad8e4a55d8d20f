//! Xen's clock of a vCPU: nanoseconds since the domain was started.
//!
//! Protocol: `struct vcpu_time_info` of `public/xen.h`. Xen writes the area
//! whenever the vCPU is scheduled; its version is odd meanwhile. Order of
//! steps: version, fields, version again; the same even version twice makes
//! them one reading. Where the page is not there reads give all ones: such a
//! reading is an error, never a time.

use kexen_abi::shared_info::VCPU_TIME;
use kexen_abi::vcpu::VcpuTimeInfo;
use zerocopy::{FromZeros, IntoBytes};

use crate::{Machine, machine::Fault};

/// How often Xen may write in between.
const TRIES: u32 = 1000;

/// Why the clock could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockError {
    /// The area could not be reached.
    Fault(Fault),
    /// The area is not backed by a page: all ones were read.
    Unbacked(u64),
    /// Xen never finished writing, or never wrote: the version that was seen.
    Unsteady(u32),
}

impl From<Fault> for ClockError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl core::fmt::Display for ClockError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Unbacked(at) => write!(f, "the clock at {at:#x} reads as all ones: no page"),
            Self::Unsteady(version) => {
                write!(f, "the clock does not come to rest: version {version}")
            }
        }
    }
}

/// One steady reading of the time area at `at`.
pub fn time_info<M: Machine + ?Sized>(m: &M, at: u64) -> Result<VcpuTimeInfo, ClockError> {
    let mut last = 0;
    for _ in 0..TRIES {
        last = m.load32(at)?;
        if last == u32::MAX {
            return Err(ClockError::Unbacked(at));
        }
        if last & 1 != 0 {
            continue;
        }
        let mut info = VcpuTimeInfo::new_zeroed();
        m.read(at, info.as_mut_bytes())?;
        if m.load32(at)? == last && info.version == last && info.tsc_to_system_mul != 0 {
            return Ok(info);
        }
    }
    Err(ClockError::Unsteady(last))
}

/// Nanoseconds at a count of the time stamp counter, by a reading.
#[must_use]
pub fn nanoseconds(info: &VcpuTimeInfo, tsc: u64) -> u64 {
    let delta = tsc.saturating_sub(info.tsc_timestamp);
    let shift = u32::from(info.tsc_shift.unsigned_abs());
    let delta = if info.tsc_shift < 0 {
        delta.checked_shr(shift).unwrap_or(0)
    } else {
        delta.checked_shl(shift).unwrap_or(u64::MAX)
    };
    let scaled = (u128::from(delta) * u128::from(info.tsc_to_system_mul)) >> 32;
    let scaled = u64::try_from(scaled).unwrap_or(u64::MAX);
    info.system_time.saturating_add(scaled)
}

/// The time by the `vcpu_info` at `vcpu_info`, which must be this vCPU's own
/// for the counter to belong to it.
pub fn now<M: Machine + ?Sized>(m: &M, vcpu_info: u64) -> Result<u64, ClockError> {
    let info = time_info(m, vcpu_info + VCPU_TIME)?;
    Ok(nanoseconds(&info, m.tsc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_become_nanoseconds() {
        let info = VcpuTimeInfo {
            tsc_timestamp: 1000,
            system_time: 5,
            tsc_to_system_mul: 1 << 31,
            tsc_shift: 1,
            ..VcpuTimeInfo::default()
        };
        assert_eq!(nanoseconds(&info, 1000), 5);
        assert_eq!(nanoseconds(&info, 1010), 15);
        // A counter that is behind gives no time before the reading.
        assert_eq!(nanoseconds(&info, 1), 5);
        let half = VcpuTimeInfo {
            tsc_shift: -1,
            ..info
        };
        assert_eq!(nanoseconds(&half, 1040), 15);
        let absurd = VcpuTimeInfo {
            tsc_shift: 127,
            ..info
        };
        assert_eq!(nanoseconds(&absurd, u64::MAX), i64::MAX.unsigned_abs() + 5);
    }
}
