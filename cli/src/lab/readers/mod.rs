//! The readers of `crates/disk` against Linux: images that the real `mkfs`
//! made and a real Linux aged, each with a manifest of what Linux reads there.
//!
//! Order of steps: `mkfs` on the host; Debian's kernel in QEMU, without Xen,
//! mounts the images, ages them (`lab/ager`), unmounts them or crashes, and
//! says with `find`, `stat` and `sha256sum` what it reads (`lab/readers/init`).
//! Image and manifest are kept; to compare them needs no QEMU.

pub(crate) mod boot;
pub(crate) mod compare;
mod file_disk;
mod guest;
pub(crate) mod make;
pub(crate) mod manifest;
pub(crate) mod table;

pub(crate) use file_disk::FileDisk;
