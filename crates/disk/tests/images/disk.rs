//! Images as disks.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt as _, rc::Rc};

use kexen_disk::{BlockSource, Cache, CacheOptions, ReadError, source::checked_end};

use super::tools::Temporary;

/// An image file as a disk, perhaps with some bytes changed.
#[derive(Debug)]
pub(crate) struct FileDisk {
    name: String,
    file: File,
    bytes: u64,
    sector: u32,
    changed: BTreeMap<u64, u8>,
}

impl FileDisk {
    pub(crate) fn new(image: &Temporary) -> Self {
        let file = File::open(image.as_path()).unwrap();
        Self {
            name: "xvda".into(),
            bytes: file.metadata().unwrap().len(),
            file,
            sector: 512,
            changed: BTreeMap::new(),
        }
    }

    pub(crate) fn with_sector(self, sector: u32) -> Self {
        Self { sector, ..self }
    }

    pub(crate) fn with_bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    pub(crate) fn with_changes(self, changed: BTreeMap<u64, u8>) -> Self {
        Self { changed, ..self }
    }

    pub(crate) fn shared(self) -> Rc<dyn BlockSource> {
        Rc::new(self)
    }

    /// With a cache over it.
    pub(crate) fn cached(self) -> Rc<Cache> {
        Rc::new(Cache::new(self.shared(), CacheOptions::default()))
    }
}

impl BlockSource for FileDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn sector(&self) -> u32 {
        self.sector
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let end = checked_end(self, offset, into.len())?;
        let read = self.file.read_exact_at(into, offset);
        read.map_err(|error| ReadError {
            name: self.name.clone(),
            offset,
            why: error.to_string(),
        })?;
        for (at, byte) in self.changed.range(offset..end) {
            into[(at - offset) as usize] = *byte;
        }
        Ok(())
    }
}
