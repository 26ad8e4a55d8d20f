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
//! their hash trees allow. That is before the library searches them, so that
//! what it goes through is known, and what it finds cannot be anything else.

use alloc::{format, rc::Rc, vec, vec::Vec};

use super::{
    super::{Problem, walk},
    field,
    shown::Descriptors,
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
    descriptors: Descriptors,
    descriptor_bytes: u64,
    has_sums: bool,
    has_large: bool,
}

/// What is read of an inode.
struct Inode {
    len: u64,
    flags: u32,
    map: [u8; 60],
}

/// A tree of extents.
struct Leaves {
    /// In order.
    written: Vec<Extent>,
    has_unwritten: bool,
    /// Bytes of its blocks.
    nodes: u64,
}

/// A directory that the library may search.
#[derive(Debug)]
pub(super) struct Directory {
    extents: Vec<Extent>,
    len: u64,
    block: u64,
    /// It has a tree of hashes.
    is_hashed: bool,
    /// The library takes the sums of that tree's nodes.
    has_sums: bool,
    /// Bytes of the nodes of its tree of extents, or of its pointers.
    nodes: u64,
    /// Bytes that the library goes through to find a name.
    pub(super) search: u64,
}

impl Directory {
    /// Bytes that the library goes through to list it.
    pub(super) const fn listing(&self) -> u64 {
        self.nodes.saturating_add(self.len)
    }

    /// Checks a block, or the beginning of one: to take the sum of a node of
    /// hashes, the library cuts out as many as it claims to have, and panics if
    /// they are not there.
    fn check_hashes(&self, at: u64, block: &[u8]) -> Result<(), Problem> {
        if !self.is_hashed || !self.has_sums {
            return Ok(());
        }
        let fits = |start: usize| {
            let count = u64::from(u16_at(block, start.saturating_add(2)));
            let start = u64::try_from(start).unwrap_or(0);
            count.saturating_mul(8).saturating_add(start) <= self.block
        };
        let is_inner = u64::from(u16_at(block, 4)) == self.block;
        if (at == 0 && !fits(0x20)) || (is_inner && !fits(0x8)) {
            return Err(Problem::Corrupt(
                "a tree of hashes has a node with too many entries".into(),
            ));
        }
        Ok(())
    }
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
            u64::from(u16_at(superblock, 0xfe))
        } else {
            32
        };
        // Linux demands it; the library puts others elsewhere.
        if !descriptor_bytes.is_power_of_two() {
            return None;
        }
        let block = 1024_u64.checked_shl(field(superblock, 0x18))?;
        Some(Self {
            source,
            block,
            // In revision 0 too, as the library has it: none that it opens is.
            inode_bytes: u16_at(superblock, 0x58).into(),
            inodes_per_group: field(superblock, 0x28),
            inodes: field(superblock, 0x0),
            descriptors: Descriptors::new(superblock, block, descriptor_bytes)?,
            descriptor_bytes,
            // metadata_csum
            has_sums: field(superblock, 0x64) & 0x400 != 0,
            // large_dir
            has_large: incompat & 0x4000 != 0,
        })
    }

    /// Where the descriptors are.
    pub(super) fn descriptors(&self) -> Descriptors {
        self.descriptors.clone()
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
        let at = self.descriptors.at(group);
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
        // The upper half of a directory's means something else, but with
        // `large_dir`.
        let high = if is_directory && !self.has_large {
            0
        } else {
            field(&inode, 0x6c)
        };
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
        Ok(match self.leaves(inode)? {
            Some(leaves) => Map::Extents(leaves.written),
            None => Map::Pointers(inode.map),
        })
    }

    /// The tree of extents of an inode, if it has one.
    fn leaves(&self, inode: &Inode) -> Result<Option<Leaves>, Problem> {
        let refuse = |what: &str| Err(Problem::Unsupported(what.into()));
        match inode.flags {
            flags if flags & 0x800 != 0 => refuse("encrypted files"),
            flags if flags & 0x1000_0000 != 0 => refuse("data in an inode"),
            flags if flags & 0x8_0000 != 0 => self.extents(inode).map(Some),
            _ => Ok(None),
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

    /// The extents of an inode.
    fn extents(&self, inode: &Inode) -> Result<Leaves, Problem> {
        let mut has_unwritten = false;
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
                    has_unwritten = true;
                    continue;
                }
                if extents.len() >= MOST_EXTENTS {
                    return Err(walk::limit("extents of a file", MOST_EXTENTS));
                }
                let at = block.saturating_mul(self.block);
                extents.push(Extent { from, bytes, at });
            }
        }
        let nodes = u64::try_from(nodes).unwrap_or(u64::MAX);
        Ok(Leaves {
            written: extents,
            has_unwritten,
            nodes: nodes.saturating_mul(self.block),
        })
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

    /// Of the length that the library has found.
    fn inode_of(&self, number: u32, len: u64) -> Result<Inode, Problem> {
        let inode = self.inode(number)?;
        if inode.len != len {
            return Err(Problem::Corrupt("a file has two lengths".into()));
        }
        Ok(inode)
    }

    /// Where the bytes of a file are, which is of `len` bytes.
    pub(super) fn of(&self, number: u32, len: u64) -> Result<Map, Problem> {
        self.map(&self.inode_of(number, len)?)
    }

    /// Bytes that the library goes through to read a link of `len` bytes.
    pub(super) fn link(&self, number: u32, len: u64) -> Result<u64, Problem> {
        let inode = self.inode_of(number, len)?;
        // Shorter ones are in the inode.
        if len < 60 {
            return Ok(0);
        }
        let leaves = self.leaves(&inode)?;
        Ok(leaves.map_or(0, |leaves| leaves.nodes))
    }

    /// A directory of `len` bytes. What would have the library find names in
    /// blocks that [`Self::lookup`] does not search is refused; Linux makes no
    /// such directories.
    pub(super) fn directory(&self, number: u32, len: u64) -> Result<Directory, Problem> {
        let bad = |what: &str| Err(Problem::Corrupt(format!("a directory has {what}")));
        let inode = self.inode_of(number, len)?;
        let blocks = len.div_ceil(self.block.max(1));
        let (extents, nodes) = match self.leaves(&inode)? {
            Some(leaves) if leaves.has_unwritten => return bad("blocks that were not written"),
            Some(leaves) => (leaves.written, leaves.nodes),
            None => {
                let extents = self.pointed(&inode.map, 0, len)?;
                (extents, blocks.saturating_mul(4))
            }
        };
        let end = blocks.saturating_mul(self.block);
        let last = extents.last().filter(|_| inode.flags & 0x8_0000 != 0);
        if last.is_some_and(|last| last.from.saturating_add(last.bytes) > end) {
            return bad("blocks behind its end");
        }
        let is_hashed = inode.flags & 0x1000 != 0;
        let search = if is_hashed {
            // From the first extent on for the root, for each level, and for
            // the block with the name.
            let mut root = [0; 32];
            self.read(&extents, 0, &mut root)?;
            let depth = root.get(0x1e).copied().map_or(0, u64::from);
            let each = nodes.saturating_add(self.block);
            each.saturating_mul(depth.saturating_add(2))
        } else {
            nodes.saturating_add(len)
        };
        Ok(Directory {
            extents,
            len,
            block: self.block,
            is_hashed,
            has_sums: self.has_sums,
            nodes,
            search,
        })
    }

    /// Checks a directory that is to be listed.
    pub(super) fn check_listing(&self, directory: &Directory) -> Result<(), Problem> {
        let mut at = 0_u64;
        while directory.is_hashed && at < directory.len {
            let mut head = [0; 36];
            self.read(&directory.extents, at, &mut head)?;
            directory.check_hashes(at, &head)?;
            at = at.saturating_add(self.block);
        }
        Ok(())
    }

    /// The inode of a name in a directory.
    pub(super) fn lookup(&self, directory: &Directory, name: &str) -> Result<Option<u32>, Problem> {
        let mut found = None;
        let mut block = vec![0; usize::try_from(self.block).unwrap_or(0)];
        let mut at = 0_u64;
        while at < directory.len {
            self.read(&directory.extents, at, &mut block)?;
            directory.check_hashes(at, &block)?;
            at = at.saturating_add(self.block);
            let mut rest = block.as_slice();
            while rest.len() > 8 {
                let (inode, len) = (field(rest, 0), usize::from(u16_at(rest, 4)));
                let name_len = usize::from(*rest.get(6).unwrap_or(&0));
                let text = rest.get(8..).and_then(|text| text.get(..name_len));
                if inode != 0 && text == Some(name.as_bytes()) {
                    // The library may find either.
                    let other = found.replace(inode);
                    if other.is_some_and(|other| other != inode) {
                        return Err(Problem::Corrupt("a name stands for two files".into()));
                    }
                }
                // 0 and 65535 are 65536, the whole block.
                if len < 8 {
                    break;
                }
                rest = rest.get(len..).unwrap_or_default();
            }
        }
        Ok(found)
    }
}
