//! Directory records.
//!
//! ECMA-119, 9.1: a record never crosses a border of 2048 bytes; a length of 0
//! means that the rest up to there is empty. A file of more than 4 GiB has
//! several records, one behind the other, all but the last marked.

use alloc::{string::String, vec, vec::Vec};

use super::{
    super::{MOST_NAMES, Problem, walk, walk::Kind},
    Iso9660, susp, u32_at, utf_16,
};

/// Pieces of a file at most: 512 GiB.
pub(super) const MOST_PIECES: usize = 128;

/// Where names come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Plain,
    Joliet,
    RockRidge {
        /// Bytes to skip in each system area.
        skip: usize,
    },
}

/// A part of a file, in blocks and bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) block: u32,
    pub(super) bytes: u32,
}

/// A file, directory or link.
#[derive(Clone, Debug)]
pub(in crate::fs) struct Record {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) pieces: Vec<Piece>,
    pub(super) link: String,
    /// What of the file is not understood.
    pub(super) unsupported: Option<&'static str>,
}

impl Record {
    /// The record in a volume descriptor.
    pub(super) fn root(bytes: &[u8]) -> Option<Self> {
        let raw = Raw::parse(bytes)?;
        Some(Self {
            name: String::new(),
            kind: Kind::Directory,
            pieces: vec![raw.piece],
            link: String::new(),
            unsupported: None,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        let bytes = self.pieces.iter().map(|piece| u64::from(piece.bytes));
        // At most 128 times 4 GiB.
        bytes.fold(0, u64::saturating_add)
    }
}

/// A record as it is on the disk.
pub(super) struct Raw<'a> {
    pub(super) len: usize,
    pub(super) piece: Piece,
    flags: u8,
    is_interleaved: bool,
    name: &'a [u8],
    /// What Rock Ridge has.
    pub(super) system: &'a [u8],
}

impl<'a> Raw<'a> {
    /// A record at the beginning of some bytes; nothing if there is none.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let len = usize::from(*bytes.first()?);
        let bytes = bytes.get(..len).filter(|_| len >= 34)?;
        let name_len = usize::from(*bytes.get(32)?);
        let name_end = name_len.checked_add(33)?;
        let name = bytes.get(33..name_end)?;
        // Padded to an even number.
        let system = name_end.checked_add(name_end & 1)?;
        let extended = u32::from(*bytes.get(1)?);
        Some(Self {
            len,
            piece: Piece {
                block: u32_at(bytes, 2).saturating_add(extended),
                bytes: u32_at(bytes, 10),
            },
            flags: *bytes.get(25)?,
            is_interleaved: bytes.get(26..28)? != [0, 0],
            name,
            system: bytes.get(system..).unwrap_or_default(),
        })
    }

    const fn is_directory(&self) -> bool {
        self.flags & 0x02 != 0
    }

    const fn goes_on(&self) -> bool {
        self.flags & 0x80 != 0
    }

    /// A plain name as Linux shows it.
    fn plain(&self) -> String {
        let name = String::from_utf8_lossy(self.name).to_ascii_lowercase();
        let name = name.split(';').next().unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name);
        name.into()
    }

    fn joliet(&self) -> String {
        let name = utf_16(self.name);
        name.split(';').next().unwrap_or_default().into()
    }
}

/// The records of a directory's bytes, but for itself and its parent.
pub(super) fn list(iso: &Iso9660, bytes: &[u8]) -> Result<Vec<Record>, Problem> {
    let mut records: Vec<Record> = Vec::new();
    let mut goes_on = false;
    for sector in bytes.chunks(2048) {
        let mut rest = sector;
        while let Some(raw) = Raw::parse(rest) {
            rest = rest.get(raw.len..).unwrap_or_default();
            if matches!(raw.name, [0] | [1]) {
                continue;
            }
            match records.last_mut() {
                Some(last) if goes_on => {
                    if last.pieces.len() >= MOST_PIECES {
                        return Err(walk::limit("pieces of a file", MOST_PIECES));
                    }
                    last.pieces.push(raw.piece);
                }
                _ => records.extend(record(iso, &raw)?),
            }
            goes_on = raw.goes_on();
            if records.len() > MOST_NAMES {
                return Err(walk::limit("names", MOST_NAMES));
            }
        }
    }
    Ok(records)
}

/// A record; nothing if it is not to be shown.
fn record(iso: &Iso9660, raw: &Raw<'_>) -> Result<Option<Record>, Problem> {
    let mut record = Record {
        name: String::new(),
        kind: if raw.is_directory() {
            Kind::Directory
        } else {
            Kind::Regular
        },
        pieces: vec![raw.piece],
        link: String::new(),
        unsupported: raw.is_interleaved.then_some("interleaved files"),
    };
    match iso.naming {
        Naming::Plain => record.name = raw.plain(),
        Naming::Joliet => record.name = raw.joliet(),
        Naming::RockRidge { skip } => {
            let fields = susp::read(iso, raw.system, skip)?;
            if fields.is_moved {
                return Ok(None);
            }
            // Not UTF-8: left out.
            match fields.name {
                Some(Ok(name)) => record.name = name,
                Some(Err(_)) => return Ok(None),
                None => record.name = raw.plain(),
            }
            if let Some(mode) = fields.mode {
                record.kind = Kind::from_mode(mode);
            }
            if let Some(block) = fields.child {
                let child = child(iso, block)?;
                record.kind = Kind::Directory;
                record.pieces = vec![child];
            }
            if fields.is_compressed {
                record.unsupported = Some("files compressed with zisofs");
            }
            record.link = fields.link;
        }
    }
    let is_name = !record.name.is_empty() && !record.name.contains(['/', '\0']);
    Ok(is_name.then_some(record))
}

/// A directory that was moved up, from its own first record.
fn child(iso: &Iso9660, block: u32) -> Result<Piece, Problem> {
    let mut bytes = [0; 34];
    let at = u64::from(block).saturating_mul(iso.block);
    iso.source.read_at(at, &mut bytes)?;
    // The record may have more than this, which is of no interest here.
    if let Some(len) = bytes.first_mut() {
        *len = (*len).min(34);
    }
    let raw = Raw::parse(&bytes);
    let raw = raw.filter(|raw| raw.piece.block == block && raw.is_directory());
    raw.map(|raw| raw.piece)
        .ok_or_else(|| Problem::Corrupt("a directory that was moved is not there".into()))
}
