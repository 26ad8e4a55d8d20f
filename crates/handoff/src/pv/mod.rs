//! The PV hand-off.
pub mod exchange;
pub mod layout;
