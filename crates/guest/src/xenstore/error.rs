//! What goes wrong with the store, said so that a person can act.

use alloc::string::String;
use core::fmt::{Display, Formatter, Result};

use kexen_abi::io::xs_wire::MessageType;

use crate::{HypercallError, machine::Fault, wait::TimeOver};

/// An operation on the store that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// What was asked.
    pub doing: &'static str,
    /// Of which path; empty if of none.
    pub path: String,
    /// Why it failed.
    pub why: Why,
}

/// Why an operation on the store failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The store's own word, `ENOENT` and the like.
    Refused(String),
    /// It did not answer, or take the request, in the time given.
    TimeOver,
    /// The ring page could not be reached.
    Fault(Fault),
    /// Its port could not be notified.
    Notify(HypercallError),
    /// An index of the ring says that it holds more than it can: which of
    /// the rings, its producer, its consumer.
    Index(&'static str, u32, u32),
    /// The store has given the connection up: the `error` field.
    Disconnected(u32),
    /// A message that says it is this long.
    TooLong(u32),
    /// An answer of another kind than the question.
    Kind(MessageType),
    /// An answer that is not what the operation gives.
    Answer(String),
    /// The value is not what it has to be.
    Value(String),
    /// The request would be longer than a message may be.
    RequestTooLong,
    /// No path that the store would take.
    Path,
    /// So many messages came that were no answer, one after another.
    Flood(u32),
    /// The store has too many of this connection's watches.
    Watches,
    /// A transaction that others disturbed, so many times.
    Disturbed(u32),
}

impl StoreError {
    pub(crate) fn new(doing: &'static str, path: &str, why: Why) -> Self {
        Self {
            doing,
            path: path.into(),
            why,
        }
    }

    /// Whether the store refused with this word.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        matches!(&self.why, Why::Refused(said) if said == word)
    }

    /// Whether there is no such path.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.is("ENOENT")
    }

    /// Whether this domain may not read there. That a path is not there is
    /// told those alone who may read what is above it (`errno_from_parents` in
    /// xenstored): an entry of another domain's that was removed is this, too.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.is("EACCES")
    }
}

impl From<Fault> for Why {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<TimeOver> for Why {
    fn from(_: TimeOver) -> Self {
        Self::TimeOver
    }
}

impl Display for StoreError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "xenstore: {}", self.doing)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}", self.why)
    }
}

/// What an error word means.
fn meaning(word: &str) -> Option<&'static str> {
    Some(match word {
        "ENOENT" => "there is no such entry",
        "EACCES" | "EPERM" => "this domain may not do that",
        "EINVAL" => "it takes the request for invalid",
        "EAGAIN" => "others changed the same entries",
        "EEXIST" => "it exists already",
        "ENOSPC" | "E2BIG" => "the domain's quota is used up",
        "ENOMEM" => "it has no memory left",
        "ENOSYS" => "it has no such operation",
        "EBUSY" => "it is busy",
        _ => return None,
    })
}

impl Display for Why {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Refused(word) => match meaning(word) {
                Some(text) => write!(f, "{text} ({word})"),
                None => write!(f, "it said {word}"),
            },
            Self::TimeOver => f.write_str("no answer in time; is xenstored running?"),
            Self::Fault(fault) => write!(f, "the ring page: {fault}"),
            Self::Notify(error) => write!(f, "its port: {error}"),
            Self::Index(ring, prod, cons) => write!(
                f,
                "the ring of {ring} cannot be: producer {prod:#x}, consumer {cons:#x}, \
                 more than 1024 bytes apart"
            ),
            Self::Disconnected(code) => {
                write!(f, "xenstored has given the connection up (error {code})")
            }
            Self::TooLong(len) => {
                write!(f, "an answer of {len} bytes, more than the 4096 allowed")
            }
            Self::Kind(kind) => match kind.name() {
                Some(name) => write!(f, "the answer is to another question ({name})"),
                None => write!(f, "the answer is of no known kind ({})", kind.0),
            },
            Self::Answer(text) => write!(f, "the answer makes no sense: \"{text}\""),
            Self::Value(text) => write!(f, "the value cannot be \"{text}\""),
            Self::RequestTooLong => f.write_str("longer than the 4096 bytes allowed"),
            Self::Path => f.write_str("no path that the store has"),
            Self::Flood(count) => write!(f, "{count} messages came and no answer"),
            Self::Watches => f.write_str("too many watches"),
            Self::Disturbed(times) => write!(f, "others got in between {times} times"),
        }
    }
}
