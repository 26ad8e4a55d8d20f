//! The lab's other disks: what guests boot from, and the disks of
//! distributions. Linux looks at them as they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::super::artefacts::{Flavour, Kernel};
use super::super::boot_disk::{self, DiskLayout};
use super::super::distro::Distro;
use super::guest::{Disk, Guest};
use crate::host::{cache, tools};

/// A disk with one file system.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    pub(crate) name: &'static str,
    pub(crate) image: PathBuf,
    /// Where its manifest is.
    pub(crate) dir: PathBuf,
}

/// How Linux calls the partition with the file system, and how it mounts it.
const fn place(layout: DiskLayout) -> (&'static str, &'static str, &'static str) {
    match layout {
        DiskLayout::ExtlinuxExt4 => ("", "ext4", ""),
        DiskLayout::GrubIso => ("", "iso9660", ""),
        DiskLayout::GrubExt4 | DiskLayout::Chain => ("5", "ext4", ""),
        DiskLayout::BlsExt4 | DiskLayout::BlsLarge | DiskLayout::GrubFallback => ("1", "ext4", ""),
        DiskLayout::GrubXfs => ("1", "xfs", ""),
        DiskLayout::GrubBtrfs => ("1", "btrfs", ""),
        DiskLayout::SystemdFat | DiskLayout::UkiFat => ("1", "vfat", ",utf8=1"),
    }
}

/// The disks that the lab's guests boot from.
pub(crate) fn layouts() -> Result<Vec<Looked>> {
    tools::require_lab()?;
    tools::require(&[tools::IMAGES, tools::MKFS])?;
    let guest = Guest::new()?;
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let initrd = kernel.test_initrd(0, "")?;
    let recipe = format!(
        "boot disks 1\n{}\n{}\n{}\n{}",
        include_str!("../boot_disk.rs"),
        kernel.identity()?,
        cache::sha256_file(&initrd)?,
        guest.recipe()?,
    );
    let why = "disks that guests boot from, as Linux reads them";
    let dir = cache::get("readers-boot", why, &recipe, |dir| {
        let scratch = tempfile::tempdir_in(dir)?;
        let mut disks = Vec::new();
        let mut script = String::new();
        for layout in DiskLayout::ALL {
            let name = layout.name();
            let cmdline = "console=hvc0";
            let made = boot_disk::make(
                name,
                layout,
                &kernel.image,
                &initrd,
                cmdline,
                None,
                scratch.path(),
            )?;
            let image = dir.join(format!("{name}.img"));
            fs::rename(made, &image)?;
            let (partition, kind, options) = place(layout);
            script.push_str(&format!("look '{name}' {kind} '{options}' '{partition}'\n"));
            disks.push((name, image));
        }
        let disks: Vec<Disk<'_>> = disks
            .iter()
            .map(|(name, file)| looked_at(name, file))
            .collect();
        guest.run(&disks, &script, scratch.path(), dir)
    })?;
    let looked = DiskLayout::ALL.map(|layout| Looked {
        name: layout.name(),
        image: dir.join(format!("{}.img", layout.name())),
        dir: dir.clone(),
    });
    Ok(looked.into())
}

fn looked_at<'a>(name: &'a str, file: &'a Path) -> Disk<'a> {
    Disk {
        name,
        file,
        sector: 512,
        is_written: false,
    }
}

/// A distribution's disk, if there is one already.
pub(crate) fn distro(distro: Distro) -> Result<Option<Looked>> {
    let Some(image) = distro.cached()? else {
        return Ok(None);
    };
    tools::require_lab()?;
    let guest = Guest::new()?;
    let name = distro.name();
    let folder = image.parent().unwrap_or(Path::new("."));
    let identity = fs::read_to_string(folder.join("manifest.txt"))?;
    let recipe = format!("distro 1\n{identity}\n{}", guest.recipe()?);
    let why = "a distribution's disk, as Linux reads it";
    let dir = cache::get(&format!("readers-{name}"), why, &recipe, |dir| {
        let scratch = tempfile::tempdir_in(dir)?;
        let script = format!("look '{name}' ext4 '' 1\n");
        guest.run(&[looked_at(name, &image)], &script, scratch.path(), dir)
    })?;
    Ok(Some(Looked { name, image, dir }))
}
