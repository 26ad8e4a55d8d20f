//! LZMA2, decoded straight into its output: what a match refers to is there.
//!
//! Our own, where a well-kept library would be better: those there are decode
//! into a dictionary beside the output and copy from it, through a filter's
//! buffer. For Debian's generic kernel that is 4.7 thousand million instructions
//! instead of 3.0 (callgrind), and 32 MiB of memory in a small guest. The format's description is
//! Linux's `Documentation/staging/xz.rst` and what it refers to.
//!
//! Nothing here can panic: arithmetic wraps, array indices are masked, and the
//! output is only written through checked accesses.

use alloc::boxed::Box;

use super::{
    Done, Input, Outcome, Problem,
    range::{Coder, EVEN, Wrong},
};

/// The first state after something other than a literal.
const AFTER_MATCH: usize = 7;
/// Bytes of the shortest match.
const SHORTEST: usize = 2;
/// The first slot of distances whose middle bits have no probabilities.
const DIRECT: usize = 14;
const NONE_BEFORE: &str = "a chunk that needs one before it";

/// How lengths are told.
#[derive(Clone)]
struct Lengths {
    long: u16,
    longer: u16,
    low: [[u16; 8]; 16],
    middle: [[u16; 8]; 16],
    high: [u16; 256],
}

impl Lengths {
    const NEW: Self = Self {
        long: EVEN,
        longer: EVEN,
        low: [[EVEN; 8]; 16],
        middle: [[EVEN; 8]; 16],
        high: [EVEN; 256],
    };

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "masked")]
    fn next(&mut self, coder: &mut Coder<'_>, place: usize) -> Result<usize, Wrong> {
        let (base, more) = if !coder.bit(&mut self.long)? {
            (SHORTEST, coder.tree(&mut self.low[place & 15])?)
        } else if !coder.bit(&mut self.longer)? {
            (SHORTEST + 8, coder.tree(&mut self.middle[place & 15])?)
        } else {
            (SHORTEST + 16, coder.tree(&mut self.high)?)
        };
        Ok(base.wrapping_add(more))
    }
}

/// What was learnt from what is decoded. Tables are as long as their masks ask.
#[derive(Clone)]
struct Model {
    is_match: [[u16; 16]; 16],
    is_rep: [u16; 16],
    is_rep0: [u16; 16],
    is_rep1: [u16; 16],
    is_rep2: [u16; 16],
    is_rep0_long: [[u16; 16]; 16],
    slots: [[u16; 64]; 4],
    special: [u16; 128],
    align: [u16; 16],
    match_len: Lengths,
    rep_len: Lengths,
    literal: [[u16; 0x400]; 16],
    state: usize,
    reps: [usize; 4],
}

impl Model {
    const NEW: Self = Self {
        is_match: [[EVEN; 16]; 16],
        is_rep: [EVEN; 16],
        is_rep0: [EVEN; 16],
        is_rep1: [EVEN; 16],
        is_rep2: [EVEN; 16],
        is_rep0_long: [[EVEN; 16]; 16],
        slots: [[EVEN; 64]; 4],
        special: [EVEN; 128],
        align: [EVEN; 16],
        match_len: Lengths::NEW,
        rep_len: Lengths::NEW,
        literal: [[EVEN; 0x400]; 16],
        state: 0,
        reps: [0; 4],
    };

    /// A distance less one, for a match of this length.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "masked")]
    fn distance(&mut self, coder: &mut Coder<'_>, len: usize) -> Result<usize, Wrong> {
        let kind = len.wrapping_sub(SHORTEST).min(3);
        let slot = coder.tree(&mut self.slots[kind])?;
        if slot < 4 {
            return Ok(slot);
        }
        let bits = (slot >> 1).wrapping_sub(1);
        let high = (2 | (slot & 1)).wrapping_shl(bits.try_into().unwrap_or(0));
        if slot < DIRECT {
            // The tables of all slots lie in one.
            let base = high.wrapping_sub(slot);
            return Ok(high.wrapping_add(coder.reverse(&mut self.special, base, bits)?));
        }
        let middle = coder.direct(bits.wrapping_sub(4))?;
        let low = coder.reverse(&mut self.align, 0, 4)?;
        Ok(high.wrapping_add(middle << 4).wrapping_add(low))
    }
}

/// Literal context, literal position and position bits.
#[derive(Clone, Copy)]
struct Bits {
    context: u32,
    literal: usize,
    position: usize,
}

impl Bits {
    fn new(properties: u8) -> Result<Self, Wrong> {
        let (context, rest) = (properties % 9, properties / 9);
        let (literal, position) = (rest % 5, rest / 5);
        if context.saturating_add(literal) > 4 || position > 4 {
            return Err(Wrong("properties that cannot be"));
        }
        let mask = |bits: u8| 1_usize.wrapping_shl(bits.into()).wrapping_sub(1);
        Ok(Self {
            context: context.into(),
            literal: mask(literal),
            position: mask(position),
        })
    }
}

/// Copies one byte from before to behind.
#[inline(always)]
fn one(out: &mut [u8], from: usize, to: usize) {
    if let Some(byte) = out.get(from).copied()
        && let Some(place) = out.get_mut(to)
    {
        *place = byte;
    }
}

/// The same with eight.
#[inline(always)]
fn eight(out: &mut [u8], from: usize, to: usize) {
    if let Some(bytes) = out
        .get(from..)
        .and_then(|part| part.first_chunk::<8>().copied())
        && let Some(place) = out.get_mut(to..).and_then(|part| part.first_chunk_mut())
    {
        *place = bytes;
    }
}

/// Copies `len` bytes to `at` from `back` bytes (not none) before it.
#[inline(always)]
fn repeat(out: &mut [u8], at: usize, back: usize, len: usize) {
    let end = at.wrapping_add(len);
    let mut to = at;
    if back < 8 || out.len().saturating_sub(end) < 8 {
        // What repeats is found at each multiple of how far back it is: from
        // eight on it can be copied by eight.
        let far = back.wrapping_mul((7_usize.checked_div(back).unwrap_or(0)).wrapping_add(1));
        let near = at.wrapping_add(far.wrapping_sub(back)).min(end);
        while to < near {
            one(out, to.wrapping_sub(back), to);
            to = to.wrapping_add(1);
        }
        while end.wrapping_sub(to) >= 8 {
            eight(out, to.wrapping_sub(far), to);
            to = to.wrapping_add(8);
        }
        while to < end {
            one(out, to.wrapping_sub(back), to);
            to = to.wrapping_add(1);
        }
    } else {
        // What is written past the end is written over later.
        while to < end {
            eight(out, to.wrapping_sub(back), to);
            to = to.wrapping_add(8);
        }
    }
}

/// Decodes a chunk's data until `out` ends, from `at` on; if that is the end of
/// the `whole` chunk, its data ends there too.
#[expect(clippy::indexing_slicing, reason = "masked")]
fn chunk(
    model: &mut Model,
    bits: Bits,
    (bytes, whole): (&[u8], bool),
    (out, mut at): (&mut [u8], usize),
    dictionary: usize,
) -> Result<(), Wrong> {
    let mut coder = Coder::new(bytes)?;
    let mut state = model.state;
    let [mut rep0, mut rep1, mut rep2, mut rep3] = model.reps;
    while at < out.len() {
        let place = at & bits.position & 15;
        if !coder.bit(&mut model.is_match[state & 15][place])? {
            let before = out.get(at.wrapping_sub(1)).copied().unwrap_or(0);
            let context = usize::from(before).wrapping_shr(8_u32.wrapping_sub(bits.context));
            let context = context.wrapping_add((at & bits.literal).wrapping_shl(bits.context));
            let probs = &mut model.literal[context & 15];
            let byte = if state < AFTER_MATCH {
                state = state.saturating_sub(3);
                coder.literal(probs)?
            } else {
                state = state.wrapping_sub(if state < 10 { 3 } else { 6 });
                let like = out.get(at.wrapping_sub(rep0).wrapping_sub(1));
                coder.literal_unlike(probs, like.copied().unwrap_or(0))?
            };
            if let Some(place) = out.get_mut(at) {
                *place = byte;
            }
            at = at.wrapping_add(1);
            continue;
        }
        let after_literal = state < AFTER_MATCH;
        let len = if !coder.bit(&mut model.is_rep[state & 15])? {
            let len = model.match_len.next(&mut coder, place)?;
            (rep1, rep2, rep3) = (rep0, rep1, rep2);
            rep0 = model.distance(&mut coder, len)?;
            state = if after_literal { 7 } else { 10 };
            len
        } else {
            let mut short = false;
            if !coder.bit(&mut model.is_rep0[state & 15])? {
                short = !coder.bit(&mut model.is_rep0_long[state & 15][place])?;
            } else if !coder.bit(&mut model.is_rep1[state & 15])? {
                (rep0, rep1) = (rep1, rep0);
            } else if !coder.bit(&mut model.is_rep2[state & 15])? {
                (rep0, rep1, rep2) = (rep2, rep0, rep1);
            } else {
                (rep0, rep1, rep2, rep3) = (rep3, rep0, rep1, rep2);
            }
            if short {
                state = if after_literal { 9 } else { 11 };
                1
            } else {
                state = if after_literal { 8 } else { 11 };
                model.rep_len.next(&mut coder, place)?
            }
        };
        let room = out.len().wrapping_sub(at);
        let back = rep0.wrapping_add(1);
        if back > at || back > dictionary {
            return Err(Wrong("a match from before the beginning"));
        }
        if len > room && whole {
            return Err(Wrong("a match goes past its chunk"));
        }
        let len = len.min(room);
        repeat(out, at, back, len);
        at = at.wrapping_add(len);
    }
    model.state = state;
    model.reps = [rep0, rep1, rep2, rep3];
    if whole { coder.end() } else { Ok(()) }
}

/// A chunk's data, and with which bits it is packed.
type Packed<'a> = (Bits, &'a [u8]);

/// Where in a stream of chunks one is, and what they leave each other.
struct Stream<'i, 'a> {
    input: &'i mut Input<'a>,
    model: Box<Model>,
    /// None where a chunk must bring them, and begin the model anew.
    bits: Option<Bits>,
}

impl<'a> Stream<'_, 'a> {
    fn number(&mut self) -> Result<usize, Problem> {
        let number = u16::from_be_bytes(self.input.array()?);
        Ok(usize::from(number).wrapping_add(1))
    }

    /// The next chunk's size when it is unpacked, and its data if it is packed.
    /// (What is not packed is of the same size.)
    fn head(&mut self, control: u8) -> Result<(usize, Option<Packed<'a>>), Problem> {
        let low = self.number()?;
        if control < 0x80 {
            return Ok((low, None));
        }
        let size = (usize::from(control & 0x1f) << 16).wrapping_add(low);
        let packed = self.number()?;
        if control >= 0xc0 {
            let [properties] = self.input.array()?;
            self.bits = Some(Bits::new(properties).map_err(|wrong| self.problem(wrong))?);
        }
        if control >= 0xa0 {
            *self.model = Model::NEW;
        }
        match self.bits {
            Some(bits) => Ok((size, Some((bits, self.input.take(packed)?)))),
            None => Err(self.input.corrupt(NONE_BEFORE)),
        }
    }

    fn problem(&self, wrong: Wrong) -> Problem {
        self.input.corrupt(wrong.0)
    }
}

/// Decodes until the stream or `out` ends, with matches from up to so many bytes
/// back.
pub(super) fn decode(input: &mut Input<'_>, out: &mut [u8], dictionary: usize) -> Outcome {
    let mut stream = Stream {
        input,
        model: Box::new(Model::NEW),
        bits: None,
    };
    // Where the dictionary began, if it did, and how far all is written.
    let mut began = None;
    let mut at: usize = 0;
    loop {
        let [control] = stream.input.array()?;
        let mut done = Done {
            written: at,
            ended: true,
            read: stream.input.at(),
        };
        match control {
            0 => return Ok(done),
            1 | 0xe0.. => (began, stream.bits) = (Some(at), None),
            3..0x80 => return Err(stream.input.corrupt("an unknown kind of chunk")),
            2 | 0x80.. => {}
        }
        let start = began.ok_or_else(|| stream.input.corrupt(NONE_BEFORE))?;
        let (size, packed) = stream.head(control)?;
        let limit = at.saturating_add(size).min(out.len());
        let whole = limit.wrapping_sub(at) == size;
        let part = out.get_mut(start..limit).unwrap_or_default();
        let from = at.wrapping_sub(start);
        if let Some((bits, data)) = packed {
            let model = &mut stream.model;
            chunk(model, bits, (data, whole), (part, from), dictionary)
                .map_err(|wrong| stream.problem(wrong))?;
        } else {
            let data = stream.input.take(size)?;
            let room = part.get_mut(from..).unwrap_or_default();
            room.copy_from_slice(data.get(..room.len()).unwrap_or_default());
        }
        at = limit;
        if !whole {
            (done.written, done.ended, done.read) = (at, false, 0);
            return Ok(done);
        }
    }
}
