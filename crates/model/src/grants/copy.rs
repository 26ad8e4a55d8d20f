//! `GNTTABOP_copy`
//!
//! Rules: `gnttab_copy` and what it calls. Each side is a reference, or a
//! frame of the caller's own (`DOMID_SELF` then). Pins, types and references
//! last for as long as one call goes on with the same side, and are gone at
//! its end. Version 2 may grant a part of a page, or pass another domain's
//! grant on, one step far. Since 4.20 a copy of no bytes is no copy at all.

use kexen_abi::DOMID_SELF;
use kexen_abi::errno::Errno;
use kexen_abi::grant_table::{
    GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTST_BAD_COPY_ARG, GNTST_BAD_DOMAIN, GNTST_BAD_GNTREF,
    GNTST_GENERAL_ERROR, GNTST_OKAY, GNTST_PERMISSION_DENIED, GTF_SUB_PAGE, GTF_TRANSITIVE,
    GTF_TYPE_MASK, GnttabCopy, GnttabCopyPtr,
};

use super::Active;
use super::status::{PIN_WRITERS, pin_of, pin_overflows};
use super::write_status;
use crate::call::Call;
use crate::frame::{DomId, PGT_WRITABLE};
use crate::state::{State, Version, Who};

/// Why one copy was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    /// A status for the caller.
    Status(i16),
    /// Xen would try again, and find the same: see [`State::pass_on`].
    ForEver,
}

/// What a side of a copy may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Area {
    mfn: u64,
    start: u16,
    length: u16,
}

/// A side of the copy that is claimed (`struct gnttab_copy_buf`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claimed {
    domain: usize,
    domid: DomId,
    /// The reference or frame number that it was claimed for.
    u: u64,
    gref: Option<u32>,
    area: Area,
    writable: bool,
}

/// What is left to read of a grant.
fn area_of(active: &Active) -> Area {
    Area {
        mfn: active.mfn,
        start: active.start,
        length: active.length,
    }
}

impl State {
    /// `release_grant_for_copy`
    fn release_for_copy(&mut self, granter: usize, gref: u32, readonly: bool) {
        let mut active = self.active(granter, gref);
        let next = (active.src_domid, active.trans_gref);
        active.pin -= pin_of(false, readonly);
        self.set_active(granter, gref, active);
        self.reduce_status(granter, gref, readonly);
        if self.table(granter).version == 2
            && let Some(source) = self.index_of(next.0)
            && source != granter
        {
            self.release_for_copy(source, next.1, readonly);
        }
    }

    /// `acquire_grant_for_copy`: a pin, and a reference to the frame.
    fn acquire_for_copy(
        &mut self,
        granter: usize,
        gref: u32,
        user: DomId,
        readonly: bool,
        transitive: bool,
    ) -> Result<Area, Failed> {
        self.init_table(granter);
        if gref >= self.nr_entries(granter) {
            self.say(format!("Bad grant reference {gref:#x}"));
            return Err(Failed::Status(GNTST_BAD_GNTREF));
        }
        let mut active = self.active(granter, gref);
        let pin = pin_of(false, readonly);
        if active.pin != 0 && (active.domid != user || pin_overflows(active.pin, pin)) {
            self.say(format!(
                "Bad domain ({} != {user}), or risk of counter overflow {:08x}",
                active.domid, active.pin
            ));
            return Err(Failed::Status(GNTST_GENERAL_ERROR));
        }
        let version = self.table(granter).version;
        let flags = self.header(granter, gref).flags;
        let first = active.pin == 0 || !readonly && active.pin & PIN_WRITERS == 0;
        if version == 2 && flags & GTF_TYPE_MASK == GTF_TRANSITIVE {
            if first {
                self.set_grant_status(granter, gref, readonly, false, user)
                    .map_err(Failed::Status)?;
            }
            active = self
                .pass_on(granter, gref, user, readonly, transitive)
                .inspect_err(|_| self.reduce_status(granter, gref, readonly))?;
        } else {
            if first {
                self.set_grant_status(granter, gref, readonly, false, user)
                    .map_err(Failed::Status)?;
            }
            active = self
                .frame_for_copy(granter, gref, user, active, first)
                .inspect_err(|_| self.reduce_status(granter, gref, readonly))
                .map_err(Failed::Status)?;
        }
        active.pin += pin;
        self.set_active(granter, gref, active);
        Ok(area_of(&active))
    }

    /// A reference to the frame: that of the pin, if there is one, whatever
    /// the entry says by now.
    fn frame_for_copy(
        &mut self,
        granter: usize,
        gref: u32,
        user: DomId,
        active: Active,
        first: bool,
    ) -> Result<Active, i16> {
        if active.pin == 0 {
            return self.look_up(granter, gref, user);
        }
        if first {
            // The first writer has the entry looked up once more: it must not
            // say anything else by now.
            let named = self.look_up(granter, gref, user)?;
            self.put_page(named.mfn);
            let part = (active.start, active.length, true);
            let same = named.mfn == active.mfn
                && (!active.is_sub_page || (named.start, named.length, named.is_sub_page) == part);
            if !same {
                self.say(format!("Grant entry {gref:#x} changed while it was in use"));
                return Err(GNTST_GENERAL_ERROR);
            }
        }
        let id = self.domains[granter].id;
        if self.get_page(active.mfn, id) {
            Ok(active)
        } else {
            Err(GNTST_BAD_DOMAIN)
        }
    }

    /// What an entry that nobody uses says, with a reference to its frame.
    fn look_up(&mut self, granter: usize, gref: u32, user: DomId) -> Result<Active, i16> {
        let place = self.entry(granter, gref);
        let part = self.table(granter).version == 2 && self.half(place, 0) & GTF_SUB_PAGE != 0;
        let (start, length) = if part {
            // `start` is a field of 15 bits in Xen.
            (self.half(place, 4) & 0x7fff, self.half(place, 6))
        } else {
            (0, 4096)
        };
        let gfn = self.entry_frame(granter, gref);
        let mfn = self.get_paged_frame(granter, gfn)?;
        Ok(Active {
            pin: 0,
            domid: user,
            mfn,
            start,
            length,
            is_sub_page: part,
            src_domid: self.domains[granter].id,
            trans_gref: gref,
        })
    }

    /// A grant that is another domain's. Where the entry is pinned for
    /// something else already, Xen gives up its attempt and makes the call
    /// begin again, for as long as that is so; the model ends the call.
    fn pass_on(
        &mut self,
        granter: usize,
        gref: u32,
        user: DomId,
        readonly: bool,
        transitive: bool,
    ) -> Result<Active, Failed> {
        let id = self.domains[granter].id;
        if !transitive {
            self.say("transitive grant when transitivity not allowed".into());
            return Err(Failed::Status(GNTST_GENERAL_ERROR));
        }
        let place = self.entry(granter, gref);
        let source_id = self.half(place, 4);
        let low = u32::from(self.half(place, 8));
        let source_gref = low | u32::from(self.half(place, 10)) << 16;
        if source_id == id {
            self.say("transitive grants cannot be self-referential".into());
            return Err(Failed::Status(GNTST_GENERAL_ERROR));
        }
        let Some(source) = self.index_of(source_id) else {
            self.say(format!(
                "transitive grant referenced bad domain {source_id}"
            ));
            return Err(Failed::Status(GNTST_GENERAL_ERROR));
        };
        let area = self.acquire_for_copy(source, source_gref, id, readonly, false)?;
        let old = self.active(granter, gref);
        let new = Active {
            pin: old.pin,
            domid: user,
            mfn: area.mfn,
            start: area.start,
            length: area.length,
            // Always as a part: that keeps it from being mapped.
            is_sub_page: true,
            src_domid: source_id,
            trans_gref: source_gref,
        };
        if old.pin != 0 && old != new {
            self.release_for_copy(source, source_gref, readonly);
            self.put_page(area.mfn);
            return Err(Failed::ForEver);
        }
        Ok(new)
    }

    /// `gnttab_copy_claim_buf`
    fn claim(
        &mut self,
        who: Who,
        domain: usize,
        ptr: &GnttabCopyPtr,
        by_gref: bool,
        writable: bool,
    ) -> Result<Claimed, Failed> {
        let user = self.id(who);
        let (gref, area) = if by_gref {
            let gref = u32::try_from(ptr.u & 0xffff_ffff).unwrap_or(0);
            let area = self.acquire_for_copy(domain, gref, user, !writable, true)?;
            (Some(gref), area)
        } else {
            let mfn = self
                .get_paged_frame(domain, ptr.u)
                .inspect_err(|_| self.say(format!("source frame {:x} invalid", ptr.u)))
                .map_err(Failed::Status)?;
            let (start, length) = (0, 4096);
            (None, Area { mfn, start, length })
        };
        if writable && self.get_page_type(area.mfn, PGT_WRITABLE).is_err() {
            self.say(format!("Could not get writable frame {:x}", area.mfn));
            if let Some(gref) = gref {
                self.release_for_copy(domain, gref, false);
            }
            self.put_page(area.mfn);
            return Err(Failed::Status(GNTST_GENERAL_ERROR));
        }
        Ok(Claimed {
            domain,
            domid: ptr.domid,
            u: ptr.u,
            gref,
            area,
            writable,
        })
    }

    /// `gnttab_copy_release_buf`
    fn release(&mut self, side: &mut Option<Claimed>) {
        let Some(side) = side.take() else {
            return;
        };
        if let Some(gref) = side.gref {
            self.release_for_copy(side.domain, gref, !side.writable);
        }
        if side.writable {
            self.put_page_type(side.area.mfn);
        }
        self.put_page(side.area.mfn);
    }

    /// `gnttab_copy_lock_domain`
    fn copy_domain(&self, who: Who, domid: DomId, by_gref: bool) -> Result<usize, Failed> {
        if domid != DOMID_SELF && !by_gref {
            return Err(Failed::Status(GNTST_PERMISSION_DENIED));
        }
        if domid == DOMID_SELF {
            return Ok(who.domain);
        }
        self.index_of(domid).ok_or(Failed::Status(GNTST_BAD_DOMAIN))
    }

    fn copy_one(
        &mut self,
        who: Who,
        op: &GnttabCopy,
        source: &mut Option<Claimed>,
        dest: &mut Option<Claimed>,
    ) -> Result<(), Failed> {
        if op.len == 0 && self.version >= Version::Xen4_20 {
            return Ok(());
        }
        let from_gref = op.flags & GNTCOPY_SOURCE_GREF != 0;
        let to_gref = op.flags & GNTCOPY_DEST_GREF != 0;
        let other = |side: &Option<Claimed>, ptr: &GnttabCopyPtr| {
            side.is_none_or(|side| side.domid != ptr.domid)
        };
        if other(source, &op.source) || other(dest, &op.dest) {
            self.release(source);
            self.release(dest);
        }
        let from = self.copy_domain(who, op.source.domid, from_gref)?;
        let to = self.copy_domain(who, op.dest.domid, to_gref)?;
        let from = self.side(who, from, &op.source, from_gref, false, source)?;
        let to = self.side(who, to, &op.dest, to_gref, true, dest)?;
        self.copy_bytes(op, from, to).map_err(Failed::Status)
    }

    /// The side as it is claimed already, or claimed now.
    fn side(
        &mut self,
        who: Who,
        domain: usize,
        ptr: &GnttabCopyPtr,
        by_gref: bool,
        writable: bool,
        side: &mut Option<Claimed>,
    ) -> Result<Area, Failed> {
        let same = |side: &Claimed| {
            if by_gref {
                side.gref.map(u64::from) == Some(ptr.u & 0xffff_ffff)
            } else {
                side.u == ptr.u
            }
        };
        if let Some(side) = side.as_ref().filter(|side| same(side)) {
            return Ok(side.area);
        }
        self.release(side);
        let claimed = self.claim(who, domain, ptr, by_gref, writable)?;
        Ok(side.insert(claimed).area)
    }

    /// `gnttab_copy_buf`
    fn copy_bytes(&mut self, op: &GnttabCopy, from: Area, to: Area) -> Result<(), i16> {
        let len = u32::from(op.len);
        let (source, dest) = (u32::from(op.source.offset), u32::from(op.dest.offset));
        if source + len > 4096 || dest + len > 4096 {
            self.say("copy beyond page area".into());
            return Err(GNTST_BAD_COPY_ARG);
        }
        for (name, offset, area) in [("source", source, from), ("dest", dest, to)] {
            let (start, length) = (u32::from(area.start), u32::from(area.length));
            if offset < start || offset + len > start + length {
                self.say(format!(
                    "copy {name} out of bounds: {offset} < {start} || {len} > {length}"
                ));
                return Err(GNTST_GENERAL_ERROR);
            }
        }
        let size = usize::from(op.len);
        let (source, dest) = (usize::from(op.source.offset), usize::from(op.dest.offset));
        // Upwards, a word at a time, as Xen's `memcpy` does: seen where the
        // two overlap.
        let mut done = 0;
        while done < size {
            let step = if size - done >= 8 { 8 } else { 1 };
            let mut word = [0; 8];
            word[..step].copy_from_slice(&self.bytes(from.mfn)[source + done..][..step]);
            self.bytes_mut(to.mfn)[dest + done..][..step].copy_from_slice(&word[..step]);
            done += step;
        }
        Ok(())
    }
}

/// `GNTTABOP_copy`
pub(super) fn copy(call: &mut Call<'_, '_, '_>, count: u32) -> Result<(), Errno> {
    let (mut source, mut dest) = (None, None);
    let result = copy_all(call, count, &mut source, &mut dest);
    call.state.release(&mut source);
    call.state.release(&mut dest);
    result
}

fn copy_all(
    call: &mut Call<'_, '_, '_>,
    count: u32,
    source: &mut Option<Claimed>,
    dest: &mut Option<Claimed>,
) -> Result<(), Errno> {
    let field = std::mem::offset_of!(GnttabCopy, status);
    for n in 0..count {
        let op: GnttabCopy = call.read(1, u64::from(n))?;
        let status = match call.state.copy_one(call.who, &op, source, dest) {
            Ok(()) => GNTST_OKAY,
            Err(Failed::Status(status)) => status,
            Err(Failed::ForEver) => return Err(Errno::EAGAIN),
        };
        if status != GNTST_OKAY {
            call.state.release(source);
            call.state.release(dest);
        }
        write_status(call, n, size_of::<GnttabCopy>(), field, status)?;
    }
    Ok(())
}
