//! What the tests unpack, packed by the programs that Linux's build packs with.

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
};

use kexen_image::{Compression, Payload};

/// The program, its arguments, and Debian's package of it.
fn packer(kind: Compression) -> (&'static str, &'static [&'static str], &'static str) {
    match kind {
        Compression::None => unreachable!("not packed"),
        Compression::Gzip => ("gzip", &["-n", "-9"], "gzip"),
        Compression::Bzip2 => ("bzip2", &["-9"], "bzip2"),
        Compression::Xz => (
            "xz",
            &["--check=crc32", "--x86", "--lzma2=,dict=32MiB"],
            "xz-utils",
        ),
        Compression::Lzma => ("xz", &["--format=lzma", "-9"], "xz-utils"),
        Compression::Lzo => ("lzop", &["-9"], "lzop"),
        Compression::Lz4 => ("lz4", &["-l", "-9"], "lz4"),
        Compression::Zstd => ("zstd", &["-22", "--ultra"], "zstd"),
    }
}

pub(crate) fn pack(kind: Compression, data: &[u8]) -> Vec<u8> {
    let (program, args, package) = packer(kind);
    pack_with(program, args, package, data)
}

pub(crate) fn pack_with(program: &str, args: &[&str], package: &str, data: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}; install Debian's package {package}"));
    let mut stdin = child.stdin.take().unwrap();
    let data = data.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&data));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} failed");
    output.stdout
}

/// Text, noise, runs and structure, as in a kernel.
pub(crate) fn sample() -> Vec<u8> {
    let mut data = Vec::new();
    let mut state = 7_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    while data.len() < 3 << 20 {
        match random() % 4 {
            0 => data.extend((0..random() % 5000).map(|_| u8::try_from(random() & 0xff).unwrap())),
            1 => data.extend(std::iter::repeat_n(
                0,
                usize::try_from(random() % 40_000).unwrap(),
            )),
            2 => (0..random() % 300).for_each(|n| {
                data.extend(format!("symbol_{n}_{:x}\n", random() % 97).bytes());
            }),
            _ => (0..random() % 900).for_each(|n| {
                data.extend([0xe8, u8::try_from(n % 251).unwrap(), 0, 0, 0, 0x48, 0x89]);
            }),
        }
    }
    data
}

pub(crate) fn payload<'a>(kind: Compression, bytes: &'a [u8], data: &[u8]) -> Payload<'a> {
    Payload {
        compression: kind,
        bytes,
        size: u64::try_from(data.len()).unwrap(),
    }
}
