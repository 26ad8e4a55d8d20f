//! Boot Loader Specification entries as systemd itself lists them: `bootctl` of
//! what becomes Debian 14, beside Kexen's.
//!
//! Order of steps: the package is fetched and unpacked, not installed; the files
//! of a partition ([`super::esp`]) are written into a folder, which is a mount
//! point of its own in a name space of its own, since `bootctl` looks at nothing
//! else; the same files in a FAT are read by Kexen; what both list is compared.
//!
//! `bootctl` is not the boot loader. It lists entries that systemd-boot does not
//! show ([`left_out`]); it shows the whole of a machine's id in a title, of which
//! systemd-boot shows eight digits; it has the id of an image's first profile in
//! the entry's, where systemd-boot has the file's name; and it has add-ons in the order of the folder,
//! which systemd-stub sorts, so no folder of the table has two of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use kexen_bootconfig::bls::image as uki;
use kexen_bootconfig::entry::{Entry, Kind, MAX_ENTRIES, Place};
use kexen_bootconfig::find;
use kexen_bootconfig::grub::Platform;
use kexen_bootconfig::volumes::Volumes;
use serde::{Deserialize, Serialize};

use super::esp::Esp;
use super::image::{self, Disk, Fs, Part, Table};
use super::kexen;
use crate::host::{cache, command, tools};
use crate::lab::apt::{Apt, Suite};

/// `bootctl`, and what it is linked to.
const PACKAGES: &[&str] = &["systemd-boot-tools", "libsystemd-shared", "libc6"];

/// An entry, to be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    id: String,
    title: String,
    /// The kernel, or the image.
    kernel: String,
    initrds: Vec<String>,
    cmdline: String,
    is_default: bool,
}

/// What `bootctl` says of an entry.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    path: Option<PathBuf>,
    show_title: Option<String>,
    linux: Option<String>,
    uki: Option<String>,
    efi: Option<String>,
    #[serde(default)]
    initrd: Vec<String>,
    cmdline: Option<String>,
    options: Option<String>,
    machine_id: Option<String>,
    architecture: Option<String>,
    #[serde(default)]
    is_default: bool,
}

/// An unpacked `bootctl`.
#[derive(Debug)]
pub(crate) struct Bootctl {
    dir: PathBuf,
}

impl Bootctl {
    /// Fetches it, or takes what was fetched before.
    pub(crate) fn fetch() -> Result<Self> {
        let recipe = format!("bootctl 1\n{PACKAGES:?}\n");
        let dir = cache::get("bootctl", "systemd's list of entries", &recipe, |dir| {
            tools::require(&[tools::BOOTCTL])?;
            let apt = Apt::new(Suite::Forky)?;
            let mut packages = String::new();
            for package in PACKAGES {
                packages += &(apt.unpack(package, dir)? + "\n");
            }
            fs::write(dir.join("packages.txt"), packages)?;
            Ok(())
        })?;
        Ok(Self { dir })
    }

    /// What it lists of a folder with the files of a partition.
    fn list(&self, folder: &Path) -> Result<Vec<Listed>> {
        let lib = self.dir.join("usr/lib/x86_64-linux-gnu");
        let mut libraries = lib.as_os_str().to_owned();
        libraries.push(":");
        libraries.push(lib.join("systemd"));
        let mut run = Command::new("unshare");
        run.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        run.arg("mount --bind \"$0\" \"$0\" && exec \"$@\"");
        run.arg(folder);
        run.arg(lib.join("ld-linux-x86-64.so.2"));
        run.arg("--library-path").arg(libraries);
        run.arg(self.dir.join("usr/bin/bootctl"));
        run.args(["list", "--json=short", "--no-pager", "--esp-path"]);
        run.arg(folder).arg("--boot-path").arg(folder);
        // The host's own partitions and variables are nobody's business.
        run.env_clear().env("LC_ALL", "C");
        run.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        run.env("SYSTEMD_RELAX_ESP_CHECKS", "1");
        run.env("SYSTEMD_RELAX_XBOOTLDR_CHECKS", "1");
        let text = command::text(&mut run)?;
        let text = text.trim();
        if text.is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(text).with_context(|| format!("bootctl lists {text:?}"))
    }
}

/// What both make of a partition.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Both {
    pub(crate) bootctl: Vec<Row>,
    pub(crate) kexen: Vec<Row>,
    /// What of `bootctl`'s list systemd-boot would not show, and Kexen does not.
    pub(crate) left_out: Vec<String>,
}

/// Reads a partition both ways.
pub(crate) fn both(bootctl: &Bootctl, esp: &Esp) -> Result<Both> {
    let dir = tempfile::tempdir()?;
    let folder = dir.path().join("esp");
    fs::create_dir(&folder)?;
    for file in &esp.files {
        let path = folder.join(&file.path);
        fs::create_dir_all(path.parent().context("a file without a folder")?)?;
        fs::write(path, &file.bytes)?;
    }
    let listed = bootctl.list(&folder)?;
    let gone: BTreeSet<String> = listed
        .iter()
        .filter(|one| left_out(one, &folder))
        .map(|one| one.id.clone())
        .collect();
    let shown = listed.iter().filter(|one| !gone.contains(&one.id));
    let mut rows: Vec<Row> = Vec::new();
    for one in shown {
        let mut row = row(one, &folder);
        let is_first = one.kind == "type2" && rows.iter().all(|other| other.kernel != row.kernel);
        if let Some((file, _)) = row.id.split_once('@').filter(|_| is_first) {
            row.id = file.to_owned();
        }
        rows.push(row);
    }
    // Without those the default is another one, unless it is asked for.
    if !rows.iter().any(|row| row.is_default)
        && let Some(first) = rows.first_mut()
    {
        first.is_default = true;
    }
    let disk = Disk {
        table: Table::Gpt,
        parts: vec![Part {
            fs: Fs::Fat,
            uuid: "7A1B-2C3D".into(),
            label: "ESP".into(),
            kind: "uefi".into(),
            files: esp.files.clone(),
            raw: Vec::new(),
        }],
    };
    let image = dir.path().join("disk.img");
    image::make(&disk, &image, dir.path())?;
    let volumes = kexen::volumes(&[image])?;
    Ok(Both {
        bootctl: rows,
        kexen: kexens(&volumes),
        left_out: gone.into_iter().collect(),
    })
}

/// Whether systemd-boot does not show an entry (`boot_entry_add_type1` in
/// src/boot/boot.c): nothing says what to start, or it is not there, or it is for
/// another machine.
fn left_out(one: &Listed, folder: &Path) -> bool {
    let path = [&one.linux, &one.uki, &one.efi];
    let path = path.into_iter().flatten().next();
    let there = |path: &String| folder.join(path.trim_start_matches('/')).exists();
    let fits = |name: &String| name.eq_ignore_ascii_case("x64");
    one.kind == "type1" && !(path.is_some_and(there) && one.architecture.as_ref().is_none_or(fits))
}

fn clean(path: &str) -> String {
    let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names.fold(String::new(), |path, name| path + "/" + name)
}

fn row(one: &Listed, folder: &Path) -> Row {
    let own = one.path.as_ref();
    let own = own.and_then(|path| path.strip_prefix(folder).ok());
    let own = own.map(|path| path.display().to_string());
    let named = [&one.linux, &one.uki, &one.efi];
    let named = named.into_iter().flatten().next();
    let cmdline = one.cmdline.as_ref().or(one.options.as_ref());
    let mut title = one.show_title.clone().unwrap_or_default();
    if let Some(machine) = &one.machine_id {
        let short: String = machine.chars().take(8).collect();
        title = title.replace(&format!("({machine})"), &format!("({short})"));
    }
    Row {
        id: one.id.clone(),
        title,
        kernel: clean(named.or(own.as_ref()).map_or("", |path| path)),
        initrds: one.initrd.iter().map(|path| clean(path)).collect(),
        cmdline: cmdline.map_or("", |text| text.trim()).replace('\t', " "),
        is_default: one.is_default,
    }
}

fn kexens(volumes: &Volumes<'_>) -> Vec<Row> {
    let found = find::find(volumes, Platform::Pvh).menu;
    let entries = found.entries.iter().enumerate();
    let rows = entries.filter(|(_, entry)| entry.problem.is_none());
    rows.map(|(at, entry)| kexens_row(volumes, entry, found.default == Some(at)))
        .collect()
}

fn kexens_row(volumes: &Volumes<'_>, entry: &Entry, is_default: bool) -> Row {
    let (kernel, initrds, cmdline) = match &entry.kind {
        Some(Kind::Linux {
            kernel,
            initrds,
            cmdline,
        }) => {
            let source = &entry.source.place.path;
            if source.ends_with(".efi") {
                // What is in an image, `bootctl` does not list.
                (source.clone(), Vec::new(), cmdline.clone())
            } else {
                let initrds = initrds.iter().map(|place| place.path.clone());
                (kernel.path.clone(), initrds.collect(), cmdline.clone())
            }
        }
        Some(Kind::Uki {
            image,
            profile,
            addons,
            cmdline,
        }) => {
            let open = |place: &Place| volumes.fs(place)?.open(&place.path);
            let parts = uki::parts(&open, image, *profile, addons, cmdline.as_deref());
            let cmdline = parts.map_or_else(|error| error.to_string(), |parts| parts.cmdline);
            (image.path.clone(), Vec::new(), cmdline)
        }
        other => (format!("{other:?}"), Vec::new(), String::new()),
    };
    Row {
        id: entry.id.clone(),
        title: entry.title.clone(),
        kernel,
        initrds,
        cmdline,
        is_default,
    }
}

impl Both {
    /// What differs: which entry, what `bootctl` says and what Kexen does.
    pub(crate) fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        // A menu has so many entries, the default among them.
        let mut wanted: Vec<&Row> = self.bootctl.iter().collect();
        let default = wanted.iter().position(|row| row.is_default);
        if let Some(last) = default.filter(|at| *at >= MAX_ENTRIES) {
            wanted.swap(MAX_ENTRIES - 1, last);
        }
        wanted.truncate(MAX_ENTRIES);
        if wanted.len() != self.kexen.len() {
            let (theirs, ours) = (wanted.len(), self.kexen.len());
            found.push(format!("bootctl lists {theirs} entries, Kexen {ours}"));
        }
        for (at, (want, have)) in wanted.iter().zip(&self.kexen).enumerate() {
            if *want != have {
                found.push(format!(
                    "entry {at}:\n    bootctl {want:?}\n    Kexen   {have:?}"
                ));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, is_default: bool) -> Row {
        Row {
            id: id.into(),
            title: id.into(),
            kernel: "/k".into(),
            initrds: Vec::new(),
            cmdline: String::new(),
            is_default,
        }
    }

    #[test]
    fn whatever_differs_is_found() {
        let rows = |default: usize| -> Vec<Row> {
            let ids = ["a.conf", "b.conf"].iter().enumerate();
            ids.map(|(at, id)| row(id, at == default)).collect()
        };
        let both = |kexen: Vec<Row>| Both {
            bootctl: rows(0),
            kexen,
            left_out: Vec::new(),
        };
        assert_eq!(both(rows(0)).differences(), [""; 0]);
        assert_eq!(both(rows(1)).differences().len(), 2);
        assert_eq!(both(rows(0)[..1].to_vec()).differences().len(), 1);
        let mut reversed = rows(0);
        reversed.reverse();
        assert_eq!(both(reversed).differences().len(), 2);
    }

    #[test]
    fn what_is_left_out_has_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("k"), "x").unwrap();
        for (more, want) in [
            (r#""linux":"/k""#, false),
            (r#""linux":"/gone""#, true),
            (r#""options":"x""#, true),
            (r#""efi":"k","architecture":"X64""#, false),
            (r#""linux":"/k","architecture":"aa64""#, true),
        ] {
            let text = format!(r#"{{"type":"type1","id":"a.conf",{more}}}"#);
            let one: Listed = serde_json::from_str(&text).unwrap();
            assert_eq!(left_out(&one, folder.path()), want, "{more}");
        }
    }
}
