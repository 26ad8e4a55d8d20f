//! Sums of tables other than CRC-32C, which is the only one that `lambutter`
//! 0.5.0 knows.
//!
//! They are checked here as a table is read, and the library is given the same
//! table with its CRC-32C. Which there are: Linux's `btrfs_csums`
//! (`fs/btrfs/fs.c`), xxHash64 with the seed 0, SHA-256, BLAKE2b of 256 bits;
//! each of all that is behind the 32 bytes that hold it.

use alloc::vec::Vec;

use blake2::{Blake2b, Digest as _, digest::consts::U32};
use sha2::Sha256;

/// Bytes of the superblock.
const SUPERBLOCK: usize = 4096;
/// Where it says which sum is used.
const TYPE: core::ops::Range<usize> = 0xc4..0xc6;
/// Bytes of a table, or of the superblock, that hold its sum.
const SUM: usize = 32;
/// Bytes by which a table is known again: its sum, the file system, its address.
const HEAD: usize = 0x40;
/// A copy of a table in a file begins on such a border.
const BORDER: u64 = 4096;

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// A kind of sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Xxhash,
    Sha256,
    Blake2b,
}

impl Kind {
    /// Which one a superblock names, if it is none that the library knows.
    fn of(superblock: &[u8]) -> Option<Self> {
        match superblock.get(TYPE)? {
            [1, 0] => Some(Self::Xxhash),
            [2, 0] => Some(Self::Sha256),
            [3, 0] => Some(Self::Blake2b),
            _ => None,
        }
    }

    /// Whether a table has the right sum.
    fn is_right(self, table: &[u8]) -> bool {
        let Some((sum, body)) = table.split_at_checked(SUM) else {
            return false;
        };
        match self {
            Self::Xxhash => {
                let have = twox_hash::XxHash64::oneshot(0, body);
                sum.starts_with(&have.to_le_bytes())
            }
            Self::Sha256 => sum == Sha256::digest(body).as_slice(),
            Self::Blake2b => sum == Blake2b::<U32>::digest(body).as_slice(),
        }
    }
}

/// Gives a table the sum that the library takes for right.
fn convert(table: &mut [u8]) {
    if let Some((sum, body)) = table.split_at_mut_checked(SUM) {
        sum.fill(0);
        if let Some(sum) = sum.first_chunk_mut() {
            *sum = CRC.checksum(body).to_le_bytes();
        }
    }
}

/// A table that was given another sum.
struct Converted {
    was: [u8; SUM],
    head: [u8; HEAD],
}

/// The sums of a file system.
pub(super) struct Sums {
    kind: Kind,
    /// Bytes of a table.
    node: usize,
    /// Those of the last operation.
    converted: Vec<Converted>,
}

impl Sums {
    /// Those that a superblock names; nothing if the library knows them.
    pub(super) fn new(superblock: &[u8]) -> Option<Self> {
        let node = superblock.get(0x94..)?.first_chunk()?;
        Some(Self {
            kind: Kind::of(superblock)?,
            node: usize::try_from(u32::from_le_bytes(*node)).ok()?,
            converted: Vec::new(),
        })
    }

    /// Begins an operation.
    pub(super) fn begin(&mut self) {
        self.converted.clear();
    }

    /// Converts what was read, if it is a table of the file system `id`, or a
    /// superblock, and has the right sum.
    pub(super) fn convert(&mut self, id: &[u8; 16], bytes: &mut [u8]) {
        if bytes.len() == SUPERBLOCK && bytes.get(0x40..0x48) == Some(b"_BHRfS_M") {
            let Some(kind) = Kind::of(bytes) else {
                return;
            };
            let is_right = kind.is_right(bytes);
            bytes.get_mut(TYPE).unwrap_or_default().fill(0);
            convert(bytes);
            // A wrong one stays wrong.
            if let Some(first) = bytes.first_mut().filter(|_| !is_right) {
                *first = !*first;
            }
        } else if bytes.len() == self.node
            && bytes.get(0x20..0x30) == Some(id)
            && self.kind.is_right(bytes)
        {
            let was = bytes.first_chunk().copied();
            convert(bytes);
            let head = bytes.first_chunk().copied();
            let both = was.zip(head);
            self.converted
                .extend(both.map(|(was, head)| Converted { was, head }));
        }
    }

    /// Puts sums back in data, read from an offset of a file: it may hold a copy
    /// of a table of its own file system.
    pub(super) fn restore(&self, offset: u64, data: &mut [u8]) {
        let past = offset.checked_rem(BORDER).unwrap_or(0);
        let first = usize::try_from(BORDER.saturating_sub(past)).unwrap_or(0);
        let skip = if past == 0 { 0 } else { first };
        let border = usize::try_from(BORDER).unwrap_or(SUPERBLOCK);
        let Some(data) = data.get_mut(skip..) else {
            return;
        };
        for page in data.chunks_mut(border) {
            let found = |table: &&Converted| page.starts_with(&table.head);
            let Some(table) = self.converted.iter().find(found) else {
                continue;
            };
            let place = page.first_chunk_mut();
            if let Some(place) = place {
                *place = table.was;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{boxed::Box, vec};

    const ID: [u8; 16] = [7; 16];

    fn table(kind: u8) -> (Vec<u8>, Sums) {
        let mut superblock = vec![0; SUPERBLOCK];
        superblock[0xc4] = kind;
        superblock[0x94..0x98].copy_from_slice(&8192_u32.to_le_bytes());
        let mut table = vec![3; 8192];
        table[0x20..0x30].copy_from_slice(&ID);
        let sum: Box<[u8]> = match kind {
            1 => twox_hash::XxHash64::oneshot(0, &table[32..])
                .to_le_bytes()
                .into(),
            2 => Sha256::digest(&table[32..]).as_slice().into(),
            _ => Blake2b::<U32>::digest(&table[32..]).as_slice().into(),
        };
        table[..32].fill(0);
        table[..sum.len()].copy_from_slice(&sum);
        (table, Sums::new(&superblock).unwrap())
    }

    #[test]
    fn right_sums_are_converted_and_put_back() {
        for kind in 1..=3 {
            let (was, mut sums) = table(kind);
            let mut bytes = was.clone();
            sums.convert(&ID, &mut bytes);
            let crc = CRC.checksum(&was[32..]).to_le_bytes();
            assert_eq!((&bytes[..4], &bytes[4..32]), (&crc[..], &[0; 28][..]));
            assert!(bytes[32..] == was[32..]);
            // In a file, from the middle of a page on.
            let mut data = [&[1; 1000], bytes.as_slice()].concat();
            sums.restore(4096 - 1000, &mut data);
            assert!(data[1000..] == was);
            sums.begin();
            sums.restore(0, &mut bytes);
            assert!(bytes != was);
        }
    }

    #[test]
    fn wrong_sums_stay_wrong() {
        for kind in 1..=3 {
            let (mut was, mut sums) = table(kind);
            was[5000] ^= 1;
            let mut bytes = was.clone();
            sums.convert(&ID, &mut bytes);
            assert!(bytes == was);
            sums.convert(&[8; 16], &mut bytes);
            sums.convert(&ID, &mut bytes[..100]);
            sums.convert(&ID, &mut []);
            assert!(bytes == was);
        }
        assert!(Sums::new(&[0; SUPERBLOCK]).is_none());
    }
}
