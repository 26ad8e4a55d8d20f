//! What Xen reads and writes in a shared entry.
//!
//! Rules: `_set_status_v1`, `_set_status_v2`, `reduce_status_for_pin`,
//! `get_paged_frame`. An entry that is not pinned must permit access and
//! name the user; one that is pinned is *not* looked at again, but for
//! `GTF_readonly`. The bits go into the flags (version 1) or the status word
//! (version 2), whatever the guest has put there meanwhile. Xen's retries and
//! second looks, against a guest that writes at the same time, have nothing
//! to do here.

use kexen_abi::grant_table::{
    GNTST_BAD_PAGE, GNTST_GENERAL_ERROR, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY,
    GTF_SUB_PAGE, GTF_TRANSITIVE, GTF_TYPE_MASK, GTF_WRITING,
};

use super::Active;
use crate::frame::DomId;
use crate::physmap::Entry;
use crate::state::State;

/// Writers among the pins: of processors and devices (`GNTPIN_*w_mask`).
pub(super) const PIN_WRITERS: u32 = 0x00ff_00ff;

/// The pin of one use.
pub(super) const fn pin_of(device: bool, readonly: bool) -> u32 {
    let shift = if device { 16 } else { 0 } + if readonly { 8 } else { 0 };
    1 << shift
}

/// Whether one of the counts would get too near its end
/// (`GNTPIN_incr2oflow_mask`).
pub(super) const fn pin_overflows(pin: u32, more: u32) -> bool {
    pin & (more << 7) != 0
}

impl State {
    /// `_set_status`
    pub(super) fn set_grant_status(
        &mut self,
        granter: usize,
        gref: u32,
        readonly: bool,
        to_map: bool,
        user: DomId,
    ) -> Result<(), i16> {
        let pinned = self.active(granter, gref).pin != 0;
        let version = self.table(granter).version;
        let mask = GTF_TYPE_MASK | if to_map { GTF_SUB_PAGE } else { 0 };
        let header = self.header(granter, gref);
        let permits = header.flags & mask == GTF_PERMIT_ACCESS
            || version == 2 && !to_map && header.flags & mask == GTF_TRANSITIVE;
        if !(pinned || permits && header.domid == user) {
            self.say(format!(
                "Bad flags ({:x}) or dom ({}); expected d{user}",
                header.flags, header.domid
            ));
            return Err(GNTST_GENERAL_ERROR);
        }
        let mut bits = GTF_READING;
        if !readonly {
            if header.flags & GTF_READONLY != 0 {
                self.say("Attempt to write-pin a r/o grant entry".into());
                return Err(GNTST_GENERAL_ERROR);
            }
            bits |= GTF_WRITING;
        }
        let place = self.status_place(granter, gref);
        self.set_half(place, self.half(place, 0) | bits);
        Ok(())
    }

    /// Takes away what no pin stands for any more.
    pub(super) fn reduce_status(&mut self, granter: usize, gref: u32, readonly: bool) {
        let Active { pin, .. } = self.active(granter, gref);
        let mut gone = if pin == 0 { GTF_READING } else { 0 };
        if !readonly && pin & PIN_WRITERS == 0 {
            gone |= GTF_WRITING;
        }
        if gone != 0 {
            let place = self.status_place(granter, gref);
            self.set_half(place, self.half(place, 0) & !gone);
        }
    }

    /// The frame behind a domain's own number, with a reference.
    pub(super) fn get_paged_frame(&mut self, domain: usize, gfn: u64) -> Result<u64, i16> {
        let id = self.domains[domain].id;
        if let Some(Entry::Foreign { .. }) = self.domains[domain].physmap.entries.get(&gfn) {
            return Err(GNTST_BAD_PAGE);
        }
        let mfn = self.frame_of_gfn(domain, gfn).ok_or(GNTST_BAD_PAGE)?;
        if self.get_page(mfn, id) {
            Ok(mfn)
        } else {
            Err(GNTST_BAD_PAGE)
        }
    }
}
