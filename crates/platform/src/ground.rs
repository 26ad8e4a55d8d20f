//! What frontends stand on, in a guest of any type: pages with their
//! addresses, and where shared info, the grant table and the store's ring are.
//!
//! Shared info and the grant table go where no memory is: into the platform
//! device's pages of an HVM guest, behind the memory map of a PVH one. Both
//! are entered in the ledger, and leave their places with it.

use alloc::{string::String, vec::Vec};

use kexen_abi::{
    PAGE_SIZE,
    hvm::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN},
};
use kexen_guest::{Extent, Extents, block::Page, grants::Grants, hypercall, shared_info::Place};
use kexen_handoff::ledger::{Claim, Holder, Kind};

use crate::{guest::Guest, native::Native, pci, pv_guest::PvGuest, pvh_guest::PvhGuest};

/// The last frame of a grant table that a domain of the toolstack's has
/// (`max_grant_frames`, 64 by default).
const LAST_FRAME: u32 = 63;

fn text(error: impl core::fmt::Display) -> String {
    alloc::format!("{error}")
}

/// A guest with frontends.
pub trait Ground: Guest {
    /// Takes pages of free memory, which can be written at their addresses.
    ///
    /// # Errors
    /// If fewer are free, or Xen does not map them.
    fn take(&mut self, count: u64) -> Result<Vec<Page>, String>;

    /// Maps shared info where no memory is, or finds it; `words` is the address
    /// of a page for the moves of it.
    ///
    /// # Errors
    /// If there is no room, or Xen refuses.
    fn place(&mut self, words: u64, vcpus: u32) -> Result<Place, String>;

    /// Sets the grant table up: the frame that this kernel grants by. In
    /// translated guests the last one, whose references no other kernel needs
    /// soon.
    ///
    /// # Errors
    /// If Xen refuses.
    fn grants(&mut self) -> Result<Grants, String>;

    /// Address of the store's ring, and its port.
    ///
    /// # Errors
    /// If the guest has none.
    fn store(&self) -> Result<(u64, u32), String>;
}

impl<M: Native> PvhGuest<M> {
    /// Page numbers that nothing backs: the platform device's memory in an HVM
    /// guest, the end of the memory map in a PVH one. The first is shared
    /// info's, the next but one the grant table's; the others are free.
    ///
    /// # Errors
    /// If an HVM guest has no platform device.
    pub fn room(&self) -> Result<u64, String> {
        if self.is_hvm() {
            let found = pci::platform_pages(self.machine());
            let (first, _) = found.ok_or("there is no platform device")?;
            Ok(first)
        } else {
            Ok(self.hole())
        }
    }

    /// Takes pages of free memory between these.
    ///
    /// # Errors
    /// If fewer are free.
    pub fn take_within(&mut self, part: Extent, count: u64) -> Result<Vec<Page>, String> {
        let pages = self.free().within(part).take(count);
        let pages = pages.ok_or("too few pages are free")?;
        for run in pages.runs() {
            self.free().remove(*run);
        }
        let page = |number: u64| {
            Ok(Page {
                number,
                address: number * PAGE_SIZE,
                frame: u32::try_from(number).map_err(text)?,
            })
        };
        pages.pages().map(page).collect()
    }

    /// Maps shared info at a page number, over RAM or not.
    ///
    /// # Errors
    /// If Xen refuses.
    pub fn place_at(
        &mut self,
        words: u64,
        vcpus: u32,
        gfn: u32,
        ram: bool,
    ) -> Result<Place, String> {
        let place = Place::map(self.machine(), words, vcpus, gfn).map_err(text)?;
        let gfn = gfn.into();
        let kind = if ram {
            Kind::SharedInfoInRam { gfn }
        } else {
            Kind::SharedInfoPhysmap { gfn }
        };
        self.ledger().enter(Claim::of(kind, Holder::Xen));
        Ok(place)
    }
}

impl<M: Native> Ground for PvhGuest<M> {
    fn take(&mut self, count: u64) -> Result<Vec<Page>, String> {
        self.take_within(Extent::new(0, 1 << 20), count)
    }

    fn place(&mut self, words: u64, vcpus: u32) -> Result<Place, String> {
        let room = u32::try_from(self.room()?).map_err(text)?;
        self.place_at(words, vcpus, room, false)
    }

    fn grants(&mut self) -> Result<Grants, String> {
        let gfn = self.room()? + 2;
        hypercall::map_grant_frame(self.machine(), LAST_FRAME.into(), gfn).map_err(text)?;
        let kind = Kind::GrantTable { gfn };
        self.ledger().enter(Claim::of(kind, Holder::Xen));
        Ok(Grants::frame(gfn * PAGE_SIZE, LAST_FRAME))
    }

    fn store(&self) -> Result<(u64, u32), String> {
        let m = self.machine();
        let page = hypercall::hvm_param(m, "store page", HVM_PARAM_STORE_PFN).map_err(text)?;
        let port = hypercall::hvm_param(m, "store port", HVM_PARAM_STORE_EVTCHN).map_err(text)?;
        Ok((page * PAGE_SIZE, u32::try_from(port).map_err(text)?))
    }
}

impl<M: Native> Ground for PvGuest<M> {
    fn take(&mut self, count: u64) -> Result<Vec<Page>, String> {
        let pages: Extents = self.free().take(count).ok_or("too few pages are free")?;
        self.map_in_place(&pages).map_err(text)?;
        let page = |number: u64| {
            Ok(Page {
                number,
                address: self.address(number),
                frame: u32::try_from(self.frame(number).map_err(text)?).map_err(text)?,
            })
        };
        pages.pages().map(page).collect()
    }

    fn place(&mut self, words: u64, vcpus: u32) -> Result<Place, String> {
        let address = self.map_shared_info().map_err(text)?;
        let at = u32::try_from(address / PAGE_SIZE).map_err(text)?;
        Place::found(self.machine(), words, vcpus, at).map_err(text)
    }

    fn grants(&mut self) -> Result<Grants, String> {
        self.grant_table().map(Grants::new)
    }

    fn store(&self) -> Result<(u64, u32), String> {
        self.store_ring().map_err(text)
    }
}
