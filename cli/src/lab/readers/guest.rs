//! The Linux that ages images and reads them: Debian's kernel in QEMU, with an
//! initramfs of busybox and the tools of btrfs.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::super::apt::{Apt, Suite};
use super::super::artefacts::{Flavour, Kernel};
use super::super::build;
use super::super::cpio::Archive;
use super::super::plain::{Disk, Linux};
use crate::host::cache;

const INIT: &str = include_str!("../../../../lab/readers/init");
/// What decides what the ager does.
const AGER: &[&str] = &[
    include_str!("../../../../lab/ager/src/main.rs"),
    include_str!("../../../../lab/ager/src/noise.rs"),
    include_str!("../../../../lab/ager/src/steps.rs"),
];

const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    // By the names of their libraries: nothing depends on these.
    "crc32c_generic",
    "xxhash_generic",
    "libcrc32c",
    "xfs",
    "btrfs",
    "isofs",
    "nls_cp437",
    "nls_iso8859-1",
    "nls_ascii",
    "nls_utf8",
    "vfat",
];

/// Packages with the programs, and with the libraries of those.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "btrfs-progs",
    "coreutils",
    "libacl1",
    "libattr1",
    "libblkid1",
    "libc6",
    "liblzo2-2",
    "libpcre2-8-0",
    "libselinux1",
    "libudev1",
    "libuuid1",
    "libzstd1",
    "zlib1g",
];

/// Seconds after which the guest is taken to hang.
const PATIENCE: u32 = 900;

/// The guest.
#[derive(Debug)]
pub(super) struct Guest {
    kernel: Kernel,
}

impl Guest {
    pub(super) fn new() -> Result<Self> {
        let kernel = Kernel::with_modules("kernel-readers", Flavour::Cloud, MODULES)?;
        Ok(Self { kernel })
    }

    /// What recipes have to hold of it.
    pub(super) fn recipe(&self) -> Result<String> {
        let identity = self.kernel.identity()?;
        Ok(format!("{INIT}\n{AGER:?}\n{PACKAGES:?}\n{identity}"))
    }

    /// What it needs whatever it is to do.
    fn userland(&self) -> Result<PathBuf> {
        let recipe = format!("readers 1\n{PACKAGES:?}");
        let dir = cache::get("readers-userland", "busybox and tools", &recipe, |dir| {
            let apt = Apt::new(Suite::Bookworm)?;
            let mut packages = String::new();
            for package in PACKAGES {
                let scratch = tempfile::tempdir_in(dir)?;
                packages += &(apt.unpack(package, scratch.path())? + "\n");
                keep(scratch.path(), dir)?;
            }
            fs::write(dir.join("packages.txt"), packages)?;
            Ok(())
        })?;
        Ok(dir)
    }

    fn initramfs(&self, script: &str, out: &Path) -> Result<()> {
        let userland = self.userland()?;
        let mut archive = Archive::new(BufWriter::new(File::create(out)?));
        for folder in ["bin", "lib", "lib64", "dev", "mnt", "tmp"] {
            archive.directory(folder)?;
        }
        for entry in fs::read_dir(&userland)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let place = match name.as_str() {
                "busybox" | "btrfs" | "cp.coreutils" => format!("bin/{name}"),
                "ld-linux-x86-64.so.2" => format!("lib64/{name}"),
                _ if name.contains(".so") => format!("lib/{name}"),
                _ => continue,
            };
            archive.file(&place, 0o755, &fs::read(entry.path())?)?;
        }
        archive.file("bin/ager", 0o755, &fs::read(build::ager()?)?)?;
        self.kernel.add_modules(&mut archive, "modules", MODULES)?;
        archive.file("run", 0o644, script.as_bytes())?;
        archive.file("init", 0o755, INIT.as_bytes())?;
        archive.finish()?;
        Ok(())
    }

    /// Boots it with these disks, has it do what the script says, and unpacks
    /// what came of it into a folder.
    pub(super) fn run(
        &self,
        disks: &[Disk<'_>],
        script: &str,
        scratch: &Path,
        into: &Path,
    ) -> Result<()> {
        let initramfs = scratch.join("initramfs");
        self.initramfs(script, &initramfs)?;
        let out = scratch.join("out");
        File::create(&out)?.set_len(256 << 20)?;
        let disks = [disks, &[Disk::written("out", &out)]].concat();
        let linux = Linux {
            kernel: &self.kernel.image,
            initrd: &initramfs,
            cmdline: "quiet",
            memory: 1024,
            disks: &disks,
            patience: PATIENCE,
        };
        let text = linux.run(&[(
            "readers: done",
            "the Linux that ages images did not come to its end",
        )])?;
        fs::write(into.join("console.txt"), text)?;
        tar::Archive::new(File::open(&out)?)
            .unpack(into)
            .context("what the guest put out")?;
        fs::remove_file(out)?;
        Ok(())
    }
}

/// Copies what is used of an unpacked package: its programs and libraries, by
/// the names that they are loaded by.
fn keep(package: &Path, into: &Path) -> Result<()> {
    let libraries = ["lib", "usr/lib"].map(|lib| package.join(lib).join("x86_64-linux-gnu"));
    let folders = [package.join("lib64"), package.join("bin")];
    for folder in libraries.iter().chain(&folders) {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        for name in names {
            let to = match name.as_str() {
                "cp" => "cp.coreutils",
                "busybox" | "btrfs" => &name,
                _ if name.contains(".so.") => &name,
                _ => continue,
            };
            // Behind a link what it stands for.
            let from = folder.join(&name).canonicalize();
            if let Ok(from) = from
                && from.is_file()
            {
                fs::copy(from, into.join(to))?;
            }
        }
    }
    Ok(())
}
