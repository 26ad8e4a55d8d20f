//! FAT12, FAT16 and FAT32 with long names.
//!
//! Specification: "Microsoft Extensible Firmware Initiative FAT32 File System
//! Specification" 1.03, and what Linux does where it leaves something open.
//!
//! Order of steps: the boot sector says where everything is (`bpb`); a
//! directory is read whole (`dir`), a file's chain of clusters as far as the
//! file is long (`chain`). Names are found whatever their case, by the long or
//! the short one. Dirty marks and the second copy of the table are ignored.

use alloc::{boxed::Box, format, rc::Rc, string::String, vec, vec::Vec};
use core::cell::RefCell;

use super::{
    File, FileSystem, FsError, Metadata, Problem,
    walk::{self, Kind, Tree, walk},
};
use crate::BlockSource;

mod bpb;
mod chain;
mod dir;

pub use chain::MOST_RUNS;
pub use dir::MOST_BYTES as MOST_DIRECTORY;

/// Directories that are kept: those of a path, mostly.
const KEPT: usize = 4;

/// A FAT file system.
pub struct Fat {
    source: Rc<dyn BlockSource>,
    layout: bpb::Layout,
    table: chain::Table,
    label: String,
    uuid: String,
    /// Directories that were looked at last, by their first clusters.
    last: RefCell<Vec<(u32, Rc<dir::Listing>)>>,
}

impl core::fmt::Debug for Fat {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Fat")
            .field("layout", &self.layout)
            .field("label", &self.label)
            .field("uuid", &self.uuid)
            .finish_non_exhaustive()
    }
}

/// The root directory, or an entry of another.
#[derive(Clone)]
pub(super) enum Node {
    Root,
    Entry(dir::Entry),
}

impl Fat {
    /// Opens the file system on a disk or partition; [`Problem::Missing`] if
    /// what is there is no FAT but some other boot sector.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn open(source: Rc<dyn BlockSource>) -> Result<Self, FsError> {
        let mut sector = [0; 512];
        let read = source.read_at(0, &mut sector);
        read.map_err(|error| walk::at("")(error.into()))?;
        let layout = bpb::Layout::parse(&sector, source.bytes()).map_err(walk::at(""))?;
        let serial = layout.serial;
        let mut fat = Self {
            source,
            layout,
            table: chain::Table::new(),
            label: String::new(),
            uuid: format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff),
            last: RefCell::default(),
        };
        let root = fat.list(&Node::Root).map_err(walk::at(""))?;
        fat.label = root.label.clone().unwrap_or_default();
        Ok(fat)
    }

    fn list(&self, node: &Node) -> Result<Rc<dir::Listing>, Problem> {
        let first = match node {
            // What an entry of the root points to is a parent's way back.
            Node::Entry(entry) if entry.cluster != 0 => entry.cluster,
            _ => self.layout.root_cluster,
        };
        let mut last = self.last.borrow_mut();
        if let Some((_, listing)) = last.iter().find(|(cluster, _)| *cluster == first) {
            return Ok(listing.clone());
        }
        let listing = Rc::new(self.list_at(first)?);
        if last.len() >= KEPT {
            last.remove(0);
        }
        last.push((first, listing.clone()));
        Ok(listing)
    }

    fn list_at(&self, first: u32) -> Result<dir::Listing, Problem> {
        let source = &*self.source;
        let most = u64::from(dir::MOST_BYTES);
        if first == 0 {
            let mut bytes = vec![0; usize::try_from(self.layout.root_bytes).unwrap_or(0)];
            source.read_at(self.layout.root, &mut bytes)?;
            return Ok(dir::parse(&bytes));
        }
        let runs = self.table.runs(source, &self.layout, first, most, true)?;
        let len = runs
            .last()
            .map_or(0, |run| run.from.saturating_add(run.bytes))
            .min(most.saturating_add(self.layout.cluster.into()));
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        chain::read(source, &runs, 0, &mut bytes)?;
        Ok(dir::parse(&bytes))
    }
}

impl Tree for Fat {
    type Node = Node;

    fn root(&self) -> Result<Node, Problem> {
        Ok(Node::Root)
    }

    fn kind(&self, node: &Node) -> Kind {
        match node {
            Node::Entry(entry) if !entry.is_directory => Kind::Regular,
            _ => Kind::Directory,
        }
    }

    fn lookup(&self, directory: &Node, name: &str) -> Result<Node, Problem> {
        let listing = self.list(directory)?;
        let found = listing
            .entries
            .iter()
            .find(|entry| dir::same(&entry.name, name) || dir::same(&entry.short, name));
        found.cloned().map(Node::Entry).ok_or(Problem::Missing)
    }

    fn link(&self, _: &Node) -> Result<String, Problem> {
        Err(Problem::Missing)
    }
}

impl FileSystem for Fat {
    fn kind(&self) -> &'static str {
        "vfat"
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn note(&self) -> Option<&str> {
        self.layout.note.as_deref()
    }

    fn metadata(&self, path: &str) -> Result<Metadata, FsError> {
        let node = walk(self, path).map_err(walk::at(path))?;
        let len = match &node {
            Node::Entry(entry) => entry.bytes.into(),
            Node::Root => 0,
        };
        Ok(Metadata {
            kind: Tree::kind(self, &node).into(),
            len,
        })
    }

    fn read_dir(&self, path: &str) -> Result<Vec<String>, FsError> {
        let node = walk::directory(self, path).map_err(walk::at(path))?;
        let listing = self.list(&node).map_err(walk::at(path))?;
        walk::check_names(listing.entries.len()).map_err(walk::at(path))?;
        let names = listing.entries.iter().map(|entry| entry.name.clone());
        Ok(names.collect())
    }

    fn read_link(&self, path: &str) -> Result<Option<String>, FsError> {
        walk::read_link(self, path).map_err(walk::at(path))
    }

    fn open(&self, path: &str) -> Result<Box<dyn File + '_>, FsError> {
        let node = walk::regular(self, path).map_err(walk::at(path))?;
        let Node::Entry(entry) = node else {
            return Err(walk::at(path)(Problem::NotAFile));
        };
        let bytes = u64::from(entry.bytes);
        let runs = self
            .table
            .runs(&*self.source, &self.layout, entry.cluster, bytes, false)
            .map_err(walk::at(path))?;
        Ok(Box::new(OpenFile {
            fs: self,
            path: path.into(),
            runs,
            bytes,
        }))
    }
}

struct OpenFile<'a> {
    fs: &'a Fat,
    path: String,
    runs: Vec<chain::Run>,
    bytes: u64,
}

impl File for OpenFile<'_> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), FsError> {
        walk::check_range(&self.path, self.bytes, offset, into.len())?;
        chain::read(&*self.fs.source, &self.runs, offset, into).map_err(walk::at(&self.path))
    }
}
