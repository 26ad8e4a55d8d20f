//! Steps on grants: the guest grants to itself, which Xen allows.

use kexen_abi::DOMID_SELF;
use kexen_abi::PAGE_SIZE;
use kexen_abi::grant_table::{
    GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTMAP_CONTAINS_PTE, GNTTAB_NR_RESERVED_ENTRIES,
    GNTTABOP_COPY, GNTTABOP_GET_VERSION, GNTTABOP_MAP_GRANT_REF, GNTTABOP_QUERY_SIZE,
    GNTTABOP_SET_VERSION, GNTTABOP_UNMAP_GRANT_REF, GRANT_ENTRY_V1_BYTES, GnttabCopy,
    GnttabCopyPtr, GnttabGetVersion, GnttabMapGrantRef, GnttabQuerySize, GnttabSetVersion,
    GnttabUnmapGrantRef,
};
use kexen_abi::hypercall::Hypercall;
use kexen_guest::{Arg, Machine};
use zerocopy::{FromZeros, IntoBytes};

use super::Outcome;
use crate::Kind;
use crate::generate::PLACES;
use crate::op::{Entry, Op, Target};
use crate::world::{FIRST_PLACE, REGION, World};

/// A number that no handle has.
const NO_HANDLE: u32 = 0x00ff_fff0;
/// A domain that does not exist.
const NOBODY: u16 = 999;

/// The reference of a small number.
fn reference(n: u8) -> u32 {
    GNTTAB_NR_RESERVED_ENTRIES + u32::from(n)
}

fn op<M: Machine + ?Sized>(m: &M, op: u64, arg: &mut [u8], out: &mut Outcome) -> i64 {
    let mut args = [Arg::Value(op), Arg::InOut(arg), Arg::Value(1)];
    out.call(m, Hypercall::GRANT_TABLE_OP, &mut args)
}

/// A status as a number to compare.
fn status(status: i16) -> u64 {
    i64::from(status).cast_unsigned()
}

impl World {
    /// Guest address of a version 1 entry, if the table is where it can be
    /// written.
    pub(super) fn grant_entry_at(&self, n: u8) -> Option<u64> {
        let usable = self.grants != 0 && self.version == 1;
        usable.then(|| self.grants + u64::from(reference(n)) * GRANT_ENTRY_V1_BYTES)
    }

    /// What a map or unmap names: an address, a page number's address, or
    /// the machine address of an entry.
    fn place_address(&self, place: u8, by_entry: bool) -> u64 {
        let place = u64::from(place % PLACES);
        match self.kind {
            Kind::Pvh => self.places[usize::try_from(place).unwrap_or(0)] * PAGE_SIZE,
            Kind::Pv if by_entry => self.tables.l1 * PAGE_SIZE + (FIRST_PLACE + place) * 8,
            Kind::Pv => REGION + (FIRST_PLACE + place) * PAGE_SIZE,
        }
    }

    pub(super) fn grant_step<M: Machine + ?Sized>(&mut self, m: &M, step: &Op, out: &mut Outcome) {
        match *step {
            Op::GrantEntry(entry) => self.write_entry(m, entry),
            Op::Map {
                grant,
                place,
                flags,
                of_self,
            } => self.map(m, grant, place, u32::from(flags), of_self, out),
            Op::Unmap {
                place,
                wrong_handle,
                wrong_place,
            } => self.unmap(m, place, wrong_handle, wrong_place, out),
            Op::Copy {
                from_grant,
                from,
                to_grant,
                to,
                span,
            } => {
                let side = |grant: bool, n: u8, offset: u16| GnttabCopyPtr {
                    u: if grant {
                        u64::from(reference(n))
                    } else {
                        self.frame(Target::Slot(n))
                    },
                    domid: if grant { self.own } else { DOMID_SELF },
                    offset,
                    pad: 0,
                };
                let mut flags = 0;
                if from_grant {
                    flags |= GNTCOPY_SOURCE_GREF;
                }
                if to_grant {
                    flags |= GNTCOPY_DEST_GREF;
                }
                let mut copy = GnttabCopy {
                    source: side(from_grant, from, span.0),
                    dest: side(to_grant, to, span.1),
                    len: span.2,
                    flags,
                    status: 99,
                    pad: 0,
                };
                op(m, GNTTABOP_COPY, copy.as_mut_bytes(), out);
                out.results.push(status(copy.status));
            }
            Op::GrantQuestion(n) => self.grant_question(m, n, out),
            _ => {}
        }
    }

    fn write_entry<M: Machine + ?Sized>(&self, m: &M, entry: Entry) {
        let Some(at) = self.grant_entry_at(entry.grant) else {
            return;
        };
        let domid = if entry.to_self { self.own } else { NOBODY };
        let frame =
            u32::try_from(self.frame(entry.target.with_equal_bytes()) & 0xffff_ffff).unwrap_or(0);
        let word = (u32::from(domid) << 16) | u32::from(entry.flags);
        // While it is in use, the bits that Xen set are Xen's.
        let old = m.load32(at).unwrap_or(0);
        let _ = m.store32(at + 4, frame);
        let _ = m.store32(at, (old & 0x18) | word);
    }

    fn map<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        grant: u8,
        place: u8,
        flags: u32,
        of_self: bool,
        out: &mut Outcome,
    ) {
        let n = usize::from(place % PLACES);
        if self.handles[n].is_some() {
            // Over another mapping: that one could not be ended any more.
            return;
        }
        let by_entry = flags & GNTMAP_CONTAINS_PTE != 0;
        let mut arg = GnttabMapGrantRef::new_zeroed();
        arg.host_addr = self.place_address(place, by_entry);
        arg.flags = flags;
        // The last number stands for one far beyond the table.
        arg.gref = if grant == crate::generate::GRANTS {
            1 << 20
        } else {
            reference(grant)
        };
        arg.dom = if of_self { self.own } else { NOBODY };
        arg.status = 99;
        op(m, GNTTABOP_MAP_GRANT_REF, arg.as_mut_bytes(), out);
        out.results.push(status(arg.status));
        if arg.status == 0 {
            self.handles[n] = Some(arg.handle);
            self.by_entry[n] = by_entry;
        }
    }

    pub(super) fn unmap<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        place: u8,
        wrong_handle: bool,
        wrong_place: bool,
        out: &mut Outcome,
    ) {
        let n = usize::from(place % PLACES);
        let handle = self.handles[n].filter(|_| !wrong_handle);
        // In a translated guest the next place's mapping may be taken for this
        // one's, which then stays, and mapping over it ends the domain.
        let next = usize::from((place + 1) % PLACES);
        let safe = self.kind == Kind::Pv || self.handles[next].is_none();
        let place = if wrong_place && safe {
            place + 1
        } else {
            place
        };
        let mut arg = GnttabUnmapGrantRef::new_zeroed();
        arg.host_addr = self.place_address(place, self.by_entry[n]);
        arg.handle = handle.unwrap_or(NO_HANDLE);
        arg.status = 99;
        op(m, GNTTABOP_UNMAP_GRANT_REF, arg.as_mut_bytes(), out);
        out.results.push(status(arg.status));
        if arg.status == 0 {
            self.handles[n] = None;
        }
    }

    fn grant_question<M: Machine + ?Sized>(&mut self, m: &M, n: u8, out: &mut Outcome) {
        match n {
            0 => {
                let mut arg = GnttabGetVersion::new_zeroed();
                arg.dom = DOMID_SELF;
                op(m, GNTTABOP_GET_VERSION, arg.as_mut_bytes(), out);
                out.results.push(u64::from(arg.version));
            }
            1 => {
                let mut arg = GnttabQuerySize::new_zeroed();
                arg.dom = DOMID_SELF;
                op(m, GNTTABOP_QUERY_SIZE, arg.as_mut_bytes(), out);
                out.results.push(u64::from(arg.nr_frames));
                out.results.push(status(arg.status));
            }
            n => self.set_version(m, if n == 2 { 2 } else { 1 }, out),
        }
    }

    pub(super) fn set_version<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        version: u32,
        out: &mut Outcome,
    ) {
        let mut arg = GnttabSetVersion { version };
        let result = op(m, GNTTABOP_SET_VERSION, arg.as_mut_bytes(), out);
        out.results.push(u64::from(arg.version));
        if result == 0 {
            self.version = version;
        }
    }
}
