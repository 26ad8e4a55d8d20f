//! A marker over all free memory, to see that a hand-off changes none.
//!
//! With `kexen.verify-memory`, each free page is filled with words that
//! depend on its number, last thing before the jump; the next Kexen looks
//! at all pages that are free to it, and compares how many carry their
//! marker, and a checksum over those, with what the command line says was
//! left (`kexen.marker=PAGES:CHECKSUM`).

use alloc::{format, vec::Vec};

use kexen_abi::PAGE_SIZE;
use kexen_bootconfig::options::{Marker, Options};
use kexen_guest::{Extent, Machine};
use kexen_handoff::HandoffError;

use kexen_platform::{
    failure::Failure,
    guest::{GLANCE, Guest},
    report::Report,
};

/// Pages that are looked at together.
const CHUNK: usize = 2048;

/// Word n of the marker of a page. `stage` is the count of the chain, so
/// that a page which an earlier stage marked is not taken for one of this.
const fn word(stage: u32, page: u64, n: u64) -> u64 {
    let stage = stage as u64;
    let mut x = page.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ n.wrapping_mul(0xbf58_476d_1ce4_e5b9)
        ^ stage.wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^= x >> 29;
    x.wrapping_mul(0x94d0_49bb_1331_11eb) | 1
}

/// What a marked page adds to the checksum.
fn sum(stage: u32, page: u64, words: &[u8]) -> Option<u64> {
    let mut total = page;
    for (n, bytes) in (0_u64..).zip(words.as_chunks::<8>().0) {
        let value = u64::from_le_bytes(*bytes);
        if value != word(stage, page, n) {
            return None;
        }
        total = total.rotate_left(7) ^ value;
    }
    Some(total)
}

/// Goes over all free pages, in chunks mapped at [`GLANCE`].
fn each<G: Guest>(
    guest: &mut G,
    pages: &[u64],
    look: &mut dyn FnMut(&[u64], &mut [u8]),
) -> Result<(), HandoffError> {
    let m = guest.machine();
    for chunk in pages.chunks(CHUNK) {
        guest.map(GLANCE, chunk)?;
        let len = u64::try_from(chunk.len()).unwrap_or(0) * PAGE_SIZE;
        m.lend(GLANCE, len, &mut |bytes| look(chunk, bytes))?;
    }
    // A page with a second mapping could not become a page table.
    let mapped = u64::try_from(pages.len().min(CHUNK)).unwrap_or(0);
    if mapped > 0 {
        guest.unmap(GLANCE, mapped)?;
    }
    Ok(())
}

/// Takes care that looking at pages needs no more tables, so that the set
/// of free pages does not change under it.
fn prepare<G: Guest>(guest: &mut G) -> Result<(), HandoffError> {
    let first: Vec<u64> = guest.free().pages().take(CHUNK).collect();
    each(guest, &first, &mut |_, _| ())
}

/// Compares memory with what the command line says was left in it.
pub(crate) fn check<G: Guest>(
    guest: &mut G,
    report: &Report,
    options: &Options,
) -> Result<(), Failure> {
    let Some(Marker { pages, checksum }) = options.marker else {
        return Ok(());
    };
    prepare(guest)?;
    let free: Vec<u64> = guest.free().pages().collect();
    let stage = options.chain;
    let (mut found, mut total) = (0_u64, 0_u64);
    each(guest, &free, &mut |pages, bytes| {
        for (page, words) in pages.iter().zip(bytes.chunks_exact(4096)) {
            if let Some(sum) = sum(stage, *page, words) {
                found += 1;
                total = total.wrapping_add(sum);
            }
        }
    })?;
    if (found, total) != (pages, checksum) {
        return Err(Failure::Marker {
            pages: found,
            sum: total,
            want_pages: pages,
            want_sum: checksum,
        });
    }
    report.line(
        guest.machine(),
        format_args!(
            "memory verified: {found} free pages unchanged, checksum {total:016x}, \
             {} pages free",
            free.len()
        ),
    );
    Ok(())
}

/// Stands in the command line until the marker is known: as many bytes.
pub(crate) const PLACEHOLDER: &str = "4294967295:ffffffffffffffff";

/// Marks the pages that stay free for the next kernel, and puts what it
/// must find in the place of [`PLACEHOLDER`] in its command line.
pub(crate) fn leave<G: Guest>(
    guest: &mut G,
    options: &Options,
    command_line: &str,
    command_line_at: u64,
) -> Result<(), HandoffError> {
    let stage = options.chain.saturating_sub(1);
    let Some(offset) = command_line.find(PLACEHOLDER) else {
        return Ok(());
    };
    prepare(guest)?;
    // A few pages stay in hand for what is still to be mapped.
    let spare = guest.free().runs().last().copied().unwrap_or_default();
    let mut set = guest.free().clone();
    if let Some(on_demand) = guest.on_demand() {
        // Marked pages are touched, and the next kernel is to have some.
        set = set.lowest(on_demand.own / ON_DEMAND);
    }
    set.remove(Extent::new(spare.end().saturating_sub(SPARE), SPARE));
    let free: Vec<u64> = set.pages().collect();
    let mut total = 0_u64;
    each(guest, &free, &mut |pages, bytes| {
        for (page, words) in pages.iter().zip(bytes.chunks_exact_mut(4096)) {
            for (n, bytes) in (0_u64..).zip(words.as_chunks_mut::<8>().0) {
                *bytes = word(stage, *page, n).to_le_bytes();
            }
            if let Some(sum) = sum(stage, *page, words) {
                total = total.wrapping_add(sum);
            }
        }
    })?;
    let text = format!("{:010}:{total:016x}", free.len());
    let at = command_line_at + u64::try_from(offset).unwrap_or(0);
    Ok(guest.machine().write(at, text.as_bytes())?)
}

/// One part in so many of its memory is marked in a guest that is populated on
/// demand.
const ON_DEMAND: u64 = 4;

/// Pages that are not marked.
const SPARE: u64 = 64;
