//! Real kernels repacked with each payload compression that Linux offers.
//!
//! The payload of a bzImage is unpacked, packed again as Linux's own build
//! does it, and put back with the header's fields brought in line
//! (Linux: Documentation/arch/x86/boot.rst; scripts/Makefile.lib). The stub
//! that would unpack it inside the image stays that of the old compression:
//! Kexen reads the payload itself and never runs the stub.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use kexen_image::Compression;

use super::artefacts::{Flavour, Kernel};
use crate::host::{cache, command, tools};

/// The command of Linux's build, from stdin to stdout. Because it reads a
/// pipe there, zstd does not know the size and takes its largest window.
const fn packer(kind: Compression) -> &'static [&'static str] {
    match kind {
        Compression::Gzip => &["gzip", "-n", "-9"],
        Compression::Bzip2 => &["bzip2", "-9"],
        Compression::Xz => &["xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB"],
        Compression::Lzma => &["xz", "--format=lzma", "-9"],
        Compression::Lzo => &["lzop", "-9"],
        Compression::Lz4 => &["lz4", "-l", "-9"],
        Compression::Zstd => &["zstd", "-22", "--ultra"],
        Compression::None => &["cat"],
    }
}

const fn unpacker(kind: Compression) -> &'static [&'static str] {
    match kind {
        Compression::Gzip => &["gzip", "-dc"],
        Compression::Bzip2 => &["bzip2", "-dc"],
        Compression::Xz | Compression::Lzma => &["xz", "-dc"],
        Compression::Lzo => &["lzop", "-dc"],
        Compression::Lz4 => &["lz4", "-dc"],
        Compression::Zstd => &["zstd", "-dc", "--long=31"],
        Compression::None => &["cat"],
    }
}

/// Whether Linux appends the unpacked size (gzip has it already).
fn has_size_trailer(kind: Compression) -> bool {
    kind != Compression::Gzip
}

/// What a payload is packed with.
fn of(payload: &[u8]) -> Option<Compression> {
    Some(Compression::detect(payload)).filter(|kind| *kind != Compression::None)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<usize> {
    let field = bytes.get(at..at + 4).context("too short for a bzImage")?;
    Ok(u32::from_le_bytes(field.try_into()?) as usize)
}

/// Where a bzImage's payload is: start and length.
pub(crate) fn payload_range(image: &[u8]) -> Result<(usize, usize)> {
    ensure!(image.get(0x202..0x206) == Some(b"HdrS"), "not a bzImage");
    // Zero stands for four sectors.
    let sectors = match image[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + u32_at(image, 0x248)?;
    let length = u32_at(image, 0x24c)?;
    ensure!(image.len() >= start + length, "bzImage is cut short");
    Ok((start, length))
}

/// The image with another payload (size trailer included, where there is one).
fn with_payload(image: &[u8], payload: &[u8]) -> Result<Vec<u8>> {
    let (start, _) = payload_range(image)?;
    let mut out = image[..start].to_vec();
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(16), 0);
    let setup = start - u32_at(image, 0x248)?;
    let paragraphs = u32::try_from((out.len() - setup) / 16)?;
    let length = u32::try_from(payload.len())?;
    out[0x1f4..0x1f8].copy_from_slice(&paragraphs.to_le_bytes());
    out[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
    Ok(out)
}

/// Runs a filter from one file to another.
fn filter(program: &[&str], from: &Path, to: &Path) -> Result<()> {
    let (name, args) = program.split_first().context("no program")?;
    let mut command = Command::new(name);
    let output = command
        .args(args)
        .stdin(File::open(from)?)
        .stdout(File::create(to)?)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?
        .wait_with_output()?;
    if !output.status.success() {
        bail!(
            "`{}` failed: {}",
            command::shown(&command),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// A bzImage's payload, as a file that its packer could have written (without
/// the size behind it), and what it is packed with.
pub(crate) fn packed(image: &[u8]) -> Result<(&[u8], Compression)> {
    let (start, length) = payload_range(image)?;
    let payload = &image[start..start + length];
    let compression = of(payload).context("payload of unknown compression")?;
    let trailer = if has_size_trailer(compression) { 4 } else { 0 };
    Ok((&payload[..length - trailer], compression))
}

/// The ELF kernel inside a bzImage, written to `to`.
fn unpack(image: &[u8], scratch: &Path, to: &Path) -> Result<()> {
    let (payload, compression) = packed(image)?;
    let file = scratch.join("packed");
    fs::write(&file, payload)?;
    filter(unpacker(compression), &file, to)
}

/// Debian's cloud kernel as plain ELF.
pub(crate) fn elf() -> Result<PathBuf> {
    tools::require(&[tools::REPACK])?;
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let recipe = format!("elf 1\n{}", kernel.identity()?);
    let dir = cache::get("kernel-elf", "a kernel to repack", &recipe, |dir| {
        let scratch = tempfile::tempdir_in(dir)?;
        unpack(
            &fs::read(&kernel.image)?,
            scratch.path(),
            &dir.join("vmlinux"),
        )
    })?;
    Ok(dir.join("vmlinux"))
}

/// Debian's cloud kernel with another payload compression.
pub(crate) fn kernel(compression: Compression) -> Result<PathBuf> {
    let elf = elf()?;
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let packer = packer(compression);
    let recipe = format!("repack 1\n{packer:?}\n{}", kernel.identity()?);
    let name = format!("kernel-{}", compression.name());
    let dir = cache::get(&name, "a kernel with that compression", &recipe, |dir| {
        let packed = dir.join("packed");
        filter(packer, &elf, &packed)?;
        let mut payload = fs::read(&packed)?;
        fs::remove_file(&packed)?;
        if has_size_trailer(compression) {
            let size = u32::try_from(fs::metadata(&elf)?.len())?;
            payload.extend_from_slice(&size.to_le_bytes());
        }
        let image = with_payload(&fs::read(&kernel.image)?, &payload)?;
        fs::write(dir.join("vmlinuz"), image)?;
        Ok(())
    })?;
    Ok(dir.join("vmlinuz"))
}

/// The same kernel with bytes of its payload changed: near the start, which
/// every format notices, and in the middle, which only a checksum does (LZ4's
/// legacy frame has none: a kernel so changed may unpack, and even run).
pub(crate) fn corrupted(image: &[u8]) -> Result<Vec<u8>> {
    let (start, length) = payload_range(image)?;
    let mut out = image.to_vec();
    for at in [start + 16, start + length / 2] {
        for byte in &mut out[at..at + 64] {
            *byte ^= 0x5a;
        }
    }
    Ok(out)
}

/// An ELF kernel that wants 1 GiB more memory for its last segment.
pub(crate) fn grown(elf: &[u8]) -> Result<Vec<u8>> {
    const LOAD: usize = 1;
    ensure!(elf.starts_with(b"\x7fELF\x02"), "not a 64-bit ELF file");
    let table = u32_at(elf, 0x20)?;
    let count = u32_at(elf, 0x38)? & 0xffff;
    let last = (0..count)
        .map(|index| table + index * 56)
        .rfind(|&header| u32_at(elf, header).ok() == Some(LOAD))
        .context("no PT_LOAD segment")?;
    let mut out = elf.to_vec();
    let size = u32::try_from(u32_at(elf, last + 0x28)?)?.saturating_add(1 << 30);
    out[last + 0x28..last + 0x2c].copy_from_slice(&size.to_le_bytes());
    Ok(out)
}

/// An ELF kernel whose notes are no longer Xen's: each name is changed.
pub(crate) fn without_notes(elf: &[u8]) -> Vec<u8> {
    let mut out = elf.to_vec();
    let mut at = 0;
    // A note is name size, description size, type, name.
    while let Some(found) = find(&out[at..], b"Xen\0") {
        let name = at + found;
        if name >= 12 && out[name - 12..name - 8] == [4, 0, 0, 0] {
            out[name] = b'N';
        }
        at = name + 4;
    }
    out
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 0x20];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 0x20;
        image[0x24c] = u8::try_from(payload.len()).unwrap();
        image.extend_from_slice(payload);
        image.extend_from_slice(b"stub");
        image
    }

    #[test]
    fn payload_is_replaced() {
        let old = image(b"old payload");
        assert_eq!(payload_range(&old).unwrap(), (1024 + 0x20, 11));
        let new = with_payload(&old, b"another, longer payload").unwrap();
        let (start, length) = payload_range(&new).unwrap();
        assert_eq!(&new[start..start + length], b"another, longer payload");
        assert_eq!((new.len() - 1024) % 16, 0);
        assert_eq!(u32_at(&new, 0x1f4).unwrap() * 16, new.len() - 1024);
    }

    #[test]
    fn cut_images_are_refused() {
        let mut cut = image(b"old payload");
        cut.truncate(1024 + 0x28);
        assert!(payload_range(&cut).is_err());
        assert!(payload_range(b"short").is_err());
    }

    #[test]
    fn each_compression_is_told_apart() {
        for compression in Compression::ALL {
            assert_eq!(of(compression.magic()), Some(compression));
        }
    }

    #[test]
    fn the_last_segment_grows() {
        let mut elf = vec![0; 64 + 2 * 56];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf[0x20] = 64;
        elf[0x38] = 2;
        elf[64] = 1;
        elf[64 + 0x28] = 7;
        let out = grown(&elf).unwrap();
        assert_eq!(u32_at(&out, 64 + 0x28).unwrap(), (1 << 30) + 7);
        elf[64] = 4;
        assert!(grown(&elf).is_err());
    }

    #[test]
    fn notes_lose_their_name() {
        let mut elf = b"Xen\0....".to_vec();
        elf.extend_from_slice(&[4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]);
        elf.extend_from_slice(b"Xen\0abcd");
        let out = without_notes(&elf);
        assert!(out.starts_with(b"Xen\0"));
        assert_eq!(&out[20..24], b"Nen\0");
    }
}
