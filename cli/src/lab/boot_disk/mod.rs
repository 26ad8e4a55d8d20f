//! Disk images that a guest boots from: partitioned, with file systems made by
//! their real `mkfs`, a kernel, an initrd, and the configuration of a boot
//! loader as a distribution lays it out.
//!
//! | module | what it is |
//! |---|---|
//! | `layout` | the disks: partitions, file systems, configurations |
//! | `content` | unified kernel images, signatures |
//! | `file_system` | file systems of folders |
//! | `partitions` | partition tables |

mod content;
mod file_system;
mod layout;
mod partitions;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub(crate) use self::content::{Signing, public_key};
use self::content::{sign, unify};
use self::file_system::Fs;
pub(crate) use self::layout::{DiskLayout, UUID};
use self::partitions::assemble_large;
pub(crate) use self::partitions::{assemble, one_linux};
use super::build::{self, Variant};
use crate::host::tools;

/// All that decides what is on the disks.
pub(crate) const RECIPE: [&str; 5] = [
    include_str!("content.rs"),
    include_str!("file_system.rs"),
    include_str!("layout.rs"),
    include_str!("mod.rs"),
    include_str!("partitions.rs"),
];

/// Makes the image of a disk that starts this kernel, in a file of that name.
pub(crate) fn make(
    name: &str,
    layout: DiskLayout,
    kernel: &Path,
    initrd: &Path,
    cmdline: &str,
    signing: Option<Signing>,
    scratch: &Path,
) -> Result<PathBuf> {
    tools::require(&[tools::MKFS])?;
    let root = scratch.join("root");
    fs::remove_dir_all(&root).ok();
    let boot = root.join(layout.folder());
    fs::create_dir_all(&boot)?;
    if layout == DiskLayout::UkiFat {
        unify(kernel, initrd, cmdline, &boot.join("lab.efi"), scratch)?;
    } else {
        fs::copy(kernel, boot.join("vmlinuz")).context("the kernel")?;
        fs::copy(initrd, boot.join("initrd")).context("the initrd")?;
    }
    if let Some(signing) = signing {
        sign(&boot, signing, scratch)?;
    }
    for (name, text) in layout.files(cmdline) {
        let file = root.join(name);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, text)?;
    }
    if layout == DiskLayout::Chain {
        let loader = root.join("boot/xen/pvboot-x86_64.elf");
        fs::create_dir_all(root.join("boot/xen"))?;
        let image = build::image(Variant::Normal)?;
        fs::copy(image.stripped, loader).context("the boot image")?;
    }
    let bytes = fs::metadata(kernel)?.len() + fs::metadata(initrd)?.len();
    let mib = ((bytes >> 20) * 5 / 4 + 24).max(layout.fs().least());
    let part = scratch.join("part");
    layout.fs().make(&root, &part, mib)?;
    // Each under a name of its own: dom0 keeps what it was given.
    let disk = scratch.join(format!("{name}.img"));
    match layout.table(mib) {
        Some(_) if layout == DiskLayout::BlsLarge => assemble_large(&disk, &part, mib)?,
        Some(table) => assemble(&disk, &part, mib, &table)?,
        None => fs::rename(&part, &disk)?,
    }
    Ok(disk)
}

/// Makes an ext4 of a folder.
pub(crate) fn ext4(root: &Path, part: &Path, mib: u64) -> Result<()> {
    Fs::Ext4.make(root, part, mib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_can_be_made() {
        let scratch = tempfile::tempdir().unwrap();
        let (kernel, initrd) = (scratch.path().join("k"), scratch.path().join("i"));
        fs::write(&kernel, vec![1; 1_000_000]).unwrap();
        fs::write(&initrd, vec![2; 500_000]).unwrap();
        let more = [
            DiskLayout::BlsLarge,
            DiskLayout::GrubFallback,
            DiskLayout::GrubIso,
        ];
        for layout in DiskLayout::ALL.into_iter().chain(more) {
            let disk = make(
                layout.name(),
                layout,
                &kernel,
                &initrd,
                "quiet",
                None,
                scratch.path(),
            )
            .unwrap();
            assert!(fs::metadata(disk).unwrap().len() > 1 << 20, "{layout:?}");
        }
    }
}
