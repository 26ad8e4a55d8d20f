//! The outside world: a backend that keeps frames mapped.
//!
//! A backend that is a guest of the model maps by hypercalls of its own.
//! Where a test wants no kernel with page tables, a [`Mapping`] is what such
//! a kernel would have: a place of its address space that leads to a
//! granted frame, through which it reads and writes whenever it is its turn.
//! Pins, references and statuses are those of a hypercall; the place itself
//! is a *window*, which nothing else of the domain can touch.

use kexen_abi::grant_table::{GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTST_OKAY, GnttabMapGrantRef};
use kexen_abi::revocation::NO_STAND_IN;
use kexen_guest::Fault;
use zerocopy::FromZeros;

use super::host::Way;
use super::unmap::Request;
use crate::frame::DomId;
use crate::state::Who;
use crate::xen::{Guest, Xen};

/// A granted frame that a backend has mapped, through no page table of its
/// own. Dropping it unmaps nothing, as nothing else would.
#[derive(Debug)]
pub struct Mapping {
    xen: Xen,
    who: Who,
    window: u64,
    handle: u32,
}

impl Guest {
    /// Maps a frame that `of` grants to this domain, and keeps it.
    ///
    /// # Errors
    /// The status that the map call would give.
    pub fn map_grant(&self, of: DomId, gref: u32, writable: bool) -> Result<Mapping, i16> {
        self.map_window(of, gref, writable, None)
    }

    /// As [`Self::map_grant`], with a frame left for a revocation
    /// (`GNTTABOP_MAP_REVOCABLE`): a number of this domain's for a writable
    /// mapping, none for a read-only one.
    ///
    /// # Errors
    /// The status that the map call would give.
    ///
    /// # Panics
    /// If the machine has no such extension ([`crate::Config::revocation`]).
    pub fn map_grant_revocably(
        &self,
        of: DomId,
        gref: u32,
        stand_in: Option<u64>,
    ) -> Result<Mapping, i16> {
        assert!(self.xen().state().revocation, "no such extension");
        let writable = stand_in.is_some();
        self.map_window(of, gref, writable, Some(stand_in.unwrap_or(NO_STAND_IN)))
    }

    fn map_window(
        &self,
        of: DomId,
        gref: u32,
        writable: bool,
        stand_in: Option<u64>,
    ) -> Result<Mapping, i16> {
        self.xen().step();
        let mut state = self.xen().state();
        let who = self.vcpu(0).who();
        state.init_table(who.domain);
        let window = state
            .table(who.domain)
            .windows
            .keys()
            .next_back()
            .map_or(1, |last| last + 1);
        let mut op = GnttabMapGrantRef::new_zeroed();
        op.host_addr = window;
        op.flags = GNTMAP_HOST_MAP | if writable { 0 } else { GNTMAP_READONLY };
        op.gref = gref;
        op.dom = of;
        match stand_in {
            None => state.map_grant_ref(who, Way::Window, &mut op),
            Some(stand_in) => state.map_with_stand_in(who, Way::Window, &mut op, stand_in),
        }
        if op.status != GNTST_OKAY {
            return Err(op.status);
        }
        drop(state);
        Ok(Mapping {
            xen: self.xen().clone(),
            who,
            window,
            handle: op.handle,
        })
    }
}

impl Mapping {
    /// The handle that undoes it.
    #[must_use]
    pub const fn handle(&self) -> u32 {
        self.handle
    }

    /// A load of the backend's, at an offset in the frame.
    ///
    /// # Errors
    /// A page fault, if nothing is mapped.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.xen.step();
        let mut state = self.xen.state();
        let (start, end) = self.range(offset, into.len())?;
        let window = state.table(self.who.domain).windows.get(&self.window);
        let window = *window.ok_or_else(|| self.fault(offset, into.len(), "is not mapped"))?;
        into.copy_from_slice(&state.bytes(window.mfn)[start..end]);
        Ok(())
    }

    /// A store of the backend's, at an offset in the frame.
    ///
    /// # Errors
    /// A page fault, if nothing is mapped, or not writable.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), Fault> {
        self.xen.step();
        let mut state = self.xen.state();
        let (start, end) = self.range(offset, from.len())?;
        let window = state.table(self.who.domain).windows.get(&self.window);
        let window = *window.ok_or_else(|| self.fault(offset, from.len(), "is not mapped"))?;
        if !window.writable {
            return Err(self.fault(offset, from.len(), "is mapped read-only"));
        }
        state.bytes_mut(window.mfn)[start..end].copy_from_slice(from);
        Ok(())
    }

    /// Unmaps it (`GNTTABOP_unmap_grant_ref`).
    ///
    /// # Errors
    /// The status that the unmap call would give.
    pub fn unmap(self) -> Result<(), i16> {
        self.xen.step();
        let mut state = self.xen.state();
        let request = Request {
            host_addr: self.window,
            handle: self.handle,
            ..Request::default()
        };
        let (status, rest) = state.unmap_one(self.who, Way::Window, request);
        if let Some(rest) = rest {
            state.complete_unmap(self.who.domain, rest);
        }
        if status == GNTST_OKAY {
            Ok(())
        } else {
            Err(status)
        }
    }

    fn range(&self, offset: u64, len: usize) -> Result<(usize, usize), Fault> {
        let outside = || self.fault(offset, len, "lies outside the frame");
        let start = usize::try_from(offset).map_err(|_| outside())?;
        match start.checked_add(len) {
            Some(end) if end <= 4096 => Ok((start, end)),
            _ => Err(outside()),
        }
    }

    fn fault(&self, offset: u64, len: usize, why: &'static str) -> Fault {
        Fault {
            address: offset,
            len: u64::try_from(len).unwrap_or(u64::MAX),
            why,
        }
    }
}
