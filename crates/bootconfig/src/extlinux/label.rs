//! A label, and the entry that it is.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{Here, Source, Value};
use crate::{
    bls::type1::MAX_INITRDS,
    entry::{Entry, EntryProblem, Kind, command_line},
};

/// What the files say of a label.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) name: String,
    source: Source,
    pub(super) title: Option<String>,
    /// The last keyword that says what it starts, and what that is.
    pub(super) kernel: Option<(String, Value)>,
    initrd: Option<Value>,
    pub(super) append: Option<Value>,
    /// Words of a command, behind everything.
    pub(super) words: String,
    pub(super) is_default: bool,
    pub(super) is_hidden: bool,
    /// Whether it starts nothing.
    pub(super) is_shown_only: bool,
}

impl Label {
    pub(super) fn new(name: &str, source: Source) -> Self {
        Self {
            name: name.to_string(),
            source,
            title: None,
            kernel: None,
            initrd: None,
            append: None,
            words: String::new(),
            is_default: false,
            is_hidden: false,
            is_shown_only: false,
        }
    }

    pub(super) fn line(&mut self, keyword: &str, value: Value) {
        match keyword {
            "kernel" | "linux" | "com32" | "boot" | "bss" | "pxe" | "fdimage" | "comboot"
            | "config" | "localboot" | "efi" => self.kernel = Some((keyword.to_string(), value)),
            // The last one counts; it may be a list.
            "initrd" => self.initrd = Some(value),
            // `fdt` and `fdtdir` say nothing to a PC.
            _ => {}
        }
    }

    /// Whether it shows a menu.
    pub(super) fn is_menu(&self) -> bool {
        let Some((keyword, value)) = &self.kernel else {
            return false;
        };
        let program = value.text.split_ascii_whitespace().next();
        let name = program.unwrap_or_default().rsplit(['/', '\\']).next();
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let name = match &**keyword {
            "com32" => name.strip_suffix(".c32").unwrap_or(&name),
            "kernel" => name.strip_suffix(".c32").unwrap_or_default(),
            _ => "",
        };
        ["menu", "vesamenu", "gfxmenu", "gfxboot"].contains(&name)
    }

    pub(super) fn entry(&self, here: &Here<'_>, append: Option<&Value>) -> Entry {
        let title = self.title.as_deref().unwrap_or(&self.name).trim_ascii();
        let mut entry = Entry::new(&self.name, title, self.source.clone());
        match self.kind(here, append) {
            Ok(kind) => entry.kind = Some(kind),
            Err(problem) => entry.problem = Some(problem),
        }
        entry
    }

    fn kind(&self, here: &Here<'_>, append: Option<&Value>) -> Result<Kind, EntryProblem> {
        let problem = |source: &Source, word: &str, what: &str| EntryProblem {
            source: source.clone(),
            word: word.to_string(),
            what: what.to_string(),
        };
        // Without a word of it, the label is the kernel's name.
        let (keyword, kernel) = match &self.kernel {
            Some((keyword, value)) => (&**keyword, value.clone()),
            None => (
                "label",
                Value {
                    text: self.name.clone(),
                    source: self.source.clone(),
                },
            ),
        };
        let mut words = kernel.text.split_ascii_whitespace();
        let path = words.next().unwrap_or_default();
        let starts = match keyword {
            "linux" => true,
            "kernel" | "label" => !is_program(path),
            _ => false,
        };
        if !starts {
            let what = "modules and other loaders cannot be started; give a `linux`";
            return Err(problem(&kernel.source, keyword, what));
        }
        let find = |source: &Source, path: &str| {
            let found = here.volumes.locate(here.volume, &here.path(path));
            match here.volumes.kind_of(&found) {
                Ok(_) => Ok(found),
                Err(error) => {
                    let why = error.problem;
                    let what = format!("{why}; install that kernel again, or take another label");
                    Err(problem(source, path, &what))
                }
            }
        };
        let mut cmdline: Vec<&str> = words.collect();
        // A label's own line, be it just `-`, replaces that for all labels.
        let append = self.append.as_ref().or(append);
        if let Some(append) = append.filter(|value| value.text != "-") {
            cmdline.extend(append.text.split_ascii_whitespace());
        }
        let own = self.initrd.as_ref();
        let own = own.map(|value| format!("initrd={}", value.text));
        cmdline.extend(own.as_deref());
        cmdline.extend(self.words.split_ascii_whitespace());
        // The first one counts: `new_linux_kernel` in ldlinux/kernel.c.
        let list = cmdline.iter().find_map(|word| word.strip_prefix("initrd="));
        let source = match (&self.append, &self.initrd) {
            (Some(append), _) if append.text.contains("initrd=") => &append.source,
            (_, Some(initrd)) => &initrd.source,
            _ => append.map_or(&self.source, |append| &append.source),
        };
        let kernel_place = match find(&kernel.source, path) {
            Err(mut problem) if keyword == "label" => {
                problem.what = "the label has no `linux` or `kernel`; add one".into();
                return Err(problem);
            }
            found => found?,
        };
        let mut initrds = Vec::new();
        let list = list.unwrap_or_default();
        for path in list.split(',').map(str::trim_ascii) {
            if path.is_empty() {
                continue;
            }
            if initrds.len() == MAX_INITRDS {
                let what = format!("more than {MAX_INITRDS} initrds");
                return Err(problem(source, path, &what));
            }
            initrds.push(find(source, path)?);
        }
        cmdline.retain(|word| !word.starts_with("initrd="));
        let cmdline = command_line(&cmdline.join(" "))
            .map_err(|what| problem(&kernel.source, "append", &what))?;
        Ok(Kind::Linux {
            kernel: kernel_place,
            initrds,
            cmdline,
        })
    }
}

/// Whether a name ends as one of SYSLINUX's modules does.
pub(super) fn is_module(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".c32")
}

/// Whether SYSLINUX takes what is called so for something other than a kernel.
pub(super) fn is_program(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".c32", ".com", ".cbt", ".bin", ".bs", ".bss", ".img", ".0"]
        .iter()
        .any(|ending| name.ends_with(ending))
}
