//! The guests' test userspace, as an initrd: what every guest needs, and what
//! the words on its command line ask for besides.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::apt::{Apt, Suite};
use super::artefacts::{EMULATED_MODULES, GUEST_MODULES, Kernel, noise};
use super::build;
use super::cpio::Archive;
use crate::host::cache;

/// What `kexec` comes from, and what it is linked to.
const KEXEC_PACKAGES: &[&str] = &[
    "kexec-tools",
    "libc6",
    "libxenmisc4.17",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxentoolcore1",
    "libxentoollog1",
];
const KEXEC_LIBRARIES: &[&str] = &[
    "libc.so.6",
    "libxenctrl.so.4.17",
    "libxencall.so.1",
    "libxendevicemodel.so.1",
    "libxenevtchn.so.1",
    "libxenforeignmemory.so.1",
    "libxengnttab.so.1",
    "libxentoolcore.so.1",
    "libxentoollog.so.1",
];

/// What a test userspace can have besides.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    memtest: bool,
    emulated: bool,
    kexec: bool,
}

impl Parts {
    /// What these words of a command line need.
    fn of(asked: &str) -> Self {
        let word = |word: &str| asked.split(' ').any(|found| found == word);
        Self {
            memtest: word("lab.memory"),
            emulated: word("lab.emulated"),
            kexec: word("lab.kexec") || word("lab.kdump"),
        }
    }
}

impl Kernel {
    /// The test userspace for this kernel, as an initrd with `ballast` bytes
    /// of incompressible filler that the guest checks, and with what the
    /// words `asked` need.
    pub(crate) fn test_initrd(&self, ballast: usize, asked: &str) -> Result<PathBuf> {
        let init = include_str!("../../../lab/guest/init");
        let parts = Parts::of(asked);
        let mut name = format!("initrd-{}-{}m", self.release, ballast >> 20);
        let mut recipe = format!(
            "initrd 2\nbusybox-static\n{ballast}\n{init}\n{}",
            self.identity()?
        );
        let memtest = if parts.memtest {
            let program = fs::read(build::memtest()?)?;
            name.push_str("-memory");
            recipe.push_str(&format!("\nmemtest {}", cache::sha256(&program)));
            Some(program)
        } else {
            None
        };
        if parts.emulated {
            name.push_str("-emulated");
            recipe.push_str(&format!("\n{EMULATED_MODULES:?}"));
        }
        let second = if parts.kexec {
            let second = self.test_initrd(0, "")?;
            name.push_str("-kexec");
            recipe.push_str(&format!(
                "\n{KEXEC_PACKAGES:?}\n{KEXEC_LIBRARIES:?}\n{}",
                cache::sha256_file(&second)?
            ));
            Some(second)
        } else {
            None
        };
        let dir = cache::get(&name, "the guests' test userspace", &recipe, |dir| {
            let apt = Apt::new(Suite::Bookworm)?;
            let root = tempfile::tempdir_in(dir)?;
            let mut packages = apt.unpack("busybox-static", root.path())? + "\n";
            let out = BufWriter::new(File::create(dir.join("initrd.cpio"))?);
            let mut archive = Archive::new(out);
            archive.directory("bin")?;
            archive.file(
                "bin/busybox",
                0o755,
                &fs::read(root.path().join("bin/busybox"))?,
            )?;
            archive.file("init", 0o755, init.as_bytes())?;
            // The kernel opens this before init has mounted /dev.
            archive.directory("dev")?;
            self.add_modules(&mut archive, "modules", GUEST_MODULES)?;
            if ballast > 0 {
                let bytes = noise(ballast);
                let sum = format!("{}  ballast\n", cache::sha256(&bytes));
                archive.file("ballast", 0o644, &bytes)?;
                archive.file("ballast.sha256", 0o644, sum.as_bytes())?;
            }
            if let Some(program) = &memtest {
                archive.file("bin/memtest", 0o755, program)?;
            }
            if parts.emulated {
                self.add_modules(&mut archive, "modules-emulated", EMULATED_MODULES)?;
            }
            if let Some(second) = &second {
                for package in KEXEC_PACKAGES {
                    packages += &(apt.unpack(package, root.path())? + "\n");
                }
                self.add_kexec(&mut archive, root.path(), second)?;
            }
            archive.finish()?;
            fs::write(dir.join("packages.txt"), packages)?;
            Ok(())
        })?;
        Ok(dir.join("initrd.cpio"))
    }

    /// Adds the usual tool for a hand-off, and what it is to hand over to.
    fn add_kexec<W: Write>(
        &self,
        archive: &mut Archive<W>,
        root: &Path,
        second: &Path,
    ) -> Result<()> {
        for folder in ["lib", "lib64", "second"] {
            archive.directory(folder)?;
        }
        archive.file("bin/kexec", 0o755, &fs::read(root.join("sbin/kexec"))?)?;
        let loader = "lib64/ld-linux-x86-64.so.2";
        archive.file(loader, 0o755, &fs::read(root.join(loader))?)?;
        for library in KEXEC_LIBRARIES {
            let file = ["lib", "usr/lib"]
                .map(|folder| root.join(folder).join("x86_64-linux-gnu").join(library))
                .into_iter()
                .find(|file| file.exists())
                .with_context(|| format!("no {library} in the packages"))?;
            archive.file(&format!("lib/{library}"), 0o755, &fs::read(file)?)?;
        }
        archive.file("second/kernel", 0o644, &fs::read(&self.image)?)?;
        archive.file("second/initrd", 0o644, &fs::read(second)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_parts() {
        let parts = Parts::of("lab.kexec lab.memory-not");
        assert!(parts.kexec && !parts.memtest && !parts.emulated);
    }
}
