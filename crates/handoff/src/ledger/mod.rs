//! The ledger: every claim on this guest's memory or state that outlives
//! the code which made it.
//!
//! A claim names its holder, what it covers, and how it is given up
//! ([`Kind`]). [`Ledger::give_up`] gives up what a guest can; a claim that is
//! outstanding when a hand-off is to jump is a blocker.

mod kind;
mod release;

pub use kind::Kind;
pub use release::{Hopes, Tools};

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
        let access = if self.writes { "writes" } else { "holds" };
        write!(f, "{} {access} ", self.holder)?;
        self.kind.fmt(f)?;
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

    /// Enters a claim, in place of one of the same kind: what was set up once
    /// more is given up once.
    pub fn enter(&mut self, claim: Claim) {
        self.strike(claim.kind);
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
    fn what_is_entered_again_is_one_claim() {
        let mut ledger = Ledger::new();
        ledger.enter(SHARED_INFO);
        ledger.enter(SHARED_INFO);
        assert_eq!(ledger.claims(), &[SHARED_INFO]);
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
