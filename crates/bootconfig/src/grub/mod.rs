//! grub.cfg, run as GRUB runs it.
//!
//! Language and commands: GNU GRUB manual 2.06, "Writing full configuration
//! files directly"; with what Fedora (`blscfg`, counters) and openSUSE add.
//!
//! Steps: the script is parted into words (`lexer`), read to blocks of
//! commands (`parser`), run (`shell`, `commands`) with the variables that GRUB
//! sets (`env`), which leaves a list of menu entries; their bodies are run one
//! by one (`menu`). A `configfile` on the way goes on in that file.
//!
//! Bounds: 200000 steps for a configuration, 20000 for each entry, 500000 for
//! all of them, 24 blocks in one another, 256 entries, 1 MiB of variables, 8 configurations that lead to
//! one another. What is beyond is left out, and that is noted.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    entry::{Menu, Place, Source},
    volumes::{Volume, Volumes},
};

mod arguments;
mod blocks;
mod blscfg;
mod commands;
mod condition;
mod env;
pub mod envblock;
mod expand;
mod files;
mod gptprio;
mod legacy;
mod lexer;
mod loaders;
mod loops;
mod menu;
mod notes;
mod number;
mod parser;
mod regexp;
mod rpm;
mod search;
mod shell;
pub mod variables;
mod wildcard;

use env::Environment;
use shell::{ALL_ENTRIES_STEPS, Language, Shell};

/// What kind of guest this is, as scripts ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// A PV guest: `$grub_platform` is `xen`.
    Pv,
    /// A PVH guest: `xen_pvh`.
    Pvh,
    /// An HVM guest: `pc`.
    Hvm,
}

/// What a grub.cfg comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grub {
    /// Its menu.
    pub menu: Menu,
    /// The configurations that were read: the first, and those that it led
    /// to.
    pub configs: Vec<Place>,
    /// Folders that `blscfg` has read.
    pub blscfg: Vec<Place>,
    /// Steps that all of it took.
    pub steps: u32,
}

/// Steps that a configuration can take, with all its entries.
pub const MAX_STEPS: u32 = shell::MAX_STEPS.saturating_add(ALL_ENTRIES_STEPS);

/// The guest, as scripts see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its kind.
    pub platform: Platform,
    /// Variables that its own command line sets: see [`variables`].
    pub variables: Vec<(String, String)>,
}

impl From<Platform> for Guest {
    fn from(platform: Platform) -> Self {
        Self {
            platform,
            variables: Vec::new(),
        }
    }
}

/// Reads the configuration at a place.
#[must_use]
pub fn read(volumes: &Volumes<'_>, place: &Place, guest: impl Into<Guest>) -> Grub {
    read_in(Language::Script, volumes, place, &guest.into())
}

/// Reads a configuration of GRUB legacy.
#[must_use]
pub fn read_legacy(volumes: &Volumes<'_>, place: &Place, guest: impl Into<Guest>) -> Grub {
    read_in(Language::Legacy, volumes, place, &guest.into())
}

fn read_in(language: Language, volumes: &Volumes<'_>, place: &Place, guest: &Guest) -> Grub {
    let mut menu = Menu::default();
    let mut env = Environment::new(guest.platform);
    for (name, value) in &guest.variables {
        env.set(name, value);
        env.export(name);
    }
    let device = volumes.get(place.volume).map(Volume::grub_name);
    let device = device.unwrap_or_default();
    let folder = place.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    env.set("root", &device);
    env.set("prefix", &alloc::format!("({device}){folder}"));
    let mut shell = Shell::new(volumes, env, place.clone());
    if let Err(error) = volumes.fs(place).and_then(|fs| fs.metadata(&place.path)) {
        let place = place.clone();
        menu.note(Source { place, line: 0 }, error.problem.to_string());
    } else {
        // However it ends: what there is of the menu counts.
        let _ended = shell.source_file(0, place.clone(), language, &mut menu);
    }
    let mut left = ALL_ENTRIES_STEPS;
    let leads = shell.collect(&[], &mut left, &mut menu);
    shell.settings(&leads, &mut menu);
    Grub {
        menu,
        configs: shell.configs,
        blscfg: shell.blscfg,
        steps: MAX_STEPS.saturating_sub(shell.steps).saturating_sub(left),
    }
}

#[cfg(test)]
mod configs;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod language;
#[cfg(test)]
mod tests;
