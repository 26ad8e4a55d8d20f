//! The heap: a small arena in the image, and runs of guest pages added to
//! it when a decompressor needs more.

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
    // SAFETY: `Xen::give_to_heap`, the only caller, mapped these pages for
    // this purpose and made them Rust's own.
    unsafe { HEAP.lock().claim(base, len) }.is_some()
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
