//! A kernel file of any format.

use alloc::{format, string::String};

use crate::{BzImage, Compression, Elf, ImageError, Payload, bzimage::is_bzimage};

/// Bytes that a kernel packed with gzip may unpack to, as the toolstack's
/// builder has it (`XC_DOM_DECOMPRESS_MAX`).
const MAX_UNPACKED: u32 = 1 << 30;

/// A kernel file whose headers were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel<'a> {
    /// A bzImage.
    BzImage(BzImage<'a>),
    /// An ELF file, as it is or packed with gzip.
    Elf(Payload<'a>),
}

impl<'a> Kernel<'a> {
    /// Recognises a kernel file and checks its headers.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        if is_bzimage(file) {
            return BzImage::parse(file).map(Self::BzImage);
        }
        if file.starts_with(b"\x7fELF") {
            return Ok(Self::Elf(Payload {
                compression: Compression::None,
                bytes: file,
                size: file.len().try_into().unwrap_or(u64::MAX),
            }));
        }
        // The toolstack's builder unpacks any kernel that begins so, and takes
        // the size from the stream's end (`xc_dom_try_gunzip`).
        if Compression::detect(file) == Compression::Gzip {
            let size = file.last_chunk().copied().map_or(0, u32::from_le_bytes);
            if size > MAX_UNPACKED {
                return Err(ImageError::Field {
                    field: "ISIZE (gzip)",
                    value: size.into(),
                    want: "at most 1 GiB",
                });
            }
            return Ok(Self::Elf(Payload {
                compression: Compression::Gzip,
                bytes: file,
                size: size.into(),
            }));
        }
        if file.is_empty() {
            return Err(ImageError::Empty);
        }
        // Cut before the magic: say that rather than "unknown format".
        if file.get(510..512) == Some(&[0x55, 0xaa]) || file.starts_with(b"MZ") {
            return Err(ImageError::Truncated {
                what: "the setup header of a bzImage",
                want: 0x268,
                have: file.len().try_into().unwrap_or(u64::MAX),
            });
        }
        let mut start = [0; 4];
        for (to, from) in start.iter_mut().zip(file) {
            *to = *from;
        }
        Err(ImageError::UnknownFormat { start })
    }

    /// The ELF file inside, compressed or not.
    #[must_use]
    pub const fn payload(&self) -> &Payload<'a> {
        match self {
            Self::BzImage(image) => &image.payload,
            Self::Elf(payload) => payload,
        }
    }

    /// Reads the headers of the ELF file inside, from its first bytes.
    pub fn elf(&self, first: &[u8]) -> Result<Elf, ImageError> {
        if matches!(self, Self::Elf(_)) && is_bzimage(first) {
            return Err(ImageError::Nested);
        }
        Elf::parse(first)
    }

    /// The setup header of a bzImage, for `boot_params`.
    #[must_use]
    pub const fn setup_header(&self) -> Option<&'a [u8]> {
        match self {
            Self::BzImage(image) => Some(image.setup_header),
            Self::Elf(_) => None,
        }
    }

    /// For messages: `Linux 6.1.0-18-amd64, bzImage, xz`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Elf(payload) => match payload.compression {
                Compression::None => String::from("ELF kernel"),
                compression => format!("ELF kernel, {compression}"),
            },
            Self::BzImage(image) => {
                let version = image.version.unwrap_or("of unknown version");
                let version = version.split(' ').next().unwrap_or(version);
                format!("Linux {version}, bzImage, {}", image.payload.compression)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_elf_file_may_be_packed_with_gzip() {
        let packed = [&[0x1f, 0x8b, 8, 0][..], &[0; 20], &[0x34, 0x12, 0, 0]].concat();
        let kernel = Kernel::parse(&packed).unwrap();
        assert_eq!(kernel.payload().size, 0x1234);
        assert_eq!(kernel.payload().bytes, packed);
        assert_eq!(kernel.describe(), "ELF kernel, gzip");
        let mut linux = alloc::vec![0; 0x300];
        linux[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(kernel.elf(&linux).unwrap_err(), ImageError::Nested);
        let large = [&packed[..24], &[0xff; 4]].concat();
        assert!(matches!(
            Kernel::parse(&large),
            Err(ImageError::Field { .. })
        ));
    }

    #[test]
    fn what_is_no_kernel_is_named() {
        assert_eq!(Kernel::parse(&[]), Err(ImageError::Empty));
        assert_eq!(
            Kernel::parse(b"#!/bin/sh"),
            Err(ImageError::UnknownFormat { start: *b"#!/b" })
        );
        assert!(matches!(
            Kernel::parse(b"MZ and no more"),
            Err(ImageError::Truncated { .. })
        ));
    }
}
