//! Xen's ELF notes (`include/public/elfnote.h`).

use alloc::{string::String, vec::Vec};

use crate::ImageError;

/// What a kernel's notes say; `None` where a note is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct XenNotes {
    /// How many notes of Xen's there were, known or not.
    pub count: usize,
    /// `ENTRY` (1): virtual entry point.
    pub entry: Option<u64>,
    /// `HYPERCALL_PAGE` (2): virtual address of the page for stubs.
    pub hypercall_page: Option<u64>,
    /// `VIRT_BASE` (3): virtual address of page 0.
    pub virt_base: Option<u64>,
    /// `PADDR_OFFSET` (4): what `p_paddr` is relative to.
    pub paddr_offset: Option<u64>,
    /// `XEN_VERSION` (5)
    pub xen_version: Option<String>,
    /// `GUEST_OS` (6)
    pub guest_os: Option<String>,
    /// `GUEST_VERSION` (7)
    pub guest_version: Option<String>,
    /// `LOADER` (8)
    pub loader: Option<String>,
    /// `PAE_MODE` (9)
    pub pae_mode: Option<String>,
    /// `FEATURES` (10): names, `!` before a required one.
    pub features: Option<String>,
    /// `BSD_SYMTAB` (11)
    pub bsd_symtab: Option<String>,
    /// `HV_START_LOW` (12)
    pub hv_start_low: Option<u64>,
    /// `SUSPEND_CANCEL` (14)
    pub suspend_cancel: Option<u64>,
    /// `INIT_P2M` (15): where the kernel wants its p2m list.
    pub init_p2m: Option<u64>,
    /// `MOD_START_PFN` (16): the kernel takes its initrd unmapped.
    pub mod_start_pfn: bool,
    /// `SUPPORTED_FEATURES` (17), the first 32.
    pub supported_features: Option<u64>,
    /// `PHYS32_ENTRY` (18): the PVH entry point.
    pub phys32_entry: Option<u64>,
    /// `PHYS32_RELOC` (19): alignment, lowest and highest address.
    pub phys32_reloc: Option<Vec<u32>>,
}

/// Bytes of a text that are kept.
const MAX_TEXT: usize = 256;

impl XenNotes {
    pub(crate) fn add(&mut self, kind: u32, desc: &[u8]) -> Result<(), ImageError> {
        self.count = self.count.saturating_add(1);
        match kind {
            1 => self.entry = Some(number("ENTRY", desc)?),
            2 => self.hypercall_page = Some(number("HYPERCALL_PAGE", desc)?),
            3 => self.virt_base = Some(number("VIRT_BASE", desc)?),
            4 => self.paddr_offset = Some(number("PADDR_OFFSET", desc)?),
            5 => self.xen_version = Some(text(desc)),
            6 => self.guest_os = Some(text(desc)),
            7 => self.guest_version = Some(text(desc)),
            8 => self.loader = Some(text(desc)),
            9 => self.pae_mode = Some(text(desc)),
            10 => self.features = Some(text(desc)),
            11 => self.bsd_symtab = Some(text(desc)),
            12 => self.hv_start_low = Some(number("HV_START_LOW", desc)?),
            14 => self.suspend_cancel = Some(number("SUSPEND_CANCEL", desc)?),
            15 => self.init_p2m = Some(number("INIT_P2M", desc)?),
            16 => self.mod_start_pfn = number("MOD_START_PFN", desc)? != 0,
            17 => {
                let first = desc.get(..desc.len().min(4)).unwrap_or_default();
                self.supported_features = Some(number("SUPPORTED_FEATURES", first)?);
            }
            18 => self.phys32_entry = Some(number("PHYS32_ENTRY", desc)?),
            19 => {
                let words = desc.as_chunks::<4>().0.iter().take(3);
                self.phys32_reloc = Some(words.map(|w| u32::from_le_bytes(*w)).collect());
            }
            // INFO, L1_MFN_VALID and what newer kernels may add.
            _ => {}
        }
        Ok(())
    }
}

/// A number of 1, 2, 4 or 8 bytes.
fn number(field: &'static str, desc: &[u8]) -> Result<u64, ImageError> {
    match *desc {
        [a] => Ok(a.into()),
        [a, b] => Ok(u16::from_le_bytes([a, b]).into()),
        [a, b, c, d] => Ok(u32::from_le_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
        _ => Err(ImageError::Field {
            field,
            value: desc.len().try_into().unwrap_or(u64::MAX),
            want: "a note of 1, 2, 4 or 8 bytes",
        }),
    }
}

/// A text up to its NUL.
fn text(desc: &[u8]) -> String {
    let text = desc.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = text.get(..text.len().min(MAX_TEXT)).unwrap_or_default();
    String::from_utf8_lossy(text)
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::{
        Elf,
        tests::{elf, note, seg},
    };

    #[test]
    fn notes_of_either_size_are_read() {
        let mut notes = note(1, &0xffff_ffff_8100_0000_u64.to_le_bytes());
        notes.extend(note(18, &0x10_0050_u32.to_le_bytes()));
        notes.extend(note(16, &1_u32.to_le_bytes()));
        notes.extend(note(8, b"generic"));
        notes.extend(note(17, &[1, 0x88, 0, 0, 0, 0, 0, 0]));
        notes.extend(note(99, b"?"));
        let file = elf(&[seg(0, 0x10_0000, 8, 8)], &notes);
        let found = Elf::parse(&file).unwrap().notes(&file).unwrap();
        assert_eq!(found.count, 6);
        assert_eq!(found.entry, Some(0xffff_ffff_8100_0000));
        assert_eq!(found.phys32_entry, Some(0x10_0050));
        assert!(found.mod_start_pfn);
        assert_eq!(found.loader.as_deref(), Some("generic"));
        assert_eq!(found.supported_features, Some(0x8801));
    }

    #[test]
    fn a_number_of_an_odd_size_is_refused() {
        let file = elf(&[seg(0, 0x10_0000, 8, 8)], &note(3, &[0; 5]));
        assert!(matches!(
            Elf::parse(&file).unwrap().notes(&file),
            Err(ImageError::Field {
                field: "VIRT_BASE",
                value: 5,
                ..
            })
        ));
    }

    #[test]
    fn a_note_beyond_the_file_is_refused() {
        let file = elf(&[seg(0, 0x10_0000, 8, 8)], &note(8, b"generic"));
        let cut = &file[..file.len() - 4];
        assert!(Elf::parse(cut).unwrap().notes(cut).is_err());
    }
}
