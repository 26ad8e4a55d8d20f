//! Where processors see a granted frame.
//!
//! Rules: `create_grant_pv_mapping`, `replace_grant_pv_mapping`,
//! `steal_linear_address` in Xen's `arch/x86/pv/grant_table.c`;
//! `create_grant_p2m_mapping`, `replace_grant_p2m_mapping` in
//! `arch/x86/hvm/grant_table.c`. The L1 entry of a PV guest holds the
//! references that the map call took: a guest that overwrites it drops them
//! and keeps the pin, which it can then never undo. For a translated guest
//! the handle holds them.

use kexen_abi::PAGE_SHIFT;
use kexen_abi::grant_table::{
    GNTMAP_APPLICATION_MAP, GNTMAP_CONTAINS_PTE, GNTMAP_GUEST_AVAIL0, GNTMAP_HOST_MAP,
    GNTMAP_READONLY, GNTST_GENERAL_ERROR,
};
use kexen_abi::mmu::{
    HYPERVISOR_VIRT_END, PAGE_ACCESSED, PAGE_DIRTY, PAGE_FRAME_MASK, PAGE_PRESENT, PAGE_RW,
    PAGE_USER,
};

use super::table::Place;
use crate::frame::{INVALID_M2P, PGT_L1, PGT_VALIDATED};
use crate::physmap::Entry;
use crate::pv::validate::{GUEST_KERNEL, frame_of};
use crate::state::{State, Who};

/// Entry bit: not to be executed.
const PAGE_NX: u64 = 1 << 63;
/// Entry bit: stays over a change of tables.
const PAGE_GLOBAL: u64 = 1 << 8;
/// Entry bits that are the guest's own (`_PAGE_AVAIL`), three of them.
const PAGE_AVAIL_SHIFT: u32 = 9;
const PAGE_AVAIL: u64 = 7 << PAGE_AVAIL_SHIFT;

/// Where a mapping was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// For devices alone: nowhere.
    Nowhere,
    /// In an L1 entry of a PV guest.
    Entry(Place),
    /// In an L1 entry where another mapping was made since.
    Overwritten,
    /// At a page number of a translated guest.
    Gfn(u64),
    /// In a window of the model's own backend.
    Window(u64),
}

/// What a backend of the model's sees through a handle: see
/// [`super::Mapping`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) mfn: u64,
    pub(super) writable: bool,
}

/// By which way a mapping is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By a hypercall: the address is the guest's.
    Call,
    /// By the model's own backend: the address is the number of a window.
    Window,
}

/// `__addr_ok`: an address that is not Xen's own.
pub(super) const fn addr_ok(address: u64) -> bool {
    address < 1 << 47 || address >= HYPERVISOR_VIRT_END
}

/// The entry of a mapping (`grant_to_pte_flags`, `adjust_guest_l1e`).
const fn entry_for(mfn: u64, flags: u32) -> u64 {
    let mut entry = mfn << PAGE_SHIFT | PAGE_PRESENT | PAGE_ACCESSED | PAGE_DIRTY | PAGE_NX;
    if flags & GNTMAP_READONLY == 0 {
        entry |= PAGE_RW;
    }
    entry |= ((flags >> GNTMAP_GUEST_AVAIL0) as u64) << PAGE_AVAIL_SHIFT & PAGE_AVAIL;
    if flags & GNTMAP_APPLICATION_MAP != 0 {
        entry | PAGE_USER | PAGE_GLOBAL
    } else {
        entry | PAGE_USER | GUEST_KERNEL
    }
}

/// Whether an entry maps a frame with that permission.
pub(super) const fn entry_matches(entry: u64, mfn: u64, readonly: bool) -> bool {
    let wanted = PAGE_PRESENT | if readonly { 0 } else { PAGE_RW };
    frame_of(entry) == mfn && entry & (PAGE_PRESENT | PAGE_RW) == wanted
}

impl State {
    /// Whether a frame is an L1 table of that domain's now.
    pub(super) fn is_l1_of(&self, mfn: u64, domain: usize) -> bool {
        self.frame(mfn).is_some_and(|frame| {
            frame.owner == Some(self.domains[domain].id)
                && frame.kind() == PGT_L1
                && frame.type_count() > 0
                && frame.type_info & PGT_VALIDATED != 0
        })
    }

    /// The L1 entry that an address means.
    fn l1_place(&mut self, who: Who, address: u64, contains_pte: bool) -> Result<Place, i16> {
        let place = if contains_pte {
            if !address.is_multiple_of(8) {
                self.say(format!("Misaligned PTE address {address:x}"));
                return Err(GNTST_GENERAL_ERROR);
            }
            Place {
                mfn: address >> PAGE_SHIFT,
                offset: address & 0xfff,
            }
        } else {
            let table = if addr_ok(address) {
                self.l1_table(who, address)
            } else {
                None
            };
            let Some(mfn) = table else {
                self.say(format!(
                    "Could not find L1 PTE for linear address {address:x}"
                ));
                return Err(GNTST_GENERAL_ERROR);
            };
            Place {
                mfn,
                offset: ((address >> PAGE_SHIFT) & 511) * 8,
            }
        };
        if self.is_l1_of(place.mfn, who.domain) {
            Ok(place)
        } else {
            Err(GNTST_GENERAL_ERROR)
        }
    }

    /// `create_grant_host_mapping`; what was there before is dropped.
    pub(super) fn create_host_mapping(
        &mut self,
        who: Who,
        way: Way,
        address: u64,
        mfn: u64,
        flags: u32,
    ) -> Result<Site, i16> {
        let readonly = flags & GNTMAP_READONLY != 0;
        if way == Way::Window {
            let window = Window {
                mfn,
                writable: !readonly,
            };
            self.table(who.domain).windows.insert(address, window);
            return Ok(Site::Window(address));
        }
        if !self.domain(who).kind.translated() {
            let place = self.l1_place(who, address, flags & GNTMAP_CONTAINS_PTE != 0)?;
            let old = self.word(place.mfn, place.offset);
            self.set_word(place.mfn, place.offset, entry_for(mfn, flags));
            self.release_l1(old);
            if self.revocation {
                self.forget_site(who.domain, Site::Entry(place));
            }
            return Ok(Site::Entry(place));
        }
        if flags & !GNTMAP_READONLY != GNTMAP_HOST_MAP {
            return Err(GNTST_GENERAL_ERROR);
        }
        let gfn = address >> PAGE_SHIFT;
        self.put_grant_entry(who.domain, gfn, mfn, !readonly)?;
        Ok(Site::Gfn(gfn))
    }

    /// `p2m_add_page` with a grant's type.
    fn put_grant_entry(
        &mut self,
        domain: usize,
        gfn: u64,
        mfn: u64,
        writable: bool,
    ) -> Result<(), i16> {
        match self.domains[domain].physmap.entries.get(&gfn).copied() {
            Some(Entry::Grant { .. } | Entry::Foreign { .. }) => {
                let id = self.domains[domain].id;
                self.crash(domain, format!("d{id}: GFN {gfn:#x} not permitted"));
                return Err(GNTST_GENERAL_ERROR);
            }
            // The frame stays the domain's, out of its reach.
            Some(Entry::Ram(old)) => self.at(old).m2p = INVALID_M2P,
            Some(Entry::OnDemand) | None => {}
        }
        // A grant of the domain's own leaves the page number it had.
        let (elsewhere, owner) = (self.at(mfn).m2p, self.at(mfn).owner);
        if owner == Some(self.domains[domain].id) && elsewhere != gfn {
            let entries = &self.domains[domain].physmap.entries;
            if entries.get(&elsewhere) == Some(&Entry::Ram(mfn)) {
                self.physmap_remove(domain, elsewhere);
            }
        }
        let entry = Entry::Grant { mfn, writable };
        self.domains[domain].physmap.entries.insert(gfn, entry);
        Ok(())
    }

    /// `replace_grant_host_mapping`: the mapping goes, or another entry of
    /// the guest's takes its place. The references stay with the caller.
    pub(super) fn replace_host_mapping(
        &mut self,
        who: Who,
        way: Way,
        address: u64,
        mfn: u64,
        new_address: u64,
        flags: u32,
    ) -> Result<(), i16> {
        if way == Way::Window {
            let removed = self.table(who.domain).windows.remove(&address);
            return removed.map(drop).ok_or(GNTST_GENERAL_ERROR);
        }
        let contains_pte = flags & GNTMAP_CONTAINS_PTE != 0;
        if self.domain(who).kind.translated() {
            if new_address != 0 || contains_pte {
                return Err(GNTST_GENERAL_ERROR);
            }
            let gfn = address >> PAGE_SHIFT;
            let entries = &mut self.domain(who).physmap.entries;
            match entries.get(&gfn) {
                Some(Entry::Grant { mfn: there, .. }) if *there == mfn => {
                    entries.remove(&gfn);
                    return Ok(());
                }
                _ => {
                    self.say(format!("old mapping invalid (frame {mfn:x})"));
                    return Err(GNTST_GENERAL_ERROR);
                }
            }
        }
        if contains_pte && new_address != 0 {
            return Err(GNTST_GENERAL_ERROR);
        }
        let stolen = if new_address == 0 {
            0
        } else {
            self.steal_entry(who, new_address)?
        };
        let result = self.replace_entry(who, address, mfn, stolen, flags);
        if result.is_err() {
            self.release_l1(stolen);
        }
        result
    }

    fn replace_entry(
        &mut self,
        who: Who,
        address: u64,
        mfn: u64,
        new: u64,
        flags: u32,
    ) -> Result<(), i16> {
        let place = self.l1_place(who, address, flags & GNTMAP_CONTAINS_PTE != 0)?;
        let old = self.word(place.mfn, place.offset);
        if !entry_matches(old, mfn, flags & GNTMAP_READONLY != 0) {
            let wanted = entry_for(mfn, flags);
            self.say(format!(
                "PTE {old:016x} for {address:x} doesn't match grant ({wanted:016x})"
            ));
            return Err(GNTST_GENERAL_ERROR);
        }
        self.set_word(place.mfn, place.offset, new);
        Ok(())
    }

    /// `steal_linear_address`: the entry is emptied, what it held is the
    /// caller's. Revocation must find a mapping where it was made, so with
    /// it on, an entry that maps another domain's frame stays.
    fn steal_entry(&mut self, who: Who, address: u64) -> Result<u64, i16> {
        let place = self.l1_place(who, address, false)?;
        let old = self.word(place.mfn, place.offset);
        let owner = self.frame(frame_of(old)).and_then(|frame| frame.owner);
        if self.revocation && old & PAGE_PRESENT != 0 && owner != Some(self.id(who)) {
            return Err(GNTST_GENERAL_ERROR);
        }
        self.set_word(place.mfn, place.offset, 0);
        Ok(old)
    }

    /// Puts another frame where a mapping is, with the same permission and
    /// bits. Whether the mapping was still there.
    pub(super) fn exchange_frame(
        &mut self,
        domain: usize,
        site: Site,
        old: u64,
        new: u64,
        readonly: bool,
    ) -> bool {
        match site {
            Site::Nowhere | Site::Overwritten => false,
            Site::Entry(place) => {
                let entry = self.word(place.mfn, place.offset);
                if !self.is_l1_of(place.mfn, domain) || !entry_matches(entry, old, readonly) {
                    return false;
                }
                let entry = entry & !PAGE_FRAME_MASK | new << PAGE_SHIFT;
                self.set_word(place.mfn, place.offset, entry);
                true
            }
            Site::Gfn(gfn) => match self.domains[domain].physmap.entries.get_mut(&gfn) {
                Some(Entry::Grant { mfn, .. }) if *mfn == old => {
                    *mfn = new;
                    true
                }
                _ => false,
            },
            Site::Window(number) => match self.table(domain).windows.get_mut(&number) {
                Some(window) if window.mfn == old => {
                    window.mfn = new;
                    true
                }
                _ => false,
            },
        }
    }
}
