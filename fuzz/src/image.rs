//! Kernel images: headers, notes, compressed streams, and where it all goes.

use kexen_guest::{Extent, Extents};
use kexen_handoff::placement::{Placement, Segment};
use kexen_image::{Compression, Elf, GuestType, Kernel, Symbols, plan, unpack, unpack_scratch};

/// Bytes that a stream may unpack to, here.
const ROOM: usize = 1 << 20;

/// A kernel file: its headers, what is packed in it, and the notes.
pub fn kernel(data: &[u8]) {
    let Ok(kernel) = Kernel::parse(data) else {
        return;
    };
    drop(kernel.describe());
    let payload = kernel.payload();
    let mut head = vec![0; 4096];
    if let Ok(len) = payload.peek(&mut head)
        && let Ok(found) = kernel.elf(&head[..len])
    {
        place(&found, payload.size);
    }
    let scratch = payload.scratch();
    let size = usize::try_from(payload.size).ok();
    let Some(size) = size.filter(|size| *size <= ROOM) else {
        return;
    };
    let mut out = vec![0; size];
    if payload.decompress(&mut out).is_ok() {
        assert!(scratch.is_ok(), "unpacked without knowing its memory");
        elf(&out);
    }
}

/// An ELF file and its notes.
pub fn elf(data: &[u8]) {
    let Ok(found) = Elf::parse(data) else {
        return;
    };
    let len = u64::try_from(data.len()).unwrap_or(0);
    place(&found, len);
    let Ok(notes) = found.notes(data) else {
        return;
    };
    for guest in GuestType::ALL {
        match plan(&found, &notes, data, guest) {
            Ok(plan) => {
                if let Some(symbols) = &plan.symbols {
                    behind(&found, symbols, plan.paddr_offset, len);
                }
            }
            Err(why) => drop(why.to_string()),
        }
    }
}

/// What comes behind the kernel: it has bytes in the file, and pages.
fn behind(found: &Elf, symbols: &Symbols, offset: u64, len: u64) {
    let end = found.end.saturating_sub(offset);
    let plan = Placement {
        kernel: Extent::new(0, end.div_ceil(4096).min(1 << 14)),
        ..Placement::default()
    };
    let moved = |address: u64| address.saturating_sub(offset);
    let parts = symbols.parts.map(|(from, to, len)| (from, moved(to), len));
    assert!(parts.iter().all(|(from, _, part)| from + part <= len));
    let headers = (moved(symbols.start), symbols.headers.as_slice());
    if let Ok((more, behind)) = plan.behind(headers, &parts, 1 << 14) {
        let last = more.kernel.end() * 4096;
        assert!(behind.copies.iter().all(|c| c.address + c.len <= last));
        assert!(
            behind
                .bytes
                .iter()
                .all(|(at, b)| at + b.len() as u64 <= last)
        );
    }
}

/// Where the segments go: each page of memory gets one source.
fn place(found: &Elf, len: u64) {
    let segments: Vec<Segment> = found
        .segments()
        .iter()
        .map(|segment| Segment {
            offset: segment.offset,
            address: segment.paddr,
            filesz: segment.filesz,
            memsz: segment.memsz,
        })
        .collect();
    let pages = 1 << 14;
    if len > 64 << 20 {
        return;
    }
    let Ok(plan) = Placement::plan(&segments, len, pages) else {
        return;
    };
    let mut free = Extents::new();
    free.insert(Extent::new(0x100, 4 * pages));
    if let Ok(chosen) = plan.choose(&mut free) {
        let mut all: Vec<u64> = chosen.all().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "a page was chosen twice");
        let mut content = chosen.content(&plan);
        let count = content.len();
        content.dedup_by_key(|pair| pair.0);
        assert_eq!(content.len(), count, "two sources of a page");
    }
}

/// Unpacks what is made to look like a stream of one kind.
fn stream(kind: Compression, data: &[u8]) {
    let magic = kind.magic();
    let mut bytes = data.to_vec();
    for (to, from) in bytes.iter_mut().zip(magic) {
        *to = *from;
    }
    if Compression::detect(&bytes) != kind {
        return;
    }
    let scratch = unpack_scratch(&bytes, u64::try_from(ROOM).unwrap_or(0));
    let mut out = vec![0; ROOM];
    match unpack(&bytes, &mut out) {
        Ok(len) => assert!(scratch.is_ok() && len <= ROOM),
        Err(error) => drop(error.to_string()),
    }
    // One that does not fit ends where the room does.
    let _short = unpack(&bytes, &mut out[..100]);
    let payload = kexen_image::Payload {
        compression: kind,
        bytes: &bytes,
        size: 5000,
    };
    let mut first = [0; 64];
    assert!(payload.peek(&mut first).is_ok_and(|len| len <= 64) || first.len() == 64);
    let _whole = payload.decompress(&mut out[..5000]);
}

macro_rules! streams {
    ($($name:ident: $kind:ident, $what:literal;)*) => {$(
        #[doc = $what]
        pub fn $name(data: &[u8]) {
            stream(Compression::$kind, data);
        }
    )*};
}

streams! {
    gzip: Gzip, "A gzip stream.";
    bzip2: Bzip2, "A bzip2 stream.";
    xz: Xz, "An xz stream.";
    lzma: Lzma, "An lzma stream.";
    lzo: Lzo, "An lzo stream.";
    lz4: Lz4, "An lz4 stream (legacy frames).";
    zstd: Zstd, "A zstd stream.";
}
