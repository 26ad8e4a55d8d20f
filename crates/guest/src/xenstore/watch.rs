//! Watches of this connection, and their events as they arrive.
//!
//! The store may send any number of events at any time, one for a watch
//! that an earlier kernel set included: events of watches that are not
//! this connection's are dropped, and so are those beyond the queue's
//! length; whoever waits for one then is told to look for itself.

use alloc::{collections::VecDeque, string::String, vec::Vec};

use super::wire::strings;

/// Events that are kept.
const EVENTS: usize = 64;
/// Watches that may be set at a time.
const WATCHES: usize = 32;

/// Something at or below a watched path has changed, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What has changed.
    pub path: String,
    /// What the watch was set with.
    pub token: String,
}

/// The watches that are set, and the events that nobody has taken yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches {
    set: Vec<Watch>,
    events: VecDeque<Event>,
}

#[derive(Clone, Debug)]
struct Watch {
    path: String,
    token: String,
    /// An event found the queue full.
    lost: bool,
}

impl Watches {
    /// Whether there is room for one more watch.
    pub(super) fn room(&self) -> bool {
        self.set.len() < WATCHES
    }

    pub(super) fn add(&mut self, path: &str, token: &str) {
        self.set.push(Watch {
            path: path.into(),
            token: token.into(),
            lost: false,
        });
    }

    /// Forgets a watch and its events.
    pub(super) fn remove(&mut self, path: &str, token: &str) {
        self.set
            .retain(|watch| watch.path != path || watch.token != token);
        if !self.set.iter().any(|watch| watch.token == token) {
            self.events.retain(|event| event.token != token);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// An event's payload has arrived.
    pub(super) fn arrived(&mut self, payload: &[u8]) {
        let mut strings = strings(payload).map(core::str::from_utf8);
        let (Some(Ok(path)), Some(Ok(token))) = (strings.next(), strings.next()) else {
            return;
        };
        let Some(watch) = self.set.iter_mut().find(|watch| watch.token == token) else {
            return;
        };
        if self.events.len() >= EVENTS {
            watch.lost = true;
            return;
        }
        self.events.push_back(Event {
            path: path.into(),
            token: token.into(),
        });
    }

    pub(super) fn is_set(&self, token: &str) -> bool {
        self.set.iter().any(|watch| watch.token == token)
    }

    /// Whether [`Self::take`] would give one.
    pub(super) fn has_event(&self, token: &str) -> bool {
        let lost = |watch: &Watch| watch.token == token && watch.lost;
        self.events.iter().any(|event| event.token == token) || self.set.iter().any(lost)
    }

    /// Takes the first event of a watch. If any were lost, one is made up:
    /// something may have changed.
    pub(super) fn take(&mut self, token: &str) -> Option<Event> {
        let at = self.events.iter().position(|event| event.token == token);
        if let Some(event) = at.and_then(|at| self.events.remove(at)) {
            return Some(event);
        }
        let watch = self.set.iter_mut().find(|watch| watch.token == token)?;
        core::mem::take(&mut watch.lost).then(|| Event {
            path: watch.path.clone(),
            token: token.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_unknown_watches_are_dropped() {
        let mut watches = Watches::default();
        watches.add("a", "mine");
        for payload in [&b"a\0theirs\0"[..], b"", b"a\0", b"\xff\0mine\0"] {
            watches.arrived(payload);
        }
        assert_eq!(watches.take("mine"), None);
        watches.arrived(b"a/b\0mine\0");
        assert_eq!(watches.take("mine").unwrap().path, "a/b");
        watches.arrived(b"a/b\0mine\0");
        watches.remove("a", "mine");
        assert!(watches.events.is_empty());
    }

    #[test]
    fn a_queue_that_overflows_gives_one_more_event() {
        let mut watches = Watches::default();
        watches.add("a", "x");
        for _ in 0..EVENTS + 5 {
            watches.arrived(b"a/b\0x\0");
        }
        for _ in 0..EVENTS {
            assert_eq!(watches.take("x").unwrap().path, "a/b");
        }
        assert!(watches.has_event("x"));
        assert_eq!(watches.take("x").unwrap().path, "a");
        assert_eq!(watches.take("x"), None);
        assert!(!watches.has_event("x"));
    }
}
