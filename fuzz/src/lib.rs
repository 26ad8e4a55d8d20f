//! What fuzzers call: each parser of the project with bytes of anybody's
//! making.
//!
//! | module | inputs |
//! |---|---|
//! | [`disk`] | changes of disk images: partition tables, file systems |
//! | [`config`] | boot loaders' configurations, with files beside them |
//! | [`module`] | boot module, options, keys and signatures, typed keys |
//! | [`image`] | kernel files and compressed streams |
//! | [`guest`] | the store, devices, rings and consoles of another domain |
//!
//! A target returns for every input, whatever that is; it ends soon, and what
//! it asserts is what the library promises. `cargo kexen fuzz` runs them under
//! libFuzzer; `tests/replay.rs` runs what is in `corpus` (inputs that reach
//! different code each) and `found` (inputs that have failed once).

#![forbid(unsafe_code)]

mod bytes;
pub mod config;
pub mod disk;
pub mod files;
pub mod guest;
pub mod image;
pub mod module;
mod sparse;
mod sums;

/// A target: what it is called, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("partitions", disk::partitions),
    ("raid", disk::raid),
    ("ext4", disk::ext4),
    ("xfs", disk::xfs),
    ("btrfs", disk::btrfs),
    ("fat", disk::fat),
    ("iso9660", disk::iso9660),
    ("grub", config::grub),
    ("grubenv", config::grubenv),
    ("bls", config::bls),
    ("loader_conf", config::loader_conf),
    ("extlinux", config::extlinux),
    ("find", config::find),
    ("uki", config::uki),
    ("module", module::module),
    ("options", module::options),
    ("trust", module::trust),
    ("menu", module::menu),
    ("kernel", image::kernel),
    ("elf", image::elf),
    ("gzip", image::gzip),
    ("bzip2", image::bzip2),
    ("xz", image::xz),
    ("lzma", image::lzma),
    ("lzo", image::lzo),
    ("lz4", image::lz4),
    ("zstd", image::zstd),
    ("xenstore_wire", guest::wire),
    ("xenstore", guest::xenstore),
    ("xenbus", guest::xenbus),
    ("block", guest::block),
    ("hvm_start", guest::hvm_start),
    ("pv_start", guest::pv_start),
    ("console", guest::console),
];

/// Runs a target of this name.
///
/// # Panics
/// If there is none, or it finds something.
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = found.unwrap_or_else(|| panic!("no target is called {name}"));
    target(data);
}
