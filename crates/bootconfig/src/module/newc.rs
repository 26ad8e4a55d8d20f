//! Reading cpio archives of the "newc" format.
//!
//! Specification: the header as Linux documents it for its initramfs
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`): a magic
//! number and thirteen fields of eight hexadecimal digits, the name with a
//! NUL, the data, each padded to four bytes; `TRAILER!!!` ends it.

use alloc::string::{String, ToString};
use core::ops::Range;

/// Files of an archive at most.
const MAX_FILES: usize = 4096;
/// Bytes of a name at most, its NUL included.
const MAX_NAME: usize = 256;
/// Bytes of a header.
const HEADER: usize = 110;

/// What is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewcError {
    /// No header where one should be.
    Magic {
        /// Where.
        offset: usize,
        /// What is there.
        found: String,
    },
    /// A field that is no number.
    Field {
        /// Which.
        field: &'static str,
        /// Where the header is.
        offset: usize,
        /// What it holds.
        value: String,
    },
    /// The archive ends too early.
    Truncated {
        /// In what.
        what: String,
        /// Where that begins.
        offset: usize,
        /// How many bytes it has.
        want: usize,
        /// How many there are.
        have: usize,
    },
    /// A name that cannot be.
    Name {
        /// Where the header is.
        offset: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A file whose sum is wrong (070702).
    Sum {
        /// Which.
        file: String,
        /// What the header says.
        want: u32,
        /// What its bytes give.
        have: u32,
    },
    /// The archive ends without `TRAILER!!!`.
    NoTrailer {
        /// Where it ends.
        offset: usize,
    },
    /// More files than are looked at.
    TooManyFiles,
}

impl core::fmt::Display for NewcError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Magic { offset, found } => write!(
                f,
                "no cpio header (070701) at byte {offset}, but {found:?}: not a newc archive, \
                 or a damaged one; make one with `kexen bundle`"
            ),
            Self::Field {
                field,
                offset,
                value,
            } => write!(
                f,
                "the header at byte {offset}: {field} is {value:?}, not eight hexadecimal digits"
            ),
            Self::Truncated {
                what,
                offset,
                want,
                have,
            } => write!(
                f,
                "truncated archive: {what} at byte {offset} has {want} bytes, {have} are there"
            ),
            Self::Name { offset, why } => {
                write!(f, "the header at byte {offset}: the name {why}")
            }
            Self::Sum { file, want, have } => {
                write!(f, "{file}: the sum is {have:#x}, not {want:#x}: damaged")
            }
            Self::NoTrailer { offset } => write!(
                f,
                "truncated archive: it ends at byte {offset} without TRAILER!!!"
            ),
            Self::TooManyFiles => write!(f, "more than {MAX_FILES} files"),
        }
    }
}

/// A file of an archive.
#[derive(Clone, Debug)]
pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) is_directory: bool,
    /// Neither that nor a link or a device.
    pub(super) is_regular: bool,
    pub(super) data: Range<usize>,
}

/// The files of an archive, in order.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    files: usize,
    ended: bool,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            files: 0,
            ended: false,
        }
    }

    /// `len` bytes from `from`, or how it is truncated.
    fn part(&self, what: &str, from: usize, len: usize) -> Result<Range<usize>, NewcError> {
        from.checked_add(len)
            .filter(|end| *end <= self.bytes.len())
            .map(|end| from..end)
            .ok_or_else(|| NewcError::Truncated {
                what: what.to_string(),
                offset: from,
                want: len,
                have: self.bytes.len().saturating_sub(from),
            })
    }

    fn file(&mut self) -> Result<Option<File<'a>>, NewcError> {
        let offset = self.at;
        let rest = self.bytes.get(offset..).unwrap_or_default();
        if rest.is_empty() {
            return Err(NewcError::NoTrailer { offset });
        }
        let magic = rest.get(..rest.len().min(6)).unwrap_or_default();
        let with_sum = magic == b"070702";
        if !with_sum && !b"070701".starts_with(magic) {
            return Err(NewcError::Magic {
                offset,
                found: String::from_utf8_lossy(magic).into_owned(),
            });
        }
        let header = self.part("a header", offset, HEADER)?;
        let header = self.bytes.get(header).unwrap_or_default();
        let field = |name, n: usize| number(header, name, n, offset);
        let mode = field("c_mode", 1)?;
        let size = field("c_filesize", 6)?;
        let name_size = field("c_namesize", 11)?;
        let want = field("c_check", 12)?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let name_size = usize::try_from(name_size).unwrap_or(usize::MAX);
        let bad = |why| NewcError::Name { offset, why };
        if !(2..=MAX_NAME).contains(&name_size) {
            return Err(bad("has not 1 to 255 bytes"));
        }
        let name = self.part("a name", offset.saturating_add(HEADER), name_size)?;
        let end = name.end;
        let name = self
            .bytes
            .get(name)
            .and_then(|name| name.strip_suffix(&[0]))
            .ok_or_else(|| bad("does not end with a NUL"))?;
        let name = core::str::from_utf8(name).map_err(|_| bad("is not UTF-8"))?;
        if name.chars().any(char::is_control) {
            return Err(bad("has control characters"));
        }
        let name = name.strip_prefix("./").unwrap_or(name);
        let data = self.part(name, pad(end), size)?;
        self.at = pad(data.end);
        if name == "TRAILER!!!" {
            return Ok(None);
        }
        if self.files == MAX_FILES {
            return Err(NewcError::TooManyFiles);
        }
        self.files = self.files.saturating_add(1);
        if with_sum {
            let bytes = self.bytes.get(data.clone()).unwrap_or_default();
            let have = bytes
                .iter()
                .fold(0_u32, |sum, byte| sum.wrapping_add((*byte).into()));
            if have != want {
                return Err(NewcError::Sum {
                    file: name.to_string(),
                    want,
                    have,
                });
            }
        }
        Ok(Some(File {
            name,
            is_directory: mode & 0o170_000 == 0o040_000,
            is_regular: mode & 0o170_000 == 0o100_000,
            data,
        }))
    }
}

/// The next multiple of four.
const fn pad(at: usize) -> usize {
    at.saturating_add(3) & !3
}

/// The n-th field of a header.
fn number(header: &[u8], field: &'static str, n: usize, offset: usize) -> Result<u32, NewcError> {
    let from = n.saturating_mul(8).saturating_add(6);
    let digits = header.get(from..from.saturating_add(8)).unwrap_or_default();
    let text = core::str::from_utf8(digits).unwrap_or("");
    let plain = digits.iter().all(u8::is_ascii_hexdigit);
    u32::from_str_radix(text, 16)
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| NewcError::Field {
            field,
            offset,
            value: String::from_utf8_lossy(digits).into_owned(),
        })
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<File<'a>, NewcError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let file = self.file().transpose();
        self.ended = !matches!(file, Some(Ok(_)));
        file
    }
}

#[cfg(test)]
mod tests {
    use super::super::write::archive;
    use super::*;
    use alloc::vec::Vec;

    fn error(bytes: &[u8]) -> NewcError {
        Reader::new(bytes).find_map(Result::err).unwrap()
    }

    #[test]
    fn truncation_says_where_and_how_much() {
        let whole = archive(&[("kernel", &[1; 100])]);
        // Header 110, name 7: data from 120 on.
        assert_eq!(
            error(&whole[..170]),
            NewcError::Truncated {
                what: "kernel".into(),
                offset: 120,
                want: 100,
                have: 50
            }
        );
        assert!(matches!(error(&whole[..50]), NewcError::Truncated { .. }));
        assert!(matches!(error(&whole[..112]), NewcError::Truncated { .. }));
        assert_eq!(error(&whole[..220]), NewcError::NoTrailer { offset: 220 });
    }

    #[test]
    fn bad_headers_are_named() {
        let whole = archive(&[("kernel", b"k")]);
        let with = |at: usize, bytes: &[u8]| {
            let mut bad = whole.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            error(&bad)
        };
        assert!(matches!(
            with(0, b"07070x"),
            NewcError::Magic { offset: 0, .. }
        ));
        assert!(matches!(
            with(54, b"+0000001"),
            NewcError::Field {
                field: "c_filesize",
                ..
            }
        ));
        assert!(matches!(with(94, b"00000001"), NewcError::Name { .. }));
        assert!(matches!(with(94, b"ffffffff"), NewcError::Name { .. }));
        assert!(matches!(with(116, b"x"), NewcError::Name { .. }));
        assert!(matches!(with(111, b"\xff"), NewcError::Name { .. }));
        assert!(matches!(with(111, b"\x07"), NewcError::Name { .. }));
        assert!(matches!(with(54, b"7fffffff"), NewcError::Truncated { .. }));
    }

    #[test]
    fn sums_are_checked() {
        let mut whole = archive(&[("kernel", b"ab")]);
        whole[5] = b'2';
        assert_eq!(
            error(&whole),
            NewcError::Sum {
                file: "kernel".into(),
                want: 0,
                have: 195
            }
        );
        whole[102..110].copy_from_slice(b"000000c3");
        let mut reader = Reader::new(&whole);
        assert!(reader.next().unwrap().is_ok());
    }

    #[test]
    fn too_many_files_are_refused() {
        let names: Vec<String> = (0..=MAX_FILES).map(|n| alloc::format!("f{n}")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
        assert_eq!(error(&archive(&files)), NewcError::TooManyFiles);
        let just_so = archive(&files[1..]);
        assert!(Reader::new(&just_so).all(|file| file.is_ok()));
    }
}
