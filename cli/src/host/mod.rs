//! The machine that the tool runs on: its programs, its cache, its workspace.

pub(crate) mod cache;
pub(crate) mod command;
pub(crate) mod memory;
pub(crate) mod tools;
pub(crate) mod workspace;
