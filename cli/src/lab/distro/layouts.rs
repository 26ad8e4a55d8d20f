//! Disks as other distributions lay them out.
//!
//! Order of steps: one system from Debian's packages with the tools that those
//! distributions use, its initramfs by dracut for any root; the system is
//! booted once in QEMU, without Xen, beside an empty disk for each layout, and
//! copies itself to them (`lab/distro/layouts`). A machine's kernel makes the
//! file systems' contents, so that they are as kernels write them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Distro, REPORT, SERVICE, add_service, boot_file, write_program};
use crate::host::{cache, command, tools};
use crate::lab::apt::Suite;
use crate::lab::boot_disk;

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
    tools::require_lab()?;
    tools::require(&[tools::MKFS])?;
    let suite = Suite::Trixie;
    let texts: String = LAYOUTS.iter().map(|(_, text)| *text).collect();
    let recipe = format!(
        "layouts 1\n{PACKAGES}\n{LEFT_OUT:?}\n{INITRAMFS}\n{MIB}\n{INSTALL}\n{texts}\n{REPORT}\n{SERVICE}"
    );
    let why = "disks as six distributions lay them out";
    let dir = cache::get("layouts", why, &recipe, |dir| {
        let scratch = tempfile::tempdir_in(dir)?;
        let root = scratch.path().join("root");
        let sources = scratch.path().join("sources.list");
        fs::write(&sources, suite.sources())?;
        // As a folder, with the owners that it says: root's alone.
        let mut debootstrap = Command::new("mmdebstrap");
        debootstrap.args(["--variant=minbase", "--architectures=amd64"]);
        debootstrap.arg("--aptopt=Acquire::Retries \"3\"");
        for path in LEFT_OUT {
            debootstrap.arg(format!("--dpkgopt=path-exclude={path}"));
        }
        debootstrap.arg(format!("--include={PACKAGES}"));
        debootstrap.arg(format!("--customize-hook={INITRAMFS}"));
        debootstrap.arg(suite.name()).arg(&root).arg(&sources);
        command::run(&mut debootstrap)?;
        finish(&root)?;
        let system = scratch.path().join("system");
        boot_disk::ext4(&root, &system, MIB)?;
        install(&root, &system, dir)
    })?;
    Ok(dir.join(format!("{}.img", distro.name())))
}

/// The lab's service, and what runs in QEMU.
fn finish(root: &Path) -> Result<()> {
    // Each copy gets one of its own.
    fs::remove_file(root.join("etc/machine-id")).ok();
    fs::remove_file(root.join("etc/fstab")).ok();
    add_service(root)?;
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
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "2048"]);
    qemu.args(["-display", "none", "-serial", "stdio", "-no-reboot"]);
    qemu.arg("-kernel").arg(boot_file(root, "vmlinuz-")?);
    qemu.arg("-initrd").arg(boot_file(root, "initrd.img-")?);
    let mut drive = |file: &Path, serial: &str| {
        // Nothing of it is used if the machine under it goes down.
        qemu.arg("-drive").arg(format!(
            "file={},format=raw,if=none,id={serial},cache=unsafe",
            file.display().to_string().replace(',', ",,")
        ));
        qemu.arg("-device")
            .arg(format!("virtio-blk-pci,drive={serial},serial={serial}"));
    };
    drive(system, "system");
    for (distro, _) in LAYOUTS {
        let disk = dir.join(format!("{}.img", distro.name()));
        fs::File::create(&disk)?.set_len(MIB << 20)?;
        drive(&disk, distro.name());
    }
    // A busy host's emulated timer may fail Linux's test of it. Without its
    // root, nobody is there for dracut's shell.
    qemu.arg("-append").arg(format!(
        "root=UUID={} rw console=ttyS0 panic=-1 no_timer_check rd.shell=0 \
         rd.emergency=poweroff init=/usr/local/lib/kexen-lab/install",
        boot_disk::UUID
    ));
    let text = command::text(&mut qemu)?;
    for (distro, _) in LAYOUTS {
        ensure!(
            text.contains(&format!("kexen-lab: {}=0 ", distro.name())),
            "the disk of {} was not made:\n{}",
            distro.name(),
            command::tail(&text, 60)
        );
    }
    Ok(())
}
