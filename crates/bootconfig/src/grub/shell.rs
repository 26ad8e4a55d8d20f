//! Running a GRUB script.
//!
//! Semantics: GNU GRUB manual, "Shell-like scripting". Steps: words are
//! expanded (variables outside quotes are parted at blanks), then a function
//! of that name is called, or a command ([`super::commands`]), or the word is
//! an assignment.
//!
//! Everything costs steps, of which a script has a number: it ends, whatever
//! it says.

use alloc::{
    collections::BTreeMap,
    format,
    rc::Rc,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use kexen_disk::fs::FileType;

use super::{
    blscfg::Snippet,
    condition::{self, Files},
    env::{Environment, MAX_VALUE},
    legacy,
    parser::{Block, Node, parse},
};
use crate::{
    bls::bytes,
    entry::{
        EntryProblem, MAX_ENTRIES, MAX_FILE, MAX_FILES_BYTES, MAX_SAID, Menu, Place, Source, shown,
    },
    volumes::{Volume, Volumes},
};

/// Steps of a configuration before its menu.
pub(super) const MAX_STEPS: u32 = 200_000;
/// Words with their parts, and signs, of a configuration, at most: each takes
/// memory.
pub(super) const MAX_TOKENS: u32 = 1 << 15;
/// Steps of one entry.
pub(super) const ENTRY_STEPS: u32 = 20_000;
/// Steps of all entries together.
pub(super) const ALL_ENTRIES_STEPS: u32 = 500_000;
/// What a look at the disk costs.
pub(super) const LOOK_STEPS: u32 = 50;
/// How deep blocks, functions and files may be in one another while running.
const MAX_NEST: u32 = 48;
/// What says which file is read.
const CONFIG: [&str; 2] = ["config_file", "config_directory"];
/// Functions, at most.
const MAX_FUNCTIONS: usize = 256;
/// What reading a file costs.
const FILE_STEPS: u32 = 1000;

/// An entry of a menu, whose body is not run yet.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) title: String,
    pub(super) id: String,
    pub(super) source: Source,
    pub(super) what: What,
}

impl Item {
    /// Bytes of its title and arguments.
    fn said(&self) -> usize {
        let words = match &self.what {
            What::Script(_, words) | What::Submenu(_, words) => words.as_slice(),
            What::Bls(snippet) => snippet.arguments.as_slice(),
        };
        let words = words.iter().chain([&self.title, &self.id]);
        words.map(String::len).fold(0, usize::saturating_add)
    }
}

/// What an entry is made of.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// `menuentry`: a body and its arguments.
    Script(Block, Vec<String>),
    /// `submenu`: the same, in a context of its own.
    Submenu(Block, Vec<String>),
    /// A file that `blscfg` found.
    Bls(Rc<Snippet>),
}

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Script,
    /// GRUB legacy's commands.
    Legacy,
}

/// What a configuration leaves when it goes on in another.
#[derive(Debug)]
pub(super) struct Outer {
    env: Environment,
    items: Vec<Item>,
    arguments: Vec<String>,
}

/// What an entry has loaded so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded {
    pub(super) kind: Option<crate::entry::Kind>,
}

/// Why a block ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Out of so many loops.
    Break(u32),
    /// On with the next round, so many loops out.
    Continue(u32),
    /// Out of the function or file.
    Return,
    /// Out of everything.
    Exit,
}

/// What a script is run with, and what it has come to.
#[derive(Debug)]
pub(super) struct Shell<'a> {
    pub(super) volumes: &'a Volumes<'a>,
    pub(super) env: Environment,
    functions: Rc<BTreeMap<String, Block>>,
    pub(super) arguments: Vec<String>,
    /// The file that is run.
    pub(super) file: Rc<Place>,
    pub(super) items: Vec<Item>,
    pub(super) loaded: Loaded,
    /// What the entry that is run cannot do.
    pub(super) problem: Option<EntryProblem>,
    /// What went wrong last and may be the cause of a problem.
    pub(super) hint: Option<String>,
    /// Whether an entry is run, not a configuration.
    pub(super) in_entry: bool,
    /// Folders that `blscfg` has read.
    pub(super) blscfg: Vec<Place>,
    /// The configurations that were read in place of the first.
    pub(super) configs: Vec<Place>,
    /// What the last command came to; 0 is success.
    pub(super) status: u32,
    /// How many functions are being run.
    pub(super) calls: u32,
    pub(super) steps: u32,
    /// Tokens and parts of words that may still be read.
    tokens: u32,
    /// Bytes of files that may still be read.
    pub(super) bytes: u64,
    nest: u32,
}

impl<'a> Shell<'a> {
    pub(super) fn new(volumes: &'a Volumes<'a>, env: Environment, file: Place) -> Self {
        Self {
            volumes,
            env,
            functions: Rc::default(),
            arguments: Vec::new(),
            configs: vec![file.clone()],
            file: Rc::new(file),
            items: Vec::new(),
            loaded: Loaded::default(),
            problem: None,
            hint: None,
            in_entry: false,
            blscfg: Vec::new(),
            status: 0,
            calls: 0,
            steps: MAX_STEPS,
            tokens: MAX_TOKENS,
            bytes: MAX_FILES_BYTES,
            nest: 0,
        }
    }

    /// A copy of all of this to run an entry in.
    pub(super) fn for_entry(&self, arguments: &[String], file: &Place) -> Self {
        Self {
            arguments: arguments.to_vec(),
            file: Rc::new(file.clone()),
            items: Vec::new(),
            loaded: Loaded::default(),
            problem: None,
            hint: None,
            in_entry: true,
            blscfg: Vec::new(),
            configs: Vec::new(),
            volumes: self.volumes,
            env: self.env.clone(),
            functions: self.functions.clone(),
            status: 0,
            calls: 0,
            steps: ENTRY_STEPS,
            tokens: self.tokens,
            bytes: self.bytes,
            nest: 0,
        }
    }

    pub(super) fn source(&self, line: u32) -> Source {
        Source {
            place: (*self.file).clone(),
            line,
        }
    }

    /// What Kexen cannot do: the entry's problem, or a note of the menu. The
    /// command has failed.
    pub(super) fn refuse(&mut self, menu: &mut Menu, line: u32, word: &str, what: String) -> bool {
        let word = shown(word);
        if self.in_entry {
            let source = self.source(line);
            self.problem
                .get_or_insert(EntryProblem { source, word, what });
        } else {
            // What is not done may choose the default.
            menu.doubt(self.source(line), format!("{word:?}: {what}"));
        }
        false
    }

    /// Goes on in another configuration: with exported variables alone and
    /// a menu of its own. What was there before is given back.
    pub(super) fn configuration(&mut self, place: Place) -> Outer {
        let exported = self.env.exported();
        self.configs.push(place);
        Outer {
            env: core::mem::replace(&mut self.env, exported),
            items: core::mem::take(&mut self.items),
            arguments: core::mem::take(&mut self.arguments),
        }
    }

    /// Comes back from a configuration without a menu.
    pub(super) fn go_back(&mut self, outer: Outer) {
        self.configs.pop();
        (self.env, self.items, self.arguments) = (outer.env, outer.items, outer.arguments);
    }

    /// Has `config_file` and `config_directory` say which file is read; what
    /// they were.
    fn enter_file(&mut self, place: &Place) -> [Option<String>; 2] {
        let outer = CONFIG.map(|name| self.env.value(name).map(String::from));
        let (volume, folder) = (
            self.volumes.get(place.volume).map(Volume::grub_name),
            place.path.rsplit_once('/').map_or("", |(folder, _)| folder),
        );
        let device = volume.unwrap_or_default();
        for (name, path) in CONFIG.into_iter().zip([&*place.path, folder]) {
            self.env.set(name, &format!("({device}){path}"));
            self.env.export(name);
        }
        outer
    }

    fn leave_file(&mut self, outer: [Option<String>; 2]) {
        for (name, value) in CONFIG.into_iter().zip(outer) {
            match value {
                Some(value) => {
                    self.env.set(name, &value);
                }
                None => self.env.unset(name),
            }
        }
    }

    /// Takes steps; ends everything if there are not so many left.
    pub(super) fn spend(&mut self, menu: &mut Menu, line: u32, steps: u32) -> Result<(), Flow> {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => {
                self.steps = 0;
                let what = if self.in_entry {
                    format!(
                        "this entry takes more than {ENTRY_STEPS} steps, or all together more \
                         than {ALL_ENTRIES_STEPS}"
                    )
                } else {
                    format!("this takes more than {MAX_STEPS} steps; the rest is left out")
                };
                self.refuse(menu, line, "steps", what);
                Err(Flow::Exit)
            }
        }
    }

    /// Runs commands.
    pub(super) fn run(&mut self, nodes: &[Node], menu: &mut Menu) -> Result<(), Flow> {
        if self.nest == MAX_NEST {
            let what = format!("blocks and functions are more than {MAX_NEST} deep");
            self.refuse(menu, 0, "nesting", what);
            return Err(Flow::Exit);
        }
        self.nest = self.nest.saturating_add(1);
        let result = nodes.iter().try_for_each(|node| self.node(node, menu));
        self.nest = self.nest.saturating_sub(1);
        result
    }

    fn node(&mut self, node: &Node, menu: &mut Menu) -> Result<(), Flow> {
        self.spend(menu, 0, 1)?;
        match node {
            Node::Command { line, words, block } => {
                let words = self.expand(words, *line, menu)?;
                self.status = self.command(*line, &words, block.as_ref(), menu)?;
                Ok(())
            }
            Node::If { arms, otherwise } => {
                for (condition, body) in arms {
                    self.run(condition, menu)?;
                    if self.status == 0 {
                        return self.run(body, menu);
                    }
                }
                self.status = 0;
                self.run(otherwise, menu)
            }
            Node::For { name, words, body } => {
                let values = self.expand(words, 0, menu)?;
                self.status = 0;
                for value in values {
                    self.spend(menu, 0, 1)?;
                    self.env.set(name, &value);
                    let flow = self.run(body, menu);
                    if !again(flow)? {
                        break;
                    }
                }
                Ok(())
            }
            Node::While {
                condition,
                wanted,
                body,
            } => {
                loop {
                    self.spend(menu, 0, 1)?;
                    self.run(condition, menu)?;
                    if (self.status == 0) != *wanted {
                        break;
                    }
                    let flow = self.run(body, menu);
                    if !again(flow)? {
                        break;
                    }
                }
                Ok(())
            }
            Node::Function { name, body } => {
                let functions = Rc::make_mut(&mut self.functions);
                if functions.len() < MAX_FUNCTIONS {
                    functions.insert(name.clone(), body.clone());
                } else {
                    let what = format!("more than {MAX_FUNCTIONS} functions");
                    self.refuse(menu, 0, name, what);
                }
                Ok(())
            }
            Node::Group(body) => self.run(body, menu),
            Node::Broken { line, word, why } => {
                self.refuse(menu, *line, word, format!("not understood: {why}"));
                self.status = 1;
                Ok(())
            }
        }
    }

    /// Runs a command, and tells its status.
    fn command(
        &mut self,
        line: u32,
        words: &[String],
        block: Option<&Block>,
        menu: &mut Menu,
    ) -> Result<u32, Flow> {
        let (words, inverted) = match words {
            [first, rest @ ..] if first == "!" => (rest, true),
            words => (words, false),
        };
        let [name, arguments @ ..] = words else {
            // Nothing but variables without a value.
            return Ok(0);
        };
        let status = if let Some(body) = self.functions.get(name).cloned() {
            let outer = core::mem::replace(&mut self.arguments, arguments.to_vec());
            self.calls = self.calls.saturating_add(1);
            let flow = self.run(&body, menu);
            self.calls = self.calls.saturating_sub(1);
            self.arguments = outer;
            if flow == Err(Flow::Exit) {
                return Err(Flow::Exit);
            }
            self.status
        } else if let Some(done) = self.builtin(line, name, arguments, block, menu)? {
            u32::from(!done)
        } else if let Some((name, value)) = name.split_once('=') {
            u32::from(!self.assign(line, name, value, menu))
        } else {
            let what = "no such command here; Kexen leaves it out, the entry may need it";
            self.refuse(menu, line, name, what.to_string());
            // To GRUB, that is a success.
            return Ok(0);
        };
        Ok(if inverted {
            u32::from(status == 0)
        } else {
            status
        })
    }

    /// `name=value`
    pub(super) fn assign(&mut self, line: u32, name: &str, value: &str, menu: &mut Menu) -> bool {
        if self.env.set(name, value) {
            return true;
        }
        let what = format!("the variable, or all of them, are longer than is taken ({MAX_VALUE})");
        self.refuse(menu, line, name, what)
    }

    /// Reads a script; every token is a step.
    pub(super) fn parse(&mut self, text: &str, line: u32, menu: &mut Menu) -> Result<Block, Flow> {
        let (nodes, tokens) = parse(text, line.max(1), self.steps.min(self.tokens));
        let blanks = u32::try_from(text.len() / 64).unwrap_or(u32::MAX);
        self.spend(menu, line, tokens.saturating_add(blanks))?;
        self.tokens = self.tokens.saturating_sub(tokens);
        if self.tokens == 0 {
            let what = format!("these are more than {MAX_TOKENS}; the rest is left out");
            self.refuse(menu, line, "words", what);
        }
        Ok(nodes)
    }

    /// Runs text as a script of its own: a file's, or `eval`'s.
    pub(super) fn run_text(
        &mut self,
        text: &str,
        line: u32,
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        let nodes = self.parse(text, line, menu)?;
        self.status = 0;
        match self.run(&nodes, menu) {
            Ok(()) | Err(Flow::Return | Flow::Break(_) | Flow::Continue(_)) => Ok(self.status == 0),
            Err(Flow::Exit) => Err(Flow::Exit),
        }
    }

    /// Runs a file in this context.
    pub(super) fn source_file(
        &mut self,
        line: u32,
        place: Place,
        language: Language,
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        self.spend(menu, line, FILE_STEPS)?;
        let text = match self.volumes.text(&place, MAX_FILE.min(self.bytes)) {
            Ok(text) => text,
            Err(error) => {
                // To GRUB, that is a success: what matters may come behind.
                let text = format!("{}: {}", place.path, error.problem);
                menu.note(self.source(line), text);
                return Ok(true);
            }
        };
        self.bytes = self.bytes.saturating_sub(bytes(&text));
        let text = match language {
            Language::Script => text,
            Language::Legacy => self.translated(&place, &text, menu),
        };
        let names = self.enter_file(&place);
        let outer = core::mem::replace(&mut self.file, Rc::new(place));
        let result = self.run_text(&text, 1, menu);
        self.file = outer;
        self.leave_file(names);
        result
    }

    /// GRUB legacy's file as a script.
    fn translated(&self, place: &Place, text: &str, menu: &mut Menu) -> String {
        let beside = Place {
            volume: place.volume,
            path: crate::volumes::beside(&place.path, "default"),
        };
        let saved = self.volumes.text(&beside, MAX_FILE.min(self.bytes)).ok();
        let saved = saved.as_deref().and_then(legacy::saved);
        if let (None, Some(line)) = (saved, legacy::asks_for_saved(text)) {
            let place = place.clone();
            let text = format!(
                "default saved: the file {} with its number cannot be read; the first entry is \
                 taken",
                beside.path
            );
            menu.doubt(Source { place, line }, text);
        }
        let devices = legacy::Devices {
            volumes: self.volumes,
            home: place.volume,
        };
        legacy::script(devices, text, saved.unwrap_or("0"))
    }

    pub(super) fn push_item(&mut self, item: Item, menu: &mut Menu) -> bool {
        let said = self.items.iter().map(Item::said);
        if said.fold(item.said(), usize::saturating_add) > MAX_SAID {
            let text = format!("titles of more than {MAX_SAID} bytes in all: left out");
            menu.note(item.source, text);
            return false;
        }
        if self.items.len() < MAX_ENTRIES {
            self.items.push(item);
            return true;
        }
        if self.items.len() == MAX_ENTRIES {
            menu.note(
                item.source,
                format!("more than {MAX_ENTRIES} entries: left out"),
            );
        }
        false
    }

    /// Whether a condition of `test` holds.
    pub(super) fn test(&mut self, arguments: &[String]) -> bool {
        let words = arguments.to_vec();
        condition::holds(&words, self)
    }
}

impl Files for Shell<'_> {
    fn kind(&mut self, path: &str) -> Option<FileType> {
        self.steps = self.steps.saturating_sub(LOOK_STEPS);
        let place = self.place(path).ok()?;
        self.volumes.kind_of(&place).ok()
    }

    fn bytes(&mut self, path: &str) -> Option<u64> {
        self.steps = self.steps.saturating_sub(LOOK_STEPS);
        let place = self.place(path).ok()?;
        let data = self.volumes.fs(&place).ok()?.metadata(&place.path).ok()?;
        (data.kind == FileType::Regular).then_some(data.len)
    }
}

/// What a round of a loop means for the loop: whether there is another one.
fn again(flow: Result<(), Flow>) -> Result<bool, Flow> {
    match flow {
        Ok(()) | Err(Flow::Continue(0 | 1)) => Ok(true),
        Err(Flow::Break(0 | 1)) => Ok(false),
        Err(Flow::Continue(loops)) => Err(Flow::Continue(loops.saturating_sub(1))),
        Err(Flow::Break(loops)) => Err(Flow::Break(loops.saturating_sub(1))),
        Err(flow) => Err(flow),
    }
}
