//! A signature, and its check.

use alloc::string::String;

use base64ct::{Base64, Encoding};
use blake2::{Blake2b512, Digest};
use ed25519_dalek::Signature;

use crate::{KeyId, Keys, TrustError};

/// Bytes of a signature's file, at most.
pub const MAX_SIGNATURE: u64 = 16 << 10;

/// What is known of a file whose signature fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// By which key.
    pub key: KeyId,
    /// What the signer said beside it.
    pub trusted_comment: String,
}

/// A signature's file, taken apart.
struct Parts<'a> {
    summed: bool,
    key: KeyId,
    signature: [u8; 64],
    comment: &'a str,
    global: [u8; 64],
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, TrustError> {
        let mut lines = text.lines();
        let wrong = |line, expected| TrustError::Line { line, expected };
        let first = lines.next().unwrap_or_default();
        if !first.starts_with("untrusted comment:") {
            return Err(wrong(1, "an untrusted comment"));
        }
        let mut bytes = [0; 74];
        let second = lines.next().unwrap_or_default().trim_ascii();
        let decoded = Base64::decode(second, &mut bytes).ok();
        let parts = decoded.and_then(|bytes| {
            let (algorithm, rest) = bytes.split_first_chunk::<2>()?;
            let (id, signature) = rest.split_first_chunk::<8>()?;
            let summed = match algorithm {
                b"ED" => true,
                b"Ed" => false,
                _ => return None,
            };
            Some((summed, KeyId(*id), signature.try_into().ok()?))
        });
        let (summed, key, signature) = parts.ok_or(wrong(2, "a signature of minisign's"))?;
        let third = lines.next().unwrap_or_default();
        let comment = third.strip_prefix("trusted comment: ");
        let comment = comment.ok_or(wrong(3, "a trusted comment"))?;
        let mut global = [0; 64];
        let fourth = lines.next().unwrap_or_default().trim_ascii();
        let decoded = Base64::decode(fourth, &mut global).map(<[u8]>::len);
        if decoded != Ok(64) {
            return Err(wrong(4, "the signature of the trusted comment"));
        }
        Ok(Self {
            summed,
            key,
            signature,
            comment,
            global,
        })
    }
}

impl Keys {
    /// Checks a file by the text of its signature's.
    ///
    /// # Errors
    /// Why it is not to be trusted.
    pub fn check(&self, file: &[u8], signature: &str) -> Result<Signed, TrustError> {
        let parts = Parts::of(signature)?;
        let key = self
            .get(parts.key)
            .ok_or(TrustError::UnknownKey(parts.key))?;
        let fits = |message: &[u8], signature: &[u8; 64]| {
            let signature = Signature::from_bytes(signature);
            key.verify_strict(message, &signature).is_ok()
        };
        let good = if parts.summed {
            fits(&Blake2b512::digest(file), &parts.signature)
        } else {
            fits(file, &parts.signature)
        };
        if !good {
            return Err(TrustError::Wrong);
        }
        let mut whole = parts.signature.to_vec();
        whole.extend_from_slice(parts.comment.as_bytes());
        if !fits(&whole, &parts.global) {
            return Err(TrustError::WrongComment);
        }
        Ok(Signed {
            key: parts.key,
            trusted_comment: parts.comment.into(),
        })
    }
}
