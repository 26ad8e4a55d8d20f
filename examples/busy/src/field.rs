//! What only the busy guest wants of a guest: shared info over RAM, another
//! domain's pages, a capture kernel.

use alloc::string::String;

use kexen_guest::{Extent, shared_info::Place};
use kexen_platform::{
    PvGuest, PvhGuest, Xen,
    crash::{self, Files},
    ground::Ground,
    guest::Guest as _,
};

use crate::{options::Options, text};

/// The first page of where Linux unpacks itself to: 16 MiB (`pref_address` of
/// its boot protocol).
const LINUX: Extent = Extent::new(0x1000, 1);

/// A guest to be busy in.
pub(crate) trait Field: Ground<M = Xen> {
    /// Maps shared info: where it is for all vCPUs, another page number to
    /// move it to, and whether it is over RAM.
    fn busy_place(
        &mut self,
        words: u64,
        vcpus: u32,
        options: &Options,
    ) -> Result<(Place, u32, bool), String>;
    /// An address where another domain's page can be mapped, in a translated
    /// guest.
    fn foreign(&self) -> Result<Option<u64>, String>;
    /// Whether it is an HVM guest.
    fn is_hvm(&self) -> bool;
    /// Keeps memory for a capture kernel and writes it there.
    fn capture(&mut self, files: &Files<'_>) -> Result<Extent, String>;
}

impl Field for PvhGuest {
    fn busy_place(
        &mut self,
        words: u64,
        vcpus: u32,
        options: &Options,
    ) -> Result<(Place, u32, bool), String> {
        let room = u32::try_from(self.room()?).map_err(text)?;
        // An operating system needs the clock before it knows of PCI.
        let in_ram = Self::is_hvm(self) && options.holds("shared-info")
            || options.holds("early-shared-info");
        let gfn = if in_ram {
            // Where the next kernel begins, if it is Linux.
            self.take_within(LINUX, 1)?[0].frame
        } else {
            room
        };
        let place = self.place_at(words, vcpus, gfn, in_ram)?;
        Ok((place, room + 1, in_ram))
    }

    fn foreign(&self) -> Result<Option<u64>, String> {
        Ok(Some((self.room()? + 3) * kexen_abi::PAGE_SIZE))
    }

    fn is_hvm(&self) -> bool {
        Self::is_hvm(self)
    }

    fn capture(&mut self, files: &Files<'_>) -> Result<Extent, String> {
        // Half of the memory.
        let pages = self.memory() / kexen_abi::PAGE_SIZE / 2;
        crash::prepare(self, files, pages).map_err(text)
    }
}

impl Field for PvGuest {
    fn busy_place(
        &mut self,
        words: u64,
        vcpus: u32,
        _: &Options,
    ) -> Result<(Place, u32, bool), String> {
        let place = self.place(words, vcpus)?;
        let at = place.gfn(self.machine()).map_err(text)?;
        Ok((place, at, false))
    }

    fn foreign(&self) -> Result<Option<u64>, String> {
        Ok(None)
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
