//! A guest that Xen populates on demand: `maxmem` above `memory`, in PVH and
//! HVM guests.
//!
//! Rules: `p2m_pod_demand_populate` in Xen's `arch/x86/mm/p2m-pod.c`. Its
//! memory map says RAM up to `maxmem`. A page gets a frame when it is touched
//! first, be it read, written, granted or named in a hypercall, from a cache
//! that has as many as `memory` allows. When the cache is empty Xen takes back
//! pages that hold nothing but zeroes; finds it none, the domain is ended.
//!
//! So what is touched must be counted. Linux gives pages back until it has no
//! more than `memory` (`drivers/xen/balloon.c`), before its userspace begins: it
//! gets the map as the toolstack made it. A PV guest has no such pages, and
//! starts with `memory` alone.

use kexen_guest::Extents;

/// How much of its memory map such a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnDemand {
    /// Pages of RAM by the memory map.
    pub ram: u64,
    /// Pages that Xen has for them, with a frame or in its cache.
    pub own: u64,
}

/// One part in so many that is left untouched is little.
const LITTLE: u64 = 8;

impl OnDemand {
    /// What a guest has of `ram` pages of RAM, if that is not all.
    /// `reservation` is `XENMEM_current_reservation`; up to `elsewhere()` pages
    /// of it are none of those.
    #[must_use]
    pub fn of(ram: u64, reservation: u64, elsewhere: impl FnOnce() -> u64) -> Option<Self> {
        (reservation < ram).then(|| Self {
            ram,
            own: reservation.saturating_sub(elsewhere()),
        })
    }

    /// Those of the free pages that may be touched. What is not free counts as
    /// touched already. The low pages stay: kernels are linked there.
    #[must_use]
    pub fn limit(&self, free: &Extents) -> Extents {
        free.lowest(
            self.own
                .saturating_sub(self.ram - free.count().min(self.ram)),
        )
    }

    /// Pages that are touched while so many of those of [`Self::limit`] are
    /// free.
    #[must_use]
    pub const fn touched(&self, left: u64) -> u64 {
        self.own.saturating_sub(left)
    }

    /// Whether so many pages are little for what comes next.
    #[must_use]
    pub const fn is_little(&self, left: u64) -> bool {
        left < self.own / LITTLE
    }
}

#[cfg(test)]
mod tests {
    use kexen_guest::Extent;

    use super::*;

    fn set(runs: &[(u64, u64)]) -> Extents {
        let mut all = Extents::new();
        for (start, count) in runs {
            all.insert(Extent::new(*start, *count));
        }
        all
    }

    #[test]
    fn a_guest_with_all_its_memory_is_none() {
        // Xen's special pages are in the reservation too.
        assert_eq!(OnDemand::of(1000, 1008, || 8), None);
        assert_eq!(OnDemand::of(1000, 1000, || 8), None);
        let some = OnDemand::of(1000, 508, || 8);
        assert_eq!(
            some,
            Some(OnDemand {
                ram: 1000,
                own: 500
            })
        );
    }

    #[test]
    fn what_is_in_use_and_what_may_be_touched_are_what_the_guest_has() {
        let guest = OnDemand {
            ram: 1000,
            own: 500,
        };
        // 100 pages are the image's and the module's.
        let free = set(&[(1, 399), (500, 500), (1000, 1)]);
        let free = guest.limit(&free);
        assert_eq!(free, set(&[(1, 399), (500, 1)]));
        assert_eq!(guest.touched(free.count()), 100);
        assert_eq!(guest.touched(0), 500);
        // More is in use than the guest has: nothing is left.
        assert_eq!(guest.limit(&set(&[(0, 400)])), Extents::new());
    }

    #[test]
    fn an_eighth_is_little() {
        let guest = OnDemand {
            ram: 1000,
            own: 800,
        };
        assert!(!guest.is_little(100));
        assert!(guest.is_little(99));
    }
}
