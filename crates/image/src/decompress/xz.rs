//! xz: the library's stream decoder, with a dictionary no larger than the
//! output.
//!
//! Linux's build asks for a dictionary of up to 128 MiB, whatever the size
//! of the kernel. The decoder allocates what the block header says; so the
//! header it is given says just what can be referred to.

use alloc::vec::Vec;

use xz4rust::{XzDecoder, XzError, XzNextBlockResult};

use super::{Done, Input, Outcome, Problem, crc32};

/// Heap beside the dictionary: the decoder's state, and headers.
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
fn dictionary(code: u8) -> u64 {
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

fn problem(error: &XzError, input: &Input<'_>, len: usize) -> Problem {
    match error {
        XzError::NeedsLargerInputBuffer => Problem::Truncated { len },
        XzError::DictionaryTooLarge(want) => Problem::Memory { want: *want },
        XzError::ContentCrc32Mismatch(have, want) => Problem::Checksum {
            what: "a block's CRC-32",
            want: *want,
            have: *have,
        },
        XzError::ContentCrc64Mismatch(..) => input.corrupt("a block's CRC-64 is wrong"),
        XzError::Sha256NotSupported | XzError::UnsupportedCheckType(_) => {
            input.corrupt("its check is none of CRC-32 and CRC-64")
        }
        XzError::DeltaFilterUnsupported | XzError::UnsupportedBcjFilter(_) => {
            input.corrupt("it uses a filter that is not supported")
        }
        _ => input.corrupt("not a well-formed xz stream"),
    }
}

pub(super) fn decode(bytes: &[u8], out: &mut [u8], size: u64) -> Outcome {
    let (head, dictionary) = plan(bytes, size)?;
    let mut input = Input::new(bytes);
    input.take(head.len())?;
    let mut decoder = XzDecoder::in_heap_with_alloc_dict_size(dictionary, dictionary);
    let mut written: usize = 0;
    // The header as it was made above, then the stream.
    let mut first = head.as_slice();
    loop {
        let from_head = !first.is_empty();
        let next = if from_head { first } else { input.rest() };
        let room = out.get_mut(written..).unwrap_or_default();
        let full = room.is_empty();
        let result = match decoder.decode(next, room) {
            Ok(result) => result,
            Err(error) => return Err(problem(&error, &input, bytes.len())),
        };
        let read = result.input_consumed();
        written = written.saturating_add(result.output_produced());
        if from_head {
            first = first.get(read..).unwrap_or_default();
        } else {
            input.take(read)?;
        }
        match result {
            XzNextBlockResult::EndOfStream(..) => {
                return Ok(Done {
                    written,
                    ended: true,
                    read: input.at(),
                });
            }
            XzNextBlockResult::NeedMoreData(..) if result.made_progress() => {}
            XzNextBlockResult::NeedMoreData(..) if full => {
                return Ok(Done {
                    written,
                    ended: false,
                    read: 0,
                });
            }
            XzNextBlockResult::NeedMoreData(..) => {
                return Err(Problem::Truncated { len: bytes.len() });
            }
        }
    }
}
