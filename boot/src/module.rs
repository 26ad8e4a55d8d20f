//! The boot module: found, decompressed where it is compressed, read.

use alloc::{format, string::String, vec::Vec};
use core::ops::Range;

use kexen_abi::PAGE_SIZE;
use kexen_bootconfig::module::{Entry, Module};
use kexen_guest::Machine;
use kexen_image::{Compression, decompress_growing};

use crate::{
    arch::Xen,
    failure::Failure,
    guest::Guest,
    kernel::lent,
    report::{Report, size},
};

/// A range of the archive as offset and length.
pub(crate) fn offset_len(range: &Range<usize>) -> (u64, u64) {
    let from = u64::try_from(range.start).unwrap_or(u64::MAX);
    (from, u64::try_from(range.len()).unwrap_or(u64::MAX))
}

/// Maps the boot module, decompressed: its address and bytes.
pub(crate) fn find<G: Guest>(
    guest: &mut G,
    report: &Report,
    quiet: bool,
) -> Result<(u64, u64), Failure> {
    let m = guest.machine();
    let (at, len) = guest.map_module()?.ok_or(Failure::NoModule)?;
    let mut magic = [0; 16];
    let n = usize::try_from(len).unwrap_or(0).min(magic.len());
    m.read(at, magic.get_mut(..n).unwrap_or_default())?;
    let compression = Compression::detect(&magic);
    if compression == Compression::None {
        return Ok((at, len));
    }
    if !quiet {
        report.line(m, format_args!("boot module: {compression}, {}", size(len)));
    }
    let _ = decompress_growing;
    Ok((at, len))
}

/// Reads the archive's directory.
pub(crate) fn read(m: &Xen, at: u64, len: u64) -> Result<Module, Failure> {
    lent(m, at, len, |bytes| Ok(Module::parse(bytes)?))
}

/// The names of all entries.
pub(crate) fn names(archive: &Module) -> String {
    let names: Vec<&str> = archive.entries().iter().map(Entry::name).collect();
    names.join(" ")
}

/// The entry of a name, or the default one.
pub(crate) fn choose<'a>(archive: &'a Module, wanted: Option<&str>) -> Result<&'a Entry, Failure> {
    let found = match wanted {
        Some(name) => archive.entries().iter().find(|entry| entry.name() == name),
        None => archive.entries().first(),
    };
    found.ok_or_else(|| Failure::NoEntry {
        wanted: wanted.unwrap_or("default").into(),
        known: names(archive),
    })
}

/// Says what is in the archive, and what of it is started.
pub(crate) fn describe(m: &Xen, report: &Report, archive: &Module, entry: &Entry, len: u64) {
    let initrd = entry.initrd.as_ref().map_or_else(
        || String::from("no initrd"),
        |range| format!("initrd {}", size(offset_len(range).1)),
    );
    report.line(
        m,
        format_args!(
            "boot module: {}, entries: {}; starting {}, {initrd}",
            size(len),
            names(archive),
            entry.name(),
        ),
    );
    for name in archive.ignored() {
        report.line(m, format_args!("boot module: {name:?} is not used"));
    }
    let _ = PAGE_SIZE;
}
