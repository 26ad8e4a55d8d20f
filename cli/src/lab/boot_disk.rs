//! Disk images that a guest boots from: partitioned, with file systems made by
//! their real `mkfs`, a kernel, an initrd, and the configuration of a boot
//! loader as a distribution lays it out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::artefacts;
use super::build::{self, Variant};
use crate::host::{command, tools};

/// What a disk is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskLayout {
    /// GPT, one ext4 with Boot Loader Specification entries.
    BlsExt4,
    /// MBR with a logical partition, ext4 with a grub.cfg: as Debian has it.
    GrubExt4,
    /// GPT, `/boot` on XFS with a grub.cfg that takes in the entries beside
    /// it: as Fedora has it.
    GrubXfs,
    /// GPT, btrfs with a grub.cfg: as openSUSE has it.
    GrubBtrfs,
    /// No partition table, ext4 with an extlinux.conf: as Alpine has it.
    ExtlinuxExt4,
    /// GPT, a FAT ESP with systemd-boot's entries: as Arch has it.
    SystemdFat,
    /// GPT, a FAT ESP with a unified kernel image on systemd's stub.
    UkiFat,
    /// GPT for sectors of 4096 bytes, ext4 with Boot Loader Specification
    /// entries.
    BlsLarge,
    /// As [`Self::BlsExt4`] with a grub.cfg whose default entry's kernel is
    /// damaged, and which names another to fall back on.
    GrubFallback,
    /// A CD with a grub.cfg: as live systems have it.
    GrubIso,
    /// As [`Self::GrubExt4`], and with a boot loader of its own: another Kexen.
    Chain,
}

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

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fs {
    Ext4,
    /// With blocks of 4096 bytes: Linux mounts none with blocks shorter than
    /// the disk's sectors.
    Ext4Large,
    Xfs,
    Btrfs,
    Fat,
    Iso,
}

/// The identifier that configurations look for the file system by.
pub(crate) const UUID: &str = "6b656e00-1ab0-4d15-8000-626f6f742d31";

impl DiskLayout {
    /// Those that start by themselves, as an ordinary disk.
    pub(crate) const ALL: [Self; 7] = [
        Self::BlsExt4,
        Self::GrubExt4,
        Self::GrubXfs,
        Self::GrubBtrfs,
        Self::ExtlinuxExt4,
        Self::SystemdFat,
        Self::UkiFat,
    ];

    /// Its name in a case's.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::BlsExt4 => "bls-ext4",
            Self::GrubExt4 => "grub-ext4",
            Self::GrubXfs => "grub-xfs",
            Self::GrubBtrfs => "grub-btrfs",
            Self::ExtlinuxExt4 => "extlinux-ext4",
            Self::SystemdFat => "systemd-fat",
            Self::UkiFat => "uki-fat",
            Self::BlsLarge => "bls-large",
            Self::GrubFallback => "fallback",
            Self::GrubIso => "grub-iso",
            Self::Chain => "chain",
        }
    }

    const fn fs(self) -> Fs {
        match self {
            Self::BlsExt4
            | Self::GrubExt4
            | Self::ExtlinuxExt4
            | Self::Chain
            | Self::GrubFallback => Fs::Ext4,
            Self::BlsLarge => Fs::Ext4Large,
            Self::GrubIso => Fs::Iso,
            Self::GrubXfs => Fs::Xfs,
            Self::GrubBtrfs => Fs::Btrfs,
            Self::SystemdFat | Self::UkiFat => Fs::Fat,
        }
    }

    /// Where kernel and initrd are.
    const fn folder(self) -> &'static str {
        match self {
            Self::BlsExt4
            | Self::GrubExt4
            | Self::GrubBtrfs
            | Self::ExtlinuxExt4
            | Self::BlsLarge
            | Self::GrubFallback
            | Self::Chain => "boot",
            Self::GrubIso => "live",
            Self::GrubXfs | Self::SystemdFat => "",
            Self::UkiFat => "EFI/Linux",
        }
    }

    /// The configuration: files and what is in them.
    fn files(self, cmdline: &str) -> Vec<(&'static str, String)> {
        let bls = |folder: &str| {
            format!(
                "title The lab's Linux\nversion 6.1\nmachine-id 0123456789abcdef0123456789abcdef\n\
                 linux {folder}/vmlinuz\ninitrd {folder}/initrd\noptions {cmdline}\n"
            )
        };
        let grub = |folder: &str| {
            format!(
                "set default=\"0\"\nset timeout=0\n\
                 function load_video {{\n  insmod all_video\n}}\n\
                 if [ x$feature_platform_search_hint = xy ]; then\n  \
                 search --no-floppy --fs-uuid --set=root --hint='hd0,gpt1' {UUID}\nelse\n  \
                 search --no-floppy --fs-uuid --set=root {UUID}\nfi\n\
                 menuentry 'The lab'\\''s Linux' --class gnu-linux --unrestricted \
                 $menuentry_id_option 'lab-simple' {{\n\tload_video\n\tinsmod gzio\n\tinsmod ext2\n\t\
                 echo 'Loading Linux ...'\n\tlinux {folder}/vmlinuz {cmdline}\n\t\
                 echo 'Loading initial ramdisk ...'\n\tinitrd {folder}/initrd\n}}\n\
                 submenu 'Advanced options' {{\n\tmenuentry 'recovery' {{\n\t\t\
                 linux {folder}/vmlinuz {cmdline} single\n\t}}\n}}\n"
            )
        };
        match self {
            Self::BlsExt4 | Self::BlsLarge => {
                vec![("loader/entries/lab.conf", bls("/boot"))]
            }
            Self::GrubExt4 | Self::Chain => vec![("boot/grub/grub.cfg", grub("/boot"))],
            Self::GrubFallback => vec![
                (
                    "boot/grub/grub.cfg",
                    format!(
                        "set default=0\nset fallback=\"1 2\"\nset timeout=1\n\
                         menuentry 'Damaged' {{\n\tlinux /boot/damaged {cmdline}\n}}\n\
                         menuentry 'Missing' {{\n\tlinux /boot/miss\x1b[7ming {cmdline}\n}}\n\
                         menuentry 'Good' --id good-one {{\n\tlinux /boot/vmlinuz {cmdline} lab.good\n\tinitrd /boot/initrd\n}}\n\
                         menuentry 'Under a hypervisor' --id above {{\n\txen_hypervisor /boot/xen.gz\n\txen_module /boot/vmlinuz\n}}\n"
                    ),
                ),
                ("boot/damaged", "MZ, and no kernel at all\n".repeat(1000)),
            ],
            Self::GrubIso => vec![(
                "boot/grub/grub.cfg",
                format!(
                    "search --no-floppy --label LAB --set=root\nset default=0\nset timeout=0\n\
                     menuentry \"The lab's live system\" {{\n\tlinux /live/vmlinuz {cmdline}\n\t\
                     initrd /live/initrd\n}}\n"
                ),
            )],
            Self::GrubBtrfs => vec![("boot/grub2/grub.cfg", grub("/boot"))],
            Self::GrubXfs => vec![
                (
                    "grub2/grub.cfg",
                    format!(
                        "search --no-floppy --fs-uuid --set=root {UUID}\n\
                         set default=\"0\"\nset timeout=5\ninsmod blscfg\nblscfg\n"
                    ),
                ),
                ("loader/entries/lab.conf", bls("")),
            ],
            Self::ExtlinuxExt4 => vec![(
                "boot/extlinux.conf",
                format!(
                    "DEFAULT menu.c32\nPROMPT 0\nMENU TITLE The lab\nTIMEOUT 10\nLABEL lab\n  \
                     MENU DEFAULT\n  MENU LABEL The lab's Linux\n  LINUX vmlinuz\n  \
                     INITRD initrd\n  APPEND {cmdline}\n"
                ),
            )],
            Self::UkiFat => Vec::new(),
            Self::SystemdFat => vec![
                ("loader/loader.conf", "default lab*\ntimeout 3\n".to_owned()),
                ("loader/entries/lab.conf", bls("")),
                (
                    "loader/entries/other.conf",
                    "title Not this one\nlinux /missing\n".to_owned(),
                ),
            ],
        }
    }

    /// What sfdisk reads, for a partition of so many MiB; none for no table.
    fn table(self, mib: u64) -> Option<String> {
        let size = mib << 11;
        match self {
            Self::ExtlinuxExt4 | Self::GrubIso => None,
            Self::GrubExt4 | Self::Chain => Some(format!(
                "label: dos\nstart={}, type=5\nstart={FIRST}, size={size}, type=83\n",
                FIRST / 2
            )),
            Self::SystemdFat | Self::UkiFat => Some(format!(
                "label: gpt\nstart={FIRST}, size={size}, type=uefi\n"
            )),
            Self::BlsExt4
            | Self::GrubXfs
            | Self::GrubBtrfs
            | Self::BlsLarge
            | Self::GrubFallback => Some(one_linux(mib)),
        }
    }
}

/// Sectors before the first partition: 2 MiB.
const FIRST: u64 = 4096;

/// Makes the image of a disk that starts this kernel, in a file of that name.
pub(crate) fn make(
    name: &str,
    layout: DiskLayout,
    kernel: &Path,
    initrd: &Path,
    cmdline: &str,
    signing: Option<Signing>,
    scratch: &Path,
) -> Result<PathBuf> {
    tools::require(&[tools::MKFS])?;
    let root = scratch.join("root");
    fs::remove_dir_all(&root).ok();
    let boot = root.join(layout.folder());
    fs::create_dir_all(&boot)?;
    if layout == DiskLayout::UkiFat {
        unify(kernel, initrd, cmdline, &boot.join("lab.efi"), scratch)?;
    } else {
        fs::copy(kernel, boot.join("vmlinuz")).context("the kernel")?;
        fs::copy(initrd, boot.join("initrd")).context("the initrd")?;
    }
    if let Some(signing) = signing {
        sign(&boot, signing, scratch)?;
    }
    for (name, text) in layout.files(cmdline) {
        let file = root.join(name);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, text)?;
    }
    if layout == DiskLayout::Chain {
        let loader = root.join("boot/xen/pvboot-x86_64.elf");
        fs::create_dir_all(root.join("boot/xen"))?;
        let image = build::image(Variant::Normal)?;
        fs::copy(image.stripped, loader).context("the boot image")?;
    }
    let bytes = fs::metadata(kernel)?.len() + fs::metadata(initrd)?.len();
    let mib = ((bytes >> 20) * 5 / 4 + 24).max(layout.fs().least());
    let part = scratch.join("part");
    layout.fs().make(&root, &part, mib)?;
    // Each under a name of its own: dom0 keeps what it was given.
    let disk = scratch.join(format!("{name}.img"));
    match layout.table(mib) {
        Some(_) if layout == DiskLayout::BlsLarge => assemble_large(&disk, &part, mib)?,
        Some(table) => assemble(&disk, &part, mib, &table)?,
        None => fs::rename(&part, &disk)?,
    }
    Ok(disk)
}

/// Makes a unified kernel image: sections on systemd's stub, as `ukify` and
/// `objcopy` make one.
fn unify(kernel: &Path, initrd: &Path, cmdline: &str, out: &Path, scratch: &Path) -> Result<()> {
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

/// Where [`make`] leaves the public key of what it signs.
pub(crate) fn public_key(scratch: &Path) -> PathBuf {
    scratch.join("lab.pub")
}

/// Signs files with minisign, by a key of its own.
fn sign(boot: &Path, signing: Signing, scratch: &Path) -> Result<()> {
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

impl Fs {
    /// MiB that it has at least.
    const fn least(self) -> u64 {
        match self {
            Self::Ext4 | Self::Ext4Large | Self::Fat | Self::Iso => 0,
            Self::Btrfs => 128,
            Self::Xfs => 300,
        }
    }

    /// Makes it, with what is in a folder.
    fn make(self, root: &Path, part: &Path, mib: u64) -> Result<()> {
        fs::remove_file(part).ok();
        if self != Self::Iso {
            fs::File::create(part)?.set_len(mib << 20)?;
        }
        match self {
            Self::Iso => {
                let mut make = Command::new("xorriso");
                make.args(["-as", "mkisofs", "-quiet", "-R", "-J", "-V", "LAB", "-o"]);
                command::run(make.arg(part).arg(root))?;
            }
            Self::Ext4 | Self::Ext4Large => {
                let mut mkfs = Command::new("mke2fs");
                if self == Self::Ext4Large {
                    mkfs.args(["-b", "4096"]);
                }
                mkfs.args(["-q", "-F", "-t", "ext4", "-L", "lab", "-U", UUID, "-d"]);
                command::run(mkfs.arg(root).arg(part))?;
            }
            Self::Btrfs => {
                let mut mkfs = Command::new("mkfs.btrfs");
                mkfs.args(["-q", "-f", "-L", "lab", "-U", UUID, "--rootdir"]);
                command::run(mkfs.arg(root).arg(part))?;
            }
            Self::Xfs => {
                let proto = part.with_extension("proto");
                fs::write(&proto, prototype(root)?)?;
                let mut mkfs = Command::new("mkfs.xfs");
                mkfs.args(["-q", "-f", "-L", "lab", "-m", &format!("uuid={UUID}"), "-p"]);
                command::run(mkfs.arg(proto).arg(part))?;
            }
            Self::Fat => {
                let mut mkfs = Command::new("mkfs.vfat");
                command::run(mkfs.args(["-n", "LAB"]).arg(part))?;
                let mut copy = Command::new("mcopy");
                copy.args(["-s", "-i"]).arg(part);
                for entry in fs::read_dir(root)? {
                    copy.arg(entry?.path());
                }
                command::run(copy.arg("::/"))?;
            }
        }
        Ok(())
    }
}

/// What `mkfs.xfs -p` makes a folder of.
fn prototype(root: &Path) -> Result<String> {
    fn walk(folder: &Path, text: &mut String) -> Result<()> {
        let mut all: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
        all.sort_by_key(fs::DirEntry::file_name);
        for entry in all {
            let name = entry.file_name();
            let name = name.to_str().context("a name that is no text")?;
            if name.contains(char::is_whitespace) {
                bail!("{name:?}: a prototype has no names with spaces");
            }
            if entry.file_type()?.is_dir() {
                text.push_str(&format!("{name} d--755 0 0\n"));
                walk(&entry.path(), text)?;
                text.push_str("$\n");
            } else {
                let path = entry.path();
                text.push_str(&format!("{name} ---644 0 0 {}\n", path.display()));
            }
        }
        Ok(())
    }
    let mut text = String::from("/\n0 0\nd--755 0 0\n");
    walk(root, &mut text)?;
    text.push_str("$\n");
    Ok(text)
}

/// What sfdisk reads for a GPT disk with one partition of Linux's.
pub(crate) fn one_linux(mib: u64) -> String {
    format!(
        "label: gpt\nstart={FIRST}, size={}, type=linux\n",
        mib << 11
    )
}

/// Makes an ext4 of a folder.
pub(crate) fn ext4(root: &Path, part: &Path, mib: u64) -> Result<()> {
    Fs::Ext4.make(root, part, mib)
}

/// A disk with one partition.
pub(crate) fn assemble(disk: &Path, part: &Path, mib: u64, table: &str) -> Result<()> {
    let mut sfdisk = Command::new("sfdisk");
    partitioned(disk, part, mib, sfdisk.arg("--quiet").arg(disk), table)
}

/// The same with sectors of 4096 bytes, of which sfdisk knows nothing.
fn assemble_large(disk: &Path, part: &Path, mib: u64) -> Result<()> {
    let first = FIRST >> 3;
    let mut fdisk = Command::new("fdisk");
    fdisk.args(["--sector-size", "4096"]).arg(disk);
    // A GPT; its first partition, from this sector, as long as the part.
    let keys = format!("g\nn\n1\n{first}\n{}\nw\n", first + (mib << 8) - 1);
    partitioned(disk, part, mib, &mut fdisk, &keys)
}

/// Makes the disk, has a program partition it, and puts the part in.
fn partitioned(
    disk: &Path,
    part: &Path,
    mib: u64,
    program: &mut Command,
    input: &str,
) -> Result<()> {
    let first = FIRST >> 11;
    let file = fs::File::create(disk)?;
    file.set_len((first + mib + 1) << 20)?;
    command::run_with(program, input.as_bytes())?;
    let mut dd = Command::new("dd");
    dd.arg(format!("if={}", part.display()));
    dd.arg(format!("of={}", disk.display()));
    dd.arg(format!("seek={first}"));
    dd.args(["bs=1M", "conv=notrunc,sparse", "status=none"]);
    command::run(&mut dd)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_can_be_made() {
        let scratch = tempfile::tempdir().unwrap();
        let (kernel, initrd) = (scratch.path().join("k"), scratch.path().join("i"));
        fs::write(&kernel, vec![1; 1_000_000]).unwrap();
        fs::write(&initrd, vec![2; 500_000]).unwrap();
        let more = [
            DiskLayout::BlsLarge,
            DiskLayout::GrubFallback,
            DiskLayout::GrubIso,
        ];
        for layout in DiskLayout::ALL.into_iter().chain(more) {
            let disk = make(
                layout.name(),
                layout,
                &kernel,
                &initrd,
                "quiet",
                None,
                scratch.path(),
            )
            .unwrap();
            assert!(fs::metadata(disk).unwrap().len() > 1 << 20, "{layout:?}");
        }
    }
}
