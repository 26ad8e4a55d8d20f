//! Tests of the grant table.

mod copies;
mod mapping;
mod tables;
mod tools;
