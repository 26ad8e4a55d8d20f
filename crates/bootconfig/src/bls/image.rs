//! What an image starts with: its own sections and those of its add-ons.
//!
//! Specification: systemd-stub(7) and UAPI.5, "PE Addons". Add-ons are the
//! `*.addon.efi` in `loader/addons`, then those in the folder `IMAGE.extra.d`
//! beside the image (boot counting is no part of its name), sorted by name in
//! each. Their command lines go behind the image's; their initrds behind its
//! initrd; their microcode, the last one first, before everything. Their
//! device trees say nothing to a PC. What stub calls companions (credentials,
//! system extensions) is not read.
//!
//! An image may hold paths instead of a kernel and an initrd (Lanzaboote's
//! do): then it is an entry as one of type 1 is.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};

use kexen_disk::{
    FsError,
    fs::{File, Problem},
};

use super::{
    type1::MAX_INITRDS,
    uki::{self, Addon, Image, Section, Uki, UkiError},
};
use crate::{
    entry::{Kind, Note, Place, Source, command_line},
    module::MAX_CMDLINE,
    volumes::Volumes,
};

/// Add-ons of one image, at most.
pub const MAX_ADDONS: usize = 16;
/// Files that are looked at for that, in each folder.
const MAX_CANDIDATES: usize = 64;
/// What their files' names end with.
const ADDON: &str = ".addon.efi";

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The file.
    pub place: Place,
    /// Which section of it.
    pub name: &'static str,
    /// Where that is.
    pub at: Section,
}

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The kernel.
    pub kernel: Piece,
    /// Microcode and initrds, one behind the other.
    pub initrds: Vec<Piece>,
    /// The command line.
    pub cmdline: String,
}

/// How an image and its add-ons are opened.
pub type Open<'a> = dyn Fn(&Place) -> Result<Box<dyn File + 'a>, FsError> + 'a;

/// What an image starts with these add-ons, and with this command line if it
/// is not to be the image's own.
///
/// # Errors
/// If one of the files is not what it was when the entry was made.
pub fn parts(
    open: &Open<'_>,
    image: &Place,
    profile: usize,
    addons: &[Place],
    cmdline: Option<&str>,
) -> Result<Parts, UkiError> {
    let mut file = open(image)?;
    let found = Image::read(&mut *file)?.uki(profile)?;
    let piece = |place: &Place, name, at| Piece {
        place: place.clone(),
        name,
        at,
    };
    let mut line = match (cmdline, found.cmdline) {
        (Some(line), _) => line.to_string(),
        (None, Some(at)) => uki::text(&mut *file, ".cmdline", at)?,
        (None, None) => String::new(),
    };
    let mut initrds = Vec::new();
    initrds.extend(found.ucode.map(|at| piece(image, ".ucode", at)));
    initrds.extend(found.initrd.map(|at| piece(image, ".initrd", at)));
    for place in addons {
        let mut file = open(place)?;
        let addon = Image::read(&mut *file)?.addon()?;
        if let Some(at) = addon.cmdline {
            let more = uki::text(&mut *file, ".cmdline", at)?;
            if line.len().saturating_add(more.len()) > MAX_CMDLINE {
                let text = format!("the command line is longer than {MAX_CMDLINE} bytes");
                return Err(UkiError::TooMuch(text));
            }
            if !line.is_empty() && !more.is_empty() {
                line.push(' ');
            }
            line.push_str(&more);
        }
        if let Some(at) = addon.ucode {
            initrds.insert(0, piece(place, ".ucode", at));
        }
        initrds.extend(addon.initrd.map(|at| piece(place, ".initrd", at)));
    }
    Ok(Parts {
        kernel: piece(image, ".linux", found.linux),
        initrds,
        cmdline: command_line(&line).map_err(UkiError::TooMuch)?,
    })
}

/// What an image that is on a disk starts; add-ons are looked for. What is
/// wrong with one of those is told in `notes`: it is left out, as stub does.
///
/// # Errors
/// If it is no image, has no such profile, or leads to no files.
pub fn kind(
    volumes: &Volumes<'_>,
    base: &str,
    image: &Place,
    profile: usize,
    cmdline: Option<String>,
    notes: &mut Vec<Note>,
) -> Result<Kind, UkiError> {
    let (profile, cmdline) = match cmdline.as_deref().and_then(selector) {
        Some((selected, rest)) => (selected, Some(rest).filter(|rest| !rest.is_empty())),
        None => (profile, cmdline),
    };
    let mut file = volumes.fs(image)?.open(&image.path)?;
    let found = Image::read(&mut *file)?.uki(profile)?;
    if found.by_path {
        return by_path(volumes, base, image, &mut *file, found, cmdline);
    }
    let uname = match found.uname {
        Some(at) => Some(uki::text(&mut *file, ".uname", at)?),
        None => None,
    };
    let mut addons = Vec::new();
    for place in candidates(volumes, base, image) {
        let read = || -> Result<Option<Addon>, UkiError> {
            let mut file = volumes.fs(&place)?.open(&place.path)?;
            let addon = Image::read(&mut *file)?.addon()?;
            let (Some(at), Some(uname)) = (addon.uname, &uname) else {
                return Ok(Some(addon));
            };
            let fits = uki::text(&mut *file, ".uname", at)? == *uname;
            Ok(Some(addon).filter(|_| fits))
        };
        let why = match read() {
            Ok(Some(_)) if addons.len() == MAX_ADDONS => format!("more than {MAX_ADDONS} add-ons"),
            Ok(Some(_)) => {
                addons.push(place);
                continue;
            }
            Ok(None) => "for another kernel".to_string(),
            Err(error) => error.to_string(),
        };
        notes.push(Note {
            source: Source { place, line: 0 },
            text: format!("{why}: left out"),
        });
    }
    Ok(Kind::Uki {
        image: image.clone(),
        profile,
        addons,
        cmdline,
    })
}

/// The profile that a command line begins with, `@N`, and the rest of it.
fn selector(cmdline: &str) -> Option<(usize, String)> {
    let text = cmdline.strip_prefix('@')?;
    let (number, rest) = text.split_once(' ').unwrap_or((text, ""));
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|_| digits)?;
    Some((number, rest.trim_ascii().to_string()))
}

/// The files that may be add-ons of an image, those for all images first.
fn candidates(volumes: &Volumes<'_>, base: &str, image: &Place) -> Vec<Place> {
    let (folder, name) = image.path.rsplit_once('/').unwrap_or(("", &image.path));
    let own = format!("{folder}/{}.extra.d", without_counting(name));
    let volume = image.volume;
    let mut found = Vec::new();
    for path in [format!("{base}/loader/addons"), own] {
        let folder = Place { volume, path };
        let mut names = super::files(volumes, &folder, ADDON);
        names.sort_unstable();
        for name in names.into_iter().take(MAX_CANDIDATES) {
            let path = format!("{}/{name}", folder.path);
            let place = Place { volume, path };
            if volumes.is_file(&place) {
                found.push(place);
            }
        }
    }
    found
}

/// A name without `+LEFT-DONE`, before its end or a dot.
fn without_counting(name: &str) -> String {
    let number = |text: &str| -> Option<usize> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        (digits > 0).then_some(digits)
    };
    let tail = |text: &str| -> Option<usize> {
        let left = number(text)?;
        let behind = text.get(left..)?;
        let done = match behind.strip_prefix('-') {
            Some(done) => number(done)?.checked_add(1)?,
            None => 0,
        };
        let end = left.checked_add(done)?;
        let behind = text.get(end..)?;
        (behind.is_empty() || behind.starts_with('.')).then_some(end)
    };
    match name.split_once('+') {
        Some((stem, count)) => match tail(count).and_then(|end| count.get(end..)) {
            Some(behind) => format!("{stem}{behind}"),
            None => name.to_string(),
        },
        None => name.to_string(),
    }
}

/// What an image starts that holds paths: its hashes are not looked at, since
/// without keys nothing is checked, and with keys each file has a signature.
fn by_path(
    volumes: &Volumes<'_>,
    base: &str,
    image: &Place,
    file: &mut dyn File,
    found: Uki,
    cmdline: Option<String>,
) -> Result<Kind, UkiError> {
    let mut place = |name: &'static str, at: Section| -> Result<Place, UkiError> {
        let text = uki::text(file, name, at)?.replace('\\', "/");
        if text.is_empty() || text.contains(|c: char| c.is_control()) {
            return Err(UkiError::Path(name));
        }
        let paths = [text.clone(), format!("{base}/{text}")];
        let places = paths.iter().map(|path| volumes.locate(image.volume, path));
        let mut places = places.filter(|place| volumes.is_file(place));
        let missing = FsError {
            path: text.clone(),
            problem: Problem::Missing,
        };
        places.next().ok_or(UkiError::File(missing))
    };
    let kernel = place(".linux", found.linux)?;
    let initrds: Result<Vec<Place>, UkiError> = found
        .initrd
        .into_iter()
        .take(MAX_INITRDS)
        .map(|at| place(".initrd", at))
        .collect();
    let cmdline = match (cmdline, found.cmdline) {
        (Some(line), _) => line,
        (None, Some(at)) => uki::text(file, ".cmdline", at)?,
        (None, None) => String::new(),
    };
    Ok(Kind::Linux {
        kernel,
        initrds: initrds?,
        cmdline: command_line(&cmdline).map_err(UkiError::TooMuch)?,
    })
}

#[cfg(test)]
mod tests;
