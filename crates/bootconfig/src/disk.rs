//! From a disk to its volumes.
//!
//! Steps: a cache over the disk, and a limit to what reading it may cost; its
//! partition table; the file system of each
//! partition, or of the whole disk where there is no table. What cannot be
//! read is named, and left.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use kexen_disk::{
    BlockSource, Cache, CacheOptions, Limited, Room,
    fs::probe,
    partition::{self, PartitionType, Scheme},
};

use crate::volumes::{TableKind, Volume};

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

/// What is on a disk, and what of it cannot be read. With a number, the source
/// is that partition by itself, and has no table.
#[must_use]
pub fn volumes(
    disk: Rc<dyn BlockSource>,
    partition: Option<u32>,
    memory: Memory,
) -> (Vec<Volume<'static>>, Vec<String>) {
    let name = disk.name().to_string();
    let cached = Rc::new(Cache::new(disk, memory.cache));
    let cached: Rc<dyn BlockSource> = Rc::new(Limited::new(cached, memory.has_room));
    let mut volumes = Vec::new();
    let mut problems = Vec::new();
    let mut add = |source: Rc<dyn BlockSource>, volume: Unread| match probe(source) {
        Ok(Some(fs)) => volumes.push(Volume {
            name: volume.name,
            disk: name.clone(),
            partition: volume.partition,
            table: volume.table,
            partuuid: volume.partuuid,
            type_guid: volume.type_guid,
            fs,
        }),
        Ok(None) => {}
        Err(error) => problems.push(format!("{}: {error}", volume.name)),
    };
    let whole = Unread {
        name: name.clone(),
        partition,
        ..Unread::default()
    };
    if partition.is_some() {
        add(cached, whole);
        return (volumes, problems);
    }
    let table = match partition::read(&cached) {
        Ok(table) => table,
        Err(error) => return (volumes, [error.to_string()].into()),
    };
    if table.whole {
        add(Rc::clone(&cached), whole);
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
        };
        add(Rc::new(source), volume);
    }
    (volumes, problems)
}

/// A volume whose file system is not known yet.
#[derive(Default)]
struct Unread {
    name: String,
    partition: Option<u32>,
    table: Option<TableKind>,
    partuuid: String,
    type_guid: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use kexen_disk::MemoryDisk;

    #[test]
    fn a_disk_with_nothing_on_it_has_no_volumes() {
        let disk = || Rc::new(MemoryDisk::new("xvda", alloc::vec![0; 1 << 16]));
        for partition in [None, Some(1)] {
            let (volumes, problems) = volumes(disk(), partition, Memory::default());
            assert!(volumes.is_empty(), "{volumes:?}");
            assert_eq!(problems, Vec::<String>::new());
        }
    }
}
