//! The commands of GRUB scripts.
//!
//! Semantics: GNU GRUB manual, "The list of available commands". What has to
//! do with screens, keys, modules and passwords does nothing and succeeds;
//! what boots in a way that Kexen has not is the entry's problem.

use alloc::{
    format,
    string::{String, ToString},
};

use super::{
    number,
    parser::{Block, MAX_DEPTH},
    shell::{BAD_ARGUMENT, Flow, INVALID_COMMAND, Language, Shell},
};
use crate::{
    entry::{Menu, Place},
    volumes::clean,
};

/// Configurations that may lead to one another.
const MAX_CONFIGS: usize = 8;

/// The one number that may follow a command, or the number of GRUB's error.
fn numeral(words: &[String], default: u32) -> Result<u32, u32> {
    match words {
        [] => Ok(default),
        [word] => match number::unsigned(word, 10)? {
            (number, "") => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
            _ => Err(BAD_ARGUMENT),
        },
        _ => Err(BAD_ARGUMENT),
    }
}

/// Commands that change nothing which matters here.
const HARMLESS: &[&str] = &[
    "acpi",
    "at_keyboard_disable",
    "authenticate",
    "background_color",
    "background_image",
    "badram",
    "boot",
    "btrfs-mount-subvol",
    "cat",
    "clear",
    "cls",
    "cpuid",
    "cutmem",
    "date",
    "devicetree",
    "echo",
    "gptsync",
    "hwmatch",
    "insmod",
    "keymap",
    "kfreebsd_loadenv",
    "list_env",
    "loadfont",
    "ls",
    "lsmod",
    "nativedisk",
    "outb",
    "parttool",
    "password",
    "password_pbkdf2",
    "play",
    "rmmod",
    "serial",
    "sleep",
    "smbios",
    "terminal",
    "terminal_input",
    "terminal_output",
    "terminfo",
    "tpm_record_pcrs",
    "trust",
    "usb_keyboard",
    "vbeinfo",
    "videoinfo",
    "videotest",
];

impl Shell<'_> {
    /// Runs a command; `None` if there is none of that name.
    pub(super) fn builtin(
        &mut self,
        line: u32,
        name: &str,
        arguments: &[String],
        block: Option<&Block>,
        menu: &mut Menu,
    ) -> Result<Option<bool>, Flow> {
        let first = arguments.first().map_or("", String::as_str);
        let status = match name {
            "true" | ":" => true,
            // No key is held, nothing is typed, nothing is unlocked.
            "false" | "keystatus" | "cryptomount" | "read" => {
                if name == "cryptomount" {
                    self.hint = Some("encrypted volumes are not read".into());
                }
                false
            }
            "set" => match first.split_once('=') {
                Some((name, value)) => self.assign(line, name, value, menu),
                // It lists them.
                None => arguments.is_empty() || self.fails(BAD_ARGUMENT),
            },
            "unset" if arguments.is_empty() => self.fails(BAD_ARGUMENT),
            "unset" => {
                self.env.unset(first);
                true
            }
            "export" if arguments.is_empty() => self.fails(BAD_ARGUMENT),
            "export" => {
                // A value behind the name is no value: it is the name.
                for name in arguments {
                    self.env.export(name);
                }
                true
            }
            // Whether there is a `]`, and what the command is called, is all the same.
            "[" | "test" => match arguments {
                [condition @ .., last] if last == "]" => self.test(condition),
                condition => self.test(condition),
            },
            "setparams" => {
                let is_inside = self.arguments.is_some();
                if is_inside {
                    self.arguments = Some(arguments.to_vec());
                }
                is_inside || self.fails(INVALID_COMMAND)
            }
            "shift" => self.shift(arguments),
            "break" | "continue" => match numeral(arguments, 1) {
                Ok(count @ 1..) => {
                    self.loops.leave(count, name == "continue");
                    true
                }
                Ok(0) => self.fails(BAD_ARGUMENT),
                Err(error) => self.fails(error),
            },
            "return" => self.leave_function(line, arguments, menu),
            "exit" | "normal_exit" | "halt" | "poweroff" | "reboot" | "fwsetup" => {
                // Asked whether it can: no.
                if first == "--is-supported" {
                    return Ok(Some(false));
                }
                let what = "this boots no kernel, and a Xen guest has no setup program; \
                            take another entry";
                self.refuse(menu, line, name, what.into());
                return Err(Flow::Exit);
            }
            "eval" => self.eval(line, &arguments.join(" "), menu)?,
            "source" | "." | "configfile" | "legacy_source" | "legacy_configfile"
                if arguments.len() != 1 =>
            {
                self.hint = Some(format!("line {line}: {name}: one file must follow"));
                self.fails(BAD_ARGUMENT)
            }
            "source" | "." => match self.place(first) {
                Ok(place) => self.source_file(line, place, Language::Script, menu)?,
                Err(what) => self.refuse(menu, line, first, what),
            },
            "legacy_source" => match self.place(first) {
                Ok(place) => self.source_file(line, place, Language::Legacy, menu)?,
                Err(what) => self.refuse(menu, line, first, what),
            },
            "configfile" => self.configfile(line, first, Language::Script, menu)?,
            "legacy_configfile" => self.configfile(line, first, Language::Legacy, menu)?,
            "normal" if first.is_empty() => {
                let path = format!("{}/grub.cfg", self.env.get("prefix"));
                self.configfile(line, &path, Language::Script, menu)?
            }
            "normal" => self.configfile(line, first, Language::Script, menu)?,
            "load_env" => self.load_env(line, arguments, menu)?,
            "save_env" => self.save_env(line, arguments, menu),
            "increment" | "decrement" => {
                let number: i64 = self.env.get(first).parse().unwrap_or(0);
                let by = if name == "increment" { 1 } else { -1 };
                let number = number.saturating_add(by).to_string();
                self.assign(line, first, &number, menu)
            }
            "search" | "search.fs_uuid" | "search.fs_label" | "search.file"
            | "search.part_uuid" | "search.part_label" => {
                self.search(line, name, arguments, menu)?
            }
            "probe" => self.probe(line, arguments, menu)?,
            "gptprio.next" => self.gptprio(line, arguments, menu)?,
            "menuentry" | "submenu" | "hiddenentry" => {
                self.menuentry(line, name, arguments, block, menu)?
            }
            "blscfg" | "bls_import" => self.blscfg(line, arguments, menu)?,
            "regexp" => self.regexp(line, arguments, menu)?,
            _ if HARMLESS.contains(&name) => true,
            _ => return Ok(self.load(line, name, arguments, menu)),
        };
        Ok(Some(status))
    }

    /// The place that a word means: `(device)/path`, or a path on `$root`.
    pub(super) fn place(&self, word: &str) -> Result<Place, String> {
        let (device, path) = match word.strip_prefix('(').and_then(|word| word.split_once(')')) {
            Some((device, path)) => (device, path),
            None => (self.env.get("root"), word),
        };
        let Some(volume) = self.volumes.by_grub_name(device) else {
            let known = [("lvm", "LVM"), ("md", "RAID"), ("crypt", "encrypted")];
            let kind = known.iter().find(|(start, _)| device.starts_with(start));
            return Err(match kind {
                Some((_, kind)) => format!("({device}): {kind} volumes are not read"),
                None => format!("there is no volume ({device})"),
            });
        };
        Ok(self.volumes.locate(volume, &clean(path)))
    }

    fn eval(&mut self, line: u32, text: &str, menu: &mut Menu) -> Result<bool, Flow> {
        // Texts that contain one another are as deep as blocks.
        self.spend(menu, line, MAX_DEPTH)?;
        self.status = 0;
        self.run_text(text, line, menu, false)?;
        self.error = self.status;
        Ok(self.status == 0)
    }

    /// Fails with the number of one of GRUB's errors.
    pub(super) const fn fails(&mut self, error: u32) -> bool {
        self.error = error;
        false
    }

    fn shift(&mut self, words: &[String]) -> bool {
        let Some(arguments) = &mut self.arguments else {
            return true;
        };
        let count = match words {
            [word] if word.is_empty() => Ok(0),
            words => numeral(words, 1),
        };
        match count.map(usize::try_from) {
            Ok(Ok(count)) if count <= arguments.len() => {
                arguments.drain(..count);
                true
            }
            _ => self.fails(BAD_ARGUMENT),
        }
    }

    fn leave_function(&mut self, line: u32, words: &[String], menu: &mut Menu) -> bool {
        if self.arguments.is_none() || words.len() > 1 {
            let text = "`return` outside a function does nothing";
            menu.note(self.source(line), text.into());
            return self.fails(BAD_ARGUMENT);
        }
        match numeral(words, self.status) {
            Ok(status) => {
                self.loops.returning = true;
                status == 0 || self.fails(status)
            }
            Err(error) => self.fails(error),
        }
    }

    /// Another configuration in place of this one.
    fn configfile(
        &mut self,
        line: u32,
        word: &str,
        language: Language,
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        let place = match self.place(word) {
            Ok(place) => place,
            Err(what) => return Ok(self.refuse(menu, line, word, what)),
        };
        if !self.volumes.is_file(&place) {
            return Ok(self.refuse(menu, line, word, "there is no such file".into()));
        }
        if self.configs.len() == MAX_CONFIGS {
            let what = format!("more than {MAX_CONFIGS} configurations lead to one another");
            self.refuse(menu, line, word, what);
            return Err(Flow::Exit);
        }
        let outer = self.configuration(place.clone());
        self.source_file(line, place.clone(), language, menu)?;
        if self.items.is_empty() {
            // There is no menu to show: GRUB goes on behind it.
            self.go_back(outer);
            return Ok(true);
        }
        // Nothing behind it is run: GRUB shows that menu, and stays there.
        self.file = place.into();
        Err(Flow::Exit)
    }
}
