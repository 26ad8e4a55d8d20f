//! `search` and `probe`: finding volumes.
//!
//! Semantics: GNU GRUB manual, "search", "probe". Hints come first, then all
//! volumes in order: with two file systems of one UUID (snapshots, copies) it
//! is the hinted one.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::shell::{Flow, LOOK_STEPS, Shell};
use crate::{
    entry::{Menu, Place},
    volumes::{TableKind, Volume, clean},
};

/// What looking at one volume's names costs.
const VOLUME_STEPS: u32 = 5;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Uuid,
    Label,
    File,
    PartUuid,
}

impl Shell<'_> {
    pub(super) fn search(
        &mut self,
        line: u32,
        command: &str,
        arguments: &[String],
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        let mut by = match command {
            "search.fs_uuid" => Some(By::Uuid),
            "search.fs_label" => Some(By::Label),
            "search.file" => Some(By::File),
            "search.part_uuid" => Some(By::PartUuid),
            _ => None,
        };
        // `search.fs_uuid UUID VARIABLE HINT…`
        let direct = by.is_some();
        let mut variable = None;
        let mut hints = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        let mut words = arguments.iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            match word {
                "--fs-uuid" | "-u" => by = Some(By::Uuid),
                "--label" | "--fs-label" | "-l" => by = Some(By::Label),
                "--file" | "-f" => by = Some(By::File),
                "--part-uuid" | "-p" => by = Some(By::PartUuid),
                "--set" => variable = Some("root"),
                "-s" => {
                    variable = words
                        .next_if(|next| !next.starts_with('-'))
                        .or(Some("root"));
                }
                "--hint" | "-h" => hints.extend(words.next()),
                _ => match word.split_once('=') {
                    Some(("--set", name)) => variable = Some(name),
                    // Those for other platforms name the same volume.
                    Some((option, hint)) if option.starts_with("--hint") => hints.push(hint),
                    _ if word.starts_with("--") || word == "-n" => {}
                    _ => names.push(word),
                },
            }
        }
        let mut names = names.into_iter();
        let name = names.next().unwrap_or_default();
        if direct {
            variable = names.next();
            hints.extend(names);
        }
        let volumes = self.volumes;
        let steps = u32::try_from(volumes.len()).unwrap_or(u32::MAX);
        let by = by.unwrap_or(By::File);
        let each = if by == By::File {
            LOOK_STEPS
        } else {
            VOLUME_STEPS
        };
        self.spend(menu, line, steps.saturating_mul(each))?;
        let is = |index: usize, volume: &Volume<'_>| match by {
            By::Uuid => volume.fs.uuid().eq_ignore_ascii_case(name),
            By::Label => volume.fs.label() == name,
            By::PartUuid => volume.partuuid.eq_ignore_ascii_case(name),
            By::File => volumes
                .kind_of(&Place {
                    volume: index,
                    path: clean(name),
                })
                .is_ok(),
        };
        let hinted = hints
            .iter()
            // A comma at the end: any partition of that disk.
            .filter_map(|hint| volumes.by_grub_name(hint.trim_end_matches(',')))
            .filter_map(|index| Some((index, volumes.get(index)?)));
        let found = hinted
            .chain(volumes.iter())
            .find(|(index, volume)| !name.is_empty() && is(*index, volume));
        let Some((_, volume)) = found else {
            let what = match by {
                By::Uuid => "file system with the UUID",
                By::Label => "file system with the label",
                By::File => "volume with the file",
                By::PartUuid => "partition with the UUID",
            };
            self.hint = Some(format!("line {line}: there is no {what} {name}"));
            return Ok(false);
        };
        if let Some(variable) = variable {
            let name = volume.grub_name();
            return Ok(self.assign(line, variable, &name, menu));
        }
        Ok(true)
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
