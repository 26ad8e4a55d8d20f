//! Boot modules for Kexen: the kernel to start with its initrd and command line.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use anyhow::Result;

use super::cpio::Archive;

/// Writes a boot module.
pub(crate) fn write(out: &Path, kernel: &Path, initrd: Option<&Path>, cmdline: &str) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(out)?));
    archive.file("cmdline", 0o644, cmdline.as_bytes())?;
    archive.file("kernel", 0o644, &fs::read(kernel)?)?;
    if let Some(initrd) = initrd {
        archive.file("initrd", 0o644, &fs::read(initrd)?)?;
    }
    archive.finish()?;
    Ok(())
}
