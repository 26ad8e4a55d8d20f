//! Xen's ELF notes (`include/public/elfnote.h`), found and read as libelf does
//! (`xen/common/libelf/libelf-dominfo.c`):
//!
//! | rule | source |
//! |---|---|
//! | notes are those of `PT_NOTE` headers; one whose `p_offset` is 0 is passed over | `elf_xen_parse` |
//! | where none of these is Xen's, those of `SHT_NOTE` sections | `elf_xen_parse` |
//! | then the text in the section `__xen_guest`, in PV guests alone | `elf_xen_parse`, [`crate::guest_section`] |
//! | name and value of a note are padded to 4 bytes, whatever `p_align` says | `elf_note_next` |
//! | a number of another size than 1, 2, 4 or 8 bytes is 0 | `elf_note_numeric` |
//! | a text ends at its NUL, beyond the note if need be | `elf_strval` |
//! | of two notes of a kind the later one counts; features add up | `elf_xen_parse_note` |
//!
//! Stricter than libelf: a note that begins beyond the end of the file.

use alloc::string::String;

use object::elf::SHT_NOTE;

use crate::{
    Elf, ImageError, features::Features, guest_section, sections::c_string, start::Relocation,
};

/// What a kernel's notes say; `None` where a note is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct XenNotes {
    /// How many notes of Xen's there were, known or not.
    pub count: usize,
    /// It has no notes, but a section `__xen_guest`.
    pub guest_section: bool,
    /// It has notes of some owner.
    pub any: bool,
    /// `ENTRY` (1): virtual entry point.
    pub entry: Option<u64>,
    /// `HYPERCALL_PAGE` (2): virtual address of the page for stubs.
    pub hypercall_page: Option<u64>,
    /// `VIRT_BASE` (3): virtual address of page 0.
    pub virt_base: Option<u64>,
    /// `PADDR_OFFSET` (4): what `p_paddr` is relative to.
    pub paddr_offset: Option<u64>,
    /// `XEN_VERSION` (5)
    pub xen_version: Option<String>,
    /// `GUEST_OS` (6)
    pub guest_os: Option<String>,
    /// `GUEST_VERSION` (7)
    pub guest_version: Option<String>,
    /// `LOADER` (8)
    pub loader: Option<String>,
    /// `PAE_MODE` (9)
    pub pae_mode: Option<String>,
    /// `FEATURES` (10): names, `!` before a required one.
    pub features: Option<String>,
    /// `BSD_SYMTAB` (11)
    pub bsd_symtab: Option<String>,
    /// `HV_START_LOW` (12)
    pub hv_start_low: Option<u64>,
    /// `SUSPEND_CANCEL` (14)
    pub suspend_cancel: Option<u64>,
    /// `INIT_P2M` (15): where the kernel wants its p2m list.
    pub init_p2m: Option<u64>,
    /// `MOD_START_PFN` (16): the kernel takes its initrd unmapped.
    pub mod_start_pfn: bool,
    /// `SUPPORTED_FEATURES` (17), the first 32.
    pub supported_features: Option<u32>,
    /// What both notes about features say.
    pub known: Features,
    /// `L1_MFN_VALID` (13), which a 64-bit kernel has no use for.
    pub l1_mfn_valid: bool,
    /// `PHYS32_ENTRY` (18): the PVH entry point.
    pub phys32_entry: Option<u64>,
    /// `PHYS32_RELOC` (19): where else it can be.
    pub phys32_reloc: Option<Relocation>,
}

/// Bytes of a text that are kept.
const MAX_TEXT: usize = 256;
/// Notes that are looked at, of any owner (`ELF_MAX_TOTAL_NOTE_COUNT`).
const MAX_NOTES: usize = 65536;

impl Elf {
    /// Reads Xen's notes from the whole file.
    pub fn notes(&self, whole: &[u8]) -> Result<XenNotes, ImageError> {
        self.check_sections(whole)?;
        let mut found = XenNotes::default();
        let mut left = MAX_NOTES;
        for (offset, len) in self.notes.iter().filter(|(offset, _)| *offset != 0) {
            walk(
                whole,
                (*offset, *len),
                "p_offset (PT_NOTE)",
                &mut left,
                &mut found,
            )?;
        }
        if found.count == 0 {
            for section in self.all_sections(whole).filter(|s| s.kind == SHT_NOTE.0) {
                let range = (section.offset, section.size);
                walk(whole, range, "sh_offset (SHT_NOTE)", &mut left, &mut found)?;
            }
        }
        if found.count == 0
            && let Some(section) = self.section_named(whole, b"__xen_guest")
            && let Some(text) = c_string(whole, section.offset)
        {
            guest_section::read(text, &mut found);
        }
        Ok(found)
    }
}

/// Goes through the notes at an offset of the file.
fn walk(
    whole: &[u8],
    (offset, len): (u64, u64),
    field: &'static str,
    left: &mut usize,
    found: &mut XenNotes,
) -> Result<(), ImageError> {
    let bad = |at| ImageError::Field {
        field,
        value: at,
        want: "where notes are in the file",
    };
    found.any = true;
    let end = offset.saturating_add(len);
    let mut at = offset;
    while at < end {
        *left = left.checked_sub(1).ok_or(ImageError::TooMany {
            what: "ELF notes",
            limit: MAX_NOTES,
        })?;
        let rest = usize::try_from(at).ok().and_then(|at| whole.get(at..));
        let rest = rest.ok_or(bad(at))?;
        let word = |n| {
            rest.get(n..)?
                .first_chunk()
                .copied()
                .map(u32::from_le_bytes)
        };
        let (Some(name), Some(size), Some(kind)) = (word(0), word(4), word(8)) else {
            return Err(bad(at));
        };
        let padded = |len: u32| u64::from(len).next_multiple_of(4);
        let desc = padded(name).saturating_add(12);
        if rest
            .get(12..)
            .is_some_and(|name| name.starts_with(b"Xen\0"))
        {
            let place = at.saturating_add(desc);
            found.add(kind, whole, place, size).ok_or(bad(place))?;
        }
        at = at.saturating_add(desc).saturating_add(padded(size));
    }
    Ok(())
}

impl XenNotes {
    /// Takes in the note whose value is at `at`; `None` where that is beyond
    /// the end of the file.
    fn add(&mut self, kind: u32, whole: &[u8], at: u64, size: u32) -> Option<()> {
        let from = usize::try_from(at).ok()?;
        let to = from.checked_add(usize::try_from(size).ok()?)?;
        let desc = match kind {
            // Texts end at their NUL: GRUB 2.06's 32-bit image for PV guests ends
            // in the middle of its last note.
            5..=11 => whole.get(from..from)?,
            _ => whole.get(from..to)?,
        };
        let text = || c_string(whole, at).map(text);
        self.count = self.count.saturating_add(1);
        match kind {
            1 => self.entry = Some(number(desc)),
            2 => self.hypercall_page = Some(number(desc)),
            3 => self.virt_base = Some(number(desc)),
            4 => self.paddr_offset = Some(number(desc)),
            5 => self.xen_version = Some(text()?),
            6 => self.guest_os = Some(text()?),
            7 => self.guest_version = Some(text()?),
            8 => self.loader = Some(text()?),
            9 => self.pae_mode = Some(text()?),
            10 => {
                // All of it: what is kept is for people to read.
                self.known
                    .add(&String::from_utf8_lossy(c_string(whole, at)?));
                self.features = Some(text()?);
            }
            11 => self.bsd_symtab = Some(text()?),
            12 => self.hv_start_low = Some(number(desc)),
            13 => self.l1_mfn_valid = true,
            14 => self.suspend_cancel = Some(number(desc)),
            15 => self.init_p2m = Some(number(desc)),
            16 => self.mod_start_pfn = number(desc) != 0,
            17 => {
                let first = word(desc, 0);
                self.known.supported |= first;
                self.supported_features = Some(first);
            }
            18 => self.phys32_entry = Some(number(desc)),
            19 => {
                let mut reloc = self.phys32_reloc.unwrap_or_default();
                if desc.len() >= 4 {
                    reloc.align = Some(word(desc, 0));
                }
                if desc.len() >= 8 {
                    reloc.min = word(desc, 1);
                }
                if desc.len() >= 12 {
                    reloc.max = word(desc, 2);
                }
                self.phys32_reloc = Some(reloc);
            }
            // INFO and what newer kernels may add.
            _ => {}
        }
        Some(())
    }
}

/// A number of 1, 2, 4 or 8 bytes; 0 for any other.
fn number(desc: &[u8]) -> u64 {
    match *desc {
        [a] => a.into(),
        [a, b] => u16::from_le_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}

/// The n-th of an array of 32-bit numbers (`elf_note_numeric_array`): 0 where
/// the note is no such array.
fn word(desc: &[u8], n: usize) -> u32 {
    match desc.as_chunks::<4>() {
        (words, []) => words.get(n).map_or(0, |word| u32::from_le_bytes(*word)),
        _ => 0,
    }
}

/// A text to keep.
fn text(text: &[u8]) -> String {
    let text = text.get(..text.len().min(MAX_TEXT)).unwrap_or_default();
    String::from_utf8_lossy(text)
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::testelf::{File, elf, named_note, note, seg};

    const KERNEL: &[crate::Segment] = &[crate::Segment {
        offset: 0x1000,
        vaddr: 0x10_0000,
        paddr: 0x10_0000,
        filesz: 8,
        memsz: 8,
        flags: 5,
    }];

    fn read(file: &File) -> XenNotes {
        let bytes = file.bytes();
        Elf::parse(&bytes).unwrap().notes(&bytes).unwrap()
    }

    #[test]
    fn notes_of_either_size_are_read() {
        let notes = [
            note(1, &0xffff_ffff_8100_0000_u64.to_le_bytes()),
            note(18, &0x10_0050_u32.to_le_bytes()),
            note(16, &1_u32.to_le_bytes()),
            note(8, b"generic\0"),
            note(17, &[1, 0x88, 0, 0, 0, 0, 0, 0]),
            note(99, b"?"),
            named_note(b"GNU\0", 5, &[0; 16]),
            note(13, &[0; 32]),
        ];
        let found = read(&File::new(KERNEL).notes(&notes));
        assert_eq!(found.count, 7);
        assert_eq!(found.entry, Some(0xffff_ffff_8100_0000));
        assert_eq!(found.phys32_entry, Some(0x10_0050));
        assert!(found.mod_start_pfn && found.l1_mfn_valid);
        assert_eq!(found.loader.as_deref(), Some("generic"));
        assert_eq!(found.supported_features, Some(0x8801));
    }

    #[test]
    fn a_number_of_an_odd_size_is_0() {
        let notes = [
            note(3, &[7; 5]),
            note(17, &[7; 6]),
            note(19, &[1, 0, 0, 0, 2]),
        ];
        let found = read(&File::new(KERNEL).notes(&notes));
        assert_eq!(found.virt_base, Some(0));
        assert_eq!(found.supported_features, Some(0));
        assert_eq!(found.phys32_reloc.unwrap().align, Some(0));
    }

    #[test]
    fn a_text_may_end_behind_its_note() {
        // Without its NUL: the next note's name length has one.
        let notes = [note(8, b"gene"), note(1, &[1; 8])];
        let found = read(&File::new(KERNEL).notes(&notes));
        assert_eq!(found.loader.as_deref(), Some("gene"));
    }

    #[test]
    fn a_file_may_end_in_the_middle_of_a_text() {
        let mut file = elf(KERNEL, &note(9, b"yes\0\0\0\0\0\0\0\0\0"));
        file.truncate(file.len() - 8);
        let found = Elf::parse(&file).unwrap().notes(&file).unwrap();
        assert_eq!(found.pae_mode.as_deref(), Some("yes"));
    }

    #[test]
    fn section_notes_are_for_want_of_others() {
        let entry = |value: u64| note(1, &value.to_le_bytes());
        let file = File::new(KERNEL).section(".note.Xen", 7, &entry(5), 0);
        assert_eq!(read(&file).entry, Some(5));
        let both = file.clone().notes(&[entry(6)]);
        assert_eq!(read(&both).entry, Some(6));
        let other = file.clone().notes(&[named_note(b"GNU\0", 1, &[0; 8])]);
        assert_eq!(read(&other).entry, Some(5));
        // Some linkers leave the offset of a note segment out.
        let mut lost = both;
        lost.notes_at = Some(0);
        assert_eq!(read(&lost).entry, Some(5));
        let narrow = file.narrow(62);
        assert_eq!(read(&narrow).entry, Some(5));
    }

    #[test]
    fn the_old_section_is_for_want_of_notes() {
        let text = b"GUEST_OS=netbsd,LOADER=generic,VIRT_ENTRY=0x1000\0";
        let file = File::new(KERNEL).section("__xen_guest", 1, text, 0);
        let found = read(&file);
        assert!(found.guest_section);
        assert_eq!(found.entry, Some(0x1000));
        let both = read(&file.notes(&[note(5, b"xen-3.0\0")]));
        assert!(!both.guest_section);
        assert_eq!(both.entry, None);
    }

    #[test]
    fn a_note_beyond_the_file_is_refused() {
        for bytes in [note(8, b"generic\0"), note(1, &[1; 8])] {
            let file = elf(&[seg(0, 0x10_0000, 8, 8)], &bytes);
            let cut = &file[..file.len() - 4];
            assert!(Elf::parse(cut).unwrap().notes(cut).is_err());
        }
    }

    #[test]
    fn a_file_that_was_cut_is_named() {
        let file = File::new(KERNEL).section("", 1, &[0; 100], 0).bytes();
        let cut = &file[..file.len() - 1];
        let error = Elf::parse(cut).unwrap().notes(cut).unwrap_err();
        assert!(matches!(error, ImageError::Truncated { .. }), "{error}");
    }

    #[test]
    fn features_add_up() {
        let notes = [
            note(10, b"!writable_page_tables|unheard_of\0"),
            note(10, b"dom0|!mystery\0"),
        ];
        let found = read(&File::new(KERNEL).notes(&notes)).known;
        assert_eq!((found.supported, found.required), (1 | 1 << 11, 1));
        assert_eq!(found.unknown.as_deref(), Some("mystery"));
        let many: Vec<Vec<u8>> = (0..70_000).map(|_| note(0, &[])).collect();
        let file = File::new(KERNEL).notes(&many).bytes();
        let error = Elf::parse(&file).unwrap().notes(&file).unwrap_err();
        assert!(matches!(error, ImageError::TooMany { .. }));
    }
}
