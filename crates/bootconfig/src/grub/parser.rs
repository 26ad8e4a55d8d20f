//! From a GRUB script to its commands.
//!
//! Grammar: `grub-core/script/parser.y` of GRUB 2.14. A mistake becomes a
//! [`Node::Broken`] in the place of all that began on the same line, as GRUB
//! leaves that out, and reading goes on in the line behind it: of a menu entry
//! with a mistake, what is behind the mistake is no entry's any more.

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use super::lexer::{Lexer, Token, Word};

/// How deep blocks may be in one another.
pub(super) const MAX_DEPTH: u32 = 24;

/// A bound of ours.
pub(super) const TOO_DEEP: &str = "blocks are nested more than 24 deep; the rest is left out";

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
        functions: Vec::new(),
    };
    let mut nodes = Vec::new();
    loop {
        match &parser.next.0 {
            Token::End => return (nodes.into(), parser.tokens),
            Token::Newline => {
                parser.advance();
                continue;
            }
            _ => {}
        }
        let read = parser.line();
        // GRUB makes functions while it reads, before anything of the line is run.
        nodes.append(&mut parser.functions);
        match read {
            Ok(mut line) => nodes.append(&mut line),
            Err((line, word, why)) => {
                nodes.push(Node::Broken { line, word, why });
                parser.depth = 0;
                if parser.next.0 != Token::Newline {
                    parser.lexer.skip_line();
                    parser.advance();
                }
            }
        }
    }
}

struct Parser<'s> {
    lexer: Lexer<'s>,
    next: (Token, u32),
    depth: u32,
    tokens: u32,
    limit: u32,
    /// Functions of the line that is read.
    functions: Vec<Node>,
}

/// Words that begin no command.
const RESERVED: [&str; 13] = [
    "case", "do", "done", "elif", "else", "esac", "fi", "in", "select", "then", "function", "[[",
    "]]",
];

impl Parser<'_> {
    fn advance(&mut self) -> Token {
        let next = if self.tokens < self.limit {
            let next = self.lexer.token();
            let parts = match &next.0 {
                Token::Word(word) => u32::try_from(word.pieces.len()).unwrap_or(u32::MAX),
                _ => 1,
            };
            self.tokens = self.tokens.saturating_add(parts.max(1));
            next
        } else {
            (Token::End, self.next.1)
        };
        core::mem::replace(&mut self.next, next).0
    }

    fn plain(&self) -> Option<&str> {
        match &self.next.0 {
            Token::Word(word) => word.plain(),
            _ => None,
        }
    }

    fn at(&self, word: &str) -> bool {
        self.plain() == Some(word)
    }

    fn skip_newlines(&mut self) {
        while self.next.0 == Token::Newline {
            self.advance();
        }
    }

    /// One `;` or line end, and line ends behind it; whether there was one.
    fn delimiters(&mut self) -> bool {
        let is = matches!(self.next.0, Token::Newline | Token::Semicolon);
        if is {
            self.advance();
            self.skip_newlines();
        }
        is
    }

    /// What stands in the way.
    fn mistake<T>(&mut self, why: &'static str) -> Result<T, Mistake> {
        let word = match &mut self.next.0 {
            Token::Bad(word, why) => return Err((self.next.1, core::mem::take(word), why)),
            Token::Word(word) => word.plain().unwrap_or_default().to_string(),
            Token::Newline => "the line's end".to_string(),
            Token::Semicolon => ";".to_string(),
            Token::Open => "{".to_string(),
            Token::Close => "}".to_string(),
            Token::End => "the end".to_string(),
        };
        Err((self.next.1, word, why))
    }

    /// Statements up to a line's end that ends one. GRUB reads a file so: a mistake
    /// costs all of them, and reading goes on behind the line in which it is.
    fn line(&mut self) -> Result<Vec<Node>, Mistake> {
        let mut nodes = Vec::new();
        loop {
            if self.at("function") {
                let function = self.function()?;
                self.functions.push(function);
            } else {
                nodes.push(self.node()?);
            }
            match self.next.0 {
                Token::End | Token::Newline => return Ok(nodes),
                Token::Semicolon => {
                    self.advance();
                    if matches!(self.next.0, Token::End | Token::Newline) {
                        return Ok(nodes);
                    }
                }
                _ => return self.mistake("a command must end before it"),
            }
        }
    }

    /// One or more commands in a block, with what ends the last one; that is not
    /// asked for before a brace.
    fn block(&mut self) -> Result<Block, Mistake> {
        self.skip_newlines();
        let mut nodes = Vec::new();
        loop {
            nodes.push(self.node()?);
            let ends = self.delimiters();
            let closes = self.next.0 == Token::Close;
            match self.plain() {
                _ if closes => return Ok(nodes.into()),
                Some(word) if ends && RESERVED.contains(&word) => return Ok(nodes.into()),
                _ if ends => {}
                _ => return self.mistake("a command must end before it"),
            }
        }
    }

    fn node(&mut self) -> Result<Node, Mistake> {
        if self.depth == MAX_DEPTH {
            while self.next.0 != Token::End {
                self.advance();
            }
            return Err((self.next.1, "{".into(), TOO_DEEP));
        }
        self.depth = self.depth.saturating_add(1);
        let line = self.next.1;
        let plain = self.plain().unwrap_or_default();
        let node = match plain {
            "if" => self.branch(),
            "for" => self.each(),
            "while" | "until" => {
                let wanted = plain == "while";
                self.advance();
                let condition = self.block()?;
                let body = self.body()?;
                Ok(Node::While {
                    condition,
                    wanted,
                    body,
                })
            }
            word if RESERVED.contains(&word) => self.mistake("a command must stand here"),
            _ => self.command(line),
        }?;
        self.depth = self.depth.saturating_sub(1);
        Ok(node)
    }

    fn function(&mut self) -> Result<Node, Mistake> {
        self.advance();
        let name = self.name()?;
        self.skip_newlines();
        if self.next.0 != Token::Open {
            return self.mistake("`{` must stand here");
        }
        self.advance();
        let body = self.block()?;
        self.close()?;
        Ok(Node::Function { name, body })
    }

    /// The name of a function, or of a loop's variable.
    fn name(&mut self) -> Result<String, Mistake> {
        let name = self.plain().unwrap_or_default();
        let mut bytes = name.bytes();
        let begins = bytes
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == b'_');
        let is_name = begins && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_');
        let free = !RESERVED.contains(&name) && !["if", "for", "while", "until"].contains(&name);
        if !(is_name && free) {
            return self.mistake("a name must stand here");
        }
        let name = name.to_string();
        self.advance();
        Ok(name)
    }

    fn command(&mut self, line: u32) -> Result<Node, Mistake> {
        let mut words = Vec::new();
        while let Token::Word(word) = &mut self.next.0 {
            words.push(core::mem::take(word));
            self.advance();
        }
        if words.is_empty() {
            return self.mistake("a command must stand here");
        }
        let mut block = None;
        if self.next.0 == Token::Open {
            self.advance();
            block = Some(self.block()?);
            self.close()?;
        }
        Ok(Node::Command { line, words, block })
    }

    fn close(&mut self) -> Result<(), Mistake> {
        if self.next.0 != Token::Close {
            return self.mistake("`}` must stand here");
        }
        self.advance();
        Ok(())
    }

    /// A reserved word.
    fn keyword(&mut self, word: &str, why: &'static str) -> Result<(), Mistake> {
        if !self.at(word) {
            return self.mistake(why);
        }
        self.advance();
        Ok(())
    }

    fn branch(&mut self) -> Result<Node, Mistake> {
        let mut arms = Vec::new();
        let mut otherwise: Block = Rc::from([]);
        loop {
            self.advance();
            let condition = self.block()?;
            self.keyword("then", "`then` must stand here")?;
            arms.push((condition, self.block()?));
            if !self.at("elif") {
                break;
            }
        }
        if self.at("else") {
            self.advance();
            otherwise = self.block()?;
        }
        self.keyword("fi", "`fi` must stand here")?;
        Ok(Node::If { arms, otherwise })
    }

    fn each(&mut self) -> Result<Node, Mistake> {
        self.advance();
        let name = self.name()?;
        self.keyword("in", "`in` must stand here")?;
        let mut words = Vec::new();
        while let Token::Word(word) = &mut self.next.0 {
            words.push(core::mem::take(word));
            self.advance();
        }
        if !self.delimiters() {
            return self.mistake("`;` must stand here");
        }
        let body = self.body()?;
        Ok(Node::For { name, words, body })
    }

    /// `do … done`
    fn body(&mut self) -> Result<Block, Mistake> {
        self.keyword("do", "`do` must stand here")?;
        let body = self.block()?;
        self.keyword("done", "`done` must stand here")?;
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
             menuentry 'x' --id y { linux /k; initrd /i\n}\n",
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
            ]
        ));
        let Node::If { arms, otherwise } = &nodes[1] else {
            panic!();
        };
        assert_eq!((arms.len(), otherwise.len()), (2, 1));
    }

    #[test]
    fn a_mistake_costs_its_line() {
        for (text, mistakes, left) in [
            ("a\nfi\nb", &[(2, "fi")][..], 2),
            ("a; b | c\nb", &[(1, "|")], 1),
            ("if a\nb", &[(2, "the end")], 0),
            ("if a; b; then; c; fi\nd", &[(1, ";")], 1),
            ("}\nb", &[(1, "}")], 1),
            ("for x\nb", &[(1, "the line's end")], 1),
            ("for x in y do a; done\nb", &[(1, "done")], 1),
            ("menuentry x {\nb", &[(2, "the end")], 0),
            ("{ a; }\nb", &[(1, "{")], 1),
            ("menuentry x { }\nb", &[(1, "}")], 1),
            ("a; ; b\nc", &[(1, ";")], 1),
            ("a;; b\nc", &[(1, ";;")], 1),
            ("if a; then function f { b; }; fi\nc", &[(1, "function")], 1),
            ("case a\nb", &[(1, "case")], 1),
            ("menuentry x { a; } b\nc", &[(1, "")], 1),
            ("function 1a { b; }\nc", &[(1, "")], 1),
            ("for in in a; do b; done\nc", &[(1, "in")], 1),
            ("[[ a ]]\nb", &[(1, "[[")], 1),
        ] {
            let nodes = parse(text, 1);
            assert_eq!(broken(&nodes).len(), mistakes.len(), "{text}: {nodes:?}");
            for (found, want) in broken(&nodes).iter().zip(mistakes) {
                assert!(
                    found.0 == want.0 && (want.1.is_empty() || found == want),
                    "{text}: {found:?}"
                );
            }
            assert_eq!(nodes.len() - mistakes.len(), left, "{text}: {nodes:?}");
        }
        // What is behind it is read for itself.
        let nodes = parse(
            "menuentry a {\nb |\nlinux /k\n}\nmenuentry c { linux /k; }",
            1,
        );
        assert_eq!(broken(&nodes), [(2, "|"), (4, "}")]);
        assert_eq!(nodes.len(), 4, "{nodes:?}");
    }

    #[test]
    fn functions_are_made_before_their_line_is_run() {
        let nodes = parse("a; function f { b; }; |\nc", 1);
        assert!(
            matches!(
                &*nodes,
                [
                    Node::Function { .. },
                    Node::Broken { .. },
                    Node::Command { .. }
                ]
            ),
            "{nodes:?}"
        );
    }

    #[test]
    fn depth_has_a_bound() {
        let nodes = parse(&"menuentry x { ".repeat(10_000), 1);
        assert_eq!(broken(&nodes).len(), 1, "{nodes:?}");
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
