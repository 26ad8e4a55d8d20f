//! `load_env` and `save_env`: the environment block, in a file or outside.
//!
//! Semantics: `grub-core/commands/loadenv.c` of GRUB 2.14. On file systems
//! whose files cannot be written in place (btrfs) the block is in sectors of
//! the partition that the file system leaves alone: `env_block` in `grubenv`
//! says which (`512+1`), and scripts load `(DEVICE)512+1`: a list of sectors
//! (`grub-core/kern/fs.c`).

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use kexen_disk::fs::Problem;

use super::{
    arguments::{Arguments, Known, Takes},
    envblock,
    shell::{BAD_ARGUMENT, FILE_NOT_FOUND, Flow, Shell},
};
use crate::entry::Menu;

/// What reading an environment block costs.
const BLOCK_STEPS: u32 = 500;
/// Bytes of GRUB's sectors, whatever the disk's are.
const SECTOR: u64 = 512;

const OPTIONS: [Known; 2] = [
    Known::new("file", Some('f'), Takes::Value),
    Known::new("skip-sig", Some('s'), Takes::Nothing),
];

/// Why a block is not read.
enum Unread {
    /// There is none: GRUB has none, either.
    Missing,
    /// It may be there.
    Because(String),
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

impl Shell<'_> {
    /// `-f FILE`, or `$prefix/grubenv`; and the names behind it.
    fn block_file(&self, words: &[String]) -> Result<(String, Vec<String>), String> {
        let parsed = Arguments::parse(&OPTIONS, false, words)?;
        let file = parsed.value("file").map(String::from);
        let file = file.unwrap_or_else(|| format!("{}/grubenv", self.env.get("prefix")));
        Ok((file, parsed.words))
    }

    pub(super) fn load_env(
        &mut self,
        line: u32,
        words: &[String],
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        self.spend(menu, line, BLOCK_STEPS)?;
        let asked = self.block_file(words);
        if asked.is_err() {
            self.error = BAD_ARGUMENT;
        }
        let read = asked.map_err(Unread::Because).and_then(|(file, names)| {
            let block = self.block(&file).map_err(|why| match why {
                Unread::Because(why) => Unread::Because(format!("{file}: {why}")),
                Unread::Missing => Unread::Missing,
            })?;
            Ok((block, names))
        });
        let (block, names) = match read {
            Ok(read) => read,
            Err(Unread::Missing) => return Ok(self.fails(FILE_NOT_FOUND)),
            Err(Unread::Because(why)) => {
                let text = format!(
                    "load_env: {why}; what is saved or next is not known, so that the default \
                     may be another entry"
                );
                menu.doubt(self.source(line), text);
                return Ok(false);
            }
        };
        for (name, value) in envblock::parse(&block) {
            if names.is_empty() || names.contains(&name) {
                self.assign(line, &name, &value, menu);
            }
        }
        Ok(true)
    }

    /// The text of a block.
    fn block(&self, word: &str) -> Result<String, Unread> {
        let sectors = word
            .strip_prefix('(')
            .and_then(|word| word.split_once(')'))
            .filter(|(_, rest)| !rest.starts_with('/'));
        let text = match sectors {
            Some((device, list)) => self.sectors(device, list)?,
            None => {
                let place = self.place(word)?;
                let text = self.volumes.text(&place, envblock::MAX_BYTES);
                text.map_err(|error| match error.problem {
                    Problem::Missing => Unread::Missing,
                    problem => Unread::Because(problem.to_string()),
                })?
            }
        };
        if !envblock::is_one(&text) {
            return Err(Unread::Because(
                "this is no environment block; write it again with grub-editenv".into(),
            ));
        }
        Ok(text)
    }

    /// What is in a list of sectors of a partition.
    fn sectors(&self, device: &str, list: &str) -> Result<String, String> {
        let volume = self.volumes.by_grub_name(device);
        let volume = volume.and_then(|index| self.volumes.get(index));
        let raw = volume.and_then(|volume| volume.raw.as_ref());
        let Some(raw) = raw else {
            return Err(format!("there is no volume ({device})"));
        };
        let runs = runs(list, raw.bytes())?;
        let mut bytes: Vec<u8> = Vec::new();
        for (start, len) in runs {
            let from = bytes.len();
            bytes.resize(from.saturating_add(len), 0);
            let into = bytes.get_mut(from..).unwrap_or_default();
            raw.read_at(start, into)
                .map_err(|error| error.to_string())?;
        }
        Ok(String::from_utf8_lossy(&bytes).to_string())
    }

    /// Disks are only read: what should have been written is told, where it
    /// chooses what is booted the next time.
    pub(super) fn save_env(&mut self, line: u32, words: &[String], menu: &mut Menu) -> bool {
        let Ok((_, names)) = self.block_file(words) else {
            return false;
        };
        for name in names {
            let what = match (name.as_str(), self.in_entry) {
                ("next_entry" | "prev_saved_entry", false) => {
                    "the entry chosen for once stays chosen"
                }
                ("boot_counter", false) => "boots are not counted",
                ("saved_entry", true) => {
                    "the entry that is started is not the default of the next time"
                }
                ("initrdfail" | "initrdless_failed", true) => {
                    "an entry that starts without its initrd does so the next time, too; if it \
                     does not find its root, take the one with `initrd`"
                }
                _ => continue,
            };
            let source = self.source(line);
            let text = format!("{name} is not written back, since disks are only read: {what}");
            menu.note_once(source, text);
        }
        true
    }
}

/// Where the sectors of a list are: byte and bytes. `START+COUNT`, several with
/// commas between; without a start it is 0, without a count all there is.
fn runs(list: &str, end: u64) -> Result<Vec<(u64, usize)>, String> {
    let mut found = Vec::new();
    let mut left = envblock::MAX_BYTES;
    let bad = || format!("{list:?} is no list of sectors, such as 512+1");
    for part in list.split(',') {
        let (start, count) = part.split_once('+').ok_or_else(bad)?;
        let start = match start {
            "" => 0,
            start => number(start).ok_or_else(bad)?,
        };
        let start = start.checked_mul(SECTOR).ok_or_else(bad)?;
        let bytes = match count.trim_ascii_end() {
            "" => end.saturating_sub(start),
            count => {
                let count = number(count).filter(|count| *count > 0);
                count
                    .and_then(|count| count.checked_mul(SECTOR))
                    .ok_or_else(bad)?
            }
        };
        if start.checked_add(bytes).is_none_or(|last| last > end) {
            return Err(format!(
                "the sectors {list:?} are beyond the partition's end"
            ));
        }
        left = left.checked_sub(bytes).ok_or_else(|| {
            let most = envblock::MAX_BYTES;
            format!("the sectors {list:?} are more than {most} bytes")
        })?;
        found.push((start, usize::try_from(bytes).map_err(|_| bad())?));
    }
    Ok(found)
}

/// A number as GRUB reads one: decimal, `0x…`, or `0…` in octal.
fn number(text: &str) -> Option<u64> {
    let (digits, base) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (text.get(2..)?, 16),
        [b'0', _, ..] => (text.get(1..)?, 8),
        _ => (text, 10),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    u64::from_str_radix(digits, base).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_sectors_are_checked() {
        for (list, want) in [
            ("512+1", [(512 * 512, 512)].as_slice()),
            ("0x200+2", &[(512 * 512, 1024)]),
            ("+1,010+1", &[(0, 512), (8 * 512, 512)]),
            ("1023+", &[(1023 * 512, 512)]),
        ] {
            assert_eq!(runs(list, 1 << 19).unwrap(), want, "{list}");
        }
        for list in [
            "",
            "5",
            "a+1",
            "1+0",
            "1+a",
            "1024+1",
            "1023+2",
            "+",
            "1+1,",
            "1+1,2",
            "99999999999999999999+1",
            "36028797018963968+1",
            "-1+1",
            "1++1",
        ] {
            assert!(runs(list, 1 << 19).is_err(), "{list}");
        }
    }
}
