//! Expanding words: variables, then names for wildcards.
//!
//! Semantics: `grub-core/script/execute.c`. A variable outside quotes is parted
//! at blanks.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    env::MAX_VALUE,
    lexer::{Piece, Word},
    shell::{Flow, Shell},
    wildcard,
};
use crate::entry::Menu;

impl Shell<'_> {
    /// Words with their variables replaced, and names for wildcards. Until
    /// the names are looked for, a word is a pattern (see [`wildcard`]).
    pub(super) fn expand(
        &mut self,
        words: &[Word],
        line: u32,
        menu: &mut Menu,
    ) -> Result<Vec<String>, Flow> {
        let mut fields = Vec::new();
        let mut bytes = 0_usize;
        for word in words {
            let mut field: Option<String> = None;
            for piece in &word.0 {
                let length = match piece {
                    Piece::Text(text) => {
                        field.get_or_insert_default().push_str(text);
                        text.len()
                    }
                    Piece::Quoted(text) => {
                        wildcard::escape(text, field.get_or_insert_default());
                        text.len()
                    }
                    Piece::Variable { name, quoted } => {
                        let value = self.value(name);
                        let length = value.len();
                        if *quoted {
                            wildcard::escape(&value, field.get_or_insert_default());
                        } else {
                            part(&value, &mut field, &mut fields);
                        }
                        length
                    }
                };
                bytes = bytes.saturating_add(length);
                if bytes > MAX_VALUE {
                    let what = format!("a command is longer than {MAX_VALUE} bytes");
                    self.refuse(menu, line, "words", what);
                    return Err(Flow::Exit);
                }
            }
            fields.extend(field);
        }
        let steps = (bytes / 64).saturating_add(fields.len());
        self.spend(menu, line, u32::try_from(steps).unwrap_or(u32::MAX))?;
        let mut words = Vec::new();
        let mut bytes = 0_usize;
        for field in fields {
            let names = self.names(&field, line, menu)?;
            bytes = names
                .iter()
                .map(String::len)
                .fold(bytes, usize::saturating_add);
            if bytes > MAX_VALUE {
                let what = format!("a command is longer than {MAX_VALUE} bytes");
                self.refuse(menu, line, "words", what);
                return Err(Flow::Exit);
            }
            words.extend(names);
        }
        Ok(words)
    }

    fn value(&self, name: &str) -> String {
        match name {
            "?" => self.status.to_string(),
            "#" => self.arguments.len().to_string(),
            "*" | "@" => self.arguments.join(" "),
            _ => match name.parse::<usize>() {
                Ok(number) => number
                    .checked_sub(1)
                    .and_then(|index| self.arguments.get(index))
                    .cloned()
                    .unwrap_or_default(),
                Err(_) => self.env.get(name).to_string(),
            },
        }
    }
}

/// Parts a value at blanks: its first part goes on with the word so far.
fn part(value: &str, field: &mut Option<String>, fields: &mut Vec<String>) {
    for (at, part) in value.split(|c: char| c.is_ascii_whitespace()).enumerate() {
        if at > 0 {
            fields.extend(field.take());
        }
        if !part.is_empty() {
            wildcard::escape_value(part, field.get_or_insert_default());
        }
    }
}
