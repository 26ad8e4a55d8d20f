//! Every compression against the program that Linux's build packs with.

mod packed;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use kexen_image::{Compression, Payload, unpack};
use packed::{pack, pack_with, payload, sample};
use proptest::prelude::*;

/// Counts what the heap holds, and the most it held.
struct Counting;
static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(held, Relaxed);
        // SAFETY: the caller's layout, as the trait asks.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: allocated above with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // In its place, as the boot image's heap does it (see `heap.rs`).
        let held = HELD.fetch_add(new_size, Relaxed) + new_size;
        PEAK.fetch_max(held - layout.size(), Relaxed);
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's pointer, layout and size, as the trait asks.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: they share the counters.
static ONE: Mutex<()> = Mutex::new(());
fn alone() -> MutexGuard<'static, ()> {
    ONE.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The sample, packed: once for all tests.
fn packed_sample(kind: Compression) -> Vec<u8> {
    static PACKED: [OnceLock<Vec<u8>>; 7] = [const { OnceLock::new() }; 7];
    let place = Compression::ALL.iter().position(|one| *one == kind);
    PACKED[place.unwrap()]
        .get_or_init(|| pack(kind, &sample()))
        .clone()
}

#[test]
fn what_the_programs_pack_is_unpacked() {
    let _alone = alone();
    let data = sample();
    for kind in Compression::ALL {
        let packed = packed_sample(kind);
        assert_eq!(Compression::detect(&packed), kind);
        let payload = payload(kind, &packed, &data);
        let mut out = vec![0xaa; data.len()];
        payload
            .decompress(&mut out)
            .unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert!(out == data, "{kind}");

        let mut first = vec![0; 64 << 10];
        let n = payload
            .peek(&mut first)
            .unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(n, first.len(), "{kind}");
        assert!(first == data[..n], "{kind}");

        // Of unknown size, with a page of padding behind it.
        let mut padded = packed.clone();
        padded.resize(padded.len().next_multiple_of(4096), 0);
        let mut room = vec![0; data.len() + 99];
        let n = unpack(&padded, &mut room).unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert!(room[..n] == data, "{kind}");
        let error = unpack(&padded, &mut room[..data.len() - 1]).unwrap_err();
        assert!(error.is_full(), "{kind}: {error}");
    }
}

#[test]
fn scratch_is_an_upper_bound_and_no_more_than_that() {
    let _alone = alone();
    let data = sample();
    for kind in Compression::ALL {
        let packed = packed_sample(kind);
        let payload = payload(kind, &packed, &data);
        let scratch = payload.scratch().unwrap();
        let mut out = vec![0; data.len()];
        let before = HELD.load(Relaxed);
        PEAK.store(before, Relaxed);
        payload.decompress(&mut out).unwrap();
        let used = PEAK.load(Relaxed) - before;
        assert!(
            used <= scratch,
            "{kind}: {used} bytes used, {scratch} promised"
        );
        assert!(scratch <= used + (24 << 20), "{kind}: {scratch} for {used}");
    }
}

#[test]
fn xz_as_people_pack_modules_is_unpacked() {
    let _alone = alone();
    let data = sample();
    // Its own defaults; sizes in block headers, as with threads; blocks
    // whose sizes only the index has.
    let ways: [&[&str]; 3] = [
        &[],
        &["-T2", "--block-size=1MiB", "--lzma2=dict=1MiB"],
        &["-T1", "--block-size=1MiB", "--lzma2=dict=1MiB"],
    ];
    for args in ways {
        let packed = pack_with("xz", args, "xz-utils", &data);
        let payload = payload(Compression::Xz, &packed, &data);
        let scratch = payload.scratch().unwrap();
        let mut out = vec![0; data.len()];
        let before = HELD.load(Relaxed);
        PEAK.store(before, Relaxed);
        let result = payload.decompress(&mut out);
        let used = PEAK.load(Relaxed) - before;
        result.unwrap_or_else(|e| panic!("{args:?}: {e}"));
        assert!(out == data, "{args:?}");
        assert!(used <= scratch, "{args:?}: {used} used, {scratch} promised");
    }
}

#[test]
fn a_later_xz_block_gets_no_more_heap_than_was_promised() {
    let _alone = alone();
    let data = sample();
    let args = ["--block-size=1MiB", "--lzma2=dict=64MiB"];
    let packed = pack_with("xz", &args, "xz-utils", &data);
    let payload = payload(Compression::Xz, &packed, &data);
    let mut out = vec![0; data.len()];
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let error = payload.decompress(&mut out).unwrap_err();
    let used = PEAK.load(Relaxed) - before;
    assert!(used <= payload.scratch().unwrap() + 4096, "{used}");
    assert_eq!(
        error.to_string(),
        format!(
            "xz data: its decoder wants more than {} bytes of memory",
            payload.scratch().unwrap()
        )
    );
}

#[test]
fn a_second_stream_is_not_lost_silently() {
    let _alone = alone();
    let data = &sample()[..300_000];
    let mut room = vec![0; 2 * data.len() + 1];
    for kind in Compression::ALL {
        let mut packed = pack(kind, data);
        let len = packed.len();
        packed.extend_from_within(..);
        match (kind, unpack(&packed, &mut room)) {
            (Compression::Lz4, Ok(n)) => {
                assert!(room[..n] == [data, data].concat(), "{kind}");
            }
            // Its decoder does not say where it stopped.
            (Compression::Lzma, _) => {}
            (_, result) => assert_eq!(
                result.unwrap_err().to_string(),
                format!(
                    "{kind} data: corrupt near byte {len}: \
                     more than zeroes behind the end of the stream"
                )
            ),
        }
    }
}

/// Not what zstd takes, but a decoder might, with heap beyond all promises.
#[test]
fn zstd_blocks_with_too_many_literals_are_refused() {
    let _alone = alone();
    // A window of 1 MiB, then blocks of 2^20 - 1 times the same literal.
    let mut packed = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x50];
    for _ in 0..8 {
        packed.extend([5 << 3 | 2 << 1, 0, 0]);
        packed.extend([0xfd, 0xff, 0xff, b'A', 0]);
    }
    let payload = Payload {
        compression: Compression::Zstd,
        bytes: &packed,
        size: 8 << 20,
    };
    let error = payload.decompress(&mut vec![0; 8 << 20]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "zstd data: corrupt near byte 9: a block has too many literals"
    );
}

/// Windows of every form: `zstd` makes powers of two only.
#[test]
fn zstd_heap_is_bounded_for_odd_windows() {
    let _alone = alone();
    let data = sample();
    // Raw blocks of 128 KiB, in windows from 128 KiB to 2.5 MiB.
    for code in 0x38..=0x5a {
        let mut packed = vec![0x28, 0xb5, 0x2f, 0xfd, 0, code];
        let mut blocks = data.chunks(128 << 10).peekable();
        while let Some(block) = blocks.next() {
            let last = u32::from(blocks.peek().is_none());
            let header = u32::try_from(block.len()).unwrap() << 3 | last;
            packed.extend(&header.to_le_bytes()[..3]);
            packed.extend(block);
        }
        let payload = payload(Compression::Zstd, &packed, &data);
        let scratch = payload.scratch().unwrap();
        let mut out = vec![0; data.len()];
        let before = HELD.load(Relaxed);
        PEAK.store(before, Relaxed);
        let result = payload.decompress(&mut out);
        let used = PEAK.load(Relaxed) - before;
        result.unwrap_or_else(|e| panic!("{code:#x}: {e}"));
        assert!(out == data, "{code:#x}");
        assert!(
            used + (1 << 20) <= scratch,
            "{code:#x}: {used} used, {scratch} promised"
        );
    }
}

#[test]
fn a_wrong_size_is_seen() {
    let _alone = alone();
    let data = sample();
    for kind in Compression::ALL {
        let packed = packed_sample(kind);
        let payload = payload(kind, &packed, &data);
        let mut short = vec![0; data.len() - 1];
        assert!(
            payload.decompress(&mut short).unwrap_err().is_full(),
            "{kind}"
        );
        let mut long = vec![0; data.len() + 1];
        assert!(payload.decompress(&mut long).is_err(), "{kind}");
    }
}

#[test]
fn a_truncated_stream_is_seen() {
    let _alone = alone();
    let data = sample();
    let mut out = vec![0; data.len()];
    for kind in Compression::ALL {
        let packed = packed_sample(kind);
        let len = packed.len();
        for cut in [0, 1, 3, 5, 9, 13, 20, len / 3, len / 2, len - 5, len - 1] {
            let error = payload(kind, &packed[..cut], &data).decompress(&mut out);
            assert!(error.is_err(), "{kind} cut to {cut} of {len}");
        }
    }
}

#[test]
fn a_changed_byte_is_seen() {
    let _alone = alone();
    let data = sample();
    let mut out = vec![0; data.len()];
    for kind in Compression::ALL {
        // The legacy frame of lz4 has no checksum at all.
        if kind == Compression::Lz4 {
            continue;
        }
        let packed = packed_sample(kind);
        for part in 1..8 {
            let mut bad = packed.clone();
            bad[packed.len() * part / 8] ^= 0x10;
            let seen = match payload(kind, &bad, &data).decompress(&mut out) {
                Err(_) => true,
                // lzma alone has no checksum, but it goes astray.
                Ok(()) => out != data && kind == Compression::Lzma,
            };
            assert!(seen, "{kind}: changed at {part}/8");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn nothing_panics(
        kind in 0_usize..7,
        tail in proptest::collection::vec(any::<u8>(), 0..600),
        size in 0_usize..100_000,
    ) {
        let _alone = alone();
        let kind = Compression::ALL[kind];
        let mut bytes = kind.magic().to_vec();
        bytes.extend(tail);
        let mut out = vec![0; size];
        let payload = payload(kind, &bytes, &out);
        let _ = payload.scratch();
        let _ = payload.peek(&mut vec![0; 4096]);
        let _ = payload.decompress(&mut out);
        let _ = unpack(&bytes, &mut out);
    }
}
