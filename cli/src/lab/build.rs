//! Kexen's boot image: built for bare metal, stripped, put where it is found.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use super::hvm_file;
use crate::host::{command, tools, workspace};
use crate::ui;

/// Which boot image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Variant {
    /// The one to use.
    Normal,
    /// The one for tests, which can leave single steps of the hand-off out, and ask
    /// Xen questions instead of starting anything.
    Lab,
    /// The example of a kernel in full swing.
    Busy,
    /// The smallest example of a kernel that hands over.
    Example,
}

/// The boot image's files.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// To start.
    pub(crate) stripped: PathBuf,
    /// To start in an HVM guest.
    pub(crate) hvm: PathBuf,
    /// With symbols, to debug.
    pub(crate) symbols: PathBuf,
    /// Size in bytes of the first.
    pub(crate) size: u64,
}

/// Cargo's arguments that choose the boot image's package and target.
pub(crate) const PACKAGE: [&str; 4] = ["-p", "kexen-boot", "--target", tools::TARGET];

/// The same for all that runs on bare metal.
pub(crate) const BARE_METAL: [&str; 10] = [
    "-p",
    "kexen-boot",
    "-p",
    "kexen-platform",
    "-p",
    "kexen-busy",
    "-p",
    "kexen-example",
    "--target",
    tools::TARGET,
];

/// One build at a time: the images share names in Cargo's target folder.
static BUILD: Mutex<()> = Mutex::new(());

/// Builds the boot image. `KEXEN_IMAGE` names one that is there already, for
/// showing or testing what somebody else has built.
pub(crate) fn image(variant: Variant) -> Result<Image> {
    if let (Variant::Normal, Some(file)) = (variant, std::env::var_os("KEXEN_IMAGE")) {
        let file = PathBuf::from(file)
            .canonicalize()
            .context("cannot find the boot image that KEXEN_IMAGE names")?;
        let size = fs::metadata(&file)?.len();
        return Ok(Image {
            stripped: file.clone(),
            hvm: file.clone(),
            symbols: file,
            size,
        });
    }
    tools::require(&[tools::STRIP])?;
    tools::require_target()?;
    let (name, package, features): (_, _, &[&str]) = match variant {
        Variant::Normal => ("kexen-x86_64", "kexen-boot", &[]),
        Variant::Lab => ("kexen-lab-x86_64", "kexen-boot", &["omission", "probe"]),
        Variant::Busy => ("kexen-busy-x86_64", "kexen-busy", &[]),
        Variant::Example => ("kexen-example-x86_64", "kexen-example", &[]),
    };
    let _alone = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
    let step = ui::step(match variant {
        Variant::Busy => "building the busy guest",
        Variant::Example => "building the example kernel",
        Variant::Lab => "building the lab's boot image",
        Variant::Normal => "building Kexen's boot image",
    });
    command::run(
        workspace::cargo()
            .args(["build", "--profile", "boot", "-p", package])
            .args(["--target", tools::TARGET])
            .args(["--features", &features.join(",")]),
    )?;
    let out = workspace::output();
    fs::create_dir_all(&out)?;
    let symbols = out.join(format!("{name}.debug.elf"));
    let stripped = out.join(format!("{name}.elf"));
    let built = workspace::target()
        .join(tools::TARGET)
        .join("boot")
        .join(package);
    let hvm = out.join(format!("{name}.hvm"));
    // Each appears whole: another `cargo kexen` may read it, or make it too.
    let made = tempfile::tempdir_in(&out)?;
    let file = |name: &str| made.path().join(name);
    fs::copy(&built, file("symbols"))
        .with_context(|| format!("cannot copy {}", built.display()))?;
    command::run(
        Command::new("strip")
            .arg("--strip-all")
            .arg("-o")
            .arg(file("stripped"))
            .arg(file("symbols")),
    )?;
    fs::write(file("hvm"), hvm_file::of(&fs::read(file("stripped"))?)?)?;
    for (from, to) in [
        ("symbols", &symbols),
        ("stripped", &stripped),
        ("hvm", &hvm),
    ] {
        fs::rename(file(from), to)?;
    }
    let size = fs::metadata(&stripped)?.len();
    step.done(format!("{} ({size} bytes)", stripped.display()));
    Ok(Image {
        stripped,
        hvm,
        symbols,
        size,
    })
}

/// What the backend runs on: dom0's Linux.
const DOM0_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the backend that a probe needs in dom0.
pub(crate) fn backend() -> Result<PathBuf> {
    program("kexen-lab-backend", "building the lab's backend")
}

/// Builds the memory test of the test userspace.
pub(crate) fn memtest() -> Result<PathBuf> {
    program("kexen-lab-memtest", "building the lab's memory test")
}

/// Builds this tool for others' machines.
pub(crate) fn tool() -> Result<PathBuf> {
    program("kexen", "building the tool to be installed")
}

/// Builds what ages file systems.
pub(crate) fn ager() -> Result<PathBuf> {
    program("kexen-lab-ager", "building what ages file systems")
}

/// Builds what unpacks payloads as the boot image does, for this host.
pub(crate) fn unpacker() -> Result<PathBuf> {
    let step = ui::step("building Kexen's decompressors for this host");
    command::run(
        workspace::cargo()
            .args(["build", "--profile", "boot", "-p", "kexen-image"])
            .args(["--example", "unpack", "--target", DOM0_TARGET]),
    )?;
    let built = workspace::target()
        .join(DOM0_TARGET)
        .join("boot/examples/unpack");
    step.done(built.display().to_string());
    Ok(built)
}

/// Builds a program with no library that dom0 or a guest would have to have.
fn program(name: &str, what: &str) -> Result<PathBuf> {
    let step = ui::step(what);
    command::run(
        workspace::cargo()
            .args(["build", "--release", "-p", name, "--target", DOM0_TARGET])
            .env(
                "RUSTFLAGS",
                "-C target-feature=+crt-static -C strip=symbols",
            ),
    )?;
    let built = workspace::target()
        .join(DOM0_TARGET)
        .join("release")
        .join(name);
    step.done(built.display().to_string());
    Ok(built)
}
