//! The boot image in other forms of ELF file, as kernels that are no Linux have
//! them: a chain through one shows that such a kernel starts.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// A form of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A 32-bit file, for i386: as Xen's own tests, GRUB and xen-shim are.
    Narrow,
    /// Without the note `ENTRY`: it is `e_entry`.
    NoEntry,
    /// Without notes, with the section `__xen_guest`.
    GuestSection,
    /// Packed with gzip, as NetBSD's and Mini-OS's kernels are.
    Gzip,
}

impl Form {
    /// Its name in a case's.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Narrow => "other-32-bit-elf",
            Self::NoEntry => "other-no-entry-note",
            Self::GuestSection => "other-guest-section",
            Self::Gzip => "other-gzip-elf",
        }
    }

    /// Makes the file of a 64-bit ELF file with notes.
    pub(crate) fn of(self, elf: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Narrow => narrow(elf),
            Self::NoEntry => no_entry(elf),
            Self::GuestSection => guest_section(elf),
            Self::Gzip => gzip(elf),
        }
    }
}

const ENTRY: u32 = 1;
const HYPERCALL_PAGE: u32 = 2;
const VIRT_BASE: u32 = 3;
const PADDR_OFFSET: u32 = 4;

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64> {
    let part = bytes.get(at..at + N).context("the file is cut")?;
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(part);
    Ok(u64::from_le_bytes(wide))
}

/// The program headers: where each is.
fn headers(elf: &[u8]) -> Result<Vec<usize>> {
    ensure!(elf.starts_with(b"\x7fELF\x02"), "no 64-bit ELF file");
    let table = usize::try_from(number::<8>(elf, 32)?)?;
    let count = usize::try_from(number::<2>(elf, 56)?)?;
    Ok((0..count).map(|n| table + n * 56).collect())
}

/// The note of Xen's of a type: where its header is.
fn note(elf: &[u8], kind: u32) -> Result<usize> {
    const NAME: &[u8] = b"Xen\0";
    elf.windows(16)
        .position(|window| {
            window[..4] == [4, 0, 0, 0]
                && window[8..12] == kind.to_le_bytes()
                && &window[12..] == NAME
        })
        .with_context(|| format!("no note of type {kind}"))
}

fn value(elf: &[u8], kind: u32) -> Result<u64> {
    number::<8>(elf, note(elf, kind)? + 16)
}

/// Headers of 32 bits in a page of their own before all the rest.
fn narrow(elf: &[u8]) -> Result<Vec<u8>> {
    const PAGE: u64 = 4096;
    let headers = headers(elf)?;
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x01\x01\x01\0");
    file.resize(16, 0);
    for half in [2_u16, 3] {
        file.extend(half.to_le_bytes());
    }
    for word in [1_u32, 0, 52, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    for half in [52, 32, u16::try_from(headers.len())?, 40, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for at in headers {
        let offset = number::<8>(elf, at + 8)? + PAGE;
        // Physical addresses alone fit.
        let address = number::<8>(elf, at + 24)?;
        let words = [
            number::<4>(elf, at)?,
            offset,
            address,
            address,
            number::<8>(elf, at + 32)?,
            number::<8>(elf, at + 40)?,
            number::<4>(elf, at + 4)?,
            PAGE,
        ];
        for word in words {
            file.extend(u32::try_from(word)?.to_le_bytes());
        }
    }
    file.resize(usize::try_from(PAGE)?, 0);
    file.extend(elf);
    Ok(file)
}

fn no_entry(elf: &[u8]) -> Result<Vec<u8>> {
    let mut file = elf.to_vec();
    let entry = value(elf, ENTRY)?;
    let at = note(elf, ENTRY)?;
    // INFO, which is for crash dumps.
    file[at + 8..at + 12].copy_from_slice(&0_u32.to_le_bytes());
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    Ok(file)
}

fn guest_section(elf: &[u8]) -> Result<Vec<u8>> {
    let (base, page) = (value(elf, VIRT_BASE)?, value(elf, HYPERCALL_PAGE)?);
    let text = format!(
        "GUEST_OS=Kexen,XEN_VER=xen-3.0,LOADER=generic,VIRT_BASE={base:#x},\
         VIRT_ENTRY={:#x},ELF_PADDR_OFFSET={:#x},HYPERCALL_PAGE={:#x},\
         FEATURES=!writable_page_tables|pae_pgdir_above_4gb\0",
        value(elf, ENTRY)?,
        value(elf, PADDR_OFFSET)?,
        page.checked_sub(base).context("HYPERCALL_PAGE")? >> 12,
    );
    let mut file = super::repack::without_notes(elf);
    file.resize(file.len().next_multiple_of(8), 0);
    let text_at = u64::try_from(file.len())?;
    file.extend(text.as_bytes());
    let names_at = u64::try_from(file.len())?;
    const NAMES: &[u8] = b"\0__xen_guest\0";
    file.extend(NAMES);
    file.resize(file.len().next_multiple_of(8), 0);
    let table = u64::try_from(file.len())?;
    let text_len = u64::try_from(text.len())?;
    let names_len = u64::try_from(NAMES.len())?;
    let sections = [
        (0_u32, 0_u32, 0, 0),
        (1, 1, text_at, text_len),
        (0, 3, names_at, names_len),
    ];
    for (name, kind, offset, size) in sections {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        for word in [0, 0, offset, size, 0, 1, 0] {
            file.extend(u64::to_le_bytes(word));
        }
    }
    file[40..48].copy_from_slice(&table.to_le_bytes());
    for (at, half) in [(58, 64_u16), (60, 3), (62, 2)] {
        file[at..at + 2].copy_from_slice(&half.to_le_bytes());
    }
    Ok(file)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("gzip")
        .args(["-n", "-6"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start gzip")?;
    let mut stdin = child.stdin.take().context("no pipe")?;
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "gzip failed");
    writer.join().ok().context("the writer failed")??;
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use kexen_image::{GuestType, Kernel, plan};

    use super::*;

    fn header(kind: u32, words: [u64; 6]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), 5_u32.to_le_bytes()].concat();
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    /// A file like the boot image: high addresses, low places.
    fn image() -> Vec<u8> {
        let mut notes = Vec::new();
        let mut note = |kind: u32, value: &[u8]| {
            for word in [4, u32::try_from(value.len()).unwrap(), kind] {
                notes.extend(word.to_le_bytes());
            }
            notes.extend(b"Xen\0");
            notes.extend(value);
            notes.resize(notes.len().next_multiple_of(4), 0);
        };
        note(8, b"generic\0");
        note(5, b"xen-3.0\0");
        note(VIRT_BASE, &0xffff_ffff_c000_0000_u64.to_le_bytes());
        note(PADDR_OFFSET, &0x600_0000_u64.to_le_bytes());
        note(ENTRY, &0xffff_ffff_c000_0100_u64.to_le_bytes());
        note(HYPERCALL_PAGE, &0xffff_ffff_c000_1000_u64.to_le_bytes());
        note(18, &0x600_0200_u32.to_le_bytes());
        let len = u64::try_from(notes.len()).unwrap();
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[16..20].copy_from_slice(&[2, 0, 62, 0]);
        file[32] = 64;
        file[54] = 56;
        file[56] = 2;
        let virt = 0xffff_ffff_c000_0000;
        file.extend(header(1, [0, virt, 0x600_0000, 0x1000, 0x3000, 4096]));
        file.extend(header(4, [0x800, virt + 0x800, 0x600_0800, len, len, 4]));
        file.resize(0x800, 0);
        file.extend(notes);
        file.resize(0x1000, 7);
        file
    }

    #[test]
    fn each_form_starts_where_the_image_did() {
        let entry = |file: &[u8], guest| {
            let kernel = Kernel::parse(file).unwrap();
            let size = usize::try_from(kernel.payload().size).unwrap();
            let mut whole = vec![0; size];
            kernel.payload().decompress(&mut whole).unwrap();
            let elf = kernel.elf(&whole).unwrap();
            let notes = elf.notes(&whole).unwrap();
            let place = elf.segments()[0];
            assert_eq!((place.paddr, place.memsz), (0x600_0000, 0x3000));
            plan(&elf, &notes, &whole, guest)
                .ok()
                .map(|plan| plan.entry)
        };
        let of = |form: Form| form.of(&image()).unwrap();
        let (pv, pvh) = (Some(0xffff_ffff_c000_0100), Some(0x600_0200));
        assert_eq!(entry(&image(), GuestType::Pv), pv);
        assert_eq!(entry(&of(Form::Narrow), GuestType::Pvh), pvh);
        assert_eq!(entry(&of(Form::Narrow), GuestType::Pv), None);
        assert_eq!(entry(&of(Form::NoEntry), GuestType::Pv), pv);
        assert_eq!(entry(&of(Form::GuestSection), GuestType::Pv), pv);
        assert_eq!(entry(&of(Form::GuestSection), GuestType::Pvh), None);
        assert_eq!(entry(&of(Form::Gzip), GuestType::Pvh), pvh);
    }
}
