//! Typed hypercalls; each checks what Xen returned.

use alloc::vec::Vec;

use kexen_abi::{
    DOMID_SELF,
    errno::Errno,
    features,
    grant_table::{self, GnttabGetVersion, GnttabSetVersion, GnttabSetupTable},
    hvm,
    hypercall::Hypercall,
    memory,
    mmu::{self, MmuExtOp, MmuUpdate},
    sched, vcpu,
};
use zerocopy::IntoBytes;

use crate::machine::{Arg, Fault, Machine, MultiCall};

/// A hypercall that Xen refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HypercallError {
    /// Which call.
    pub call: Hypercall,
    /// What it was to do, in a word or two.
    pub what: &'static str,
    /// Xen's error.
    pub errno: Errno,
    /// For a batch: how many requests were carried out before.
    pub done: Option<u64>,
}

impl core::fmt::Display for HypercallError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({}): {}", self.call.name(), self.what, self.errno)?;
        match self.done {
            Some(done) => write!(f, ", after {done} requests"),
            None => Ok(()),
        }
    }
}

pub(crate) fn check(
    call: Hypercall,
    what: &'static str,
    result: i64,
) -> Result<u64, HypercallError> {
    u64::try_from(result).map_err(|_| HypercallError {
        call,
        what,
        errno: Errno(u32::try_from(result.unsigned_abs()).unwrap_or(u32::MAX)),
        done: None,
    })
}

/// `CONSOLEIO_write`: text for the hypervisor's own console. A domU gets
/// `EPERM` from most builds of Xen.
pub fn console_write<M: Machine + ?Sized>(m: &M, text: &[u8]) -> Result<(), HypercallError> {
    let len = u64::try_from(text.len()).unwrap_or(0);
    let result = m.hypercall(
        Hypercall::CONSOLE_IO,
        &mut [
            Arg::Value(kexen_abi::console::CONSOLEIO_WRITE),
            Arg::Value(len),
            Arg::In(text),
        ],
    );
    check(Hypercall::CONSOLE_IO, "write", result).map(drop)
}

/// `CONSOLEIO_read`: what was typed on the hypervisor's console (dom0).
pub fn console_read<M: Machine + ?Sized>(m: &M, into: &mut [u8]) -> Result<usize, HypercallError> {
    let len = into.len();
    let result = m.hypercall(
        Hypercall::CONSOLE_IO,
        &mut [
            Arg::Value(kexen_abi::console::CONSOLEIO_READ),
            Arg::Value(u64::try_from(len).unwrap_or(0)),
            Arg::InOut(into),
        ],
    );
    let read = check(Hypercall::CONSOLE_IO, "read", result)?;
    Ok(usize::try_from(read).unwrap_or(0).min(len))
}

/// `SCHEDOP_yield`.
pub fn sched_yield<M: Machine + ?Sized>(m: &M) -> Result<(), HypercallError> {
    let result = m.hypercall(
        Hypercall::SCHED_OP,
        &mut [Arg::Value(sched::SCHEDOP_YIELD), Arg::Value(0)],
    );
    check(Hypercall::SCHED_OP, "yield", result).map(drop)
}

/// `SCHEDOP_shutdown`; does not return if Xen carries it out.
pub fn shutdown<M: Machine + ?Sized>(m: &M, reason: u32) -> Result<(), HypercallError> {
    let arg = sched::SchedShutdown { reason };
    let result = m.hypercall(
        Hypercall::SCHED_OP,
        &mut [Arg::Value(sched::SCHEDOP_SHUTDOWN), Arg::In(arg.as_bytes())],
    );
    check(Hypercall::SCHED_OP, "shutdown", result).map(drop)
}

/// `XENVER_version`: major, minor.
pub fn version<M: Machine + ?Sized>(m: &M) -> Result<(u16, u16), HypercallError> {
    let result = m.hypercall(
        Hypercall::XEN_VERSION,
        &mut [Arg::Value(features::XENVER_VERSION), Arg::Value(0)],
    );
    let version = check(Hypercall::XEN_VERSION, "version", result)?;
    let half = |shift: u32| u16::try_from((version >> shift) & 0xffff).unwrap_or(0);
    Ok((half(16), half(0)))
}

/// `VCPUOP_get_runstate_info` of vCPU 0.
pub fn runstate<M: Machine + ?Sized>(m: &M) -> Result<vcpu::VcpuRunstateInfo, HypercallError> {
    let mut info = vcpu::VcpuRunstateInfo::default();
    let result = m.hypercall(
        Hypercall::VCPU_OP,
        &mut [
            Arg::Value(vcpu::VCPUOP_GET_RUNSTATE_INFO),
            Arg::Value(0),
            Arg::InOut(info.as_mut_bytes()),
        ],
    );
    check(Hypercall::VCPU_OP, "get_runstate_info", result)?;
    Ok(info)
}

/// `mmu_update` on the guest's own tables and frames, all or an error that
/// says how many were done.
pub fn mmu_update<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    updates: &[MmuUpdate],
) -> Result<(), HypercallError> {
    if updates.is_empty() {
        return Ok(());
    }
    let mut done = [0_u8; 4];
    let result = m.hypercall(
        Hypercall::MMU_UPDATE,
        &mut [
            Arg::In(updates.as_bytes()),
            Arg::Value(u64::try_from(updates.len()).unwrap_or(u64::MAX)),
            Arg::InOut(&mut done),
            Arg::Value(u64::from(DOMID_SELF)),
        ],
    );
    batch(Hypercall::MMU_UPDATE, what, result, done)
}

/// `mmuext_op`, all or an error that says how many were done.
pub fn mmuext_op<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    ops: &[MmuExtOp],
) -> Result<(), HypercallError> {
    let mut done = [0_u8; 4];
    let result = m.hypercall(
        Hypercall::MMUEXT_OP,
        &mut [
            Arg::In(ops.as_bytes()),
            Arg::Value(u64::try_from(ops.len()).unwrap_or(u64::MAX)),
            Arg::InOut(&mut done),
            Arg::Value(u64::from(DOMID_SELF)),
        ],
    );
    batch(Hypercall::MMUEXT_OP, what, result, done)
}

/// `mmuext_op`, `mmu_update` and `mmuext_op` again, in one multicall if there
/// is more than one of them: what to clear first, what to write, what to
/// flush or pin then. Each is made whether the one before succeeded or not;
/// the first error is the one reported.
pub fn mmu_batch<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    before: &[MmuExtOp],
    updates: &[MmuUpdate],
    after: &[MmuExtOp],
) -> Result<(), HypercallError> {
    let parts = [before.is_empty(), updates.is_empty(), after.is_empty()];
    match parts {
        [true, true, true] => return Ok(()),
        [true, false, true] => return mmu_update(m, what, updates),
        [false, true, true] => return mmuext_op(m, what, before),
        [true, true, false] => return mmuext_op(m, what, after),
        _ => {}
    }
    let extended = Hypercall::MMUEXT_OP;
    let bytes = [
        (extended, before.as_bytes(), before.len()),
        (Hypercall::MMU_UPDATE, updates.as_bytes(), updates.len()),
        (extended, after.as_bytes(), after.len()),
    ];
    let mut done = [[0_u8; 4]; 3];
    let mut args: Vec<_> = bytes
        .iter()
        .zip(&mut done)
        .filter(|(part, _)| part.2 > 0)
        .map(|((call, bytes, count), done)| {
            let count = u64::try_from(*count).unwrap_or(u64::MAX);
            let own = Arg::Value(u64::from(DOMID_SELF));
            let args = [Arg::In(bytes), Arg::Value(count), Arg::InOut(done), own];
            (*call, args)
        })
        .collect();
    let mut calls: Vec<_> = args
        .iter_mut()
        .map(|(call, args)| MultiCall {
            call: *call,
            args,
            result: 0,
        })
        .collect();
    m.multicall(&mut calls);
    let results: Vec<_> = calls.iter().map(|one| (one.call, one.result)).collect();
    drop(args);
    let done = bytes.iter().zip(done).filter(|(part, _)| part.2 > 0);
    for ((call, result), (_, done)) in results.into_iter().zip(done) {
        batch(call, what, result, done)?;
    }
    Ok(())
}

fn batch(
    call: Hypercall,
    what: &'static str,
    result: i64,
    done: [u8; 4],
) -> Result<(), HypercallError> {
    check(call, what, result).map(drop).map_err(|mut error| {
        error.done = Some(u64::from(u32::from_le_bytes(done)));
        error
    })
}

/// `update_va_mapping` of one page; its translation is flushed on this vCPU.
pub fn update_va_mapping<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    address: u64,
    entry: u64,
) -> Result<(), HypercallError> {
    let result = m.hypercall(
        Hypercall::UPDATE_VA_MAPPING,
        &mut [
            Arg::Value(address),
            Arg::Value(entry),
            Arg::Value(mmu::UVMF_INVLPG),
        ],
    );
    check(Hypercall::UPDATE_VA_MAPPING, what, result).map(drop)
}

/// `HVMOP_get_param` of the guest itself.
pub fn hvm_param<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    index: u32,
) -> Result<u64, HypercallError> {
    let mut param = hvm::HvmParam {
        domid: DOMID_SELF,
        pad: 0,
        index,
        value: 0,
    };
    let result = m.hypercall(
        Hypercall::HVM_OP,
        &mut [
            Arg::Value(hvm::HVMOP_GET_PARAM),
            Arg::InOut(param.as_mut_bytes()),
        ],
    );
    check(Hypercall::HVM_OP, what, result)?;
    Ok(param.value)
}

/// `EVTCHNOP_*` on one port of the guest.
pub(crate) fn event_channel<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    op: u64,
    port: u32,
) -> Result<(), HypercallError> {
    let arg = kexen_abi::event_channel::EvtchnPort { port };
    let result = m.hypercall(
        Hypercall::EVENT_CHANNEL_OP,
        &mut [Arg::Value(op), Arg::In(arg.as_bytes())],
    );
    check(Hypercall::EVENT_CHANNEL_OP, what, result).map(drop)
}

/// `SCHEDOP_poll` on one port, until it is pending. The array of ports is
/// the four bytes of guest memory at `ports`.
pub(crate) fn poll<M: Machine + ?Sized>(m: &M, ports: u64) -> Result<(), HypercallError> {
    poll_until(m, ports, 1, 0)
}

/// `SCHEDOP_poll` on ports, whose array is in guest memory at `ports`, until
/// one is pending or the system time is `until` (0: for ever).
pub fn poll_until<M: Machine + ?Sized>(
    m: &M,
    ports: u64,
    count: u32,
    until: u64,
) -> Result<(), HypercallError> {
    let arg = sched::SchedPoll {
        ports,
        nr_ports: count,
        pad: 0,
        timeout: until,
    };
    let result = m.hypercall(
        Hypercall::SCHED_OP,
        &mut [Arg::Value(sched::SCHEDOP_POLL), Arg::In(arg.as_bytes())],
    );
    check(Hypercall::SCHED_OP, "poll", result).map(drop)
}

/// `HVMOP_set_param` of the guest itself.
pub fn set_hvm_param<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    index: u32,
    value: u64,
) -> Result<(), HypercallError> {
    let param = hvm::HvmParam {
        domid: DOMID_SELF,
        pad: 0,
        index,
        value,
    };
    let result = m.hypercall(
        Hypercall::HVM_OP,
        &mut [Arg::Value(hvm::HVMOP_SET_PARAM), Arg::In(param.as_bytes())],
    );
    check(Hypercall::HVM_OP, what, result).map(drop)
}

/// Whether Xen offers this guest a feature (`XENFEAT_*`, below 32).
pub fn feature<M: Machine + ?Sized>(m: &M, number: u32) -> Result<bool, HypercallError> {
    let mut map = [0_u32; 2];
    let result = m.hypercall(
        Hypercall::XEN_VERSION,
        &mut [
            Arg::Value(features::XENVER_GET_FEATURES),
            Arg::InOut(map.as_mut_bytes()),
        ],
    );
    check(Hypercall::XEN_VERSION, "get_features", result)?;
    let [_, bits] = map;
    Ok(number < 32 && bits & (1 << number) != 0)
}

/// Gives the processor up until so many nanoseconds after this vCPU was last
/// scheduled (`SCHEDOP_poll` without ports): other vCPUs run meanwhile, which
/// a yield does not promise.
pub fn nap<M: Machine + ?Sized>(m: &M, nanoseconds: u64) -> Result<(), HypercallError> {
    let since = runstate(m)?.state_entry_time;
    // Zero would be for ever.
    poll_until(m, 0, 0, since.saturating_add(nanoseconds).max(1))
}

/// `XENMEM_add_to_physmap` of the shared info page at a gfn.
pub fn map_shared_info<M: Machine + ?Sized>(m: &M, gfn: u64) -> Result<(), HypercallError> {
    let arg = memory::AddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space: memory::XENMAPSPACE_SHARED_INFO,
        idx: 0,
        gpfn: gfn,
    };
    memory_op(
        m,
        "add_to_physmap of shared info",
        memory::XENMEM_ADD_TO_PHYSMAP,
        Arg::In(arg.as_bytes()),
    )
    .map(drop)
}

/// `XENMEM_remove_from_physmap` of one gfn.
pub fn remove_from_physmap<M: Machine + ?Sized>(m: &M, gfn: u64) -> Result<(), HypercallError> {
    let arg = memory::RemoveFromPhysmap {
        domid: DOMID_SELF,
        pad: [0; 3],
        gpfn: gfn,
    };
    memory_op(
        m,
        "remove_from_physmap",
        memory::XENMEM_REMOVE_FROM_PHYSMAP,
        Arg::In(arg.as_bytes()),
    )
    .map(drop)
}

/// `XENMEM_add_to_physmap` of one frame of the grant table at a gfn. The
/// table grows to that frame if it is shorter.
pub fn map_grant_frame<M: Machine + ?Sized>(
    m: &M,
    frame: u64,
    gfn: u64,
) -> Result<(), HypercallError> {
    let arg = memory::AddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space: memory::XENMAPSPACE_GRANT_TABLE,
        idx: frame,
        gpfn: gfn,
    };
    memory_op(
        m,
        "add_to_physmap of the grant table",
        memory::XENMEM_ADD_TO_PHYSMAP,
        Arg::In(arg.as_bytes()),
    )
    .map(drop)
}

/// `XENMEM_decrease_reservation` of one page: whether Xen took it. The frame
/// number (gfn, or mfn of a PV guest) is the word of guest memory at `list`.
pub fn decrease_reservation<M: Machine + ?Sized>(m: &M, list: u64) -> Result<bool, HypercallError> {
    reservation(
        m,
        "decrease_reservation",
        memory::XENMEM_DECREASE_RESERVATION,
        list,
    )
}

/// `XENMEM_populate_physmap` of one page: whether Xen gave a frame. The page
/// number is the word of guest memory at `list`; a PV guest finds the new
/// frame's number there afterwards.
pub fn populate_physmap<M: Machine + ?Sized>(m: &M, list: u64) -> Result<bool, HypercallError> {
    reservation(m, "populate_physmap", memory::XENMEM_POPULATE_PHYSMAP, list)
}

fn reservation<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    op: u64,
    list: u64,
) -> Result<bool, HypercallError> {
    let arg = memory::MemoryReservation {
        extent_start: list,
        nr_extents: 1,
        extent_order: 0,
        mem_flags: 0,
        domid: DOMID_SELF,
        pad: [0; 3],
    };
    // The result is no error number but how many extents were done.
    Ok(memory_op(m, what, op, Arg::In(arg.as_bytes()))? == 1)
}

/// `XENMEM_current_reservation`: pages that are charged to the guest.
pub fn current_reservation<M: Machine + ?Sized>(m: &M) -> Result<u64, HypercallError> {
    let arg = memory::MemoryDomain { domid: DOMID_SELF };
    memory_op(
        m,
        "current_reservation",
        memory::XENMEM_CURRENT_RESERVATION,
        Arg::In(arg.as_bytes()),
    )
}

/// `XENMEM_maximum_reservation`: pages that may be charged to the guest.
pub fn maximum_reservation<M: Machine + ?Sized>(m: &M) -> Result<u64, HypercallError> {
    let arg = memory::MemoryDomain { domid: DOMID_SELF };
    memory_op(
        m,
        "maximum_reservation",
        memory::XENMEM_MAXIMUM_RESERVATION,
        Arg::In(arg.as_bytes()),
    )
}

/// `GNTTABOP_setup_table` of one frame: its number. The answer comes by way
/// of the word of guest memory at `list`.
pub fn setup_grant_table<M: Machine + ?Sized>(m: &M, list: u64) -> Result<u64, GrantError> {
    let mut arg = GnttabSetupTable {
        dom: DOMID_SELF,
        pad: 0,
        nr_frames: 1,
        status: 0,
        pad1: [0; 3],
        frame_list: list,
    };
    grant_table_op(
        m,
        "setup_table",
        grant_table::GNTTABOP_SETUP_TABLE,
        Arg::InOut(arg.as_mut_bytes()),
    )?;
    if arg.status != grant_table::GNTST_OKAY {
        return Err(GrantError::Status(arg.status));
    }
    Ok(m.read64(list)?)
}

/// `GNTTABOP_get_version` of the guest's own table.
pub fn grant_version<M: Machine + ?Sized>(m: &M) -> Result<u32, HypercallError> {
    let mut arg = GnttabGetVersion {
        dom: DOMID_SELF,
        pad: 0,
        version: 0,
    };
    grant_table_op(
        m,
        "get_version",
        grant_table::GNTTABOP_GET_VERSION,
        Arg::InOut(arg.as_mut_bytes()),
    )?;
    Ok(arg.version)
}

/// `GNTTABOP_set_version`: refused with `EBUSY` while any grant but the
/// toolstack's is mapped. Xen clears all other entries as it changes.
pub fn set_grant_version<M: Machine + ?Sized>(m: &M, version: u32) -> Result<(), HypercallError> {
    let mut arg = GnttabSetVersion { version };
    grant_table_op(
        m,
        "set_version",
        grant_table::GNTTABOP_SET_VERSION,
        Arg::InOut(arg.as_mut_bytes()),
    )
}

/// Why the grant table could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// Guest memory could not be reached.
    Fault(Fault),
    /// Xen refused the call.
    Hypercall(HypercallError),
    /// Xen refused the request with a `GNTST_*` status.
    Status(i16),
}

impl From<Fault> for GrantError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
impl From<HypercallError> for GrantError {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}

impl core::fmt::Display for GrantError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Hypercall(error) => error.fmt(f),
            Self::Status(status) => write!(f, "grant_table_op: status {status}"),
        }
    }
}

fn grant_table_op<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    op: u64,
    arg: Arg<'_>,
) -> Result<(), HypercallError> {
    let result = m.hypercall(
        Hypercall::GRANT_TABLE_OP,
        &mut [Arg::Value(op), arg, Arg::Value(1)],
    );
    check(Hypercall::GRANT_TABLE_OP, what, result).map(drop)
}

/// `XENMEM_memory_map`: e820 entries of 20 bytes, at most as many as fit
/// into the page of guest memory at `page`; how many there are.
pub fn memory_map<M: Machine + ?Sized>(m: &M, page: u64) -> Result<u32, HypercallError> {
    let mut arg = memory::MemoryMap {
        nr_entries: 4096 / 20,
        pad: 0,
        buffer: page,
    };
    memory_op(
        m,
        "memory_map",
        memory::XENMEM_MEMORY_MAP,
        Arg::InOut(arg.as_mut_bytes()),
    )?;
    Ok(arg.nr_entries)
}

fn memory_op<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    op: u64,
    arg: Arg<'_>,
) -> Result<u64, HypercallError> {
    let result = m.hypercall(Hypercall::MEMORY_OP, &mut [Arg::Value(op), arg]);
    check(Hypercall::MEMORY_OP, what, result)
}
