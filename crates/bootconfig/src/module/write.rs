//! Writing boot modules.
//!
//! The data of each initrd begins on a page of the archive: then the PV
//! hand-off can hand its frames over, and the PVH one its place, without a
//! copy. A file `kexen.pad` before it takes up the slack.

use alloc::{format, string::String, vec::Vec};

use super::{DEFAULT, KEYS, PAD};

/// An entry to write.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// Its name; [`DEFAULT`] for the files without a folder.
    pub name: &'a str,
    /// The kernel.
    pub kernel: &'a [u8],
    /// The initrd.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub cmdline: Option<&'a str>,
}

/// Writes an archive; the same entries give the same bytes.
#[must_use]
pub fn write(entries: &[NewEntry<'_>]) -> Vec<u8> {
    write_with_keys(entries, None)
}

/// The same with a file of public keys.
#[must_use]
pub fn write_with_keys(entries: &[NewEntry<'_>], keys: Option<&str>) -> Vec<u8> {
    let mut out = Writer::default();
    if let Some(text) = keys {
        out.file(KEYS, text.as_bytes());
    }
    for entry in entries {
        let name = |file: &str| {
            if entry.name == DEFAULT {
                String::from(file)
            } else {
                format!("{}/{file}", entry.name)
            }
        };
        if let Some(text) = entry.cmdline {
            out.file(&name("cmdline"), text.as_bytes());
        }
        out.file(&name("kernel"), entry.kernel);
        if let Some(data) = entry.initrd {
            out.pad_for(&name("initrd"));
            out.file(&name("initrd"), data);
        }
    }
    out.finish()
}

/// Writes files as they are.
#[cfg(test)]
pub(super) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Writer::default();
    for (name, data) in files {
        out.file(name, data);
    }
    out.finish()
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    files: usize,
}

/// Bytes of a header with its name.
const fn header(name: &str) -> usize {
    name.len().saturating_add(111).next_multiple_of(4)
}

impl Writer {
    fn file(&mut self, name: &str, data: &[u8]) {
        self.entry(name, 0o100_644, data);
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.files = self.files.saturating_add(1);
        let inode = self.files;
        let (size, name_size) = (data.len(), name.len().saturating_add(1));
        let text = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}\
             {0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}{name}\0",
            0, 1,
        );
        self.bytes.extend(text.bytes());
        self.align();
        self.bytes.extend(data);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Pads so that the data of a file of this name is page-aligned.
    fn pad_for(&mut self, name: &str) {
        let before = self
            .bytes
            .len()
            .saturating_add(header(PAD))
            .saturating_add(header(name));
        let slack = before.next_multiple_of(4096).saturating_sub(before);
        self.file(PAD, &alloc::vec![0; slack]);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
