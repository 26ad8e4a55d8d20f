//! What the library is shown of a file system's beginning.
//!
//! `ext4-view` 1.0.0 refuses four features that do not stand in the way of who
//! reads: descriptors of groups that are spread over the disk (`meta_bg`, which
//! roots have that grew while they were mounted), directories that may have one
//! level of hashes more (`large_dir`; the library follows as many as there are),
//! a block that says who has mounted it (`mmp`) and attributes in inodes of their
//! own (`ea_inode`; attributes are not read). So it is shown a superblock without
//! them, and while it loads, the descriptors in a row, as they are without
//! `meta_bg`. Where they are in truth, [`Descriptors`] knows: Linux's
//! `descriptor_loc` (`fs/ext4/super.c`) and `ext4_bg_has_super`
//! (`fs/ext4/balloc.c`).

use alloc::{boxed::Box, rc::Rc, vec::Vec};
use core::{cell::Cell, error::Error};

use ext4_view::Ext4Read;

use super::{field, journal::sum};
use crate::fs::budget::{Budget, Refused};

/// meta_bg
const META_BG: u32 = 0x10;
/// meta_bg, mmp, ea_inode, large_dir
const HIDDEN: u32 = META_BG | 0x100 | 0x400 | 0x4000;
/// Where the superblock's features are, and its sum.
const INCOMPAT: usize = 0x60;
const SUM: usize = 0x3fc;

/// Where the descriptors of groups are.
#[derive(Clone, Debug)]
pub(super) struct Descriptors {
    block: u64,
    /// Of a descriptor.
    bytes: u64,
    per_block: u64,
    /// The block of the first ones where all are in a row.
    first: u64,
    /// From which block of them on they are spread; no limit without `meta_bg`.
    first_spread: u64,
    blocks_per_group: u64,
    first_data: u64,
    supers: Supers,
}

/// Which groups have a copy of the superblock.
#[derive(Clone, Copy, Debug)]
enum Supers {
    All,
    /// 0, 1 and powers of 3, 5 and 7 (`sparse_super`).
    Powers,
    /// 0 and these two (`sparse_super2`).
    Two([u64; 2]),
}

impl Supers {
    fn has(self, group: u64) -> bool {
        let is_power = |base: u64| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        match self {
            _ if group == 0 => true,
            Self::All => true,
            Self::Powers => group == 1 || [3, 5, 7].into_iter().any(is_power),
            Self::Two(groups) => groups.contains(&group),
        }
    }
}

impl Descriptors {
    /// From a superblock, with the bytes of a block and of a descriptor.
    pub(super) fn new(superblock: &[u8], block: u64, bytes: u64) -> Option<Self> {
        let field = |at| field(superblock, at);
        let supers = if field(0x5c) & 0x200 != 0 {
            Supers::Two([field(0x24c).into(), field(0x250).into()])
        } else if field(0x64) & 0x1 != 0 {
            Supers::Powers
        } else {
            Supers::All
        };
        let is_spread = field(INCOMPAT) & META_BG != 0;
        Some(Self {
            block,
            bytes,
            per_block: block.checked_div(bytes).filter(|count| *count > 0)?,
            // Behind the superblock; `s_first_data_block` says something else
            // for bigalloc.
            first: if block == 1024 { 2 } else { 1 },
            first_spread: if is_spread {
                field(0x104).into()
            } else {
                u64::MAX
            },
            blocks_per_group: field(0x20).into(),
            first_data: field(0x14).into(),
            supers,
        })
    }

    /// Where the descriptor of a group is, in bytes.
    pub(super) fn at(&self, group: u32) -> u64 {
        let group = u64::from(group);
        let number = group.checked_div(self.per_block).unwrap_or(0);
        let within = group.checked_rem(self.per_block).unwrap_or(0);
        let block = if number < self.first_spread {
            self.first.saturating_add(number)
        } else {
            // At the beginning of the first group that they are of.
            let group = number.saturating_mul(self.per_block);
            let mut behind = u64::from(self.supers.has(group));
            if self.block == 1024 && number == 0 && self.first_data == 0 {
                behind = behind.saturating_add(1);
            }
            group
                .saturating_mul(self.blocks_per_group)
                .saturating_add(self.first_data)
                .saturating_add(behind)
        };
        let within = within.saturating_mul(self.bytes);
        block.saturating_mul(self.block).saturating_add(within)
    }

    /// The group whose descriptor would be at a place if all were in a row.
    fn in_a_row(&self, at: u64) -> Option<u32> {
        let within = at.checked_sub(self.first.saturating_mul(self.block))?;
        u32::try_from(within.checked_div(self.bytes)?).ok()
    }
}

/// A superblock without what the library need not know.
fn plain(superblock: &[u8; 1024]) -> Vec<u8> {
    let mut plain = superblock.to_vec();
    let features = field(superblock, INCOMPAT);
    let put = |plain: &mut [u8], at: usize, value: u32| {
        let place = at.checked_add(4).and_then(|end| plain.get_mut(at..end));
        place
            .unwrap_or_default()
            .copy_from_slice(&value.to_le_bytes());
    };
    put(&mut plain, INCOMPAT, features & !HIDDEN);
    let of = |superblock: &[u8]| sum(u32::MAX, &[superblock.get(..SUM).unwrap_or_default()]);
    // metadata_csum; a wrong sum stays wrong.
    if field(superblock, 0x64) & 0x400 != 0 && of(superblock) == field(superblock, SUM) {
        let right = of(&plain);
        put(&mut plain, SUM, right);
    }
    plain
}

/// What the library reads.
#[derive(Debug)]
pub(super) struct Reader {
    budget: Rc<Budget>,
    superblock: Vec<u8>,
    descriptors: Descriptors,
    /// Whether the library is still loading superblock and descriptors; later it
    /// reads what is at their places.
    is_loading: Rc<Cell<bool>>,
}

impl Reader {
    /// A reader, and what is to be cleared when the library has loaded.
    pub(super) fn new(
        budget: Rc<Budget>,
        superblock: &[u8; 1024],
        descriptors: Descriptors,
    ) -> (Self, Rc<Cell<bool>>) {
        let is_loading = Rc::new(Cell::new(true));
        let reader = Self {
            budget,
            superblock: plain(superblock),
            descriptors,
            is_loading: is_loading.clone(),
        };
        (reader, is_loading)
    }

    fn show(&self, at: u64, into: &mut [u8]) -> Result<(), Refused> {
        if !self.is_loading.get() {
            return self.budget.read(at, into);
        }
        if at == 1024 && into.len() == self.superblock.len() {
            into.copy_from_slice(&self.superblock);
            return Ok(());
        }
        let group = self.descriptors.in_a_row(at);
        let at = group.map_or(at, |group| self.descriptors.at(group));
        self.budget.read(at, into)
    }
}

impl Ext4Read for Reader {
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        // Why not waits in the budget: the library wants errors to be `Send`.
        self.show(at, into).map_err(|_| "not read".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `dumpe2fs` for `mke2fs -O meta_bg,^resize_inode -b 1024 -g 256`.
    #[test]
    fn descriptors_are_where_linux_has_them() {
        let mut superblock = [0; 1024];
        let mut put = |at: usize, value: u32| {
            superblock[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        put(0x14, 1);
        put(0x20, 256);
        put(0x60, META_BG);
        put(0x64, 1);
        put(0x104, 2);
        let descriptors = Descriptors::new(&superblock, 1024, 64).unwrap();
        let block = |group| descriptors.at(group) / 1024;
        // Two blocks in a row, 16 groups each, and then at the beginning of the
        // first group of 16; none of those has a superblock.
        assert_eq!([0, 15, 16, 31].map(block), [2, 2, 3, 3]);
        assert_eq!([32, 47, 48].map(block), [8193, 8193, 12_289]);
        assert_eq!(descriptors.at(33), 8193 * 1024 + 64);
        assert!([0, 1, 3, 9, 25, 49].map(|group| Supers::Powers.has(group)) == [true; 6]);
        assert!([2, 6, 15, 21].map(|group| Supers::Powers.has(group)) == [false; 4]);
        assert!(Supers::Two([7, 0]).has(7) && !Supers::Two([7, 0]).has(1));
    }
}
