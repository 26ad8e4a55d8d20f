//! The boot sector: where everything is.

use alloc::{format, string::String};

use super::super::Problem;

/// The kinds, by the width of an entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Fat12,
    Fat16,
    Fat32,
}

/// Where everything is, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) width: Width,
    /// The table that is used.
    pub(super) table: u64,
    /// The first cluster, number 2.
    pub(super) data: u64,
    pub(super) cluster: u32,
    /// How many clusters there are.
    pub(super) clusters: u32,
    /// The root directory of FAT12 and FAT16, and how long it is.
    pub(super) root: u64,
    pub(super) root_bytes: u32,
    /// The root directory of FAT32.
    pub(super) root_cluster: u32,
    pub(super) serial: u32,
    /// What is wrong, though it can be read.
    pub(super) note: Option<String>,
}

/// A number of a boot sector.
fn field<const N: usize>(sector: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    for (byte, from) in bytes.iter_mut().zip(sector.iter().skip(at).take(N)) {
        *byte = *from;
    }
    u32::from_le_bytes(bytes)
}

impl Layout {
    /// Reads the boot sector of a file system on a disk of so many bytes.
    ///
    /// [`Problem::Missing`] if it is none of FAT's.
    pub(super) fn parse(sector: &[u8], bytes: u64) -> Result<Self, Problem> {
        let bytes_per_sector = field::<2>(sector, 11);
        let per_cluster = field::<1>(sector, 13);
        let reserved = field::<2>(sector, 14);
        let tables = field::<1>(sector, 16);
        let media = field::<1>(sector, 21);
        let looks_right = (512..=4096).contains(&bytes_per_sector)
            && bytes_per_sector.is_power_of_two()
            && per_cluster.is_power_of_two()
            && reserved != 0
            && tables != 0
            && (media == 0xf0 || media >= 0xf8);
        if !looks_right {
            return Err(Problem::Missing);
        }
        let bad = |what: &str, value: u32| {
            let text = format!("{what} is {value}");
            Problem::Corrupt(text)
        };
        let entries = field::<2>(sector, 17);
        let total = match field::<2>(sector, 19) {
            0 => field::<4>(sector, 32),
            few => few,
        };
        // As Linux does: a FAT32 is one whose short field is empty.
        let short = field::<2>(sector, 22);
        let is_32 = short == 0;
        let table_sectors = if is_32 { field::<4>(sector, 36) } else { short };
        if total == 0 || table_sectors == 0 {
            return Err(Problem::Missing);
        }
        let wide = |value: u32| u64::from(value).saturating_mul(bytes_per_sector.into());
        // Neither Linux (`fs/fat/inode.c`) nor GRUB refuses it: what is there can
        // be read.
        let note = (wide(total) > bytes).then(|| {
            format!("its {total} sectors do not fit on a disk of {bytes} bytes: it was cut off")
        });
        let root_bytes = entries.saturating_mul(32);
        let root_sectors = root_bytes.div_ceil(bytes_per_sector);
        let root_sector = table_sectors
            .checked_mul(tables)
            .and_then(|sectors| sectors.checked_add(reserved))
            .ok_or_else(|| bad("sectors of a table", table_sectors))?;
        let data_sector = root_sector
            .checked_add(root_sectors)
            .filter(|data| *data < total)
            .ok_or_else(|| bad("the first sector of data", root_sector))?;
        let clusters = total
            .saturating_sub(data_sector)
            .checked_div(per_cluster)
            .unwrap_or(0);
        let width = match clusters {
            _ if is_32 => Width::Fat32,
            0..4085 => Width::Fat12,
            _ => Width::Fat16,
        };
        // No more than the table has entries for.
        let table_bytes = wide(table_sectors);
        let entries = match width {
            Width::Fat12 => table_bytes.saturating_mul(2).checked_div(3),
            Width::Fat16 => table_bytes.checked_div(2),
            Width::Fat32 => table_bytes.checked_div(4),
        };
        let entries = u32::try_from(entries.unwrap_or(0)).unwrap_or(u32::MAX);
        let clusters = clusters.min(entries.saturating_sub(2));
        // Bit 7: only one table is kept up to date, the low bits say which.
        let flags = if is_32 { field::<2>(sector, 40) } else { 0 };
        let active = if flags & 0x80 != 0 { flags & 0xf } else { 0 };
        let table_sector = table_sectors
            .checked_mul(active)
            .and_then(|sectors| sectors.checked_add(reserved))
            .filter(|_| active < tables)
            .ok_or_else(|| bad("the number of the active table", active))?;
        Ok(Self {
            width,
            table: wide(table_sector),
            data: wide(data_sector),
            cluster: bytes_per_sector.saturating_mul(per_cluster),
            clusters,
            root: wide(root_sector),
            root_bytes: if is_32 { 0 } else { root_bytes },
            root_cluster: if is_32 { field::<4>(sector, 44) } else { 0 },
            serial: field::<4>(sector, if is_32 { 67 } else { 39 }),
            note,
        })
    }
}
