//! Which references of the grant table are free.
//!
//! The table may have been another kernel's before: an entry that is not
//! zero is passed over for good. So is a reference whose grant could not be
//! ended in time (*poisoned*): while Xen has it pinned, the other domain
//! that maps it again gets the old frame, whatever the entry says then.

use crate::{
    Machine,
    grants::{End, Grants},
    machine::Fault,
};

/// What the other domain may do with a granted page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Read and write it.
    Write,
}

/// Why there is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceError {
    /// All are in use or poisoned.
    NoneFree,
    /// The table could not be reached.
    Fault(Fault),
}

impl core::fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoneFree => f.write_str("no grant reference is free"),
            Self::Fault(fault) => write!(f, "the grant table: {fault}"),
        }
    }
}

impl From<Fault> for ReferenceError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Words of a set of references.
const WORDS: usize = 8;
const _: () = assert!(Grants::PER_FRAME == 512, "a set has a bit for each");

/// A set of references of one frame of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Set([u64; WORDS]);

impl Set {
    fn bit(reference: u32) -> (usize, u64) {
        // By its place in the frame.
        let reference = reference % Grants::PER_FRAME;
        let word = usize::try_from(reference / 64).unwrap_or(usize::MAX);
        (word, 1 << (reference % 64))
    }

    fn has(&self, reference: u32) -> bool {
        let (word, bit) = Self::bit(reference);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, reference: u32, on: bool) {
        let (word, bit) = Self::bit(reference);
        if let Some(word) = self.0.get_mut(word) {
            *word = if on { *word | bit } else { *word & !bit };
        }
    }
}

/// The references of one frame of a grant table.
#[derive(Clone, Debug)]
pub struct References {
    grants: Grants,
    taken: Set,
    poisoned: Set,
    /// Where to look first, counted from the first: behind the last one taken.
    next: u32,
}

impl References {
    /// All of a table's, none of them taken.
    #[must_use]
    pub fn new(grants: Grants) -> Self {
        Self {
            grants,
            taken: Set::default(),
            poisoned: Set::default(),
            next: 0,
        }
    }

    /// The table.
    #[must_use]
    pub const fn grants(&self) -> Grants {
        self.grants
    }

    /// Grants a frame to a domain, by the next reference that is free.
    ///
    /// # Errors
    /// If none is, or the table cannot be reached.
    pub fn grant<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        domid: u16,
        frame: u32,
        access: Access,
    ) -> Result<u32, ReferenceError> {
        let all = self.grants.references();
        let count = all.end.saturating_sub(all.start);
        for n in 0..count {
            let at = self.next.wrapping_add(n).checked_rem(count).unwrap_or(0);
            let reference = all.start.saturating_add(at);
            if self.taken.has(reference) || self.poisoned.has(reference) {
                continue;
            }
            let granted = match access {
                Access::Write => self.grants.grant_access(m, reference, domid, frame)?,
                Access::Read => self.grants.grant_read(m, reference, domid, frame)?,
            };
            if granted {
                self.taken.set(reference, true);
                self.next = at.wrapping_add(1);
                return Ok(reference);
            }
            // Somebody else's, before us or beside us.
            self.poisoned.set(reference, true);
        }
        Err(ReferenceError::NoneFree)
    }

    /// Ends a grant of [`Self::grant`]'s. One that is still in use is
    /// poisoned; ending it later is worth a try, but it stays poisoned.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub fn end<M: Machine + ?Sized>(&mut self, m: &M, reference: u32) -> Result<End, Fault> {
        let end = self.grants.try_end(m, reference)?;
        match end {
            End::Ended => self.taken.set(reference, false),
            End::InUse(_) => self.poisoned.set(reference, true),
        }
        Ok(end)
    }

    /// Whether a reference is never used again.
    #[must_use]
    pub fn poisoned(&self, reference: u32) -> bool {
        self.poisoned.has(reference)
    }

    /// References that no grant of this layer uses and that are not poisoned.
    #[must_use]
    pub fn free(&self) -> usize {
        let words = self.taken.0.iter().zip(&self.poisoned.0);
        let used: u32 = words.map(|(a, b)| (a | b).count_ones()).sum();
        let used = usize::try_from(used).unwrap_or(usize::MAX);
        self.grants.references().len().saturating_sub(used)
    }
}
