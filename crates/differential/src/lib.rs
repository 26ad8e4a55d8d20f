//! Random sequences of hypercalls, the same on a real Xen and on a model.
//!
//! A case is a short sequence over a small [`World`](world::World): a few
//! pages, page-table entries, grant references and ports, which the sequence
//! names by number. So the same case runs wherever there is a
//! [`Machine`](kexen_guest::Machine), and what comes out can be compared:
//! results, structures that Xen wrote, page-table entries and memory as the
//! guest sees them, with frame numbers translated back to slots.
//!
//! Order of steps: [`generate`] makes a case from a seed and a number;
//! [`run::run_case`] carries it out and brings the world back to its base
//! state, which counts as well. The outcomes are kept, or folded into one
//! [`Digest`].
//!
//! | module | what it is |
//! |---|---|
//! | [`op`] | what a step of a case is |
//! | [`mod@generate`] | cases out of a seed |
//! | [`world`] | the slots, set up the same everywhere |
//! | [`run`] | carries out a case, observes, cleans up |
//!
//! What is never generated, since it ends the domain or what runs in it by
//! design: loading a base pointer that lacks the program's own mapping;
//! changing entries that a grant was mapped by (`put_page_from_l1e` in
//! `arch/x86/mm.c`: such a grant could not be ended any more); adding to a
//! page number that a grant or foreign mapping has (`p2m_add_page` in
//! `arch/x86/mm/p2m.c` crashes the domain); closing or resetting the ports
//! of console and store; having Xen write over shared info, which has the
//! mask that keeps events from a kernel without a handler; taking the last
//! vCPU down (`common_vcpu_op` in `common/domain.c` powers the domain off).
//!
//! And, in a translated guest, what would have pages charged and out of reach
//! for good: populating a page number that has RAM, or removing RAM from the
//! physmap (`guest_physmap_add_page`, `guest_physmap_remove_page` in
//! `arch/x86/mm/physmap.c`); and unmapping one grant with the address of
//! another that is mapped (`replace_grant_p2m_mapping` in `arch/x86/hvm/grant_table.c`
//! looks at the frame alone, so the wrong one goes, and mapping over what
//! stayed ends the domain). What moves by itself is not compared: a timer's
//! pending bit, the bytes of shared info and of the page directory.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod generate;
pub mod op;
pub mod run;
pub mod world;

/// Which kind of guest the case is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A PV guest.
    Pv,
    /// A PVH guest.
    Pvh,
}

/// A running fold of outcomes (FNV-1a, 64 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Folds one number in.
    pub fn add(&mut self, value: u64) {
        for byte in value.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
