//! Small ELF files for tests, of either class, written by hand.

#![cfg_attr(
    not(test),
    expect(
        clippy::unwrap_used,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        reason = "a test's file that is wrong ends the test"
    )
)]

use alloc::vec::Vec;

use crate::{Segment, elf::Class};

/// What a file is made of.
#[derive(Clone, Debug)]
pub struct File {
    /// 32 or 64 bits.
    pub class: Class,
    /// `e_machine`.
    pub machine: u16,
    /// `e_entry`.
    pub entry: u64,
    /// Its `PT_LOAD` segments.
    pub segments: Vec<Segment>,
    /// In a `PT_NOTE` segment.
    pub notes: Vec<u8>,
    /// The file offset that the `PT_NOTE` header tells, if not the right one.
    pub notes_at: Option<u64>,
    /// Sections: name, `sh_type`, bytes, `sh_link`.
    pub sections: Vec<(&'static str, u32, Vec<u8>, u32)>,
    /// Bytes more between two program headers.
    pub apart: u16,
}

impl File {
    /// One of 64 bits, for x86-64.
    #[must_use]
    pub fn new(segments: &[Segment]) -> Self {
        Self {
            class: Class::Elf64,
            machine: 62,
            entry: 0x10_0000,
            segments: segments.to_vec(),
            notes: Vec::new(),
            notes_at: None,
            sections: Vec::new(),
            apart: 0,
        }
    }

    /// The same with these notes.
    #[must_use]
    pub fn notes(mut self, notes: &[Vec<u8>]) -> Self {
        self.notes = notes.concat();
        self
    }

    /// The same as a file of 32 bits.
    #[must_use]
    pub fn narrow(mut self, machine: u16) -> Self {
        self.class = Class::Elf32;
        self.machine = machine;
        self
    }

    /// The same with one more section.
    #[must_use]
    pub fn section(mut self, name: &'static str, kind: u32, bytes: &[u8], link: u32) -> Self {
        self.sections.push((name, kind, bytes.to_vec(), link));
        self
    }

    fn wide(&self) -> bool {
        self.class == Class::Elf64
    }

    fn word(&self, out: &mut Vec<u8>, value: u64) {
        if self.wide() {
            out.extend(value.to_le_bytes());
        } else {
            out.extend(u32::try_from(value).unwrap().to_le_bytes());
        }
    }

    fn program_header(&self, out: &mut Vec<u8>, kind: u32, s: &Segment, align: u64) {
        out.extend(kind.to_le_bytes());
        if self.wide() {
            out.extend(s.flags.to_le_bytes());
        }
        for value in [s.offset, s.vaddr, s.paddr, s.filesz, s.memsz] {
            self.word(out, value);
        }
        if !self.wide() {
            out.extend(s.flags.to_le_bytes());
        }
        self.word(out, align);
        out.resize(out.len() + usize::from(self.apart), 0x55);
    }

    fn section_header(
        &self,
        out: &mut Vec<u8>,
        words: [u32; 2],
        offset: u64,
        size: u64,
        link: u32,
    ) {
        out.extend(words[0].to_le_bytes());
        out.extend(words[1].to_le_bytes());
        for value in [0, 0, offset, size] {
            self.word(out, value);
        }
        out.extend(link.to_le_bytes());
        out.extend(0_u32.to_le_bytes());
        self.word(out, 1);
        self.word(out, 0);
    }

    /// The file: header, program headers, what the segments leave room for,
    /// notes, sections, section headers.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let (ehsize, phsize, shsize) = if self.wide() {
            (64_u64, 56_u64, 64_u64)
        } else {
            (52, 32, 40)
        };
        let count = u64::try_from(self.segments.len() + 1).unwrap();
        let step = phsize + u64::from(self.apart);
        let end = self.segments.iter().map(|s| s.offset + s.filesz).max();
        let notes_at = end
            .unwrap_or(0)
            .max(ehsize + step * count)
            .next_multiple_of(8);
        let mut headers = Vec::new();
        for s in &self.segments {
            self.program_header(&mut headers, 1, s, 4096);
        }
        let len = u64::try_from(self.notes.len()).unwrap();
        let note = seg(self.notes_at.unwrap_or(notes_at), 0, len, len);
        // The alignment that linkers give notes beside properties: no matter.
        self.program_header(&mut headers, 4, &note, 8);

        let mut body = self.notes.clone();
        let mut names = alloc::vec![0_u8];
        let mut table = Vec::new();
        let has_sections = !self.sections.is_empty();
        if has_sections {
            self.section_header(&mut table, [0, 0], 0, 0, 0);
        }
        let place = |body: &mut Vec<u8>| {
            body.resize(body.len().next_multiple_of(8), 0);
            notes_at + u64::try_from(body.len()).unwrap()
        };
        for (name, kind, bytes, link) in &self.sections {
            let at = place(&mut body);
            body.extend(bytes);
            let name_at = u32::try_from(names.len()).unwrap();
            names.extend(name.as_bytes());
            names.push(0);
            let size = u64::try_from(bytes.len()).unwrap();
            self.section_header(&mut table, [name_at, *kind], at, size, *link);
        }
        let at = place(&mut body);
        let size = u64::try_from(names.len()).unwrap();
        if has_sections {
            body.extend(&names);
            self.section_header(&mut table, [0, 3], at, size, 0);
        }
        let sections_at = place(&mut body);
        body.extend(&table);

        let mut file = Vec::new();
        file.extend(b"\x7fELF");
        file.extend([if self.wide() { 2 } else { 1 }, 1, 1, 0]);
        file.resize(16, 0);
        file.extend(2_u16.to_le_bytes());
        file.extend(self.machine.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        self.word(&mut file, self.entry);
        self.word(&mut file, ehsize);
        self.word(&mut file, if has_sections { sections_at } else { 0 });
        file.extend(0_u32.to_le_bytes());
        let sections = if has_sections {
            self.sections.len() + 2
        } else {
            0
        };
        let half = |value: u64| u16::try_from(value).unwrap().to_le_bytes();
        let sections = u64::try_from(sections).unwrap();
        for value in [
            ehsize,
            step,
            count,
            shsize,
            sections,
            sections.saturating_sub(1),
        ] {
            file.extend(half(value));
        }
        file.extend(headers);
        let here = file.len();
        // Bytes that can be told apart from zeroes and from each other.
        file.extend((here..usize::try_from(notes_at).unwrap()).map(|n| (n % 251) as u8 | 1));
        file.extend(body);
        file
    }
}

/// An ELF file with these segments, and notes at the end of the file.
#[must_use]
pub fn elf(segments: &[Segment], notes: &[u8]) -> Vec<u8> {
    File::new(segments).notes(&[notes.to_vec()]).bytes()
}

/// A segment: offset in the file, physical (and virtual) address, bytes in the file
/// and in memory.
#[must_use]
pub fn seg(offset: u64, paddr: u64, filesz: u64, memsz: u64) -> Segment {
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
#[must_use]
pub fn note(kind: u32, desc: &[u8]) -> Vec<u8> {
    named_note(b"Xen\0", kind, desc)
}

/// One note of this owner's.
#[must_use]
pub fn named_note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
    bytes.extend(u32::try_from(desc.len()).unwrap().to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(name);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(desc);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
