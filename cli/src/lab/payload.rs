//! Boot modules for Kexen: the kernel to start with its initrd and command line.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use kexen_bootconfig::module::{self, DEFAULT, NewEntry};

/// Writes a boot module.
pub(crate) fn write(out: &Path, kernel: &Path, initrd: Option<&Path>, cmdline: &str) -> Result<()> {
    write_all(out, None, kernel, initrd, cmdline)
}

/// Writes a boot module that has a second entry, `kexen`: Kexen itself.
pub(crate) fn write_chain(
    out: &Path,
    kexen: &Path,
    kernel: &Path,
    initrd: &Path,
    cmdline: &str,
) -> Result<()> {
    write_all(out, Some(kexen), kernel, Some(initrd), cmdline)
}

/// Writes a boot module with a bad kernel in the default entry and a second
/// entry, `good`.
pub(crate) fn write_bad_and_good(
    out: &Path,
    bad: &Path,
    kernel: &Path,
    initrd: &Path,
    cmdline: &str,
) -> Result<()> {
    let (bad, kernel, initrd) = (read(bad)?, read(kernel)?, read(initrd)?);
    let good = NewEntry {
        name: "good",
        kernel: &kernel,
        initrd: Some(&initrd),
        cmdline: Some(cmdline),
    };
    let bad = NewEntry {
        name: DEFAULT,
        kernel: &bad,
        ..good
    };
    save(out, &[bad, good])
}

/// Writes a boot module without anything in it.
pub(crate) fn write_empty(out: &Path) -> Result<()> {
    save(out, &[])
}

/// Writes a boot module with public keys alone.
pub(crate) fn write_keys(out: &Path, keys: &Path) -> Result<()> {
    let text = fs::read_to_string(keys)?;
    fs::write(out, module::write_with_keys(&[], Some(&text)))?;
    Ok(())
}

fn save(out: &Path, entries: &[NewEntry<'_>]) -> Result<()> {
    fs::write(out, module::write(entries))
        .with_context(|| format!("cannot write {}", out.display()))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn write_all(
    out: &Path,
    kexen: Option<&Path>,
    kernel: &Path,
    initrd: Option<&Path>,
    cmdline: &str,
) -> Result<()> {
    let kernel = read(kernel)?;
    let initrd = initrd.map(read).transpose()?;
    let kexen = kexen.map(read).transpose()?;
    let mut entries = vec![NewEntry {
        name: DEFAULT,
        kernel: &kernel,
        initrd: initrd.as_deref(),
        cmdline: Some(cmdline),
    }];
    entries.extend(kexen.as_deref().map(|kernel| NewEntry {
        name: "kexen",
        kernel,
        initrd: None,
        cmdline: None,
    }));
    save(out, &entries)
}
