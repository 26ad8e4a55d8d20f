//! File systems, read only.
//!
//! Paths begin with `/` and have `/` between names; `.`, `..` and symbolic
//! links are followed inside the file system, a bounded number of times.

use alloc::{boxed::Box, string::String, vec::Vec};

use crate::ReadError;

#[cfg(feature = "btrfs")]
pub mod btrfs;
#[cfg(any(feature = "btrfs", feature = "ext4", feature = "xfs"))]
pub mod budget;
#[cfg(feature = "ext4")]
pub mod ext4;
#[cfg(feature = "fat")]
pub mod fat;
#[cfg(feature = "iso9660")]
pub mod iso9660;
mod probe;
#[cfg(any(
    feature = "btrfs",
    feature = "ext4",
    feature = "fat",
    feature = "iso9660",
    feature = "xfs"
))]
pub mod walk;
#[cfg(feature = "xfs")]
pub mod xfs;

pub use probe::{foreign, probe};

/// What a name stands for, after symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// Bytes.
    Regular,
    /// Names.
    Directory,
    /// Anything else: devices, sockets, pipes.
    Other,
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileType,
    /// Bytes of a regular file; nothing in particular of others.
    pub len: u64,
}

/// An open regular file.
pub trait File {
    /// How long it is, in bytes.
    fn bytes(&self) -> u64;

    /// Reads as many bytes as `into` has, from any offset in bytes.
    ///
    /// # Errors
    /// If any of them is beyond the end or cannot be read.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), FsError>;
}

/// A file system on a disk or partition.
pub trait FileSystem: core::fmt::Debug {
    /// Its type as `blkid` prints it: `ext4`, `vfat`, `xfs`, `btrfs`,
    /// `iso9660`.
    fn kind(&self) -> &'static str;

    /// Its label; empty if it has none.
    fn label(&self) -> &str;

    /// Its UUID as `blkid` prints it (`1234-ABCD` for FAT); empty if it has
    /// none.
    fn uuid(&self) -> &str;

    /// What somebody should know who reads it, though it can be read.
    fn note(&self) -> Option<&str> {
        None
    }

    /// What a path stands for.
    ///
    /// # Errors
    /// See [`Problem`].
    fn metadata(&self, path: &str) -> Result<Metadata, FsError>;

    /// The names in a directory without `.` and `..`, as they are on the disk
    /// and in its order; names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// See [`Problem`]; more than [`MOST_NAMES`] are [`Problem::Limit`].
    fn read_dir(&self, path: &str) -> Result<Vec<String>, FsError>;

    /// What a symbolic link points to, the last name of its path not followed;
    /// nothing if that is no link.
    ///
    /// # Errors
    /// See [`Problem`].
    fn read_link(&self, path: &str) -> Result<Option<String>, FsError>;

    /// Opens a regular file.
    ///
    /// # Errors
    /// See [`Problem`].
    fn open(&self, path: &str) -> Result<Box<dyn File + '_>, FsError>;

    /// All of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// See [`Problem`].
    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, FsError> {
        let mut file = self.open(path)?;
        let len = file.bytes();
        let fits = usize::try_from(len).ok().filter(|_| len <= limit);
        let Some(size) = fits else {
            return Err(FsError {
                path: path.into(),
                problem: Problem::Limit {
                    what: "bytes of the file",
                    limit,
                },
            });
        };
        let mut bytes = alloc::vec![0; size];
        file.read_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// Names that a directory may have.
pub const MOST_NAMES: usize = 10_000;

/// Why a path cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is no such file or directory.
    Missing,
    /// It is a file, not a directory.
    NotADirectory,
    /// It is a directory or something else, not a regular file.
    NotAFile,
    /// Something on the disk makes no sense: what.
    Corrupt(String),
    /// Something on the disk is not understood here: what.
    Unsupported(String),
    /// There is more of something than is read.
    Limit {
        /// Of what.
        what: &'static str,
        /// The most that is read.
        limit: u64,
    },
    /// The disk could not be read.
    Read(ReadError),
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// A path, and why it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsError {
    /// Which; empty if it is about the file system itself.
    pub path: String,
    /// Why not.
    pub problem: Problem,
}

impl core::fmt::Display for Problem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Missing => f.write_str("no such file or directory"),
            Self::NotADirectory => f.write_str("not a directory"),
            Self::NotAFile => f.write_str("not a regular file"),
            Self::Corrupt(what) => write!(f, "damaged: {what}"),
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
            Self::Limit { what, limit } => write!(f, "more than {limit} {what}"),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl core::fmt::Display for FsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.path.is_empty() {
            self.problem.fmt(f)
        } else {
            write!(f, "{}: {}", self.path, self.problem)
        }
    }
}

impl core::error::Error for FsError {}

#[cfg(any(
    feature = "btrfs",
    feature = "ext4",
    feature = "fat",
    feature = "iso9660",
    feature = "xfs"
))]
impl From<walk::Kind> for FileType {
    fn from(kind: walk::Kind) -> Self {
        match kind {
            walk::Kind::Regular => Self::Regular,
            walk::Kind::Directory => Self::Directory,
            walk::Kind::Link | walk::Kind::Other => Self::Other,
        }
    }
}

/// A UUID as text.
#[cfg(any(feature = "btrfs", feature = "xfs"))]
fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&alloc::format!("{byte:02x}"));
    }
    text
}

/// Text up to a NUL; what is not UTF-8 in it is replaced.
#[cfg(feature = "btrfs")]
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
