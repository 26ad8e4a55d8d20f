//! Boot Loader Specification (UAPI.1): drop-in entries, one file each.
//!
//! Steps: the files in `loader/entries` are read ([`type1`]), then the images
//! in `EFI/Linux` ([`type2`]); all are sorted as the specification says
//! ([`order`]); the default is the first that `loader/loader.conf`
//! ([`loader_conf`]) asks for, or the first that is not bad. Boot counting is
//! read, and bad entries come last; tries are not counted down, since disks are
//! only read. What systemd-boot does not show, since its kernel is gone or no
//! key says what to start, is no entry here either: a note says so.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

pub mod image;
pub mod loader_conf;
pub mod order;
pub mod osrel;
pub mod type1;
pub mod type2;
pub mod uki;
pub mod version;

use loader_conf::LoaderConf;
use order::Candidate;
use type1::{Type1, Variables};

use crate::{
    entry::{
        MAX_ENTRIES, MAX_FILE, MAX_FILES_BYTES, Menu, MenuStyle, Place, Source, Step, Timeout,
    },
    grub::envblock,
    volumes::Volumes,
};

/// Files of type 1 that are read in a folder, at most: those with the newest
/// names.
const MAX_READ: usize = 1024;
/// Images that are read in a folder, at most.
const MAX_IMAGES: usize = 512;

/// The folders of one boot loader: where `loader` and `EFI/Linux` are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The volume.
    pub volume: usize,
    /// The folder: empty for the top of the volume, or `/boot`.
    pub folder: String,
}

impl Base {
    fn place(&self, path: &str) -> Place {
        Place {
            volume: self.volume,
            path: format!("{}{path}", self.folder),
        }
    }

    /// Whether there is anything for [`menu`] to read.
    #[must_use]
    pub fn is_used(&self, volumes: &Volumes<'_>) -> bool {
        ["/loader/entries", "/EFI/Linux"]
            .iter()
            .any(|path| volumes.kind_of(&self.place(path)).is_ok())
    }

    /// Whether systemd-boot is configured there.
    #[must_use]
    pub fn has_settings(&self, volumes: &Volumes<'_>) -> bool {
        volumes.is_file(&self.place("/loader/loader.conf"))
    }
}

/// The variables of a grubenv file, for entries that were written for
/// `blscfg` and are read without it. Others are no variables.
struct Environment(BTreeMap<String, String>);

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<String> {
        let fedoras = ["tuned_params", "tuned_initrd", "early_initrd"];
        let value = self.0.get(name).cloned();
        value.or_else(|| fedoras.contains(&name).then(String::new))
    }
}

/// Names of files in a folder with this ending.
fn files(volumes: &Volumes<'_>, folder: &Place, ending: &str) -> Vec<String> {
    let names = volumes.fs(folder).and_then(|fs| fs.read_dir(&folder.path));
    let mut names = names.unwrap_or_default();
    names.retain(|name| {
        let start = name.len().saturating_sub(ending.len());
        name.get(start..)
            .is_some_and(|end| end.eq_ignore_ascii_case(ending) && start > 0)
            && !name.starts_with('.')
    });
    names
}

/// The names that may be entries, newest first: what is beyond a limit is old.
fn newest(mut names: Vec<String>) -> Vec<String> {
    let own = |name: &String| {
        let start = name.get(..5);
        start.is_some_and(|start| start.eq_ignore_ascii_case("auto-"))
    };
    // Those are systemd-boot's own.
    names.retain(|name| !own(name));
    names.sort_unstable_by(|a, b| version::compare(b, a).then_with(|| b.cmp(a)));
    names
}

/// How long a text is, as files are.
pub(crate) fn bytes(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// The type 1 files in a folder, newest first by name; what cannot be read or is
/// for another machine is noted. So many bytes may still be read.
pub fn read_entries(
    volumes: &Volumes<'_>,
    folder: &Place,
    left: &mut u64,
    menu: &mut Menu,
) -> Vec<Type1> {
    let mut found: Vec<Type1> = Vec::new();
    for (count, name) in newest(files(volumes, folder, ".conf"))
        .into_iter()
        .enumerate()
    {
        let place = Place {
            volume: folder.volume,
            path: format!("{}/{name}", folder.path.trim_end_matches('/')),
        };
        let source = Source {
            place: place.clone(),
            line: 0,
        };
        if count == MAX_READ {
            menu.note(source, format!("more than {MAX_READ} files: left out"));
            break;
        }
        match volumes.text(&place, type1::MAX_BYTES) {
            Ok(text) => {
                // Text that was no UTF-8 may have become longer.
                let Some(rest) = left.checked_sub(bytes(&text)) else {
                    let text = format!("more than {MAX_FILES_BYTES} bytes in all: left out");
                    menu.note(source, text);
                    break;
                };
                *left = rest;
                let entry = Type1::parse(place, &text);
                if entry.fits() {
                    found.push(entry);
                } else {
                    menu.note(source, "for another architecture: left out".into());
                }
            }
            Err(error) => menu.note(source, format!("cannot be read: {}", error.problem)),
        }
    }
    found
}

/// All entries below some folders.
struct Search<'a> {
    volumes: &'a Volumes<'a>,
    found: Vec<Candidate>,
    /// Bytes that files and entries may still have.
    left: u64,
    menu: Menu,
}

impl Search<'_> {
    fn add(&mut self, one: Candidate) {
        let said = u64::try_from(one.entry.said()).unwrap_or(u64::MAX);
        match self.left.checked_sub(said) {
            Some(left) => {
                self.left = left;
                self.found.push(one);
            }
            None => {
                let text = format!("more than {MAX_FILES_BYTES} bytes in all: left out");
                self.menu.note(one.entry.source, text);
            }
        }
    }

    fn type1(&mut self, base: &Base) {
        let variables = Environment(environment(self.volumes, base));
        let folder = base.place("/loader/entries");
        let files = read_entries(self.volumes, &folder, &mut self.left, &mut self.menu);
        for file in files {
            let file = file.as_systemd_boot_reads();
            if let Some(why) = file.hidden(self.volumes, &base.folder, &variables) {
                let text = format!("{:?}: {}: no entry", why.word, why.what);
                self.menu.note(why.source, text);
                continue;
            }
            let entry = file.entry(self.volumes, &base.folder, &variables);
            let name = file.place.path.rsplit('/').next().unwrap_or_default();
            self.add(Candidate {
                file: file.id.clone(),
                written: name.to_string(),
                profile: 0,
                is_shown: true,
                entry,
            });
        }
    }

    fn type2(&mut self, base: &Base) {
        let folder = base.place("/EFI/Linux");
        let names = newest(files(self.volumes, &folder, ".efi"));
        for (count, name) in names.into_iter().enumerate() {
            let place = Place {
                volume: base.volume,
                path: format!("{}/{name}", folder.path),
            };
            if count == MAX_IMAGES {
                let text = format!("more than {MAX_IMAGES} images: left out");
                self.menu.note(Source { place, line: 0 }, text);
                break;
            }
            for one in type2::entries(self.volumes, &base.folder, &place) {
                self.add(one);
            }
        }
    }

    /// The menu of all that was found.
    fn menu(mut self, conf: &LoaderConf, settings: Option<&Base>) -> Menu {
        self.found.sort_by(order::order);
        let asked = order::asked(conf, &self.found);
        let patterns = [&conf.preferred, &conf.default];
        let patterns: Vec<&String> = patterns.into_iter().flatten().collect();
        if let (None, [pattern, ..], Some(base)) = (asked, &*patterns, settings) {
            let place = base.place("/loader/loader.conf");
            let text = format!("default {pattern:?} matches no entry; the first one is taken");
            self.menu.note(Source { place, line: 0 }, text);
        }
        let (default, gone) = order::cut(&mut self.found, asked.unwrap_or(0));
        if let (1.., Some(last)) = (gone, self.found.last()) {
            let text = format!("more than {MAX_ENTRIES} entries: {gone} left out");
            let source = last.entry.source.clone();
            self.menu.note(source, text);
        }
        order::tell_apart(&mut self.found);
        // The default first, so that it is there whatever the others say.
        let mut before = self.found;
        let mut after = before.split_off(default.min(before.len()));
        if !after.is_empty() {
            self.menu.insert(0, after.remove(0).entry);
            self.menu.default = (!self.menu.entries.is_empty()).then_some(0);
        }
        for one in before {
            let at = self.menu.default.unwrap_or(0);
            let count = self.menu.entries.len();
            self.menu.insert(at, one.entry);
            if self.menu.entries.len() > count {
                self.menu.default = self.menu.default.map(|at| at.saturating_add(1));
            }
        }
        for one in after {
            self.menu.insert(self.menu.entries.len(), one.entry);
        }
        number(&mut self.menu);
        self.menu
    }
}

/// Says of each entry where it is in a menu without submenus.
fn number(menu: &mut Menu) {
    for (index, entry) in menu.entries.iter_mut().enumerate() {
        entry.steps.push(Step {
            index,
            id: entry.id.clone(),
            title: entry.title.clone(),
        });
    }
}

/// The menu of all entries below these folders.
#[must_use]
pub fn menu(volumes: &Volumes<'_>, bases: &[Base]) -> Menu {
    let mut search = Search {
        volumes,
        found: Vec::new(),
        left: MAX_FILES_BYTES,
        menu: Menu::default(),
    };
    let mut conf = LoaderConf::default();
    for base in bases {
        let settings = base.place("/loader/loader.conf");
        if conf == LoaderConf::default()
            && let Ok(text) = volumes.text(&settings, MAX_FILE)
        {
            conf = LoaderConf::parse(&settings, &text, &mut search.menu);
        }
        search.type1(base);
        search.type2(base);
    }
    let settings = bases.iter().find(|base| base.has_settings(volumes));
    let mut menu = search.menu(&conf, settings);
    (menu.timeout, menu.style) = match (conf.timeout, settings) {
        // Without a word of it systemd-boot does not wait.
        (None, Some(_)) => (Some(Timeout::Seconds(0)), MenuStyle::Hidden),
        (timeout, _) => (timeout, conf.style),
    };
    menu
}

/// The menu of the image that a PC's firmware starts, in a folder that an EFI
/// system partition may be mounted at: an empty one, if that is no unified
/// kernel image.
#[must_use]
pub fn fallback(volumes: &Volumes<'_>, volume: usize, folder: &str) -> Option<(Place, Menu)> {
    let place = type2::fallback(volumes, volume, folder)?;
    let mut menu = Menu::default();
    let mut found = type2::entries(volumes, folder, &place);
    order::tell_apart(&mut found);
    for one in found {
        menu.add(one.entry);
    }
    menu.default = (!menu.entries.is_empty()).then_some(0);
    number(&mut menu);
    Some((place, menu))
}

/// What grubenv says, where Fedora has it.
fn environment(volumes: &Volumes<'_>, base: &Base) -> BTreeMap<String, String> {
    ["/grub2/grubenv", "/grub/grubenv"]
        .iter()
        .find_map(|path| volumes.text(&base.place(path), envblock::MAX_BYTES).ok())
        .map(|text| envblock::parse(&text).into_iter().collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
