//! The boot module: an archive of entries, each a kernel with what it needs.
//!
//! Format: a cpio archive, "newc" (magic 070701, or 070702 with sums).
//! `kernel`, and optionally `initrd` and `cmdline`, make the entry
//! `default`; `NAME/kernel` and so on make the entry NAME. `kexen.keys` has
//! public keys, by one of which what is started from a disk must be signed; a
//! module may have nothing else. `kexen.pad` and directories are passed over;
//! other files are listed as not used.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::ops::Range;

mod newc;
mod write;

pub use newc::NewcError;
pub use write::{NewEntry, write, write_with_keys};

/// Entries of a module at most.
pub const MAX_ENTRIES: usize = 64;
/// Bytes of a `cmdline` at most.
pub const MAX_CMDLINE: usize = 64 << 10;
/// The file that pads the next one to a page.
pub const PAD: &str = "kexen.pad";
/// The file with public keys.
pub const KEYS: &str = "kexen.keys";
/// The name of the entry without a folder.
pub const DEFAULT: &str = "default";

/// A boot module's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    entries: Vec<Entry>,
    ignored: Vec<String>,
    keys: Option<Range<usize>>,
}

/// One thing to boot. Ranges are into the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    name: String,
    /// The kernel.
    pub kernel: Range<usize>,
    /// The initrd.
    pub initrd: Option<Range<usize>>,
    /// The kernel's command line.
    pub cmdline: Option<String>,
}

impl Entry {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its files' names begin with.
    #[must_use]
    pub fn prefix(&self) -> String {
        if self.name == DEFAULT {
            String::new()
        } else {
            let mut prefix = self.name.clone();
            prefix.push('/');
            prefix
        }
    }
}

/// What is wrong with a boot module.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModuleError {
    /// It has no bytes.
    Empty,
    /// The archive is not well formed.
    Archive(NewcError),
    /// It has no file `kernel`.
    NoEntries,
    /// An entry has files but no kernel.
    NoKernel {
        /// The entry.
        entry: String,
    },
    /// A kernel without bytes.
    EmptyKernel {
        /// The file.
        file: String,
    },
    /// The same file twice.
    Duplicate {
        /// The file.
        file: String,
        /// Where the second one is.
        offset: usize,
    },
    /// A `cmdline` that is no text.
    Cmdline {
        /// The file.
        file: String,
        /// Where in it.
        offset: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// More entries than are taken.
    TooManyEntries,
}

impl core::fmt::Display for ModuleError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty; make one with `kexen bundle`"),
            Self::Archive(error) => error.fmt(f),
            Self::NoEntries => f.write_str(
                "there is no file `kernel` in the archive; make one with `kexen bundle`",
            ),
            Self::NoKernel { entry } => write!(
                f,
                "entry {entry:?} has an initrd or cmdline, but no file {entry}/kernel"
            ),
            Self::EmptyKernel { file } => write!(f, "{file}: the file is empty"),
            Self::Duplicate { file, offset } => {
                write!(f, "{file}: a second one at byte {offset} of the archive")
            }
            Self::Cmdline { file, offset, why } => write!(f, "{file}: byte {offset}: {why}"),
            Self::TooManyEntries => {
                write!(f, "more than {MAX_ENTRIES} entries")
            }
        }
    }
}

impl core::error::Error for ModuleError {}

impl From<NewcError> for ModuleError {
    fn from(error: NewcError) -> Self {
        Self::Archive(error)
    }
}

/// An entry of which not all files were seen yet.
#[derive(Default)]
struct Draft {
    name: String,
    kernel: Option<Range<usize>>,
    initrd: Option<Range<usize>>,
    cmdline: Option<String>,
}

impl Module {
    /// Reads the directory of an archive.
    pub fn parse(archive: &[u8]) -> Result<Self, ModuleError> {
        if archive.is_empty() {
            return Err(ModuleError::Empty);
        }
        let mut drafts: Vec<Draft> = Vec::new();
        let mut ignored = Vec::new();
        let mut keys = None;
        for file in newc::Reader::new(archive) {
            let file = file?;
            if file.is_directory || file.name == PAD {
                continue;
            }
            if file.name == KEYS && file.is_regular {
                if keys.replace(file.data.clone()).is_some() {
                    return Err(ModuleError::Duplicate {
                        file: file.name.to_string(),
                        offset: file.data.start,
                    });
                }
                continue;
            }
            let (entry, kind) = match file.name.split_once('/') {
                None => (DEFAULT, file.name),
                Some((entry, kind)) => (entry, kind),
            };
            let known = matches!(kind, "kernel" | "initrd" | "cmdline");
            if !known || entry.is_empty() || !file.is_regular {
                ignored.push(file.name.to_string());
                continue;
            }
            let at = drafts.iter().position(|draft| draft.name == entry);
            let at = at.unwrap_or(drafts.len());
            if at == MAX_ENTRIES {
                return Err(ModuleError::TooManyEntries);
            }
            if at == drafts.len() {
                drafts.push(Draft {
                    name: entry.to_string(),
                    ..Draft::default()
                });
            }
            let draft = drafts.get_mut(at).ok_or(ModuleError::TooManyEntries)?;
            let seen = match kind {
                "kernel" if file.data.is_empty() => {
                    return Err(ModuleError::EmptyKernel {
                        file: file.name.to_string(),
                    });
                }
                "kernel" => draft.kernel.replace(file.data.clone()).is_some(),
                "initrd" => draft.initrd.replace(file.data.clone()).is_some(),
                _ => {
                    let bytes = archive.get(file.data.clone()).unwrap_or_default();
                    draft.cmdline.replace(cmdline(file.name, bytes)?).is_some()
                }
            };
            if seen {
                return Err(ModuleError::Duplicate {
                    file: file.name.to_string(),
                    offset: file.data.start,
                });
            }
        }
        let mut entries = Vec::new();
        for draft in drafts {
            let Some(kernel) = draft.kernel else {
                if draft.name == DEFAULT {
                    return Err(ModuleError::NoEntries);
                }
                return Err(ModuleError::NoKernel { entry: draft.name });
            };
            entries.push(Entry {
                name: draft.name,
                kernel,
                initrd: draft.initrd,
                cmdline: draft.cmdline,
            });
        }
        if entries.is_empty() && keys.is_none() {
            return Err(ModuleError::NoEntries);
        }
        entries.sort_by_key(|entry| entry.name != DEFAULT);
        Ok(Self {
            entries,
            ignored,
            keys,
        })
    }

    /// The entries: `default` first if there is one, the others in the
    /// archive's order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The file of public keys, if there is one.
    #[must_use]
    pub fn keys(&self) -> Option<Range<usize>> {
        self.keys.clone()
    }

    /// Files that are not used.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
}

/// Checks a command line; a line end behind it is dropped.
fn cmdline(file: &str, bytes: &[u8]) -> Result<String, ModuleError> {
    let bad = |offset, why| ModuleError::Cmdline {
        file: file.to_string(),
        offset,
        why,
    };
    if bytes.len() > MAX_CMDLINE {
        return Err(bad(MAX_CMDLINE, "the command line goes on beyond 64 KiB"));
    }
    let text = core::str::from_utf8(bytes)
        .map_err(|error| bad(error.valid_up_to(), "not UTF-8"))?
        .trim_end_matches(['\n', '\r', '\0']);
    if let Some((offset, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        return Err(bad(offset, "a control character; it must be one line"));
    }
    Ok(text.trim_ascii().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn entry<'a>(name: &'a str, kernel: &'a [u8], initrd: Option<&'a [u8]>) -> NewEntry<'a> {
        NewEntry {
            name,
            kernel,
            initrd,
            cmdline: None,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let initrd = vec![7; 5000];
        let archive = write(&[
            entry("other", b"k2", Some(&initrd)),
            NewEntry {
                cmdline: Some("quiet"),
                ..entry(DEFAULT, b"k1", Some(b"i1"))
            },
        ]);
        let module = Module::parse(&archive).unwrap();
        let names: Vec<&str> = module.entries().iter().map(Entry::name).collect();
        assert_eq!(names, [DEFAULT, "other"]);
        assert!(module.ignored().is_empty());
        let first = &module.entries()[0];
        assert_eq!(&archive[first.kernel.clone()], b"k1");
        assert_eq!(first.cmdline.as_deref(), Some("quiet"));
        assert_eq!(
            (first.prefix(), module.entries()[1].prefix()),
            ("".into(), "other/".into())
        );
        for entry in module.entries() {
            assert!(entry.initrd.as_ref().unwrap().start.is_multiple_of(4096));
        }
        let second = module.entries()[1].initrd.clone().unwrap();
        assert_eq!(archive[second], initrd);
    }

    #[test]
    fn keys_need_no_kernel_beside_them() {
        let module = parse(&[(KEYS, b"a key")]).unwrap();
        assert!(module.entries().is_empty() && module.keys().is_some());
        let both = parse(&[("kernel", b"k"), (KEYS, b"a key")]).unwrap();
        assert_eq!((both.entries().len(), both.keys().is_some()), (1, true));
        assert!(parse(&[("kernel", b"k")]).unwrap().keys().is_none());
        assert!(matches!(
            parse(&[(KEYS, b"a"), (KEYS, b"b")]),
            Err(ModuleError::Duplicate { file, .. }) if file == KEYS
        ));
    }

    fn parse(files: &[(&str, &[u8])]) -> Result<Module, ModuleError> {
        Module::parse(&write::archive(files))
    }

    #[test]
    fn every_mistake_is_named() {
        assert_eq!(Module::parse(&[]), Err(ModuleError::Empty));
        assert_eq!(parse(&[]), Err(ModuleError::NoEntries));
        assert_eq!(parse(&[("initrd", b"x")]), Err(ModuleError::NoEntries));
        assert_eq!(
            parse(&[("kernel", b"k"), ("a/initrd", b"x")]),
            Err(ModuleError::NoKernel { entry: "a".into() })
        );
        assert_eq!(
            parse(&[("a/kernel", b"")]),
            Err(ModuleError::EmptyKernel {
                file: "a/kernel".into()
            })
        );
        assert!(matches!(
            parse(&[("kernel", b"k"), ("kernel", b"k")]),
            Err(ModuleError::Duplicate { file, .. }) if file == "kernel"
        ));
        for (bytes, offset) in [(&b"a\xff"[..], 1), (&b"ab\ncd"[..], 2)] {
            assert!(matches!(
                parse(&[("kernel", b"k"), ("cmdline", bytes)]),
                Err(ModuleError::Cmdline { offset: at, .. }) if at == offset
            ));
        }
        let long = vec![b'a'; MAX_CMDLINE + 1];
        assert!(matches!(
            parse(&[("kernel", b"k"), ("cmdline", &long)]),
            Err(ModuleError::Cmdline { .. })
        ));
        let names: Vec<String> = (0..=MAX_ENTRIES)
            .map(|n| alloc::format!("e{n}/kernel"))
            .collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"k"[..])).collect();
        assert_eq!(parse(&files), Err(ModuleError::TooManyEntries));
    }

    #[test]
    fn other_files_are_listed() {
        let module = parse(&[("kernel", b"k"), ("README", b"x"), ("a/b/kernel", b"x")]).unwrap();
        assert_eq!(module.ignored(), ["README", "a/b/kernel"]);
        // A symbolic link's content is a path, not a kernel.
        let mut archive = write::archive(&[("kernel", b"vmlinuz-6.1")]);
        archive[14..22].copy_from_slice(b"0000a1ff");
        assert_eq!(Module::parse(&archive), Err(ModuleError::NoEntries));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            at in 0_usize..600, change in proptest::prelude::any::<u8>(),
        ) {
            let _ = Module::parse(&bytes);
            let mut archive = write(&[entry(DEFAULT, b"kernel", Some(&bytes))]);
            let at = at % archive.len();
            archive[at] ^= change;
            let _ = Module::parse(&archive);
            let _ = Module::parse(&archive[..at]);
        }

        #[test]
        fn whatever_is_written_is_read(
            files in proptest::collection::btree_map(
                "[a-z0-9][a-z0-9.-]{0,11}",
                (
                    proptest::collection::vec(proptest::prelude::any::<u8>(), 1..300),
                    proptest::option::of(
                        proptest::collection::vec(proptest::prelude::any::<u8>(), 0..9000),
                    ),
                    proptest::option::of("[!-~]{1,8}( [!-~\u{a0}]{1,8}){0,3}"),
                ),
                1..8,
            ),
        ) {
            let new: Vec<NewEntry<'_>> = files
                .iter()
                .map(|(name, (kernel, initrd, cmdline))| NewEntry {
                    name,
                    kernel,
                    initrd: initrd.as_deref(),
                    cmdline: cmdline.as_deref(),
                })
                .collect();
            let archive = write(&new);
            let module = Module::parse(&archive).unwrap();
            assert!(module.ignored().is_empty());
            assert_eq!(module.entries().len(), new.len());
            for new in new {
                let entry = module.entries().iter().find(|e| e.name() == new.name).unwrap();
                assert_eq!(&archive[entry.kernel.clone()], new.kernel);
                assert_eq!(entry.initrd.clone().map(|at| &archive[at]), new.initrd);
                assert_eq!(entry.cmdline.as_deref(), new.cmdline);
            }
        }
    }
}
