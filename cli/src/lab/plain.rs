//! A Linux in QEMU without Xen: booted once for something that takes a
//! machine's kernel, such as making file systems' contents. It says on its
//! serial line how that went, and powers off.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::host::command;

/// A disk of the machine's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk<'a> {
    /// Its serial number, by which Linux finds it.
    pub(crate) name: &'a str,
    pub(crate) file: &'a Path,
    /// Bytes of a sector.
    pub(crate) sector: u32,
    /// Whether what Linux writes goes to the file.
    pub(crate) is_written: bool,
}

impl<'a> Disk<'a> {
    /// A disk with common sectors that keeps what is written to it.
    pub(crate) const fn written(name: &'a str, file: &'a Path) -> Self {
        Self {
            name,
            file,
            sector: 512,
            is_written: true,
        }
    }
}

/// What to boot.
#[derive(Debug)]
pub(crate) struct Linux<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: &'a Path,
    /// The command line, besides what every such Linux is told.
    pub(crate) cmdline: &'a str,
    /// MiB of memory.
    pub(crate) memory: u32,
    pub(crate) disks: &'a [Disk<'a>],
    /// Seconds after which it is taken to hang.
    pub(crate) patience: u32,
}

impl Linux<'_> {
    /// Boots it, and returns what it has said. It has to have said the first
    /// of each of these; if it has not, the second says what went wrong.
    pub(crate) fn run<S: AsRef<str>>(&self, expected: &[(S, S)]) -> Result<String> {
        let text = command::text(&mut self.command())?;
        check(&text, expected)?;
        Ok(text)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.arg(self.patience.to_string());
        command.arg("qemu-system-x86_64");
        command.args(["-accel", "tcg,thread=multi", "-smp", "2"]);
        command.args(["-m", &self.memory.to_string()]);
        command.args(["-display", "none", "-serial", "stdio", "-no-reboot"]);
        command.arg("-kernel").arg(self.kernel);
        command.arg("-initrd").arg(self.initrd);
        // A busy host's emulated timer may fail Linux's test of it.
        command.arg("-append").arg(format!(
            "console=ttyS0 panic=-1 no_timer_check {}",
            self.cmdline
        ));
        for (n, disk) in self.disks.iter().enumerate() {
            let snapshot = if disk.is_written { "off" } else { "on" };
            // Nothing of it is used if the machine under it goes down.
            command.arg("-drive").arg(format!(
                "file={},format=raw,if=none,id=d{n},cache=unsafe,snapshot={snapshot}",
                disk.file.display().to_string().replace(',', ",,"),
            ));
            let Disk { name, sector, .. } = disk;
            command.arg("-device").arg(format!(
                "virtio-blk-pci,drive=d{n},serial={name},\
                 logical_block_size={sector},physical_block_size={sector}"
            ));
        }
        command
    }
}

fn check<S: AsRef<str>>(text: &str, expected: &[(S, S)]) -> Result<()> {
    for (said, otherwise) in expected {
        ensure!(
            text.contains(said.as_ref()),
            "{}:\n{}",
            otherwise.as_ref(),
            command::tail(text, 60)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_as_they_are_told() {
        let disks = [
            Disk::written("one", Path::new("/a,b")),
            Disk {
                name: "two",
                file: Path::new("/c"),
                sector: 4096,
                is_written: false,
            },
        ];
        let linux = Linux {
            kernel: Path::new("/k"),
            initrd: Path::new("/i"),
            cmdline: "quiet",
            memory: 256,
            disks: &disks,
            patience: 7,
        };
        let shown = command::shown(&linux.command());
        assert!(shown.starts_with("timeout 7 qemu-system-x86_64 "));
        for part in [
            "-m 256 ",
            "-kernel /k -initrd /i -append console=ttyS0 panic=-1 no_timer_check quiet -drive",
            "file=/a,,b,format=raw,if=none,id=d0,cache=unsafe,snapshot=off ",
            "drive=d0,serial=one,logical_block_size=512,physical_block_size=512 ",
            "file=/c,format=raw,if=none,id=d1,cache=unsafe,snapshot=on ",
            "drive=d1,serial=two,logical_block_size=4096,physical_block_size=4096",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    #[test]
    fn what_was_not_said_is_named_with_the_last_lines() {
        let expected = [("a=0", "a failed"), ("b=0", "b failed")];
        check("a=0\nb=0\n", &expected).unwrap();
        let error = check("a=0\nb=1\n", &expected).unwrap_err();
        assert_eq!(error.to_string(), "b failed:\n  a=0\n  b=1\n");
    }
}
