//! The rpms of `package`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::package::{Built, Host, lay_out};
use crate::host::command;

const SPEC: &str = include_str!("../../../packaging/kexen.spec");

/// Makes the one for this host in the folder `out`.
pub(super) fn make(built: &Built, host: Option<Host>, out: &Path) -> Result<PathBuf> {
    let work = tempfile::tempdir()?;
    let root = work.path().join("kexen");
    lay_out(&root, built, host)?;
    let mut files = String::from("%defattr(-,root,root,0755)\n");
    list(&root, &root, &mut files)?;
    let list = work.path().join("files");
    fs::write(&list, files)?;
    let version = env!("CARGO_PKG_VERSION");
    let release = host.map_or("1".to_owned(), |host| format!("1.{}", host.name()));
    let spec = work.path().join("kexen.spec");
    let text = SPEC
        .replace("@VERSION@", version)
        .replace("@RELEASE@", &release)
        .replace("@ROOT@", &root.display().to_string())
        .replace("@FILES@", &list.display().to_string());
    fs::write(&spec, text)?;
    let define = |name: &str, value: &str| format!("{name} {value}");
    let top = work.path().display().to_string();
    command::run(
        Command::new("rpmbuild")
            .args(["-bb", "--quiet", "--target", "x86_64-linux"])
            .args(["--define", &define("_topdir", &top)])
            .args(["--define", &define("_tmppath", &top)])
            .args(["--define", &define("_rpmdir", &top)])
            .arg(&spec),
    )?;
    let name = format!("kexen-{version}-{release}.x86_64.rpm");
    let out = out.join(&name);
    fs::copy(work.path().join("x86_64").join(&name), &out)
        .with_context(|| format!("rpmbuild made no {name}"))?;
    Ok(out)
}

/// The lines of an rpm's list: each file, and the folders that are Kexen's own.
fn list(root: &Path, folder: &Path, lines: &mut String) -> Result<()> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = Path::new("/").join(path.strip_prefix(root)?);
        if path.is_dir() {
            if name.components().any(|part| part.as_os_str() == "kexen") {
                writeln!(lines, "%dir {}", name.display())?;
            }
            list(root, &path, lines)?;
        } else {
            writeln!(lines, "{}", name.display())?;
        }
    }
    Ok(())
}
