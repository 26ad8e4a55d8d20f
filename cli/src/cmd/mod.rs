//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod bench_handoff;
mod bench_model;
mod bench_peers;
pub(crate) mod bundle;
pub(crate) mod demo;
pub(crate) mod differential;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod lab;
pub(crate) mod readers;
pub(crate) mod test;
