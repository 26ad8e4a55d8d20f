//! The lab's other disks: what guests boot from, and the disks of
//! distributions. Linux looks at them as they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::super::artefacts::{Flavour, Kernel};
use super::super::boot_disk::{self, DiskLayout};
use super::super::distro::Distro;
use super::super::plain::Disk;
use super::guest::Guest;
use crate::host::{cache, tools};

/// A file system on a disk, and how Linux mounts it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// The number of its partition; 0 for the whole disk.
    pub(crate) number: u32,
    kind: &'static str,
    options: &'static str,
    /// Whether another subvolume than the top level is the default one: the
    /// top level is looked at, too.
    pub(crate) has_top: bool,
}

impl Part {
    const fn new(number: u32, kind: &'static str) -> Self {
        Self {
            number,
            kind,
            options: "",
            has_top: false,
        }
    }

    /// With all letters.
    const fn fat(number: u32) -> Self {
        let mut part = Self::new(number, "vfat");
        part.options = ",utf8=1";
        part
    }

    const fn with_top(mut self) -> Self {
        self.has_top = true;
        self
    }

    /// What ends the name of its manifest, and that of its top level's.
    pub(crate) fn endings(&self) -> (String, String) {
        let number = self.number;
        (format!(".{number}"), format!(".{number}.top"))
    }
}

/// A disk, and where its manifests are.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    pub(crate) name: &'static str,
    pub(crate) image: PathBuf,
    pub(crate) sector: u32,
    pub(crate) parts: Vec<Part>,
    pub(crate) dir: PathBuf,
}

impl Looked {
    fn new(name: &'static str, image: PathBuf, parts: Vec<Part>) -> Self {
        Self {
            name,
            image,
            sector: 512,
            parts,
            dir: PathBuf::new(),
        }
    }

    /// What the guest is to do with it.
    fn script(&self) -> String {
        let mut script = String::new();
        for part in &self.parts {
            let Self { name, .. } = self;
            let Part {
                number,
                kind,
                options,
                ..
            } = part;
            let place = match number {
                0 => String::new(),
                number => number.to_string(),
            };
            let (end, top) = part.endings();
            script += &format!("look '{name}' {kind} '{options}' '{place}' {end}\n");
            if part.has_top {
                script += &format!("look '{name}' {kind} '{options},subvolid=5' '{place}' {top}\n");
            }
        }
        script
    }

    fn disk(&self) -> Disk<'_> {
        Disk {
            name: self.name,
            file: &self.image,
            sector: self.sector,
            is_written: false,
        }
    }
}

/// What the guest is to do with some disks.
fn script(disks: &[Looked]) -> String {
    disks.iter().map(Looked::script).collect()
}

/// Has Linux look at disks.
fn look(guest: &Guest, disks: &[Looked], dir: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(dir)?;
    let all: Vec<Disk<'_>> = disks.iter().map(Looked::disk).collect();
    guest.run(&all, &script(disks), scratch.path(), dir)
}

/// Those that are looked at: not the chain, which is the disk for GRUB with
/// one file more, another one for each change of the boot image.
pub(crate) const LAYOUTS: [DiskLayout; 13] = [
    DiskLayout::BlsExt4,
    DiskLayout::GrubExt4,
    DiskLayout::GrubXfs,
    DiskLayout::GrubBtrfs,
    DiskLayout::ExtlinuxExt4,
    DiskLayout::SystemdFat,
    DiskLayout::UkiFat,
    DiskLayout::BlsLarge,
    DiskLayout::GrubFallback,
    DiskLayout::GrubIso,
    DiskLayout::RhelEfi,
    DiskLayout::GrubEnvBlock,
    DiskLayout::MenuLst,
];

/// The file systems of a disk that a guest boots from.
fn of_layout(layout: DiskLayout) -> Vec<Part> {
    match layout {
        DiskLayout::ExtlinuxExt4 => vec![Part::new(0, "ext4")],
        DiskLayout::GrubIso => vec![Part::new(0, "iso9660")],
        DiskLayout::GrubExt4 | DiskLayout::Chain | DiskLayout::GrubElf => {
            vec![Part::new(5, "ext4")]
        }
        DiskLayout::BlsExt4 | DiskLayout::BlsLarge | DiskLayout::GrubFallback => {
            vec![Part::new(1, "ext4")]
        }
        DiskLayout::GrubXfs => vec![Part::new(1, "xfs")],
        DiskLayout::MenuLst => vec![Part::new(1, "ext4")],
        DiskLayout::RhelEfi => vec![Part::fat(1), Part::new(2, "ext4")],
        DiskLayout::GrubBtrfs | DiskLayout::GrubEnvBlock => vec![Part::new(1, "btrfs")],
        DiskLayout::SystemdFat | DiskLayout::UkiFat => vec![Part::fat(1)],
    }
}

/// The file systems of a distribution's disk.
fn of_distro(distro: Distro) -> Vec<Part> {
    match distro {
        Distro::Debian12 | Distro::Debian13 => vec![Part::new(1, "ext4")],
        Distro::Fedora => vec![Part::fat(1), Part::new(2, "ext4"), Part::new(3, "btrfs")],
        Distro::RhelXfs => vec![Part::fat(1), Part::new(2, "xfs"), Part::new(3, "xfs")],
        Distro::OpenSuse => vec![Part::new(2, "btrfs").with_top()],
        Distro::Alpine => vec![Part::new(1, "ext4"), Part::new(3, "ext4")],
        Distro::ArchSystemdBoot => vec![Part::fat(1), Part::new(2, "ext4")],
        Distro::ArchUki => vec![Part::fat(1), Part::new(2, "btrfs")],
    }
}

/// The disks that the lab's guests boot from.
pub(crate) fn layouts() -> Result<Vec<Looked>> {
    tools::require_lab()?;
    tools::require(&[tools::IMAGES, tools::MKFS])?;
    let guest = Guest::new()?;
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let initrd = kernel.test_initrd(0, "")?;
    let disks = |dir: &Path| {
        LAYOUTS.map(|layout| {
            let image = dir.join(format!("{}.img", layout.name()));
            let mut disk = Looked::new(layout.name(), image, of_layout(layout));
            if layout == DiskLayout::BlsLarge {
                disk.sector = 4096;
            }
            disk.dir = dir.to_owned();
            disk
        })
    };
    let recipe = format!(
        "boot disks 2\n{}\n{}\n{}\n{}\n{}",
        boot_disk::RECIPE.concat(),
        script(&disks(Path::new(""))),
        kernel.identity()?,
        cache::sha256_file(&initrd)?,
        guest.recipe()?,
    );
    let why = "disks that guests boot from, as Linux reads them";
    let dir = cache::get("readers-boot", why, &recipe, |dir| {
        let scratch = tempfile::tempdir_in(dir)?;
        let disks = disks(dir);
        for (layout, disk) in LAYOUTS.into_iter().zip(&disks) {
            let made = boot_disk::make(
                disk.name,
                layout,
                &kernel.image,
                &initrd,
                "console=hvc0",
                None,
                scratch.path(),
            )?;
            fs::rename(made, &disk.image)?;
        }
        look(&guest, &disks, dir)
    })?;
    Ok(disks(&dir).into())
}

/// Has Linux look at distributions' disks, all of which are in one folder.
pub(crate) fn distros(name: &str, disks: &[(Distro, PathBuf)]) -> Result<Vec<Looked>> {
    tools::require_lab()?;
    let guest = Guest::new()?;
    let mut looked: Vec<Looked> = disks
        .iter()
        .map(|(distro, image)| Looked::new(distro.name(), image.clone(), of_distro(*distro)))
        .collect();
    let image = disks.first().map(|(_, image)| image.as_path());
    let folder = image.and_then(Path::parent).context("no disk")?;
    let identity = fs::read_to_string(folder.join("manifest.txt"))?;
    let recipe = format!(
        "distro 2\n{identity}\n{}\n{}",
        script(&looked),
        guest.recipe()?
    );
    let why = "distributions' disks, as Linux reads them";
    let dir = cache::get(&format!("readers-{name}"), why, &recipe, |dir| {
        look(&guest, &looked, dir)
    })?;
    for disk in &mut looked {
        disk.dir.clone_from(&dir);
    }
    Ok(looked)
}
