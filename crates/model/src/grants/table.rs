//! The table's frames, and the entries in them.
//!
//! Rules: `gnttab_grow_table`, `gnttab_setup_table`, `gnttab_query_size`,
//! `gnttab_get_status_frames`, `gnttab_get_shared_frame_mfn`,
//! `gnttab_get_status_frame_mfn`. An entry of version 1 is 8 bytes and has
//! its status in its flags; one of version 2 is 16 bytes, its status two
//! bytes of a frame of their own. A table grows and never shrinks.

use kexen_abi::errno::Errno;
use kexen_abi::grant_table::{
    GNTST_BAD_DOMAIN, GNTST_BAD_VIRT_ADDR, GNTST_GENERAL_ERROR, GNTST_OKAY,
    GNTST_PERMISSION_DENIED, GRANT_ENTRY_V1_BYTES, GRANT_ENTRY_V1_FRAME, GRANT_ENTRY_V2_BYTES,
    GRANT_ENTRY_V2_FRAME, GRANT_STATUS_BYTES, GnttabGetStatusFrames, GnttabQuerySize,
    GnttabSetupTable, XENMAPIDX_GRANT_TABLE_STATUS,
};
use kexen_abi::{DOMID_SELF, PAGE_SIZE};

use super::{host, write_status};
use crate::call::{Answer, Call};
use crate::frame::INVALID_M2P;
use crate::state::{State, Version};

/// Entries of a frame of version 2, and status words of a status frame.
const V2_PER_FRAME: u32 = (PAGE_SIZE / GRANT_ENTRY_V2_BYTES) as u32;
const STATUS_PER_FRAME: u32 = (PAGE_SIZE / GRANT_STATUS_BYTES) as u32;

/// A place in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) mfn: u64,
    pub(super) offset: u64,
}

/// What every entry begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) flags: u16,
    pub(super) domid: u16,
}

fn status_frames_for(frames: u32) -> u32 {
    (frames * V2_PER_FRAME).div_ceil(STATUS_PER_FRAME)
}

fn count(frames: &[u64]) -> u32 {
    u32::try_from(frames.len()).unwrap_or(u32::MAX)
}

impl State {
    /// A domain has a table of one frame from the start
    /// (`grant_table_init`); the model gives it the frame at the first use.
    pub(super) fn init_table(&mut self, domain: usize) {
        if self.table(domain).frames.is_empty() {
            // Without a frame left the table stays as it is: every
            // reference is then out of range.
            let _ = self.grow_table(domain, 1);
        }
    }

    fn grow_table(&mut self, domain: usize, frames: u32) -> Result<(), Errno> {
        let id = self.domains[domain].id;
        let have = count(&self.table(domain).frames);
        if frames > 1 && frames > have {
            self.say(format!(
                "Expanding d{id} grant table from {have} to {frames} frames"
            ));
        }
        let mut fresh = Vec::new();
        for _ in have..frames {
            match self.allocate_special(id) {
                Some(mfn) => fresh.push(mfn),
                None => {
                    for mfn in fresh {
                        self.put_allocation(mfn);
                    }
                    self.say(format!(
                        "Allocation failure when expanding d{id} grant table"
                    ));
                    return Err(Errno::ENOMEM);
                }
            }
        }
        if self.table(domain).version > 1
            && let Err(error) = self.populate_status(domain, frames.max(have))
        {
            for mfn in fresh {
                self.put_allocation(mfn);
            }
            return Err(error);
        }
        self.table(domain).frames.extend(fresh);
        Ok(())
    }

    /// Gives a table of version 2 the status frames that it needs.
    pub(super) fn populate_status(&mut self, domain: usize, frames: u32) -> Result<(), Errno> {
        let id = self.domains[domain].id;
        let mut fresh = Vec::new();
        for _ in count(&self.table(domain).status)..status_frames_for(frames) {
            match self.allocate_special(id) {
                Some(mfn) => fresh.push(mfn),
                None => {
                    for mfn in fresh {
                        self.put_allocation(mfn);
                    }
                    return Err(Errno::ENOMEM);
                }
            }
        }
        self.table(domain).status.extend(fresh);
        Ok(())
    }

    /// `nr_grant_frames`
    pub(super) fn nr_frames(&self, domain: usize) -> u32 {
        count(&self.domains[domain].grants.frames)
    }

    /// `nr_grant_entries`
    pub(super) fn nr_entries(&self, domain: usize) -> u32 {
        let table = &self.domains[domain].grants;
        let bytes = u64::from(count(&table.frames)) * PAGE_SIZE;
        u32::try_from(bytes / entry_bytes(table.version)).unwrap_or(0)
    }

    /// Where an entry is; the reference is in range.
    pub(super) fn entry(&self, domain: usize, gref: u32) -> Place {
        let table = &self.domains[domain].grants;
        let at = u64::from(gref) * entry_bytes(table.version);
        place(&table.frames, at)
    }

    /// Where its status is: in its flags, or in a frame of status words.
    pub(super) fn status_place(&self, domain: usize, gref: u32) -> Place {
        let table = &self.domains[domain].grants;
        if table.version == 1 {
            return self.entry(domain, gref);
        }
        place(&table.status, u64::from(gref) * GRANT_STATUS_BYTES)
    }

    pub(super) fn header(&self, domain: usize, gref: u32) -> Header {
        let place = self.entry(domain, gref);
        Header {
            flags: self.half(place, 0),
            domid: self.half(place, 2),
        }
    }

    /// The guest's number of the frame, in a whole-page entry.
    pub(super) fn entry_frame(&self, domain: usize, gref: u32) -> u64 {
        let place = self.entry(domain, gref);
        if self.domains[domain].grants.version == 1 {
            let word = self.word(place.mfn, place.offset);
            word >> (8 * GRANT_ENTRY_V1_FRAME)
        } else {
            self.word(place.mfn, place.offset + GRANT_ENTRY_V2_FRAME)
        }
    }

    pub(super) fn set_entry_frame(&mut self, domain: usize, gref: u32, frame: u64) {
        let place = self.entry(domain, gref);
        if self.table(domain).version == 1 {
            let word = self.word(place.mfn, place.offset) & 0xffff_ffff;
            self.set_word(place.mfn, place.offset, word | (frame << 32));
        } else {
            self.set_word(place.mfn, place.offset + GRANT_ENTRY_V2_FRAME, frame);
        }
    }

    /// Sixteen bits, `more` bytes on.
    pub(super) fn half(&self, place: Place, more: u64) -> u16 {
        let at = usize::try_from(place.offset + more).unwrap_or(0);
        let bytes = self.bytes(place.mfn);
        u16::from_le_bytes([bytes[at], bytes[at + 1]])
    }

    pub(super) fn set_half(&mut self, place: Place, value: u16) {
        let at = usize::try_from(place.offset).unwrap_or(0);
        self.bytes_mut(place.mfn)[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// The guest's name for a frame of its table (`gnttab_shared_gfn`).
    fn table_gfn(&self, domain: usize, mfn: u64) -> u64 {
        if !self.domains[domain].kind.translated() {
            return mfn;
        }
        self.frame(mfn).map_or(INVALID_M2P, |frame| frame.m2p)
    }

    /// `gnttab_get_status_frame_mfn`
    fn status_frame(&mut self, domain: usize, idx: u32) -> Result<u64, Errno> {
        if idx >= count(&self.table(domain).status) {
            let wanted = idx.checked_add(1).ok_or(Errno::EINVAL)?;
            let frames = u64::from(wanted) * u64::from(STATUS_PER_FRAME / V2_PER_FRAME);
            let frames = u32::try_from(frames).map_err(|_| Errno::EINVAL)?;
            if frames <= self.table(domain).max_frames {
                let _ = self.grow_table(domain, frames);
            }
        }
        frame_at(&self.table(domain).status, idx)
    }
}

const fn entry_bytes(version: u32) -> u64 {
    if version == 1 {
        GRANT_ENTRY_V1_BYTES
    } else {
        GRANT_ENTRY_V2_BYTES
    }
}

fn place(frames: &[u64], at: u64) -> Place {
    let frame = usize::try_from(at / PAGE_SIZE).unwrap_or(usize::MAX);
    Place {
        mfn: frames[frame],
        offset: at % PAGE_SIZE,
    }
}

fn frame_at(frames: &[u64], idx: u32) -> Result<u64, Errno> {
    let at = usize::try_from(idx).map_err(|_| Errno::EINVAL)?;
    frames.get(at).copied().ok_or(Errno::EINVAL)
}

/// `gnttab_map_frame`: the frame behind an index of
/// `XENMAPSPACE_grant_table`; the table grows for it. Xen looks at the low
/// half of the index alone.
pub(crate) fn grant_frame(state: &mut State, domain: usize, idx: u64) -> Result<u64, Errno> {
    state.init_table(domain);
    let idx = u32::try_from(idx & 0xffff_ffff).unwrap_or(0);
    if state.table(domain).version == 2 && idx & XENMAPIDX_GRANT_TABLE_STATUS != 0 {
        return state.status_frame(domain, idx & !XENMAPIDX_GRANT_TABLE_STATUS);
    }
    if idx >= state.nr_frames(domain) {
        let wanted = idx.checked_add(1).ok_or(Errno::EINVAL)?;
        if wanted <= state.table(domain).max_frames {
            let _ = state.grow_table(domain, wanted);
        }
    }
    frame_at(&state.table(domain).frames, idx)
}

/// Whose table a call means (`rcu_lock_domain_by_any_id`), and whether the
/// caller may see it.
fn target(call: &mut Call<'_, '_, '_>, dom: u16) -> Result<usize, i16> {
    let domain = if dom == DOMID_SELF {
        call.who.domain
    } else {
        call.state.index_of(dom).ok_or(GNTST_BAD_DOMAIN)?
    };
    if !call.state.may_target(call.who.domain, domain) {
        return Err(GNTST_PERMISSION_DENIED);
    }
    call.state.init_table(domain);
    Ok(domain)
}

/// Writes frame numbers to an array of the guest's. Since 4.20 it ends at
/// the first that cannot be written.
fn write_list(call: &mut Call<'_, '_, '_>, list: u64, domain: usize, frames: &[u64]) -> i16 {
    let mut status = GNTST_OKAY;
    for (n, mfn) in (0_u64..).zip(frames) {
        let gfn = call.state.table_gfn(domain, *mfn);
        let at = list.wrapping_add(n * 8);
        let who = call.who;
        if call
            .state
            .copy_to_guest(who, at, &gfn.to_le_bytes())
            .is_err()
        {
            status = GNTST_BAD_VIRT_ADDR;
            if call.state.version >= Version::Xen4_20 {
                break;
            }
        }
    }
    status
}

fn list_okay(call: &mut Call<'_, '_, '_>, list: u64) -> Result<(), Errno> {
    if call.state.domain(call.who).kind.translated() || host::addr_ok(list) {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

/// `GNTTABOP_setup_table`
pub(super) fn setup(call: &mut Call<'_, '_, '_>, nr: u32) -> Answer {
    if nr != 1 {
        return Err(Errno::EINVAL);
    }
    let op: GnttabSetupTable = call.read(1, 0)?;
    list_okay(call, op.frame_list)?;
    let status = match target(call, op.dom) {
        Err(status) => status,
        Ok(domain) => {
            let state = &mut *call.state;
            let table = state.table(domain);
            let (max, version) = (table.max_frames, table.version);
            let short = |state: &mut State| {
                op.nr_frames > state.nr_frames(domain)
                    || version > 1
                        && status_frames_for(op.nr_frames) > count(&state.table(domain).status)
            };
            if op.nr_frames > max {
                let id = state.domains[domain].id;
                state.say(format!("d{id} is limited to {max} grant-table frames"));
                GNTST_GENERAL_ERROR
            } else if short(state) && state.grow_table(domain, op.nr_frames).is_err() {
                GNTST_GENERAL_ERROR
            } else {
                let wanted = usize::try_from(op.nr_frames).unwrap_or(0);
                let frames = state.table(domain).frames[..wanted].to_vec();
                write_list(call, op.frame_list, domain, &frames)
            }
        }
    };
    let field = std::mem::offset_of!(GnttabSetupTable, status);
    write_status(call, 0, size_of::<GnttabSetupTable>(), field, status)?;
    Ok(0)
}

/// `GNTTABOP_query_size`
pub(super) fn query_size(call: &mut Call<'_, '_, '_>, nr: u32) -> Answer {
    if nr != 1 {
        return Err(Errno::EINVAL);
    }
    let mut op: GnttabQuerySize = call.read(1, 0)?;
    match target(call, op.dom) {
        Err(status) => op.status = status,
        Ok(domain) => {
            op.nr_frames = call.state.nr_frames(domain);
            op.max_nr_frames = call.state.table(domain).max_frames;
            op.status = GNTST_OKAY;
        }
    }
    call.write(1, 0, &op)?;
    Ok(0)
}

/// `GNTTABOP_get_status_frames`
pub(super) fn get_status_frames(call: &mut Call<'_, '_, '_>, nr: u32) -> Answer {
    if nr != 1 {
        return Err(Errno::EINVAL);
    }
    let op: GnttabGetStatusFrames = call.read(1, 0)?;
    list_okay(call, op.frame_list)?;
    let status = match target(call, op.dom) {
        Err(status) => status,
        Ok(domain) => {
            let wanted = usize::try_from(op.nr_frames).unwrap_or(usize::MAX);
            let frames = call.state.table(domain).status.get(..wanted);
            match frames.map(<[u64]>::to_vec) {
                None => GNTST_GENERAL_ERROR,
                Some(frames) => write_list(call, op.frame_list, domain, &frames),
            }
        }
    };
    let field = std::mem::offset_of!(GnttabGetStatusFrames, status);
    write_status(call, 0, size_of::<GnttabGetStatusFrames>(), field, status)?;
    Ok(0)
}
