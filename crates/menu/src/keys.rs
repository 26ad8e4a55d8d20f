//! Bytes of a terminal as keys.
//!
//! Specification: ECMA-48 control sequences as terminals send them for
//! cursor keys (`ESC [ A`, `ESC O A`) and editing keys (`ESC [ 3 ~`).

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A printable ASCII character.
    Char(char),
    /// Return.
    Enter,
    /// Escape alone, or Ctrl-C or Ctrl-G.
    Escape,
    /// Backspace.
    Backspace,
    /// Delete, or Ctrl-D.
    Delete,
    /// Cursor up, or Ctrl-P.
    Up,
    /// Cursor down, or Ctrl-N.
    Down,
    /// Cursor left, or Ctrl-B.
    Left,
    /// Cursor right, or Ctrl-F.
    Right,
    /// Home, or Ctrl-A.
    Home,
    /// End, or Ctrl-E.
    End,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Ctrl-K: cut to the end of the line.
    Kill,
    /// Ctrl-L: draw the screen again.
    Redraw,
}

/// Where in a sequence we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Where {
    #[default]
    Outside,
    /// After `ESC`.
    Escape,
    /// After `ESC [` or `ESC O`, with the number so far.
    Sequence(u8),
}

/// A reader of keys.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    at: Where,
}

impl Keys {
    /// A key, if the byte ends one.
    pub fn byte(&mut self, byte: u8) -> Option<Key> {
        match (self.at, byte) {
            (Where::Outside, 0x1b) => {
                self.at = Where::Escape;
                None
            }
            (Where::Outside, byte) => single(byte),
            (Where::Escape, b'[' | b'O') => {
                self.at = Where::Sequence(0);
                None
            }
            (Where::Escape, _) => {
                self.at = Where::Outside;
                Some(Key::Escape)
            }
            (Where::Sequence(number), b'0'..=b'9') => {
                let digit = byte.wrapping_sub(b'0');
                self.at = Where::Sequence(number.saturating_mul(10).saturating_add(digit));
                None
            }
            // Parameters with modifiers: what follows counts.
            (Where::Sequence(_), b';') => {
                self.at = Where::Sequence(0);
                None
            }
            (Where::Sequence(number), byte) => {
                self.at = Where::Outside;
                sequence(number, byte)
            }
        }
    }

    /// Nothing has followed for a while: an `ESC` was the key itself.
    pub fn pause(&mut self) -> Option<Key> {
        let alone = self.at == Where::Escape;
        self.at = Where::Outside;
        alone.then_some(Key::Escape)
    }

    /// Whether a sequence has begun and not ended.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.at != Where::Outside
    }
}

fn single(byte: u8) -> Option<Key> {
    Some(match byte {
        b'\r' | b'\n' => Key::Enter,
        0x01 => Key::Home,
        0x02 => Key::Left,
        0x03 | 0x07 => Key::Escape,
        0x04 => Key::Delete,
        0x05 => Key::End,
        0x06 => Key::Right,
        0x08 | 0x7f => Key::Backspace,
        0x0b => Key::Kill,
        0x0c => Key::Redraw,
        0x0e => Key::Down,
        0x10 => Key::Up,
        b' '..=b'~' => Key::Char(char::from(byte)),
        _ => return None,
    })
}

fn sequence(number: u8, last: u8) -> Option<Key> {
    Some(match (number, last) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'C') => Key::Right,
        (_, b'D') => Key::Left,
        (_, b'H') | (1 | 7, b'~') => Key::Home,
        (_, b'F') | (4 | 8, b'~') => Key::End,
        (3, b'~') => Key::Delete,
        (5, b'~') => Key::PageUp,
        (6, b'~') => Key::PageDown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        let mut all: Vec<Key> = bytes.iter().filter_map(|b| keys.byte(*b)).collect();
        all.extend(keys.pause());
        all
    }

    #[test]
    fn terminals_say_the_same_key_in_several_ways() {
        for (bytes, key) in [
            (&b"\x1b[A"[..], Key::Up),
            (b"\x1bOA", Key::Up),
            (b"\x10", Key::Up),
            (b"\x1b[1~", Key::Home),
            (b"\x1b[H", Key::Home),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[1;5B", Key::Down),
            (b"\x1b", Key::Escape),
            (b"\r", Key::Enter),
            (b"e", Key::Char('e')),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        assert!(keys(b"\x1b[24~\xc3\xa4\x00\x1b[").is_empty());
        assert_eq!(keys(b"\x1b[999999999999Aq"), [Key::Up, Key::Char('q')]);
    }
}
