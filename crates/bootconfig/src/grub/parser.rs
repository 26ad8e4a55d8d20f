//! From a GRUB script to its commands.
//!
//! Grammar: GNU GRUB manual, "Shell-like scripting". A mistake becomes a
//! [`Node::Broken`] in its place, and reading goes on behind it: what is wrong
//! in one menu entry is a matter of that entry.

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use super::lexer::{Lexer, Token, Word};

/// How deep blocks may be in one another.
pub(super) const MAX_DEPTH: u32 = 24;

/// Commands, one after the other.
pub(super) type Block = Rc<[Node]>;

/// A command, or what is built of commands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Node {
    Command {
        line: u32,
        words: Vec<Word>,
        /// `{ … }` behind the words: the body of a menu entry.
        block: Option<Block>,
    },
    If {
        /// Conditions, and what is done if they hold.
        arms: Vec<(Block, Block)>,
        otherwise: Block,
    },
    For {
        name: String,
        words: Vec<Word>,
        body: Block,
    },
    While {
        condition: Block,
        /// What the condition must come to.
        wanted: bool,
        body: Block,
    },
    Function {
        name: String,
        body: Block,
    },
    Group(Block),
    Broken {
        line: u32,
        word: String,
        why: &'static str,
    },
}

/// Reads a script that begins at a line of a file, but not more than `limit`
/// tokens and parts of words (the last word may have more): they take memory.
/// How many it has is the second result.
pub(super) fn parse(text: &str, line: u32, limit: u32) -> (Block, u32) {
    let mut parser = Parser {
        lexer: Lexer::new(text, line),
        next: (Token::Newline, line),
        depth: 0,
        tokens: 0,
        limit,
    };
    parser.advance();
    let mut nodes = Vec::new();
    loop {
        nodes.extend(parser.nodes());
        let (token, line) = &parser.next;
        let word = match token {
            Token::End => return (nodes.into(), parser.tokens),
            Token::Word(word) => word.plain().unwrap_or_default().to_string(),
            _ => "}".to_string(),
        };
        nodes.push(Node::Broken {
            line: *line,
            word,
            why: "nothing before it asks for that word",
        });
        parser.advance();
    }
}

struct Parser<'s> {
    lexer: Lexer<'s>,
    next: (Token, u32),
    depth: u32,
    tokens: u32,
    limit: u32,
}

/// Words that end a block.
const ENDS: [&str; 6] = ["then", "elif", "else", "fi", "do", "done"];

impl Parser<'_> {
    fn advance(&mut self) -> Token {
        let next = if self.tokens < self.limit {
            let next = self.lexer.token();
            let parts = match &next.0 {
                Token::Word(word) => u32::try_from(word.0.len()).unwrap_or(u32::MAX),
                _ => 1,
            };
            self.tokens = self.tokens.saturating_add(parts.max(1));
            next
        } else {
            (Token::End, self.next.1)
        };
        core::mem::replace(&mut self.next, next).0
    }

    fn at(&self, word: &str) -> bool {
        matches!(&self.next.0, Token::Word(next) if next.plain() == Some(word))
    }

    fn skip_separators(&mut self) {
        while matches!(self.next.0, Token::Newline | Token::Semicolon) {
            self.advance();
        }
    }

    fn skip_line(&mut self) {
        while !matches!(self.next.0, Token::Newline | Token::End) {
            self.advance();
        }
    }

    /// Commands up to a word or brace that ends them.
    fn nodes(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        loop {
            self.skip_separators();
            match &self.next.0 {
                Token::End | Token::Close => return nodes,
                Token::Word(word) if word.plain().is_some_and(|word| ENDS.contains(&word)) => {
                    return nodes;
                }
                _ => {}
            }
            let line = self.next.1;
            if self.depth == MAX_DEPTH {
                nodes.push(Node::Broken {
                    line,
                    word: "{".into(),
                    why: "blocks are nested more than 24 deep; the rest is left out",
                });
                while self.next.0 != Token::End {
                    self.advance();
                }
                return nodes;
            }
            self.depth = self.depth.saturating_add(1);
            let node = self.node(line);
            self.depth = self.depth.saturating_sub(1);
            nodes.push(node.unwrap_or_else(|(line, word, why)| Node::Broken { line, word, why }));
        }
    }

    fn block(&mut self) -> Block {
        self.nodes().into()
    }

    fn node(&mut self, line: u32) -> Result<Node, Mistake> {
        let plain = match &self.next.0 {
            Token::Open => return Ok(Node::Group(self.braces(line)?)),
            Token::Word(word) => word.plain().unwrap_or_default().to_string(),
            _ => String::new(),
        };
        match plain.as_str() {
            "if" => self.branch(line),
            "for" => self.each(line),
            "while" | "until" => {
                self.advance();
                let condition = self.block();
                let body = self.body(line, &plain)?;
                Ok(Node::While {
                    condition,
                    wanted: plain == "while",
                    body,
                })
            }
            "function" => {
                self.advance();
                let Token::Word(name) = self.advance() else {
                    return Err((line, plain, "a name must follow"));
                };
                let name = name.plain().unwrap_or_default().to_string();
                self.skip_separators();
                let body = self.braces(line)?;
                Ok(Node::Function { name, body })
            }
            _ => self.command(line),
        }
    }

    fn command(&mut self, line: u32) -> Result<Node, Mistake> {
        let mut words = Vec::new();
        let mut block = None;
        loop {
            match &mut self.next.0 {
                Token::Word(word) => {
                    words.push(core::mem::take(word));
                    self.advance();
                }
                Token::Open => block = Some(self.braces(line)?),
                Token::Bad(word, why) => {
                    let mistake = (self.next.1, core::mem::take(word), *why);
                    self.skip_line();
                    return Err(mistake);
                }
                _ => break,
            }
        }
        Ok(Node::Command { line, words, block })
    }

    /// `{ … }`
    fn braces(&mut self, line: u32) -> Result<Block, Mistake> {
        if self.next.0 != Token::Open {
            return Err((line, "{".into(), "it is missing"));
        }
        self.advance();
        let mut nodes = self.nodes();
        // A stray `fi` or the like must not end the block of an entry.
        while let Token::Word(word) = &self.next.0 {
            nodes.push(Node::Broken {
                line: self.next.1,
                word: word.plain().unwrap_or_default().to_string(),
                why: "nothing before it asks for that word",
            });
            self.advance();
            nodes.extend(self.nodes());
        }
        if self.next.0 != Token::Close {
            return Err((line, "{".into(), "the block is not closed"));
        }
        self.advance();
        Ok(nodes.into())
    }

    fn branch(&mut self, line: u32) -> Result<Node, Mistake> {
        let mut arms = Vec::new();
        let mut otherwise: Block = Rc::from([]);
        loop {
            self.advance();
            let condition = self.block();
            if !self.at("then") {
                return Err((line, "if".into(), "no `then` follows"));
            }
            self.advance();
            arms.push((condition, self.block()));
            if !self.at("elif") {
                break;
            }
        }
        if self.at("else") {
            self.advance();
            otherwise = self.block();
        }
        if !self.at("fi") {
            return Err((line, "if".into(), "no `fi` follows"));
        }
        self.advance();
        Ok(Node::If { arms, otherwise })
    }

    fn each(&mut self, line: u32) -> Result<Node, Mistake> {
        self.advance();
        let Token::Word(name) = self.advance() else {
            return Err((line, "for".into(), "a name must follow"));
        };
        let name = name.plain().unwrap_or_default().to_string();
        if !self.at("in") {
            return Err((line, "for".into(), "no `in` follows"));
        }
        self.advance();
        let mut words = Vec::new();
        while let Token::Word(word) = &mut self.next.0 {
            words.push(core::mem::take(word));
            self.advance();
        }
        self.skip_separators();
        let body = self.body(line, "for")?;
        Ok(Node::For { name, words, body })
    }

    /// `do … done`
    fn body(&mut self, line: u32, of: &str) -> Result<Block, Mistake> {
        if !self.at("do") {
            return Err((line, of.into(), "no `do` follows"));
        }
        self.advance();
        let body = self.block();
        if !self.at("done") {
            return Err((line, of.into(), "no `done` follows"));
        }
        self.advance();
        Ok(body)
    }
}

/// Line, word, and what is wrong.
type Mistake = (u32, String, &'static str);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, line: u32) -> Block {
        super::parse(text, line, u32::MAX).0
    }

    fn broken(nodes: &[Node]) -> Vec<(u32, &str)> {
        nodes
            .iter()
            .filter_map(|node| match node {
                Node::Broken { line, word, .. } => Some((*line, word.as_str())),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn blocks_are_told_apart() {
        let nodes = parse(
            "function f {\n a\n}\nif b; then c; elif d\nthen e; else f; fi\n\
             for x in 1 2; do g; done\nwhile h; do i; done; until h; do i\ndone\n\
             menuentry 'x' --id y { linux /k; initrd /i\n}\n{ a; b; }\n",
            1,
        );
        assert!(broken(&nodes).is_empty(), "{nodes:?}");
        assert!(matches!(
            &*nodes,
            [
                Node::Function { .. },
                Node::If { .. },
                Node::For { .. },
                Node::While { wanted: true, .. },
                Node::While { wanted: false, .. },
                Node::Command {
                    line: 9,
                    block: Some(_),
                    ..
                },
                Node::Group(_),
            ]
        ));
        let Node::If { arms, otherwise } = &nodes[1] else {
            panic!();
        };
        assert_eq!((arms.len(), otherwise.len()), (2, 1));
    }

    #[test]
    fn a_mistake_stays_where_it_is() {
        for (text, mistake) in [
            ("a\nfi\nb", (2, "fi")),
            ("a | b\nb", (1, "|")),
            ("if a\nb", (1, "if")),
            ("}\nb", (1, "}")),
            ("for x\nb", (1, "for")),
            ("menuentry x {\nb", (1, "{")),
        ] {
            let nodes = parse(text, 1);
            assert_eq!(broken(&nodes), [mistake], "{text}: {nodes:?}");
        }
        // In an entry, it is the entry's, and the next one is whole.
        let nodes = parse(
            "menuentry a {\nif b\nlinux /k\n}\nmenuentry c { linux /k }",
            1,
        );
        assert!(broken(&nodes).is_empty(), "{nodes:?}");
        let Node::Command {
            block: Some(body), ..
        } = &nodes[0]
        else {
            panic!("{nodes:?}");
        };
        assert_eq!(broken(body), [(2, "if")]);
        assert_eq!(nodes.len(), 2);
    }

    #[test]
    fn depth_has_a_bound() {
        let deep = "{ ".repeat(10_000);
        let mut nodes = parse(&deep, 1);
        for _ in 0..=MAX_DEPTH {
            nodes = match &nodes[0] {
                Node::Group(inner) => inner.clone(),
                Node::Broken { .. } => return,
                other => panic!("{other:?}"),
            };
        }
        panic!();
    }

    #[test]
    fn tokens_have_a_bound() {
        let (nodes, tokens) = super::parse("a; b; c; d; e", 1, 5);
        assert_eq!((nodes.len(), tokens), (3, 5));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "((if|then|fi|for|in|do|done|function|\\{|\\}|;|\n|'|\"|\\$|\\\\|a) ?){0,60}") {
            let _ = parse(&text, 1);
        }
    }
}
