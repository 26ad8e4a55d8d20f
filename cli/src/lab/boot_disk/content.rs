//! What is beside kernel and initrd: unified images, signatures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::host::{command, tools};
use crate::lab::artefacts;

/// Whether files on the disk are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing {
    /// Kernel and initrd.
    All,
    /// The kernel alone.
    KernelAlone,
    /// Both, and a byte of the initrd was changed since.
    Changed,
}

/// Makes a unified kernel image: sections on systemd's stub, as `ukify` and
/// `objcopy` make one.
pub(super) fn unify(
    kernel: &Path,
    initrd: &Path,
    cmdline: &str,
    out: &Path,
    scratch: &Path,
) -> Result<()> {
    tools::require(&[tools::CORE])?;
    let (osrel, line) = (scratch.join("osrel"), scratch.join("cmdline"));
    fs::write(
        &osrel,
        "NAME=\"The lab\"\nPRETTY_NAME=\"The lab's Linux\"\nID=lab\n",
    )?;
    fs::write(&line, cmdline)?;
    let stub = artefacts::efi_stub()?;
    let mut objcopy = Command::new("objcopy");
    // Behind the stub's own sections, one after the other.
    let mut at = 0x2_0000_u64;
    for (name, file) in [
        (".osrel", osrel.as_path()),
        (".cmdline", &line),
        (".linux", kernel),
        (".initrd", initrd),
    ] {
        objcopy.arg("--add-section");
        objcopy.arg(format!("{name}={}", file.display()));
        objcopy.arg("--change-section-vma");
        objcopy.arg(format!("{name}={at:#x}"));
        at = (at + fs::metadata(file)?.len()).next_multiple_of(0x1_0000);
    }
    command::run(objcopy.arg(stub).arg(out))?;
    Ok(())
}

/// Where [`super::make`] leaves the public key of what it signs.
pub(crate) fn public_key(scratch: &Path) -> PathBuf {
    scratch.join("lab.pub")
}

/// Signs files with minisign, by a key of its own.
pub(super) fn sign(boot: &Path, signing: Signing, scratch: &Path) -> Result<()> {
    tools::require(&[tools::SIGN])?;
    let (public, secret) = (public_key(scratch), scratch.join("lab.key"));
    let mut generate = Command::new("minisign");
    generate.args(["-G", "-f", "-W", "-p"]).arg(&public);
    command::run(generate.arg("-s").arg(&secret))?;
    for name in ["vmlinuz", "initrd"] {
        if name == "initrd" && signing == Signing::KernelAlone {
            continue;
        }
        let mut sign = Command::new("minisign");
        sign.arg("-S").arg("-s").arg(&secret);
        command::run(sign.arg("-m").arg(boot.join(name)))?;
    }
    if signing == Signing::Changed {
        let initrd = boot.join("initrd");
        let mut bytes = fs::read(&initrd)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(initrd, bytes)?;
    }
    Ok(())
}
