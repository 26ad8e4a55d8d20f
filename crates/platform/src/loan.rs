//! Guest memory as slices, for readers and decompressors.

use core::ops::Range;

use kexen_guest::Machine;

use crate::failure::Failure;

/// A range of the archive as offset and length.
#[must_use]
pub fn offset_len(range: &Range<usize>) -> (u64, u64) {
    let from = u64::try_from(range.start).unwrap_or(u64::MAX);
    (from, u64::try_from(range.len()).unwrap_or(u64::MAX))
}

/// Lends guest memory to a function with a result of its own.
pub fn lent<M: Machine + ?Sized, T>(
    m: &M,
    at: u64,
    len: u64,
    look: impl FnOnce(&mut [u8]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut look = Some(look);
    let mut result = None;
    m.lend(at, len, &mut |bytes| {
        if let Some(look) = look.take() {
            result = Some(look(bytes));
        }
    })?;
    result.unwrap_or(Err(Failure::NoModule))
}
