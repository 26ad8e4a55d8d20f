//! `package`: the boot image and this tool as a Debian package.
//!
//! Order of steps: both are built; a folder is laid out as the package
//! installs it; `dpkg-deb` packs that. The tool is linked statically, so the
//! package depends on nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::host::{command, tools, workspace};
use crate::lab::build::{self, Variant};
use crate::ui;

const CONTROL: &str = include_str!("../../../packaging/control");
/// What is in the documentation's folder, and where it comes from.
const DOCS: &[(&str, &str)] = &[
    ("copyright", "packaging/copyright"),
    ("README.md", "README.md"),
    ("guests.md", "docs/guests.md"),
    ("examples/pvh.cfg", "packaging/examples/pvh.cfg"),
    ("examples/pv.cfg", "packaging/examples/pv.cfg"),
    ("examples/hvm.cfg", "packaging/examples/hvm.cfg"),
    ("examples/pvh.xml", "packaging/examples/pvh.xml"),
    ("examples/pv.xml", "packaging/examples/pv.xml"),
];

/// Options of `package`.
#[derive(Debug, clap::Args)]
pub(crate) struct PackageArgs {}

/// Makes the package and says where it is.
pub(crate) fn run(_args: &PackageArgs) -> Result<()> {
    let file = make()?;
    let bytes = fs::metadata(&file)?.len();
    ui::say(format!("{} {bytes} bytes", file.display()));
    Ok(())
}

/// The package, once this process has made it.
static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Makes the package, once; where it is.
pub(crate) fn make() -> Result<PathBuf> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(match &*made {
        Some(file) => file.clone(),
        None => made.insert(pack()?).clone(),
    })
}

fn pack() -> Result<PathBuf> {
    tools::require(&[tools::DEB])?;
    let image = build::image(Variant::Normal)?;
    let tool = build::tool()?;
    let step = ui::step("packing kexen");
    let scratch = tempfile::tempdir()?;
    let root = scratch.path().join("kexen");
    for (name, from, mode) in [
        ("usr/lib/kexen/kexen-x86_64.elf", &image.stripped, 0o644),
        ("usr/lib/kexen/kexen-x86_64.hvm", &image.hvm, 0o644),
        ("usr/bin/kexen", &tool, 0o755),
    ] {
        install(&root.join(name), from, mode)?;
    }
    let docs = root.join("usr/share/doc/kexen");
    for (name, from) in DOCS {
        install(&docs.join(name), &workspace::root().join(from), 0o644)?;
    }
    let changes = docs.join("changelog");
    install(&changes, &workspace::root().join("CHANGELOG.md"), 0o644)?;
    command::run(Command::new("gzip").args(["-9", "-n"]).arg(&changes))?;
    fs::write(docs.join("libraries.txt"), libraries()?)?;
    let kib = size(&root)?.div_ceil(1024);
    let control = CONTROL
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@SIZE@", &kib.to_string());
    fs::create_dir(root.join("DEBIAN"))?;
    fs::write(root.join("DEBIAN/control"), control)?;
    // Whatever this process's umask is.
    plain(&root)?;
    let out = workspace::output().join(format!("kexen_{}_amd64.deb", env!("CARGO_PKG_VERSION")));
    command::run(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "--build"])
            .arg(&root)
            .arg(&out),
    )?;
    step.done(out.display().to_string());
    Ok(out)
}

fn install(to: &Path, from: &Path, mode: u32) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// Folders and new files get the usual modes.
fn plain(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            plain(&path)?;
        } else if fs::metadata(&path)?.permissions().mode() & 0o100 == 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

/// Bytes of all files in a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        bytes += if path.is_dir() {
            size(&path)?
        } else {
            fs::metadata(&path)?.len()
        };
    }
    Ok(bytes)
}

/// The libraries in image and tool, with versions and licences, as cargo
/// knows them.
fn libraries() -> Result<String> {
    let text = command::text(workspace::cargo().args([
        "tree",
        "--locked",
        "-p",
        "kexen",
        "-p",
        "kexen-boot",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p} {l}",
    ]))?;
    let mut lines: Vec<&str> = text
        .lines()
        // The project's own come with a path.
        .filter(|line| !line.contains("(/") && !line.trim().is_empty())
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    Ok(lines.join("\n") + "\n")
}
