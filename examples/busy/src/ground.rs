//! What the busy guest stands on, in a guest of any type: pages with their
//! addresses, and where shared info and the grant table go.

use alloc::{string::String, vec::Vec};

use crate::{options::Options, text};
use kexen_abi::{
    PAGE_SIZE,
    hvm::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN},
};
use kexen_guest::{Extent, Extents, block::Page, grants::Grants, hypercall, shared_info::Place};
use kexen_handoff::ledger::{Claim, Holder, Kind};
use kexen_platform::{
    crash::{self, Files},
    guest::Guest,
    pci,
    pv_guest::PvGuest,
    pvh_guest::PvhGuest,
};

/// The last frame of a grant table that a domain of the toolstack's has
/// (`max_grant_frames`, 64 by default).
const LAST_FRAME: u32 = 63;

/// The first page of where Linux unpacks itself to: 16 MiB (`pref_address` of
/// its boot protocol).
const LINUX: Extent = Extent::new(0x1000, 1);

/// A guest to be busy in.
pub(crate) trait Ground: Guest {
    /// Takes pages of free memory, which can be written at their addresses.
    fn take(&mut self, count: u64) -> Result<Vec<Page>, String>;
    /// Maps shared info: where it is for all vCPUs, another page number to
    /// move it to, and whether it is over RAM.
    fn place(
        &mut self,
        words: u64,
        vcpus: u32,
        options: &Options,
    ) -> Result<(Place, u32, bool), String>;
    /// Sets the grant table up: the frame that this kernel grants by. In
    /// translated guests the last one, whose references no other kernel needs
    /// soon.
    fn grants(&mut self) -> Result<Grants, String>;
    /// An address where another domain's page can be mapped, in a translated
    /// guest.
    fn foreign(&self) -> Result<Option<u64>, String>;
    /// Address of the store's ring, and its port.
    fn store(&self) -> Result<(u64, u32), String>;
    /// Whether it is an HVM guest.
    fn is_hvm(&self) -> bool;
    /// Keeps memory for a capture kernel and writes it there.
    fn capture(&mut self, files: &Files<'_>) -> Result<Extent, String>;
}

impl Ground for PvhGuest {
    fn take(&mut self, count: u64) -> Result<Vec<Page>, String> {
        take_within(self, Extent::new(0, 1 << 20), count)
    }

    fn place(
        &mut self,
        words: u64,
        vcpus: u32,
        options: &Options,
    ) -> Result<(Place, u32, bool), String> {
        let room = u32::try_from(room(self)?).map_err(text)?;
        // An operating system needs the clock before it knows of PCI.
        let in_ram = Self::is_hvm(self) && options.holds("shared-info")
            || options.holds("early-shared-info");
        let gfn = if in_ram {
            // Where the next kernel begins, if it is Linux.
            take_within(self, LINUX, 1)?[0].frame
        } else {
            room
        };
        let place = Place::map(self.machine(), words, vcpus, gfn).map_err(text)?;
        let gfn = gfn.into();
        let kind = if in_ram {
            Kind::SharedInfoInRam { gfn }
        } else {
            Kind::SharedInfoPhysmap { gfn }
        };
        self.ledger().enter(Claim::of(kind, Holder::Xen));
        Ok((place, room + 1, in_ram))
    }

    fn grants(&mut self) -> Result<Grants, String> {
        let gfn = room(self)? + 2;
        hypercall::map_grant_frame(self.machine(), LAST_FRAME.into(), gfn).map_err(text)?;
        let kind = Kind::GrantTable { gfn };
        self.ledger().enter(Claim::of(kind, Holder::Xen));
        Ok(Grants::frame(gfn * PAGE_SIZE, LAST_FRAME))
    }

    fn foreign(&self) -> Result<Option<u64>, String> {
        Ok(Some((room(self)? + 3) * PAGE_SIZE))
    }

    fn store(&self) -> Result<(u64, u32), String> {
        let m = self.machine();
        let page = hypercall::hvm_param(m, "store page", HVM_PARAM_STORE_PFN).map_err(text)?;
        let port = hypercall::hvm_param(m, "store port", HVM_PARAM_STORE_EVTCHN).map_err(text)?;
        Ok((page * PAGE_SIZE, u32::try_from(port).map_err(text)?))
    }

    fn is_hvm(&self) -> bool {
        Self::is_hvm(self)
    }

    fn capture(&mut self, files: &Files<'_>) -> Result<Extent, String> {
        // Half of the memory.
        let pages = self.memory() / PAGE_SIZE / 2;
        crash::prepare(self, files, pages).map_err(text)
    }
}

/// Takes pages of free memory between these.
fn take_within(guest: &mut PvhGuest, part: Extent, count: u64) -> Result<Vec<Page>, String> {
    let pages = guest.free().within(part).take(count);
    let pages = pages.ok_or("too few pages are free")?;
    for run in pages.runs() {
        guest.free().remove(*run);
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

/// Page numbers that nothing backs: the platform device's memory in an HVM
/// guest, the end of the memory map in a PVH one.
fn room(guest: &PvhGuest) -> Result<u64, String> {
    if guest.is_hvm() {
        let found = pci::platform_pages(guest.machine());
        let (first, _) = found.ok_or("there is no platform device")?;
        Ok(first)
    } else {
        Ok(guest.hole())
    }
}

impl Ground for PvGuest {
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

    fn place(&mut self, words: u64, vcpus: u32, _: &Options) -> Result<(Place, u32, bool), String> {
        let address = self.map_shared_info().map_err(text)?;
        let at = u32::try_from(address / PAGE_SIZE).map_err(text)?;
        let place = Place::found(self.machine(), words, vcpus, at).map_err(text)?;
        Ok((place, at, false))
    }

    fn grants(&mut self) -> Result<Grants, String> {
        self.grant_table().map(Grants::new)
    }

    fn foreign(&self) -> Result<Option<u64>, String> {
        Ok(None)
    }

    fn store(&self) -> Result<(u64, u32), String> {
        self.store_ring().map_err(text)
    }

    fn is_hvm(&self) -> bool {
        false
    }

    fn capture(&mut self, _: &Files<'_>) -> Result<Extent, String> {
        Err(String::from(
            "a PV guest has no crash hand-off: its capture kernel would have to be \
             vCPU 0's, and nothing replaces a PV vCPU's context",
        ))
    }
}
