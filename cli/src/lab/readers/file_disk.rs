//! An image file as a disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use kexen_disk::{BlockSource, Cache, CacheOptions, ReadError};

/// A file that can be read like a disk.
#[derive(Debug)]
pub(crate) struct FileDisk {
    name: String,
    file: File,
    bytes: u64,
    sector: u32,
}

impl FileDisk {
    /// Opens an image, with the cache over it that the boot image has.
    pub(crate) fn cached(image: &Path, sector: u32) -> Result<Rc<dyn BlockSource>> {
        let disk = Self::open(image, &image.display().to_string(), sector)?;
        Ok(Rc::new(Cache::new(Rc::new(disk), CacheOptions::default())))
    }

    /// Opens an image as a disk of this name.
    pub(crate) fn open(image: &Path, name: &str, sector: u32) -> Result<Self> {
        let file = File::open(image).with_context(|| format!("cannot open {}", image.display()))?;
        Ok(Self {
            name: name.to_owned(),
            bytes: file.metadata()?.len(),
            file,
            sector,
        })
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
        let refuse = |why: io::Error| ReadError {
            name: self.name.clone(),
            offset,
            why: why.to_string(),
        };
        // Whole sectors alone, as of a real disk.
        let sector = u64::from(self.sector);
        let len = u64::try_from(into.len()).unwrap_or(u64::MAX);
        if !offset.is_multiple_of(sector) || !len.is_multiple_of(sector) {
            return Err(refuse(io::Error::other(format!(
                "{len} bytes are no whole sectors"
            ))));
        }
        self.file.read_exact_at(into, offset).map_err(refuse)
    }
}
