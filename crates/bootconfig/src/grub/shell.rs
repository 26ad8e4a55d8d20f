//! Running a GRUB script.
//!
//! Semantics: GNU GRUB manual, "Shell-like scripting". Steps: words are
//! expanded (variables outside quotes are parted at blanks), then a function
//! of that name is called, or a command ([`super::commands`]), or the word is
//! an assignment.
//!
//! Everything costs steps, of which a script has a number: it ends, whatever
//! it says.

use alloc::{collections::BTreeMap, format, rc::Rc, string::String, vec, vec::Vec};

use super::{
    blscfg::Snippet,
    condition,
    env::{Environment, MAX_VALUE},
    lexer::TOO_MANY_PARTS,
    loops::Loops,
    parser::{Block, Node, TOO_DEEP, parse},
    search::Searched,
};
use crate::{
    entry::{EntryProblem, MAX_ENTRIES, MAX_FILES_BYTES, MAX_SAID, Menu, Place, Source, shown},
    volumes::Volumes,
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
/// Functions, at most.
const MAX_FUNCTIONS: usize = 256;
/// GRUB's numbers of errors (`include/grub/err.h`): of a file that is not there,
pub(super) const FILE_NOT_FOUND: u32 = 5;
/// a device that is not there,
pub(super) const UNKNOWN_DEVICE: u32 = 12;
/// a command in the wrong place,
pub(super) const INVALID_COMMAND: u32 = 17;
/// and a wrong argument.
pub(super) const BAD_ARGUMENT: u32 = 18;

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
    arguments: Option<Vec<String>>,
}

/// What an entry has loaded so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded {
    pub(super) kind: Option<crate::entry::Kind>,
}

/// Why a script ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Out of everything.
    Exit,
}

/// What a script is run with, and what it has come to.
#[derive(Debug)]
pub(super) struct Shell<'a> {
    pub(super) volumes: &'a Volumes<'a>,
    pub(super) env: Environment,
    functions: Rc<BTreeMap<String, Block>>,
    pub(super) searched: Rc<Searched>,
    /// Of the function or entry that is run; outside there are none.
    pub(super) arguments: Option<Vec<String>>,
    /// The file that is run.
    pub(super) file: Rc<Place>,
    pub(super) items: Vec<Item>,
    pub(super) loaded: Loaded,
    /// What the entry that is run cannot do.
    pub(super) problem: Option<EntryProblem>,
    /// What would be its problem if nothing is loaded: a command that is none.
    pub(super) unknown: Option<EntryProblem>,
    /// What went wrong last and may be the cause of a problem.
    pub(super) hint: Option<String>,
    /// Whether an entry is run, not a configuration.
    pub(super) in_entry: bool,
    /// Folders that `blscfg` has read.
    pub(super) blscfg: Vec<Place>,
    /// The configurations that were read in place of the first.
    pub(super) configs: Vec<Place>,
    /// What the last command came to: 0, or the number of GRUB's error.
    pub(super) status: u32,
    /// The number of the error of the command that is run, where it is not 1.
    pub(super) error: u32,
    pub(super) loops: Loops,
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
            searched: Rc::default(),
            arguments: None,
            configs: vec![file.clone()],
            file: Rc::new(file),
            items: Vec::new(),
            loaded: Loaded::default(),
            problem: None,
            unknown: None,
            hint: None,
            in_entry: false,
            blscfg: Vec::new(),
            status: 0,
            error: 0,
            loops: Loops::default(),
            steps: MAX_STEPS,
            tokens: MAX_TOKENS,
            bytes: MAX_FILES_BYTES,
            nest: 0,
        }
    }

    /// A copy of all of this to run an entry in.
    pub(super) fn for_entry(&self, arguments: &[String], file: &Place) -> Self {
        Self {
            arguments: Some(arguments.to_vec()),
            file: Rc::new(file.clone()),
            items: Vec::new(),
            loaded: Loaded::default(),
            problem: None,
            unknown: None,
            hint: None,
            in_entry: true,
            blscfg: Vec::new(),
            configs: Vec::new(),
            volumes: self.volumes,
            env: self.env.clone(),
            functions: self.functions.clone(),
            searched: self.searched.clone(),
            status: 0,
            error: 0,
            loops: Loops::default(),
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
        let result = self.list(nodes, menu);
        self.nest = self.nest.saturating_sub(1);
        result
    }

    fn list(&mut self, nodes: &[Node], menu: &mut Menu) -> Result<(), Flow> {
        if nodes.is_empty() || self.loops.leaving > 0 {
            self.status = 0;
        }
        for node in nodes {
            if self.loops.leaving > 0 {
                break;
            }
            self.node(node, menu)?;
            if self.loops.returning {
                break;
            }
        }
        Ok(())
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
                    if self.loops.returning {
                        return Ok(());
                    }
                    if self.status == 0 {
                        return self.run(body, menu);
                    }
                }
                self.run(otherwise, menu)
            }
            Node::For { name, words, body } => {
                let values = self.expand(words, 0, menu)?;
                self.loops.enter();
                // In its body, `$?` is that of the command before it.
                if values.is_empty() {
                    self.status = 0;
                }
                for value in values {
                    self.spend(menu, 0, 1)?;
                    self.env.set(name, &value);
                    self.run(body, menu)?;
                    if self.loops.returning || !self.loops.again() {
                        break;
                    }
                }
                self.loops.end();
                Ok(())
            }
            Node::While {
                condition,
                wanted,
                body,
            } => {
                self.loops.enter();
                loop {
                    self.spend(menu, 0, 1)?;
                    self.run(condition, menu)?;
                    if self.loops.returning || (self.status == 0) != *wanted {
                        break;
                    }
                    self.run(body, menu)?;
                    if self.loops.returning || !self.loops.again() {
                        break;
                    }
                }
                self.loops.end();
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
            Node::Broken { line, word, why } => {
                let what = format!("not understood: {why}");
                if [TOO_DEEP, TOO_MANY_PARTS].contains(why) {
                    self.refuse(menu, *line, word, what);
                } else {
                    let text = format!("{:?}: {what}; GRUB leaves this out, too", shown(word));
                    menu.note(self.source(*line), text);
                }
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
            [first] if first == "!" => return Ok(BAD_ARGUMENT),
            [first, rest @ ..] if first == "!" => (rest, true),
            words => (words, false),
        };
        let [name, arguments @ ..] = words else {
            // Nothing but variables without a value.
            return Ok(0);
        };
        self.error = 0;
        let status = if let Some(done) = self.builtin(line, name, arguments, block, menu)? {
            match self.error {
                _ if done => 0,
                0 => 1,
                error => error,
            }
        } else if let Some(body) = self.functions.get(name).cloned() {
            self.call(&body, arguments, menu)?
        } else if let Some((name, value)) = name.split_once('=') {
            // Whatever comes of it, and whether it is inverted, is a success.
            if !name.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '#' | '*' | '@')) {
                self.assign(line, name, value, menu);
            }
            return Ok(0);
        } else {
            self.unknown(line, name, menu);
            // To GRUB, that is a success.
            return Ok(0);
        };
        Ok(if inverted {
            u32::from(status == 0)
        } else {
            status
        })
    }

    /// What is no command goes by, as in GRUB; it may have been what loads.
    fn unknown(&mut self, line: u32, name: &str, menu: &mut Menu) {
        const WHAT: &str = "no such command here; Kexen leaves it out";
        if !self.in_entry {
            self.refuse(menu, line, name, format!("{WHAT}, the menu may need it"));
            return;
        }
        let (source, word) = (self.source(line), shown(name));
        menu.note(source.clone(), format!("{word:?}: {WHAT}"));
        let what = format!("{WHAT}, and the entry loads no kernel");
        self.unknown
            .get_or_insert(EntryProblem { source, word, what });
    }

    /// Calls a function.
    fn call(&mut self, body: &Block, arguments: &[String], menu: &mut Menu) -> Result<u32, Flow> {
        let outer = self.arguments.replace(arguments.to_vec());
        let active = core::mem::take(&mut self.loops.active);
        self.run(body, menu)?;
        self.loops.returning = false;
        self.loops.active = active;
        self.arguments = outer;
        Ok(self.status)
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
