//! xz in a form that Linux's build does not make, by the library's reader, with
//! a dictionary no larger than the output.
//!
//! Programs ask for a dictionary of up to 1.5 GiB, whatever the size of what they
//! pack. The decoder lets it grow to what the block header says; so
//! the header it is given says just what can be referred to.

use alloc::vec::Vec;

use lzma_rust2::{Error, Read, XzReader};

use super::{Done, Input, Outcome, Problem, crc32};

/// Heap beside the dictionary: the decoder's state, what it reads ahead, and
/// filters.
const STATE: usize = 256 << 10;
/// The smallest dictionary that there is.
const MIN_DICTIONARY: u64 = 4 << 10;
/// The largest dictionary that is taken.
const MAX_DICTIONARY: usize = 1 << 30;
/// Bytes of the stream header.
const STREAM_HEADER: usize = 12;
/// LZMA2's filter number.
const LZMA2: u8 = 0x21;

/// Bytes of dictionary that a code of the block header means.
pub(super) fn dictionary(code: u8) -> u64 {
    match code {
        40.. => u64::from(u32::MAX),
        _ => (2 | u64::from(code & 1)) << (code / 2).saturating_add(11),
    }
}

/// Stream and first block header, with the dictionary's code made as small
/// as the output allows, and the dictionary's size; `None` where the header
/// is not of the usual form.
fn headers(bytes: &[u8], size: u64) -> Option<(Vec<u8>, u64)> {
    let words = usize::from(*bytes.get(STREAM_HEADER)?);
    let len = words.checked_add(1)?.checked_mul(4)?;
    let end = STREAM_HEADER.checked_add(len)?;
    let mut head = bytes.get(..end)?.to_vec();
    let block = head.get_mut(STREAM_HEADER..)?;
    let flags = *block.get(1)?;
    if words == 0 {
        return None;
    }
    let mut at: usize = 2;
    // The block's sizes, which programs with threads put here: numbers of
    // 7 bits a byte, the last of them without the eighth.
    for size in [0x40, 0x80] {
        if flags & size != 0 {
            while *block.get(at)? & 0x80 != 0 {
                at = at.checked_add(1)?;
            }
            at = at.checked_add(1)?;
        }
    }
    // Filters, the last of them LZMA2.
    for _ in 0..flags & 3 {
        let properties = usize::from(*block.get(at.checked_add(1)?)?);
        at = at.checked_add(2)?.checked_add(properties)?;
    }
    if *block.get(at)? != LZMA2 || *block.get(at.checked_add(1)?)? != 1 {
        return None;
    }
    let slot = block.get_mut(at.checked_add(2)?)?;
    let small = (0..=40).find(|code| dictionary(*code) >= size.max(MIN_DICTIONARY))?;
    *slot = (*slot).min(small);
    let used = dictionary(*slot);
    let sum_at = block.len().checked_sub(4)?;
    let (body, sum) = block.split_at_mut(sum_at);
    let was = u32::from_le_bytes(*bytes.get(..end)?.last_chunk()?);
    let original = bytes.get(STREAM_HEADER..end)?.get(..sum_at)?;
    if crc32::ieee(original) != was {
        // Left as it is, for the decoder to refuse.
        return None;
    }
    sum.copy_from_slice(&crc32::ieee(body).to_le_bytes());
    Some((head, used))
}

/// The headers for the decoder, and bytes of dictionary: all that it gets,
/// whatever the header of a later block asks for.
fn plan(bytes: &[u8], size: u64) -> Result<(Vec<u8>, usize), Problem> {
    let (head, used) = headers(bytes, size).unwrap_or((Vec::new(), MIN_DICTIONARY));
    let dictionary = usize::try_from(used)
        .ok()
        .filter(|used| *used <= MAX_DICTIONARY)
        .ok_or(Problem::Memory { want: used })?;
    Ok((head, dictionary))
}

pub(super) fn scratch(bytes: &[u8], size: u64) -> Result<usize, Problem> {
    plan(bytes, size).map(|(_, dictionary)| dictionary.saturating_add(STATE))
}

/// The headers as they were made, then the stream.
struct Stream<'a> {
    head: &'a [u8],
    rest: &'a [u8],
}

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> lzma_rust2::Result<usize> {
        if self.head.is_empty() {
            self.rest.read(buf)
        } else {
            self.head.read(buf)
        }
    }
}

/// What is wrong, with a stream of which so many bytes are left, for a decoder
/// with a limit of so many bytes.
fn problem(error: Error, bytes: &[u8], left: usize, limit: usize) -> Problem {
    match error {
        Error::Eof => Problem::Truncated { len: bytes.len() },
        Error::OutOfMemory(_) => Problem::MemoryBeyond { limit },
        Error::InvalidData(what)
        | Error::InvalidInput(what)
        | Error::Other(what)
        | Error::Unsupported(what) => Problem::Corrupt {
            what,
            at: Some(bytes.len().saturating_sub(left)),
        },
        Error::Interrupted | Error::WriteZero(_) => Problem::Corrupt {
            what: "not a well-formed xz stream",
            at: None,
        },
    }
}

pub(super) fn decode(bytes: &[u8], out: &mut [u8], size: u64) -> Outcome {
    let (head, dictionary) = plan(bytes, size)?;
    let limit = dictionary.saturating_add(STATE);
    let mut input = Input::new(bytes);
    input.take(head.len())?;
    let stream = Stream {
        head: &head,
        rest: input.rest(),
    };
    let limit_kib = u32::try_from(limit >> 10).unwrap_or(u32::MAX);
    let mut reader = XzReader::new_mem_limit(stream, false, limit_kib);
    let fail = |error, reader: &XzReader<Stream<'_>>| {
        problem(error, bytes, reader.inner().rest.len(), limit)
    };
    let mut written: usize = 0;
    while written < out.len() {
        let room = out.get_mut(written..).unwrap_or_default();
        match reader.read(room) {
            Ok(0) => break,
            Ok(n) => written = written.saturating_add(n),
            Err(error) => return Err(fail(error, &reader)),
        }
    }
    // Index and footer come behind the last byte.
    let ended = match reader.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(error) => return Err(fail(error, &reader)),
    };
    let left = reader.inner().rest.len();
    Ok(Done {
        written,
        ended,
        read: if ended {
            bytes.len().saturating_sub(left)
        } else {
            0
        },
    })
}
