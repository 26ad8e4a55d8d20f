//! Linux's own boot protocol, for guests in which it must not take itself for
//! PVH: HVM guests, and a capture kernel that runs elsewhere than linked.
//!
//! | module | what it is |
//! |---|---|
//! | [`boot_params`] | the structure that Linux finds its world in |

pub mod boot_params;

pub use boot_params::BootParams;
