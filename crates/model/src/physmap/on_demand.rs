//! Pages that get a frame when they are touched: populate on demand.
//!
//! Rules: Xen's `arch/x86/mm/p2m-pod.c`. The frames that a domain has beside
//! its pages are in a cache, and part of its reservation. Whatever looks a page
//! up touches it: a load and a store, a grant, a hypercall's argument. When the
//! cache is empty pages of zeroes that nobody else refers to go back to it
//! (`p2m_pod_emergency_sweep`); if there are none either, the domain is ended.
//! Xen may take such pages back sooner, and gives 2 MiB at a time while it has
//! them in one piece: how much of the cache is left says less than how many
//! pages hold something.

use std::ops::Range;

use super::Entry;
use crate::frame::INVALID_M2P;
use crate::state::State;

impl State {
    /// Pages that have been promised a frame (`pod.entry_count`).
    fn promised(&self, domain: usize) -> usize {
        let entries = self.domains[domain].physmap.entries.values();
        entries
            .filter(|entry| matches!(entry, Entry::OnDemand))
            .count()
    }

    /// A promised page is touched (`p2m_pod_demand_populate`).
    pub(super) fn populate_on_demand(&mut self, domain: usize, gfn: u64) -> Option<u64> {
        if self.domains[domain].physmap.cache.is_empty() {
            self.sweep(domain);
        }
        let id = self.domains[domain].id;
        let Some(mfn) = self.domains[domain].physmap.cache.pop() else {
            let (tot, promised) = (self.domains[domain].tot_pages, self.promised(domain));
            self.crash(
                domain,
                format!("Dom{id} out of PoD memory! (tot={tot} ents={promised} dom{id})"),
            );
            return None;
        };
        self.at(mfn).m2p = gfn;
        let entries = &mut self.domains[domain].physmap.entries;
        entries.insert(gfn, Entry::Ram(mfn));
        Some(mfn)
    }

    /// Takes every page of zeroes back that nobody else refers to.
    fn sweep(&mut self, domain: usize) {
        let entries = &self.domains[domain].physmap.entries;
        let zero = |mfn: u64| {
            let frame = self.frame(mfn);
            frame.is_some_and(|f| f.allocated && !f.special && f.refs == 1)
                && self.bytes(mfn).iter().all(|byte| *byte == 0)
        };
        let found: Vec<(u64, u64)> = entries
            .iter()
            .filter_map(|(gfn, entry)| match entry {
                Entry::Ram(mfn) if zero(*mfn) => Some((*gfn, *mfn)),
                _ => None,
            })
            .collect();
        for (gfn, mfn) in found {
            let entries = &mut self.domains[domain].physmap.entries;
            entries.insert(gfn, Entry::OnDemand);
            self.cache_frame(domain, mfn);
        }
    }

    /// `p2m_pod_cache_add`: whoever else refers to the frame goes on doing so.
    fn cache_frame(&mut self, domain: usize, mfn: u64) {
        self.at(mfn).m2p = INVALID_M2P;
        self.bytes_mut(mfn).fill(0);
        self.domains[domain].physmap.cache.push(mfn);
    }

    /// What `decrease_reservation` in `p2m-pod.c` does with a page before
    /// everybody else: a promise is dropped, and a frame goes to the cache while
    /// more are promised than are there. Whether it was done with that.
    pub(super) fn decrease_on_demand(&mut self, domain: usize, gfn: u64) -> bool {
        let promised = self.promised(domain);
        if promised == 0 {
            return false;
        }
        match self.domains[domain].physmap.entries.get(&gfn).copied() {
            Some(Entry::OnDemand) => {
                self.domains[domain].physmap.entries.remove(&gfn);
            }
            Some(Entry::Ram(mfn))
                if promised > self.domains[domain].physmap.cache.len() && !self.at(mfn).special =>
            {
                self.domains[domain].physmap.entries.remove(&gfn);
                self.cache_frame(domain, mfn);
                return true;
            }
            _ => return false,
        }
        // More than is promised is Xen's again.
        while self.domains[domain].physmap.cache.len() > self.promised(domain) {
            if let Some(mfn) = self.domains[domain].physmap.cache.pop() {
                self.put_allocation(mfn);
            }
        }
        true
    }
}

impl crate::xen::Guest {
    /// The toolstack built the guest with less memory than its map says:
    /// these pages get frames when they are touched, `frames` of them.
    ///
    /// # Panics
    /// If the machine has too little memory.
    pub fn on_demand(&self, pages: Range<u64>, frames: u64) {
        let mut state = self.xen().state();
        let domain = self.index();
        for gfn in pages {
            // What was there is given back to the machine.
            let _ = state.remove_guest_page(domain, gfn);
            let entries = &mut state.domains[domain].physmap.entries;
            entries.insert(gfn, Entry::OnDemand);
        }
        let id = self.id();
        for _ in 0..frames {
            let mfn = state.allocate(id).expect("the machine has no frame left");
            state.cache_frame(domain, mfn);
        }
    }
}

#[cfg(test)]
mod tests {
    use kexen_abi::PAGE_SIZE;
    use kexen_guest::{Machine, grants::Grants, hypercall};

    use crate::{Build, Kind, Vcpu, Xen};

    /// Pages of RAM by the map; from this one on they come on demand.
    const RAM: u64 = 32;
    const PROMISED: u64 = 16;
    /// Frames in the cache.
    const FRAMES: u64 = 4;
    /// A page for arguments, and a page without memory.
    const LIST: u64 = 9 * PAGE_SIZE;
    const HOLE: u64 = 0x100;

    fn guest() -> (crate::Guest, Vcpu) {
        let build = Build {
            id: 1,
            pages: RAM,
            ..Build::default()
        };
        let guest = Xen::default().domain(Kind::Pvh, build);
        guest.on_demand(PROMISED..RAM, FRAMES);
        let m = guest.vcpu(0);
        // Nothing of it is Xen's to take back.
        for gfn in 0..PROMISED {
            m.write64(gfn * PAGE_SIZE, 1).unwrap();
        }
        assert_eq!(hypercall::current_reservation(&m), Ok(PROMISED + FRAMES));
        (guest, m)
    }

    fn died(guest: &crate::Guest) -> bool {
        guest
            .crashed()
            .is_some_and(|why| why.contains("out of PoD memory"))
    }

    #[test]
    fn pages_come_until_the_cache_is_empty_and_then_the_domain_ends() {
        let (guest, m) = guest();
        for gfn in PROMISED..PROMISED + FRAMES {
            m.write64(gfn * PAGE_SIZE, gfn).unwrap();
            assert_eq!(m.read64(gfn * PAGE_SIZE), Ok(gfn));
        }
        assert_eq!(hypercall::current_reservation(&m), Ok(PROMISED + FRAMES));
        assert_eq!(guest.crashed(), None);
        m.write64((PROMISED + FRAMES) * PAGE_SIZE, 1).ok();
        assert!(died(&guest));
    }

    #[test]
    fn to_read_a_page_takes_a_frame_too_but_zeroes_go_back() {
        let (guest, m) = guest();
        // Each of them is read, and none is kept.
        for gfn in PROMISED..RAM {
            assert_eq!(m.read64(gfn * PAGE_SIZE), Ok(0));
        }
        assert_eq!(guest.crashed(), None);
        for gfn in PROMISED..PROMISED + FRAMES {
            m.write64(gfn * PAGE_SIZE, 1).unwrap();
        }
        // Now all that the guest has holds something.
        m.read64((RAM - 1) * PAGE_SIZE).ok();
        assert!(died(&guest));
    }

    #[test]
    fn what_is_zeroed_makes_room() {
        let (guest, m) = guest();
        for gfn in PROMISED..RAM {
            m.write64(gfn * PAGE_SIZE, 1).unwrap();
            m.fill(gfn * PAGE_SIZE, PAGE_SIZE, 0).unwrap();
        }
        assert_eq!(guest.crashed(), None);
    }

    #[test]
    fn a_page_that_somebody_else_maps_is_not_taken_back() {
        let (guest, m) = guest();
        let build = Build {
            id: 0,
            pages: 16,
            ..Build::default()
        };
        let backend = guest.xen().domain(Kind::Pv, build);
        hypercall::map_grant_frame(&m, 0, HOLE).unwrap();
        let grants = Grants::new(HOLE * PAGE_SIZE);
        // To map it is to touch it.
        let page = u32::try_from(PROMISED).unwrap();
        assert!(grants.grant_access(&m, 8, 0, page).unwrap());
        let mapping = backend.map_grant(guest.id(), 8, true).unwrap();
        for gfn in PROMISED + 1..PROMISED + FRAMES {
            m.write64(gfn * PAGE_SIZE, 1).unwrap();
        }
        assert_eq!(guest.crashed(), None);
        m.read64((RAM - 1) * PAGE_SIZE).ok();
        assert!(died(&guest));
        mapping.write(0, b"kept").unwrap();
    }

    #[test]
    fn a_promise_that_is_given_back_takes_frames_along_when_few_are_left() {
        let (_guest, m) = guest();
        for gfn in PROMISED..RAM - FRAMES {
            m.write64(LIST, gfn).unwrap();
            assert_eq!(hypercall::decrease_reservation(&m, LIST), Ok(true));
            assert_eq!(hypercall::current_reservation(&m), Ok(PROMISED + FRAMES));
        }
        m.write64(LIST, RAM - 1).unwrap();
        assert_eq!(hypercall::decrease_reservation(&m, LIST), Ok(true));
        assert_eq!(
            hypercall::current_reservation(&m),
            Ok(PROMISED + FRAMES - 1)
        );
        // What was touched gives its frame to the others.
        m.write64(LIST, 3).unwrap();
        assert_eq!(hypercall::decrease_reservation(&m, LIST), Ok(true));
        assert_eq!(
            hypercall::current_reservation(&m),
            Ok(PROMISED + FRAMES - 2)
        );
    }

    #[test]
    fn a_page_that_is_given_back_with_a_mapping_comes_again_as_another_page() {
        let (guest, m) = guest();
        let build = Build {
            id: 0,
            pages: 16,
            ..Build::default()
        };
        let backend = guest.xen().domain(Kind::Pv, build);
        hypercall::map_grant_frame(&m, 0, HOLE).unwrap();
        let grants = Grants::new(HOLE * PAGE_SIZE);
        assert!(grants.grant_access(&m, 8, 0, 5).unwrap());
        let mapping = backend.map_grant(guest.id(), 8, true).unwrap();
        m.write64(LIST, 5).unwrap();
        assert_eq!(hypercall::decrease_reservation(&m, LIST), Ok(true));
        // It was stolen for the cache, and is the next page that is touched.
        assert_eq!(m.read64(20 * PAGE_SIZE), Ok(0));
        mapping.write(0, b"gone").unwrap();
        let mut bytes = [0; 4];
        m.read(20 * PAGE_SIZE, &mut bytes).unwrap();
        assert_eq!(&bytes, b"gone");
        assert_eq!(mapping.unmap(), Ok(()));
    }
}
