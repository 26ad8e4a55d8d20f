//! What Linux reads from a mounted file system: every path with its bytes or
//! its link's target.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::host::cache;

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Directory,
    File {
        bytes: u64,
        sha256: String,
    },
    Link(String),
    /// A device, a socket or a pipe.
    Other,
}

/// All paths below a root, which is the empty one; each begins with `/`.
pub(crate) type Manifest = BTreeMap<String, Thing>;

/// A path as `find .` prints it.
fn path(printed: &str) -> Result<String> {
    let path = printed.strip_prefix('.');
    Ok(path.context("a path that find does not print")?.to_owned())
}

/// Reads what the guest wrote about an image.
pub(crate) fn read(dir: &Path, name: &str) -> Result<Manifest> {
    let text = |end: &str| {
        let file = dir.join(format!("{name}.{end}"));
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    let mut manifest = Manifest::new();
    for line in text("folders")?.lines() {
        manifest.insert(path(line)?, Thing::Directory);
    }
    for line in text("others")?.lines() {
        manifest.insert(path(line)?, Thing::Other);
    }
    for line in text("links")?.lines() {
        let (name, target) = line
            .strip_prefix('\'')
            .and_then(|line| line.strip_suffix('\''))
            .and_then(|line| line.split_once("' -> '"))
            .with_context(|| format!("a link that stat does not print: {line}"))?;
        manifest.insert(path(name)?, Thing::Link(target.to_owned()));
    }
    let mut sizes = BTreeMap::new();
    for line in text("sizes")?.lines() {
        let (bytes, name) = line.split_once(' ').context("a size without a name")?;
        sizes.insert(name.to_owned(), bytes.parse::<u64>()?);
    }
    for line in text("sums")?.lines() {
        let (sum, name) = line.split_once("  ").context("a sum without a name")?;
        let bytes = sizes.remove(name).context("a file without a size")?;
        let sha256 = sum.to_owned();
        manifest.insert(path(name)?, Thing::File { bytes, sha256 });
    }
    if let Some(name) = sizes.keys().next() {
        bail!("{name}: a file without a sum");
    }
    Ok(manifest)
}

/// What is in a mounted folder, by this machine's kernel.
pub(crate) fn of_folder(root: &Path) -> Result<Manifest> {
    let mut manifest = Manifest::new();
    let mut todo = vec![String::new()];
    while let Some(path) = todo.pop() {
        let place = root.join(path.trim_start_matches('/'));
        for entry in
            fs::read_dir(&place).with_context(|| format!("cannot read {}", place.display()))?
        {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                // The readers leave such names out.
                continue;
            };
            let (path, place) = (format!("{path}/{name}"), entry.path());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_file() {
                let sha256 = cache::sha256_file(&place)?;
                let bytes = entry.metadata()?.len();
                manifest.insert(path, Thing::File { bytes, sha256 });
            } else if kind.is_symlink() {
                let target = fs::read_link(&place)?;
                let target = target.to_string_lossy().into_owned();
                manifest.insert(path, Thing::Link(target));
            } else {
                manifest.insert(path, Thing::Other);
            }
        }
        manifest.insert(path, Thing::Directory);
    }
    Ok(manifest)
}
