//! A kernel file of any format.

use alloc::{format, string::String};

use crate::{BzImage, Compression, ImageError, Payload, bzimage::is_bzimage};

/// A kernel file whose headers were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel<'a> {
    /// A bzImage.
    BzImage(BzImage<'a>),
    /// An ELF file, as it is.
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
            Self::Elf(_) => String::from("ELF kernel"),
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
