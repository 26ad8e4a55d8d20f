//! Entries of type 1: one file each in `loader/entries`.
//!
//! Specification: UAPI.1, "Type #1 Boot Loader Specification Entries", with
//! the keys and variables of Fedora's `blscfg` (`grub_*`; `$kernelopts` and
//! the like). Unknown keys are passed over, as the specification asks for.
//!
//! Steps: the lines are read to a [`Type1`]; [`Type1::entry`] expands its
//! variables and finds its files.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use kexen_disk::FsError;

use super::{image, uki};
use crate::{
    entry::{Entry, EntryProblem, Kind, Note, Place, Source, Tries, command_line},
    module::MAX_CMDLINE,
    volumes::Volumes,
};

/// Bytes of one file, at most.
pub const MAX_BYTES: u64 = 64 << 10;
/// Initrds of one entry, at most.
pub const MAX_INITRDS: usize = 32;

/// A value and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    text: String,
    line: u32,
}

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type1 {
    /// The file's name without boot counting, with `.conf`.
    pub id: String,
    /// Boot counting.
    pub tries: Option<Tries>,
    /// The file.
    pub place: Place,
    title: Option<String>,
    version: Option<String>,
    machine_id: Option<String>,
    sort_key: Option<String>,
    architecture: Option<String>,
    linux: Option<Value>,
    uki: Option<Value>,
    efi: Option<Value>,
    uki_url: Option<Value>,
    profile: Option<Value>,
    extra: Option<Value>,
    initrds: Vec<Value>,
    options: Vec<Value>,
}

/// What variables stand for.
pub trait Variables {
    /// The value of a variable; `None` leaves `$name` as it is.
    fn get(&self, name: &str) -> Option<String>;
}

/// No variables: `$` means nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _: &str) -> Option<String> {
        None
    }
}

/// A file's name without `+LEFT-DONE`, and these.
#[must_use]
pub fn counting(name: &str, suffix: &str) -> (String, Option<Tries>) {
    let split = name.split_at_checked(name.len().saturating_sub(suffix.len()));
    let (stem, suffix) = split
        .filter(|(_, end)| end.eq_ignore_ascii_case(suffix))
        .unwrap_or((name, ""));
    let number = |text: &str| -> Option<u32> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let parse = || {
        let (id, count) = stem.rsplit_once('+')?;
        let (left, done) = count.split_once('-').unwrap_or((count, "0"));
        let (left, done) = (number(left)?, number(done)?);
        Some((id, Tries { left, done }))
    };
    match parse() {
        Some((id, tries)) => (format!("{id}{suffix}"), Some(tries)),
        None => (format!("{stem}{suffix}"), None),
    }
}

impl Type1 {
    /// Reads the lines of a file.
    #[must_use]
    pub fn parse(place: Place, text: &str) -> Self {
        let name = place.path.rsplit('/').next().unwrap_or_default();
        let (id, tries) = counting(name, ".conf");
        let mut new = Self {
            id,
            tries,
            place,
            title: None,
            version: None,
            machine_id: None,
            sort_key: None,
            architecture: None,
            linux: None,
            uki: None,
            efi: None,
            uki_url: None,
            profile: None,
            extra: None,
            initrds: Vec::new(),
            options: Vec::new(),
        };
        for (line, text) in (1_u32..).zip(text.lines()) {
            let Some((key, text)) = key_value(text) else {
                continue;
            };
            let text = text.to_string();
            let value = Value { text, line };
            match key {
                "title" => new.title = Some(value.text),
                "version" => new.version = Some(value.text),
                "machine-id" => new.machine_id = Some(value.text),
                "sort-key" => new.sort_key = Some(value.text),
                "architecture" => new.architecture = Some(value.text),
                "linux" => new.linux = Some(value),
                "uki" => new.uki = Some(value),
                "efi" => new.efi = Some(value),
                "initrd" => new.initrds.push(value),
                "options" => new.options.push(value),
                "uki-url" => new.uki_url = Some(value),
                "profile" => new.profile = Some(value),
                "extra" => new.extra = Some(value),
                // `devicetree` and `devicetree-overlay` say nothing to a PC;
                // `grub_users`, `grub_class`, `grub_arg` and `grub_hotkey` are about a menu
                // with passwords and pictures.
                _ => {}
            }
        }
        new
    }

    /// The same with its values as systemd-boot takes them: without quotes
    /// around them, and with slashes for backslashes in paths.
    #[must_use]
    pub fn as_systemd_boot_reads(mut self) -> Self {
        let texts = [
            &mut self.title,
            &mut self.version,
            &mut self.machine_id,
            &mut self.sort_key,
            &mut self.architecture,
        ];
        for text in texts.into_iter().flatten() {
            *text = unquoted(text).to_string();
        }
        let one = [&mut self.uki_url, &mut self.profile, &mut self.extra];
        for value in one.into_iter().flatten().chain(&mut self.options) {
            value.text = unquoted(&value.text).to_string();
        }
        let paths = [&mut self.linux, &mut self.uki, &mut self.efi];
        for value in paths.into_iter().flatten().chain(&mut self.initrds) {
            value.text = unquoted(&value.text).replace('\\', "/");
        }
        self
    }

    /// Why systemd-boot would not show it: nothing says what to start, or two
    /// keys do, or the file is gone; or it is for a machine with firmware.
    #[must_use]
    pub fn hidden(
        &self,
        volumes: &Volumes<'_>,
        base: &str,
        variables: &dyn Variables,
    ) -> Option<EntryProblem> {
        let why = |line, word: &str, what: &str| {
            Some(EntryProblem {
                source: Source {
                    place: self.place.clone(),
                    line,
                },
                word: word.to_string(),
                what: what.to_string(),
            })
        };
        let starts = [
            (&self.linux, "linux"),
            (&self.uki, "uki"),
            (&self.efi, "efi"),
            (&self.uki_url, "uki-url"),
        ];
        let mut starts = starts
            .into_iter()
            .filter_map(|(value, key)| Some((value.as_ref()?, key)));
        let Some((value, key)) = starts.next() else {
            return why(0, "linux", "the file has no `linux`, `uki` or `efi`");
        };
        if let Some((other, second)) = starts.next() {
            let what = format!("the file has a `{key}` already");
            return why(other.line, second, &what);
        }
        if key == "uki-url" {
            return why(value.line, &value.text, "nothing is loaded from a network");
        }
        let path = expand(&value.text, variables);
        let image = match self.locate(volumes, base, &path) {
            Ok(image) => image,
            Err(error) => return why(value.line, &path, &error.problem.to_string()),
        };
        if key == "efi" && uki::open(volumes, &image).is_err() {
            let what = "of EFI programs, unified kernel images alone can be booted";
            return why(value.line, &path, what);
        }
        None
    }

    /// The file that a path means: from the volume's top on or, if it is not
    /// there, below `base`.
    fn locate(&self, volumes: &Volumes<'_>, base: &str, path: &str) -> Result<Place, FsError> {
        let at_top = volumes.locate(self.place.volume, path);
        if volumes.is_file(&at_top) {
            return Ok(at_top);
        }
        let below = volumes.locate(self.place.volume, &format!("{base}/{path}"));
        volumes.kind_of(&below).map(|_| below)
    }

    /// Whether it is for this machine.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.architecture
            .as_ref()
            .is_none_or(|name| name.eq_ignore_ascii_case("x64"))
    }

    /// The entry: its variables expanded, its files found from the volume's
    /// top on or, if they are not there, below `base`: the folder that
    /// `loader` is in.
    #[must_use]
    pub fn entry(&self, volumes: &Volumes<'_>, base: &str, variables: &dyn Variables) -> Entry {
        let source = |line| Source {
            place: self.place.clone(),
            line,
        };
        let title = self.title.as_deref().unwrap_or(&self.id);
        let mut entry = Entry::new(&self.id, title, source(0));
        entry.version.clone_from(&self.version);
        entry.sort_key.clone_from(&self.sort_key);
        entry.machine_id.clone_from(&self.machine_id);
        entry.tries = self.tries;
        let problem = |line, word: &str, what: String| EntryProblem {
            source: source(line),
            word: word.to_string(),
            what,
        };
        let mut notes = Vec::new();
        match self.kind(volumes, base, variables, &problem, &mut notes) {
            Ok(kind) => entry.kind = Some(kind),
            Err(problem) => entry.problem = Some(problem),
        }
        if let Some(value) = &self.extra {
            notes.push(Note {
                source: source(value.line),
                text: "`extra` is not handed on: it needs systemd-boot".into(),
            });
        }
        entry.notes = notes;
        entry
    }

    fn kind(
        &self,
        volumes: &Volumes<'_>,
        base: &str,
        variables: &dyn Variables,
        problem: &dyn Fn(u32, &str, String) -> EntryProblem,
        notes: &mut Vec<Note>,
    ) -> Result<Kind, EntryProblem> {
        let find = |value: &Value, path: &str| {
            self.locate(volumes, base, path).map_err(|error| {
                let why = error.problem;
                let what = format!("{why}; install that kernel again, or take another entry");
                problem(value.line, path, what)
            })
        };
        let mut options = String::new();
        for value in &self.options {
            let text = expand(&value.text, variables);
            if options.len().saturating_add(text.len()) > MAX_CMDLINE {
                let what = format!("the options are longer than {MAX_CMDLINE} bytes");
                return Err(problem(value.line, "options", what));
            }
            if text.contains("$kernelopts") {
                let what = "no grubenv file says what it stands for; write the options out".into();
                return Err(problem(value.line, "$kernelopts", what));
            }
            let text = text.trim_ascii();
            if !options.is_empty() && !text.is_empty() {
                options.push(' ');
            }
            options.push_str(text);
        }
        let line = self.options.first().map_or(0, |value| value.line);
        let options = command_line(&options).map_err(|what| problem(line, "options", what))?;
        if let Some(value) = &self.linux {
            let kernel = find(value, &expand(&value.text, variables))?;
            let mut initrds = Vec::new();
            for value in &self.initrds {
                let text = expand(&value.text, variables);
                // A path may have blanks in it; Fedora's lines have several.
                let whole = text.contains(' ') && self.locate(volumes, base, &text).is_ok();
                let paths: Vec<&str> = if whole {
                    Vec::from([&*text])
                } else {
                    text.split_ascii_whitespace().collect()
                };
                for path in paths {
                    if initrds.len() == MAX_INITRDS {
                        let what = format!("more than {MAX_INITRDS} initrds");
                        return Err(problem(value.line, path, what));
                    }
                    initrds.push(find(value, path)?);
                }
            }
            return Ok(Kind::Linux {
                kernel,
                initrds,
                cmdline: options,
            });
        }
        let Some(value) = self.uki.as_ref().or(self.efi.as_ref()) else {
            if let Some(value) = &self.uki_url {
                let what = "nothing is loaded from a network; use `linux` or `uki`".into();
                return Err(problem(value.line, &value.text, what));
            }
            let what = "the file has no `linux`, `uki` or `efi`; add one".into();
            return Err(problem(0, "linux", what));
        };
        let image = find(value, &value.text)?;
        let profile = match &self.profile {
            Some(number) => number.text.parse().map_err(|_| {
                let what = "this is no profile's number; count from 0".into();
                problem(number.line, &number.text, what)
            })?,
            None => 0,
        };
        let options = Some(options).filter(|text| !text.is_empty());
        image::kind(volumes, base, &image, profile, options, notes).map_err(|error| {
            let what =
                format!("{error}; of EFI programs, unified kernel images alone can be booted");
            problem(value.line, &value.text, what)
        })
    }
}

/// A line's key and value.
pub(super) fn key_value(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line
        .trim_ascii()
        .split_once(|c: char| c.is_ascii_whitespace())?;
    let value = value.trim_ascii();
    (!key.starts_with('#') && !value.is_empty()).then_some((key, value))
}

/// A value without the quotes around it, as systemd-boot's
/// `line_get_key_value` has it.
pub(super) fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote)
            && value.ends_with(quote)
        {
            return inner.strip_suffix(quote).unwrap_or(inner);
        }
    }
    value
}

/// A value with its `$name`s replaced; once, so that it cannot grow on.
fn expand(text: &str, variables: &dyn Variables) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let end = after
            .bytes()
            .position(|byte| !byte.is_ascii_alphanumeric() && byte != b'_')
            .unwrap_or(after.len());
        let (name, behind) = after.split_at_checked(end).unwrap_or((after, ""));
        match variables.get(name).filter(|_| !name.is_empty()) {
            // More than a command line is of no use: see the check above.
            Some(value) if out.len() <= MAX_CMDLINE => out.push_str(&value),
            Some(_) => {}
            None => {
                out.push('$');
                out.push_str(name);
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testfs::{TestFs, gpt};
    use alloc::vec;

    fn type1(name: &str, text: &str) -> Type1 {
        let path = format!("/loader/entries/{name}");
        Type1::parse(Place { volume: 0, path }, text)
    }

    struct Fedora;

    impl Variables for Fedora {
        fn get(&self, name: &str) -> Option<String> {
            Some(match name {
                "kernelopts" => "root=UUID=1 ro".into(),
                "tuned_initrd" => "/tuned.img".into(),
                _ => String::new(),
            })
        }
    }

    #[test]
    fn boot_counting_is_in_the_name() {
        let tries = |left, done| Some(Tries { left, done });
        for (name, id, want) in [
            ("a.conf", "a.conf", None),
            ("a+3.conf", "a.conf", tries(3, 0)),
            ("a+0-3.conf", "a.conf", tries(0, 3)),
            ("a+b+2-1.conf", "a+b.conf", tries(2, 1)),
            ("a+x.conf", "a+x.conf", None),
            ("a+1-.conf", "a+1-.conf", None),
            ("a+99999999999.conf", "a+99999999999.conf", None),
        ] {
            assert_eq!(counting(name, ".conf"), (id.into(), want), "{name}");
        }
    }

    #[test]
    fn keys_are_read_and_variables_expanded() {
        let volumes = gpt(vec![TestFs::new("ext4", "", "").files(&[
            "/vmlinuz-6",
            "/boot/initrd-6",
            "/tuned.img",
        ])]);
        let entry = type1(
            "m-6+2.conf",
            "# a comment\ntitle\tLinux six  \nversion 6\nsort-key fedora\nmachine-id m\n\
             linux /vmlinuz-6\ninitrd /initrd-6 $tuned_initrd\noptions $kernelopts $tuned_params\n\
             options quiet\ngrub_users $grub_users\nnonsense yes\n",
        )
        .entry(&volumes, "/boot", &Fedora);
        assert_eq!(entry.title, "Linux six");
        assert_eq!(entry.id, "m-6.conf");
        let Ok(Kind::Linux {
            kernel,
            initrds,
            cmdline,
        }) = entry.bootable()
        else {
            panic!("{entry:?}");
        };
        assert_eq!(kernel.path, "/vmlinuz-6");
        let paths: Vec<&str> = initrds.iter().map(|place| place.path.as_str()).collect();
        assert_eq!(paths, ["/boot/initrd-6", "/tuned.img"]);
        assert_eq!(cmdline, "root=UUID=1 ro quiet");
    }

    #[test]
    fn what_cannot_be_done_is_named_with_its_line() {
        let volumes = gpt(vec![
            TestFs::new("vfat", "", "").files(&["/k", "/tool.efi"]),
        ]);
        for (text, line, word) in [
            ("title x", 0, "linux"),
            ("title x\nlinux /gone", 2, "/gone"),
            ("linux /k\ninitrd /k /gone", 2, "/gone"),
            ("efi /tool.efi", 1, "/tool.efi"),
            ("uki-url http://x", 1, "http://x"),
            ("linux /k\noptions ro $kernelopts", 2, "$kernelopts"),
        ] {
            let entry = type1("x.conf", text).entry(&volumes, "", &NoVariables);
            let problem = entry.problem.expect(text);
            assert_eq!(
                (problem.source.line, &*problem.word),
                (line, word),
                "{text}"
            );
        }
        assert!(!type1("x.conf", "architecture aa64").fits());
        assert!(type1("x.conf", "architecture X64").fits());
    }

    #[test]
    fn without_variables_a_dollar_is_a_dollar() {
        assert_eq!(expand("a$b $", &NoVariables), "a$b $");
        assert_eq!(expand("$kernelopts.$", &Fedora), "root=UUID=1 ro.$");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "((title|linux|initrd|options|efi|uki) ?\\PC{0,20}\n?){0,8}") {
            let volumes = gpt(vec![TestFs::new("vfat", "", "").files(&["/k"])]);
            let _ = type1("a+1.conf", &text).entry(&volumes, "/", &Fedora);
        }
    }
}
