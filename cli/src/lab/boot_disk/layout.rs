//! What the disks are like: partitions, file systems, configurations.

use super::file_system::Fs;
use super::partitions::{FIRST, one_linux};

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
    /// GPT, an ESP with a stub that leads to an ext4 `/boot`, whose grub.cfg
    /// takes in the entries beside it with `boot` set to the ESP; the saved
    /// entry is the older one: as RHEL and its kin have it.
    RhelEfi,
    /// GPT, btrfs with a grub.cfg; the environment block is in sectors of the
    /// partition, and names the second entry: as openSUSE has it.
    GrubEnvBlock,
    /// MBR, ext4 with GRUB legacy's menu.lst: as guests of pv-grub have it.
    MenuLst,
    /// As [`Self::GrubExt4`], and with a boot loader of its own: another Kexen.
    Chain,
    /// As [`Self::GrubExt4`], but the default entry's kernel is no Linux: another
    /// Kexen, as a 32-bit ELF file, which is told to start the other entry.
    GrubElf,
}

/// The identifier that configurations look for the file system by.
pub(crate) const UUID: &str = "6b656e00-1ab0-4d15-8000-626f6f742d31";

/// The identifier of an EFI system partition, as FAT has it, and its MiB.
pub(super) const ESP_UUID: &str = "1AB0-0E51";
pub(super) const ESP_MIB: u64 = 34;

/// The sector of a btrfs partition that GRUB keeps its environment in.
const ENV_SECTOR: u64 = 512;

/// What a grub.cfg of RHEL's begins with, where the machine has UEFI.
const RHEL_CFG: &str = "\
set pager=1
if [ -f ${config_directory}/grubenv ]; then
  load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ \"${next_entry}\" ] ; then
  set default=\"${next_entry}\"
  set next_entry=
  save_env next_entry
else
  set default=\"${saved_entry}\"
fi
set timeout=0
search --no-floppy --fs-uuid --set=boot @ESP@
insmod blscfg
blscfg
";

/// What one of openSUSE's begins with.
const ENV_BLOCK_CFG: &str = "\
if [ -f ${config_directory}/grubenv ]; then
  load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ \"${env_block}\" ] ; then
  set env_block=\"(${root})${env_block}\"
  export env_block
  load_env -f \"${env_block}\"
fi
if [ \"${next_entry}\" ] ; then
  set default=\"${next_entry}\"
else
  set default=\"${saved_entry}\"
fi
set timeout=0
";

/// An environment block of GRUB's: 1024 bytes with these lines.
fn environment(lines: &str) -> String {
    format!("{:#<1024}", format!("# GRUB Environment Block\n{lines}"))
}

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

    /// Those whose configuration makes another entry than the first its default;
    /// `lab.wanted` is among its words, and no other's.
    pub(crate) const CHOOSERS: [Self; 3] = [Self::RhelEfi, Self::GrubEnvBlock, Self::MenuLst];

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
            Self::RhelEfi => "rhel-efi",
            Self::GrubEnvBlock => "grub-env-block",
            Self::MenuLst => "menu-lst",
            Self::Chain => "chain",
            Self::GrubElf => "grub-elf",
        }
    }

    pub(super) const fn fs(self) -> Fs {
        match self {
            Self::BlsExt4
            | Self::GrubExt4
            | Self::ExtlinuxExt4
            | Self::Chain
            | Self::GrubElf
            | Self::RhelEfi
            | Self::MenuLst
            | Self::GrubFallback => Fs::Ext4,
            Self::BlsLarge => Fs::Ext4Large,
            Self::GrubIso => Fs::Iso,
            Self::GrubXfs => Fs::Xfs,
            Self::GrubBtrfs | Self::GrubEnvBlock => Fs::Btrfs,
            Self::SystemdFat | Self::UkiFat => Fs::Fat,
        }
    }

    /// Where kernel and initrd are.
    pub(super) const fn folder(self) -> &'static str {
        match self {
            Self::BlsExt4
            | Self::GrubExt4
            | Self::GrubBtrfs
            | Self::ExtlinuxExt4
            | Self::BlsLarge
            | Self::GrubFallback
            | Self::GrubEnvBlock
            | Self::MenuLst
            | Self::GrubElf
            | Self::Chain => "boot",
            Self::GrubIso => "live",
            Self::GrubXfs | Self::SystemdFat | Self::RhelEfi => "",
            Self::UkiFat => "EFI/Linux",
        }
    }

    /// The configuration: files and what is in them.
    pub(super) fn files(self, cmdline: &str) -> Vec<(&'static str, String)> {
        let bls = |folder: &str| {
            format!(
                "title The lab's Linux\nversion 6.1\nmachine-id 0123456789abcdef0123456789abcdef\n\
                 linux {folder}/vmlinuz\ninitrd {folder}/initrd\noptions {cmdline}\n"
            )
        };
        let grub = |folder: &str| {
            format!(
                "set default=\"0\"\nset timeout=0\n\
                 if [ x$feature_menuentry_id = xy ]; then\n  \
                 menuentry_id_option=--id\nelse\n  menuentry_id_option=\nfi\n\
                 export menuentry_id_option\n\
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
        let two = |folder: &str| {
            let entry = |id: &str, words: &str| {
                format!(
                    "menuentry 'Linux {id}' --class os --id '{id}' {{\n\t\
                     linux {folder}/vmlinuz {cmdline}{words}\n\tinitrd {folder}/initrd\n}}\n"
                )
            };
            entry("newer", "") + &entry("older", " lab.wanted")
        };
        let rhel = |version: &str, words: &str| {
            format!(
                "title The lab's Linux ({version})\nversion {version}\nlinux /vmlinuz\n\
                 initrd /initrd $tuned_initrd\noptions $kernelopts{words} $tuned_params\n\
                 grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class kernel\n"
            )
        };
        match self {
            Self::BlsExt4 | Self::BlsLarge => {
                vec![("loader/entries/lab.conf", bls("/boot"))]
            }
            Self::GrubExt4 | Self::Chain => vec![("boot/grub/grub.cfg", grub("/boot"))],
            Self::GrubElf => vec![(
                "boot/grub/grub.cfg",
                format!(
                    "menuentry 'No Linux' {{\n\tlinux /boot/other.elf kexen.entry=lab-simple \
                     kexen.on-error=crash\n}}\n{}",
                    grub("/boot")
                ),
            )],
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
            Self::RhelEfi => vec![
                ("grub2/grub.cfg", RHEL_CFG.replace("@ESP@", ESP_UUID)),
                (
                    "grub2/grubenv",
                    environment(&format!("saved_entry=lab-5.14\nkernelopts={cmdline}\n")),
                ),
                ("loader/entries/lab-6.1.conf", rhel("6.1", "")),
                ("loader/entries/lab-5.14.conf", rhel("5.14", " lab.wanted")),
            ],
            Self::GrubEnvBlock => vec![
                (
                    "boot/grub2/grub.cfg",
                    format!("{ENV_BLOCK_CFG}{}", two("/boot")),
                ),
                (
                    "boot/grub2/grubenv",
                    environment(&format!("env_block={ENV_SECTOR}+1\n")),
                ),
            ],
            Self::MenuLst => vec![(
                "boot/grub/menu.lst",
                format!(
                    "# comment\ndefault 1\ntimeout 0\n\ntitle The lab's newer Linux\nroot (hd0,0)\n\
                     kernel /boot/vmlinuz {cmdline}\ninitrd /boot/initrd\n\n\
                     title The lab's Linux\n\troot (hd0,0)\n\tkernel /boot/vmlinuz {cmdline} lab.wanted\n\
                     \tinitrd /boot/initrd\n\tsavedefault\n"
                ),
            )],
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

    /// What is on an EFI system partition before it, if there is one.
    pub(super) fn esp(self) -> Option<[(&'static str, String); 1]> {
        let stub = format!(
            "search --no-floppy --root-dev-only --fs-uuid --set=dev {UUID}\n\
             set prefix=($dev)/grub2\nexport $prefix\nconfigfile $prefix/grub.cfg\n"
        );
        (self == Self::RhelEfi).then_some([("EFI/redhat/grub.cfg", stub)])
    }

    /// What is in a sector of its partition that no file has.
    pub(super) fn sector(self) -> Option<(u64, String)> {
        let block = || environment("saved_entry=older\n");
        (self == Self::GrubEnvBlock).then(|| (ENV_SECTOR, block()))
    }

    /// What sfdisk reads, for a partition of so many MiB; none for no table.
    pub(super) fn table(self, mib: u64) -> Option<String> {
        let (size, esp) = (mib << 11, ESP_MIB << 11);
        match self {
            Self::ExtlinuxExt4 | Self::GrubIso => None,
            Self::GrubExt4 | Self::Chain | Self::GrubElf => Some(format!(
                "label: dos\nstart={}, type=5\nstart={FIRST}, size={size}, type=83\n",
                FIRST / 2
            )),
            Self::MenuLst => Some(format!(
                "label: dos\nstart={FIRST}, size={size}, type=83, bootable\n"
            )),
            Self::RhelEfi => Some(format!(
                "label: gpt\nstart={FIRST}, size={esp}, type=uefi\n\
                 start={}, size={size}, type=linux\n",
                FIRST + esp
            )),
            Self::SystemdFat | Self::UkiFat => Some(format!(
                "label: gpt\nstart={FIRST}, size={size}, type=uefi\n"
            )),
            Self::BlsExt4
            | Self::GrubXfs
            | Self::GrubBtrfs
            | Self::BlsLarge
            | Self::GrubEnvBlock
            | Self::GrubFallback => Some(one_linux(mib)),
        }
    }
}
