//! ELF kernels: what the headers at the start of a file say.
//!
//! Read as Xen's libelf reads it (`xen/common/libelf`), rule by rule:
//!
//! | rule | source |
//! |---|---|
//! | either class; headers `e_phentsize` apart, of whatever size | `elf_phdr_by_index`, `elf_shdr_by_index` |
//! | a table that reaches beyond the file: refused | `elf_init` |
//! | loaded is a `PT_LOAD` with one of the flags R, W, X | `elf_phdr_is_loadable` |
//! | the kernel reaches from the lowest `p_paddr` to the highest end | `elf_parse_binary` |
//! | where segments overlap, the later header's bytes count | `elf_load_binary` |
//! | segments that add up to more than twice that range: refused | `elf_load_binary` |
//!
//! Stricter than libelf, which goes on with half a kernel: a segment whose
//! bytes are not in the file, or are more than its memory; a byte order that
//! no x86 has. The `object` crate has the structures.

use alloc::vec::Vec;

use object::{
    LittleEndian as LE, ReadRef as _,
    elf::{
        ELFDATA2LSB, EM_386, EM_X86_64, FileHeader32, FileHeader64, PF_R, PF_W, PF_X, PT_LOAD,
        PT_NOTE,
    },
    read::elf::{FileHeader, ProgramHeader as _},
};

use crate::ImageError;

/// Program headers that are looked at.
const MAX_HEADERS: usize = 256;

/// A part of a kernel: what of the file goes where.
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

/// Width of a file's own numbers (`e_ident[EI_CLASS]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `ELFCLASS32`
    Elf32,
    /// `ELFCLASS64`
    Elf64,
}

/// Processor that a kernel is for (`e_machine`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// `EM_386`
    I386,
    /// `EM_X86_64`
    X86_64,
}

/// What the headers of an ELF kernel say.
#[derive(Clone, Debug)]
pub struct Elf {
    /// `e_ident[EI_CLASS]`
    pub class: Class,
    /// `e_machine`
    pub processor: Processor,
    /// `e_entry`
    pub entry: u64,
    /// The lowest `p_paddr` of what is loaded.
    pub start: u64,
    /// One past the last byte of what is loaded.
    pub end: u64,
    /// The largest `p_align` of what is loaded.
    pub align: u64,
    segments: Vec<Segment>,
    /// `PT_NOTE`: offset and bytes in the file.
    pub(crate) notes: Vec<(u64, u64)>,
    pub(crate) sections: SectionTable,
}

/// Where the section headers are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SectionTable {
    pub(crate) offset: u64,
    pub(crate) step: u64,
    pub(crate) count: u16,
    /// `e_shstrndx`
    pub(crate) names: u16,
}

const fn field(field: &'static str, value: u64, want: &'static str) -> ImageError {
    ImageError::Field { field, value, want }
}

impl Elf {
    /// Reads the headers from the first bytes of a file, which must hold
    /// the program headers too.
    pub fn parse(head: &[u8]) -> Result<Self, ImageError> {
        let (class, data, machine) = match (head.get(4), head.get(5), head.get(18..20)) {
            (Some(class), Some(data), Some(&[low, high])) => {
                (*class, *data, u16::from_le_bytes([low, high]))
            }
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
        if data != ELFDATA2LSB.0 {
            return Err(field("e_ident[EI_DATA]", data.into(), "1 (little endian)"));
        }
        let processor = match machine {
            _ if machine == EM_386.0 => Processor::I386,
            _ if machine == EM_X86_64.0 => Processor::X86_64,
            _ => return Err(ImageError::Machine { class, machine }),
        };
        match class {
            1 => read::<FileHeader32<LE>>(head, Class::Elf32, processor),
            2 => read::<FileHeader64<LE>>(head, Class::Elf64, processor),
            _ => Err(ImageError::Machine { class, machine }),
        }
    }

    /// What is loaded, by physical address, without overlap.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Rounds an address up as libelf does for what it adds itself: to the
    /// size of the file's own numbers (`elf_round_up`).
    pub(crate) const fn round_up(&self, address: u64) -> Option<u64> {
        address.checked_next_multiple_of(match self.class {
            Class::Elf32 => 4,
            Class::Elf64 => 8,
        })
    }
}

fn read<H: FileHeader<Endian = LE>>(
    head: &[u8],
    class: Class,
    processor: Processor,
) -> Result<Elf, ImageError> {
    let header = head.read_at::<H>(0).map_err(|()| ImageError::Truncated {
        what: "the ELF header",
        want: size_of::<H>().try_into().unwrap_or(u64::MAX),
        have: head.len().try_into().unwrap_or(u64::MAX),
    })?;
    let count = header.e_phnum(LE);
    if usize::from(count) > MAX_HEADERS {
        return Err(ImageError::TooMany {
            what: "program headers",
            limit: MAX_HEADERS,
        });
    }
    let mut elf = Elf {
        class,
        processor,
        entry: header.e_entry(LE).into(),
        start: u64::MAX,
        end: 0,
        align: 0,
        segments: Vec::new(),
        notes: Vec::new(),
        sections: SectionTable {
            offset: header.e_shoff(LE).into(),
            step: header.e_shentsize(LE).into(),
            count: header.e_shnum(LE),
            names: header.e_shstrndx(LE).0,
        },
    };
    let mut loaded = Vec::new();
    let offset: u64 = header.e_phoff(LE).into();
    for n in 0..u64::from(count) {
        let at = n.saturating_mul(header.e_phentsize(LE).into());
        let ph = head
            .read_at::<H::ProgramHeader>(offset.saturating_add(at))
            .map_err(|()| field("e_phoff", offset, "program headers in the first 64 KiB"))?;
        let kind = ph.p_type(LE);
        if kind == PT_NOTE {
            let (from, len) = (ph.p_offset(LE).into(), ph.p_filesz(LE).into());
            elf.notes.push((from, len));
        }
        if kind == PT_LOAD && ph.p_flags(LE).0 & (PF_R | PF_W | PF_X).0 != 0 {
            let segment = segment(ph)?;
            elf.start = elf.start.min(segment.paddr);
            elf.end = elf.end.max(segment.paddr.saturating_add(segment.memsz));
            elf.align = elf.align.max(ph.p_align(LE).into());
            loaded.push(segment);
        }
    }
    if loaded.iter().all(|s| s.memsz == 0) {
        return Err(field(
            "e_phnum",
            count.into(),
            "a number of headers with a PT_LOAD among them",
        ));
    }
    elf.segments = overlaid(&loaded, elf.end.saturating_sub(elf.start))?;
    Ok(elf)
}

fn segment<P: object::read::elf::ProgramHeader<Endian = LE>>(
    ph: &P,
) -> Result<Segment, ImageError> {
    let segment = Segment {
        offset: ph.p_offset(LE).into(),
        vaddr: ph.p_vaddr(LE).into(),
        paddr: ph.p_paddr(LE).into(),
        filesz: ph.p_filesz(LE).into(),
        memsz: ph.p_memsz(LE).into(),
        flags: ph.p_flags(LE).0,
    };
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

/// The segments one over the other, in the order of their headers: what is
/// left of each. `range` is the bytes from the first to the last.
fn overlaid(loaded: &[Segment], range: u64) -> Result<Vec<Segment>, ImageError> {
    let limit = range
        .checked_next_multiple_of(4096)
        .map_or(u64::MAX, |bytes| bytes.saturating_mul(2));
    let mut total = 0_u64;
    let mut seen: Vec<Segment> = Vec::new();
    for new in loaded.iter().filter(|s| s.memsz > 0) {
        total = total.saturating_add(new.memsz);
        if total > limit {
            return Err(field(
                "p_memsz",
                new.memsz,
                "of segments that together are at most twice the kernel",
            ));
        }
        let end = new.paddr.saturating_add(new.memsz);
        let mut left = Vec::new();
        for old in seen {
            let old_end = old.paddr.saturating_add(old.memsz);
            left.extend(part(&old, old.paddr, old_end.min(new.paddr)));
            left.extend(part(&old, old.paddr.max(end), old_end));
        }
        left.push(*new);
        seen = left;
    }
    seen.sort_unstable_by_key(|s| s.paddr);
    Ok(seen)
}

/// What of a segment is in `[from, to)`, if anything is.
fn part(segment: &Segment, from: u64, to: u64) -> Option<Segment> {
    let memsz = to.checked_sub(from).filter(|len| *len > 0)?;
    let skip = from.checked_sub(segment.paddr)?;
    Some(Segment {
        offset: segment.offset.saturating_add(skip.min(segment.filesz)),
        vaddr: segment.vaddr.wrapping_add(skip),
        paddr: from,
        filesz: segment.filesz.saturating_sub(skip).min(memsz),
        memsz,
        flags: segment.flags,
    })
}
