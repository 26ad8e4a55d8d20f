//! A kernel that starts in guests of every type, and a boot module with it.

use std::fs;
use std::process::Command;

use kexen_abi::PAGE_SIZE;
use kexen_guest::Machine;
use kexen_image::testelf::{File, note, seg};

/// Where the kernel is linked to, its pages with bytes, and all of them.
pub(crate) const PLACE: u64 = 0x100_0000;
pub(crate) const FILLED: u64 = 40;
pub(crate) const PAGES: u64 = 50;
/// Where a PV guest has its page 0.
pub(crate) const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// Physical address of its entry points.
pub(crate) const ENTRY: u64 = PLACE + 0x200;

/// Numbers of notes (`public/elfnote.h`).
const ENTRY_NOTE: u32 = 1;
const VIRT_BASE_NOTE: u32 = 3;
const XEN_VERSION_NOTE: u32 = 5;
const LOADER_NOTE: u32 = 8;
const INIT_P2M_NOTE: u32 = 15;
const MOD_START_PFN_NOTE: u32 = 16;
const PHYS32_ENTRY_NOTE: u32 = 18;

/// Bytes of the initrd: no whole pages.
const INITRD: usize = 300_000;

pub(crate) fn initrd() -> Vec<u8> {
    (0..INITRD)
        .map(|n| u8::try_from(n % 249).unwrap())
        .collect()
}

/// An ELF file with Xen's notes.
pub(crate) fn kernel() -> Vec<u8> {
    let mut segment = seg(PAGE_SIZE, PLACE, FILLED * PAGE_SIZE, PAGES * PAGE_SIZE);
    segment.vaddr = VIRT_BASE + PLACE;
    let notes = [
        note(ENTRY_NOTE, &(VIRT_BASE + ENTRY).to_le_bytes()),
        note(VIRT_BASE_NOTE, &VIRT_BASE.to_le_bytes()),
        note(XEN_VERSION_NOTE, b"xen-3.0\0"),
        note(LOADER_NOTE, b"generic\0"),
        note(INIT_P2M_NOTE, &0x80_0000_0000_u64.to_le_bytes()),
        note(MOD_START_PFN_NOTE, &1_u64.to_le_bytes()),
        note(
            PHYS32_ENTRY_NOTE,
            &u32::try_from(ENTRY).unwrap().to_le_bytes(),
        ),
    ];
    let mut file = File::new(&[segment]).notes(&notes);
    file.entry = VIRT_BASE + ENTRY;
    file.bytes()
}

/// Of a vCPU's memory.
pub(crate) fn bytes<M: Machine>(m: &M, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    m.read(at, &mut bytes).unwrap();
    bytes
}

/// The kernel is at this address: its own bytes, and zeroes behind them.
pub(crate) fn check_kernel<M: Machine>(m: &M, at: u64) {
    let file = kernel();
    let filled = usize::try_from(FILLED * PAGE_SIZE).unwrap();
    let all = usize::try_from(PAGES * PAGE_SIZE).unwrap();
    let loaded = bytes(m, at, all);
    assert_eq!(loaded[..filled], file[4096..4096 + filled]);
    assert!(loaded[filled..].iter().all(|byte| *byte == 0));
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

/// A disk with an ext4 file system, whose grub.cfg boots the kernel.
pub(crate) fn disk() -> Vec<u8> {
    const CONFIG: &str = "set timeout=0\n\
        menuentry Test {\n  linux /boot/kernel root=/dev/xvda1\n  initrd /boot/initrd\n}\n";
    let dir = tempfile::tempdir().unwrap();
    let boot = dir.path().join("root/boot");
    fs::create_dir_all(boot.join("grub")).unwrap();
    fs::write(boot.join("grub/grub.cfg"), CONFIG).unwrap();
    fs::write(boot.join("kernel"), kernel()).unwrap();
    fs::write(boot.join("initrd"), initrd()).unwrap();
    let image = dir.path().join("image");
    let made = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-d"])
        .arg(dir.path().join("root"))
        .arg(&image)
        .arg("8M")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::read(image).unwrap()
}
