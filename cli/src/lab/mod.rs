//! The lab: a real Xen with a real toolstack, in QEMU.

pub(crate) mod apt;
pub(crate) mod artefacts;
pub(crate) mod bare;
pub(crate) mod boot_disk;
pub(crate) mod build;
pub(crate) mod console;
pub(crate) mod cpio;
pub(crate) mod differential;
pub(crate) mod distro;
pub(crate) mod dom0;
pub(crate) mod dom0_image;
pub(crate) mod example;
pub(crate) mod guest;
pub(crate) mod hostile;
mod hvm_file;
mod initrd;
pub(crate) mod matrix;
pub(crate) mod meanwhile;
pub(crate) mod modules;
pub(crate) mod payload;
pub(crate) mod probe;
pub(crate) mod qemu;
pub(crate) mod readers;
pub(crate) mod repack;
pub(crate) mod run_case;
pub(crate) mod stats;
pub(crate) mod talk;
