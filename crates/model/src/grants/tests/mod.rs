//! Tests of the grant table.

mod copies;
mod mapping;
mod revocation;
#[cfg(feature = "explore")]
mod schedules;
mod tables;
mod tools;
