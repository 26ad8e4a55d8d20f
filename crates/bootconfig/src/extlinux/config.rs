//! The lines of a configuration, and what they come to.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{Entry, Here, Label, Menu, Place, Source, Step, first_word, label::is_program, split};
use crate::entry::{MAX_FILE, MAX_FILES_BYTES};

/// Files that may include one another.
const MAX_DEPTH: usize = 8;
/// Included files, at most.
const MAX_FILES: usize = 32;
/// Labels that are read, at most.
const MAX_LABELS: usize = 4096;
/// Submenus, at most.
const MAX_MENUS: usize = 64;

/// A value, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) source: Source,
}

/// What a menu begins with.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// An item.
    Item(usize),
    /// What another menu begins with.
    Menu(usize),
}

/// A menu; the first one is the top.
#[derive(Debug, Default)]
struct SubMenu {
    parent: usize,
    /// Where it is in that.
    index: usize,
    tag: String,
    title: Option<String>,
    marked: Option<Target>,
    first: Option<Target>,
    count: usize,
}

/// A label, and where it is.
#[derive(Debug)]
pub(super) struct Item {
    menu: usize,
    index: usize,
    pub(super) label: Label,
}

/// What the files say.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) items: Vec<Item>,
    menus: Vec<SubMenu>,
    /// The menu that is read.
    menu: usize,
    /// The one that is shown first.
    first_menu: usize,
    /// The label that is read.
    label: Option<Label>,
    pub(super) default: Option<Value>,
    pub(super) ui: Option<Value>,
    pub(super) on_timeout: Option<Value>,
    pub(super) append: Option<Value>,
    timeout: u32,
    total: u32,
    pub(super) prompts: bool,
    pub(super) hidden: bool,
    /// Whether a menu reads these files, not the boot loader.
    pub(super) in_menu: bool,
    no_kernels: bool,
    no_words: bool,
    help: bool,
    files: usize,
    bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            menus: Vec::from([SubMenu::default()]),
            menu: 0,
            first_menu: 0,
            label: None,
            default: None,
            ui: None,
            on_timeout: None,
            append: None,
            timeout: 0,
            total: 0,
            prompts: false,
            hidden: false,
            in_menu: false,
            no_kernels: false,
            no_words: false,
            help: false,
            files: 0,
            bytes: 0,
        }
    }
}

impl Config {
    /// An empty one that goes on counting what is read.
    pub(super) fn next(&self) -> Self {
        Self {
            files: self.files,
            bytes: self.bytes,
            ..Self::default()
        }
    }

    /// Whether there is nothing to start.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.default.is_none()
    }

    /// Reads a file, and those that it includes.
    pub(super) fn file(&mut self, here: &Here<'_>, place: &Place, depth: usize, menu: &mut Menu) {
        self.files = self.files.saturating_add(1);
        let mut note = |text: String| {
            let place = place.clone();
            menu.note(Source { place, line: 0 }, text);
        };
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            note(format!(
                "more than {MAX_DEPTH} files include one another, or {MAX_FILES} in all: left out"
            ));
            return;
        }
        let text = match here.volumes.text(place, MAX_FILE) {
            Ok(text) => text,
            Err(error) => return note(error.problem.to_string()),
        };
        self.bytes = self.bytes.saturating_add(crate::bls::bytes(&text));
        if self.bytes > MAX_FILES_BYTES {
            note(format!(
                "more than {MAX_FILES_BYTES} bytes in all: left out"
            ));
            return;
        }
        for (line, text) in (1_u32..).zip(text.lines()) {
            let source = Source {
                place: place.clone(),
                line,
            };
            let (keyword, value) = split(text);
            if self.help {
                self.help = keyword != "endtext";
                continue;
            }
            let (second, rest) = split(value);
            let deeper = depth.saturating_add(1);
            match (&*keyword, &*second) {
                ("include", _) => {
                    let place = here.place(first_word(value).0);
                    self.file(here, &place, deeper, menu);
                }
                ("menu", "include") => {
                    let (path, title) = first_word(rest);
                    let own = !title.is_empty() && self.begin(title);
                    self.file(here, &here.place(path), deeper, menu);
                    if own {
                        self.leave();
                    }
                }
                _ => self.line(&keyword, value, source, menu),
            }
        }
    }

    fn line(&mut self, keyword: &str, value: &str, source: Source, menu: &mut Menu) {
        let text = value.to_string();
        match keyword {
            "label" => {
                self.end();
                if self.items.len() == MAX_LABELS {
                    menu.note(source, format!("more than {MAX_LABELS} labels: left out"));
                    return;
                }
                self.label = Some(Label::new(first_word(value).0, source));
            }
            "default" => self.default = Some(Value { text, source }),
            "ui" => self.ui = Some(Value { text, source }),
            "ontimeout" => self.on_timeout = Some(Value { text, source }),
            "prompt" => self.prompts = number(value).unwrap_or(0) != 0,
            "implicit" => self.no_kernels = number(value) == Some(0),
            "allowoptions" => self.no_words = number(value) == Some(0),
            "timeout" | "totaltimeout" => match (number(value), keyword) {
                (Some(tenths), "timeout") => self.timeout = tenths,
                (Some(tenths), _) => self.total = tenths,
                (None, _) => menu.note(source, format!("{keyword} {value:?} is no number")),
            },
            "text" => self.help = true,
            "menu" => self.menu_line(value),
            "append" => match &mut self.label {
                Some(label) => label.append = Some(Value { text, source }),
                None => self.append = Some(Value { text, source }),
            },
            _ => {
                if let Some(label) = &mut self.label {
                    label.line(keyword, Value { text, source });
                }
            }
        }
    }

    fn menu_line(&mut self, value: &str) {
        let (keyword, value) = split(value);
        let here = self.menu;
        let own = self.menus.get_mut(here).filter(|_| here > 0);
        match (&*keyword, &mut self.label, own) {
            ("label", Some(label), _) => label.title = Some(value.replace('^', "")),
            ("label", None, Some(own)) => own.title = Some(value.replace('^', "")),
            ("title", _, Some(own)) => {
                own.title.get_or_insert(value.to_string());
            }
            ("default", Some(label), _) => label.is_default = true,
            ("default", None, Some(own)) => {
                let parent = own.parent;
                if let Some(parent) = self.menus.get_mut(parent) {
                    parent.marked = Some(Target::Menu(here));
                }
            }
            ("hide", Some(label), _) => label.is_hidden = true,
            // Headings, and ways to other menus: nothing to boot.
            ("disable" | "disabled" | "quit" | "goto" | "exit", Some(label), _) => {
                label.is_shown_only = true;
            }
            ("separator", ..) => self.end(),
            ("begin", ..) => {
                self.begin(value);
            }
            ("end", ..) => self.leave(),
            ("start", ..) => self.first_menu = here,
            ("hidden", ..) => self.hidden = true,
            _ => {}
        }
    }

    /// Takes the label that was read into its menu.
    pub(super) fn end(&mut self) {
        let Some(label) = self.label.take().filter(|label| !label.is_shown_only) else {
            return;
        };
        let number = self.items.len();
        let menu = if label.is_hidden { 0 } else { self.menu };
        let Some(own) = self.menus.get_mut(menu) else {
            return;
        };
        let index = own.count;
        own.count = index.saturating_add(1);
        if !label.is_hidden {
            own.first.get_or_insert(Target::Item(number));
            if label.is_default {
                own.marked = Some(Target::Item(number));
            }
        }
        self.items.push(Item { menu, index, label });
    }

    /// Begins a submenu; whether there is room for one more.
    fn begin(&mut self, tag: &str) -> bool {
        self.end();
        let (parent, number) = (self.menu, self.menus.len());
        if number == MAX_MENUS {
            return false;
        }
        let Some(above) = self.menus.get_mut(parent) else {
            return false;
        };
        let index = above.count;
        above.count = index.saturating_add(1);
        above.first.get_or_insert(Target::Menu(number));
        self.menus.push(SubMenu {
            parent,
            index,
            tag: tag.replace('^', ""),
            ..SubMenu::default()
        });
        self.menu = number;
        true
    }

    /// Ends a submenu.
    fn leave(&mut self) {
        self.end();
        self.menu = self.menus.get(self.menu).map_or(0, |menu| menu.parent);
    }

    /// How long to wait, in tenths of a second; 0 is for ever.
    pub(super) fn patience(&self) -> u32 {
        match (self.timeout, self.total) {
            (0, total) => total,
            (timeout, 0) => timeout,
            (timeout, total) => timeout.min(total),
        }
    }

    /// The label of a name; in another case, if there is no better one.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let mut items = self.items.iter();
        items.position(|item| item.label.name == name).or_else(|| {
            let mut items = self.items.iter();
            items.position(|item| item.label.name.eq_ignore_ascii_case(name))
        })
    }

    /// The item that a menu begins with.
    pub(super) fn marked(&self) -> Option<usize> {
        // Beside `UI` alone, a `DEFAULT` is the menu's.
        let default = self.default.as_ref().filter(|_| self.ui.is_some());
        let named = default.and_then(|value| self.find(first_word(&value.text).0));
        let shown = named.filter(|at| {
            let item = self.items.get(*at);
            item.is_some_and(|item| !item.label.is_hidden)
        });
        let mut target = shown.map_or(Target::Menu(self.first_menu), Target::Item);
        for _ in 0..=self.menus.len() {
            match target {
                Target::Item(at) => return Some(at),
                Target::Menu(at) => {
                    let menu = self.menus.get(at)?;
                    target = menu.marked.or(menu.first)?;
                }
            }
        }
        None
    }

    /// The item that a command starts: a label; with words, a new one before
    /// all others; or a kernel.
    pub(super) fn command(&mut self, value: &Value) -> Option<usize> {
        let (name, words) = first_word(&value.text);
        let found = self.find(name);
        let mut label = match found {
            Some(at) if words.is_empty() => return Some(at),
            Some(at) => self.items.get(at)?.label.clone(),
            None if name.is_empty() || self.no_kernels || is_program(name) => return None,
            None => Label::new(name, value.source.clone()),
        };
        if found.is_some() || !self.no_words {
            label.words = words.to_string();
        }
        let title = label.title.as_deref().unwrap_or(&label.name);
        label.title = Some(format!("{title} {}", label.words).trim_ascii().into());
        // What stands in the menus moves on by one.
        let moved = |target: &mut Target| {
            if let Target::Item(at) = target {
                *at = at.saturating_add(1);
            }
        };
        for (at, menu) in self.menus.iter_mut().enumerate() {
            for target in [&mut menu.first, &mut menu.marked].into_iter().flatten() {
                moved(target);
            }
            if at == 0 {
                menu.count = menu.count.saturating_add(1);
            } else if menu.parent == 0 {
                menu.index = menu.index.saturating_add(1);
            }
        }
        for item in self.items.iter_mut().filter(|item| item.menu == 0) {
            item.index = item.index.saturating_add(1);
        }
        let (menu, index) = (0, 0);
        self.items.insert(0, Item { menu, index, label });
        Some(0)
    }

    /// The way to an item through submenus.
    pub(super) fn steps(&self, item: &Item, entry: &Entry) -> Vec<Step> {
        let mut steps = Vec::from([Step {
            index: item.index,
            id: entry.id.clone(),
            title: entry.title.clone(),
        }]);
        let mut at = item.menu;
        while let Some(menu) = self.menus.get(at).filter(|_| at > 0) {
            let title = menu.title.as_deref().unwrap_or(&menu.tag);
            steps.push(Step {
                index: menu.index,
                id: String::new(),
                title: crate::entry::shown(title),
            });
            // A parent was there before.
            at = menu.parent;
        }
        steps.reverse();
        steps
    }
}

/// The number that a text begins with, as `atoi` reads it.
fn number(text: &str) -> Option<u32> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit());
    text.get(..end.unwrap_or(text.len()))?.parse().ok()
}
