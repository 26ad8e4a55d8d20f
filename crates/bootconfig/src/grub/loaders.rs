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

use super::{
    notes,
    shell::{BAD_ARGUMENT, FILE_NOT_FOUND, LOOK_STEPS, Shell},
};
use crate::{
    bls::{image, type1::MAX_INITRDS, uki},
    entry::{Kind, Menu, Place, command_line},
};

/// The name of a PV guest's own boot loader (docs/misc/x86-xenpv-bootloader
/// of Xen).
const PVBOOT: &str = "pvboot-x86_64.elf";

/// Why a hypervisor is no entry.
const HYPERVISOR: &str = "a hypervisor or multiboot kernel cannot be started inside a guest; take \
                          an entry with `linux`";

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
            "multiboot" | "multiboot2" | "knetbsd" | "kfreebsd" => {
                return Some(self.elf(line, name, arguments, menu));
            }
            "xen_hypervisor" | "xen_module" => HYPERVISOR,
            "module" | "module2" => {
                "modules of a multiboot kernel are not handed over; take an entry with `linux`"
            }
            "kfreebsd_module" | "kfreebsd_module_elf" | "knetbsd_module" => {
                "modules cannot be handed to this kernel in a Xen guest; build them into the \
                 kernel, and take this line out"
            }
            "appleloader" | "ntldr" | "freedos" | "plan9" | "truecrypt" | "drivemap" => {
                "this needs a PC's firmware, which a Xen guest has not"
            }
            "kopenbsd" | "kopenbsd_ramdisk" | "xnu" | "xnu_kernel" | "xnu_kernel64" => {
                "kernels of this system have no entry for Xen guests; take another entry"
            }
            "legacy_kernel"
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
        self.error = FILE_NOT_FOUND;
        None
    }

    fn linux(&mut self, line: u32, file: &str, words: &[String], menu: &mut Menu) -> bool {
        if file.is_empty() {
            self.error = BAD_ARGUMENT;
            return self.refuse(menu, line, "linux", "no file follows".into());
        }
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

    /// A kernel of another system: one with Xen's notes starts as Linux does,
    /// with its options and settings as its command line.
    fn elf(&mut self, line: u32, name: &str, arguments: &[String], menu: &mut Menu) -> bool {
        let mut words = Vec::new();
        let mut rest = arguments.iter();
        let file = loop {
            let Some(word) = rest.next() else {
                return self.refuse(menu, line, name, "no file follows".into());
            };
            match word.as_str() {
                "-r" if name == "knetbsd" => {
                    words.extend(rest.next().map(|device| format!("root={device}")));
                }
                word if name == "knetbsd" && word.starts_with("--root=") => {
                    words.extend(word.strip_prefix("--").map(String::from));
                }
                "-a" | "-s" | "-v" => words.push(word.clone()),
                word if word.starts_with('-') => {}
                _ => break word,
            }
        };
        let Some(kernel) = self.file(line, file, menu) else {
            return false;
        };
        let opened = self
            .volumes
            .fs(&kernel)
            .and_then(|fs| fs.open(&kernel.path));
        if !opened.is_ok_and(|mut file| notes::has_xens(&mut *file)) {
            let what = if name.starts_with("multiboot") {
                HYPERVISOR
            } else {
                "this is no ELF kernel with Xen's notes, so that no Xen guest can start it; \
                 install one for Xen guests, or take another entry"
            };
            return self.refuse(menu, line, name, what.into());
        }
        if name == "kfreebsd" {
            let settings = self.env.below("kFreeBSD.");
            words.extend(settings.map(|(name, value)| format!("{name}={value}")));
        }
        words.extend(rest.cloned());
        let Some(cmdline) = self.cmdline(line, &words, menu) else {
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
        if words.is_empty() {
            // To GRUB, that is an error of this command alone: the kernel starts.
            let text = "`initrd` names no file: none is loaded";
            menu.note(self.source(line), text.into());
            return self.fails(BAD_ARGUMENT);
        }
        if !matches!(self.loaded.kind, Some(Kind::Linux { .. })) {
            self.error = BAD_ARGUMENT;
            let what = "there is no `linux` before it, or that failed";
            return self.refuse(menu, line, "initrd", what.into());
        }
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
        if let Some(Kind::Linux { initrds, .. }) = &mut self.loaded.kind {
            *initrds = found;
        }
        true
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
