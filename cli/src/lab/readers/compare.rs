//! What the readers read against what Linux read.

use kexen_disk::fs::{File, FileSystem, FileType, FsError};
use sha2::{Digest as _, Sha256};

use super::manifest::{Manifest, Thing};
use crate::host::cache;

/// How it went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Folders, links, devices and the like.
    pub(crate) names: u64,
    pub(crate) differences: Vec<String>,
    /// What the file system says of itself.
    pub(crate) note: Option<String>,
}

/// The piece that a file is read by the second time: no multiple of anything.
const PIECE: u64 = 70_001;
/// Files up to this long are read in pieces, too.
const SMALL: u64 = 4 << 20;

/// Walks a file system from a path on, and compares everything.
pub(crate) fn compare(fs: &dyn FileSystem, from: &str, manifest: &Manifest) -> Report {
    let mut report = Report::default();
    let mut seen = 0;
    let mut todo = vec![from.to_owned()];
    while let Some(path) = todo.pop() {
        let Some(want) = manifest.get(&path) else {
            report.differ(&path, "Linux has no such name");
            continue;
        };
        seen += 1;
        match look(fs, &path, want) {
            Err(problem) => report.differ(&path, problem),
            Ok(Found::File(bytes)) => {
                report.files += 1;
                report.bytes += bytes;
            }
            Ok(Found::Link | Found::Other) => report.names += 1,
            Ok(Found::Directory(names)) => {
                report.names += 1;
                todo.extend(names.into_iter().map(|name| format!("{path}/{name}")));
            }
        }
    }
    let below = format!("{from}/");
    let all = manifest
        .keys()
        .filter(|path| *path == from || path.starts_with(&below));
    if all.clone().count() != seen {
        for path in all {
            let is_listed = path.rsplit_once('/').is_none_or(|(folder, name)| {
                let names = fs.read_dir(folder).unwrap_or_default();
                path == from || names.iter().any(|found| found == name)
            });
            if !is_listed {
                report.differ(path, "not listed, and Linux has it");
            }
        }
        report.differ(from, format!("{seen} names were compared"));
    }
    report
}

impl Report {
    fn differ(&mut self, path: &str, problem: impl std::fmt::Display) {
        self.differences.push(format!("{path:?}: {problem}"));
    }

    /// Takes in another one's.
    pub(crate) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.names += other.names;
        self.differences.extend(other.differences);
    }
}

enum Found {
    Directory(Vec<String>),
    File(u64),
    Link,
    Other,
}

/// What a path is, if it is what Linux says.
fn look(fs: &dyn FileSystem, path: &str, want: &Thing) -> Result<Found, String> {
    let text = |error: FsError| error.problem.to_string();
    if let Some(target) = fs.read_link(path).map_err(text)? {
        return match want {
            Thing::Link(want) if *want == target => Ok(Found::Link),
            Thing::Link(want) => Err(format!("leads to {target:?}, not {want:?}")),
            _ => Err("a link, and not for Linux".into()),
        };
    }
    let found = fs.metadata(path).map_err(text)?;
    match (found.kind, want) {
        (FileType::Directory, Thing::Directory) => {
            fs.read_dir(path).map(Found::Directory).map_err(text)
        }
        (FileType::Regular, Thing::File { bytes, sha256 }) => {
            if found.len != *bytes {
                return Err(format!("{} bytes, not {bytes}", found.len));
            }
            let mut file = fs.open(path).map_err(text)?;
            let mut pieces = vec![(found.len.max(1), "at once")];
            if found.len > PIECE && found.len <= SMALL {
                pieces.push((PIECE, "in pieces"));
            }
            for (piece, how) in pieces {
                if sum(&mut *file, found.len, piece).map_err(text)? != *sha256 {
                    return Err(format!("other bytes, read {how}"));
                }
            }
            Ok(Found::File(found.len))
        }
        (FileType::Other, Thing::Other) => Ok(Found::Other),
        (kind, want) => Err(format!("{kind:?}, and not what Linux has ({want:?})")),
    }
}

/// The sum of a file that is read in pieces.
fn sum(file: &mut dyn File, bytes: u64, piece: u64) -> Result<String, FsError> {
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < bytes {
        let len = piece.min(bytes - at);
        let mut buffer = vec![0xee; usize::try_from(len).unwrap_or(0)];
        file.read_at(at, &mut buffer)?;
        hash.update(&buffer);
        at += len;
    }
    Ok(cache::hex(&hash.finalize()))
}

#[cfg(test)]
mod tests;
