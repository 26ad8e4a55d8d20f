//! What is on a disk: partitions, file systems and their files, read only.
//!
//! | module | what it is |
//! |---|---|
//! | [`source`] | where bytes come from: a disk, a partition, a cache over one |
//! | [`partition`] | GPT and MBR |
//! | [`raid`] | mirrors of Linux's RAID, from one disk |
//! | [`fs`] | the file systems, all behind [`fs::FileSystem`] |
//!
//! ```text
//! a disk's driver -> Cache -> partition::read -> Partition -> raid::member -> fs::probe -> FileSystem
//! ```
//!
//! | file system | read by | feature |
//! |---|---|---|
//! | ext2, ext3, ext4 | `ext4-view`; contents and journal here | `ext4` |
//! | XFS | `lamxfs` | `xfs` |
//! | btrfs | `lambutter` | `btrfs` |
//! | FAT12, FAT16, FAT32 | [`fs::fat`] | `fat` |
//! | ISO 9660 | [`fs::iso9660`] | `iso9660` |
//!
//! squashfs is left out: the one library for it without `std` has had two
//! releases, and it is no file system that a guest boots from.
//!
//! A file of 20 MiB that is in few pieces takes, through a [`Cache`] with its
//! default options, so many requests, opening the file system included (the
//! test `figures` counts them):
//!
//! | | read at once | in pieces of 64 KiB |
//! |---|---|---|
//! | ext4 | 7 | 32 |
//! | ext2 | 28 | 30 |
//! | XFS | 15 | 37 |
//! | btrfs | 26 | 38 |
//! | FAT32 | 4 | 26 |
//! | ISO 9660 | 2 | 24 |
//!
//! Disks are hostile: every number on one is checked before it is used, every
//! walk has an end, what is kept in memory has a bound, and nothing panics.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

extern crate alloc;

pub mod fs;
pub mod partition;
pub mod raid;
pub mod source;

pub use fs::{FileSystem, FsError};
pub use source::{BlockSource, Cache, CacheOptions, MemoryDisk, Partition, ReadError, Room};
