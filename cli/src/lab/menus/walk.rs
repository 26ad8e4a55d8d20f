//! Going through a menu in the emulator: what each entry boots, and which one
//! starts by itself.
//!
//! An entry that was run leaves its variables behind; so the configuration is run
//! anew, in a new context, for each one.

use anyhow::{Result, bail, ensure};

use super::machine::Machine;
use super::screen::{Shown, Size};
use super::seen::{Boots, Seen, SeenEntry};
use super::session::{Call, ESCAPE, Next, Settings, Start};

/// Entries of one configuration that are gone through, at most.
const MAX_ENTRIES: usize = 64;
/// How deep menus are gone into.
const MAX_DEPTH: usize = 5;

/// What GRUB makes of a configuration. A menu is drawn a character a system call:
/// the screen is large only where that is not enough.
pub(super) fn seen(machine: &mut Machine, start: &Start) -> Result<Seen> {
    match seen_in(machine, start) {
        Err(error) if error.is::<TooLarge>() && machine.size != Size::LARGE => {
            machine.size = Size::LARGE;
            machine.restart()?;
            let seen = seen_in(machine, start);
            machine.size = Size::SMALL;
            machine.restart()?;
            seen
        }
        seen => seen,
    }
}

/// A menu that a screen does not show whole.
#[derive(Debug)]
struct TooLarge(Vec<String>);

impl std::error::Error for TooLarge {}

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not all entries fit on the screen: {:?}", self.0)
    }
}

fn seen_in(machine: &mut Machine, start: &Start) -> Result<Seen> {
    let mut seen = Seen {
        style: "menu",
        ..Seen::default()
    };
    let Some((started, shown, seconds)) = default(machine, start, "")? else {
        return Ok(seen);
    };
    seen.timeout = seconds;
    seen.default = Some(started);
    let settings = machine.session.told()?.settings.unwrap_or_default();
    seen.style = style(&settings, seen.timeout);
    machine.session.leave()?;
    if !machine.size.fits(&shown) {
        return Err(TooLarge(shown.titles).into());
    }
    let mut walk = Walk {
        machine,
        start,
        entries: Vec::new(),
    };
    walk.level(&mut Vec::new(), &[], &shown)?;
    seen.entries = walk.entries;
    // Beyond what there is, GRUB reads memory that is none.
    let exists = |word: &&str| {
        word.parse()
            .is_ok_and(|index: usize| index < shown.titles.len())
    };
    let all = settings.fallback.split_ascii_whitespace();
    let numbers = all.take_while(|word| word.parse::<usize>().is_ok());
    for word in numbers.filter(exists) {
        let started = default(machine, start, word)?.map(|(started, ..)| started);
        seen.fallback.extend(started);
        machine.session.leave()?;
    }
    Ok(seen)
}

/// The titles on the way to what was started, the menu to which that comes back,
/// and the seconds that it would have waited.
type Started = (Vec<String>, Shown, Option<u64>);

/// Has GRUB start the default entry, or another in its place. None if there is no menu.
fn default(machine: &mut Machine, start: &Start, other: &str) -> Result<Option<Started>> {
    let mut shown = match machine.run(start, Some(other))? {
        Next::Menu(shown) => shown,
        Next::Prompt => return Ok(None),
        Next::End => bail!("GRUB ends: the configuration says `exit`"),
    };
    let mut seconds = Some(0);
    if machine.session.booting.is_empty() {
        // It waits: now its time is over.
        seconds = shown.seconds.map(u64::from);
        machine.session.press(&format!("ctimeout=0\r{ESCAPE}"))?;
        while machine.session.booting.is_empty() {
            match machine.session.next()? {
                Next::Menu(again) => shown = again,
                Next::Prompt => {}
                next => bail!("the default entry does not come back to the menu: {next:?}"),
            }
        }
    }
    Ok(Some((machine.session.booting.clone(), shown, seconds)))
}

/// GRUB asks for no style where nothing is counted.
fn style(settings: &Settings, timeout: Option<u64>) -> &'static str {
    match (settings.style.as_str(), timeout) {
        (_, None) => "menu",
        ("hidden", _) => "hidden",
        ("countdown", _) => "countdown",
        _ => "menu",
    }
}

struct Walk<'a> {
    machine: &'a mut Machine,
    start: &'a Start,
    entries: Vec<SeenEntry>,
}

impl Walk<'_> {
    /// All entries of a menu, which is reached by these keys.
    fn level(&mut self, path: &mut Vec<usize>, titles: &[String], shown: &Shown) -> Result<()> {
        for (index, title) in shown.titles.iter().enumerate() {
            ensure!(
                self.entries.len() < MAX_ENTRIES,
                "more than {MAX_ENTRIES} entries"
            );
            path.push(index);
            let mut titles = titles.to_vec();
            titles.push(title.clone());
            self.entry(path, &titles, shown)?;
            path.pop();
        }
        Ok(())
    }

    fn entry(&mut self, path: &mut Vec<usize>, titles: &[String], above: &Shown) -> Result<()> {
        let mut next = self.machine.run(self.start, None)?;
        for index in path.iter() {
            let Next::Menu(_) = next else {
                bail!("the menu is not the same again: {next:?}");
            };
            let down = "\x0e".repeat(*index);
            self.machine.session.press(&format!("\x01{down}\r"))?;
            next = self.machine.session.next()?;
        }
        let told = self.machine.session.told()?;
        let below = match next {
            Next::Menu(shown) if shown.titles != above.titles => {
                if !self.machine.size.fits(&shown) {
                    return Err(TooLarge(shown.titles).into());
                }
                Some(shown)
            }
            Next::Menu(_) | Next::Prompt => None,
            Next::End => bail!("entry {titles:?} ends GRUB"),
        };
        self.machine.session.leave()?;
        match below {
            Some(shown) if path.len() < MAX_DEPTH => self.level(path, titles, &shown),
            Some(_) => bail!("menus are more than {MAX_DEPTH} deep"),
            None => {
                self.entries.push(SeenEntry {
                    titles: titles.to_vec(),
                    id: told.calls.last().map(|call| id(&call.chosen)),
                    boots: boots(&told.calls),
                });
                Ok(())
            }
        }
    }
}

/// The entry's own id, at the end of `chosen`; a `>` in it is doubled.
fn id(chosen: &str) -> String {
    let chosen = chosen.replace(">>", "\u{1}");
    let last = chosen.rsplit('>').next().unwrap_or_default();
    last.replace('\u{1}', ">")
}

/// What an entry boots that has called these.
fn boots(calls: &[Call]) -> Boots {
    let mut boots = Boots::Nothing("it loads nothing".into());
    let mut failed = false;
    // What is called while a configuration is read is no entry's: nothing is chosen.
    for call in calls.iter().filter(|call| !call.chosen.is_empty()) {
        let (first, rest) = match call.words.as_slice() {
            [first, rest @ ..] => (first.as_str(), rest),
            [] => ("", call.words.as_slice()),
        };
        failed |= call.failed;
        match (call.what.as_str(), &mut boots) {
            _ if call.failed => {}
            ("linux", _) => {
                boots = Boots::Linux {
                    kernel: file(&call.root, first),
                    initrds: Vec::new(),
                    cmdline: cmdline(rest),
                    unquoted: Some(unquoted(rest)),
                };
            }
            ("initrd", Boots::Linux { initrds, .. }) => {
                *initrds = call
                    .words
                    .iter()
                    .map(|word| file(&call.root, word))
                    .collect();
            }
            ("initrd", _) => failed = true,
            _ => boots = Boots::Nothing(call.words.join(" ")),
        }
    }
    if failed {
        return Boots::Nothing("a file is missing".into());
    }
    boots
}

/// `device:path`, as GRUB takes a file's name.
fn file(root: &str, word: &str) -> String {
    let (device, path) = match word.strip_prefix('(').and_then(|word| word.split_once(')')) {
        Some((device, path)) => (device, path),
        None => (root, word),
    };
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    format!("{device}:/{}", names.join("/"))
}

/// The command line that GRUB's loader makes of the words
/// (`grub_create_loader_cmdline` in `grub-core/lib/cmdline.c`): one with blanks is
/// put in quotes, and quotes and backslashes get a backslash before them, but for
/// `\xNN`.
fn cmdline(words: &[String]) -> String {
    let mut line = Vec::new();
    for word in words {
        let mut text = String::new();
        for (at, c) in word.char_indices() {
            let mut next = word[at..].chars().skip(1);
            let is_hex = next.next() == Some('x')
                && next.next().is_some_and(|c| c.is_ascii_hexdigit())
                && next.next().is_some_and(|c| c.is_ascii_hexdigit());
            if matches!(c, '\'' | '"') || c == '\\' && !is_hex {
                text.push('\\');
            }
            text.push(c);
        }
        line.push(if word.contains(' ') {
            format!("\"{text}\"")
        } else {
            text
        });
    }
    line.join(" ")
}

/// The same as [`super::known::QUOTES`] says.
fn unquoted(words: &[String]) -> String {
    let words: Vec<String> = words
        .iter()
        .map(|word| match word.contains(' ') && !word.contains('"') {
            true => format!("\"{word}\""),
            false => word.clone(),
        })
        .collect();
    words.join(" ").trim_matches(' ').to_owned()
}
