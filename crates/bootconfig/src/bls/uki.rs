//! Unified kernel images (type 2 entries): kernel, initrd and command line as
//! sections of one PE file.
//!
//! Specification: UAPI.5, "Unified Kernel Image", for the sections; Microsoft's
//! "PE Format" for the file. Of an image with profiles (`.profile` sections),
//! the main one is taken: its own sections before those of the base.
//!
//! Only the headers and the small sections are read here; where the large
//! ones are is told, so that they can be read straight to their place.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use kexen_disk::{FsError, fs::File};
use object::{
    LittleEndian, pe,
    read::pe::{ImageNtHeaders, ImageOptionalHeader},
};

use crate::{entry::Place, volumes::Volumes};

/// Bytes of headers that are read.
const MAX_HEADERS: u64 = 64 << 10;
/// Sections of an image, at most.
const MAX_SECTIONS: usize = 256;
/// Bytes of `.cmdline`, `.osrel` or `.uname`, at most.
pub const MAX_TEXT: u64 = 64 << 10;

/// Where a section is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its first byte.
    pub offset: u64,
    /// How many bytes it has, without padding.
    pub bytes: u64,
}

/// The sections of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uki {
    /// `.linux`: the kernel.
    pub linux: Section,
    /// `.ucode`: microcode, which belongs before the initrd.
    pub ucode: Option<Section>,
    /// `.initrd`
    pub initrd: Option<Section>,
    /// `.cmdline`
    pub cmdline: Option<Section>,
    /// `.osrel`: an os-release file.
    pub osrel: Option<Section>,
    /// `.uname`: the kernel's version.
    pub uname: Option<Section>,
}

/// Why a file is no unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UkiError {
    /// It cannot be read.
    File(FsError),
    /// It is no PE file for x86-64: what is wrong.
    Pe(&'static str),
    /// It has more sections than are read.
    TooManySections,
    /// It has no `.linux`.
    NoKernel,
    /// A section goes on beyond the end of the file, or is too long.
    Section {
        /// Which.
        name: &'static str,
        /// Where it is.
        at: Section,
        /// Bytes that it may have at most, there.
        limit: u64,
    },
}

impl core::fmt::Display for UkiError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Pe(what) => write!(f, "no x86-64 PE file: {what}"),
            Self::TooManySections => write!(f, "more than {MAX_SECTIONS} sections"),
            Self::NoKernel => f.write_str("no unified kernel image: it has no section .linux"),
            Self::Section { name, at, limit } => write!(
                f,
                "section {name}: {} bytes at {:#x}, at most {limit} are possible",
                at.bytes, at.offset
            ),
        }
    }
}

impl core::error::Error for UkiError {}

impl From<FsError> for UkiError {
    fn from(error: FsError) -> Self {
        Self::File(error)
    }
}

/// The sections of the image at a place.
///
/// # Errors
/// See [`UkiError`].
pub fn open(volumes: &Volumes<'_>, place: &Place) -> Result<Uki, UkiError> {
    sections(&mut *volumes.fs(place)?.open(&place.path)?)
}

/// The sections of an open image.
///
/// # Errors
/// See [`UkiError`].
pub fn sections(file: &mut dyn File) -> Result<Uki, UkiError> {
    let len = file.bytes();
    let head = usize::try_from(len.min(MAX_HEADERS)).map_err(|_| UkiError::TooManySections)?;
    let mut head = vec![0; head];
    file.read_at(0, &mut head)?;
    let dos = pe::ImageDosHeader::parse(&*head).map_err(|_| UkiError::Pe("no DOS header"))?;
    let mut offset = dos.nt_headers_offset().into();
    let (nt, _) = pe::ImageNtHeaders64::parse(&*head, &mut offset)
        .map_err(|_| UkiError::Pe("no PE32+ header in its first 64 KiB"))?;
    let little = LittleEndian;
    if nt.file_header().machine.get(little) != pe::IMAGE_FILE_MACHINE_AMD64 {
        return Err(UkiError::Pe("it is for another machine"));
    }
    if nt.optional_header().section_alignment() == 0 {
        return Err(UkiError::Pe("its sections have no alignment"));
    }
    let table = nt
        .sections(&*head, offset)
        .map_err(|_| UkiError::Pe("no section table in its first 64 KiB"))?;
    let mut uki = Draft::default();
    let mut profiles = 0_usize;
    for (count, header) in table.iter().enumerate() {
        if count == MAX_SECTIONS {
            return Err(UkiError::TooManySections);
        }
        let (raw, memory) = (
            u64::from(header.size_of_raw_data.get(little)),
            u64::from(header.virtual_size.get(little)),
        );
        let at = Section {
            offset: header.pointer_to_raw_data.get(little).into(),
            bytes: if memory == 0 { raw } else { memory.min(raw) },
        };
        if header.raw_name() == b".profile" {
            profiles = profiles.saturating_add(1);
        }
        // Those behind the second `.profile` are another profile's.
        if profiles > 1 {
            break;
        }
        let Some((name, slot)) = uki.slot(header.raw_name()) else {
            continue;
        };
        let end = at.offset.saturating_add(at.bytes);
        if end > len {
            let limit = len.saturating_sub(at.offset);
            return Err(UkiError::Section { name, at, limit });
        }
        *slot = Some(at);
    }
    Ok(Uki {
        linux: uki.linux.ok_or(UkiError::NoKernel)?,
        ucode: uki.ucode,
        initrd: uki.initrd,
        cmdline: uki.cmdline,
        osrel: uki.osrel,
        uname: uki.uname,
    })
}

#[derive(Default)]
struct Draft {
    linux: Option<Section>,
    ucode: Option<Section>,
    initrd: Option<Section>,
    cmdline: Option<Section>,
    osrel: Option<Section>,
    uname: Option<Section>,
}

impl Draft {
    fn slot(&mut self, name: &[u8]) -> Option<(&'static str, &mut Option<Section>)> {
        Some(match name {
            b".linux" => (".linux", &mut self.linux),
            b".ucode" => (".ucode", &mut self.ucode),
            b".initrd" => (".initrd", &mut self.initrd),
            b".cmdline" => (".cmdline", &mut self.cmdline),
            b".osrel" => (".osrel", &mut self.osrel),
            b".uname" => (".uname", &mut self.uname),
            _ => return None,
        })
    }
}

/// The text of a small section, without what ends it; what is not UTF-8 in it
/// is replaced.
///
/// # Errors
/// If it is longer than [`MAX_TEXT`] or cannot be read.
pub fn text(file: &mut dyn File, name: &'static str, at: Section) -> Result<String, UkiError> {
    let too_long = UkiError::Section {
        name,
        at,
        limit: MAX_TEXT,
    };
    if at.bytes > MAX_TEXT {
        return Err(too_long);
    }
    let mut bytes = vec![0; usize::try_from(at.bytes).map_err(|_| too_long)?];
    file.read_at(at.offset, &mut bytes)?;
    let end = bytes.iter().position(|byte| *byte == 0);
    let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    Ok(String::from_utf8_lossy(text).trim_ascii().to_string())
}

/// What menus call an image, by its `.osrel`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Its title.
    pub title: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What it is sorted by.
    pub sort_key: Option<String>,
}

/// The names in an os-release file.
#[must_use]
pub fn names(osrel: &str) -> Names {
    let values: Vec<(&str, String)> = osrel
        .lines()
        .filter_map(|line| line.trim_ascii().split_once('='))
        .map(|(key, value)| (key, unquoted(value)))
        .collect();
    let first = |keys: &[&str]| {
        keys.iter().find_map(|wanted| {
            let found = values.iter().find(|(key, _)| key == wanted)?;
            Some(found.1.clone()).filter(|value| !value.is_empty())
        })
    };
    Names {
        title: first(&["PRETTY_NAME", "IMAGE_ID", "NAME", "ID"]),
        version: first(&["IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID"]),
        sort_key: first(&["IMAGE_ID", "ID"]),
    }
}

/// A value of a shell's assignment, without its quotes.
fn unquoted(value: &str) -> String {
    for quote in ['"', '\''] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|value| value.strip_suffix(quote));
        if let Some(inner) = inner {
            let mut out = String::new();
            let mut escaped = false;
            for c in inner.chars() {
                escaped = quote == '"' && c == '\\' && !escaped;
                if !escaped {
                    out.push(c);
                }
            }
            return out;
        }
    }
    value.to_string()
}

/// What an image is called: by its file's name, if nothing else is known.
#[must_use]
pub fn title(names: &Names, file: &str) -> String {
    match (&names.title, &names.version) {
        (Some(title), _) => title.clone(),
        (None, Some(version)) => format!("{file} ({version})"),
        (None, None) => file.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testfs::{TestFs, gpt};

    /// An image with these sections, each behind the other.
    pub(crate) fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = vec![0; 0x40];
        out[..2].copy_from_slice(b"MZ");
        out[0x3c] = 0x40;
        out.extend(b"PE\0\0");
        out.extend(0x8664_u16.to_le_bytes());
        out.extend((sections.len() as u16).to_le_bytes());
        out.extend([0; 12]);
        out.extend(240_u16.to_le_bytes());
        out.extend(0x22_u16.to_le_bytes());
        let mut optional = vec![0; 240];
        optional[..2].copy_from_slice(&0x20b_u16.to_le_bytes());
        optional[32..36].copy_from_slice(&4096_u32.to_le_bytes());
        optional[108] = 16;
        out.extend(optional);
        let mut at = (out.len() + 40 * sections.len()) as u32;
        for (name, data) in sections {
            let mut field = [0; 8];
            field[..name.len()].copy_from_slice(name.as_bytes());
            out.extend(field);
            // The size in memory; then its address; then what is in the file.
            out.extend((data.len() as u32).to_le_bytes());
            out.extend([0; 4]);
            let raw = (data.len() as u32).next_multiple_of(16);
            out.extend(raw.to_le_bytes());
            out.extend(at.to_le_bytes());
            out.extend([0; 16]);
            at += raw;
        }
        for (_, data) in sections {
            out.extend(*data);
            out.resize(out.len() + data.len().next_multiple_of(16) - data.len(), 0);
        }
        out
    }

    fn read(image: &[u8]) -> Result<Uki, UkiError> {
        let volumes = gpt(vec![TestFs::new("vfat", "", "").file("/u.efi", image)]);
        let path = "/u.efi".into();
        open(&volumes, &Place { volume: 0, path })
    }

    #[test]
    fn sections_are_found_without_their_padding() {
        let bytes = image(&[
            (".osrel", b"ID=x\n"),
            (".cmdline", b"root=a quiet\0"),
            (".linux", b"kernel"),
            (".initrd", b"initrd"),
        ]);
        let uki = read(&bytes).unwrap();
        let at = |section: Section| {
            let start = section.offset as usize;
            &bytes[start..start + section.bytes as usize]
        };
        assert_eq!(at(uki.linux), b"kernel");
        assert_eq!(at(uki.initrd.unwrap()), b"initrd");
        assert_eq!(uki.uname, None);
        let volumes = gpt(vec![TestFs::new("vfat", "", "").file("/u.efi", &bytes)]);
        let fs = &volumes.get(0).unwrap().fs;
        let mut file = fs.open("/u.efi").unwrap();
        let cmdline = text(&mut *file, ".cmdline", uki.cmdline.unwrap()).unwrap();
        assert_eq!(cmdline, "root=a quiet");
    }

    #[test]
    fn the_main_profile_comes_before_the_base() {
        let bytes = image(&[
            (".linux", b"k"),
            (".cmdline", b"base"),
            (".profile", b"ID=main"),
            (".cmdline", b"main!"),
            (".profile", b"ID=reset"),
            (".cmdline", b"reset it"),
        ]);
        let uki = read(&bytes).unwrap();
        assert_eq!(uki.cmdline.unwrap().bytes, 5);
        assert_eq!(uki.linux.bytes, 1);
    }

    #[test]
    fn every_mistake_is_named() {
        let good = image(&[(".linux", b"kernel")]);
        assert!(matches!(read(b"MZ"), Err(UkiError::Pe(_))));
        assert!(matches!(read(b""), Err(UkiError::Pe(_))));
        assert_eq!(read(&image(&[(".text", b"x")])), Err(UkiError::NoKernel));
        assert!(matches!(
            read(&good[..good.len() - 11]),
            Err(UkiError::Section {
                name: ".linux",
                limit: 5,
                ..
            })
        ));
        let mut other = good.clone();
        other[0x44] = 0x4c;
        assert!(matches!(read(&other), Err(UkiError::Pe(_))));
        let many = vec![(".text", &b""[..]); MAX_SECTIONS + 1];
        assert_eq!(read(&image(&many)), Err(UkiError::TooManySections));
    }

    #[test]
    fn os_release_has_names() {
        let names =
            names("NAME=Fedora\nID=fedora\nVERSION_ID=39\nPRETTY_NAME=\"Fedora \\\"39\\\"\"\nX\n");
        assert_eq!(names.title.as_deref(), Some("Fedora \"39\""));
        assert_eq!(names.version.as_deref(), Some("39"));
        assert_eq!(names.sort_key.as_deref(), Some("fedora"));
        assert_eq!(title(&Names::default(), "a.efi"), "a.efi");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(at in 0_usize..700, change in 1_u8.., cut in 0_usize..700) {
            let mut bytes = image(&[(".osrel", b"ID=x"), (".linux", b"k"), (".profile", b"y")]);
            let at = at % bytes.len();
            bytes[at] ^= change;
            let _ = read(&bytes);
            let _ = read(&bytes[..cut.min(bytes.len())]);
        }
    }
}
