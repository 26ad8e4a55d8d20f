//! extlinux.conf, syslinux.cfg and isolinux.cfg.
//!
//! Format: the SYSLINUX wiki, "Config" and "Menu"; SYSLINUX 6 itself
//! (com32/elflink/ldlinux and com32/menu) where that leaves something open.
//! Keywords are in whatever case, one a line. Paths are relative to the folder
//! of the main file, those in included files too, or absolute in its file
//! system.
//!
//! Steps: the lines are read, those of included files in their place
//! (`config`); each label becomes an entry (`label`); and what starts by
//! itself is looked for. `UI`, or the last `DEFAULT`, is a command: a menu, a
//! label, or a kernel, the last two with words behind them. A menu starts
//! `ONTIMEOUT`, or the label of a `DEFAULT` beside `UI`, or the last one marked
//! with `MENU DEFAULT`, or its first. What is about screens is passed over.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

mod config;
mod label;

use config::{Config, Value};
use label::{Label, is_module};

use crate::{
    entry::{Entry, MAX_ENTRIES, Menu, MenuStyle, Place, Source, Step, Timeout},
    volumes::{Volumes, beside},
};

/// Configurations that one leads to by itself, at most.
const MAX_CONFIGS: usize = 4;

/// Where paths begin.
struct Here<'a> {
    volumes: &'a Volumes<'a>,
    volume: usize,
    /// The folder of relative paths, with a slash at its end.
    folder: String,
}

impl Here<'_> {
    /// The path that a word means; `::` stands for the root.
    fn path(&self, word: &str) -> String {
        let fat = self.volumes.get(self.volume);
        let fat = fat.is_some_and(|volume| volume.fs.kind() == "vfat");
        let word = if fat {
            word.replace('\\', "/")
        } else {
            word.to_string()
        };
        match word.strip_prefix("::") {
            Some(path) => beside("/", path),
            None => beside(&self.folder, &word),
        }
    }

    fn place(&self, word: &str) -> Place {
        Place {
            volume: self.volume,
            path: self.path(word),
        }
    }
}

/// What starts by itself.
enum Start {
    /// Nothing is said of it.
    Nothing,
    /// A menu: of other files, if there are any.
    Menu(Vec<String>),
    /// Another configuration, and the folder of its relative paths.
    Config(String),
    /// A label or kernel, with words.
    Command(Value),
}

/// Reads the configuration at a place.
#[must_use]
pub fn read(volumes: &Volumes<'_>, place: &Place) -> Menu {
    let folder = place.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut here = Here {
        volumes,
        volume: place.volume,
        folder: format!("{folder}/"),
    };
    let mut menu = Menu::default();
    let mut config = Config::default();
    config.file(&here, place, 0, &mut menu);
    let mut main = place.clone();
    for _ in 1..MAX_CONFIGS {
        config.end();
        let mut next = config.next();
        match start(&here, &config) {
            Start::Menu(files) if !files.is_empty() => {
                next.in_menu = true;
                for file in files {
                    let place = if file == "~" {
                        main.clone()
                    } else {
                        here.place(&file)
                    };
                    next.file(&here, &place, 0, &mut menu);
                }
            }
            Start::Config(text) => {
                let mut words = text.split_ascii_whitespace();
                main = here.place(words.next().unwrap_or_default());
                if let Some(folder) = words.next() {
                    here.folder = format!("{}/", here.path(folder));
                }
                next.file(&here, &main, 0, &mut menu);
            }
            _ => break,
        }
        next.end();
        if next.is_empty() {
            // Those files are gone, or say nothing.
            break;
        }
        config = next;
    }
    config.end();
    finish(&here, config, &mut menu);
    menu
}

fn start(here: &Here<'_>, config: &Config) -> Start {
    if config.in_menu {
        return Start::Menu(Vec::new());
    }
    let Some(command) = config.ui.as_ref().or(config.default.as_ref()) else {
        return Start::Nothing;
    };
    let (word, words) = first_word(&command.text);
    let files = |program: &str, words: &str| {
        let name = program.rsplit(['/', '\\']).next().unwrap_or_default();
        let takes = ["menu.c32", "vesamenu.c32", "menu", "vesamenu"];
        let takes = takes.iter().any(|known| name.eq_ignore_ascii_case(known));
        let words = words.split_ascii_whitespace().filter(|_| takes);
        words.map(String::from).collect()
    };
    if let Some(at) = config.find(word) {
        let label = config.items.get(at).map(|item| &item.label);
        return match label.and_then(|label| Some((label, label.kernel.as_ref()?))) {
            Some((_, (keyword, value))) if keyword == "config" => Start::Config(value.text.clone()),
            Some((label, (_, value))) if label.is_menu() => {
                let own = label.append.as_ref().map_or("", |append| &append.text);
                let (program, more) = first_word(&value.text);
                Start::Menu(files(program, &format!("{more} {own} {words}")))
            }
            _ => Start::Command(command.clone()),
        };
    }
    let volumes = here.volumes;
    let is_alone = || !volumes.is_file(&here.place(word));
    let program = || volumes.is_file(&here.place(&format!("{word}.c32")));
    if config.ui.is_some() || is_module(word) || (is_alone() && program()) {
        return Start::Menu(files(word, words));
    }
    Start::Command(command.clone())
}

/// Makes the entries, and says which is the default.
fn finish(here: &Here<'_>, mut config: Config, menu: &mut Menu) {
    let start = start(here, &config);
    let shows = matches!(start, Start::Menu(_));
    let tenths = config.patience();
    // Without a prompt or menu, the default is booted at once; 0 waits.
    menu.timeout = Some(match (config.prompts || shows, tenths) {
        (false, _) => Timeout::Seconds(0),
        (true, 0) => Timeout::Forever,
        (true, tenths) => Timeout::Seconds(tenths.div_ceil(10)),
    });
    if config.hidden {
        menu.style = MenuStyle::Hidden;
    }
    let late = config.on_timeout.clone();
    let late = late.filter(|_| (config.prompts || shows) && tenths > 0);
    let default = late.and_then(|value| config.command(&value));
    let default = default.or_else(|| match start {
        Start::Command(value) => config.command(&value),
        _ => None,
    });
    let default = default.or_else(|| config.marked());
    // The default is there whatever else is left out.
    let beyond = default.filter(|at| *at >= MAX_ENTRIES);
    for (at, item) in config.items.iter().enumerate() {
        let last = menu.entries.len() == MAX_ENTRIES.saturating_sub(1);
        if beyond.is_some_and(|default| at < default) && last {
            continue;
        }
        let count = menu.entries.len();
        let mut entry = item.label.entry(here, config.append.as_ref());
        entry.steps = config.steps(item, &entry);
        menu.add(entry);
        if default == Some(at) && menu.entries.len() > count {
            menu.default = Some(count);
        }
    }
    if menu.default.is_none() && !menu.entries.is_empty() {
        menu.default = Some(0);
    }
}

/// A line's first word, and the rest.
fn first_word(line: &str) -> (&str, &str) {
    let line = line.trim_ascii();
    let (word, rest) = line
        .split_once(|c: char| c.is_ascii_whitespace())
        .unwrap_or((line, ""));
    (word, rest.trim_ascii())
}

/// The same with the word in small letters.
fn split(line: &str) -> (String, &str) {
    let (word, rest) = first_word(line);
    (word.to_ascii_lowercase(), rest)
}

#[cfg(test)]
mod tests;
