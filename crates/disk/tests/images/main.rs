//! The readers against images that the real tools made.
//!
//! Nothing is mounted and nobody needs to be root: `mke2fs -d`, `mkfs.btrfs
//! --rootdir`, a prototype for `mkfs.xfs`, mtools and xorriso fill the images.
//! A tool that is missing fails the test and names its package. What only the
//! kernel can make (btrfs with zstd and subvolumes, an aged XFS) comes from
//! fixtures, see `fixtures/README.md`.

mod btrfs;
mod content;
mod directories;
mod disk;
mod ext4;
mod fat;
mod figures;
mod hostile;
mod iso9660;
mod kernel;
mod partitions;
mod raid;
mod tools;
mod xfs;
