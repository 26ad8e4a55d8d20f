//! One step of a case. All operands are slot numbers or small choices.

/// What an entry or argument refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The frame of a page slot.
    Slot(u8),
    /// The region's own L1 table.
    RegionL1,
    /// The region's own L2 table.
    RegionL2,
    /// The region's own L3 table.
    RegionL3,
    /// The page directory.
    Root,
    /// The shared info page.
    SharedInfo,
    /// A frame number beyond all memory.
    NoFrame,
    /// Frame 0.
    Zero,
}

impl Target {
    /// The same, but no frame where the bytes are not the same everywhere: the
    /// page directory has the program's own entries, and shared info moves by
    /// itself (cleared, it would have Xen deliver events to a kernel that has
    /// no handler, by `evtchn_upcall_mask`).
    #[must_use]
    pub const fn with_equal_bytes(self) -> Self {
        match self {
            Self::SharedInfo | Self::Root => Self::NoFrame,
            other => other,
        }
    }
}

/// A table to write an entry of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Entries of the slots' own addresses.
    RegionL1,
    /// Entries above that are the case's to use.
    RegionL2,
    /// The same, one level up.
    RegionL3,
    /// Unused entries of the page directory.
    Root,
    /// A page slot: whatever type it has.
    Slot(u8),
}

/// One page-table update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// `ptr[1:0]`
    pub command: u8,
    /// Which table.
    pub table: Table,
    /// Which entry, 0 to 7.
    pub index: u8,
    /// The entry's frame.
    pub target: Target,
    /// The entry's bits.
    pub flags: u16,
    /// No-execute.
    pub nx: bool,
}

/// One extended operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// `MMUEXT_*`
    pub command: u8,
    /// `arg1` as a frame.
    pub target: Target,
    /// `arg2` as a frame, or as a small number.
    pub second: Target,
    /// `arg1` as an address in the region, or a count.
    pub small: u8,
}

/// How a grant entry is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which reference (offset from the first that is free).
    pub grant: u8,
    /// `GTF_*`
    pub flags: u16,
    /// To the guest itself, or to a domain that does not exist.
    pub to_self: bool,
    /// Which page.
    pub target: Target,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// `mmu_update`; the second number is the foreign-domain argument.
    MmuUpdate(alloc::vec::Vec<Update>, u32),
    /// `update_va_mapping`
    VaMapping {
        /// Entry of the region.
        index: u8,
        /// The frame.
        target: Target,
        /// The bits.
        flags: u16,
        /// `UVMF_*`
        flush: u8,
    },
    /// `mmuext_op`
    Extended(alloc::vec::Vec<Extended>, u32),
    /// `set_gdt`
    SetGdt {
        /// Frames.
        targets: alloc::vec::Vec<Target>,
        /// Entries.
        entries: u16,
    },
    /// `update_descriptor`
    Descriptor {
        /// The page.
        target: Target,
        /// Which descriptor of it.
        index: u8,
        /// The descriptor.
        value: u64,
    },
    /// `XENMEM_decrease_reservation` or `populate_physmap` of a balloon slot.
    Reservation {
        /// The call.
        populate: bool,
        /// Which balloon slot.
        slot: u8,
        /// Order of the extent.
        order: u8,
        /// `XENMEMF_*`
        flags: u32,
    },
    /// `XENMEM_exchange` of two balloon slots.
    Exchange {
        /// First slot.
        slot: u8,
        /// How many.
        count: u8,
    },
    /// A question to `memory_op` by number.
    MemoryQuestion(u8),
    /// PVH: `add_to_physmap`.
    AddToPhysmap {
        /// `XENMAPSPACE_*`
        space: u8,
        /// Index into the space: a slot for gmfn.
        index: u8,
        /// Which hole slot it goes to.
        hole: u8,
        /// To a page slot instead.
        over_ram: bool,
    },
    /// PVH: `remove_from_physmap` of a hole slot.
    RemoveFromPhysmap(u8),
    /// Writes a grant entry.
    GrantEntry(Entry),
    /// `GNTTABOP_map_grant_ref`
    Map {
        /// Which reference.
        grant: u8,
        /// Which place of the case's own for mappings.
        place: u8,
        /// `GNTMAP_*`
        flags: u8,
        /// From itself, or from a domain that does not exist.
        of_self: bool,
    },
    /// `GNTTABOP_unmap_grant_ref` of what is at a place.
    Unmap {
        /// Which place.
        place: u8,
        /// With this handle instead of the right one.
        wrong_handle: bool,
        /// With the address of the next place.
        wrong_place: bool,
    },
    /// `GNTTABOP_copy`
    Copy {
        /// Source: reference or page.
        from_grant: bool,
        /// Which.
        from: u8,
        /// Destination: reference or page.
        to_grant: bool,
        /// Which.
        to: u8,
        /// Offsets and bytes.
        span: (u16, u16, u16),
    },
    /// `GNTTABOP_get_version`, `query_size`, or `set_version`.
    GrantQuestion(u8),
    /// `EVTCHNOP_alloc_unbound`
    AllocUnbound {
        /// `DOMID_SELF`, its own number, or nobody's.
        domain: u8,
        /// The same for the other side.
        remote: u8,
    },
    /// `EVTCHNOP_bind_interdomain`
    BindInterdomain {
        /// As above.
        remote: u8,
        /// Which port slot.
        port: u8,
    },
    /// `EVTCHNOP_bind_virq`
    BindVirq {
        /// Which.
        virq: u8,
        /// On which vCPU.
        vcpu: u8,
    },
    /// `EVTCHNOP_bind_ipi`
    BindIpi(u8),
    /// `EVTCHNOP_close`, `send`, `status`, `unmask` of a port slot.
    Port {
        /// `EVTCHNOP_*`
        command: u8,
        /// Which port slot.
        port: u8,
    },
    /// `EVTCHNOP_bind_vcpu`
    BindVcpu {
        /// Which port slot.
        port: u8,
        /// To which vCPU.
        vcpu: u8,
    },
    /// Masks a port in shared info, or not.
    Mask {
        /// Which port slot.
        port: u8,
        /// Masked.
        on: bool,
    },
    /// `VCPUOP_*` that only ask, or fail.
    Vcpu {
        /// Which.
        command: u8,
        /// Of which vCPU.
        vcpu: u8,
    },
}
