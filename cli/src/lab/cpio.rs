//! A writer of newc archives, as the kernel's initramfs wants them.
//!
//! Times are zero and inode numbers count up, so the same input always gives
//! the same bytes.

use std::collections::HashSet;
use std::io::{self, Read, Write};

/// What kind of thing an entry is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
}

/// An archive being written.
#[derive(Debug)]
pub(crate) struct Archive<W> {
    out: W,
    inode: u32,
    written: u64,
    directories: HashSet<String>,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            inode: 0,
            written: 0,
            directories: HashSet::new(),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self) -> io::Result<()> {
        let over = usize::try_from(self.written % 4).unwrap_or(0);
        if over != 0 {
            self.put(&[0; 3][..4 - over])?;
        }
        Ok(())
    }

    fn header(&mut self, name: &str, mode: u32, owner: (u32, u32), size: u64) -> io::Result<()> {
        let size = u32::try_from(size)
            .map_err(|_| io::Error::other(format!("{name} is too large for a cpio archive")))?;
        self.inode += 1;
        let header = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{name}\0",
            self.inode,
            owner.0,
            owner.1,
            1,
            0,
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        );
        self.put(header.as_bytes())?;
        self.pad()
    }

    /// Adds an entry whose content is read from `content`.
    pub(crate) fn entry(
        &mut self,
        name: &str,
        kind: Kind,
        permissions: u32,
        owner: (u32, u32),
        size: u64,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let kind_bits = match kind {
            Kind::Directory => {
                if !self.directories.insert(name.to_owned()) {
                    return Ok(());
                }
                0o040_000
            }
            Kind::File => 0o100_000,
            Kind::Link => 0o120_000,
        };
        self.header(name, kind_bits | (permissions & 0o7777), owner, size)?;
        let copied = io::copy(&mut content.take(size), &mut self.out)?;
        if copied != size {
            return Err(io::Error::other(format!(
                "{name} is shorter than its header says"
            )));
        }
        self.written += copied;
        self.pad()
    }

    /// Adds a directory of root's.
    pub(crate) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, Kind::Directory, 0o755, (0, 0), 0, &mut io::empty())
    }

    /// Adds a file of root's.
    pub(crate) fn file(&mut self, name: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        let mut reader = content;
        self.entry(
            name,
            Kind::File,
            permissions,
            (0, 0),
            content.len() as u64,
            &mut reader,
        )
    }

    /// Adds a symbolic link of root's.
    pub(crate) fn link(&mut self, name: &str, target: &str) -> io::Result<()> {
        let mut reader = target.as_bytes();
        self.entry(
            name,
            Kind::Link,
            0o777,
            (0, 0),
            target.len() as u64,
            &mut reader,
        )
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.header("TRAILER!!!", 0, (0, 0), 0)?;
        while !self.written.is_multiple_of(512) {
            let over = usize::try_from(self.written % 512).unwrap_or(0);
            self.put(&[0; 512][..512 - over])?;
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_is_aligned_and_repeatable() {
        let make = || {
            let mut archive = Archive::new(Vec::new());
            archive.directory("bin").unwrap();
            archive.directory("bin").unwrap();
            archive.file("bin/a", 0o755, b"hello").unwrap();
            archive.link("init", "bin/a").unwrap();
            archive.finish().unwrap()
        };
        let bytes = make();
        assert_eq!(bytes, make());
        assert_eq!(bytes.len() % 512, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 4);
        assert_eq!(text.matches("bin\0").count(), 1);
        assert!(text.contains("TRAILER!!!"));
    }
}
