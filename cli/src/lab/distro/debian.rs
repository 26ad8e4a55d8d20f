//! Debian's own disks.
//!
//! Order of steps: packages into a root file system (mmdebstrap); that into a
//! file system on a disk; the disk is booted once in QEMU, without Xen, for
//! Debian's own tool to write the boot loader's configuration where it sees
//! the disk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Distro;
use super::packages::{self, REPORT, SERVICE, write_program};
use crate::host::cache;
use crate::lab::apt::Suite;
use crate::lab::boot_disk::{self, UUID};
use crate::lab::plain::Disk;

const FIRST: &str = include_str!("../../../../lab/distro/first");

/// MiB of the file system.
const MIB: u64 = 700;

const PACKAGES: &str = "linux-image-cloud-amd64,systemd-sysv,udev,initramfs-tools,\
     e2fsprogs,grub2-common,kmod,util-linux";

fn recipe(distro: Distro) -> String {
    format!("distro 1\n{distro:?}\n{PACKAGES}\n{UUID}\n{MIB}\n{FIRST}\n{REPORT}\n{SERVICE}")
}

/// The disk of a Debian, if it was made already.
pub(super) fn cached(distro: Distro) -> Result<Option<PathBuf>> {
    let dir = cache::place(distro.name(), &recipe(distro))?;
    Ok(dir.is_dir().then(|| dir.join("disk.img")))
}

/// The disk of a Debian.
pub(super) fn disk(distro: Distro, suite: Suite) -> Result<PathBuf> {
    packages::require()?;
    let recipe = recipe(distro);
    let why = "a distribution's disk, from its packages";
    let dir = cache::get(distro.name(), why, &recipe, |dir| {
        let scratch = tempfile::tempdir_in(dir)?;
        let root = packages::root(suite, PACKAGES, &[], scratch.path())?;
        finish(&root)?;
        let part = scratch.path().join("part");
        boot_disk::ext4(&root, &part, MIB)?;
        let disk = dir.join("disk.img");
        boot_disk::assemble(&disk, &part, MIB, &boot_disk::one_linux(MIB))?;
        configure(&root, &disk)
    })?;
    Ok(dir.join("disk.img"))
}

/// What an installer would have written, and what runs in QEMU.
fn finish(root: &Path) -> Result<()> {
    fs::write(
        root.join("etc/fstab"),
        format!("UUID={UUID} / ext4 errors=remount-ro 0 1\n"),
    )?;
    fs::write(
        root.join("etc/default/grub"),
        "GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_DISTRIBUTOR=Debian\n\
         GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"console=hvc0\"\n",
    )?;
    write_program(&root.join("usr/local/sbin/kexen-lab-first"), FIRST)
}

/// Boots the disk once, and has the distribution write its configuration.
fn configure(root: &Path, disk: &Path) -> Result<()> {
    packages::boot(
        root,
        "init=/usr/local/sbin/kexen-lab-first",
        1024,
        &[Disk::written("system", disk)],
        &[(
            "kexen-lab: update-grub=0",
            "the distribution's update-grub failed",
        )],
    )
}
