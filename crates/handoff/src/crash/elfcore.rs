//! The ELF header of a dead kernel's memory, for a capture kernel's
//! `elfcorehdr=`.
//!
//! Specification: ELF-64 (`ET_CORE`), Linux's `Documentation/admin-guide/kdump`
//! and `fs/proc/vmcore.c`: one `PT_NOTE` that points to notes in memory, and a
//! `PT_LOAD` for each range, whose offset and physical address are where it
//! is. Virtual addresses are this kernel's, for debuggers.

use alloc::vec::Vec;

/// A range of the dead kernel's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it is.
    pub physical: u64,
    /// Where this kernel sees it.
    pub virt: u64,
    /// How much.
    pub len: u64,
}

const HEADER: usize = 64;
const PROGRAM: usize = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// Bytes of the note of one vCPU: name `CORE`, `struct elf_prstatus`.
pub const NOTE_BYTES: usize = 12 + 8 + PRSTATUS;
const PRSTATUS: usize = 336;
const NT_PRSTATUS: u32 = 1;
/// In `elf_prstatus`: the process, and the registers (27 words, in the order
/// of `struct user_regs_struct`).
const PID: usize = 32;
const REGS: usize = 112;

/// Bytes of the header for so many ranges.
#[must_use]
pub const fn bytes(ranges: usize) -> usize {
    HEADER + PROGRAM * (ranges + 1)
}

/// The header; `note` is where the notes will be in memory.
#[must_use]
pub fn header(note: u64, ranges: &[Range]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    out.extend(4_u16.to_le_bytes()); // ET_CORE
    out.extend(62_u16.to_le_bytes()); // EM_X86_64
    out.extend(1_u32.to_le_bytes());
    out.extend(0_u64.to_le_bytes());
    out.extend(64_u64.to_le_bytes()); // e_phoff
    out.extend(0_u64.to_le_bytes());
    out.extend(0_u32.to_le_bytes());
    out.extend(64_u16.to_le_bytes());
    out.extend(56_u16.to_le_bytes());
    let count = u16::try_from(ranges.len() + 1).unwrap_or(u16::MAX);
    out.extend(count.to_le_bytes());
    out.extend([0; 6]);
    let note_len = u64::try_from(NOTE_BYTES).unwrap_or(0);
    program(&mut out, PT_NOTE, 0, note, 0, note_len);
    for range in ranges {
        program(&mut out, PT_LOAD, 7, range.physical, range.virt, range.len);
    }
    out
}

fn program(out: &mut Vec<u8>, kind: u32, flags: u32, physical: u64, virt: u64, len: u64) {
    out.extend(kind.to_le_bytes());
    out.extend(flags.to_le_bytes());
    for word in [physical, virt, physical, len, len, 0] {
        out.extend(word.to_le_bytes());
    }
}

/// Registers of the vCPU that crashed, as far as they say where it was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers {
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Frame pointer.
    pub rbp: u64,
}

/// The note of the vCPU that crashed.
#[must_use]
pub fn note(vcpu: u32, registers: &Registers) -> [u8; NOTE_BYTES] {
    let mut note = [0; NOTE_BYTES];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(room) = note.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    };
    put(0, &5_u32.to_le_bytes());
    put(4, &u32::try_from(PRSTATUS).unwrap_or(0).to_le_bytes());
    put(8, &NT_PRSTATUS.to_le_bytes());
    put(12, b"CORE\0");
    put(20 + PID, &vcpu.wrapping_add(1).to_le_bytes());
    for (word, value) in [(4, registers.rbp), (16, registers.rip), (19, registers.rsp)] {
        put(20 + REGS + 8 * word, &value.to_le_bytes());
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_a_core_file_of_all_ranges() {
        let range = |physical| Range {
            physical,
            virt: physical + 7,
            len: 0x1000,
        };
        let header = header(0x5000, &[range(0x10_0000), range(0x80_0000)]);
        assert_eq!(header.len(), bytes(2));
        assert_eq!(&header[..5], b"\x7fELF\x02");
        assert_eq!(header[16], 4);
        assert_eq!(header[56], 3);
        let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
        // The note, then the ranges: offset and physical address are the same.
        assert_eq!((header[64], word(72), word(96)), (4, 0x5000, 356));
        let second = 64 + 2 * 56;
        assert_eq!(header[second], 1);
        assert_eq!(
            (word(second + 8), word(second + 24)),
            (0x80_0000, 0x80_0000)
        );
        assert_eq!(word(second + 16), 0x80_0007);
    }

    #[test]
    fn the_note_has_registers_where_debuggers_look() {
        let registers = Registers {
            rip: 0x1111,
            rsp: 0x2222,
            rbp: 0x3333,
        };
        let note = note(2, &registers);
        let word = |at: usize| u64::from_le_bytes(note[at..at + 8].try_into().unwrap());
        assert_eq!(&note[12..16], b"CORE");
        assert_eq!(word(20 + 112 + 16 * 8), 0x1111);
        assert_eq!(word(20 + 112 + 19 * 8), 0x2222);
        assert_eq!(note[20 + 32], 3);
    }
}
