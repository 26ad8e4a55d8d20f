//! Devices and their interrupts (`public/physdev.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `PHYSDEVOP_IRQ_UNMASK_NOTIFY`
pub const PHYSDEVOP_IRQ_UNMASK_NOTIFY: u64 = 4;
/// `PHYSDEVOP_set_iopl`
pub const PHYSDEVOP_SET_IOPL: u64 = 6;
/// `PHYSDEVOP_apic_read`
pub const PHYSDEVOP_APIC_READ: u64 = 8;
/// `PHYSDEVOP_apic_write`
pub const PHYSDEVOP_APIC_WRITE: u64 = 9;
/// `PHYSDEVOP_alloc_irq_vector`
pub const PHYSDEVOP_ALLOC_IRQ_VECTOR: u64 = 10;
/// `PHYSDEVOP_pirq_eoi_gmfn_v1`
pub const PHYSDEVOP_PIRQ_EOI_GMFN_V1: u64 = 17;
/// `PHYSDEVOP_pirq_eoi_gmfn_v2`
pub const PHYSDEVOP_PIRQ_EOI_GMFN_V2: u64 = 28;
/// `XENIRQSTAT_needs_eoi`
pub const XENIRQSTAT_NEEDS_EOI: u32 = 1;
/// `MAP_PIRQ_TYPE_MSI_SEG`
pub const MAP_PIRQ_TYPE_MSI_SEG: i32 = 3;
/// `MAP_PIRQ_TYPE_MULTI_MSI`
pub const MAP_PIRQ_TYPE_MULTI_MSI: i32 = 4;
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

/// `struct physdev_eoi`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevEoi {
    /// The PIRQ.
    pub irq: u32,
}

/// `struct physdev_irq_status_query`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevIrqStatusQuery {
    /// The PIRQ.
    pub irq: u32,
    /// Out: `XENIRQSTAT_*`.
    pub flags: u32,
}

/// `struct physdev_pirq_eoi_gmfn`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevPirqEoiGmfn {
    /// The page of the bitmap.
    pub gmfn: u64,
}

const _: () = assert!(size_of::<PhysdevMapPirq>() == 40);
