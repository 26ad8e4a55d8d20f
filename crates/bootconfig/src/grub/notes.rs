//! Whether a file is an ELF kernel that Xen starts: one with Xen's notes.
//!
//! Formats: System V ABI, "Program Header"; `xen/include/public/elfnote.h`. What
//! the notes say is read when the kernel is loaded; here it matters that a
//! kernel for PCs alone has none.

use alloc::vec::Vec;

use kexen_disk::fs::File;

/// Bytes of the headers, and of notes, that are looked at.
const MAX_BYTES: usize = 64 << 10;
/// Program headers, at most.
const MAX_HEADERS: usize = 64;
const PT_NOTE: u64 = 4;
/// Notes with which Xen or its toolstack starts a kernel: ENTRY, XEN_VERSION,
/// LOADER, PHYS32_ENTRY.
const STARTS: [u64; 4] = [1, 5, 8, 18];

/// A little-endian number of a file.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    let digits = bytes.iter().rev();
    Some(digits.fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
}

fn read(file: &mut dyn File, offset: u64, bytes: u64) -> Option<Vec<u8>> {
    let bytes = bytes.min(file.bytes().checked_sub(offset)?);
    let len = usize::try_from(bytes).ok()?.min(MAX_BYTES);
    let mut found = alloc::vec![0; len];
    file.read_at(offset, &mut found).ok()?;
    Some(found)
}

/// Whether there are such notes.
pub(super) fn has_xens(file: &mut dyn File) -> bool {
    of_headers(file).unwrap_or_default()
}

fn of_headers(file: &mut dyn File) -> Option<bool> {
    let head = read(file, 0, 4096)?;
    if !head.starts_with(b"\x7fELF") || *head.get(5)? != 1 {
        return None;
    }
    // Where the table is, bytes of a header, how many; in a header the place
    // in the file, and how long.
    let wide = *head.get(4)? == 2;
    let (table, each, count, offset, length, word) = if wide {
        (32, 54, 56, 8, 32, 8)
    } else {
        (28, 42, 44, 4, 16, 4)
    };
    let table = number(&head, table, word)?;
    let each = usize::try_from(number(&head, each, 2)?).ok()?;
    let count = usize::try_from(number(&head, count, 2)?)
        .ok()?
        .min(MAX_HEADERS);
    let bytes = u64::try_from(each.checked_mul(count)?).ok()?;
    let headers = read(file, table, bytes)?;
    for header in headers.chunks_exact(each.max(1)) {
        if number(header, 0, 4) != Some(PT_NOTE) {
            continue;
        }
        let (offset, length) = (number(header, offset, word)?, number(header, length, word)?);
        if read(file, offset, length).is_some_and(|notes| of_notes(&notes)) {
            return Some(true);
        }
    }
    Some(false)
}

fn of_notes(notes: &[u8]) -> bool {
    let mut rest = notes;
    loop {
        let lengths = (number(rest, 0, 4), number(rest, 4, 4), number(rest, 8, 4));
        let (Some(name), Some(value), Some(kind)) = lengths else {
            return false;
        };
        if rest.get(12..16) == Some(b"Xen\0") && name == 4 && STARTS.contains(&kind) {
            return true;
        }
        let padded = |len: u64| len.checked_next_multiple_of(4);
        let next = padded(name)
            .zip(padded(value))
            .and_then(|(name, value)| name.checked_add(value)?.checked_add(12));
        let next = next.and_then(|next| usize::try_from(next).ok());
        match next.and_then(|next| rest.get(next..)) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An ELF file with one note, of this name and kind.
    pub(crate) fn elf(wide: bool, name: &[u8; 4], kind: u8) -> Vec<u8> {
        let mut file = alloc::vec![0; 256];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1]);
        let (table, each, count, offset, length) = if wide {
            (32, 54, 56, 8, 32)
        } else {
            (28, 42, 44, 4, 16)
        };
        file[table] = 64;
        file[each] = 56;
        file[count] = 1;
        file[64] = 4;
        file[64 + offset] = 160;
        file[64 + length] = 40;
        // A note of something else before it.
        file[160..172].copy_from_slice(&[4, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
        file[172..176].copy_from_slice(b"GNU\0");
        file[180..192].copy_from_slice(&[4, 0, 0, 0, 4, 0, 0, 0, kind, 0, 0, 0]);
        file[192..196].copy_from_slice(name);
        file
    }

    fn has(bytes: &[u8]) -> bool {
        let fs = crate::testfs::TestFs::new("ext4", "", "").file("/k", bytes);
        let mut file = kexen_disk::FileSystem::open(&fs, "/k").unwrap();
        has_xens(&mut *file)
    }

    #[test]
    fn xens_notes_are_found() {
        for wide in [false, true] {
            assert!(has(&elf(wide, b"Xen\0", 18)));
            assert!(has(&elf(wide, b"Xen\0", 1)));
            assert!(!has(&elf(wide, b"Xen\0", 2)));
            assert!(!has(&elf(wide, b"GNU\0", 18)));
        }
        assert!(!has(b"\x7fELF"));
        assert!(!has(b"x"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(at in 0_usize..256, byte in 0_u8.., cut in 0_usize..257) {
            let mut file = elf(true, b"Xen\0", 18);
            file[at] = byte;
            file.truncate(cut);
            let _has = has(&file);
        }
    }
}
