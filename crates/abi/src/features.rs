//! Feature bits and version queries (`public/features.h`, `public/version.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XENVER_version`: major in the high half, minor in the low half.
pub const XENVER_VERSION: u64 = 0;
/// `XENVER_get_features`
pub const XENVER_GET_FEATURES: u64 = 6;

/// `XENFEAT_dom0`
pub const XENFEAT_DOM0: u32 = 11;

/// `struct xen_feature_info`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct XenFeatureInfo {
    /// In: which 32 bits.
    pub submap_idx: u32,
    /// Out: the bits.
    pub submap: u32,
}
