//! Rock Ridge: fields in the system areas of directory records.
//!
//! SUSP: each field has a signature of two letters, a length and a version;
//! `CE` says where more of them are, `ST` ends them, `SP` in the root directory
//! announces them. RRIP: `PX` mode, `NM` name, `SL` link, `CL`, `RE` directories
//! that were moved because they were too deep, `ZF` compressed by zisofs.

use alloc::{string::String, vec, vec::Vec};

use super::{
    super::{Problem, walk},
    Iso9660, u32_at,
};

/// Areas that are read for a record.
const MOST_AREAS: usize = 32;
/// Bytes of an area: one sector.
const MOST_AREA: u32 = 2048;
/// Bytes of a name.
const MOST_NAME: usize = 255;

/// What Rock Ridge says of a file.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) is_rock_ridge: bool,
    pub(super) name: Option<Result<String, ()>>,
    pub(super) mode: Option<u32>,
    pub(super) link: String,
    /// The block of a directory that was moved away from here.
    pub(super) child: Option<u32>,
    /// A directory that was moved to here.
    pub(super) is_moved: bool,
    pub(super) is_compressed: bool,
}

/// Whether a system area (of the root directory itself) announces fields, and
/// how many bytes are before them in all others.
pub(super) fn announced(system: &[u8]) -> Option<usize> {
    let field = system.get(..7)?;
    let is_it = field.starts_with(b"SP") && field.get(4..6) == Some(&[0xbe, 0xef]);
    is_it.then(|| field.get(6).copied().map_or(0, usize::from))
}

/// The parts of a link that are put together.
#[derive(Default)]
struct Link {
    bytes: Vec<u8>,
    /// The last component goes on in the next record.
    goes_on: bool,
}

impl Link {
    fn component(&mut self, flags: u8, text: &[u8]) {
        let text: &[u8] = match flags & 0x0e {
            0x02 => b".",
            0x04 => b"..",
            0x08 => {
                self.bytes.clear();
                b"/"
            }
            _ => text,
        };
        if !self.goes_on && !self.bytes.is_empty() && !self.bytes.ends_with(b"/") {
            self.bytes.push(b'/');
        }
        self.bytes.extend(text);
        self.goes_on = flags & 0x01 != 0;
    }

    /// The components of a field.
    fn field(&mut self, data: &[u8]) -> Result<(), Problem> {
        // After the flags of the field.
        let mut rest = data.get(1..).unwrap_or_default();
        while let [flags, len, more @ ..] = rest {
            let (text, more) = more
                .split_at_checked(usize::from(*len))
                .ok_or_else(|| Problem::Corrupt("a link longer than its field".into()))?;
            self.component(*flags, text);
            rest = more;
        }
        if self.bytes.len() > walk::MOST_PATH {
            return Err(walk::limit("bytes of a path", walk::MOST_PATH));
        }
        Ok(())
    }
}

/// Reads the fields of a record.
pub(super) fn read(iso: &Iso9660, system: &[u8], skip: usize) -> Result<Fields, Problem> {
    let mut fields = Fields::default();
    let mut name: Option<Vec<u8>> = None;
    let mut link = Link::default();
    let mut area = system.get(skip..).unwrap_or_default().to_vec();
    for _ in 0..MOST_AREAS {
        let mut next = None;
        let mut rest = area.as_slice();
        while let [a, b, len, _, ..] = *rest {
            let Some((field, more)) = rest.split_at_checked(len.into()).filter(|_| len >= 4) else {
                break;
            };
            rest = more;
            let data = field.get(4..).unwrap_or_default();
            match &[a, b] {
                b"CE" => next = Some((u32_at(data, 0), u32_at(data, 8), u32_at(data, 16))),
                b"ST" => break,
                b"RR" => fields.is_rock_ridge = true,
                b"PX" => {
                    fields.is_rock_ridge = true;
                    fields.mode = Some(u32_at(data, 0));
                }
                b"NM" => {
                    let name = name.get_or_insert_default();
                    name.extend(data.get(1..).unwrap_or_default());
                    if name.len() > MOST_NAME {
                        return Err(walk::limit("bytes of a name", MOST_NAME));
                    }
                }
                b"SL" => link.field(data)?,
                b"CL" => fields.child = Some(u32_at(data, 0)),
                b"RE" => fields.is_moved = true,
                b"ZF" => fields.is_compressed = true,
                _ => {}
            }
        }
        let Some((block, offset, len)) = next else {
            fields.name = name.map(|name| String::from_utf8(name).map_err(|_| ()));
            fields.link = String::from_utf8(link.bytes)
                .map_err(|_| Problem::Unsupported("a link not in UTF-8".into()))?;
            return Ok(fields);
        };
        if len > MOST_AREA {
            return Err(Problem::Limit {
                what: "bytes of a system area",
                limit: MOST_AREA.into(),
            });
        }
        let at = u64::from(block)
            .saturating_mul(iso.block)
            .saturating_add(offset.into());
        area = vec![0; usize::try_from(len).unwrap_or(0)];
        iso.source.read_at(at, &mut area)?;
    }
    Err(walk::limit("system areas of a record", MOST_AREAS))
}
