//! GRUB legacy: `menu.lst` and `grub.conf`.
//!
//! Format: GNU GRUB manual 0.97, "The syntax of the configuration file". A line
//! is a command, blanks or `=`, and its words. What is before the first `title`
//! is about the menu; each `title` begins an entry. Partitions are counted from
//! 0: `(hd0,0)` is the first.
//!
//! A file becomes a script with as many lines, as GRUB 2's own
//! `legacy_configfile` does it: what is wrong names the line.
//!
//! As Xen's `pygrub` and `pv-grub` do, `(hd0)` and `(hd0,0)` mean the one file
//! system of a disk that has no partition table, or is a partition.
//!
//! `hd0` is the disk that a BIOS booted from; in a guest that need not be its
//! first one. Where a device is not there, the same partition of the disk that
//! the file is on is meant: `pygrub` knows no other disk.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::volumes::{Volume, Volumes};

/// Commands that change nothing which matters here.
const HARMLESS: &[&str] = &[
    "background",
    "boot",
    "border",
    "cat",
    "clear",
    "color",
    "debug",
    "device",
    "displaymem",
    "foreground",
    "geometry",
    "gfxmenu",
    "hide",
    "lock",
    "makeactive",
    "map",
    "pager",
    "parttype",
    "pause",
    "print",
    "quiet",
    "serial",
    "setkey",
    "shade",
    "silent",
    "splash",
    "splashimage",
    "terminal",
    "terminfo",
    "unhide",
    "uppermem",
    "verbose",
    "version",
    "viewport",
];

/// Where the devices that a file names are looked for.
#[derive(Clone, Copy)]
pub(super) struct Devices<'a> {
    pub(super) volumes: &'a Volumes<'a>,
    /// The volume that the file is on.
    pub(super) home: usize,
}

/// A file as a script. `saved` is the entry that `default saved` means.
pub(super) fn script(devices: Devices<'_>, text: &str, saved: &str) -> String {
    let mut out = String::new();
    let mut open = false;
    for line in text.lines() {
        let line = line.trim_ascii();
        let end = |c: char| c.is_ascii_whitespace() || c == '=';
        let (name, rest) = line.split_at(line.find(end).unwrap_or(line.len()));
        let rest = rest.trim_start_matches(end);
        if name == "title" {
            if open {
                out.push_str("}; ");
            }
            open = true;
            let title = if rest.is_empty() { name } else { rest };
            out.push_str(&format!("menuentry {} {{", quoted(title)));
        } else if !name.starts_with('#') && !name.is_empty() {
            out.push_str(&command(devices, name, rest, saved));
        }
        out.push('\n');
    }
    if open {
        out.push_str("}\n");
    }
    out
}

/// A word that the script takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn words(text: &str) -> String {
    let words: Vec<String> = text.split_ascii_whitespace().map(quoted).collect();
    words.join(" ")
}

fn command(devices: Devices<'_>, name: &str, rest: &str, saved: &str) -> String {
    let (first, behind) = rest
        .split_once(|c: char| c.is_ascii_whitespace())
        .unwrap_or((rest, ""));
    let file = |file: &str| quoted(&devices.named(file));
    match name {
        "default" if first == "saved" => format!("set default={}", quoted(saved)),
        "default" | "timeout" => format!("set {name}={}", quoted(first)),
        "fallback" => format!("set fallback={}", quoted(rest)),
        "hiddenmenu" => "set timeout_style=hidden".into(),
        "password" => "set superusers=legacy".into(),
        "root" | "rootnoverify" => {
            let device = devices.named(first);
            let device = device.strip_prefix('(').unwrap_or(&device);
            let device = device.split(')').next().unwrap_or_default();
            format!("set root={}", quoted(device))
        }
        "uuid" => format!("search --fs-uuid --set=root {}", quoted(first)),
        "find" if first == "--set-root" => {
            format!("search --file --set=root {}", words(behind))
        }
        "find" => String::new(),
        "kernel" => kernel(devices, rest),
        "initrd" | "chainloader" => format!("{name} {} {}", file(first), words(behind)),
        "module" | "modulenounzip" => format!("module {} {}", file(first), words(behind)),
        "configfile" => format!("legacy_configfile {}", file(first)),
        "savedefault" => "save_env saved_entry".into(),
        "halt" | "reboot" => name.into(),
        name if HARMLESS.contains(&name) => String::new(),
        name => quoted(name),
    }
}

/// `kernel [--type=TYPE] [--no-mem-option] FILE [WORD…]`
fn kernel(devices: Devices<'_>, rest: &str) -> String {
    let mut command = "linux";
    let mut rest = rest;
    while let Some(option) = rest.split_ascii_whitespace().next()
        && option.starts_with("--")
    {
        command = match option {
            "--type=multiboot" => "multiboot",
            "--type=netbsd" => "knetbsd",
            "--type=freebsd" => "kfreebsd",
            "--type=openbsd" => "kopenbsd",
            _ => command,
        };
        rest = rest
            .strip_prefix(option)
            .unwrap_or_default()
            .trim_ascii_start();
    }
    let (file, behind) = rest
        .split_once(|c: char| c.is_ascii_whitespace())
        .unwrap_or((rest, ""));
    let file = quoted(&devices.named(file));
    format!("{command} {file} {}", words(behind))
}

impl Devices<'_> {
    /// A path with its device, `(hd0,0)/k`, as GRUB 2 names it.
    fn named(&self, word: &str) -> String {
        let split = word.strip_prefix('(').and_then(|word| word.split_once(')'));
        let Some((device, path)) = split else {
            return word.to_string();
        };
        let (disk, part) = match device.split_once(',') {
            Some((disk, part)) => match part.parse::<u32>() {
                Ok(part) => (disk, Some(part.saturating_add(1))),
                Err(_) => return word.to_string(),
            },
            None => (device, None),
        };
        let counted = match part {
            Some(part) => format!("({disk},{part})"),
            None => format!("({disk})"),
        };
        if self.volumes.by_grub_name(&counted).is_some() {
            return format!("{counted}{path}");
        }
        let home = self.volumes.get(self.home).map(|volume| &volume.disk);
        let named = self.volumes.disk_by_grub_name(disk);
        let mut disks = [home, named].into_iter().flatten();
        match disks.find_map(|disk| self.on_disk(disk, part)) {
            Some(volume) => format!("({}){path}", volume.grub_name()),
            // What is missing is named.
            None => format!("{counted}{path}"),
        }
    }

    /// A partition of a disk, or the file system that is all of it.
    fn on_disk(&self, disk: &str, part: Option<u32>) -> Option<&Volume<'_>> {
        let there = || self.volumes.iter().map(|(_, volume)| volume);
        let there = || there().filter(|volume| volume.disk == disk);
        let mut all = there();
        let whole = match (all.next(), all.next()) {
            (Some(volume), None) if volume.table.is_none() => Some(volume),
            _ => None,
        };
        let numbered = there().find(|volume| part.is_some() && volume.partition == part);
        numbered.or(whole)
    }
}

/// The line that asks for the saved entry.
pub(super) fn asks_for_saved(text: &str) -> Option<u32> {
    let is = |line: &str| {
        let mut words = line.split(|c: char| c.is_ascii_whitespace() || c == '=');
        let mut words = words.by_ref().filter(|word| !word.is_empty());
        words.next() == Some("default") && words.next() == Some("saved")
    };
    let found = (1_u32..).zip(text.lines()).find(|(_, line)| is(line));
    found.map(|(line, _)| line)
}

/// The number in the file `default` that `savedefault` writes.
pub(super) fn saved(text: &str) -> Option<&str> {
    let first = text.lines().next()?.trim_ascii();
    let digits = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    digits.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::{Entry, Kind, MenuStyle, Timeout},
        find::{ConfigKind, find},
        grub::Platform,
        testfs::{TestFs, gpt},
    };

    #[test]
    fn lines_stay_where_they_are() {
        let volumes = &gpt(alloc::vec![TestFs::new("ext4", "", "")]);
        let devices = Devices { volumes, home: 0 };
        let text = "# one\ntimeout=5\n\ndefault saved\ntitle It's\n root (hd0,0)\n\
            kernel --type=linux (hd0,1)/k a='b c'\ninitrd\t/i\nnonsense 1\ntitle B\nquiet\n";
        assert_eq!(
            script(devices, text, "1").lines().collect::<Vec<_>>(),
            [
                "",
                "set timeout='5'",
                "",
                "set default='1'",
                "menuentry 'It'\\''s' {",
                "set root='hd0,1'",
                "linux '(hd0,2)/k' 'a='\\''b' 'c'\\'''",
                "initrd '/i' ",
                "'nonsense'",
                "}; menuentry 'B' {",
                "",
                "}",
            ]
        );
        assert_eq!(saved("2\n#\n#\n"), Some("2"));
        assert_eq!((saved(""), saved("x\n"), saved("\n1")), (None, None, None));
    }

    /// A disk of EL 6 or Amazon Linux in shape: `/boot` and a root.
    const CONF: &str = "#boot=/dev/sda\ndefault=1\nfallback 0 2\ntimeout=3\n\
        splashimage=(hd0,0)/grub/splash.xpm.gz\nhiddenmenu\n\
        title A system (2.6.32-2)\n\troot (hd0,0)\n\
        \tkernel /vmlinuz-2 ro root=/dev/xvda2  console=hvc0 a=\"b c\"\n\tinitrd /initrd-2\n\
        title A system (2.6.32-1)\n\troot (hd0,0)\n\tkernel (hd0,1)/k ro\n\tsavedefault\n\
        title A hypervisor\n\troot (hd0,0)\n\tkernel /xen.gz\n\tmodule /vmlinuz-2 ro\n\
        title Another\n\trootnoverify (hd1,0)\n\tchainloader +1\n";

    fn boot(conf: &str) -> TestFs {
        TestFs::new("ext4", "", "")
            .file("/grub/menu.lst", conf)
            .files(&["/vmlinuz-2", "/initrd-2", "/xen.gz"])
    }

    #[test]
    fn a_menu_lst_is_a_menu() {
        let root = TestFs::new("ext4", "", "").files(&["/k"]);
        let found = find(&gpt(alloc::vec![boot(CONF), root]), Platform::Pv);
        let menu = &found.menu;
        assert_eq!(found.configs[0].0, ConfigKind::GrubLegacy);
        let place = &found.configs[0].1;
        assert_eq!((place.volume, &*place.path), (0, "/grub/menu.lst"));
        assert_eq!(
            (menu.default, &*menu.fallback),
            (Some(1), [0, 2].as_slice())
        );
        assert_eq!(menu.timeout, Some(Timeout::Seconds(3)));
        assert_eq!(menu.style, MenuStyle::Hidden);
        assert_eq!(menu.doubts, []);
        let kinds: Vec<_> = menu.entries.iter().map(Entry::bootable).collect();
        let Ok(Kind::Linux {
            kernel,
            initrds,
            cmdline,
        }) = kinds[0]
        else {
            panic!("{menu:?}");
        };
        assert_eq!((kernel.volume, &*kernel.path), (0, "/vmlinuz-2"));
        assert_eq!(initrds[0].path, "/initrd-2");
        assert_eq!(cmdline, "ro root=/dev/xvda2 console=hvc0 a=\"b c\"");
        let Ok(Kind::Linux { kernel, .. }) = kinds[1] else {
            panic!("{menu:?}");
        };
        assert_eq!((kernel.volume, &*kernel.path), (1, "/k"));
        // The line is that of the file.
        let problem = |at: usize| {
            let problem = menu.entries[at].problem.as_ref().unwrap();
            (problem.source.line, problem.word.as_str())
        };
        assert_eq!(problem(2), (18, "module"));
        assert_eq!(problem(3), (21, "chainloader"));
        assert_eq!(menu.entries[3].title, "Another");
    }

    #[test]
    fn the_saved_entry_is_in_a_file_of_its_own() {
        let conf = CONF.replace("default=1", "default  saved");
        let root = || TestFs::new("ext4", "", "").files(&["/k"]);
        let fs = boot(&conf).file("/grub/default", "1\n#\n#\n");
        let menu = find(&gpt(alloc::vec![fs, root()]), Platform::Pv).menu;
        assert_eq!((menu.default, &*menu.doubts), (Some(1), [].as_slice()));
        let menu = find(&gpt(alloc::vec![boot(&conf), root()]), Platform::Pv).menu;
        assert_eq!(menu.default, Some(0));
        assert_eq!(menu.doubts[0].source.line, 2);
    }

    /// EC2's: a partition as a disk; `(hd0)` is all of it.
    #[test]
    fn a_disk_that_is_one_file_system() {
        for device in ["(hd0)", "(hd0,0)"] {
            let conf = format!("title A\nroot {device}\nkernel /boot/k root=LABEL=/ {{}};\n");
            let fs = TestFs::new("ext4", "", "")
                .file("/boot/grub/menu.lst", conf)
                .files(&["/boot/k"]);
            let mut disk = gpt(alloc::vec![fs]).into_list();
            disk[0].partition = None;
            disk[0].table = None;
            let menu = find(&Volumes::new(disk), Platform::Pv).menu;
            let Ok(Kind::Linux { cmdline, .. }) = menu.entries[0].bootable() else {
                panic!("{device}: {menu:?}");
            };
            assert_eq!(cmdline, "root=LABEL=/ {};");
        }
    }

    /// A guest's data disks may come before the one that it boots from.
    #[test]
    fn the_first_disk_can_be_another_than_the_guests_first() {
        let data = TestFs::new("ext4", "", "").files(&["/data"]);
        let root = TestFs::new("ext4", "", "").files(&["/k"]);
        for tables in [true, false] {
            let mut disks = gpt(alloc::vec![data.clone(), boot(CONF), root.clone()]).into_list();
            for (disk, number) in disks.iter_mut().zip([0, 1, 2]) {
                disk.partition = (number > 0).then_some(number);
                disk.disk = if number > 0 { "xvdc" } else { "xvda" }.into();
            }
            disks[0].table = None;
            if tables {
                disks[0].partition = Some(9);
                disks[0].table = Some(crate::volumes::TableKind::Msdos);
            }
            let menu = find(&Volumes::new(disks), Platform::Pv).menu;
            for (entry, place) in [(0, (1, "/vmlinuz-2")), (1, (2, "/k"))] {
                let Ok(Kind::Linux { kernel, .. }) = menu.entries[entry].bootable() else {
                    panic!("{menu:?}");
                };
                assert_eq!((kernel.volume, &*kernel.path), place, "{tables}");
            }
        }
    }

    #[test]
    fn a_script_can_read_one() {
        let root = |cfg: &str| {
            let fs = boot(CONF).file("/grub/grub.cfg", cfg);
            let other = TestFs::new("ext4", "", "").files(&["/k"]);
            find(&gpt(alloc::vec![fs, other]), Platform::Pv)
        };
        let found = root("legacy_configfile /grub/menu.lst");
        assert_eq!((found.menu.entries.len(), found.menu.default), (4, Some(1)));
        let found = root("menuentry a { linux /vmlinuz-2 }\nlegacy_source /grub/menu.lst");
        assert_eq!(
            (found.menu.entries[0].title.as_str(), found.menu.default),
            ("a", Some(1))
        );
    }

    proptest::proptest! {
        #[test]
        fn random_lines_never_panic(
            text in "((title|root|kernel|initrd|default|saved|timeout|[(]hd0,0[)]|/k|'|=|\n| ) ?){0,40}"
        ) {
            let fs = boot(&text);
            let _found = find(&gpt(alloc::vec![fs]), Platform::Pv);
        }
    }
}
