//! A PVH guest: the start structure, the memory map, its address space,
//! shared info.
//!
//! | module | what it is |
//! |---|---|
//! | [`start`] | `hvm_start_info`, modules, memory map |
//! | [`boot_params`] | the start of day of an HVM guest |
//! | [`space`] | a long-mode address space over identity-mapped tables |

pub mod boot_params;
pub mod space;
pub mod start;

pub use space::AddressSpace;
pub use start::Start;
