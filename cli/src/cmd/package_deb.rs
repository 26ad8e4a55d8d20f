//! The deb of `package`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::package::{Built, install, lay_out, plain};
use crate::host::{command, workspace};

const CONTROL: &str = include_str!("../../../packaging/deb/control");
/// What dpkg runs, and when else.
const SCRIPTS: &[(&str, u32)] = &[("postinst", 0o755), ("prerm", 0o755), ("triggers", 0o644)];

/// Makes it in the folder `out`.
pub(super) fn make(built: &Built, out: &Path) -> Result<PathBuf> {
    let scratch = tempfile::tempdir()?;
    let root = scratch.path().join("kexen");
    lay_out(&root, built, None)?;
    let kib = size(&root)?.div_ceil(1024);
    let control = CONTROL
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@SIZE@", &kib.to_string());
    let folder = root.join("DEBIAN");
    for (name, mode) in SCRIPTS {
        let from = workspace::root().join("packaging/deb").join(name);
        install(&folder.join(name), &from, *mode)?;
    }
    fs::write(folder.join("control"), control)?;
    plain(&folder)?;
    let out = out.join(format!("kexen_{}_amd64.deb", env!("CARGO_PKG_VERSION")));
    command::run(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "--build"])
            .arg(&root)
            .arg(&out),
    )?;
    Ok(out)
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
