//! What other domains write: the store's messages and values, responses in a
//! ring, the console; and the start of day as a toolstack describes it.

mod block;
mod flat;
mod start;
mod store;

/// The world of the model's own tests: an honest xenstored and block backend, whose
/// faults an input chooses.
#[path = "../../../crates/model/tests/devices"]
mod peers {
    #[expect(dead_code, reason = "the model's tests use all of it")]
    pub(super) mod world;
}

pub use block::block;
pub use start::{console, hvm_start, pv_start};
pub use store::{wire, xenbus, xenstore};

use kexen_abi::io::ring::RSP_PROD;
use kexen_abi::io::xs_wire::{self, MessageType};
use kexen_guest::wait::{TimeOver, Wait};

use kexen_model::dom0::{BlockFault as BackendFault, StoreFault as DaemonFault};

use self::peers::world::{BACK, FRONT, Peers, World};
use crate::bytes::Bytes;

/// Keys of the store that a peer writes, or a toolstack.
const KEYS: &[&str] = &[
    "sectors",
    "sector-size",
    "physical-sector-size",
    "info",
    "feature-flush-cache",
    "feature-barrier",
    "feature-persistent",
    "feature-max-indirect-segments",
    "max-ring-page-order",
    "max-ring-pages",
    "discard-granularity",
    "frontend",
    "state",
    "online",
];

/// Whoever waits lets the peers do what the input says.
struct Script<'a, 'd> {
    world: &'a World,
    input: &'a mut Bytes<'d>,
    turns: u32,
}

impl Wait for Script<'_, '_> {
    fn wait(&mut self, _: u32) -> Result<(), TimeOver> {
        self.turns = self.turns.checked_sub(1).ok_or(TimeOver)?;
        let mut peers = self.world.peers();
        if self.input.is_empty() {
            turn(&mut peers);
        } else {
            step(&mut peers, self.input);
        }
        Ok(())
    }
}

/// What the peers do of their own.
fn turn(peers: &mut Peers) {
    let Peers { daemon, backend } = peers;
    backend.turn(daemon);
    daemon.turn();
}

/// Something that the store's side does.
fn step(peers: &mut Peers, input: &mut Bytes<'_>) {
    let daemon = &mut peers.daemon;
    match input.u8() % 16 {
        0 => set_back(peers, input),
        1 => daemon.send_bytes(input.counted()),
        2 => daemon.set_word(xs_wire::RSP_PROD, input.u32()),
        3 => daemon.set_word(xs_wire::RSP_CONS, input.u32()),
        4 => daemon.set_word(xs_wire::ERROR, input.u32()),
        5 => daemon.set_word(xs_wire::SERVER_FEATURES, input.u32()),
        6 => daemon.event(&input.text(), &input.text()),
        7 => {
            let kind = MessageType(input.u8().into());
            daemon.send(kind, input.u8().into(), input.u8().into(), input.counted());
        }
        8 => daemon.remove(BACK),
        9 => daemon.offer_reconnection(),
        10 => peers.backend.fault = backend_fault(input),
        11 => daemon.set_word(xs_wire::CONNECTION, input.u32()),
        _ => turn(peers),
    }
}

/// What is wrong with the backend from now on.
fn backend_fault(input: &mut Bytes<'_>) -> Option<BackendFault> {
    Some(match input.u8() % 8 {
        0 => BackendFault::Still,
        1 => BackendFault::Goes(input.u8().into()),
        2 => BackendFault::Vanishes,
        3 => BackendFault::Late(u32::from(input.u8() % 8) + 1),
        4 => BackendFault::NoAnswer,
        5 => BackendFault::KeepsRing,
        6 => BackendFault::KeepsPages,
        _ => return None,
    })
}

/// What is wrong with the store's answers from now on.
fn daemon_fault(input: &mut Bytes<'_>) -> Option<DaemonFault> {
    Some(match input.u8() % 8 {
        0 => DaemonFault::Kind(MessageType(input.u8().into())),
        1 => DaemonFault::Payload(input.counted().to_vec()),
        2 => DaemonFault::Len(input.u32()),
        3 => DaemonFault::Strangers,
        4 => DaemonFault::Disturbed(input.u8().into()),
        5 => DaemonFault::Old,
        6 => DaemonFault::Silent,
        _ => return None,
    })
}

/// A value of the backend's directory.
fn set_back(peers: &mut Peers, input: &mut Bytes<'_>) {
    let key = KEYS[usize::from(input.u8()) % KEYS.len()];
    peers.daemon.set(&format!("{BACK}/{key}"), &input.text());
}

/// A value of the toolstack's in the frontend's directory.
fn set_front(peers: &mut Peers, input: &mut Bytes<'_>) {
    let key = ["backend", "backend-id", "virtual-device"][usize::from(input.u8() % 3)];
    peers.daemon.set(&format!("{FRONT}/{key}"), &input.text());
}

/// Says that so many responses are there.
fn say_produced(peers: &Peers, count: u32) {
    peers.backend.scribble(RSP_PROD, &count.to_le_bytes());
}
