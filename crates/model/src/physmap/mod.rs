//! The physmap: which frame a translated guest's page number leads to.
//!
//! Rules: `p2m_add_page`, `p2m_remove_entry`, `guest_physmap_*` in Xen's
//! `arch/x86/mm/p2m.c` and `arch/x86/mm/physmap.c`; `guest_remove_page` in
//! `common/memory.c`. The hypercalls on it are in [`memory_op`], pages
//! without a frame in [`on_demand`].

pub(crate) mod map;
pub(crate) mod memory_op;
pub(crate) mod on_demand;
pub(crate) mod reservation;

use std::collections::BTreeMap;

use kexen_abi::errno::Errno;

use crate::frame::{DomId, INVALID_M2P};
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
    /// Frames that are put behind pages on demand; the last one first.
    pub(crate) cache: Vec<u64>,
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

    /// Puts a frame of the domain's own at a page number
    /// (`guest_physmap_add_page`).
    pub(crate) fn physmap_add(&mut self, domain: usize, gfn: u64, mfn: u64) -> Result<(), Errno> {
        if !self.domains[domain].kind.translated() {
            self.at(mfn).m2p = gfn;
            return Ok(());
        }
        match self.domains[domain].physmap.entries.get(&gfn).copied() {
            Some(Entry::Grant { .. } | Entry::Foreign { .. }) => {
                let id = self.domains[domain].id;
                self.crash(domain, format!("d{id}: GFN {gfn:#x} not permitted"));
                return Err(Errno::EPERM);
            }
            Some(Entry::Ram(old)) => self.at(old).m2p = INVALID_M2P,
            Some(Entry::OnDemand) | None => {}
        }
        let elsewhere = self.at(mfn).m2p;
        if elsewhere != INVALID_M2P && elsewhere != gfn {
            let entries = &mut self.domains[domain].physmap.entries;
            if entries.get(&elsewhere) == Some(&Entry::Ram(mfn)) {
                entries.remove(&elsewhere);
            }
        }
        self.domains[domain]
            .physmap
            .entries
            .insert(gfn, Entry::Ram(mfn));
        self.at(mfn).m2p = gfn;
        Ok(())
    }

    /// Takes a page number out of the physmap of a translated guest; a hole
    /// stays (`p2m_remove_entry`). What the entry was comes back.
    pub(crate) fn physmap_remove(&mut self, domain: usize, gfn: u64) -> Option<Entry> {
        let entry = self.domains[domain].physmap.entries.remove(&gfn)?;
        match entry {
            Entry::Ram(mfn) => self.at(mfn).m2p = INVALID_M2P,
            Entry::Foreign { mfn, .. } => self.put_page(mfn),
            Entry::OnDemand | Entry::Grant { .. } => {}
        }
        Some(entry)
    }

    /// Gives a page of the domain back (`guest_remove_page`): it leaves the
    /// physmap, and the allocation's reference goes. Who else holds the
    /// frame keeps it.
    pub(crate) fn remove_guest_page(&mut self, domain: usize, gfn: u64) -> Result<(), Errno> {
        let id = self.domains[domain].id;
        let translated = self.domains[domain].kind.translated();
        let mfn = if translated {
            match self.domains[domain].physmap.entries.get(&gfn).copied() {
                None => return Err(Errno::ENOENT),
                Some(Entry::OnDemand) => {
                    self.domains[domain].physmap.entries.remove(&gfn);
                    return Ok(());
                }
                Some(Entry::Ram(mfn) | Entry::Grant { mfn, .. } | Entry::Foreign { mfn, .. }) => {
                    mfn
                }
            }
        } else {
            gfn
        };
        if self.frame(mfn).is_none() {
            self.say(format!("Domain {id} page number {gfn:x} invalid"));
            return Err(Errno::EINVAL);
        }
        if !self.get_page(mfn, id) {
            self.say(format!("Bad page free for Dom{id} GFN {gfn:x}"));
            return Err(Errno::ENXIO);
        }
        if translated {
            self.physmap_remove(domain, gfn);
        }
        self.put_allocation(mfn);
        self.put_page(mfn);
        Ok(())
    }

    /// `domain_crash`
    pub(crate) fn crash(&mut self, domain: usize, why: String) {
        self.say(why.clone());
        let id = self.domains[domain].id;
        self.say(format!("Domain {id} crashed"));
        self.domains[domain].life.crashed.get_or_insert(why);
    }
}

impl crate::xen::Guest {
    /// A toolstack or device model maps another domain's page at a page
    /// number of this one (`XENMAPSPACE_gmfn_foreign`, `p2m_add_foreign`).
    ///
    /// # Errors
    /// `EINVAL` where the other domain has no page there.
    pub fn map_foreign(&self, of: &Self, theirs: u64, at: u64) -> Result<(), Errno> {
        self.xen().step();
        let mut state = self.xen().state();
        let mfn = state
            .frame_of_gfn(of.index(), theirs)
            .ok_or(Errno::EINVAL)?;
        if !state.get_page(mfn, of.id()) {
            return Err(Errno::EINVAL);
        }
        let owner = of.id();
        let entries = &mut state.domains[self.index()].physmap.entries;
        entries.insert(at, Entry::Foreign { owner, mfn });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kexen_abi::PAGE_SIZE;
    use kexen_guest::{Machine, hypercall};

    use crate::check::NewKernel;
    use crate::{Build, Kind, Xen};

    fn guest(xen: &Xen, id: u16) -> crate::Guest {
        let build = Build {
            id,
            pages: 32,
            ..Build::default()
        };
        xen.domain(Kind::Pvh, build)
    }

    #[test]
    fn a_foreign_mapping_holds_the_others_frame_until_it_is_removed() {
        let xen = Xen::default();
        let (one, two) = (guest(&xen, 1), guest(&xen, 2));
        let new = NewKernel::Translated(vec![(0, 32)]);
        two.map_foreign(&one, 5, 0x100).unwrap();
        two.vcpu(0).write64(0x100 * PAGE_SIZE, 7).unwrap();
        assert_eq!(one.vcpu(0).read64(5 * PAGE_SIZE), Ok(7));
        let left = one.check(&new, &[]);
        assert!(
            left[0]
                .to_string()
                .contains("a foreign mapping of domain 2"),
            "{left:?}"
        );
        hypercall::remove_from_physmap(&two.vcpu(0), 0x100).unwrap();
        assert_eq!(one.check(&new, &[]), []);
        assert!(two.map_foreign(&one, 0x4000, 0x100).is_err());
    }
}
