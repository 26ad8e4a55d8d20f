//! Operations: entries and watches.

use alloc::{string::String, vec::Vec};
use core::str::FromStr;

use kexen_abi::io::xs_wire::MessageType;

use super::{
    Event, OTHERS, Session, StoreError, Why, text,
    wire::{path_is_good, printable, strings},
};
use crate::Machine;

/// What xenstored answers where there is nothing to say.
const DONE: &[u8] = b"OK";

impl<M: Machine + ?Sized> Session<'_, M> {
    /// An entry's value.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.ask("read", path, MessageType::READ, &[path.as_bytes(), &[0]])
    }

    /// An entry's value, which has to be printable ASCII.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn read_text(&mut self, path: &str) -> Result<String, StoreError> {
        text_of(path, &self.read(path)?)
    }

    /// An entry's value, which has to be a decimal number in range.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn read_number<N: FromStr>(&mut self, path: &str) -> Result<N, StoreError> {
        number_of(path, &self.read(path)?)
    }

    /// Sets an entry's value; makes it if it is not there.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        let parts = [path.as_bytes(), &[0], value];
        self.done("write", path, MessageType::WRITE, &parts)
    }

    /// Makes an entry, if it is not there.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn mkdir(&mut self, path: &str) -> Result<(), StoreError> {
        let parts = [path.as_bytes(), &[0]];
        self.done("mkdir", path, MessageType::MKDIR, &parts)
    }

    /// Removes an entry and all below it.
    ///
    /// # Errors
    /// See [`Why`]. There being none is no error to most stores.
    pub fn rm(&mut self, path: &str) -> Result<(), StoreError> {
        let parts = [path.as_bytes(), &[0]];
        self.done("rm", path, MessageType::RM, &parts)
    }

    /// The names of the entries right below one. Those of more than 4096
    /// bytes are refused (`E2BIG`).
    ///
    /// # Errors
    /// See [`Why`].
    pub fn directory(&mut self, path: &str) -> Result<Vec<String>, StoreError> {
        let parts = [path.as_bytes(), &[0]];
        let payload = self.ask("list", path, MessageType::DIRECTORY, &parts)?;
        let name = |bytes: &[u8]| {
            let name = text(bytes).ok();
            let name = name.filter(|name| path_is_good(name) && !name.contains('/'));
            name.ok_or_else(|| StoreError::new("list", path, Why::Answer(printable(bytes))))
        };
        strings(&payload).map(name).collect()
    }

    /// Has events sent for a path and what is below; the first comes at once.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        let failed = |why| Err(StoreError::new("watch", path, why));
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return failed(Why::Value(printable(token.as_bytes())));
        }
        if !self.store.synchronised {
            // Which forgets all watches.
            self.resynchronise()?;
        }
        if !self.store.watches.room() {
            return failed(Why::Watches);
        }
        // The first event may come before the answer.
        self.store.watches.add(path, token);
        let parts = [path.as_bytes(), &[0], token.as_bytes(), &[0]];
        self.done("watch", path, MessageType::WATCH, &parts)
            .inspect_err(|_| self.store.watches.remove(path, token))
    }

    /// Has no more events sent for a watch. Those that nobody has taken are
    /// forgotten.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        self.store.watches.remove(path, token);
        let parts = [path.as_bytes(), &[0], token.as_bytes(), &[0]];
        self.done("unwatch", path, MessageType::UNWATCH, &parts)
    }

    /// As [`Self::unwatch`], without waiting for the answer: for when the
    /// time is over already.
    pub(crate) fn unwatch_without_waiting(&mut self, path: &str, token: &str) {
        self.store.watches.remove(path, token);
        let parts = [path.as_bytes(), &[0], token.as_bytes(), &[0]];
        // What is lost is one watch of this connection's; its events are
        // dropped like any others.
        let _ = self.post(MessageType::UNWATCH, 0, &parts);
    }

    /// Ends all watches and transactions of the connection, those of an
    /// earlier kernel too.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn reset_watches(&mut self) -> Result<(), StoreError> {
        if !self.store.synchronised {
            self.resynchronise()?;
        }
        self.store.watches.clear();
        let payload = self.exchange(MessageType::RESET_WATCHES, &[&[0]]);
        let payload = payload.map_err(|why| StoreError::new("reset watches", "", why))?;
        check_done("reset watches", "", &payload)
    }

    /// The next event of a watch, if one has arrived.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn event(&mut self, token: &str) -> Result<Option<Event>, StoreError> {
        for _ in 0..OTHERS {
            let event = self.store.watches.take(token);
            if event.is_some() {
                return Ok(event);
            }
            let message = self.store.receive(self.m);
            let message = message.map_err(|why| StoreError::new("wait for an event", "", why))?;
            if message.is_none() {
                return Ok(None);
            }
        }
        Err(StoreError::new("wait for an event", "", Why::Flood(OTHERS)))
    }

    /// Waits for the next event of a watch.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn wait_event(&mut self, token: &str) -> Result<Event, StoreError> {
        for _ in 0..OTHERS {
            if let Some(event) = self.event(token)? {
                return Ok(event);
            }
            self.pause()
                .map_err(|why| StoreError::new("wait for an event", "", why))?;
        }
        Err(StoreError::new("wait for an event", "", Why::Flood(OTHERS)))
    }

    /// Whether a watch is set. A connection that was begun anew has none.
    pub(crate) fn watches(&self, token: &str) -> bool {
        self.store.watches.is_set(token)
    }

    /// Whether a watch has had events since this was asked last, without
    /// waiting. One look after that sees what all of them were of.
    ///
    /// # Errors
    /// See [`Why`].
    pub(crate) fn changed(&mut self, token: &str) -> Result<bool, StoreError> {
        self.take_in()?;
        let mut any = false;
        while self.store.watches.take(token).is_some() {
            any = true;
        }
        Ok(any)
    }

    /// Waits once, unless one of these watches has an event. `rests` counts how
    /// often in a row there was none.
    ///
    /// # Errors
    /// See [`Why`].
    pub(crate) fn rest<'t>(
        &mut self,
        mut tokens: impl Iterator<Item = &'t str>,
        rests: &mut u32,
    ) -> Result<(), StoreError> {
        // An event may have come with the answer to another's question.
        self.take_in()?;
        if tokens.any(|token| self.store.watches.has_event(token)) {
            *rests = 0;
            return Ok(());
        }
        let failed = |why| StoreError::new("wait for an event", "", why);
        *rests = rests.saturating_add(1);
        if *rests > OTHERS {
            return Err(failed(Why::Flood(OTHERS)));
        }
        self.pause().map_err(failed)
    }

    /// Tells the wait of progress.
    pub(crate) fn progress(&mut self) {
        self.wait.progress();
    }

    /// Takes what has arrived out of the ring, up to a bound: a peer that is the
    /// cause of many events is no error of those who wait for others.
    fn take_in(&mut self) -> Result<(), StoreError> {
        for _ in 0..OTHERS {
            let message = self.store.receive(self.m);
            let message = message.map_err(|why| StoreError::new("wait for an event", "", why))?;
            if message.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn done(
        &mut self,
        doing: &'static str,
        path: &str,
        kind: MessageType,
        parts: &[&[u8]],
    ) -> Result<(), StoreError> {
        let payload = self.ask(doing, path, kind, parts)?;
        check_done(doing, path, &payload)
    }
}

/// The value of an entry as text.
pub(crate) fn text_of(path: &str, value: &[u8]) -> Result<String, StoreError> {
    text(value).map_err(|why| StoreError::new("read", path, why))
}

/// The value of an entry as a number.
pub(crate) fn number_of<N: FromStr>(path: &str, value: &[u8]) -> Result<N, StoreError> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = digits.then_some(value);
    let number = number.and_then(|digits| core::str::from_utf8(digits).ok());
    number
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| StoreError::new("read", path, Why::Value(printable(value))))
}

pub(super) fn check_done(
    doing: &'static str,
    path: &str,
    payload: &[u8],
) -> Result<(), StoreError> {
    if payload.strip_suffix(&[0]).unwrap_or(payload) == DONE {
        return Ok(());
    }
    let why = Why::Answer(printable(payload));
    Err(StoreError::new(doing, path, why))
}
