//! Makes the images of a group, with their manifests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::super::build;
use super::super::plain::Disk;
use super::guest::Guest;
use super::table::{Expect, Group, IMAGES, Image, Way};
use crate::host::{cache, command, tools};

/// All images of a group.
pub(crate) fn images(group: Group) -> impl Iterator<Item = &'static Image> {
    IMAGES.iter().filter(move |image| image.group == group)
}

/// The file of an image in its group's folder.
pub(crate) fn file(dir: &Path, image: &Image) -> PathBuf {
    dir.join(format!("{}.img", image.name))
}

/// The folder with a group's images and manifests.
pub(crate) fn group(group: Group) -> Result<PathBuf> {
    tools::require_lab()?;
    tools::require(&[tools::IMAGES])?;
    let guest = Guest::new()?;
    let images: Vec<&Image> = images(group).collect();
    let mut recipe = format!("images 1\n{}\n", guest.recipe()?);
    for (seed, image) in (1..).zip(&images) {
        let Image {
            mkfs, mib, sector, ..
        } = image;
        let line = line(image, seed);
        recipe.push_str(&format!("{mkfs} {mib} {sector} {:?} {line}\n", image.ager));
        recipe.push_str(&after_crash(image));
    }
    let name = format!("readers-{}", group.name());
    cache::get(&name, "images that Linux aged", &recipe, |dir| {
        let scratch = tempfile::tempdir_in(dir)?;
        let mut script = String::new();
        for (seed, image) in (1..).zip(&images) {
            match image.way {
                Way::Looked => of_a_folder(image, seed, dir, scratch.path())?,
                _ => mkfs(image, dir)?,
            }
            script.push_str(&line(image, seed));
        }
        let files: Vec<PathBuf> = images.iter().map(|image| file(dir, image)).collect();
        let disks: Vec<Disk<'_>> = images
            .iter()
            .zip(&files)
            .filter(|(image, _)| image.way != Way::Untouched)
            .map(|(image, file)| Disk {
                name: image.name,
                file,
                sector: image.sector,
                is_written: image.way != Way::Looked,
            })
            .collect();
        guest.run(&disks, &script, scratch.path(), dir)?;
        let crashed: Vec<_> = images
            .iter()
            .zip(&files)
            .filter(|(image, _)| !after_crash(image).is_empty())
            .collect();
        if crashed.is_empty() {
            return Ok(());
        }
        let script: String = crashed
            .iter()
            .map(|(image, _)| after_crash(image))
            .collect();
        let disks: Vec<Disk<'_>> = crashed
            .iter()
            .map(|(image, file)| Disk {
                name: image.name,
                file,
                sector: image.sector,
                is_written: false,
            })
            .collect();
        let dir = after(dir);
        fs::create_dir(&dir)?;
        guest.run(&disks, &script, scratch.path(), &dir)
    })
}

/// The folder with what another boot reads.
pub(crate) fn after(dir: &Path) -> PathBuf {
    dir.join("after")
}

/// What another boot is to do with an image: to read it without what is in its
/// log, and with it. What is refused has nothing to be compared.
fn after_crash(image: &Image) -> String {
    let Image { name, mount, .. } = image;
    match (image.way, image.expect) {
        (Way::Synced(options), Expect::Same) => format!(
            "look '{name}' {kind} '{options}' ''\nlook '{name}' {kind} '' '' .replayed\n",
            kind = mount.0
        ),
        _ => String::new(),
    }
}

/// What the guest is to do with an image.
fn line(image: &Image, seed: u64) -> String {
    let Image { name, ager, .. } = image;
    let (kind, options) = image.mount;
    let way = match image.way {
        Way::Aged => "aged",
        Way::Reflink => "reflink",
        Way::Crashed => "crashed",
        Way::Synced(_) => "synced",
        Way::Subvolumes => "subvolumes",
        Way::Looked => return format!("look '{name}' {kind} '{options}' ''\n"),
        Way::Untouched => return String::new(),
    };
    let (mib, words) = ager;
    format!("image '{name}' {kind} '{options}' {way} {seed} {mib} {words}\n")
}

/// The command that makes an image, and the files that it needs.
fn command_of(image: &Image, file: &Path) -> (Command, Vec<PathBuf>) {
    let mut files = Vec::new();
    let mut words = image.mkfs.split(' ').map(|word| {
        if let Some((before, after)) = word.split_once("{}") {
            let end = after.find(',').unwrap_or(after.len());
            let named = format!("{}{}", file.display(), &after[..end]);
            files.push(PathBuf::from(&named));
            format!("{before}{named}{}", &after[end..])
        } else {
            word.to_owned()
        }
    });
    let mut command = Command::new(words.next().unwrap_or_default());
    // Where `mkfs` is for those who are not root.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    command.args(words).env("PATH", path);
    (command, files)
}

fn mkfs(image: &Image, dir: &Path) -> Result<()> {
    let place = file(dir, image);
    let (mut command, files) = command_of(image, &place);
    for file in &files {
        File::create(file)?.set_len(image.mib << 20)?;
    }
    command::run(&mut command)?;
    for other in files.iter().filter(|other| **other != place) {
        fs::remove_file(other)?;
    }
    Ok(())
}

/// An image that is made of a folder, which is aged here.
fn of_a_folder(image: &Image, seed: u64, dir: &Path, scratch: &Path) -> Result<()> {
    let root = scratch.join(image.name);
    fs::create_dir(&root)?;
    let mut ager = Command::new(build::ager()?);
    ager.arg(&root).arg(seed.to_string());
    ager.arg(image.ager.0.to_string());
    ager.args(image.ager.1.split(' '));
    command::run(&mut ager)?;
    let (mut command, _) = command_of(image, &file(dir, image));
    command::run(command.arg(&root)).context(image.name)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_their_places() {
        let image = IMAGES.iter().find(|image| image.name == "xfs-log-device");
        let (command, files) = command_of(image.unwrap(), Path::new("/x/a.img"));
        assert_eq!(
            command::shown(&command),
            "mkfs.xfs -f -l logdev=/x/a.img.log,size=64m /x/a.img"
        );
        assert_eq!(files, ["/x/a.img.log", "/x/a.img"].map(PathBuf::from));
    }

    #[test]
    fn names_are_serial_numbers() {
        let mut names: Vec<&str> = IMAGES.iter().map(|image| image.name).collect();
        assert!(names.iter().all(|name| name.len() <= 20));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), IMAGES.len());
    }
}
