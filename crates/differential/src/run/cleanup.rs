//! Brings the world back to its base state; what that came to is compared.
//!
//! Order of steps: mappings of grants, base pointer, GDT and LDT, pins,
//! entries from the top down, contents; ports; grant entries and version;
//! pages that came and went.

use alloc::vec::Vec;

use kexen_abi::hypercall::Hypercall;
use kexen_abi::memory::{XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP};
use kexen_abi::mmu::{
    MMUEXT_NEW_USER_BASEPTR, MMUEXT_SET_LDT, MMUEXT_TLB_FLUSH_LOCAL, MMUEXT_UNPIN_TABLE, MmuExtOp,
    MmuUpdate,
};
use kexen_abi::{DOMID_SELF, PAGE_SHIFT, PAGE_SIZE};
use kexen_guest::{Arg, Machine};
use zerocopy::IntoBytes;

use super::Outcome;
use super::pages::batch;
use crate::Kind;
use crate::generate::{BALLOON, GRANTS, PLACES, PORTS, SLOTS};
use crate::op::Op;
use crate::world::{Held, ROOT_ENTRY, World};

/// `EVTCHNOP_close`
const CLOSE: u8 = 3;

impl World {
    pub(super) fn clean_up<M: Machine + ?Sized>(&mut self, m: &M, out: &mut Outcome) {
        for place in 0..PLACES {
            if self.handles[usize::from(place)].is_some() {
                self.unmap(m, place, false, false, out);
            }
        }
        match self.kind {
            Kind::Pv => self.clean_pages(m, out),
            Kind::Pvh => self.clean_slots(m, out),
        }
        for port in 0..PORTS {
            if self.ports[usize::from(port)].is_some() {
                self.event_step(
                    m,
                    &Op::Port {
                        command: CLOSE,
                        port,
                    },
                    out,
                );
            }
        }
        if self.kind == Kind::Pvh {
            self.clean_physmap(m, out);
        }
        // A mask bit outlives its port: those of all that can have been open.
        for port in 0..=u32::from(PORTS) + 1 {
            self.mask(m, self.first_port + port, false);
        }
        if self.version != 1 {
            self.set_version(m, 1, out);
        }
        for grant in 0..GRANTS {
            if let Some(at) = self.grant_entry_at(grant) {
                let _ = m.write64(at, 0);
            }
        }
        for frame in core::mem::take(&mut self.extra) {
            let _ = m.write64(self.scratch, frame);
            self.reserve(m, XENMEM_DECREASE_RESERVATION, 0, 0, out);
        }
        for n in 0..usize::from(BALLOON) {
            if self.balloon[n].1.is_none() {
                self.populate(m, n, 0, 0, out);
            }
        }
    }

    fn clean_pages<M: Machine + ?Sized>(&self, m: &M, out: &mut Outcome) {
        let op = |cmd, arg1| MmuExtOp {
            cmd,
            pad: 0,
            arg1,
            arg2: 0,
        };
        let own = u32::from(DOMID_SELF);
        let first = [
            op(MMUEXT_NEW_USER_BASEPTR, 0),
            op(MMUEXT_SET_LDT, 0),
            op(MMUEXT_TLB_FLUSH_LOCAL, 0),
        ];
        batch(
            m,
            Hypercall::MMUEXT_OP,
            first.as_bytes(),
            first.len(),
            own,
            out,
        );
        let mut args = [Arg::In(&[]), Arg::Value(0)];
        out.call(m, Hypercall::SET_GDT, &mut args);
        for slot in &self.slots {
            let unpin = [op(MMUEXT_UNPIN_TABLE, *slot)];
            batch(m, Hypercall::MMUEXT_OP, unpin.as_bytes(), 1, own, out);
        }
        let mut updates = Vec::new();
        let mut clear = |table: u64, range: core::ops::Range<u64>| {
            updates.extend(range.map(|index| MmuUpdate {
                ptr: (table << PAGE_SHIFT) + index * 8,
                val: 0,
            }));
        };
        clear(self.tables.root, ROOT_ENTRY..ROOT_ENTRY + 3);
        clear(self.tables.l3, 1..9);
        clear(self.tables.l2, 1..9);
        clear(self.tables.l1, 0..u64::from(SLOTS));
        batch(
            m,
            Hypercall::MMU_UPDATE,
            updates.as_bytes(),
            updates.len(),
            own,
            out,
        );
        for slot in 0..self.slots.len() {
            out.calls += 1;
            out.results.push(self.clear_page(m, slot).cast_unsigned());
        }
        let pages: Vec<_> = self
            .slots
            .iter()
            .map(|mfn| MmuUpdate {
                ptr: (mfn << PAGE_SHIFT) | 1,
                val: 1,
            })
            .collect();
        batch(
            m,
            Hypercall::MMU_UPDATE,
            pages.as_bytes(),
            pages.len(),
            own,
            out,
        );
    }

    /// PVH: zeroes the slots. One that was granted to the guest itself and
    /// mapped lost its page number to the mapping's (`p2m_add_page`): it is a
    /// hole, and gets another frame. The old one stays charged, out of reach.
    fn clean_slots<M: Machine + ?Sized>(&self, m: &M, out: &mut Outcome) {
        for (gfn, view) in self.slots.iter().zip(&self.views) {
            let _ = m.fill(*view, PAGE_SIZE, 0);
            if m.read64(*view) != Ok(0) {
                let _ = m.write64(self.scratch, *gfn);
                self.reserve(m, XENMEM_POPULATE_PHYSMAP, 0, 0, out);
                let _ = m.fill(*view, PAGE_SIZE, 0);
            }
        }
    }

    /// PVH: holes are holes again, and Xen's pages where they were.
    fn clean_physmap<M: Machine + ?Sized>(&mut self, m: &M, out: &mut Outcome) {
        for (gfn, held) in self.held.clone() {
            let balloon = self.balloon.iter().any(|(number, _)| *number == gfn);
            match held {
                Held::Ram if !balloon => {
                    let _ = m.write64(self.scratch, gfn);
                    if self.reserve(m, XENMEM_DECREASE_RESERVATION, 0, 0, out) {
                        self.hold(gfn, Held::Nothing);
                    }
                }
                Held::Special => self.remove(m, gfn, out),
                _ => {}
            }
        }
        let home = self.held[usize::from(BALLOON)].0;
        for (what, gfn) in [(0, home - 2), (1, home - 1)] {
            let at = if what == 0 {
                self.shared_info
            } else {
                self.grants
            };
            if at != gfn << PAGE_SHIFT && self.add(m, what, 0, gfn, out) {
                self.place(gfn, what);
            }
        }
        for n in 0..usize::from(BALLOON) {
            let (gfn, _) = self.balloon[n];
            self.balloon[n].1 = (self.holds(gfn) == Held::Ram).then_some(gfn);
        }
    }
}
