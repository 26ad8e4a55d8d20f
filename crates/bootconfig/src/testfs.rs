//! File systems in memory, for tests.

use alloc::{
    boxed::Box,
    collections::BTreeMap,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use kexen_disk::{
    BlockSource, MemoryDisk,
    fs::{File, FileSystem, FileType, FsError, Metadata, Problem},
};

use crate::volumes::{TableKind, Volume, Volumes};

/// A file system made of paths with content.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestFs {
    kind: &'static str,
    label: String,
    uuid: String,
    note: Option<&'static str>,
    raw: Option<Rc<dyn BlockSource>>,
    files: BTreeMap<String, Vec<u8>>,
    type_guid: &'static str,
    partlabel: String,
    attributes: u64,
}

struct TestFile<'a> {
    path: String,
    bytes: &'a [u8],
}

fn error(path: &str, problem: Problem) -> FsError {
    FsError {
        path: path.into(),
        problem,
    }
}

impl File for TestFile<'_> {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), FsError> {
        let start = usize::try_from(offset).unwrap();
        let end = start.saturating_add(into.len());
        let Some(from) = self.bytes.get(start..end) else {
            return Err(error(&self.path, Problem::Corrupt("beyond its end".into())));
        };
        into.copy_from_slice(from);
        Ok(())
    }
}

impl TestFs {
    pub(crate) fn new(kind: &'static str, label: &str, uuid: &str) -> Self {
        Self {
            kind,
            label: label.into(),
            uuid: uuid.into(),
            ..Self::default()
        }
    }

    /// On a partition of that type, name and attributes.
    pub(crate) fn on(mut self, type_guid: &'static str, label: &str, attributes: u64) -> Self {
        self.type_guid = type_guid;
        self.partlabel = label.into();
        self.attributes = attributes;
        self
    }

    pub(crate) fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.into(), content.as_ref().to_vec());
        self
    }

    pub(crate) fn noted(mut self, note: &'static str) -> Self {
        self.note = Some(note);
        self
    }

    /// The partition's bytes: these at an offset, zeroes elsewhere.
    pub(crate) fn raw(mut self, at: usize, bytes: &[u8]) -> Self {
        let mut disk = alloc::vec![0; 1 << 20];
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        self.raw = Some(Rc::new(MemoryDisk::new("xvda1", disk)));
        self
    }

    /// Files of which only their being there matters.
    pub(crate) fn files(self, paths: &[&str]) -> Self {
        paths.iter().fold(self, |fs, path| fs.file(path, "x"))
    }
}

/// Without doubled slashes and `.`, and with `..` followed.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    alloc::format!("/{}", parts.join("/"))
}

impl FileSystem for TestFs {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn note(&self) -> Option<&str> {
        self.note
    }

    fn metadata(&self, path: &str) -> Result<Metadata, FsError> {
        let path = clean(path);
        if let Some(bytes) = self.files.get(&path) {
            return Ok(Metadata {
                kind: FileType::Regular,
                len: bytes.len() as u64,
            });
        }
        let folder = alloc::format!("{}/", path.trim_end_matches('/'));
        if self.files.keys().any(|name| name.starts_with(&folder)) {
            return Ok(Metadata {
                kind: FileType::Directory,
                len: 0,
            });
        }
        Err(error(&path, Problem::Missing))
    }

    fn read_dir(&self, path: &str) -> Result<Vec<String>, FsError> {
        let path = clean(path);
        if self.metadata(&path)?.kind != FileType::Directory {
            return Err(error(&path, Problem::NotADirectory));
        }
        let folder = alloc::format!("{}/", path.trim_end_matches('/'));
        let mut names: Vec<String> = self
            .files
            .keys()
            .filter_map(|name| name.strip_prefix(&folder)?.split('/').next())
            .map(ToString::to_string)
            .collect();
        names.dedup();
        // In no order, as on a disk.
        names.reverse();
        Ok(names)
    }

    fn read_link(&self, path: &str) -> Result<Option<String>, FsError> {
        self.metadata(path).map(|_| None)
    }

    fn open(&self, path: &str) -> Result<Box<dyn File + '_>, FsError> {
        let path = clean(path);
        match self.files.get(&path) {
            Some(bytes) => Ok(Box::new(TestFile { path, bytes })),
            None if self.metadata(&path).is_ok() => Err(error(&path, Problem::NotAFile)),
            None => Err(error(&path, Problem::Missing)),
        }
    }
}

/// Volumes of one GPT disk, `xvda1` and so on.
pub(crate) fn gpt(parts: Vec<TestFs>) -> Volumes<'static> {
    let volumes = parts
        .into_iter()
        .enumerate()
        .map(|(at, fs)| {
            let number = at as u32 + 1;
            Volume {
                name: alloc::format!("xvda{number}"),
                disk: "xvda".into(),
                partition: Some(number),
                table: Some(TableKind::Gpt),
                partuuid: alloc::format!("0a3f8a10-d66d-4a3c-a0bd-8d6d6b1d0a0{number}"),
                type_guid: match fs.kind {
                    "vfat" => crate::volumes::ESP.into(),
                    _ => fs.type_guid.into(),
                },
                partlabel: fs.partlabel.clone(),
                attributes: fs.attributes,
                raw: fs.raw.clone(),
                fs: Box::new(fs),
            }
        })
        .collect();
    Volumes::new(volumes)
}
