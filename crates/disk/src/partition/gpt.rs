//! GUID partition tables.
//!
//! The header is in the second sector; if that or its entries are damaged (both
//! have a CRC-32), the backup is used: where the primary's header says it is
//! if that much of it is good, else in the last sector of the disk.

use alloc::{format, string::String, vec, vec::Vec};

use super::{Entry, PartitionError, PartitionType, Table, name};
use crate::BlockSource;

/// Entries that are read at most; `sgdisk` and `fdisk` make 128.
pub const MOST_ENTRIES: u32 = 1024;
/// Bytes of an entry at most; 128 is usual.
const MOST_ENTRY_BYTES: u32 = 1024;
/// Bytes of a header at least.
const HEADER: usize = 92;

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
    first: u64,
    last: u64,
    entry: usize,
    entries: Vec<u8>,
}

/// Reads the header in a sector and its entries, or says what is wrong.
///
/// `alternate` gets where the other header should be, if this one is good
/// enough to say.
fn header(disk: &dyn BlockSource, lba: u64, alternate: &mut Option<u64>) -> Result<Header, String> {
    let size = disk.sector();
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
        first: u64_at(&bytes, 40),
        last: u64_at(&bytes, 48),
        entry,
        entries,
    })
}

/// Reads the partitions of a disk.
pub(super) fn read(disk: &dyn BlockSource, table: &mut Table) -> Result<(), PartitionError> {
    let mut alternate = None;
    let header = match header(disk, 1, &mut alternate) {
        Ok(header) => header,
        Err(primary) => {
            let sectors = disk.bytes().checked_div(disk.sector().into());
            let last = sectors.unwrap_or(0).saturating_sub(1);
            let mut ignored = None;
            let said = alternate.filter(|lba| *lba != 1 && *lba != last);
            let backup = said
                .and_then(|lba| header(disk, lba, &mut ignored).ok())
                .map_or_else(|| header(disk, last, &mut ignored), Ok);
            let backup = backup.map_err(|backup| PartitionError::Gpt {
                disk: disk.name().into(),
                primary: primary.clone(),
                backup,
            })?;
            table.notes.push(format!(
                "the primary GPT is damaged ({primary}), its backup is used"
            ));
            backup
        }
    };
    for (number, bytes) in (1_u32..).zip(header.entries.chunks(header.entry)) {
        let partition = entry(disk, &header, number, bytes);
        table.partitions.extend(partition);
    }
    Ok(())
}

/// A partition, unless the entry is unused or not on the disk.
fn entry(disk: &dyn BlockSource, header: &Header, number: u32, bytes: &[u8]) -> Option<Entry> {
    let kind = bytes.get(..16).filter(|kind| **kind != [0; 16])?;
    let (first, last) = (u64_at(bytes, 32), u64_at(bytes, 40));
    if first < header.first || last > header.last || last < first {
        return None;
    }
    let sector = u64::from(disk.sector());
    let start = first.checked_mul(sector)?;
    let end = last.checked_add(1)?.checked_mul(sector)?;
    if end > disk.bytes() {
        return None;
    }
    let units = bytes.get(56..128)?.chunks_exact(2);
    let units = units.filter_map(|unit| unit.first_chunk().copied().map(u16::from_le_bytes));
    let units = units.take_while(|unit| *unit != 0);
    let label = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
    Some(Entry {
        name: name(disk.name(), number),
        number,
        start,
        bytes: end.checked_sub(start)?,
        kind: PartitionType::Guid(guid(kind)),
        part_uuid: guid(bytes.get(16..32)?),
        label: label.collect(),
        flags: u64_at(bytes, 48),
    })
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
