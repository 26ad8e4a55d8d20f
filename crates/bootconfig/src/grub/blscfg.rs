//! `blscfg`: entries beside the script, one file each.
//!
//! Semantics: `grub-core/commands/blscfg.c` of Fedora and RHEL, and
//! `blsuki.c` of GRUB 2.14, which has options. Entries are those of
//! `$blsdir`, or `/loader/entries` or `/boot/loader/entries`, on `$root`
//! (`$boot` says nothing). Of each key the first value counts; a line without
//! a value, an empty one too, ends the file. What a file says becomes commands
//! of a script: `linux`, with the variables in `options` replaced now, and
//! `initrd`. They are run as an entry's body is, on `$root` as it is then.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    arguments::{Arguments, Known, Takes},
    rpm,
    shell::{Flow, Item, LOOK_STEPS, Shell, What},
};
use crate::{
    bls::{bytes, type1},
    entry::{MAX_ENTRIES, Menu, Place, Source},
    module::MAX_CMDLINE,
};

/// What reading a folder of entries costs.
const FOLDER_STEPS: u32 = 5000;

/// What `blscfg` takes since GRUB 2.14.
const OPTIONS: [Known; 5] = [
    Known::new("path", Some('p'), Takes::Value),
    Known::new("enable-fallback", Some('f'), Takes::Nothing),
    Known::new("show-default", Some('d'), Takes::Nothing),
    Known::new("show-non-default", Some('n'), Takes::Nothing),
    Known::new("entry", Some('e'), Takes::Value),
];

/// An entry's file.
#[derive(Clone, Debug)]
pub(super) struct Snippet {
    /// The file's name.
    pub(super) id: String,
    pub(super) place: Place,
    pub(super) version: Option<String>,
    /// The title, and the words behind it.
    pub(super) arguments: Vec<String>,
    /// Commands, and the lines that they are made of.
    pub(super) commands: Vec<(u32, String)>,
}

/// The lines of a file: key, value, number.
struct Lines<'a>(Vec<(&'a str, &'a str, u32)>);

impl<'a> Lines<'a> {
    /// And where reading ends before the end, if it does.
    fn read(text: &'a str) -> (Self, Option<u32>) {
        let mut found = Vec::new();
        let blank = |c| c == ' ' || c == '\t';
        let mut lines = (1_u32..).zip(text.lines());
        while let Some((number, line)) = lines.next() {
            let line = line.trim_start_matches(blank);
            if line.starts_with('#') {
                continue;
            }
            let value = line.split_once(blank);
            let value = value.map(|(key, value)| (key, value.trim_start_matches(blank)));
            match value {
                Some((key, value)) if !value.is_empty() => found.push((key, value, number)),
                _ => {
                    let more = lines.any(|(_, line)| {
                        let line = line.trim_ascii();
                        !line.is_empty() && !line.starts_with('#')
                    });
                    return (Self(found), more.then_some(number));
                }
            }
        }
        (Self(found), None)
    }

    fn all(&self, key: &str) -> impl Iterator<Item = (&'a str, u32)> {
        let of_it = self.0.iter().filter(move |(name, ..)| *name == key);
        of_it.map(|(_, value, line)| (*value, *line))
    }

    fn first(&self, key: &str) -> Option<(&'a str, u32)> {
        self.all(key).next()
    }
}

/// What a `blscfg` is asked for.
struct Asked {
    /// A folder or file, instead of the usual folder.
    path: Option<String>,
    fallback: bool,
    default: bool,
    others: bool,
    entry: Option<String>,
}

impl Asked {
    fn of(words: &[String]) -> Result<Self, String> {
        let parsed = Arguments::parse(&OPTIONS, false, words)?;
        let path = parsed.value("path").map(String::from);
        let mut asked = Self {
            fallback: path.is_none() || parsed.has("enable-fallback"),
            path,
            default: parsed.has("show-default"),
            others: parsed.has("show-non-default"),
            entry: parsed.value("entry").map(String::from),
        };
        // Fedora's takes one word.
        match parsed.words.first().map(String::as_str) {
            Some("default") => asked.default = true,
            Some("non-default") => asked.others = true,
            Some(path) if path.starts_with('(') => asked.path = Some(path.into()),
            Some(id) => asked.entry = Some(id.into()),
            None => {}
        }
        if !asked.default && !asked.others && asked.entry.is_none() {
            (asked.default, asked.others) = (true, true);
        }
        Ok(asked)
    }

    /// Whether an entry is added to the menu.
    fn wants(&self, snippet: &Snippet, index: usize, default: &str) -> bool {
        let named = |name: &str| name == snippet.id || name == stem(&snippet.id);
        let is_default = !default.is_empty()
            && (named(default)
                || snippet
                    .arguments
                    .first()
                    .is_some_and(|title| title == default)
                || default.parse() == Ok(index));
        let listed = if is_default {
            self.default
        } else {
            self.others
        };
        listed || self.entry.as_deref().is_some_and(named)
    }
}

fn stem(name: &str) -> &str {
    name.strip_suffix(".conf").unwrap_or(name)
}

impl Shell<'_> {
    /// Adds the entries of a folder, newest first by their names.
    pub(super) fn blscfg(
        &mut self,
        line: u32,
        words: &[String],
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        self.spend(menu, line, FOLDER_STEPS)?;
        let asked = match Asked::of(words) {
            Ok(asked) => asked,
            Err(what) => {
                let what = format!("{what}; its entries are left out");
                return Ok(self.refuse(menu, line, "blscfg", what));
            }
        };
        let mut folders: Vec<String> = asked.path.iter().cloned().collect();
        if folders.is_empty() {
            folders.extend(
                [self.env.get("blsdir").to_string()]
                    .into_iter()
                    .filter(|dir| !dir.is_empty()),
            );
        }
        if folders.is_empty() || asked.fallback {
            folders.extend(["/loader/entries", "/boot/loader/entries"].map(String::from));
        }
        let mut why = None;
        for word in folders {
            let place = match self.place(&word) {
                Ok(place) => place,
                Err(what) => {
                    why = Some(what);
                    continue;
                }
            };
            if !word.starts_with(['/', '(']) {
                continue;
            }
            let found = self.snippets(line, &place, menu)?;
            if found.is_empty() {
                continue;
            }
            self.add_snippets(&asked, found, menu);
            return Ok(true);
        }
        let device = self.env.get("root").to_string();
        let source = self.source(line);
        match why {
            Some(why) => menu.doubt(source, format!("blscfg: {why}: its entries are missing")),
            None => menu.note(source, format!("blscfg: no entries on ({device})")),
        }
        Ok(false)
    }

    /// The files of a folder, newest first, or a single one.
    fn snippets(
        &mut self,
        line: u32,
        place: &Place,
        menu: &mut Menu,
    ) -> Result<Vec<Snippet>, Flow> {
        let (folder, mut names) = match place.path.rsplit_once('/') {
            Some((folder, name)) if name.ends_with(".conf") => {
                (folder.to_string(), Vec::from([name.to_string()]))
            }
            _ => {
                let fs = self.volumes.fs(place);
                let names = fs.and_then(|fs| fs.read_dir(&place.path));
                (place.path.clone(), names.unwrap_or_default())
            }
        };
        names.retain(|name| !name.starts_with('.') && name.ends_with(".conf") && name.len() > 5);
        let order = |a: &String, b: &String| {
            let order = rpm::by_package(stem(b), stem(a));
            // The same to GRUB, which takes one of them: here both are there.
            order.then_with(|| b.cmp(a))
        };
        names.sort_by(order);
        if names.len() > MAX_ENTRIES {
            let text = format!("more than {MAX_ENTRIES} entries: the oldest are left out");
            menu.note(self.source(line), text);
            names.truncate(MAX_ENTRIES);
        }
        let files = u32::try_from(names.len()).unwrap_or(u32::MAX);
        self.spend(menu, line, files.saturating_mul(LOOK_STEPS))?;
        let volume = place.volume;
        let mut found = Vec::new();
        for name in names {
            let place = Place {
                volume,
                path: format!("{folder}/{name}"),
            };
            found.extend(self.snippet(place, name, menu));
        }
        if !found.is_empty() {
            self.blscfg.push(Place {
                volume,
                path: folder.trim_end_matches('/').into(),
            });
        }
        Ok(found)
    }

    /// What a file says; `None` if it is no entry.
    fn snippet(&mut self, place: Place, id: String, menu: &mut Menu) -> Option<Snippet> {
        let source = |line| Source {
            place: place.clone(),
            line,
        };
        let text = match self.volumes.text(&place, type1::MAX_BYTES.min(self.bytes)) {
            Ok(text) => text,
            Err(error) => {
                menu.note(source(0), format!("cannot be read: {}", error.problem));
                return None;
            }
        };
        self.bytes = self.bytes.saturating_sub(bytes(&text));
        let (lines, end) = Lines::read(&text);
        if let Some(line) = end {
            let text = "what is behind this line is not read: to GRUB, a line without a key and \
                        a value ends the file";
            menu.note(source(line), text.into());
        }
        let (kernel, kernel_line) = lines.first("linux")?;
        let title = lines.first("title").map_or(kernel, |(title, _)| title);
        let mut arguments = Vec::from([title.to_string()]);
        arguments.extend(lines.all("grub_arg").map(|(word, _)| word.to_string()));
        let options = match lines.first("options") {
            Some((text, _)) => self.replaced(text),
            None => self.replaced(self.env.get("default_kernelopts")),
        };
        let mut commands = Vec::from([(kernel_line, format!("linux ($root){kernel} {options}"))]);
        let initrds: Vec<(&str, u32)> = lines.all("initrd").collect();
        // Those before all others are beside the first one, or the kernel.
        let first = initrds.first().map_or(kernel, |(path, _)| path);
        let folder = first.rsplit_once('/').map_or("", |(folder, _)| folder);
        let early = self.env.get("early_initrd");
        let early = early.split(' ').filter(|name| !name.is_empty());
        let mut command = String::from("initrd");
        for name in early {
            command.push_str(&format!(" ($root){folder}/{name}"));
        }
        for (path, _) in &initrds {
            command.push_str(&format!(" ($root){path}"));
        }
        if command != "initrd" {
            let line = initrds.first().map_or(kernel_line, |(_, line)| *line);
            commands.push((line, command));
        }
        Some(Snippet {
            id,
            version: lines.first("version").map(|(version, _)| version.into()),
            arguments,
            commands,
            place,
        })
    }

    /// A value with each `$name` replaced by the variable and a blank, instead
    /// of the one behind it.
    fn replaced(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if before.ends_with('\\') {
                out.push('$');
                rest = after;
                continue;
            }
            let end = after
                .bytes()
                .position(|byte| !byte.is_ascii_alphanumeric() && byte != b'_')
                .unwrap_or(after.len());
            let (name, behind) = after.split_at_checked(end).unwrap_or((after, ""));
            let value = self.env.get(name);
            // More than a command line holds is refused when it is run.
            if !value.is_empty() && out.len() <= MAX_CMDLINE {
                out.push_str(value);
                out.push(' ');
            }
            rest = behind.strip_prefix(' ').unwrap_or(behind);
        }
        out.push_str(rest);
        out
    }

    fn add_snippets(&mut self, asked: &Asked, found: Vec<Snippet>, menu: &mut Menu) {
        let default = self.env.get("default").to_string();
        for (index, snippet) in found.into_iter().enumerate() {
            let shown = self.items.iter().any(|item| match &item.what {
                What::Bls(other) => other.place == snippet.place,
                _ => false,
            });
            if shown || !asked.wants(&snippet, index, &default) {
                continue;
            }
            let item = Item {
                title: snippet.arguments.first().cloned().unwrap_or_default(),
                id: snippet.id.clone(),
                source: Source {
                    place: snippet.place.clone(),
                    line: 0,
                },
                what: What::Bls(Rc::new(snippet)),
            };
            self.push_item(item, menu);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts_and_an_empty_line_ends_it() {
        let text = "# a\n title\tA b \nlinux  /k\ntitle C\n\n# c\ninitrd /i\n";
        let (lines, end) = Lines::read(text);
        assert_eq!(lines.first("title"), Some(("A b ", 2)));
        assert_eq!(lines.all("title").count(), 2);
        assert_eq!(lines.first("linux"), Some(("/k", 3)));
        assert_eq!((lines.first("initrd"), end), (None, Some(5)));
        assert_eq!(Lines::read("linux /k\n\n# c\n").1, None);
        assert_eq!(Lines::read("linux /k\nversion\ninitrd /i").1, Some(2));
    }
}
