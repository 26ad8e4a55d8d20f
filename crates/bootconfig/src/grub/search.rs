//! `search` and `probe`: finding volumes.
//!
//! Semantics: `grub-core/commands/search_wrap.c` and `search.c` of GRUB 2.14.
//! Hints come first, then all volumes, of a disk the last partition first: with
//! two file systems of one UUID (snapshots, copies) it is the hinted one. A hint that ends with a comma
//! means the disk and all its partitions; those for other platforms say nothing.
//! Fedora's GRUB knows `--root-dev-only` beside, CoreOS' and Flatcar's
//! `--part-uuid` and `--part-label`.

use alloc::{
    collections::BTreeMap,
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    arguments::{Arguments, Known, Takes},
    shell::{BAD_ARGUMENT, FILE_NOT_FOUND, Flow, INVALID_COMMAND, LOOK_STEPS, Shell},
};
use crate::{
    entry::Menu,
    volumes::{TableKind, Volume},
};

/// What looking at one volume's names costs.
const VOLUME_STEPS: u32 = 5;

const OPTIONS: [Known; 15] = [
    Known::new("file", Some('f'), Takes::Nothing),
    Known::new("label", Some('l'), Takes::Nothing),
    Known::new("fs-uuid", Some('u'), Takes::Nothing),
    Known::new("part-uuid", Some('p'), Takes::Nothing),
    Known::new("part-label", Some('L'), Takes::Nothing),
    Known::new("set", Some('s'), Takes::Maybe),
    Known::new("no-floppy", Some('n'), Takes::Nothing),
    Known::new("efidisk-only", None, Takes::Nothing),
    Known::new("cryptodisk-only", None, Takes::Nothing),
    Known::new("root-dev-only", Some('r'), Takes::Nothing),
    Known::new("hint", Some('h'), Takes::Value),
    Known::new("hint-ieee1275", None, Takes::Value),
    Known::new(BIOS, None, Takes::Value),
    Known::new(BAREMETAL, None, Takes::Value),
    Known::new("hint-efi", None, Takes::Value),
];
const NO_KEY: &str = "it must say `--fs-uuid`, `--label` or `--file`";
const BIOS: &str = "hint-bios";
const BAREMETAL: &str = "hint-baremetal";

/// Searches whose volume is kept, at most.
const MAX_SEARCHED: usize = 256;

/// What has been found: GRUB looks there first when the same is looked for again,
/// whatever the hints.
pub(super) type Searched = BTreeMap<(By, String), usize>;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    Uuid,
    Label,
    File,
    PartUuid,
    PartLabel,
}

/// What a `search` asks for.
struct Asked<'a> {
    by: By,
    name: &'a str,
    variable: Option<&'a str>,
    hints: Vec<&'a str>,
}

/// `search [OPTION…] NAME`
fn asked<'a>(arguments: &'a Arguments, pc: bool) -> Result<Asked<'a>, &'static str> {
    let hints = arguments.values("hint");
    let bios = arguments.values(BIOS).filter(|_| pc);
    let hints = hints.chain(bios).chain(arguments.values(BAREMETAL));
    // Hints of platforms that a GRUB does not know are words to it.
    let mut words = arguments.words.iter().map(String::as_str);
    let name = words.find(|word| !word.starts_with("--hint-"));
    let set = arguments.has("set").then(|| arguments.value("set"));
    let (name, variable) = match (name, set) {
        (Some(name), Some(variable)) => (name, Some(variable.unwrap_or("root"))),
        (Some(name), None) => (name, None),
        // The only word is the name, although it is behind `--set`.
        (None, Some(Some(name))) => (name, Some("root")),
        (None, _) => return Err("what to look for must follow"),
    };
    let by = [
        ("label", By::Label),
        ("fs-uuid", By::Uuid),
        ("file", By::File),
        ("part-uuid", By::PartUuid),
        ("part-label", By::PartLabel),
    ];
    let by = by.iter().find(|(option, _)| arguments.has(option));
    Ok(Asked {
        by: by.ok_or(NO_KEY)?.1,
        name,
        variable,
        hints: hints.collect(),
    })
}

impl Shell<'_> {
    pub(super) fn search(
        &mut self,
        line: u32,
        command: &str,
        words: &[String],
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        let direct = match command {
            "search.fs_uuid" => Some(By::Uuid),
            "search.fs_label" => Some(By::Label),
            "search.file" => Some(By::File),
            "search.part_uuid" => Some(By::PartUuid),
            "search.part_label" => Some(By::PartLabel),
            _ => None,
        };
        let arguments;
        let asked = match (direct, words) {
            // `search.fs_uuid UUID VARIABLE HINT…`
            (Some(by), [name, rest @ ..]) => Ok(Asked {
                by,
                name,
                variable: rest.first().map(String::as_str),
                hints: rest.iter().skip(1).map(String::as_str).collect(),
            }),
            (Some(_), []) => Err("what to look for must follow".to_string()),
            (None, words) => match Arguments::parse(&OPTIONS, true, words) {
                Ok(parsed) => {
                    arguments = parsed;
                    let pc = self.env.get("grub_platform") == "pc";
                    asked(&arguments, pc).map_err(String::from)
                }
                Err(what) => Err(what),
            },
        };
        let asked = match asked {
            Ok(asked) => asked,
            // To GRUB, that is an error of this command alone.
            Err(what) => {
                self.hint = Some(format!("line {line}: {command}: {what}"));
                let error = if what == NO_KEY {
                    INVALID_COMMAND
                } else {
                    BAD_ARGUMENT
                };
                return Ok(self.fails(error));
            }
        };
        let steps = u32::try_from(self.volumes.len()).unwrap_or(u32::MAX);
        let each = if asked.by == By::File {
            LOOK_STEPS
        } else {
            VOLUME_STEPS
        };
        self.spend(menu, line, steps.saturating_mul(each))?;
        let Some(found) = self.found(&asked) else {
            let what = match asked.by {
                By::Uuid => "file system with the UUID",
                By::Label => "file system with the label",
                By::File => "volume with the file",
                By::PartUuid => "partition with the UUID",
                By::PartLabel => "partition with the label",
            };
            self.hint = Some(format!("line {line}: there is no {what} {}", asked.name));
            return Ok(self.fails(FILE_NOT_FOUND));
        };
        match asked.variable {
            Some(variable) => Ok(self.assign(line, variable, &found, menu)),
            None => Ok(true),
        }
    }

    /// GRUB's name of the first volume that is looked for.
    fn found(&mut self, asked: &Asked<'_>) -> Option<String> {
        let volumes = self.volumes;
        let key = match asked.by {
            By::Uuid | By::PartUuid => asked.name.to_ascii_lowercase(),
            By::Label | By::File | By::PartLabel => asked.name.to_string(),
        };
        let key = (asked.by, key);
        let again = self.searched.get(&key).copied();
        let is = |(index, volume): &(usize, &Volume<'_>)| match asked.by {
            By::Uuid => !asked.name.is_empty() && volume.fs.uuid().eq_ignore_ascii_case(asked.name),
            By::Label => volume.fs.label() == asked.name,
            By::PartLabel => !asked.name.is_empty() && volume.partlabel == asked.name,
            By::PartUuid => {
                !asked.name.is_empty() && volume.partuuid.eq_ignore_ascii_case(asked.name)
            }
            By::File => {
                asked.name.starts_with('/') && volumes.is_file(&volumes.locate(*index, asked.name))
            }
        };
        let hinted = asked.hints.iter().flat_map(|hint| {
            let (name, partitions) = match hint.strip_suffix(',') {
                Some(name) => (name, true),
                None => (*hint, false),
            };
            let own = volumes.by_grub_name(name);
            let disk = partitions
                .then(|| volumes.disk_by_grub_name(name))
                .flatten();
            let parts = volumes
                .iter()
                .filter(move |(_, volume)| disk == Some(&volume.disk));
            let own = own.and_then(|index| Some((index, volumes.get(index)?)));
            own.into_iter().chain(parts)
        });
        let all = volumes.as_grub_lists().into_iter();
        let all = all.filter_map(|index| Some((index, volumes.get(index)?)));
        let again = again.and_then(|index| Some((index, volumes.get(index)?)));
        let mut all = again.into_iter().chain(hinted).chain(all);
        let (index, volume) = all.find(is)?;
        if self.searched.len() < MAX_SEARCHED {
            Rc::make_mut(&mut self.searched).insert(key, index);
        }
        Some(volume.grub_name())
    }

    pub(super) fn probe(
        &mut self,
        line: u32,
        arguments: &[String],
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        self.spend(menu, line, VOLUME_STEPS)?;
        let mut variable = None;
        let mut option = "";
        let mut device = "";
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "-s" | "--set" => variable = words.next(),
                _ => match word.strip_prefix("--set=") {
                    Some(name) => variable = Some(name),
                    None if word.starts_with('-') => option = word,
                    None => device = word,
                },
            }
        }
        let Some(volume) = self
            .volumes
            .by_grub_name(device)
            .and_then(|index| self.volumes.get(index))
        else {
            return Ok(self.refuse(menu, line, device, "there is no such volume".into()));
        };
        let value = match option {
            "-u" | "--fs-uuid" => volume.fs.uuid().to_string(),
            "-l" | "--label" => volume.fs.label().to_string(),
            // GRUB's names of file systems.
            "-f" | "--fs" => match volume.fs.kind() {
                "ext2" | "ext3" | "ext4" => "ext2",
                "vfat" => "fat",
                kind => kind,
            }
            .to_string(),
            "--part-uuid" => volume.partuuid.clone(),
            "-p" | "--partmap" => match volume.table {
                Some(TableKind::Gpt) => "gpt",
                Some(TableKind::Msdos) => "msdos",
                None => "",
            }
            .to_string(),
            _ => {
                let what = "probe cannot tell that here";
                return Ok(self.refuse(menu, line, option, what.into()));
            }
        };
        match variable {
            Some(variable) => Ok(self.assign(line, variable, &value, menu)),
            None => Ok(true),
        }
    }
}
