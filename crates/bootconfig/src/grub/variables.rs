//! Variables from the guest's own command line.
//!
//! Rules: `grub-core/kern/xen/cmdline.c` of GRUB 2.14, made for the boot modes of
//! Qubes OS. Words are parted at blanks outside quotes; a backslash takes the
//! next character as it is. A word whose name has letters and `_` alone and
//! begins with `xen_grub_env_` is a variable, `1` where it has no value. A
//! character that cannot be printed makes all of the line none.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

/// What names of variables begin with.
const PREFIX: &str = "xen_grub_env_";
/// Variables, at most.
const MAX_VARIABLES: usize = 64;

/// The words of a line, as they are and as they mean.
fn words(line: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut start = 0_usize;
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in line.char_indices() {
        match (c, quote) {
            (c, _) if escaped => {
                word.push(c);
                escaped = false;
            }
            ('\\', _) => escaped = true,
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => {
                found.extend(line.get(start..at).map(|raw| (raw, word)));
                word = String::new();
                start = at.saturating_add(1);
            }
            (c, _) => word.push(c),
        }
    }
    found.extend(line.get(start..).map(|raw| (raw, word)));
    found.retain(|(raw, _)| !raw.is_empty());
    found
}

/// Name and value, if a word is a variable.
fn variable(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=').unwrap_or((word, "1"));
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    (plain && name.starts_with(PREFIX)).then_some((name, value))
}

/// Whether all of a line can be printed.
fn is_plain(line: &str) -> bool {
    line.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// The variables in a command line.
#[must_use]
pub fn of(line: &str) -> Vec<(String, String)> {
    if !is_plain(line) {
        return Vec::new();
    }
    let words = words(line);
    let found = words.iter().filter_map(|(_, word)| variable(word));
    let found = found.map(|(name, value)| (name.to_string(), value.to_string()));
    found.take(MAX_VARIABLES).collect()
}

/// The words that are none: these are the kernel's.
#[must_use]
pub fn without(line: &str) -> String {
    if !line.contains(PREFIX) || !is_plain(line) {
        return line.to_string();
    }
    let words = words(line);
    let rest = words.iter().filter(|(_, word)| variable(word).is_none());
    rest.map(|(raw, _)| *raw).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        let line = "root=x xen_grub_env_mode=a 'xen_grub_env_b=it is' xen_grub_env_c \
            xen_grub_env_d1=no xen_grub_env_e=\"a\\\" b\"'\"' quiet  grub_env_f=no \"a b\"";
        let found = of(line);
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("xen_grub_env_mode", "a"),
                ("xen_grub_env_b", "it is"),
                ("xen_grub_env_c", "1"),
                ("xen_grub_env_e", "a\" b\""),
            ]
        );
        assert_eq!(
            without(line),
            "root=x xen_grub_env_d1=no quiet grub_env_f=no \"a b\""
        );
        assert_eq!(without("a  b"), "a  b");
        assert!(of("xen_grub_env_a=\u{1b}").is_empty());
        assert!(of("xen_grub_env_a=é").is_empty());
        assert_eq!(of("xen_grub_env_a='b c").len(), 1);
    }
}
