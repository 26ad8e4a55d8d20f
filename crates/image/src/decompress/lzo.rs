//! lzop's container around LZO1X blocks, as `lzop -9` makes it.

use lzokay::decompress::decompress;

use super::{Done, Input, Outcome, Problem, crc32};

/// The largest block that is taken: lzop makes them of 256 KiB.
const MAX_BLOCK: usize = 1 << 20;
/// Heap: one block, for a peek that wants less than that.
pub(super) const SCRATCH: usize = MAX_BLOCK + (64 << 10);

const ADLER32_OUT: u32 = 1;
const ADLER32_IN: u32 = 2;
const CRC32_OUT: u32 = 0x100;
const CRC32_IN: u32 = 0x200;
const FILTER: u32 = 0x800;

pub(super) fn decode(bytes: &[u8], out: &mut [u8]) -> Outcome {
    let mut input = Input::new(bytes);
    let flags = header(&mut input)?;
    let mut written: usize = 0;
    loop {
        let size = number(&mut input)?;
        if size == 0 {
            return Ok(Done {
                written,
                ended: true,
                read: input.at(),
            });
        }
        let packed = number(&mut input)?;
        if size > MAX_BLOCK || packed > size {
            return Err(input.corrupt("a block's size is out of range"));
        }
        let adler = sum(&mut input, flags & ADLER32_OUT != 0)?;
        let crc = sum(&mut input, flags & CRC32_OUT != 0)?;
        if packed < size {
            sum(&mut input, flags & ADLER32_IN != 0)?;
            sum(&mut input, flags & CRC32_IN != 0)?;
        }
        let block = input.take(packed)?;
        let end = written.saturating_add(size);
        if end > out.len() {
            // Only a part of it fits.
            let mut whole = alloc::vec![0; size];
            unpack(&input, block, &mut whole, adler, crc)?;
            let room = out.get_mut(written..).unwrap_or_default();
            for (to, from) in room.iter_mut().zip(&whole) {
                *to = *from;
            }
            return Ok(Done {
                written: out.len(),
                ended: false,
                read: 0,
            });
        }
        let room = out.get_mut(written..end).unwrap_or_default();
        unpack(&input, block, room, adler, crc)?;
        written = end;
    }
}

fn unpack(
    input: &Input<'_>,
    block: &[u8],
    out: &mut [u8],
    adler: Option<u32>,
    crc: Option<u32>,
) -> Result<(), Problem> {
    if block.len() == out.len() {
        out.copy_from_slice(block);
    } else if decompress(block, out) != Ok(out.len()) {
        return Err(input.corrupt("a block is not well formed"));
    }
    let check = |what, want: Option<u32>, have: u32| match want {
        Some(want) if want != have => Err(Problem::Checksum { what, want, have }),
        _ => Ok(()),
    };
    if adler.is_some() {
        check("a block's Adler-32", adler, adler2::adler32_slice(out))?;
    }
    if crc.is_some() {
        check("a block's CRC-32", crc, crc32::ieee(out))?;
    }
    Ok(())
}

fn number(input: &mut Input<'_>) -> Result<usize, Problem> {
    let value = u32::from_be_bytes(input.array()?);
    usize::try_from(value).map_err(|_| input.corrupt("a size is out of range"))
}

fn sum(input: &mut Input<'_>, there: bool) -> Result<Option<u32>, Problem> {
    if there {
        input.array().map(u32::from_be_bytes).map(Some)
    } else {
        Ok(None)
    }
}

fn header(input: &mut Input<'_>) -> Result<u32, Problem> {
    input.take(9)?;
    let version = u16::from_be_bytes(input.array()?);
    input.take(2)?;
    if version >= 0x940 {
        input.take(2)?;
    }
    let [method] = input.array()?;
    if !(1..=3).contains(&method) {
        return Err(input.corrupt("the method is not LZO1X"));
    }
    if version >= 0x940 {
        input.take(1)?;
    }
    let flags = u32::from_be_bytes(input.array()?);
    if flags & FILTER != 0 {
        return Err(input.corrupt("it uses a filter, which is not supported"));
    }
    // Mode and times.
    input.take(if version >= 0x940 { 12 } else { 8 })?;
    let [name] = input.array()?;
    input.take(usize::from(name))?;
    input.take(4)?;
    Ok(flags)
}
