//! The whole machine: frames, their bytes, domains.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use kexen_abi::errno::Errno;
use kexen_guest::Defence;

use crate::frame::{DomId, Frame, XEN_FRAME};
use crate::hash::Multiply;
use crate::layout::TypeLayout;
use crate::{domain, events, grants, physmap, pirqs, vcpus};

/// The release of Xen whose rules hold where releases differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 4.17
    Xen4_17,
    /// 4.20
    #[default]
    Xen4_20,
}

/// What a domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Paravirtualised: its page tables are Xen's business.
    Pv,
    /// PVH: translated, no device model.
    Pvh,
    /// HVM: translated, with a device model and emulated devices.
    Hvm,
}

impl Kind {
    /// Whether the guest's frame numbers go through a physmap of Xen's.
    #[must_use]
    pub const fn translated(self) -> bool {
        !matches!(self, Self::Pv)
    }
}

/// Which vCPU of which domain acts: indices, not numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) domain: usize,
    pub(crate) vcpu: usize,
}

/// A cached translation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cached {
    /// PV: a frame. HVM, PVH: a gfn.
    pub(crate) frame: u64,
    pub(crate) writable: bool,
}

pub(crate) type Tlb = HashMap<u64, Cached, BuildHasherDefault<Multiply>>;

/// A page fault that a guest took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The linear address.
    pub address: u64,
    /// Bit 0: the page was present; bit 1: a write. As Xen prints it for a
    /// guest kernel, without the user bit.
    pub error_code: u32,
    /// The L1 entry that memory has for the address now, if any: with a
    /// stale TLB it may well allow the access.
    pub entry: Option<u64>,
}

/// One virtual processor.
#[derive(Debug, Default)]
pub(crate) struct VcpuState {
    pub(crate) up: bool,
    pub(crate) initialised: bool,
    /// PV: frame of the L4. HVM, PVH: gfn of the L4 while paging is on.
    pub(crate) base: Option<u64>,
    /// PV: frame of the user L4.
    pub(crate) user_base: u64,
    pub(crate) tlb: Tlb,
    /// Flush clock at this vCPU's last whole flush.
    pub(crate) last_flush: u64,
    /// Frames of the GDT, each with a segment-descriptor type.
    pub(crate) gdt: Vec<u64>,
    /// Address and entries of the LDT.
    pub(crate) ldt: (u64, u64),
    /// Its pages that were used, each with a segment-descriptor type.
    pub(crate) ldt_pages: Vec<u64>,
    pub(crate) last_fault: Option<PageFault>,
    /// vcpu_info, runstate and time areas, and what else belongs to it.
    pub(crate) areas: vcpus::Areas,
}

/// One domain.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) id: DomId,
    pub(crate) kind: Kind,
    pub(crate) tot_pages: u64,
    pub(crate) max_pages: u64,
    pub(crate) vcpus: Vec<VcpuState>,
    pub(crate) physmap: physmap::Physmap,
    /// Frame of the shared info page.
    pub(crate) shared_info: u64,
    pub(crate) grants: grants::GrantTable,
    pub(crate) events: events::EventChannels,
    pub(crate) pirqs: pirqs::Pirqs,
    pub(crate) life: domain::Life,
    /// Memory that is lent out through `Machine::lend`.
    pub(crate) lent: Vec<(u64, u64)>,
    /// PV start of day, for the check after a hand-off.
    pub(crate) start: Option<crate::pv::start::StartOfDay>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) version: Version,
    pub(crate) layout: TypeLayout,
    pub(crate) frames: Vec<Frame>,
    memory: Vec<Option<Box<[u8; 4096]>>>,
    pub(crate) free: Vec<u64>,
    pub(crate) domains: Vec<Domain>,
    pub(crate) numbers: BTreeMap<DomId, usize>,
    /// `tlbflush_clock`
    pub(crate) flush_clock: u64,
    /// System time in nanoseconds; moves by one with each look at it.
    pub(crate) time: u64,
    /// What a debug build of Xen would have printed.
    pub(crate) log: Vec<String>,
    pub(crate) log_limit: usize,
    /// Hypercalls carried out, by number.
    pub(crate) calls: HashMap<u32, u64>,
    /// Kexen's extension of the interface: revocation of grants.
    pub(crate) revocation: bool,
    /// Defences that guests' code leaves out.
    pub(crate) omitted: BTreeSet<Defence>,
}

impl State {
    pub(crate) fn new(version: Version, layout: TypeLayout, frames: u64, revocation: bool) -> Self {
        let count = usize::try_from(frames).unwrap_or(0);
        Self {
            version,
            layout,
            frames: vec![Frame::FREE; count],
            memory: (0..count).map(|_| None).collect(),
            // Frame 0 is never given out: 0 means "none" in several calls.
            free: (XEN_FRAME + 1..frames).rev().collect(),
            domains: Vec::new(),
            numbers: BTreeMap::new(),
            flush_clock: 1,
            time: 1_000_000,
            log: Vec::new(),
            log_limit: 4096,
            calls: HashMap::new(),
            revocation,
            omitted: BTreeSet::new(),
        }
    }

    /// Adds a line to what Xen says.
    pub(crate) fn say(&mut self, line: String) {
        if self.log.len() < self.log_limit {
            self.log.push(line);
        }
    }

    pub(crate) fn domain(&mut self, who: Who) -> &mut Domain {
        &mut self.domains[who.domain]
    }

    pub(crate) fn id(&self, who: Who) -> DomId {
        self.domains[who.domain].id
    }

    pub(crate) fn vcpu(&mut self, who: Who) -> &mut VcpuState {
        &mut self.domains[who.domain].vcpus[who.vcpu]
    }

    /// Where the domain of a number is.
    pub(crate) fn index_of(&self, id: DomId) -> Option<usize> {
        // Few domains: a look at the likely place first.
        self.numbers.get(&id).copied()
    }

    /// The domain that a hypercall's domid means: itself for `DOMID_SELF`
    /// and for its own number.
    pub(crate) fn resolve(&self, who: Who, id: DomId) -> Result<usize, Errno> {
        if id == kexen_abi::DOMID_SELF {
            return Ok(who.domain);
        }
        self.index_of(id).ok_or(Errno::ESRCH)
    }

    /// A frame's bytes, to read.
    pub(crate) fn bytes(&self, mfn: u64) -> &[u8; 4096] {
        static ZERO: [u8; 4096] = [0; 4096];
        let index = usize::try_from(mfn).unwrap_or(usize::MAX);
        self.memory
            .get(index)
            .and_then(|page| page.as_deref())
            .unwrap_or(&ZERO)
    }

    /// A frame's bytes, to write.
    pub(crate) fn bytes_mut(&mut self, mfn: u64) -> &mut [u8; 4096] {
        let index = usize::try_from(mfn).unwrap_or(usize::MAX);
        self.memory[index].get_or_insert_with(|| Box::new([0; 4096]))
    }

    /// A 64-bit word of a frame; `offset` is 8-aligned, below 4096.
    pub(crate) fn word(&self, mfn: u64, offset: u64) -> u64 {
        let at = usize::try_from(offset & 0xff8).unwrap_or(0);
        let mut word = [0; 8];
        word.copy_from_slice(&self.bytes(mfn)[at..at + 8]);
        u64::from_le_bytes(word)
    }

    /// Writes a 64-bit word of a frame.
    pub(crate) fn set_word(&mut self, mfn: u64, offset: u64, value: u64) {
        let at = usize::try_from(offset & 0xff8).unwrap_or(0);
        self.bytes_mut(mfn)[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}
