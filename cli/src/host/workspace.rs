//! Where things are in the checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// Where cargo says that this package is, if cargo runs the tool.
fn manifest() -> Option<PathBuf> {
    std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from)
}

/// Whether cargo runs the tool; otherwise it is installed.
pub(crate) fn by_cargo() -> bool {
    manifest().is_some()
}

/// The root of the checkout: by cargo's word, or the one that this folder is in.
pub(crate) fn root() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let checkout = || {
        let mut above = here.ancestors();
        above
            .find(|folder| is_checkout(folder))
            .map(Path::to_path_buf)
    };
    let own = manifest().and_then(|cli| cli.parent().map(Path::to_path_buf));
    own.or_else(checkout).unwrap_or_else(|| PathBuf::from("."))
}

fn is_checkout(folder: &Path) -> bool {
    folder.join("boot/Cargo.toml").is_file() && folder.join("packaging/deb/control").is_file()
}

/// An error if there is no checkout: for what is made of the sources.
pub(crate) fn require() -> Result<()> {
    ensure!(
        is_checkout(&root()),
        "this needs Kexen's sources: go to a checkout of {}, and run it there as `cargo kexen`",
        env!("CARGO_PKG_REPOSITORY")
    );
    Ok(())
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Where the tool puts what it makes.
pub(crate) fn output() -> PathBuf {
    target().join("kexen")
}

/// Cargo, in the checkout, without what `cargo run` left in the environment.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root()).env_remove("CARGO_MANIFEST_DIR");
    command
}
