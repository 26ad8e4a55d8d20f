//! `GNTTABOP_map_grant_ref`
//!
//! Rules: `map_grant_ref`, the same in 4.17 and 4.20. Order: flags, granter,
//! handle, reference; a pinned entry must be the same user's; status and
//! frame where nobody had it yet; the pin; references to the frame (with a
//! writable type for devices, and for processors unless the granter is
//! translated); the mapping. Whoever maps a pinned entry again gets the
//! frame of the first time, whatever the entry says by now.

use kexen_abi::PAGE_SHIFT;
use kexen_abi::errno::Errno;
use kexen_abi::grant_table::{
    GNTMAP_APPLICATION_MAP, GNTMAP_CONTAINS_PTE, GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP,
    GNTMAP_READONLY, GNTST_BAD_DOMAIN, GNTST_BAD_GNTREF, GNTST_GENERAL_ERROR, GNTST_NO_SPACE,
    GNTST_OKAY, GnttabMapGrantRef,
};

use super::Active;
use super::host::{Site, Way};
use super::status::{PIN_WRITERS, pin_of, pin_overflows};
use super::track::Track;
use crate::call::Call;
use crate::frame::PGT_WRITABLE;
use crate::state::{State, Who};

/// The pins that the flags of a mapping stand for.
pub(super) fn pins_of(flags: u32) -> u32 {
    let readonly = flags & GNTMAP_READONLY != 0;
    let mut pins = 0;
    if flags & GNTMAP_DEVICE_MAP != 0 {
        pins += pin_of(true, readonly);
    }
    if flags & GNTMAP_HOST_MAP != 0 {
        pins += pin_of(false, readonly);
    }
    pins
}

impl State {
    /// `gnttab_host_mapping_get_page_type`
    pub(super) fn host_takes_type(&self, readonly: bool, mapper: usize, granter: usize) -> bool {
        !readonly && (mapper == granter || !self.domains[granter].kind.translated())
    }

    /// `map_grant_ref`: fills in what comes out of it.
    pub(super) fn map_grant_ref(&mut self, who: Who, way: Way, op: &mut GnttabMapGrantRef) {
        match self.map_one(who, way, op) {
            Ok((handle, mfn)) => {
                op.dev_bus_addr = mfn << PAGE_SHIFT;
                op.handle = handle;
                op.status = GNTST_OKAY;
            }
            Err(status) => op.status = status,
        }
    }

    fn map_one(&mut self, who: Who, way: Way, op: &GnttabMapGrantRef) -> Result<(u32, u64), i16> {
        let pins = pins_of(op.flags);
        if pins == 0 {
            self.say(format!("Bad flags in grant map op: {:x}", op.flags));
            return Err(GNTST_BAD_GNTREF);
        }
        let not_translated = GNTMAP_DEVICE_MAP | GNTMAP_APPLICATION_MAP | GNTMAP_CONTAINS_PTE;
        if self.domain(who).kind.translated() && op.flags & not_translated != 0 {
            self.say("No device mapping in HVM domain".into());
            return Err(GNTST_GENERAL_ERROR);
        }
        let Some(granter) = self.index_of(op.dom) else {
            self.say(format!("Could not find domain {}", op.dom));
            return Err(GNTST_BAD_DOMAIN);
        };
        self.init_table(granter);
        let Some(handle) = self.table(who.domain).track.get(who.vcpu) else {
            self.say("Failed to obtain maptrack handle".into());
            return Err(GNTST_NO_SPACE);
        };
        match self.pin_and_map(who, way, granter, op, pins) {
            Ok((site, mfn)) => {
                let track = Track {
                    gref: op.gref,
                    flags: u16::try_from(op.flags & 0xffff).unwrap_or(0),
                    domid: op.dom,
                    site,
                    stand_in: None,
                    revoked: false,
                };
                self.table(who.domain).track.used.insert(handle, track);
                Ok((handle, mfn))
            }
            Err(status) => {
                self.table(who.domain).track.put(handle);
                Err(status)
            }
        }
    }

    fn pin_and_map(
        &mut self,
        who: Who,
        way: Way,
        granter: usize,
        op: &GnttabMapGrantRef,
        pins: u32,
    ) -> Result<(Site, u64), i16> {
        let readonly = op.flags & GNTMAP_READONLY != 0;
        let fetched = self.pin_to_map(who, granter, op.gref, readonly, pins)?;
        let mfn = self.active(granter, op.gref).mfn;
        let mut held = Held::default();
        let result = self.hold_and_map(who, way, granter, op, fetched, &mut held);
        result.map(|site| (site, mfn)).inspect_err(|_| {
            for _ in 0..held.types {
                self.put_page_type(mfn);
            }
            for _ in 0..held.refs {
                self.put_page(mfn);
            }
            let mut active = self.active(granter, op.gref);
            active.pin -= pins;
            self.set_active(granter, op.gref, active);
            self.reduce_status(granter, op.gref, readonly);
        })
    }

    /// The first half: the entry is checked and pinned. Whether a reference
    /// to the frame was taken on the way.
    fn pin_to_map(
        &mut self,
        who: Who,
        granter: usize,
        gref: u32,
        readonly: bool,
        pins: u32,
    ) -> Result<bool, i16> {
        let (user, granter_id) = (self.id(who), self.domains[granter].id);
        if gref >= self.nr_entries(granter) {
            self.say(format!("Bad ref {gref:#x} for d{granter_id}"));
            return Err(GNTST_BAD_GNTREF);
        }
        let mut active = self.active(granter, gref);
        if active.pin != 0
            && (active.domid != user || pin_overflows(active.pin, pins) || active.is_sub_page)
        {
            self.say(format!(
                "Bad domain ({} != {user}), or risk of counter overflow {:08x}, or subpage {}",
                active.domid,
                active.pin,
                u8::from(active.is_sub_page)
            ));
            return Err(GNTST_GENERAL_ERROR);
        }
        let fresh = active.pin == 0;
        if fresh || !readonly && active.pin & PIN_WRITERS == 0 {
            self.set_grant_status(granter, gref, readonly, true, user)?;
        }
        if fresh {
            let gfn = self.entry_frame(granter, gref);
            let mfn = self
                .get_paged_frame(granter, gfn)
                .inspect_err(|_| self.reduce_status(granter, gref, readonly))?;
            active = Active {
                pin: 0,
                domid: user,
                mfn,
                start: 0,
                length: 4096,
                is_sub_page: false,
                src_domid: granter_id,
                trans_gref: gref,
            };
        }
        active.pin += pins;
        self.set_active(granter, gref, active);
        Ok(fresh)
    }

    /// The second half: references and the mapping. What was taken is noted
    /// in `held` also when it fails.
    fn hold_and_map(
        &mut self,
        who: Who,
        way: Way,
        granter: usize,
        op: &GnttabMapGrantRef,
        fetched: bool,
        held: &mut Held,
    ) -> Result<Site, i16> {
        let mfn = self.active(granter, op.gref).mfn;
        let id = self.domains[granter].id;
        let readonly = op.flags & GNTMAP_READONLY != 0;
        let device = op.flags & GNTMAP_DEVICE_MAP != 0;
        if fetched || self.get_page(mfn, id) {
            held.refs += 1;
        } else {
            return Err(self.could_not_pin(mfn));
        }
        if device && !readonly {
            if self.get_page_type(mfn, PGT_WRITABLE).is_err() {
                return Err(self.could_not_pin(mfn));
            }
            held.types += 1;
        }
        if op.flags & GNTMAP_HOST_MAP == 0 {
            return Ok(Site::Nowhere);
        }
        if device {
            if !self.get_page(mfn, id) {
                return Err(self.could_not_pin(mfn));
            }
            held.refs += 1;
        }
        if self.host_takes_type(readonly, who.domain, granter) {
            if self.get_page_type(mfn, PGT_WRITABLE).is_err() {
                return Err(self.could_not_pin(mfn));
            }
            held.types += 1;
        }
        self.create_host_mapping(who, way, op.host_addr, mfn, op.flags)
    }

    fn could_not_pin(&mut self, mfn: u64) -> i16 {
        self.say(format!("Could not pin grant frame {mfn:x}"));
        GNTST_GENERAL_ERROR
    }
}

/// References that a map call has taken so far.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    refs: u32,
    types: u32,
}

/// `GNTTABOP_map_grant_ref`
pub(super) fn map(call: &mut Call<'_, '_, '_>, count: u32) -> Result<(), Errno> {
    for n in 0..u64::from(count) {
        let mut op: GnttabMapGrantRef = call.read(1, n)?;
        let who = call.who;
        call.state.map_grant_ref(who, Way::Call, &mut op);
        call.write(1, n, &op)?;
    }
    Ok(())
}
