//! The options of a command, as GRUB's own commands take them.
//!
//! Rules: `grub-core/lib/arg.c` of GRUB 2.14. A long option that takes a value
//! has it behind `=`, or takes the next word unless that begins with `-`. The
//! last of several letters behind one `-` may take the next word, whatever that
//! begins with if it must have a value. `--` ends the options. What is wrong
//! with them fails the command.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Value,
    /// It may have one.
    Maybe,
}

/// An option that a command knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) takes: Takes,
}

impl Known {
    pub(super) const fn new(long: &'static str, short: Option<char>, takes: Takes) -> Self {
        Self { long, short, takes }
    }
}

/// What a command is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    options: Vec<(&'static str, Option<String>)>,
    /// The words that are no options.
    pub(super) words: Vec<String>,
}

impl Arguments {
    /// Parts words into options and others. `dash`: an option that is not
    /// known is a word like others, not a mistake.
    pub(super) fn parse(known: &[Known], dash: bool, words: &[String]) -> Result<Self, String> {
        let mut found = Self::default();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if word == "--" {
                found.words.extend(words.by_ref().cloned());
                break;
            }
            let next = |of: &Known, short: bool| {
                words
                    .next_if(|next| match (of.takes, short) {
                        (Takes::Nothing, _) => false,
                        (Takes::Value, true) => true,
                        (Takes::Maybe, true) => next.len() < 2 || !next.starts_with('-'),
                        (_, false) => !next.starts_with('-'),
                    })
                    .cloned()
            };
            let taken = match (word.strip_prefix("--"), word.strip_prefix('-')) {
                (Some(long), _) => found.long(known, long, next),
                (None, Some(letters)) if !letters.is_empty() => {
                    found.short(known, letters, next, dash)
                }
                _ => Err(None),
            };
            match taken {
                Ok(()) => {}
                Err(None) if dash || !word.starts_with('-') || word == "-" => {
                    found.words.push(word.clone());
                }
                Err(None) => return Err(format!("{word}: there is no such option")),
                Err(Some(what)) => return Err(format!("{word}: {what}")),
            }
        }
        Ok(found)
    }

    /// `NAME` or `NAME=VALUE`, without the `--`.
    fn long(
        &mut self,
        known: &[Known],
        text: &str,
        next: impl FnOnce(&Known, bool) -> Option<String>,
    ) -> Result<(), Option<&'static str>> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (text, None),
        };
        let of = known.iter().find(|of| of.long == name).ok_or(None)?;
        let value = match value {
            None => next(of, false),
            value => value,
        };
        self.take(of, value)
    }

    /// Letters behind one `-`.
    fn short(
        &mut self,
        known: &[Known],
        letters: &str,
        next: impl FnOnce(&Known, bool) -> Option<String>,
        dash: bool,
    ) -> Result<(), Option<&'static str>> {
        let find = |letter| known.iter().find(|of| of.short == Some(letter));
        if dash && letters.chars().any(|letter| find(letter).is_none()) {
            return Err(None);
        }
        let mut rest = letters.chars();
        let last = rest.next_back();
        for letter in rest {
            self.take(find(letter).ok_or(None)?, None)?;
        }
        let of = last.and_then(find).ok_or(None)?;
        let value = next(of, true);
        self.take(of, value)
    }

    fn take(&mut self, of: &Known, value: Option<String>) -> Result<(), Option<&'static str>> {
        match (of.takes, &value) {
            (Takes::Value, None) => Err(Some("a value must follow")),
            (Takes::Nothing, Some(_)) => Err(Some("it takes no value")),
            _ => {
                self.options.push((of.long, value));
                Ok(())
            }
        }
    }

    /// Whether an option is there.
    pub(super) fn has(&self, long: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == long)
    }

    /// The last value of an option.
    pub(super) fn value(&self, long: &str) -> Option<&str> {
        let found = self.options.iter().rfind(|(name, _)| *name == long);
        found.and_then(|(_, value)| value.as_deref())
    }

    /// All values of an option, in order.
    pub(super) fn values(&self, long: &str) -> impl Iterator<Item = &str> {
        self.options
            .iter()
            .filter(move |(name, _)| *name == long)
            .filter_map(|(_, value)| value.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Known; 4] = [
        Known::new("file", Some('f'), Takes::Nothing),
        Known::new("set", Some('s'), Takes::Maybe),
        Known::new("hint", Some('h'), Takes::Value),
        Known::new("hint-bios", None, Takes::Value),
    ];

    fn parse(text: &str, dash: bool) -> Result<Arguments, String> {
        let words: Vec<String> = text.split_whitespace().map(String::from).collect();
        Arguments::parse(&KNOWN, dash, &words)
    }

    #[test]
    fn options_take_the_next_word() {
        for (text, set, hints, words) in [
            ("--set a b", Some("a"), "", "b"),
            ("--set=a b", Some("a"), "", "b"),
            ("--set --file b", None, "", "b"),
            ("b --set", None, "", "b"),
            ("-s a b", Some("a"), "", "b"),
            ("-s -f b", None, "", "b"),
            ("-s - b", Some("-"), "", "b"),
            ("-fs a b", Some("a"), "", "b"),
            ("--hint x --hint=y -h z b", None, "x y z", "b"),
            ("-h -f b", None, "-f", "b"),
            ("--hint-bios x b c", None, "", "b c"),
            ("--file -- --set b", None, "", "--set b"),
            ("--no-floppy b", None, "", "--no-floppy b"),
            ("-fx b", None, "", "-fx b"),
            ("- b", None, "", "- b"),
        ] {
            let found = parse(text, true).unwrap();
            assert_eq!(found.value("set"), set, "{text}");
            let all: Vec<&str> = found.values("hint").collect();
            assert_eq!(all.join(" "), hints, "{text}");
            assert_eq!(found.words.join(" "), words, "{text}");
        }
    }

    #[test]
    fn an_option_without_a_value_is_there() {
        assert!(parse("b --set", true).unwrap().has("set"));
        assert!(!parse("--file -- --set b", true).unwrap().has("set"));
    }

    #[test]
    fn mistakes_are_said() {
        for (text, want) in [
            ("--hint", "--hint: a value must follow"),
            ("--hint --file b", "--hint: a value must follow"),
            ("-hf b", "-hf: a value must follow"),
            ("--file=b", "--file=b: it takes no value"),
            ("--nothing", "--nothing: there is no such option"),
            ("-fx", "-fx: there is no such option"),
        ] {
            let dash = text.starts_with("--h");
            assert_eq!(parse(text, dash).unwrap_err(), want);
        }
    }
}
