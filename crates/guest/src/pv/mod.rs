//! A PV guest: start of day, page tables, p2m and M2P.
//!
//! | module | what it is |
//! |---|---|
//! | [`start`] | what the builder left: `start_info`, which pages are in use |
//! | [`space`] | the address space: walk, map, protect, pin |

pub mod space;
pub mod start;

pub use space::{AddressSpace, SpaceError};
pub use start::Start;
