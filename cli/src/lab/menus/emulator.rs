//! GRUB's own interpreter on the host: `grub-emu` of Debian's packages.
//!
//! Fetched and unpacked, not installed. It runs with the C library of its own
//! suite, which is newer than the host's may be.
//!
//! It is `grub-emu-lite`, which loads GRUB's modules from a folder: a folder
//! without the module `linux`, so that functions can stand in for the command
//! (`lab/menus/prologue.cfg`), and without those for a window. Nothing is changed in
//! what is read here but two things beside the interpreter:
//!
//! - SDL, for that window, is a library of empty functions. The real one asks for
//!   some seventy packages of a desktop.
//! - `datetime.mod` of 2.12 names no licence, and GRUB loads no such module. The
//!   section is added, as GRUB itself does since.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::host::{cache, command, tools};
use crate::lab::apt::{Apt, Suite};

/// A release of GRUB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Release {
    /// 2.12, of Debian 13.
    #[value(name = "2.12")]
    V2_12,
    /// 2.14, of what becomes Debian 14.
    #[value(name = "2.14")]
    V2_14,
}

/// What `grub-emu-lite` is linked to, and what that is linked to.
const PACKAGES: &[&str] = &[
    "grub-emu",
    "libc6",
    "libgcc-s1",
    "libdevmapper1.02.1",
    "libselinux1",
    "libpcre2-8-0",
    "libudev1",
    "libcap2",
];

/// Modules that are left out: the loader, windows, network cards, and what ends
/// the emulator.
const LEFT_OUT: &[&str] = &[
    "linux",
    "sdl",
    "gfxterm",
    "gfxterm_background",
    "gfxterm_menu",
    "gfxmenu",
    "all_video",
    "videotest",
    "videoinfo",
    "emunet",
    "http",
    "tftp",
    "halt",
    "reboot",
];

/// SDL's functions that it names.
const SDL: &[&str] = &[
    "CreateRGBSurface",
    "CreateRenderer",
    "CreateTexture",
    "CreateWindow",
    "GetError",
    "GetWindowSurface",
    "Init",
    "Quit",
    "RenderClear",
    "RenderCopy",
    "RenderPresent",
    "SetPaletteColors",
    "UpdateTexture",
];

/// Modules that are loaded before anything is read. A guest's GRUB has its own
/// beside its configuration; here there are none in that place.
pub(super) const MODULES: &[&str] = &[
    "normal",
    "configfile",
    "loadenv",
    "test",
    "true",
    "echo",
    "eval",
    "read",
    "regexp",
    "search",
    "search_fs_uuid",
    "search_fs_file",
    "search_label",
    "probe",
    "sleep",
    "date",
    "cat",
    "ls",
    "help",
    "terminal",
    "keystatus",
    "loopback",
    "font",
    "gettext",
    "password",
    "password_pbkdf2",
    "cryptodisk",
    "luks",
    "lvm",
    "mdraid1x",
    "mdraid09",
    "part_gpt",
    "part_msdos",
    "ext2",
    "fat",
    "btrfs",
    "xfs",
    "iso9660",
    "squash4",
    "gzio",
    "xzio",
    "lzopio",
    "zstd",
    "hashsum",
    "tr",
    "parttool",
    "minicmd",
];

/// Those that 2.14 has beside them.
pub(super) const MODULES_2_14: &[&str] = &["blsuki"];

impl Release {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::V2_12, Self::V2_14];

    /// Its version.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::V2_12 => "2.12",
            Self::V2_14 => "2.14",
        }
    }

    const fn suite(self) -> Suite {
        match self {
            Self::V2_12 => Suite::Trixie,
            Self::V2_14 => Suite::Forky,
        }
    }
}

/// An unpacked interpreter.
#[derive(Clone, Debug)]
pub(crate) struct Emulator {
    pub(crate) release: Release,
    dir: PathBuf,
}

impl Emulator {
    /// Fetches it, or takes what was fetched before.
    pub(crate) fn fetch(release: Release) -> Result<Self> {
        let version = release.version();
        let suite = release.suite().name();
        let recipe = format!("grub-emu 1\n{suite}\n{PACKAGES:?}\n{LEFT_OUT:?}\n{SDL:?}\n");
        let name = format!("grub-emu-{version}");
        let dir = cache::get(&name, "GRUB's own interpreter", &recipe, |dir| {
            tools::require(&[tools::EMULATOR])?;
            let root = tempfile::tempdir_in(dir)?;
            let apt = Apt::new(release.suite())?;
            let mut packages = String::new();
            for package in PACKAGES {
                packages += &(apt.unpack(package, root.path())? + "\n");
            }
            arrange(root.path(), dir)?;
            fs::write(dir.join("packages.txt"), packages)?;
            Ok(())
        })?;
        let emulator = Self { release, dir };
        let says = command::text(emulator.command().arg("--version"))?;
        anyhow::ensure!(
            says.contains(version),
            "Debian's {suite} has another GRUB than {version} by now: {}",
            says.trim()
        );
        Ok(emulator)
    }

    /// Its folder of modules, to be linked to from where a run is prepared.
    pub(super) fn modules(&self) -> PathBuf {
        self.dir.join(MODULE_FOLDER)
    }

    /// The program, without arguments.
    pub(super) fn command(&self) -> Command {
        let lib = self.dir.join("lib");
        let mut command = Command::new(lib.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&lib);
        command.arg(self.dir.join("grub-emu-lite"));
        command.env_clear().env("LC_ALL", "C");
        command
    }
}

/// Where GRUB looks for its modules below its folder.
pub(super) const MODULE_FOLDER: &str = "x86_64-emu";

/// Takes out of the packages what is needed.
fn arrange(root: &Path, dir: &Path) -> Result<()> {
    let lib = dir.join("lib");
    fs::create_dir(&lib)?;
    for entry in fs::read_dir(root.join("usr/lib/x86_64-linux-gnu"))? {
        let entry = entry?;
        let name = entry.file_name();
        // What links mean, and not the links.
        if name.to_string_lossy().contains(".so") && entry.path().is_file() {
            fs::copy(entry.path(), lib.join(name))?;
        }
    }
    window(&lib)?;
    let program = "grub-emu-lite";
    fs::copy(root.join("usr/bin").join(program), dir.join(program))
        .context("the package grub-emu has no grub-emu-lite")?;
    let modules = dir.join(MODULE_FOLDER);
    fs::create_dir(&modules)?;
    for entry in fs::read_dir(root.join("usr/lib/grub").join(MODULE_FOLDER))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let left_out = LEFT_OUT
            .iter()
            .any(|module| name == format!("{module}.mod"));
        if !left_out {
            fs::copy(entry.path(), modules.join(name))?;
        }
    }
    forget_commands(&modules)?;
    licence(&modules.join("datetime.mod"))
}

/// Takes the commands of modules that are left out from GRUB's list.
fn forget_commands(modules: &Path) -> Result<()> {
    let list = modules.join("command.lst");
    let text = fs::read_to_string(&list)?;
    let kept = text.lines().filter(|line| {
        let module = line.rsplit(": ").next().unwrap_or_default();
        !LEFT_OUT.contains(&module)
    });
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    Ok(fs::write(list, kept)?)
}

/// A library with SDL's name whose functions do nothing: none is called, since
/// the module that calls them is left out.
fn window(lib: &Path) -> Result<()> {
    let mut text = String::from(
        "#![no_std]\n#[panic_handler]\n\
         fn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }\n",
    );
    for name in SDL {
        text += &format!("#[no_mangle]\npub extern \"C\" fn SDL_{name}() {{}}\n");
    }
    let source = tempfile::Builder::new().suffix(".rs").tempfile()?;
    fs::write(source.path(), text)?;
    let mut rustc = Command::new("rustc");
    rustc.args([
        "--crate-name",
        "sdl",
        "--crate-type",
        "cdylib",
        "-A",
        "warnings",
    ]);
    rustc.args(["--edition", "2021", "-C", "panic=abort"]);
    rustc.args(["-C", "link-args=-nostdlib -nostartfiles", "-o"]);
    command::run(rustc.arg(lib.join("libSDL2-2.0.so.0")).arg(source.path()))?;
    Ok(())
}

/// Adds the licence to a module that does not name it.
fn licence(module: &Path) -> Result<()> {
    const SECTION: &str = ".module_license";
    let headers = command::text(Command::new("objdump").arg("-h").arg(module))?;
    if headers.contains(SECTION) {
        return Ok(());
    }
    let text = tempfile::NamedTempFile::new()?;
    fs::write(text.path(), b"LICENSE=GPLv3+\0")?;
    let mut objcopy = Command::new("objcopy");
    objcopy.arg("--add-section");
    objcopy.arg(format!("{SECTION}={}", text.path().display()));
    command::run(objcopy.arg(module))?;
    Ok(())
}
