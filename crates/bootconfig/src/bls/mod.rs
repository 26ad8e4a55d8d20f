//! Boot Loader Specification (UAPI.1): drop-in entries, one file each.
//!
//! Steps: the files in `loader/entries` are read ([`type1`]), then the images
//! in `EFI/Linux` ([`uki`]); all are sorted as the specification says; the
//! default is the first that `loader/loader.conf` ([`loader_conf`]) asks for,
//! or the first that is not bad. Boot counting is read, and bad entries come
//! last; tries are not counted down, since disks are only read.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::cmp::Ordering;

pub mod loader_conf;
pub mod type1;
pub mod uki;
pub mod version;

use loader_conf::LoaderConf;
use type1::{Type1, Variables};

use crate::{
    entry::{
        Entry, EntryProblem, Kind, MAX_ENTRIES, MAX_FILE, MAX_FILES_BYTES, Menu, Place, Source,
        shown,
    },
    grub::envblock,
    volumes::Volumes,
};

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

/// Names of files in a folder with this ending, sorted.
fn files(volumes: &Volumes<'_>, folder: &Place, ending: &str) -> Vec<String> {
    let names = volumes.fs(folder).and_then(|fs| fs.read_dir(&folder.path));
    let mut names = names.unwrap_or_default();
    names.retain(|name| {
        let start = name.len().saturating_sub(ending.len());
        name.get(start..)
            .is_some_and(|end| end.eq_ignore_ascii_case(ending) && start > 0)
            && !name.starts_with('.')
    });
    names.sort_unstable();
    names
}

/// How long a text is, as files are.
pub(crate) fn bytes(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// The type 1 files in a folder, in no particular order; what cannot be read
/// or is for another machine is noted. So many bytes may still be read.
pub fn read_entries(
    volumes: &Volumes<'_>,
    folder: &Place,
    left: &mut u64,
    menu: &mut Menu,
) -> Vec<Type1> {
    let mut found: Vec<Type1> = Vec::new();
    for name in files(volumes, folder, ".conf") {
        let place = Place {
            volume: folder.volume,
            path: format!("{}/{name}", folder.path.trim_end_matches('/')),
        };
        let source = Source {
            place: place.clone(),
            line: 0,
        };
        if found.len() == MAX_ENTRIES {
            menu.note(source, format!("more than {MAX_ENTRIES} entries: left out"));
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

/// The image of a type 2 entry.
fn image(volumes: &Volumes<'_>, place: Place) -> Entry {
    let name = place
        .path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_string();
    let (id, tries) = type1::counting(&name, ".efi");
    let source = Source {
        place: place.clone(),
        line: 0,
    };
    let mut entry = Entry::new(&id, &id, source.clone());
    entry.tries = tries;
    let read = || -> Result<uki::Names, uki::UkiError> {
        let mut file = volumes.fs(&place)?.open(&place.path)?;
        let sections = uki::sections(&mut *file)?;
        let Some(osrel) = sections.osrel else {
            return Ok(uki::Names::default());
        };
        Ok(uki::names(&uki::text(&mut *file, ".osrel", osrel)?))
    };
    match read() {
        Ok(names) => {
            entry.title = shown(&uki::title(&names, &id));
            entry.version = names.version;
            entry.sort_key = names.sort_key;
            entry.kind = Some(Kind::Uki {
                image: place,
                cmdline: None,
            });
        }
        Err(error) => {
            entry.problem = Some(EntryProblem {
                source,
                word: name,
                what: format!("{error}; build the image again"),
            });
        }
    }
    entry
}

/// The specification's order: bad entries last; those with a sort key first,
/// by key, machine and version (newest first); all else by file name, newest
/// first; then those with more tries left.
#[must_use]
pub fn order(a: &Entry, b: &Entry) -> Ordering {
    let bad = |entry: &Entry| entry.tries.is_some_and(|tries| tries.left == 0);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let name = |entry: &Entry| {
        let id = entry.id.as_str();
        let stem = id.strip_suffix(".conf").or_else(|| id.strip_suffix(".efi"));
        stem.unwrap_or(id).to_string()
    };
    let left = |entry: &Entry| entry.tries.map(|tries| tries.left);
    let done = |entry: &Entry| entry.tries.map(|tries| tries.done);
    bad(a)
        .cmp(&bad(b))
        .then_with(|| b.sort_key.is_some().cmp(&a.sort_key.is_some()))
        .then_with(|| {
            if a.sort_key.is_none() {
                return Ordering::Equal;
            }
            a.sort_key
                .cmp(&b.sort_key)
                .then_with(|| a.machine_id.cmp(&b.machine_id))
                .then_with(|| version::compare(&text(&b.version), &text(&a.version)))
        })
        .then_with(|| version::compare(&name(b), &name(a)))
        .then_with(|| left(b).cmp(&left(a)))
        .then_with(|| done(a).cmp(&done(b)))
}

/// Puts an entry where it belongs among those that are in order.
fn sort_in(menu: &mut Menu, entry: Entry) {
    let before = |other: &Entry| order(other, &entry).is_le();
    menu.insert(menu.entries.partition_point(before), entry);
}

/// The menu of all entries below these folders.
#[must_use]
pub fn menu(volumes: &Volumes<'_>, bases: &[Base]) -> Menu {
    let mut menu = Menu::default();
    let mut conf = LoaderConf::default();
    let mut left = MAX_FILES_BYTES;
    for base in bases {
        let settings = base.place("/loader/loader.conf");
        if conf == LoaderConf::default()
            && let Ok(text) = volumes.text(&settings, MAX_FILE)
        {
            conf = LoaderConf::parse(&settings, &text, &mut menu);
        }
        let variables = Environment(environment(volumes, base));
        let folder = base.place("/loader/entries");
        for file in read_entries(volumes, &folder, &mut left, &mut menu) {
            let entry = file.entry(volumes, &base.folder, &variables);
            sort_in(&mut menu, entry);
        }
        let folder = base.place("/EFI/Linux");
        for name in files(volumes, &folder, ".efi")
            .into_iter()
            .take(MAX_ENTRIES)
        {
            let path = format!("{}/{name}", folder.path);
            let volume = base.volume;
            sort_in(&mut menu, image(volumes, Place { volume, path }));
        }
    }
    let mut entries = core::mem::take(&mut menu.entries);
    tell_apart(&mut entries);
    for (index, entry) in entries.iter_mut().enumerate() {
        entry.steps.push(crate::entry::Step {
            index,
            id: entry.id.clone(),
            title: entry.title.clone(),
        });
    }
    let asked = conf.default.as_ref().and_then(|pattern| {
        entries
            .iter()
            .position(|entry| version::matches(pattern, &entry.id))
    });
    if let (Some(pattern), None) = (&conf.default, asked) {
        let base = bases.iter().find(|base| base.has_settings(volumes));
        if let Some(base) = base {
            let place = base.place("/loader/loader.conf");
            menu.note(
                Source { place, line: 0 },
                format!("default {pattern:?} matches no entry; the first one is taken"),
            );
        }
    }
    menu.default = asked.or_else(|| (!entries.is_empty()).then_some(0));
    menu.timeout = conf.timeout;
    menu.style = conf.style;
    menu.entries = entries;
    menu
}

/// What grubenv says, where Fedora has it.
fn environment(volumes: &Volumes<'_>, base: &Base) -> BTreeMap<String, String> {
    ["/grub2/grubenv", "/grub/grubenv"]
        .iter()
        .find_map(|path| volumes.text(&base.place(path), envblock::MAX_BYTES).ok())
        .map(|text| envblock::parse(&text).into_iter().collect())
        .unwrap_or_default()
}

/// Adds versions, and if need be ids, to titles that several entries have.
fn tell_apart(entries: &mut [Entry]) {
    for by_id in [false, true] {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for entry in entries.iter() {
            let times = count.entry(entry.title.clone()).or_default();
            *times = times.saturating_add(1);
        }
        for entry in entries.iter_mut() {
            let several = count.get(&entry.title).is_some_and(|times| *times > 1);
            let more = if by_id {
                Some(&entry.id)
            } else {
                entry.version.as_ref()
            };
            if let Some(more) = more.filter(|_| several) {
                entry.title = shown(&format!("{} ({more})", entry.title));
            }
        }
    }
}

#[cfg(test)]
mod tests;
