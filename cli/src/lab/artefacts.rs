//! What the lab is made of, fetched or built once: Xen and Debian's kernels.
//! dom0's image and the test userspace have their own files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::apt::{Apt, Suite};
use super::cpio::Archive;
use super::modules;
use crate::host::{cache, command};

/// A version of Xen that the lab can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(crate) enum Xen {
    /// Xen 4.17, of Debian 12.
    #[value(name = "4.17")]
    V4_17,
    /// Xen 4.20, of Debian 13.
    #[value(name = "4.20")]
    V4_20,
}

impl Xen {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::V4_17, Self::V4_20];

    /// The version as Debian's package names have it.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::V4_17 => "4.17",
            Self::V4_20 => "4.20",
        }
    }

    /// The Debian suite that has it.
    pub(crate) const fn suite(self) -> Suite {
        match self {
            Self::V4_17 => Suite::Bookworm,
            Self::V4_20 => Suite::Trixie,
        }
    }

    /// The hypervisor, unpacked, as QEMU's multiboot loader wants it.
    pub(crate) fn hypervisor(self) -> Result<PathBuf> {
        let version = self.version();
        let package = format!("xen-hypervisor-{version}-amd64");
        let recipe = format!("xen 1\n{package}\n{}", self.suite().name());
        let dir = cache::get(
            &format!("xen-{version}"),
            "the hypervisor",
            &recipe,
            |dir| {
                let root = tempfile::tempdir_in(dir)?;
                let file = Apt::new(self.suite())?.unpack(&package, root.path())?;
                let packed = root.path().join(format!("boot/xen-{version}-amd64.gz"));
                let bytes = command::run(Command::new("gzip").arg("-dc").arg(&packed))?;
                fs::write(dir.join("xen"), bytes)?;
                fs::write(dir.join("packages.txt"), file + "\n")?;
                Ok(())
            },
        )?;
        Ok(dir.join("xen"))
    }

    /// The shim: a Xen that runs as a PVH guest, with one PV guest inside.
    pub(crate) fn shim(self) -> Result<PathBuf> {
        let version = self.version();
        let package = format!("xen-utils-{version}");
        let recipe = format!("shim 1\n{package}\n{}", self.suite().name());
        let name = format!("xen-shim-{version}");
        let dir = cache::get(&name, "the shim for a PV guest", &recipe, |dir| {
            let shim = format!("usr/lib/xen-{version}/boot/xen-shim");
            keep_files(dir, self.suite(), &package, &[&shim]).map(drop)
        })?;
        Ok(dir.join("xen-shim"))
    }
}

/// One of Debian's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Flavour {
    /// For clouds: LZ4 payload, no dom0 support.
    Cloud,
    /// For everything: xz payload, can be dom0.
    Generic,
}

impl Flavour {
    /// A short name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
        }
    }

    const fn meta_package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Generic => "linux-image-amd64",
        }
    }
}

/// Modules that a guest's test userspace loads.
pub(super) const GUEST_MODULES: &[&str] = &["xen-blkfront", "xen-netfront"];

/// Modules that a guest's test userspace loads for emulated devices. They are
/// in the generic kernel only.
pub(super) const EMULATED_MODULES: &[&str] = &[
    "sd_mod",
    "ata_piix",
    "ahci",
    "e1000",
    "e1000e",
    "8139cp",
    "af_packet",
];

/// Modules that dom0 loads.
const DOM0_MODULES: &[&str] = &[
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-privcmd",
    "xenfs",
    "xen-blkback",
    "xen-netback",
    "loop",
    "virtio_pci",
    "9pnet_virtio",
    "9p",
];

/// A Debian kernel with the modules that the lab uses.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// The bzImage.
    pub(crate) image: PathBuf,
    /// What `uname -r` says in it.
    pub(crate) release: String,
    dir: PathBuf,
}

impl Kernel {
    /// Debian 12's kernel of that flavour.
    pub(crate) fn debian(flavour: Flavour) -> Result<Self> {
        let wanted = [GUEST_MODULES, EMULATED_MODULES, DOM0_MODULES];
        let recipe = format!("{GUEST_MODULES:?}\n{EMULATED_MODULES:?}\n{DOM0_MODULES:?}");
        let name = format!("kernel-{}", flavour.name());
        Self::fetch(&name, Suite::Bookworm, flavour, &wanted.concat(), &recipe)
    }

    /// The same, with these modules.
    pub(crate) fn with_modules(name: &str, flavour: Flavour, wanted: &[&str]) -> Result<Self> {
        let recipe = format!("{wanted:?}");
        Self::fetch(name, Suite::Bookworm, flavour, wanted, &recipe)
    }

    /// The cloud kernel of what becomes Debian 14: its payload is zstd's.
    pub(crate) fn forky() -> Result<Self> {
        let recipe = format!("{GUEST_MODULES:?}");
        let (suite, flavour) = (Suite::Forky, Flavour::Cloud);
        Self::fetch("kernel-forky", suite, flavour, GUEST_MODULES, &recipe)
    }

    fn fetch(
        name: &str,
        suite: Suite,
        flavour: Flavour,
        wanted: &[&str],
        recipe: &str,
    ) -> Result<Self> {
        let meta = flavour.meta_package();
        let recipe = format!("kernel 1\n{meta}\n{}\n{recipe}\n", suite.name());
        let dir = cache::get(name, "Debian's kernel", &recipe, |dir| {
            let apt = Apt::new(suite)?;
            let package = apt.kernel_behind(meta)?;
            let release = package.trim_start_matches("linux-image-").to_owned();
            let root = tempfile::tempdir_in(dir)?;
            let below = |path: &str| root.path().join(format!("{path}{release}"));
            // What is one package in Debian 12 is two in what becomes 14.
            let is_parted = suite == Suite::Forky;
            let (packages, image, modules) = if is_parted {
                let parts = ["binary", "modules"].map(|part| format!("linux-{part}-{release}"));
                let modules = below("usr/lib/modules/");
                (parts.to_vec(), modules.join("vmlinuz"), modules)
            } else {
                (vec![package], below("boot/vmlinuz-"), below("lib/modules/"))
            };
            let mut files = String::new();
            for package in &packages {
                files += &(apt.unpack(package, root.path())? + "\n");
            }
            fs::copy(image, dir.join("vmlinuz"))?;
            // There, modules are packed, too.
            command::run(
                Command::new("find")
                    .arg(&modules)
                    .args(["-name", "*.ko.xz", "-exec", "xz", "-d", "{}", "+"]),
            )?;
            keep_modules(&modules, wanted, dir)?;
            fs::write(dir.join("release"), release)?;
            fs::write(dir.join("packages.txt"), files)?;
            Ok(())
        })?;
        Self::in_folder(dir)
    }

    fn in_folder(dir: PathBuf) -> Result<Self> {
        Ok(Self {
            image: dir.join("vmlinuz"),
            release: fs::read_to_string(dir.join("release"))?,
            dir,
        })
    }

    /// Text that changes when the kernel does, for recipes that include it.
    pub(crate) fn identity(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join("manifest.txt"))?)
    }

    pub(super) fn add_modules<W: std::io::Write>(
        &self,
        archive: &mut Archive<W>,
        folder: &str,
        wanted: &[&str],
    ) -> Result<()> {
        let mut order = String::new();
        archive.directory(folder)?;
        for module in modules::closure(&self.dir.join("modules"), wanted)? {
            let name = module
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            archive.file(&format!("{folder}/{name}"), 0o644, &fs::read(&module)?)?;
            order.push_str(&name);
            order.push('\n');
        }
        archive.file(&format!("{folder}/order"), 0o644, order.as_bytes())?;
        Ok(())
    }

    /// Adds dom0's modules to its image, under `lib/kexen`.
    pub(crate) fn add_dom0_modules<W: std::io::Write>(
        &self,
        archive: &mut Archive<W>,
    ) -> Result<()> {
        self.add_modules(archive, "lib/kexen", DOM0_MODULES)
    }
}

/// Copies files of a package into a folder, and adds the package to the list that
/// is there: its own file's name.
fn keep_files(dir: &Path, suite: Suite, package: &str, paths: &[&str]) -> Result<String> {
    let root = tempfile::tempdir_in(dir)?;
    let file = Apt::new(suite)?.unpack(package, root.path())?;
    for path in paths {
        let name = Path::new(path).file_name();
        let name = name.context("a file without a name")?;
        fs::copy(root.path().join(path), dir.join(name))?;
    }
    let list = dir.join("packages.txt");
    let before = fs::read_to_string(&list).unwrap_or_default();
    fs::write(list, before + &file + "\n")?;
    Ok(file)
}

/// Copies modules, and what they need, into the folder `modules`.
fn keep_modules(all: &Path, wanted: &[&str], dir: &Path) -> Result<()> {
    fs::create_dir(dir.join("modules"))?;
    for module in modules::closure(all, wanted)? {
        let name = module.file_name().context("a module without a name")?;
        fs::copy(&module, dir.join("modules").join(name))?;
    }
    Ok(())
}

/// Bytes that do not compress and are the same each time (xorshift).
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Makes sure that a file that the user named is there.
pub(crate) fn given(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("cannot read {}", path.display()))
}

/// GRUB's images for Xen guests, and what runs its code on the host.
#[derive(Clone, Debug)]
pub(crate) struct Grub {
    /// For PV guests.
    pub(crate) pv: PathBuf,
    /// For PVH guests.
    pub(crate) pvh: PathBuf,
    /// `grub-fstest`, which reads files out of images.
    pub(crate) fstest: PathBuf,
}

impl Grub {
    /// Debian 12's: 2.06.
    pub(crate) fn debian() -> Result<Self> {
        const FILES: [(&str, &str); 3] = [
            ("grub-xen-host", "usr/lib/grub-xen/grub-x86_64-xen.bin"),
            ("grub-xen-host", "usr/lib/grub-xen/grub-i386-xen_pvh.bin"),
            ("grub-common", "usr/bin/grub-fstest"),
        ];
        let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let recipe = format!("grub 2\nbookworm\n{FILES:?}\n");
        let dir = cache::get("grub", "GRUB's images for Xen guests", &recipe, |dir| {
            for (package, path) in FILES {
                keep_files(dir, Suite::Bookworm, package, &[path])?;
            }
            Ok(())
        })?;
        let [pv, pvh, fstest] = FILES.map(|(_, path)| dir.join(name(path)));
        Ok(Self { pv, pvh, fstest })
    }
}

/// A release of GRUB's images for Xen guests.
#[derive(Clone, Debug)]
pub(crate) struct GrubImages {
    /// `GRUB 2.14`.
    pub(crate) name: &'static str,
    /// For PV guests.
    pub(crate) pv: PathBuf,
    /// For PVH guests.
    pub(crate) pvh: PathBuf,
}

impl GrubImages {
    /// Those of Debian 13, and of what becomes Debian 14.
    pub(crate) fn all() -> Result<Vec<Self>> {
        Ok(vec![
            Self::of("GRUB 2.12", Suite::Trixie)?,
            Self::of("GRUB 2.14", Suite::Forky)?,
        ])
    }

    fn of(name: &'static str, suite: Suite) -> Result<Self> {
        const PACKAGE: &str = "grub-xen-host";
        const FILES: [&str; 2] = ["grub-x86_64-xen.bin", "grub-i386-xen_pvh.bin"];
        let recipe = format!("grub-images 1\n{PACKAGE}\n{}\n{FILES:?}\n", suite.name());
        let folder = format!("grub-images-{}", suite.name());
        let dir = cache::get(&folder, "GRUB's images for Xen guests", &recipe, |dir| {
            let paths = FILES.map(|file| format!("usr/lib/grub-xen/{file}"));
            let paths = paths.each_ref().map(String::as_str);
            let file = keep_files(dir, suite, PACKAGE, &paths)?;
            let version = name.replace("GRUB ", &format!("{PACKAGE}_"));
            ensure!(
                file.starts_with(&version),
                "Debian's {} has another release than {name} by now: {file}",
                suite.name()
            );
            Ok(())
        })?;
        let [pv, pvh] = FILES.map(|file| dir.join(file));
        Ok(Self { name, pv, pvh })
    }
}

/// systemd's stub for unified kernel images, of Debian 12.
pub(crate) fn efi_stub() -> Result<PathBuf> {
    const PACKAGE: &str = "systemd-boot-efi";
    const STUB: &str = "linuxx64.efi.stub";
    let recipe = format!("stub 1\n{PACKAGE}\nbookworm\n{STUB}\n");
    let dir = cache::get("efi-stub", "systemd's EFI stub", &recipe, |dir| {
        let stub = format!("usr/lib/systemd/boot/efi/{STUB}");
        keep_files(dir, Suite::Bookworm, PACKAGE, &[&stub]).map(drop)
    })?;
    Ok(dir.join(STUB))
}
