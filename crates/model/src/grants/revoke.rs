//! Revocation: an extension that no Xen has ([`kexen_abi::revocation`]).
//!
//! Rules, after the seed discussion of 2014: a mapping that goes is replaced
//! in one step, so that the backend never faults; a writable one gets a
//! frame of its own, which the backend left when it mapped, so that nothing
//! leaks from one grant to another; read-only ones share one frame of
//! zeroes. Order of one revocation: find all mappings; refuse if one of them
//! cannot be revoked; zero each stand-in and put it in place; flush the
//! backend's TLBs; drop references and pins; clear the entry.
//!
//! A stand-in is held, and writable, from the map call on: the backend can
//! neither make a page table of it nor lend it to a second mapping. It goes
//! back with the unmap call. An L1 entry that the backend overwrote by
//! itself is gone already, and with it what it held: the handle ends.

use kexen_abi::errno::Errno;
use kexen_abi::grant_table::{
    GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTST_BAD_GNTREF, GNTST_BAD_PAGE,
    GNTST_GENERAL_ERROR, GNTST_NO_SPACE, GNTST_OKAY, GnttabMapGrantRef,
};
use kexen_abi::revocation::{GNTST_NOT_REVOCABLE, GnttabMapRevocable, GnttabRevoke, NO_STAND_IN};

use super::host::{Site, Way};
use super::map::pins_of;
use super::track::Track;
use crate::call::Call;
use crate::frame::{DomId, PGT_WRITABLE};
use crate::state::{State, Who};
use crate::xen::Guest;

/// Who owns the frame of zeroes (`DOMID_XEN`).
const DOMID_XEN: DomId = 0x7ff2;

/// How a revocation is done. All but the first are wrong, and there so that
/// the explorer can be seen to find out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevokeHow {
    /// As the proposal says.
    #[default]
    Replace,
    /// Mappings are taken away, as an unmap by force would.
    Unmap,
    /// All writable mappings of the backend's get its first stand-in.
    ShareOne,
    /// Stand-ins are put in place with what they hold.
    KeepContents,
    /// The backend's TLBs are not flushed.
    NoFlush,
}

impl Guest {
    /// Has this domain's revocations done in a wrong way from now on.
    pub fn revoke_wrongly(&self, how: RevokeHow) {
        self.xen().state().table(self.index()).how = how;
    }
}

impl State {
    /// Maps, with a frame of the caller's to stand in.
    pub(super) fn map_with_stand_in(
        &mut self,
        who: Who,
        way: Way,
        op: &mut GnttabMapGrantRef,
        stand_in: u64,
    ) {
        if op.flags & GNTMAP_HOST_MAP == 0 || op.flags & GNTMAP_DEVICE_MAP != 0 {
            op.status = GNTST_GENERAL_ERROR;
            return;
        }
        let readonly = op.flags & GNTMAP_READONLY != 0;
        let held = if readonly && stand_in == NO_STAND_IN {
            None
        } else {
            match self.hold_stand_in(who.domain, stand_in) {
                Ok(mfn) if !readonly => Some(mfn),
                Ok(mfn) => {
                    self.return_stand_in(mfn, false);
                    op.status = GNTST_BAD_PAGE;
                    return;
                }
                Err(status) => {
                    op.status = status;
                    return;
                }
            }
        };
        self.map_grant_ref(who, way, op);
        if op.status == GNTST_OKAY {
            let tracks = &mut self.table(who.domain).track.used;
            if let Some(track) = tracks.get_mut(&op.handle) {
                track.stand_in = held;
            }
        } else if let Some(mfn) = held {
            self.return_stand_in(mfn, false);
        }
    }

    /// Takes hold of a frame that will stand in: RAM of the domain's own
    /// that can be writable and stands in for nothing else.
    fn hold_stand_in(&mut self, domain: usize, gfn: u64) -> Result<u64, i16> {
        let id = self.domains[domain].id;
        let mfn = self.frame_of_gfn(domain, gfn).ok_or(GNTST_BAD_PAGE)?;
        let mut tracks = self.table(domain).track.used.values();
        if tracks.any(|track| track.stand_in == Some(mfn)) || self.at(mfn).special {
            return Err(GNTST_BAD_PAGE);
        }
        self.get_page_and_type(mfn, id, PGT_WRITABLE)
            .map_err(|_| GNTST_BAD_PAGE)?;
        Ok(mfn)
    }

    /// Drops what was held of a stand-in, or of the frame of zeroes.
    pub(super) fn return_stand_in(&mut self, mfn: u64, readonly: bool) {
        if !readonly {
            self.put_page_type(mfn);
        }
        self.put_page(mfn);
    }

    /// The frame of zeroes, with one more reference.
    fn zero_frame(&mut self, mapper: usize) -> Option<u64> {
        let zero = match self.table(mapper).zeroes {
            Some(mfn) => mfn,
            None => {
                let mfn = self.allocate_special(DOMID_XEN)?;
                self.table(mapper).zeroes = Some(mfn);
                mfn
            }
        };
        self.at(zero).refs += 1;
        Some(zero)
    }

    /// Takes a reference of a domain's back: how many mappings were
    /// replaced.
    fn revoke_grant(&mut self, granter: usize, gref: u32) -> Result<u32, i16> {
        let id = self.domains[granter].id;
        if gref >= self.nr_entries(granter) {
            self.say(format!("Bad ref {gref:#x} for d{id}"));
            return Err(GNTST_BAD_GNTREF);
        }
        let active = self.active(granter, gref);
        let mapper = match self.index_of(active.domid) {
            Some(mapper) if active.pin != 0 => mapper,
            _ => {
                self.clear_entry(granter, gref);
                return Ok(0);
            }
        };
        let tracks: Vec<(u32, Track)> = self
            .table(mapper)
            .track
            .used
            .iter()
            .filter(|(_, track)| track.domid == id && track.gref == gref && !track.revoked)
            .map(|(handle, track)| (*handle, *track))
            .collect();
        let plain = |track: &Track| {
            let flags = u32::from(track.flags);
            flags & GNTMAP_DEVICE_MAP != 0
                || flags & GNTMAP_READONLY == 0 && track.stand_in.is_none()
        };
        if tracks.iter().any(|(_, track)| plain(track)) {
            return Err(GNTST_NOT_REVOCABLE);
        }
        // What can fail is done before anything is changed.
        let readonly = |track: &Track| u32::from(track.flags) & GNTMAP_READONLY != 0;
        let zeroes = tracks.iter().filter(|(_, track)| readonly(track)).count();
        let mut zero = None;
        for _ in 0..zeroes {
            zero = Some(self.zero_frame(mapper).ok_or(GNTST_NO_SPACE)?);
        }
        let mut replaced = 0;
        let mut gone = Vec::new();
        for (handle, track) in &tracks {
            let frame = if readonly(track) {
                zero
            } else {
                track.stand_in
            };
            let Some(frame) = frame else { continue };
            let there = self.put_in_place(granter, mapper, track, active.mfn, frame);
            replaced += u32::from(there);
            gone.push((*handle, *track, frame, there));
        }
        if self.table(granter).how != RevokeHow::NoFlush {
            self.flush_after_unmap(mapper);
        }
        for (handle, track, frame, there) in gone {
            self.end_revoked(granter, mapper, handle, track, frame, there);
        }
        debug_assert_eq!(self.active(granter, gref).pin, 0, "a pin without a handle");
        self.clear_entry(granter, gref);
        Ok(replaced)
    }

    /// Zeroes a stand-in and puts it where the granter's frame was.
    /// Whether that was still there.
    fn put_in_place(
        &mut self,
        granter: usize,
        mapper: usize,
        track: &Track,
        old: u64,
        frame: u64,
    ) -> bool {
        let readonly = u32::from(track.flags) & GNTMAP_READONLY != 0;
        let how = self.table(granter).how;
        if !readonly && how != RevokeHow::KeepContents {
            self.bytes_mut(frame).fill(0);
        }
        let first = || {
            let mut tracks = self.domains[mapper].grants.track.used.values();
            tracks.find_map(|track| track.stand_in)
        };
        let new = match how {
            RevokeHow::Unmap => return self.remove_mapping(mapper, track.site, old, readonly),
            RevokeHow::ShareOne if !readonly => first().unwrap_or(frame),
            _ => frame,
        };
        self.exchange_frame(mapper, track.site, old, new, readonly)
    }

    /// Takes a mapping away.
    fn remove_mapping(&mut self, mapper: usize, site: Site, old: u64, readonly: bool) -> bool {
        let there = self.exchange_frame(mapper, site, old, old, readonly);
        match site {
            Site::Entry(place) if there => self.set_word(place.mfn, place.offset, 0),
            Site::Gfn(gfn) if there => {
                self.domains[mapper].physmap.entries.remove(&gfn);
            }
            Site::Window(number) => {
                self.table(mapper).windows.remove(&number);
            }
            _ => {}
        }
        there
    }

    /// After the flush: references, pins and what the handle says.
    fn end_revoked(
        &mut self,
        granter: usize,
        mapper: usize,
        handle: u32,
        track: Track,
        frame: u64,
        there: bool,
    ) {
        let flags = u32::from(track.flags);
        let readonly = flags & GNTMAP_READONLY != 0;
        let mut active = self.active(granter, track.gref);
        // An L1 entry that was overwritten has dropped the references.
        if there || !matches!(track.site, Site::Entry(_) | Site::Overwritten) {
            if self.host_takes_type(readonly, mapper, granter) {
                self.put_page_type(active.mfn);
            }
            self.put_page(active.mfn);
        }
        active.pin -= pins_of(flags);
        self.set_active(granter, track.gref, active);
        if there && self.table(granter).how != RevokeHow::Unmap {
            let tracks = &mut self.table(mapper).track.used;
            if let Some(track) = tracks.get_mut(&handle) {
                track.revoked = true;
                track.stand_in = Some(frame);
            }
        } else {
            self.table(mapper).track.put(handle);
            self.return_stand_in(frame, readonly);
        }
    }

    /// The entry is free, and says nothing of what it was.
    fn clear_entry(&mut self, granter: usize, gref: u32) {
        let place = self.entry(granter, gref);
        self.set_word(place.mfn, place.offset, 0);
        if self.table(granter).version == 2 {
            self.set_word(place.mfn, place.offset + 8, 0);
            let status = self.status_place(granter, gref);
            self.set_half(status, 0);
        }
    }

    /// Handles whose mapping was at this place have none any more: another
    /// one is made there now.
    pub(super) fn forget_site(&mut self, domain: usize, site: Site) {
        for track in self.table(domain).track.used.values_mut() {
            if track.site == site {
                track.site = Site::Overwritten;
            }
        }
    }

    /// Frames that stand in for a mapping of this domain's, or will.
    #[cfg(test)]
    pub(super) fn stand_ins(&self, domain: usize) -> Vec<u64> {
        let tracks = self.domains[domain].grants.track.used.values();
        tracks.filter_map(|track| track.stand_in).collect()
    }
}

/// `GNTTABOP_MAP_REVOCABLE`
pub(super) fn map_revocable(call: &mut Call<'_, '_, '_>, count: u32) -> Result<(), Errno> {
    for n in 0..u64::from(count) {
        let mut op: GnttabMapRevocable = call.read(1, n)?;
        let who = call.who;
        call.state
            .map_with_stand_in(who, Way::Call, &mut op.map, op.stand_in);
        call.write(1, n, &op)?;
    }
    Ok(())
}

/// `GNTTABOP_REVOKE`
pub(super) fn revoke(call: &mut Call<'_, '_, '_>, count: u32) -> Result<(), Errno> {
    for n in 0..u64::from(count) {
        let mut op: GnttabRevoke = call.read(1, n)?;
        (op.status, op.replaced) = match call.state.revoke_grant(call.who.domain, op.gref) {
            Ok(replaced) => (GNTST_OKAY, replaced),
            Err(status) => (status, 0),
        };
        call.write(1, n, &op)?;
    }
    Ok(())
}
