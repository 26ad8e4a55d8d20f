//! A journal that has to be replayed, in memory.
//!
//! Specification: Linux's `Documentation/filesystems/ext4/journal.rst`; all of
//! it is big-endian. Read here and not by `ext4-view`, which knows journals
//! with the newest checksums alone, and none that goes on at its beginning.
//!
//! Order of steps: from the journal's start, transaction by transaction, as
//! long as blocks bear its number and their sums are right; one without a
//! commit block did not happen. Then, of each block, the last copy that no
//! later transaction revoked stands for it, as [`Replayed`] has it: above it
//! everything reads a file system that was unmounted.

use alloc::{collections::BTreeMap, format, rc::Rc, vec, vec::Vec};

use super::{
    super::Problem,
    extents::{Extent, Tables},
    field,
};
use crate::{BlockSource, ReadError};

/// Blocks of a journal at most: 1 GiB of the usual ones, which is the most
/// that `mke2fs` makes by itself.
pub const MOST_JOURNAL: u32 = 1 << 18;
/// Blocks that a replay puts in others' place, and revocations: what is
/// remembered of each costs memory.
pub const MOST_REPLAYED: usize = 1 << 15;

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
/// What each block of a journal that is no data begins with.
const MAGIC: u32 = 0xc03b_3998;

/// ext4's sum goes on from a seed, and its last step is left out.
pub(super) fn sum(seed: u32, parts: &[&[u8]]) -> u32 {
    let mut digest = CRC.digest_with_initial(seed.reverse_bits());
    for part in parts {
        digest.update(part);
    }
    !digest.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.copied().map_or(0, u32::from_be_bytes)
}

/// The same bytes with 0 for a number.
fn without(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let number = at.checked_add(4).and_then(|end| bytes.get_mut(at..end));
    number.unwrap_or_default().fill(0);
    bytes
}

fn damaged(what: &str) -> Problem {
    Problem::Corrupt(format!("the journal: {what}"))
}

/// A block that stands for another one.
#[derive(Clone, Copy, Debug)]
struct Copy {
    /// Where on the disk.
    at: u64,
    /// Whether it begins with the magic number in truth.
    is_escaped: bool,
    /// The number of the transaction, and the sum of the block there.
    sequence: u32,
    sum: u32,
}

/// How a journal is written.
#[derive(Clone, Copy, Debug)]
struct Format {
    is_64bit: bool,
    /// The version of its sums: 0 (none that matter), 2, 3.
    sums: u8,
    seed: u32,
}

/// A journal being read.
struct Journal<'a> {
    source: &'a dyn BlockSource,
    extents: Vec<Extent>,
    format: Format,
    block: u64,
    first: u32,
    end: u32,
}

/// What the transactions did, in order.
#[derive(Default)]
struct Log {
    /// Blocks with their copies, and in which transaction, counted from 0.
    writes: Vec<(u64, Copy, u32)>,
    revoked: Vec<(u64, u32)>,
}

impl Log {
    /// Whether there is room for what is committed and what is not yet.
    fn check_length(&self, open: &Self) -> Result<(), Problem> {
        let writes = self.writes.len().saturating_add(open.writes.len());
        let revoked = self.revoked.len().saturating_add(open.revoked.len());
        if writes.max(revoked) <= MOST_REPLAYED {
            return Ok(());
        }
        Err(Problem::Limit {
            what: "blocks in a journal to be replayed",
            limit: u64::try_from(MOST_REPLAYED).unwrap_or(0),
        })
    }
}

impl Format {
    fn new(superblock: &[u8]) -> Result<Self, Problem> {
        // Version 1 has no features.
        let incompat = match u32_at(superblock, 4) {
            3 => 0,
            4 => u32_at(superblock, 0x28),
            _ => return Err(damaged("no superblock")),
        };
        let refuse = |what: &str| Problem::Unsupported(format!("a journal with {what}"));
        if incompat & 0x4 != 0 {
            return Err(refuse("asynchronous commits"));
        }
        if incompat & 0x20 != 0 {
            return Err(refuse("fast commits"));
        }
        if incompat & !0x1f != 0 {
            return Err(refuse(&format!("features {incompat:#x}")));
        }
        let sums = match incompat & 0x18 {
            0 => 0,
            0x8 => 2,
            _ => 3,
        };
        let uuid = superblock.get(0x30..0x40).unwrap_or_default();
        let head = superblock.get(..0x400).unwrap_or_default();
        if sums > 0 && sum(u32::MAX, &[&without(head, 0xfc)]) != u32_at(head, 0xfc) {
            return Err(damaged("the sum of its superblock is wrong"));
        }
        Ok(Self {
            is_64bit: incompat & 0x2 != 0,
            sums,
            seed: sum(u32::MAX, &[uuid]),
        })
    }

    /// Bytes of a tag.
    const fn tag(self) -> usize {
        match (self.sums, self.is_64bit) {
            (3, _) => 16,
            (2, true) => 14,
            (2, false) => 10,
            (_, true) => 12,
            (_, false) => 8,
        }
    }

    /// Whether a block's own sum, at this place, is right.
    fn is_right(self, block: &[u8], at: usize) -> bool {
        self.sums == 0 || sum(self.seed, &[&without(block, at)]) == u32_at(block, at)
    }

    /// Where the sum at the end of a block is.
    const fn tail(self, block: &[u8]) -> usize {
        block
            .len()
            .saturating_sub(if self.sums == 0 { 0 } else { 4 })
    }
}

impl Journal<'_> {
    /// Where a block of the journal is on the disk.
    fn at(&self, number: u32) -> Result<u64, Problem> {
        let from = u64::from(number).saturating_mul(self.block);
        let behind = self.extents.partition_point(|extent| extent.from <= from);
        let extent = behind.checked_sub(1).and_then(|at| self.extents.get(at));
        let at = extent.and_then(|extent| {
            let within = from.checked_sub(extent.from)?;
            (within < extent.bytes).then(|| extent.at.saturating_add(within))
        });
        at.ok_or_else(|| damaged("it has a hole"))
    }

    fn read(&self, at: u64) -> Result<Vec<u8>, Problem> {
        let mut block = vec![0; usize::try_from(self.block).unwrap_or(0)];
        self.source.read_at(at, &mut block)?;
        Ok(block)
    }

    /// The block behind one; it goes on at the beginning.
    const fn next(&self, number: u32) -> u32 {
        let next = number.saturating_add(1);
        if next >= self.end { self.first } else { next }
    }

    /// The transactions from a block and a number on.
    fn log(&self, start: u32, sequence: u32) -> Result<Log, Problem> {
        let mut log = Log::default();
        let mut open = Log::default();
        let (mut at, mut sequence, mut transaction) = (start, sequence, 0_u32);
        let mut left = self.end;
        while let Some(rest) = left.checked_sub(1) {
            left = rest;
            let block = self.read(self.at(at)?)?;
            if u32_at(&block, 0) != MAGIC || u32_at(&block, 8) != sequence {
                break;
            }
            at = self.next(at);
            let tail = self.format.tail(&block);
            match u32_at(&block, 4) {
                1 if self.format.is_right(&block, tail) => {
                    for (number, mut copy) in self.tags(&block, tail) {
                        let Some(rest) = left.checked_sub(1) else {
                            return Ok(log);
                        };
                        left = rest;
                        copy.at = self.at(at)?;
                        copy.sequence = sequence;
                        open.writes.push((number, copy, transaction));
                        log.check_length(&open)?;
                        at = self.next(at);
                    }
                }
                5 if self.format.is_right(&block, tail) => {
                    for number in self.revoked(&block, tail) {
                        open.revoked.push((number, transaction));
                    }
                    log.check_length(&open)?;
                }
                2 if self.format.is_right(&block, 16) => {
                    log.writes.append(&mut open.writes);
                    log.revoked.append(&mut open.revoked);
                    sequence = sequence.wrapping_add(1);
                    transaction = transaction.saturating_add(1);
                }
                _ => break,
            }
        }
        Ok(log)
    }

    /// Which blocks follow a descriptor block.
    fn tags(&self, block: &[u8], end: usize) -> Vec<(u64, Copy)> {
        let mut tags = Vec::new();
        let mut rest = block.get(12..end).unwrap_or_default();
        while let Some((tag, behind)) = rest.split_at_checked(self.format.tag()) {
            let (flags, sum) = if self.format.sums == 3 {
                (u32_at(tag, 4), u32_at(tag, 12))
            } else {
                let both = u32_at(tag, 4);
                (both & 0xffff, both >> 16)
            };
            let high = if self.format.is_64bit {
                u32_at(tag, 8)
            } else {
                0
            };
            let number = (u64::from(high) << 32) | u64::from(u32_at(tag, 0));
            let copy = Copy {
                at: 0,
                is_escaped: flags & 0x1 != 0,
                sequence: 0,
                sum,
            };
            tags.push((number, copy));
            // A UUID, where it is not the one before it.
            let skip = if flags & 0x2 == 0 { 16 } else { 0 };
            rest = behind.get(skip..).unwrap_or_default();
            if flags & 0x8 != 0 {
                break;
            }
        }
        tags
    }

    /// The numbers in a revocation block.
    fn revoked<'b>(&self, block: &'b [u8], end: usize) -> impl Iterator<Item = u64> + use<'b> {
        let is_64bit = self.format.is_64bit;
        let used = usize::try_from(u32_at(block, 12)).unwrap_or(0).min(end);
        let numbers = block.get(16..used).unwrap_or_default();
        numbers
            .chunks_exact(if is_64bit { 8 } else { 4 })
            .map(move |number| match is_64bit {
                true => (u64::from(u32_at(number, 0)) << 32) | u64::from(u32_at(number, 4)),
                false => u32_at(number, 0).into(),
            })
    }

    /// Whether a copy is what was written; Linux gives up at one that is not.
    fn check(&self, copy: &Copy) -> Result<(), Problem> {
        if self.format.sums == 0 {
            return Ok(());
        }
        let block = self.read(copy.at)?;
        let found = sum(self.format.seed, &[&copy.sequence.to_be_bytes(), &block]);
        let half = |sum: u32| {
            if self.format.sums == 2 {
                sum & 0xffff
            } else {
                sum
            }
        };
        if half(found) == half(copy.sum) {
            return Ok(());
        }
        Err(damaged("the sum of a block is wrong"))
    }
}

/// A disk with what is in its journal.
#[derive(Debug)]
pub(super) struct Replayed {
    source: Rc<dyn BlockSource>,
    block: u64,
    copies: BTreeMap<u64, Copy>,
    superblock: [u8; 1024],
}

impl Replayed {
    /// Replays the journal of a file system that says that it has to be.
    pub(super) fn new(source: Rc<dyn BlockSource>, superblock: &[u8]) -> Result<Self, Problem> {
        let tables = Tables::new(source.clone(), superblock)
            .ok_or_else(|| Problem::Corrupt("the size of a block or descriptor".into()))?;
        let number = field(superblock, 0xe0);
        if number == 0 {
            return Err(Problem::Unsupported("a journal on another disk".into()));
        }
        let extents = tables.mapped(number)?;
        let block = tables.block();
        let mut journal = Journal {
            source: &*source,
            extents,
            format: Format {
                is_64bit: false,
                sums: 0,
                seed: 0,
            },
            block,
            first: 0,
            end: 1,
        };
        let head = journal.read(journal.at(0)?)?;
        if u32_at(&head, 0) != MAGIC || u64::from(u32_at(&head, 0xc)) != block {
            return Err(damaged("no superblock"));
        }
        journal.format = Format::new(&head)?;
        (journal.first, journal.end) = (u32_at(&head, 0x14), u32_at(&head, 0x10));
        if journal.end > MOST_JOURNAL {
            return Err(Problem::Limit {
                what: "blocks of a journal",
                limit: MOST_JOURNAL.into(),
            });
        }
        let start = u32_at(&head, 0x1c);
        if start >= journal.end || journal.first >= journal.end || journal.first == 0 {
            return Err(damaged("it begins beyond its end"));
        }
        let mut copies = BTreeMap::new();
        // 0: there is nothing in it.
        if start != 0 {
            let log = journal.log(start, u32_at(&head, 0x18))?;
            let revoked: BTreeMap<u64, u32> = log.revoked.into_iter().collect();
            for (number, copy, transaction) in log.writes {
                let is_gone = revoked
                    .get(&number)
                    .is_some_and(|last| *last >= transaction);
                if !is_gone {
                    copies.insert(number, copy);
                }
            }
            for copy in copies.values() {
                journal.check(copy)?;
            }
        }
        let mut replayed = Self {
            source: source.clone(),
            block,
            copies,
            superblock: [0; 1024],
        };
        let mut superblock = [0; 1024];
        replayed.overlaid(1024, &mut superblock)?;
        replayed.superblock = clean(superblock);
        Ok(replayed)
    }

    /// Reads blocks, or what stands for them.
    fn overlaid(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.source.read_at(offset, into)?;
        let len = u64::try_from(into.len()).unwrap_or(u64::MAX);
        let end = offset.saturating_add(len);
        let first = offset.checked_div(self.block).unwrap_or(0);
        let behind = end.div_ceil(self.block.max(1));
        for (number, copy) in self.copies.range(first..behind) {
            let start = number.saturating_mul(self.block);
            let (from, to) = (start.max(offset), start.saturating_add(self.block).min(end));
            let place = part(into, offset, from, to);
            let within = from.saturating_sub(start);
            self.source.read_at(copy.at.saturating_add(within), place)?;
            if copy.is_escaped && within < 4 {
                let magic = MAGIC.to_be_bytes();
                let skip = usize::try_from(within).unwrap_or(0);
                for (byte, magic) in place.iter_mut().zip(magic.iter().skip(skip)) {
                    *byte = *magic;
                }
            }
        }
        Ok(())
    }
}

/// The bytes of a buffer, which begins at an offset, from one place to another.
fn part(into: &mut [u8], offset: u64, from: u64, to: u64) -> &mut [u8] {
    let narrow = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
    into.get_mut(narrow(from)..narrow(to)).unwrap_or_default()
}

/// A superblock that does not ask for a replay any more.
fn clean(mut superblock: [u8; 1024]) -> [u8; 1024] {
    if let Some(byte) = superblock.get_mut(0x60) {
        *byte &= !0x4;
    }
    // metadata_csum
    if field(&superblock, 0x64) & 0x400 != 0 {
        let (body, end) = superblock.split_at_mut(0x3fc);
        end.copy_from_slice(&sum(u32::MAX, &[body]).to_le_bytes());
    }
    superblock
}

impl BlockSource for Replayed {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn bytes(&self) -> u64 {
        self.source.bytes()
    }

    fn sector(&self) -> u32 {
        self.source.sector()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.overlaid(offset, into)?;
        let len = u64::try_from(into.len()).unwrap_or(u64::MAX);
        let (from, to) = (offset.max(1024), offset.saturating_add(len).min(2048));
        if from < to {
            let place = part(into, offset, from, to);
            let skip = usize::try_from(from.saturating_sub(1024)).unwrap_or(0);
            for (byte, new) in place.iter_mut().zip(self.superblock.iter().skip(skip)) {
                *byte = *new;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDisk;

    const BLOCK: usize = 1024;
    /// Revocations in a block.
    const EACH: usize = (BLOCK - 16) / 4;

    /// A journal of one transaction with so many blocks of revocations, each of
    /// another block.
    fn revocations(blocks: u32) -> MemoryDisk {
        let mut bytes = vec![0_u8; BLOCK];
        let mut number = 0_u32;
        let words = |block: &mut Vec<u8>, words: &[u32]| {
            for word in words {
                block.extend(word.to_be_bytes());
            }
        };
        for _ in 0..blocks {
            words(&mut bytes, &[MAGIC, 5, 7, BLOCK as u32]);
            for _ in 0..EACH {
                number += 1;
                words(&mut bytes, &[number]);
            }
        }
        words(&mut bytes, &[MAGIC, 2, 7]);
        bytes.resize((blocks as usize + 3) * BLOCK, 0);
        MemoryDisk::new("journal", bytes)
    }

    fn log(disk: &MemoryDisk) -> Result<Log, Problem> {
        let journal = Journal {
            source: disk,
            extents: vec![Extent {
                from: 0,
                bytes: disk.bytes(),
                at: 0,
            }],
            format: Format {
                is_64bit: false,
                sums: 0,
                seed: 0,
            },
            block: BLOCK as u64,
            first: 1,
            end: u32::try_from(disk.bytes()).unwrap() / BLOCK as u32,
        };
        journal.log(1, 7)
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let most = u32::try_from(MOST_REPLAYED / EACH).unwrap();
        let found = log(&revocations(most)).unwrap();
        assert_eq!(found.revoked.len(), most as usize * EACH);
        let error = log(&revocations(most + 1)).err().unwrap();
        assert!(matches!(error, Problem::Limit { .. }), "{error:?}");
    }
}
