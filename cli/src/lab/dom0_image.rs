//! dom0's image: Debian's user space with Xen's own toolstack, as one initramfs.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::artefacts::{Flavour, Kernel, Xen};
use super::cpio::{Archive, Kind};
use super::example::Toolstack;
use crate::host::{cache, command};

const INIT: &str = include_str!("../../../lab/dom0/init");
const BLOCK: &str = include_str!("../../../lab/dom0/block");
const POWEROFF: &str = include_str!("../../../lab/dom0/poweroff");

/// What a booted dom0 has no use for.
const LEFT_OUT: &[&str] = &[
    "usr/share/doc/",
    "usr/share/man/",
    "usr/share/info/",
    "usr/share/locale/",
    "usr/share/zoneinfo/",
    "usr/share/i18n/",
    "usr/lib/x86_64-linux-gnu/gconv/",
    "usr/lib/modules/",
    "usr/lib/udev/",
    "usr/share/perl/",
    "usr/share/perl5/",
    "usr/share/iso-codes/",
    "usr/share/xml/",
    "usr/share/icons/",
    "var/lib/apt/",
    "var/lib/dpkg/",
    "var/cache/",
    "var/log/",
    "boot/",
    "dev/",
];

/// The kernel and the initramfs of dom0 under that Xen, with what this
/// toolstack needs.
pub(crate) fn get(xen: Xen, toolstack: Toolstack) -> Result<(Kernel, PathBuf)> {
    let kernel = Kernel::debian(Flavour::Generic)?;
    let version = xen.version();
    let suite = xen.suite();
    // The device model of HVM guests brings its firmware with it.
    let mut packages =
        format!("xen-utils-{version},xen-utils-common,xenstore-utils,kmod,mount,qemu-system-xen");
    let more = toolstack.packages();
    if !more.is_empty() {
        packages = format!("{packages},{more}");
    }
    let init = INIT.replace("@XEN_BIN@", &format!("/usr/lib/xen-{version}/bin"));
    let recipe = format!(
        "dom0 1\n{packages}\n{}\n{LEFT_OUT:?}\n{init}\n{BLOCK}\n{POWEROFF}\n{}",
        suite.name(),
        kernel.identity()?
    );
    let why = "dom0 with Xen's toolstack, from Debian packages";
    let dir = cache::get(&format!("dom0-{version}"), why, &recipe, |dir| {
        let tar = dir.join("root.tar");
        let sources = dir.join("sources.list");
        fs::write(&sources, suite.sources())?;
        command::run(
            Command::new("mmdebstrap")
                .args(["--variant=minbase", "--architectures=amd64", "--format=tar"])
                .arg("--aptopt=Acquire::Retries \"3\"")
                .arg(format!("--include={packages}"))
                .arg(suite.name())
                .arg(&tar)
                .arg(&sources),
        )?;
        pack(
            &tar,
            &dir.join("initrd.cpio"),
            &dir.join("packages.txt"),
            &init,
            &kernel,
        )?;
        fs::remove_file(&tar)?;
        Ok(())
    })?;
    Ok((kernel, dir.join("initrd.cpio")))
}

/// Turns the root file system into an initramfs, with the lab's files added.
fn pack(tar: &Path, cpio: &Path, packages: &Path, init: &str, kernel: &Kernel) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(cpio)?));
    let mut input = tar::Archive::new(BufReader::new(File::open(tar)?));
    for entry in input.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let name = path
            .trim_start_matches("./")
            .trim_end_matches('/')
            .to_owned();
        if name == "var/lib/dpkg/status" {
            let mut status = String::new();
            std::io::Read::read_to_string(&mut entry, &mut status)?;
            fs::write(packages, versions(&status))?;
            continue;
        }
        let replaced = name == "etc/xen/scripts/block" || name == "init";
        let left_out = LEFT_OUT.iter().any(|prefix| name.starts_with(prefix));
        if name.is_empty() || replaced || left_out {
            continue;
        }
        let header = entry.header();
        let mode = header.mode()?;
        let owner = (
            u32::try_from(header.uid()?).unwrap_or(0),
            u32::try_from(header.gid()?).unwrap_or(0),
        );
        let size = entry.size();
        match header.entry_type() {
            tar::EntryType::Directory => {
                archive.entry(
                    &name,
                    Kind::Directory,
                    mode,
                    owner,
                    0,
                    &mut std::io::empty(),
                )?;
            }
            tar::EntryType::Regular => {
                archive.entry(&name, Kind::File, mode, owner, size, &mut entry)?;
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name()?.context("a link without a target")?;
                archive.link(&name, &target.to_string_lossy())?;
            }
            // Hard links: a symbolic link serves as well here.
            tar::EntryType::Link => {
                let target = entry.link_name()?.context("a link without a target")?;
                let target = target.to_string_lossy();
                archive.link(&name, &format!("/{}", target.trim_start_matches("./")))?;
            }
            // Devices: devtmpfs has them.
            _ => {}
        }
    }
    for directory in [
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "lab",
        "var/log",
        "lib/kexen",
    ] {
        // `lib` is a link to `usr/lib`: the kernel follows it while unpacking.
        archive.directory(directory)?;
    }
    kernel.add_dom0_modules(&mut archive)?;
    archive.file("etc/xen/scripts/block", 0o755, BLOCK.as_bytes())?;
    archive.file("sbin/poweroff", 0o755, POWEROFF.as_bytes())?;
    archive.file("init", 0o755, init.as_bytes())?;
    archive.finish()?;
    Ok(())
}

/// `package version` lines out of dpkg's status file.
fn versions(status: &str) -> String {
    let mut out = String::new();
    let mut name = "";
    for line in status.lines() {
        if let Some(package) = line.strip_prefix("Package: ") {
            name = package;
        } else if let Some(version) = line.strip_prefix("Version: ") {
            out.push_str(&format!("{name} {version}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_read() {
        let status = "Package: a\nStatus: x\nVersion: 1-2\n\nPackage: b\nVersion: 3\n";
        assert_eq!(super::versions(status), "a 1-2\nb 3\n");
    }
}
