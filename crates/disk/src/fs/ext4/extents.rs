//! Where a file's blocks are, by its extents or its pointers.
//!
//! `ext4-view` 1.0.0 takes extents that were allocated and not written yet for
//! data, and for 32768 blocks more than they have: what was on the disk before
//! is read, and all behind it is wrong. So files with extents are read here,
//! after the library has found the file and checked the sums of its tables.
//! It also makes one request of an extent.
//!
//! Nor does it read a file in which a whole block of pointers is a hole.
//!
//! Order of steps: superblock, descriptor of the group, inode, from the root
//! directory down to the file; directories are searched from end to end, which
//! their hash trees allow.

use alloc::{format, rc::Rc, vec, vec::Vec};

use super::{
    super::{Problem, walk},
    MOST_DIRECTORY, field,
};
use crate::BlockSource;

/// Extents of a file at most: more is no boot file.
pub const MOST_EXTENTS: usize = 1 << 16;
/// Blocks of a tree of extents that are read at most.
pub const MOST_NODES: usize = 1 << 12;
/// Blocks of pointers to blocks that are read at most: those of a file of 4 GiB
/// with blocks of 1 KiB.
pub const MOST_POINTERS: usize = 1 << 14;

/// Bytes of a file that are one after another on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Where in the file.
    pub(super) from: u64,
    pub(super) bytes: u64,
    /// Where on the disk.
    pub(super) at: u64,
}

/// How the bytes of a file are found.
#[derive(Clone, Debug)]
pub(super) enum Map {
    Extents(Vec<Extent>),
    /// The pointers of an inode. What they lead to is looked for as the file is
    /// read: it lies among the data, so that a disk is read from end to end.
    Pointers([u8; 60]),
}

/// Where the tables are.
#[derive(Debug)]
pub(super) struct Tables {
    source: Rc<dyn BlockSource>,
    block: u64,
    inode_bytes: u64,
    inodes_per_group: u32,
    inodes: u32,
    descriptors: u64,
    descriptor_bytes: u64,
}

/// What is read of an inode.
struct Inode {
    len: u64,
    flags: u32,
    map: [u8; 60],
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.copied().map_or(0, u16::from_le_bytes)
}

/// A node of a tree of extents, to be read.
struct Node {
    bytes: Vec<u8>,
    /// What its depth must be, if it has a parent.
    depth: Option<u16>,
}

impl Tables {
    /// From a superblock that was checked.
    pub(super) fn new(source: Rc<dyn BlockSource>, superblock: &[u8]) -> Option<Self> {
        let incompat = field(superblock, 0x60);
        // 64bit
        let descriptor_bytes = if incompat & 0x80 != 0 {
            u16_at(superblock, 0xfe).into()
        } else {
            32
        };
        let block = 1024_u64.checked_shl(field(superblock, 0x18))?;
        // Behind the superblock; `s_first_data_block` says something else for
        // bigalloc.
        let first = if block == 1024 { 2_u64 } else { 1 };
        // Revision 0 has inodes of 128 bytes.
        let inode_bytes = match field(superblock, 0x4c) {
            0 => 128,
            _ => u16_at(superblock, 0x58).into(),
        };
        Some(Self {
            source,
            block,
            inode_bytes,
            inodes_per_group: field(superblock, 0x28),
            inodes: field(superblock, 0x0),
            descriptors: first.checked_mul(block)?,
            descriptor_bytes,
        })
    }

    /// Bytes of a block.
    pub(super) const fn block(&self) -> u64 {
        self.block
    }

    fn inode(&self, number: u32) -> Result<Inode, Problem> {
        let bad = || Problem::Corrupt(format!("there is no inode {number}"));
        let index = number.checked_sub(1).filter(|index| *index < self.inodes);
        let index = index.ok_or_else(bad)?;
        let group = index.checked_div(self.inodes_per_group).ok_or_else(bad)?;
        let within = index.checked_rem(self.inodes_per_group).ok_or_else(bad)?;
        let mut descriptor = [0; 64];
        let len = usize::try_from(self.descriptor_bytes.min(64)).unwrap_or(32);
        let at = u64::from(group)
            .saturating_mul(self.descriptor_bytes)
            .saturating_add(self.descriptors);
        let part = descriptor.get_mut(..len).unwrap_or_default();
        self.source.read_at(at, part)?;
        let (low, high) = (field(&descriptor, 0x8), field(&descriptor, 0x28));
        let table = (u64::from(high) << 32) | u64::from(low);
        let at = u64::from(within)
            .saturating_mul(self.inode_bytes)
            .saturating_add(table.saturating_mul(self.block));
        let mut inode = [0; 128];
        self.source.read_at(at, &mut inode)?;
        let map = inode.get(40..).and_then(<[u8]>::first_chunk);
        let is_directory = u16_at(&inode, 0) & 0o170_000 == 0o040_000;
        // The upper half of a directory's means something else.
        let high = if is_directory { 0 } else { field(&inode, 0x6c) };
        Ok(Inode {
            len: (u64::from(high) << 32) | u64::from(field(&inode, 0x4)),
            flags: field(&inode, 0x20),
            map: *map.ok_or_else(bad)?,
        })
    }

    /// Where all the bytes of an inode are.
    pub(super) fn mapped(&self, number: u32) -> Result<Vec<Extent>, Problem> {
        self.all(&self.inode(number)?)
    }

    fn all(&self, inode: &Inode) -> Result<Vec<Extent>, Problem> {
        match self.map(inode)? {
            Map::Extents(extents) => Ok(extents),
            Map::Pointers(pointers) => self.pointed(&pointers, 0, inode.len),
        }
    }

    fn map(&self, inode: &Inode) -> Result<Map, Problem> {
        let refuse = |what: &str| Err(Problem::Unsupported(what.into()));
        match inode.flags {
            flags if flags & 0x800 != 0 => refuse("encrypted files"),
            flags if flags & 0x1000_0000 != 0 => refuse("data in an inode"),
            flags if flags & 0x8_0000 != 0 => self.extents(inode).map(Map::Extents),
            _ => Ok(Map::Pointers(inode.map)),
        }
    }

    /// Where the bytes from one place to another are, by pointers: twelve to
    /// blocks, one each to a block of them, a block of blocks of them, and a
    /// block of those.
    fn pointed(&self, map: &[u8; 60], start: u64, end: u64) -> Result<Vec<Extent>, Problem> {
        let mut extents: Vec<Extent> = Vec::new();
        let per_block = self.block.checked_div(4).unwrap_or(0);
        let depth_of = |n: usize| u32::try_from(n.saturating_sub(11)).unwrap_or(0);
        let pointers = map.chunks_exact(4).enumerate();
        // The last one first: this is a stack.
        let mut todo: Vec<(u32, u32)> = pointers
            .map(|(n, pointer)| (field(pointer, 0), depth_of(n)))
            .rev()
            .collect();
        let (mut from, mut nodes) = (0_u64, 0_usize);
        while let Some((number, depth)) = todo.pop().filter(|_| from < end) {
            let at = u64::from(number).saturating_mul(self.block);
            let bytes = self.block.saturating_mul(per_block.saturating_pow(depth));
            let next = from.saturating_add(bytes);
            if next <= start {
                from = next;
                continue;
            }
            if number != 0 && depth > 0 {
                nodes = nodes.saturating_add(1);
                if nodes > MOST_POINTERS {
                    return Err(walk::limit("blocks of pointers", MOST_POINTERS));
                }
                let mut node = vec![0; usize::try_from(self.block).unwrap_or(0)];
                self.source.read_at(at, &mut node)?;
                let below = depth.saturating_sub(1);
                let pointers = node.chunks_exact(4).rev();
                todo.extend(pointers.map(|pointer| (field(pointer, 0), below)));
                continue;
            }
            let joins = |last: &&mut Extent| {
                last.from.saturating_add(last.bytes) == from
                    && last.at.saturating_add(last.bytes) == at
            };
            if number == 0 {
                // A hole.
            } else if let Some(last) = extents.last_mut().filter(joins) {
                last.bytes = last.bytes.saturating_add(bytes);
            } else if extents.len() >= MOST_EXTENTS {
                return Err(walk::limit("extents of a file", MOST_EXTENTS));
            } else {
                extents.push(Extent { from, bytes, at });
            }
            from = next;
        }
        Ok(extents)
    }

    /// The extents of an inode that were written, in order.
    fn extents(&self, inode: &Inode) -> Result<Vec<Extent>, Problem> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut todo = vec![Node {
            bytes: inode.map.to_vec(),
            depth: None,
        }];
        let mut nodes = 0_usize;
        let mut end = 0_u64;
        while let Some(mut node) = todo.pop() {
            let bad = |what: &str| Problem::Corrupt(format!("a tree of extents {what}"));
            if node.bytes.len() == 8 {
                // The number of a block.
                nodes = nodes.saturating_add(1);
                if nodes > MOST_NODES {
                    return Err(walk::limit("blocks of a tree of extents", MOST_NODES));
                }
                let number = node
                    .bytes
                    .first_chunk()
                    .copied()
                    .map_or(0, u64::from_le_bytes);
                node.bytes = vec![0; usize::try_from(self.block).unwrap_or(0)];
                let at = number.saturating_mul(self.block);
                self.source.read_at(at, &mut node.bytes)?;
            }
            let (magic, depth) = (u16_at(&node.bytes, 0), u16_at(&node.bytes, 6));
            if magic != 0xf30a || depth > 5 || node.depth.is_some_and(|want| want != depth) {
                return Err(bad("has a bad header"));
            }
            let count = usize::from(u16_at(&node.bytes, 2));
            let entries = node.bytes.get(12..).unwrap_or_default().chunks_exact(12);
            if count > entries.len() {
                return Err(bad("has a node with too many entries"));
            }
            let entries = entries.take(count);
            if let Some(below) = depth.checked_sub(1) {
                // The last one first: `todo` is a stack.
                let children = entries.rev().map(|entry| {
                    let block = (u64::from(u16_at(entry, 8)) << 32) | u64::from(field(entry, 4));
                    Node {
                        bytes: block.to_le_bytes().to_vec(),
                        depth: Some(below),
                    }
                });
                todo.extend(children);
                continue;
            }
            for entry in entries {
                let (first, len) = (u64::from(field(entry, 0)), u16_at(entry, 4));
                let block = (u64::from(u16_at(entry, 6)) << 32) | u64::from(field(entry, 8));
                // More than 32768: allocated, not written.
                let (len, is_written) = match len.checked_sub(0x8000) {
                    None | Some(0) => (len, true),
                    Some(len) => (len, false),
                };
                let from = first.saturating_mul(self.block);
                if from < end {
                    return Err(bad("is out of order"));
                }
                let bytes = u64::from(len).saturating_mul(self.block);
                end = from.saturating_add(bytes);
                if !is_written {
                    continue;
                }
                if extents.len() >= MOST_EXTENTS {
                    return Err(walk::limit("extents of a file", MOST_EXTENTS));
                }
                let at = block.saturating_mul(self.block);
                extents.push(Extent { from, bytes, at });
            }
        }
        Ok(extents)
    }

    /// Reads from a file.
    pub(super) fn read_by(&self, map: &Map, offset: u64, into: &mut [u8]) -> Result<(), Problem> {
        let pointers = match map {
            Map::Extents(extents) => return self.read(extents, offset, into),
            Map::Pointers(pointers) => pointers,
        };
        // As far as one block of pointers leads, at a time.
        let head = self.block.saturating_mul(12);
        let span = self.block.checked_div(4).unwrap_or(1);
        let span = span.saturating_mul(self.block).max(1);
        let (mut at, mut into) = (offset, into);
        while !into.is_empty() {
            let end = match at.checked_sub(head) {
                None => head,
                Some(behind) => {
                    let within = behind.checked_rem(span).unwrap_or(0);
                    at.saturating_add(span.saturating_sub(within))
                }
            };
            let len = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let (now, later) = into.split_at_mut(len.min(into.len()));
            let extents = self.pointed(pointers, at, end)?;
            self.read(&extents, at, now)?;
            (at, into) = (end, later);
        }
        Ok(())
    }

    /// Reads from a file of these extents; what is between them is zeros.
    fn read(&self, extents: &[Extent], offset: u64, into: &mut [u8]) -> Result<(), Problem> {
        into.fill(0);
        let len = u64::try_from(into.len()).unwrap_or(u64::MAX);
        let end = offset.saturating_add(len);
        let ends = |extent: &Extent| extent.from.saturating_add(extent.bytes);
        let first = extents.partition_point(|extent| ends(extent) <= offset);
        for extent in extents.get(first..).unwrap_or_default() {
            let (from, to) = (extent.from.max(offset), ends(extent).min(end));
            let Some(len) = to.checked_sub(from).filter(|len| *len > 0) else {
                break;
            };
            let start = usize::try_from(from.saturating_sub(offset)).unwrap_or(usize::MAX);
            let len = usize::try_from(len).unwrap_or(0);
            let part = into.get_mut(start..).and_then(|into| into.get_mut(..len));
            let at = extent.at.saturating_add(from.saturating_sub(extent.from));
            self.source.read_at(at, part.unwrap_or_default())?;
        }
        Ok(())
    }

    /// The inode of a name in a directory.
    fn lookup(&self, directory: &Inode, name: &str) -> Result<Option<u32>, Problem> {
        if directory.len > MOST_DIRECTORY {
            return Err(Problem::Limit {
                what: "bytes of a directory",
                limit: MOST_DIRECTORY,
            });
        }
        let mut bytes = vec![0; usize::try_from(directory.len).unwrap_or(0)];
        self.read(&self.all(directory)?, 0, &mut bytes)?;
        let block = usize::try_from(self.block).unwrap_or(1024).max(1);
        for block in bytes.chunks(block) {
            let mut rest = block;
            while rest.len() > 8 {
                let (inode, len) = (field(rest, 0), usize::from(u16_at(rest, 4)));
                let name_len = usize::from(*rest.get(6).unwrap_or(&0));
                let found = rest.get(8..).and_then(|text| text.get(..name_len));
                if inode != 0 && found == Some(name.as_bytes()) {
                    return Ok(Some(inode));
                }
                // 0 and 65535 are 65536, the whole block.
                if len < 8 {
                    break;
                }
                rest = rest.get(len..).unwrap_or_default();
            }
        }
        Ok(None)
    }

    /// Where the bytes of the file at a path without links are, which is of
    /// `len` bytes.
    pub(super) fn of(&self, path: &str, len: u64) -> Result<Map, Problem> {
        let mut inode = self.inode(2)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Some(number) = self.lookup(&inode, name)? else {
                return Err(Problem::Corrupt("a name is found and is not".into()));
            };
            inode = self.inode(number)?;
        }
        if inode.len != len {
            return Err(Problem::Corrupt("a file has two lengths".into()));
        }
        self.map(&inode)
    }
}
