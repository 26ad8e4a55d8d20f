//! A kernel that starts in guests of every type, and a boot module with it.

use kexen_abi::PAGE_SIZE;
use kexen_image::testelf::{File, note, seg};

/// Where the kernel is linked to, its pages with bytes, and all of them.
pub(crate) const PLACE: u64 = 0x100_0000;
pub(crate) const FILLED: u64 = 40;
pub(crate) const PAGES: u64 = 50;
/// Its PVH entry.
pub(crate) const ENTRY: u64 = PLACE + 0x200;

/// Bytes of the initrd: no whole pages.
const INITRD: usize = 300_000;

pub(crate) fn initrd() -> Vec<u8> {
    (0..INITRD).map(|n| u8::try_from(n % 249).unwrap()).collect()
}

/// An ELF file with Xen's notes.
pub(crate) fn kernel() -> Vec<u8> {
    let segment = seg(PAGE_SIZE, PLACE, FILLED * PAGE_SIZE, PAGES * PAGE_SIZE);
    let notes = [note(18, &u32::try_from(ENTRY).unwrap().to_le_bytes())];
    File::new(&[segment]).notes(&notes).bytes()
}

/// One file of a newc archive.
fn member(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let mut header = String::from("070701");
    let size = u32::try_from(bytes.len()).unwrap();
    let name_size = u32::try_from(name.len() + 1).unwrap();
    let fields = [0, 0o100_644, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    for field in fields {
        header += &format!("{field:08x}");
    }
    out.extend(header.as_bytes());
    out.extend(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// A boot module of one entry.
pub(crate) fn module(cmdline: &str) -> Vec<u8> {
    let mut out = Vec::new();
    member(&mut out, "kernel", &kernel());
    member(&mut out, "initrd", &initrd());
    member(&mut out, "cmdline", cmdline.as_bytes());
    member(&mut out, "TRAILER!!!", &[]);
    out
}
