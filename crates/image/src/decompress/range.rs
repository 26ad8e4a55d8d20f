//! LZMA's range coder, with the bytes of one chunk.

/// Bits of a probability.
const BITS: u32 = 11;
/// How slowly a probability follows what was seen.
const MOVE: u32 = 5;
/// The probability of one half.
pub(super) const EVEN: u16 = 1 << (BITS - 1);
/// Below this range another byte is taken in.
const TOP: u64 = 1 << 24;

/// What is wrong with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) &'static str);

const OVERRUN: Wrong = Wrong("a chunk's data does not end where it should");

/// The coder. Both numbers are of 32 bits, in words of their own: two halves of
/// one word cost twice the instructions.
pub(super) struct Coder<'a> {
    range: u64,
    code: u64,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Coder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Wrong> {
        let Some(([0, code @ ..], bytes)) = bytes.split_first_chunk::<5>() else {
            return Err(Wrong("a chunk's data does not begin with a zero"));
        };
        Ok(Self {
            range: u32::MAX.into(),
            code: u32::from_be_bytes(*code).into(),
            bytes,
            at: 0,
        })
    }

    /// Takes another byte in, if one is due.
    #[inline(always)]
    fn normalize(&mut self) -> Result<(), Wrong> {
        if self.range < TOP {
            let byte = self.bytes.get(self.at).copied().ok_or(OVERRUN)?;
            self.at = self.at.wrapping_add(1);
            self.range <<= 8;
            self.code = (self.code << 8) | u64::from(byte);
        }
        Ok(())
    }

    /// One of two, as the next bit says: chosen where the bit is known, so that
    /// it need not be looked at again.
    #[inline(always)]
    fn choose<T>(&mut self, probability: &mut u16, zero: T, one: T) -> Result<T, Wrong> {
        self.normalize()?;
        let p = *probability;
        let bound = (self.range >> BITS).wrapping_mul(p.into());
        if self.code < bound {
            self.range = bound;
            *probability = p.wrapping_add((2 * EVEN).wrapping_sub(p) >> MOVE);
            Ok(zero)
        } else {
            self.range = self.range.wrapping_sub(bound);
            self.code = self.code.wrapping_sub(bound);
            *probability = p.wrapping_sub(p >> MOVE);
            Ok(one)
        }
    }

    /// A bit.
    #[inline(always)]
    pub(super) fn bit(&mut self, probability: &mut u16) -> Result<bool, Wrong> {
        self.choose(probability, false, true)
    }

    /// A step down a tree of bits.
    #[inline(always)]
    fn step(&mut self, node: usize, probability: &mut u16) -> Result<usize, Wrong> {
        self.choose(probability, node << 1, (node << 1) | 1)
    }

    /// A number below `N` (a power of two), its highest bit first.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "masked")]
    pub(super) fn tree<const N: usize>(&mut self, tree: &mut [u16; N]) -> Result<usize, Wrong> {
        let mut node = 1_usize;
        while node < N {
            node = self.step(node, &mut tree[node & const { N - 1 }])?;
        }
        Ok(node.wrapping_sub(N))
    }

    /// A number of so many bits, its lowest first; from a tree that begins at
    /// `base`.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "masked")]
    pub(super) fn reverse<const N: usize>(
        &mut self,
        trees: &mut [u16; N],
        base: usize,
        bits: usize,
    ) -> Result<usize, Wrong> {
        let (mut node, mut place, mut value) = (1_usize, 1_usize, 0);
        for _ in 0..bits {
            let probability = &mut trees[base.wrapping_add(node) & const { N - 1 }];
            let with = value | place;
            (node, value) =
                self.choose(probability, (node << 1, value), ((node << 1) | 1, with))?;
            place <<= 1;
        }
        Ok(value)
    }

    /// A number of so many bits without probabilities, its highest first.
    #[inline(always)]
    pub(super) fn direct(&mut self, bits: usize) -> Result<usize, Wrong> {
        let mut value = 0;
        for _ in 0..bits {
            self.normalize()?;
            self.range >>= 1;
            value <<= 1;
            if self.code >= self.range {
                self.code = self.code.wrapping_sub(self.range);
                value |= 1;
            }
        }
        Ok(value)
    }

    /// A byte.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "masked")]
    pub(super) fn literal(&mut self, tree: &mut [u16; 0x400]) -> Result<u8, Wrong> {
        let mut node = 1_usize;
        while node < 0x100 {
            node = self.step(node, &mut tree[node & 0x3ff])?;
        }
        let [byte, ..] = node.to_le_bytes();
        Ok(byte)
    }

    /// A byte that is not this one: as far as both are alike, the tree is another.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "masked")]
    pub(super) fn literal_unlike(
        &mut self,
        tree: &mut [u16; 0x400],
        other: u8,
    ) -> Result<u8, Wrong> {
        let mut other = usize::from(other);
        let (mut node, mut alike) = (1_usize, 0x100);
        while node < 0x100 {
            other <<= 1;
            let bit = other & alike;
            let probability = &mut tree[alike.wrapping_add(bit).wrapping_add(node) & 0x3ff];
            let (zero, one) = ((node << 1, alike & !bit), ((node << 1) | 1, bit));
            (node, alike) = self.choose(probability, zero, one)?;
        }
        let [byte, ..] = node.to_le_bytes();
        Ok(byte)
    }

    /// Whether the chunk ends here, as it should.
    pub(super) fn end(&mut self) -> Result<(), Wrong> {
        self.normalize()?;
        if self.code != 0 || self.at != self.bytes.len() {
            return Err(OVERRUN);
        }
        Ok(())
    }
}
