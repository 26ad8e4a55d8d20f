//! Files that a GRUB script reads, and asks for.
//!
//! Rules: `grub-core/normal/main.c` of GRUB 2.14, which reads a file line by line
//! and says in `config_file` which one that is, until it ends.

use alloc::{format, rc::Rc, string::String};

use kexen_disk::fs::FileType;

use super::{
    condition::Files,
    legacy,
    lexer::GONE,
    parser::Node,
    shell::{Flow, LOOK_STEPS, Language, Shell},
};
use crate::{
    bls::bytes,
    entry::{MAX_FILE, Menu, Place, Source},
    volumes::Volume,
};

/// What says which file is read.
const CONFIG: [&str; 2] = ["config_file", "config_directory"];
/// What reading a file costs.
const FILE_STEPS: u32 = 1000;
impl Shell<'_> {
    /// Has `config_file` and `config_directory` say which file is read; what
    /// they were.
    fn enter_file(&mut self, place: &Place) -> [Option<String>; 2] {
        let outer = CONFIG.map(|name| self.env.value(name).map(String::from));
        let (volume, folder) = (
            self.volumes.get(place.volume).map(Volume::grub_name),
            place.path.rsplit_once('/').map_or("", |(folder, _)| folder),
        );
        let device = volume.unwrap_or_default();
        for (name, path) in CONFIG.into_iter().zip([&*place.path, folder]) {
            self.env.set(name, &format!("({device}){path}"));
            self.env.export(name);
        }
        outer
    }

    fn leave_file(&mut self, outer: [Option<String>; 2]) {
        for (name, value) in CONFIG.into_iter().zip(outer) {
            match value {
                Some(value) => {
                    self.env.set(name, &value);
                }
                None => self.env.unset(name),
            }
        }
    }

    /// Runs text as a script of its own, line by line: a file's, or `eval`'s, which
    /// a mistake ends.
    pub(super) fn run_text(
        &mut self,
        text: &str,
        line: u32,
        menu: &mut Menu,
        of_file: bool,
    ) -> Result<(), Flow> {
        let nodes = self.parse(text, line, menu)?;
        for node in &*nodes {
            self.run(core::slice::from_ref(node), menu)?;
            if matches!(node, Node::Broken { .. }) && !of_file {
                self.status = 0;
                break;
            }
        }
        Ok(())
    }

    /// Runs a file in this context.
    pub(super) fn source_file(
        &mut self,
        line: u32,
        place: Place,
        language: Language,
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        self.spend(menu, line, FILE_STEPS)?;
        let text = match self.volumes.text(&place, MAX_FILE.min(self.bytes)) {
            Ok(text) => text,
            Err(error) => {
                // To GRUB, that is a success: what matters may come behind.
                let text = format!("{}: {}", place.path, error.problem);
                menu.note(self.source(line), text);
                return Ok(true);
            }
        };
        self.bytes = self.bytes.saturating_sub(bytes(&text));
        let text = match language {
            Language::Script => lines(&text),
            Language::Legacy => self.translated(&place, &text, menu),
        };
        let names = self.enter_file(&place);
        let outer = core::mem::replace(&mut self.file, Rc::new(place));
        let result = self.run_text(&text, 1, menu, true);
        self.file = outer;
        self.leave_file(names);
        result.map(|()| true)
    }

    /// GRUB legacy's file as a script.
    fn translated(&self, place: &Place, text: &str, menu: &mut Menu) -> String {
        let beside = Place {
            volume: place.volume,
            path: crate::volumes::beside(&place.path, "default"),
        };
        let saved = self.volumes.text(&beside, MAX_FILE.min(self.bytes)).ok();
        let saved = saved.as_deref().and_then(legacy::saved);
        if let (None, Some(line)) = (saved, legacy::asks_for_saved(text)) {
            let place = place.clone();
            let text = format!(
                "default saved: the file {} with its number cannot be read; the first entry is \
                 taken",
                beside.path
            );
            menu.doubt(Source { place, line }, text);
        }
        let devices = legacy::Devices {
            volumes: self.volumes,
            home: place.volume,
        };
        legacy::script(devices, text, saved.unwrap_or("0"))
    }
}

impl Files for Shell<'_> {
    fn kind(&mut self, path: &str) -> Option<FileType> {
        self.steps = self.steps.saturating_sub(LOOK_STEPS);
        let place = self.place(behind_device(path)).ok()?;
        self.volumes.kind_of(&place).ok()
    }

    fn bytes(&mut self, path: &str) -> Option<u64> {
        self.steps = self.steps.saturating_sub(LOOK_STEPS);
        let place = self.place(behind_device(path)).ok()?;
        let data = self.volumes.fs(&place).ok()?.metadata(&place.path).ok()?;
        (data.kind == FileType::Regular).then_some(data.len)
    }
}

/// The path that conditions look at: wherever a `)` is, what is before it is taken
/// for the device's name, and without a `(` at the start that is `$root`
/// (`get_fileinfo` in `grub-core/commands/test.c`).
fn behind_device(path: &str) -> &str {
    match path.split_once(')') {
        Some((_, rest)) if !path.starts_with('(') => rest,
        _ => path,
    }
}

/// The lines of a file as GRUB reads them: without `\r`, and those that begin with
/// `#` are none, wherever they stand.
fn lines(text: &str) -> String {
    let mut read = String::new();
    for line in text.split_inclusive('\n') {
        if line.starts_with('#') {
            read.push(GONE);
        } else {
            read.extend(line.chars().filter(|c| !matches!(*c, '\r' | GONE)));
        }
    }
    read
}
