//! Entries of type 2: images in `EFI/Linux`, and the one that a PC's firmware
//! starts by itself, `EFI/BOOT/BOOTX64.EFI`. Each profile is an entry: `FILE`
//! for the first, `FILE@ID` or `FILE@N` for the others, as systemd-boot calls
//! them.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    image,
    order::Candidate,
    osrel, type1,
    uki::{self, Image, UkiError},
};
use crate::{
    entry::{Entry, EntryProblem, Place, Source, shown},
    volumes::Volumes,
};

/// The entries of an image. `base` is the folder that `loader` is in.
#[must_use]
pub fn entries(volumes: &Volumes<'_>, base: &str, place: &Place) -> Vec<Candidate> {
    let name = place.path.rsplit('/').next().unwrap_or_default();
    let head =
        || -> Result<Image, UkiError> { Image::read(&mut *volumes.fs(place)?.open(&place.path)?) };
    let (profiles, image) = match head() {
        Ok(image) => (image.profiles(), Ok(image)),
        Err(error) => (1, Err(error)),
    };
    let mut found = Vec::new();
    for profile in 0..profiles {
        let described = match &image {
            Ok(image) => describe(volumes, place, image, profile),
            Err(error) => Err(error.clone()),
        };
        found.push(candidate(volumes, base, place, name, profile, described));
    }
    found
}

/// What is said of a profile.
#[derive(Default)]
struct Described {
    names: osrel::Names,
    profile: osrel::Profile,
    has_osrel: bool,
}

fn describe(
    volumes: &Volumes<'_>,
    place: &Place,
    image: &Image,
    profile: usize,
) -> Result<Described, UkiError> {
    let found = image.uki(profile)?;
    let mut file = volumes.fs(place)?.open(&place.path)?;
    let mut text = |name, at: Option<uki::Section>| match at {
        Some(at) => uki::text(&mut *file, name, at).map(Some),
        None => Ok(None),
    };
    let own = text(".profile", found.profile)?.unwrap_or_default();
    let osrel = text(".osrel", found.osrel)?;
    Ok(Described {
        profile: osrel::profile(&own),
        has_osrel: osrel.is_some(),
        names: osrel::names(&osrel.unwrap_or_default()),
    })
}

fn candidate(
    volumes: &Volumes<'_>,
    base: &str,
    place: &Place,
    name: &str,
    profile: usize,
    described: Result<Described, UkiError>,
) -> Candidate {
    let (file, tries) = type1::counting(name, ".efi");
    let source = Source {
        place: place.clone(),
        line: 0,
    };
    let own = described.as_ref().ok();
    let own = own.and_then(|found| found.profile.id.clone());
    let suffix = match (profile, own) {
        (0, _) => String::new(),
        (_, Some(id)) => format!("@{}", shown(&id)),
        (number, None) => format!("@{number}"),
    };
    let id = format!("{file}{suffix}");
    let mut entry = Entry::new(&id, &id, source.clone());
    entry.tries = tries;
    let mut is_shown = false;
    let mut notes = Vec::new();
    let kind = described.and_then(|found| {
        let title = title(&found, &file, profile);
        entry.title = shown(&title);
        entry.version = found.names.version.map(|text| shown(&text));
        entry.sort_key = found.names.sort_key.map(|text| shown(&text));
        is_shown = found.has_osrel && found.names.title.is_some();
        image::kind(volumes, base, place, profile, None, &mut notes)
    });
    entry.notes = notes;
    match kind {
        Ok(kind) => entry.kind = Some(kind),
        Err(error) => {
            is_shown = false;
            entry.problem = Some(EntryProblem {
                source,
                word: name.to_string(),
                what: format!("{error}; build the image again"),
            });
        }
    }
    Candidate {
        file,
        written: format!("{name}{suffix}"),
        profile,
        is_shown,
        entry,
    }
}

/// A profile's title, behind that of the image.
fn title(found: &Described, file: &str, profile: usize) -> String {
    let title = osrel::title(&found.names, file);
    let own = found.profile.title.clone();
    let id = found.profile.id.clone();
    match (own, id, profile) {
        (Some(own), _, _) | (None, Some(own), 1..) => format!("{title} ({own})"),
        (None, None, 1..) => format!("{title} (Profile #{})", profile.saturating_add(1)),
        (None, _, 0) => title,
    }
}

/// The image that a PC's firmware starts if it knows of no other: `None` if
/// that is no unified kernel image, as most are not. `folder` is what an EFI
/// system partition may be mounted at.
#[must_use]
pub fn fallback(volumes: &Volumes<'_>, volume: usize, folder: &str) -> Option<Place> {
    let find = |folder: &Place, wanted: &str| -> Option<Place> {
        let names = volumes.fs(folder).ok()?.read_dir(&folder.path).ok()?;
        let name = names
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(wanted))?;
        let path = format!("{}/{name}", folder.path.trim_end_matches('/'));
        Some(Place { volume, path })
    };
    let mut place = Place {
        volume,
        path: format!("{folder}/"),
    };
    for name in ["EFI", "BOOT", "BOOTX64.EFI"] {
        place = find(&place, name)?;
    }
    let is_image = volumes.is_file(&place) && uki::open(volumes, &place).is_ok();
    is_image.then_some(place)
}
