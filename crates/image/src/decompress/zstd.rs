//! zstd (RFC 8878), with windows of up to 128 MiB, which is what
//! `zstd -22 --ultra` declares when it does not know the size beforehand.

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Done, Input, Outcome, Problem};

/// The largest window that is taken.
const MAX_WINDOW: u64 = 128 << 20;
/// Heap beside the window: tables, literals, one step of output.
const STATE: usize = 2 << 20;
/// Bytes that are decoded before they are copied out.
const STEP: usize = 1 << 20;

/// The window that a frame header declares.
fn window(bytes: &[u8]) -> Result<u64, Problem> {
    let mut input = Input::new(bytes);
    input.take(4)?;
    let [descriptor] = input.array()?;
    let single = descriptor & 0x20 != 0;
    if !single {
        let [code] = input.array()?;
        let base = 1_u64 << (code >> 3).saturating_add(10);
        return Ok(base.saturating_add((base / 8).saturating_mul(u64::from(code & 7))));
    }
    input.take(match descriptor & 3 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    })?;
    Ok(match descriptor >> 6 {
        0 => u64::from(u8::from_le_bytes(input.array()?)),
        1 => u64::from(u16::from_le_bytes(input.array()?)).saturating_add(256),
        2 => u64::from(u32::from_le_bytes(input.array()?)),
        _ => u64::from_le_bytes(input.array()?),
    })
}

pub(super) fn scratch(bytes: &[u8], size: u64) -> Result<usize, Problem> {
    let window = window(bytes)?;
    if window > MAX_WINDOW.max(size) {
        return Err(Problem::Memory { want: window });
    }
    // The library's ring buffer holds what the window can refer to and a
    // step more; it doubles as it grows, so that its last size is a power
    // of two, and the one before it is there beside it.
    let used = window.min(size).saturating_add(2 << 20);
    let ring = used
        .checked_next_power_of_two()
        .and_then(|ring| ring.checked_mul(2))
        .and_then(|ring| usize::try_from(ring).ok());
    ring.and_then(|ring| ring.checked_add(STATE))
        .ok_or(Problem::Memory { want: used })
}

pub(super) fn decode(bytes: &[u8], out: &mut [u8]) -> Outcome {
    let mut input = Input::new(bytes).rest();
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_WINDOW.max(u64::try_from(out.len()).unwrap_or(0)));
    let corrupt = |what| Problem::Corrupt { what, at: None };
    decoder
        .init(&mut input)
        .map_err(|_| corrupt("the frame header is not well formed"))?;
    let mut written: usize = 0;
    loop {
        let step = STEP.min(out.len().saturating_sub(written).max(1));
        decoder
            .decode_blocks(&mut input, BlockDecodingStrategy::UptoBytes(step))
            .map_err(|_| {
                if input.is_empty() {
                    Problem::Truncated { len: bytes.len() }
                } else {
                    corrupt("a block is not well formed")
                }
            })?;
        let room = out.get_mut(written..).unwrap_or_default();
        let n = ruzstd::io::Read::read(&mut decoder, room)
            .map_err(|_| corrupt("the output could not be read"))?;
        written = written.saturating_add(n);
        if decoder.is_finished() && decoder.can_collect() == 0 {
            break;
        }
        if written == out.len() {
            return Ok(Done {
                written,
                ended: false,
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
    })
}
