//! Following paths, for file systems whose libraries do not.
//!
//! As Linux does (`path_resolution(7)`): component by component from the root,
//! `..` leaves the directory that was really entered, a symbolic link goes on
//! from the directory that holds it, or from the root. Every number in it is
//! bounded.

use alloc::{string::String, vec, vec::Vec};

use super::{FsError, MOST_NAMES, Problem};

/// Symbolic links that are followed for a path.
pub const MOST_LINKS: usize = 40;
/// Components of a path, those of its links included.
pub const MOST_COMPONENTS: usize = 1000;
/// Directories within another.
pub const MOST_DEPTH: usize = 128;
/// Bytes of a path, and of a link.
pub const MOST_PATH: usize = 4096;

/// What a name stands for, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Directory,
    Link,
    #[cfg_attr(
        not(any(
            feature = "btrfs",
            feature = "ext4",
            feature = "iso9660",
            feature = "xfs"
        )),
        expect(dead_code, reason = "FAT has no such thing")
    )]
    Other,
}

impl Kind {
    /// From the mode of an inode.
    #[cfg(any(feature = "btrfs", feature = "xfs", feature = "iso9660"))]
    pub(super) const fn from_mode(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Link,
            _ => Self::Other,
        }
    }
}

/// A tree of names.
pub(super) trait Tree {
    /// A directory, file or link.
    type Node: Clone;

    fn root(&self) -> Result<Self::Node, Problem>;
    fn kind(&self, node: &Self::Node) -> Kind;
    /// A name in a directory; neither `.` nor `..`.
    fn lookup(&self, directory: &Self::Node, name: &str) -> Result<Self::Node, Problem>;
    /// What a link points to.
    fn link(&self, node: &Self::Node) -> Result<String, Problem>;
}

/// More of something than there may be.
pub(super) fn limit(what: &'static str, limit: usize) -> Problem {
    Problem::Limit {
        what,
        limit: u64::try_from(limit).unwrap_or(u64::MAX),
    }
}

/// Puts the components of a path in front of those that are still to do.
fn push(todo: &mut Vec<String>, path: &str) -> Result<(), Problem> {
    if path.len() > MOST_PATH {
        return Err(limit("bytes of a path", MOST_PATH));
    }
    let names = path.split('/').rev();
    todo.extend(
        names
            .filter(|name| !matches!(*name, "" | "."))
            .map(String::from),
    );
    Ok(())
}

/// Finds what a path stands for, links followed.
pub(super) fn walk<T: Tree>(tree: &T, path: &str) -> Result<T::Node, Problem> {
    let root = tree.root()?;
    let mut within: Vec<T::Node> = Vec::new();
    let mut here = root.clone();
    let mut todo = vec![];
    push(&mut todo, path)?;
    let mut links = 0_usize;
    let mut components = 0_usize;
    while let Some(name) = todo.pop() {
        components = components.saturating_add(1);
        if components > MOST_COMPONENTS {
            return Err(limit("components of a path", MOST_COMPONENTS));
        }
        if tree.kind(&here) != Kind::Directory {
            return Err(Problem::NotADirectory);
        }
        if name == ".." {
            if let Some(parent) = within.pop() {
                here = parent;
            }
            continue;
        }
        let node = tree.lookup(&here, &name)?;
        if tree.kind(&node) != Kind::Link {
            if within.len() >= MOST_DEPTH {
                return Err(limit("directories within another", MOST_DEPTH));
            }
            within.push(core::mem::replace(&mut here, node));
            continue;
        }
        links = links.saturating_add(1);
        if links > MOST_LINKS {
            return Err(limit("symbolic links", MOST_LINKS));
        }
        let target = tree.link(&node)?;
        if target.is_empty() {
            return Err(Problem::Corrupt("an empty symbolic link".into()));
        }
        if target.starts_with('/') {
            within.clear();
            here = root.clone();
        }
        push(&mut todo, &target)?;
    }
    // `file/` and `file/.` name no file.
    let wants_directory = path.ends_with('/') || path.ends_with("/.");
    if wants_directory && tree.kind(&here) != Kind::Directory {
        return Err(Problem::NotADirectory);
    }
    Ok(here)
}

/// Finds a directory, to list it.
pub(super) fn directory<T: Tree>(tree: &T, path: &str) -> Result<T::Node, Problem> {
    let node = walk(tree, path)?;
    match tree.kind(&node) {
        Kind::Directory => Ok(node),
        _ => Err(Problem::NotADirectory),
    }
}

/// Finds a regular file, to open it.
pub(super) fn regular<T: Tree>(tree: &T, path: &str) -> Result<T::Node, Problem> {
    let node = walk(tree, path)?;
    match tree.kind(&node) {
        Kind::Regular => Ok(node),
        _ => Err(Problem::NotAFile),
    }
}

/// What a path points to, if its last name is a link's; links before that are
/// followed.
pub(super) fn read_link<T: Tree>(tree: &T, path: &str) -> Result<Option<String>, Problem> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if matches!(name, "" | "." | "..") {
        // A directory's.
        return walk(tree, path).map(|_| None);
    }
    let parent = walk(tree, parent)?;
    if tree.kind(&parent) != Kind::Directory {
        return Err(Problem::NotADirectory);
    }
    let node = tree.lookup(&parent, name)?;
    let is_link = tree.kind(&node) == Kind::Link;
    is_link.then(|| tree.link(&node)).transpose()
}

/// Checks that a directory has no more names than are listed.
pub(super) fn check_names(count: usize) -> Result<(), Problem> {
    if count <= MOST_NAMES {
        return Ok(());
    }
    Err(limit("names", MOST_NAMES))
}

/// The error of an operation on a path.
pub(super) fn at(path: &str) -> impl Fn(Problem) -> FsError + '_ {
    move |problem| FsError {
        path: path.into(),
        problem,
    }
}

/// Checks that a file of `bytes` bytes has those that are asked for.
pub(super) fn check_range(path: &str, bytes: u64, offset: u64, len: usize) -> Result<(), FsError> {
    let end = u64::try_from(len)
        .ok()
        .and_then(|len| offset.checked_add(len));
    if end.is_some_and(|end| end <= bytes) {
        return Ok(());
    }
    Err(at(path)(Problem::Limit {
        what: "bytes of the file",
        limit: bytes,
    }))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    /// Names with what they are; a link's target after `@`.
    struct Names(&'static [(&'static str, &'static str)]);

    impl Tree for Names {
        type Node = (String, String);

        fn root(&self) -> Result<Self::Node, Problem> {
            Ok((String::new(), "dir".into()))
        }

        fn kind(&self, node: &Self::Node) -> Kind {
            match node.1.as_str() {
                "dir" => Kind::Directory,
                "file" => Kind::Regular,
                _ => Kind::Link,
            }
        }

        fn lookup(&self, directory: &Self::Node, name: &str) -> Result<Self::Node, Problem> {
            let path = alloc::format!("{}/{name}", directory.0);
            let found = self.0.iter().find(|(name, _)| *name == path);
            found
                .map(|(_, what)| (path.clone(), what.to_string()))
                .ok_or(Problem::Missing)
        }

        fn link(&self, node: &Self::Node) -> Result<String, Problem> {
            Ok(node.1[1..].into())
        }
    }

    const NAMES: Names = Names(&[
        ("/a", "dir"),
        ("/a/b", "dir"),
        ("/a/b/file", "file"),
        ("/a/up", "@../a/b/./file"),
        ("/a/b/root", "@/a/up"),
        ("/short", "@a/b"),
        ("/loop", "@loop"),
        ("/one", "@two"),
        ("/two", "@/one"),
        ("/empty", "@"),
        ("/long", "@long/long"),
    ]);

    fn found(path: &str) -> Result<String, Problem> {
        walk(&NAMES, path).map(|node| node.0)
    }

    #[test]
    fn links_are_read_where_they_are_last() {
        let read = |path| read_link(&NAMES, path);
        assert_eq!(read("/short"), Ok(Some("a/b".into())));
        assert_eq!(read("/short/root"), Ok(Some("/a/up".into())));
        assert_eq!(read("loop"), Ok(Some("loop".into())));
        for path in ["", "/", "/a", "/short/", "/short/..", "/a/b/file"] {
            assert_eq!(read(path), Ok(None), "{path}");
        }
        assert_eq!(read("/nothing"), Err(Problem::Missing));
        assert_eq!(read("/a/b/file/x"), Err(Problem::NotADirectory));
    }

    #[test]
    fn links_and_dots_are_followed() {
        for path in [
            "/a/b/file",
            "a//b/./file",
            "/a/up",
            "/a/b/root",
            "/short/file",
            "/short/../b/file",
            "/../../a/b/file",
        ] {
            assert_eq!(found(path).as_deref(), Ok("/a/b/file"), "{path}");
        }
        assert_eq!(found("/").as_deref(), Ok(""));
    }

    #[test]
    fn what_cannot_be_followed_is_an_error() {
        assert_eq!(found("/a/c"), Err(Problem::Missing));
        assert_eq!(found("/a/up/x"), Err(Problem::NotADirectory));
        assert_eq!(found("/a/up/"), Err(Problem::NotADirectory));
        for path in ["/loop", "/one", "/long"] {
            let problem = found(path).unwrap_err();
            assert!(matches!(
                problem,
                Problem::Limit {
                    what: "symbolic links",
                    ..
                }
            ));
        }
        assert!(matches!(found("/empty"), Err(Problem::Corrupt(_))));
        assert!(found(&"/a/b/../..".repeat(500)).is_err());
        assert!(found(&"/a".repeat(3000)).is_err());
    }
}
