//! One line that is edited.

use alloc::{string::String, vec::Vec};

use crate::Key;

/// Characters of a line: more are not taken.
pub const MOST: usize = 4096;

fn printable(c: char) -> Option<u8> {
    let byte = u8::try_from(c).ok()?;
    (b' '..=b'~').contains(&byte).then_some(byte)
}

/// A line with a cursor. It is made of ASCII: what else was in it is `?`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    bytes: Vec<u8>,
    cursor: usize,
}

impl Line {
    /// A line with its cursor at the end.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let fine = |c: char| printable(c).unwrap_or(b'?');
        let bytes: Vec<u8> = text.chars().map(fine).take(MOST).collect();
        Self {
            cursor: bytes.len(),
            bytes,
        }
    }

    /// What is in it.
    #[must_use]
    pub fn text(&self) -> String {
        self.bytes.iter().copied().map(char::from).collect()
    }

    /// Changes it; whether the key was one for a line.
    pub fn key(&mut self, key: Key) -> bool {
        match key {
            Key::Char(c) => {
                if let Some(byte) = printable(c)
                    && self.bytes.len() < MOST
                {
                    self.bytes.insert(self.cursor, byte);
                    self.cursor = self.cursor.saturating_add(1);
                }
            }
            Key::Backspace => {
                if let Some(before) = self.cursor.checked_sub(1) {
                    self.bytes.remove(before);
                    self.cursor = before;
                }
            }
            Key::Delete => {
                if self.cursor < self.bytes.len() {
                    self.bytes.remove(self.cursor);
                }
            }
            Key::Kill => self.bytes.truncate(self.cursor),
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = self.cursor.saturating_add(1).min(self.bytes.len()),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.bytes.len(),
            _ => return false,
        }
        true
    }

    /// The part of it that fits into so many columns, and the cursor's column
    /// there.
    #[must_use]
    pub fn window(&self, columns: usize) -> (String, usize) {
        let columns = columns.max(1);
        let from = self.cursor.saturating_sub(columns.saturating_sub(1));
        let part = self.bytes.iter().skip(from).take(columns);
        let text = part.copied().map(char::from).collect();
        (text, self.cursor.saturating_sub(from))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_edited() {
        let mut line = Line::new("ro quiet");
        for key in [
            Key::Home,
            Key::Delete,
            Key::Char('R'),
            Key::End,
            Key::Backspace,
        ] {
            assert!(line.key(key));
        }
        assert_eq!(line.text(), "Ro quie");
        for key in [Key::Left, Key::Left, Key::Kill] {
            assert!(line.key(key));
        }
        assert_eq!(line.text(), "Ro qu");
        assert!(!line.key(Key::Enter));
    }

    #[test]
    fn a_long_line_is_seen_around_its_cursor() {
        let line = Line::new(&"0123456789".repeat(3));
        assert_eq!(line.window(10), ("123456789".into(), 9));
        let mut line = line;
        line.key(Key::Home);
        assert_eq!(line.window(10), ("0123456789".into(), 0));
    }

    proptest! {
        #[test]
        fn any_keys_leave_a_line(
            start in ".{0,40}",
            keys in proptest::collection::vec(0..12_u8, 0..200),
            columns in 0..20_usize,
        ) {
            let mut line = Line::new(&start);
            for key in keys {
                line.key(match key {
                    0 => Key::Char('x'),
                    1 => Key::Backspace,
                    2 => Key::Delete,
                    3 => Key::Left,
                    4 => Key::Right,
                    5 => Key::Home,
                    6 => Key::End,
                    7 => Key::Kill,
                    8 => Key::Enter,
                    9 => Key::Char('\u{e4}'),
                    10 => Key::Escape,
                    _ => Key::Up,
                });
                let (part, column) = line.window(columns);
                prop_assert!(part.len() <= columns.max(1));
                prop_assert!(column <= part.len());
            }
        }
    }
}
