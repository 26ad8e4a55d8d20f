//! The start of day of an HVM guest, which the firmware started as a Linux
//! kernel (`kernel=` of the toolstack, with SeaBIOS).
//!
//! Specification: the Linux boot protocol (`Documentation/arch/x86/boot.rst`,
//! `zero-page.rst`). The loader fills the setup header in; the real-mode part
//! of this image has put the firmware's memory map where `boot_params` has
//! it. Counts are bounded, and sums do not wrap.

use alloc::{string::String, vec::Vec};

use kexen_abi::hvm::{HvmMemmapEntry, HvmModlistEntry, HvmStartInfo, START_MAGIC};
use zerocopy::{FromZeros, IntoBytes};

use super::start::{Start, StartError};
use crate::Machine;

const E820_ENTRIES: u64 = 0x1e8;
const RAMDISK_IMAGE: u64 = 0x218;
const RAMDISK_SIZE: u64 = 0x21c;
const CMD_LINE_PTR: u64 = 0x228;
const E820_TABLE: u64 = 0x2d0;
const E820_BYTES: u64 = 20;

/// Entries of a memory map that have room.
const MAX_MAP: u8 = 128;
/// Bytes of a command line that are looked at.
const MAX_COMMAND_LINE: u64 = 64 * 1024;

impl Start {
    /// Reads the setup header and memory map at physical address `address`.
    pub fn from_boot_params<M: Machine + ?Sized>(m: &M, address: u64) -> Result<Self, StartError> {
        let word = |at: u64| m.load32(address.saturating_add(at)).map(u64::from);
        let mut count = [0];
        m.read(address.saturating_add(E820_ENTRIES), &mut count)?;
        let [count] = count;
        if !(1..=MAX_MAP).contains(&count) {
            return Err(StartError::Field {
                field: "e820_entries",
                value: count.into(),
                want: "between 1 and 128",
            });
        }
        let mut memmap = Vec::new();
        for n in 0..u64::from(count) {
            let mut entry = HvmMemmapEntry::default();
            let at = address.saturating_add(E820_TABLE + n * E820_BYTES);
            m.read(at, &mut entry.as_mut_bytes()[..20])?;
            memmap.push(entry);
        }
        let mut modules = Vec::new();
        let size = word(RAMDISK_SIZE)?;
        if size > 0 {
            modules.push(HvmModlistEntry {
                paddr: word(RAMDISK_IMAGE)?,
                size,
                cmdline_paddr: 0,
                reserved: 0,
            });
        }
        let mut text = Vec::new();
        let line = word(CMD_LINE_PTR)?;
        if line != 0 {
            for n in 0..MAX_COMMAND_LINE {
                let mut byte = [0];
                m.read(line + n, &mut byte)?;
                if byte == [0] {
                    break;
                }
                text.push(byte[0]);
            }
        }
        let mut info = HvmStartInfo::new_zeroed();
        info.magic = START_MAGIC;
        info.version = 1;
        let command_line = String::from_utf8_lossy(&text).into_owned();
        Ok(Self {
            info,
            modules,
            memmap,
            command_line,
        })
    }
}
