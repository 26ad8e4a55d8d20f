//! Steps on page types.

use alloc::vec::Vec;

use kexen_abi::hypercall::Hypercall;
use kexen_abi::mmu::{MmuExtOp, MmuUpdate};
use kexen_abi::{PAGE_SHIFT, PAGE_SIZE};
use kexen_guest::{Arg, Machine};
use zerocopy::IntoBytes;

use super::Outcome;
use crate::op::{Extended, Op, Table, Target, Update};
use crate::world::{REGION, ROOT_ENTRY, World};

/// `UVMF_*` that need the address of a bitmap are left out.
const BITMAP_FREE: u64 = 7;

impl World {
    /// Machine address of an entry.
    fn entry_at(&self, table: Table, index: u8) -> u64 {
        let index = u64::from(index);
        let (mfn, index) = match table {
            Table::RegionL1 => (self.tables.l1, index),
            // Entry 0 leads to the region's own tables.
            Table::RegionL2 => (self.tables.l2, index + 1),
            Table::RegionL3 => (self.tables.l3, index + 1),
            Table::Root => (self.tables.root, ROOT_ENTRY + index % 3),
            Table::Slot(n) => (self.frame(Target::Slot(n)), index),
        };
        (mfn << PAGE_SHIFT) + index * 8
    }

    fn value(&self, target: Target, flags: u16, nx: bool) -> u64 {
        let nx = if nx { 1 << 63 } else { 0 };
        (self.frame(target) << PAGE_SHIFT) | u64::from(flags) | nx
    }

    fn update(&self, update: &Update) -> MmuUpdate {
        let command = u64::from(update.command);
        if command == 1 {
            // M2P of a slot: its own number or another's.
            let mfn = self.frame(update.target);
            return MmuUpdate {
                ptr: (mfn << PAGE_SHIFT) | 1,
                val: 0x5000 + u64::from(update.index),
            };
        }
        MmuUpdate {
            ptr: self.entry_at(update.table, update.index) | command,
            val: self.value(update.target, update.flags, update.nx),
        }
    }

    fn extended(&self, op: &Extended) -> MmuExtOp {
        let address = REGION + u64::from(op.small) * PAGE_SIZE;
        let (arg1, arg2) = match op.command {
            // The bitmap is the scratch page: vCPU 0.
            8 | 9 => (address, self.scratch),
            7 | 11 => (address, 0),
            // Entries: none, some, more than there can be.
            13 => (address, [0, 1, 512, 8192, 8193][usize::from(op.small) % 5]),
            16 => (self.frame(op.target.with_equal_bytes()), 0),
            17 => {
                let (to, from) = (op.target, op.second);
                let frame = |target: Target| self.frame(target.with_equal_bytes());
                (frame(to), frame(from))
            }
            _ => (self.frame(op.target), 0),
        };
        MmuExtOp {
            cmd: u32::from(op.command),
            pad: 0,
            arg1,
            arg2,
        }
    }

    pub(super) fn page_step<M: Machine + ?Sized>(&mut self, m: &M, op: &Op, out: &mut Outcome) {
        match op {
            Op::MmuUpdate(updates, foreign) => {
                let updates: Vec<_> = updates.iter().map(|u| self.update(u)).collect();
                batch(
                    m,
                    Hypercall::MMU_UPDATE,
                    updates.as_bytes(),
                    updates.len(),
                    *foreign,
                    out,
                );
            }
            Op::Extended(ops, foreign) => {
                let _ = m.write64(self.scratch, 1);
                let ops: Vec<_> = ops.iter().map(|op| self.extended(op)).collect();
                batch(
                    m,
                    Hypercall::MMUEXT_OP,
                    ops.as_bytes(),
                    ops.len(),
                    *foreign,
                    out,
                );
            }
            Op::VaMapping {
                index,
                target,
                flags,
                flush,
            } => {
                let va = REGION + u64::from(*index) * PAGE_SIZE;
                let value = self.value(*target, *flags, false);
                let flush = u64::from(*flush) & BITMAP_FREE;
                let mut args = [Arg::Value(va), Arg::Value(value), Arg::Value(flush)];
                out.call(m, Hypercall::UPDATE_VA_MAPPING, &mut args);
            }
            Op::SetGdt { targets, entries } => {
                // As many frames as the entries need, or fewer: then zeroes.
                let mut frames = [0_u64; 16];
                for (frame, target) in frames.iter_mut().zip(targets) {
                    *frame = self.frame(*target);
                }
                let mut args = [Arg::In(frames.as_bytes()), Arg::Value(u64::from(*entries))];
                out.call(m, Hypercall::SET_GDT, &mut args);
            }
            Op::Descriptor {
                target,
                index,
                value,
            } => {
                let at =
                    (self.frame(target.with_equal_bytes()) << PAGE_SHIFT) + u64::from(*index) * 8;
                let mut args = [Arg::Value(at), Arg::Value(*value)];
                out.call(m, Hypercall::UPDATE_DESCRIPTOR, &mut args);
            }
            _ => {}
        }
    }

    /// `MMUEXT_CLEAR_PAGE` of a slot.
    pub(crate) fn clear_page<M: Machine + ?Sized>(&self, m: &M, slot: usize) -> i64 {
        let op = MmuExtOp {
            cmd: kexen_abi::mmu::MMUEXT_CLEAR_PAGE,
            pad: 0,
            arg1: self.slots[slot],
            arg2: 0,
        };
        let mut args = [
            Arg::In(op.as_bytes()),
            Arg::Value(1),
            Arg::Value(0),
            Arg::Value(u64::from(kexen_abi::DOMID_SELF)),
        ];
        m.hypercall(Hypercall::MMUEXT_OP, &mut args)
    }
}

/// A batch of requests, and how many were done.
pub(super) fn batch<M: Machine + ?Sized>(
    m: &M,
    call: Hypercall,
    bytes: &[u8],
    count: usize,
    foreign: u32,
    out: &mut Outcome,
) {
    let mut done = [0xff_u8; 4];
    let mut args = [
        Arg::In(bytes),
        Arg::Value(u64::try_from(count).unwrap_or(0)),
        Arg::InOut(&mut done),
        Arg::Value(u64::from(foreign)),
    ];
    out.call(m, call, &mut args);
    out.results.push(u64::from(u32::from_le_bytes(done)));
}
