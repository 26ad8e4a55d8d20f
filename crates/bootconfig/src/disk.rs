//! From a disk to its volumes.
//!
//! Steps: a cache over the disk, with a limit to what reading it may cost; its
//! partition table; the file system of each partition, or of the whole disk
//! where there is no table. What cannot be read is named, and left.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use kexen_disk::{
    BlockSource, Cache, CacheOptions, Room,
    fs::{foreign, probe},
    partition::{self, PartitionType, Scheme},
    raid::{self, Member},
};

use crate::volumes::{TableKind, Volume};

/// What is said of a mirror.
const MIRRORED: &str = "it is one member of a mirror (Linux RAID 1) and read by itself";
/// Volumes of a disk that are looked at.
const MOST: usize = 64;

/// The memory that reading a disk may take.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Its cache's.
    pub cache: CacheOptions,
    /// Whether there is more of it: asked before each read.
    pub has_room: Room,
}

impl Default for Memory {
    /// Without an end, as a host has it.
    fn default() -> Self {
        Self {
            cache: CacheOptions::default(),
            has_room: || true,
        }
    }
}

/// What is on a disk.
#[derive(Debug, Default)]
pub struct Found {
    /// What can be read.
    pub volumes: Vec<Volume<'static>>,
    /// What is known, and not read here: which partition, and what is on it.
    pub foreign: Vec<(String, &'static str)>,
    /// What cannot be read, and why.
    pub problems: Vec<String>,
    /// What should be known of what can be read: a partition table that is wrong
    /// somewhere, a member of a mirror.
    pub notes: Vec<String>,
}

/// What is on a disk. With a number, the source is that partition by itself, and
/// has no table.
#[must_use]
pub fn volumes(disk: Rc<dyn BlockSource>, partition: Option<u32>, memory: Memory) -> Found {
    let name = disk.name().to_string();
    let cached = Cache::new(disk, memory.cache).with_room(memory.has_room);
    let cached: Rc<dyn BlockSource> = Rc::new(cached);
    let mut found = Found::default();
    let whole = Unread {
        name: name.clone(),
        partition,
        ..Unread::default()
    };
    if partition.is_some() {
        found.add(cached, &name, whole);
        return found;
    }
    // A table may be within a mirror, too.
    let cached = match raid::member(&cached) {
        Ok(Some(Member::Mirror(within))) => {
            found.notes.push(format!("{name}: {MIRRORED}"));
            within
        }
        _ => cached,
    };
    let table = match partition::read(&cached) {
        Ok(table) => table,
        Err(error) => {
            found.problems.push(error.to_string());
            return found;
        }
    };
    let notes = table.notes.iter().map(|note| format!("{name}: {note}"));
    found.notes.extend(notes);
    if table.whole {
        found.add(Rc::clone(&cached), &name, whole);
    }
    for entry in table.partitions.iter().take(MOST) {
        let Some(source) = entry.open(&cached) else {
            continue;
        };
        let type_guid = match &entry.kind {
            PartitionType::Guid(guid) => guid.clone(),
            PartitionType::Mbr(_) => String::new(),
        };
        let volume = Unread {
            name: entry.name.clone(),
            partition: Some(entry.number),
            table: match table.scheme {
                Scheme::Gpt => Some(TableKind::Gpt),
                Scheme::Mbr => Some(TableKind::Msdos),
                Scheme::None => None,
            },
            partuuid: entry.part_uuid.clone(),
            type_guid,
            partlabel: entry.label.clone(),
            attributes: match table.scheme {
                Scheme::Gpt => entry.flags,
                Scheme::Mbr | Scheme::None => 0,
            },
        };
        found.add(Rc::new(source), &name, volume);
    }
    found
}

impl Found {
    /// Adds what is on a disk or partition of the disk `name`.
    fn add(&mut self, source: Rc<dyn BlockSource>, name: &str, volume: Unread) {
        let source = match raid::member(&source) {
            Ok(Some(Member::Mirror(within))) => {
                self.notes.push(format!("{}: {MIRRORED}", volume.name));
                within
            }
            Ok(Some(Member::Unread(what))) => {
                self.foreign.push((volume.name, what));
                return;
            }
            // What cannot be read there is said where something is missing.
            Ok(None) | Err(_) => source,
        };
        match probe(source.clone()) {
            Ok(Some(fs)) => self.volumes.push(Volume {
                name: volume.name,
                disk: name.into(),
                partition: volume.partition,
                table: volume.table,
                partuuid: volume.partuuid,
                type_guid: volume.type_guid,
                partlabel: volume.partlabel,
                attributes: volume.attributes,
                fs,
                raw: Some(source),
            }),
            Ok(None) => {
                let known = foreign(&*source).map(|what| (volume.name, what));
                self.foreign.extend(known);
            }
            Err(error) => self.problems.push(format!("{}: {error}", volume.name)),
        }
    }
}

/// A volume whose file system is not known yet.
#[derive(Default)]
struct Unread {
    name: String,
    partition: Option<u32>,
    table: Option<TableKind>,
    partuuid: String,
    type_guid: String,
    partlabel: String,
    attributes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use kexen_disk::MemoryDisk;

    #[test]
    fn a_disk_with_nothing_on_it_has_no_volumes() {
        let disk = || Rc::new(MemoryDisk::new("xvda", alloc::vec![0; 1 << 16]));
        for partition in [None, Some(1)] {
            let found = volumes(disk(), partition, Memory::default());
            assert!(found.volumes.is_empty(), "{found:?}");
            assert!(found.foreign.is_empty(), "{found:?}");
            assert_eq!(found.problems, Vec::<String>::new());
        }
    }

    #[test]
    fn what_is_not_read_here_is_named() {
        let mut bytes = alloc::vec![0; 1 << 16];
        bytes[..4].copy_from_slice(b"hsqs");
        let disk = Rc::new(MemoryDisk::new("xvda", bytes));
        let found = volumes(disk, None, Memory::default());
        assert_eq!(found.foreign, [("xvda".to_string(), "squashfs")]);
        assert!(found.volumes.is_empty() && found.problems.is_empty());
    }
}
