//! The store: its messages, a session with a daemon that misbehaves, and the
//! values that describe a device.

use kexen_abi::io::xs_wire::PAYLOAD_MAX;
use kexen_guest::{
    block::{Block, Memory},
    xenbus::{self, Device},
    xenstore::{
        Session, StoreError, if_present,
        wire::{Assembler, path_is_good, printable, strings},
    },
};
use kexen_model::Machine;

use super::{Script, daemon_fault, peers::world::World, set_back, set_front};
use crate::bytes::Bytes;

/// Messages as they arrive, in pieces of any length.
pub fn wire(data: &[u8]) {
    let mut input = Bytes::new(data);
    let mut one = Assembler::default();
    while !input.is_empty() {
        let piece = input.u8() % 64;
        let mut rest = input.take(piece.into());
        while !rest.is_empty() {
            let Ok(wants) = one.wants() else { return };
            assert!(wants <= PAYLOAD_MAX);
            let (now, later) = rest.split_at(wants.min(rest.len()));
            let pushed = one.push(now);
            rest = later;
            let Ok(taken) = one.take() else { continue };
            if let Some(message) = taken {
                assert!(message.payload.len() <= PAYLOAD_MAX);
                assert!(printable(&message.payload).len() <= 4 * 120 + 3);
                for string in strings(&message.payload) {
                    let _good = path_is_good(&String::from_utf8_lossy(string));
                }
            }
            assert!(pushed.is_ok() || one.half() || now.is_empty());
        }
    }
}

/// A session with a store whose answers an input makes.
pub fn xenstore(data: &[u8]) {
    let mut input = Bytes::new(data);
    let world = World::new();
    let mut store = world.store();
    for _ in 0..24 {
        if input.is_empty() {
            break;
        }
        let what = input.u8();
        if what & 0x80 != 0 {
            world.peers().daemon.fault = daemon_fault(&mut input);
        }
        let mut script = Script {
            world: &world,
            input: &mut input,
            turns: 60,
        };
        let mut s = store.on(&world.m, &mut script);
        if let Err(error) = operation(&mut s, what) {
            assert!(error.to_string().len() < 8192);
        }
    }
}

fn operation<M: Machine + ?Sized>(s: &mut Session<'_, M>, what: u8) -> Result<(), StoreError> {
    match what % 12 {
        0 => drop(s.read("domid")?),
        1 => drop(s.read_number::<u16>("domid")?),
        2 => drop(if_present(s.read_text("device/vbd/51712/backend"))?),
        3 => drop(s.directory("device")?),
        4 => s.write("data/a", b"value")?,
        5 => s.watch("data", "token")?,
        6 => drop(s.event("token")?),
        7 => drop(s.wait_event("token")?),
        8 => s.unwatch("data", "token")?,
        9 => s.transaction(|s| {
            s.write("data/b", b"1")?;
            s.read("data/b").map(drop)
        })?,
        10 => s.resynchronise()?,
        _ => s.finish()?,
    }
    Ok(())
}

/// A device as the store describes it.
pub fn xenbus(data: &[u8]) {
    let mut input = Bytes::new(data);
    let world = World::new();
    for _ in 0..input.u8() % 8 {
        let mut peers = world.peers();
        match input.u8() % 2 {
            0 => set_back(&mut peers, &mut input),
            _ => set_front(&mut peers, &mut input),
        }
    }
    let (mut store, mut references) = (world.store(), world.references());
    let mut script = Script {
        world: &world,
        input: &mut input,
        turns: 400,
    };
    let mut s = store.on(&world.m, &mut script);
    let _classes = xenbus::classes(&mut s);
    let _numbers = xenbus::numbers(&mut s, "vbd");
    let device = match Device::open(&mut s, "vbd", 51712) {
        Ok(device) => device,
        Err(error) => {
            assert!(error.to_string().len() < 8192);
            return;
        }
    };
    let ring = [world.ring_page()];
    let memory = Memory {
        ring: &ring,
        lists: &[],
    };
    match Block::connect(&mut s, &mut references, device, memory) {
        Ok(mut block) => {
            let geometry = block.geometry();
            let bytes = geometry.sectors.checked_mul(512);
            assert!(bytes.is_some(), "{geometry:?}");
            let _closing = block.close(&mut s, &mut references);
        }
        Err(error) => assert!(error.error.to_string().len() < 8192),
    }
}
