//! Master boot records and the chain of extended ones.
//!
//! Four entries at 446, a signature at 510. In an extended record an entry of
//! data is relative to that record; the first entry of an extended type, relative
//! to the extended partition, is where the next record is. Most tools put the data
//! first and the link second; DR-DOS puts the link first where there is no data,
//! and OS/2 uses all four, as Linux (`block/partitions/msdos.c`) and GRUB
//! (`grub-core/partmap/msdos.c`) have it. Of the third and fourth entries, which
//! may be garbage, Linux takes those that lie within the extended partition.

use alloc::{collections::BTreeSet, format, string::String};
use core::ops::Range;

use super::{Entry, PartitionType, Table, name};
use crate::{BlockSource, ReadError};

/// Logical partitions that are read at most.
pub const MOST_LOGICAL: u32 = 128;

/// An entry of a record, in sectors.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    active: u8,
    kind: u8,
    start: u32,
    sectors: u32,
}

impl Slot {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            active: *bytes.first()?,
            kind: *bytes.get(4)?,
            start: u32::from_le_bytes(*bytes.get(8..)?.first_chunk()?),
            sectors: u32::from_le_bytes(*bytes.get(12..)?.first_chunk()?),
        })
    }

    /// One that starts at the first sector is a file system's pretence
    /// (`mkfs.fat --mbr`) or isohybrid's: it is the whole disk.
    const fn is_used(self) -> bool {
        self.kind != 0 && self.sectors != 0 && self.start != 0
    }

    const fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    /// Whether it leads to another record of a chain.
    const fn is_link(self) -> bool {
        self.is_extended() && self.sectors != 0
    }

    /// Whether it lies in its record at `at`, which has room for so many sectors,
    /// and in the extended partition.
    fn is_in(self, at: u64, room: u32, extended: &Range<u64>) -> bool {
        let (offset, length) = (u64::from(self.start), u64::from(self.sectors));
        let start = at.saturating_add(offset);
        offset.saturating_add(length) <= u64::from(room)
            && start >= extended.start
            && start.saturating_add(length) <= extended.end
    }
}

/// A record.
#[derive(Debug)]
pub(super) struct Record {
    id: u32,
    slots: [Slot; 4],
}

impl Record {
    /// Reads a record; nothing if it is none, but a boot sector of a file
    /// system or something else.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.get(510..512)? != [0x55, 0xaa] {
            return None;
        }
        let mut slots = [Slot::default(); 4];
        let entries = bytes.get(446..510)?;
        for (slot, bytes) in slots.iter_mut().zip(entries.chunks(16)) {
            *slot = Slot::parse(bytes)?;
        }
        // Boot code where the entries should be.
        if slots.iter().any(|slot| slot.active & 0x7f != 0) {
            return None;
        }
        let is_protective = slots.iter().any(|slot| slot.kind == 0xee);
        if !is_protective && !slots.iter().any(|slot| slot.is_used()) {
            return None;
        }
        Some(Self {
            id: u32::from_le_bytes(*bytes.get(440..)?.first_chunk()?),
            slots,
        })
    }

    /// Whether it stands before a GPT.
    pub(super) fn is_protective(&self) -> bool {
        self.slots.iter().any(|slot| slot.kind == 0xee)
    }
}

/// A partition, unless it is not on the disk.
fn entry(disk: &dyn BlockSource, id: u32, number: u32, slot: Slot, base: u64) -> Option<Entry> {
    let sector = u64::from(disk.sector());
    let start = base.checked_add(slot.start.into())?.checked_mul(sector)?;
    let left = disk.bytes().checked_sub(start).filter(|left| *left > 0)?;
    Some(Entry {
        name: name(disk.name(), number),
        number,
        start,
        // As Linux does: one that ends beyond the disk is cut.
        bytes: u64::from(slot.sectors).checked_mul(sector)?.min(left),
        kind: PartitionType::Mbr(slot.kind),
        part_uuid: format!("{id:08x}-{number:02x}"),
        label: String::new(),
        flags: slot.active.into(),
    })
}

/// Reads the partitions of a disk whose first record is `record`.
pub(super) fn read(
    disk: &dyn BlockSource,
    record: &Record,
    table: &mut Table,
) -> Result<(), ReadError> {
    for (number, slot) in (1_u32..).zip(record.slots) {
        if slot.is_used() && !slot.is_extended() {
            let entry = entry(disk, record.id, number, slot, 0);
            table.partitions.extend(entry);
        }
    }
    // There may be several, which Linux numbers on.
    let mut chain = Chain {
        disk,
        id: record.id,
        seen: BTreeSet::new(),
        number: 5,
    };
    for extended in record.slots {
        if extended.is_used() && extended.is_extended() {
            chain.follow(extended, table)?;
        }
    }
    Ok(())
}

/// The chains of extended records.
struct Chain<'a> {
    disk: &'a dyn BlockSource,
    id: u32,
    seen: BTreeSet<u64>,
    /// Of the next logical partition.
    number: u32,
}

impl Chain<'_> {
    /// Follows the chain of an extended partition.
    fn follow(&mut self, extended: Slot, table: &mut Table) -> Result<(), ReadError> {
        let (disk, id) = (self.disk, self.id);
        let sector = u64::from(disk.sector());
        let base = u64::from(extended.start);
        let all = base..base.saturating_add(extended.sectors.into());
        let mut at = base;
        let mut room = extended.sectors;
        loop {
            let offset = at.saturating_mul(sector);
            let note = if !self.seen.insert(at) {
                Some("the extended partitions form a loop")
            } else if offset.saturating_add(sector) > disk.bytes() {
                Some("an extended partition lies beyond the end")
            } else {
                None
            };
            if let Some(note) = note {
                table.notes.push(format!("at sector {at}: {note}"));
                return Ok(());
            }
            let mut bytes = [0; 512];
            disk.read_at(offset, &mut bytes)?;
            if bytes.get(510..) != Some(&[0x55, 0xaa]) {
                let note = format!("at sector {at}: no extended boot record");
                table.notes.push(note);
                return Ok(());
            }
            let mut slots = [Slot::default(); 4];
            let entries = bytes.get(446..510).unwrap_or_default();
            for (slot, bytes) in slots.iter_mut().zip(entries.chunks(16)) {
                *slot = Slot::parse(bytes).unwrap_or_default();
            }
            for (n, data) in slots.into_iter().enumerate() {
                if !data.is_used() || data.is_extended() || (n >= 2 && !data.is_in(at, room, &all))
                {
                    continue;
                }
                if self.number >= MOST_LOGICAL.saturating_add(5) {
                    let note = format!("more than {MOST_LOGICAL} logical partitions");
                    table.notes.push(note);
                    return Ok(());
                }
                let entry = entry(disk, id, self.number, data, at);
                table.partitions.extend(entry);
                self.number = self.number.saturating_add(1);
            }
            let next = slots.iter().find(|slot| slot.is_link());
            // The next record's start may be 0 only if there is none.
            let Some(next) = next.filter(|next| next.start != 0) else {
                return Ok(());
            };
            if self.seen.len() > usize::try_from(MOST_LOGICAL).unwrap_or(0) {
                let note = format!("more than {MOST_LOGICAL} extended boot records");
                table.notes.push(note);
                return Ok(());
            }
            at = base.saturating_add(next.start.into());
            room = next.sectors;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{rc::Rc, vec, vec::Vec};

    use super::*;
    use crate::{MemoryDisk, partition};

    fn slot(bytes: &mut [u8], at: usize, kind: u8, start: u32, sectors: u32) {
        bytes[at + 4] = kind;
        bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        let sector = at & !511;
        bytes[sector + 510..sector + 512].copy_from_slice(&[0x55, 0xaa]);
    }

    fn table(bytes: Vec<u8>) -> Table {
        let disk: Rc<dyn BlockSource> = Rc::new(MemoryDisk::new("xvda", bytes));
        partition::read(&disk).unwrap()
    }

    #[test]
    fn a_chain_that_bites_its_tail_ends() {
        let mut bytes = vec![0; 100 * 512];
        slot(&mut bytes, 446, 0x05, 10, 80);
        slot(&mut bytes, 10 * 512 + 446, 0x83, 1, 5);
        slot(&mut bytes, 10 * 512 + 462, 0x05, 10, 10);
        slot(&mut bytes, 20 * 512 + 446, 0x83, 1, 5);
        slot(&mut bytes, 20 * 512 + 462, 0x05, 10, 10);
        let table = table(bytes);
        let numbers: Vec<u32> = table.partitions.iter().map(|p| p.number).collect();
        assert_eq!(numbers, [5, 6]);
        assert_eq!(table.notes.len(), 1);
    }

    #[test]
    fn a_chain_has_an_end() {
        let mut bytes = vec![0; 1000 * 512];
        slot(&mut bytes, 446, 0x05, 1, 999);
        for n in 1..998 {
            slot(&mut bytes, n * 512 + 446, 0x83, 1, 1);
            slot(
                &mut bytes,
                n * 512 + 462,
                0x05,
                u32::try_from(n).unwrap(),
                1,
            );
        }
        let table = table(bytes);
        assert_eq!(table.partitions.len(), 128);
        assert_eq!(table.notes.len(), 1);
    }

    #[test]
    fn partitions_off_the_disk_are_left_out_or_cut() {
        let mut bytes = vec![0; 100 * 512];
        slot(&mut bytes, 446, 0x83, 200, 5);
        slot(&mut bytes, 462, 0x83, 90, u32::MAX);
        slot(&mut bytes, 478, 0x83, u32::MAX, u32::MAX);
        let table = table(bytes);
        assert_eq!(table.partitions.len(), 1);
        assert_eq!(table.partitions[0].bytes, 10 * 512);
    }

    #[test]
    fn boot_sectors_are_no_tables() {
        let mut bytes = vec![0; 100 * 512];
        slot(&mut bytes, 446, 0x83, 10, 5);
        bytes[462] = 0x42;
        assert_eq!(table(bytes).scheme, partition::Scheme::None);
        let mut bytes = vec![0; 100 * 512];
        slot(&mut bytes, 446, 0x0c, 0, 100);
        assert!(table(bytes).whole);
    }
}
