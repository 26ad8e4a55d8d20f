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
    arguments::{Arguments, Known, Takes},
    number,
    parser::Block,
    shell::{BAD_ARGUMENT, Flow, Item, Shell, What},
};
use crate::entry::{Entry, EntryProblem, MAX_ENTRIES, Menu, MenuStyle, Source, Step, Timeout};

/// GRUB's number of the error of a menu entry (`include/grub/err.h`).
const MENU: u32 = 27;

const OPTIONS: [Known; 6] = [
    Known::new("class", None, Takes::Value),
    Known::new("users", None, Takes::Value),
    Known::new("hotkey", None, Takes::Value),
    Known::new("source", None, Takes::Value),
    Known::new("id", None, Takes::Value),
    Known::new("unrestricted", None, Takes::Nothing),
];

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
        let asked = match Arguments::parse(&OPTIONS, true, arguments) {
            Ok(asked) => asked,
            Err(what) => {
                self.error = BAD_ARGUMENT;
                return Ok(self.refuse(menu, line, command, what));
            }
        };
        let body = match (block, asked.value("source")) {
            (Some(block), None) => block.clone(),
            (None, Some(text)) => self.parse(text, line, menu)?,
            (block, _) => {
                let what = match block {
                    Some(_) => "`--source` and a block in braces are one too many",
                    None => "no block in braces follows",
                };
                self.error = BAD_ARGUMENT;
                return Ok(self.refuse(menu, line, command, what.into()));
            }
        };
        let id = asked.value("id").unwrap_or_default().to_string();
        let words = asked.words;
        let Some(title) = words.first().cloned() else {
            self.error = MENU;
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
    /// adds what they come to. Of each item, the entry that is started when it is
    /// by itself.
    pub(super) fn collect(
        &self,
        steps: &[Step],
        left: &mut u32,
        menu: &mut Menu,
    ) -> Vec<Option<usize>> {
        let mut leads = Vec::new();
        for (index, item) in self.items.iter().enumerate() {
            if menu.entries.len() == MAX_ENTRIES {
                let text = format!("more than {MAX_ENTRIES} entries: left out");
                menu.note(item.source.clone(), text);
                break;
            }
            let mut path = steps.to_vec();
            path.push(Step {
                index,
                id: item.id.clone(),
                title: item.title.clone(),
            });
            leads.push(self.item(item, path, left, menu));
        }
        leads
    }

    /// The item that `default` means here, if it means one.
    fn chosen(&self) -> Option<usize> {
        let default = self.env.get("default");
        match number::unsigned(default, 0) {
            Ok((number, _)) => usize::try_from(number)
                .ok()
                .filter(|index| *index < self.items.len()),
            Err(number::BAD_NUMBER) => self.items.iter().position(|item| {
                let id = item.id.as_str();
                let stem = id
                    .strip_suffix(".conf")
                    .filter(|_| matches!(item.what, What::Bls(_)));
                let ids = Some(id).filter(|id| !id.is_empty()).into_iter().chain(stem);
                let mut names = ids.chain([item.title.as_str()]);
                names.any(|name| is_meant(name, default))
            }),
            Err(_) => None,
        }
    }

    fn item(&self, item: &Item, path: Vec<Step>, left: &mut u32, menu: &mut Menu) -> Option<usize> {
        let (arguments, submenu) = match &item.what {
            What::Bls(snippet) => (&snippet.arguments, false),
            What::Script(_, arguments) => (arguments, false),
            What::Submenu(_, arguments) => (arguments, true),
        };
        let mut inner = self.for_entry(arguments, &item.source.place);
        if submenu {
            inner.env = inner.env.exported();
        }
        let id = if item.id.is_empty() {
            &item.title
        } else {
            &item.id
        };
        let id = id.replace('>', ">>");
        let chosen = match self.env.value("chosen") {
            Some(outer) => format!("{outer}>{id}"),
            None => id,
        };
        inner.env.set("chosen", &chosen);
        inner.env.export("chosen");
        match rest_of_path(self.env.get("default")) {
            "" => inner.env.unset("default"),
            rest => {
                inner.env.set("default", rest);
            }
        }
        inner.steps = inner.steps.min(*left);
        let before = inner.steps;
        // However it ends, what it has loaded is what counts.
        let _ended = inner.body(&item.what, menu);
        *left = left.saturating_sub(before.saturating_sub(inner.steps));
        if inner.loaded.kind.is_none() && !inner.items.is_empty() {
            if path.len() < MAX_LEVELS {
                let leads = inner.collect(&path, left, menu);
                return leads
                    .get(inner.chosen().unwrap_or_default())
                    .copied()
                    .flatten();
            } else {
                let text = format!("submenus are more than {MAX_LEVELS} deep: left out");
                menu.note(item.source.clone(), text);
            }
            return None;
        }
        // An empty submenu is no mistake: tools leave them behind.
        if submenu && inner.problem.is_none() && inner.loaded.kind.is_none() {
            return None;
        }
        let mut entry = Entry::new(&item.id, &item.title, item.source.clone());
        entry.steps = path;
        if let What::Bls(snippet) = &item.what {
            entry.version.clone_from(&snippet.version);
        }
        entry.kind = inner.loaded.kind;
        entry.problem = inner.problem;
        if entry.kind.is_none() && entry.problem.is_none() {
            entry.problem = inner.unknown;
        }
        if entry.kind.is_none() && entry.problem.is_none() {
            entry.problem = Some(EntryProblem {
                source: item.source.clone(),
                word: item.title.clone(),
                what: "it loads no kernel; take another entry".into(),
            });
        }
        let index = menu.entries.len();
        menu.add(entry);
        (menu.entries.len() > index).then_some(index)
    }

    /// Runs what an entry is made of.
    fn body(&mut self, what: &What, menu: &mut Menu) -> Result<(), Flow> {
        match what {
            // Each line for itself, as GRUB reads it again.
            What::Script(body, _) | What::Submenu(body, _) => body
                .iter()
                .try_for_each(|node| self.run(core::slice::from_ref(node), menu)),
            What::Bls(snippet) => snippet
                .commands
                .iter()
                .try_for_each(|(line, command)| self.run_text(command, *line, menu, false)),
        }
    }

    /// What the variables say about the menu, where items lead to these entries.
    pub(super) fn settings(&self, leads: &[Option<usize>], menu: &mut Menu) {
        let file = || Source {
            place: (*self.file).clone(),
            line: 0,
        };
        let lead = |index: usize| leads.get(index).copied().flatten();
        let default = self.env.get("default");
        let chosen = self.chosen();
        menu.default = lead(chosen.unwrap_or_default());
        let unmet = menu.default.is_none() || (chosen.is_none() && !default.is_empty());
        if unmet && !menu.entries.is_empty() {
            let text = format!("there is no default entry {default:?}; the first one is taken");
            menu.note(file(), text);
            menu.default = menu.default.or(Some(0));
        }
        let mut rest = self.env.get("fallback");
        while let Ok((number, behind)) = number::unsigned(rest, 0)
            && menu.fallback.len() < MAX_FALLBACKS
        {
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            menu.fallback.extend(lead(index));
            rest = behind;
        }
        let timeout = self.env.get("timeout");
        menu.timeout = match number::unsigned(timeout, 0) {
            // An `int` to GRUB: what is too large waits for somebody.
            Ok((seconds, _)) => Some(match u32::try_from(seconds) {
                Ok(seconds) if i32::try_from(seconds).is_ok() => Timeout::Seconds(seconds),
                _ => Timeout::Forever,
            }),
            Err(_) if timeout.is_empty() => None,
            // `-1` is none to GRUB, either, and waits.
            Err(_) if timeout.trim_ascii().parse::<i64>().is_ok() => Some(Timeout::Forever),
            Err(_) => {
                menu.note(
                    file(),
                    format!("timeout {timeout:?} is no number of seconds"),
                );
                None
            }
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

/// Whether a path begins with this name: a `>` in a name is written `>>`.
fn is_meant(name: &str, path: &str) -> bool {
    let mut path = path.chars().peekable();
    let mut name = name.chars();
    loop {
        let mut next = path.next();
        if next == Some('>') && path.next_if_eq(&'>').is_none() {
            next = None;
        }
        match (name.next(), next) {
            (None, None) => return true,
            (a, b) if a != b => return false,
            _ => {}
        }
    }
}

/// What is behind the first step of a path.
fn rest_of_path(path: &str) -> &str {
    let mut signs = path.char_indices().peekable();
    while let Some((at, sign)) = signs.next() {
        if sign == '>' && signs.next_if(|(_, next)| *next == '>').is_none() {
            return path.get(at.saturating_add(1)..).unwrap_or_default();
        }
    }
    ""
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn paths_are_parted() {
        for (name, path, want, rest) in [
            ("a", "a", true, ""),
            ("a", "a>b", true, "b"),
            ("a>b", "a>>b>c>d", true, "c>d"),
            ("a", "a>>b", false, ""),
            ("ab", "a", false, ""),
            ("a", "ab", false, ""),
            ("", "", true, ""),
            ("", ">b", true, "b"),
            ("a>", "a>>>b", true, "b"),
        ] {
            assert_eq!(is_meant(name, path), want, "{name} {path}");
            assert_eq!(rest_of_path(path), rest, "{path}");
        }
    }
}
