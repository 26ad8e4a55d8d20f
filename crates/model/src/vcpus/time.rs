//! What Xen writes: system time, and in what state a vCPU spent it.
//!
//! Rules: `__update_vcpu_system_time`, `update_secondary_system_time` in
//! `arch/x86/time.c`; `update_runstate_area` in `arch/x86/domain.c` (4.17)
//! and `common/domain.c`. An area by frame takes the place of one by linear
//! address. Time stamp counter and nanoseconds are the same here.

use kexen_abi::shared_info::VCPU_TIME;
use kexen_abi::vcpu::{RUNSTATE_OFFLINE, RUNSTATE_UPDATE, VcpuRunstateInfo, VcpuTimeInfo};
use zerocopy::IntoBytes;

use crate::state::{State, Who};

/// In `struct vcpu_runstate_info`: `state_entry_time`.
const ENTRY_TIME: u64 = 8;
/// `VMASST_TYPE_runstate_update_flag`
const UPDATE_FLAG: u64 = 1 << 5;

impl State {
    /// System time; it moves with each look at it.
    pub(crate) fn now(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// `collect_time_info`
    pub(crate) fn time_info(&mut self) -> VcpuTimeInfo {
        let now = self.now();
        VcpuTimeInfo {
            tsc_timestamp: now,
            system_time: now,
            tsc_to_system_mul: 1 << 31,
            tsc_shift: 1,
            ..VcpuTimeInfo::default()
        }
    }

    /// Where the time area of a vCPU's `vcpu_info` is.
    fn primary(&self, target: Who) -> Option<(u64, u64)> {
        let (mfn, offset) = self.vcpu_info(target.domain, target.vcpu)?;
        Some((mfn, offset + VCPU_TIME))
    }

    /// The first step of an update: the version is odd.
    pub(crate) fn begin_time(&mut self, target: Who) -> VcpuTimeInfo {
        let mut info = self.time_info();
        info.version = 1;
        if let Some((mfn, offset)) = self.primary(target) {
            let old = self.word(mfn, offset) & 0xffff_ffff;
            let old = u32::try_from(old).unwrap_or(0);
            info.version = old.wrapping_add(1) | 1;
            self.write_frame((mfn, offset), &info.version.to_le_bytes());
        }
        info
    }

    /// The rest of an update: the fields, an even version, the second area.
    /// `who` is the vCPU under whose page tables Xen runs.
    pub(crate) fn end_time(&mut self, who: Who, target: Who, info: VcpuTimeInfo) {
        let even = VcpuTimeInfo {
            version: info.version.wrapping_add(1),
            ..info
        };
        if let Some(primary) = self.primary(target) {
            self.write_frame(primary, even.as_bytes());
        }
        let areas = &self.vcpu(target).areas;
        if let Some(area) = areas.time_phys {
            self.write_frame(area, even.as_bytes());
        } else if areas.time_va != 0 {
            let at = areas.time_va;
            // Where nothing is mapped, nothing is written, and nobody told.
            if self
                .copy_to_guest(who, at, &info.version.to_le_bytes())
                .is_ok()
            {
                let _unmapped = self.copy_to_guest(who, at, info.as_bytes());
                let _unmapped = self.copy_to_guest(who, at, &even.version.to_le_bytes());
            }
        }
    }

    /// `force_update_vcpu_system_time`
    pub(crate) fn update_time(&mut self, who: Who, target: Who) {
        let info = self.begin_time(target);
        self.end_time(who, target, info);
    }

    /// `vcpu_runstate_get`: up to this moment.
    pub(crate) fn runstate(&mut self, target: Who) -> VcpuRunstateInfo {
        let now = self.now();
        let vcpu = self.vcpu(target);
        let mut info = vcpu.areas.runstate;
        if !vcpu.up {
            info.state = RUNSTATE_OFFLINE;
        }
        let spent = now.saturating_sub(info.state_entry_time);
        let state = usize::try_from(info.state).unwrap_or(0);
        if let Some(time) = info.time.get_mut(state) {
            *time = time.saturating_add(spent);
        }
        info
    }

    /// A vCPU's state changes (`vcpu_runstate_change`).
    pub(crate) fn enter_runstate(&mut self, target: Who, state: u32) {
        let mut info = self.runstate(target);
        info.state = state;
        info.state_entry_time = self.time;
        self.vcpu(target).areas.runstate = info;
    }

    /// `update_runstate_area`, on a switch of the vCPU.
    pub(crate) fn write_runstate(&mut self, target: Who) {
        let areas = &self.vcpu(target).areas;
        let (info, va, area) = (areas.runstate, areas.runstate_va, areas.runstate_phys);
        if let Some(area) = area {
            self.write_frame(area, info.as_bytes());
            return;
        }
        if va == 0 {
            return;
        }
        let flagged = self.domain(target).life.vm_assist & UPDATE_FLAG != 0;
        // The topmost byte alone.
        let top = va.wrapping_add(ENTRY_TIME + 7);
        let mut shown = info;
        if flagged {
            shown.state_entry_time |= RUNSTATE_UPDATE;
            let _unmapped =
                self.copy_to_guest(target, top, &shown.state_entry_time.as_bytes()[7..]);
        }
        let _unmapped = self.copy_to_guest(target, va, shown.as_bytes());
        if flagged {
            let _unmapped = self.copy_to_guest(target, top, &info.state_entry_time.as_bytes()[7..]);
        }
    }
}
