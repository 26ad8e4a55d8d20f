//! zstd (RFC 8878), with windows of up to 128 MiB, which is what
//! `zstd -22 --ultra` declares when it does not know the size beforehand.
//!
//! The library holds back what a window can refer to, in a ring buffer of
//! its own. So it is given a frame header that declares no more than the
//! output: nothing else of the frame depends on it.

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Done, Input, Outcome, Problem};

/// The largest window that is taken.
const MAX_WINDOW: u64 = 128 << 20;
/// Heap beside the ring buffer: tables, literals, a block.
const STATE: usize = 2 << 20;
/// The largest block, unpacked, and the most literals it can have.
const MAX_BLOCK: usize = 128 << 10;
/// The ring buffer's slack: what one block can come to in the library,
/// which adds the last literals without looking at the block's limit.
const SLACK: u64 = 256 << 10;

/// The frame header that the decoder is given, the window it declares, and
/// the blocks.
struct Frame<'a> {
    header: [u8; 6],
    window: u64,
    blocks: Input<'a>,
}

/// The window that a descriptor byte means.
fn window_of(code: u8) -> u64 {
    let base = 1_u64 << (code >> 3).saturating_add(10);
    base.saturating_add((base / 8).saturating_mul(u64::from(code & 7)))
}

/// Bytes of the ring buffer that the library makes for a window.
const fn ring_of(window: u64) -> Option<u64> {
    match window.saturating_sub(SLACK).checked_next_power_of_two() {
        Some(ring) => ring.checked_add(SLACK),
        None => None,
    }
}

/// Reads a frame header; `size` bounds what can be referred to.
fn frame(bytes: &[u8], size: u64) -> Result<Frame<'_>, Problem> {
    let mut input = Input::new(bytes);
    let magic: [u8; 4] = input.array()?;
    let [descriptor] = input.array()?;
    let single = descriptor & 0x20 != 0;
    let content = descriptor >> 6;
    if descriptor & 0x08 != 0 {
        return Err(input.corrupt("a reserved bit of the frame header is set"));
    }
    let declared = if single {
        None
    } else {
        let [code] = input.array()?;
        Some(window_of(code))
    };
    let dictionary = match descriptor & 3 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    if input.take(dictionary)?.iter().any(|byte| *byte != 0) {
        return Err(input.corrupt("it needs a dictionary of its own"));
    }
    let content: u64 = match (content, single) {
        (0, false) => u64::MAX,
        (0, true) => u64::from(u8::from_le_bytes(input.array()?)),
        (1, _) => u64::from(u16::from_le_bytes(input.array()?)).saturating_add(256),
        (2, _) => u32::from_le_bytes(input.array()?).into(),
        _ => u64::from_le_bytes(input.array()?),
    };
    let declared = declared.unwrap_or(content).max(1 << 10);
    if declared > MAX_WINDOW.max(size) {
        return Err(Problem::Memory { want: declared });
    }
    let needed = declared.min(size);
    // Just above a power of two the ring buffer would have no slack. (Small
    // ones may grow: that is part of what is promised for tables and such.)
    let slack = |window: u64| {
        let ring = ring_of(window).and_then(|ring| ring.checked_sub(SLACK));
        window <= SLACK || ring.is_some_and(|ring| ring >= window)
    };
    let code = (0..=0xff).find(|code| {
        let window = window_of(*code);
        window >= needed && slack(window)
    });
    let code = code.unwrap_or(0xff);
    let [a, b, c, d] = magic;
    Ok(Frame {
        // Of the descriptor just whether a checksum follows.
        header: [a, b, c, d, descriptor & 4, code],
        window: window_of(code),
        blocks: input,
    })
}

pub(super) fn scratch(bytes: &[u8], size: u64) -> Result<usize, Problem> {
    let frame = frame(bytes, size)?;
    ring_of(frame.window)
        .and_then(|ring| usize::try_from(ring).ok())
        .and_then(|ring| ring.checked_add(STATE))
        .ok_or(Problem::Memory { want: frame.window })
}

/// Looks for blocks with more literals than a block can have. The library
/// takes them, with as much heap as they want.
fn check_blocks(mut blocks: Input<'_>) -> Result<(), Problem> {
    // Where the stream is cut off, the decoder says so.
    while let Ok([a, b, c]) = blocks.array() {
        let header = u32::from_le_bytes([a, b, c, 0]);
        let size = usize::try_from(header >> 3).unwrap_or(usize::MAX);
        let size = match header >> 1 & 3 {
            1 => 1,
            2 => {
                if literals(blocks.rest()) > MAX_BLOCK {
                    return Err(blocks.corrupt("a block has too many literals"));
                }
                size
            }
            _ => size,
        };
        if header & 1 == 1 || blocks.take(size).is_err() {
            break;
        }
    }
    Ok(())
}

/// How many literals a compressed block says that it has, where there can
/// be too many: only the longest forms of the header have room for that.
fn literals(block: &[u8]) -> usize {
    let Some(&[a, b, c]) = block.first_chunk() else {
        return 0;
    };
    let size = u32::from_le_bytes([a, b, c, 0]) >> 4;
    let size = match (a & 3, a >> 2 & 3) {
        (0 | 1, 3) => size,
        (2 | 3, 3) => size & 0x3_ffff,
        _ => 0,
    };
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// A decoder that has read the frame's header.
fn start(frame: &Frame<'_>) -> Result<FrameDecoder, Problem> {
    check_blocks(frame.blocks)?;
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(frame.window);
    // The first call makes the decoder, the second one gives its ring buffer
    // the right size at once, instead of letting it double.
    for _ in 0..2 {
        decoder
            .init(frame.header.as_slice())
            .map_err(|_| corrupt("the frame header is not well formed"))?;
    }
    Ok(decoder)
}

const fn corrupt(what: &'static str) -> Problem {
    Problem::Corrupt { what, at: None }
}

/// Decodes a block.
fn step(decoder: &mut FrameDecoder, input: &mut &[u8], len: usize) -> Result<(), Problem> {
    let result = decoder.decode_blocks(&mut *input, BlockDecodingStrategy::UptoBlocks(1));
    result.map(drop).map_err(|_| {
        if input.is_empty() {
            Problem::Truncated { len }
        } else {
            corrupt("a block is not well formed")
        }
    })
}

/// Copies out what the decoder need not hold back.
fn drain(decoder: &mut FrameDecoder, out: &mut [u8]) -> Result<usize, Problem> {
    ruzstd::io::Read::read(decoder, out).map_err(|_| corrupt("the output could not be read"))
}

/// Unpacks just the first bytes. The window that is declared to the decoder
/// is smaller than what later blocks may refer to: so nothing is taken out
/// before there is enough.
pub(super) fn first(bytes: &[u8], out: &mut [u8]) -> Outcome {
    // A block is no larger than the window, and may have 128 KiB.
    let frame = frame(bytes, 128 << 10)?;
    let mut decoder = start(&frame)?;
    let mut input = frame.blocks.rest();
    while !decoder.is_finished() && decoder.can_collect() < out.len() {
        step(&mut decoder, &mut input, bytes.len())?;
    }
    let written = drain(&mut decoder, out)?;
    Ok(Done {
        written,
        ended: false,
        read: 0,
    })
}

/// Unpacks; `size` bounds what can be referred to.
pub(super) fn decode(bytes: &[u8], out: &mut [u8], size: u64) -> Outcome {
    let frame = frame(bytes, size)?;
    let mut decoder = start(&frame)?;
    let mut input = frame.blocks.rest();
    let mut written: usize = 0;
    loop {
        step(&mut decoder, &mut input, bytes.len())?;
        let room = out.get_mut(written..).unwrap_or_default();
        written = written.saturating_add(drain(&mut decoder, room)?);
        if decoder.is_finished() && decoder.can_collect() == 0 {
            break;
        }
        if written == out.len() {
            return Ok(Done {
                written,
                ended: false,
                read: 0,
            });
        }
    }
    if let (Some(want), Some(have)) = (
        decoder.get_checksum_from_data(),
        decoder.get_calculated_checksum(),
    ) && want != have
    {
        return Err(Problem::Checksum {
            what: "the content checksum",
            want,
            have,
        });
    }
    Ok(Done {
        written,
        ended: true,
        read: bytes.len().saturating_sub(input.len()),
    })
}
