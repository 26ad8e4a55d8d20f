//! Words of a GRUB script.
//!
//! Rules: `grub-core/script/yylex.l` of GRUB 2.14. Blanks part words; `;` and line
//! ends part commands; braces are tokens of their own; single quotes keep
//! everything, double quotes everything but `$`, `\` and `"`; a backslash keeps
//! the next character, and joins lines. What GRUB takes for a mistake is one: a
//! `$` that no name follows, outside single quotes, and `&`, `|`, `<`, `>`.

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
    /// `$"…"`, to be translated: its variables and backslashes are looked at
    /// after that.
    Translated(String),
}

/// Parts of a word, at most.
const MAX_PIECES: usize = 256;

/// A word: its parts stand together without blanks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) pieces: Vec<Piece>,
    /// Whether a backslash at a line's end is in it: then it is no reserved word.
    joined: bool,
}

impl Word {
    /// Its text, if it has no quotes and no variables: what a reserved word
    /// has to be.
    pub(super) fn plain(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [Piece::Text(text)] if !self.joined => Some(text),
            _ => None,
        }
    }

    /// Adds a character outside variables.
    fn push(&mut self, c: char, quoted: bool) {
        match (self.pieces.last_mut(), quoted) {
            (Some(Piece::Text(text)), false) | (Some(Piece::Quoted(text)), true) => text.push(c),
            (_, false) => self.add(Piece::Text(c.to_string())),
            (_, true) => self.add(Piece::Quoted(c.to_string())),
        }
    }

    /// Adds a part; one more than there may be says that there are more.
    fn add(&mut self, piece: Piece) {
        if self.pieces.len() <= MAX_PIECES {
            self.pieces.push(piece);
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

/// In the place of a line that is not read.
pub(super) const GONE: char = '\0';

/// A bound of ours.
pub(super) const TOO_MANY_PARTS: &str = "a word of more than 256 parts";
const NOT_CLOSED: &str = "the quote is not closed";
const NO_NAME: &str = "no name of a variable follows; write \\$ for the sign itself";

impl<'s> Lexer<'s> {
    /// Begins at a line of a file.
    pub(super) fn new(text: &'s str, line: u32) -> Self {
        Self {
            rest: text.chars(),
            line,
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().find(|c| *c != GONE)
    }

    fn take(&mut self) -> Option<char> {
        loop {
            let c = self.rest.next()?;
            if matches!(c, '\n' | GONE) {
                self.line = self.line.saturating_add(1);
            }
            if c != GONE {
                return Some(c);
            }
        }
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let is = self.peek() == Some(wanted);
        if is {
            self.take();
        }
        is
    }

    /// Up to the line's end, which is the next token.
    pub(super) fn skip_line(&mut self) {
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
                Some(' ' | '\t') => {
                    self.take();
                    continue;
                }
                Some('#') if !self.is_word() => {
                    self.skip_line();
                    continue;
                }
                Some('\n') => Token::Newline,
                Some(';') => {
                    self.take();
                    if self.take_if(';') {
                        return (Token::Bad(";;".into(), "no command is between"), line);
                    }
                    return (Token::Semicolon, line);
                }
                Some('{') => Token::Open,
                Some('}') => Token::Close,
                Some(c @ ('&' | '|' | '<' | '>')) => {
                    Token::Bad(c.to_string(), "GRUB has no such operator")
                }
                Some(_) => return (self.word(), line),
            };
            self.take();
            return (token, line);
        }
    }

    /// Whether a `#` begins no comment: GRUB takes what is longer, and a word goes
    /// on in the next line by a quote or a backslash.
    fn is_word(&self) -> bool {
        let mut ahead = self.clone();
        let word = ahead.word();
        ahead.line > self.line || matches!(word, Token::Bad(_, NOT_CLOSED))
    }

    fn word(&mut self) -> Token {
        let mut word = Word::default();
        let mut bad = false;
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | ';' | '{' | '}' | '&' | '|' | '<' | '>' => break,
                '\'' => {
                    self.take();
                    if !self.single(&mut word) {
                        return Token::Bad("'".into(), NOT_CLOSED);
                    }
                }
                '"' => {
                    self.take();
                    match self.double(&mut word) {
                        None => return Token::Bad("\"".into(), NOT_CLOSED),
                        Some(is_good) => bad |= !is_good,
                    }
                }
                '\\' => {
                    self.take();
                    match self.take() {
                        Some('\n') if self.peek().is_some() => word.joined = true,
                        Some('\n') | None => {
                            return Token::Bad("\\".into(), "no line follows the last one");
                        }
                        Some(c) => word.push(c, true),
                    }
                }
                '$' => {
                    self.take();
                    if self.take_if('"') {
                        let Some(text) = self.translated() else {
                            return Token::Bad("\"".into(), NOT_CLOSED);
                        };
                        word.add(Piece::Translated(text));
                        continue;
                    }
                    match self.variable() {
                        Some(name) => word.add(Piece::Variable {
                            name,
                            quoted: false,
                        }),
                        None => return Token::Bad("$".into(), NO_NAME),
                    }
                }
                c => {
                    self.take();
                    word.push(c, false);
                }
            }
        }
        if bad {
            return Token::Bad("$".into(), NO_NAME);
        }
        if word.pieces.len() > MAX_PIECES {
            return Token::Bad("$".into(), TOO_MANY_PARTS);
        }
        Token::Word(word)
    }

    /// What is between single quotes; false if they do not end.
    fn single(&mut self, word: &mut Word) -> bool {
        begin(word);
        while let Some(c) = self.take() {
            if c == '\'' {
                return true;
            }
            word.push(c, true);
        }
        false
    }

    /// What is between double quotes: none if they do not end, false if a `$` has
    /// no name. GRUB looks for their end first.
    fn double(&mut self, word: &mut Word) -> Option<bool> {
        begin(word);
        let mut is_good = true;
        loop {
            match self.take()? {
                '"' => return Some(is_good),
                '\\' => match self.take()? {
                    '\n' => {}
                    c @ ('$' | '"' | '\\') => word.push(c, true),
                    c => {
                        word.push('\\', true);
                        word.push(c, true);
                    }
                },
                '$' => match self.variable() {
                    Some(name) => word.add(Piece::Variable { name, quoted: true }),
                    None => is_good = false,
                },
                c => word.push(c, true),
            }
        }
    }

    /// What is between the quotes of `$"…"`; none if they do not end.
    fn translated(&mut self) -> Option<String> {
        let mut text = String::new();
        loop {
            match self.take()? {
                '"' => return Some(text),
                '\\' => match self.take()? {
                    '\n' => {}
                    '"' => text.push('"'),
                    c => {
                        text.push('\\');
                        text.push(c);
                    }
                },
                c => text.push(c),
            }
        }
    }

    /// The name behind a `$`; nothing is taken if there is none.
    fn variable(&mut self) -> Option<String> {
        let mut ahead = self.clone();
        let braces = ahead.take_if('{');
        let first = ahead.take()?;
        let mut name = String::from(first);
        let goes_on = |c: char| match first {
            '?' | '*' | '@' | '#' => false,
            first if first.is_ascii_digit() => c.is_ascii_digit(),
            _ => c.is_ascii_alphanumeric() || c == '_',
        };
        if !matches!(first, '?' | '*' | '@' | '#' | '_') && !first.is_ascii_alphanumeric() {
            return None;
        }
        while let Some(c) = ahead.peek().filter(|c| goes_on(*c)) {
            name.push(c);
            ahead.take();
        }
        if braces && !ahead.take_if('}') {
            return None;
        }
        *self = ahead;
        Some(name)
    }
}

/// Begins what is in quotes.
fn begin(word: &mut Word) {
    if !matches!(word.pieces.last(), Some(Piece::Quoted(_))) {
        word.add(Piece::Quoted(String::new()));
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
            [Token::Word(word)] => word.pieces.clone(),
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
            word("x\"$a\"${b}$1$?"),
            [
                Piece::Text("x".into()),
                quoted(""),
                variable("a", true),
                variable("b", false),
                variable("1", false),
                variable("?", false),
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
        assert_eq!(
            word("$\"a $b\\\"\\\\c\\d\\\n\""),
            [Piece::Translated("a $b\"\\\\c\\d".into())]
        );
        assert_eq!(word("a\\\nb"), [Piece::Text("ab".into())]);
        assert_eq!(word("\"a\\\nb\""), [quoted("ab")]);
    }

    #[test]
    fn what_parts_words() {
        let kinds: Vec<Token> = tokens("a;{ }\n# x\\\n|");
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
    fn mistakes_are_those_of_grub() {
        for text in [
            "a$", "a$.b", "$'a'", "${}", "${a", "${a-b}", "${1a}", "\"$\"", "\"$ a\"", "\"$$a\"",
            "\"${a\"", "a & b", "a|b", "a > b", "a<b", "a ;; b", "a\\\n", "a\\",
        ] {
            let bad = |token: &Token| matches!(token, Token::Bad(..));
            assert!(tokens(text).iter().any(bad), "{text}");
        }
        for text in [
            "'$'",
            "\\$",
            "\"\\$\"",
            "\"\\$ a\"",
            "a#b",
            "$#",
            "${*}",
            "\"\\x$a\"",
        ] {
            assert!(
                matches!(tokens(text).as_slice(), [Token::Word(_)]),
                "{text}"
            );
        }
    }

    #[test]
    fn a_quote_goes_on_to_its_end() {
        let found = tokens("a 'b\nc' d");
        assert!(
            matches!(found.as_slice(), [_, Token::Word(word), _] if word.pieces == [quoted("b\nc")])
        );
        for text in ["a 'b\nc", "a \"b\nc", "a $\"b\nc"] {
            let found = tokens(text);
            assert!(
                matches!(found.as_slice(), [_, Token::Bad(_, NOT_CLOSED)]),
                "{text}"
            );
        }
    }

    #[test]
    fn a_comment_ends_with_its_line_unless_a_word_does_not() {
        assert!(tokens("# it's").is_empty());
        assert!(tokens("#it\"s a\" #\\a").is_empty());
        assert_eq!(tokens("#it's\na' b").len(), 2);
        assert_eq!(tokens("#a\\\nb c").len(), 2);
        assert!(matches!(tokens("#it's").as_slice(), [Token::Bad(..)]));
    }

    #[test]
    fn a_joined_line_makes_no_reserved_word() {
        for (text, plain) in [("if", Some("if")), ("i\\\nf", None), ("\\\nif", None)] {
            let found = tokens(text);
            let [Token::Word(word)] = found.as_slice() else {
                panic!("{found:?}");
            };
            assert_eq!(word.plain(), plain);
        }
        // A word of its own, of which nothing is left.
        assert_eq!(tokens("a \\\n b").len(), 3);
    }

    #[test]
    fn lines_are_counted() {
        let mut lexer = Lexer::new("a 'b\nc' \\\n d\ne", 1);
        let lines: Vec<u32> = core::iter::from_fn(|| match lexer.token() {
            (Token::End, _) => None,
            (_, line) => Some(line),
        })
        .collect();
        assert_eq!(lines, [1, 1, 2, 3, 3, 4]);
    }
}
