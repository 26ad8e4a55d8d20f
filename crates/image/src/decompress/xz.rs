//! xz as Linux's build makes it: blocks of LZMA2, with x86's filter or without,
//! and a CRC-32. Anything else is for the library ([`xz_other`]).

use super::{Done, Input, Outcome, Problem, crc32, lzma2, x86, xz_other};

/// Heap of our own decoder: what it learns, and what is unpacked to be looked at.
const STATE: usize = 128 << 10;
const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const FOOTER: [u8; 2] = *b"YZ";
/// Numbers of filters.
const X86: u8 = 4;
const LZMA2: u8 = 0x21;

/// What a block's header says.
struct Block {
    filtered: bool,
    dictionary: usize,
    /// Sizes of its data, packed and not, where it says them.
    packed: Option<u64>,
    unpacked: Option<u64>,
}

/// A number of seven bits a byte, the last without the eighth.
fn number(input: &mut Input<'_>) -> Result<u64, Problem> {
    let mut value: u64 = 0;
    for place in 0..9_u32 {
        let [byte] = input.array()?;
        let shift = place.wrapping_mul(7);
        value |= u64::from(byte & 0x7f).wrapping_shl(shift);
        if byte & 0x80 == 0 {
            if byte == 0 && place > 0 {
                break;
            }
            return Ok(value);
        }
    }
    Err(input.corrupt("a number that is not well formed"))
}

/// Zeroes to the next multiple of four since `start`.
fn padding(input: &mut Input<'_>, start: usize) -> Result<(), Problem> {
    while !input.at().wrapping_sub(start).is_multiple_of(4) {
        if input.array()? != [0] {
            return Err(input.corrupt("padding that is not zero"));
        }
    }
    Ok(())
}

/// Takes the CRC-32 of what was read since `start`.
fn sum(
    input: &mut Input<'_>,
    bytes: &[u8],
    start: usize,
    what: &'static str,
) -> Result<(), Problem> {
    let have = crc32::ieee(bytes.get(start..input.at()).unwrap_or_default());
    check(u32::from_le_bytes(input.array()?), have, what)
}

const fn check(want: u32, have: u32, what: &'static str) -> Result<(), Problem> {
    if want == have {
        return Ok(());
    }
    Err(Problem::Checksum { what, want, have })
}

/// Whether each block has a CRC-32 behind it; `None`: another sum.
fn stream_header(input: &mut Input<'_>, bytes: &[u8]) -> Result<Option<bool>, Problem> {
    if input.array()? != MAGIC {
        return Err(input.corrupt("not an xz stream"));
    }
    let start = input.at();
    let flags = input.array()?;
    sum(input, bytes, start, "the CRC-32 of the stream's header")?;
    Ok(match flags {
        [0, 0] => Some(false),
        [0, 1] => Some(true),
        _ => None,
    })
}

/// A block's header, whose first byte is read; `None`: for the library.
fn block_header(input: &mut Input<'_>, bytes: &[u8], words: u8) -> Result<Option<Block>, Problem> {
    let start = input.at().wrapping_sub(1);
    let len = usize::from(words).wrapping_mul(4);
    let body = input.take(len.wrapping_sub(1))?;
    sum(input, bytes, start, "the CRC-32 of a block's header")?;
    let mut head = Input::new(body);
    let [flags] = head.array()?;
    let size = |head: &mut Input<'_>, has| {
        if has {
            number(head).map(Some)
        } else {
            Ok(None)
        }
    };
    let packed = size(&mut head, flags & 0x40 != 0)?;
    let unpacked = size(&mut head, flags & 0x80 != 0)?;
    let filtered = match flags & 0x3f {
        0 => false,
        1 if head.array()? == [X86, 0] => true,
        _ => return Ok(None),
    };
    let [filter, properties, code] = head.array()?;
    if [filter, properties] != [LZMA2, 1] || code > 40 || head.rest().iter().any(|b| *b != 0) {
        return Ok(None);
    }
    Ok(Some(Block {
        filtered,
        dictionary: usize::try_from(xz_other::dictionary(code)).unwrap_or(usize::MAX),
        packed,
        unpacked,
    }))
}

/// What the index must say of the blocks, without keeping it: a sum of it.
#[derive(Default, PartialEq, Eq)]
struct Index {
    blocks: u64,
    sum: u32,
}

impl Index {
    fn add(&mut self, packed: u64, unpacked: u64) {
        let mut record = [0; 20];
        let numbers = packed
            .to_le_bytes()
            .into_iter()
            .chain(unpacked.to_le_bytes());
        let all = self.sum.to_le_bytes().into_iter().chain(numbers);
        record.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        self.sum = crc32::ieee(&record);
        self.blocks = self.blocks.saturating_add(1);
    }
}

/// The index, whose first byte is read, and the footer.
fn end(input: &mut Input<'_>, bytes: &[u8], seen: &Index) -> Result<(), Problem> {
    let start = input.at().wrapping_sub(1);
    let mut index = Index::default();
    let blocks = number(input)?;
    while index.blocks < blocks {
        let (packed, unpacked) = (number(input)?, number(input)?);
        index.add(packed, unpacked);
    }
    if index != *seen {
        return Err(input.corrupt("an index of other blocks"));
    }
    padding(input, start)?;
    sum(input, bytes, start, "the CRC-32 of the index")?;
    let size = input.at().wrapping_sub(start);
    let want = u32::from_le_bytes(input.array()?);
    let start = input.at();
    let words = u32::from_le_bytes(input.array()?);
    let flags = input.array::<2>()?;
    check(
        want,
        crc32::ieee(bytes.get(start..input.at()).unwrap_or_default()),
        "the CRC-32 of the footer",
    )?;
    let told = u64::from(words).wrapping_add(1).wrapping_mul(4);
    if told != len(size) || bytes.get(6..8) != Some(&flags) || input.array()? != FOOTER {
        return Err(input.corrupt("a footer of another stream"));
    }
    Ok(())
}

fn len(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Whether the stream begins in a form for our own decoder.
fn is_usual(bytes: &[u8]) -> Result<bool, Problem> {
    let mut input = Input::new(bytes);
    if stream_header(&mut input, bytes)?.is_none() {
        return Ok(false);
    }
    match input.array()? {
        [0] => Ok(true),
        [words] => Ok(block_header(&mut input, bytes, words)?.is_some()),
    }
}

pub(super) fn scratch(bytes: &[u8], size: u64) -> Result<usize, Problem> {
    if is_usual(bytes)? {
        return Ok(STATE);
    }
    xz_other::scratch(bytes, size)
}

pub(super) fn decode(bytes: &[u8], out: &mut [u8], size: u64) -> Outcome {
    if is_usual(bytes)? {
        return usual(bytes, out);
    }
    xz_other::decode(bytes, out, size)
}

/// Unpacks what comes first.
pub(super) fn first(bytes: &[u8], out: &mut [u8], size: u64) -> Outcome {
    if !is_usual(bytes)? {
        return xz_other::decode(bytes, out, size.min(len(out.len())));
    }
    // The filter looks at what is behind; so that is unpacked, too.
    let mut more = alloc::vec![0; out.len().saturating_add(x86::LOOK)];
    let done = usual(bytes, &mut more)?;
    let written = done.written.min(out.len());
    if let (Some(to), Some(from)) = (out.get_mut(..written), more.get(..written)) {
        to.copy_from_slice(from);
    }
    Ok(Done {
        written,
        ended: done.ended && written == done.written,
        ..done
    })
}

fn usual(bytes: &[u8], out: &mut [u8]) -> Outcome {
    let mut input = Input::new(bytes);
    let summed = stream_header(&mut input, bytes)?.unwrap_or(false);
    let mut written: usize = 0;
    let mut index = Index::default();
    loop {
        let start = input.at();
        let [words] = input.array()?;
        if words == 0 {
            end(&mut input, bytes, &index)?;
            return Ok(Done {
                written,
                ended: true,
                read: input.at(),
            });
        }
        let block = block_header(&mut input, bytes, words)?;
        let block = block.ok_or_else(|| input.corrupt("a block of another form than the first"))?;
        let room = out.get_mut(written..).unwrap_or_default();
        let at = input.at();
        let done = lzma2::decode(&mut input, room, block.dictionary)?;
        let unpacked = room.get_mut(..done.written).unwrap_or_default();
        if block.filtered {
            x86::decode(unpacked);
        }
        written = written.saturating_add(done.written);
        if !done.ended {
            return Ok(Done {
                written,
                ended: false,
                read: 0,
            });
        }
        let packed = len(input.at().wrapping_sub(at));
        let size = len(unpacked.len());
        if block.packed.unwrap_or(packed) != packed || block.unpacked.unwrap_or(size) != size {
            return Err(input.corrupt("a block of another size than its header says"));
        }
        // Neither the padding nor what is behind it is of the size in the index,
        // but the sum is.
        let mut whole = len(input.at().wrapping_sub(start));
        padding(&mut input, start)?;
        if summed {
            let want = u32::from_le_bytes(input.array()?);
            check(want, crc32::ieee(unpacked), "the CRC-32 of a block")?;
            whole = whole.saturating_add(4);
        }
        index.add(whole, size);
    }
}
