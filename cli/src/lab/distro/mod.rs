//! Disk images of distributions, made from packages with the distributions'
//! tools, that boot with their own configuration and their own initramfs.
//!
//! Nothing else of the lab's is in a system but a service that says what the
//! system found, and powers off.
//!
//! | module | what it makes |
//! |---|---|
//! | `packages` | a system of Debian's packages, and what it does when booted once |
//! | `debian` | Debian's own disks |
//! | `layouts` | disks as other distributions lay them out, of Debian's packages |

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::apt::Suite;

mod debian;
mod layouts;
mod packages;

/// The guest's own words, which come behind the entry's. By itself systemd gives
/// up a device after 90 seconds, and in an emulated processor udev alone has
/// been seen to take as long.
pub(crate) const PATIENT: &str =
    "systemd.default_device_timeout_sec=900 systemd.default_timeout_start_sec=900";

/// A distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distro {
    /// Debian 12, with its kernel for clouds.
    Debian12,
    /// Debian 13.
    Debian13,
    /// Entries on an ext4 `/boot`, btrfs root in a subvolume.
    Fedora,
    /// Entries on an XFS `/boot`, their options in `grubenv`, XFS root.
    RhelXfs,
    /// btrfs alone; the root is the newer of two snapshots, and the default
    /// subvolume.
    OpenSuse,
    /// extlinux on an ext4 `/boot`, ext4 root.
    Alpine,
    /// systemd-boot on FAT, two initrds, ext4 root.
    ArchSystemdBoot,
    /// A unified kernel image on FAT, btrfs root in a subvolume.
    ArchUki,
}

impl Distro {
    /// Those whose disks are made each by itself.
    pub(crate) const DEBIANS: [Self; 2] = [Self::Debian12, Self::Debian13];

    /// Those whose disks are made together.
    pub(crate) const LAYOUTS: [Self; 6] = [
        Self::Fedora,
        Self::RhelXfs,
        Self::OpenSuse,
        Self::Alpine,
        Self::ArchSystemdBoot,
        Self::ArchUki,
    ];

    /// Its name in a case's.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Debian12 => "debian-12",
            Self::Debian13 => "debian-13",
            Self::Fedora => "fedora",
            Self::RhelXfs => "rhel-xfs",
            Self::OpenSuse => "opensuse",
            Self::Alpine => "alpine",
            Self::ArchSystemdBoot => "arch-systemd-boot",
            Self::ArchUki => "arch-uki",
        }
    }

    /// Its disk.
    pub(crate) fn disk(self) -> Result<PathBuf> {
        match self {
            Self::Debian12 => debian::disk(self, Suite::Bookworm),
            Self::Debian13 => debian::disk(self, Suite::Trixie),
            _ => layouts::disk(self),
        }
    }

    /// The disk of a Debian, if it was made already.
    pub(crate) fn cached(self) -> Result<Option<PathBuf>> {
        debian::cached(self)
    }

    /// What `/` has to be: device with subvolume, and type, as `findmnt` says
    /// them.
    const fn root(self) -> &'static str {
        match self {
            Self::Debian12 | Self::Debian13 => "/dev/xvdc1:ext4",
            Self::Fedora => "/dev/xvdc3[/root]:btrfs",
            Self::RhelXfs => "/dev/xvdc3:xfs",
            Self::OpenSuse => "/dev/xvdc2[/@/.snapshots/2/snapshot]:btrfs",
            Self::Alpine => "/dev/xvdc3:ext4",
            Self::ArchSystemdBoot => "/dev/xvdc2:ext4",
            Self::ArchUki => "/dev/xvdc2[/@]:btrfs",
        }
    }

    /// How the kernel's command line has to end: what its own configuration
    /// says in the entry that it makes the default.
    const fn words(self) -> &'static str {
        match self {
            Self::Debian12 | Self::Debian13 => " ro console=hvc0 quiet",
            Self::Fedora => " ro rootflags=subvol=root console=hvc0 rhgb quiet",
            Self::RhelXfs => " ro crashkernel=auto console=hvc0 rhgb quiet",
            Self::OpenSuse => " console=hvc0 splash=silent quiet security=apparmor",
            Self::Alpine => " modules=sd-mod,usb-storage,ext4 quiet rootfstype=ext4 console=hvc0",
            Self::ArchSystemdBoot => " rw rootfstype=ext4 console=hvc0",
            Self::ArchUki => " rootflags=subvol=@ rw console=hvc0 quiet",
        }
    }

    /// Whether its system came up, on its root, by its entry: what it has
    /// said.
    pub(crate) fn check<'r>(self, said: impl Fn(&str) -> Option<&'r str>) -> Result<()> {
        let root = said("root");
        ensure!(
            root == Some(self.root()),
            "the root is {root:?}, not {}",
            self.root()
        );
        let line = said("cmdline").unwrap_or_default().trim_end();
        let entry = line.strip_suffix(PATIENT).map(str::trim_end);
        ensure!(
            entry.is_some_and(|entry| entry.ends_with(self.words())),
            "the command line {line:?} does not end with {:?} and {PATIENT:?}",
            self.words()
        );
        ensure!(said("system") == Some("up"), "the system did not come up");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_root_or_entry_is_a_failure() {
        let check = |root: &str, cmdline: &str, system: &str| {
            let cmdline = format!("{cmdline} {PATIENT}");
            Distro::OpenSuse.check(|key| match key {
                "root" => Some(root),
                "cmdline" => Some(&cmdline),
                "system" => Some(system),
                _ => None,
            })
        };
        const ROOT: &str = "/dev/xvdc2[/@/.snapshots/2/snapshot]:btrfs";
        const LINE: &str = "root=UUID=1 console=hvc0 splash=silent quiet security=apparmor";
        check(ROOT, LINE, "up").unwrap();
        check(ROOT, LINE, "").unwrap_err();
        // The snapshot that was rolled back.
        check("/dev/xvdc2[/@/.snapshots/1/snapshot]:btrfs", LINE, "up").unwrap_err();
        let old = "root=UUID=1 console=hvc0 splash=silent quiet lab.rolled-back security=apparmor";
        check(ROOT, old, "up").unwrap_err();
        check(ROOT, "root=UUID=1 single lab.rescue", "up").unwrap_err();
        // The guest's own words are behind the entry's.
        let without = |key: &str| {
            [("root", ROOT), ("cmdline", LINE), ("system", "up")]
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| *value)
        };
        Distro::OpenSuse.check(without).unwrap_err();
        assert!(Distro::OpenSuse.check(|_| None).is_err());
    }
}
