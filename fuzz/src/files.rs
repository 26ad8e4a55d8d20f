//! Files as inputs: text in which lines `%% /path` begin a file each, on the
//! first volume, or on the second (an EFI system partition) after `%% esp:`.
//! Text before the first such line is the file that a target is about.

use std::collections::BTreeMap;

use kexen_bootconfig::volumes::{ESP, TableKind, Volume, Volumes};
use kexen_disk::fs::{File, FileSystem, FileType, FsError, Metadata, Problem};

/// The volume's UUID, in the seeds too.
pub(crate) const UUID: &str = "3f2a9c51-7d0e-4b7a-9c63-0d5f6d1b1e11";

/// Files of which only their being there matters.
const THERE: &[&str] = &[
    "/vmlinuz",
    "/initrd",
    "/boot/vmlinuz",
    "/boot/initrd",
    "/boot/microcode",
    "/boot/xen/pvboot-x86_64.elf",
];

/// A file system in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryFs {
    kind: &'static str,
    uuid: &'static str,
    files: BTreeMap<String, Vec<u8>>,
}

fn error(path: &str, problem: Problem) -> FsError {
    FsError {
        path: path.into(),
        problem,
    }
}

/// A path as it is kept.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// An open file.
#[derive(Debug)]
pub(crate) struct MemoryFile<'a>(pub(crate) &'a [u8]);

impl File for MemoryFile<'_> {
    fn bytes(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(0)
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), FsError> {
        let from = usize::try_from(offset).ok();
        let from = from.and_then(|start| self.0.get(start..)?.get(..into.len()));
        let beyond = || error("", Problem::Corrupt("beyond its end".into()));
        into.copy_from_slice(from.ok_or_else(beyond)?);
        Ok(())
    }
}

impl FileSystem for MemoryFs {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn label(&self) -> &'static str {
        "a label"
    }

    fn uuid(&self) -> &str {
        self.uuid
    }

    fn metadata(&self, path: &str) -> Result<Metadata, FsError> {
        let path = clean(path);
        let metadata = |kind, len| Ok(Metadata { kind, len });
        if let Some(bytes) = self.files.get(&path) {
            return metadata(FileType::Regular, MemoryFile(bytes).bytes());
        }
        let folder = format!("{}/", path.trim_end_matches('/'));
        let mut below = self.files.range(folder.clone()..);
        if below
            .next()
            .is_some_and(|(name, _)| name.starts_with(&folder))
        {
            return metadata(FileType::Directory, 0);
        }
        Err(error(&path, Problem::Missing))
    }

    fn read_link(&self, path: &str) -> Result<Option<String>, FsError> {
        self.metadata(path).map(|_| None)
    }

    fn read_dir(&self, path: &str) -> Result<Vec<String>, FsError> {
        if self.metadata(path)?.kind != FileType::Directory {
            return Err(error(path, Problem::NotADirectory));
        }
        let folder = format!("{}/", clean(path).trim_end_matches('/'));
        let files = self.files.keys();
        let mut names: Vec<String> = files
            .filter_map(|name| name.strip_prefix(&folder)?.split('/').next())
            .map(String::from)
            .collect();
        names.dedup();
        // In no order, as on a disk.
        names.reverse();
        Ok(names)
    }

    fn open(&self, path: &str) -> Result<Box<dyn File + '_>, FsError> {
        match self.files.get(&clean(path)) {
            Some(bytes) => Ok(Box::new(MemoryFile(bytes))),
            None => self
                .metadata(path)
                .and_then(|_| Err(error(path, Problem::NotAFile))),
        }
    }
}

/// The two volumes with the files of an input; `first` is what its beginning
/// is called.
#[must_use]
pub fn volumes(data: &[u8], first: &str) -> Volumes<'static> {
    let mut systems = [("ext4", UUID), ("vfat", "1234-ABCD")].map(|(kind, uuid)| MemoryFs {
        kind,
        uuid,
        files: THERE
            .iter()
            .map(|path| ((*path).into(), b"x".to_vec()))
            .collect(),
    });
    let mut open = (0, first.to_owned());
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        if let Some(path) = line.strip_prefix(b"%% ") {
            let path = String::from_utf8_lossy(path.trim_ascii());
            open = match path.strip_prefix("esp:") {
                Some(path) => (1, clean(path)),
                None => (0, clean(&path)),
            };
            systems[open.0].files.insert(open.1.clone(), Vec::new());
            continue;
        }
        let file = systems[open.0].files.entry(open.1.clone()).or_default();
        file.extend_from_slice(line);
    }
    let volumes = (1_u32..).zip(systems).map(|(number, fs)| Volume {
        name: format!("xvda{number}"),
        disk: "xvda".into(),
        partition: Some(number),
        table: Some(TableKind::Gpt),
        partuuid: format!("0a3f8a10-d66d-4a3c-a0bd-8d6d6b1d0a0{number}"),
        type_guid: if number == 2 { ESP } else { "" }.into(),
        partlabel: String::new(),
        attributes: 0,
        fs: Box::new(fs),
        raw: None,
    });
    Volumes::new(volumes.collect())
}
