//! btrfs, read by `lambutter`.
//!
//! Specification: Linux's `include/uapi/linux/btrfs_tree.h` and the btrfs
//! documentation. The library checks the sums of tables if they are CRC-32C; the
//! other three kinds are checked here (`sums`). It reads files compressed with
//! zlib, LZO or zstd, and copies on one disk (single, DUP, RAID1 with a
//! copy here); other profiles are refused. It does not check the sums of data
//! and does not replay the log tree, which holds what was synced (`fsync`)
//! after the last commit and before a crash: where there is one, the file system
//! is read as it was at that commit, and [`FileSystem::note`] says so.
//!
//! `/` is the default subvolume, as a plain mount shows it. A path whose first
//! name is not there is tried from the top level instead, as GRUB and those
//! who write its configuration know it (`/@/boot/vmlinuz`,
//! `/@/.snapshots/1/snapshot`). Paths lead through subvolumes. Links are
//! followed here ([`super::walk`]) and [`super::budget`] bounds what is read.
//!
//! Version 0.5.0 adds up two numbers of a compressed extent without a check: a
//! table in which they are too large is refused as it is read.

use alloc::{boxed::Box, format, rc::Rc, string::String, vec::Vec};
use core::cell::RefCell;

use lambutter::{BlockRead, Error, Path};

mod sums;

use self::sums::Sums;
use super::{
    File, FileSystem, FsError, Metadata, Problem,
    budget::{Budget, Refused},
    walk::{self, Kind, Tree, walk},
};
use crate::BlockSource;

/// Where the superblock is.
const SUPERBLOCK: u64 = 0x1_0000;
/// The subvolume that holds all others.
const TOP_LEVEL: u64 = 5;
/// Where the superblock says where the log tree is; 0 without one.
const LOG_ROOT: usize = 0x60;
/// What a log tree means for who reads.
const NOT_REPLAYED: &str =
    "its log is not replayed: what was synced after the last commit is as it was before";

/// A btrfs file system.
#[derive(Debug)]
pub struct Btrfs {
    default: Subvolume,
    top: Option<Subvolume>,
    has_log: bool,
    label: String,
    uuid: String,
}

/// What a path is looked up in.
struct Subvolume {
    fs: RefCell<lambutter::Btrfs<Reader>>,
    budget: Rc<Budget>,
    sums: SharedSums,
}

/// Nothing if the library knows them.
type SharedSums = Rc<RefCell<Option<Sums>>>;

impl core::fmt::Debug for Subvolume {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Subvolume")
            .field(&self.fs.borrow().subvolume())
            .finish()
    }
}

struct Reader {
    budget: Rc<Budget>,
    /// The file system's UUID, which is in each table.
    id: [u8; 16],
    sums: SharedSums,
}

impl BlockRead for Reader {
    type Error = Refused;

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Refused> {
        self.budget.read(offset, into)?;
        if let Some(sums) = &mut *self.sums.borrow_mut() {
            sums.convert(&self.id, into);
        }
        if into.get(0x20..0x30) == Some(&self.id) && has_wild_extent(into) {
            let what = format!("an extent's offset in the table at byte {offset:#x}");
            return Err(self.budget.refuse(Problem::Corrupt(what)));
        }
        Ok(())
    }
}

/// The type of a key of an extent of a file.
const EXTENT_DATA: u8 = 108;
/// More than any file has.
const WILD: u64 = 1 << 60;

/// Whether a leaf has an extent of a file (`btrfs_file_extent_item`) whose
/// offset or length is beyond reason.
fn has_wild_extent(leaf: &[u8]) -> bool {
    // `btrfs_header`: 101 bytes, the number of items and the level at its end.
    let Some((header, body)) = leaf.split_at_checked(101) else {
        return false;
    };
    let u32_at = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
        bytes.copied().map_or(0, u32::from_le_bytes)
    };
    if header.get(100) != Some(&0) {
        return false;
    }
    let count = usize::try_from(u32_at(header, 96)).unwrap_or(0);
    // `btrfs_item`: a key of 17 bytes, then offset and size of its data.
    let items = body.chunks_exact(25).take(count);
    let mut extents = items.filter(|item| item.get(8) == Some(&EXTENT_DATA));
    extents.any(|item| {
        let at = usize::try_from(u32_at(item, 17)).unwrap_or(usize::MAX);
        let data = body.get(at..).unwrap_or_default();
        let is_wild = |at: usize| {
            let bytes = data.get(at..).and_then(<[u8]>::first_chunk);
            bytes.copied().map_or(0, u64::from_le_bytes) > WILD
        };
        // Inline ones (type 0) have data there.
        data.get(20).is_some_and(|kind| *kind != 0) && (is_wild(37) || is_wild(45))
    })
}

/// The library's error in our words.
fn problem(error: &Error, budget: &Budget) -> Problem {
    if let Some(problem) = budget.failed() {
        return problem;
    }
    match error {
        Error::NotFound => Problem::Missing,
        Error::NotARegularFile => Problem::NotAFile,
        Error::UnsupportedProfile("prof_other_device") => {
            Problem::Unsupported("a part of it is on another disk alone".into())
        }
        Error::UnsupportedFeature(_)
        | Error::UnsupportedProfile(_)
        | Error::UnsupportedChecksum(_) => Problem::Unsupported(format!("{error}")),
        error => Problem::Corrupt(format!("{error}")),
    }
}

/// An inode with the path that leads to it, links resolved: the library reads
/// directories and links by path.
#[derive(Clone)]
pub(super) struct Node {
    path: String,
    inode: lambutter::Inode,
    kind: Kind,
    len: u64,
}

/// A path of the library.
fn path_of(path: &str) -> Path<'_> {
    // Paths here are empty or begin with `/`.
    Path::new(path.as_bytes()).unwrap_or_else(|| Path::from("/"))
}

impl Subvolume {
    fn open(
        source: Rc<dyn BlockSource>,
        id: [u8; 16],
        superblock: &[u8],
        top: bool,
    ) -> Result<Self, Problem> {
        let budget = Budget::new(source);
        budget.begin(0);
        let sums = Rc::new(RefCell::new(Sums::new(superblock)));
        let reader = Reader {
            budget: budget.clone(),
            id,
            sums: sums.clone(),
        };
        let fs = if top {
            lambutter::Btrfs::open_subvol_id(reader, budget.bytes(), TOP_LEVEL)
        } else {
            lambutter::Btrfs::open(reader, budget.bytes())
        };
        let fs = fs.map_err(|error| problem(&error, &budget))?;
        Ok(Self {
            fs: RefCell::new(fs),
            budget,
            sums,
        })
    }

    /// Runs one operation of the library.
    fn run<T>(
        &self,
        data: u64,
        operation: impl FnOnce(&mut lambutter::Btrfs<Reader>) -> Result<T, Error>,
    ) -> Result<T, Problem> {
        self.budget.begin(data);
        if let Some(sums) = &mut *self.sums.borrow_mut() {
            sums.begin();
        }
        let result = operation(&mut self.fs.borrow_mut());
        result.map_err(|error| problem(&error, &self.budget))
    }

    fn node(&self, path: String) -> Result<Node, Problem> {
        let (inode, found) = self.run(0, |fs| {
            let inode = fs.resolve(path_of(&path))?;
            Ok((inode, fs.metadata(&inode)?))
        })?;
        Ok(Node {
            path,
            inode,
            kind: Kind::from_mode(found.mode),
            len: found.size,
        })
    }
}

impl Tree for Subvolume {
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
        let target = self.run(0, |fs| fs.read_link(path_of(&node.path)))?;
        String::from_utf8(target).map_err(|_| Problem::Unsupported("a link not in UTF-8".into()))
    }
}

impl Btrfs {
    /// Opens the file system on a disk or partition.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn open(source: Rc<dyn BlockSource>) -> Result<Self, FsError> {
        let mut superblock = [0; 0x24b];
        let read = source.read_at(SUPERBLOCK, &mut superblock);
        read.map_err(|error| walk::at("")(error.into()))?;
        let uuid = superblock.get(0x20..).and_then(<[u8]>::first_chunk);
        let uuid = uuid.copied().unwrap_or_default();
        // Tables may have another than the one that is shown.
        let has_metadata_uuid = superblock.get(0xbd).is_some_and(|byte| byte & 0x04 != 0);
        let id = superblock.get(0x23b..).and_then(<[u8]>::first_chunk);
        let id = id.copied().filter(|_| has_metadata_uuid).unwrap_or(uuid);
        let log_root = superblock.get(LOG_ROOT..).and_then(<[u8]>::first_chunk);
        let label = superblock.get(0x12b..0x22b).unwrap_or_default();
        let default =
            Subvolume::open(source.clone(), id, &superblock, false).map_err(walk::at(""))?;
        let is_top = default.fs.borrow().subvolume() == TOP_LEVEL;
        let top = if is_top {
            None
        } else {
            Some(Subvolume::open(source, id, &superblock, true).map_err(walk::at(""))?)
        };
        Ok(Self {
            default,
            top,
            has_log: log_root.is_some_and(|at| u64::from_le_bytes(*at) != 0),
            label: super::text(label),
            uuid: super::uuid(&uuid),
        })
    }

    /// Looks for a path in the default subvolume; if its first name is not
    /// there, from the top level. What was found, and in which.
    fn either<T>(
        &self,
        path: &str,
        look: impl Fn(&Subvolume, &str) -> Result<T, Problem>,
    ) -> Result<(&Subvolume, T), FsError> {
        let found = look(&self.default, path).map(|found| (&self.default, found));
        let Some(top) = &self.top else {
            return found.map_err(walk::at(path));
        };
        let first = path.split('/').find(|name| !name.is_empty());
        let is_here = |first| !matches!(walk(&self.default, first), Err(Problem::Missing));
        match (found, first) {
            (Err(Problem::Missing), Some(first)) if !is_here(first) => look(top, path)
                .map(|found| (top, found))
                .map_err(walk::at(path)),
            (found, _) => found.map_err(walk::at(path)),
        }
    }
}

impl FileSystem for Btrfs {
    fn kind(&self) -> &'static str {
        "btrfs"
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn note(&self) -> Option<&str> {
        self.has_log.then_some(NOT_REPLAYED)
    }

    fn metadata(&self, path: &str) -> Result<Metadata, FsError> {
        let (_, node) = self.either(path, walk)?;
        Ok(Metadata {
            kind: node.kind.into(),
            len: node.len,
        })
    }

    fn read_dir(&self, path: &str) -> Result<Vec<String>, FsError> {
        let (subvolume, node) = self.either(path, walk::directory)?;
        let names = subvolume
            .run(0, |fs| fs.read_dir(path_of(&node.path)))
            .map_err(walk::at(path))?;
        walk::check_names(names.len()).map_err(walk::at(path))?;
        let names = names.into_iter();
        Ok(names
            .filter_map(|entry| String::from_utf8(entry.name).ok())
            .collect())
    }

    fn read_link(&self, path: &str) -> Result<Option<String>, FsError> {
        let (_, target) = self.either(path, walk::read_link)?;
        Ok(target)
    }

    fn open(&self, path: &str) -> Result<Box<dyn File + '_>, FsError> {
        let (subvolume, node) = self.either(path, walk::regular)?;
        Ok(Box::new(OpenFile {
            subvolume,
            path: path.into(),
            inode: node.inode,
            bytes: node.len,
        }))
    }
}

struct OpenFile<'a> {
    subvolume: &'a Subvolume,
    path: String,
    inode: lambutter::Inode,
    bytes: u64,
}

impl File for OpenFile<'_> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), FsError> {
        walk::check_range(&self.path, self.bytes, offset, into.len())?;
        let want = into.len();
        // A compressed extent is at most 128 KiB of the file, and is read
        // whole for each piece of it.
        let data = u64::try_from(want).unwrap_or(u64::MAX).saturating_mul(2);
        let have = self
            .subvolume
            .run(data, |fs| fs.read_file_at(&self.inode, offset, into))
            .map_err(walk::at(&self.path))?;
        if let Some(sums) = &*self.subvolume.sums.borrow() {
            sums.restore(offset, into);
        }
        if have == want {
            return Ok(());
        }
        let what = "the file ends before its length";
        Err(walk::at(&self.path)(Problem::Corrupt(what.into())))
    }
}
