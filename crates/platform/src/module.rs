//! The boot module: found, decompressed where it is compressed, read.

use alloc::{format, string::String, vec::Vec};

use kexen_abi::PAGE_SIZE;
use kexen_bootconfig::module::{Entry, Module};
use kexen_guest::{Extent, Machine};
use kexen_handoff::HandoffError;
use kexen_image::{Compression, heap_for, unpack, unpack_scratch};

use crate::{
    failure::Failure,
    guest::{Guest, UNPACKED},
    loan::{lent, offset_len},
    native::Native as _,
    report::{Report, size},
};

/// Maps the boot module, decompressed: its address and bytes.
pub fn find<G: Guest>(guest: &mut G, report: &Report, quiet: bool) -> Result<(u64, u64), Failure> {
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
        report.line(
            m,
            format_args!("boot module: {}, {compression}: decompressing", size(len)),
        );
    }
    decompress(guest, at, len)?;
    guest.map_module()?.ok_or(Failure::NoModule)
}

/// Decompresses the boot module into pages of its own, which take its place.
///
/// How much it will be is not known before. What is in a boot module is
/// mostly compressed already, so twice its size is tried first, then more
/// and more, up to the memory there is.
fn decompress<G: Guest>(guest: &mut G, at: u64, len: u64) -> Result<(), Failure> {
    let m = guest.machine();
    let mut want = (2 * len).div_ceil(PAGE_SIZE) + 256;
    loop {
        let scratch = lent(m, at, len, |bytes| {
            unpack_scratch(bytes, want * PAGE_SIZE).map_err(Failure::ModuleData)
        })?;
        guest.grow_heap(heap_for(scratch))?;
        let have = guest.free().count();
        // Something must be left for page tables and for the kernel.
        let count = want.min(have - have / 8);
        let room = guest.free().take(count).ok_or(HandoffError::Memory {
            what: "the decompressed boot module",
            want: count,
            have,
        })?;
        let mut pages: Vec<u64> = room.pages().collect();
        guest.map(UNPACKED, &pages)?;
        let result = lent(m, at, len, |bytes| {
            lent(m, UNPACKED, count * PAGE_SIZE, |out| {
                unpack(bytes, out).map_err(Failure::ModuleData)
            })
        });
        guest.unmap(UNPACKED, count)?;
        let unpacked = result.as_ref().map_or(0, |len: &usize| *len);
        for page in pages.split_off(unpacked.div_ceil(4096).min(pages.len())) {
            guest.free().insert(Extent::new(page, 1));
        }
        match result {
            Ok(len) => {
                let len = u64::try_from(len).unwrap_or(0);
                m.count_written(len);
                for page in &pages {
                    guest.stock().kept.insert(Extent::new(*page, 1));
                }
                return Ok(guest.replace_module(pages, len)?);
            }
            Err(Failure::ModuleData(error)) if error.is_full() && count == want => want *= 4,
            Err(failure) => return Err(failure),
        }
    }
}

/// Reads the archive's directory.
pub fn read<M: Machine + ?Sized>(m: &M, at: u64, len: u64) -> Result<Module, Failure> {
    lent(m, at, len, |bytes| Ok(Module::parse(bytes)?))
}

/// The names of all entries.
pub fn names(archive: &Module) -> String {
    let names: Vec<&str> = archive.entries().iter().map(Entry::name).collect();
    names.join(" ")
}

/// The entry of a name, or the default one.
pub fn choose<'a>(archive: &'a Module, wanted: Option<&str>) -> Result<&'a Entry, Failure> {
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
pub fn describe<M: Machine + ?Sized>(
    m: &M,
    report: &Report,
    archive: &Module,
    entry: &Entry,
    why: &str,
    len: u64,
) {
    let initrd = entry.initrd.as_ref().map_or_else(
        || String::from("no initrd"),
        |range| format!("initrd {}", size(offset_len(range).1)),
    );
    report.line(
        m,
        format_args!(
            "boot module: {}, entries: {}; starting {} ({why}), {initrd}",
            size(len),
            names(archive),
            entry.name(),
        ),
    );
    for name in archive.ignored() {
        report.line(m, format_args!("boot module: {name:?} is not used"));
    }
}
