//! The PV hand-off.
//!
//! | module | what it is |
//! |---|---|
//! | [`layout`] | what is at which pfn for the next kernel (pure) |
//! | [`exchange`] | which p2m entries change (pure) |
//! | `build` | `start_info` and page tables, as bytes |
//! | [`state`] | `Loaded → Staged → Quiesced → Released → jump` |

mod build;
pub mod exchange;
pub mod layout;
pub mod state;

pub use state::{Input, Kernel, Loaded, Own, Stage, Staged};
