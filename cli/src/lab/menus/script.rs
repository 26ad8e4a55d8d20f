//! A generated configuration: files of commands and blocks, and how it is made
//! smaller.

/// What names of functions begin with. GRUB keeps functions for good: on a disk
/// with other scripts each gets names of its own.
pub(super) const FUNCTION: &str = "fn_";

/// A command, or what is built of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A command on a line of its own.
    Line(String),
    /// `if … then`, `elif … then` and so on, each with what is in it, and the word
    /// at the end.
    Block(Vec<(String, Vec<Self>)>, &'static str),
}

/// A configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    /// Its files; the first is `grub.cfg`.
    pub(crate) files: Vec<(String, Vec<Node>)>,
    /// Lines of its environment block.
    pub(crate) env: Vec<String>,
}

impl Node {
    fn write(&self, depth: usize, text: &mut String) {
        let indent = "  ".repeat(depth);
        match self {
            Self::Line(line) => *text += &format!("{indent}{line}\n"),
            Self::Block(parts, end) => {
                for (head, body) in parts {
                    *text += &format!("{indent}{head}\n");
                    for node in body {
                        node.write(depth + 1, text);
                    }
                }
                *text += &format!("{indent}{end}\n");
            }
        }
    }
}

impl Script {
    /// One of a text.
    pub(crate) fn of(text: &str) -> Self {
        let lines = text.lines().map(|line| Node::Line(line.to_owned()));
        Self {
            files: vec![("grub.cfg".into(), lines.collect())],
            env: Vec::new(),
        }
    }

    /// The text of a file, on a disk where the script has this number.
    pub(crate) fn text_for(nodes: &[Node], number: usize) -> String {
        Self::text(nodes).replace(FUNCTION, &format!("fn{number}_"))
    }

    /// The text of a file.
    fn text(nodes: &[Node]) -> String {
        let mut text = String::new();
        for node in nodes {
            node.write(0, &mut text);
        }
        text
    }

    /// All of it, to be shown.
    pub(crate) fn shown(&self) -> String {
        let mut all = String::new();
        for (name, nodes) in &self.files {
            all += &format!("--- {name}\n{}", Self::text(nodes));
        }
        if !self.env.is_empty() {
            all += &format!("--- grubenv\n{}\n", self.env.join("\n"));
        }
        all
    }

    /// Scripts that are a little smaller: each without something.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for index in 1..self.files.len() {
            let mut one = self.clone();
            one.files.remove(index);
            all.push(one);
        }
        for index in 0..self.env.len() {
            let mut one = self.clone();
            one.env.remove(index);
            all.push(one);
        }
        for (index, (_, nodes)) in self.files.iter().enumerate() {
            for nodes in smaller(nodes) {
                let mut one = self.clone();
                one.files[index].1 = nodes;
                all.push(one);
            }
        }
        all
    }
}

/// Lists without a node, with what was in a block in its place, or with a smaller
/// block.
fn smaller(nodes: &[Node]) -> Vec<Vec<Node>> {
    let mut all = Vec::new();
    let with = |index: usize, instead: &[Node]| {
        let mut list = nodes[..index].to_vec();
        list.extend_from_slice(instead);
        list.extend_from_slice(&nodes[index + 1..]);
        list
    };
    // Large pieces first.
    let half = nodes.len() / 2;
    if half > 1 {
        all.push(nodes[half..].to_vec());
        all.push(nodes[..half].to_vec());
    }
    for (index, node) in nodes.iter().enumerate() {
        all.push(with(index, &[]));
        match node {
            Node::Line(line) => {
                for line in fewer_words(line) {
                    all.push(with(index, &[Node::Line(line)]));
                }
            }
            Node::Block(parts, end) => {
                for (number, (head, body)) in parts.iter().enumerate() {
                    all.push(with(index, body));
                    if number > 0 {
                        let mut parts = parts.clone();
                        parts.remove(number);
                        all.push(with(index, &[Node::Block(parts, end)]));
                    }
                    for body in smaller(body) {
                        let mut parts = parts.clone();
                        parts[number].1 = body;
                        all.push(with(index, &[Node::Block(parts, end)]));
                    }
                    for head in fewer_words(head) {
                        let mut parts = parts.clone();
                        parts[number].0 = head;
                        all.push(with(index, &[Node::Block(parts, end)]));
                    }
                }
            }
        }
    }
    all
}

/// A line without one of its words. Words with quotes, and what holds a block
/// together, stay.
fn fewer_words(line: &str) -> Vec<String> {
    const STAY: [&str; 12] = [
        "if", "elif", "then", "else", "for", "in", "do", "while", "until", "function", "{", ";",
    ];
    let words: Vec<&str> = line.split(' ').collect();
    let mut all = Vec::new();
    for index in 1..words.len() {
        let word = words[index];
        let plain = !word.is_empty()
            && !STAY.contains(&word)
            && !word.contains(['\'', '"', '\\', ';', '{', '}', '[', ']']);
        if plain {
            let mut fewer = words.clone();
            fewer.remove(index);
            all.push(fewer.join(" "));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_is_smaller() {
        let line = |text: &str| Node::Line(text.into());
        let block = Node::Block(
            vec![
                ("if a; then".into(), vec![line("b c")]),
                ("else".into(), vec![line("d")]),
            ],
            "fi",
        );
        let script = Script {
            files: vec![("grub.cfg".into(), vec![line("x 'y z'"), block])],
            env: vec!["a=1".into()],
        };
        assert_eq!(
            Script::text(&script.files[0].1),
            "x 'y z'\nif a; then\n  b c\nelse\n  d\nfi\n"
        );
        let all = script.smaller();
        assert!(
            all.iter()
                .all(|one| one.shown().len() < script.shown().len())
        );
        let texts: Vec<String> = all
            .iter()
            .map(|one| Script::text(&one.files[0].1))
            .collect();
        for wanted in [
            "x 'y z'\nb c\n",
            "x 'y z'\nif a; then\n  b\nelse\n  d\nfi\n",
        ] {
            assert!(texts.iter().any(|text| text == wanted), "{texts:?}");
        }
    }
}
