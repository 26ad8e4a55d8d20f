//! Disks as other distributions lay them out.
//!
//! Order of steps: one system from Debian's packages with the tools that those
//! distributions use, its initramfs by dracut for any root; the system is
//! booted once in QEMU, without Xen, beside an empty disk for each layout, and
//! copies itself to them (`lab/distro/layouts`). A machine's kernel makes the
//! file systems' contents, so that they are as kernels write them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Distro;
use super::packages::{self, REPORT, SERVICE, write_program};
use crate::host::cache;
use crate::lab::apt::Suite;
use crate::lab::boot_disk;
use crate::lab::plain::Disk;

/// What runs in QEMU.
const INSTALL: &str = include_str!("../../../../lab/distro/layouts/install");

/// The layouts, and what each adds to it.
const LAYOUTS: [(Distro, &str); 6] = [
    (
        Distro::Fedora,
        include_str!("../../../../lab/distro/layouts/fedora"),
    ),
    (
        Distro::RhelXfs,
        include_str!("../../../../lab/distro/layouts/rhel-xfs"),
    ),
    (
        Distro::OpenSuse,
        include_str!("../../../../lab/distro/layouts/opensuse"),
    ),
    (
        Distro::Alpine,
        include_str!("../../../../lab/distro/layouts/alpine"),
    ),
    (
        Distro::ArchSystemdBoot,
        include_str!("../../../../lab/distro/layouts/arch-systemd-boot"),
    ),
    (
        Distro::ArchUki,
        include_str!("../../../../lab/distro/layouts/arch-uki"),
    ),
];

/// The system, with the tools of all layouts.
const PACKAGES: &str = "linux-image-cloud-amd64,systemd-sysv,udev,kmod,util-linux,fdisk,\
     dracut,cpio,e2fsprogs,xfsprogs,btrfs-progs,dosfstools,\
     grub-common,extlinux,systemd-boot,systemd-boot-efi,systemd-ukify";

/// What no system needs to boot.
const LEFT_OUT: [&str; 3] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
];

/// By dracut: for any machine, as on an installation's medium.
const INITRAMFS: &str = "chroot \"$1\" dracut --quiet --force --no-hostonly \
     /boot/initrd.img-$(ls \"$1/lib/modules\") $(ls \"$1/lib/modules\")";

/// MiB of the system's own disk, and of each of the others.
const MIB: u64 = 900;

/// The disk of a layout; all of them are made together.
pub(super) fn disk(distro: Distro) -> Result<PathBuf> {
    packages::require()?;
    let texts: String = LAYOUTS.iter().map(|(_, text)| *text).collect();
    let recipe = format!(
        "layouts 1\n{PACKAGES}\n{LEFT_OUT:?}\n{INITRAMFS}\n{MIB}\n{INSTALL}\n{texts}\n{REPORT}\n{SERVICE}"
    );
    let why = "disks as six distributions lay them out";
    let dir = cache::get("layouts", why, &recipe, |dir| {
        let scratch = tempfile::tempdir_in(dir)?;
        let mut options: Vec<String> = LEFT_OUT
            .iter()
            .map(|path| format!("--dpkgopt=path-exclude={path}"))
            .collect();
        options.push(format!("--customize-hook={INITRAMFS}"));
        let root = packages::root(Suite::Trixie, PACKAGES, &options, scratch.path())?;
        finish(&root)?;
        let system = scratch.path().join("system");
        boot_disk::ext4(&root, &system, MIB)?;
        install(&root, &system, dir)
    })?;
    Ok(dir.join(format!("{}.img", distro.name())))
}

/// What runs in QEMU.
fn finish(root: &Path) -> Result<()> {
    // Each copy gets one of its own.
    fs::remove_file(root.join("etc/machine-id")).ok();
    fs::remove_file(root.join("etc/fstab")).ok();
    let folder = root.join("usr/local/lib/kexen-lab");
    fs::create_dir_all(&folder)?;
    write_program(&folder.join("install"), INSTALL)?;
    for (distro, text) in LAYOUTS {
        fs::write(folder.join(distro.name()), text)?;
    }
    Ok(())
}

/// Boots the system once, for it to copy itself.
fn install(root: &Path, system: &Path, dir: &Path) -> Result<()> {
    let files = LAYOUTS.map(|(distro, _)| dir.join(format!("{}.img", distro.name())));
    let mut disks = vec![Disk::written("system", system)];
    for ((distro, _), file) in LAYOUTS.iter().zip(&files) {
        fs::File::create(file)?.set_len(MIB << 20)?;
        disks.push(Disk::written(distro.name(), file));
    }
    let expected = LAYOUTS.map(|(distro, _)| {
        let name = distro.name();
        (
            format!("kexen-lab: {name}=0 "),
            format!("the disk of {name} was not made"),
        )
    });
    // Without its root, nobody is there for dracut's shell.
    let init = "rd.shell=0 rd.emergency=poweroff init=/usr/local/lib/kexen-lab/install";
    packages::boot(root, init, 2048, &disks, &expected)
}
