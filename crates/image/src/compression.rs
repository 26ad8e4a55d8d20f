//! What a stream is packed with, by its first bytes.

/// A compression that Linux offers for x86 kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not packed, or not known.
    None,
    /// `gzip`
    Gzip,
    /// `bzip2`
    Bzip2,
    /// `xz --check=crc32 --x86 --lzma2`
    Xz,
    /// `xz --format=lzma` ("lzma alone")
    Lzma,
    /// `lzop`
    Lzo,
    /// `lz4 -l`: the legacy frame
    Lz4,
    /// `zstd`
    Zstd,
}

impl Compression {
    /// All of them but [`Self::None`].
    pub const ALL: [Self; 7] = [
        Self::Gzip,
        Self::Bzip2,
        Self::Xz,
        Self::Lzma,
        Self::Lzo,
        Self::Lz4,
        Self::Zstd,
    ];

    /// The bytes that a stream starts with.
    #[must_use]
    pub const fn magic(self) -> &'static [u8] {
        match self {
            Self::None => &[],
            Self::Gzip => &[0x1f, 0x8b],
            Self::Bzip2 => b"BZh",
            Self::Xz => b"\xfd7zXZ\0",
            Self::Lzma => &[0x5d, 0, 0],
            Self::Lzo => b"\x89LZO\0\r\n\x1a\n",
            Self::Lz4 => &[0x02, 0x21, 0x4c, 0x18],
            Self::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
        }
    }

    /// Recognises a stream.
    #[must_use]
    pub fn detect(start: &[u8]) -> Self {
        Self::ALL
            .into_iter()
            .find(|one| start.starts_with(one.magic()))
            .unwrap_or(Self::None)
    }

    /// Its name, as the program that makes it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Lzo => "lzo",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl core::fmt::Display for Compression {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}
