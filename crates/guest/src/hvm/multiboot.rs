//! The start of day of an HVM guest whose device model loaded this kernel by
//! Multiboot (`kernel=` of the toolstack, with SeaBIOS).
//!
//! Specification: GNU Multiboot 0.6.96, "Boot information format". The memory
//! map is the firmware's. Counts are bounded, and sums do not wrap.

use alloc::{string::String, vec::Vec};

use kexen_abi::hvm::{HvmMemmapEntry, HvmModlistEntry, HvmStartInfo, START_MAGIC};
use zerocopy::FromZeros;

use super::start::{Start, StartError};
use crate::Machine;

const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MEMORY_MAP: u32 = 1 << 6;

/// Bytes of the memory map that are looked at.
const MAX_MAP: u32 = 512 * 24;
/// Modules that are looked at.
const MAX_MODULES: u32 = 64;
/// Bytes of a command line that are looked at.
const MAX_COMMAND_LINE: u64 = 64 * 1024;

impl Start {
    /// Reads the information structure at physical address `address`. The
    /// first word of the command line, which names the file, is left out.
    pub fn from_multiboot<M: Machine + ?Sized>(m: &M, address: u64) -> Result<Self, StartError> {
        let word = |at: u64| m.load32(at);
        let flags = word(address)?;
        let mut memmap = Vec::new();
        if flags & HAS_MEMORY_MAP != 0 {
            let length = word(address + 44)?.min(MAX_MAP);
            let table = u64::from(word(address + 48)?);
            let mut offset = 0;
            while offset + 24 <= u64::from(length) {
                let at = table + offset;
                let size = word(at)?;
                memmap.push(HvmMemmapEntry {
                    addr: m.read64(at + 4)?,
                    size: m.read64(at + 12)?,
                    kind: word(at + 20)?,
                    reserved: 0,
                });
                offset += u64::from(size).max(20) + 4;
            }
        }
        if memmap.is_empty() {
            return Err(StartError::Field {
                field: "flags",
                value: flags.into(),
                want: "with a memory map (bit 6)",
            });
        }
        let mut modules = Vec::new();
        if flags & HAS_MODULES != 0 {
            let count = word(address + 20)?.min(MAX_MODULES);
            let table = u64::from(word(address + 24)?);
            for n in 0..u64::from(count) {
                let start = u64::from(word(table + 16 * n)?);
                let end = u64::from(word(table + 16 * n + 4)?);
                modules.push(HvmModlistEntry {
                    paddr: start,
                    size: end.saturating_sub(start),
                    cmdline_paddr: 0,
                    reserved: 0,
                });
            }
        }
        let mut text = Vec::new();
        if flags & HAS_COMMAND_LINE != 0 {
            let at = u64::from(word(address + 16)?);
            for n in 0..MAX_COMMAND_LINE {
                let mut byte = [0];
                m.read(at + n, &mut byte)?;
                if byte == [0] {
                    break;
                }
                text.push(byte[0]);
            }
        }
        let text = String::from_utf8_lossy(&text);
        let command_line = text.split_once(' ').map_or("", |(_, rest)| rest);
        let mut info = HvmStartInfo::new_zeroed();
        info.magic = START_MAGIC;
        info.version = 1;
        Ok(Self::assembled(
            info,
            address,
            modules,
            memmap,
            command_line.into(),
        ))
    }
}
