//! What the boot stage does, from a guest's start of day to the jump into its own
//! kernel: on the real machine and, in tests, on the model of Xen.
//!
//! | module | what it is |
//! |---|---|
//! | `flow` | from the entry to the jump, and back on an error |
//! | `disk` | entries of the guest's own disks |
//! | `prompt` | another try, by hand |
//! | `marker`, `stats` | what shows that a hand-off was clean, and its cost |

#![no_std]

extern crate alloc;

mod disk;
mod flow;
mod marker;
mod prompt;
mod stats;

pub use flow::{Instead, run};
