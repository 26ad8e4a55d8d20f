//! Scripts from a seed, over the grammar that Kexen claims to read.
//!
//! Each ends: loops count in variables of their own, functions call only those
//! before them. What GRUB and Kexen cannot agree in is not made: what writes to
//! disks (the table of layouts has that), and what asks for a platform.

use super::script::{FUNCTION, Node, Script};
use super::words::{Rng, Scope, Words};
use super::world;

/// Makes the script of this number.
pub(crate) fn script(seed: u64, number: u64) -> Script {
    let mut maker = Maker {
        words: Words::new(Rng::new(seed, number)),
        entries: 0,
        loops: 0,
        functions: Vec::new(),
        files: Vec::new(),
        env: Vec::new(),
    };
    let mut main = maker.main();
    // What the variables hold in the end, one by one.
    main.push(maker.probe());
    let mut files = vec![("grub.cfg".to_owned(), main)];
    files.append(&mut maker.files);
    Script {
        files,
        env: maker.env,
    }
}

struct Maker {
    words: Words,
    entries: usize,
    loops: usize,
    /// Functions that may be called.
    functions: Vec<String>,
    files: Vec<(String, Vec<Node>)>,
    env: Vec<String>,
}

/// Where commands stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    /// In a file that is taken in.
    Sourced,
    Function,
    Entry,
    Submenu,
}

fn line(text: impl Into<String>) -> Node {
    Node::Line(text.into())
}

impl Maker {
    fn main(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        if self.words.rng.one_in(3) {
            self.env = self.block();
            nodes.push(line("load_env"));
        }
        let count = self.words.rng.range(3, 10);
        for _ in 0..count {
            nodes.extend(self.statement(Place::Top, 0));
        }
        if self.words.rng.one_in(2) {
            nodes.extend(self.settings());
        }
        if self.words.rng.one_in(25) {
            nodes.push(self.other_configuration());
        }
        nodes
    }

    /// Lines of an environment block.
    fn block(&mut self) -> Vec<String> {
        let count = self.words.rng.range(1, 3);
        (0..count)
            .map(|_| {
                let name = self.words.variable();
                let value = self
                    .words
                    .rng
                    .pick(&["1", "x y", "a=b", "v'q", "x*", "", "ü"]);
                format!("{name}={value}")
            })
            .collect()
    }

    fn settings(&mut self) -> Vec<Node> {
        let rng = &mut self.words.rng;
        let mut nodes = Vec::new();
        if rng.one_in(2) {
            let value = rng.pick(&[
                "0",
                "1",
                "2",
                "9",
                "1>0",
                "0>1",
                "'E0'",
                "\"i1\"",
                "\"i2>i3\"",
                "saved",
                "''",
                "01",
                "\"1 \"",
                "i1>0",
                "1>",
                "-1",
            ]);
            nodes.push(line(format!("set default={value}")));
        }
        if rng.one_in(2) {
            let value = rng.pick(&["0", "5", "-1", "x", "", "07", "12", "\"3\"", "4s", "0x10"]);
            nodes.push(line(format!("timeout={value}")));
        }
        if rng.one_in(3) {
            let value = rng.pick(&["menu", "hidden", "countdown", "other"]);
            nodes.push(line(format!("set timeout_style={value}")));
        }
        if rng.one_in(6) {
            let value = rng.pick(&["0", "1", "\"1 0\"", "i1"]);
            nodes.push(line(format!("set fallback={value}")));
        }
        nodes
    }

    fn body(&mut self, place: Place, depth: usize, most: usize) -> Vec<Node> {
        let count = self.words.rng.range(1, most);
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.extend(self.statement(place, depth));
        }
        nodes
    }

    fn statement(&mut self, place: Place, depth: usize) -> Vec<Node> {
        let menu = matches!(place, Place::Top | Place::Sourced | Place::Submenu);
        let deep = depth >= 3;
        loop {
            let kind = self.words.rng.range(0, 99);
            return match kind {
                0..=24 => vec![self.assignment()],
                25..=36 if !deep => vec![self.branch(place, depth)],
                37..=45 if place == Place::Function && depth > 1 => continue,
                37..=42 if !deep => vec![self.each(place, depth)],
                43..=45 if !deep => self.counted(place, depth),
                46..=51 if place == Place::Top && depth == 0 && self.functions.len() < 3 => {
                    self.function()
                }
                52..=56 if !self.functions.is_empty() => vec![self.call()],
                57..=61 => vec![line(self.words.regexp())],
                62..=67 => vec![line(self.words.search())],
                68..=69 if place == Place::Top => self.source(),
                70..=71 => vec![line(self.load_env())],
                72..=73 => vec![line(self.words.eval())],
                74..=76 => vec![line(self.words.unset_or_export())],
                77..=79 => self.words.harmless().map(line).into_iter().collect(),
                80..=89 if menu && self.entries < 7 => vec![self.entry(depth)],
                90..=92 if menu && depth < 2 && self.entries < 6 => vec![self.submenu(depth)],
                93..=94 if place == Place::Function => vec![line(self.words.of_function())],
                95..=96 => vec![line(self.words.status())],
                97..=98 => vec![line(self.words.probe())],
                99 => vec![self.wildcards(place, depth)],
                _ => continue,
            };
        }
    }

    fn assignment(&mut self) -> Node {
        let name = self.words.variable();
        let value = self.words.value();
        let set = self.words.rng.pick(&["set ", "", "set "]);
        line(format!("{set}{name}={value}"))
    }

    fn branch(&mut self, place: Place, depth: usize) -> Node {
        let mut parts = Vec::new();
        let arms = self.words.rng.range(1, 3);
        for arm in 0..arms {
            let word = if arm == 0 { "if" } else { "elif" };
            let condition = self.condition();
            let body = self.body(place, depth + 1, 2);
            let then = self.words.rng.pick(&["; then", " ; then"]);
            parts.push((format!("{word} {condition}{then}"), body));
        }
        if self.words.rng.one_in(2) {
            parts.push(("else".to_owned(), self.body(place, depth + 1, 2)));
        }
        Node::Block(parts, "fi")
    }

    fn condition(&mut self) -> String {
        match self.words.rng.range(0, 9) {
            0 if !self.functions.is_empty() => match self.call() {
                Node::Line(call) => call,
                Node::Block(..) => "true".into(),
            },
            1 => self.words.search(),
            2 => self.words.regexp(),
            3 => self
                .words
                .rng
                .pick(&["true", "false", "! true", "! false"])
                .into(),
            4 => format!("{}; {}", self.words.test(), self.words.test()),
            5 => format!("! {}", self.words.test()),
            _ => self.words.test(),
        }
    }

    fn each(&mut self, place: Place, depth: usize) -> Node {
        let name = self.words.variable();
        let count = self.words.rng.range(1, 4);
        let list: Vec<String> = (0..count).map(|_| self.words.word()).collect();
        let mut body = self.body(place, depth + 1, 2);
        if self.words.rng.one_in(4) {
            body.push(self.leave_loop());
        }
        body.push(line(format!("e=\"$e.${{{name}}}\"")));
        let head = format!("for {name} in {}; do", list.join(" "));
        Node::Block(vec![(head, body)], "done")
    }

    fn leave_loop(&mut self) -> Node {
        let word = self
            .words
            .rng
            .pick(&["break", "continue", "break 1", "continue 1", "break 2"]);
        let test = self.words.test();
        Node::Block(vec![(format!("if {test}; then"), vec![line(word)])], "fi")
    }

    /// A loop that counts by letters; the condition counts, so that `continue`
    /// passes nothing over.
    fn counted(&mut self, place: Place, depth: usize) -> Vec<Node> {
        self.loops += 1;
        let name = format!("n{}", self.loops);
        let end = "i".repeat(self.words.rng.range(1, 4));
        let (word, sign) = self.words.rng.pick_one([("while", "!="), ("until", "=")]);
        let head = format!("{word} {name}=\"${{{name}}}i\"; [ \"${name}\" {sign} \"{end}\" ]; do");
        let mut body = self.body(place, depth + 1, 2);
        if self.words.rng.one_in(4) {
            body.push(self.leave_loop());
        }
        // Another round of an outer loop counts anew.
        vec![
            line(format!("{name}=")),
            Node::Block(vec![(head, body)], "done"),
        ]
    }

    fn function(&mut self) -> Vec<Node> {
        let letter = ["a", "b", "c"][self.functions.len()];
        let name = format!("{FUNCTION}{letter}");
        let outer = std::mem::replace(&mut self.words.scope, Scope::Arguments);
        let mut body = self.body(Place::Function, 1, 3);
        if self.words.rng.one_in(4) {
            let value = self
                .words
                .rng
                .pick(&["return", "return 0", "return 1", "return 2"]);
            body.push(line(value));
            body.push(line("e=\"${e}!\""));
        }
        self.words.scope = outer;
        let block = Node::Block(vec![(format!("function {name} {{"), body)], "}");
        self.functions.push(name);
        vec![block, self.call()]
    }

    fn call(&mut self) -> Node {
        let index = self.words.rng.range(0, self.functions.len() - 1);
        let name = self.functions[index].clone();
        let count = self.words.rng.range(0, 3);
        let mut text = name;
        for _ in 0..count {
            text += " ";
            text += &self.words.word();
        }
        line(text)
    }

    fn source(&mut self) -> Vec<Node> {
        let name = format!("more{}.cfg", self.files.len());
        let mut body = self.body(Place::Sourced, 1, 3);
        if self.words.rng.one_in(4) {
            body.push(line("e=\"$config_directory\""));
        }
        let word = self.words.rng.pick(&["source", "."]);
        let path = self
            .words
            .rng
            .pick(&["$prefix/", "${config_directory}/", "\"$prefix\"/"]);
        let call = line(format!("{word} {path}{name}"));
        self.files.push((name, body));
        vec![call]
    }

    fn load_env(&mut self) -> String {
        let file = self.words.rng.pick(&[
            "",
            "-f $prefix/grubenv",
            "--file=${prefix}/grubenv",
            "--file $prefix/none",
        ]);
        let name = self.words.variable();
        let names = self.words.rng.pick(&["", "", name]);
        format!("load_env {file} {names}").trim_end().to_owned()
    }

    fn other_configuration(&mut self) -> Node {
        let name = "other.cfg".to_owned();
        let mut body = self.body(Place::Sourced, 2, 2);
        body.push(self.entry(2));
        if self.words.rng.one_in(2) {
            body.push(line("set timeout=5"));
        }
        self.files.push((name.clone(), body));
        line(format!("configfile $prefix/{name}"))
    }

    fn wildcards(&mut self, place: Place, depth: usize) -> Node {
        let name = self.words.variable();
        let pattern = self.words.pattern();
        let mut body = self.body(place, depth + 1, 1);
        body.push(line(format!("e=\"$e,${name}\"")));
        Node::Block(vec![(format!("for {name} in {pattern}; do"), body)], "done")
    }

    fn title(&mut self) -> String {
        let number = self.entries;
        self.entries += 1;
        let value = self.words.quoted();
        match self.words.rng.range(0, 5) {
            0 => format!("E{number}"),
            1 => format!("'E{number}'"),
            2 => format!("\"E{number}\" "),
            3 => format!("\"E{number} $a\""),
            4 => format!("$\"E{number}\""),
            _ => format!("\"E{number} \"{value}"),
        }
    }

    fn options(&mut self) -> String {
        let number = self.entries;
        let mut text = String::new();
        for _ in 0..self.words.rng.range(0, 2) {
            text += &match self.words.rng.range(0, 8) {
                0 => " --class a".to_owned(),
                1 => " --class=os".to_owned(),
                2 => " --unrestricted".to_owned(),
                3 => " --users ''".to_owned(),
                4..=6 => format!(" --id i{number}"),
                7 => format!(" --id=\"i{number}>\""),
                _ => " 'an argument'".to_owned(),
            };
        }
        text
    }

    fn entry(&mut self, depth: usize) -> Node {
        let title = self.title();
        let options = self.options();
        let outer = std::mem::replace(&mut self.words.scope, Scope::Arguments);
        let mut body = Vec::new();
        for _ in 0..self.words.rng.range(0, 2) {
            body.extend(self.statement(Place::Entry, depth + 1));
        }
        body.push(line(self.words.linux()));
        if self.words.rng.one_in(2) {
            body.push(line(self.words.initrd()));
        }
        self.words.scope = outer;
        Node::Block(vec![(format!("menuentry {title}{options} {{"), body)], "}")
    }

    fn submenu(&mut self, depth: usize) -> Node {
        let title = self.title();
        let options = self.options();
        let mut body = self.body(Place::Submenu, depth + 1, 2);
        body.push(self.entry(depth + 1));
        Node::Block(vec![(format!("submenu {title}{options} {{"), body)], "}")
    }

    fn probe(&mut self) -> Node {
        let mut text = String::from("linux (hd0,gpt2)/vmlinuz-1");
        for name in world::VARIABLES {
            text += &format!(" \"{name}=<${name}>\"");
        }
        text += " root=$root $prefix $config_file $chosen $1 $#";
        let body = vec![line(text)];
        Node::Block(vec![("menuentry \"Probe\" {".into(), body)], "}")
    }
}
