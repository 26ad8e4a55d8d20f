//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod bench_handoff;
mod bench_model;
mod bench_peers;
mod bench_unpack;
pub(crate) mod bundle;
pub(crate) mod demo;
pub(crate) mod differential;
pub(crate) mod fuzz;
pub(crate) mod image;
pub(crate) mod inspect;
mod inspect_disk;
pub(crate) mod lab;
pub(crate) mod menus;
mod menus_bootctl;
pub(crate) mod package;
mod package_deb;
mod package_rpm;
#[cfg(test)]
mod package_tests;
mod peers;
pub(crate) mod readers;
mod tally;
pub(crate) mod test;
