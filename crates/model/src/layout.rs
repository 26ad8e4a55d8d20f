//! How a type word is printed: it moved between versions of Xen.

use crate::frame::{
    PGT_COUNT_MASK, PGT_LOCKED, PGT_PARTIAL, PGT_PINNED, PGT_TYPE_MASK, PGT_VALIDATED,
};

/// The layout of the type word in Xen's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TypeLayout {
    /// Today's (`arch/x86/include/asm/mm.h`): three bits of type on top,
    /// then locked, pinned, validated.
    #[default]
    Current,
    /// That of Xen 4.0 and 4.1 (`include/asm-x86/mm.h` there): four bits of
    /// type on top, then pinned, validated; locked further down.
    Xen40,
}

impl TypeLayout {
    /// A type word in this layout.
    #[must_use]
    pub const fn show(self, word: u64) -> u64 {
        match self {
            Self::Current => word,
            Self::Xen40 => {
                let kind = (word & PGT_TYPE_MASK) >> 61;
                let kind = if kind == 6 { 8 } else { kind };
                let mut old = (kind << 60) | (word & PGT_COUNT_MASK & ((1 << 48) - 1));
                if word & PGT_PINNED != 0 {
                    old |= 1 << 59;
                }
                if word & PGT_VALIDATED != 0 {
                    old |= 1 << 58;
                }
                if word & PGT_PARTIAL != 0 {
                    old |= 1 << 56;
                }
                if word & PGT_LOCKED != 0 {
                    old |= 1 << 55;
                }
                old
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{PGT_L1, PGT_WRITABLE};

    #[test]
    fn both_layouts_print_the_reported_words() {
        let saw = PGT_WRITABLE | PGT_VALIDATED | 1;
        assert_eq!(TypeLayout::Current.show(saw), 0xe400_0000_0000_0001);
        assert_eq!(TypeLayout::Current.show(PGT_L1), 0x2000_0000_0000_0000);
        assert_eq!(TypeLayout::Xen40.show(saw), 0x7400_0000_0000_0001);
        assert_eq!(TypeLayout::Xen40.show(PGT_L1), 0x1000_0000_0000_0000);
    }
}
