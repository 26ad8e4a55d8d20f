//! Revocation of grants: an extension that *no Xen has*.
//!
//! Kexen's proposal, after the discussion of kexec for Xen guests on LKML
//! (2014): a domain that is about to boot another kernel takes back what a
//! backend keeps mapped, without the backend's help at that moment and
//! without a fault in it. Kexen's model of Xen carries it out, so that the
//! proposal can be explored; no released hypervisor knows these numbers
//! (each answers `-ENOSYS`), and nothing but the model uses them.
//!
//! Order: the backend maps with [`GNTTABOP_MAP_REVOCABLE`] and leaves one
//! frame of its own for each writable mapping. The granter calls
//! [`GNTTABOP_REVOKE`] on a reference. From then on each of its mappings
//! leads to the frame that was left for it, zeroed, and nobody but the
//! granter has the granter's frame; the mapping was there all the time. The
//! backend unmaps as always, with `GNTTABOP_unmap_grant_ref`, and has its
//! frame back.
//!
//! A writable mapping made with the plain `GNTTABOP_map_grant_ref`, and one
//! for devices, cannot be revoked: the call then does nothing and says
//! [`GNTST_NOT_REVOCABLE`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::grant_table::GnttabMapGrantRef;

/// Maps as `GNTTABOP_map_grant_ref` does, revocably. The number is far from
/// Xen's own (0 to 12) and within the 12 bits that Xen looks at.
pub const GNTTABOP_MAP_REVOCABLE: u64 = 0xf00;
/// Takes a reference of the caller's back.
pub const GNTTABOP_REVOKE: u64 = 0xf01;

/// A mapping of the reference cannot be revoked: nothing was done.
pub const GNTST_NOT_REVOCABLE: i16 = -256;

/// No stand-in: what a read-only mapping says.
pub const NO_STAND_IN: u64 = u64::MAX;

/// Argument of [`GNTTABOP_MAP_REVOCABLE`]. Statuses are those of
/// `GNTTABOP_map_grant_ref`; a stand-in that cannot be taken (not the
/// caller's RAM, in use as a table, or a stand-in already) is
/// `GNTST_bad_page`, as is one for a read-only mapping.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabMapRevocable {
    /// What is mapped where; for processors alone.
    pub map: GnttabMapGrantRef,
    /// The caller's number of the frame that will stand in, or
    /// [`NO_STAND_IN`].
    pub stand_in: u64,
}

/// Argument of [`GNTTABOP_REVOKE`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabRevoke {
    /// The reference: the caller's own.
    pub gref: u32,
    /// `GNTST_*`
    pub status: i16,
    /// Padding.
    pub pad: u16,
    /// Out: mappings that were replaced.
    pub replaced: u32,
}

const _: () = {
    assert!(size_of::<GnttabMapRevocable>() == 40);
    assert!(size_of::<GnttabRevoke>() == 12);
};
