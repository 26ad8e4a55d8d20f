//! A file of public keys.
//!
//! Format: minisign's public key files, one after the other: each a line of
//! base64 (`Ed`, the key's number, the key); lines that begin with
//! `untrusted comment:` or `#`, and empty ones, are passed over.

use alloc::vec::Vec;

use base64ct::{Base64, Encoding};
use ed25519_dalek::VerifyingKey;

use crate::TrustError;

/// Keys of a file, at most.
pub const MAX_KEYS: usize = 32;

/// A key's number, by which a signature names it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub [u8; 8]);

impl core::fmt::Display for KeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // As minisign prints it: a little-endian number.
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl core::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// The keys that are trusted.
#[derive(Clone, Debug)]
pub struct Keys(Vec<(KeyId, VerifyingKey)>);

impl Keys {
    /// Reads them.
    ///
    /// # Errors
    /// Which line is no key, or that there is none.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let mut keys = Vec::new();
        for (n, line) in (1..).zip(text.lines()) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with('#') || line.starts_with("untrusted comment:") {
                continue;
            }
            if keys.len() >= MAX_KEYS {
                return Err(TrustError::TooManyKeys);
            }
            let wrong = TrustError::Line {
                line: n,
                expected: "a public key of minisign's",
            };
            keys.push(key(line).ok_or(wrong)?);
        }
        if keys.is_empty() {
            return Err(TrustError::NoKeys);
        }
        Ok(Self(keys))
    }

    /// The key of a number.
    pub(crate) fn get(&self, id: KeyId) -> Option<&VerifyingKey> {
        self.0.iter().find(|key| key.0 == id).map(|key| &key.1)
    }

    /// Their numbers.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.0.iter().map(|key| key.0)
    }
}

fn key(line: &str) -> Option<(KeyId, VerifyingKey)> {
    let mut bytes = [0; 42];
    let decoded = Base64::decode(line, &mut bytes).ok()?;
    let (algorithm, rest) = decoded.split_first_chunk::<2>()?;
    let (id, key) = rest.split_first_chunk::<8>()?;
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    // One of small order fits signatures that nobody made.
    (algorithm == b"Ed" && !key.is_weak()).then_some((KeyId(*id), key))
}
