//! Linux's RAID, as far as one disk of it tells.
//!
//! Specification: Linux's `include/uapi/linux/raid/md_p.h` and `drivers/md/md.c`.
//! Of a mirror (level 1) every member has all that is on it, from some place on:
//! with metadata 1.1 or 1.2 behind the superblock, with 1.0 or 0.90, whose
//! superblock is at the end, from the first sector on. So a mirror is read from
//! one member by itself, as GRUB does where the others are missing; other levels
//! are named. A member that is behind the others cannot be told from one that is
//! not without them.
//!
//! A superblock counts only with the right sum: what was on a disk before may
//! have left one.

use alloc::rc::Rc;

use crate::{BlockSource, Partition, ReadError};

const MAGIC: u32 = 0xa92b_4efc;
/// Bytes of a superblock of version 1 at most.
const BYTES: usize = 4096;
/// Where the number of entries of `dev_roles` is, and where they are.
const MOST_DEVICES: usize = 0xdc;
const ROLES: usize = 0x100;
const SUM: usize = 0xd8;

/// What a disk or partition is to a RAID.
#[derive(Clone, Debug)]
pub enum Member {
    /// A member of a mirror: what is on that.
    Mirror(Rc<dyn BlockSource>),
    /// A member from which nothing can be read by itself: why.
    Unread(&'static str),
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.copied().map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.copied().map_or(0, u64::from_le_bytes)
}

/// The sum of a superblock of version 1: of its words, a half one at the end.
fn sum(superblock: &[u8]) -> Option<u32> {
    let devices = usize::try_from(u32_at(superblock, MOST_DEVICES)).ok()?;
    let len = devices.checked_mul(2)?.checked_add(ROLES)?;
    let words = superblock.get(..len)?.chunks(4).enumerate();
    let sum: u64 = words
        .filter(|(n, _)| n.checked_mul(4) != Some(SUM))
        .map(|(_, word)| {
            let low = word.first_chunk().copied().map_or(0, u16::from_le_bytes);
            let high = word.get(2..).and_then(<[u8]>::first_chunk);
            let high = high.copied().map_or(0, u16::from_le_bytes);
            (u64::from(high) << 16) | u64::from(low)
        })
        .fold(0, u64::wrapping_add);
    let folded = (sum & 0xffff_ffff).wrapping_add(sum >> 32);
    u32::try_from(folded & 0xffff_ffff).ok()
}

/// Reads a superblock of version 1, in some sector of 512 bytes.
fn version_1(source: &dyn BlockSource, at: u64) -> Result<Option<[u8; BYTES]>, ReadError> {
    let mut bytes = [0; BYTES];
    let end = at.checked_add(u64::try_from(BYTES).unwrap_or(0));
    if end.is_none_or(|end| end > source.bytes()) {
        return Ok(None);
    }
    // Few disks have one: no more than the magic number is read of others.
    let mut magic = [0; 8];
    source.read_at(at, &mut magic)?;
    if u32_at(&magic, 0) != MAGIC || u32_at(&magic, 4) != 1 {
        return Ok(None);
    }
    source.read_at(at, &mut bytes)?;
    let is_right = u64_at(&bytes, 0x90) == at >> 9 && sum(&bytes) == Some(u32_at(&bytes, SUM));
    Ok(is_right.then_some(bytes))
}

/// Why a member's data cannot be used by itself.
fn problem(superblock: &[u8]) -> Option<&'static str> {
    let device = usize::try_from(u32_at(superblock, 0xa0)).ok();
    let role = device
        .and_then(|device| device.checked_mul(2)?.checked_add(ROLES))
        .and_then(|at| superblock.get(at..)?.first_chunk())
        .map_or(u16::MAX, |role| u16::from_le_bytes(*role));
    let features = u32_at(superblock, 0x8);
    match u32_at(superblock, 0x48) {
        1 if features & 0x4 != 0 => Some("Linux RAID that is being reshaped"),
        1 if u32::from(role) >= u32_at(superblock, 0x5c) => Some("a spare of a Linux RAID"),
        1 if features & 0x2 != 0 && u64_at(superblock, 0x98) < u64_at(superblock, 0x50) => {
            Some("a member of a Linux RAID that is being rebuilt")
        }
        1 => None,
        _ => Some("Linux RAID that is no mirror"),
    }
}

/// The level that a superblock of version 0.90 says; it is written in the byte
/// order of its machine.
fn version_0(source: &dyn BlockSource) -> Result<Option<u32>, ReadError> {
    const ROOM: u64 = 64 << 10;
    let Some(at) = (source.bytes() & !0xffff).checked_sub(ROOM) else {
        return Ok(None);
    };
    let mut bytes = [0; 32];
    source.read_at(at, &mut bytes)?;
    let is_0_90 = u32_at(&bytes, 0) == MAGIC && u32_at(&bytes, 4) == 0 && u32_at(&bytes, 8) == 90;
    Ok(is_0_90.then(|| u32_at(&bytes, 28)))
}

/// What a disk or partition is to a RAID; nothing if to none, or if it can be read
/// as it is: a mirror whose superblock is at its end.
///
/// # Errors
/// If it cannot be read.
pub fn member(source: &Rc<dyn BlockSource>) -> Result<Option<Member>, ReadError> {
    for at in [0, 4096] {
        let Some(superblock) = version_1(&**source, at)? else {
            continue;
        };
        if let Some(problem) = problem(&superblock) {
            return Ok(Some(Member::Unread(problem)));
        }
        let start = u64_at(&superblock, 0x80).checked_mul(512);
        let left = start.and_then(|start| source.bytes().checked_sub(start));
        let bytes = u64_at(&superblock, 0x50).saturating_mul(512);
        let within = start.zip(left).and_then(|(start, left)| {
            let name = source.name().into();
            Partition::new(source.clone(), name, start, bytes.min(left))
        });
        return Ok(Some(within.map_or(
            Member::Unread("Linux RAID whose data is beyond the end"),
            |within| Member::Mirror(Rc::new(within)),
        )));
    }
    // 8 KiB before the end, at a border of 4 KiB.
    let at_the_end = source.bytes().checked_sub(8 << 10).map(|at| at & !0xfff);
    let superblock = match at_the_end {
        Some(at) => version_1(&**source, at)?,
        None => None,
    };
    let level = match superblock {
        Some(superblock) => {
            return Ok(problem(&superblock).map(Member::Unread));
        }
        None => version_0(&**source)?,
    };
    let is_other = level.is_some_and(|level| level != 1);
    Ok(is_other.then_some(Member::Unread("Linux RAID that is no mirror")))
}
