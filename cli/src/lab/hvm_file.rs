//! The boot image as a file that an HVM guest can start from.
//!
//! Format: the Linux boot protocol's (`Documentation/arch/x86/boot.rst`), as
//! the device model's `-kernel` reads it: a setup header, the real-mode part,
//! and the image itself, flat, which is loaded at 1 MiB. The real-mode part is
//! in the image, at [`SETUP_AT`] (`kexen.ld`).

use anyhow::{Context as _, Result, ensure};

/// Where the image is linked to be, physically.
const KEXEN_PHYS: u64 = 0x0600_0000;
/// Where the real-mode part is in the image, and where it goes in the file.
const SETUP_AT: usize = 0x800;
const SETUP_LEN: usize = 0x700;
/// Behind the setup header, whose own jump reaches no further.
const HEADER_END: usize = 0x268;
const SETUP: usize = 0xd00;
/// Sectors of the real-mode part, the first not counted.
const SECTORS: u8 = 9;

/// Makes the file of an ELF image.
pub(crate) fn of(elf: &[u8]) -> Result<Vec<u8>> {
    let image = flat(elf)?;
    let setup = image
        .get(SETUP_AT..SETUP_AT + SETUP_LEN)
        .context("the image has no real-mode part")?;
    let mut file = vec![0; (usize::from(SECTORS) + 1) * 512];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let paragraphs = u32::try_from(image.len().div_ceil(16))?;
    put(0x1f1, &[SECTORS]);
    put(0x1f4, &paragraphs.to_le_bytes());
    put(0x1fe, &0xaa55_u16.to_le_bytes());
    // A jump over the header.
    put(0x200, &[0xeb, 0x66]);
    let far = u16::try_from(SETUP - HEADER_END - 3)?.to_le_bytes();
    put(HEADER_END, &[0xe9, far[0], far[1]]);
    put(0x202, b"HdrS");
    put(0x206, &0x20a_u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x214, &0x10_0000_u32.to_le_bytes());
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(0x230, &0x20_0000_u32.to_le_bytes());
    put(0x238, &4095_u32.to_le_bytes());
    file[SETUP..SETUP + SETUP_LEN].copy_from_slice(setup);
    file.extend(image);
    Ok(file)
}

/// The loadable parts of an ELF file, from [`KEXEN_PHYS`] on.
fn flat(elf: &[u8]) -> Result<Vec<u8>> {
    let parsed = kexen_image::Elf::parse(elf).context("the boot image is no ELF file")?;
    let mut image = Vec::new();
    for segment in parsed.segments() {
        let at = segment
            .paddr
            .checked_sub(KEXEN_PHYS)
            .context("a segment of the boot image is below 96 MiB")?;
        let (at, len) = (usize::try_from(at)?, usize::try_from(segment.filesz)?);
        let from = usize::try_from(segment.offset)?;
        ensure!(at <= 64 << 20, "a segment of the boot image is too far up");
        let bytes = elf.get(from..from + len).context("the boot image is cut")?;
        image.resize(image.len().max(at + len), 0);
        image[at..at + len].copy_from_slice(bytes);
    }
    Ok(image)
}
