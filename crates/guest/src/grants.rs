//! Entries of the grant table (version 1).
//!
//! Protocol: `public/grant_table.h`. The table is shared with Xen, which
//! sets `GTF_reading` and `GTF_writing` in an entry while the other domain
//! has the frame mapped. Order of steps of a grant: frame, then (release)
//! domain and flags in one word. Order of its legal end: look at the flags;
//! if neither bit is set, exchange the word for zero, so that a mapping
//! made meanwhile is seen. An entry that is in use is left as it is: Xen
//! keeps the frame mapped whatever stands there, and only believes that it
//! is free.

use core::ops::Range;

use kexen_abi::grant_table::{
    GNTTAB_NR_RESERVED_ENTRIES, GRANT_ENTRY_V1_BYTES, GRANT_ENTRY_V1_FRAME, GTF_PERMIT_ACCESS,
    GTF_READING, GTF_READONLY, GTF_WRITING,
};

use crate::{Machine, machine::Fault};

/// What came of an attempt to end a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The entry is free, and nobody has the frame mapped by it.
    Ended,
    /// The other domain has the frame mapped; these are the entry's flags,
    /// and nothing was changed.
    InUse(u16),
}

/// One frame of the guest's grant table, mapped at a guest address.
#[derive(Clone, Copy, Debug)]
pub struct Grants {
    table: u64,
    /// The reference of the frame's first entry.
    base: u32,
}

impl Grants {
    /// References that one frame has room for.
    pub const PER_FRAME: u32 = 512;
    /// The first one that the toolstack has not set aside.
    pub const FIRST: u32 = GNTTAB_NR_RESERVED_ENTRIES;

    /// The table's first frame, which is mapped at `table`.
    #[must_use]
    pub const fn new(table: u64) -> Self {
        Self { table, base: 0 }
    }

    /// Frame `number` of the table, which is mapped at `table`. References of
    /// a late frame are out of the next kernel's reach until it has used up
    /// all frames before: for grants that a backend may keep.
    #[must_use]
    pub const fn frame(table: u64, number: u32) -> Self {
        Self {
            table,
            base: number.saturating_mul(Self::PER_FRAME),
        }
    }

    /// The references that are in this frame and the guest's to use.
    #[must_use]
    pub fn references(&self) -> Range<u32> {
        self.base.max(Self::FIRST)..self.base.saturating_add(Self::PER_FRAME)
    }

    fn entry(&self, reference: u32) -> Result<u64, Fault> {
        let number = reference.wrapping_sub(self.base);
        let at = self
            .table
            .wrapping_add(u64::from(number) * GRANT_ENTRY_V1_BYTES);
        if !self.references().contains(&reference) {
            return Err(Fault {
                address: at,
                len: GRANT_ENTRY_V1_BYTES,
                why: "is no entry of the grant table that is the guest's to use",
            });
        }
        Ok(at)
    }

    /// Lets a domain map a frame, writable. The entry must be free: `false`
    /// says that it is not, and that nothing was changed.
    pub fn grant_access<M: Machine + ?Sized>(
        &self,
        m: &M,
        reference: u32,
        domid: u16,
        frame: u32,
    ) -> Result<bool, Fault> {
        self.grant(m, reference, domid, frame, GTF_PERMIT_ACCESS)
    }

    /// As [`Self::grant_access`], for reading alone.
    pub fn grant_read<M: Machine + ?Sized>(
        &self,
        m: &M,
        reference: u32,
        domid: u16,
        frame: u32,
    ) -> Result<bool, Fault> {
        self.grant(m, reference, domid, frame, GTF_PERMIT_ACCESS | GTF_READONLY)
    }

    fn grant<M: Machine + ?Sized>(
        &self,
        m: &M,
        reference: u32,
        domid: u16,
        frame: u32,
        flags: u16,
    ) -> Result<bool, Fault> {
        let at = self.entry(reference)?;
        if m.load32(at)? != 0 {
            return Ok(false);
        }
        m.store32(at + GRANT_ENTRY_V1_FRAME, frame)?;
        m.store32(at, (u32::from(domid) << 16) | u32::from(flags))?;
        Ok(true)
    }

    /// Changes the frame that an entry names. Xen looks at it when the grant
    /// is mapped for the first time; while it is mapped, not at all.
    pub fn set_frame<M: Machine + ?Sized>(
        &self,
        m: &M,
        reference: u32,
        frame: u32,
    ) -> Result<(), Fault> {
        m.store32(self.entry(reference)? + GRANT_ENTRY_V1_FRAME, frame)
    }

    /// An entry's flags.
    pub fn flags<M: Machine + ?Sized>(&self, m: &M, reference: u32) -> Result<u16, Fault> {
        Ok(flags(m.load32(self.entry(reference)?)?))
    }

    /// Ends a grant, unless its frame is mapped.
    pub fn try_end<M: Machine + ?Sized>(&self, m: &M, reference: u32) -> Result<End, Fault> {
        let at = self.entry(reference)?;
        let mut seen = m.load32(at)?;
        // Xen changes the flags only by mapping and unmapping: a bounded
        // number of tries, then it is in use by any measure.
        for _ in 0..TRIES {
            if flags(seen) & (GTF_READING | GTF_WRITING) != 0 {
                break;
            }
            let was = m.exchange32(at, seen, 0)?;
            if was == seen {
                return Ok(End::Ended);
            }
            seen = was;
        }
        Ok(End::InUse(flags(seen)))
    }
}

/// How often Xen may get in between.
const TRIES: u32 = 5;

/// The flags: the lower half of an entry's first word.
const fn flags(word: u32) -> u16 {
    let [low, high, ..] = word.to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    use core::cell::{Cell, RefCell};

    use kexen_abi::hypercall::Hypercall;

    use super::*;
    use crate::Arg;

    /// A grant frame, and what Xen does to it right before an exchange.
    struct Table {
        words: RefCell<[u32; 1024]>,
        meanwhile: Cell<Option<(usize, u32)>>,
    }

    impl Table {
        fn new() -> Self {
            Self {
                words: RefCell::new([0; 1024]),
                meanwhile: Cell::new(None),
            }
        }
        fn index(at: u64) -> usize {
            assert!(at.is_multiple_of(4));
            usize::try_from(at / 4).unwrap()
        }
        fn word(&self, index: usize) -> u32 {
            self.words.borrow()[index]
        }
    }

    impl Machine for Table {
        fn hypercall(&self, call: Hypercall, _: &mut [Arg<'_>]) -> i64 {
            panic!("{}: nothing here calls", call.name())
        }
        fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Fault> {
            panic!("entries are read by the word")
        }
        fn write(&self, _: u64, _: &[u8]) -> Result<(), Fault> {
            panic!("entries are written by the word")
        }
        fn fill(&self, _: u64, _: u64, _: u8) -> Result<(), Fault> {
            panic!("entries are written by the word")
        }
        fn lend(&self, _: u64, _: u64, _: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
            panic!("the table is shared with Xen")
        }
        fn load32(&self, at: u64) -> Result<u32, Fault> {
            Ok(self.word(Self::index(at)))
        }
        fn store32(&self, at: u64, value: u32) -> Result<(), Fault> {
            self.words.borrow_mut()[Self::index(at)] = value;
            Ok(())
        }
        fn exchange32(&self, at: u64, old: u32, new: u32) -> Result<u32, Fault> {
            if let Some((index, value)) = self.meanwhile.take() {
                self.words.borrow_mut()[index] = value;
            }
            let was = self.word(Self::index(at));
            if was == old {
                self.words.borrow_mut()[Self::index(at)] = new;
            }
            Ok(was)
        }
        fn invalidate(&self, _: u64) {}
    }

    #[test]
    fn a_grant_names_domain_and_frame_and_ends() {
        let (m, grants) = (Table::new(), Grants::new(0));
        assert!(grants.grant_access(&m, 9, 3, 0x1234).unwrap());
        assert_eq!((m.word(18), m.word(19)), (0x0003_0001, 0x1234));
        // It is not free now.
        assert!(!grants.grant_access(&m, 9, 4, 0x5678).unwrap());
        assert_eq!((m.word(18), m.word(19)), (0x0003_0001, 0x1234));
        assert_eq!(grants.try_end(&m, 9).unwrap(), End::Ended);
        assert_eq!(m.word(18), 0);
    }

    #[test]
    fn a_mapped_grant_is_left_alone() {
        for bit in [GTF_READING, GTF_WRITING] {
            let (m, grants) = (Table::new(), Grants::new(0));
            assert!(grants.grant_access(&m, 8, 0, 1).unwrap());
            let word = m.word(16) | u32::from(bit);
            m.store32(64, word).unwrap();
            assert_eq!(
                grants.try_end(&m, 8).unwrap(),
                End::InUse(GTF_PERMIT_ACCESS | bit)
            );
            assert_eq!(m.word(16), word);
        }
    }

    #[test]
    fn a_mapping_made_meanwhile_is_seen() {
        let (m, grants) = (Table::new(), Grants::new(0));
        assert!(grants.grant_access(&m, 8, 0, 1).unwrap());
        let mapped = m.word(16) | u32::from(GTF_READING);
        m.meanwhile.set(Some((16, mapped)));
        assert_eq!(
            grants.try_end(&m, 8).unwrap(),
            End::InUse(GTF_PERMIT_ACCESS | GTF_READING)
        );
        assert_eq!(m.word(16), mapped);
    }

    #[test]
    fn a_late_frame_has_late_references() {
        let (m, grants) = (Table::new(), Grants::frame(0, 63));
        assert_eq!(grants.references(), 63 * 512..64 * 512);
        assert!(grants.grant_access(&m, 63 * 512 + 9, 3, 0x1234).unwrap());
        assert_eq!((m.word(18), m.word(19)), (0x0003_0001, 0x1234));
        for reference in [9, 511, 63 * 512 - 1, 64 * 512] {
            assert!(grants.flags(&m, reference).is_err());
        }
        assert_eq!(grants.try_end(&m, 63 * 512 + 9).unwrap(), End::Ended);
        assert_eq!(Grants::new(0).references(), 8..512);
    }

    #[test]
    fn the_toolstacks_entries_are_not_touched() {
        let (m, grants) = (Table::new(), Grants::new(0));
        for reference in [0, 7, 512, u32::MAX] {
            assert!(grants.grant_access(&m, reference, 0, 1).is_err());
            assert!(grants.try_end(&m, reference).is_err());
        }
        assert!(m.words.borrow().iter().all(|word| *word == 0));
    }
}
