//! Messages as they lie in the ring: made, taken apart, checked.
//!
//! Specification: `docs/misc/xenstore.txt`. Nothing here trusts a length:
//! an answer is what a daemon wrote, and a kernel before this one may have
//! left half of one.

use alloc::{string::String, vec::Vec};

use kexen_abi::io::xs_wire::{
    ABS_PATH_MAX, HEADER_BYTES, Header, MessageType, PAYLOAD_MAX, REL_PATH_MAX,
};
use zerocopy::{FromBytes, IntoBytes};

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it begins with.
    pub header: Header,
    /// `header.len` bytes.
    pub payload: Vec<u8>,
}

/// A message that says it is longer than any may be: this many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(pub u32);

/// The bytes of a message. `None` if they are too many.
#[must_use]
pub fn encode(kind: MessageType, req_id: u32, tx_id: u32, parts: &[&[u8]]) -> Option<Vec<u8>> {
    let len = parts
        .iter()
        .try_fold(0_usize, |sum, part| sum.checked_add(part.len()))?;
    if len > PAYLOAD_MAX {
        return None;
    }
    let header = Header {
        kind,
        req_id,
        tx_id,
        len: u32::try_from(len).ok()?,
    };
    let mut bytes = Vec::with_capacity(HEADER_BYTES + len);
    bytes.extend_from_slice(header.as_bytes());
    for part in parts {
        bytes.extend_from_slice(part);
    }
    Some(bytes)
}

/// Puts a message together from bytes as they arrive.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    /// How many bytes it lacks for the next step: never more than a message
    /// may have.
    ///
    /// # Errors
    /// The length that the header names, if no message may be that long.
    pub fn wants(&self) -> Result<usize, TooLong> {
        let Some(header) = self.header() else {
            return Ok(HEADER_BYTES - self.bytes.len());
        };
        let len = payload_len(&header)?;
        Ok((HEADER_BYTES + len).saturating_sub(self.bytes.len()))
    }

    /// Takes bytes; no more than [`Self::wants`] are looked at.
    ///
    /// # Errors
    /// As [`Self::wants`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let room = self.wants()?.min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        Ok(())
    }

    /// The message, if it is whole; then another can begin.
    ///
    /// # Errors
    /// As [`Self::wants`].
    pub fn take(&mut self) -> Result<Option<Message>, TooLong> {
        if self.wants()? != 0 {
            return Ok(None);
        }
        let Some(header) = self.header() else {
            return Ok(None);
        };
        let payload = self.bytes.split_off(HEADER_BYTES);
        self.bytes.clear();
        Ok(Some(Message { header, payload }))
    }

    /// Whether a message has begun and not ended.
    #[must_use]
    pub fn half(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Forgets what has arrived.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// As a message that began with this header.
    pub(crate) fn begin(&mut self, header: &Header) {
        self.bytes.clear();
        self.bytes.extend_from_slice(header.as_bytes());
    }

    fn header(&self) -> Option<Header> {
        header(&self.bytes)
    }
}

/// What the first bytes say.
pub(crate) fn header(bytes: &[u8]) -> Option<Header> {
    Header::read_from_prefix(bytes)
        .ok()
        .map(|(header, _)| header)
}

/// The length that a header names, if a message may have it.
pub(crate) fn payload_len(header: &Header) -> Result<usize, TooLong> {
    usize::try_from(header.len)
        .ok()
        .filter(|len| *len <= PAYLOAD_MAX)
        .ok_or(TooLong(header.len))
}

/// Strings that each end with a zero byte; the last one may go without.
pub fn strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let payload = payload.strip_suffix(&[0]).unwrap_or(payload);
    let all = (!payload.is_empty()).then(|| payload.split(|byte| *byte == 0));
    all.into_iter().flatten()
}

/// Bytes as text for people: what is no printable ASCII is escaped, and what
/// is beyond a line's length left out.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    const LINE: usize = 120;
    let mut text = String::new();
    for byte in bytes.iter().take(LINE) {
        text.extend(byte.escape_ascii().map(char::from));
    }
    if bytes.len() > LINE {
        text.push_str("...");
    }
    text
}

/// Whether the store would take a path: its characters, no empty part, and
/// its length.
#[must_use]
pub fn path_is_good(path: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_@/".contains(&byte);
    let (parts, max) = match path.strip_prefix('/') {
        Some(parts) => (parts, ABS_PATH_MAX),
        None => (path, REL_PATH_MAX),
    };
    path == "/"
        || (path.len() < max
            && path.bytes().all(good)
            && parts.split('/').all(|part| !part.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_in_pieces() {
        let bytes = encode(MessageType::WRITE, 7, 3, &[b"a/b\0", b"value"]).unwrap();
        let mut one = Assembler::default();
        for (n, byte) in bytes.iter().enumerate() {
            assert_eq!(one.take(), Ok(None), "{n}");
            one.push(&[*byte]).unwrap();
        }
        let message = one.take().unwrap().unwrap();
        assert_eq!(message.header.req_id, 7);
        assert_eq!(message.payload, b"a/b\0value");
        assert!(!one.half());
    }

    #[test]
    fn the_longest_message_and_one_more_byte() {
        assert!(encode(MessageType::WRITE, 1, 0, &[&[0; PAYLOAD_MAX]]).is_some());
        assert!(encode(MessageType::WRITE, 1, 0, &[&[0; PAYLOAD_MAX], &[0]]).is_none());
        let header = Header {
            kind: MessageType::READ,
            req_id: 1,
            tx_id: 0,
            len: 4097,
        };
        let mut one = Assembler::default();
        one.push(header.as_bytes()).unwrap();
        assert_eq!(one.wants(), Err(TooLong(4097)));
        assert_eq!(one.take(), Err(TooLong(4097)));
        assert_eq!(one.push(&[0]), Err(TooLong(4097)));
    }

    #[test]
    fn strings_end_with_zero_or_the_payload() {
        let list = |bytes| strings(bytes).collect::<Vec<_>>();
        assert!(list(b"").is_empty());
        assert!(list(b"\0").is_empty());
        assert_eq!(list(b"a\0bc\0"), [&b"a"[..], b"bc"]);
        assert_eq!(list(b"a\0bc"), [&b"a"[..], b"bc"]);
        assert_eq!(list(b"a\0\0"), [&b"a"[..], b""]);
    }

    #[test]
    fn a_path_has_parts_of_known_characters() {
        for good in [
            "/",
            "domid",
            "device/vbd/51712",
            "/local/domain/0",
            "@releaseDomain",
        ] {
            assert!(path_is_good(good), "{good}");
        }
        for bad in ["", "a//b", "a/", "//", "a b", "a\0b", "\u{e9}"] {
            assert!(!path_is_good(bad), "{bad:?}");
        }
    }

    #[test]
    fn text_for_people_has_no_control_characters() {
        assert_eq!(printable(b"a\x1b[2J\n"), "a\\x1b[2J\\n");
        assert_eq!(printable(&[b'x'; 500]).len(), 123);
    }
}
