//! The table of EFI system partitions: as distributions with systemd-boot leave
//! them, and each rule of the Boot Loader Specification by itself, in words and
//! values of our own.

use super::image::File;
use super::pe;

/// One partition.
#[derive(Clone, Debug)]
pub(crate) struct Esp {
    pub(crate) name: &'static str,
    pub(crate) files: Vec<File>,
}

impl Esp {
    fn new(name: &'static str) -> Self {
        let files = Vec::new();
        Self { name, files }
    }

    fn file(mut self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.files.push(File::new(path, bytes.as_ref()));
        self
    }

    /// Files of which only their being there matters.
    fn files(self, paths: &[&str]) -> Self {
        paths.iter().fold(self, |esp, path| esp.file(path, "x"))
    }

    fn entry(self, name: &str, lines: &str) -> Self {
        self.file(&format!("loader/entries/{name}.conf"), format!("{lines}\n"))
    }

    fn settings(self, lines: &str) -> Self {
        self.file("loader/loader.conf", format!("{lines}\n"))
    }
}

const MACHINE: &str = "7c1d0a5be2f94c0fb1f7c7a0d51e2a3b";
const OTHER: &str = "0f3e9b8d417c4d5ea2a69f6b8c7d6e5f";

fn uki(id: &str, version: &str, cmdline: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let osrel = format!("ID={id}\nPRETTY_NAME=\"{id} {version}\"\nVERSION_ID={version}\n");
    let mut sections = vec![
        (".osrel", osrel.as_bytes()),
        (".cmdline", cmdline.as_bytes()),
        (".uname", b"6.12.1"),
        (".initrd", b"initrd"),
        (".linux", b"kernel"),
    ];
    sections.extend(more);
    pe::image(&sections)
}

fn addon(cmdline: &str) -> Vec<u8> {
    pe::image(&[(".cmdline", cmdline.as_bytes())])
}

/// All of them.
pub(crate) fn all() -> Vec<Esp> {
    vec![
        fedora(),
        debian(),
        arch(),
        nixos(),
        lanzaboote(),
        arch_uki(),
        profiles(),
        addons(),
        counting(),
        sort_keys(),
        versions(),
        machines(),
        lines(),
        unusable(),
        many("many", "timeout 3"),
        many("many-default", "default many-6.1.7.conf"),
        default("default-glob", "default arch-*"),
        default("default-name", "default arch-lts.conf"),
        default("default-case", "default ARCH.conf"),
        default("default-set", "default [b-z]*"),
        default("default-none", "default nothing*"),
        default("default-two", "default arch.conf\ndefault arch-lts.conf"),
    ]
}

/// kernel-install with a machine's id for the token, and the rescue kernel.
fn fedora() -> Esp {
    let kernel = |esp: Esp, version: &str| {
        let folder = format!("{MACHINE}/{version}");
        let lines = format!(
            "# by kernel-install\ntitle Fedora Linux 43\nversion {version}\n\
             machine-id {MACHINE}\nsort-key fedora\noptions root=UUID=1b2c ro  quiet\n\
             linux /{folder}/linux\ninitrd /{folder}/initrd"
        );
        esp.entry(&format!("{MACHINE}-{version}"), &lines)
            .files(&[&format!("{folder}/linux"), &format!("{folder}/initrd")])
    };
    let esp = Esp::new("fedora").settings("#timeout 3\n#console-mode keep");
    [
        "6.9.12-200.fc40.x86_64",
        "6.17.10-300.fc43.x86_64",
        "6.17.9-300.fc43.x86_64",
        "0-rescue",
    ]
    .into_iter()
    .fold(esp, kernel)
}

/// Two systems, one of which counts.
fn debian() -> Esp {
    Esp::new("debian")
        .settings("timeout 3\ndefault debian-*")
        .entry(
            "debian-6.12.57+deb13-amd64",
            "title Debian GNU/Linux 13\nsort-key debian\nversion 6.12.57+deb13-amd64\n\
             options root=/dev/xvda2\nlinux /debian/a/linux\ninitrd /debian/a/initrd",
        )
        .entry(
            "debian-6.12.63+deb13-amd64+3",
            "title Debian GNU/Linux 13\nsort-key debian\nversion 6.12.63+deb13-amd64\n\
             options root=/dev/xvda2\nlinux /debian/b/linux\ninitrd /debian/b/initrd",
        )
        .files(&[
            "debian/a/linux",
            "debian/a/initrd",
            "debian/b/linux",
            "debian/b/initrd",
        ])
}

const ARCH: [&str; 4] = [
    "vmlinuz-linux",
    "vmlinuz-linux-lts",
    "initramfs-linux.img",
    "intel-ucode.img",
];

fn arch() -> Esp {
    Esp::new("arch")
        .settings("default  arch.conf\ntimeout  4\nconsole-mode max\neditor   no")
        .entry(
            "arch",
            "title   Arch Linux\nlinux   /vmlinuz-linux\ninitrd  /intel-ucode.img\n\
             initrd  /initramfs-linux.img\noptions root=PARTUUID=1 rw",
        )
        .entry(
            "arch-lts",
            "title   Arch Linux\nlinux   vmlinuz-linux-lts\noptions root=PARTUUID=1\noptions rw",
        )
        .files(&ARCH)
}

/// The collector has taken the newest generation's kernel.
fn nixos() -> Esp {
    let generation = |esp: Esp, number: u32| {
        esp.entry(
            &format!("nixos-generation-{number}"),
            &format!(
                "title NixOS\nsort-key nixos\nversion Generation {number} NixOS 25.11, Linux \
                 Kernel 6.12.{number}, Built on 2026-01-{number}\nlinux /EFI/nixos/k{number}.efi\n\
                 initrd /EFI/nixos/i.efi\noptions init=/nix/store/{number}/init\n\
                 machine-id {MACHINE}"
            ),
        )
    };
    let esp = [9, 10, 11].into_iter().fold(Esp::new("nixos"), generation);
    esp.settings("timeout 5\ndefault nixos-generation-10.conf\nconsole-mode keep")
        .files(&["EFI/nixos/k9.efi", "EFI/nixos/k10.efi", "EFI/nixos/i.efi"])
}

/// Images that hold paths.
fn lanzaboote() -> Esp {
    let image = |number: &str| {
        let kernel = format!("\\EFI\\nixos\\kernel-{number}.efi");
        let osrel = format!(
            "ID=lanza\nPRETTY_NAME=NixOS 25.11 (Generation {number}, 2026-01-01)\n\
             VERSION_ID=Generation {number}, 2026-01-01\n"
        );
        pe::image(&[
            (".osrel", osrel.as_bytes()),
            (".cmdline", b"init=/nix/store/x/init"),
            (".linux", kernel.as_bytes()),
            (".linuxh", &[1; 32]),
            (".initrd", b"\\EFI\\nixos\\initrd-1.efi"),
            (".initrdh", &[2; 32]),
        ])
    };
    Esp::new("lanzaboote")
        .file("EFI/Linux/nixos-generation-1-abc.efi", image("1"))
        .file("EFI/Linux/nixos-generation-2-def.efi", image("2"))
        .files(&[
            "EFI/nixos/kernel-1.efi",
            "EFI/nixos/kernel-2.efi",
            "EFI/nixos/initrd-1.efi",
        ])
}

/// Images by mkinitcpio, and an entry that parameterizes one.
fn arch_uki() -> Esp {
    Esp::new("arch-uki")
        .settings("default arch-linux.efi\ntimeout 2")
        .file(
            "EFI/Linux/arch-linux.efi",
            uki("arch", "1", "rw quiet", &[]),
        )
        .file(
            "EFI/Linux/arch-linux-lts.efi",
            uki("arch", "1", "rw  ", &[]),
        )
        .entry(
            "mine",
            "title Mine\nuki /EFI/Linux/arch-linux.efi\noptions single",
        )
}

fn profiles() -> Esp {
    let more: &[(&str, &[u8])] = &[
        (".profile", b"ID=main\nTITLE=Everyday\n"),
        (".profile", b"ID=reset\n"),
        (".cmdline", b"reset"),
        (".profile", b"TITLE=\"Rescue me\"\n"),
        (".cmdline", b"rescue"),
    ];
    Esp::new("profiles")
        .file("EFI/Linux/os_2.efi", uki("os", "2", "base", more))
        .file("EFI/Linux/os_1+3-1.efi", uki("os", "1", "base", more))
}

fn addons() -> Esp {
    Esp::new("addons")
        .file("EFI/Linux/a.efi", uki("os", "2", "a", &[]))
        .file("EFI/Linux/b.efi", uki("os", "1", "b", &[]))
        .file("loader/addons/all.addon.efi", addon("all"))
        .file("EFI/Linux/a.efi.extra.d/own.addon.efi", addon("own"))
        .file("EFI/Linux/a.efi.extra.d/none.efi", addon("no add-on"))
        .entry("mine", "title Mine\nuki /EFI/Linux/b.efi\noptions mine")
}

/// Good, bad, and still tried ones.
fn counting() -> Esp {
    let esp = Esp::new("counting").files(&["k"]);
    [
        "os-5+0-3", "os-4+1-2", "os-3+3", "os-2", "os-1+0", "os-0+x", "os-9+2-1",
    ]
    .into_iter()
    .fold(esp, |esp, name| {
        esp.entry(name, &format!("title {name}\nlinux /k"))
    })
}

fn sort_keys() -> Esp {
    let esp = Esp::new("sort-keys").files(&["k"]);
    [
        ("a-10", "version 10"),
        ("a-9", "version 9"),
        ("b", "title B"),
        ("c", "sort-key xx\nversion 5\nmachine-id 3"),
        ("cx", "sort-key xx\nversion 10\nmachine-id 3"),
        ("cy", "sort-key xx\nversion 1\nmachine-id 2"),
        ("d", "sort-key kk\nversion 100"),
        ("e+0-3", "sort-key a\nversion 1"),
        ("f", "sort-key xx"),
    ]
    .into_iter()
    .fold(esp, |esp, (name, lines)| {
        esp.entry(name, &format!("{lines}\nlinux /k"))
    })
}

/// By the Version Format Specification.
fn versions() -> Esp {
    let esp = Esp::new("versions").files(&["k"]);
    [
        "6.1", "6.1.1", "6.1-1", "6.1~rc2", "6.1~rc10", "6.10", "6.9", "6.1^1", "6.1a", "007",
        "6.1_x", "6.1-1-1",
    ]
    .into_iter()
    .enumerate()
    .fold(esp, |esp, (number, version)| {
        let lines = format!("title {version}\nsort-key os\nversion {version}\nlinux /k");
        esp.entry(&format!("e{number:02}"), &lines)
    })
}

/// Titles that are the same.
fn machines() -> Esp {
    let esp = Esp::new("machines").files(&["k"]);
    [
        ("a", "1", MACHINE),
        ("b", "1", OTHER),
        ("c", "2", OTHER),
        ("d", "1", OTHER),
    ]
    .into_iter()
    .fold(esp, |esp, (name, version, machine)| {
        let lines = format!("title OS\nversion {version}\nmachine-id {machine}\nlinux /k");
        esp.entry(name, &lines)
    })
}

/// Lines in each shape.
fn lines() -> Esp {
    Esp::new("lines")
        .entry(
            "a",
            "  # comment\n\n\ttitle\tTabs and  blanks  \nlinux\t/k\noptions\ta\t b\noptions c\n\
             nonsense yes\ntitle",
        )
        .entry(
            "b",
            "title one\r\ntitle two\r\nlinux //folder/./k\r\noptions $x ${y} \"q q\"",
        )
        .entry(
            "c",
            "title no kernel's folder\nlinux folder/k\narchitecture X64",
        )
        .file("loader/entries/d.CONF", "title Capitals\nlinux /k\n")
        .files(&["k", "folder/k", "loader/entries/readme.txt"])
}

/// What systemd-boot does not show.
fn unusable() -> Esp {
    Esp::new("unusable")
        .entry("gone", "title Gone\nversion 9\nlinux /gone")
        .entry("nothing", "title Nothing\nversion 9\noptions x")
        .entry("arm", "title ARM\nversion 9\nlinux /k\narchitecture aa64")
        .entry("good", "title Good\nversion 1\nlinux /k")
        .file("EFI/Linux/text.efi", "no image")
        .file("EFI/Linux/tool.efi", pe::image(&[(".text", b"x")]))
        .files(&["k"])
}

/// 300 entries.
fn many(name: &'static str, settings: &str) -> Esp {
    let esp = Esp::new(name).settings(settings).files(&["k"]);
    (1..=300).fold(esp, |esp, number| {
        let lines = format!("title Many {number}\nversion 6.1.{number}\nlinux /k");
        esp.entry(&format!("many-6.1.{number}"), &lines)
    })
}

fn default(name: &'static str, settings: &str) -> Esp {
    let mut esp = Esp::new(name).settings(settings);
    esp = esp.entry("bsd", "title BSD\nlinux /vmlinuz-linux");
    esp.files.extend(
        arch()
            .files
            .into_iter()
            .filter(|file| file.path != "loader/loader.conf"),
    );
    esp
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let all = all();
        let names: BTreeSet<&str> = all.iter().map(|esp| esp.name).collect();
        assert_eq!(names.len(), all.len());
    }
}
