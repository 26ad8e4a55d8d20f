//! `test` and `[`: conditions of GRUB scripts.
//!
//! Grammar: GNU GRUB manual, "test". `-o` binds less than `-a`, both less than
//! `!`. What makes no sense is no mistake, since scripts test unset variables
//! without quotes: a word that is no operator holds if it is not empty,
//! conditions side by side must all hold, and nothing holds. So does GRUB
//! 2.06: the table in the tests is what its `grub-emu` says.

use core::cmp::Ordering;

use kexen_disk::fs::FileType;

/// How deep parentheses may be in one another.
const MAX_DEPTH: u32 = 16;

/// What conditions ask the disk for.
pub(super) trait Files {
    /// What a path is; `None` if there is nothing.
    fn kind(&mut self, path: &str) -> Option<FileType>;
    /// Bytes of a file; `None` if there is none.
    fn bytes(&mut self, path: &str) -> Option<u64>;
}

/// Whether a condition holds.
pub(super) fn holds<T: AsRef<str>>(arguments: &[T], files: &mut dyn Files) -> bool {
    let mut condition = Condition {
        rest: arguments,
        files,
        depth: 0,
    };
    condition.any()
}

struct Condition<'a, T> {
    rest: &'a [T],
    files: &'a mut dyn Files,
    depth: u32,
}

impl<T: AsRef<str>> Condition<'_, T> {
    fn at(&self, word: &str) -> bool {
        self.rest.first().is_some_and(|next| next.as_ref() == word)
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn any(&mut self) -> bool {
        let mut value = self.all();
        while self.at("-o") {
            self.skip(1);
            value |= self.all();
        }
        value
    }

    /// All up to the next `-o` or `)`; nothing at all holds.
    fn all(&mut self) -> bool {
        let mut value = true;
        while !self.rest.is_empty() && !self.at("-o") && !self.at(")") {
            if self.at("-a") {
                self.skip(1);
            } else {
                value &= self.primary();
            }
        }
        value
    }

    fn primary(&mut self) -> bool {
        if let [left, operator, right, ..] = self.rest
            && let Some(value) = compare(left.as_ref(), operator.as_ref(), right.as_ref())
        {
            self.skip(3);
            return value;
        }
        if self.at("!") {
            let mut wanted = true;
            while self.at("!") {
                self.skip(1);
                wanted = !wanted;
            }
            // Nothing behind it: then it says nothing.
            let ends = self.rest.is_empty() || self.at("-o") || self.at(")");
            return ends || self.primary() == wanted;
        }
        if self.at("(") && self.depth < MAX_DEPTH {
            self.skip(1);
            self.depth = self.depth.saturating_add(1);
            let value = self.any();
            self.depth = self.depth.saturating_sub(1);
            self.skip(1);
            return value;
        }
        if let [operator, operand, ..] = self.rest
            && let Some(value) = self.ask(operator.as_ref(), operand.as_ref())
        {
            self.skip(2);
            return value;
        }
        let value = self
            .rest
            .first()
            .is_some_and(|word| !word.as_ref().is_empty());
        self.skip(1);
        value
    }

    fn ask(&mut self, operator: &str, operand: &str) -> Option<bool> {
        Some(match operator {
            "-n" => !operand.is_empty(),
            "-z" => operand.is_empty(),
            "-d" => self.files.kind(operand) == Some(FileType::Directory),
            "-e" => self.files.kind(operand).is_some(),
            "-f" => self
                .files
                .kind(operand)
                .is_some_and(|kind| kind != FileType::Directory),
            "-s" => self.files.bytes(operand).is_some_and(|bytes| bytes > 0),
            _ => return None,
        })
    }
}

/// A number, as far as a text is one; 0 if it is none.
fn number(text: &str) -> i64 {
    let text = text.trim_ascii();
    let (text, sign) = match text.strip_prefix('-') {
        Some(text) => (text, -1_i64),
        None => (text, 1),
    };
    let (digits, base) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (text.get(2..).unwrap_or_default(), 16),
        [b'0', b'0'..=b'7', ..] => (text, 8),
        _ => (text, 10),
    };
    digits
        .chars()
        .map_while(|c| c.to_digit(base))
        .fold(0_i64, |value, digit| {
            value
                .saturating_mul(base.into())
                .saturating_add(digit.into())
        })
        .saturating_mul(sign)
}

/// Two words compared; `None` if that is no operator.
fn compare(left: &str, operator: &str, right: &str) -> Option<bool> {
    // `-pgt` and `-plt` pass over what both begin with that is no number.
    let behind = || {
        let same = left
            .bytes()
            .zip(right.bytes())
            .take_while(|(a, b)| a == b && !a.is_ascii_digit())
            .count();
        let cut = |text: &str| number(text.get(same..).unwrap_or_default());
        cut(left).cmp(&cut(right))
    };
    Some(match operator {
        "=" | "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        ">=" => left >= right,
        "-eq" => number(left) == number(right),
        "-ne" => number(left) != number(right),
        "-lt" => number(left) < number(right),
        "-le" => number(left) <= number(right),
        "-gt" => number(left) > number(right),
        "-ge" => number(left) >= number(right),
        "-pgt" => behind() == Ordering::Greater,
        "-plt" => behind() == Ordering::Less,
        // When files were written is not known here.
        "-nt" | "-ot" => false,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    struct Fake;

    impl Files for Fake {
        fn kind(&mut self, path: &str) -> Option<FileType> {
            match path {
                "/file" | "/empty" => Some(FileType::Regular),
                "/folder" => Some(FileType::Directory),
                _ => None,
            }
        }

        fn bytes(&mut self, path: &str) -> Option<u64> {
            match path {
                "/file" => Some(7),
                "/empty" => Some(0),
                _ => None,
            }
        }
    }

    fn test(text: &str) -> bool {
        let words: Vec<&str> = text
            .split_ascii_whitespace()
            .map(|word| if word == "''" { "" } else { word })
            .collect();
        holds(&words, &mut Fake)
    }

    #[test]
    fn conditions_hold_as_in_grub() {
        for text in [
            "a -a",
            "'' -o a",
            "a = a -o",
            "a = b -o",
            "-n",
            "5 -eq 05",
            "010 -eq 8",
            "08 -eq 8",
            "5x -eq 5",
            "x -eq 0",
            "-1 -lt 1",
            "0x10 -eq 16",
            "'' -eq 0",
            "( a",
            "a )",
            "! ! a",
            "a == a",
            "-d /folder",
            "-e /folder",
            "-s /file",
            "! -e /none",
            "! -f /folder",
            "! -s /empty",
            "a = a -a b = b -o c = d",
            "a = b -a b = b -o c = c",
            "a != b",
            "x1 -plt x2",
            "abc10 -pgt abc9",
            "99999999999 -gt 1",
            "a = a -o a = b -a a = b",
            "a = b -a a = b -o a = a",
            "'' = ''",
            "-z '' -a",
            "= =",
            "-a",
            "-o",
            "! -o",
            "a !",
            "-e",
            "-n -z",
            "= 0",
            "-f",
            "!",
            "",
            "10 -gt 9",
            "( a = b ) -o ( c = c )",
            "! a = b -a c = c",
            "a = a -o b",
            "-z",
            "a b",
            "1 = 1 -a",
            "!= 1",
        ] {
            assert!(test(text), "{text}");
        }
        for text in [
            "a ''",
            "'' a",
            "a = b c",
            "a = a ''",
            "'' -a a",
            "! a b",
            "! a ''",
            "'' ''",
            "''",
            "-n ''",
            "-z a b",
            "-1 -gt 1",
            "( a = b",
            "! ( a = a )",
            "! ! ''",
            "a b = c",
            "a = a a = b",
            "a = b a = a",
            "-f /none",
            "-f /folder",
            "a -nt b",
            "a != a",
            "a -pgt b",
            "a = = b",
            "'' !",
            "-z -n",
            "a = b -o a = a -a b = c",
            "! -z ''",
        ] {
            assert!(!test(text), "{text}");
        }
        // These two are mistakes in GRUB, which wants them escaped.
        assert!(test("b > a") && test("10 < 2"));
    }

    #[test]
    fn depth_has_a_bound() {
        let deep: Vec<&str> = core::iter::repeat_n("(", 10_000).collect();
        let _ = holds(&deep, &mut Fake);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(words in proptest::collection::vec("!|-a|-o|\\(|\\)|=|-z|-f|x|", 0..12)) {
            let _ = holds(&words, &mut Fake);
        }
    }
}
