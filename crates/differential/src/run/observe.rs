//! What the guest can see after a step.

use alloc::vec;

use kexen_abi::mmu::MACH2PHYS_VIRT_START;
use kexen_abi::shared_info::{EVTCHN_MASK, EVTCHN_PENDING};
use kexen_guest::Machine;

use super::Outcome;
use crate::generate::{GRANTS, PLACES, SLOTS};
use crate::world::{FIRST_PLACE, ROOT_ENTRY, World};
use crate::{Digest, Kind};

/// Words of each slot that are looked at.
const WORDS: usize = 16;
/// A read that failed.
const NOT_READ: u64 = 0xdead_dead_dead_dead;

impl World {
    pub(super) fn observe<M: Machine + ?Sized>(&self, m: &M, out: &mut Outcome) {
        if self.kind == Kind::Pv {
            let places = FIRST_PLACE + u64::from(PLACES);
            self.entries(m, self.tables.at[0], 0..places, out);
            self.entries(m, self.tables.at[1], 1..9, out);
            self.entries(m, self.tables.at[2], 1..9, out);
            self.entries(m, self.tables.at[3], ROOT_ENTRY..ROOT_ENTRY + 3, out);
            for slot in 0..SLOTS {
                let mfn = self.slots[usize::from(slot)];
                let pfn = m.read64(MACH2PHYS_VIRT_START + mfn * 8).unwrap_or(NOT_READ);
                // A slot's own number differs; what a step wrote does not.
                out.seen.push(if pfn >> 12 == 5 { pfn } else { 0 });
            }
        }
        for view in &self.views {
            let mut bytes = [0_u8; WORDS * 8];
            let read = m.read(*view, &mut bytes).is_ok();
            let mut digest = Digest::default();
            for word in bytes.chunks_exact(8) {
                let mut eight = [0; 8];
                eight.copy_from_slice(word);
                digest.add(self.entry(u64::from_le_bytes(eight)));
            }
            out.seen.push(if read { digest.0 } else { NOT_READ });
        }
        for grant in 0..GRANTS {
            if let Some(at) = self.grant_entry_at(grant) {
                let flags = m.load32(at).unwrap_or(u32::MAX) & 0xffff;
                out.seen.push(u64::from(flags));
            }
        }
        if self.shared_info != 0 {
            for port in self.ports.iter().flatten() {
                if !self.noisy.contains(port) {
                    let pending = self.bit(m, EVTCHN_PENDING, *port);
                    let masked = self.bit(m, EVTCHN_MASK, *port);
                    out.seen.push(pending << 1 | masked);
                }
            }
        }
    }

    fn bit<M: Machine + ?Sized>(&self, m: &M, at: u64, port: u32) -> u64 {
        let word = m.load32(self.shared_info + at + u64::from(port / 32) * 4);
        word.map_or(NOT_READ, |word| u64::from(word >> (port % 32) & 1))
    }

    fn entries<M: Machine + ?Sized>(
        &self,
        m: &M,
        at: u64,
        range: core::ops::Range<u64>,
        out: &mut Outcome,
    ) {
        let count = usize::try_from(range.end - range.start).unwrap_or(0);
        let mut bytes = vec![0_u8; count * 8];
        if m.read(at + range.start * 8, &mut bytes).is_err() {
            out.seen.push(NOT_READ);
            return;
        }
        for word in bytes.chunks_exact(8) {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            out.seen.push(self.entry(u64::from_le_bytes(eight)));
        }
    }
}
