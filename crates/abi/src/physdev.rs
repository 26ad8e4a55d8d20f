//! Devices and their interrupts (`public/physdev.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `PHYSDEVOP_irq_status_query`
pub const PHYSDEVOP_IRQ_STATUS_QUERY: u64 = 5;
/// `PHYSDEVOP_eoi`
pub const PHYSDEVOP_EOI: u64 = 12;
/// `PHYSDEVOP_map_pirq`
pub const PHYSDEVOP_MAP_PIRQ: u64 = 13;
/// `PHYSDEVOP_unmap_pirq`
pub const PHYSDEVOP_UNMAP_PIRQ: u64 = 14;
/// `PHYSDEVOP_get_free_pirq`
pub const PHYSDEVOP_GET_FREE_PIRQ: u64 = 23;

/// `MAP_PIRQ_TYPE_MSI`
pub const MAP_PIRQ_TYPE_MSI: i32 = 0;
/// `MAP_PIRQ_TYPE_GSI`
pub const MAP_PIRQ_TYPE_GSI: i32 = 1;

/// `struct physdev_map_pirq`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevMapPirq {
    /// Which domain.
    pub domid: u16,
    /// Padding.
    pub pad: u16,
    /// `MAP_PIRQ_TYPE_*`
    pub kind: i32,
    /// GSI: the line.
    pub index: i32,
    /// The PIRQ; negative: any.
    pub pirq: i32,
    /// MSI: bus.
    pub bus: i32,
    /// MSI: device and function.
    pub devfn: i32,
    /// MSI-X: which entry.
    pub entry_nr: i32,
    /// Padding.
    pub pad1: i32,
    /// MSI-X: where the table is.
    pub table_base: u64,
}

/// `struct physdev_unmap_pirq`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevUnmapPirq {
    /// Which domain.
    pub domid: u16,
    /// Padding.
    pub pad: u16,
    /// The PIRQ.
    pub pirq: u32,
}

/// `struct physdev_get_free_pirq`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevGetFreePirq {
    /// `MAP_PIRQ_TYPE_*`
    pub kind: i32,
    /// Out: the PIRQ.
    pub pirq: u32,
}

const _: () = assert!(size_of::<PhysdevMapPirq>() == 40);
