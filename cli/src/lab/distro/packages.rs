//! A system made of Debian's packages: its root file system in a folder, with
//! the lab's service, and the same booted in QEMU without Xen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::host::{command, tools};
use crate::lab::apt::Suite;
use crate::lab::boot_disk::UUID;
use crate::lab::plain::{Disk, Linux};

pub(super) const REPORT: &str = include_str!("../../../../lab/distro/report");
pub(super) const SERVICE: &str = include_str!("../../../../lab/distro/kexen-lab.service");

/// Seconds after which a system is taken to hang. A busy host is slow.
const PATIENCE: u32 = 3600;

/// An error if something is missing that makes such systems' disks.
pub(super) fn require() -> Result<()> {
    tools::require_lab()?;
    tools::require(&[tools::MKFS])
}

/// Makes the root file system of these packages in a folder of `scratch`, with
/// what else mmdebstrap is told.
pub(super) fn root(
    suite: Suite,
    packages: &str,
    options: &[String],
    scratch: &Path,
) -> Result<PathBuf> {
    let root = scratch.join("root");
    let sources = scratch.join("sources.list");
    fs::write(&sources, suite.sources())?;
    // As a folder, with the owners that it says: root's alone.
    let mut debootstrap = Command::new("mmdebstrap");
    debootstrap.args(["--variant=minbase", "--architectures=amd64"]);
    debootstrap.arg("--aptopt=Acquire::Retries \"3\"");
    debootstrap.arg(format!("--include={packages}"));
    debootstrap.args(options);
    debootstrap.arg(suite.name()).arg(&root).arg(&sources);
    command::run(&mut debootstrap)?;
    add_service(&root)?;
    Ok(root)
}

/// Boots the system of a folder from these disks, with this program as init.
/// What it has to say is as [`Linux::run`] has it.
pub(super) fn boot<S: AsRef<str>>(
    root: &Path,
    init: &str,
    memory: u32,
    disks: &[Disk<'_>],
    expected: &[(S, S)],
) -> Result<()> {
    let linux = Linux {
        kernel: &boot_file(root, "vmlinuz-")?,
        initrd: &boot_file(root, "initrd.img-")?,
        cmdline: &format!("root=UUID={UUID} rw {init}"),
        memory,
        disks,
        patience: PATIENCE,
    };
    linux.run(expected)?;
    Ok(())
}

/// Puts the service into a system.
fn add_service(root: &Path) -> Result<()> {
    write_program(&root.join("usr/local/sbin/kexen-lab-report"), REPORT)?;
    let units = root.join("etc/systemd/system");
    fs::write(units.join("kexen-lab.service"), SERVICE)?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink("../kexen-lab.service", wants.join("kexen-lab.service"))?;
    Ok(())
}

pub(super) fn write_program(file: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(file, text)?;
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
