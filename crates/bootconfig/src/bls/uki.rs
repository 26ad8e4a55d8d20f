//! Unified kernel images (type 2 entries): kernel, initrd and command line as
//! sections of one PE file.
//!
//! Specification: UAPI.5, "Unified Kernel Image", for the sections; Microsoft's
//! "PE Format" for the file. Each `.profile` section begins a profile; the
//! sections of a profile come before those of the base, which is what stands
//! before the first. Of several sections with one name the first counts, as in
//! systemd's `pe.c`.
//!
//! Only the headers and the small sections are read here; where the large
//! ones are is told, so that they can be read straight to their place.

use alloc::{
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

/// The sections of an image, as one of its profiles has them.
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
    /// `.profile`: what the profile is called.
    pub profile: Option<Section>,
    /// Whether `.linux` and `.initrd` are paths of files, of which `.linuxh`
    /// and `.initrdh` are the SHA-256: so does Lanzaboote, for NixOS.
    pub by_path: bool,
}

/// The sections of an add-on: there is no kernel among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addon {
    /// `.ucode`
    pub ucode: Option<Section>,
    /// `.initrd`
    pub initrd: Option<Section>,
    /// `.cmdline`
    pub cmdline: Option<Section>,
    /// `.uname`: the version of the kernel that it is for.
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
    /// It has no profile of this number.
    NoProfile(usize),
    /// It is no add-on: why.
    NoAddon(&'static str),
    /// A path in a section is none, or leads to no file.
    Path(&'static str),
    /// All initrds, or the command line, are too much: why.
    TooMuch(String),
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
            Self::NoProfile(number) => write!(f, "it has no profile {number}"),
            Self::NoAddon(why) => write!(f, "no add-on: {why}"),
            Self::Path(name) => write!(f, "section {name} is no path of a file"),
            Self::TooMuch(why) => f.write_str(why),
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

/// The sections of the image at a place, as its main profile has them.
///
/// # Errors
/// See [`UkiError`].
pub fn open(volumes: &Volumes<'_>, place: &Place) -> Result<Uki, UkiError> {
    sections(&mut *volumes.fs(place)?.open(&place.path)?)
}

/// The sections of an open image, as its main profile has them.
///
/// # Errors
/// See [`UkiError`].
pub fn sections(file: &mut dyn File) -> Result<Uki, UkiError> {
    Image::read(file)?.uki(0)
}

/// The section table of a file.
#[derive(Debug)]
pub struct Image {
    /// Bytes of the file.
    len: u64,
    /// What comes before the first `.profile`; then what is from each
    /// `.profile` on.
    parts: Vec<Draft>,
}

impl Image {
    /// Reads the headers of a file.
    ///
    /// # Errors
    /// See [`UkiError`].
    pub fn read(file: &mut dyn File) -> Result<Self, UkiError> {
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
        let mut draft = Draft::default();
        let mut parts = Vec::new();
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
                parts.push(core::mem::take(&mut draft));
            }
            // The first of a name counts.
            if let Some(slot) = draft.slot(header.raw_name()) {
                slot.get_or_insert(at);
            }
        }
        parts.push(draft);
        Ok(Self { len, parts })
    }

    /// How many profiles it has: one at least, be it without a `.profile`.
    #[must_use]
    pub fn profiles(&self) -> usize {
        self.parts.len().saturating_sub(1).max(1)
    }

    /// The sections of a profile: its own ones before those of the base.
    ///
    /// # Errors
    /// [`UkiError::NoProfile`], [`UkiError::NoKernel`] or a section's mistake.
    pub fn uki(&self, profile: usize) -> Result<Uki, UkiError> {
        let none = UkiError::NoProfile(profile);
        let base = self.parts.first().ok_or(UkiError::NoKernel)?;
        let own = match self.parts.get(profile.saturating_add(1)) {
            Some(own) => own,
            // The main one may do without being told of.
            None if profile == 0 => base,
            None => return Err(none),
        };
        let find = |name| self.find(own, base, name);
        Ok(Uki {
            linux: find(".linux")?.ok_or(UkiError::NoKernel)?,
            ucode: find(".ucode")?,
            initrd: find(".initrd")?,
            cmdline: find(".cmdline")?,
            osrel: find(".osrel")?,
            uname: find(".uname")?,
            profile: find(".profile")?,
            by_path: find(".linuxh")?.is_some(),
        })
    }

    /// The sections of an add-on.
    ///
    /// # Errors
    /// [`UkiError::NoAddon`] or a section's mistake.
    pub fn addon(&self) -> Result<Addon, UkiError> {
        let base = self.parts.first().ok_or(UkiError::NoKernel)?;
        let find = |name| self.find(base, base, name);
        if find(".linux")?.is_some() {
            return Err(UkiError::NoAddon("it has a kernel, section .linux"));
        }
        let addon = Addon {
            ucode: find(".ucode")?,
            initrd: find(".initrd")?,
            cmdline: find(".cmdline")?,
            uname: find(".uname")?,
        };
        let tree = find(".dtb")?.or(find(".dtbauto")?);
        let parts = [addon.ucode, addon.initrd, addon.cmdline, tree];
        if parts.iter().all(Option::is_none) {
            let what = "it has none of .cmdline, .initrd, .ucode, .dtb and .dtbauto";
            return Err(UkiError::NoAddon(what));
        }
        Ok(addon)
    }

    /// A section that is not empty.
    fn find(
        &self,
        own: &Draft,
        base: &Draft,
        name: &'static str,
    ) -> Result<Option<Section>, UkiError> {
        let Some(at) = own.get(name).or_else(|| base.get(name)) else {
            return Ok(None);
        };
        if at.offset.saturating_add(at.bytes) > self.len {
            let limit = self.len.saturating_sub(at.offset);
            return Err(UkiError::Section { name, at, limit });
        }
        Ok(Some(at).filter(|at| at.bytes > 0))
    }
}

/// The sections that mean something here.
const NAMES: [&str; 11] = [
    ".linux", ".linuxh", ".ucode", ".initrd", ".initrdh", ".cmdline", ".osrel", ".uname",
    ".profile", ".dtb", ".dtbauto",
];

/// Where these are, as far as they are there.
#[derive(Debug, Default)]
struct Draft([Option<Section>; NAMES.len()]);

impl Draft {
    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<Section>> {
        let at = NAMES.iter().position(|known| known.as_bytes() == name)?;
        self.0.get_mut(at)
    }

    fn get(&self, name: &str) -> Option<Section> {
        let at = NAMES.iter().position(|known| *known == name)?;
        self.0.get(at).copied().flatten()
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

    fn head(bytes: &[u8]) -> Image {
        let volumes = gpt(vec![TestFs::new("vfat", "", "").file("/u.efi", bytes)]);
        let mut file = volumes.get(0).unwrap().fs.open("/u.efi").unwrap();
        Image::read(&mut *file).unwrap()
    }

    #[test]
    fn profiles_have_sections_of_their_own() {
        let three = head(&image(&[
            (".linux", b"k"),
            (".initrd", b"base"),
            (".profile", b"ID=main"),
            (".profile", b"ID=bare"),
            (".initrd", b""),
            (".profile", b"ID=other"),
            (".initrd", b"another"),
            (".initrd", b"not this one"),
        ]));
        let bytes = |n: usize| three.uki(n).map(|uki| uki.initrd.map(|at| at.bytes));
        assert_eq!(three.profiles(), 3);
        assert_eq!(bytes(0), Ok(Some(4)));
        assert_eq!(bytes(1), Ok(None));
        assert_eq!(bytes(2), Ok(Some(7)));
        assert_eq!(bytes(3), Err(UkiError::NoProfile(3)));
        let plain = head(&image(&[(".linux", b"k")]));
        assert_eq!(plain.profiles(), 1);
        assert!(plain.uki(0).is_ok() && plain.uki(1).is_err());
    }

    #[test]
    fn an_addon_has_no_kernel_and_something_to_add() {
        for (sections, fine) in [
            (&[(".cmdline", &b"x"[..])][..], true),
            (&[(".ucode", b"x"), (".uname", b"6")], true),
            (&[(".dtbauto", b"x")], true),
            (&[(".cmdline", b"x"), (".linux", b"k")], false),
            (&[(".cmdline", b""), (".sbat", b"x")], false),
        ] {
            let addon = head(&image(sections)).addon();
            assert_eq!(addon.is_ok(), fine, "{addon:?}");
        }
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
