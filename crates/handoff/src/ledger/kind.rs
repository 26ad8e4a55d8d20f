//! The kinds of claim: what each covers, whether its holder writes, and how
//! it is given up.

use super::Holder;

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shared info, mapped at this gfn of a PVH guest's physmap.
    SharedInfoPhysmap {
        /// Where it is.
        gfn: u64,
    },
    /// Shared info, mapped over RAM: its removal leaves a hole there.
    SharedInfoInRam {
        /// Where it is.
        gfn: u64,
    },
    /// Shared info, mapped at this virtual address of a PV guest.
    SharedInfoMapping {
        /// Where it is.
        address: u64,
    },
    /// A `vcpu_info` of a vCPU.
    VcpuInfo {
        /// The vCPU.
        vcpu: u32,
        /// Its page.
        page: u64,
    },
    /// A runstate area by virtual address.
    RunstateAddress {
        /// The vCPU.
        vcpu: u32,
        /// The address.
        address: u64,
    },
    /// A time area by virtual address.
    TimeAddress {
        /// The vCPU.
        vcpu: u32,
        /// The address.
        address: u64,
    },
    /// A runstate area by page.
    RunstatePage {
        /// The vCPU.
        vcpu: u32,
        /// The page.
        page: u64,
    },
    /// A time area by page.
    TimePage {
        /// The vCPU.
        vcpu: u32,
        /// The page.
        page: u64,
    },
    /// Control blocks and event array of the FIFO interface.
    EventFifo {
        /// How many pages.
        pages: u64,
    },
    /// A frame of the grant table, mapped at this gfn of a translated guest's
    /// physmap.
    GrantTable {
        /// Where it is.
        gfn: u64,
    },
    /// A grant of a page to another domain.
    Grant {
        /// The reference.
        reference: u32,
        /// The page.
        page: u64,
    },
    /// A grant or frame of another domain's, mapped by this guest.
    ForeignMapping {
        /// What it is mapped at: the mapping call's `host_addr`.
        address: u64,
        /// The handle that the mapping call gave.
        handle: u32,
    },
    /// An open event channel, but those of console and store.
    EventChannel {
        /// The port.
        port: u32,
    },
    /// A mapped PIRQ.
    Pirq {
        /// Its number.
        pirq: u32,
        /// The port that it is bound to.
        port: Option<u32>,
    },
    /// A callback or upcall vector of a PVH guest.
    UpcallVector {
        /// The vector.
        vector: u8,
    },
    /// The callback vector of an HVM guest, which can be unset.
    Callback {
        /// The vector.
        vector: u8,
    },
    /// Trap table and callbacks of a PV guest.
    Upcalls,
    /// A page table that Xen holds validated: pinned by this kernel for
    /// the next one.
    PinnedTables {
        /// The L4's frame.
        mfn: u64,
    },
    /// The tables that this kernel runs on: their frames are page tables
    /// until the base pointer has changed and they are unpinned.
    CurrentTables {
        /// The L4's frame.
        mfn: u64,
    },
    /// The user base pointer of a PV guest.
    UserTables {
        /// The L4's frame.
        mfn: u64,
    },
    /// Frames of a PV guest's GDT.
    Gdt {
        /// How many.
        frames: u64,
    },
    /// A PV guest's LDT.
    Ldt {
        /// Its address.
        address: u64,
    },
    /// A vCPU but the first that was brought up.
    Vcpu {
        /// Its number.
        vcpu: u32,
        /// Whether INIT can make it as new: in PVH and HVM guests.
        by_init: bool,
    },
    /// A page that was ballooned out: a hole where the memory map says RAM.
    Hole {
        /// The page.
        page: u64,
    },
    /// A device whose backend is connected.
    Device {
        /// The kind's name in xenstore, such as `vbd`.
        class: &'static str,
        /// Its number.
        number: u32,
    },
    /// M2P entries that are out of step with this kernel's p2m list.
    Exchange {
        /// How many.
        pages: u64,
    },
}

impl Kind {
    /// Whether the holder may write what it covers.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(
            self,
            Self::SharedInfoPhysmap { .. }
                | Self::SharedInfoInRam { .. }
                | Self::SharedInfoMapping { .. }
                | Self::VcpuInfo { .. }
                | Self::RunstateAddress { .. }
                | Self::TimeAddress { .. }
                | Self::RunstatePage { .. }
                | Self::TimePage { .. }
                | Self::EventFifo { .. }
                | Self::GrantTable { .. }
                | Self::Grant { .. }
                | Self::Device { .. }
        )
    }

    /// Whether nothing that a guest can do gives it up.
    #[must_use]
    pub const fn hopeless(self) -> bool {
        matches!(
            self,
            Self::VcpuInfo { .. }
                | Self::EventFifo { .. }
                | Self::UpcallVector { .. }
                | Self::Vcpu { by_init: false, .. }
        )
    }

    /// Whether a soft reset, which a toolstack does for HVM guests, undoes it
    /// (`domain_soft_reset`, `arch_domain_soft_reset`). Grants and mappings of
    /// other domains' are not among what it does.
    #[must_use]
    pub const fn soft_reset_undoes(self) -> bool {
        matches!(
            self,
            Self::VcpuInfo { .. }
                | Self::EventFifo { .. }
                | Self::UpcallVector { .. }
                | Self::Callback { .. }
                | Self::RunstateAddress { .. }
                | Self::TimeAddress { .. }
                | Self::RunstatePage { .. }
                | Self::TimePage { .. }
                | Self::EventChannel { .. }
                | Self::Pirq { .. }
        )
    }

    /// How it is given up, or what to do where it cannot be.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::SharedInfoPhysmap { .. } | Self::GrantTable { .. } => {
                "XENMEM_remove_from_physmap"
            }
            Self::SharedInfoInRam { .. } => {
                "XENMEM_remove_from_physmap, then XENMEM_populate_physmap"
            }
            Self::SharedInfoMapping { .. } => "unmap it",
            Self::VcpuInfo { .. } => {
                "nothing gives it back but a soft reset (HVM) or a new domain; \
                 do not register it before a hand-off"
            }
            Self::RunstateAddress { .. } => "VCPUOP_register_runstate_memory_area of 0",
            Self::TimeAddress { .. } => "VCPUOP_register_vcpu_time_memory_area of 0",
            Self::RunstatePage { .. } => "VCPUOP_register_runstate_phys_area of ~0",
            Self::TimePage { .. } => "VCPUOP_register_vcpu_time_phys_area of ~0",
            Self::EventFifo { .. } => {
                "only EVTCHNOP_reset, which closes console and store as well; \
                 use the 2-level interface before a hand-off"
            }
            Self::Grant { .. } => "have the backend unmap it, or abandon its page",
            Self::ForeignMapping { .. } => "GNTTABOP_unmap_grant_ref",
            Self::EventChannel { .. } => "EVTCHNOP_close",
            Self::Pirq { .. } => "EVTCHNOP_close, then PHYSDEVOP_unmap_pirq",
            Self::UpcallVector { .. } => {
                "it can be changed, never unset; do not set it before a hand-off"
            }
            Self::Callback { .. } => "HVM_PARAM_CALLBACK_IRQ of 0",
            Self::Upcalls => "HYPERVISOR_set_trap_table and set_callbacks of 0",
            Self::PinnedTables { .. } => "MMUEXT_UNPIN_TABLE",
            Self::CurrentTables { .. } => "a new base pointer, then MMUEXT_UNPIN_TABLE",
            Self::UserTables { .. } => "MMUEXT_NEW_USER_BASEPTR of 0",
            Self::Gdt { .. } => "HYPERVISOR_set_gdt of 0 entries",
            Self::Ldt { .. } => "MMUEXT_SET_LDT of 0 entries",
            Self::Vcpu { by_init: true, .. } => "VCPUOP_down, then INIT",
            Self::Vcpu { by_init: false, .. } => {
                "its context cannot be replaced; hand off from one vCPU that was never joined"
            }
            Self::Hole { .. } => "XENMEM_populate_physmap; raise the domain's memory if it fails",
            Self::Device { .. } => "close the frontend, and wait for the backend",
            Self::Exchange { .. } => "bring M2P in step",
        }
    }
}

impl core::fmt::Display for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::SharedInfoPhysmap { gfn } => write!(f, "shared info at gfn {gfn:#x}"),
            Self::SharedInfoInRam { gfn } => write!(f, "shared info over RAM at gfn {gfn:#x}"),
            Self::SharedInfoMapping { address } => {
                write!(f, "shared info, mapped at {address:#x}")
            }
            Self::VcpuInfo { vcpu, page } => write!(f, "vcpu_info of vCPU {vcpu}, page {page:#x}"),
            Self::RunstateAddress { vcpu, address } => {
                write!(f, "runstate of vCPU {vcpu} to address {address:#x}")
            }
            Self::TimeAddress { vcpu, address } => {
                write!(f, "time of vCPU {vcpu} to address {address:#x}")
            }
            Self::RunstatePage { vcpu, page } => {
                write!(f, "runstate of vCPU {vcpu}, page {page:#x}")
            }
            Self::TimePage { vcpu, page } => write!(f, "time of vCPU {vcpu}, page {page:#x}"),
            Self::EventFifo { pages } => write!(f, "{pages} pages of the event FIFO"),
            Self::GrantTable { gfn } => write!(f, "the grant table at gfn {gfn:#x}"),
            Self::Grant { reference, page } => write!(f, "grant {reference}, page {page:#x}"),
            Self::ForeignMapping { address, handle } => {
                write!(f, "a mapping of ours at {address:#x}, handle {handle}")
            }
            Self::EventChannel { port } => write!(f, "event channel port {port}"),
            Self::Pirq { pirq, port: None } => write!(f, "PIRQ {pirq}"),
            Self::Pirq {
                pirq,
                port: Some(port),
            } => write!(f, "PIRQ {pirq}, bound to port {port}"),
            Self::UpcallVector { vector } => write!(f, "event upcalls by vector {vector:#x}"),
            Self::Callback { vector } => write!(f, "event upcalls by callback vector {vector:#x}"),
            Self::Upcalls => f.write_str("trap table and callbacks"),
            Self::PinnedTables { mfn } => write!(f, "pinned page tables, L4 frame {mfn:#x}"),
            Self::CurrentTables { mfn } => write!(f, "current page tables, L4 frame {mfn:#x}"),
            Self::UserTables { mfn } => write!(f, "the user base pointer, L4 frame {mfn:#x}"),
            Self::Gdt { frames } => write!(f, "{frames} frames of the GDT"),
            Self::Ldt { address } => write!(f, "the LDT at {address:#x}"),
            Self::Vcpu { vcpu, .. } => write!(f, "vCPU {vcpu}, which was brought up"),
            Self::Hole { page } => write!(f, "a hole at page {page:#x}"),
            Self::Device { class, number } => write!(f, "device {class}/{number}, connected"),
            Self::Exchange { pages } => write!(f, "{pages} exchanged p2m entries"),
        }
    }
}

impl super::Claim {
    /// The claim of a kind, held by somebody.
    #[must_use]
    pub const fn of(kind: Kind, holder: Holder) -> Self {
        Self {
            kind,
            holder,
            writes: kind.writes(),
            remedy: kind.remedy(),
        }
    }
}
