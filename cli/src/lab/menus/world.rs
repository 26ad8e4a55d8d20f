//! The disks that generated scripts run on, and what is on them.

use super::image::{Disk, File, Fs, Part, Table};
use super::script::Script;
use super::session::{Start, envblock_of};

/// Variables that scripts set.
pub(super) const VARIABLES: [&str; 5] = ["a", "b", "c", "d", "e"];

pub(super) const ESP: &str = "1A2B-3C4D";
pub(super) const BOOT: &str = "a0b1c2d3-0001-4000-8000-0123456789ab";
pub(super) const ROOT: &str = "a0b1c2d3-0002-4000-8000-0123456789ab";
pub(super) const DATA: &str = "a0b1c2d3-0003-4000-8000-0123456789ab";

/// A file on several volumes. GRUB keeps where it found it for the next search.
pub(super) const MANY: &str = "/many";

/// Where scripts are.
const DEVICE: &str = "hd0,gpt2";

/// Where the script of a number starts.
pub(crate) fn start(number: usize) -> Start {
    Start::at(DEVICE, &format!("/s/{number}/grub.cfg"))
}

/// Two disks with these scripts on them.
pub(crate) fn disks(scripts: &[Script]) -> Vec<Disk> {
    let part = |fs, kind: &str, uuid: &str, label: &str, names: &[&str]| Part {
        fs,
        uuid: uuid.to_owned(),
        label: label.to_owned(),
        kind: kind.to_owned(),
        files: names.iter().map(|name| File::new(name, b"file")).collect(),
        raw: Vec::new(),
    };
    let mut boot = part(
        Fs::Ext4,
        "linux",
        BOOT,
        "KX-BOOT",
        &[
            "vmlinuz-1",
            "vmlinuz-2",
            "initrd-1",
            "initrd-2",
            "only-boot",
            "many",
            "d/a.cfg",
            "d/b.cfg",
            "d/c1.cfg",
            "d/e f.cfg",
            "d/g.txt",
            "d/sub/h.cfg",
        ],
    );
    boot.files.push(File::new("d/empty", b""));
    for (number, script) in scripts.iter().enumerate() {
        for (name, nodes) in &script.files {
            let text = Script::text_for(nodes, number);
            let path = format!("s/{number}/{name}");
            boot.files.push(File::new(&path, text.as_bytes()));
        }
        let mut block = envblock_of(0);
        for line in &script.env {
            block.extend_from_slice(format!("{line}\n").as_bytes());
        }
        block.resize(1024, b'#');
        boot.files
            .push(File::new(&format!("s/{number}/grubenv"), &block));
    }
    let root = [
        "boot/vmlinuz-1",
        "boot/initrd-1",
        "vmlinuz-1",
        "only-root",
        "many",
    ];
    vec![
        Disk {
            table: Table::Gpt,
            parts: vec![
                part(
                    Fs::Fat,
                    "uefi",
                    ESP,
                    "KX-ESP",
                    &["vmlinuz-1", "only-esp", "many"],
                ),
                boot,
                part(Fs::Ext4, "linux", ROOT, "KX root", &root),
            ],
        },
        Disk {
            table: Table::Msdos,
            parts: vec![part(
                Fs::Ext4,
                "83",
                DATA,
                "KX-DATA",
                &["vmlinuz-2", "only-data"],
            )],
        },
    ]
}
