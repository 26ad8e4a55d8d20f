//! Words of a GRUB script.
//!
//! Grammar: GNU GRUB manual, "Shell-like scripting": blanks part words; `;`
//! and line ends part commands; braces are tokens of their own; single quotes
//! keep everything, double quotes everything but `$`, `\` and `"`; a
//! backslash keeps the next character, and joins lines.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::str::Chars;

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it is.
    Text(String),
    /// In quotes, as it is: a word even if there is nothing in it.
    Quoted(String),
    /// A variable; outside quotes its value is parted at blanks.
    Variable { name: String, quoted: bool },
}

/// Parts of a word, at most.
const MAX_PIECES: usize = 256;

/// A word: its parts stand together without blanks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word(pub(super) Vec<Piece>);

impl Word {
    /// Its text, if it has no quotes and no variables: what a reserved word
    /// has to be.
    pub(super) fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Adds a character outside variables.
    fn push(&mut self, c: char, quoted: bool) {
        match (self.0.last_mut(), quoted) {
            (Some(Piece::Text(text)), false) | (Some(Piece::Quoted(text)), true) => text.push(c),
            (_, false) => self.add(Piece::Text(c.to_string())),
            (_, true) => self.add(Piece::Quoted(c.to_string())),
        }
    }

    /// Adds a part; one more than there may be says that there are more.
    fn add(&mut self, piece: Piece) {
        if self.0.len() <= MAX_PIECES {
            self.0.push(piece);
        }
    }
}

/// What a script is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    Newline,
    Semicolon,
    Open,
    Close,
    /// No token: what it is, and what is wrong.
    Bad(String, &'static str),
    End,
}

/// Takes a script apart.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'s> {
    rest: Chars<'s>,
    line: u32,
}

impl<'s> Lexer<'s> {
    /// Begins at a line of a file.
    pub(super) fn new(text: &'s str, line: u32) -> Self {
        Self {
            rest: text.chars(),
            line,
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.next();
        if c == Some('\n') {
            self.line = self.line.saturating_add(1);
        }
        c
    }

    fn skip_line(&mut self) {
        while self.peek().is_some_and(|c| c != '\n') {
            self.take();
        }
    }

    /// The next token, and its line.
    pub(super) fn token(&mut self) -> (Token, u32) {
        loop {
            let line = self.line;
            let token = match self.peek() {
                None => Token::End,
                Some(' ' | '\t' | '\r') => {
                    self.take();
                    continue;
                }
                Some('#') => {
                    self.skip_line();
                    continue;
                }
                Some('\\') if self.joins_lines() => continue,
                Some('\n') => Token::Newline,
                Some(';') => Token::Semicolon,
                Some('{') => Token::Open,
                Some('}') => Token::Close,
                Some(c @ ('&' | '|')) => Token::Bad(c.to_string(), "GRUB has no such operator"),
                Some(_) => return (self.word(), line),
            };
            self.take();
            return (token, line);
        }
    }

    /// Takes a backslash with the line end behind it, if that is next.
    fn joins_lines(&mut self) -> bool {
        let mut ahead = self.rest.clone();
        ahead.next();
        let mut next = ahead.next();
        if next == Some('\r') {
            next = ahead.next();
        }
        if next == Some('\n') {
            self.rest = ahead;
            self.line = self.line.saturating_add(1);
        }
        next == Some('\n')
    }

    fn word(&mut self) -> Token {
        let mut word = Word::default();
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '{' | '}' | '&' | '|' => break,
                '\'' | '"' => {
                    self.take();
                    let start = self.clone();
                    if !self.quoted(c, &mut word) {
                        // The quotes of the lines behind are in order, most
                        // likely: go on there.
                        *self = start;
                        self.skip_line();
                        return Token::Bad(c.to_string(), "the quote is not closed");
                    }
                }
                '\\' => {
                    if !self.joins_lines() {
                        self.take();
                        if let Some(c) = self.take() {
                            word.push(c, true);
                        }
                    }
                }
                '$' => {
                    self.take();
                    if self.peek() == Some('"') {
                        // `$"…"`, to be translated: as it is without a catalogue.
                        continue;
                    }
                    if !self.variable(false, &mut word) {
                        self.skip_line();
                        return Token::Bad("${".into(), "the brace is not closed");
                    }
                }
                c => {
                    self.take();
                    word.push(c, false);
                }
            }
        }
        if word.0.len() > MAX_PIECES {
            return Token::Bad("$".into(), "a word of more than 256 parts");
        }
        Token::Word(word)
    }

    /// What is between quotes; false if they do not end.
    fn quoted(&mut self, quote: char, word: &mut Word) -> bool {
        if !matches!(word.0.last(), Some(Piece::Quoted(_))) {
            word.add(Piece::Quoted(String::new()));
        }
        while let Some(c) = self.peek() {
            if c == '\\' && quote == '"' && self.joins_lines() {
                continue;
            }
            self.take();
            match c {
                c if c == quote => return true,
                '\\' if quote == '"' => match self.peek() {
                    Some(c @ ('$' | '"' | '\\')) => {
                        self.take();
                        word.push(c, true);
                    }
                    _ => word.push('\\', true),
                },
                '$' if quote == '"' => {
                    if !self.variable(true, word) {
                        return false;
                    }
                }
                c => word.push(c, true),
            }
        }
        false
    }

    /// What is behind a `$`; false if its brace does not end.
    fn variable(&mut self, quoted: bool, word: &mut Word) -> bool {
        let mut name = String::new();
        match self.peek() {
            Some('{') => {
                self.take();
                loop {
                    match self.peek() {
                        Some('}') => break,
                        Some(c) if c != '\n' => name.push(c),
                        _ => return false,
                    }
                    self.take();
                }
                self.take();
            }
            Some(c @ ('?' | '*' | '@' | '#')) => {
                self.take();
                name.push(c);
            }
            Some(first) if first.is_ascii_alphanumeric() || first == '_' => {
                while let Some(c) = self.peek() {
                    let fits = if first.is_ascii_digit() {
                        c.is_ascii_digit()
                    } else {
                        c.is_ascii_alphanumeric() || c == '_'
                    };
                    if !fits {
                        break;
                    }
                    name.push(c);
                    self.take();
                }
            }
            _ => {
                word.push('$', quoted);
                return true;
            }
        }
        word.add(Piece::Variable { name, quoted });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn tokens(text: &str) -> Vec<Token> {
        let mut lexer = Lexer::new(text, 1);
        let mut found = vec![];
        loop {
            match lexer.token().0 {
                Token::End => return found,
                token => found.push(token),
            }
        }
    }

    fn word(text: &str) -> Vec<Piece> {
        match tokens(text).as_slice() {
            [Token::Word(word)] => word.0.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn quoted(text: &str) -> Piece {
        Piece::Quoted(text.into())
    }

    fn variable(name: &str, quoted: bool) -> Piece {
        Piece::Variable {
            name: name.into(),
            quoted,
        }
    }

    #[test]
    fn words_have_quotes_escapes_and_variables() {
        assert_eq!(word("a#b"), [Piece::Text("a#b".into())]);
        assert_eq!(word("'$a \\\" '"), [quoted("$a \\\" ")]);
        assert_eq!(word("\"\\$a\\\"\\\\\\n\""), [quoted("$a\"\\\\n")]);
        assert_eq!(
            word("a\\ b"),
            [
                Piece::Text("a".into()),
                quoted(" "),
                Piece::Text("b".into())
            ]
        );
        assert_eq!(word("\"\""), [quoted("")]);
        assert_eq!(
            word("x\"$a\"${b}$1$?$"),
            [
                Piece::Text("x".into()),
                quoted(""),
                variable("a", true),
                variable("b", false),
                variable("1", false),
                variable("?", false),
                Piece::Text("$".into()),
            ]
        );
        assert_eq!(
            word("($root)'/boot'"),
            [
                Piece::Text("(".into()),
                variable("root", false),
                Piece::Text(")".into()),
                quoted("/boot"),
            ]
        );
        assert_eq!(word("$\"a $b\""), [quoted("a "), variable("b", true)]);
        assert_eq!(word("a\\\nb"), [Piece::Text("ab".into())]);
        assert_eq!(word("\"a\\\nb\""), [quoted("ab")]);
    }

    #[test]
    fn what_parts_words() {
        let kinds: Vec<Token> = tokens("a;{ }\n# x\\\n\\\n|");
        assert!(matches!(
            kinds.as_slice(),
            [
                Token::Word(_),
                Token::Semicolon,
                Token::Open,
                Token::Close,
                Token::Newline,
                Token::Newline,
                Token::Bad(..)
            ]
        ));
    }

    #[test]
    fn an_open_quote_costs_its_line_alone() {
        for text in ["a 'b\nc", "a \"b\nc", "a \"${b\nc", "a ${b\nc"] {
            let found = tokens(text);
            assert!(matches!(found[1], Token::Bad(..)), "{text}");
            assert_eq!(found.len(), 4, "{text}: {found:?}");
        }
    }

    #[test]
    fn lines_are_counted() {
        let mut lexer = Lexer::new("a 'b\nc' \\\n d\ne", 1);
        let lines: Vec<u32> = core::iter::from_fn(|| match lexer.token() {
            (Token::End, _) => None,
            (_, line) => Some(line),
        })
        .collect();
        assert_eq!(lines, [1, 1, 3, 3, 4]);
    }
}
