//! The legacy frame of lz4, as `lz4 -l` makes it: a magic number, then
//! blocks of at most 8 MiB, each with its packed size before it. There is
//! no checksum and no end mark: the frame ends with the input.

use lz4_flex::block::{DecompressError, decompress_into};

use super::{Done, Input, Outcome, Problem};

/// Bytes that a block unpacks to, but the last.
const BLOCK: usize = 8 << 20;
const MAGIC: u32 = 0x184c_2102;

pub(super) fn decode(bytes: &[u8], out: &mut [u8]) -> Outcome {
    let mut input = Input::new(bytes);
    input.take(4)?;
    let mut written: usize = 0;
    loop {
        if input.rest().iter().take(4).all(|byte| *byte == 0) {
            // The end, or the padding behind it.
            return Ok(Done {
                written,
                ended: true,
                read: bytes.len(),
            });
        }
        let size = u32::from_le_bytes(input.array()?);
        if size == MAGIC {
            continue;
        }
        let block = input.take(usize::try_from(size).unwrap_or(usize::MAX))?;
        let end = written.saturating_add(BLOCK).min(out.len());
        let room = out.get_mut(written..end).unwrap_or_default();
        match decompress_into(block, room) {
            Ok(n) => written = written.saturating_add(n),
            Err(DecompressError::OutputTooSmall { .. }) if end == out.len() => {
                return Ok(Done {
                    written: end,
                    ended: false,
                    read: 0,
                });
            }
            Err(_) => return Err(input.corrupt("a block is not well formed")),
        }
    }
}

/// Unpacks the start of the first block: a walk over its sequences that
/// stops when `out` is full.
pub(super) fn first(bytes: &[u8], out: &mut [u8]) -> Outcome {
    let mut input = Input::new(bytes);
    input.take(8)?;
    let mut at = 0;
    while at < out.len() {
        if input.rest().is_empty() {
            break;
        }
        let [token] = input.array()?;
        let literals = length(&mut input, token >> 4)?;
        let rest = input.rest();
        let n = literals.min(out.len().saturating_sub(at)).min(rest.len());
        if let (Some(to), Some(from)) = (out.get_mut(at..at.saturating_add(n)), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        at = at.saturating_add(n);
        if at == out.len() {
            break;
        }
        input.take(literals)?;
        if input.rest().is_empty() {
            break;
        }
        let distance = usize::from(u16::from_le_bytes(input.array()?));
        let matched = length(&mut input, token & 15)?.saturating_add(4);
        let from = at
            .checked_sub(distance)
            .filter(|_| distance > 0)
            .ok_or_else(|| input.corrupt("a match before the beginning"))?;
        for n in 0..matched.min(out.len().saturating_sub(at)) {
            let byte = out.get(from.saturating_add(n)).copied().unwrap_or(0);
            if let Some(to) = out.get_mut(at.saturating_add(n)) {
                *to = byte;
            }
        }
        at = at.saturating_add(matched).min(out.len());
    }
    Ok(Done {
        written: at,
        ended: false,
        read: 0,
    })
}

fn length(input: &mut Input<'_>, nibble: u8) -> Result<usize, Problem> {
    let mut length = usize::from(nibble);
    if nibble == 15 {
        loop {
            let [more] = input.array()?;
            length = length.saturating_add(more.into());
            if more != 255 {
                break;
            }
        }
    }
    Ok(length)
}
