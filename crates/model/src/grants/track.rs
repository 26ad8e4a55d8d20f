//! Handles: what a domain has mapped of others' grants.
//!
//! Rules: `get_maptrack_handle`, `put_maptrack_handle`,
//! `steal_maptrack_handle`. Each vCPU has a queue of free handles and keeps
//! its last; a handle goes back to the end of the queue that it came from.

use std::collections::{BTreeMap, VecDeque};

use super::host::Site;
use crate::frame::DomId;

/// Handles of a page (`MAPTRACK_PER_PAGE`).
const PER_PAGE: u32 = 256;

/// What a handle stands for (`struct grant_mapping`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Track {
    pub(super) gref: u32,
    /// `GNTMAP_*`, the low half; those of what is undone are cleared.
    pub(super) flags: u16,
    pub(super) domid: DomId,
    /// Not in Xen, for revocation: where the processors' mapping is.
    pub(super) site: Site,
    /// Not in Xen: the frame that stands in after a revocation.
    pub(super) stand_in: Option<u64>,
    /// Not in Xen: the frame is the stand-in's now.
    pub(super) revoked: bool,
}

/// A domain's handles.
#[derive(Debug)]
pub(super) struct MapTrack {
    max_frames: u32,
    /// Handles that exist so far.
    limit: u32,
    /// Handles in use.
    pub(super) used: BTreeMap<u32, Track>,
    /// Free handles of each vCPU.
    free: Vec<VecDeque<u32>>,
    /// To which vCPU's queue a handle goes back.
    home: Vec<usize>,
}

impl MapTrack {
    pub(super) const fn new(max_frames: u32) -> Self {
        Self {
            max_frames,
            limit: 0,
            used: BTreeMap::new(),
            free: Vec::new(),
            home: Vec::new(),
        }
    }

    /// Handles that exist; one at or above was never given out.
    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }

    fn queue(&mut self, vcpu: usize) -> &mut VecDeque<u32> {
        if self.free.len() <= vcpu {
            self.free.resize_with(vcpu + 1, VecDeque::new);
        }
        &mut self.free[vcpu]
    }

    /// The next free handle of a vCPU's; the last one stays.
    fn pop(&mut self, vcpu: usize) -> Option<u32> {
        let queue = self.queue(vcpu);
        if queue.len() < 2 {
            return None;
        }
        queue.pop_front()
    }

    /// A handle of another vCPU's. Xen begins at a random one, the model at
    /// the first.
    fn steal(&mut self, vcpu: usize) -> Option<u32> {
        let handle = (0..self.free.len()).find_map(|victim| self.pop(victim))?;
        self.home[usize::try_from(handle).ok()?] = vcpu;
        Some(handle)
    }

    /// A handle that is not in use.
    pub(super) fn get(&mut self, vcpu: usize) -> Option<u32> {
        if let Some(handle) = self.pop(vcpu) {
            return Some(handle);
        }
        if self.limit / PER_PAGE >= self.max_frames {
            if self.queue(vcpu).is_empty() {
                let last = self.steal(vcpu)?;
                self.queue(vcpu).push_back(last);
            }
            return self.steal(vcpu);
        }
        let first = self.limit;
        self.limit += PER_PAGE;
        self.home.resize(
            self.home.len() + usize::try_from(PER_PAGE).unwrap_or(0),
            vcpu,
        );
        for handle in (first + 1..self.limit).rev() {
            self.queue(vcpu).push_front(handle);
        }
        Some(first)
    }

    /// Gives a handle back.
    pub(super) fn put(&mut self, handle: u32) {
        self.used.remove(&handle);
        let home = usize::try_from(handle).map_or(0, |at| self.home[at]);
        self.queue(home).push_back(handle);
    }
}

#[cfg(test)]
mod tests {
    use super::MapTrack;

    #[test]
    fn handles_come_in_order_and_go_to_the_end() {
        let mut track = MapTrack::new(2);
        assert_eq!(track.get(0), Some(0));
        assert_eq!(track.get(0), Some(1));
        track.put(0);
        assert_eq!(track.get(0), Some(2));
        // 253 are left of the first page, 3 to 255 and 0; the last stays.
        let rest: Vec<_> = (0..253).filter_map(|_| track.get(0)).collect();
        assert_eq!(rest, (3..256).collect::<Vec<_>>());
        assert_eq!(track.get(0), Some(256));
    }

    #[test]
    fn a_vcpu_without_a_page_steals() {
        let mut track = MapTrack::new(1);
        assert_eq!(track.get(0), Some(0));
        // One for its sentinel, one to use.
        assert_eq!(track.get(1), Some(2));
        let mut left = 0;
        while track.get(1).is_some() {
            left += 1;
        }
        assert_eq!(left, 252, "one stays in each queue");
        assert_eq!(track.get(7), None);
    }
}
