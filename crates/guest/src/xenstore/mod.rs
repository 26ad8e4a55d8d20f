//! A client of the store.
//!
//! Protocol: `docs/misc/xenstore.txt` and `xenstore-ring.txt`,
//! `public/io/xs_wire.h`. One page is shared with xenstored: a ring of bytes
//! to it and one from it. Requests are sent one at a time, or several of which
//! none needs another's answer ([`Session::together`]); an answer is known
//! by its number, and whatever else arrives is an event of a watch or is
//! thrown away.
//!
//! Order of steps: the first operation brings the connection to a known
//! state ([`Session::resynchronise`]), since another kernel may have used
//! it; [`Session::finish`] leaves it so for the next one.
//!
//! ```no_run
//! # use kexen_guest::{Machine, wait::Wait, xenstore::{Store, StoreError}};
//! # fn example(m: &dyn Machine, wait: &mut dyn Wait) -> Result<(), StoreError> {
//! let mut store = Store::new(0x1000, 1);
//! let mut session = store.on(m, wait);
//! let domid: u16 = session.read_number("domid")?;
//! session.transaction(|t| {
//!     t.write("data/a", b"1")?;
//!     t.write("data/b", b"2")
//! })?;
//! session.finish()
//! # }
//! ```

mod error;
mod operations;
mod resume;
mod ring;
mod together;
mod transaction;
mod watch;
pub mod wire;

use alloc::{string::String, vec::Vec};

use kexen_abi::io::xs_wire::MessageType;

pub use self::error::{StoreError, Why};
pub(crate) use self::operations::{number_of, text_of};
pub use self::together::Ask;
pub use self::watch::Event;
use self::{ring::Ring, watch::Watches, wire::Assembler, wire::Message};
use crate::{Machine, wait::Wait};

/// Messages that are no answer, while one is waited for.
const OTHERS: u32 = 4096;
/// Bytes of requests that wait for room in the ring.
const BACKLOG: usize = 16 * 1024;
/// The longest error word.
const WORD: usize = 32;

/// The connection to the store.
#[derive(Clone, Debug)]
pub struct Store {
    ring: Ring,
    /// Of requests, what did not go into the ring yet.
    outgoing: Vec<u8>,
    incoming: Assembler,
    watches: Watches,
    last_id: u32,
    /// Requests whose answers have not come.
    unanswered: u32,
    synchronised: bool,
}

impl Store {
    /// The connection by the page at a guest address, and its port.
    #[must_use]
    pub fn new(page_address: u64, port: u32) -> Self {
        Self {
            ring: Ring::new(page_address, port),
            outgoing: Vec::new(),
            incoming: Assembler::default(),
            watches: Watches::default(),
            last_id: 0,
            unanswered: 0,
            synchronised: false,
        }
    }

    /// Operations, all of which wait by the same [`Wait`].
    pub fn on<'a, M: Machine + ?Sized>(
        &'a mut self,
        m: &'a M,
        wait: &'a mut dyn Wait,
    ) -> Session<'a, M> {
        Session {
            store: self,
            m,
            wait,
            tx: 0,
        }
    }

    /// A number that no request has had, of an earlier kernel's neither: it
    /// follows the count of bytes sent, which outlives a kernel and grows by
    /// more than one with each request.
    fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        if self.last_id == 0 {
            // Events have this.
            self.last_id = 1;
        }
        self.last_id
    }

    /// The next message, if all of it is there.
    fn receive<M: Machine + ?Sized>(&mut self, m: &M) -> Result<Option<Message>, Why> {
        let mut bytes = [0; 256];
        let message = loop {
            let broken = |too_long: wire::TooLong| Why::TooLong(too_long.0);
            let wants = self.incoming.wants().map_err(broken);
            let wants = wants.inspect_err(|_| self.synchronised = false)?;
            if wants == 0 {
                break self.incoming.take().map_err(broken)?;
            }
            let room = wants.min(bytes.len());
            let n = self.ring.take(m, &mut bytes[..room])?;
            if n == 0 {
                return Ok(None);
            }
            self.incoming.push(&bytes[..n]).map_err(broken)?;
        };
        if let Some(message) = &message {
            match message.header.kind {
                MessageType::WATCH_EVENT => self.watches.arrived(&message.payload),
                _ => self.unanswered = self.unanswered.saturating_sub(1),
            }
        }
        Ok(message)
    }

    /// Puts into the ring what goes in.
    fn send_some<M: Machine + ?Sized>(&mut self, m: &M) -> Result<(), Why> {
        let n = self.ring.put(m, &self.outgoing)?;
        self.outgoing.drain(..n.min(self.outgoing.len()));
        Ok(())
    }
}

/// Operations on the store, in a transaction or not.
pub struct Session<'a, M: Machine + ?Sized> {
    store: &'a mut Store,
    m: &'a M,
    wait: &'a mut dyn Wait,
    tx: u32,
}

impl<M: Machine + ?Sized> core::fmt::Debug for Session<'_, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session")
            .field("store", &self.store)
            .field("tx", &self.tx)
            .finish_non_exhaustive()
    }
}

impl<'a, M: Machine + ?Sized> Session<'a, M> {
    /// The machine that it runs on.
    #[must_use]
    pub fn machine(&self) -> &'a M {
        self.m
    }

    /// How it waits.
    pub fn wait(&mut self) -> &mut dyn Wait {
        self.wait
    }

    /// Nothing to read: waits, unless the connection is dead.
    fn pause(&mut self) -> Result<(), Why> {
        self.store.ring.check_connection(self.m)?;
        self.store.send_some(self.m)?;
        Ok(self.wait.wait(self.store.ring.port())?)
    }

    /// Sends a request without waiting for its answer, which is thrown away
    /// when it comes.
    fn post(&mut self, kind: MessageType, tx: u32, parts: &[&[u8]]) -> Result<u32, Why> {
        let id = self.store.next_id();
        let bytes = wire::encode(kind, id, tx, parts).ok_or(Why::RequestTooLong)?;
        if self.store.outgoing.len() > BACKLOG {
            return Err(Why::TimeOver);
        }
        self.store.outgoing.extend_from_slice(&bytes);
        self.store.unanswered = self.store.unanswered.saturating_add(1);
        self.store.send_some(self.m)?;
        Ok(id)
    }

    /// Sends a request and waits for the answer's payload.
    fn exchange(&mut self, kind: MessageType, parts: &[&[u8]]) -> Result<Vec<u8>, Why> {
        if !self.store.synchronised {
            self.begin()?;
        }
        let id = self.post(kind, self.tx, parts)?;
        payload(self.answer(id)?, kind)
    }

    /// Waits for the answer to a request.
    fn answer(&mut self, id: u32) -> Result<Message, Why> {
        for _ in 0..OTHERS {
            match self.next()? {
                Some(message)
                    if message.header.req_id == id
                        && message.header.kind != MessageType::WATCH_EVENT =>
                {
                    return Ok(message);
                }
                _ => {}
            }
        }
        Err(Why::Flood(OTHERS))
    }

    /// The next message; none after a pause.
    fn next(&mut self) -> Result<Option<Message>, Why> {
        let message = self.store.receive(self.m)?;
        if message.is_none() {
            self.pause()?;
        }
        Ok(message)
    }

    /// An operation, with what to say if it fails.
    fn ask(
        &mut self,
        doing: &'static str,
        path: &str,
        kind: MessageType,
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, StoreError> {
        let payload = if wire::path_is_good(path) {
            self.exchange(kind, parts)
        } else {
            Err(Why::Path)
        };
        payload.map_err(|why| StoreError::new(doing, path, why))
    }
}

/// What an answer to a request of this kind says.
fn payload(message: Message, kind: MessageType) -> Result<Vec<u8>, Why> {
    if message.header.kind == kind {
        return Ok(message.payload);
    }
    if message.header.kind != MessageType::ERROR {
        return Err(Why::Kind(message.header.kind));
    }
    let word = message.payload.strip_suffix(&[0]);
    let word = word.unwrap_or(&message.payload);
    let good = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    if word.is_empty() || word.len() > WORD || !word.iter().all(good) {
        return Err(Why::Answer(wire::printable(word)));
    }
    Err(Why::Refused(word.iter().copied().map(char::from).collect()))
}

/// `None` where there is no such entry.
///
/// # Errors
/// Any other.
pub fn if_present<T>(result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A value as text: printable ASCII.
fn text(value: &[u8]) -> Result<String, Why> {
    if value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        Ok(value.iter().copied().map(char::from).collect())
    } else {
        Err(Why::Value(wire::printable(value)))
    }
}
