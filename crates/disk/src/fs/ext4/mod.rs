//! ext2, ext3 and ext4, read by `ext4-view`.
//!
//! Specification: Linux's `Documentation/filesystems/ext4`. The library finds
//! names and checks the sums of tables. It reads 32 KiB at a time: a
//! [`crate::Cache`] should be below it. What it does not say (which of the
//! three it is) is read from the superblock here, by `blkid`'s rules.
//!
//! What version 1.0.0 would do with a hostile disk is prevented here:
//!
//! - it allocates for as many groups as the superblock claims: the claim is
//!   checked against the disk first;
//! - it allocates for as long a link as the inode claims: links are followed
//!   here ([`super::walk`]), and their length is checked first;
//! - it searches a directory of any length: the length is checked first;
//! - it goes through a directory's tree of extents once for each level of the
//!   tree of hashes, and again for each name below, wherever they lead and how
//!   often; it keeps the blocks it has read last, so that it need not read to
//!   do that for hours: the tree is looked at first (`extents`), and what all
//!   this is together, on the whole path, has the same bound as reads;
//! - it panics if a node of hashes, of which it takes the sum, claims to have
//!   more than fit: they are looked at first;
//! - it panics if a file is longer than its blocks can be: files are not read
//!   by it;
//! - what it reads for one operation has a bound ([`super::budget`]).
//!
//! What is in files is read here (`extents`), and so is a journal (`journal`):
//! the library takes what was allocated and not written for data, cannot pass
//! over a block of pointers that is a hole, and replays the newest kind of
//! journal alone.
//!
//! What it refuses and need not know is kept from it (`shown`): `meta_bg`,
//! `large_dir`, `mmp` and `ea_inode`.
//!
//! Not read: `inline_data`, a journal on another disk, fast commits, and
//! encrypted files; each is an error that says so.

use alloc::{
    boxed::Box,
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use ext4_view::Ext4Error;

mod extents;
mod journal;
mod shown;

pub use extents::{MOST_EXTENTS, MOST_NODES, MOST_POINTERS};
pub use journal::{MOST_JOURNAL, MOST_REPLAYED};

use super::{
    File, FileSystem, FsError, Metadata, Problem,
    budget::Budget,
    walk::{self, Kind, Tree, walk},
};
use crate::BlockSource;

/// Bytes of a file that can be read; no more than the pointers of ext2 reach
/// with blocks of 1 KiB.
pub const MOST_BYTES: u64 = 16 << 30;
/// Bytes of a directory.
pub const MOST_DIRECTORY: u64 = 16 << 20;
/// Groups of blocks: 32 TiB of the usual ones.
pub const MOST_GROUPS: u64 = 1 << 18;

/// An ext2, ext3 or ext4 file system.
#[derive(Debug)]
pub struct Ext4 {
    fs: ext4_view::Ext4,
    kind: &'static str,
    label: String,
    uuid: String,
    budget: Rc<Budget>,
    tables: extents::Tables,
}

/// What a path, its links resolved, stands for.
#[derive(Clone)]
pub(super) struct Node {
    path: String,
    /// Of its inode.
    number: u32,
    /// Bytes that the library goes through to find it.
    search: u64,
    kind: Kind,
    len: u64,
}

impl Node {
    /// The path as the library wants it.
    fn full(&self) -> &str {
        if self.path.is_empty() {
            "/"
        } else {
            &self.path
        }
    }
}

/// The library's error in our words.
fn problem(error: &Ext4Error, budget: &Budget) -> Problem {
    match error {
        Ext4Error::NotFound => Problem::Missing,
        Ext4Error::NotADirectory => Problem::NotADirectory,
        Ext4Error::IsADirectory | Ext4Error::IsASpecialFile => Problem::NotAFile,
        // A name of more than 255 bytes.
        Ext4Error::MalformedPath => Problem::Missing,
        Ext4Error::PathTooLong => walk::limit("bytes of a path", walk::MOST_PATH),
        Ext4Error::Encrypted => Problem::Unsupported("encrypted files".into()),
        Ext4Error::Incompatible(what) => Problem::Unsupported(format!("{what}")),
        Ext4Error::Io(error) => budget
            .failed()
            .unwrap_or_else(|| Problem::Corrupt(format!("{error}"))),
        error => Problem::Corrupt(format!("{error}")),
    }
}

/// A number of a superblock.
fn field(superblock: &[u8], at: usize) -> u32 {
    let bytes = superblock.get(at..).and_then(<[u8]>::first_chunk);
    bytes.copied().map_or(0, u32::from_le_bytes)
}

/// Whether the file system fits on a disk of so many bytes, which Linux
/// demands too, and has groups of a sensible size.
fn check_geometry(superblock: &[u8], bytes: u64) -> Result<(), Problem> {
    let field = |at| field(superblock, at);
    let blocks = (u64::from(field(0x150)) << 32) | u64::from(field(0x4));
    let size = 1024_u64.checked_shl(field(0x18)).unwrap_or(0);
    if blocks.checked_mul(size).is_none_or(|end| end > bytes) {
        return Err(Problem::Corrupt(format!(
            "{blocks} blocks of {size} bytes do not fit on a disk of {bytes} bytes"
        )));
    }
    let groups = blocks.checked_div(field(0x20).into());
    if groups.is_none_or(|groups| groups > MOST_GROUPS) {
        return Err(Problem::Limit {
            what: "groups of blocks",
            limit: MOST_GROUPS,
        });
    }
    Ok(())
}

/// Which of the three it is, by `blkid`'s rules: `ext4` is what has anything
/// that the drivers of the older two would refuse.
fn kind(superblock: &[u8]) -> &'static str {
    let field = |at| field(superblock, at);
    let (compat, incompat, ro_compat) = (field(0x5c), field(0x60), field(0x64));
    // has_journal
    let has_journal = compat & 0x4 != 0;
    // sparse_super, large_file, btree_dir
    let new_ro = ro_compat & !0x7 != 0;
    // filetype, meta_bg; with a journal also recover
    let known = if has_journal { 0x16 } else { 0x12 };
    match (has_journal, new_ro || incompat & !known != 0) {
        (_, true) => "ext4",
        (true, false) => "ext3",
        (false, false) => "ext2",
    }
}

impl Ext4 {
    /// Opens the file system on a disk or partition.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn open(source: Rc<dyn BlockSource>) -> Result<Self, FsError> {
        let mut superblock = [0; 1024];
        let read = source.read_at(1024, &mut superblock);
        read.map_err(|error| walk::at("")(error.into()))?;
        check_geometry(&superblock, source.bytes()).map_err(walk::at(""))?;
        // recover
        let source = if field(&superblock, 0x60) & 0x4 == 0 {
            source
        } else {
            let replayed = journal::Replayed::new(source, &superblock);
            let replayed = Rc::new(replayed.map_err(walk::at(""))?);
            let read = replayed.read_at(1024, &mut superblock);
            read.map_err(|error| walk::at("")(error.into()))?;
            check_geometry(&superblock, replayed.bytes()).map_err(walk::at(""))?;
            replayed
        };
        let tables = extents::Tables::new(source.clone(), &superblock);
        let tables =
            tables.ok_or_else(|| Problem::Corrupt("the size of a block or descriptor".into()));
        let tables = tables.map_err(walk::at(""))?;
        let budget = Budget::new(source);
        // All groups' descriptors are read.
        budget.begin(MOST_GROUPS.saturating_mul(512));
        let descriptors = tables.descriptors();
        let (reader, is_loading) = shown::Reader::new(budget.clone(), &superblock, descriptors);
        let fs = ext4_view::Ext4::load(Box::new(reader))
            .map_err(|why| walk::at("")(problem(&why, &budget)))?;
        is_loading.set(false);
        Ok(Self {
            kind: kind(&superblock),
            label: fs.label().display().to_string(),
            uuid: fs.uuid().to_string(),
            fs,
            budget,
            tables,
        })
    }

    fn problem(&self, error: &Ext4Error) -> Problem {
        problem(error, &self.budget)
    }

    fn node(&self, path: String, number: u32, search: u64) -> Result<Node, Problem> {
        let mut node = Node {
            path,
            number,
            search,
            kind: Kind::Other,
            len: 0,
        };
        self.begin(&node, 0)?;
        let found = self.fs.symlink_metadata(node.full());
        let found = found.map_err(|error| self.problem(&error))?;
        node.kind = match found.file_type() {
            ext4_view::FileType::Regular => Kind::Regular,
            ext4_view::FileType::Directory => Kind::Directory,
            ext4_view::FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        node.len = found.len();
        Ok(node)
    }

    /// A directory, before the library goes through it: it may be read whole to
    /// find a name in it.
    fn directory(&self, node: &Node) -> Result<extents::Directory, Problem> {
        if node.len > MOST_DIRECTORY {
            return Err(Problem::Limit {
                what: "bytes of a directory",
                limit: MOST_DIRECTORY,
            });
        }
        self.tables.directory(node.number, node.len)
    }

    /// Begins something that comes after the search for a node and has the
    /// library go through so many bytes more.
    fn begin(&self, node: &Node, more: u64) -> Result<(), Problem> {
        Budget::check(node.search.saturating_add(more), MOST_DIRECTORY)?;
        self.budget.begin(MOST_DIRECTORY);
        Ok(())
    }
}

impl Tree for Ext4 {
    type Node = Node;

    fn root(&self) -> Result<Node, Problem> {
        self.node(String::new(), 2, 0)
    }

    fn kind(&self, node: &Node) -> Kind {
        node.kind
    }

    fn lookup(&self, directory: &Node, name: &str) -> Result<Node, Problem> {
        let tables = self.directory(directory)?;
        let number = self.tables.lookup(&tables, name)?;
        let search = directory.search.saturating_add(tables.search);
        let path = format!("{}/{name}", directory.path);
        let node = self.node(path, number.unwrap_or(0), search)?;
        if number.is_none() {
            return Err(Problem::Corrupt("a name is found and is not".into()));
        }
        Ok(node)
    }

    fn link(&self, node: &Node) -> Result<String, Problem> {
        if node.len > u64::try_from(walk::MOST_PATH).unwrap_or(0) {
            return Err(walk::limit("bytes of a path", walk::MOST_PATH));
        }
        self.begin(node, self.tables.link(node.number, node.len)?)?;
        let target = self.fs.read_link(node.full());
        let target = target.map_err(|error| self.problem(&error))?;
        let text = target.to_str().map(String::from);
        text.map_err(|_| Problem::Unsupported("a link not in UTF-8".into()))
    }
}

impl FileSystem for Ext4 {
    fn kind(&self) -> &'static str {
        self.kind
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
        let problem = |error| walk::at(path)(self.problem(&error));
        let node = walk::directory(self, path).map_err(walk::at(path))?;
        let tables = self.directory(&node).map_err(walk::at(path))?;
        let checked = self.tables.check_listing(&tables);
        let begun = checked.and_then(|()| self.begin(&node, tables.listing()));
        begun.map_err(walk::at(path))?;
        let mut names = Vec::new();
        let entries = self.fs.read_dir(node.full()).map_err(problem)?;
        for entry in entries {
            let entry = entry.map_err(problem)?;
            let name = entry.file_name();
            match name.as_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => {
                    names.push(name.to_string());
                    walk::check_names(names.len()).map_err(walk::at(path))?;
                }
            }
        }
        Ok(names)
    }

    fn read_link(&self, path: &str) -> Result<Option<String>, FsError> {
        walk::read_link(self, path).map_err(walk::at(path))
    }

    fn open(&self, path: &str) -> Result<Box<dyn File + '_>, FsError> {
        let node = walk::regular(self, path).map_err(walk::at(path))?;
        if node.len > MOST_BYTES {
            return Err(walk::at(path)(Problem::Limit {
                what: "bytes of the file",
                limit: MOST_BYTES,
            }));
        }
        let map = self.tables.of(node.number, node.len);
        Ok(Box::new(OpenFile {
            tables: &self.tables,
            path: path.into(),
            bytes: node.len,
            map: map.map_err(walk::at(path))?,
        }))
    }
}

struct OpenFile<'a> {
    tables: &'a extents::Tables,
    path: String,
    bytes: u64,
    map: extents::Map,
}

impl File for OpenFile<'_> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), FsError> {
        walk::check_range(&self.path, self.bytes, offset, into.len())?;
        let read = self.tables.read_by(&self.map, offset, into);
        read.map_err(walk::at(&self.path))
    }
}
