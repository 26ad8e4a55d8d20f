//! `*` and `?` in words: names of files and devices.
//!
//! Rules: `grub-core/commands/wildcard.c` of GRUB 2.14. A word that begins with
//! `/`, `(` or `*` and has one outside quotes stands for all names that it
//! fits, in the order of the folder; where there are none it stays as it is.
//! `[` means itself. A device is a part like any folder: `(hd0,*)/boot`.
//!
//! In a pattern a backslash takes the next character as it is.

use alloc::{format, string::String, vec::Vec};

use super::shell::{Flow, LOOK_STEPS, Shell};
use crate::{
    entry::Menu,
    volumes::{TableKind, Volume},
};

/// Names that one word stands for, at most.
const MAX_NAMES: usize = 1024;

/// A text as a pattern that fits it alone.
pub(super) fn escape(text: &str, into: &mut String) {
    for c in text.chars() {
        if matches!(c, '*' | '?' | '\\') {
            into.push('\\');
        }
        into.push(c);
    }
}

/// An unquoted variable's value as a pattern: only backslashes are as they are,
/// with the sign that one stands before.
pub(super) fn escape_value(text: &str, into: &mut String) {
    let mut before = ' ';
    for c in text.chars() {
        if c == '\\' || (before == '\\' && matches!(c, '*' | '?')) {
            into.push('\\');
        }
        into.push(c);
        before = c;
    }
}

/// The text of a pattern.
pub(super) fn unescape(pattern: &str) -> String {
    let mut text = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}

/// A sign of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Char(char),
    One,
    Any,
}

fn signs(pattern: &str) -> Vec<Sign> {
    let mut found = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        found.push(match c {
            '*' => Sign::Any,
            '?' => Sign::One,
            '\\' => match chars.next() {
                Some(c) => Sign::Char(c),
                None => continue,
            },
            c => Sign::Char(c),
        });
    }
    found
}

/// Whether all of a name fits: of several `*` only the last is tried anew.
fn fits(signs: &[Sign], name: &[char]) -> bool {
    let (mut sign, mut at) = (0_usize, 0_usize);
    let mut again: Option<(usize, usize)> = None;
    while let Some(c) = name.get(at) {
        match signs.get(sign) {
            Some(Sign::Any) => {
                again = Some((sign, at));
                sign = sign.saturating_add(1);
                continue;
            }
            Some(want) if *want == Sign::One || *want == Sign::Char(*c) => {
                sign = sign.saturating_add(1);
                at = at.saturating_add(1);
                continue;
            }
            _ => {}
        }
        let Some((any, from)) = again else {
            return false;
        };
        at = from.saturating_add(1);
        sign = any.saturating_add(1);
        again = Some((any, at));
    }
    let rest = signs.get(sign..).unwrap_or_default();
    rest.iter().all(|sign| *sign == Sign::Any)
}

/// Takes the first part with a `*` or `?` off a pattern: what is before it,
/// which ends with a slash or is empty, the part, and what is behind.
fn split(pattern: &str) -> Option<(&str, &str, &str)> {
    let (mut start, mut found) = (0_usize, false);
    let mut chars = pattern.char_indices();
    let mut end = pattern.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '*' | '?' => found = true,
            '/' if found => {
                end = at;
                break;
            }
            '/' => start = at.saturating_add(1),
            _ => {}
        }
    }
    let (before, rest) = pattern.split_at_checked(start)?;
    let (part, behind) = rest.split_at_checked(end.saturating_sub(start))?;
    found.then_some((before, part, behind))
}

impl Shell<'_> {
    /// What a pattern stands for.
    pub(super) fn names(
        &mut self,
        pattern: &str,
        line: u32,
        menu: &mut Menu,
    ) -> Result<Vec<String>, Flow> {
        let itself = || Vec::from([unescape(pattern)]);
        if !pattern.starts_with(['/', '(', '*']) {
            return Ok(itself());
        }
        let mut paths: Option<Vec<String>> = None;
        let mut rest = pattern;
        while let Some((before, part, behind)) = split(rest) {
            let signs = signs(part);
            paths = Some(match paths {
                None if before.is_empty() => self.devices(&signs, part),
                None => self.files(&unescape(before), &signs, line, menu)?,
                Some(paths) => {
                    let mut found = Vec::new();
                    for path in paths {
                        let folder = format!("{path}{}", unescape(before));
                        found.extend(self.files(&folder, &signs, line, menu)?);
                        if found.len() > MAX_NAMES {
                            let what = format!("this stands for more than {MAX_NAMES} names");
                            self.refuse(menu, line, pattern, what);
                            return Ok(itself());
                        }
                    }
                    found
                }
            });
            rest = behind;
        }
        let Some(mut paths) = paths else {
            return Ok(itself());
        };
        if !rest.is_empty() {
            self.spend_looks(paths.len(), line, menu)?;
            let behind = unescape(rest);
            paths = paths
                .into_iter()
                .map(|path| format!("{path}{behind}"))
                .collect();
            paths.retain(|path| {
                let place = self.place(path);
                place.is_ok_and(|place| self.volumes.kind_of(&place).is_ok())
            });
        }
        if paths.is_empty() {
            return Ok(itself());
        }
        Ok(paths)
    }

    fn spend_looks(&mut self, count: usize, line: u32, menu: &mut Menu) -> Result<(), Flow> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.spend(menu, line, count.saturating_mul(LOOK_STEPS))
    }

    /// Devices, by the names that the pattern has for them. Without the
    /// parenthesis they are whole disks.
    fn devices(&self, signs: &[Sign], pattern: &str) -> Vec<String> {
        let bios = pattern.trim_start_matches('(').starts_with("hd");
        let all = self.volumes.as_grub_lists();
        let names = all.into_iter().filter_map(|index| {
            let volume = self.volumes.get(index)?;
            if !pattern.starts_with('(') && volume.partition.is_some() {
                return None;
            }
            let name = if bios {
                self.bios_name(volume)?
            } else {
                volume.grub_name()
            };
            Some(format!("({name})"))
        });
        let fitting = names.filter(|name| fits(signs, &name.chars().collect::<Vec<_>>()));
        fitting.take(MAX_NAMES).collect()
    }

    /// `hd0,gpt1`
    fn bios_name(&self, volume: &Volume<'_>) -> Option<String> {
        let disk = self.volumes.disk_number(&volume.disk)?;
        let table = match volume.table {
            Some(TableKind::Gpt) => "gpt",
            Some(TableKind::Msdos) => "msdos",
            None => "",
        };
        Some(match volume.partition {
            Some(number) => format!("hd{disk},{table}{number}"),
            None => format!("hd{disk}"),
        })
    }

    /// The names in a folder that fit, behind the folder's.
    fn files(
        &mut self,
        folder: &str,
        signs: &[Sign],
        line: u32,
        menu: &mut Menu,
    ) -> Result<Vec<String>, Flow> {
        self.spend(menu, line, LOOK_STEPS)?;
        let Ok(place) = self.place(folder) else {
            return Ok(Vec::new());
        };
        let names = self.volumes.fs(&place);
        let names = names.and_then(|fs| fs.read_dir(&place.path));
        let names = names.unwrap_or_default();
        let steps = u32::try_from(names.len() / 8).unwrap_or(u32::MAX);
        self.spend(menu, line, steps)?;
        let fitting = names.iter().filter(|name| {
            let chars: Vec<char> = name.chars().collect();
            !matches!(name.as_str(), "." | "..") && fits(signs, &chars)
        });
        let paths = fitting.map(|name| format!("{folder}{name}"));
        Ok(paths.take(MAX_NAMES).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns() {
        for (pattern, name, want) in [
            ("*", "", true),
            ("*.cfg", "a.cfg", true),
            ("*.cfg", ".cfg", true),
            ("*.cfg", "a.cfgs", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyybz", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[ab]", "a", false),
            ("[ab]", "[ab]", true),
            ("", "", true),
            ("**", "é", true),
            ("?", "é", true),
        ] {
            let chars: Vec<char> = name.chars().collect();
            assert_eq!(fits(&signs(pattern), &chars), want, "{pattern} {name}");
        }
        let long: Vec<char> = "a".repeat(10_000).chars().collect();
        assert!(!fits(
            &signs(&"*a".repeat(50).replace("*a*a", "*a*b")),
            &long
        ));
    }

    #[test]
    fn patterns_are_parted() {
        assert_eq!(split("/boot/*.cfg"), Some(("/boot/", "*.cfg", "")));
        assert_eq!(split("/a*/b/c?"), Some(("/", "a*", "/b/c?")));
        assert_eq!(split("(hd0,*)/boot"), Some(("", "(hd0,*)", "/boot")));
        assert_eq!(split("/a\\*/b"), None);
        assert_eq!(split("/a\\/*"), Some(("/", "a\\/*", "")));
    }

    #[test]
    fn escapes_are_undone() {
        for text in ["a*b?\\c", "\\*", "", "\\\\?"] {
            let mut pattern = String::new();
            escape(text, &mut pattern);
            assert_eq!(unescape(&pattern), text);
            assert!(
                signs(&pattern)
                    .iter()
                    .all(|sign| matches!(sign, Sign::Char(_)))
            );
            let mut pattern = String::new();
            escape_value(text, &mut pattern);
            assert_eq!(unescape(&pattern), text);
        }
        assert_eq!(unescape("a\\"), "a");
    }
}
