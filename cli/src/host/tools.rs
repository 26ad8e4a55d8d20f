//! Programs that the tool calls, and how a Debian or Ubuntu host gets them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};

use super::command;
use crate::ui;

/// A program (or file) of the host, the package it comes in, and its purpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    what: &'static str,
    package: &'static str,
    why: &'static str,
}

const fn need(what: &'static str, package: &'static str, why: &'static str) -> Need {
    Need { what, package, why }
}

/// For fetching and packing what runs in the lab.
const PACK: &[Need] = &[
    need("apt-get", "apt", "fetches Debian's Xen and kernels"),
    need("dpkg-deb", "dpkg", "unpacks them without installing"),
    need("gzip", "gzip", "unpacks Xen"),
    need("mmdebstrap", "mmdebstrap", "makes dom0's root file system"),
    need(
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
        "checks the signature of Debian's packages",
    ),
];

/// For making dom0's root file system without being root.
const UNPRIVILEGED: &[Need] = &[need(
    "newuidmap",
    "uidmap",
    "lets mmdebstrap work without root, in a user namespace",
)];

/// For running the lab.
const RUN: &[Need] = &[
    need(
        "qemu-system-x86_64",
        "qemu-system-x86",
        "runs Xen, with SVM emulated, so no hardware support is needed",
    ),
    need("setpriv", "util-linux", "ends QEMU with what started it"),
];

/// For repacking kernels with every compression that Linux offers.
pub(crate) const REPACK: &[Need] = &[
    need("bzip2", "bzip2", "repacks a kernel"),
    need("xz", "xz-utils", "repacks a kernel (xz and lzma)"),
    need("lzop", "lzop", "repacks a kernel"),
    need("lz4", "lz4", "repacks a kernel"),
    need("zstd", "zstd", "repacks a kernel"),
];

/// For counting instructions.
pub(crate) const COUNT: &[Need] = &[need("valgrind", "valgrind", "counts instructions")];

/// For disks that guests boot from.
pub(crate) const MKFS: &[Need] = &[
    need("mke2fs", "e2fsprogs", "makes a disk's file system"),
    need("mkfs.xfs", "xfsprogs", "makes a disk's file system"),
    need("mkfs.btrfs", "btrfs-progs", "makes a disk's file system"),
    need("mkfs.vfat", "dosfstools", "makes a disk's file system"),
    need("mcopy", "mtools", "puts files on a FAT disk"),
    need("sfdisk", "fdisk", "partitions a disk"),
    need("xorriso", "xorriso", "makes a CD"),
];

/// For the images that file systems' readers are tested on.
pub(crate) const IMAGES: &[Need] = &[
    need("mke2fs", "e2fsprogs", "makes ext2, ext3, ext4"),
    need("mkfs.xfs", "xfsprogs", "makes XFS"),
    need("mkfs.btrfs", "btrfs-progs", "makes btrfs"),
    need("mkfs.vfat", "dosfstools", "makes FAT"),
    need("mcopy", "mtools", "puts files on a FAT disk"),
    need("xorriso", "xorriso", "makes ISO 9660"),
    need("genisoimage", "genisoimage", "makes ISO 9660"),
    need("sgdisk", "gdisk", "partitions a disk"),
    need("sfdisk", "fdisk", "partitions a disk"),
    need("blkid", "util-linux", "says what is on a disk"),
    need("partx", "util-linux", "says what is on a disk"),
    need("zstd", "zstd", "unpacks images"),
];

/// For signed kernels.
pub(crate) const SIGN: &[Need] = &[need("minisign", "minisign", "signs a kernel")];

/// For a dead kernel's memory.
pub(crate) const CORE: &[Need] = &[
    need("readelf", "binutils", "reads a core file's headers"),
    need("gdb", "gdb", "opens a core file"),
];

/// For the Debian package.
pub(crate) const DEB: &[Need] = &[
    need("dpkg-deb", "dpkg", "makes the package"),
    need("gzip", "gzip", "packs its changelog"),
];

/// For GRUB's interpreter on the host.
pub(crate) const EMULATOR: &[Need] = &[
    need("apt-get", "apt", "fetches GRUB"),
    need("dpkg-deb", "dpkg", "unpacks it without installing"),
    need(
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
        "checks the signature of Debian's packages",
    ),
    need("objcopy", "binutils", "mends a module of GRUB"),
];

/// For systemd's list of entries.
pub(crate) const BOOTCTL: &[Need] = &[
    need("apt-get", "apt", "fetches bootctl"),
    need("dpkg-deb", "dpkg", "unpacks it without installing"),
    need(
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
        "checks the signature of Debian's packages",
    ),
    need("unshare", "util-linux", "gives it a mount point of its own"),
];

/// For the rpms.
pub(crate) const RPM: &[Need] = &[
    need("rpmbuild", "rpm", "makes the package"),
    need("gzip", "gzip", "packs its changelog"),
];

/// For the boot image.
pub(crate) const STRIP: &[Need] = &[need("strip", "binutils", "strips the boot image")];

/// Finds a program on `PATH` (and where root's programs are).
fn find(name: &str) -> Option<PathBuf> {
    if name.starts_with('/') {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Whether this process is root's.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// One installation at a time: the host's apt has one lock, and does not wait.
static INSTALL: Mutex<()> = Mutex::new(());
/// Two of rustup take away each other's files.
static RUSTUP: Mutex<()> = Mutex::new(());

/// Makes sure that all of these are there; installs what is missing.
pub(crate) fn require(lists: &[&[Need]]) -> Result<()> {
    let _alone = INSTALL.lock().unwrap_or_else(PoisonError::into_inner);
    let missing: Vec<Need> = lists
        .iter()
        .copied()
        .flatten()
        .copied()
        .filter(|need| find(need.what).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("Missing on this machine:");
    let mut packages: Vec<&str> = Vec::new();
    for need in &missing {
        eprintln!("  {} (package {}): {}", need.what, need.package, need.why);
        if !packages.contains(&need.package) {
            packages.push(need.package);
        }
    }
    let by_hand = format!(
        "apt-get install --no-install-recommends {}",
        packages.join(" ")
    );
    if find("apt-get").is_none() {
        bail!(
            "this is not a Debian or Ubuntu host; install the above by its own means, then try again"
        );
    }
    let sudo = match (is_root(), find("sudo")) {
        (true, _) => None,
        (false, Some(sudo)) => Some(sudo),
        (false, None) => {
            bail!("not root, and no sudo here; run this as root, then try again:\n  {by_hand}")
        }
    };
    let apt = |args: &[&str]| {
        let mut command = match &sudo {
            Some(sudo) => {
                let mut command = Command::new(sudo);
                command.arg("apt-get");
                command
            }
            None => Command::new("apt-get"),
        };
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-y", "-q", "--no-install-recommends"])
            .args(args);
        command
    };
    let mut install = vec!["install"];
    install.extend(&packages);
    let step = ui::step(format!("installing {}", packages.join(" ")));
    // Package lists may be missing or old: refresh them only if needed.
    if command::run(&mut apt(&install)).is_err() {
        command::run(apt(&["update"]).stdin(Stdio::inherit()))?;
        command::run(&mut apt(&install))
            .with_context(|| format!("could not install; try it by hand:\n  {by_hand}"))?;
    }
    step.done("installed");
    for need in &missing {
        if find(need.what).is_none() {
            bail!("package {} did not bring {}", need.package, need.what);
        }
    }
    Ok(())
}

/// Makes sure that the lab can be built and run.
pub(crate) fn require_lab() -> Result<()> {
    let unprivileged = if is_root() { &[] } else { UNPRIVILEGED };
    require(&[PACK, unprivileged, RUN])
}

/// The bare-metal target of the boot image.
pub(crate) const TARGET: &str = "x86_64-unknown-none";

/// Makes sure that the Rust toolchain can build for bare metal.
pub(crate) fn require_target() -> Result<()> {
    let _alone = RUSTUP.lock().unwrap_or_else(PoisonError::into_inner);
    let sysroot = command::text(Command::new("rustc").args(["--print", "sysroot"]))?;
    let there = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET);
    if there.is_dir() {
        return Ok(());
    }
    let step = ui::step(format!(
        "adding Rust's {TARGET} target (the boot image runs on bare metal)"
    ));
    command::run(Command::new("rustup").args(["target", "add", TARGET])).with_context(|| {
        format!(
            "Rust's standard library for {TARGET} is missing and rustup could not add it; \
             install it by your toolchain's own means, then try again"
        )
    })?;
    step.done("added");
    Ok(())
}
