//! Gives up every claim that a guest can give up.
//!
//! Order of steps: what others may use first (mappings of ours, grants,
//! PIRQs, ports), then what Xen writes, then descriptor tables and pins, then
//! the pages that left holes. What cannot be given up stays in the ledger: a
//! blocker, with what to do.

use alloc::{format, string::String, vec::Vec};

use kexen_abi::grant_table::{GTF_READING, GTF_WRITING};
use kexen_guest::grants::{End, Grants};
use kexen_guest::release::{
    Area, Table, close_port, no_gdt, no_tables, no_upcalls, unmap_grant, unmap_pirq,
    unregister_area, vcpu_down,
};
use kexen_guest::vcpus::no_callback;
use kexen_guest::{Machine, hypercall};

use super::{Kind, Ledger};
use crate::HandoffError;

/// What giving up needs of the guest.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it holds closures")]
pub struct Tools<'a> {
    /// A word of guest memory for lists.
    pub scratch: u64,
    /// The grant table, if the guest has set it up.
    pub grants: Option<Grants>,
    /// Makes a vCPU that is down as new (INIT by the local APIC); whether it
    /// did. In PVH and HVM guests alone.
    pub init: Option<&'a dyn Fn(u32) -> bool>,
    /// Gives a hole its memory back where that is more than one call: in a PV
    /// guest, whose p2m list is its own. Whether it could.
    pub refill: Option<&'a dyn Fn(u64) -> bool>,
    /// Kinds that are left in the ledger, for an omission test.
    pub omit: &'a dyn Fn(Kind) -> bool,
}

/// In which order kinds are given up.
const fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::ForeignMapping { .. } => 0,
        Kind::Grant { .. } => 1,
        Kind::Pirq { .. } => 2,
        Kind::EventChannel { .. } => 3,
        Kind::Vcpu { .. } => 4,
        Kind::Hole { .. } => 6,
        _ => 5,
    }
}

/// What a hand-off may still hope for, beside what it gives up itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hopes {
    /// A toolstack's soft reset.
    pub soft_reset: bool,
    /// That backends let grants go in time.
    pub wait: bool,
    /// Pages are abandoned whose grants stay mapped.
    pub abandon: bool,
}

impl Hopes {
    /// Whether a grant that is mapped now need not stand in the way. A
    /// reference that the next kernel uses early is never abandoned: what
    /// that kernel grants by it would be the old frame.
    #[must_use]
    pub const fn grant(self, reference: u32) -> bool {
        self.wait || (self.abandon && reference >= Grants::PER_FRAME)
    }
}

impl Ledger {
    /// Ends the grants that nobody has mapped; how many claims of grants are
    /// left.
    pub fn end_grants<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        grants: Grants,
    ) -> Result<usize, HandoffError> {
        let mut left = 0;
        let kinds: Vec<Kind> = self.claims().iter().map(|claim| claim.kind).collect();
        for kind in kinds {
            let Kind::Grant { reference, .. } = kind else {
                continue;
            };
            if grants.try_end(m, reference)? == End::Ended {
                self.strike(kind);
            } else {
                left += 1;
            }
        }
        Ok(left)
    }

    /// Ends this guest's mappings of others' grants.
    pub fn unmap_foreign<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        omit: &dyn Fn(Kind) -> bool,
    ) -> Result<(), HandoffError> {
        let kinds: Vec<Kind> = self.claims().iter().map(|claim| claim.kind).collect();
        for kind in kinds {
            if let Kind::ForeignMapping { address, handle } = kind
                && !omit(kind)
                && unmap_grant(m, address, handle)? == 0
            {
                self.strike(kind);
            }
        }
        Ok(())
    }

    /// The claims that will stand in the way of a hand-off for certain: what
    /// nothing gives up, and grants that a backend has mapped right now (a
    /// device's go with the device, and are not looked at here). Makes no
    /// hypercall and changes nothing, so it can be asked at any time.
    pub fn blockers_now<M: Machine + ?Sized>(
        &self,
        m: &M,
        grants: Option<Grants>,
        hopes: Hopes,
        omit: &dyn Fn(Kind) -> bool,
    ) -> Result<Vec<String>, HandoffError> {
        let mut found = Vec::new();
        // A grant to a domain whose pages are mapped here may be this guest's
        // own, and mapped by itself: that goes with the mapping.
        let ours = |holder| {
            self.claims().iter().any(|claim| {
                claim.holder == holder && matches!(claim.kind, Kind::ForeignMapping { .. })
            })
        };
        for claim in self.claims() {
            if omit(claim.kind) || hopes.soft_reset && claim.kind.soft_reset_undoes() {
                continue;
            }
            let blocks = match claim.kind {
                Kind::Grant { .. } if ours(claim.holder) => false,
                Kind::Grant { reference, .. } if hopes.grant(reference) => false,
                Kind::Grant { reference, .. } => match grants {
                    Some(grants) => grants.flags(m, reference)? & (GTF_READING | GTF_WRITING) != 0,
                    None => true,
                },
                kind => kind.hopeless(),
            };
            if blocks {
                found.push(format!("{claim}"));
            }
        }
        Ok(found)
    }

    /// Strikes what a soft reset has undone.
    pub fn strike_soft_reset(&mut self) {
        let undone = self.claims().iter().map(|claim| claim.kind);
        let undone: Vec<Kind> = undone.filter(|kind| kind.soft_reset_undoes()).collect();
        for kind in undone {
            self.strike(kind);
        }
    }

    /// Gives up what can be given up; what could not stays, and the first
    /// error of Xen's ends it.
    pub fn give_up<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        tools: &Tools<'_>,
    ) -> Result<(), HandoffError> {
        let mut kinds: Vec<Kind> = self.claims().iter().map(|claim| claim.kind).collect();
        kinds.sort_by_key(|kind| rank(*kind));
        for kind in kinds {
            if !(tools.omit)(kind) && give_up_one(m, kind, tools)? {
                self.strike(kind);
            }
        }
        Ok(())
    }
}

/// Whether the claim is gone.
fn give_up_one<M: Machine + ?Sized>(
    m: &M,
    kind: Kind,
    tools: &Tools<'_>,
) -> Result<bool, HandoffError> {
    match kind {
        Kind::SharedInfoPhysmap { gfn } | Kind::GrantTable { gfn } => {
            hypercall::remove_from_physmap(m, gfn)?
        }
        Kind::SharedInfoInRam { gfn } => {
            hypercall::remove_from_physmap(m, gfn)?;
            m.write64(tools.scratch, gfn)?;
            return Ok(hypercall::populate_physmap(m, tools.scratch)?);
        }
        Kind::RunstateAddress { vcpu, .. } => unregister_area(m, vcpu, Area::RunstateAddress)?,
        Kind::TimeAddress { vcpu, .. } => unregister_area(m, vcpu, Area::TimeAddress)?,
        Kind::RunstatePage { vcpu, .. } => unregister_area(m, vcpu, Area::RunstatePage)?,
        Kind::TimePage { vcpu, .. } => unregister_area(m, vcpu, Area::TimePage)?,
        Kind::Grant { reference, .. } => {
            let Some(grants) = tools.grants else {
                return Ok(false);
            };
            return Ok(grants.try_end(m, reference)? == End::Ended);
        }
        Kind::ForeignMapping { address, handle } => {
            return Ok(unmap_grant(m, address, handle)? == 0);
        }
        Kind::EventChannel { port } => close_port(m, port)?,
        Kind::Pirq { pirq, port } => {
            if let Some(port) = port {
                close_port(m, port)?;
            }
            unmap_pirq(m, pirq)?;
        }
        Kind::Callback { .. } => no_callback(m)?,
        Kind::Upcalls => no_upcalls(m)?,
        Kind::PinnedTables { mfn } => no_tables(m, &[Table::Pin(mfn)])?,
        Kind::UserTables { .. } => no_tables(m, &[Table::UserBase])?,
        Kind::Ldt { .. } => no_tables(m, &[Table::Ldt])?,
        Kind::Gdt { .. } => no_gdt(m)?,
        Kind::Vcpu {
            vcpu,
            by_init: true,
        } => {
            let Some(init) = tools.init else {
                return Ok(false);
            };
            vcpu_down(m, vcpu)?;
            return Ok(init(vcpu));
        }
        Kind::Hole { page } => {
            if let Some(refill) = tools.refill {
                return Ok(refill(page));
            }
            m.write64(tools.scratch, page)?;
            return Ok(hypercall::populate_physmap(m, tools.scratch)?);
        }
        // The caller's own mapping, the jump's business, or nobody's.
        Kind::SharedInfoMapping { .. }
        | Kind::CurrentTables { .. }
        | Kind::Exchange { .. }
        | Kind::Device { .. }
        | Kind::Vcpu { by_init: false, .. }
        | Kind::VcpuInfo { .. }
        | Kind::EventFifo { .. }
        | Kind::UpcallVector { .. } => return Ok(false),
    }
    Ok(true)
}
