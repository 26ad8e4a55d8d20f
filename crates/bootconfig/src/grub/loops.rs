//! Loops of a GRUB script, and `break`, `continue` and `return`.
//!
//! Rules: `grub-core/script/execute.c` of GRUB 2.14.

/// Loops that are run, and what leaves them. GRUB keeps these for good, whatever
/// ends in between.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loops {
    /// So many in this function.
    pub(super) active: u32,
    /// So many are left.
    pub(super) leaving: u32,
    /// The last of them goes on with its next round.
    goes_on: bool,
    /// A function returns: what is run until it has is left, too.
    pub(super) returning: bool,
}

impl Loops {
    /// `break` and `continue`.
    pub(super) fn leave(&mut self, count: u32, goes_on: bool) {
        self.goes_on = goes_on;
        self.leaving = count.min(self.active);
    }

    /// Behind a round: whether there may be another one.
    pub(super) const fn again(&mut self) -> bool {
        if self.goes_on && self.leaving == 1 {
            self.leaving = 0;
        }
        self.leaving == 0
    }

    pub(super) const fn enter(&mut self) {
        self.active = self.active.saturating_add(1);
    }

    pub(super) const fn end(&mut self) {
        self.leaving = self.leaving.saturating_sub(1);
        self.active = self.active.saturating_sub(1);
    }
}
