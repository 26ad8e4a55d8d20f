//! GUID partition tables.
//!
//! The header is in the second sector; if that or its entries are damaged (both
//! have a CRC-32), the backup is used: where the primary's header says it is
//! if that much of it is good, else in the last sector of the disk.
//!
//! A table counts in the sectors of the disk that it was made for. If there is
//! none for this disk's sectors, one for others is looked for, as GRUB does
//! (`grub-core/partmap/gpt.c`): an image moves to a disk with other sectors.
//!
//! An entry counts wherever on the disk it is: neither Linux
//! (`block/partitions/efi.c`) nor GRUB asks for the usable range of the header.

use alloc::{format, string::String, vec, vec::Vec};

use super::{Entry, PartitionError, PartitionType, Table, name};
use crate::BlockSource;

/// Entries that are read at most; `sgdisk` and `fdisk` make 128.
pub const MOST_ENTRIES: u32 = 1024;
/// Bytes of an entry at most; 128 is usual.
const MOST_ENTRY_BYTES: u32 = 1024;
/// Bytes of a header at least.
const HEADER: usize = 92;
/// Bytes of a sector.
const SECTORS: [u32; 4] = [512, 1024, 2048, 4096];

/// CRC-32 as in IEEE 802.3.
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.copied().map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.copied().map_or(0, u64::from_le_bytes)
}

/// A GUID as Linux prints it: the first three fields are little endian.
fn guid(bytes: &[u8]) -> String {
    let (Some(a), Some(b), Some(c), Some(d)) = (
        bytes.first_chunk::<4>(),
        bytes.get(4..6),
        bytes.get(6..8),
        bytes.get(8..16),
    ) else {
        return String::new();
    };
    let text = |bytes: &mut dyn Iterator<Item = &u8>| -> String {
        bytes.map(|byte| format!("{byte:02x}")).collect()
    };
    let (d, e) = d.split_at_checked(2).unwrap_or_default();
    format!(
        "{:08x}-{}-{}-{}-{}",
        u32::from_le_bytes(*a),
        text(&mut b.iter().rev()),
        text(&mut c.iter().rev()),
        text(&mut d.iter()),
        text(&mut e.iter()),
    )
}

/// What a header says, and its entries.
struct Header {
    /// Bytes of the sectors that it counts in.
    sector: u32,
    entry: usize,
    entries: Vec<u8>,
}

/// Reads the header in a sector of `size` bytes and its entries, or says what is
/// wrong.
///
/// `alternate` gets where the other header should be, if this one is good
/// enough to say.
fn header(
    disk: &dyn BlockSource,
    size: u32,
    lba: u64,
    alternate: &mut Option<u64>,
) -> Result<Header, String> {
    let offset = lba
        .checked_mul(size.into())
        .ok_or_else(|| format!("sector {lba} is beyond the end"))?;
    let mut sector = vec![0; usize::try_from(size).unwrap_or(512)];
    disk.read_at(offset, &mut sector)
        .map_err(|error| format!("{error}"))?;
    if !sector.starts_with(b"EFI PART") {
        return Err(format!("no header in sector {lba}"));
    }
    let length = usize::try_from(u32_at(&sector, 12)).unwrap_or(0);
    let mut bytes = sector
        .get(..length)
        .filter(|_| length >= HEADER)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| format!("a header of {length} bytes, not {HEADER} to {size}"))?;
    let want = u32_at(&bytes, 16);
    if let Some(field) = bytes.get_mut(16..20) {
        field.fill(0);
    }
    let have = CRC.checksum(&bytes);
    if want != have {
        return Err(format!(
            "the header's sum is {have:#010x}, not {want:#010x}"
        ));
    }
    *alternate = Some(u64_at(&bytes, 32));
    if u64_at(&bytes, 24) != lba {
        return Err(format!("the header is of sector {}", u64_at(&bytes, 24)));
    }
    let (count, entry) = (u32_at(&bytes, 80), u32_at(&bytes, 84));
    if count > MOST_ENTRIES {
        return Err(format!("{count} entries, more than {MOST_ENTRIES}"));
    }
    if !(128..=MOST_ENTRY_BYTES).contains(&entry) || !entry.is_power_of_two() {
        return Err(format!(
            "entries of {entry} bytes, not 128 to {MOST_ENTRY_BYTES}"
        ));
    }
    let entry = usize::try_from(entry).unwrap_or(128);
    let length = usize::try_from(count).unwrap_or(0).saturating_mul(entry);
    let mut entries = vec![0; length];
    let at = u64_at(&bytes, 72)
        .checked_mul(size.into())
        .ok_or("entries beyond the end")?;
    disk.read_at(at, &mut entries)
        .map_err(|error| format!("the entries: {error}"))?;
    let (want, have) = (u32_at(&bytes, 88), CRC.checksum(&entries));
    if want != have {
        return Err(format!(
            "the sum of the entries is {have:#010x}, not {want:#010x}"
        ));
    }
    Ok(Header {
        sector: size,
        entry,
        entries,
    })
}

/// Reads a backup: where the primary says that it is, or in the last sector.
fn at_the_end(disk: &dyn BlockSource, size: u32, said: Option<u64>) -> Result<Header, String> {
    let sectors = disk.bytes().checked_div(size.into());
    let last = sectors.unwrap_or(0).saturating_sub(1);
    let mut ignored = None;
    said.filter(|lba| *lba != 1 && *lba != last)
        .and_then(|lba| header(disk, size, lba, &mut ignored).ok())
        .map_or_else(|| header(disk, size, last, &mut ignored), Ok)
}

/// Finds the best header of a disk.
fn find(disk: &dyn BlockSource, notes: &mut Vec<String>) -> Result<Header, PartitionError> {
    let mut alternate = None;
    let own = disk.sector();
    let primary = match header(disk, own, 1, &mut alternate) {
        Ok(header) => return Ok(header),
        Err(primary) => primary,
    };
    let others = || SECTORS.into_iter().filter(|size| *size != own);
    let other = others().find_map(|size| header(disk, size, 1, &mut None).ok());
    let backup = match other {
        Some(other) => Ok(other),
        None => at_the_end(disk, own, alternate).inspect(|_| {
            notes.push(format!(
                "the primary GPT is damaged ({primary}), its backup is used"
            ));
        }),
    };
    let found = match backup {
        Ok(found) => found,
        Err(backup) => others()
            .find_map(|size| at_the_end(disk, size, None).ok())
            .ok_or_else(|| PartitionError::Gpt {
                disk: disk.name().into(),
                primary,
                backup,
            })?,
    };
    if found.sector != own {
        notes.push(format!(
            "the GPT counts sectors of {} bytes, and those of the disk have {own}: \
             Linux does not read it here",
            found.sector
        ));
    }
    Ok(found)
}

/// Reads the partitions of a disk.
pub(super) fn read(disk: &dyn BlockSource, table: &mut Table) -> Result<(), PartitionError> {
    let header = find(disk, &mut table.notes)?;
    let (mut cut, mut missing) = (Vec::new(), Vec::new());
    for (number, bytes) in (1_u32..).zip(header.entries.chunks(header.entry)) {
        let Some(kind) = bytes.get(..16).filter(|kind| **kind != [0; 16]) else {
            continue;
        };
        match entry(disk, header.sector, number, kind, bytes) {
            Some((partition, is_cut)) => {
                cut.extend(is_cut.then_some(number));
                table.partitions.push(partition);
            }
            None => missing.push(number),
        }
    }
    let what = [
        (cut, "ends beyond the end of the disk and is cut"),
        (missing, "is not on the disk"),
    ];
    for (numbers, what) in what {
        // One line, however many there are.
        if let Some((first, more)) = numbers.split_first() {
            let more = match more.len() {
                0 => String::new(),
                more => format!(", and so with {more} more"),
            };
            table.notes.push(format!("partition {first} {what}{more}"));
        }
    }
    Ok(())
}

/// A partition, and whether it ends beyond the disk; nothing if it begins there.
fn entry(
    disk: &dyn BlockSource,
    sector: u32,
    number: u32,
    kind: &[u8],
    bytes: &[u8],
) -> Option<(Entry, bool)> {
    let (first, last) = (u64_at(bytes, 32), u64_at(bytes, 40));
    let start = first.checked_mul(sector.into())?;
    let left = disk.bytes().checked_sub(start).filter(|left| *left > 0)?;
    let sectors = last.checked_sub(first)?.saturating_add(1);
    let length = sectors.saturating_mul(sector.into());
    let units = bytes.get(56..128)?.chunks_exact(2);
    let units = units.filter_map(|unit| unit.first_chunk().copied().map(u16::from_le_bytes));
    let units = units.take_while(|unit| *unit != 0);
    let label = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
    let entry = Entry {
        name: name(disk.name(), number),
        number,
        start,
        bytes: length.min(left),
        kind: PartitionType::Guid(guid(kind)),
        part_uuid: guid(bytes.get(16..32)?),
        label: label.collect(),
        flags: u64_at(bytes, 48),
    };
    Some((entry, length > left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_printed_as_linux_prints_them() {
        let esp = [
            0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e,
            0xc9, 0x3b,
        ];
        assert_eq!(guid(&esp), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(guid(&[]), "");
    }
}
