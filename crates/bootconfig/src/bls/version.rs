//! Comparing versions as the UAPI Group's Version Format Specification
//! (UAPI.10) says, and patterns for names.

use core::cmp::Ordering;

/// Which of two versions is the older one.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        (a, b) = (skip(a), skip(b));
        // `~` makes a version older than its end does.
        match (strip(a, b'~'), strip(b, b'~')) {
            (Some(rest_a), Some(rest_b)) => (a, b) = (rest_a, rest_b),
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        // One after the other, without looking at the ones before again: so
        // does systemd.
        for separator in *b"-^." {
            match (strip(a, separator), strip(b, separator)) {
                (Some(rest_a), Some(rest_b)) => (a, b) = (rest_a, rest_b),
                (Some(_), None) => return Ordering::Less,
                (None, Some(_)) => return Ordering::Greater,
                (None, None) => {}
            }
        }
        let digits = starts(a, u8::is_ascii_digit) || starts(b, u8::is_ascii_digit);
        let order = if digits {
            let (number_a, rest_a) = take(a, u8::is_ascii_digit);
            let (number_b, rest_b) = take(b, u8::is_ascii_digit);
            (a, b) = (rest_a, rest_b);
            // No number at all is less than 0.
            let none = (number_a.is_empty(), number_b.is_empty());
            let (number_a, number_b) = (without_zeros(number_a), without_zeros(number_b));
            none.1
                .cmp(&none.0)
                .then_with(|| number_a.len().cmp(&number_b.len()))
                .then_with(|| number_a.cmp(number_b))
        } else {
            let (word_a, rest_a) = take(a, u8::is_ascii_alphabetic);
            let (word_b, rest_b) = take(b, u8::is_ascii_alphabetic);
            (a, b) = (rest_a, rest_b);
            word_a.cmp(word_b)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Without characters in front that no version has.
fn skip(text: &[u8]) -> &[u8] {
    take(text, |byte| {
        !byte.is_ascii_alphanumeric() && !b"~-^.".contains(byte)
    })
    .1
}

fn strip(text: &[u8], byte: u8) -> Option<&[u8]> {
    match text {
        [first, rest @ ..] if *first == byte => Some(rest),
        _ => None,
    }
}

fn starts(text: &[u8], is: impl Fn(&u8) -> bool) -> bool {
    text.first().is_some_and(is)
}

fn without_zeros(number: &[u8]) -> &[u8] {
    take(number, |digit| *digit == b'0').1
}

fn take(text: &[u8], is: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !is(byte));
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or((text, &[]))
}

/// Whether a name matches a pattern with `*`, `?` and `[a-z]`, as `fnmatch`
/// does, in whatever case.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.as_bytes(), name.as_bytes());
    // Where to go on if a star has to take one more: only the last star's
    // choice matters, so the work is at most one length times the other.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            again = Some((rest, name));
            pattern = rest;
            continue;
        }
        if let (Some(rest), [_, names @ ..]) = (one(pattern, name), name) {
            (pattern, name) = (rest, names);
            continue;
        }
        if pattern.is_empty() && name.is_empty() {
            return true;
        }
        let Some((rest, [_, names @ ..])) = again else {
            return false;
        };
        again = Some((rest, names));
        (pattern, name) = (rest, names);
    }
}

/// What is behind the first part of a pattern, if that takes the first byte.
fn one<'p>(pattern: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let byte = name.first()?.to_ascii_lowercase();
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => {
            let close = rest.iter().skip(1).position(|byte| *byte == b']')?;
            let (set, rest) = rest.split_at_checked(close.checked_add(1)?)?;
            let (set, not) = match set {
                [b'!' | b'^', set @ ..] => (set, true),
                set => (set, false),
            };
            let inside = in_set(set, byte);
            rest.get(1..).filter(|_| inside != not)
        }
        [b'\\', first, rest @ ..] | [first, rest @ ..] => {
            (first.to_ascii_lowercase() == byte).then_some(rest)
        }
        [] => None,
    }
}

fn in_set(mut set: &[u8], byte: u8) -> bool {
    loop {
        let (low, high, rest) = match set {
            [low, b'-', high, rest @ ..] => (low, high, rest),
            [one, rest @ ..] => (one, one, rest),
            [] => return false,
        };
        if (low.to_ascii_lowercase()..=high.to_ascii_lowercase()).contains(&byte) {
            return true;
        }
        set = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_the_specification_says() {
        // The examples of UAPI.10, and more.
        for (a, b) in [
            ("~", ""),
            ("~", "1"),
            ("", "1"),
            ("", "a"),
            ("1.2.3", "1.3.3"),
            ("122", "123"),
            ("122.1", "123"),
            ("123", "123.1"),
            ("123.1-1", "123.1.1"),
            ("123-3", "123.1"),
            ("123~rc1-1", "123-1"),
            ("123", "123-a"),
            ("123-a", "123-a.1"),
            ("123-a.1", "123-a1"),
            ("123-a-1", "123-a.1"),
            ("123~rc1", "123"),
            ("123^", "123.1"),
            ("123", "123^"),
            ("123-a", "123^"),
            ("^.", "^-~"),
            ("~_0", "~a"),
            ("-^^A^", "--~1-"),
            ("9", "10"),
            ("a", "1"),
            ("a", "0"),
            ("A", "a"),
            ("ab", "abc"),
            ("6.1.0-9-amd64", "6.1.0-38-amd64"),
            ("5.14.0-70.el9", "5.14.0-362.el9"),
        ] {
            assert_eq!(compare(a, b), Ordering::Less, "{a} < {b}");
            assert_eq!(compare(b, a), Ordering::Greater, "{b} > {a}");
        }
        for (a, b) in [("", ""), ("_1", "1_"), ("007", "7"), ("1.0", "1.0")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} = {b}");
        }
    }

    #[test]
    fn patterns_match_names() {
        for (pattern, name, want) in [
            ("arch.conf", "ARCH.conf", true),
            ("arch", "arch.conf", false),
            ("arch*", "arch.conf", true),
            ("*-lts.conf", "arch-lts.conf", true),
            ("a?ch*f", "arch.conf", true),
            ("[a-c]rch", "arch", true),
            ("[!a-c]rch", "arch", false),
            ("[]a]x", "ax", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*a*b*c", "xaxbxc", true),
            ("*a*b*c", "xaxbx", false),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn order_is_an_order(a in "[a-b0-1~^.-]{0,6}", b in "[a-b0-1~^.-]{0,6}") {
            assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            assert_eq!(compare(&a, &a), Ordering::Equal);
        }

        #[test]
        fn nothing_panics(a in "\\PC{0,40}", b in "\\PC{0,40}") {
            let _ = compare(&a, &b);
            let _ = matches(&a, &b);
        }
    }
}
