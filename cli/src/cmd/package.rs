//! `package`: the boot image and this tool as packages: a deb and an rpm, or one
//! that gives a certain host what it looks for.
//!
//! Order of steps: both are built; a folder is laid out as a package installs
//! it; `dpkg-deb` or `rpmbuild` packs that (`package_deb`, `package_rpm`). The
//! tool is linked statically, so the packages depend on nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use super::{package_deb, package_rpm};
use crate::host::{command, tools, workspace};
use crate::lab::build::{self, Variant};
use crate::ui;

/// What is in the documentation's folder, and where it comes from.
const DOCS: &[(&str, &str)] = &[
    ("copyright", "packaging/copyright"),
    ("README.md", "README.md"),
    ("guests.md", "docs/guests.md"),
    ("examples/pvh.cfg", "packaging/examples/pvh.cfg"),
    (
        "examples/pvh-firmware.cfg",
        "packaging/examples/pvh-firmware.cfg",
    ),
    ("examples/pv.cfg", "packaging/examples/pv.cfg"),
    (
        "examples/pv-firmware.cfg",
        "packaging/examples/pv-firmware.cfg",
    ),
    ("examples/hvm.cfg", "packaging/examples/hvm.cfg"),
    ("examples/pvh.xml", "packaging/examples/pvh.xml"),
    ("examples/pv.xml", "packaging/examples/pv.xml"),
];

/// Options of `package`.
#[derive(Debug, clap::Args)]
pub(crate) struct PackageArgs {
    /// An rpm for such a host, with what it looks for besides (default: a deb and
    /// an rpm for all others)
    #[arg(long = "for", value_name = "HOST", value_enum)]
    host: Option<Host>,
}

/// A host that looks for boot loaders of guests in a place of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Host {
    /// Qubes OS: a kernel of VMs, named `kexen`
    Qubes,
    /// XCP-ng, XenServer: a kernel where XAPI allows them
    XcpNg,
}

impl Host {
    /// Its part of an rpm's release.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Qubes => "qubes",
            Self::XcpNg => "xcpng",
        }
    }

    /// The folder that it looks in for kernels.
    const fn folder(self) -> &'static str {
        match self {
            Self::Qubes => "var/lib/qubes/vm-kernels/kexen",
            Self::XcpNg => "var/lib/xcp/guest",
        }
    }

    /// Puts into a package what it looks for.
    fn lay_out(self, root: &Path, image: &Path) -> Result<()> {
        let folder = root.join(self.folder());
        match self {
            Self::Qubes => {
                install(&folder.join("vmlinuz"), image, 0o644)?;
                for words in ["common", "pci", "nopci"] {
                    let name = format!("default-kernelopts-{words}.txt");
                    let from = workspace::root().join("packaging/qubes").join(&name);
                    install(&folder.join(name), &from, 0o644)?;
                }
                Ok(())
            }
            // A file: XAPI follows links, and starts nothing outside its folder.
            Self::XcpNg => install(&folder.join("kexen-x86_64.elf"), image, 0o644),
        }
    }
}

/// What packages are made of.
pub(super) struct Built {
    /// The boot image.
    pub(super) image: PathBuf,
    /// The same for HVM guests.
    pub(super) hvm: PathBuf,
    /// This tool, for others' machines.
    pub(super) tool: PathBuf,
}

impl Built {
    fn now() -> Result<Self> {
        let image = build::image(Variant::Normal)?;
        let tool = build::tool()?;
        Ok(Self {
            image: image.stripped,
            hvm: image.hvm,
            tool,
        })
    }
}

/// Makes the packages and says where they are.
pub(crate) fn run(args: &PackageArgs) -> Result<()> {
    let files = match args.host {
        None => vec![deb()?, rpm(None)?],
        host => vec![rpm(host)?],
    };
    for file in files {
        let bytes = fs::metadata(&file)?.len();
        ui::say(format!("{} {bytes} bytes", file.display()));
    }
    Ok(())
}

/// The deb, once this process has made it.
static DEB: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Makes the deb, once; where it is.
pub(crate) fn deb() -> Result<PathBuf> {
    let mut made = DEB.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = &*made {
        return Ok(file.clone());
    }
    tools::require(&[tools::DEB])?;
    let built = Built::now()?;
    let step = ui::step("packing the deb");
    let file = package_deb::make(&built, &workspace::output())?;
    step.done(file.display().to_string());
    Ok(made.insert(file).clone())
}

/// Makes an rpm; where it is.
pub(crate) fn rpm(host: Option<Host>) -> Result<PathBuf> {
    tools::require(&[tools::RPM])?;
    let built = Built::now()?;
    let step = ui::step("packing the rpm");
    let file = package_rpm::make(&built, host, &workspace::output())?;
    step.done(file.display().to_string());
    Ok(file)
}

/// All files, as they are installed, in this folder.
pub(super) fn lay_out(root: &Path, built: &Built, host: Option<Host>) -> Result<()> {
    let link = workspace::root().join("packaging/link");
    for (name, from, mode) in [
        ("usr/lib/kexen/kexen-x86_64.elf", &built.image, 0o644),
        ("usr/lib/kexen/kexen-x86_64.hvm", &built.hvm, 0o644),
        ("usr/lib/kexen/link", &link, 0o755),
        ("usr/bin/kexen", &built.tool, 0o755),
    ] {
        install(&root.join(name), from, mode)?;
    }
    if let Some(host) = host {
        host.lay_out(root, &built.image)?;
    }
    let docs = root.join("usr/share/doc/kexen");
    for (name, from) in DOCS {
        install(&docs.join(name), &workspace::root().join(from), 0o644)?;
    }
    let changes = docs.join("changelog");
    install(&changes, &workspace::root().join("CHANGELOG.md"), 0o644)?;
    command::run(Command::new("gzip").args(["-9", "-n"]).arg(&changes))?;
    fs::write(docs.join("libraries.txt"), libraries()?)?;
    // Whatever this process's umask is.
    plain(root)
}

pub(super) fn install(to: &Path, from: &Path, mode: u32) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// Folders and new files get the usual modes.
pub(super) fn plain(folder: &Path) -> Result<()> {
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
