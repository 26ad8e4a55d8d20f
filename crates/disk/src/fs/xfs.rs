//! XFS, read by `lamxfs`.
//!
//! Specification: "XFS Algorithms & Data Structures". The library reads
//! versions 4 and 5, checks the sums of version 5's tables and replays its log
//! in memory; a log it cannot replay, files on a realtime device and a file
//! system that ignores the case of names are refused. Links are followed here
//! ([`super::walk`]), and [`super::budget`] bounds what it reads: a file's
//! table of extents alone may otherwise take 65536 blocks.

use alloc::{boxed::Box, format, rc::Rc, string::String, vec::Vec};
use core::cell::RefCell;

use lamxfs::{BlockRead, Error, Path};

use super::{
    File, FileSystem, FsError, Metadata, Problem,
    budget::{Budget, Refused},
    walk::{self, Kind, Tree, walk},
};
use crate::BlockSource;

/// Bytes of a log that may be read when the file system is opened. The library
/// replays up to 128 MiB.
pub const MOST_LOG: u64 = 256 << 20;

/// An XFS file system.
pub struct Xfs {
    fs: RefCell<lamxfs::Xfs<Reader>>,
    budget: Rc<Budget>,
    label: String,
    uuid: String,
}

impl core::fmt::Debug for Xfs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Xfs")
            .field("label", &self.label)
            .field("uuid", &self.uuid)
            .finish_non_exhaustive()
    }
}

struct Reader(Rc<Budget>);

impl BlockRead for Reader {
    type Error = Refused;

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Refused> {
        self.0.read(offset, into)
    }
}

/// The library's error in our words.
fn problem(error: &Error, budget: &Budget) -> Problem {
    match error {
        Error::Io { .. } => budget
            .failed()
            .unwrap_or_else(|| Problem::Corrupt(error.token().into())),
        Error::NotFound { component } if *component == "no_such_entry" => Problem::Missing,
        Error::NotFound { component } if *component == "not_a_directory" => Problem::NotADirectory,
        Error::NotARegularFile => Problem::NotAFile,
        Error::UnsupportedFeature(what) => Problem::Unsupported((*what).into()),
        Error::BadSuperblock(reason) => match error.token() {
            "sb_dirty_log" => Problem::Unsupported(
                "a log that cannot be replayed here: mount and unmount it once".into(),
            ),
            "sb_external_log" => Problem::Unsupported("a log on another disk".into()),
            "sb_realtime_device" => Problem::Unsupported("a realtime device".into()),
            "sb_unsupported_version" => Problem::Unsupported("this version of XFS".into()),
            _ => Problem::Corrupt(format!("superblock: {reason:?}")),
        },
        Error::BadCrc { ag, ag_block, what } => Problem::Corrupt(format!(
            "the sum of {what} is wrong (group {ag}, block {ag_block})"
        )),
        Error::Inconsistent { token, where_ } => Problem::Corrupt(format!("{token}: {where_:?}")),
        error => Problem::Corrupt(error.token().into()),
    }
}

/// An inode with the path that leads to it, links resolved: the library looks
/// names up by path.
#[derive(Clone)]
pub(super) struct Node {
    path: String,
    inode: lamxfs::Inode,
    kind: Kind,
    len: u64,
}

impl Xfs {
    /// Opens the file system on a disk or partition.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn open(source: Rc<dyn BlockSource>) -> Result<Self, FsError> {
        let budget = Budget::new(source);
        budget.begin(MOST_LOG);
        let fs = lamxfs::Xfs::open(Reader(budget.clone()), budget.bytes())
            .map_err(|error| walk::at("")(problem(&error, &budget)))?;
        Ok(Self {
            label: fs.label().unwrap_or_default().into(),
            uuid: super::uuid(&fs.uuid()),
            fs: RefCell::new(fs),
            budget,
        })
    }

    /// Runs one operation of the library.
    fn run<T>(
        &self,
        data: u64,
        operation: impl FnOnce(&mut lamxfs::Xfs<Reader>) -> Result<T, Error>,
    ) -> Result<T, Problem> {
        self.budget.begin(data);
        let result = operation(&mut self.fs.borrow_mut());
        result.map_err(|error| problem(&error, &self.budget))
    }

    fn node(&self, path: String) -> Result<Node, Problem> {
        let (inode, found) = self.run(0, |fs| {
            let inode = fs.resolve(Path::new(path.as_bytes()))?;
            Ok((inode, fs.metadata(&inode)?))
        })?;
        Ok(Node {
            path,
            inode,
            kind: Kind::from_mode(found.mode()),
            len: found.size(),
        })
    }
}

impl Tree for Xfs {
    type Node = Node;

    fn root(&self) -> Result<Node, Problem> {
        self.node(String::new())
    }

    fn kind(&self, node: &Node) -> Kind {
        node.kind
    }

    fn lookup(&self, directory: &Node, name: &str) -> Result<Node, Problem> {
        self.node(format!("{}/{name}", directory.path))
    }

    fn link(&self, node: &Node) -> Result<String, Problem> {
        // The library would take a length of 256 MiB.
        if node.len > u64::try_from(walk::MOST_PATH).unwrap_or(0) {
            return Err(walk::limit("bytes of a path", walk::MOST_PATH));
        }
        let target = self.run(0, |fs| fs.read_link(Path::new(node.path.as_bytes())))?;
        String::from_utf8(target).map_err(|_| Problem::Unsupported("a link not in UTF-8".into()))
    }
}

impl FileSystem for Xfs {
    fn kind(&self) -> &'static str {
        "xfs"
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn metadata(&self, path: &str) -> Result<Metadata, FsError> {
        let node = walk(self, path).map_err(walk::at(path))?;
        Ok(Metadata {
            kind: node.kind.into(),
            len: node.len,
        })
    }

    fn read_dir(&self, path: &str) -> Result<Vec<String>, FsError> {
        let node = walk::directory(self, path).map_err(walk::at(path))?;
        let names = self
            .run(0, |fs| fs.read_dir(Path::new(node.path.as_bytes())))
            .map_err(walk::at(path))?;
        walk::check_names(names.len()).map_err(walk::at(path))?;
        let names = names.into_iter();
        Ok(names
            .filter_map(|entry| String::from_utf8(entry.name).ok())
            .collect())
    }

    fn read_link(&self, path: &str) -> Result<Option<String>, FsError> {
        walk::read_link(self, path).map_err(walk::at(path))
    }

    fn open(&self, path: &str) -> Result<Box<dyn File + '_>, FsError> {
        let node = walk::regular(self, path).map_err(walk::at(path))?;
        Ok(Box::new(OpenFile {
            fs: self,
            path: path.into(),
            inode: node.inode,
            bytes: node.len,
        }))
    }
}

struct OpenFile<'a> {
    fs: &'a Xfs,
    path: String,
    inode: lamxfs::Inode,
    bytes: u64,
}

impl File for OpenFile<'_> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), FsError> {
        walk::check_range(&self.path, self.bytes, offset, into.len())?;
        let want = into.len();
        let data = u64::try_from(want).unwrap_or(u64::MAX);
        let have = self
            .fs
            .run(data, |fs| fs.read_file_at(&self.inode, offset, into))
            .map_err(walk::at(&self.path))?;
        if have == want {
            return Ok(());
        }
        let what = "the file ends before its length";
        Err(walk::at(&self.path)(Problem::Corrupt(what.into())))
    }
}
