//! The block frontend with a backend that lies: an input says which responses
//! it gives, in which order, how many it says there are, and what it writes
//! into the ring beside.
//!
//! What is promised: an error at most; no more responses are believed than
//! requests were made; and a grant that is still there is one that the device
//! knows of.

use kexen_abi::io::blkif::BlkifResponse;
use kexen_abi::io::ring::ENTRIES;
use kexen_guest::{
    block::{Block, Io, Memory, Operation, Page},
    references::References,
    wait::{TimeOver, Wait},
    xenbus::Device,
};
use kexen_model::Machine;
use kexen_model::dom0::BlockFault as Fault;
use zerocopy::IntoBytes as _;

use super::{peers::world::World, say_produced, set_back};
use crate::bytes::Bytes;

/// Bytes of an entry of the ring, for 64-bit guests.
const ENTRY: u64 = 112;

/// Whoever waits lets the backend lie.
struct Liar<'a, 'd> {
    world: &'a World,
    input: &'a mut Bytes<'d>,
    /// Responses that it says there are.
    produced: u32,
    turns: u32,
}

impl Liar<'_, '_> {
    /// Where the entry of an index is; of a ring of one page.
    fn entry(index: u32) -> u64 {
        ENTRIES + u64::from(index % 32) * ENTRY
    }

    /// The request of an index: its operation and id.
    fn request(&self, index: u32) -> (u8, u64) {
        let mut bytes = [0; 16];
        let at = self.world.ring_page().address + Self::entry(index);
        self.world.m.read(at, &mut bytes).expect("the ring's page");
        let (head, id) = bytes.split_at(8);
        (head[0], u64::from_le_bytes(id.try_into().expect("8 bytes")))
    }

    fn lie(&mut self) {
        let what = self.input.u8();
        match what % 8 {
            // An answer to a request, right or wrong in some way.
            0..=4 => {
                let about = self.produced.wrapping_add(u32::from(what >> 3) % 4);
                let (operation, id) = self.request(about);
                let mut response = BlkifResponse {
                    id,
                    operation,
                    ..BlkifResponse::default()
                };
                match what % 8 {
                    0 | 1 => {}
                    2 => response.status = i16::from_le_bytes(self.input.u16().to_le_bytes()),
                    3 => response.id ^= u64::from(self.input.u16()),
                    _ => response.operation = self.input.u8(),
                }
                let peers = self.world.peers();
                let at = Self::entry(self.produced);
                peers.backend.scribble(at, response.as_bytes());
                self.produced = self.produced.wrapping_add(1);
                say_produced(&peers, self.produced);
            }
            5 => {
                let more = u32::from(self.input.u8());
                self.produced = self.produced.wrapping_add(more);
                say_produced(&self.world.peers(), self.produced);
            }
            6 => say_produced(&self.world.peers(), self.input.u32()),
            _ => {
                let at = u64::from(self.input.u16() % 4096);
                let len = usize::try_from((4096 - at).min(16)).unwrap_or(0);
                let bytes = self.input.take(len);
                self.world.peers().backend.scribble(at, bytes);
            }
        }
    }
}

impl Wait for Liar<'_, '_> {
    fn wait(&mut self, _: u32) -> Result<(), TimeOver> {
        self.turns = self.turns.checked_sub(1).ok_or(TimeOver)?;
        if self.input.is_empty() {
            return Err(TimeOver);
        }
        self.lie();
        Ok(())
    }
}

/// A disk whose backend lies.
pub fn block(data: &[u8]) {
    let mut input = Bytes::new(data);
    let world = World::new();
    for _ in 0..input.u8() % 4 {
        set_back(&mut world.peers(), &mut input);
    }
    let (mut store, mut references) = (world.store(), world.references());
    let (ring, lists) = ([world.ring_page()], [16, 17].map(|n| world.page(n)));
    let memory = Memory {
        ring: &ring,
        lists: &lists,
    };
    let mut time = world.time(300);
    let mut s = store.on(&world.m, &mut time);
    let Ok(device) = Device::open(&mut s, "vbd", 51712) else {
        return;
    };
    let Ok(mut block) = Block::connect(&mut s, &mut references, device, memory) else {
        return;
    };
    // From here on it answers what the input says.
    world.peers().backend.fault = Some(Fault::NoAnswer);
    let pages: Vec<Page> = (20..52).map(|number| world.page(number)).collect();
    let mut liar = Liar {
        world: &world,
        input: &mut input,
        produced: 0,
        turns: 200,
    };
    for _ in 0..40 {
        if liar.input.is_empty() {
            break;
        }
        use_once(&mut block, &mut liar, &mut references, &pages);
        check(&world, &block);
    }
    let mut time = world.time(60);
    let mut s = store.on(&world.m, &mut time);
    let closing = block.close(&mut s, &mut references);
    for granted in &closing.held {
        let flags = world.grants.flags(&world.m, granted.reference);
        assert_ne!(flags, Ok(0), "held, but ended");
    }
    check(&world, &block);
}

fn use_once(block: &mut Block, liar: &mut Liar<'_, '_>, references: &mut References, all: &[Page]) {
    let what = liar.input.u8();
    let sectors = u32::from(liar.input.u8());
    let sector = u64::from(liar.input.u16());
    // Sometimes too few pages, or too many.
    let pages = usize::try_from(sectors.div_ceil(8)).unwrap_or(0);
    let pages = &all[..(pages + usize::from(what >> 7)).min(all.len())];
    let world = liar.world;
    let mut io = Io {
        m: &world.m as &dyn Machine,
        wait: liar,
        references,
    };
    let operation = [Operation::Read, Operation::Write][usize::from(what >> 6 & 1)];
    match what % 6 {
        0 => drop(block.read(&mut io, sector, sectors, pages)),
        1 => drop(block.write(&mut io, sector, sectors, pages)),
        2 => drop(block.flush(&mut io)),
        3 => drop(block.submit(&mut io, operation, sector, sectors, pages)),
        4 => drop(block.complete(&mut io)),
        _ => drop(block.wait_complete(&mut io)),
    }
}

/// No more in flight than the ring has entries, and no grant that the device
/// does not know of.
fn check(world: &World, block: &Block) {
    assert!(block.in_flight() <= 32);
    for reference in 8..512 {
        if world.grants.flags(&world.m, reference) != Ok(0) {
            let known = block.granted().any(|one| one.reference == reference);
            assert!(known, "grant {reference} is nobody's");
        }
    }
}
