//! One decoder a file, all with the same two ways in.
//!
//! A decoder writes into a slice and stops at its end. Where the library
//! allows it, the slice itself is the history that matches refer to, so
//! that each byte is written once and no window is allocated.

use crate::Compression;

mod bzip2;
mod crc32;
mod gzip;
mod lz4;
mod lzma;
mod lzma2;
mod lzo;
mod range;
mod x86;
mod xz;
mod xz_other;
mod zstd;

/// How far a decoder came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// Bytes written.
    pub(crate) written: usize,
    /// Whether the stream ended (and its sums were right).
    pub(crate) ended: bool,
    /// Bytes of the stream, where it ended. (lzma alone: all there is, as
    /// its decoder reads ahead.)
    pub(crate) read: usize,
}

/// What is wrong with a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It ends too early.
    Truncated {
        /// How many bytes of it there are.
        len: usize,
    },
    /// It is not well formed.
    Corrupt {
        /// What.
        what: &'static str,
        /// Where in the stream, as far as is known.
        at: Option<usize>,
    },
    /// A checksum is wrong.
    Checksum {
        /// Which.
        what: &'static str,
        /// What the stream says.
        want: u32,
        /// What its bytes give.
        have: u32,
    },
    /// It unpacks to less than it should.
    Short {
        /// How much.
        have: usize,
        /// What it should be.
        want: usize,
    },
    /// It unpacks to more than fits.
    Full {
        /// How much fits.
        limit: usize,
    },
    /// It needs more memory than is reasonable.
    Memory {
        /// How much.
        want: u64,
    },
    /// It needs more memory than its headers say.
    MemoryBeyond {
        /// How much they say.
        limit: usize,
    },
}

impl core::fmt::Display for Problem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated { len } => {
                write!(f, "truncated: the stream ends too early, at byte {len}")
            }
            Self::Corrupt { what, at: Some(at) } => write!(f, "corrupt near byte {at}: {what}"),
            Self::Corrupt { what, at: None } => write!(f, "corrupt: {what}"),
            Self::Checksum { what, want, have } => {
                write!(f, "corrupt: {what} is {have:#010x}, not {want:#010x}")
            }
            Self::Short { have, want } => {
                write!(f, "it unpacks to {have} bytes, not to {want}")
            }
            Self::Full { limit } => write!(f, "it unpacks to more than {limit} bytes"),
            Self::Memory { want } => write!(f, "its decoder wants {want} bytes of memory"),
            Self::MemoryBeyond { limit } => {
                write!(f, "its decoder wants more than {limit} bytes of memory")
            }
        }
    }
}

pub(crate) type Outcome = Result<Done, Problem>;

/// Unpacks until the stream or `out` ends. `size` bounds what the stream
/// can refer back to.
pub(crate) fn all(kind: Compression, bytes: &[u8], out: &mut [u8], size: u64) -> Outcome {
    match kind {
        Compression::None => Ok(copy(bytes, out)),
        Compression::Gzip => gzip::decode(bytes, out),
        Compression::Bzip2 => bzip2::decode(bytes, out),
        Compression::Xz => xz::decode(bytes, out, size),
        Compression::Lzma => lzma::decode(bytes, out, size),
        Compression::Lzo => lzo::decode(bytes, out),
        Compression::Lz4 => lz4::decode(bytes, out),
        Compression::Zstd => zstd::decode(bytes, out, size),
    }
}

/// Unpacks just what fits into a small `out`.
pub(crate) fn first(kind: Compression, bytes: &[u8], out: &mut [u8], size: u64) -> Outcome {
    match kind {
        Compression::Lz4 => lz4::first(bytes, out),
        Compression::Zstd => zstd::first(bytes, out),
        Compression::Xz => xz::first(bytes, out, size),
        // The dictionary need not be larger than what is wanted.
        Compression::Lzma => {
            let len = u64::try_from(out.len()).unwrap_or(u64::MAX);
            all(kind, bytes, out, len.min(size))
        }
        _ => all(kind, bytes, out, size),
    }
}

/// An upper bound of the heap for unpacking `size` bytes.
pub(crate) fn scratch(kind: Compression, bytes: &[u8], size: u64) -> Result<usize, Problem> {
    match kind {
        Compression::None | Compression::Lz4 => Ok(0),
        Compression::Gzip => Ok(16 << 10),
        Compression::Bzip2 => Ok(bzip2::SCRATCH),
        Compression::Xz => xz::scratch(bytes, size),
        Compression::Lzma => lzma::scratch(bytes, size),
        Compression::Lzo => Ok(lzo::SCRATCH),
        Compression::Zstd => zstd::scratch(bytes, size),
    }
}

fn copy(bytes: &[u8], out: &mut [u8]) -> Done {
    let n = bytes.len().min(out.len());
    if let (Some(to), Some(from)) = (out.get_mut(..n), bytes.get(..n)) {
        to.copy_from_slice(from);
    }
    Done {
        written: n,
        ended: n == bytes.len(),
        read: n,
    }
}

/// Reads from the front of a stream, with its own idea of where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Problem> {
        let end = self.at.checked_add(n);
        let part = end.and_then(|end| self.bytes.get(self.at..end));
        let part = part.ok_or(Problem::Truncated {
            len: self.bytes.len(),
        })?;
        self.at = end.unwrap_or(self.at);
        Ok(part)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let part = self.take(N)?;
        part.first_chunk().copied().ok_or(Problem::Truncated {
            len: self.bytes.len(),
        })
    }

    pub(crate) fn corrupt(&self, what: &'static str) -> Problem {
        Problem::Corrupt {
            what,
            at: Some(self.at),
        }
    }
}
