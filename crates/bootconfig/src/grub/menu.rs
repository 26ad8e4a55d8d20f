//! From a GRUB script's menu to entries.
//!
//! GRUB runs an entry's body when it is chosen. Here every body is run right
//! away, each with a copy of the variables as the configuration left them and
//! with steps of its own: what an entry boots, and what is wrong with it, can
//! be shown in the menu, and no entry sees what another one sets. A submenu's
//! body gets exported variables alone, as in GRUB.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    parser::Block,
    shell::{Flow, Item, Shell, What},
};
use crate::entry::{
    Entry, EntryProblem, MAX_ENTRIES, Menu, MenuStyle, Source, Step, Timeout, by_steps,
};

/// How deep submenus may be in one another.
const MAX_LEVELS: usize = 4;
/// Default entries for when the first fails, at most.
const MAX_FALLBACKS: usize = 16;

impl Shell<'_> {
    /// `menuentry TITLE [ARGUMENT…] [OPTION…] { … }`
    pub(super) fn menuentry(
        &mut self,
        line: u32,
        command: &str,
        arguments: &[String],
        block: Option<&Block>,
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        let mut id = String::new();
        let mut source = None;
        let mut words: Vec<String> = Vec::new();
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value.to_string())),
                None => (word.as_str(), None),
            };
            match option {
                "--id" | "--source" | "--class" | "--users" | "--hotkey" => {
                    let Some(value) = value.or_else(|| rest.next().cloned()) else {
                        let what = "a value must follow".into();
                        return Ok(self.refuse(menu, line, word, what));
                    };
                    match option {
                        "--id" => id = value,
                        "--source" => source = Some(value),
                        _ => {}
                    }
                }
                "--unrestricted" => {}
                _ => words.push(word.clone()),
            }
        }
        let body = match (block, source) {
            (Some(block), _) => block.clone(),
            (None, Some(text)) => self.parse(&text, line, menu)?,
            (None, None) => {
                let what = "no block in braces follows".into();
                return Ok(self.refuse(menu, line, command, what));
            }
        };
        let Some(title) = words.first().cloned() else {
            return Ok(self.refuse(menu, line, command, "no title follows".into()));
        };
        let what = if command == "submenu" {
            What::Submenu(body, words)
        } else {
            What::Script(body, words)
        };
        let item = Item {
            title,
            id,
            source: self.source(line),
            what,
        };
        Ok(self.push_item(item, menu))
    }

    /// Runs the bodies of all entries, with so many steps left for them, and
    /// adds what they come to.
    pub(super) fn collect(&self, steps: &[Step], left: &mut u32, menu: &mut Menu) {
        for (index, item) in self.items.iter().enumerate() {
            if menu.entries.len() == MAX_ENTRIES {
                let text = format!("more than {MAX_ENTRIES} entries: left out");
                menu.note(item.source.clone(), text);
                return;
            }
            let mut path = steps.to_vec();
            path.push(Step {
                index,
                id: item.id.clone(),
                title: item.title.clone(),
            });
            self.item(item, path, left, menu);
        }
    }

    fn item(&self, item: &Item, path: Vec<Step>, left: &mut u32, menu: &mut Menu) {
        let (arguments, submenu) = match &item.what {
            What::Bls(snippet) => (&snippet.arguments, false),
            What::Script(_, arguments) => (arguments, false),
            What::Submenu(_, arguments) => (arguments, true),
        };
        let mut inner = self.for_entry(arguments, &item.source.place);
        if submenu {
            inner.env = inner.env.exported();
        }
        inner.env.set(
            "chosen",
            if item.id.is_empty() {
                &item.title
            } else {
                &item.id
            },
        );
        inner.env.export("chosen");
        inner.steps = inner.steps.min(*left);
        let before = inner.steps;
        // However it ends, what it has loaded is what counts.
        let _ended = inner.body(&item.what, menu);
        *left = left.saturating_sub(before.saturating_sub(inner.steps));
        if inner.loaded.kind.is_none() && !inner.items.is_empty() {
            if path.len() < MAX_LEVELS {
                inner.collect(&path, left, menu);
            } else {
                let text = format!("submenus are more than {MAX_LEVELS} deep: left out");
                menu.note(item.source.clone(), text);
            }
            return;
        }
        // An empty submenu is no mistake: tools leave them behind.
        if submenu && inner.problem.is_none() && inner.loaded.kind.is_none() {
            return;
        }
        let mut entry = Entry::new(&item.id, &item.title, item.source.clone());
        entry.steps = path;
        if let What::Bls(snippet) = &item.what {
            entry.version.clone_from(&snippet.version);
        }
        entry.kind = inner.loaded.kind;
        entry.problem = inner.problem;
        if entry.kind.is_none() && entry.problem.is_none() {
            entry.problem = Some(EntryProblem {
                source: item.source.clone(),
                word: item.title.clone(),
                what: "it loads no kernel; take another entry".into(),
            });
        }
        menu.add(entry);
    }

    /// Runs what an entry is made of.
    fn body(&mut self, what: &What, menu: &mut Menu) -> Result<(), Flow> {
        match what {
            What::Script(body, _) | What::Submenu(body, _) => self.run(body, menu),
            What::Bls(snippet) => snippet.commands.iter().try_for_each(|(line, command)| {
                let command = self.parse(command, *line, menu)?;
                self.run(&command, menu)
            }),
        }
    }

    /// What the variables say about the menu.
    pub(super) fn settings(&self, menu: &mut Menu) {
        let file = || Source {
            place: (*self.file).clone(),
            line: 0,
        };
        let default = match self.env.get("default") {
            "" => "0",
            default => default,
        };
        menu.default = chosen(&menu.entries, default);
        if menu.default.is_none() && !menu.entries.is_empty() {
            let text = format!("there is no default entry {default:?}; the first one is taken");
            menu.note(file(), text);
            menu.default = Some(0);
        }
        menu.fallback = self
            .env
            .get("fallback")
            .split_ascii_whitespace()
            .filter_map(|name| chosen(&menu.entries, name))
            .take(MAX_FALLBACKS)
            .collect();
        menu.timeout = match self.env.get("timeout").trim_ascii() {
            "" => None,
            text => match text.parse::<i64>() {
                Ok(seconds) if seconds < 0 => Some(Timeout::Forever),
                Ok(seconds) => Some(Timeout::Seconds(u32::try_from(seconds).unwrap_or(u32::MAX))),
                Err(_) => {
                    menu.note(file(), format!("timeout {text:?} is no number of seconds"));
                    None
                }
            },
        };
        menu.style = match self.env.get("timeout_style") {
            "hidden" => MenuStyle::Hidden,
            "countdown" => MenuStyle::Countdown,
            _ => MenuStyle::Menu,
        };
        if !self.env.get("superusers").is_empty() {
            let text = "passwords of entries are not asked for: who has the console of a guest \
                        has its disks";
            menu.note(file(), text.into());
        }
    }
}

/// The entry that `default` means; a submenu means its first entry.
fn chosen(entries: &[Entry], name: &str) -> Option<usize> {
    by_steps(entries, name).or_else(|| crate::entry::find(entries, name))
}
