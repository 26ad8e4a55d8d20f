//! Interrupts of emulated devices as event channels, in HVM guests that have
//! `XENFEAT_hvm_pirqs`.
//!
//! Protocol: `public/physdev.h`, `public/event_channel.h`. A GSI is mapped to
//! a PIRQ, and that bound to a port; a device with MSI is given the number of
//! a free PIRQ in its message instead of a vector. While one is bound, the
//! interrupt reaches no local APIC: a kernel that does not know of it waits
//! for its devices in vain. Closing the port does not unmap the PIRQ.

use kexen_abi::{
    DOMID_SELF,
    event_channel::{EVTCHNOP_BIND_PIRQ, EvtchnBindPirq},
    features,
    hypercall::Hypercall,
    physdev::{
        MAP_PIRQ_TYPE_GSI, MAP_PIRQ_TYPE_MSI, PHYSDEVOP_EOI, PHYSDEVOP_GET_FREE_PIRQ,
        PHYSDEVOP_MAP_PIRQ, PhysdevEoi, PhysdevGetFreePirq, PhysdevMapPirq,
    },
};
use zerocopy::IntoBytes;

use crate::{
    HypercallError, Machine,
    hypercall::{check, feature},
    machine::Arg,
};

/// Whether interrupts of emulated devices can be event channels here.
pub fn available<M: Machine + ?Sized>(m: &M) -> Result<bool, HypercallError> {
    feature(m, features::XENFEAT_HVM_PIRQS)
}

/// Maps a GSI to a PIRQ; its number.
pub fn map_gsi<M: Machine + ?Sized>(m: &M, gsi: u32) -> Result<u32, HypercallError> {
    let mut arg = PhysdevMapPirq {
        domid: DOMID_SELF,
        pad: 0,
        kind: MAP_PIRQ_TYPE_GSI,
        index: i32::try_from(gsi).unwrap_or(-1),
        pirq: i32::try_from(gsi).unwrap_or(-1),
        bus: 0,
        devfn: 0,
        entry_nr: 0,
        pad1: 0,
        table_base: 0,
    };
    let result = m.hypercall(
        Hypercall::PHYSDEV_OP,
        &mut [
            Arg::Value(PHYSDEVOP_MAP_PIRQ),
            Arg::InOut(arg.as_mut_bytes()),
        ],
    );
    check(Hypercall::PHYSDEV_OP, "map_pirq", result)?;
    Ok(u32::try_from(arg.pirq).unwrap_or(u32::MAX))
}

/// A PIRQ for a device's MSI. Nothing gives the number itself back.
pub fn free_pirq<M: Machine + ?Sized>(m: &M) -> Result<u32, HypercallError> {
    let mut arg = PhysdevGetFreePirq {
        kind: MAP_PIRQ_TYPE_MSI,
        pirq: 0,
    };
    let result = m.hypercall(
        Hypercall::PHYSDEV_OP,
        &mut [
            Arg::Value(PHYSDEVOP_GET_FREE_PIRQ),
            Arg::InOut(arg.as_mut_bytes()),
        ],
    );
    check(Hypercall::PHYSDEV_OP, "get_free_pirq", result)?;
    Ok(arg.pirq)
}

/// Binds a PIRQ to a port.
pub fn bind<M: Machine + ?Sized>(m: &M, pirq: u32, shared: bool) -> Result<u32, HypercallError> {
    let mut arg = EvtchnBindPirq {
        pirq,
        flags: u32::from(shared),
        port: 0,
    };
    let result = m.hypercall(
        Hypercall::EVENT_CHANNEL_OP,
        &mut [
            Arg::Value(EVTCHNOP_BIND_PIRQ),
            Arg::InOut(arg.as_mut_bytes()),
        ],
    );
    check(Hypercall::EVENT_CHANNEL_OP, "bind_pirq", result)?;
    Ok(arg.port)
}

/// Tells Xen that a PIRQ was handled.
pub fn end<M: Machine + ?Sized>(m: &M, pirq: u32) -> Result<(), HypercallError> {
    let arg = PhysdevEoi { irq: pirq };
    let result = m.hypercall(
        Hypercall::PHYSDEV_OP,
        &mut [Arg::Value(PHYSDEVOP_EOI), Arg::In(arg.as_bytes())],
    );
    check(Hypercall::PHYSDEV_OP, "eoi", result).map(drop)
}

/// Address (low, high) and data of the message that has a device's MSI
/// delivered to a PIRQ: vector 0, and the PIRQ's number in the place of the
/// destination (`hvm_inject_msi` in Xen's `arch/x86/hvm/irq.c`).
#[must_use]
pub const fn message(pirq: u32) -> (u32, u32, u32) {
    const ADDRESS: u32 = 0xfee0_0000;
    /// Delivery mode fixed has vector 0 refused by some device models:
    /// Linux's too sets "lowest priority, asserted, edge".
    const DATA: u32 = (1 << 14) | (3 << 8);
    (ADDRESS | ((pirq & 0xff) << 12), pirq & 0xffff_ff00, DATA)
}
