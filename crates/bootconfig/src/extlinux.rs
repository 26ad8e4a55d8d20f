//! extlinux.conf, syslinux.cfg and isolinux.cfg.
//!
//! Format: the SYSLINUX wiki, "Config" and "Menu"; keywords in whatever case,
//! one a line. Paths are relative to the file's folder, or absolute in its
//! file system.
//!
//! Steps: the lines are read, those of included files in their place; then
//! each label becomes an entry. What is about screens is passed over.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    bls::type1::MAX_INITRDS,
    entry::{
        Entry, EntryProblem, Kind, MAX_ENTRIES, MAX_FILE, MAX_FILES_BYTES, Menu, MenuStyle, Place,
        Source, Step, Timeout, command_line,
    },
    volumes::{Volumes, beside},
};

/// Files that may include one another.
const MAX_DEPTH: usize = 8;
/// Included files, at most.
const MAX_FILES: usize = 32;

/// A value, and where it is.
#[derive(Clone, Debug)]
struct Value {
    text: String,
    source: Source,
}

#[derive(Debug)]
struct Label {
    name: String,
    source: Source,
    title: Option<String>,
    kernel: Option<Value>,
    initrds: Vec<Value>,
    append: Option<Value>,
    /// What it asks for and cannot be done: the keyword.
    refused: Option<Value>,
    is_default: bool,
}

#[derive(Debug, Default)]
struct Config {
    labels: Vec<Label>,
    default: Option<String>,
    on_timeout: Option<String>,
    append: Option<Value>,
    timeout: u32,
    prompts: bool,
    has_menu: bool,
    hidden: bool,
    help: bool,
    files: usize,
    bytes: u64,
}

/// Reads the configuration at a place.
#[must_use]
pub fn read(volumes: &Volumes<'_>, place: &Place) -> Menu {
    let mut menu = Menu::default();
    let mut config = Config::default();
    config.file(volumes, place, 0, &mut menu);
    for (index, label) in config.labels.iter().enumerate() {
        let mut entry = label.entry(volumes, config.append.as_ref());
        entry.steps.push(Step {
            index,
            id: entry.id.clone(),
            title: entry.title.clone(),
        });
        menu.add(entry);
    }
    let named = |name: &Option<String>| {
        let name = name.as_ref()?;
        config
            .labels
            .iter()
            .position(|label| label.name.eq_ignore_ascii_case(name))
    };
    let marked = config.labels.iter().position(|label| label.is_default);
    menu.default = named(&config.on_timeout)
        .or(marked)
        .or_else(|| named(&config.default))
        .or_else(|| (!config.labels.is_empty()).then_some(0));
    // Without a prompt or menu, the default is booted at once; 0 waits.
    menu.timeout = Some(match (config.prompts || config.has_menu, config.timeout) {
        (false, _) => Timeout::Seconds(0),
        (true, 0) => Timeout::Forever,
        (true, tenths) => Timeout::Seconds(tenths.div_ceil(10)),
    });
    if config.hidden {
        menu.style = MenuStyle::Hidden;
    }
    menu
}

impl Config {
    fn file(&mut self, volumes: &Volumes<'_>, place: &Place, depth: usize, menu: &mut Menu) {
        self.files = self.files.saturating_add(1);
        let mut note = |text: String| {
            let place = place.clone();
            menu.note(Source { place, line: 0 }, text);
        };
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            note(format!(
                "more than {MAX_DEPTH} files include one another, or {MAX_FILES} in all: left out"
            ));
            return;
        }
        let text = match volumes.text(place, MAX_FILE) {
            Ok(text) => text,
            Err(error) => return note(error.problem.to_string()),
        };
        self.bytes = self.bytes.saturating_add(crate::bls::bytes(&text));
        if self.bytes > MAX_FILES_BYTES {
            note(format!(
                "more than {MAX_FILES_BYTES} bytes in all: left out"
            ));
            return;
        }
        for (line, text) in (1_u32..).zip(text.lines()) {
            let source = Source {
                place: place.clone(),
                line,
            };
            let (keyword, value) = split(text);
            if self.help {
                self.help = keyword != "endtext";
                continue;
            }
            match (&*keyword, &*split(value).0) {
                ("include", _) | ("menu", "include") => {
                    let path = if keyword == "menu" {
                        split(value).1
                    } else {
                        value
                    };
                    let path = path.split_ascii_whitespace().next().unwrap_or_default();
                    let place = Place {
                        volume: place.volume,
                        path: locate(&place.path, path),
                    };
                    self.file(volumes, &place, depth.saturating_add(1), menu);
                }
                _ => self.line(&keyword, value, source, menu),
            }
        }
    }

    fn line(&mut self, keyword: &str, value: &str, source: Source, menu: &mut Menu) {
        let text = value.to_string();
        match keyword {
            "label" => {
                if self.labels.len() == MAX_ENTRIES {
                    menu.note(source, format!("more than {MAX_ENTRIES} labels: left out"));
                    return;
                }
                self.labels.push(Label {
                    name: text,
                    source,
                    title: None,
                    kernel: None,
                    initrds: Vec::new(),
                    append: None,
                    refused: None,
                    is_default: false,
                });
            }
            // The old way to ask for a menu.
            "default" if is_module(value) => self.has_menu = true,
            "default" => self.default = Some(text),
            "ui" => self.has_menu = true,
            "ontimeout" => self.on_timeout = Some(text),
            "prompt" => self.prompts = value != "0",
            "timeout" => match value.parse() {
                Ok(tenths) => self.timeout = tenths,
                Err(_) => menu.note(source, format!("timeout {value:?} is no number")),
            },
            "text" => self.help = value.eq_ignore_ascii_case("help"),
            "menu" => self.menu(value),
            "append" => match self.labels.last_mut() {
                Some(label) => label.append = Some(Value { text, source }),
                None => self.append = Some(Value { text, source }),
            },
            _ => {
                if let Some(label) = self.labels.last_mut() {
                    label.line(keyword, text, source);
                }
            }
        }
    }

    fn menu(&mut self, value: &str) {
        let (keyword, value) = split(value);
        match (&*keyword, self.labels.last_mut()) {
            ("label", Some(label)) => label.title = Some(value.replace('^', "")),
            ("default", Some(label)) => label.is_default = true,
            ("hidden", _) => self.hidden = true,
            _ => {}
        }
    }
}

impl Label {
    fn line(&mut self, keyword: &str, text: String, source: Source) {
        let value = Value { text, source };
        match keyword {
            "kernel" | "linux" if !is_module(&value.text) => self.kernel = Some(value),
            "initrd" => self.initrds.push(value),
            "kernel" | "linux" | "com32" | "boot" | "bss" | "pxe" | "fdimage" | "comboot"
            | "config" | "localboot" | "efi" => {
                let text = keyword.to_string();
                self.refused = Some(Value { text, ..value });
            }
            // `fdt` and `fdtdir` say nothing to a PC.
            _ => {}
        }
    }

    fn entry(&self, volumes: &Volumes<'_>, append: Option<&Value>) -> Entry {
        let title = self.title.as_deref().unwrap_or(&self.name).trim_ascii();
        let mut entry = Entry::new(&self.name, title, self.source.clone());
        match self.kind(volumes, append) {
            Ok(kind) => entry.kind = Some(kind),
            Err(problem) => entry.problem = Some(problem),
        }
        entry
    }

    fn kind(&self, volumes: &Volumes<'_>, append: Option<&Value>) -> Result<Kind, EntryProblem> {
        let problem = |source: &Source, word: &str, what: &str| EntryProblem {
            source: source.clone(),
            word: word.to_string(),
            what: what.to_string(),
        };
        if let Some(value) = &self.refused {
            let what = "modules and other loaders cannot be started; give a `linux`";
            return Err(problem(&value.source, &value.text, what));
        }
        let Some(kernel) = &self.kernel else {
            let what = "the label has no `linux` or `kernel`; add one";
            return Err(problem(&self.source, &self.name, what));
        };
        let find = |source: &Source, path: &str| {
            let found = volumes.locate(source.place.volume, &locate(&source.place.path, path));
            match volumes.kind_of(&found) {
                Ok(_) => Ok(found),
                Err(error) => {
                    let why = error.problem;
                    let what = format!("{why}; install that kernel again, or take another label");
                    Err(problem(source, path, &what))
                }
            }
        };
        let mut words = kernel.text.split_ascii_whitespace();
        let path = words.next().unwrap_or_default();
        let mut cmdline: Vec<&str> = words.collect();
        let mut paths: Vec<(&Source, &str)> = Vec::new();
        // A label's own line, be it just `-`, replaces that for all labels.
        let append = self.append.as_ref().or(append);
        if let Some(append) = append.filter(|value| value.text != "-") {
            for word in append.text.split_ascii_whitespace() {
                match word.strip_prefix("initrd=") {
                    Some(list) => paths.extend(list.split(',').map(|path| (&append.source, path))),
                    None => cmdline.push(word),
                }
            }
        }
        for value in &self.initrds {
            paths.extend(value.text.split(',').map(|path| (&value.source, path)));
        }
        let kernel_place = find(&kernel.source, path)?;
        let mut initrds = Vec::new();
        for (source, path) in paths {
            let path = path.trim_ascii();
            if path.is_empty() {
                continue;
            }
            if initrds.len() == MAX_INITRDS {
                let what = format!("more than {MAX_INITRDS} initrds");
                return Err(problem(source, path, &what));
            }
            initrds.push(find(source, path)?);
        }
        let cmdline = command_line(&cmdline.join(" "))
            .map_err(|what| problem(&kernel.source, "append", &what))?;
        Ok(Kind::Linux {
            kernel: kernel_place,
            initrds,
            cmdline,
        })
    }
}

/// A line's first word, in small letters, and the rest.
fn split(line: &str) -> (String, &str) {
    let line = line.trim_ascii();
    let (word, rest) = line
        .split_once(|c: char| c.is_ascii_whitespace())
        .unwrap_or((line, ""));
    (word.to_ascii_lowercase(), rest.trim_ascii())
}

/// Whether a word is one of SYSLINUX's own programs.
fn is_module(value: &str) -> bool {
    let word = value.split_ascii_whitespace().next().unwrap_or_default();
    let word = word.to_ascii_lowercase();
    [".c32", ".com", ".cbt", ".bin", ".bss", ".img"]
        .iter()
        .any(|ending| word.ends_with(ending))
}

/// The path that a word in a file means; `::` stands for the root.
fn locate(file: &str, path: &str) -> String {
    match path.strip_prefix("::") {
        Some(path) => beside("/", path),
        None => beside(file, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testfs::{TestFs, gpt};
    use alloc::vec;

    /// Alpine Linux 3.19, in the form that `update-extlinux` writes; by hand.
    const ALPINE: &str = "# Generated by update-extlinux 6.04_pre1-r15\n\
        DEFAULT menu.c32\nPROMPT 0\nMENU TITLE Alpine/Linux Boot Menu\nMENU HIDDEN\n\
        MENU AUTOBOOT Alpine will be booted automatically in # seconds.\nTIMEOUT 30\n\
        LABEL lts\n  MENU LABEL Linux ^lts\n  LINUX vmlinuz-lts\n  INITRD initramfs-lts\n\
        \x20 APPEND root=UUID=7f0e modules=ext4 quiet rootfstype=ext4\n\n\
        LABEL virt\n  MENU DEFAULT\n  MENU LABEL Linux virt\n  LINUX vmlinuz-virt\n\
        \x20 INITRD initramfs-virt\n  FDTDIR dtbs\n\
        \x20 APPEND root=UUID=7f0e modules=ext4 quiet rootfstype=ext4\n\nMENU SEPARATOR\n";

    fn run(path: &str, text: &str) -> Menu {
        let volumes = gpt(vec![TestFs::new("ext4", "", "").file(path, text).files(&[
            "/boot/vmlinuz-lts",
            "/boot/vmlinuz-virt",
            "/boot/initramfs-lts",
            "/boot/initramfs-virt",
            "/k",
            "/i",
            "/j",
        ])]);
        let path = path.into();
        read(&volumes, &Place { volume: 0, path })
    }

    #[test]
    fn alpine() {
        let menu = run("/boot/extlinux.conf", ALPINE);
        assert!(menu.notes.is_empty(), "{:?}", menu.notes);
        assert_eq!(
            (menu.default, menu.timeout),
            (Some(1), Some(Timeout::Seconds(3)))
        );
        assert_eq!(menu.style, MenuStyle::Hidden);
        assert_eq!(menu.entries[0].title, "Linux lts");
        assert_eq!(menu.entries[1].id, "virt");
        let Ok(Kind::Linux {
            kernel,
            initrds,
            cmdline,
        }) = menu.entries[1].bootable()
        else {
            panic!("{menu:?}");
        };
        assert_eq!(kernel.path, "/boot/vmlinuz-virt");
        assert_eq!(initrds[0].path, "/boot/initramfs-virt");
        assert_eq!(cmdline, "root=UUID=7f0e modules=ext4 quiet rootfstype=ext4");
    }

    #[test]
    fn lines_for_all_labels_and_absolute_paths() {
        let menu = run(
            "/syslinux/syslinux.cfg",
            "default B\ntimeout 0\nprompt 1\nappend ro initrd=/i\n\
             label a\nkernel /k\nlabel b\nkernel ::k\nappend x initrd=../i,/j y\n\
             label c\nlinux /k\nappend -\nlabel d\nlinux /k\ninitrd /i,/j\n\
             text help\nlabel e\nendtext\n",
        );
        let what: Vec<(usize, &str)> = menu
            .entries
            .iter()
            .map(|entry| match entry.bootable() {
                Ok(Kind::Linux {
                    initrds, cmdline, ..
                }) => (initrds.len(), cmdline.as_str()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(what, [(1, "ro"), (2, "x y"), (0, ""), (3, "ro")]);
        assert_eq!(
            (menu.default, menu.timeout),
            (Some(1), Some(Timeout::Forever))
        );
    }

    #[test]
    fn without_menu_or_prompt_nothing_waits() {
        let menu = run(
            "/extlinux.conf",
            "timeout 50\nlabel a\nlinux /k\nlabel b\nlinux /k",
        );
        assert_eq!(
            (menu.default, menu.timeout),
            (Some(0), Some(Timeout::Seconds(0)))
        );
        let menu = run(
            "/extlinux.conf",
            "ui menu.c32\ntimeout 51\nontimeout b\nlabel a\nlabel b",
        );
        assert_eq!(
            (menu.default, menu.timeout),
            (Some(1), Some(Timeout::Seconds(6)))
        );
    }

    #[test]
    fn what_cannot_be_done_is_the_labels_problem() {
        for (text, line, word) in [
            ("label a\n", 1, "a"),
            (
                "label a\nkernel mboot.c32\nappend xen.gz --- k",
                2,
                "kernel",
            ),
            ("label a\ncom32 reboot.c32", 2, "com32"),
            ("label a\nlocalboot 0x80", 2, "localboot"),
            ("label a\nlinux gone", 2, "gone"),
            ("label a\nlinux /k\nappend x initrd=/gone", 3, "/gone"),
        ] {
            let menu = run("/extlinux.conf", &format!("{text}\nlabel z\nlinux /k\n"));
            let problem = menu.entries[0].problem.as_ref().expect(text);
            assert_eq!((problem.source.line, &*problem.word), (line, word));
            assert!(menu.entries[1].bootable().is_ok());
        }
    }

    #[test]
    fn files_that_include_themselves_end() {
        let menu = run(
            "/extlinux.conf",
            "include extlinux.conf\ninclude extlinux.conf\nmenu include gone.cfg\n\
             label a\nlinux /k\n",
        );
        assert!(!menu.notes.is_empty());
        assert!(menu.entries.len() <= MAX_ENTRIES);
        assert!(menu.entries[0].bootable().is_ok());
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(
            at in 0_usize..600, byte in 0_u8..,
            text in "((label|linux|append|initrd|menu|include|timeout|text help) ?\\PC{0,12}\n){0,12}",
        ) {
            let _ = run("/extlinux.conf", &text);
            let mut bytes = ALPINE.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = run("/boot/extlinux.conf", &String::from_utf8_lossy(&bytes));
        }
    }
}
