//! ELF kernels: segments from the first bytes of a file, notes from all of it.
//!
//! Specification: the System V ABI's ELF-64, little endian, x86-64. The
//! `object` crate reads the structures; what is checked here is what a
//! loader relies on.

use alloc::vec::Vec;

use object::{
    LittleEndian as LE,
    elf::{EM_X86_64, FileHeader64, PT_LOAD, PT_NOTE, ProgramHeader64},
    read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _},
};

use crate::{ImageError, XenNotes};

/// Program headers that are looked at.
const MAX_HEADERS: usize = 256;

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `p_offset`: where its bytes begin in the file.
    pub offset: u64,
    /// `p_vaddr`
    pub vaddr: u64,
    /// `p_paddr`: where it goes.
    pub paddr: u64,
    /// `p_filesz`: bytes in the file.
    pub filesz: u64,
    /// `p_memsz`: bytes in memory.
    pub memsz: u64,
    /// `p_flags`
    pub flags: u32,
}

/// What the headers of an ELF kernel say.
#[derive(Clone, Debug)]
pub struct Elf {
    /// `e_entry`
    pub entry: u64,
    segments: Vec<Segment>,
    notes: Vec<ProgramHeader64<LE>>,
}

fn elf_error(error: &object::read::Error) -> ImageError {
    let _ = error;
    ImageError::Elf("the headers are not well formed")
}

impl Elf {
    /// Reads the headers from the first bytes of a file, which must hold
    /// the program headers too.
    pub fn parse(head: &[u8]) -> Result<Self, ImageError> {
        let (class, machine) = match (head.get(4), head.get(18..20)) {
            (Some(class), Some(&[low, high])) => (*class, u16::from_le_bytes([low, high])),
            _ => {
                return Err(ImageError::Truncated {
                    what: "the ELF header",
                    want: 64,
                    have: head.len().try_into().unwrap_or(u64::MAX),
                });
            }
        };
        if !head.starts_with(b"\x7fELF") {
            return Err(ImageError::UnknownFormat {
                start: *head.first_chunk().unwrap_or(&[0; 4]),
            });
        }
        if class != 2 || machine != EM_X86_64.0 {
            return Err(ImageError::Machine { class, machine });
        }
        let header = FileHeader64::<LE>::parse(head).map_err(|e| elf_error(&e))?;
        let headers = header
            .program_headers(LE, head)
            .map_err(|_| ImageError::Field {
                field: "e_phoff",
                value: header.e_phoff(LE),
                want: "program headers in the first 64 KiB",
            })?;
        if headers.len() > MAX_HEADERS {
            return Err(ImageError::TooMany {
                what: "program headers",
                limit: MAX_HEADERS,
            });
        }
        let mut segments = Vec::new();
        let mut notes = Vec::new();
        for ph in headers {
            match ph.p_type(LE) {
                PT_LOAD if ph.p_memsz(LE) > 0 => segments.push(segment(ph)?),
                PT_NOTE => notes.push(*ph),
                _ => {}
            }
        }
        segments.sort_unstable_by_key(|s| s.paddr);
        for (a, b) in segments.iter().zip(segments.iter().skip(1)) {
            if a.paddr.saturating_add(a.memsz) > b.paddr {
                return Err(ImageError::Field {
                    field: "p_paddr",
                    value: b.paddr,
                    want: "behind the segment before it",
                });
            }
        }
        if segments.is_empty() {
            return Err(ImageError::Field {
                field: "e_phnum",
                value: header.e_phnum(LE).into(),
                want: "a number of headers with a PT_LOAD among them",
            });
        }
        Ok(Self {
            entry: header.e_entry(LE),
            segments,
            notes,
        })
    }

    /// The loadable segments, by physical address, without overlap.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Reads Xen's notes from the whole file: from `PT_NOTE` segments, or
    /// from note sections where those have none.
    pub fn notes(&self, whole: &[u8]) -> Result<XenNotes, ImageError> {
        let mut found = XenNotes::default();
        for ph in &self.notes {
            // Some linkers leave the offset of a note segment out.
            if ph.p_offset(LE) == 0 {
                continue;
            }
            let bad = || ImageError::Field {
                field: "p_offset (PT_NOTE)",
                value: ph.p_offset(LE),
                want: "notes in the file",
            };
            let Some(notes) = ph.notes(LE, whole).map_err(|_| bad())? else {
                continue;
            };
            read(&mut found, notes)?;
        }
        if found.count == 0 {
            let header = FileHeader64::<LE>::parse(whole).map_err(|e| elf_error(&e))?;
            if let Ok(sections) = header.sections(LE, whole) {
                for section in sections.iter() {
                    if let Ok(Some(notes)) = section.notes(LE, whole) {
                        read(&mut found, notes)?;
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Notes that are looked at, of any owner.
const MAX_NOTES: usize = 1024;

fn read(
    found: &mut XenNotes,
    mut notes: object::read::elf::NoteIterator<'_, FileHeader64<LE>>,
) -> Result<(), ImageError> {
    for _ in 0..MAX_NOTES {
        let note = notes
            .next()
            .map_err(|_| ImageError::Elf("a note is not well formed"))?;
        let Some(note) = note else { return Ok(()) };
        if note.name() == b"Xen" {
            found.add(note.n_type(LE).0, note.desc())?;
        }
    }
    Err(ImageError::TooMany {
        what: "ELF notes",
        limit: MAX_NOTES,
    })
}

fn segment(ph: &ProgramHeader64<LE>) -> Result<Segment, ImageError> {
    let segment = Segment {
        offset: ph.p_offset(LE),
        vaddr: ph.p_vaddr(LE),
        paddr: ph.p_paddr(LE),
        filesz: ph.p_filesz(LE),
        memsz: ph.p_memsz(LE),
        flags: ph.p_flags(LE).0,
    };
    let field = |field, value, want| ImageError::Field { field, value, want };
    if segment.filesz > segment.memsz {
        return Err(field("p_filesz", segment.filesz, "at most p_memsz"));
    }
    if segment.offset.checked_add(segment.filesz).is_none() {
        return Err(field("p_offset", segment.offset, "in the file"));
    }
    if segment.paddr.checked_add(segment.memsz).is_none() {
        return Err(field(
            "p_paddr",
            segment.paddr,
            "an address with room for p_memsz",
        ));
    }
    Ok(segment)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::vec;

    /// An ELF file with these segments, and notes at the end of the file.
    pub(crate) fn elf(segments: &[Segment], notes: &[u8]) -> Vec<u8> {
        let count = u16::try_from(segments.len() + 1).unwrap();
        let mut file = vec![0; 64];
        file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        file[16] = 2;
        file[18] = 62;
        file[20] = 1;
        file[24..32].copy_from_slice(&0x10_0000_u64.to_le_bytes());
        file[32] = 64;
        file[52] = 64;
        file[54] = 56;
        file[56..58].copy_from_slice(&count.to_le_bytes());
        let mut header = |kind: u32, s: &Segment| {
            file.extend(kind.to_le_bytes());
            file.extend(s.flags.to_le_bytes());
            for word in [s.offset, s.vaddr, s.paddr, s.filesz, s.memsz, 4] {
                file.extend(word.to_le_bytes());
            }
        };
        let end = segments
            .iter()
            .map(|s| s.offset + s.filesz)
            .max()
            .unwrap_or(0);
        let end = end.max(64 + 56 * u64::from(count)).next_multiple_of(4);
        for s in segments {
            header(1, s);
        }
        let len = u64::try_from(notes.len()).unwrap();
        header(4, &seg(end, 0, len, len));
        file.resize(usize::try_from(end).unwrap(), 0);
        file.extend(notes);
        file
    }

    pub(crate) fn seg(offset: u64, paddr: u64, filesz: u64, memsz: u64) -> Segment {
        Segment {
            offset,
            vaddr: paddr,
            paddr,
            filesz,
            memsz,
            flags: 5,
        }
    }

    /// One note of Xen's.
    pub(crate) fn note(kind: u32, desc: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(4_u32.to_le_bytes());
        bytes.extend(u32::try_from(desc.len()).unwrap().to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(b"Xen\0");
        bytes.extend(desc);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn segments_come_sorted() {
        let file = elf(
            &[seg(0x3000, 0x20_0000, 8, 16), seg(0x1000, 0x10_0000, 8, 8)],
            &[],
        );
        let elf = Elf::parse(&file).unwrap();
        assert_eq!(elf.entry, 0x10_0000);
        let addresses: Vec<u64> = elf.segments().iter().map(|s| s.paddr).collect();
        assert_eq!(addresses, [0x10_0000, 0x20_0000]);
    }

    #[test]
    fn bad_segments_are_named() {
        let named =
            |segments: &[Segment], name: &str| match Elf::parse(&elf(segments, &[])).unwrap_err() {
                ImageError::Field { field, .. } => assert_eq!(field, name),
                other => panic!("{other}"),
            };
        named(&[seg(0, 0x1000, 9, 8)], "p_filesz");
        named(&[seg(0, u64::MAX, 0, 8)], "p_paddr");
        named(&[seg(0, 0x1000, 0, 0x100), seg(0, 0x10ff, 0, 1)], "p_paddr");
        named(&[], "e_phnum");
    }

    #[test]
    fn other_machines_are_named() {
        let mut file = elf(&[seg(0, 0x1000, 8, 8)], &[]);
        file[4] = 1;
        file[18] = 3;
        let error = Elf::parse(&file).unwrap_err();
        assert_eq!(
            error,
            ImageError::Machine {
                class: 1,
                machine: 3
            }
        );
        assert!(alloc::format!("{error}").contains("32-bit kernel"));
        assert!(matches!(
            Elf::parse(b"\x7fELF"),
            Err(ImageError::Truncated { .. })
        ));
        assert!(matches!(
            Elf::parse(&[0; 64]),
            Err(ImageError::UnknownFormat { .. })
        ));
        let mut far = elf(&[seg(0, 0x1000, 8, 8)], &[]);
        far[33] = 0xff;
        assert!(matches!(
            Elf::parse(&far),
            Err(ImageError::Field {
                field: "e_phoff",
                ..
            })
        ));
    }
}
