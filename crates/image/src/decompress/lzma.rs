//! "lzma alone": a 13-byte header, then one LZMA stream with an end mark.

use lzma_rust2::{LzmaReader, Read as _};

use super::{Done, Input, Outcome, Problem};

/// Heap beside the dictionary: the model (at most 2 * 0x300 << 12 bytes for
/// the lc and lp that encoders use) and the reader itself.
const MODEL: usize = 8 << 20;

/// Properties, dictionary size (no more than can be referred to), size.
fn header(bytes: &[u8], size: u64) -> Result<(u8, u32, u64, Input<'_>), Problem> {
    let mut input = Input::new(bytes);
    let [properties] = input.array()?;
    let dictionary = u32::from_le_bytes(input.array()?);
    let unpacked = u64::from_le_bytes(input.array()?);
    let limit = u32::try_from(size).unwrap_or(u32::MAX);
    let limit = limit.saturating_add(4096);
    Ok((properties, dictionary.min(limit), unpacked, input))
}

pub(super) fn scratch(bytes: &[u8], size: u64) -> Result<usize, Problem> {
    let (_, dictionary, _, _) = header(bytes, size)?;
    let dictionary = usize::try_from(dictionary).unwrap_or(usize::MAX);
    // The library lets it grow where it cannot grow in its place, as its input's
    // buffer is behind it, and copies what it has.
    Ok(dictionary.saturating_mul(2).saturating_add(MODEL))
}

pub(super) fn decode(bytes: &[u8], out: &mut [u8], size: u64) -> Outcome {
    let (properties, dictionary, unpacked, input) = header(bytes, size)?;
    let corrupt = || Problem::Corrupt {
        what: "not an LZMA stream",
        at: None,
    };
    let mut reader =
        LzmaReader::new_with_props(input.rest(), unpacked, properties, dictionary, None)
            .map_err(|_| corrupt())?;
    let mut written: usize = 0;
    while written < out.len() {
        let room = out.get_mut(written..).unwrap_or_default();
        match reader.read(room) {
            Ok(0) => {
                return Ok(Done {
                    written,
                    ended: true,
                    read: bytes.len(),
                });
            }
            Ok(n) => written = written.saturating_add(n),
            Err(lzma_rust2::Error::Eof) => return Err(Problem::Truncated { len: bytes.len() }),
            Err(_) => return Err(corrupt()),
        }
    }
    // The end mark comes behind the last byte.
    match reader.read(&mut [0]) {
        Ok(n) => Ok(Done {
            written,
            ended: n == 0,
            read: bytes.len(),
        }),
        Err(lzma_rust2::Error::Eof) => Err(Problem::Truncated { len: bytes.len() }),
        Err(_) => Err(corrupt()),
    }
}
