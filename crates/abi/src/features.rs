//! Feature bits and version queries (`public/features.h`, `public/version.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XENVER_version`: major in the high half, minor in the low half.
pub const XENVER_VERSION: u64 = 0;
/// `XENVER_get_features`
pub const XENVER_GET_FEATURES: u64 = 6;

/// `XENVER_extraversion`
pub const XENVER_EXTRAVERSION: u64 = 1;
/// `XENVER_compile_info`
pub const XENVER_COMPILE_INFO: u64 = 2;
/// `XENVER_capabilities`
pub const XENVER_CAPABILITIES: u64 = 3;
/// `XENVER_changeset`
pub const XENVER_CHANGESET: u64 = 4;
/// `XENVER_platform_parameters`
pub const XENVER_PLATFORM_PARAMETERS: u64 = 5;
/// `XENVER_pagesize`
pub const XENVER_PAGESIZE: u64 = 7;
/// `XENVER_guest_handle`
pub const XENVER_GUEST_HANDLE: u64 = 8;
/// `XENVER_commandline`
pub const XENVER_COMMANDLINE: u64 = 9;
/// `XENVER_build_id`
pub const XENVER_BUILD_ID: u64 = 10;
/// `XENVER_extraversion2`, since 4.18
pub const XENVER_EXTRAVERSION2: u64 = 11;
/// `XENVER_capabilities2`, since 4.18
pub const XENVER_CAPABILITIES2: u64 = 12;
/// `XENVER_changeset2`, since 4.18
pub const XENVER_CHANGESET2: u64 = 13;
/// `XENVER_commandline2`, since 4.18
pub const XENVER_COMMANDLINE2: u64 = 14;

/// `XENFEAT_writable_page_tables`
pub const XENFEAT_WRITABLE_PAGE_TABLES: u32 = 0;
/// `XENFEAT_auto_translated_physmap`
pub const XENFEAT_AUTO_TRANSLATED_PHYSMAP: u32 = 2;
/// `XENFEAT_pae_pgdir_above_4gb`
pub const XENFEAT_PAE_PGDIR_ABOVE_4GB: u32 = 4;
/// `XENFEAT_mmu_pt_update_preserve_ad`
pub const XENFEAT_MMU_PT_UPDATE_PRESERVE_AD: u32 = 5;
/// `XENFEAT_highmem_assist`
pub const XENFEAT_HIGHMEM_ASSIST: u32 = 6;
/// `XENFEAT_gnttab_map_avail_bits`
pub const XENFEAT_GNTTAB_MAP_AVAIL_BITS: u32 = 7;
/// `XENFEAT_hvm_callback_vector`
pub const XENFEAT_HVM_CALLBACK_VECTOR: u32 = 8;
/// `XENFEAT_hvm_safe_pvclock`
pub const XENFEAT_HVM_SAFE_PVCLOCK: u32 = 9;
/// `XENFEAT_hvm_pirqs`
pub const XENFEAT_HVM_PIRQS: u32 = 10;
/// `XENFEAT_memory_op_vnode_supported`
pub const XENFEAT_MEMORY_OP_VNODE_SUPPORTED: u32 = 13;
/// `XENFEAT_not_direct_mapped`
pub const XENFEAT_NOT_DIRECT_MAPPED: u32 = 16;
/// `XENFEAT_direct_mapped`
pub const XENFEAT_DIRECT_MAPPED: u32 = 17;
/// `XENFEAT_runstate_phys_area`
pub const XENFEAT_RUNSTATE_PHYS_AREA: u32 = 18;
/// `XENFEAT_vcpu_time_phys_area`
pub const XENFEAT_VCPU_TIME_PHYS_AREA: u32 = 19;
/// `XENFEAT_dm_msix_all_writes`
pub const XENFEAT_DM_MSIX_ALL_WRITES: u32 = 20;
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
