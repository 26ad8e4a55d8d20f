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
use self::layout::ESP_MIB;
pub(crate) use self::layout::{DiskLayout, UUID};
pub(crate) use self::partitions::{assemble, one_linux};
use self::partitions::{assemble_all, assemble_large};
use super::build::{self, Variant};
use super::other_elf::Form;
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
    write(&root, layout.files(cmdline))?;
    if layout == DiskLayout::Chain {
        let loader = root.join("boot/xen/pvboot-x86_64.elf");
        fs::create_dir_all(root.join("boot/xen"))?;
        let image = build::image(Variant::Normal)?;
        fs::copy(image.stripped, loader).context("the boot image")?;
    }
    if layout == DiskLayout::GrubElf {
        let image = fs::read(build::image(Variant::Normal)?.stripped)?;
        fs::write(root.join("boot/other.elf"), Form::Narrow.of(&image)?)?;
    }
    let bytes = fs::metadata(kernel)?.len() + fs::metadata(initrd)?.len();
    let mib = ((bytes >> 20) * 5 / 4 + 24).max(layout.fs().least());
    let part = scratch.join("part");
    layout.fs().make(&root, &part, mib)?;
    if let Some((sector, text)) = layout.sector() {
        use std::os::unix::fs::FileExt as _;
        let file = fs::File::options().write(true).open(&part)?;
        file.write_all_at(text.as_bytes(), sector << 9)?;
    }
    let esp = scratch.join("esp");
    let mut parts = vec![(part.as_path(), mib)];
    if let Some(files) = layout.esp() {
        let root = scratch.join("esp-root");
        write(&root, files)?;
        Fs::Fat.make(&root, &esp, ESP_MIB)?;
        parts.insert(0, (&esp, ESP_MIB));
    }
    // Each under a name of its own: dom0 keeps what it was given.
    let disk = scratch.join(format!("{name}.img"));
    match layout.table(mib) {
        Some(_) if layout == DiskLayout::BlsLarge => assemble_large(&disk, &part, mib)?,
        Some(table) => assemble_all(&disk, &parts, &table)?,
        None => fs::rename(&part, &disk)?,
    }
    Ok(disk)
}

/// Writes files into a folder.
fn write(root: &Path, files: impl IntoIterator<Item = (&'static str, String)>) -> Result<()> {
    for (name, text) in files {
        let file = root.join(name);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, text)?;
    }
    Ok(())
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
        let all = DiskLayout::ALL.into_iter().chain(DiskLayout::CHOOSERS);
        for layout in all.chain(more) {
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
