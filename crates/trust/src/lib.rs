//! Whether a file is signed by one of these keys.
//!
//! Formats: those of minisign (<https://jedisct1.github.io/minisign/>), whose
//! files operators make and check with the program of that name: Ed25519 over
//! the file (`Ed`) or over its BLAKE2b-512 sum (`ED`, what minisign writes by
//! default), and over the signature with its trusted comment.
//!
//! Order of steps: the signature's file is taken apart; the key of its number
//! is looked for; the signature is checked, and the one over the trusted
//! comment. A file is good if all of that is.
//!
//! | module | what it is |
//! |---|---|
//! | [`keys`] | a file of public keys |
//! | [`signature`] | a signature, and its check |

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

extern crate alloc;

pub mod keys;
pub mod signature;

#[cfg(test)]
mod tests;

pub use keys::{KeyId, Keys};
pub use signature::{MAX_SIGNATURE, Signed};

/// Why a file is not trusted, or keys are none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustError {
    /// A line is not what it has to be: its number from 1, and what it is.
    Line {
        /// Which line.
        line: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// More keys than are read.
    TooManyKeys,
    /// No key at all.
    NoKeys,
    /// The file is signed by somebody else: the number of that key.
    UnknownKey(KeyId),
    /// The file was changed, or the signature is of another one.
    Wrong,
    /// The trusted comment was changed.
    WrongComment,
}

impl core::fmt::Display for TrustError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Line { line, expected } => write!(f, "line {line}: not {expected}"),
            Self::TooManyKeys => write!(f, "more than {} keys", keys::MAX_KEYS),
            Self::NoKeys => f.write_str("no keys; put minisign's public keys there"),
            Self::UnknownKey(id) => write!(f, "signed by key {id}, which is none of those here"),
            Self::Wrong => {
                f.write_str("the signature does not fit: the file was changed, or is another one")
            }
            Self::WrongComment => f.write_str("the signature's trusted comment was changed"),
        }
    }
}

impl core::error::Error for TrustError {}
