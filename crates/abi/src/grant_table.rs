//! The grant table, versions 1 and 2 (`public/grant_table.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `GNTTABOP_map_grant_ref`
pub const GNTTABOP_MAP_GRANT_REF: u64 = 0;
/// `GNTTABOP_unmap_grant_ref`
pub const GNTTABOP_UNMAP_GRANT_REF: u64 = 1;
/// `GNTTABOP_setup_table`
pub const GNTTABOP_SETUP_TABLE: u64 = 2;
/// `GNTTABOP_dump_table`
pub const GNTTABOP_DUMP_TABLE: u64 = 3;
/// `GNTTABOP_transfer`
pub const GNTTABOP_TRANSFER: u64 = 4;
/// `GNTTABOP_copy`
pub const GNTTABOP_COPY: u64 = 5;
/// `GNTTABOP_query_size`
pub const GNTTABOP_QUERY_SIZE: u64 = 6;
/// `GNTTABOP_unmap_and_replace`
pub const GNTTABOP_UNMAP_AND_REPLACE: u64 = 7;
/// `GNTTABOP_set_version`
pub const GNTTABOP_SET_VERSION: u64 = 8;
/// `GNTTABOP_get_status_frames`
pub const GNTTABOP_GET_STATUS_FRAMES: u64 = 9;
/// `GNTTABOP_get_version`
pub const GNTTABOP_GET_VERSION: u64 = 10;
/// `GNTTABOP_swap_grant_ref`
pub const GNTTABOP_SWAP_GRANT_REF: u64 = 11;
/// `GNTTABOP_cache_flush`
pub const GNTTABOP_CACHE_FLUSH: u64 = 12;

/// `GNTST_okay`
pub const GNTST_OKAY: i16 = 0;
/// `GNTST_general_error`
pub const GNTST_GENERAL_ERROR: i16 = -1;
/// `GNTST_bad_domain`
pub const GNTST_BAD_DOMAIN: i16 = -2;
/// `GNTST_bad_gntref`
pub const GNTST_BAD_GNTREF: i16 = -3;
/// `GNTST_bad_handle`
pub const GNTST_BAD_HANDLE: i16 = -4;
/// `GNTST_bad_virt_addr`
pub const GNTST_BAD_VIRT_ADDR: i16 = -5;
/// `GNTST_bad_dev_addr`
pub const GNTST_BAD_DEV_ADDR: i16 = -6;
/// `GNTST_no_device_space`
pub const GNTST_NO_DEVICE_SPACE: i16 = -7;
/// `GNTST_permission_denied`
pub const GNTST_PERMISSION_DENIED: i16 = -8;
/// `GNTST_bad_page`
pub const GNTST_BAD_PAGE: i16 = -9;
/// `GNTST_bad_copy_arg`
pub const GNTST_BAD_COPY_ARG: i16 = -10;
/// `GNTST_address_too_big`
pub const GNTST_ADDRESS_TOO_BIG: i16 = -11;
/// `GNTST_eagain`
pub const GNTST_EAGAIN: i16 = -12;
/// `GNTST_no_space`
pub const GNTST_NO_SPACE: i16 = -13;

/// `GTF_invalid`
pub const GTF_INVALID: u16 = 0;
/// `GTF_permit_access`
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// `GTF_accept_transfer`
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// `GTF_transitive`: another domain's grant, passed on (version 2).
pub const GTF_TRANSITIVE: u16 = 3;
/// `GTF_type_mask`
pub const GTF_TYPE_MASK: u16 = 3;
/// `GTF_readonly`
pub const GTF_READONLY: u16 = 1 << 2;
/// `GTF_reading`: Xen sets it while the other side has the frame mapped.
pub const GTF_READING: u16 = 1 << 3;
/// `GTF_writing`: Xen sets it while the other side has it mapped writable.
pub const GTF_WRITING: u16 = 1 << 4;
/// `GTF_sub_page`: a part of a page, for copies alone (version 2).
pub const GTF_SUB_PAGE: u16 = 1 << 8;
/// `GTF_transfer_committed`: Xen is about to hand over a frame.
pub const GTF_TRANSFER_COMMITTED: u16 = 1 << 2;
/// `GTF_transfer_completed`: Xen has written the frame's number.
pub const GTF_TRANSFER_COMPLETED: u16 = 1 << 3;

/// `GNTMAP_device_map`: for devices.
pub const GNTMAP_DEVICE_MAP: u32 = 1;
/// `GNTMAP_host_map`: for processors.
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;
/// `GNTMAP_readonly`
pub const GNTMAP_READONLY: u32 = 1 << 2;
/// `GNTMAP_application_map`: for user mode too.
pub const GNTMAP_APPLICATION_MAP: u32 = 1 << 3;
/// `GNTMAP_contains_pte`: the address is that of the entry to write.
pub const GNTMAP_CONTAINS_PTE: u32 = 1 << 4;
/// `_GNTMAP_guest_avail0`: first of the bits that go into the entry.
pub const GNTMAP_GUEST_AVAIL0: u32 = 16;

/// `GNTCOPY_source_gref`
pub const GNTCOPY_SOURCE_GREF: u16 = 1;
/// `GNTCOPY_dest_gref`
pub const GNTCOPY_DEST_GREF: u16 = 1 << 1;

/// `GNTTAB_CACHE_CLEAN`
pub const GNTTAB_CACHE_CLEAN: u32 = 1;
/// `GNTTAB_CACHE_INVAL`
pub const GNTTAB_CACHE_INVAL: u32 = 1 << 1;
/// `GNTTAB_CACHE_SOURCE_GREF`
pub const GNTTAB_CACHE_SOURCE_GREF: u32 = 1 << 31;

/// `XENMAPIDX_grant_table_status`: a status frame (`public/memory.h`).
pub const XENMAPIDX_GRANT_TABLE_STATUS: u32 = 1 << 31;

/// `GNTTAB_NR_RESERVED_ENTRIES`: the toolstack's own, at the beginning.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// Bytes of a `struct grant_entry_v1`: flags, domid (16 bits each), frame.
pub const GRANT_ENTRY_V1_BYTES: u64 = 8;
/// Offset of `frame` in it.
pub const GRANT_ENTRY_V1_FRAME: u64 = 4;
/// Bytes of a `union grant_entry_v2`.
pub const GRANT_ENTRY_V2_BYTES: u64 = 16;
/// Offset of `frame` in its full and sub-page forms.
pub const GRANT_ENTRY_V2_FRAME: u64 = 8;
/// Bytes of a `grant_status_t`.
pub const GRANT_STATUS_BYTES: u64 = 2;

/// `struct grant_entry_v1`
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantEntryV1 {
    /// `GTF_*`
    pub flags: u16,
    /// Who may use it.
    pub domid: u16,
    /// The guest's number of the frame.
    pub frame: u32,
}

/// `union grant_entry_v2`, whole-page and sub-page form: a whole page has
/// zero in the fields that say which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantEntryV2 {
    /// `GTF_*`
    pub flags: u16,
    /// Who may use it.
    pub domid: u16,
    /// First byte of the part.
    pub page_off: u16,
    /// Bytes of the part.
    pub length: u16,
    /// The guest's number of the frame.
    pub frame: u64,
}

/// `union grant_entry_v2`, transitive form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantEntryV2Transitive {
    /// `GTF_*`
    pub flags: u16,
    /// Who may use it.
    pub domid: u16,
    /// Whose grant is passed on.
    pub trans_domid: u16,
    /// Padding.
    pub pad0: u16,
    /// Which grant of it.
    pub gref: u32,
    /// Padding.
    pub pad1: u32,
}

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

/// `struct gnttab_map_grant_ref`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabMapGrantRef {
    /// Address, entry or page where it is mapped.
    pub host_addr: u64,
    /// `GNTMAP_*`
    pub flags: u32,
    /// The reference.
    pub gref: u32,
    /// The granter.
    pub dom: u16,
    /// `GNTST_*`
    pub status: i16,
    /// Out: what undoes it.
    pub handle: u32,
    /// Out: the frame, as a machine address.
    pub dev_bus_addr: u64,
}

/// `struct gnttab_unmap_grant_ref`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabUnmapGrantRef {
    /// Where it is mapped; 0: leave that.
    pub host_addr: u64,
    /// Where devices see it; 0: leave that.
    pub dev_bus_addr: u64,
    /// What the map call gave.
    pub handle: u32,
    /// `GNTST_*`
    pub status: i16,
    /// Padding.
    pub pad: u16,
}

/// `struct gnttab_unmap_and_replace`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabUnmapAndReplace {
    /// Where it is mapped.
    pub host_addr: u64,
    /// Address whose entry takes its place.
    pub new_addr: u64,
    /// What the map call gave.
    pub handle: u32,
    /// `GNTST_*`
    pub status: i16,
    /// Padding.
    pub pad: u16,
}

/// `struct gnttab_transfer`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabTransfer {
    /// The frame that goes.
    pub mfn: u64,
    /// Who gets it.
    pub domid: u16,
    /// Padding.
    pub pad: u16,
    /// The reference that accepts it.
    pub gref: u32,
    /// `GNTST_*`
    pub status: i16,
    /// Padding.
    pub pad1: [u16; 3],
}

/// `struct gnttab_copy_ptr`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabCopyPtr {
    /// A reference (low half) or a frame number of the caller.
    pub u: u64,
    /// Whose.
    pub domid: u16,
    /// First byte.
    pub offset: u16,
    /// Padding.
    pub pad: u32,
}

/// `struct gnttab_copy`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabCopy {
    /// From.
    pub source: GnttabCopyPtr,
    /// To.
    pub dest: GnttabCopyPtr,
    /// Bytes.
    pub len: u16,
    /// `GNTCOPY_*`
    pub flags: u16,
    /// `GNTST_*`
    pub status: i16,
    /// Padding.
    pub pad: u16,
}

/// `struct gnttab_query_size`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabQuerySize {
    /// Whose table.
    pub dom: u16,
    /// Padding.
    pub pad: u16,
    /// Frames that it has.
    pub nr_frames: u32,
    /// Frames that it may have.
    pub max_nr_frames: u32,
    /// `GNTST_*`
    pub status: i16,
    /// Padding.
    pub pad1: u16,
}

/// `struct gnttab_get_status_frames`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabGetStatusFrames {
    /// How many.
    pub nr_frames: u32,
    /// Whose table.
    pub dom: u16,
    /// `GNTST_*`
    pub status: i16,
    /// Guest address of an array of `nr_frames` frame numbers.
    pub frame_list: u64,
}

/// `struct gnttab_swap_grant_ref`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabSwapGrantRef {
    /// One.
    pub ref_a: u32,
    /// The other.
    pub ref_b: u32,
    /// `GNTST_*`
    pub status: i16,
    /// Padding.
    pub pad: u16,
}

/// `struct gnttab_cache_flush`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabCacheFlush {
    /// Machine address of the frame.
    pub dev_bus_addr: u64,
    /// First byte.
    pub offset: u16,
    /// Bytes.
    pub length: u16,
    /// `GNTTAB_CACHE_*`
    pub op: u32,
}

const _: () = {
    assert!(size_of::<GnttabSetupTable>() == 24);
    assert!(size_of::<GnttabGetVersion>() == 8);
    assert!(size_of::<GrantEntryV1>() == 8);
    assert!(size_of::<GrantEntryV2>() == 16);
    assert!(size_of::<GrantEntryV2Transitive>() == 16);
    assert!(size_of::<GnttabMapGrantRef>() == 32);
    assert!(size_of::<GnttabUnmapGrantRef>() == 24);
    assert!(size_of::<GnttabUnmapAndReplace>() == 24);
    assert!(size_of::<GnttabTransfer>() == 24);
    assert!(size_of::<GnttabCopy>() == 40);
    assert!(size_of::<GnttabQuerySize>() == 16);
    assert!(size_of::<GnttabGetStatusFrames>() == 16);
    assert!(size_of::<GnttabSwapGrantRef>() == 12);
    assert!(size_of::<GnttabCacheFlush>() == 16);
};
