//! Memory operations (`public/memory.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XENMEM_increase_reservation`
pub const XENMEM_INCREASE_RESERVATION: u64 = 0;
/// `XENMEM_decrease_reservation`
pub const XENMEM_DECREASE_RESERVATION: u64 = 1;
/// `XENMEM_maximum_ram_page`
pub const XENMEM_MAXIMUM_RAM_PAGE: u64 = 2;
/// `XENMEM_current_reservation`
pub const XENMEM_CURRENT_RESERVATION: u64 = 3;
/// `XENMEM_maximum_reservation`
pub const XENMEM_MAXIMUM_RESERVATION: u64 = 4;
/// `XENMEM_populate_physmap`
pub const XENMEM_POPULATE_PHYSMAP: u64 = 6;
/// `XENMEM_add_to_physmap`
pub const XENMEM_ADD_TO_PHYSMAP: u64 = 7;
/// `XENMEM_memory_map`
pub const XENMEM_MEMORY_MAP: u64 = 9;
/// `XENMEM_machine_memory_map`
pub const XENMEM_MACHINE_MEMORY_MAP: u64 = 10;
/// `XENMEM_exchange`
pub const XENMEM_EXCHANGE: u64 = 11;
/// `XENMEM_machphys_mapping`
pub const XENMEM_MACHPHYS_MAPPING: u64 = 12;
/// `XENMEM_set_memory_map`
pub const XENMEM_SET_MEMORY_MAP: u64 = 13;
/// `XENMEM_maximum_gpfn`
pub const XENMEM_MAXIMUM_GPFN: u64 = 14;
/// `XENMEM_remove_from_physmap`
pub const XENMEM_REMOVE_FROM_PHYSMAP: u64 = 15;

/// `XENMAPSPACE_shared_info`
pub const XENMAPSPACE_SHARED_INFO: u32 = 0;
/// `XENMAPSPACE_grant_table`
pub const XENMAPSPACE_GRANT_TABLE: u32 = 1;
/// `XENMAPSPACE_gmfn`
pub const XENMAPSPACE_GMFN: u32 = 2;
/// `XENMAPSPACE_gmfn_range`
pub const XENMAPSPACE_GMFN_RANGE: u32 = 3;
/// `XENMAPSPACE_gmfn_foreign`
pub const XENMAPSPACE_GMFN_FOREIGN: u32 = 4;
/// `XENMAPSPACE_dev_mmio`
pub const XENMAPSPACE_DEV_MMIO: u32 = 5;
/// `XENMEMF_populate_on_demand`
pub const XENMEMF_POPULATE_ON_DEMAND: u32 = 1 << 16;

/// `struct xen_memory_reservation`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryReservation {
    /// Guest address of an array of frame numbers, the bases of the extents.
    pub extent_start: u64,
    /// Extents in the array.
    pub nr_extents: u64,
    /// log2 of the pages of each.
    pub extent_order: u32,
    /// `XENMEMF_*`
    pub mem_flags: u32,
    /// Which domain.
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
}

/// `struct xen_memory_exchange`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryExchange {
    /// Extents to give.
    pub give: MemoryReservation,
    /// Extents to get; PV: frames are written back into the array.
    pub get: MemoryReservation,
    /// Input extents exchanged so far; 0 at the first call.
    pub nr_exchanged: u64,
}

/// `struct xen_foreign_memory_map`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ForeignMemoryMap {
    /// Which domain.
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
    /// The map.
    pub map: MemoryMap,
}

/// `struct xen_memory_domain`: what the questions after a reservation take.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryDomain {
    /// Which domain.
    pub domid: u16,
}

/// `struct xen_add_to_physmap`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddToPhysmap {
    /// Which domain.
    pub domid: u16,
    /// Pages, for a range alone.
    pub size: u16,
    /// `XENMAPSPACE_*`
    pub space: u32,
    /// Index into the space.
    pub idx: u64,
    /// Where it goes.
    pub gpfn: u64,
}

/// `struct xen_remove_from_physmap`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RemoveFromPhysmap {
    /// Which domain.
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
    /// What goes.
    pub gpfn: u64,
}

/// `struct xen_memory_map`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryMap {
    /// In: room in the buffer. Out: entries written.
    pub nr_entries: u32,
    /// Padding.
    pub pad: u32,
    /// Guest address of an array of 20-byte e820 entries.
    pub buffer: u64,
}

const _: () = assert!(size_of::<MemoryReservation>() == 32);
