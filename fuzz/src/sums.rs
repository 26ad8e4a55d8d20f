//! Sums of changed blocks, made right again: else no change behind one would
//! ever be looked at.

use crate::sparse::PatchedDisk;

const CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
const CRC32: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// Where XFS has the sum of a block, by the magic number at its start.
const XFS_AT_START: &[(&[u8], usize)] = &[
    (b"XFSB", 224),
    (b"XAGF", 216),
    (b"XAGI", 312),
    (b"XAFL", 32),
    (b"IN", 100),
    (b"XDB3", 4),
    (b"XDD3", 4),
    (b"XDF3", 4),
    (b"XARM", 12),
    (b"XSLM", 12),
    (b"BMA3", 64),
    (b"AB3B", 56),
    (b"AB3C", 56),
    (b"IAB3", 56),
    (b"FIB3", 56),
];

/// The same for blocks of a directory's tree, whose number is at byte 8.
const XFS_TREE: &[&[u8]] = &[&[0x3d, 0xf1], &[0x3d, 0xff], &[0x3e, 0xbe], &[0x3b, 0xee]];

fn xfs_sum_at(block: &[u8]) -> Option<usize> {
    let known = XFS_AT_START
        .iter()
        .find(|(magic, _)| block.starts_with(magic));
    let tree = || XFS_TREE.iter().any(|magic| block[8..].starts_with(magic));
    known.map(|(_, at)| *at).or_else(|| tree().then_some(12))
}

/// XFS of version 5: a sector or inode, a block of 1 KiB or one of 4 KiB.
pub(crate) fn xfs(disk: &mut PatchedDisk) {
    for number in disk.changes() {
        for sectors in [1, 2, 8] {
            let first = number & !(sectors - 1);
            let mut block = disk.block(first, sectors);
            let Some(at) = xfs_sum_at(&block) else {
                continue;
            };
            block[at..at + 4].fill(0);
            let sum = CRC32C.checksum(&block);
            block[at..at + 4].copy_from_slice(&sum.to_le_bytes());
            disk.set_block(first, &block);
        }
    }
}

/// btrfs: the superblock, and tables of 16 KiB (4 KiB where they are mixed).
pub(crate) fn btrfs(disk: &mut PatchedDisk) {
    let word = |at: usize| -> u32 {
        let bytes = disk.sector(128)[at..at + 4].first_chunk().copied();
        u32::from_le_bytes(bytes.unwrap_or_default())
    };
    let node = if word(0x94) == 4096 { 8 } else { 32 };
    for number in disk.changes() {
        let (first, sectors) = if (128..136).contains(&number) {
            (128, 8)
        } else {
            (number & !(node - 1), node)
        };
        let mut block = disk.block(first, sectors);
        let sum = CRC32C.checksum(&block[32..]);
        block[..4].copy_from_slice(&sum.to_le_bytes());
        disk.set_block(first, &block);
    }
}

/// GPT: the entries behind (or before) each of the two headers, and these.
pub(crate) fn gpt(disk: &mut PatchedDisk) {
    let changes = disk.changes();
    let headers = changes
        .iter()
        .copied()
        .filter(|number| disk.sector(*number).starts_with(b"EFI PART"));
    let ends = [1, 4095];
    for header in headers.chain(ends).collect::<Vec<_>>() {
        let mut sector = disk.sector(header);
        let word = |at: usize| -> u32 {
            let bytes = sector[at..at + 4].first_chunk().copied();
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let (first, count, size) = (word(72), word(80), word(84));
        let bytes = count.saturating_mul(size);
        if bytes <= 1 << 16 {
            let entries = disk.block(first, bytes.div_ceil(512));
            let len = usize::try_from(bytes).unwrap_or(0);
            let sum = CRC32.checksum(&entries[..len]);
            sector[88..92].copy_from_slice(&sum.to_le_bytes());
        }
        let len = usize::try_from(u32::from_le_bytes([
            sector[12], sector[13], sector[14], sector[15],
        ]));
        sector[16..20].fill(0);
        let covered = sector.get(..len.unwrap_or(0)).unwrap_or(&sector);
        let sum = CRC32.checksum(covered);
        sector[16..20].copy_from_slice(&sum.to_le_bytes());
        disk.set_block(header, &sector);
    }
}

/// A superblock of Linux's RAID, version 1, with as many devices as it says.
pub(crate) fn raid(block: &mut [u8]) {
    let devices = u16::from_le_bytes([block[0xdc], block[0xdd]]);
    block[0xd8..0xdc].fill(0);
    let end = (0x100 + usize::from(devices) * 2).min(block.len());
    let sum: u64 = block[..end]
        .chunks(4)
        .map(|word| {
            let mut all = [0; 4];
            all[..word.len()].copy_from_slice(word);
            u64::from(u32::from_le_bytes(all))
        })
        .sum();
    let folded = (sum & 0xffff_ffff) + (sum >> 32);
    block[0xd8..0xdc].copy_from_slice(&folded.to_le_bytes()[..4]);
}
