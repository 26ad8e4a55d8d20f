//! Directories: entries of 32 bytes, long names in front of short ones.
//!
//! A long name is spread over entries with the attributes 0x0f, the last part
//! first, each with the sum of the short name that follows. If any of that is
//! wrong the short name is used alone, as Windows and Linux do.

use alloc::{string::String, vec::Vec};

/// Bytes of a directory at most: 65536 entries, the most that the format
/// allows.
pub const MOST_BYTES: u32 = 2 << 20;

/// Parts of a long name at most: 255 units.
const MOST_PARTS: u8 = 20;
/// Units of a part.
const UNITS: usize = 13;

/// Code page 437 from 0x80 on, which Linux takes short names for.
const CODE_PAGE: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

const READ_ONLY_HIDDEN_SYSTEM_VOLUME: u8 = 0x0f;
const VOLUME: u8 = 0x08;
const DIRECTORY: u8 = 0x10;

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::fs) struct Entry {
    /// The long name, or the short one.
    pub(super) name: String,
    /// The short name.
    pub(super) short: String,
    pub(super) is_directory: bool,
    pub(super) cluster: u32,
    pub(super) bytes: u32,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    /// The volume's label, in the root directory.
    pub(super) label: Option<String>,
}

/// The long name that is being put together.
#[derive(Default)]
struct Long {
    units: Vec<u16>,
    sum: u8,
    /// How many parts are still missing.
    left: u8,
}

impl Long {
    /// Takes a part; one out of order ends the name.
    fn take(&mut self, entry: &[u8; 32]) {
        let order = entry[0];
        let part = order & 0x3f;
        if order & 0x40 != 0 && (1..=MOST_PARTS).contains(&part) {
            *self = Self {
                units: alloc::vec![0xffff; usize::from(part).saturating_mul(UNITS)],
                sum: entry[13],
                left: part,
            };
        } else if self.left == 0 || part != self.left || entry[13] != self.sum {
            *self = Self::default();
            return;
        }
        self.left = self.left.saturating_sub(1);
        let at = usize::from(self.left).saturating_mul(UNITS);
        let parts = [entry.get(1..11), entry.get(14..26), entry.get(28..32)];
        let bytes = parts
            .into_iter()
            .flatten()
            .flat_map(|part| part.chunks_exact(2));
        let units = bytes.filter_map(|unit| unit.first_chunk().copied().map(u16::from_le_bytes));
        for (to, unit) in self.units.iter_mut().skip(at).zip(units) {
            *to = unit;
        }
    }

    /// The name, if it is whole and belongs to this short one.
    fn name(self, short: &[u8]) -> Option<String> {
        let sum = short
            .iter()
            .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        if self.units.is_empty() || self.left != 0 || sum != self.sum {
            return None;
        }
        let end = self
            .units
            .iter()
            .position(|unit| matches!(unit, 0 | 0xffff));
        let units = self.units.get(..end.unwrap_or(self.units.len()))?;
        let name = String::from_utf16(units).ok()?;
        let is_name = !name.is_empty() && !name.contains(['/', '\0']);
        is_name.then_some(name)
    }
}

/// A part of a short name as text.
fn text(bytes: &[u8], is_lower: bool) -> String {
    let end = bytes.iter().rposition(|byte| *byte != b' ');
    let end = end.map_or(0, |last| last.saturating_add(1));
    let chars = bytes.iter().take(end).map(|byte| {
        let c = match byte.checked_sub(0x80) {
            Some(high) => CODE_PAGE.chars().nth(high.into()).unwrap_or('_'),
            None => char::from(*byte),
        };
        if is_lower { c.to_ascii_lowercase() } else { c }
    });
    chars.collect()
}

/// A short name as text: 8 and 3 bytes. Windows NT's bits say what is lower
/// case.
fn short(raw: &[u8; 11], case: u8) -> String {
    let mut raw = *raw;
    // 0xe5 in the first place would mean a deleted entry.
    if raw[0] == 0x05 {
        raw[0] = 0xe5;
    }
    let (base, extension) = raw.split_at_checked(8).unwrap_or_default();
    let mut name = text(base, case & 0x08 != 0);
    let extension = text(extension, case & 0x10 != 0);
    if !extension.is_empty() {
        name.push('.');
        name.push_str(&extension);
    }
    name
}

/// Reads a directory.
pub(super) fn parse(bytes: &[u8]) -> Listing {
    let mut listing = Listing::default();
    let mut long = Long::default();
    for entry in bytes.chunks_exact(32) {
        let Some(entry) = entry.first_chunk::<32>() else {
            continue;
        };
        let attributes = entry[11];
        match entry[0] {
            0 => break,
            0xe5 => {
                long = Long::default();
                continue;
            }
            _ => {}
        }
        if attributes & 0x3f == READ_ONLY_HIDDEN_SYSTEM_VOLUME {
            long.take(entry);
            continue;
        }
        let long = core::mem::take(&mut long);
        let Some(raw) = entry.first_chunk::<11>() else {
            continue;
        };
        if attributes & VOLUME != 0 {
            if listing.label.is_none() {
                listing.label = Some(text(raw, false));
            }
            continue;
        }
        if raw[0] == b'.' {
            continue;
        }
        let short = short(raw, entry[12]);
        let half = |at: usize| {
            let bytes = entry.get(at..).and_then(<[u8]>::first_chunk);
            u32::from(bytes.copied().map_or(0, u16::from_le_bytes))
        };
        let size = entry.last_chunk().copied();
        listing.entries.push(Entry {
            name: long.name(raw).unwrap_or_else(|| short.clone()),
            short,
            is_directory: attributes & DIRECTORY != 0,
            cluster: (half(20) << 16) | half(26),
            bytes: size.map_or(0, u32::from_le_bytes),
        });
    }
    listing
}

/// Whether two names are one, whatever their case.
pub(super) fn same(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        return one.eq_ignore_ascii_case(other);
    }
    let upper = |name| str::chars(name).flat_map(char::to_uppercase);
    upper(one).eq(upper(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_read() {
        assert_eq!(short(b"VMLINUZ    ", 0), "VMLINUZ");
        assert_eq!(short(b"GRUB    CFG", 0x18), "grub.cfg");
        assert_eq!(short(b"GRUB    CFG", 0x08), "grub.CFG");
        assert_eq!(short(b"A B     C  ", 0), "A B.C");
        assert_eq!(short(b"\x05\x8e\xff     \x80  ", 0), "σÄ\u{a0}.Ç");
        assert_eq!(CODE_PAGE.chars().count(), 128);
    }

    #[test]
    fn case_does_not_matter() {
        assert!(same("Größe.CFG", "GRÖSSE.cfg"));
        assert!(!same("a", "b") && !same("a", "aa"));
    }

    /// The entries of a long name, its end first, with a sum.
    fn long(name: &str, sum: u8) -> Vec<[u8; 32]> {
        let mut units: Vec<u16> = name.encode_utf16().collect();
        units.push(0);
        let mut parts = Vec::new();
        for (n, part) in units.chunks(13).enumerate() {
            let mut entry = [0xff; 32];
            entry[0] = u8::try_from(n).unwrap() + 1;
            entry[11] = 0x0f;
            entry[13] = sum;
            let places = (1..11)
                .step_by(2)
                .chain((14..26).step_by(2))
                .chain([28, 30]);
            for (at, unit) in places.zip(part) {
                entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
            }
            parts.push(entry);
        }
        parts.last_mut().unwrap()[0] |= 0x40;
        parts.reverse();
        parts
    }

    #[test]
    fn long_names_need_every_part_and_the_right_sum() {
        let mut file = [0; 32];
        file[..11].copy_from_slice(b"ALONGN~1   ");
        let sum = file[..11]
            .iter()
            .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        let name = "a long name of three parts indeed";
        let good = long(name, sum);
        assert_eq!(good.len(), 3);
        let read = |parts: &[[u8; 32]]| {
            let all: Vec<u8> = parts.iter().chain([&file]).flatten().copied().collect();
            parse(&all).entries.remove(0).name
        };
        assert_eq!(read(&good), name);
        assert_eq!(read(&long(name, sum ^ 1)), "ALONGN~1");
        assert_eq!(read(&good[1..]), "ALONGN~1");
        assert_eq!(read(&good[..2]), "ALONGN~1");
        assert_eq!(read(&[good[0], good[2], good[1]]), "ALONGN~1");
        assert_eq!(read(&[&good[..1], &good].concat()), name);
        assert_eq!(read(&[&good[..], &good].concat()), name);
        assert_eq!(read(&long("a/b", sum)), "ALONGN~1");
    }
}
