//! The symbol table that a BSD kernel asks for behind itself (`BSD_SYMTAB`).
//!
//! Layout as by libelf (`elf_parse_bsdsyms`, `elf_load_bsdsyms`), from the
//! kernel's end, rounded up to the size of the file's own numbers:
//!
//! | offset | what |
//! |---|---|
//! | 0 | bytes that follow, a 32-bit number |
//! | 4 | the file's ELF header, with these three sections alone |
//! | 68 | section headers: none, `SHT_SYMTAB`, its `SHT_STRTAB` |
//! | 264 (32-bit file: 260) | the symbols |
//! | behind, rounded up | the strings |
//!
//! Offsets in these headers count from the ELF header at 4. A file without a
//! symbol table starts without one, as libelf lets it.
//!
//! For a 32-bit file libelf counts shorter headers than it writes, so that the
//! strings can lie beyond the end that it tells; here they are in memory all
//! the same.

use alloc::vec::Vec;

use object::elf::{SHT_STRTAB, SHT_SYMTAB};

use crate::{Elf, ImageError, elf::Class, sections::Section};

/// `offsetof(struct elf_sym_header, elf_header.section)`.
const SECTIONS_AT: u64 = 68;
/// `sizeof(struct elf_sym_header)`, with section headers of 64 bytes.
const HEADERS: u64 = 260;

/// What is put behind a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbols {
    /// Physical address of its first byte.
    pub start: u64,
    /// The kernel's end with it, as libelf tells it.
    pub end: u64,
    /// One past the last byte that is written.
    pub written_end: u64,
    /// What is at `start`.
    pub headers: Vec<u8>,
    /// What comes from the file: offset, physical address, bytes.
    pub parts: [(u64, u64, u64); 2],
}

impl Elf {
    /// Lays the symbol table out behind the kernel; `None` where the file has
    /// none.
    pub fn symbols(&self, whole: &[u8]) -> Result<Option<Symbols>, ImageError> {
        let Some((symtab, strtab)) = self.symbol_sections(whole) else {
            return Ok(None);
        };
        let have = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        for section in [&symtab, &strtab] {
            let end = section.offset.saturating_add(section.size);
            if end > have {
                return Err(ImageError::Truncated {
                    what: "the symbol table that its note BSD_SYMTAB asks for",
                    want: end,
                    have,
                });
            }
        }
        self.layout(whole, &symtab, &strtab)
            .map(Some)
            .ok_or(ImageError::Field {
                field: "p_memsz",
                value: self.end,
                want: "an end with room for the symbol table",
            })
    }

    /// The first symbol table, and its strings.
    fn symbol_sections(&self, whole: &[u8]) -> Option<(Section, Section)> {
        let symtab = self
            .all_sections(whole)
            .find(|section| section.kind == SHT_SYMTAB.0)?;
        let strtab = self
            .section(whole, symtab.link)
            .filter(|_| symtab.link != 0)?;
        (strtab.kind == SHT_STRTAB.0).then_some((symtab, strtab))
    }

    fn layout(&self, whole: &[u8], symtab: &Section, strtab: &Section) -> Option<Symbols> {
        let header = u64::try_from(symtab.header.len()).ok()?;
        let start = self.round_up(self.end)?;
        let counted = header.checked_mul(3)?.checked_add(4 + SECTIONS_AT)?;
        let end = self.round_up(self.round_up(counted)?.checked_add(symtab.size)?)?;
        let end = start.checked_add(self.round_up(end.checked_add(strtab.size)?)?)?;
        let symbols = self.round_up(start.checked_add(HEADERS)?)?;
        let strings = self.round_up(symbols.checked_add(symtab.size)?)?;
        let written_end = strings.checked_add(strtab.size)?;
        let origin = start.checked_add(4)?;
        let size = u32::try_from(written_end.checked_sub(origin)?).ok()?;

        let mut headers = Vec::new();
        headers.extend(size.to_le_bytes());
        headers.extend(self.header(whole)?);
        headers.resize(usize::try_from(SECTIONS_AT).ok()?, 0);
        headers.resize(headers.len().checked_add(symtab.header.len())?, 0);
        let mut moved = |section: &Section, place: u64, link: Option<u32>| {
            let mut header = section.header.clone();
            let offset = place.checked_sub(origin)?;
            let (offset_at, link_at) = match self.class {
                Class::Elf32 => (16, 24),
                Class::Elf64 => (24, 40),
            };
            put(&mut header, offset_at, &self.number(offset)?)?;
            if let Some(link) = link {
                put(&mut header, link_at, &link.to_le_bytes())?;
            }
            headers.extend(header);
            Some(())
        };
        moved(symtab, symbols, Some(2))?;
        moved(strtab, strings, None)?;
        Some(Symbols {
            start,
            end,
            written_end,
            headers,
            parts: [
                (symtab.offset, symbols, symtab.size),
                (strtab.offset, strings, strtab.size),
            ],
        })
    }

    /// The file's header, with three sections right behind it and nothing else.
    fn header(&self, whole: &[u8]) -> Option<Vec<u8>> {
        let (len, phoff, shoff, words, section) = match self.class {
            Class::Elf32 => (52, 28, 32, 40_usize, 40_u16),
            Class::Elf64 => (64, 32, 40, 52, 64),
        };
        let mut header = whole.get(..len)?.to_vec();
        put(&mut header, 20, &1_u32.to_le_bytes())?;
        put(&mut header, phoff, &self.number(0)?)?;
        put(
            &mut header,
            shoff,
            &self.number(SECTIONS_AT.checked_sub(4)?)?,
        )?;
        // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
        let ehsize = u16::try_from(len).ok()?;
        for (n, value) in [ehsize, 0, 0, section, 3, 0].into_iter().enumerate() {
            let at = words.checked_add(n.checked_mul(2)?)?;
            put(&mut header, at, &value.to_le_bytes())?;
        }
        Some(header)
    }

    /// A number as wide as the file's own.
    fn number(&self, value: u64) -> Option<Vec<u8>> {
        Some(match self.class {
            Class::Elf32 => u32::try_from(value).ok()?.to_le_bytes().to_vec(),
            Class::Elf64 => value.to_le_bytes().to_vec(),
        })
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    let to = bytes.get_mut(at..)?.get_mut(..value.len())?;
    to.copy_from_slice(value);
    Some(())
}
