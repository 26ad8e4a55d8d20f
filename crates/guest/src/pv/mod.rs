//! A PV guest: start of day, page tables, p2m and M2P.
//!
//! | module | what it is |
//! |---|---|
//! | [`start`] | what the builder left: `start_info`, which pages are in use |
//! | [`space`] | the address space: walk, protect, pin |
//! | [`mod@map`] | mapping pages, with tables from the pool |
//! | [`pool`] | table pages, `[start, end, top)`, and owed flushes |

mod batch;
pub mod map;
pub mod pool;
pub mod space;
pub mod start;

pub use pool::{OwedFlush, Pool, TablePage, Tail};
pub use space::{AddressSpace, SpaceError};
pub use start::Start;
