//! Debian's own disks.
//!
//! Order of steps: packages into a root file system (mmdebstrap); that into a
//! file system on a disk; the disk is booted once in QEMU, without Xen, for
//! Debian's own tool to write the boot loader's configuration where it sees
//! the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Distro, REPORT, SERVICE, add_service, boot_file, write_program};
use crate::host::{cache, command, tools};
use crate::lab::apt::Suite;
use crate::lab::boot_disk::{self, UUID};

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
    tools::require_lab()?;
    tools::require(&[tools::MKFS])?;
    let recipe = recipe(distro);
    let why = "a distribution's disk, from its packages";
    let dir = cache::get(distro.name(), why, &recipe, |dir| {
        let scratch = tempfile::tempdir_in(dir)?;
        let root = scratch.path().join("root");
        let sources = scratch.path().join("sources.list");
        fs::write(&sources, suite.sources())?;
        // As a folder, with the owners that it says: root's alone.
        let mut debootstrap = Command::new("mmdebstrap");
        debootstrap.args(["--variant=minbase", "--architectures=amd64"]);
        debootstrap.arg("--aptopt=Acquire::Retries \"3\"");
        debootstrap.arg(format!("--include={PACKAGES}"));
        debootstrap.arg(suite.name()).arg(&root).arg(&sources);
        command::run(&mut debootstrap)?;
        finish(&root)?;
        let part = scratch.path().join("part");
        boot_disk::ext4(&root, &part, MIB)?;
        let disk = dir.join("disk.img");
        boot_disk::assemble(&disk, &part, MIB, &boot_disk::one_linux(MIB))?;
        configure(&root, &disk)
    })?;
    Ok(dir.join("disk.img"))
}

/// What an installer would have written, and the lab's service.
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
    write_program(&root.join("usr/local/sbin/kexen-lab-first"), FIRST)?;
    add_service(root)
}

/// Boots the disk once, and has the distribution write its configuration.
fn configure(root: &Path, disk: &Path) -> Result<()> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-accel", "tcg", "-m", "1024", "-display", "none", "-serial", "stdio",
    ]);
    qemu.arg("-no-reboot");
    qemu.arg("-kernel").arg(boot_file(root, "vmlinuz-")?);
    qemu.arg("-initrd").arg(boot_file(root, "initrd.img-")?);
    qemu.arg("-drive");
    qemu.arg(format!("file={},format=raw,if=virtio", disk.display()));
    // A busy host's emulated timer may fail Linux's test of it.
    qemu.arg("-append").arg(format!(
        "root=UUID={UUID} rw console=ttyS0 panic=-1 no_timer_check init=/usr/local/sbin/kexen-lab-first"
    ));
    let text = command::text(&mut qemu)?;
    ensure!(
        text.contains("kexen-lab: update-grub=0"),
        "the distribution's update-grub failed:\n{}",
        command::tail(&text, 20)
    );
    Ok(())
}
