//! A bounded cache with read-ahead over a disk.
//!
//! Order of steps for a read:
//!
//! 1. What is as long as the longest read-ahead and begins and ends on sectors
//!    goes straight into the caller's buffer, in one request, unless all of it
//!    is kept already: a file's extent is one request.
//! 2. The rest is copied block by block out of the cache. A block that is not
//!    there is read together with those behind it: as many as the read wants,
//!    or twice as many each time reading goes on where the last such read
//!    ended.
//! 3. What was not used for longest is dropped when the budget is full.
//!
//! Disks do not change while they are read here, so nothing is ever stale.

use alloc::{collections::BTreeMap, rc::Rc, vec, vec::Vec};
use core::cell::RefCell;

use super::{BlockSource, ReadError, checked_end};

/// Sequential readers that are told apart. A file system reads its tables
/// between two pieces of a file.
const STREAMS: usize = 4;

/// How much a [`Cache`] keeps and reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Bytes that are read and kept together: a power of two, at least the
    /// disk's sector.
    pub block: u32,
    /// Bytes that are kept, at most (but one request's read-ahead always).
    pub budget: usize,
    /// Bytes of the longest request for read-ahead.
    pub read_ahead: u32,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            block: 64 << 10,
            budget: 4 << 20,
            read_ahead: 1 << 20,
        }
    }
}

impl CacheOptions {
    /// The budget of one disk's cache when there are so many disks: together
    /// they keep no more than one would.
    #[must_use]
    pub fn for_one_of(disks: usize) -> Self {
        let whole = Self::default();
        let budget = whole.budget.checked_div(disks).unwrap_or(whole.budget);
        let ahead = u32::try_from(budget).unwrap_or(u32::MAX);
        Self {
            budget,
            // What is read ahead is kept, and there is a block's worth always.
            read_ahead: whole.read_ahead.min(ahead).max(whole.block),
            ..whole
        }
    }
}

/// Whether there is memory for what the next read leads to.
pub type Room = fn() -> bool;

/// A cache over a disk.
#[derive(Debug)]
pub struct Cache {
    source: Rc<dyn BlockSource>,
    has_room: Room,
    block: usize,
    most_blocks: usize,
    most_ahead: usize,
    state: RefCell<State>,
}

struct Block {
    data: Vec<u8>,
    used: u64,
}

/// A place where reading may go on.
#[derive(Clone, Copy, Default)]
struct Stream {
    next: u64,
    blocks: usize,
    used: u64,
}

#[derive(Default)]
struct State {
    blocks: BTreeMap<u64, Block>,
    streams: [Stream; STREAMS],
    clock: u64,
    requests: u64,
    bytes: u64,
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("State")
            .field("blocks", &self.blocks.len())
            .field("requests", &self.requests)
            .field("bytes", &self.bytes)
            .finish()
    }
}

/// A length in memory as a length on a disk.
fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A length on a disk that is known to fit into memory.
fn narrow(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

impl Cache {
    /// A cache over `source`.
    #[must_use]
    pub fn new(source: Rc<dyn BlockSource>, options: CacheOptions) -> Self {
        let least = source.sector().clamp(512, 1 << 20);
        let block = options.block.clamp(least, 1 << 24).next_power_of_two();
        let block = narrow(block.into());
        let most_ahead = narrow(options.read_ahead.into())
            .checked_div(block)
            .unwrap_or(1)
            .max(1);
        let most_blocks = options
            .budget
            .checked_div(block)
            .unwrap_or(1)
            .max(most_ahead);
        Self {
            source,
            has_room: || true,
            block,
            most_blocks,
            most_ahead,
            state: RefCell::default(),
        }
    }

    /// The same, read only while there is room for what is on the disk.
    ///
    /// What the libraries for file systems keep of what they read is theirs to
    /// decide, and where memory cannot be had, a kernel ends. Whatever they keep
    /// they have read before: reads fail in time.
    #[must_use]
    pub fn with_room(self, has_room: Room) -> Self {
        Self { has_room, ..self }
    }

    /// How many requests the disk below was sent.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state.borrow().requests
    }

    /// How many bytes those asked for.
    #[must_use]
    pub fn requested_bytes(&self) -> u64 {
        self.state.borrow().bytes
    }

    /// How many bytes are kept.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        let state = self.state.borrow();
        state.blocks.values().map(|block| block.data.len()).sum()
    }

    /// One request.
    fn request(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let mut state = self.state.borrow_mut();
        state.requests = state.requests.saturating_add(1);
        state.bytes = state.bytes.saturating_add(wide(into.len()));
        drop(state);
        self.source.read_at(offset, into)
    }

    /// The number of the block that holds a byte, and where in it that is.
    fn place(&self, offset: u64) -> (u64, usize) {
        let block = wide(self.block);
        let number = offset.checked_div(block).unwrap_or(0);
        let within = offset.checked_rem(block).unwrap_or(0);
        (number, narrow(within))
    }

    /// The longest part of a read that needs no copy: from `offset`, as many
    /// bytes as are sectors.
    fn direct(&self, offset: u64, len: usize) -> Option<usize> {
        let sector = u64::from(self.source.sector());
        if offset.checked_rem(sector) != Some(0) {
            return None;
        }
        let tail = wide(len).checked_rem(sector)?;
        let whole = len.checked_sub(narrow(tail))?;
        if whole < self.block.saturating_mul(self.most_ahead) {
            return None;
        }
        let (first, _) = self.place(offset);
        let (last, _) = self.place(offset.checked_add(wide(whole))?.checked_sub(1)?);
        let state = self.state.borrow();
        // As many as the budget, or fewer: the loop is short.
        let all_kept = last.saturating_sub(first) < wide(self.most_blocks)
            && (first..=last).all(|number| state.blocks.contains_key(&number));
        (!all_kept).then_some(whole)
    }

    /// Copies from a block if it is kept.
    fn kept(&self, number: u64, within: usize, into: &mut [u8]) -> Option<usize> {
        let mut state = self.state.borrow_mut();
        state.clock = state.clock.saturating_add(1);
        let clock = state.clock;
        let block = state.blocks.get_mut(&number)?;
        block.used = clock;
        let data = block.data.get(within..)?;
        let len = data.len().min(into.len());
        into.get_mut(..len)?.copy_from_slice(data.get(..len)?);
        Some(len)
    }

    /// How many blocks to read at once from one that is not kept, when some
    /// are wanted.
    fn ahead(&self, number: u64, wanted: usize) -> usize {
        let mut state = self.state.borrow_mut();
        state.clock = state.clock.saturating_add(1);
        let used = state.clock;
        let known = state
            .streams
            .iter()
            .position(|stream| stream.next == number && stream.blocks > 0);
        let oldest = || {
            let ages = state.streams.iter().enumerate();
            ages.min_by_key(|(_, stream)| stream.used)
                .map_or(0, |(at, _)| at)
        };
        let at = known.unwrap_or_else(oldest);
        let before = known
            .and_then(|at| state.streams.get(at))
            .map_or(0, |stream| stream.blocks);
        let want = before.saturating_mul(2).max(wanted);
        let want = want.clamp(1, self.most_ahead);
        let is_free = |n: &usize| {
            let n = number.saturating_add(wide(*n));
            !state.blocks.contains_key(&n)
        };
        let mut blocks = (1..want).take_while(is_free).count().saturating_add(1);
        let (last, _) = self.place(self.source.bytes().saturating_sub(1));
        blocks = blocks.min(narrow(last.saturating_sub(number).saturating_add(1)));
        if let Some(stream) = state.streams.get_mut(at) {
            *stream = Stream {
                next: number.saturating_add(wide(blocks)),
                blocks: want,
                used,
            };
        }
        blocks
    }

    /// Reads some blocks and keeps them.
    fn fetch(&self, number: u64, blocks: usize) -> Result<(), ReadError> {
        let start = number.saturating_mul(wide(self.block));
        let len = wide(self.block).saturating_mul(wide(blocks));
        let len = len.min(self.source.bytes().saturating_sub(start));
        let mut data = vec![0; narrow(len)];
        self.request(start, &mut data)?;
        let mut state = self.state.borrow_mut();
        let room = self.most_blocks.saturating_sub(blocks);
        while state.blocks.len() > room {
            let oldest = state.blocks.iter().min_by_key(|(_, block)| block.used);
            let Some(oldest) = oldest.map(|(number, _)| *number) else {
                break;
            };
            state.blocks.remove(&oldest);
        }
        let used = state.clock;
        for (number, data) in (number..).zip(data.chunks(self.block)) {
            let data = data.to_vec();
            state.blocks.insert(number, Block { data, used });
        }
        Ok(())
    }
}

impl BlockSource for Cache {
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
        checked_end(self, offset, into.len())?;
        if !(self.has_room)() {
            return Err(ReadError {
                name: self.name().into(),
                offset,
                why: "what is on it takes more memory than is set aside for reading disks; give \
                      the guest more memory, or fewer disks and partitions"
                    .into(),
            });
        }
        let mut offset = offset;
        let mut into = into;
        while !into.is_empty() {
            let (number, within) = self.place(offset);
            let done = if let Some(len) = self.direct(offset, into.len()) {
                self.request(offset, into.get_mut(..len).unwrap_or_default())?;
                len
            } else if let Some(len) = self.kept(number, within, into) {
                len
            } else {
                let wanted = within.saturating_add(into.len()).div_ceil(self.block);
                let blocks = self.ahead(number, wanted);
                // A bad sector further on is no reason to fail here.
                match self.fetch(number, blocks) {
                    Err(_) if blocks > 1 => self.fetch(number, 1)?,
                    other => other?,
                }
                continue;
            };
            offset = offset.saturating_add(wide(done));
            into = into.get_mut(done..).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemoryDisk;

    const KIB: usize = 1 << 10;

    fn bytes(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        core::iter::repeat_with(next).take(len).collect()
    }

    fn cache(len: usize) -> (Vec<u8>, Cache) {
        let all = bytes(len);
        let disk = Rc::new(MemoryDisk::new("xvda", all.clone()));
        let options = CacheOptions {
            block: 64 << 10,
            budget: 512 * KIB,
            read_ahead: 256 << 10,
        };
        (all, Cache::new(disk, options))
    }

    #[test]
    fn reading_on_reads_ahead_and_keeps_within_the_budget() {
        let (all, cache) = cache(4 << 20);
        let mut read = Vec::new();
        for at in (0..all.len()).step_by(32 * KIB) {
            let mut part = vec![0; 32 * KIB];
            cache.read_at(wide(at), &mut part).unwrap();
            read.extend(part);
            assert!(cache.kept_bytes() <= 512 * KIB);
        }
        assert!(read == all);
        // 64, 128, then 256 KiB each.
        assert_eq!(cache.requests(), 2 + (4096 - 192_u64).div_ceil(256));
        assert_eq!(cache.requested_bytes(), 4 << 20);
    }

    #[test]
    fn reading_here_and_there_does_not() {
        let (_, cache) = cache(4 << 20);
        for at in [3_u64 << 20, 1 << 20, 2 << 20] {
            cache.read_at(at, &mut [0; 512]).unwrap();
        }
        assert_eq!((cache.requests(), cache.requested_bytes()), (3, 192 << 10));
    }

    #[test]
    fn large_reads_go_straight_through() {
        let (all, cache) = cache(2 << 20);
        let mut part = vec![0; (1 << 20) + 100];
        cache.read_at(4096, &mut part).unwrap();
        assert!(part == all[4096..4096 + part.len()]);
        // The tail of 100 bytes comes with its block.
        assert_eq!(cache.requests(), 2);
        assert_eq!(cache.kept_bytes(), 64 * KIB);
        cache.read_at(1 << 20, &mut part[..64 * KIB]).unwrap();
        assert_eq!(cache.requests(), 2, "kept already");
    }

    #[test]
    fn any_read_gives_the_right_bytes() {
        let (all, cache) = cache((1 << 20) + 1536);
        let noise = bytes(6000);
        for n in noise.chunks(6) {
            let from = usize::from(n[0]) << 12 | usize::from(n[1]) << 4 | usize::from(n[2] & 15);
            let len = (usize::from(n[3]) << 10 | usize::from(n[4])) >> (n[5] & 15);
            let from = from.min(all.len());
            let end = from.saturating_add(len).min(all.len());
            let mut part = vec![0; end - from];
            cache.read_at(wide(from), &mut part).unwrap();
            assert!(part == all[from..end], "{from}..{end}");
            assert!(cache.kept_bytes() <= 512 * KIB);
        }
    }

    #[test]
    fn beyond_the_end_is_an_error() {
        let (all, cache) = cache(128 * KIB);
        let end = wide(all.len());
        assert!(cache.read_at(end, &mut []).is_ok());
        for at in [end - 1, end, u64::MAX] {
            let error = cache.read_at(at, &mut [0; 2]).unwrap_err();
            assert_eq!((error.name.as_str(), error.offset), ("xvda", at));
        }
    }

    /// A disk with a bad byte.
    #[derive(Debug)]
    struct Bad(MemoryDisk, u64);

    impl BlockSource for Bad {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn bytes(&self) -> u64 {
            self.0.bytes()
        }
        fn sector(&self) -> u32 {
            self.0.sector()
        }
        fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
            if (offset..offset + wide(into.len())).contains(&self.1) {
                return Err(ReadError {
                    name: "xvda".into(),
                    offset,
                    why: "bad".into(),
                });
            }
            self.0.read_at(offset, into)
        }
    }

    #[test]
    fn a_bad_sector_ahead_does_no_harm() {
        let disk = Bad(MemoryDisk::new("xvda", bytes(1 << 20)), 400 << 10);
        let cache = Cache::new(Rc::new(disk), CacheOptions::default());
        for at in (0..384_u64 << 10).step_by(4096) {
            cache.read_at(at, &mut [0; 4096]).unwrap();
        }
        assert!(cache.read_at(400 << 10, &mut [0; 1]).is_err());
    }
}
