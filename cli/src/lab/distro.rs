//! Disk images of distributions, made from their packages with their own
//! tools, that boot with their own configuration and their own initramfs.
//!
//! Order of steps: packages into a root file system (mmdebstrap); that into a
//! file system on a disk; the disk is booted once in QEMU, without Xen, for the
//! distribution's own tool to write the boot loader's configuration where it
//! sees the disk. Nothing else of the lab's is in it but a service that says
//! what the system found, and powers off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::apt::Suite;
use super::boot_disk::{self, UUID};
use crate::host::{cache, command, tools};

const FIRST: &str = include_str!("../../../lab/distro/first");
const REPORT: &str = include_str!("../../../lab/distro/report");
const SERVICE: &str = include_str!("../../../lab/distro/kexen-lab.service");

const PACKAGES: &str = "linux-image-cloud-amd64,systemd-sysv,udev,initramfs-tools,\
     e2fsprogs,grub2-common,kmod,util-linux";

/// MiB of the file system.
const MIB: u64 = 700;

/// A distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distro {
    /// Debian 12, with its kernel for clouds.
    Debian12,
    /// Debian 13.
    Debian13,
}

impl Distro {
    /// Its name in a case's.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Debian12 => "debian-12",
            Self::Debian13 => "debian-13",
        }
    }

    const fn suite(self) -> Suite {
        match self {
            Self::Debian12 => Suite::Bookworm,
            Self::Debian13 => Suite::Trixie,
        }
    }

    fn recipe(self) -> String {
        format!("distro 1\n{self:?}\n{PACKAGES}\n{UUID}\n{MIB}\n{FIRST}\n{REPORT}\n{SERVICE}")
    }

    /// Its disk, if it was made already.
    pub(crate) fn cached(self) -> Result<Option<PathBuf>> {
        let dir = cache::place(self.name(), &self.recipe())?;
        Ok(dir.is_dir().then(|| dir.join("disk.img")))
    }

    /// Its disk.
    pub(crate) fn disk(self) -> Result<PathBuf> {
        tools::require_lab()?;
        tools::require(&[tools::MKFS])?;
        let recipe = self.recipe();
        let why = "a distribution's disk, from its packages";
        let dir = cache::get(self.name(), why, &recipe, |dir| {
            let scratch = tempfile::tempdir_in(dir)?;
            let root = scratch.path().join("root");
            let sources = scratch.path().join("sources.list");
            fs::write(&sources, self.suite().sources())?;
            // As a folder, with the owners that it says: root's alone.
            let mut debootstrap = Command::new("mmdebstrap");
            debootstrap.args(["--variant=minbase", "--architectures=amd64"]);
            debootstrap.arg("--aptopt=Acquire::Retries \"3\"");
            debootstrap.arg(format!("--include={PACKAGES}"));
            debootstrap
                .arg(self.suite().name())
                .arg(&root)
                .arg(&sources);
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
    for (name, text) in [("first", FIRST), ("report", REPORT)] {
        let file = root.join(format!("usr/local/sbin/kexen-lab-{name}"));
        fs::write(&file, text)?;
        executable(&file)?;
    }
    let units = root.join("etc/systemd/system");
    fs::write(units.join("kexen-lab.service"), SERVICE)?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink("../kexen-lab.service", wants.join("kexen-lab.service"))?;
    Ok(())
}

fn executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(
        file,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// The file in `/boot` whose name begins so.
fn boot_file(root: &Path, beginning: &str) -> Result<PathBuf> {
    let mut names = fs::read_dir(root.join("boot"))?.flatten();
    let file = names.find(|entry| entry.file_name().to_string_lossy().starts_with(beginning));
    let file = file.with_context(|| format!("no {beginning} in the distribution's /boot"))?;
    Ok(file.path())
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
    qemu.arg("-append").arg(format!(
        "root=UUID={UUID} rw console=ttyS0 panic=-1 init=/usr/local/sbin/kexen-lab-first"
    ));
    let text = command::text(&mut qemu)?;
    ensure!(
        text.contains("kexen-lab: update-grub=0"),
        "the distribution's update-grub failed:\n{}",
        command::tail(&text, 20)
    );
    Ok(())
}
