//! Calls that give back what a guest took from Xen.
//!
//! Rules: each function names the part of Xen that it asks. What has no such
//! function cannot be given back by a guest at all: a registered `vcpu_info`,
//! an upcall vector, the pages of the event FIFO (but by a reset that closes
//! console and store as well), a PV vCPU's context.

use kexen_abi::DOMID_SELF;
use kexen_abi::event_channel::{EVTCHNOP_CLOSE, EvtchnPort};
use kexen_abi::grant_table::{
    GNTMAP_HOST_MAP, GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GnttabMapGrantRef,
    GnttabUnmapGrantRef,
};
use kexen_abi::hypercall::Hypercall;
use kexen_abi::mmu::{MMUEXT_NEW_USER_BASEPTR, MMUEXT_SET_LDT, MMUEXT_UNPIN_TABLE, MmuExtOp};
use kexen_abi::physdev::{PHYSDEVOP_UNMAP_PIRQ, PhysdevUnmapPirq};
use kexen_abi::vcpu::{
    VCPUOP_DOWN, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, VCPUOP_REGISTER_RUNSTATE_PHYS_AREA,
    VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA, VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::hypercall::{HypercallError, check, mmuext_op};
use crate::machine::{Arg, Machine};

/// Closes an event channel's port (`evtchn_close`).
pub fn close_port<M: Machine + ?Sized>(m: &M, port: u32) -> Result<(), HypercallError> {
    let arg = EvtchnPort { port };
    let mut args = [Arg::Value(EVTCHNOP_CLOSE), Arg::In(arg.as_bytes())];
    let result = m.hypercall(Hypercall::EVENT_CHANNEL_OP, &mut args);
    check(Hypercall::EVENT_CHANNEL_OP, "close", result).map(drop)
}

/// Unmaps a PIRQ (`physdev_unmap_pirq`). An emulated one that was bound went
/// with its port.
pub fn unmap_pirq<M: Machine + ?Sized>(m: &M, pirq: u32) -> Result<(), HypercallError> {
    let arg = PhysdevUnmapPirq {
        domid: DOMID_SELF,
        pad: 0,
        pirq,
    };
    let mut args = [Arg::Value(PHYSDEVOP_UNMAP_PIRQ), Arg::In(arg.as_bytes())];
    let result = m.hypercall(Hypercall::PHYSDEV_OP, &mut args);
    check(Hypercall::PHYSDEV_OP, "unmap_pirq", result).map(drop)
}

/// An area that Xen writes for a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Runstate, by virtual address.
    RunstateAddress,
    /// Time, by virtual address.
    TimeAddress,
    /// Runstate, by page (Xen 4.18 and later).
    RunstatePage,
    /// Time, by page (Xen 4.18 and later).
    TimePage,
}

impl Area {
    /// The operation that registers it, and with "none" unregisters it.
    pub(crate) const fn register(self) -> u64 {
        match self {
            Self::RunstateAddress => VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
            Self::TimeAddress => VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA,
            Self::RunstatePage => VCPUOP_REGISTER_RUNSTATE_PHYS_AREA,
            Self::TimePage => VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA,
        }
    }
}

/// Has Xen write an area no more (`common_vcpu_op`, `map_guest_area`).
pub fn unregister_area<M: Machine + ?Sized>(
    m: &M,
    vcpu: u32,
    area: Area,
) -> Result<(), HypercallError> {
    let none = match area {
        Area::RunstateAddress | Area::TimeAddress => 0,
        Area::RunstatePage | Area::TimePage => u64::MAX,
    };
    let mut args = [
        Arg::Value(area.register()),
        Arg::Value(u64::from(vcpu)),
        Arg::In(none.as_bytes()),
    ];
    let result = m.hypercall(Hypercall::VCPU_OP, &mut args);
    check(Hypercall::VCPU_OP, "unregister an area", result).map(drop)
}

/// Stops another vCPU (`VCPUOP_down`): its context stays Xen's.
pub fn vcpu_down<M: Machine + ?Sized>(m: &M, vcpu: u32) -> Result<(), HypercallError> {
    let mut args = [Arg::Value(VCPUOP_DOWN), Arg::Value(u64::from(vcpu))];
    let result = m.hypercall(Hypercall::VCPU_OP, &mut args);
    check(Hypercall::VCPU_OP, "down", result).map(drop)
}

/// Maps another domain's grant at `host_addr` (a page number's address in a
/// translated guest), writable: the handle. The opposite is [`unmap_grant`].
pub fn map_grant<M: Machine + ?Sized>(
    m: &M,
    domid: u16,
    reference: u32,
    host_addr: u64,
) -> Result<Result<u32, i16>, HypercallError> {
    let mut arg = GnttabMapGrantRef::new_zeroed();
    arg.host_addr = host_addr;
    arg.flags = GNTMAP_HOST_MAP;
    arg.gref = reference;
    arg.dom = domid;
    let mut args = [
        Arg::Value(GNTTABOP_MAP_GRANT_REF),
        Arg::InOut(arg.as_mut_bytes()),
        Arg::Value(1),
    ];
    let result = m.hypercall(Hypercall::GRANT_TABLE_OP, &mut args);
    check(Hypercall::GRANT_TABLE_OP, "map_grant_ref", result)?;
    Ok(if arg.status == 0 {
        Ok(arg.handle)
    } else {
        Err(arg.status)
    })
}

/// Ends a mapping of another domain's grant (`unmap_grant_ref`).
/// `host_addr` is what it was mapped at.
pub fn unmap_grant<M: Machine + ?Sized>(
    m: &M,
    host_addr: u64,
    handle: u32,
) -> Result<i16, HypercallError> {
    let mut arg = GnttabUnmapGrantRef {
        host_addr,
        dev_bus_addr: 0,
        handle,
        status: 0,
        pad: 0,
    };
    let mut args = [
        Arg::Value(GNTTABOP_UNMAP_GRANT_REF),
        Arg::InOut(arg.as_mut_bytes()),
        Arg::Value(1),
    ];
    let result = m.hypercall(Hypercall::GRANT_TABLE_OP, &mut args);
    check(Hypercall::GRANT_TABLE_OP, "unmap_grant_ref", result)?;
    Ok(arg.status)
}

/// Releases the frames of a PV guest's GDT (`pv_set_gdt`).
pub fn no_gdt<M: Machine + ?Sized>(m: &M) -> Result<(), HypercallError> {
    let result = m.hypercall(Hypercall::SET_GDT, &mut [Arg::In(&[]), Arg::Value(0)]);
    check(Hypercall::SET_GDT, "none", result).map(drop)
}

/// What a PV guest's extended operations give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The LDT.
    Ldt,
    /// The user base pointer.
    UserBase,
    /// The pin of this frame.
    Pin(u64),
}

/// Gives tables back, in one call (`do_mmuext_op`).
pub fn no_tables<M: Machine + ?Sized>(m: &M, tables: &[Table]) -> Result<(), HypercallError> {
    let op = |table: &Table| {
        let (cmd, arg1) = match table {
            Table::Ldt => (MMUEXT_SET_LDT, 0),
            Table::UserBase => (MMUEXT_NEW_USER_BASEPTR, 0),
            Table::Pin(mfn) => (MMUEXT_UNPIN_TABLE, *mfn),
        };
        MmuExtOp {
            cmd,
            pad: 0,
            arg1,
            arg2: 0,
        }
    };
    let ops: alloc::vec::Vec<_> = tables.iter().map(op).collect();
    mmuext_op(m, "give tables back", &ops)
}

/// Has Xen call a PV guest no more: no trap table, no callbacks.
pub fn no_upcalls<M: Machine + ?Sized>(m: &M) -> Result<(), HypercallError> {
    let result = m.hypercall(Hypercall::SET_TRAP_TABLE, &mut [Arg::Value(0)]);
    check(Hypercall::SET_TRAP_TABLE, "none", result)?;
    let mut none = [Arg::Value(0), Arg::Value(0), Arg::Value(0)];
    let result = m.hypercall(Hypercall::SET_CALLBACKS, &mut none);
    check(Hypercall::SET_CALLBACKS, "none", result).map(drop)
}
