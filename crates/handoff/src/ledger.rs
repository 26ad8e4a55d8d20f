//! The ledger: every claim on this guest's memory or state that outlives
//! the code which made it.
//!
//! This is its first form: the claims that the boot image itself creates.
//! A claim names its holder, what it covers, and how it is given up; one
//! that is outstanding when a hand-off is to jump is a blocker.

use alloc::{format, string::String, vec::Vec};

/// Who holds a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The hypervisor.
    Xen,
    /// Another domain.
    Domain(u16),
}

impl core::fmt::Display for Holder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Xen => f.write_str("Xen"),
            Self::Domain(id) => write!(f, "domain {id}"),
        }
    }
}

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shared info, mapped at this gfn of a PVH guest's physmap.
    SharedInfoPhysmap {
        /// Where it is.
        gfn: u64,
    },
    /// Shared info, mapped at this virtual address of a PV guest.
    SharedInfoMapping {
        /// Where it is.
        address: u64,
    },
    /// A page table that Xen holds validated: pinned by this kernel for
    /// the next one.
    PinnedTables {
        /// The L4's frame.
        mfn: u64,
    },
    /// The tables that this kernel runs on: their frames are page tables
    /// until the base pointer has changed and they are unpinned.
    CurrentTables {
        /// The L4's frame.
        mfn: u64,
    },
    /// M2P entries that are out of step with this kernel's p2m list.
    Exchange {
        /// How many.
        pages: u64,
    },
}

/// One claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is claimed.
    pub kind: Kind,
    /// By whom.
    pub holder: Holder,
    /// Whether the holder may write what it covers.
    pub writes: bool,
    /// How it is given up.
    pub remedy: &'static str,
}

impl core::fmt::Display for Claim {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let access = if self.writes { "writes" } else { "reads" };
        write!(f, "{} {access} ", self.holder)?;
        match self.kind {
            Kind::SharedInfoPhysmap { gfn } => write!(f, "shared info at gfn {gfn:#x}")?,
            Kind::SharedInfoMapping { address } => {
                write!(f, "shared info, mapped at {address:#x}")?;
            }
            Kind::PinnedTables { mfn } => write!(f, "pinned page tables, L4 frame {mfn:#x}")?,
            Kind::CurrentTables { mfn } => write!(f, "current page tables, L4 frame {mfn:#x}")?,
            Kind::Exchange { pages } => write!(f, "{pages} exchanged p2m entries")?,
        }
        write!(f, " (to give it up: {})", self.remedy)
    }
}

/// The record of all claims.
#[derive(Debug, Default)]
pub struct Ledger(Vec<Claim>);

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Enters a claim.
    pub fn enter(&mut self, claim: Claim) {
        self.0.push(claim);
    }

    /// Strikes a claim that was given up. Returns whether it was there.
    pub fn strike(&mut self, kind: Kind) -> bool {
        let before = self.0.len();
        self.0.retain(|claim| claim.kind != kind);
        self.0.len() != before
    }

    /// The claims.
    #[must_use]
    pub fn claims(&self) -> &[Claim] {
        &self.0
    }

    /// The claims that are not among those which the jump itself gives up
    /// or hands over, as text.
    #[must_use]
    pub fn blockers(&self, given_up_by_jump: &[Kind]) -> Vec<String> {
        self.0
            .iter()
            .filter(|claim| !given_up_by_jump.contains(&claim.kind))
            .map(|claim| format!("{claim}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED_INFO: Claim = Claim {
        kind: Kind::SharedInfoPhysmap { gfn: 0x8_0000 },
        holder: Holder::Xen,
        writes: true,
        remedy: "XENMEM_remove_from_physmap",
    };

    #[test]
    fn a_claim_blocks_until_it_is_struck() {
        let mut ledger = Ledger::new();
        ledger.enter(SHARED_INFO);
        let blockers = ledger.blockers(&[]);
        assert_eq!(blockers.len(), 1);
        assert!(blockers[0].contains("Xen writes shared info at gfn 0x80000"));
        assert!(blockers[0].contains("XENMEM_remove_from_physmap"));
        assert!(ledger.strike(SHARED_INFO.kind));
        assert!(!ledger.strike(SHARED_INFO.kind));
        assert!(ledger.blockers(&[]).is_empty());
    }

    #[test]
    fn what_the_jump_gives_up_is_no_blocker() {
        let mut ledger = Ledger::new();
        let kind = Kind::CurrentTables { mfn: 7 };
        ledger.enter(Claim {
            kind,
            ..SHARED_INFO
        });
        assert!(ledger.blockers(&[kind]).is_empty());
        assert_eq!(ledger.blockers(&[Kind::CurrentTables { mfn: 8 }]).len(), 1);
    }
}
