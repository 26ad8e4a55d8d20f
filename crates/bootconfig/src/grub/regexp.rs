//! `regexp`: POSIX extended regular expressions.
//!
//! Semantics: `grub-core/commands/regexp.c` of GRUB 2.14, and POSIX.1-2017,
//! "Extended Regular Expressions", with GNU's `\w`, `\<` and the like. The
//! leftmost match counts, of these the longest. Patterns are written anew for
//! the library `regex-automata`: brackets, signs that POSIX gives no meaning,
//! and quantifiers of quantifiers. References to groups (`\1`) are refused.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use regex_automata::{
    Anchored, Input, MatchKind,
    nfa::thompson::{self, pikevm::PikeVM},
    util::{captures::Captures, syntax},
};

use super::{
    arguments::{Arguments, Known, Takes},
    number,
    shell::{BAD_ARGUMENT, Flow, Shell},
};
use crate::entry::Menu;

/// Bytes of a pattern and of a text, at most.
const MAX_PATTERN: usize = 1024;
const MAX_TEXT: usize = 8192;
/// Bytes that a pattern may take once it is read.
const MAX_STATES: usize = 128 << 10;
/// How deep groups may be in one another.
const MAX_DEPTH: u32 = 32;
/// What a `regexp` costs at least.
const STEPS: u32 = 200;

const OPTIONS: [Known; 1] = [Known::new("set", Some('s'), Takes::Value)];

/// Why a pattern is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    /// It is none: to GRUB, too.
    Pattern,
    /// It is more than is read here.
    Limit(&'static str),
}

/// A pattern as the library writes it.
fn rewritten(pattern: &str) -> Result<String, Bad> {
    let mut out = String::new();
    // Where groups that are open, and what stands before, begin.
    let mut groups: Vec<usize> = Vec::new();
    let mut atom: Option<(usize, bool)> = None;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let start = out.len();
        let quantifier = match c {
            '*' | '+' | '?' => String::from(c),
            '{' => {
                let mut text = String::new();
                loop {
                    match chars.next().ok_or(Bad::Pattern)? {
                        '}' => break,
                        c => text.push(c),
                    }
                }
                let text = if text.starts_with(',') {
                    format!("0{text}")
                } else {
                    text
                };
                format!("{{{text}}}")
            }
            _ => String::new(),
        };
        if !quantifier.is_empty() {
            let (from, repeated) = atom.ok_or(Bad::Pattern)?;
            if repeated {
                // `a*?` is no lazy `a*` but what may be missing.
                out.insert_str(from, "(?:");
                out.push(')');
            }
            out.push_str(&quantifier);
            atom = Some((from, true));
            continue;
        }
        atom = Some((start, false));
        match c {
            '(' => {
                groups.push(start);
                out.push('(');
                atom = None;
            }
            ')' => match groups.pop() {
                Some(from) => {
                    out.push(')');
                    atom = Some((from, false));
                }
                None => out.push_str("\\)"),
            },
            '|' => {
                out.push('|');
                atom = None;
            }
            '[' => bracket(&mut chars, &mut out)?,
            '\\' => match chars.next().ok_or(Bad::Pattern)? {
                '1'..='9' => return Err(Bad::Limit("references to groups are not read")),
                c @ ('w' | 'W' | 's' | 'S' | 'b' | 'B' | '<' | '>') => {
                    out.push('\\');
                    out.push(c);
                }
                '`' => out.push_str("\\A"),
                '\'' => out.push_str("\\z"),
                c => literal(c, &mut out),
            },
            '^' => {
                out.push('^');
                atom = None;
            }
            c @ ('$' | '.') => out.push(c),
            c => literal(c, &mut out),
        }
    }
    Ok(out)
}

/// A character that means itself.
fn literal(c: char, out: &mut String) {
    if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
        out.push('\\');
    }
    out.push(c);
}

/// A bracket expression, behind its `[`.
fn bracket(
    chars: &mut core::iter::Peekable<core::str::Chars<'_>>,
    out: &mut String,
) -> Result<(), Bad> {
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut first = true;
    loop {
        let c = chars.next().ok_or(Bad::Pattern)?;
        match c {
            ']' if !first => break,
            '[' if matches!(chars.peek(), Some(':' | '=' | '.')) => {
                let sign = chars.next().unwrap_or_default();
                let mut name = String::new();
                loop {
                    let c = chars.next().ok_or(Bad::Pattern)?;
                    if c == sign && chars.next_if_eq(&']').is_some() {
                        break;
                    }
                    name.push(c);
                }
                // Of collating symbols GRUB's library knows none.
                if sign != ':' {
                    return Err(Bad::Pattern);
                }
                out.push_str(&format!("[:{name}:]"));
            }
            '-' => {
                // Between two characters it is a range; at an end, itself.
                let ends = first || matches!(chars.peek(), Some(']'));
                out.push_str(if ends { "\\-" } else { "-" });
            }
            c => literal(c, out),
        }
        first = false;
    }
    out.push(']');
    Ok(())
}

fn machine(pattern: &str, kind: MatchKind) -> Result<PikeVM, Bad> {
    let syntax = syntax::Config::new()
        .unicode(false)
        .utf8(false)
        .dot_matches_new_line(true)
        .nest_limit(MAX_DEPTH);
    let size = thompson::Config::new()
        .utf8(false)
        .nfa_size_limit(Some(MAX_STATES));
    let built = PikeVM::builder()
        .syntax(syntax)
        .thompson(size)
        .configure(PikeVM::config().match_kind(kind))
        .build(pattern);
    built.map_err(|error| match error.size_limit() {
        Some(_) => Bad::Limit("the pattern is too large"),
        None => Bad::Pattern,
    })
}

/// The groups of the leftmost longest match, the whole first; `None` if there
/// is none. And how large pattern and text were for the machine.
type Groups = Option<Vec<Option<(usize, usize)>>>;

fn groups(pattern: &str, text: &str) -> Result<(Groups, usize), Bad> {
    if pattern.len() > MAX_PATTERN || text.len() > MAX_TEXT {
        return Err(Bad::Limit("pattern or text is too long"));
    }
    let pattern = rewritten(pattern)?;
    // Where it begins is the same in either way of choosing; the longest from
    // there on is the last of all matches.
    let first = machine(&pattern, MatchKind::LeftmostFirst)?;
    let longest = machine(&pattern, MatchKind::All)?;
    let size = first.get_nfa().states().len().saturating_mul(text.len());
    let mut cache = first.create_cache();
    let mut found = Captures::all(first.get_nfa().group_info().clone());
    first.captures(&mut cache, text, &mut found);
    let Some(whole) = found.get_match() else {
        return Ok((None, size));
    };
    let input = Input::new(text)
        .range(whole.start()..)
        .anchored(Anchored::Yes);
    let mut cache = longest.create_cache();
    let mut found = Captures::all(longest.get_nfa().group_info().clone());
    longest.captures(&mut cache, input, &mut found);
    let spans = found
        .iter()
        .map(|span| span.map(|span| (span.start, span.end)));
    Ok((Some(spans.collect()), size))
}

impl Shell<'_> {
    /// `regexp [--set [NUMBER:]VARIABLE…] PATTERN TEXT`
    pub(super) fn regexp(
        &mut self,
        line: u32,
        words: &[String],
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        self.spend(menu, line, STEPS)?;
        let Ok(arguments) = Arguments::parse(&OPTIONS, false, words) else {
            return Ok(self.fails(BAD_ARGUMENT));
        };
        let [pattern, text] = arguments.words.as_slice() else {
            return Ok(self.fails(BAD_ARGUMENT));
        };
        let (found, size) = match groups(pattern, text) {
            Ok(found) => found,
            Err(Bad::Pattern) => return Ok(false),
            Err(Bad::Limit(what)) => {
                let what = format!("{what}; write the condition with `[`");
                return Ok(self.refuse(menu, line, "regexp", what));
            }
        };
        self.spend(menu, line, u32::try_from(size / 500).unwrap_or(u32::MAX))?;
        let Some(groups) = found else {
            return Ok(false);
        };
        for asked in arguments.values("set") {
            let (number, name) = match asked.split_once(':') {
                Some((index, name)) => match number::unsigned(index, 10) {
                    Ok((index, "")) => (usize::try_from(index).unwrap_or(usize::MAX), name),
                    _ => return Ok(self.fails(BAD_ARGUMENT)),
                },
                None => (1_usize, asked),
            };
            match groups.get(number).copied().flatten() {
                Some((start, end)) => {
                    let bytes = text.as_bytes().get(start..end).unwrap_or_default();
                    let value = String::from_utf8_lossy(bytes).to_string();
                    self.assign(line, name, &value, menu);
                }
                None => self.env.unset(name),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The groups, with `-` for one that takes no part.
    fn found(pattern: &str, text: &str) -> String {
        match groups(pattern, text) {
            Ok((None, _)) => "no".into(),
            Ok((Some(groups), _)) => {
                let of = |span: &Option<(usize, usize)>| span.map_or("-", |(a, b)| &text[a..b]);
                let all: Vec<&str> = groups.iter().map(of).collect();
                all.join(",")
            }
            Err(Bad::Pattern) => "bad".into(),
            Err(Bad::Limit(_)) => "limit".into(),
        }
    }

    /// As `grub-emu` 2.06 says.
    #[test]
    fn expressions_are_posix() {
        for (pattern, text, want) in [
            ("^(.*)/([^/]*)$", "/x/y/z", "/x/y/z,/x/y,z"),
            ("a{2}", "baab", "aa"),
            ("a{,2}b", "aaab", "aab"),
            ("a|ab", "abc", "ab"),
            ("(a|ab)(c|bcd)?", "abcd", "abcd,a,bcd"),
            ("(x)|y", "y", "y,-"),
            ("[[:digit:]]+", "a12b", "12"),
            ("[]a]+", "]a", "]a"),
            ("[^]]+", "]ab]", "ab"),
            ("[a\\]+", "a\\b", "a\\"),
            ("[a-]+", "a-b", "a-"),
            ("[+--]+", "a,-b", ",-"),
            ("[[.-.]x]+", "-x", "bad"),
            ("[&&a]+", "&a", "&a"),
            ("a*?b", "aab", "aab"),
            ("a+?", "aaa", "aaa"),
            ("a)b", "a)b", "a)b"),
            ("a\\.b", "axb a.b", "a.b"),
            ("\\d", "5d", "d"),
            ("\\<b", "ab b", "b"),
            ("a.b", "a\nb", "a\nb"),
            ("^b$", "a\nb", "no"),
            ("", "abc", ""),
            ("(^|,)b", "a,b", ",b,,"),
            ("[", "a", "bad"),
            ("(a", "a", "bad"),
            ("*a", "a", "bad"),
            ("(?:a)", "a", "bad"),
            ("^*a", "a", "bad"),
            ("a||b", "b", "b"),
            ("()a", "a", "a,"),
            ("(|a)b", "ab", "ab,a"),
            ("a{1,2}{2}b", "aaaab", "aaaab"),
            ("a**", "aa", "aa"),
            ("((a)|b)*", "ab", "ab,b,a"),
            ("a$b", "a$b", "no"),
            ("a{2", "aa", "bad"),
            ("a\\", "a", "bad"),
            ("(a)\\1", "aa", "limit"),
            ("((a{99}){99}){99}", "a", "limit"),
        ] {
            assert_eq!(found(pattern, text), want, "{pattern} {text:?}");
        }
        let deep = alloc::format!("{}a{}", "(".repeat(200), ")".repeat(200));
        assert_ne!(found(&deep, "a"), "a");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(pattern in "([a-c]|[*+?|().^$\\\\{}0-9,-]|\\[|\\]|:|alpha){0,24}", text in ".{0,24}") {
            let _found = groups(&pattern, &text);
        }
    }
}
