//! The bzImage: setup header and payload.
//!
//! Specification: the Linux boot protocol (`Documentation/arch/x86/boot.rst`).
//! Only the header and the payload are used; neither the real-mode code nor
//! the kernel's own decompressor ever runs. What follows the protected-mode
//! code (a signature, padding) is not looked at.

use crate::{Compression, ImageError, Payload};

/// Offsets of the setup header's fields.
mod at {
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    /// Where the header ends, counted from the magic.
    pub(super) const HEADER_END: usize = 0x201;
    pub(super) const KERNEL_ALIGNMENT: usize = 0x230;
    pub(super) const RELOCATABLE: usize = 0x234;
    pub(super) const SYSSIZE: usize = 0x1f4;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const KERNEL_VERSION: usize = 0x20e;
    pub(super) const LOADFLAGS: usize = 0x211;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    pub(super) const PAYLOAD_OFFSET: usize = 0x248;
    pub(super) const PAYLOAD_LENGTH: usize = 0x24c;
    pub(super) const PREF_ADDRESS: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
    /// One past the last field that is read.
    pub(super) const END: usize = 0x268;
}

/// The oldest protocol with a payload that can be found: 2.08.
const OLDEST: u16 = 0x208;
/// `loadflags`: the protected-mode code is loaded at 1 MiB.
const LOADED_HIGH: u8 = 1;
/// `xloadflags`: the kernel is a 64-bit one.
const XLF_KERNEL_64: u16 = 1;

/// The header ends before this in `boot_params`: there is no more room.
const HEADER_LIMIT: usize = 0x290;

/// A checked setup header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BzImage<'a> {
    /// Boot protocol, e.g. `0x20f`.
    pub protocol: u16,
    /// The kernel's version text, if it has one.
    pub version: Option<&'a str>,
    /// Bytes of command line that the kernel takes.
    pub cmdline_size: u32,
    /// Where the kernel prefers to be.
    pub pref_address: u64,
    /// Memory it needs there.
    pub init_size: u32,
    /// Whether the header says that the kernel is a 64-bit one.
    pub is_64bit: bool,
    /// Whether it runs wherever it is loaded.
    pub relocatable: bool,
    /// To a multiple of what.
    pub alignment: u32,
    /// The setup header, from `setup_sects` on: a loader passes it on in
    /// `boot_params`.
    pub setup_header: &'a [u8],
    /// Where in the file the protected-mode code begins.
    pub code_offset: usize,
    /// The protected-mode code, with the kernel's own decompressor.
    pub code: &'a [u8],
    /// The compressed kernel.
    pub payload: Payload<'a>,
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N], ImageError> {
    file.get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(ImageError::Truncated {
            what: "the setup header",
            want: at::END.try_into().unwrap_or(u64::MAX),
            have: file.len().try_into().unwrap_or(u64::MAX),
        })
}

/// Whether a file has the setup header's magic.
#[must_use]
pub fn is_bzimage(file: &[u8]) -> bool {
    bytes(file, at::MAGIC) == Ok(*b"HdrS")
}

impl<'a> BzImage<'a> {
    /// Checks the header of a bzImage.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let word = |at| bytes(file, at).map(u16::from_le_bytes);
        let long = |at| bytes(file, at).map(u32::from_le_bytes);
        let field = |field, value: u32, want| {
            Err(ImageError::Field {
                field,
                value: value.into(),
                want,
            })
        };
        bytes::<{ at::END }>(file, 0)?;
        let protocol = word(at::VERSION)?;
        if protocol < OLDEST {
            return field(
                "version (boot protocol)",
                protocol.into(),
                "at least 0x208, which has a payload",
            );
        }
        let [loadflags] = bytes(file, at::LOADFLAGS)?;
        if loadflags & LOADED_HIGH == 0 {
            return field("loadflags", loadflags.into(), "LOADED_HIGH (a zImage?)");
        }
        let [sectors] = bytes(file, at::SETUP_SECTS)?;
        // By the protocol 0 means 4.
        let sectors = if sectors == 0 {
            4
        } else {
            usize::from(sectors)
        };
        let setup = sectors.saturating_add(1).saturating_mul(512);
        let syssize = long(at::SYSSIZE)?;
        let code_len = usize::try_from(syssize)
            .unwrap_or(usize::MAX)
            .saturating_mul(16);
        let end = setup.saturating_add(code_len);
        // syssize is rounded up to 16 bytes: the last few may be missing.
        let have = file.len();
        if have.saturating_add(15) < end {
            return Err(ImageError::Truncated {
                what: "setup_sects and syssize",
                want: end.try_into().unwrap_or(u64::MAX),
                have: have.try_into().unwrap_or(u64::MAX),
            });
        }
        let code = file.get(setup..end.min(have)).unwrap_or_default();
        let offset = long(at::PAYLOAD_OFFSET)?;
        let length = long(at::PAYLOAD_LENGTH)?;
        let payload = usize::try_from(offset)
            .ok()
            .zip(usize::try_from(length).ok())
            .and_then(|(from, len)| code.get(from..from.checked_add(len)?));
        let Some(payload) = payload else {
            return field(
                "payload_offset",
                offset,
                "in the file together with payload_length",
            );
        };
        let payload = split(payload, length)?;
        let [header_end] = bytes(file, at::HEADER_END)?;
        let header_end = at::MAGIC + usize::from(header_end);
        let Some(setup_header) = file.get(at::SETUP_SECTS..header_end.min(HEADER_LIMIT)) else {
            return field(
                "jump",
                header_end.try_into().unwrap_or(0),
                "a header in the file",
            );
        };
        Ok(Self {
            protocol,
            version: version(file)?,
            cmdline_size: long(at::CMDLINE_SIZE)?,
            pref_address: bytes(file, at::PREF_ADDRESS).map(u64::from_le_bytes)?,
            init_size: long(at::INIT_SIZE)?,
            is_64bit: protocol < 0x20c || word(at::XLOADFLAGS)? & XLF_KERNEL_64 != 0,
            relocatable: bytes(file, at::RELOCATABLE)? != [0],
            alignment: long(at::KERNEL_ALIGNMENT)?,
            setup_header,
            code_offset: setup,
            code,
            payload,
        })
    }
}

/// Splits the payload into the stream and the size that Linux's build puts
/// behind it: gzip has that size as the last word of its own trailer, all
/// others get it appended.
fn split(payload: &[u8], length: u32) -> Result<Payload<'_>, ImageError> {
    let short = ImageError::Field {
        field: "payload_length",
        value: length.into(),
        want: "more than a size alone",
    };
    let (stream, size) = payload.split_last_chunk::<4>().ok_or(short.clone())?;
    if stream.is_empty() {
        return Err(short);
    }
    let compression = Compression::detect(payload);
    let (bytes, size) = match compression {
        // An uncompressed kernel: the whole payload is the ELF file.
        Compression::None if payload.starts_with(b"\x7fELF") => {
            (payload, payload.len().try_into().unwrap_or(u64::MAX))
        }
        Compression::None => {
            return Err(ImageError::Field {
                field: "payload magic",
                value: payload
                    .first_chunk()
                    .map_or(0, |magic| u32::from_be_bytes(*magic).into()),
                want: "of a compression that Linux offers (gzip, bzip2, xz, lzma, lzo, lz4, zstd)",
            });
        }
        Compression::Gzip => (payload, u32::from_le_bytes(*size).into()),
        _ => (stream, u32::from_le_bytes(*size).into()),
    };
    Ok(Payload {
        compression,
        bytes,
        size,
    })
}

/// The version text: at `kernel_version` + 0x200, up to a NUL.
fn version(file: &[u8]) -> Result<Option<&str>, ImageError> {
    let offset = u16::from_le_bytes(bytes(file, at::KERNEL_VERSION)?);
    if offset == 0 {
        return Ok(None);
    }
    let text = file
        .get(usize::from(offset).saturating_add(0x200)..)
        .and_then(|rest| rest.get(..rest.len().min(128)))
        .and_then(|rest| rest.split(|byte| *byte == 0).next())
        .and_then(|text| core::str::from_utf8(text).ok())
        .filter(|text| text.chars().all(|c| !c.is_control()));
    Ok(text.filter(|text| !text.is_empty()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};

    /// A small bzImage around a payload (which has its size word already).
    pub(crate) fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 1024];
        file[at::SETUP_SECTS] = 1;
        let code = 32 + payload.len();
        let syssize = u32::try_from(code.div_ceil(16)).unwrap();
        file[at::SYSSIZE..][..4].copy_from_slice(&syssize.to_le_bytes());
        file[at::MAGIC..][..4].copy_from_slice(b"HdrS");
        file[at::VERSION..][..2].copy_from_slice(&0x20f_u16.to_le_bytes());
        file[at::LOADFLAGS] = 1;
        file[at::XLOADFLAGS] = 1;
        file[at::KERNEL_VERSION..][..2].copy_from_slice(&0x100_u16.to_le_bytes());
        file[0x300..0x306].copy_from_slice(b"6.1.0\0");
        file[at::PAYLOAD_OFFSET..][..4].copy_from_slice(&32_u32.to_le_bytes());
        let len = u32::try_from(payload.len()).unwrap();
        file[at::PAYLOAD_LENGTH..][..4].copy_from_slice(&len.to_le_bytes());
        file.extend([0; 32]);
        file.extend(payload);
        file
    }

    const LZ4: [u8; 12] = [2, 0x21, 0x4c, 0x18, 9, 9, 9, 9, 0x10, 0, 0, 0];

    #[test]
    fn a_good_header_gives_the_payload() {
        let file = bzimage(&LZ4);
        let image = BzImage::parse(&file).unwrap();
        assert_eq!(image.payload.compression, Compression::Lz4);
        assert_eq!((image.payload.bytes.len(), image.payload.size), (8, 16));
        assert_eq!(image.version, Some("6.1.0"));
        assert!(image.is_64bit);
    }

    #[test]
    fn each_bad_field_is_named() {
        let with = |at: usize, bytes: &[u8]| {
            let mut file = bzimage(&LZ4);
            file[at..][..bytes.len()].copy_from_slice(bytes);
            BzImage::parse(&file).map(|_| ()).unwrap_err()
        };
        let named = |error: ImageError, name: &str| match error {
            ImageError::Field { field, .. } => assert_eq!(field, name),
            other => panic!("{other}"),
        };
        named(with(at::VERSION, &[7, 2]), "version (boot protocol)");
        named(with(at::LOADFLAGS, &[0]), "loadflags");
        named(with(at::PAYLOAD_OFFSET, &[0, 0, 9, 0]), "payload_offset");
        named(with(at::PAYLOAD_OFFSET, &[255; 4]), "payload_offset");
        named(with(at::PAYLOAD_LENGTH, &[3, 0, 0, 0]), "payload_length");
        named(with(at::PAYLOAD_LENGTH, &[4, 0, 0, 0]), "payload_length");
        named(with(1024 + 32, &[0; 4]), "payload magic");
        assert!(matches!(
            with(at::SYSSIZE, &[0, 1, 0, 0]),
            ImageError::Truncated { .. }
        ));
    }

    #[test]
    fn a_truncated_file_says_how_much_is_missing() {
        let file = bzimage(&LZ4);
        assert_eq!(
            BzImage::parse(&file[..600]).map(|_| ()),
            Err(ImageError::Truncated {
                what: "the setup header",
                want: 0x268,
                have: 600
            })
        );
        assert!(matches!(
            BzImage::parse(&file[..1040]),
            Err(ImageError::Truncated {
                what: "setup_sects and syssize",
                ..
            })
        ));
    }
}
