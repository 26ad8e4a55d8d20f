//! `struct boot_params` for the 64-bit entry.
//!
//! Specification: `Documentation/arch/x86/boot.rst` and `zero-page.rst` of
//! Linux: the page is zeroes but for the setup header of the kernel's file and
//! what a loader fills in. At the entry `rsi` has its physical address, and
//! the low 4 GiB are mapped one to one.

use kexen_abi::hvm::HvmMemmapEntry;

/// Bytes of the structure: one page.
pub const BYTES: usize = 4096;
/// Entries of the memory map that have room.
pub const E820_MAX: usize = 128;
/// The 64-bit entry of a bzImage, from the start of its protected-mode code.
pub const ENTRY_64: u64 = 0x200;

const ACPI_RSDP_ADDR: usize = 0x70;
const EXT_RAMDISK_IMAGE: usize = 0xc0;
const EXT_RAMDISK_SIZE: usize = 0xc4;
const EXT_CMD_LINE_PTR: usize = 0xc8;
const E820_ENTRIES: usize = 0x1e8;
const SETUP_HEADER: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const TYPE_OF_LOADER: usize = 0x210;
const LOADFLAGS: usize = 0x211;
const CODE32_START: usize = 0x214;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const CMD_LINE_PTR: usize = 0x228;
const SETUP_DATA: usize = 0x250;
const E820_TABLE: usize = 0x2d0;

/// "Undefined": a loader without a number of its own.
const LOADER: u8 = 0xff;
/// The code is not at its old place below 1 MiB.
const LOADED_HIGH: u8 = 1;
/// What a kernel without a header of its own is taken to speak.
const PROTOCOL: u16 = 0x20f;

/// What a loader tells Linux. Addresses are physical.
#[derive(Clone, Copy, Debug)]
pub struct BootParams<'a> {
    /// The setup header of its file; none for a plain ELF file.
    pub setup_header: Option<&'a [u8]>,
    /// The memory map.
    pub memmap: &'a [HvmMemmapEntry],
    /// The command line, which ends in a NUL.
    pub command_line: u64,
    /// Address and bytes of the initrd.
    pub initrd: Option<(u64, u64)>,
    /// ACPI's root pointer; 0 to have Linux look for it.
    pub rsdp: u64,
    /// Where the protected-mode code is, if it was loaded.
    pub code: u64,
}

impl BootParams<'_> {
    /// The structure. A memory map of more entries than have room is cut.
    #[must_use]
    pub fn page(&self) -> [u8; BYTES] {
        let mut page = [0_u8; BYTES];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(room) = page.get_mut(at..at.saturating_add(bytes.len())) {
                room.copy_from_slice(bytes);
            }
        };
        match self.setup_header {
            Some(header) => {
                // It ends before the memory map in any kernel there is.
                let room = E820_TABLE - SETUP_HEADER;
                put(
                    SETUP_HEADER,
                    header.get(..header.len().min(room)).unwrap_or(header),
                );
            }
            None => {
                put(BOOT_FLAG, &0xaa55_u16.to_le_bytes());
                put(MAGIC, b"HdrS");
                put(VERSION, &PROTOCOL.to_le_bytes());
            }
        }
        put(TYPE_OF_LOADER, &[LOADER]);
        put(LOADFLAGS, &[LOADED_HIGH]);
        put(SETUP_DATA, &[0; 8]);
        put(ACPI_RSDP_ADDR, &self.rsdp.to_le_bytes());
        let mut split = |low: usize, high: usize, value: u64| {
            let bytes = value.to_le_bytes();
            put(low, &bytes[..4]);
            put(high, &bytes[4..]);
        };
        split(CMD_LINE_PTR, EXT_CMD_LINE_PTR, self.command_line);
        let (image, size) = self.initrd.unwrap_or_default();
        split(RAMDISK_IMAGE, EXT_RAMDISK_IMAGE, image);
        split(RAMDISK_SIZE, EXT_RAMDISK_SIZE, size);
        put(CODE32_START, &self.code.to_le_bytes()[..4]);
        let entries = self.memmap.iter().take(E820_MAX);
        let count = u8::try_from(entries.len()).unwrap_or(0);
        put(E820_ENTRIES, &[count]);
        for (n, entry) in entries.enumerate() {
            let at = E820_TABLE + 20 * n;
            put(at, &entry.addr.to_le_bytes());
            put(at + 8, &entry.size.to_le_bytes());
            put(at + 16, &entry.kind.to_le_bytes());
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_linux_looks() {
        let memmap = [
            HvmMemmapEntry {
                addr: 0,
                size: 0x9_fc00,
                kind: 1,
                reserved: 0,
            },
            HvmMemmapEntry {
                addr: 0x10_0000,
                size: 0xff0_0000,
                kind: 2,
                reserved: 0,
            },
        ];
        let mut header = [0_u8; 0x77];
        header[0x202 - 0x1f1..][..4].copy_from_slice(b"HdrS");
        let page = BootParams {
            setup_header: Some(&header),
            memmap: &memmap,
            command_line: 0x1_2345_6000,
            initrd: Some((0x800_0000, 0x1234)),
            rsdp: 0xfc00_0000,
            code: 0x600_0000,
        }
        .page();
        let word = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
        assert_eq!(&page[0x202..0x206], b"HdrS");
        assert_eq!((page[0x210], page[0x211] & 1), (0xff, 1));
        assert_eq!((word(0x228), word(0xc8)), (0x2345_6000, 1));
        assert_eq!((word(0x218), word(0x21c)), (0x800_0000, 0x1234));
        assert_eq!(word(0x70), 0xfc00_0000);
        assert_eq!(word(0x214), 0x600_0000);
        assert_eq!(page[0x1e8], 2);
        assert_eq!(word(0x2d0 + 20), 0x10_0000);
        assert_eq!(word(0x2d0 + 36), 2);
        // The sentinel says that the page was zeroed.
        assert_eq!(page[0x1ef], 0);
    }

    #[test]
    fn a_long_map_and_a_long_header_stay_in_the_page() {
        let memmap = [HvmMemmapEntry::default(); 200];
        let page = BootParams {
            setup_header: Some(&[0xff; 4000]),
            memmap: &memmap,
            command_line: 0,
            initrd: None,
            rsdp: 0,
            code: 0,
        }
        .page();
        assert_eq!(page[0x1e8], 128);
        assert_eq!(page[0x2d0], 0);
    }
}
