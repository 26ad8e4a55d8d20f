//! The prompt of a guest with disks: look around, boot by hand.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use kexen_bootconfig::{
    entry::{Kind, Menu, Place, plain},
    volumes::Volumes,
};
use kexen_disk::fs::FileType;
use kexen_guest::{console::Console, wait::Wait as _};
use kexen_platform::{
    disks::Disks,
    ground::Ground,
    native::Native,
    report::{Report, size},
};

use super::choose::{self, Picked};
use crate::prompt::{self, end, read_line};

const HELP: &str = "\
commands:
  menu                      back to the menu
  entries                   what can be started, by number
  disks                     disks and what is on them
  ls VOLUME:PATH            a directory (ls xvda1:/boot)
  cat VOLUME:PATH           a text file
  boot ENTRY [-- WORDS]     start an entry, by number, id or title; with WORDS
                            as the kernel's whole command line
  linux VOLUME:KERNEL [VOLUME:INITRD ...] -- WORDS
                            start these files
  poweroff, crash           end the guest
";

/// Bytes of a file that is shown.
const SHOWN: u64 = 64 << 10;
/// How long one wait for input is, in nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

/// Asks until something is to be started, or for the menu.
pub(super) fn ask<G: Ground>(
    guest: &G,
    report: &Report,
    disks: &Disks<G::M>,
    volumes: &Volumes<'_>,
    entries: &Menu,
) -> Option<Picked> {
    let m = guest.machine();
    let mut wait = || {
        if let Console::Ring { port, .. } = report.console() {
            let _ = disks.patience(HOUR).wait(port);
        }
    };
    report.raw(m, "Type `menu` for the menu, `help` for more.\n");
    loop {
        report.raw(m, prompt::PROMPT);
        let line = read_line(m, report, &mut wait);
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let rest = rest.trim();
        let result = match command {
            "" => Ok(String::new()),
            "menu" => return None,
            "help" => Ok(HELP.to_string()),
            "entries" | "list" => Ok(numbered(entries)),
            "disks" => Ok(all(disks, volumes)),
            "ls" => list(volumes, rest),
            "cat" => show(volumes, rest),
            "boot" => match boot(entries, rest) {
                Ok(picked) => return Some(picked),
                Err(why) => Err(why),
            },
            "linux" => match by_hand(volumes, rest) {
                Ok(picked) => return Some(picked),
                Err(why) => Err(why),
            },
            "poweroff" | "crash" => {
                end(m, report, command == "crash");
                Ok(String::new())
            }
            other => Err(format!("no command {other:?}; try help")),
        };
        match result {
            Ok(text) => report.raw(m, &text),
            Err(why) => report.line(m, format_args!("error: {why}")),
        }
    }
}

fn numbered(entries: &Menu) -> String {
    let line = |(n, entry): (usize, &kexen_bootconfig::entry::Entry)| {
        let mark = if entry.problem.is_some() { '!' } else { ' ' };
        format!("{mark}{n:3}  {}\n", plain(&entry.title))
    };
    entries.entries.iter().enumerate().map(line).collect()
}

fn all<M: Native>(disks: &Disks<M>, volumes: &Volumes<'_>) -> String {
    use kexen_disk::BlockSource as _;
    let mut text = String::new();
    for disk in disks.all() {
        text.push_str(&format!("{}  {}\n", disk.name(), size(disk.bytes())));
        for (_, volume) in volumes
            .iter()
            .filter(|(_, v)| v.disk == disk.name() || v.name == disk.name())
        {
            let (label, uuid) = (plain(volume.fs.label()), plain(volume.fs.uuid()));
            text.push_str(&format!(
                "  {}  {}  {uuid}  {label}\n",
                volume.name,
                volume.fs.kind()
            ));
        }
    }
    text
}

/// `VOLUME:PATH`.
fn place(volumes: &Volumes<'_>, text: &str) -> Result<Place, String> {
    let (name, path) = text
        .split_once(':')
        .ok_or_else(|| format!("{text:?} is not VOLUME:PATH, such as xvda1:/boot"))?;
    let found = volumes.iter().find(|(_, volume)| volume.name == name);
    let (volume, _) = found.ok_or_else(|| format!("no volume {name:?}; try disks"))?;
    let path = if path.starts_with('/') {
        path.to_string()
    } else {
        format!("/{path}")
    };
    Ok(Place { volume, path })
}

fn list(volumes: &Volumes<'_>, text: &str) -> Result<String, String> {
    let place = place(volumes, text)?;
    let volume = volumes.get(place.volume).ok_or("no such volume")?;
    let mut names = volume.fs.read_dir(&place.path).map_err(|e| e.to_string())?;
    names.sort();
    let mut text = String::new();
    for name in names {
        let path = format!("{}/{name}", place.path.trim_end_matches('/'));
        let name = plain(&name);
        text.push_str(&match volume.fs.metadata(&path) {
            Ok(meta) if meta.kind == FileType::Directory => format!("{:>12}  {name}/\n", ""),
            Ok(meta) => format!("{:>12}  {name}\n", meta.len),
            Err(_) => format!("{:>12}  {name}\n", "?"),
        });
    }
    Ok(text)
}

fn show(volumes: &Volumes<'_>, text: &str) -> Result<String, String> {
    let place = place(volumes, text)?;
    let volume = volumes.get(place.volume).ok_or("no such volume")?;
    let bytes = volume
        .fs
        .read(&place.path, SHOWN)
        .map_err(|e| e.to_string())?;
    let mut text = plain(&String::from_utf8_lossy(&bytes));
    text.push('\n');
    Ok(text)
}

/// `WHAT [-- WORDS]`.
fn with_words(rest: &str) -> (&str, Option<String>) {
    match rest.split_once("--") {
        Some((what, words)) => (what.trim(), Some(words.trim().to_string())),
        None => (rest.trim(), None),
    }
}

fn boot(entries: &Menu, rest: &str) -> Result<Picked, String> {
    let (name, command_line) = with_words(rest);
    let number = if name.is_empty() {
        entries.default.ok_or("which entry? try entries")?
    } else if let Ok(number) = name.parse::<usize>() {
        number
    } else {
        choose::named(entries, name).map_err(|e| e.to_string())?
    };
    let entry = entries
        .entries
        .get(number)
        .ok_or("no entry of that number; try entries")?;
    Ok(Picked {
        kind: choose::kind_of(entry).map_err(|e| e.to_string())?,
        command_line,
    })
}

fn by_hand(volumes: &Volumes<'_>, rest: &str) -> Result<Picked, String> {
    let (files, command_line) = with_words(rest);
    let mut files = files
        .split_ascii_whitespace()
        .map(|text| place(volumes, text));
    let kernel = files
        .next()
        .ok_or("which kernel? linux VOLUME:KERNEL ...")??;
    Ok(Picked {
        kind: Kind::Linux {
            kernel,
            initrds: files.collect::<Result<Vec<_>, _>>()?,
            cmdline: String::new(),
        },
        command_line,
    })
}
