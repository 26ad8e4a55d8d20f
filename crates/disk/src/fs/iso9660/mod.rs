//! ISO 9660 with Rock Ridge and Joliet: boot media.
//!
//! Specifications: ECMA-119 (fourth edition), SUSP 1.12 and RRIP 1.12 for Rock
//! Ridge, Joliet 1.
//!
//! Order of steps: the volume descriptors are read up to their end; Rock Ridge
//! is used if the root directory announces it, else Joliet if there is such a
//! descriptor, else the plain names as Linux shows them (in lower case, without
//! `;1`), found whatever their case. Directories are read whole (`record`),
//! files in the pieces that their records name. Interleaved and compressed
//! (zisofs) files are refused.

use alloc::{boxed::Box, format, rc::Rc, string::String, vec, vec::Vec};

use super::{
    File, FileSystem, FsError, Metadata, Problem,
    walk::{self, Kind, Tree, walk},
};
use crate::BlockSource;

mod record;
mod susp;

use record::{Naming, Record};

/// Volume descriptors that are looked at.
pub const MOST_DESCRIPTORS: u64 = 64;
/// Bytes of a directory at most.
pub const MOST_DIRECTORY: u64 = 4 << 20;
/// Where the descriptors begin, and how long each is.
const DESCRIPTORS: u64 = 32 << 10;
const DESCRIPTOR: usize = 2048;

/// An ISO 9660 file system.
#[derive(Debug)]
pub struct Iso9660 {
    source: Rc<dyn BlockSource>,
    block: u64,
    root: Record,
    naming: Naming,
    label: String,
    uuid: String,
}

/// A number that is there in both byte orders: its first, little endian half.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.copied().map_or(0, u32::from_le_bytes)
}

/// Text in UTF-16, big endian, without the blanks at its end.
fn utf_16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2);
    let units = units.filter_map(|unit| unit.first_chunk().copied().map(u16::from_be_bytes));
    let text = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
    text.collect()
}

/// The time of a descriptor as `blkid` prints it for a UUID: 16 digits, the
/// rest is not of interest. Nothing if it is not set.
fn time(digits: &[u8]) -> Option<String> {
    let digits = digits.get(..16)?;
    if digits.iter().all(|digit| *digit == b'0') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut text = String::new();
    for (at, digit) in digits.iter().enumerate() {
        if at >= 4 && at & 1 == 0 {
            text.push('-');
        }
        text.push(char::from(*digit));
    }
    Some(text)
}

/// The escape sequences of Joliet's three levels.
fn is_joliet(descriptor: &[u8]) -> bool {
    let escape = descriptor.get(88..91).unwrap_or_default();
    [b"%/@", b"%/C", b"%/E"]
        .iter()
        .any(|level| escape == *level)
}

impl Iso9660 {
    /// Opens the file system on a disk or partition.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn open(source: Rc<dyn BlockSource>) -> Result<Self, FsError> {
        Self::new(source).map_err(walk::at(""))
    }

    fn new(source: Rc<dyn BlockSource>) -> Result<Self, Problem> {
        let (mut primary, mut joliet) = (None, None);
        let mut at = DESCRIPTORS;
        for _ in 0..MOST_DESCRIPTORS {
            let mut descriptor = vec![0; DESCRIPTOR];
            source.read_at(at, &mut descriptor)?;
            if descriptor.get(1..6) != Some(b"CD001") {
                return Err(Problem::Corrupt("no end of the volume descriptors".into()));
            }
            match descriptor.first() {
                Some(1) if primary.is_none() => primary = Some(descriptor),
                Some(2) if joliet.is_none() && is_joliet(&descriptor) => joliet = Some(descriptor),
                Some(255) => break,
                _ => {}
            }
            at = at.saturating_add(2048);
        }
        let primary =
            primary.ok_or_else(|| Problem::Corrupt("no primary volume descriptor".into()))?;
        let block = u32_at(&primary, 128) & 0xffff;
        if !matches!(block, 512 | 1024 | 2048) {
            return Err(Problem::Corrupt(format!("blocks of {block} bytes")));
        }
        let text = |bytes: Option<&[u8]>| {
            let text = String::from_utf8_lossy(bytes.unwrap_or_default());
            String::from(text.trim_end_matches([' ', '\0']))
        };
        let mut label = text(primary.get(40..72));
        let uuid = primary.get(830..).and_then(time);
        let uuid = uuid.or_else(|| primary.get(813..).and_then(time));
        let root = |descriptor: &[u8]| {
            let record = descriptor.get(156..190).unwrap_or_default();
            Record::root(record).ok_or_else(|| Problem::Corrupt("no root directory".into()))
        };
        let mut iso = Self {
            block: block.into(),
            root: root(&primary)?,
            naming: Naming::Plain,
            label: String::new(),
            uuid: uuid.unwrap_or_default(),
            source,
        };
        if let Some(skip) = iso.rock_ridge()? {
            iso.naming = Naming::RockRidge { skip };
        } else if let Some(joliet) = &joliet {
            iso.root = root(joliet)?;
            iso.naming = Naming::Joliet;
        }
        // Joliet's may have what ASCII has not, but only 16 units.
        if let Some(joliet) = &joliet {
            let other = utf_16(joliet.get(40..72).unwrap_or_default());
            let other = other.trim_end_matches([' ', '\0']);
            if !other.is_empty() && !label.starts_with(other) {
                label = other.into();
            }
        }
        iso.label = label;
        Ok(iso)
    }

    /// How many bytes to skip in each record's system area, if the root
    /// directory announces Rock Ridge.
    fn rock_ridge(&self) -> Result<Option<usize>, Problem> {
        let bytes = self.directory(&self.root)?;
        let first = record::Raw::parse(bytes.get(..).unwrap_or_default());
        let Some(first) = first else {
            return Ok(None);
        };
        let Some(skip) = susp::announced(first.system) else {
            return Ok(None);
        };
        let fields = susp::read(self, first.system, 0)?;
        Ok(fields.is_rock_ridge.then_some(skip))
    }

    /// The bytes of a directory.
    fn directory(&self, record: &Record) -> Result<Vec<u8>, Problem> {
        if record.bytes() > MOST_DIRECTORY {
            return Err(Problem::Limit {
                what: "bytes of a directory",
                limit: MOST_DIRECTORY,
            });
        }
        let mut bytes = vec![0; usize::try_from(record.bytes()).unwrap_or(0)];
        self.read(record, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads from the pieces of a record.
    fn read(&self, record: &Record, offset: u64, into: &mut [u8]) -> Result<(), Problem> {
        let (mut from, mut offset, mut into) = (0_u64, offset, into);
        for piece in &record.pieces {
            let bytes = u64::from(piece.bytes);
            let end = from.saturating_add(bytes);
            if offset < end && !into.is_empty() {
                let within = offset.saturating_sub(from);
                let left = usize::try_from(bytes.saturating_sub(within)).unwrap_or(usize::MAX);
                let len = left.min(into.len());
                let (now, later) = into.split_at_mut_checked(len).unwrap_or_default();
                let at = u64::from(piece.block).saturating_mul(self.block);
                self.source.read_at(at.saturating_add(within), now)?;
                offset = offset.saturating_add(u64::try_from(len).unwrap_or(0));
                into = later;
            }
            from = end;
        }
        if into.is_empty() {
            return Ok(());
        }
        Err(Problem::Corrupt("a file is shorter than it says".into()))
    }

    /// The records of a directory.
    fn list(&self, directory: &Record) -> Result<Vec<Record>, Problem> {
        record::list(self, &self.directory(directory)?)
    }
}

impl Tree for Iso9660 {
    type Node = Record;

    fn root(&self) -> Result<Record, Problem> {
        Ok(self.root.clone())
    }

    fn kind(&self, node: &Record) -> Kind {
        node.kind
    }

    fn lookup(&self, directory: &Record, name: &str) -> Result<Record, Problem> {
        let any_case = self.naming == Naming::Plain;
        let is_it = |record: &Record| {
            record.name == name || (any_case && record.name.eq_ignore_ascii_case(name))
        };
        let found = self.list(directory)?.into_iter().find(is_it);
        found.ok_or(Problem::Missing)
    }

    fn link(&self, node: &Record) -> Result<String, Problem> {
        Ok(node.link.clone())
    }
}

impl FileSystem for Iso9660 {
    fn kind(&self) -> &'static str {
        "iso9660"
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn metadata(&self, path: &str) -> Result<Metadata, FsError> {
        let node = walk(self, path).map_err(walk::at(path))?;
        Ok(Metadata {
            kind: node.kind.into(),
            len: node.bytes(),
        })
    }

    fn read_dir(&self, path: &str) -> Result<Vec<String>, FsError> {
        let node = walk::directory(self, path).map_err(walk::at(path))?;
        let records = self.list(&node).map_err(walk::at(path))?;
        walk::check_names(records.len()).map_err(walk::at(path))?;
        Ok(records.into_iter().map(|record| record.name).collect())
    }

    fn read_link(&self, path: &str) -> Result<Option<String>, FsError> {
        walk::read_link(self, path).map_err(walk::at(path))
    }

    fn open(&self, path: &str) -> Result<Box<dyn File + '_>, FsError> {
        let node = walk::regular(self, path).map_err(walk::at(path))?;
        if let Some(what) = node.unsupported {
            return Err(walk::at(path)(Problem::Unsupported(what.into())));
        }
        Ok(Box::new(OpenFile {
            fs: self,
            path: path.into(),
            node,
        }))
    }
}

struct OpenFile<'a> {
    fs: &'a Iso9660,
    path: String,
    node: Record,
}

impl File for OpenFile<'_> {
    fn bytes(&self) -> u64 {
        self.node.bytes()
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), FsError> {
        walk::check_range(&self.path, self.node.bytes(), offset, into.len())?;
        let read = self.fs.read(&self.node, offset, into);
        read.map_err(walk::at(&self.path))
    }
}
