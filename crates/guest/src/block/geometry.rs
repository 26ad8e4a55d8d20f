//! What a block device is, as its backend says.

use alloc::{format, string::String};

use kexen_abi::io::blkif::{
    FEATURE_FLUSH_CACHE, FEATURE_MAX_INDIRECT_SEGMENTS, INFO, MAX_RING_PAGE_ORDER, SECTOR_BYTES,
    SECTOR_SIZE, SECTORS, VDISK_CDROM, VDISK_READONLY, VDISK_REMOVABLE,
};

use super::Problem;
use crate::{
    Machine,
    xenbus::{self, Device},
    xenstore::{Session, if_present},
};

/// A device's size and what it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Bytes that a request is a multiple of: 512, 1024, 2048 or 4096.
    pub sector_size: u32,
    /// It cannot be written to.
    pub read_only: bool,
    /// It can be taken out.
    pub removable: bool,
    /// It is a CD.
    pub cdrom: bool,
    /// It can flush what it has written.
    pub flush: bool,
    /// Segments of an indirect request; 0: it knows none.
    pub indirect_segments: u32,
    /// log2 of the pages of the largest ring.
    pub ring_page_order: u32,
}

impl Geometry {
    /// Reads and checks it. The backend has to be Connected.
    pub(super) fn read<M: Machine + ?Sized>(
        s: &mut Session<'_, M>,
        device: &Device,
    ) -> Result<Self, Problem> {
        let store = |error| Problem::Xenbus(xenbus::Problem::Store(error));
        let path = |name: &str| format!("{}/{name}", device.backend());
        let wrong = |name, value: u64, expected: &str| {
            Problem::Xenbus(xenbus::Problem::Entry {
                path: path(name),
                value: format!("{value}"),
                expected: expected.into(),
            })
        };
        let names = [
            SECTORS,
            SECTOR_SIZE,
            INFO,
            FEATURE_FLUSH_CACHE,
            FEATURE_MAX_INDIRECT_SEGMENTS,
            MAX_RING_PAGE_ORDER,
        ];
        let paths = names.map(path);
        let numbers = s.read_numbers(paths.each_ref().map(String::as_str));
        let [sectors, sector_size, info, flush, segments, order] = numbers.map_err(store)?;
        let sectors: u64 = sectors.map_err(store)?;
        if sectors == 0 || sectors.checked_mul(SECTOR_BYTES).is_none() {
            return Err(wrong(SECTORS, sectors, "the number of sectors"));
        }
        let number = |name, value, default: u32| {
            let value: Option<u64> = if_present(value).map_err(store)?;
            match value.map(u32::try_from) {
                None => Ok(default),
                Some(Ok(value)) => Ok(value),
                Some(Err(_)) => Err(wrong(
                    name,
                    value.unwrap_or_default(),
                    "a number of 32 bits",
                )),
            }
        };
        let sector_size = number(SECTOR_SIZE, sector_size, 512)?;
        if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
            let expected = "512, 1024, 2048 or 4096";
            return Err(wrong(SECTOR_SIZE, u64::from(sector_size), expected));
        }
        let info = number(INFO, info, 0)?;
        Ok(Self {
            sectors,
            sector_size,
            read_only: info & VDISK_READONLY != 0,
            removable: info & VDISK_REMOVABLE != 0,
            cdrom: info & VDISK_CDROM != 0,
            flush: number(FEATURE_FLUSH_CACHE, flush, 0)? == 1,
            indirect_segments: number(FEATURE_MAX_INDIRECT_SEGMENTS, segments, 0)?,
            ring_page_order: number(MAX_RING_PAGE_ORDER, order, 0)?,
        })
    }

    /// Whether the device has these sectors, in whole units of its own.
    pub(super) fn check(&self, sector: u64, sectors: u32) -> Result<(), Problem> {
        let end = sector.checked_add(u64::from(sectors));
        if sectors == 0 || end.is_none_or(|end| end > self.sectors) {
            return Err(Problem::OutOfRange { sector, sectors });
        }
        let unit = (self.sector_size / 512).max(1);
        if !sector.is_multiple_of(u64::from(unit)) || !sectors.is_multiple_of(unit) {
            return Err(Problem::Unaligned { sector, sectors });
        }
        Ok(())
    }
}
