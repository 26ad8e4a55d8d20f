//! Whether the memory that a decompressor says it needs is enough for it in the
//! boot image's allocator, which must have room between other things and grows a
//! buffer in its place.

mod packed;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::OnceLock,
};

use kexen_image::{Compression, heap_for};
use spin::Mutex;
use talc::{TalcLock, source::Manual};

/// The system's, but for a thread that has a heap of so many bytes instead.
struct Switched;

/// A heap for each compression: what one was given stays in it.
const HEAPS: usize = Compression::ALL.len();
static HEAP: [TalcLock<Mutex<()>, Manual>; HEAPS] = [const { TalcLock::new(Manual) }; HEAPS];
/// Where they are.
static PLACE: [OnceLock<(usize, usize)>; HEAPS] = [const { OnceLock::new() }; HEAPS];

thread_local! {
    static NOW: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The heap that has this address.
fn heap_of(ptr: *mut u8) -> Option<&'static TalcLock<Mutex<()>, Manual>> {
    let at = PLACE.iter().position(|place| {
        let place = place.get();
        place.is_some_and(|(base, len)| (*base..*base + *len).contains(&ptr.addr()))
    })?;
    Some(&HEAP[at])
}

// SAFETY: every call goes to one of the allocators unchanged, and what one of
// them gave goes back to the same.
unsafe impl GlobalAlloc for Switched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match NOW.get() {
            // SAFETY: the caller's layout, as the trait asks.
            Some(heap) => unsafe { HEAP[heap].alloc(layout) },
            // SAFETY: the same.
            None => unsafe { System.alloc(layout) },
        }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        match heap_of(ptr) {
            // SAFETY: allocated by this heap, as its address says.
            Some(heap) => unsafe { heap.dealloc(ptr, layout) },
            // SAFETY: allocated above by the system.
            None => unsafe { System.dealloc(ptr, layout) },
        }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        match heap_of(ptr) {
            // SAFETY: allocated by this heap, as its address says.
            Some(heap) => unsafe { heap.realloc(ptr, layout, new_size) },
            // SAFETY: allocated above by the system.
            None => unsafe { System.realloc(ptr, layout, new_size) },
        }
    }
}

#[global_allocator]
static ALLOCATOR: Switched = Switched;

/// Has a thread's memory come from a heap of so many bytes.
fn within<T>(heap: usize, bytes: usize, work: impl FnOnce() -> T) -> T {
    let memory = vec![0_u64; bytes.div_ceil(8)].leak();
    let base = memory.as_mut_ptr().cast::<u8>();
    // SAFETY: the memory is leaked, and named nowhere else.
    let claimed = unsafe { HEAP[heap].lock().claim(base, bytes) };
    assert!(claimed.is_some());
    PLACE[heap].set((base.expose_provenance(), bytes)).unwrap();
    NOW.set(Some(heap));
    let result = work();
    NOW.set(None);
    result
}

#[test]
fn what_is_promised_is_enough() {
    // Large enough for a dictionary to be most of what is needed.
    let data = packed::sample().repeat(8);
    for (n, kind) in Compression::ALL.into_iter().enumerate() {
        let packed = packed::pack(kind, &data);
        let payload = packed::payload(kind, &packed, &data);
        let heap = heap_for(payload.scratch().unwrap());
        let mut out = vec![0; data.len()];
        let result = within(n, usize::try_from(heap).unwrap(), || {
            payload.decompress(&mut out)
        });
        result.unwrap_or_else(|e| panic!("{kind}: {heap} bytes of heap: {e}"));
        assert!(out == data, "{kind}");
    }
}
