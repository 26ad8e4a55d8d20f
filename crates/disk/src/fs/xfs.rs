//! XFS, read by `lamxfs`.
//!
//! Specification: "XFS Algorithms & Data Structures". The library reads
//! versions 4 and 5, checks the sums of version 5's tables and replays its log
//! in memory; a log it cannot replay and a file system that ignores the case of
//! names are refused. Links are followed here ([`super::walk`]), and
//! [`super::budget`] bounds what it reads: a file's table of extents alone may
//! otherwise take 65536 blocks.
//!
//! Version 0.1.3 refuses what has a realtime device beside it. All names and most
//! files are on the main one, so the library is shown a superblock without it. A
//! file on the other says so in its inode (`XFS_DIFLAG_REALTIME` in Linux's
//! `fs/xfs/libxfs/xfs_format.h`), and is refused here; so is one whose inode is in
//! the log alone.

use alloc::{boxed::Box, format, rc::Rc, string::String, vec::Vec};
use core::cell::{Cell, RefCell};

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
    realtime: Rc<Realtime>,
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

struct Reader {
    budget: Rc<Budget>,
    realtime: Rc<Realtime>,
}

impl BlockRead for Reader {
    type Error = Refused;

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Refused> {
        self.budget.read(offset, into)?;
        self.realtime.see(offset, into);
        Ok(())
    }
}

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
/// Where the superblock has the blocks of a realtime device, and its sum.
const REALTIME_BLOCKS: core::ops::Range<usize> = 16..24;
const SUM: core::ops::Range<usize> = 224..228;

/// A realtime device that is kept from the library.
#[derive(Debug, Default)]
struct Realtime {
    is_there: Cell<bool>,
    /// Mode and flags of the inode that was read last.
    last: Cell<Option<(u16, u16)>>,
}

impl Realtime {
    /// Looks at what was read: hides the device from a superblock, and takes down
    /// what an inode says.
    fn see(&self, offset: u64, bytes: &mut [u8]) {
        let u16_at = |bytes: &[u8], at: usize| {
            let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
            bytes.copied().map_or(0, u16::from_be_bytes)
        };
        if offset == 0 && bytes.starts_with(b"XFSB") {
            let sector = usize::from(u16_at(bytes, 102));
            if let Some(sector) = bytes.get_mut(..sector) {
                self.hide(sector);
            }
        } else if bytes.starts_with(b"IN") {
            let said = (u16_at(bytes, 2), u16_at(bytes, 90));
            self.last.set(Some(said));
        }
    }

    /// Hides the device, and makes the sum of a superblock right again if it was.
    fn hide(&self, sector: &mut [u8]) {
        let sum_of = |sector: &[u8]| {
            let mut sector = sector.to_vec();
            sector.get_mut(SUM).unwrap_or_default().fill(0);
            CRC.checksum(&sector).to_le_bytes()
        };
        let blocks = sector.get(REALTIME_BLOCKS);
        if blocks.is_none_or(|blocks| blocks == [0; 8]) {
            return;
        }
        self.is_there.set(true);
        let is_right = sector.get(SUM) == Some(&sum_of(sector));
        sector.get_mut(REALTIME_BLOCKS).unwrap_or_default().fill(0);
        let sum = sum_of(sector);
        if let Some(place) = sector.get_mut(SUM).filter(|_| is_right) {
            place.copy_from_slice(&sum);
        }
    }

    /// Checks a regular file of this mode, whose inode was read last.
    fn check(&self, mode: u32) -> Result<(), Problem> {
        let refuse = |what: &str| Err(Problem::Unsupported(what.into()));
        match self.last.get() {
            _ if !self.is_there.get() => Ok(()),
            Some((of, flags)) if u32::from(of) == mode => match flags & 1 {
                0 => Ok(()),
                _ => refuse("a file on the realtime device"),
            },
            _ => refuse("a file that may be on the realtime device: mount and unmount it once"),
        }
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
        let realtime = Rc::new(Realtime::default());
        let reader = Reader {
            budget: budget.clone(),
            realtime: realtime.clone(),
        };
        let fs = lamxfs::Xfs::open(reader, budget.bytes())
            .map_err(|error| walk::at("")(problem(&error, &budget)))?;
        Ok(Self {
            label: fs.label().unwrap_or_default().into(),
            uuid: super::uuid(&fs.uuid()),
            fs: RefCell::new(fs),
            budget,
            realtime,
        })
    }

    /// Runs one operation of the library.
    fn run<T>(
        &self,
        data: u64,
        operation: impl FnOnce(&mut lamxfs::Xfs<Reader>) -> Result<T, Error>,
    ) -> Result<T, Problem> {
        self.budget.begin(data);
        self.realtime.last.set(None);
        let result = operation(&mut self.fs.borrow_mut());
        result.map_err(|error| problem(&error, &self.budget))
    }

    fn node(&self, path: String) -> Result<Node, Problem> {
        let (inode, found) = self.run(0, |fs| {
            let inode = fs.resolve(Path::new(path.as_bytes()))?;
            Ok((inode, fs.metadata(&inode)?))
        })?;
        let kind = Kind::from_mode(found.mode());
        if kind == Kind::Regular {
            self.realtime.check(found.mode())?;
        }
        Ok(Node {
            path,
            inode,
            kind,
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
