//! What is left to do once the file is in its buffer.

use alloc::vec::Vec;

use kexen_abi::PAGE_SIZE;
use kexen_guest::Machine;

use super::{Behind, Chosen, Copy, Placement, Zero, bad};
use crate::HandoffError;

/// Does what the plan left to do once the file is in its buffer at `file`:
/// what comes behind the kernel, copies and zeroing. `address` tells where a
/// fresh page can be written.
///
/// Nothing is read after it has been written over: the plan keeps the
/// kernel's own copies so; what comes behind is read first, since it may be
/// in the file page that became the kernel's last.
pub fn finish<M: Machine + ?Sized>(
    m: &M,
    placement: &Placement,
    chosen: &Chosen,
    file: u64,
    address: &dyn Fn(u64) -> u64,
    behind: Option<&Behind>,
) -> Result<(), HandoffError> {
    let mut at: Vec<(u64, u64)> = (0_u64..)
        .zip(&placement.targets)
        .filter_map(|(n, target)| target.map(|page| (page, file + n * PAGE_SIZE)))
        .chain(
            chosen
                .fresh
                .iter()
                .map(|(page, own)| (*page, address(*own))),
        )
        .collect();
    at.sort_unstable();
    let place = |byte: u64| {
        holder(&at, byte / PAGE_SIZE)
            .map(|page| page + byte % PAGE_SIZE)
            .ok_or(bad("p_paddr", byte, "no page was chosen for it"))
    };
    let zero = |zeroes: &[Zero]| -> Result<(), HandoffError> {
        for zero in zeroes {
            m.fill(place(zero.address)?, zero.len, 0)?;
        }
        Ok(())
    };
    let mut page = [0_u8; 4096];
    let mut read = |copy: &Copy| -> Result<Vec<u8>, HandoffError> {
        let part = &mut page[..usize::try_from(copy.len).unwrap_or(0)];
        m.read(file + copy.offset, part)?;
        Ok(part.to_vec())
    };
    let mut last = Vec::new();
    if let Some(behind) = behind {
        zero(&behind.zeroes)?;
        for copy in &behind.copies {
            let bytes = read(copy)?;
            if copy.address < behind.first {
                last.push((copy.address, bytes));
            } else {
                m.write(place(copy.address)?, &bytes)?;
            }
        }
    }
    for copy in &placement.copies {
        let bytes = read(copy)?;
        m.write(place(copy.address)?, &bytes)?;
    }
    zero(&placement.zeroes)?;
    if let Some(behind) = behind {
        for (address, bytes) in last.iter().chain(&behind.bytes) {
            m.write(place(*address)?, bytes)?;
        }
    }
    Ok(())
}

/// The page that holds the bytes of a page of memory.
#[must_use]
pub fn holder(content: &[(u64, u64)], page: u64) -> Option<u64> {
    let at = content.binary_search_by_key(&page, |(target, _)| *target);
    at.ok().map(|at| content[at].1)
}
