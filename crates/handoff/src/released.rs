//! The last state of a hand-off, of any guest type.

use core::convert::Infallible;

/// A hand-off of which only the jump is left.
#[derive(Debug)]
#[must_use = "nothing can be put back: this kernel can only jump now"]
pub struct Released {
    trampoline: u64,
}

impl Released {
    pub(crate) const fn new(trampoline: u64) -> Self {
        Self { trampoline }
    }

    /// Jumps: `to` gets the trampoline's address and does not return.
    pub fn jump(self, to: impl FnOnce(u64) -> Infallible) -> ! {
        match to(self.trampoline) {}
    }
}
