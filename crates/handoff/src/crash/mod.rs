//! The crash hand-off: prepared in advance, taken without allocating, locking
//! or waiting.
//!
//! Order of steps: a region of memory is kept out of this kernel's use; the
//! capture kernel, its initrd and start structure, and a header that describes
//! all other memory are written there ([`Prepared::stage`]); a crash on any
//! vCPU makes the others as new (INIT) and jumps. The capture kernel knows of
//! the region alone, so whatever still writes to the dead kernel's memory
//! (Xen, backends) does it no harm, and it moves what Xen holds of the dead
//! kernel's when it starts. For translated guests: a PV guest's capture kernel
//! would have to be vCPU 0's, whose context nothing can replace.
//!
//! | module | what it is |
//! |---|---|
//! | [`plan`] | what is where in the region |
//! | [`elfcore`] | the header that `/proc/vmcore` is made from |

pub mod elfcore;
pub mod plan;

pub use plan::{Capture, Prepared, Source};
