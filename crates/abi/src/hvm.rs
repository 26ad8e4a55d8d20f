//! HVM and PVH: parameters (`public/hvm/params.h`, `public/hvm/hvm_op.h`)
//! and the PVH start structure (`public/arch-x86/hvm/start_info.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `HVMOP_set_param`
pub const HVMOP_SET_PARAM: u64 = 0;
/// `HVMOP_set_evtchn_upcall_vector`
pub const HVMOP_SET_EVTCHN_UPCALL_VECTOR: u64 = 23;
/// `HVMOP_flush_tlbs`
pub const HVMOP_FLUSH_TLBS: u64 = 5;
/// `HVMOP_pagetable_dying`
pub const HVMOP_PAGETABLE_DYING: u64 = 9;
/// `HVMOP_get_time`
pub const HVMOP_GET_TIME: u64 = 10;
/// `HVMOP_guest_request_vm_event`
pub const HVMOP_GUEST_REQUEST_VM_EVENT: u64 = 24;
/// `HVM_PARAM_VM86_TSS`
pub const HVM_PARAM_VM86_TSS: u32 = 15;
/// `HVM_PARAM_ACPI_IOPORTS_LOCATION`
pub const HVM_PARAM_ACPI_IOPORTS_LOCATION: u32 = 19;
/// `HVM_PARAM_VM_GENERATION_ID_ADDR`
pub const HVM_PARAM_VM_GENERATION_ID_ADDR: u32 = 34;
/// `HVM_PARAM_ALTP2M`
pub const HVM_PARAM_ALTP2M: u32 = 35;
/// `HVM_PARAM_X87_FIP_WIDTH`
pub const HVM_PARAM_X87_FIP_WIDTH: u32 = 36;
/// `HVM_PARAM_VM86_TSS_SIZED`
pub const HVM_PARAM_VM86_TSS_SIZED: u32 = 37;
/// `HVM_NR_PARAMS`
pub const HVM_NR_PARAMS: u32 = 39;
/// `HVM_PARAM_CALLBACK_IRQ`
pub const HVM_PARAM_CALLBACK_IRQ: u32 = 0;
/// `HVMOP_get_param`
pub const HVMOP_GET_PARAM: u64 = 1;
/// `HVM_PARAM_STORE_PFN`
pub const HVM_PARAM_STORE_PFN: u32 = 1;
/// `HVM_PARAM_STORE_EVTCHN`
pub const HVM_PARAM_STORE_EVTCHN: u32 = 2;
/// `HVM_PARAM_CONSOLE_PFN`
pub const HVM_PARAM_CONSOLE_PFN: u32 = 17;
/// `HVM_PARAM_CONSOLE_EVTCHN`
pub const HVM_PARAM_CONSOLE_EVTCHN: u32 = 18;

/// `struct xen_hvm_param`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmParam {
    /// Which domain.
    pub domid: u16,
    /// Padding.
    pub pad: u16,
    /// `HVM_PARAM_*`
    pub index: u32,
    /// The value.
    pub value: u64,
}

/// `struct xen_hvm_evtchn_upcall_vector`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmEvtchnUpcallVector {
    /// Which vCPU.
    pub vcpu: u32,
    /// 0x10 or more.
    pub vector: u8,
    /// Padding.
    pub pad: [u8; 3],
}

/// `struct xen_hvm_pagetable_dying`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmPagetableDying {
    /// Which domain.
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
    /// Which tables.
    pub gpa: u64,
}

/// `XEN_HVM_START_MAGIC_VALUE`
pub const START_MAGIC: u32 = 0x336e_c578;

/// `struct hvm_start_info`; all addresses are guest-physical.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmStartInfo {
    /// [`START_MAGIC`]
    pub magic: u32,
    /// 0 or 1; the memory map is there from 1 on.
    pub version: u32,
    /// `SIF_*`
    pub flags: u32,
    /// Modules in the list.
    pub nr_modules: u32,
    /// Array of [`HvmModlistEntry`].
    pub modlist_paddr: u64,
    /// NUL-terminated command line.
    pub cmdline_paddr: u64,
    /// The ACPI root pointer.
    pub rsdp_paddr: u64,
    /// Array of [`HvmMemmapEntry`].
    pub memmap_paddr: u64,
    /// Entries in the map.
    pub memmap_entries: u32,
    /// Zero.
    pub reserved: u32,
}

/// `struct hvm_modlist_entry`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmModlistEntry {
    /// Where it is.
    pub paddr: u64,
    /// Bytes.
    pub size: u64,
    /// NUL-terminated text, or 0.
    pub cmdline_paddr: u64,
    /// Zero.
    pub reserved: u64,
}

/// `XEN_HVM_MEMMAP_TYPE_RAM`
pub const MEMMAP_TYPE_RAM: u32 = 1;

/// `struct hvm_memmap_table_entry`
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HvmMemmapEntry {
    /// First byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// `XEN_HVM_MEMMAP_TYPE_*`
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<HvmStartInfo>() == 56);
    assert!(size_of::<HvmModlistEntry>() == 32);
    assert!(size_of::<HvmMemmapEntry>() == 24);
    assert!(size_of::<HvmParam>() == 16);
};
