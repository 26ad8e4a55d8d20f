//! The commands that load what is booted.
//!
//! Of a command line, GRUB puts quotes around words with blanks, and a
//! backslash before quotes and backslashes, which Linux does not take out
//! again; here they stay as the configuration has them.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::shell::{LOOK_STEPS, Shell};
use crate::{
    bls::{image, type1::MAX_INITRDS, uki},
    entry::{Kind, Menu, Place, command_line},
};

/// The name of a PV guest's own boot loader (docs/misc/x86-xenpv-bootloader
/// of Xen).
const PVBOOT: &str = "pvboot-x86_64.elf";

impl Shell<'_> {
    /// Runs a command that loads something; `None` if it is not one.
    pub(super) fn load(
        &mut self,
        line: u32,
        name: &str,
        arguments: &[String],
        menu: &mut Menu,
    ) -> Option<bool> {
        let (first, rest) = match arguments {
            [first, rest @ ..] => (first.as_str(), rest),
            [] => ("", arguments),
        };
        let chain = first.ends_with(PVBOOT);
        let what = match name {
            "linux" | "linux16" | "linuxefi" | "multiboot" if chain => {
                return Some(self.chain(line, first, menu));
            }
            "linux" | "linux16" | "linuxefi" => return Some(self.linux(line, first, rest, menu)),
            "initrd" | "initrd16" | "initrdefi" => return Some(self.initrd(line, arguments, menu)),
            "chainloader" | "efi" | "uki" => {
                return Some(self.chainloader(line, name, arguments, menu));
            }
            "multiboot" | "multiboot2" | "module" | "module2" | "xen_hypervisor" | "xen_module" => {
                "a hypervisor or multiboot kernel cannot be started inside a guest; take an \
                 entry with `linux`"
            }
            "appleloader" | "ntldr" | "freedos" | "plan9" | "truecrypt" | "drivemap" => {
                "this needs a PC's firmware, which a Xen guest has not"
            }
            "kfreebsd"
            | "kfreebsd_loadenv"
            | "kfreebsd_module"
            | "kfreebsd_module_elf"
            | "knetbsd"
            | "knetbsd_module"
            | "kopenbsd"
            | "kopenbsd_ramdisk"
            | "xnu"
            | "xnu_kernel"
            | "xnu_kernel64" => "kernels of this system cannot be started",
            "legacy_configfile"
            | "legacy_source"
            | "legacy_kernel"
            | "syslinux_configfile"
            | "syslinux_source"
            | "extract_entries_source"
            | "extract_entries_configfile" => {
                "configurations of another format are not read from here"
            }
            "loopback" => "files that are disks are not read",
            _ => return None,
        };
        Some(self.refuse(menu, line, name, what.into()))
    }

    /// A file that must be there.
    fn file(&mut self, line: u32, word: &str, menu: &mut Menu) -> Option<Place> {
        self.steps = self.steps.saturating_sub(LOOK_STEPS);
        let why = match self.place(word) {
            Ok(place) => match self.volumes.kind_of(&place) {
                Ok(_) => return Some(place),
                Err(error) => error.problem.to_string(),
            },
            Err(why) => why,
        };
        let hint = match &self.hint {
            Some(hint) => format!(" ({hint})"),
            None => String::new(),
        };
        let what = format!("{why}{hint}; install that kernel again, or take another entry");
        self.refuse(menu, line, word, what);
        None
    }

    fn linux(&mut self, line: u32, file: &str, words: &[String], menu: &mut Menu) -> bool {
        let Some(kernel) = self.file(line, file, menu) else {
            return false;
        };
        let Some(cmdline) = self.cmdline(line, words, menu) else {
            return false;
        };
        self.loaded.kind = Some(Kind::Linux {
            kernel,
            initrds: Vec::new(),
            cmdline,
        });
        true
    }

    fn cmdline(&mut self, line: u32, words: &[String], menu: &mut Menu) -> Option<String> {
        let mut cmdline = String::new();
        for word in words {
            if !cmdline.is_empty() {
                cmdline.push(' ');
            }
            // Where the word has quotes of its own, they do that already.
            let blank = word.contains(|c: char| c.is_ascii_whitespace()) && !word.contains('"');
            if blank {
                cmdline.push('"');
            }
            cmdline.push_str(word);
            if blank {
                cmdline.push('"');
            }
        }
        match command_line(&cmdline) {
            Ok(cmdline) => Some(cmdline),
            Err(what) => {
                self.refuse(menu, line, "linux", what);
                None
            }
        }
    }

    fn initrd(&mut self, line: u32, words: &[String], menu: &mut Menu) -> bool {
        let mut found = Vec::new();
        for word in words {
            if found.len() == MAX_INITRDS {
                let what = format!("more than {MAX_INITRDS} initrds");
                return self.refuse(menu, line, word, what);
            }
            if word.starts_with("newc:") {
                let what = "archives are not made here; name a file that is an initrd";
                return self.refuse(menu, line, word, what.into());
            }
            match self.file(line, word, menu) {
                Some(place) => found.push(place),
                None => return false,
            }
        }
        match &mut self.loaded.kind {
            Some(Kind::Linux { initrds, .. }) => {
                *initrds = found;
                true
            }
            _ => {
                let what = "there is no `linux` before it, or that failed";
                self.refuse(menu, line, "initrd", what.into())
            }
        }
    }

    fn chain(&mut self, line: u32, file: &str, menu: &mut Menu) -> bool {
        let Some(image) = self.file(line, file, menu) else {
            return false;
        };
        self.loaded.kind = Some(Kind::Chain { image });
        true
    }

    /// A unified kernel image can be booted without firmware; no other
    /// program can.
    fn chainloader(&mut self, line: u32, name: &str, words: &[String], menu: &mut Menu) -> bool {
        let mut words = words;
        while let [option, rest @ ..] = words
            && option.starts_with('-')
        {
            words = rest;
        }
        let [file, options @ ..] = words else {
            return self.refuse(menu, line, name, "no file follows".into());
        };
        let image = self.place(file).ok();
        let Some(image) = image.filter(|place| uki::open(self.volumes, place).is_ok()) else {
            let what = "this needs a PC's firmware, which a Xen guest has not; of EFI programs, \
                        unified kernel images alone can be booted";
            return self.refuse(menu, line, name, what.into());
        };
        let Some(cmdline) = self.cmdline(line, options, menu) else {
            return false;
        };
        let cmdline = Some(cmdline).filter(|text| !text.is_empty());
        let mut notes = Vec::new();
        let kind = image::kind(self.volumes, "", &image, 0, cmdline, &mut notes);
        for note in notes {
            menu.note(note.source, note.text);
        }
        match kind {
            Ok(kind) => self.loaded.kind = Some(kind),
            Err(error) => return self.refuse(menu, line, file, error.to_string()),
        }
        true
    }
}
