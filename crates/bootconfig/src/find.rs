//! Finding the configurations on all volumes, and making one menu of them.
//!
//! Places: those that GRUB, systemd-boot and SYSLINUX read, and their
//! distributions' installers write ([`GRUB`], [`EXTLINUX`], `loader/entries`,
//! `EFI/Linux`), at the top of a volume and in btrfs subvolumes that are root
//! file systems; of several such subvolumes the first with a configuration
//! counts. A grub.cfg on an EFI system partition is read last: most are stubs
//! that lead to one that was read already.
//!
//! Order: disks in their order; on each disk
//!
//! 1. Boot Loader Specification entries with a `loader/loader.conf`: there is
//!    a systemd-boot, which somebody has set up;
//! 2. grub.cfg. Entries that it takes in itself (`blscfg`) count as its own:
//!    it knows their variables and the default;
//! 3. Boot Loader Specification entries without settings;
//! 4. GRUB legacy's menu.lst or grub.conf;
//! 5. extlinux.conf and the like;
//! 6. `EFI/BOOT/BOOTX64.EFI`, if it is a unified kernel image: a PC's firmware
//!    starts it where nobody told it what else to start;
//! 7. `pvboot-x86_64.elf`, the boot loader that a PV guest brings itself: what
//!    it would read, Kexen has read above.
//!
//! The first configuration that has an entry without a problem leads: its
//! default and timeout are the menu's. Entries that boot the same as one of
//! another configuration before are left out.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    bls::{self, Base},
    entry::{Entry, EntryProblem, Kind, MAX_ENTRIES, Menu, Place, Source, Step},
    extlinux,
    grub::{self, Guest, Platform},
    volumes::Volumes,
};

/// Where grub.cfg is.
pub const GRUB: [&str; 6] = [
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/grub/grub.cfg",
    "/grub2/grub.cfg",
    "/flatcar/grub/grub.cfg",
    "/coreos/grub/grub.cfg",
];
/// Where GRUB legacy's configuration is; the first counts.
pub const GRUB_LEGACY: [&str; 4] = [
    "/boot/grub/menu.lst",
    "/boot/grub/grub.conf",
    "/grub/menu.lst",
    "/grub/grub.conf",
];
/// Where the configurations of SYSLINUX are.
pub const EXTLINUX: [&str; 10] = [
    "/boot/extlinux/extlinux.conf",
    "/boot/extlinux.conf",
    "/extlinux/extlinux.conf",
    "/extlinux.conf",
    "/boot/syslinux/syslinux.cfg",
    "/syslinux/syslinux.cfg",
    "/syslinux.cfg",
    "/boot/isolinux/isolinux.cfg",
    "/isolinux/isolinux.cfg",
    "/isolinux.cfg",
];
/// Where a PV guest's own boot loader is (docs/misc/x86-xenpv-bootloader of
/// Xen).
pub const CHAIN: [&str; 2] = ["/boot/xen/pvboot-x86_64.elf", "/xen/pvboot-x86_64.elf"];
/// Folders that `loader` and `EFI/Linux` are in.
const BLS: [&str; 4] = ["", "/boot", "/efi", "/boot/efi"];
/// Folders in `EFI` that are looked at, at most.
const MAX_VENDORS: usize = 32;
/// Configurations that are read, at most.
const MAX_CONFIGS: usize = 64;

/// Bytes of what all entries of all configurations say, at most.
const MAX_ALL_SAID: usize = 2 << 20;

/// Which kind of configuration something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigKind {
    /// Boot Loader Specification entries, with systemd-boot's settings.
    SystemdBoot,
    /// grub.cfg.
    Grub,
    /// Boot Loader Specification entries alone.
    Bls,
    /// GRUB legacy's menu.lst or grub.conf.
    GrubLegacy,
    /// extlinux.conf and the like.
    Extlinux,
    /// The image that a PC's firmware starts by itself.
    Firmware,
    /// The guest's own boot loader.
    Chain,
}

/// A configuration that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its kind.
    pub kind: ConfigKind,
    /// Where it is.
    pub place: Place,
    /// What it comes to.
    pub menu: Menu,
}

/// What is on all volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// One menu of all configurations.
    pub menu: Menu,
    /// The configurations, the one that leads first: kind, place, and how
    /// many entries it has in the menu.
    pub configs: Vec<(ConfigKind, Place, usize)>,
}

/// Finds what can be booted from these volumes.
#[must_use]
pub fn find(volumes: &Volumes<'_>, guest: impl Into<Guest>) -> Found {
    merge(volumes, configs(volumes, guest))
}

/// The configurations on these volumes, in the order in which they are found.
#[must_use]
pub fn configs(volumes: &Volumes<'_>, guest: impl Into<Guest>) -> Vec<Config> {
    let mut search = Search {
        volumes,
        guest: guest.into(),
        configs: Vec::new(),
        read: Vec::new(),
        taken: Vec::new(),
    };
    for (volume, _) in volumes.iter() {
        search.grub(volume);
    }
    for (volume, _) in volumes.iter() {
        search.stubs(volume);
    }
    search.bls();
    for (volume, _) in volumes.iter() {
        search.legacy(volume);
        search.extlinux(volume);
        search.firmware(volume);
        search.chain(volume);
    }
    search.configs
}

struct Search<'a> {
    volumes: &'a Volumes<'a>,
    guest: Guest,
    configs: Vec<Config>,
    /// The grub.cfg files that were read, be it by way of others.
    read: Vec<Place>,
    /// Folders of entries that a grub.cfg has taken in.
    taken: Vec<Place>,
}

impl Search<'_> {
    fn add(&mut self, kind: ConfigKind, place: Place, mut menu: Menu) {
        let says_something =
            !menu.entries.is_empty() || !menu.notes.is_empty() || !menu.doubts.is_empty();
        if !says_something || self.configs.len() >= MAX_CONFIGS {
            return;
        }
        let said = self.configs.iter().map(|config| config.menu.said());
        let said = said.fold(menu.said(), usize::saturating_add);
        if said > MAX_ALL_SAID {
            let text = format!("more than {MAX_ALL_SAID} bytes of entries in all: left out");
            menu = Menu::default();
            let place = place.clone();
            menu.note(Source { place, line: 0 }, text);
        }
        self.configs.push(Config { kind, place, menu });
    }

    /// Those of some files that are there, in the first root that has any.
    fn present(&self, volume: usize, paths: &[&str]) -> Vec<Place> {
        for root in self.volumes.roots(volume) {
            let places = paths.iter().map(|path| Place {
                volume,
                path: format!("{root}{path}"),
            });
            let found: Vec<Place> = places.filter(|place| self.volumes.is_file(place)).collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    fn grub(&mut self, volume: usize) {
        for place in self.present(volume, &GRUB) {
            self.read_grub(place);
        }
    }

    fn read_grub(&mut self, place: Place) {
        if self.read.contains(&place) || self.read.len() >= MAX_CONFIGS {
            return;
        }
        let grub = grub::read(self.volumes, &place, self.guest.clone());
        self.read.push(place.clone());
        // It leads to nothing new: a stub, or a copy of one.
        let last = grub.configs.last().filter(|last| **last != place);
        if let Some(last) = last {
            if self.read.contains(last) {
                return;
            }
            self.read.push(last.clone());
        }
        self.taken.extend(grub.blscfg);
        self.add(ConfigKind::Grub, place, grub.menu);
    }

    /// An older configuration is left behind when a guest goes over to GRUB 2:
    /// it comes after what is newer.
    fn legacy(&mut self, volume: usize) {
        let Some(place) = self.present(volume, &GRUB_LEGACY).into_iter().next() else {
            return;
        };
        // A grub.cfg has led to it.
        if self.read.contains(&place) {
            return;
        }
        let grub = grub::read_legacy(self.volumes, &place, self.guest.clone());
        self.add(ConfigKind::GrubLegacy, place, grub.menu);
    }

    fn stubs(&mut self, volume: usize) {
        for base in ["/EFI", "/boot/efi/EFI"] {
            let Some(fs) = self.volumes.get(volume).map(|volume| &volume.fs) else {
                return;
            };
            let mut names = fs.read_dir(base).unwrap_or_default();
            names.sort_unstable();
            for name in names.into_iter().take(MAX_VENDORS) {
                let path = format!("{base}/{name}/grub.cfg");
                let place = Place { volume, path };
                if self.volumes.is_file(&place) {
                    self.read_grub(place);
                }
            }
        }
    }

    /// All folders of a disk together, as systemd-boot reads its partitions.
    fn bls(&mut self) {
        let mut disks: Vec<(&str, Vec<Base>)> = Vec::new();
        for (volume, here) in self.volumes.iter() {
            let roots = self.volumes.roots(volume);
            let bases = roots.iter().flat_map(|root| {
                BLS.iter().map(move |folder| Base {
                    volume,
                    folder: format!("{root}{folder}"),
                })
            });
            let mut bases: Vec<Base> = bases.filter(|base| base.is_used(self.volumes)).collect();
            if roots.len() > 1 {
                bases.truncate(1);
            }
            match disks.last_mut() {
                Some((disk, list)) if *disk == here.disk => list.extend(bases),
                _ => disks.push((&here.disk, bases)),
            }
        }
        let disks: Vec<Vec<Base>> = disks.into_iter().map(|(_, bases)| bases).collect();
        for bases in disks {
            let settings = bases.iter().find(|base| base.has_settings(self.volumes));
            let Some(first) = settings.or(bases.first()) else {
                continue;
            };
            let kind = if settings.is_some() {
                ConfigKind::SystemdBoot
            } else {
                ConfigKind::Bls
            };
            let place = Place {
                volume: first.volume,
                path: format!("{}/loader", first.folder),
            };
            let mut menu = bls::menu(self.volumes, &bases);
            let taken = &self.taken;
            retain(&mut menu, |entry| {
                let place = &entry.source.place;
                let folder = place.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                !taken
                    .iter()
                    .any(|taken| taken.volume == place.volume && taken.path == folder)
            });
            self.add(kind, place, menu);
        }
    }

    fn extlinux(&mut self, volume: usize) {
        for place in self.present(volume, &EXTLINUX) {
            let menu = extlinux::read(self.volumes, &place);
            self.add(ConfigKind::Extlinux, place, menu);
        }
    }

    fn firmware(&mut self, volume: usize) {
        let found = BLS
            .iter()
            .find_map(|folder| bls::fallback(self.volumes, volume, folder));
        if let Some((place, menu)) = found {
            self.add(ConfigKind::Firmware, place, menu);
        }
    }

    fn chain(&mut self, volume: usize) {
        let Some(image) = self.present(volume, &CHAIN).into_iter().next() else {
            return;
        };
        let name = self.volumes.get(volume).map_or("", |volume| &volume.name);
        let title = format!("The boot loader on {name}");
        let source = Source {
            place: image.clone(),
            line: 0,
        };
        let mut entry = Entry::new("pvboot", &title, source.clone());
        entry.steps.push(Step {
            index: 0,
            id: entry.id.clone(),
            title,
        });
        if self.guest.platform == Platform::Pv {
            entry.kind = Some(Kind::Chain {
                image: image.clone(),
            });
        } else {
            entry.problem = Some(EntryProblem {
                source,
                word: image.path.clone(),
                what: "it is for PV guests; take another entry".to_string(),
            });
        }
        let menu = Menu {
            entries: alloc::vec![entry],
            default: Some(0),
            ..Menu::default()
        };
        self.add(ConfigKind::Chain, image, menu);
    }
}

/// Keeps some entries; default and fallbacks go on meaning the same.
fn retain(menu: &mut Menu, keep: impl Fn(&Entry) -> bool) {
    let kept: Vec<bool> = menu.entries.iter().map(keep).collect();
    let moved = |index: usize| {
        let before = kept.iter().take(index).filter(|kept| **kept).count();
        kept.get(index)?.then_some(before)
    };
    menu.default = menu.default.and_then(moved);
    menu.fallback = menu.fallback.iter().copied().filter_map(moved).collect();
    let mut index = 0_usize;
    menu.entries.retain(|_| {
        let keep = kept.get(index).copied().unwrap_or_default();
        index = index.saturating_add(1);
        keep
    });
    if menu.default.is_none() && !menu.entries.is_empty() {
        menu.default = Some(0);
    }
}

/// Makes one menu of configurations.
#[must_use]
pub fn merge(volumes: &Volumes<'_>, mut configs: Vec<Config>) -> Found {
    let disk = |config: &Config| {
        let disk = volumes
            .get(config.place.volume)
            .map(|volume| volume.disk.as_str());
        volumes
            .iter()
            .position(|(_, volume)| Some(volume.disk.as_str()) == disk)
    };
    configs.sort_by_key(|config| (disk(config), config.kind));
    let works = |config: &Config| config.menu.entries.iter().any(|e| e.bootable().is_ok());
    if let Some(lead) = configs.iter().position(works)
        && let Some(before) = configs.get_mut(..=lead)
    {
        before.rotate_right(1);
    }
    let mut found = Found::default();
    for (index, config) in configs.into_iter().enumerate() {
        let mut menu = config.menu;
        let before = &found.menu.entries;
        retain(&mut menu, |entry| {
            entry.kind.is_none() || before.iter().all(|other| other.kind != entry.kind)
        });
        let others = menu.doubts.iter().filter(|_| index > 0).cloned();
        for note in menu.notes.into_iter().chain(others) {
            found.menu.note(note.source, note.text);
        }
        let room = MAX_ENTRIES.saturating_sub(found.menu.entries.len());
        if menu.entries.len() > room {
            let place = config.place.clone();
            let text = format!("more than {MAX_ENTRIES} entries in all: left out");
            found.menu.note(Source { place, line: 0 }, text);
            menu.entries.truncate(room);
        }
        found
            .configs
            .push((config.kind, config.place, menu.entries.len()));
        found.menu.entries.append(&mut menu.entries);
        if index == 0 {
            found.menu.doubts = menu.doubts;
            found.menu.default = menu.default;
            found.menu.fallback = menu.fallback;
            found.menu.timeout = menu.timeout;
            found.menu.style = menu.style;
        }
    }
    found
}

/// What the menu has, in a line for each configuration.
impl core::fmt::Display for Found {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, (kind, place, entries)) in self.configs.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let kind = match kind {
                ConfigKind::SystemdBoot => "systemd-boot",
                ConfigKind::Grub => "GRUB",
                ConfigKind::Bls => "boot loader entries",
                ConfigKind::GrubLegacy => "GRUB legacy",
                ConfigKind::Extlinux => "extlinux",
                ConfigKind::Firmware => "an image for firmware",
                ConfigKind::Chain => "boot loader",
            };
            let plural: &str = if *entries == 1 { "entry" } else { "entries" };
            write!(f, "{kind}, {place}: {entries} {plural}")?;
        }
        Ok(())
    }
}

/// The place as a person reads it: `xvda1:/boot/grub/grub.cfg`.
#[must_use]
pub fn spoken(volumes: &Volumes<'_>, place: &Place) -> String {
    let name = volumes.get(place.volume).map_or("?", |volume| &volume.name);
    format!("{name}:{place}")
}

#[cfg(test)]
mod tests;
