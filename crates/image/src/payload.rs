//! A packed stream, and unpacking it into memory of its size.

use crate::{
    Compression,
    decompress::{self, Done, Problem},
};

/// A packed stream whose unpacked size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// What it is packed with.
    pub compression: Compression,
    /// The stream.
    pub bytes: &'a [u8],
    /// Bytes that it unpacks to.
    pub size: u64,
}

/// Why a stream could not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecompressError {
    /// What it is packed with.
    pub compression: Compression,
    problem: Problem,
}

impl DecompressError {
    /// Whether the only problem is that there is more than fits.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self.problem, Problem::Full { .. })
    }
}

impl core::fmt::Display for DecompressError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} data: {}", self.compression, self.problem)
    }
}

impl core::error::Error for DecompressError {}

impl Payload<'_> {
    fn error(&self, problem: Problem) -> DecompressError {
        DecompressError {
            compression: self.compression,
            problem,
        }
    }

    /// Unpacks just the first bytes; how many. Cheap for every compression.
    pub fn peek(&self, into: &mut [u8]) -> Result<usize, DecompressError> {
        let done = decompress::first(self.compression, self.bytes, into, self.size);
        done.map(|done| done.written)
            .map_err(|problem| self.error(problem))
    }

    /// An upper bound of the heap that [`Self::decompress`] needs, in bytes,
    /// from what the stream's headers say.
    pub fn scratch(&self) -> Result<usize, DecompressError> {
        decompress::scratch(self.compression, self.bytes, self.size)
            .map_err(|problem| self.error(problem))
    }

    /// The same for [`Self::peek`] into `len` bytes.
    pub fn peek_scratch(&self, len: usize) -> Result<usize, DecompressError> {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        decompress::scratch(self.compression, self.bytes, self.size.min(len))
            .map_err(|problem| self.error(problem))
    }

    /// Unpacks everything into `out`, whose length is [`Self::size`]. Sums
    /// that the format has are checked; lz4's legacy frame has none, so that
    /// there only a broken structure is seen.
    pub fn decompress(&self, out: &mut [u8]) -> Result<(), DecompressError> {
        let want = out.len();
        let done = decompress::all(self.compression, self.bytes, out, self.size)
            .map_err(|problem| self.error(problem))?;
        match done {
            Done {
                ended: true,
                written,
                ..
            } if written == want => Ok(()),
            Done {
                ended: false,
                written,
                ..
            } if written == want => Err(self.error(Problem::Full { limit: want })),
            Done { written, .. } => Err(self.error(Problem::Short {
                have: written,
                want,
            })),
        }
    }
}

/// Unpacks a stream of unknown size into `out`; how many bytes it was.
/// Zeroes behind the stream are no matter: toolstacks pad to whole pages. A
/// second stream is an error (but lz4's legacy frames may follow each other).
pub fn unpack(bytes: &[u8], out: &mut [u8]) -> Result<usize, DecompressError> {
    let compression = Compression::detect(bytes);
    let limit = out.len();
    let size = u64::try_from(limit).unwrap_or(u64::MAX);
    let error = |problem| DecompressError {
        compression,
        problem,
    };
    let done = decompress::all(compression, bytes, out, size).map_err(error)?;
    if !done.ended {
        return Err(error(Problem::Full { limit }));
    }
    // Programs take one stream after another; a decoder here does not, and
    // must not lose the others silently.
    let behind = bytes.get(done.read..).unwrap_or_default();
    if behind.iter().any(|byte| *byte != 0) {
        return Err(error(Problem::Corrupt {
            what: "more than zeroes behind the end of the stream",
            at: Some(done.read),
        }));
    }
    Ok(done.written)
}

/// Bytes of heap for a decompressor that says it needs `scratch`: the
/// allocator has to find room between other things.
#[must_use]
pub fn heap_for(scratch: usize) -> u64 {
    let scratch = u64::try_from(scratch).unwrap_or(u64::MAX);
    scratch
        .saturating_add(scratch / 16)
        .saturating_add(64 << 10)
}

/// An upper bound of the heap that [`unpack`] needs for at most `size` bytes.
pub fn unpack_scratch(bytes: &[u8], size: u64) -> Result<usize, DecompressError> {
    let compression = Compression::detect(bytes);
    decompress::scratch(compression, bytes, size).map_err(|problem| DecompressError {
        compression,
        problem,
    })
}
