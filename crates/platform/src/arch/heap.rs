//! The heap: a small arena in the image, and runs of guest pages added to
//! it when a decompressor needs more.

use core::ptr::NonNull;

use kexen_abi::PAGE_SIZE;
use spin::Mutex;
use talc::{TalcLock, source::Manual};

/// Bytes of the arena that is there from the start.
const FIRST_ARENA: usize = 192 * 1024;

static mut ARENA: [u64; FIRST_ARENA / 8] = [0; FIRST_ARENA / 8];

#[global_allocator]
static HEAP: TalcLock<Mutex<()>, Manual> = TalcLock::new(Manual);

/// Gives the first arena to the heap. Once, before anything allocates.
pub(super) fn start() {
    let base = (&raw mut ARENA).cast::<u8>();
    // SAFETY: the arena is static, is named nowhere else, and `start` runs
    // once, from the entry point.
    let claimed = unsafe { HEAP.lock().claim(base, FIRST_ARENA) };
    assert!(claimed.is_some(), "the first arena is too small");
}

/// Adds guest memory to the heap. From now on it is Rust's: the caller has
/// had it refused to `Machine` accesses (`Xen::own`), and never frees it.
pub(super) fn add(address: u64, len: u64) -> bool {
    let (Ok(address), Ok(len)) = (usize::try_from(address), usize::try_from(len)) else {
        return false;
    };
    let base = core::ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: `Xen::add_to_heap`, the only caller, mapped these pages for
    // this purpose and made them Rust's own.
    unsafe { HEAP.lock().claim(base, len) }.is_some()
}

/// Cuts the end off a piece of guest memory that [`add`] was given, `len` bytes
/// of it until now, and leaves `spare` bytes behind what is in use: its length
/// now, in whole pages. What is cut off is not Rust's any more.
pub(super) fn cut(address: u64, len: u64, spare: u64) -> u64 {
    let Some(end) = end(address, len) else {
        return len;
    };
    let mut heap = HEAP.lock();
    // SAFETY: the piece ends there: `Xen::cut`, the only caller, keeps
    // count of its length.
    let used = unsafe { heap.reserved(end) }.up_to;
    let used = u64::try_from(used.addr().get()).unwrap_or(u64::MAX);
    let new = used.saturating_add(spare).next_multiple_of(PAGE_SIZE);
    let new = new.max(address.saturating_add(PAGE_SIZE));
    if new >= address.saturating_add(len) {
        return len;
    }
    let to = end
        .as_ptr()
        .with_addr(usize::try_from(new).unwrap_or(usize::MAX));
    // SAFETY: as above.
    let left = unsafe { heap.truncate(end, to) };
    left.and_then(|left| u64::try_from(left.addr().get()).ok())
        .map_or(len, |left| {
            left.next_multiple_of(PAGE_SIZE).saturating_sub(address)
        })
}

/// Lengthens a piece of guest memory that was cut, from `len` bytes to `new`.
/// What comes to it is Rust's: as for [`add`].
pub(super) fn lengthen(address: u64, len: u64, new: u64) -> bool {
    let (Some(end), Some(new_end)) = (end(address, len), end(address, new)) else {
        return false;
    };
    // SAFETY: the piece ends there, and the pages behind it are for this alone:
    // `Xen::lengthen`, the only caller, sees to both.
    unsafe { HEAP.lock().extend(end, new_end.as_ptr()) == new_end }
}

/// Where a piece ends.
fn end(address: u64, len: u64) -> Option<NonNull<u8>> {
    let end = usize::try_from(address.checked_add(len)?).ok()?;
    NonNull::new(core::ptr::with_exposed_provenance_mut(end))
}

/// Bytes that can still be had, not all in one piece.
#[must_use]
pub fn free() -> u64 {
    u64::try_from(HEAP.lock().counters().available_bytes).unwrap_or(0)
}

/// Takes the heap's lock and never gives it back: for the test of a crash
/// hand-off, which must not need it.
#[cfg(feature = "omission")]
pub fn keep_locked() {
    core::mem::forget(HEAP.lock());
}
