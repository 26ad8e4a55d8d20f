//! `GNTTABOP_unmap_grant_ref`, `GNTTABOP_unmap_and_replace`
//!
//! Rules: `unmap_common`, `unmap_common_complete`. In batches of 32: the
//! mappings go, the caller's TLBs are flushed, then references and pins are
//! dropped and the status follows. The handle stays until the processors'
//! and the devices' mapping are both gone. The address is not on record: it
//! must lead to the frame, with the permission that was asked for.

use kexen_abi::PAGE_SHIFT;
use kexen_abi::errno::Errno;
use kexen_abi::grant_table::{
    GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTST_BAD_DEV_ADDR, GNTST_BAD_HANDLE,
    GNTST_GENERAL_ERROR, GNTST_OKAY, GnttabUnmapAndReplace, GnttabUnmapGrantRef,
};

use super::host::{Site, Way};
use super::status::pin_of;
use super::track::Track;
use super::write_status;
use crate::call::Call;
use crate::state::{State, Who};

/// Operations between two flushes (`GNTTAB_UNMAP_BATCH_SIZE`).
const BATCH: u32 = 32;

/// One unmap, as both operations ask for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Request {
    pub(super) host_addr: u64,
    pub(super) dev_bus_addr: u64,
    pub(super) new_addr: u64,
    pub(super) handle: u32,
}

/// What is left to do after the flush.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    granter: usize,
    gref: u32,
    mfn: u64,
    /// `GNTMAP_*` of what is gone.
    done: u32,
    /// The frame is a stand-in: nobody's entry is pinned for it.
    revoked: bool,
    /// A stand-in that was never needed.
    spare: Option<u64>,
}

impl State {
    /// `unmap_common`: the status, and what is left to do.
    pub(super) fn unmap_one(
        &mut self,
        who: Who,
        way: Way,
        request: Request,
    ) -> (i16, Option<Rest>) {
        let id = self.id(who);
        let handle = request.handle;
        if handle >= self.table(who.domain).track.limit() {
            self.say(format!("Bad d{id} handle {handle:#x}"));
            return (GNTST_BAD_HANDLE, None);
        }
        let Some(track) = self.table(who.domain).track.used.get(&handle).copied() else {
            self.say(format!("Zero flags for d{id} handle {handle:#x}"));
            return (GNTST_BAD_HANDLE, None);
        };
        let granter = match self.index_of(track.domid) {
            Some(granter) => granter,
            None if track.revoked => who.domain,
            None => {
                self.crash(who.domain, format!("Could not find domain {}", track.domid));
                return (GNTST_GENERAL_ERROR, None);
            }
        };
        if matches!(track.site, Site::Window(_)) != (way == Way::Window) {
            // The model's own backends alone have windows.
            return (GNTST_GENERAL_ERROR, None);
        }
        let mfn = match track.stand_in {
            Some(stand_in) if track.revoked => stand_in,
            _ => self.active(granter, track.gref).mfn,
        };
        let (status, done) = self.take_away(who, way, request, track, mfn);
        let rest = Rest {
            granter,
            gref: track.gref,
            mfn,
            done,
            revoked: track.revoked,
            spare: track.stand_in.filter(|_| !track.revoked),
        };
        (status, (done != 0).then_some(rest))
    }

    /// Takes the mappings away that the request names.
    fn take_away(
        &mut self,
        who: Who,
        way: Way,
        request: Request,
        track: Track,
        mfn: u64,
    ) -> (i16, u32) {
        let flags = u32::from(track.flags);
        let device = request.dev_bus_addr != 0 && flags & GNTMAP_DEVICE_MAP != 0;
        let host = request.host_addr != 0 && flags & GNTMAP_HOST_MAP != 0;
        if device && request.dev_bus_addr != mfn << PAGE_SHIFT {
            self.say(format!(
                "Bus address doesn't match gntref ({:x} != {:x})",
                request.dev_bus_addr,
                mfn << PAGE_SHIFT
            ));
            return (GNTST_BAD_DEV_ADDR, 0);
        }
        let (address, new) = (request.host_addr, request.new_addr);
        if host && let Err(status) = self.replace_host_mapping(who, way, address, mfn, new, flags) {
            return (status, 0);
        }
        let mut done = if host { GNTMAP_HOST_MAP } else { 0 };
        done |= if device { GNTMAP_DEVICE_MAP } else { 0 };
        let left = flags & !done;
        let tracks = &mut self.table(who.domain).track;
        if left & (GNTMAP_DEVICE_MAP | GNTMAP_HOST_MAP) == 0 {
            tracks.put(request.handle);
        } else if let Some(track) = tracks.used.get_mut(&request.handle) {
            track.flags = u16::try_from(left).unwrap_or(0);
        }
        if done != 0 {
            done |= flags & GNTMAP_READONLY;
        }
        (GNTST_OKAY, done)
    }

    /// `gnttab_flush_tlb`
    pub(super) fn flush_after_unmap(&mut self, domain: usize) {
        if !self.domains[domain].kind.translated() {
            self.flush_domain(domain);
        }
    }

    /// `unmap_common_complete`
    pub(super) fn complete_unmap(&mut self, mapper: usize, rest: Rest) {
        if rest.revoked {
            self.return_stand_in(rest.mfn, rest.done & GNTMAP_READONLY != 0);
            return;
        }
        if let Some(spare) = rest.spare {
            // A revocable mapping is for processors alone: it is gone.
            self.return_stand_in(spare, false);
        }
        let readonly = rest.done & GNTMAP_READONLY != 0;
        let mut active = self.active(rest.granter, rest.gref);
        if rest.done & GNTMAP_DEVICE_MAP != 0 {
            if !readonly {
                self.put_page_type(rest.mfn);
            }
            self.put_page(rest.mfn);
            active.pin -= pin_of(true, readonly);
        }
        if rest.done & GNTMAP_HOST_MAP != 0 {
            if self.host_takes_type(readonly, mapper, rest.granter) {
                self.put_page_type(rest.mfn);
            }
            self.put_page(rest.mfn);
            active.pin -= pin_of(false, readonly);
        }
        self.set_active(rest.granter, rest.gref, active);
        self.reduce_status(rest.granter, rest.gref, readonly);
    }
}

/// `GNTTABOP_unmap_grant_ref`
pub(super) fn unmap(call: &mut Call<'_, '_, '_>, count: u32) -> Result<(), Errno> {
    let size = size_of::<GnttabUnmapGrantRef>();
    let field = std::mem::offset_of!(GnttabUnmapGrantRef, status);
    in_batches(call, count, size, field, |call, n| {
        let op: GnttabUnmapGrantRef = call.read(1, n)?;
        Ok(Request {
            host_addr: op.host_addr,
            dev_bus_addr: op.dev_bus_addr,
            new_addr: 0,
            handle: op.handle,
        })
    })
}

/// `GNTTABOP_unmap_and_replace`
pub(super) fn unmap_and_replace(call: &mut Call<'_, '_, '_>, count: u32) -> Result<(), Errno> {
    let size = size_of::<GnttabUnmapAndReplace>();
    let field = std::mem::offset_of!(GnttabUnmapAndReplace, status);
    in_batches(call, count, size, field, |call, n| {
        let op: GnttabUnmapAndReplace = call.read(1, n)?;
        Ok(Request {
            host_addr: op.host_addr,
            dev_bus_addr: 0,
            new_addr: op.new_addr,
            handle: op.handle,
        })
    })
}

fn in_batches(
    call: &mut Call<'_, '_, '_>,
    count: u32,
    size: usize,
    field: usize,
    mut next: impl FnMut(&mut Call<'_, '_, '_>, u64) -> Result<Request, Errno>,
) -> Result<(), Errno> {
    let who = call.who;
    let mut result = Ok(());
    let mut n = 0;
    while n < count && result.is_ok() {
        let mut rests = Vec::new();
        for at in n..count.min(n.saturating_add(BATCH)) {
            result = next(call, u64::from(at)).and_then(|request| {
                let (status, rest) = call.state.unmap_one(who, Way::Call, request);
                rests.extend(rest);
                write_status(call, at, size, field, status)
            });
            if result.is_err() {
                break;
            }
        }
        call.state.flush_after_unmap(who.domain);
        for rest in rests {
            call.state.complete_unmap(who.domain, rest);
        }
        n = n.saturating_add(BATCH);
    }
    result
}
