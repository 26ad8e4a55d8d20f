//! Boot modules for Kexen: the kernel to start with its initrd and command line.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use anyhow::Result;

use super::cpio::Archive;

/// Writes a boot module.
pub(crate) fn write(out: &Path, kernel: &Path, initrd: Option<&Path>, cmdline: &str) -> Result<()> {
    write_all(out, None, Some(kernel), initrd, Some(cmdline))
}

/// Writes a boot module that has a second entry, `kexen`: Kexen itself.
pub(crate) fn write_chain(
    out: &Path,
    kexen: &Path,
    kernel: &Path,
    initrd: &Path,
    cmdline: &str,
) -> Result<()> {
    write_all(out, Some(kexen), Some(kernel), Some(initrd), Some(cmdline))
}

/// Writes a boot module without anything in it.
pub(crate) fn write_empty(out: &Path) -> Result<()> {
    write_all(out, None, None, None, None)
}

fn write_all(
    out: &Path,
    kexen: Option<&Path>,
    kernel: Option<&Path>,
    initrd: Option<&Path>,
    cmdline: Option<&str>,
) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(out)?));
    if let Some(cmdline) = cmdline {
        archive.file("cmdline", 0o644, cmdline.as_bytes())?;
    }
    for (name, file) in [
        ("kexen/kernel", kexen),
        ("kernel", kernel),
        ("initrd", initrd),
    ] {
        if let Some(file) = file {
            archive.file(name, 0o644, &fs::read(file)?)?;
        }
    }
    archive.finish()?;
    Ok(())
}
