//! The PVH hand-off.
//!
//! Linux is entered at its PVH entry note, not by its own boot protocol:
//! that way the next kernel gets the toolstack's `hvm_start_info` with its
//! flags (dom0's too), memory map and ACPI root pointer, and knows at once
//! that it is a PVH guest; the boot protocol has no words for these.
//!
//! | module | what it is |
//! |---|---|
//! | [`state`] | `Loaded → Staged → Quiesced → Released → jump` |
//! | [`trampoline`] | what the last code of this kernel reads |

pub mod state;
pub mod trampoline;

pub use state::{Input, Loaded, Protocol, Staged, take_below};
