//! Grant tables: which frames a domain lets others use, and who does.
//!
//! Rules: `do_grant_table_op` and what it calls in Xen's
//! `common/grant_table.c`, `arch/x86/{pv,hvm}/grant_table.c`. A guest writes
//! its entries into frames that it shares with Xen ([`table`]); Xen keeps
//! what is in use beside them ([`Active`]) and answers with a handle
//! ([`track`]). A hypercall is one step here, so nothing of Xen's is seen
//! half done; and a call that Xen would break off and go on with is not.

mod backend;
mod copy;
mod flush;
mod host;
mod map;
mod revoke;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod track;
mod transfer;
mod unmap;
mod version;

use std::collections::BTreeMap;

use kexen_abi::errno::Errno;
use kexen_abi::grant_table::{
    GNTTABOP_CACHE_FLUSH, GNTTABOP_COPY, GNTTABOP_GET_STATUS_FRAMES, GNTTABOP_GET_VERSION,
    GNTTABOP_MAP_GRANT_REF, GNTTABOP_QUERY_SIZE, GNTTABOP_SET_VERSION, GNTTABOP_SETUP_TABLE,
    GNTTABOP_SWAP_GRANT_REF, GNTTABOP_TRANSFER, GNTTABOP_UNMAP_AND_REPLACE,
    GNTTABOP_UNMAP_GRANT_REF,
};
use kexen_abi::revocation::{GNTTABOP_MAP_REVOCABLE, GNTTABOP_REVOKE};
use zerocopy::IntoBytes;

pub use backend::Mapping;
pub use revoke::RevokeHow;
pub(crate) use table::grant_frame;

use crate::call::{Answer, Call};
use crate::frame::DomId;
use crate::state::State;

/// Frames that a domain's table may have (`gnttab_max_frames`).
const MAX_FRAMES: u32 = 64;
/// Pages of handles that a domain may have (`gnttab_max_maptrack_frames`).
const MAX_TRACK_FRAMES: u32 = 1024;
/// Bits of the command that are the operation (`GNTTABOP_CMD_MASK`).
const CMD_MASK: u32 = 0xfff;

/// What Xen keeps of an entry that is in use (`struct active_grant_entry`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Active {
    /// Four counts of a byte each: processors writing, reading, devices
    /// writing, reading.
    pin: u32,
    /// Who uses it.
    domid: DomId,
    /// The frame, as it was when the first user came.
    mfn: u64,
    /// First byte that may be used.
    start: u16,
    /// Bytes that may be used.
    length: u16,
    /// A part of a page or a transitive grant: not to be mapped.
    is_sub_page: bool,
    /// Whose grant it is in the end (`trans_domain`).
    src_domid: DomId,
    /// Which grant of that domain.
    trans_gref: u32,
}

/// A domain's table, and what it has mapped of others' tables.
#[derive(Debug)]
pub(crate) struct GrantTable {
    version: u32,
    max_version: u32,
    max_frames: u32,
    frames: Vec<u64>,
    status: Vec<u64>,
    /// Entries in use; a pin of 0 is the same as no entry.
    active: BTreeMap<u32, Active>,
    track: track::MapTrack,
    /// Where the model's own backends see frames: see [`Mapping`].
    windows: BTreeMap<u64, host::Window>,
    /// How this domain's revocations are done.
    how: RevokeHow,
    /// The frame of zeroes that stands in for this domain's read-only
    /// mappings.
    zeroes: Option<u64>,
}

impl GrantTable {
    /// Grants by which a frame is mapped: reference and grantee.
    pub(crate) fn of_frame(&self, mfn: u64) -> impl Iterator<Item = (u32, DomId)> {
        let active = self.active.iter();
        active
            .filter(move |(_, act)| act.mfn == mfn && act.pin > 0)
            .map(|(gref, act)| (*gref, act.domid))
    }
}

impl Default for GrantTable {
    fn default() -> Self {
        Self {
            version: 1,
            max_version: 2,
            max_frames: MAX_FRAMES,
            frames: Vec::new(),
            status: Vec::new(),
            active: BTreeMap::new(),
            track: track::MapTrack::new(MAX_TRACK_FRAMES),
            windows: BTreeMap::new(),
            how: RevokeHow::default(),
            zeroes: None,
        }
    }
}

impl State {
    fn table(&mut self, domain: usize) -> &mut GrantTable {
        &mut self.domains[domain].grants
    }

    fn active(&self, domain: usize, gref: u32) -> Active {
        let table = &self.domains[domain].grants;
        table.active.get(&gref).copied().unwrap_or_default()
    }

    fn set_active(&mut self, domain: usize, gref: u32, active: Active) {
        let table = self.table(domain);
        if active.pin == 0 {
            table.active.remove(&gref);
        } else {
            table.active.insert(gref, active);
        }
    }

    /// Whether a domain may ask after another one's table (`XSM_TARGET`).
    fn may_target(&self, caller: usize, target: usize) -> bool {
        caller == target || self.domains[caller].id == 0
    }
}

/// `guest_handle_okay`: for a PV guest a look at the first address alone.
fn handle_okay(call: &mut Call<'_, '_, '_>, n: usize) -> Result<(), Errno> {
    let address = match call.value(n) {
        u64::MAX => return Ok(()),
        address => address,
    };
    let translated = call.state.domain(call.who).kind.translated();
    if translated || host::addr_ok(address) {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

/// `__copy_field_to_guest` of a status.
fn write_status(
    call: &mut Call<'_, '_, '_>,
    index: u32,
    size: usize,
    field: usize,
    status: i16,
) -> Result<(), Errno> {
    let at = u64::from(index) * u64::try_from(size).unwrap_or(0);
    let field = u64::try_from(field).unwrap_or(0);
    call.write_bytes(1, at + field, status.as_bytes())
}

/// `HYPERVISOR_grant_table_op`.
pub(crate) fn grant_table_op(call: &mut Call<'_, '_, '_>) -> Answer {
    let (command, count) = (call.word(0), call.word(2));
    if count > i32::MAX.unsigned_abs() {
        return Err(Errno::EINVAL);
    }
    let (command, opaque) = (command & CMD_MASK, command & !CMD_MASK);
    let command = u64::from(command);
    if opaque != 0 && command != GNTTABOP_CACHE_FLUSH {
        return Err(Errno::EINVAL);
    }
    if !call.state.revocation && [GNTTABOP_MAP_REVOCABLE, GNTTABOP_REVOKE].contains(&command) {
        return Err(Errno::ENOSYS);
    }
    let domain = call.who.domain;
    call.state.init_table(domain);
    match command {
        GNTTABOP_SETUP_TABLE => return table::setup(call, count),
        GNTTABOP_QUERY_SIZE => return table::query_size(call, count),
        GNTTABOP_GET_STATUS_FRAMES => return table::get_status_frames(call, count),
        GNTTABOP_SET_VERSION => return version::set(call),
        GNTTABOP_GET_VERSION => return version::get(call),
        _ => {}
    }
    let operation = match command {
        GNTTABOP_MAP_GRANT_REF => map::map,
        GNTTABOP_UNMAP_GRANT_REF => unmap::unmap,
        GNTTABOP_UNMAP_AND_REPLACE => unmap::unmap_and_replace,
        GNTTABOP_TRANSFER => transfer::transfer,
        GNTTABOP_COPY => copy::copy,
        GNTTABOP_SWAP_GRANT_REF => version::swap,
        GNTTABOP_CACHE_FLUSH => flush::cache_flush,
        GNTTABOP_MAP_REVOCABLE => revoke::map_revocable,
        GNTTABOP_REVOKE => revoke::revoke,
        // `GNTTABOP_dump_table` has a number and no code behind it.
        _ => return Err(Errno::ENOSYS),
    };
    handle_okay(call, 1)?;
    operation(call, count).map(|()| 0)
}
