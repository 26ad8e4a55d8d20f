//! Things that are made once: each in a folder named by the hash of its recipe.
//!
//! A folder appears under its name only when it is complete (it is built
//! beside and renamed), and a lock file keeps two processes from building the
//! same thing twice.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::ui;

/// The cache folder: outside Cargo's target folder, so `cargo clean` keeps it.
pub(crate) fn dir() -> Result<PathBuf> {
    let dir = if let Some(dir) = std::env::var_os("KEXEN_CACHE") {
        PathBuf::from(dir)
    } else if let Some(dir) = std::env::var_os("XDG_CACHE_HOME") {
        PathBuf::from(dir).join("kexen")
    } else {
        let home = std::env::var_os("HOME").context("neither KEXEN_CACHE nor HOME is set")?;
        PathBuf::from(home).join(".cache/kexen")
    };
    fs::create_dir_all(&dir)
        .with_context(|| format!("cannot create the cache {}", dir.display()))?;
    Ok(dir)
}

/// SHA-256 of some bytes, in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, in hex.
pub(crate) fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(name: &str, recipe: &str) -> String {
    format!("{name}-{}", &sha256(recipe.as_bytes())[..16])
}

/// Where the folder made by this recipe is, if it is there.
pub(crate) fn place(name: &str, recipe: &str) -> Result<PathBuf> {
    Ok(dir()?.join(key(name, recipe)))
}

/// Returns the folder made by this recipe, building it if it is not there.
///
/// `recipe` must hold everything that the result depends on.
pub(crate) fn get(
    name: &str,
    why: &str,
    recipe: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let cache = dir()?;
    let key = key(name, recipe);
    let place = cache.join(&key);
    if place.is_dir() {
        return Ok(place);
    }
    let lock_path = cache.join(format!("{key}.lock"));
    let lock = File::create(&lock_path)?;
    lock.lock().context("cannot lock the cache")?;
    if place.is_dir() {
        return Ok(place);
    }
    let step = ui::step(format!("making {name} ({why})"));
    let work = tempfile::Builder::new()
        .prefix(".building-")
        .tempdir_in(&cache)?;
    build(work.path()).with_context(|| format!("could not make {name}"))?;
    fs::write(work.path().join("recipe.txt"), recipe)?;
    manifest(work.path())?;
    // A temporary folder is closed to others; the finished thing need not be.
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755))?;
    fs::rename(work.keep(), &place)?;
    fs::remove_file(&lock_path).ok();
    step.done(place.display().to_string());
    Ok(place)
}

/// Records size and hash of every file of a finished folder.
fn manifest(dir: &Path) -> Result<()> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    let mut out = File::create(dir.join("manifest.txt"))?;
    for path in names.iter().filter(|path| path.is_file()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        writeln!(
            out,
            "{} {} {name}",
            sha256_file(path)?,
            fs::metadata(path)?.len()
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_sha256() {
        assert!(sha256(b"").starts_with("e3b0c44298fc1c14"));
    }
}
