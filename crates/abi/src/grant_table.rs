//! The grant table, version 1 (`public/grant_table.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `GNTTABOP_setup_table`
pub const GNTTABOP_SETUP_TABLE: u64 = 2;
/// `GNTTABOP_set_version`
pub const GNTTABOP_SET_VERSION: u64 = 8;
/// `GNTTABOP_get_version`
pub const GNTTABOP_GET_VERSION: u64 = 10;

/// `GNTST_okay`
pub const GNTST_OKAY: i16 = 0;

/// `GTF_permit_access`
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// `GTF_readonly`
pub const GTF_READONLY: u16 = 1 << 2;
/// `GTF_reading`: Xen sets it while the other side has the frame mapped.
pub const GTF_READING: u16 = 1 << 3;
/// `GTF_writing`: Xen sets it while the other side has it mapped writable.
pub const GTF_WRITING: u16 = 1 << 4;

/// `GNTTAB_NR_RESERVED_ENTRIES`: the toolstack's own, at the beginning.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// Bytes of a `struct grant_entry_v1`: flags, domid (16 bits each), frame.
pub const GRANT_ENTRY_V1_BYTES: u64 = 8;
/// Offset of `frame` in it.
pub const GRANT_ENTRY_V1_FRAME: u64 = 4;

/// `struct gnttab_setup_table`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabSetupTable {
    /// Whose table.
    pub dom: u16,
    /// Padding.
    pub pad: u16,
    /// How many frames the table shall have.
    pub nr_frames: u32,
    /// `GNTST_*`
    pub status: i16,
    /// Padding.
    pub pad1: [u16; 3],
    /// Guest address of an array of `nr_frames` frame numbers.
    pub frame_list: u64,
}

/// `struct gnttab_get_version`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabGetVersion {
    /// Whose table.
    pub dom: u16,
    /// Padding.
    pub pad: u16,
    /// The version in use.
    pub version: u32,
}

/// `struct gnttab_set_version`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabSetVersion {
    /// In: the version to use. Out: the version in use.
    pub version: u32,
}

const _: () = {
    assert!(size_of::<GnttabSetupTable>() == 24);
    assert!(size_of::<GnttabGetVersion>() == 8);
};
