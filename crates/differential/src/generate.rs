//! Cases out of a seed.
//!
//! Weighted towards what is valid: a sequence of refusals finds little. So
//! most entries have the bits of a real entry, most references point to
//! slots, and tables are pinned after they were written.

use alloc::vec::Vec;

use crate::Kind;
use crate::op::{Entry, Extended, Op, Table, Target, Update};

/// Page slots.
pub const SLOTS: u8 = 12;
/// Slots whose pages come and go.
pub const BALLOON: u8 = 4;
/// Places for grant mappings.
pub const PLACES: u8 = 4;
/// Grant references.
pub const GRANTS: u8 = 6;
/// Port slots.
pub const PORTS: u8 = 6;
/// Holes of the physmap (PVH).
pub const HOLES: u8 = 4;

/// splitmix64
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of one case.
    #[must_use]
    pub const fn new(seed: u64, case: u64) -> Self {
        Self(seed ^ case.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is at most 255.
    pub fn below(&mut self, n: u8) -> u8 {
        u8::try_from(self.next() % u64::from(n.max(1))).unwrap_or(0)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u8) -> bool {
        self.below(n) == 0
    }

    /// One of some values.
    pub fn of<T: Copy>(&mut self, values: &[T]) -> T {
        let n = u8::try_from(values.len()).unwrap_or(u8::MAX);
        values[usize::from(self.below(n))]
    }
}

fn target(r: &mut Random) -> Target {
    match r.below(40) {
        0 => Target::RegionL1,
        1 => Target::RegionL2,
        2 => Target::RegionL3,
        3 => Target::Root,
        4 => Target::SharedInfo,
        5 => Target::NoFrame,
        6 => Target::Zero,
        _ => Target::Slot(r.below(SLOTS)),
    }
}

/// Bits of an entry: mostly what a kernel writes.
fn flags(r: &mut Random) -> u16 {
    match r.below(24) {
        0 | 1 => 0,
        2 => 0x1,
        // A forbidden bit: write-through, uncached, PAT or large, global.
        3 => 0x67 | r.of(&[0x08, 0x10, 0x80, 0x100]),
        4 => r.of(&[0x20, 0x22, 0x02]),
        5..=10 => 0x25,
        11 => 0x5,
        12 => 0x65,
        // Bits that are the guest's own.
        13 => 0x227,
        _ => r.of(&[0x27, 0x67, 0x63, 0x23]),
    }
}

fn update(r: &mut Random) -> Update {
    let table = match r.below(20) {
        0..=7 => Table::RegionL1,
        8 | 9 => Table::RegionL2,
        10 => Table::RegionL3,
        11 => Table::Root,
        _ => Table::Slot(r.below(SLOTS)),
    };
    Update {
        command: r.of(&[0, 0, 0, 0, 0, 0, 0, 2, 2, 1, 3]),
        table,
        index: r.below(8),
        target: target(r),
        flags: flags(r),
        nx: r.one_in(12),
    }
}

fn extended(r: &mut Random) -> Extended {
    let command = match r.below(30) {
        0..=4 => 0,
        5..=7 => 1,
        8 | 9 => 2,
        10 | 11 => 3,
        12..=18 => 4,
        19 => 6,
        20 => 7,
        21 => r.of(&[8, 9, 10, 11]),
        22 => 13,
        23 | 24 => 15,
        25 => 16,
        26 => 17,
        27 => r.of(&[12, 18, 19, 20, 14, 21, 99]),
        _ => 4,
    };
    // The user base pointer goes back to none often enough.
    let target = if command == 15 && r.one_in(3) {
        Target::Zero
    } else {
        target(r)
    };
    Extended {
        command,
        target,
        second: crate::generate::target(r),
        small: r.below(10),
    }
}

/// Rarely something else than oneself.
fn foreign(r: &mut Random) -> u32 {
    match r.below(60) {
        0 => 0x7ff4,
        1 => 999,
        2 => (1000 << 16) | 0x7ff0,
        _ => 0x7ff0,
    }
}

fn page_types(r: &mut Random) -> Op {
    match r.below(20) {
        0..=9 => {
            let count = 1 + r.below(4);
            let updates = (0..count).map(|_| update(r)).collect();
            Op::MmuUpdate(updates, foreign(r))
        }
        10..=15 => {
            let count = 1 + r.below(3);
            let ops = (0..count).map(|_| extended(r)).collect();
            Op::Extended(ops, foreign(r))
        }
        16 | 17 => Op::VaMapping {
            index: r.below(SLOTS),
            target: target(r),
            flags: flags(r),
            flush: r.of(&[0, 1, 2, 5, 6, 3]),
        },
        18 => {
            let count = r.below(3);
            Op::SetGdt {
                targets: (0..count).map(|_| target(r)).collect(),
                entries: r.of(&[0, 1, 512, 513, 1024, 7168, 7169]),
            }
        }
        _ => Op::Descriptor {
            target: target(r),
            index: r.below(4),
            value: r.of(&[
                0,
                0x00af_9b00_0000_ffff,
                0x00cf_9300_0000_ffff,
                0x00af_fb00_0000_ffff,
                0x0000_8900_0000_0067,
                0x0000_8c00_0008_0000,
            ]),
        },
    }
}

fn reservation(r: &mut Random, kind: Kind) -> Op {
    match r.below(10) {
        0..=5 => Op::Reservation {
            populate: r.below(2) == 0,
            slot: r.below(BALLOON),
            order: if r.one_in(12) { 10 } else { 0 },
            flags: r.of(&[0, 0, 0, 0, 0, 64, 1 << 16, 5]),
        },
        6 if kind == Kind::Pv => Op::Exchange {
            slot: r.below(BALLOON),
            count: 1 + r.below(2),
        },
        7..=8 if kind == Kind::Pvh => {
            if r.one_in(3) {
                Op::RemoveFromPhysmap(r.below(HOLES))
            } else {
                Op::AddToPhysmap {
                    space: r.of(&[0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 5, 9]),
                    index: r.below(BALLOON),
                    hole: r.below(HOLES),
                    over_ram: r.one_in(4),
                }
            }
        }
        _ => Op::MemoryQuestion(r.below(6)),
    }
}

fn grants(r: &mut Random) -> Op {
    match r.below(20) {
        0..=4 => Op::GrantEntry(Entry {
            grant: r.below(GRANTS),
            flags: r.of(&[1, 1, 1, 1, 1, 5, 5, 0, 2, 3]),
            to_self: !r.one_in(8),
            target: if r.one_in(12) {
                target(r)
            } else {
                Target::Slot(r.below(SLOTS))
            },
        }),
        5..=9 => Op::Map {
            grant: r.below(GRANTS + 1),
            place: r.below(PLACES),
            flags: r.of(&[2, 2, 2, 2, 6, 6, 18, 22, 4, 10]),
            of_self: !r.one_in(12),
        },
        10..=13 => Op::Unmap {
            place: r.below(PLACES),
            wrong_handle: r.one_in(8),
            wrong_place: r.one_in(8),
        },
        14..=17 => Op::Copy {
            from_grant: r.below(2) == 0,
            from: r.below(GRANTS),
            to_grant: r.below(2) == 0,
            to: r.below(GRANTS),
            span: (
                r.of(&[0, 8, 4000, 4096]),
                r.of(&[0, 16, 4090]),
                r.of(&[0, 8, 96, 4096, 5000]),
            ),
        },
        _ => Op::GrantQuestion(r.below(4)),
    }
}

fn events(r: &mut Random) -> Op {
    match r.below(20) {
        0..=3 => Op::AllocUnbound {
            domain: r.of(&[0, 0, 0, 1, 2]),
            remote: r.of(&[0, 0, 0, 1, 2]),
        },
        4..=6 => Op::BindInterdomain {
            remote: r.of(&[0, 0, 0, 1, 2]),
            port: r.below(PORTS),
        },
        7 => Op::BindVirq {
            virq: r.of(&[0, 1, 0, 1, 2, 3, 23, 24]),
            vcpu: r.of(&[0, 0, 0, 1, 9]),
        },
        8 => Op::BindIpi(r.of(&[0, 0, 0, 1, 9])),
        9..=15 => Op::Port {
            command: r.of(&[3, 4, 4, 4, 5, 5, 9]),
            port: r.below(PORTS),
        },
        16 => Op::BindVcpu {
            port: r.below(PORTS),
            vcpu: r.of(&[0, 0, 1, 9]),
        },
        17 | 18 => Op::Mask {
            port: r.below(PORTS),
            on: r.below(2) == 0,
        },
        _ => Op::Vcpu {
            // Not down: the last vCPU that goes down powers the domain off.
            command: r.of(&[1, 3, 3, 6, 8, 9, 11, 77]),
            vcpu: r.of(&[0, 1, 1, 9]),
        },
    }
}

/// The case of a number.
#[must_use]
pub fn case(kind: Kind, seed: u64, number: u64) -> Vec<Op> {
    let mut r = Random::new(seed, number);
    let length = 30 + r.below(40);
    // Each case leans to one part: long enough chains come about.
    let lean = r.below(6);
    (0..length)
        .map(|_| {
            let part = if r.below(10) < 6 { lean } else { r.below(6) };
            match (kind, part) {
                (Kind::Pv, 0..=2) => page_types(&mut r),
                (Kind::Pvh, 0) => {
                    if r.one_in(4) {
                        page_types(&mut r)
                    } else {
                        reservation(&mut r, kind)
                    }
                }
                (_, 3) => reservation(&mut r, kind),
                (Kind::Pvh, 1) | (_, 4) => grants(&mut r),
                _ => events(&mut r),
            }
        })
        .collect()
}
