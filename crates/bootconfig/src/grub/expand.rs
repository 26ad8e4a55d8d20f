//! Expanding words: variables, then names for wildcards.
//!
//! Semantics: `grub-core/script/execute.c`. A variable outside quotes is parted
//! at blanks, `"$@"` between arguments.

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

/// Words while they are made, as patterns (see [`wildcard`]).
#[derive(Default)]
struct Fields {
    done: Vec<String>,
    /// None: nothing has been put in, and there is no word unless that comes.
    field: Option<String>,
}

impl Fields {
    fn next(&mut self) {
        self.done.extend(self.field.take());
    }

    /// Puts in a text that means itself: a word even if there is nothing in it.
    fn quoted(&mut self, text: &str) {
        wildcard::escape(text, self.field.get_or_insert_default());
    }

    /// Puts in a value, parted at blanks.
    fn parted(&mut self, value: &str) {
        for (index, part) in value.split_ascii_whitespace().enumerate() {
            if index > 0 {
                self.next();
            }
            wildcard::escape_value(part, self.field.get_or_insert_default());
        }
    }
}

impl Shell<'_> {
    /// Words with their variables replaced, and names for wildcards. Until
    /// the names are looked for, a word is a pattern (see [`wildcard`]).
    pub(super) fn expand(
        &mut self,
        words: &[Word],
        line: u32,
        menu: &mut Menu,
    ) -> Result<Vec<String>, Flow> {
        let mut fields = Fields::default();
        let mut bytes = 0_usize;
        for word in words {
            for piece in &word.pieces {
                let length = match piece {
                    Piece::Text(text) => {
                        fields.field.get_or_insert_default().push_str(text);
                        text.len()
                    }
                    Piece::Quoted(text) => {
                        fields.quoted(text);
                        text.len()
                    }
                    Piece::Translated(text) => {
                        let text = self.without_catalogue(text);
                        fields.quoted(&text);
                        text.len()
                    }
                    Piece::Variable { name, quoted } => self.variable(name, *quoted, &mut fields),
                };
                bytes = bytes.saturating_add(length);
                if bytes > MAX_VALUE {
                    let what = format!("a command is longer than {MAX_VALUE} bytes");
                    self.refuse(menu, line, "words", what);
                    return Err(Flow::Exit);
                }
            }
            fields.next();
        }
        let fields = fields.done;
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

    /// Puts a variable's value in; its bytes.
    fn variable(&self, name: &str, quoted: bool, fields: &mut Fields) -> usize {
        let special =
            matches!(name, "#" | "*" | "@") || name.starts_with(|c: char| c.is_ascii_digit());
        if !special {
            let value = self.value(name);
            if quoted && !value.is_empty() {
                fields.quoted(&value);
            } else {
                fields.parted(&value);
            }
            return value.len();
        }
        let Some(arguments) = &self.arguments else {
            return 0;
        };
        let count;
        let values = match name {
            "#" => {
                count = [arguments.len().to_string()];
                count.as_slice()
            }
            "*" | "@" => arguments.as_slice(),
            _ => {
                let index = name
                    .parse::<usize>()
                    .ok()
                    .and_then(|number| number.checked_sub(1));
                let value = index.and_then(|index| arguments.get(index));
                value.map_or(&[][..], core::slice::from_ref)
            }
        };
        if quoted {
            for (index, value) in values.iter().enumerate() {
                match (index, name) {
                    (0, _) => {}
                    (_, "*") => fields.quoted(" "),
                    _ => fields.next(),
                }
                fields.quoted(value);
            }
        } else {
            // Empty arguments neither begin a word nor end one.
            let values = values.iter().filter(|value| !value.trim_ascii().is_empty());
            for (index, value) in values.enumerate() {
                if index > 0 {
                    fields.next();
                }
                fields.parted(value);
            }
        }
        values
            .iter()
            .map(String::len)
            .fold(values.len(), usize::saturating_add)
    }

    /// `$"…"` without a catalogue. GRUB replaces variables in it once it is
    /// translated: arguments are none of them, but for their number.
    fn without_catalogue(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        let mut escaped = false;
        while let Some(c) = rest.chars().next() {
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            match c {
                '\\' => {
                    escaped = !escaped;
                    if !escaped {
                        out.push('\\');
                    }
                }
                '$' if escaped => {
                    escaped = false;
                    out.push('$');
                }
                '$' => {
                    let (name, behind) = if let Some(open) = rest.strip_prefix('{') {
                        match open.split_once('}') {
                            Some((name, behind)) => (name, behind),
                            // The rest is lost.
                            None => break,
                        }
                    } else {
                        rest.split_at_checked(name_length(rest))
                            .unwrap_or((rest, ""))
                    };
                    let is_open = rest.len() != name.len().saturating_add(behind.len());
                    rest = behind;
                    match (name, &self.arguments) {
                        ("", _) if !is_open => out.push('$'),
                        ("#", Some(arguments)) => out.push_str(&arguments.len().to_string()),
                        _ => out.push_str(&self.value(name)),
                    }
                }
                c => {
                    if escaped {
                        out.push('\\');
                    }
                    escaped = false;
                    out.push(c);
                }
            }
        }
        out
    }

    /// What is no argument.
    fn value(&self, name: &str) -> String {
        match name {
            "?" => self.status.to_string(),
            _ => self.env.get(name).to_string(),
        }
    }
}

/// How long the name of a variable in `$"…"` is; 0 if there is none.
fn name_length(text: &str) -> usize {
    let first = text.bytes().next().unwrap_or_default();
    let length = |fits: fn(u8) -> bool| text.bytes().take_while(|byte| fits(*byte)).count();
    match first {
        b'?' | b'#' => 1,
        b'0'..=b'9' => length(|byte| byte.is_ascii_digit()),
        _ => length(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
    }
}
