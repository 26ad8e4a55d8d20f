//! Boot menus as GRUB itself makes them: its own interpreter and Kexen read the
//! same disks, and what they make of the configurations is compared.
//!
//! Order of steps: Debian's `grub-emu` of each release is fetched ([`emulator`]);
//! disks are made ([`image`]) of a table of layouts ([`layouts`]) or of scripts
//! from a seed; GRUB runs each configuration ([`session`], [`screen`]) and each
//! entry of its menu is started ([`walk`]); Kexen reads the same ([`kexen`]); what
//! differs ([`seen`]) must be in the list of what is meant to ([`known`]).
//!
//! Boot Loader Specification entries are compared with what `bootctl` lists
//! ([`bootctl`], [`esp`]).

pub(crate) mod bootctl;
mod emulator;
pub(crate) mod esp;
mod generate;
pub(crate) mod image;
pub(crate) mod kexen;
pub(crate) mod known;
pub(crate) mod layouts;
mod machine;
mod pe;
mod screen;
pub(crate) mod script;
pub(crate) mod scripts;
pub(crate) mod seen;
mod session;
mod walk;
mod words;
mod world;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub(crate) use emulator::{Emulator, Release};

use image::Disk;
use layouts::Layout;
use machine::Machine;
use screen::Size;
use seen::Seen;

/// What GRUB and Kexen make of a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Both {
    pub(crate) grub: Seen,
    pub(crate) kexen: Seen,
}

/// Makes the images of disks.
pub(crate) fn make_disks(disks: &[Disk], dir: &Path) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for (number, disk) in disks.iter().enumerate() {
        let image = dir.join(format!("disk{number}.img"));
        image::make(disk, &image, dir)?;
        images.push(image);
    }
    Ok(images)
}

/// Reads a layout both ways, in a folder of its own.
pub(crate) fn both(emulator: &Emulator, layout: &Layout) -> Result<Both> {
    let dir = tempfile::tempdir()?;
    let images = make_disks(&layout.disks, dir.path())?;
    let volumes = kexen::volumes(&images)?;
    let menu = kexen::read(&volumes, &layout.start)?;
    let kexen = kexen::seen(&volumes, &menu);
    let images = match layout.emulated() {
        Some(disks) => make_disks(&disks, dir.path())?,
        None => images,
    };
    let mut machine = Machine::start(emulator, &images, dir.path(), Size::LARGE)?;
    // What is written to the disks must not be read again.
    machine.anew = layout.says("save_env");
    let grub = walk::seen(&mut machine, &layout.start)?;
    Ok(Both { grub, kexen })
}
