//! Tests of the grant table.

mod copies;
mod mapping;
mod revocation;
mod schedules;
mod tables;
mod tools;
