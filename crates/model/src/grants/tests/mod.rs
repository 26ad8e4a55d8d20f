//! Tests of the grant table.

mod mapping;
mod tools;
