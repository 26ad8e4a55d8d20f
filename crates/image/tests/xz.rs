//! Our own xz decoder: against the `xz` program in every form that it packs, and
//! against the library for chunks that no program makes.

#[expect(dead_code, reason = "what other tests pack with")]
mod packed;

use kexen_image::{Compression, unpack, unpack_scratch};
use lzma_rust2::{Lzma2Reader, Read as _};
use packed::{pack_with, sample};
use proptest::prelude::*;

/// Code of this processor: the filter has something to find in it.
fn code() -> Vec<u8> {
    let mut code = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    code.truncate(600_000);
    code
}

/// Few bytes that come again from near: all of what copying has to see to.
fn near() -> Vec<u8> {
    let mut data = Vec::new();
    for back in 1..40_usize {
        for len in [1, 2, 7, 8, 9, 15, 16, 17, 31, 100, 273, 300] {
            data.extend((0..back).map(|n| u8::try_from((n * 7 + len) & 0xff).unwrap()));
            let from = data.len() - back;
            for n in 0..len {
                data.push(data[from + n]);
            }
        }
    }
    data
}

#[test]
fn all_that_xz_packs_is_unpacked() {
    let ways: [&[&str]; 14] = [
        &["--check=crc32", "--x86", "--lzma2=dict=32MiB"],
        &["--check=none"],
        &["--check=crc32", "-0"],
        &["--check=crc32", "-9e"],
        &["--check=crc32", "--lzma2=lc=4,lp=0,pb=0"],
        &["--check=crc32", "--lzma2=lc=0,lp=4,pb=4"],
        &["--check=crc32", "--lzma2=lc=2,lp=2,pb=1,dict=4KiB"],
        &["--check=crc32", "--x86", "--lzma2=nice=3,mf=hc3,mode=fast"],
        &["--check=crc32", "-T2", "--block-size=100KiB"],
        &[
            "--check=crc32",
            "--x86",
            "--lzma2",
            "-T1",
            "--block-size=100KiB",
        ],
        // For the library.
        &["--check=crc64"],
        &["--check=sha256"],
        &["--check=crc32", "--delta=dist=4", "--lzma2"],
        &["--check=crc32", "--x86=start=4096", "--lzma2"],
    ];
    for data in [
        sample()[..600_000].to_vec(),
        code(),
        near(),
        vec![0; 600_000],
        vec![],
        b"x".to_vec(),
    ] {
        for (n, args) in ways.into_iter().enumerate() {
            let packed = pack_with("xz", args, "xz-utils", &data);
            let mut out = vec![0xaa; data.len()];
            let len = unpack(&packed, &mut out).unwrap_or_else(|e| panic!("{args:?}: {e}"));
            assert!(len == data.len() && out == data, "{args:?}");
            if n < 10 {
                let size = u64::try_from(data.len()).unwrap();
                assert_eq!(unpack_scratch(&packed, size), Ok(128 << 10), "{args:?}");
            }
        }
    }
}

#[test]
fn what_comes_first_is_as_the_whole() {
    let data = code();
    let args = ["--check=crc32", "--x86", "--lzma2=dict=32MiB"];
    let packed = pack_with("xz", &args, "xz-utils", &data);
    let payload = packed::payload(Compression::Xz, &packed, &data);
    // At some of these ends there is half a call.
    for len in 60_000..60_400 {
        let mut first = vec![0; len];
        assert_eq!(payload.peek(&mut first), Ok(len));
        assert!(first == data[..len], "{len}");
    }
}

/// Each place where a stream says what it is, changed.
#[test]
fn what_is_wrong_is_named() {
    let args = ["--check=crc32", "--x86", "--lzma2=dict=1MiB"];
    let packed = pack_with("xz", &args, "xz-utils", &sample());
    let end = packed.len();
    let cases: [(usize, &str); 7] = [
        (8, "corrupt: the CRC-32 of the stream's header is"),
        (13, "corrupt: the CRC-32 of a block's header is"),
        (24, "corrupt near byte 25: an unknown kind of chunk"),
        (end - 32, "the CRC-32 of a block"),
        (end - 14, "the CRC-32 of the index"),
        (end - 12, "the CRC-32 of the footer"),
        (end - 1, "a footer of another stream"),
    ];
    let mut out = vec![0; 4 << 20];
    for (at, want) in cases {
        let mut bad = packed.clone();
        bad[at] = if at == 24 { 5 } else { bad[at] ^ 1 };
        let error = unpack(&bad, &mut out).unwrap_err().to_string();
        assert!(error.contains(want), "byte {at} of {end}: {error}");
    }
}

/// An xz stream of these chunks and this output, and nothing but LZMA2.
fn stream(chunks: &[u8], out: &[u8]) -> Vec<u8> {
    let sum = |bytes: &[u8]| crc(bytes).to_le_bytes();
    let number = |mut n: usize, to: &mut Vec<u8>| {
        while n >= 0x80 {
            to.push(u8::try_from(n & 0x7f).unwrap() | 0x80);
            n >>= 7;
        }
        to.push(u8::try_from(n).unwrap());
    };
    let mut all = b"\xfd7zXZ\0\0\x01".to_vec();
    all.extend(sum(&[0, 1]));
    let header = [2, 0, 0x21, 1, 12, 0, 0, 0];
    all.extend(header);
    all.extend(sum(&header));
    all.extend(chunks);
    all.resize(all.len().next_multiple_of(4), 0);
    all.extend(sum(out));
    let mut index = vec![0, 1];
    number(12 + chunks.len() + 4, &mut index);
    number(out.len(), &mut index);
    index.resize(index.len().next_multiple_of(4), 0);
    let words = u32::try_from((index.len() + 4) / 4 - 1).unwrap();
    all.extend(&index);
    all.extend(sum(&index));
    let mut footer = words.to_le_bytes().to_vec();
    footer.extend([0, 1]);
    all.extend(sum(&footer));
    all.extend(footer);
    all.extend(b"YZ");
    all
}

/// By one bit at a time: not the code that is tested.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// What the library makes of chunks: all that it wrote, and how much it read.
fn library(chunks: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut reader = Lzma2Reader::new(chunks, 256 << 10, None);
    let mut out = vec![0; 600_000];
    let mut len = 0;
    loop {
        match reader.read(&mut out[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(_) => return None,
        }
    }
    out.truncate(len);
    (len < 1 << 20).then(|| (out, chunks.len() - reader.inner().len()))
}

/// Chunks with some bytes changed, as both read them.
fn both(data: &[u8], args: &str, changes: &[(usize, u8)]) -> Option<bool> {
    let mut chunks = pack_with("xz", &["--format=raw", args], "xz-utils", data);
    let len = chunks.len();
    for (at, byte) in changes {
        chunks[at % len] ^= byte;
    }
    let (want, read) = library(&chunks)?;
    let packed = stream(&chunks[..read], &want);
    let mut out = vec![0; want.len()];
    match unpack(&packed, &mut out) {
        Ok(len) => assert!(len == want.len() && out == want),
        // The library takes a chunk that ends anywhere, as `xz` does not.
        Err(error) => {
            let error = error.to_string();
            let strict = [
                "does not end where it should",
                "a match goes past its chunk",
            ];
            assert!(
                strict.iter().any(|s| error.contains(s)),
                "{error}: {changes:?}"
            );
            return Some(false);
        }
    }
    Some(true)
}

#[test]
fn unchanged_chunks_are_read_as_the_library_reads_them() {
    let args = "--lzma2=dict=256KiB";
    assert_eq!(both(&code()[..300_000], args, &[]), Some(true));
    assert_eq!(both(&near(), args, &[]), Some(true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn changed_chunks_are_read_as_the_library_reads_them(
        from in 0_usize..200_000,
        len in 1_usize..3000,
        bits in 0_usize..3,
        changes in proptest::collection::vec((any::<usize>(), 1_u8..), 0..3),
    ) {
        let args = ["--lzma2=dict=256KiB", "--lzma2=dict=4KiB,lc=1,lp=3,pb=0", "--lzma2=dict=8KiB,pb=4"][bits];
        let _same = both(&sample()[from..from + len], args, &changes);
    }
}
