//! What can be booted from a disk, and what was wrong with the rest.
//!
//! Every configuration on a disk becomes a [`Menu`] of [`Entry`]s. What a
//! configuration asks for and Kexen cannot do is a problem of the entry that
//! asks for it; the other entries stay as they are.

use alloc::{format, string::String, vec::Vec};
use core::fmt::Write as _;

use crate::module::MAX_CMDLINE;

/// Entries of one menu, at most.
pub const MAX_ENTRIES: usize = 256;
/// Notes of one menu, at most.
pub const MAX_NOTES: usize = 64;
/// Doubts about one menu's default, at most.
pub const MAX_DOUBTS: usize = 8;
/// Bytes of a configuration file, at most.
pub const MAX_FILE: u64 = 1 << 20;
/// Bytes of all files that one configuration is made of, at most.
pub const MAX_FILES_BYTES: u64 = 2 << 20;
/// Bytes of what all entries of one menu say, at most.
pub const MAX_SAID: usize = 1 << 20;

/// A file, and the volume it is on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The volume: an index into [`crate::volumes::Volumes`].
    pub volume: usize,
    /// The path in its file system; it begins with `/`.
    pub path: String,
}

/// The path as it can be printed: names of files are anybody's, too.
impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        Plain(&self.path).fmt(f)
    }
}

/// Where a configuration says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which file.
    pub place: Place,
    /// Which line, from 1 on; 0 if the file has none.
    pub line: u32,
}

impl core::fmt::Display for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.place.fmt(f)?;
        if self.line != 0 {
            write!(f, ":{}", self.line)?;
        }
        Ok(())
    }
}

/// What is booted, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Linux kernel.
    Linux {
        /// The kernel.
        kernel: Place,
        /// Its initrds: one behind the other, see [`initrd_offsets`].
        initrds: Vec<Place>,
        /// Its command line.
        cmdline: String,
    },
    /// A unified kernel image: see [`crate::bls::image`].
    Uki {
        /// The image.
        image: Place,
        /// Which of its profiles.
        profile: usize,
        /// Its add-ons, in the order in which they are applied.
        addons: Vec<Place>,
        /// A command line instead of the image's own; those of add-ons go
        /// behind either.
        cmdline: Option<String>,
    },
    /// The guest's own boot loader for PV guests (`pvboot-x86_64.elf`).
    Chain {
        /// Its ELF file.
        image: Place,
    },
}

/// Why an entry cannot be booted as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryProblem {
    /// Where that is asked for.
    pub source: Source,
    /// What is asked for: a word of the configuration.
    pub word: String,
    /// What is wrong, and what to do.
    pub what: String,
}

impl core::fmt::Display for EntryProblem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { source, word, what } = self;
        write!(f, "{source}: {word:?}: {}", Plain(what))
    }
}

impl core::error::Error for EntryProblem {}

/// How often an entry may still fail before it counts as bad (`+LEFT-DONE`
/// in its file's name). Kexen reads disks only: it does not count down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// Tries left; with 0 the entry is bad.
    pub left: u32,
    /// Tries that were made.
    pub done: u32,
}

/// A place in a menu with submenus: what one level is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which one on its level, from 0 on.
    pub index: usize,
    /// Its id; empty if it has none.
    pub id: String,
    /// Its title.
    pub title: String,
}

/// One thing to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is called in configurations; empty if it has no name.
    pub id: String,
    /// What it is called in menus.
    pub title: String,
    /// Its version.
    pub version: Option<String>,
    /// What it is sorted by first.
    pub sort_key: Option<String>,
    /// Of which installation it is.
    pub machine_id: Option<String>,
    /// Boot counting.
    pub tries: Option<Tries>,
    /// Where it is written.
    pub source: Source,
    /// Where it is in its menu: the submenus, and last itself.
    pub steps: Vec<Step>,
    /// What it boots, as far as that is known.
    pub kind: Option<Kind>,
    /// Why it cannot be booted as it is.
    pub problem: Option<EntryProblem>,
    /// What else there is to tell of it: the menu's, once it is in one.
    pub notes: Vec<Note>,
}

/// Characters of a word or title that are shown, at most.
const MAX_SHOWN: usize = 300;

/// A text that can be printed: hostile ones may be long, or have characters
/// that a terminal obeys.
#[must_use]
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).map(printable).collect()
}

fn printable(c: char) -> char {
    if c.is_control() { '?' } else { c }
}

/// The same for one of any length and any number of lines: what is shown of
/// guests' words is shown so.
#[must_use]
pub fn plain(text: &str) -> String {
    let fine = |c: char| if c == '\n' { c } else { printable(c) };
    text.chars().map(fine).collect()
}

/// The same for one of any length.
struct Plain<'a>(&'a str);

impl core::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut text = self.0.chars().map(printable);
        text.try_for_each(|c| f.write_char(c))
    }
}

/// A command line as a kernel takes it: tabs and line ends are blanks.
///
/// # Errors
/// In words: if it is too long, or has control characters.
pub(crate) fn command_line(text: &str) -> Result<String, String> {
    if text.len() > MAX_CMDLINE {
        return Err(format!(
            "the command line is longer than {MAX_CMDLINE} bytes"
        ));
    }
    let text = text.trim_ascii().replace(['\t', '\n', '\r'], " ");
    if text.contains(|c: char| c.is_control()) {
        return Err("the command line has control characters; write it again".into());
    }
    Ok(text)
}

impl Entry {
    /// An entry of which only name and place are known.
    #[must_use]
    pub fn new(id: &str, title: &str, source: Source) -> Self {
        Self {
            id: id.into(),
            title: shown(title),
            version: None,
            sort_key: None,
            machine_id: None,
            tries: None,
            source,
            steps: Vec::new(),
            kind: None,
            problem: None,
            notes: Vec::new(),
        }
    }

    /// Bytes of all that it says.
    pub(crate) fn said(&self) -> usize {
        let place = |place: &Place| place.path.len();
        let kind = match &self.kind {
            None => 0,
            Some(Kind::Linux {
                kernel,
                initrds,
                cmdline,
            }) => initrds.iter().fold(
                place(kernel).saturating_add(cmdline.len()),
                |sum, initrd| sum.saturating_add(place(initrd)),
            ),
            Some(Kind::Uki {
                image,
                addons,
                cmdline,
                ..
            }) => addons.iter().fold(
                place(image).saturating_add(cmdline.as_ref().map_or(0, String::len)),
                |sum, addon| sum.saturating_add(place(addon)),
            ),
            Some(Kind::Chain { image }) => place(image),
        };
        let problem = self.problem.as_ref().map_or(0, |problem| {
            let source = place(&problem.source.place);
            source.saturating_add(problem.word.len().saturating_add(problem.what.len()))
        });
        let names = [&self.version, &self.sort_key, &self.machine_id];
        let names = names.into_iter().flatten().chain([&self.id, &self.title]);
        let steps = self.steps.iter().flat_map(|step| [&step.id, &step.title]);
        let texts = names.chain(steps).map(String::len);
        [kind, problem, place(&self.source.place)]
            .into_iter()
            .chain(texts)
            .fold(0, usize::saturating_add)
    }

    /// What it boots, if nothing is wrong with it.
    ///
    /// # Errors
    /// What is wrong with it; `None` if it boots nothing.
    pub fn bootable(&self) -> Result<&Kind, Option<&EntryProblem>> {
        match (&self.kind, &self.problem) {
            (Some(kind), None) => Ok(kind),
            (_, problem) => Err(problem.as_ref()),
        }
    }
}

/// How long to wait for a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// So many seconds; 0: not at all.
    Seconds(u32),
    /// For ever.
    Forever,
}

/// What is shown while waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MenuStyle {
    /// The entries.
    #[default]
    Menu,
    /// The seconds left.
    Countdown,
    /// Nothing.
    Hidden,
}

/// Something to tell that keeps no entry from being booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub source: Source,
    /// What.
    pub text: String,
}

impl core::fmt::Display for Note {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.source, self.text)
    }
}

/// What one configuration comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Menu {
    /// The entries, in the order of the menu.
    pub entries: Vec<Entry>,
    /// Which is booted without a choice.
    pub default: Option<usize>,
    /// Which are tried when that fails, in this order.
    pub fallback: Vec<usize>,
    /// How long to wait, if the configuration says that.
    pub timeout: Option<Timeout>,
    /// What is shown meanwhile.
    pub style: MenuStyle,
    /// Why the default may be another entry than the one that the
    /// configuration means: to be told before anything starts by itself.
    pub doubts: Vec<Note>,
    /// What else there is to tell.
    pub notes: Vec<Note>,
}

impl Menu {
    /// Adds an entry, unless there are too many or they say too much.
    pub fn add(&mut self, entry: Entry) {
        if self.entries.len() < MAX_ENTRIES {
            self.insert(self.entries.len(), entry);
        } else {
            let text = format!("more than {MAX_ENTRIES} entries: left out");
            self.note(entry.source, text);
        }
    }

    /// Puts an entry among the others, unless they say too much; the last of
    /// too many gives way.
    pub(crate) fn insert(&mut self, at: usize, mut entry: Entry) {
        for note in core::mem::take(&mut entry.notes) {
            self.note(note.source, note.text);
        }
        if self.said().saturating_add(entry.said()) > MAX_SAID {
            let text = format!("more than {MAX_SAID} bytes of entries: left out");
            self.note(entry.source, text);
        } else {
            self.entries.insert(at, entry);
            self.entries.truncate(MAX_ENTRIES);
        }
    }

    /// Bytes of all that its entries say.
    pub(crate) fn said(&self) -> usize {
        let said = self.entries.iter().map(Entry::said);
        said.fold(0, usize::saturating_add)
    }

    /// Adds a doubt about the default, unless there are too many.
    pub fn doubt(&mut self, source: Source, text: String) {
        if self.doubts.len() < MAX_DOUBTS {
            let text = shown(&text);
            self.doubts.push(Note { source, text });
        }
    }

    /// Adds a note, unless there are too many.
    pub fn note(&mut self, source: Source, text: String) {
        if self.notes.len() < MAX_NOTES {
            let text = shown(&text);
            self.notes.push(Note { source, text });
        }
    }

    /// The same, unless it is told already.
    pub(crate) fn note_once(&mut self, source: Source, text: String) {
        let told = shown(&text);
        if self.notes.iter().all(|note| note.text != told) {
            self.note(source, text);
        }
    }
}

/// The entry that a name means: an id first, then a title, then a path of
/// indexes, ids or titles through submenus as GRUB writes it (`1>2`).
#[must_use]
pub fn find(entries: &[Entry], name: &str) -> Option<usize> {
    let id = |entry: &Entry| {
        !entry.id.is_empty() && (entry.id == name || entry.id.strip_suffix(".conf") == Some(name))
    };
    entries
        .iter()
        .position(id)
        .or_else(|| entries.iter().position(|entry| entry.title == name))
        .or_else(|| by_steps(entries, name))
}

/// The entry at the end of a path through submenus; its first one if the path
/// ends at a submenu. A `>` in a title is written `>>`.
#[must_use]
pub fn by_steps(entries: &[Entry], path: &str) -> Option<usize> {
    let path = path.replace(">>", "\u{1}");
    let wanted: Vec<String> = path
        .split('>')
        .map(|step| step.trim_ascii().replace('\u{1}', ">"))
        .collect();
    // A name that looks like a number means the number, as in GRUB.
    let is = |step: &Step, want: &str| match want.parse::<usize>() {
        Ok(index) => step.index == index,
        Err(_) => {
            step.title == *want
                || (!step.id.is_empty()
                    && (step.id == *want || step.id.strip_suffix(".conf") == Some(want)))
        }
    };
    entries.iter().position(|entry| {
        entry.steps.len() >= wanted.len()
            && entry
                .steps
                .iter()
                .zip(&wanted)
                .all(|(step, want)| is(step, want))
    })
}

/// Where each of several initrds begins when they are put one behind the
/// other, each at a multiple of four bytes, and how long all are; `None` if
/// that is more than a number holds.
#[must_use]
pub fn initrd_offsets(lengths: &[u64]) -> Option<(Vec<u64>, u64)> {
    let mut end = 0_u64;
    let mut offsets = Vec::new();
    for length in lengths {
        let start = end.checked_next_multiple_of(4)?;
        offsets.push(start);
        end = start.checked_add(*length)?;
    }
    Some((offsets, end.checked_next_multiple_of(4)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn entry(id: &str, title: &str, steps: &[(usize, &str)]) -> Entry {
        let place = Place {
            volume: 0,
            path: "/grub.cfg".into(),
        };
        let mut entry = Entry::new(id, title, Source { place, line: 3 });
        entry.steps = steps
            .iter()
            .map(|(index, title)| Step {
                index: *index,
                id: String::new(),
                title: (*title).into(),
            })
            .collect();
        entry
    }

    #[test]
    fn entries_are_found_by_id_title_and_path() {
        let entries = [
            entry("simple", "Debian", &[(0, "Debian")]),
            entry("a.conf", "6.1", &[(1, "More > more"), (0, "6.1")]),
            entry("b.conf", "5.10", &[(1, "More > more"), (1, "5.10")]),
        ];
        for (name, index) in [
            ("simple", 0),
            ("a", 1),
            ("b.conf", 2),
            ("5.10", 2),
            ("0", 0),
            ("1", 1),
            ("1>1", 2),
            ("More >> more>5.10", 2),
            ("More >> more", 1),
        ] {
            assert_eq!(find(&entries, name), Some(index), "{name}");
        }
        for name in ["2", "1>2", "0>0", "", "x"] {
            assert_eq!(find(&entries, name), None, "{name}");
        }
    }

    #[test]
    fn initrds_begin_at_multiples_of_four() {
        assert_eq!(initrd_offsets(&[5, 4, 1]), Some((vec![0, 8, 12], 16)));
        assert_eq!(initrd_offsets(&[]), Some((vec![], 0)));
        assert_eq!(initrd_offsets(&[u64::MAX, 1]), None);
        assert_eq!(initrd_offsets(&[u64::MAX]), None);
    }

    #[test]
    fn what_is_shown_obeys_no_one() {
        let source = entry("", "", &[]).source;
        let long = "x".repeat(1000);
        assert_eq!(Entry::new("", "a\u{1b}[2J", source.clone()).title, "a?[2J");
        assert_eq!(Entry::new("", &long, source).title.len(), MAX_SHOWN);
        assert_eq!(command_line(" a\tb ").as_deref(), Ok("a b"));
        assert!(command_line("a\0b").is_err());
        assert!(command_line(&"x".repeat(MAX_CMDLINE + 1)).is_err());
    }

    #[test]
    fn names_of_files_obey_no_one() {
        assert_eq!(plain("ä\u{1b}[2J\r\n\u{9b}x"), "ä?[2J?\n?x");
        let mut source = entry("", "", &[]).source;
        source.place.path = "/a\u{1b}[2J.conf".into();
        let note = Note {
            source: source.clone(),
            text: "left out".into(),
        };
        assert_eq!(format!("{note}"), "/a?[2J.conf:3: left out");
        let problem = EntryProblem {
            source,
            word: "b\u{1b}".into(),
            what: "/c\u{1b}: no such file or directory".into(),
        };
        assert_eq!(
            format!("{problem}"),
            "/a?[2J.conf:3: \"b\\u{1b}\": /c?: no such file or directory"
        );
    }

    #[test]
    fn problems_name_file_line_and_word() {
        let problem = EntryProblem {
            source: entry("", "", &[]).source,
            word: "fwsetup".into(),
            what: "there is no firmware".into(),
        };
        assert_eq!(
            format!("{problem}"),
            "/grub.cfg:3: \"fwsetup\": there is no firmware"
        );
    }
}
