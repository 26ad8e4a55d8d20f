//! The global check after a hand-off: does anything outside the new kernel
//! still hold on to the guest?
//!
//! What it looks for, by design: no reference from outside to a frame of the
//! guest's RAM; no hole where the new kernel's memory map says RAM, and no
//! page there that Xen writes; no vCPU but the first running; no port open
//! but console and store; every frame's type what the start of day says.
//! Each violation is named.

use std::collections::BTreeMap;
use std::fmt;

use kexen_abi::mmu::{PAGE_PRESENT, PAGE_RW};
use kexen_abi::{PAGE_SHIFT, PAGE_SIZE};

use crate::frame::{PGT_L1, PGT_L4, PGT_PINNED, PGT_VALIDATED, PGT_WRITABLE};
use crate::physmap::Entry;
use crate::pv::start::StartOfDay;
use crate::pv::validate::{XEN_SLOTS, frame_of, name_of};
use crate::state::{Kind, State};
use crate::xen::Guest;

/// Something that should not be there after a hand-off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// The memory map says RAM, and there is nothing.
    Hole {
        /// The page number.
        gfn: u64,
    },
    /// A page of Xen's lies where the memory map says RAM: its bytes change.
    XenPageInRam {
        /// The page number.
        gfn: u64,
        /// Which page of Xen's.
        what: &'static str,
    },
    /// Another domain's page lies where the memory map says RAM.
    ForeignPageInRam {
        /// The page number.
        gfn: u64,
    },
    /// A frame of the guest's RAM that something else refers to.
    Held {
        /// The page number.
        pfn: u64,
        /// The frame.
        mfn: u64,
        /// References that the new kernel's own tables do not explain.
        references: u32,
        /// Who, where the model knows.
        holder: String,
    },
    /// A frame whose type is not what the start of day says.
    Type {
        /// The page number.
        pfn: u64,
        /// What it is.
        is: &'static str,
        /// What it should be.
        should: &'static str,
    },
    /// A frame that is charged to the guest, and at no page number of it.
    Orphan {
        /// The frame.
        mfn: u64,
        /// Who holds it.
        holder: String,
    },
    /// A vCPU that runs the old kernel's code.
    VcpuRuns {
        /// Its number.
        vcpu: usize,
    },
    /// State of a vCPU that outlives the kernel that made it.
    VcpuState {
        /// Its number.
        vcpu: usize,
        /// What.
        what: String,
    },
    /// An open port that is neither console nor store.
    Port {
        /// Its number.
        port: u32,
        /// What it is bound to.
        state: String,
    },
    /// State of the domain that outlives the kernel that made it.
    Domain {
        /// What.
        what: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hole { gfn } => write!(f, "page {gfn:#x} is RAM by the memory map, and a hole"),
            Self::XenPageInRam { gfn, what } => {
                write!(
                    f,
                    "page {gfn:#x} is RAM by the memory map, and Xen's {what}"
                )
            }
            Self::ForeignPageInRam { gfn } => {
                write!(
                    f,
                    "page {gfn:#x} is RAM by the memory map, and another domain's page"
                )
            }
            Self::Held {
                pfn,
                mfn,
                references,
                holder,
            } => write!(
                f,
                "page {pfn:#x} (frame {mfn:#x}) has {references} references from outside: {holder}"
            ),
            Self::Type { pfn, is, should } => {
                write!(f, "page {pfn:#x} is {is} to Xen, and should be {should}")
            }
            Self::Orphan { mfn, holder } => {
                write!(
                    f,
                    "frame {mfn:#x} is charged to the guest at no page number: {holder}"
                )
            }
            Self::VcpuRuns { vcpu } => write!(f, "vCPU {vcpu} still runs"),
            Self::VcpuState { vcpu, what } => write!(f, "vCPU {vcpu}: {what}"),
            Self::Port { port, state } => write!(f, "event channel port {port} is open: {state}"),
            Self::Domain { what } => f.write_str(what),
        }
    }
}

/// What the new kernel was told.
#[derive(Clone, Debug)]
pub enum NewKernel {
    /// A PV kernel at its start of day.
    Pv(StartOfDay),
    /// A PVH or HVM kernel: where its memory map says RAM, in pages
    /// `[first, end)`.
    Translated(Vec<(u64, u64)>),
}

impl Guest {
    /// Looks for everything that outlived the hand-off. `kept_frames` are
    /// frames that may be held: those of the console and store rings.
    #[must_use]
    pub fn check(&self, new: &NewKernel, kept_frames: &[u64]) -> Vec<Violation> {
        let mut state = self.xen().state();
        let mut found = Vec::new();
        let domain = self.index();
        let expected = match new {
            NewKernel::Pv(start) => state.check_pv(domain, *start, &mut found),
            NewKernel::Translated(ram) => {
                state.check_ram(domain, ram, &mut found);
                BTreeMap::new()
            }
        };
        state.check_references(domain, &expected, kept_frames, &mut found);
        state.check_vcpus(domain, &mut found);
        state.check_ports(domain, &mut found);
        state.check_domain(domain, &mut found);
        found.sort();
        found
    }
}

/// References to a frame that the new kernel's own tables explain.
#[derive(Clone, Copy, Debug, Default)]
struct Explained {
    references: u32,
    types: u64,
}

type Expected = BTreeMap<u64, Explained>;

impl State {
    /// Walks the tables that the new kernel starts on. What each frame
    /// should be comes out of them.
    fn check_pv(
        &mut self,
        domain: usize,
        start: StartOfDay,
        found: &mut Vec<Violation>,
    ) -> Expected {
        let mut expected = Expected::new();
        let Some(root) = self.domains[domain].vcpus[0].base else {
            found.push(Violation::Domain {
                what: "vCPU 0 has no page tables".into(),
            });
            return expected;
        };
        let pinned = self.at(root).type_info & PGT_PINNED != 0;
        if !pinned {
            let pfn = self.at(root).m2p;
            found.push(Violation::Type {
                pfn,
                is: "not pinned",
                should: "a pinned L4 table",
            });
        }
        let uses = 1 + u32::from(pinned);
        expected.insert(
            root,
            Explained {
                references: uses,
                types: u64::from(uses),
            },
        );
        self.expect_table(root, PGT_L4, &mut expected, found);
        self.check_region(domain, start, found);
        expected
    }

    fn expect_table(
        &mut self,
        mfn: u64,
        kind: u64,
        expected: &mut Expected,
        found: &mut Vec<Violation>,
    ) {
        let frame = self.at(mfn);
        if frame.kind() != kind || frame.type_info & PGT_VALIDATED == 0 {
            let (pfn, is) = (frame.m2p, name_of(frame.kind()));
            found.push(Violation::Type {
                pfn,
                is,
                should: name_of(kind),
            });
            return;
        }
        for slot in 0..512 {
            let entry = self.word(mfn, slot * 8);
            if entry & PAGE_PRESENT == 0 || (kind == PGT_L4 && XEN_SLOTS.contains(&slot)) {
                continue;
            }
            let to = frame_of(entry);
            let known = expected.entry(to).or_default();
            let first = known.types == 0;
            known.references += 1;
            if kind == PGT_L1 {
                known.types += u64::from(entry & PAGE_RW != 0);
            } else {
                known.types += 1;
                if first {
                    self.expect_table(to, kind - PGT_L1, expected, found);
                }
            }
        }
    }

    /// The region from the virtual base: pfn 0 first, without a gap; page
    /// tables read-only, the rest writable.
    fn check_region(&mut self, domain: usize, start: StartOfDay, found: &mut Vec<Violation>) {
        let who = crate::state::Who { domain, vcpu: 0 };
        for pfn in 0..(start.end - start.virt_base) / PAGE_SIZE {
            let va = start.virt_base + (pfn << PAGE_SHIFT);
            let Some((mfn, writable, _)) = self.walk(who, va) else {
                found.push(Violation::Hole { gfn: pfn });
                continue;
            };
            let frame = self.at(mfn);
            let table = (PGT_L1..=PGT_L4).contains(&frame.kind()) && frame.type_count() > 0;
            if frame.m2p != pfn {
                found.push(Violation::Domain {
                    what: format!(
                        "page {pfn:#x} has frame {mfn:#x}, whose M2P entry says page {:#x}",
                        frame.m2p
                    ),
                });
            } else if !writable && !table {
                let is = "mapped read-only";
                found.push(Violation::Type {
                    pfn,
                    is,
                    should: "writable",
                });
            }
        }
    }

    /// A translated guest: what lies where the memory map says RAM.
    fn check_ram(&mut self, domain: usize, ram: &[(u64, u64)], found: &mut Vec<Violation>) {
        let shared_info = self.domains[domain].shared_info;
        for (first, end) in ram {
            for gfn in *first..*end {
                match self.domains[domain].physmap.entries.get(&gfn).copied() {
                    None => found.push(Violation::Hole { gfn }),
                    Some(Entry::Ram(mfn)) if self.at(mfn).special => {
                        let what = if mfn == shared_info {
                            "shared info"
                        } else {
                            "grant table"
                        };
                        found.push(Violation::XenPageInRam { gfn, what });
                    }
                    Some(Entry::Grant { .. } | Entry::Foreign { .. }) => {
                        found.push(Violation::ForeignPageInRam { gfn });
                    }
                    Some(Entry::Ram(_) | Entry::OnDemand) => {}
                }
            }
        }
    }

    /// Every frame of the domain: references and types beyond what its own
    /// tables explain.
    fn check_references(
        &mut self,
        domain: usize,
        expected: &Expected,
        kept: &[u64],
        found: &mut Vec<Violation>,
    ) {
        let id = self.domains[domain].id;
        let pv = self.domains[domain].kind == Kind::Pv;
        for index in 0..self.frames.len() {
            let frame = &self.frames[index];
            let mfn = u64::try_from(index).unwrap_or(0);
            if frame.owner != Some(id) || frame.special || kept.contains(&mfn) {
                continue;
            }
            let (refs, pfn, allocated) = (frame.refs, frame.m2p, frame.allocated);
            let (kind, types) = (frame.kind(), frame.type_count());
            let own = expected.get(&mfn).copied().unwrap_or_default();
            let outside = refs.saturating_sub(own.references + u32::from(allocated));
            if !allocated {
                let holder = self.holder_of(domain, mfn);
                found.push(Violation::Orphan { mfn, holder });
            } else if outside > 0 {
                let holder = self.holder_of(domain, mfn);
                found.push(Violation::Held {
                    pfn,
                    mfn,
                    references: outside,
                    holder,
                });
            } else if pv && types > own.types {
                let should = if own.types > 0 {
                    "used less"
                } else {
                    "nothing"
                };
                found.push(Violation::Type {
                    pfn,
                    is: name_of(kind),
                    should,
                });
            }
        }
    }

    /// Who holds a frame, in words.
    fn holder_of(&self, domain: usize, mfn: u64) -> String {
        let mut holders = self.other_holders(domain, mfn);
        for (n, vcpu) in self.domains[domain].vcpus.iter().enumerate() {
            if vcpu.gdt.contains(&mfn) {
                holders.push(format!("the GDT of vCPU {n}"));
            }
            if vcpu.ldt_pages.contains(&mfn) {
                holders.push(format!("the LDT of vCPU {n}"));
            }
            if vcpu.user_base == mfn {
                holders.push(format!("the user base pointer of vCPU {n}"));
            }
            if vcpu.base == Some(mfn) && n > 0 {
                holders.push(format!("the base pointer of vCPU {n}"));
            }
        }
        if let Some(frame) = self.frame(mfn) {
            if frame.type_info & PGT_PINNED != 0 {
                holders.push(format!("pinned as {}", name_of(frame.kind())));
            } else if frame.kind() != PGT_WRITABLE && frame.type_count() > 0 {
                holders.push(format!("in use as {}", name_of(frame.kind())));
            }
        }
        if holders.is_empty() {
            holders.push("tables that are no longer in use".into());
        }
        holders.join(", ")
    }

    fn check_vcpus(&mut self, domain: usize, found: &mut Vec<Violation>) {
        for (vcpu, state) in self.domains[domain].vcpus.iter().enumerate() {
            if vcpu > 0 && state.up {
                found.push(Violation::VcpuRuns { vcpu });
            }
            let mut left = Vec::new();
            if !state.gdt.is_empty() {
                left.push(format!("a GDT of {} frames is set", state.gdt.len()));
            }
            if state.ldt.1 > 0 {
                left.push(format!("an LDT at {:#x} is set", state.ldt.0));
            }
            if state.user_base != 0 {
                left.push(format!(
                    "a user base pointer is set, frame {:#x}",
                    state.user_base
                ));
            }
            found.extend(
                left.into_iter()
                    .map(|what| Violation::VcpuState { vcpu, what }),
            );
        }
        self.check_areas(domain, found);
    }
}
