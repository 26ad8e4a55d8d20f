//! Block devices (`public/io/blkif.h`), as 64-bit guests lay them out.
//!
//! Sectors are of 512 bytes everywhere, whatever `sector-size` says.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `BLKIF_OP_READ`
pub const BLKIF_OP_READ: u8 = 0;
/// `BLKIF_OP_WRITE`
pub const BLKIF_OP_WRITE: u8 = 1;
/// `BLKIF_OP_WRITE_BARRIER`
pub const BLKIF_OP_WRITE_BARRIER: u8 = 2;
/// `BLKIF_OP_FLUSH_DISKCACHE`
pub const BLKIF_OP_FLUSH_DISKCACHE: u8 = 3;
/// `BLKIF_OP_DISCARD`
pub const BLKIF_OP_DISCARD: u8 = 5;
/// `BLKIF_OP_INDIRECT`
pub const BLKIF_OP_INDIRECT: u8 = 6;

/// `BLKIF_RSP_OKAY`
pub const BLKIF_RSP_OKAY: i16 = 0;
/// `BLKIF_RSP_ERROR`
pub const BLKIF_RSP_ERROR: i16 = -1;
/// `BLKIF_RSP_EOPNOTSUPP`
pub const BLKIF_RSP_EOPNOTSUPP: i16 = -2;

/// `BLKIF_MAX_SEGMENTS_PER_REQUEST`
pub const BLKIF_MAX_SEGMENTS_PER_REQUEST: usize = 11;
/// Bytes of a sector.
pub const SECTOR_BYTES: u64 = 512;
/// Sectors of a page.
pub const SECTORS_PER_PAGE: u8 = 8;

/// `VDISK_CDROM`, a bit of [`INFO`].
pub const VDISK_CDROM: u32 = 1;
/// `VDISK_REMOVABLE`
pub const VDISK_REMOVABLE: u32 = 2;
/// `VDISK_READONLY`
pub const VDISK_READONLY: u32 = 4;

/// Backend: how many sectors.
pub const SECTORS: &str = "sectors";
/// Backend: bytes that a request is a multiple of.
pub const SECTOR_SIZE: &str = "sector-size";
/// Backend: bytes that the medium is written by.
pub const PHYSICAL_SECTOR_SIZE: &str = "physical-sector-size";
/// Backend: `VDISK_*`.
pub const INFO: &str = "info";
/// Backend: it can flush.
pub const FEATURE_FLUSH_CACHE: &str = "feature-flush-cache";
/// Backend: it knows barriers.
pub const FEATURE_BARRIER: &str = "feature-barrier";
/// Backend: it can discard.
pub const FEATURE_DISCARD: &str = "feature-discard";
/// Both: grants stay mapped.
pub const FEATURE_PERSISTENT: &str = "feature-persistent";
/// Backend: segments of an indirect request.
pub const FEATURE_MAX_INDIRECT_SEGMENTS: &str = "feature-max-indirect-segments";
/// Backend: log2 of the pages of the largest ring.
pub const MAX_RING_PAGE_ORDER: &str = "max-ring-page-order";
/// Frontend: the ring's grant; of a ring of several pages those of `ring-ref0`
/// and so on.
pub const RING_REF: &str = "ring-ref";
/// Frontend: log2 of the pages of its ring, if it has several.
pub const RING_PAGE_ORDER: &str = "ring-page-order";
/// Frontend: its port.
pub const EVENT_CHANNEL: &str = "event-channel";
/// Frontend: how it lays out requests.
pub const PROTOCOL: &str = "protocol";
/// `XEN_IO_PROTO_ABI_X86_64` (`public/io/protocols.h`)
pub const PROTOCOL_X86_64: &str = "x86_64-abi";

/// `struct blkif_request_segment`
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BlkifSegment {
    /// The page's grant.
    pub gref: u32,
    /// First sector in the page.
    pub first_sect: u8,
    /// Last sector in the page, inclusive.
    pub last_sect: u8,
    /// Padding.
    pub pad: u16,
}

/// `struct blkif_request`
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BlkifRequest {
    /// `BLKIF_OP_*`
    pub operation: u8,
    /// Segments in use.
    pub nr_segments: u8,
    /// The device's number, low half.
    pub handle: u16,
    /// Padding.
    pub pad: u32,
    /// The response has it too.
    pub id: u64,
    /// First sector on the device.
    pub sector_number: u64,
    /// The pages.
    pub seg: [BlkifSegment; BLKIF_MAX_SEGMENTS_PER_REQUEST],
}

/// `BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST`
pub const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST: usize = 8;
/// Segments in a page of them.
pub const SEGMENTS_PER_INDIRECT_PAGE: u32 = 512;

/// `struct blkif_request_indirect`: the segments are in pages of their own.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BlkifRequestIndirect {
    /// [`BLKIF_OP_INDIRECT`]
    pub operation: u8,
    /// What is to be done: read or write.
    pub indirect_op: u8,
    /// Segments in use.
    pub nr_segments: u16,
    /// Padding.
    pub pad: u32,
    /// The response has it too.
    pub id: u64,
    /// First sector on the device.
    pub sector_number: u64,
    /// The device's number, low half.
    pub handle: u16,
    /// Padding.
    pub pad1: u16,
    /// The grants of the pages with the segments.
    pub indirect_grefs: [u32; BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST],
    /// Padding.
    pub pad2: u32,
}

/// `struct blkif_response`
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BlkifResponse {
    /// The request's.
    pub id: u64,
    /// The request's.
    pub operation: u8,
    /// Padding.
    pub pad: u8,
    /// `BLKIF_RSP_*`
    pub status: i16,
    /// Padding.
    pub pad1: u32,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<BlkifSegment>() == 8);
    assert!(offset_of!(BlkifSegment, last_sect) == 5);
    assert!(size_of::<BlkifRequest>() == 112);
    assert!(offset_of!(BlkifRequest, id) == 8);
    assert!(offset_of!(BlkifRequest, sector_number) == 16);
    assert!(offset_of!(BlkifRequest, seg) == 24);
    assert!(size_of::<BlkifRequestIndirect>() == 64);
    assert!(offset_of!(BlkifRequestIndirect, id) == 8);
    assert!(offset_of!(BlkifRequestIndirect, handle) == 24);
    assert!(offset_of!(BlkifRequestIndirect, indirect_grefs) == 28);
    assert!(4096 / size_of::<BlkifSegment>() == 512);
    assert!(size_of::<BlkifResponse>() == 16);
    assert!(offset_of!(BlkifResponse, status) == 10);
};
