//! The physmap: which frame a translated guest's page number leads to, and
//! the memory operations of both kinds of guest.

use std::collections::BTreeMap;

use kexen_abi::errno::Errno;

use crate::call::{Answer, Call};
use crate::frame::DomId;
use crate::state::State;

/// What a page number of a translated guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A frame of the domain's own: RAM, shared info, a grant frame.
    Ram(u64),
    /// Populated on demand: no frame yet.
    OnDemand,
    /// A granted frame of another domain, by `GNTTABOP_map_grant_ref`.
    Grant {
        /// The frame.
        mfn: u64,
        /// Whether it may be written.
        writable: bool,
    },
    /// A foreign frame, by `XENMAPSPACE_gmfn_foreign`.
    Foreign {
        /// Whose it is.
        owner: DomId,
        /// The frame.
        mfn: u64,
    },
}

/// Page numbers that lead somewhere; empty for a PV guest.
#[derive(Debug, Default)]
pub(crate) struct Physmap {
    pub(crate) entries: BTreeMap<u64, Entry>,
    /// The memory map that the toolstack set: (address, bytes, type).
    pub(crate) memory_map: Vec<(u64, u64, u32)>,
}

impl State {
    /// The frame behind a page number of a translated guest, if any.
    pub(crate) fn populated(&mut self, domain: usize, gfn: u64) -> Option<u64> {
        match self.domains[domain].physmap.entries.get(&gfn).copied()? {
            Entry::Ram(mfn) | Entry::Grant { mfn, .. } | Entry::Foreign { mfn, .. } => Some(mfn),
            Entry::OnDemand => self.populate_on_demand(domain, gfn),
        }
    }

    /// The frame that a domain's own number means in a hypercall: the frame
    /// itself for PV, through the physmap otherwise (`get_gfn`).
    pub(crate) fn frame_of_gfn(&mut self, domain: usize, gfn: u64) -> Option<u64> {
        if self.domains[domain].kind.translated() {
            self.populated(domain, gfn)
        } else {
            self.frame(gfn).map(|_| gfn)
        }
    }

    fn populate_on_demand(&mut self, domain: usize, gfn: u64) -> Option<u64> {
        let id = self.domains[domain].id;
        let mfn = self.allocate(id)?;
        self.at(mfn).m2p = gfn;
        self.domains[domain]
            .physmap
            .entries
            .insert(gfn, Entry::Ram(mfn));
        Some(mfn)
    }
}

/// `HYPERVISOR_memory_op`.
pub(crate) fn memory_op(_call: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::ENOSYS)
}
