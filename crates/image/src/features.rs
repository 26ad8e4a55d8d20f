//! The features that a kernel's notes name (`elf_xen_parse_features`).

use alloc::string::String;

/// Names by number (`include/public/features.h`), as far as libelf knows them:
/// a name that is required and not here is a refusal.
const NAMES: [(u32, &str); 7] = [
    (WRITABLE_PAGE_TABLES, "writable_page_tables"),
    (1, "writable_descriptor_tables"),
    (AUTO_TRANSLATED_PHYSMAP, "auto_translated_physmap"),
    (SUPERVISOR_MODE_KERNEL, "supervisor_mode_kernel"),
    (4, "pae_pgdir_above_4gb"),
    (8, "hvm_callback_vector"),
    (DOM0, "dom0"),
];

const WRITABLE_PAGE_TABLES: u32 = 0;
/// `XENFEAT_auto_translated_physmap`
pub const AUTO_TRANSLATED_PHYSMAP: u32 = 2;
/// `XENFEAT_supervisor_mode_kernel`
pub const SUPERVISOR_MODE_KERNEL: u32 = 3;
/// `XENFEAT_dom0`
pub const DOM0: u32 = 11;

/// What is supported and what is required, one bit a feature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Of the notes `FEATURES` and `SUPPORTED_FEATURES`.
    pub supported: u32,
    /// Those with `!` before them.
    pub required: u32,
    /// The first required one that has no number.
    pub unknown: Option<String>,
}

impl Features {
    /// Adds a text: names with `|` between them, `!` before a required one.
    pub(crate) fn add(&mut self, text: &str) {
        for word in text.split('|') {
            let (name, required) = match word.strip_prefix('!') {
                Some(name) => (name, true),
                None => (word, false),
            };
            match NAMES.iter().find(|(_, known)| *known == name) {
                Some((bit, _)) => {
                    self.supported |= 1 << bit;
                    self.required |= u32::from(required) << bit;
                }
                None if required && self.unknown.is_none() => self.unknown = Some(name.into()),
                None => {}
            }
        }
    }

    /// Whether a feature is supported.
    #[must_use]
    pub const fn supports(&self, bit: u32) -> bool {
        self.supported >> bit & 1 != 0
    }

    /// Whether a feature is required.
    #[must_use]
    pub const fn requires(&self, bit: u32) -> bool {
        self.required >> bit & 1 != 0
    }
}
