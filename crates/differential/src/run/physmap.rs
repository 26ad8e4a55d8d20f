//! Steps on the reservation and on the physmap.

use kexen_abi::DOMID_SELF;
use kexen_abi::hypercall::Hypercall;
use kexen_abi::memory::{
    AddToPhysmap, MemoryDomain, MemoryExchange, MemoryReservation, RemoveFromPhysmap,
    XENMEM_ADD_TO_PHYSMAP, XENMEM_CURRENT_RESERVATION, XENMEM_DECREASE_RESERVATION,
    XENMEM_EXCHANGE, XENMEM_MACHINE_MEMORY_MAP, XENMEM_MAXIMUM_RESERVATION,
    XENMEM_POPULATE_PHYSMAP, XENMEM_REMOVE_FROM_PHYSMAP,
};
use kexen_abi::{PAGE_SHIFT, mmu::PAGE_FRAME_MASK};
use kexen_guest::{Arg, Machine};
use zerocopy::IntoBytes;

use super::Outcome;
use crate::Kind;
use crate::generate::BALLOON;
use crate::op::Op;
use crate::world::{Held, World};

impl World {
    /// A reservation call on one extent whose number is in the scratch page.
    pub(super) fn reserve<M: Machine + ?Sized>(
        &self,
        m: &M,
        op: u64,
        order: u8,
        flags: u32,
        out: &mut Outcome,
    ) -> bool {
        let arg = MemoryReservation {
            extent_start: self.scratch,
            nr_extents: 1,
            extent_order: u32::from(order),
            mem_flags: flags,
            domid: DOMID_SELF,
            pad: [0; 3],
        };
        let mut args = [Arg::Value(op), Arg::In(arg.as_bytes())];
        out.call(m, Hypercall::MEMORY_OP, &mut args) == 1
    }

    pub(super) fn decrease<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        n: usize,
        order: u8,
        out: &mut Outcome,
    ) {
        let (number, frame) = self.balloon[n];
        let none = PAGE_FRAME_MASK >> PAGE_SHIFT;
        let arg = match self.kind {
            Kind::Pv => frame.unwrap_or(none),
            Kind::Pvh if self.holds(number) == Held::Special => return,
            Kind::Pvh => number,
        };
        let _ = m.write64(self.scratch, arg);
        if self.reserve(m, XENMEM_DECREASE_RESERVATION, order, 0, out) {
            self.balloon[n].1 = None;
            self.hold(number, Held::Nothing);
        }
    }

    pub(super) fn populate<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        n: usize,
        order: u8,
        flags: u32,
        out: &mut Outcome,
    ) {
        let (number, frame) = self.balloon[n];
        if self.kind == Kind::Pvh && self.holds(number) != Held::Nothing {
            // The frame that is there would be charged, and out of reach.
            return;
        }
        let _ = m.write64(self.scratch, number);
        if self.reserve(m, XENMEM_POPULATE_PHYSMAP, order, flags, out) {
            if let Some(old) = frame.filter(|_| self.kind == Kind::Pv) {
                self.extra.push(old);
            }
            let new = match self.kind {
                Kind::Pv => m.read64(self.scratch).unwrap_or(0),
                Kind::Pvh => number,
            };
            self.balloon[n].1 = Some(new);
            self.hold(number, Held::Ram);
        }
    }

    pub(super) fn holds(&self, gfn: u64) -> Held {
        let found = self.held.iter().find(|(number, _)| *number == gfn);
        found.map_or(Held::Nothing, |(_, held)| *held)
    }

    pub(super) fn hold(&mut self, gfn: u64, what: Held) {
        if let Some(slot) = self.held.iter_mut().find(|(number, _)| *number == gfn) {
            slot.1 = what;
        }
    }

    pub(super) fn physmap_step<M: Machine + ?Sized>(&mut self, m: &M, op: &Op, out: &mut Outcome) {
        match *op {
            Op::Reservation {
                populate,
                slot,
                order,
                flags,
            } => {
                let n = usize::from(slot % BALLOON);
                if populate {
                    self.populate(m, n, order, flags, out);
                } else {
                    self.decrease(m, n, order, out);
                }
            }
            Op::Exchange { slot, count } => self.exchange(m, slot, count, out),
            Op::MemoryQuestion(n) => self.memory_question(m, n, out),
            Op::AddToPhysmap {
                space,
                index,
                hole,
                over_ram,
            } => self.add_to_physmap(m, space, index, hole, over_ram, out),
            Op::RemoveFromPhysmap(hole) => {
                let at = usize::from(BALLOON + hole) % self.held.len().max(1);
                let Some((gfn, held)) = self.held.get(at).copied() else {
                    return;
                };
                if held != Held::Ram {
                    // RAM would be charged, and out of reach.
                    self.remove(m, gfn, out);
                }
            }
            _ => {}
        }
    }

    pub(super) fn remove<M: Machine + ?Sized>(&mut self, m: &M, gfn: u64, out: &mut Outcome) {
        let arg = RemoveFromPhysmap {
            domid: DOMID_SELF,
            pad: [0; 3],
            gpfn: gfn,
        };
        let mut args = [
            Arg::Value(XENMEM_REMOVE_FROM_PHYSMAP),
            Arg::In(arg.as_bytes()),
        ];
        if out.call(m, Hypercall::MEMORY_OP, &mut args) == 0 {
            self.hold(gfn, Held::Nothing);
            if self.shared_info == gfn << PAGE_SHIFT {
                self.shared_info = 0;
            }
            if self.grants == gfn << PAGE_SHIFT {
                self.grants = 0;
            }
        }
    }

    pub(super) fn add<M: Machine + ?Sized>(
        &self,
        m: &M,
        space: u8,
        idx: u64,
        gfn: u64,
        out: &mut Outcome,
    ) -> bool {
        let arg = AddToPhysmap {
            domid: DOMID_SELF,
            size: 1,
            space: u32::from(space),
            idx,
            gpfn: gfn,
        };
        let mut args = [Arg::Value(XENMEM_ADD_TO_PHYSMAP), Arg::In(arg.as_bytes())];
        out.call(m, Hypercall::MEMORY_OP, &mut args) == 0
    }

    fn add_to_physmap<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        space: u8,
        index: u8,
        hole: u8,
        over_ram: bool,
        out: &mut Outcome,
    ) {
        if self.kind == Kind::Pv {
            self.add(m, space, u64::from(index), u64::from(hole), out);
            return;
        }
        let to = if over_ram {
            hole % BALLOON
        } else {
            BALLOON + hole
        };
        let gfn = self.held[usize::from(to)].0;
        let page = matches!(space, 2 | 3);
        let from = self.held[usize::from(index % BALLOON)].0;
        let idx = if page {
            from
        } else {
            // Shared info has one page; the grant table its first frame.
            u64::from(space != 1) * u64::from(index / 2)
        };
        if page && from != gfn && self.holds(from) == Held::Special {
            // Moving a page of Xen's by its number: left to the other spaces.
            return;
        }
        if !self.add(m, space, idx, gfn, out) {
            return;
        }
        match space {
            0 => self.place(gfn, 0),
            1 => self.place(gfn, 1),
            _ => {
                self.displace(gfn);
                let held = self.holds(from);
                self.hold(from, Held::Nothing);
                self.hold(gfn, held);
            }
        }
    }

    /// A page of Xen's that was at a number is there no more.
    fn displace(&mut self, gfn: u64) {
        if self.shared_info == gfn << PAGE_SHIFT {
            self.shared_info = 0;
        }
        if self.grants == gfn << PAGE_SHIFT {
            self.grants = 0;
        }
    }

    /// Shared info (0) or the grant table's first frame (1) is at a number.
    pub(super) fn place(&mut self, gfn: u64, what: u8) {
        self.displace(gfn);
        let old = if what == 0 {
            self.shared_info
        } else {
            self.grants
        };
        self.hold(old >> PAGE_SHIFT, Held::Nothing);
        self.hold(gfn, Held::Special);
        if what == 0 {
            self.shared_info = gfn << PAGE_SHIFT;
        } else {
            self.grants = gfn << PAGE_SHIFT;
        }
    }

    fn exchange<M: Machine + ?Sized>(&mut self, m: &M, slot: u8, count: u8, out: &mut Outcome) {
        let none = PAGE_FRAME_MASK >> PAGE_SHIFT;
        let slots: alloc::vec::Vec<usize> = (0..count)
            .map(|n| usize::from((slot + n) % BALLOON))
            .collect();
        let get = self.scratch + 512;
        for (n, slot) in (0_u64..).zip(&slots) {
            let (number, frame) = self.balloon[*slot];
            let _ = m.write64(self.scratch + n * 8, frame.unwrap_or(none));
            let _ = m.write64(get + n * 8, number);
        }
        let reservation = |at| MemoryReservation {
            extent_start: at,
            nr_extents: u64::from(count),
            extent_order: 0,
            mem_flags: 0,
            domid: DOMID_SELF,
            pad: [0; 3],
        };
        let mut arg = MemoryExchange {
            give: reservation(self.scratch),
            get: reservation(get),
            nr_exchanged: 0,
        };
        let mut args = [Arg::Value(XENMEM_EXCHANGE), Arg::InOut(arg.as_mut_bytes())];
        out.call(m, Hypercall::MEMORY_OP, &mut args);
        out.results.push(arg.nr_exchanged);
        for (n, slot) in (0_u64..)
            .zip(slots)
            .take(usize::try_from(arg.nr_exchanged).unwrap_or(0))
        {
            self.balloon[slot].1 = m.read64(get + n * 8).ok();
        }
    }

    fn memory_question<M: Machine + ?Sized>(&self, m: &M, n: u8, out: &mut Outcome) {
        let own = MemoryDomain {
            domid: if n.is_multiple_of(2) {
                DOMID_SELF
            } else {
                self.own
            },
        };
        match n {
            0 | 1 => {
                let mut args = [
                    Arg::Value(XENMEM_CURRENT_RESERVATION),
                    Arg::In(own.as_bytes()),
                ];
                let pages = out.quiet(m, Hypercall::MEMORY_OP, &mut args);
                out.results
                    .push(pages.cast_unsigned().wrapping_sub(self.charged));
            }
            2 => {
                let mut args = [
                    Arg::Value(XENMEM_MAXIMUM_RESERVATION),
                    Arg::In(own.as_bytes()),
                ];
                let pages = out.quiet(m, Hypercall::MEMORY_OP, &mut args);
                out.results.push(u64::from(pages > 0));
            }
            3 => {
                let nobody = MemoryDomain { domid: 999 };
                let mut args = [
                    Arg::Value(XENMEM_CURRENT_RESERVATION),
                    Arg::In(nobody.as_bytes()),
                ];
                out.call(m, Hypercall::MEMORY_OP, &mut args);
            }
            4 => {
                let mut args = [
                    Arg::Value(XENMEM_MACHINE_MEMORY_MAP),
                    Arg::In(own.as_bytes()),
                ];
                out.call(m, Hypercall::MEMORY_OP, &mut args);
            }
            _ => {
                let mut args = [Arg::Value(63), Arg::In(own.as_bytes())];
                out.call(m, Hypercall::MEMORY_OP, &mut args);
            }
        }
    }
}
