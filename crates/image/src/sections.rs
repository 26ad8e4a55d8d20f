//! Section headers of an ELF kernel, which only the whole file has.

use alloc::vec::Vec;

use object::{
    LittleEndian as LE, ReadRef as _,
    elf::{FileHeader32, FileHeader64},
    read::elf::{FileHeader, SectionHeader as _},
};

use crate::{Elf, ImageError, elf::Class};

/// A section header.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) kind: u32,
    pub(crate) name: u32,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) link: u32,
    /// The header's own bytes.
    pub(crate) header: Vec<u8>,
}

impl Elf {
    /// Checks that the section headers are in the file, as libelf does
    /// (`elf_init`): of a file that was cut short they are what is missing.
    pub(crate) fn check_sections(&self, whole: &[u8]) -> Result<(), ImageError> {
        let table = self.sections;
        let have = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        let end = u64::from(table.count)
            .checked_mul(table.step)
            .and_then(|len| table.offset.checked_add(len));
        if end.is_some_and(|end| end <= have) {
            return Ok(());
        }
        Err(ImageError::Truncated {
            what: "the table of section headers (e_shoff)",
            want: end.unwrap_or(u64::MAX),
            have,
        })
    }

    /// The n-th section header.
    pub(crate) fn section(&self, whole: &[u8], n: u32) -> Option<Section> {
        if n >= self.sections.count.into() {
            return None;
        }
        let step = self.sections.step.checked_mul(n.into())?;
        let at = self.sections.offset.checked_add(step)?;
        match self.class {
            Class::Elf32 => read::<FileHeader32<LE>>(whole, at),
            Class::Elf64 => read::<FileHeader64<LE>>(whole, at),
        }
    }

    /// All but the first, which is none.
    pub(crate) fn all_sections<'a>(
        &'a self,
        whole: &'a [u8],
    ) -> impl Iterator<Item = Section> + 'a {
        (1..u32::from(self.sections.count)).map_while(|n| self.section(whole, n))
    }

    /// The first section of a name.
    pub(crate) fn section_named(&self, whole: &[u8], name: &[u8]) -> Option<Section> {
        let names = self.section(whole, self.sections.names.into())?;
        self.all_sections(whole).find(|section| {
            let at = names.offset.checked_add(section.name.into());
            at.and_then(|at| c_string(whole, at))
                .is_some_and(|found| found == name)
        })
    }
}

fn read<H: FileHeader<Endian = LE>>(whole: &[u8], at: u64) -> Option<Section> {
    let header = whole.read_at::<H::SectionHeader>(at).ok()?;
    Some(Section {
        kind: header.sh_type(LE).0,
        name: header.sh_name(LE),
        offset: header.sh_offset(LE).into(),
        size: header.sh_size(LE).into(),
        link: header.sh_link(LE),
        header: object::bytes_of(header).to_vec(),
    })
}

/// Bytes of a text that are looked at (`ELF_MAX_STRING_LENGTH`).
const MAX_STRING: usize = 4096;

/// The bytes up to the next NUL (`elf_strval`): as a section or a note may have
/// them, wherever in the file they end.
pub(crate) fn c_string(whole: &[u8], at: u64) -> Option<&[u8]> {
    let rest = whole.get(usize::try_from(at).ok()?..)?;
    let rest = rest.get(..rest.len().min(MAX_STRING.saturating_add(1)))?;
    let len = rest.iter().position(|byte| *byte == 0)?;
    rest.get(..len)
}
