//! What comes behind a kernel, which is known only once its file is unpacked:
//! bytes made for it, and parts of the file (a BSD kernel's symbols).

use alloc::vec::Vec;

use kexen_abi::PAGE_SIZE;
use kexen_guest::Extent;

use super::{Chosen, Copy, Placement, Zero, bad};
use crate::HandoffError;

/// What comes behind a kernel; addresses in bytes, relative to page 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Where the pages begin that the kernel did not have before.
    pub first: u64,
    /// Those pages.
    pub zeroes: Vec<Zero>,
    /// Parts of the file, none across a page of memory.
    pub copies: Vec<Copy>,
    /// Bytes, none across a page of memory.
    pub bytes: Vec<(u64, Vec<u8>)>,
}

/// Pieces of `[address, address + len)` that are within one page each: offset
/// from `address`, and bytes.
fn pieces(address: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let at = done;
        let rest = len.checked_sub(at).filter(|rest| *rest > 0)?;
        let piece = (PAGE_SIZE - (address + at) % PAGE_SIZE).min(rest);
        done += piece;
        Some((at, piece))
    })
}

impl Placement {
    /// Plans for what lies behind the kernel: `bytes` at `address`, and parts
    /// of the file, by offset, address and length. Pages that the kernel needs
    /// beside its own are those of the placement that comes with it: choose
    /// them, and then [`Self::join`] both.
    pub fn behind(
        &self,
        (address, bytes): (u64, &[u8]),
        parts: &[(u64, u64, u64)],
        max_pages: u64,
    ) -> Result<(Self, Behind), HandoffError> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut end = self.kernel.end() * PAGE_SIZE;
        let ends = parts.iter().map(|(_, address, len)| (*address, *len));
        for (address, len) in ends.chain([(address, len)]) {
            let here = address
                .checked_add(len)
                .ok_or(bad("sh_size", len, "wraps around"))?;
            end = end.max(here);
        }
        let first = self.kernel.end();
        let count = end.div_ceil(PAGE_SIZE) - first;
        if self.kernel.count.saturating_add(count) > max_pages {
            return Err(HandoffError::Memory {
                what: "the kernel with its symbols",
                want: self.kernel.count.saturating_add(count),
                have: max_pages,
            });
        }
        let mut more = Self {
            kernel: Extent::new(first, count),
            ..Self::default()
        };
        more.fresh.insert(more.kernel);
        let mut behind = Behind {
            first: first * PAGE_SIZE,
            ..Behind::default()
        };
        for page in first..first + count {
            behind.zeroes.push(Zero {
                address: page * PAGE_SIZE,
                len: PAGE_SIZE,
            });
        }
        for (offset, address, len) in parts {
            for (at, len) in pieces(*address, *len) {
                behind.copies.push(Copy {
                    offset: offset + at,
                    address: address + at,
                    len,
                });
            }
        }
        for (at, len) in pieces(address, len) {
            let piece = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let part = bytes.get(piece(at)..piece(at + len)).unwrap_or_default();
            behind.bytes.push((address + at, part.to_vec()));
        }
        Ok((more, behind))
    }

    /// Takes in the pages behind the kernel, and what was chosen for them.
    pub fn join(&mut self, chosen: &mut Chosen, more: &Self, more_chosen: Chosen) {
        self.kernel.count += more.kernel.count;
        self.fresh.extend(&more.fresh);
        chosen.fresh.extend(more_chosen.fresh);
    }
}
