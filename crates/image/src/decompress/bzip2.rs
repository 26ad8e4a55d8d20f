//! bzip2: blocks of up to 900 kB, each move-to-front and Huffman coded after
//! a Burrows-Wheeler transform, with a CRC for each block and one for all.
//!
//! No well-kept safe decoder without `std` was to be had, so this one is
//! our own; bzip2 kernels are rare, and it aims to be short and safe.

use alloc::{vec, vec::Vec};

use super::{Done, Outcome, Problem, crc32};

/// Heap: the block, the transform's vector, and the coding tables.
pub(super) const SCRATCH: usize = 2 * 900_000 * 4 + (512 << 10);

const BLOCK_MAGIC: u64 = 0x3141_5926_5359;
const END_MAGIC: u64 = 0x1772_4538_5090;
/// Symbols of one coding table at most: 256 bytes, less one, and three.
const MAX_SYMBOLS: usize = 258;
/// Symbols between two choices of a table.
const GROUP: usize = 50;

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    bit: u64,
    held: u32,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Result<u64, Problem> {
        while self.held < count {
            let byte = self.bytes.get(self.at).ok_or(Problem::Truncated {
                len: self.bytes.len(),
            })?;
            self.at = self.at.saturating_add(1);
            self.bit = (self.bit << 8) | u64::from(*byte);
            self.held = self.held.saturating_add(8);
        }
        self.held = self.held.saturating_sub(count);
        let mask = 1_u64.checked_shl(count).unwrap_or(0).wrapping_sub(1);
        Ok((self.bit >> self.held) & mask)
    }

    fn number(&mut self, count: u32) -> Result<usize, Problem> {
        self.take(count)
            .map(|value| usize::try_from(value).unwrap_or(usize::MAX))
    }

    fn flag(&mut self) -> Result<bool, Problem> {
        self.take(1).map(|bit| bit == 1)
    }

    const fn corrupt(&self, what: &'static str) -> Problem {
        Problem::Corrupt {
            what,
            at: Some(self.at),
        }
    }
}

/// A canonical Huffman code: for each length the first code, how many
/// there are, and the symbols in order.
struct Table {
    first: [u32; 21],
    count: [u32; 21],
    start: [usize; 21],
    symbols: Vec<u16>,
}

impl Table {
    fn new(lengths: &[u8]) -> Self {
        let mut table = Self {
            first: [0; 21],
            count: [0; 21],
            start: [0; 21],
            symbols: Vec::new(),
        };
        let mut code: u32 = 0;
        for length in 1..=20_u8 {
            let at = usize::from(length);
            let own = (0_u16..).zip(lengths).filter(|(_, l)| **l == length);
            let before = table.symbols.len();
            table.symbols.extend(own.map(|(symbol, _)| symbol));
            let count = u32::try_from(table.symbols.len().saturating_sub(before)).unwrap_or(0);
            code <<= 1;
            if let (Some(first), Some(n), Some(start)) = (
                table.first.get_mut(at),
                table.count.get_mut(at),
                table.start.get_mut(at),
            ) {
                (*first, *n, *start) = (code, count, before);
            }
            code = code.wrapping_add(count);
        }
        table
    }

    fn next(&self, bits: &mut Bits<'_>) -> Result<u16, Problem> {
        let mut code: u32 = 0;
        let levels = self.first.iter().zip(&self.count).zip(&self.start).skip(1);
        for ((first, count), start) in levels {
            code = (code << 1) | u32::try_from(bits.take(1)?).unwrap_or(0);
            if let Some(nth) = code.checked_sub(*first).filter(|nth| nth < count) {
                let at = start.saturating_add(usize::try_from(nth).unwrap_or(usize::MAX));
                if let Some(symbol) = self.symbols.get(at) {
                    return Ok(*symbol);
                }
            }
        }
        Err(bits.corrupt("a code that no table has"))
    }
}

pub(super) fn decode(bytes: &[u8], out: &mut [u8]) -> Outcome {
    let mut bits = Bits {
        bytes,
        at: 0,
        bit: 0,
        held: 0,
    };
    bits.take(24)?;
    let level = bits.number(8)?.wrapping_sub(usize::from(b'0'));
    if !(1..=9).contains(&level) {
        return Err(bits.corrupt("the block size is not 1 to 9"));
    }
    let limit = level.saturating_mul(100_000);
    let mut block = Vec::with_capacity(limit);
    let mut written = 0;
    let mut combined: u32 = 0;
    loop {
        match bits.take(48)? {
            BLOCK_MAGIC => {
                let want = u32::try_from(bits.take(32)?).unwrap_or(0);
                let origin = read_block(&mut bits, limit, &mut block)?;
                let Some(have) = write_block(&block, origin, out, &mut written) else {
                    return Ok(Done {
                        written,
                        ended: false,
                        read: 0,
                    });
                };
                if have != want {
                    return Err(Problem::Checksum {
                        what: "a block's CRC",
                        want,
                        have,
                    });
                }
                combined = combined.rotate_left(1) ^ have;
            }
            END_MAGIC => {
                let want = u32::try_from(bits.take(32)?).unwrap_or(0);
                if combined != want {
                    return Err(Problem::Checksum {
                        what: "the CRC of all blocks",
                        want,
                        have: combined,
                    });
                }
                return Ok(Done {
                    written,
                    ended: true,
                    read: bits.at,
                });
            }
            _ => return Err(bits.corrupt("neither a block nor the end")),
        }
    }
}

/// Reads a block up to the transform: its bytes in the low 8 bits of
/// `block`; the index of the first.
fn read_block(bits: &mut Bits<'_>, limit: usize, block: &mut Vec<u32>) -> Result<usize, Problem> {
    if bits.flag()? {
        return Err(bits.corrupt("a randomised block (an old format)"));
    }
    let origin = bits.number(24)?;
    let mut used = Vec::new();
    let ranges = bits.take(16)?;
    for range in 0..16_u8 {
        if ranges >> 15_u8.saturating_sub(range) & 1 == 1 {
            let map = bits.take(16)?;
            for bit in 0..16_u8 {
                if map >> 15_u8.saturating_sub(bit) & 1 == 1 {
                    used.push(range.wrapping_mul(16).wrapping_add(bit));
                }
            }
        }
    }
    if used.is_empty() {
        return Err(bits.corrupt("a block without symbols"));
    }
    let alphabet = used.len().saturating_add(2).min(MAX_SYMBOLS);
    let (selectors, tables) = coding(bits, alphabet)?;
    block.clear();
    let end = u16::try_from(alphabet.saturating_sub(1)).unwrap_or(u16::MAX);
    let mut run: usize = 0;
    let mut weight: usize = 1;
    for selector in &selectors {
        let table = tables
            .get(usize::from(*selector))
            .ok_or_else(|| bits.corrupt("a table that is not there"))?;
        for _ in 0..GROUP {
            let symbol = table.next(bits)?;
            if symbol <= 1 {
                // A digit of a run length, in bijective base 2.
                let digit = weight.saturating_mul(usize::from(symbol).saturating_add(1));
                run = run.saturating_add(digit);
                weight = weight.saturating_mul(2);
                if run > limit {
                    return Err(bits.corrupt("a run longer than a block"));
                }
                continue;
            }
            if block.len().saturating_add(run) > limit {
                return Err(bits.corrupt("a block longer than its size"));
            }
            if run > 0 {
                let byte = used.first().copied().unwrap_or(0);
                block.resize(block.len().saturating_add(run), byte.into());
                (run, weight) = (0, 1);
            }
            if symbol == end {
                if origin >= block.len() {
                    return Err(bits.corrupt("a block that begins outside itself"));
                }
                return Ok(origin);
            }
            let place = usize::from(symbol).saturating_sub(1);
            let front = used
                .get_mut(..=place)
                .ok_or_else(|| bits.corrupt("a symbol that is not used"))?;
            front.rotate_right(1);
            if block.len() == limit {
                return Err(bits.corrupt("a block longer than its size"));
            }
            block.push(used.first().copied().unwrap_or(0).into());
        }
    }
    Err(bits.corrupt("a block without an end"))
}

/// Selectors and coding tables of a block.
fn coding(bits: &mut Bits<'_>, alphabet: usize) -> Result<(Vec<u8>, Vec<Table>), Problem> {
    let groups = bits.number(3)?;
    if !(2..=6).contains(&groups) {
        return Err(bits.corrupt("a number of tables that is not 2 to 6"));
    }
    let count = bits.number(15)?;
    if count == 0 {
        return Err(bits.corrupt("a block without selectors"));
    }
    let mut order: Vec<u8> = (0..6).take(groups).collect();
    let mut selectors = Vec::new();
    for _ in 0..count {
        let mut place: usize = 0;
        while bits.flag()? {
            place = place.saturating_add(1);
            if place >= groups {
                return Err(bits.corrupt("a selector out of range"));
            }
        }
        order.get_mut(..=place).unwrap_or_default().rotate_right(1);
        selectors.push(order.first().copied().unwrap_or(0));
    }
    let mut tables = Vec::new();
    for _ in 0..groups {
        let mut length = u8::try_from(bits.take(5)?).unwrap_or(0);
        let mut lengths = Vec::new();
        for _ in 0..alphabet {
            loop {
                if !(1..=20).contains(&length) {
                    return Err(bits.corrupt("a code length that is not 1 to 20"));
                }
                if !bits.flag()? {
                    break;
                }
                length = if bits.flag()? {
                    length.wrapping_sub(1)
                } else {
                    length.wrapping_add(1)
                };
            }
            lengths.push(length);
        }
        tables.push(Table::new(&lengths));
    }
    Ok((selectors, tables))
}

/// Undoes the transform and the run lengths before it; the block's CRC, or
/// `None` where the output is full.
fn write_block(block: &[u32], origin: usize, out: &mut [u8], written: &mut usize) -> Option<u32> {
    // For each byte value: where its occurrences begin when sorted.
    let mut starts = [0_usize; 256];
    for value in block {
        if let Some(n) = slot(&mut starts, *value) {
            *n = n.saturating_add(1);
        }
    }
    let mut sum: usize = 0;
    for start in &mut starts {
        let count = *start;
        *start = sum;
        sum = sum.saturating_add(count);
    }
    // Position of each byte's successor, in the vector's upper bits' stead.
    let mut next = vec![0_u32; block.len()];
    for (n, value) in (0_u32..).zip(block) {
        if let Some(place) = slot(&mut starts, *value) {
            if let Some(to) = next.get_mut(*place) {
                *to = n;
            }
            *place = place.saturating_add(1);
        }
    }
    let mut at = next.get(origin).copied().unwrap_or(0);
    let mut crc = u32::MAX;
    let mut last = None;
    let mut repeats: u32 = 0;
    for _ in 0..block.len() {
        let here = usize::try_from(at).unwrap_or(usize::MAX);
        let value = block.get(here).copied().unwrap_or(0);
        let [byte, ..] = value.to_le_bytes();
        at = next.get(here).copied().unwrap_or(0);
        // Four equal bytes are followed by a count of more.
        let times = if repeats == 4 {
            repeats = 0;
            let byte_before = last.unwrap_or(0);
            for _ in 0..byte {
                put(out, written, byte_before)?;
                crc = crc32::bzip2(crc, byte_before);
            }
            last = None;
            0
        } else {
            repeats = if last == Some(byte) {
                repeats.saturating_add(1)
            } else {
                1
            };
            last = Some(byte);
            1
        };
        if times == 1 {
            put(out, written, byte)?;
            crc = crc32::bzip2(crc, byte);
        }
    }
    Some(!crc)
}

fn slot(starts: &mut [usize; 256], value: u32) -> Option<&mut usize> {
    starts.get_mut(usize::try_from(value & 0xff).ok()?)
}

fn put(out: &mut [u8], written: &mut usize, byte: u8) -> Option<()> {
    *out.get_mut(*written)? = byte;
    *written = written.saturating_add(1);
    Some(())
}
