//! Disk images as inputs: patches over an image that the systems' tools made.
//!
//! An input has a byte of switches (bit 0: make sums right, bit 1: read
//! through a cache; the others: which names to follow), a byte that chooses
//! the image, then records:
//!
//! ```text
//! u16  which of the sectors that have something in them
//!      fffe: any sector, its number follows (u32)
//!      ffff: none; the disk ends at the byte that follows (u32)
//! u16  where in the sector
//! u8   how many bytes, 1 to 32, and as many bytes
//! ```
//!
//! So an input of two bytes is an image as it was made, and each further byte
//! changes something that a reader looks at.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use kexen_disk::{BlockSource, Cache, CacheOptions, ReadError};

use crate::{bytes::Bytes, sums};

/// Bytes of a sector here.
pub(crate) const SECTOR: usize = 512;

/// An image as `images/make.sh` packs it, and how its sums are made right.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) packed: &'static [u8],
    pub(crate) sums: fn(&mut PatchedDisk),
}

type Sectors = BTreeMap<u32, [u8; SECTOR]>;

/// An unpacked image.
#[derive(Debug)]
struct Image {
    bytes: u64,
    sectors: Sectors,
    used: Vec<u32>,
}

impl Image {
    fn unpack(packed: &[u8]) -> Self {
        let mut room = vec![0; 4 << 20];
        let len = kexen_image::unpack(packed, &mut room).expect("an image of `make.sh`");
        let (bytes, records) = room[..len].split_first_chunk().expect("its length");
        let records = records.chunks_exact(4 + SECTOR);
        let sectors: Sectors = records
            .filter_map(|record| {
                let (number, sector) = record.split_first_chunk()?;
                Some((u32::from_le_bytes(*number), sector.try_into().ok()?))
            })
            .collect();
        Self {
            bytes: u64::from_le_bytes(*bytes),
            used: sectors.keys().copied().collect(),
            sectors,
        }
    }

    /// Unpacks each image once.
    fn of(base: &Base) -> Rc<Self> {
        thread_local! {
            static UNPACKED: RefCell<BTreeMap<*const u8, Rc<Image>>> = RefCell::default();
        }
        UNPACKED.with_borrow_mut(|all| {
            let image = all.entry(base.packed.as_ptr());
            image
                .or_insert_with(|| Rc::new(Self::unpack(base.packed)))
                .clone()
        })
    }
}

/// An image with changes, which counts what is read of it.
#[derive(Debug)]
pub(crate) struct PatchedDisk {
    image: Rc<Image>,
    bytes: u64,
    changed: Sectors,
    read: Cell<u64>,
}

impl PatchedDisk {
    /// The disk that an input describes, and its switches.
    pub(crate) fn new(bases: &[Base], data: &[u8]) -> (Self, u8) {
        let mut input = Bytes::new(data);
        let switches = input.u8();
        let base = &bases[usize::from(input.u8()) % bases.len()];
        let image = Image::of(base);
        let mut disk = Self {
            bytes: image.bytes,
            image,
            changed: Sectors::new(),
            read: Cell::new(0),
        };
        while !input.is_empty() {
            disk.patch(&mut input);
        }
        if switches & 1 != 0 {
            (base.sums)(&mut disk);
        }
        (disk, switches)
    }

    fn patch(&mut self, input: &mut Bytes<'_>) {
        let number = match input.u16() {
            0xffff => {
                self.bytes = self.bytes.min(input.u32().into());
                return;
            }
            0xfffe => input.u32(),
            index => self.image.used[usize::from(index) % self.image.used.len()],
        };
        let at = usize::from(input.u16()) % SECTOR;
        let len = usize::from(input.u8() % 32) + 1;
        let patch = input.take(len);
        let mut sector = self.sector(number);
        for (to, from) in sector[at..].iter_mut().zip(patch) {
            *to = *from;
        }
        self.changed.insert(number, sector);
    }

    /// A sector as it is now.
    pub(crate) fn sector(&self, number: u32) -> [u8; SECTOR] {
        let changed = self.changed.get(&number);
        let sector = changed.or_else(|| self.image.sectors.get(&number));
        sector.copied().unwrap_or([0; SECTOR])
    }

    /// Sectors as one block; behind the last number is the first.
    pub(crate) fn block(&self, first: u32, sectors: u32) -> Vec<u8> {
        let numbers = (0..sectors).map(|n| first.wrapping_add(n));
        numbers.flat_map(|number| self.sector(number)).collect()
    }

    /// Puts a block into its place.
    pub(crate) fn set_block(&mut self, first: u32, block: &[u8]) {
        for (n, bytes) in (0..).zip(block.chunks_exact(SECTOR)) {
            let mut sector = [0; SECTOR];
            sector.copy_from_slice(bytes);
            self.changed.insert(first.wrapping_add(n), sector);
        }
    }

    /// The sectors that are changed.
    pub(crate) fn changes(&self) -> Vec<u32> {
        self.changed.keys().copied().collect()
    }

    /// How many bytes were read since this was asked last.
    pub(crate) fn taken(&self) -> u64 {
        self.read.take()
    }
}

impl BlockSource for PatchedDisk {
    fn name(&self) -> &str {
        "xvda"
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn sector(&self) -> u32 {
        512
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let len = u64::try_from(into.len()).unwrap_or(u64::MAX);
        // A request costs something, however small it is.
        self.read.set(self.read.get() + len.max(64));
        let end = offset.checked_add(len).filter(|end| *end <= self.bytes);
        let end = end.ok_or_else(|| ReadError {
            name: "xvda".into(),
            offset,
            why: "beyond the end".into(),
        })?;
        into.fill(0);
        let sector = |at: u64| u32::try_from(at / 512).unwrap_or(u32::MAX);
        let range = sector(offset)..=sector(end);
        for sectors in [&self.image.sectors, &self.changed] {
            for (number, bytes) in sectors.range(range.clone()) {
                let start = u64::from(*number) * 512;
                let (from, to) = (start.max(offset), (start + 512).min(end));
                if from < to {
                    let at = |base: u64, at: u64| usize::try_from(at - base).unwrap_or(0);
                    into[at(offset, from)..at(offset, to)]
                        .copy_from_slice(&bytes[at(start, from)..at(start, to)]);
                }
            }
        }
        Ok(())
    }
}

/// The disk as a file system's reader gets it.
pub(crate) fn source(disk: &Rc<PatchedDisk>, switches: u8) -> Rc<dyn BlockSource> {
    if switches & 2 == 0 {
        return disk.clone();
    }
    let options = CacheOptions {
        block: 16 << 10,
        ..CacheOptions::default()
    };
    Rc::new(Cache::new(disk.clone(), options))
}

/// For images without sums, or whose sums are left wrong.
pub(crate) fn no_sums(_: &mut PatchedDisk) {}

pub(crate) use sums::{btrfs as btrfs_sums, gpt as gpt_sums, raid as raid_sum, xfs as xfs_sums};
