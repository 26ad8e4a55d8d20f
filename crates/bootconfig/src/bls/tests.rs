use super::*;
use crate::{
    entry::Kind,
    testfs::{TestFs, gpt},
};
use alloc::{format, vec};

fn base(volume: usize, folder: &str) -> Base {
    Base {
        volume,
        folder: folder.into(),
    }
}

fn titles(menu: &Menu) -> Vec<&str> {
    let titles = menu.entries.iter().map(|entry| entry.title.as_str());
    titles.collect()
}

fn ids(menu: &Menu) -> Vec<&str> {
    menu.entries.iter().map(|entry| entry.id.as_str()).collect()
}

/// Arch Linux with systemd-boot: written by hand after the Arch wiki's page,
/// in which the ESP is mounted to /boot.
fn arch() -> TestFs {
    TestFs::new("vfat", "", "B1C4-0F2E")
        .file(
            "/loader/loader.conf",
            "default  arch.conf\ntimeout  4\nconsole-mode max\neditor   no\n",
        )
        .file(
            "/loader/entries/arch.conf",
            "title   Arch Linux\nlinux   /vmlinuz-linux\ninitrd  /intel-ucode.img\n\
             initrd  /initramfs-linux.img\noptions root=UUID=c0ffee00-0000 rw\n",
        )
        .file(
            "/loader/entries/arch-fallback.conf",
            "title   Arch Linux (fallback initramfs)\nlinux   /vmlinuz-linux\n\
             initrd  /initramfs-linux-fallback.img\noptions root=UUID=c0ffee00-0000 rw\n",
        )
        .files(&[
            "/vmlinuz-linux",
            "/intel-ucode.img",
            "/initramfs-linux.img",
            "/initramfs-linux-fallback.img",
        ])
}

#[test]
fn arch_with_systemd_boot() {
    let volumes = gpt(vec![arch()]);
    let menu = menu(&volumes, &[base(0, "")]);
    assert_eq!(ids(&menu), ["arch.conf", "arch-fallback.conf"]);
    assert_eq!(menu.default, Some(0));
    assert_eq!(menu.timeout, Some(Timeout::Seconds(4)));
    assert!(menu.notes.is_empty(), "{:?}", menu.notes);
    let Ok(Kind::Linux {
        initrds, cmdline, ..
    }) = menu.entries[0].bootable()
    else {
        panic!("{:?}", menu.entries[0]);
    };
    assert_eq!(cmdline, "root=UUID=c0ffee00-0000 rw");
    let paths: Vec<&str> = initrds.iter().map(|place| place.path.as_str()).collect();
    assert_eq!(paths, ["/intel-ucode.img", "/initramfs-linux.img"]);
}

#[test]
fn entries_are_sorted_as_the_specification_says() {
    let mut fs = TestFs::new("vfat", "", "").files(&["/k"]);
    for (name, keys) in [
        ("a-10.conf", "version 10"),
        ("a-9.conf", "version 9"),
        ("b.conf", ""),
        ("c.conf", "sort-key xxxx\nversion 5\nmachine-id 3"),
        ("cx.conf", "sort-key xxxx\nversion 10\nmachine-id 3"),
        ("cy.conf", "sort-key xxxx\nversion 1\nmachine-id 2"),
        ("d.conf", "sort-key kkkk\nversion 100\nmachine-id 8"),
        ("e+0-3.conf", "sort-key a\nversion 1"),
        ("f+2.conf", "version 1"),
        ("g.txt", "version 1"),
        (".h.conf", "version 1"),
        ("i.conf", "architecture aa64"),
    ] {
        let text = alloc::format!("linux /k\n{keys}\n");
        fs = fs.file(&alloc::format!("/loader/entries/{name}"), text);
    }
    let menu = menu(&gpt(vec![fs]), &[base(0, "")]);
    assert_eq!(
        ids(&menu),
        [
            "d.conf",
            "cy.conf",
            "cx.conf",
            "c.conf",
            "f.conf",
            "b.conf",
            "a-10.conf",
            "a-9.conf",
            "e.conf"
        ]
    );
    assert_eq!(menu.default, Some(0));
    assert!(menu.notes[0].text.contains("architecture"));
}

#[test]
fn images_are_entries() {
    let osrel = b"PRETTY_NAME=\"Fedora Linux 41\"\nID=fedora\nVERSION_ID=41\n";
    let image = uki::tests::image(&[(".osrel", osrel), (".linux", b"k"), (".cmdline", b"ro")]);
    let esp = TestFs::new("vfat", "", "")
        .file("/EFI/Linux/fedora-6.11.4+3-0.efi", &image)
        .file("/EFI/Linux/fedora-6.10.9.EFI", &image)
        .file("/EFI/Linux/broken.efi", "MZ")
        .file("/loader/loader.conf", "default fedora-6.10*\n");
    let volumes = gpt(vec![esp]);
    let menu = menu(&volumes, &[base(0, "")]);
    assert_eq!(
        titles(&menu),
        [
            "Fedora Linux 41 (41) (fedora-6.11.4.efi)",
            "Fedora Linux 41 (41) (fedora-6.10.9.EFI)",
            "broken.efi"
        ],
        "what is no image is last"
    );
    assert_eq!(menu.default, Some(1));
    assert!(menu.entries[0].bootable().is_ok());
    let problem = menu.entries[2].problem.as_ref().unwrap();
    assert_eq!(problem.word, "broken.efi");
}

#[test]
fn fedoras_variables_come_from_grubenv() {
    let text = "title Fedora\nversion 6.5\nlinux /vmlinuz-6.5\n\
                initrd /initramfs-6.5.img $tuned_initrd\noptions $kernelopts $tuned_params\n";
    let fs = |grubenv| {
        TestFs::new("ext4", "", "")
            .file("/loader/entries/m-6.5.conf", text)
            .file("/grub2/grubenv", grubenv)
            .files(&["/vmlinuz-6.5", "/initramfs-6.5.img"])
    };
    let with = "# GRUB Environment Block\nkernelopts=root=UUID=1 ro\n####";
    let volumes = gpt(vec![fs(with)]);
    let menu = menu(&volumes, &[base(0, "")]);
    let Ok(Kind::Linux { cmdline, .. }) = menu.entries[0].bootable() else {
        panic!("{menu:?}");
    };
    assert_eq!(cmdline, "root=UUID=1 ro");
}

#[test]
fn a_default_that_is_not_there_is_noted() {
    let fs = arch().file("/loader/loader.conf", "default other-*\n");
    let menu = menu(&gpt(vec![fs]), &[base(0, "")]);
    assert_eq!(menu.default, Some(0));
    assert!(menu.notes[0].text.contains("other-*"));
}

/// NixOS after its garbage collection: the newest entry's kernel is gone.
#[test]
fn an_entry_without_its_kernel_is_none() {
    let nixos = |number: u32, kernel: &str| {
        format!(
            "title NixOS\nsort-key nixos\nversion Generation {number} NixOS 25.05\n\
             linux /EFI/nixos/{kernel}\ninitrd /EFI/nixos/i.efi\noptions init=/{number}\n"
        )
    };
    let fs = |default: &str| {
        TestFs::new("vfat", "", "")
            .file("/loader/entries/nixos-generation-41.conf", nixos(41, "k"))
            .file(
                "/loader/entries/nixos-generation-42.conf",
                nixos(42, "gone"),
            )
            .file("/loader/loader.conf", format!("default {default}\n"))
            .files(&["/EFI/nixos/k", "/EFI/nixos/i.efi"])
    };
    for default in ["nixos-generation-42.conf", "nixos-generation-*"] {
        let menu = menu(&gpt(vec![fs(default)]), &[base(0, "")]);
        assert_eq!(ids(&menu), ["nixos-generation-41.conf"], "{default}");
        assert_eq!(menu.default, Some(0));
        let note = menu.notes[0].to_string();
        assert!(
            note.starts_with("/loader/entries/nixos-generation-42.conf:4: \"/EFI/nixos/gone\"")
        );
    }
    for text in [
        "title x\n",
        "linux /k\nefi /k\n",
        "linux /gone\n",
        "uki /gone.efi\n",
        "efi /k\n",
        "uki-url http://x/y.efi\n",
        "linux /k\narchitecture aa64\n",
    ] {
        let fs = TestFs::new("vfat", "", "")
            .file("/loader/entries/x.conf", text)
            .files(&["/k"]);
        let menu = menu(&gpt(vec![fs]), &[base(0, "")]);
        assert_eq!(ids(&menu), [""; 0], "{text}");
        assert_eq!((menu.default, menu.notes.len()), (None, 1), "{text}");
    }
}

#[test]
fn quotes_come_off_and_backslashes_are_slashes() {
    let fs = TestFs::new("vfat", "", "")
        .file(
            "/loader/entries/a.conf",
            "title \"Linux, \"six\"\"\nversion '6'\nlinux \"\\EFI\\Linux one\\k\"\n\
             initrd '\\i j'\ninitrd \\i\noptions \"root=LABEL=a b\"\noptions 'x\n",
        )
        .file("/loader/entries/b.conf", "title b\nlinux k\n")
        .file("/loader/loader.conf", "default \"a.conf\"\ntimeout '7'\n")
        .files(&["/EFI/Linux one/k", "/i j", "/i", "/k"]);
    let menu = menu(&gpt(vec![fs]), &[base(0, "")]);
    assert_eq!(titles(&menu), ["b", "Linux, \"six\""]);
    assert_eq!(
        (menu.default, menu.timeout),
        (Some(1), Some(Timeout::Seconds(7)))
    );
    let Ok(Kind::Linux {
        kernel,
        initrds,
        cmdline,
    }) = menu.entries[1].bootable()
    else {
        panic!("{menu:?}");
    };
    assert_eq!(kernel.path, "/EFI/Linux one/k");
    assert_eq!(cmdline, "root=LABEL=a b 'x");
    let paths: Vec<&str> = initrds.iter().map(|place| place.path.as_str()).collect();
    assert_eq!(paths, ["/i j", "/i"]);
}

/// 300 entries and a limit of fewer: the old ones go, the default stays.
#[test]
fn a_limit_keeps_the_newest() {
    let many = |settings: &str| {
        let fs = (1..=300).fold(TestFs::new("vfat", "", ""), |fs, n| {
            let path = format!("/loader/entries/m-6.1.{n}.conf");
            fs.file(&path, format!("title Linux\nversion 6.1.{n}\nlinux /k\n"))
        });
        let fs = fs.file("/loader/loader.conf", settings).files(&["/k"]);
        menu(&gpt(vec![fs]), &[base(0, "")])
    };
    let newest = many("timeout 1\n");
    assert_eq!(newest.entries.len(), MAX_ENTRIES);
    assert_eq!(newest.default, Some(0));
    assert_eq!(newest.entries[0].id, "m-6.1.300.conf");
    assert_eq!(newest.entries[255].id, "m-6.1.45.conf");
    assert!(newest.notes[0].text.contains("44 left out"));
    let old = many("default m-6.1.2.conf\n");
    let default = &old.entries[old.default.unwrap()];
    assert_eq!(default.id, "m-6.1.2.conf");
    assert_eq!(old.entries[0].id, "m-6.1.300.conf");
    assert_eq!(old.entries.len(), MAX_ENTRIES);
    // Images by the same rule.
    let image = uki::tests::image(&[(".osrel", b"ID=x\n"), (".linux", b"k")]);
    let fs = (1..=300).fold(TestFs::new("vfat", "", ""), |fs, n| {
        fs.file(&format!("/EFI/Linux/x-{n}.efi"), &image)
    });
    let images = menu(&gpt(vec![fs]), &[base(0, "")]);
    assert_eq!(images.entries[0].id, "x-300.efi");
    assert_eq!(images.entries.len(), MAX_ENTRIES);
}

#[test]
fn settings_choose_among_good_and_bad() {
    let with = |settings: &str| {
        let fs = ["a+0-3", "b", "C+2-1"]
            .iter()
            .fold(TestFs::new("vfat", "", "").files(&["/k"]), |fs, name| {
                fs.file(&format!("/loader/entries/{name}.conf"), "linux /k\n")
            });
        let fs = fs.file("/loader/loader.conf", settings);
        let menu = menu(&gpt(vec![fs]), &[base(0, "")]);
        menu.entries[menu.default.unwrap()].id.clone()
    };
    for (settings, want) in [
        ("timeout 1", "C.conf"),
        ("default b*", "b.conf"),
        ("default c*", "C.conf"),
        ("default c.conf", "C.conf"),
        ("default c+2-1.conf", "C.conf"),
        ("default a*", "a.conf"),
        ("preferred a*", "C.conf"),
        ("preferred a*\ndefault b.conf", "b.conf"),
        ("preferred c*\ndefault b.conf", "C.conf"),
        ("default @saved", "C.conf"),
        ("default [ab].conf", "b.conf"),
    ] {
        assert_eq!(with(settings), want, "{settings}");
    }
}

#[test]
fn without_a_timeout_systemd_boot_does_not_wait() {
    let of = |settings: Option<&str>| {
        let fs = TestFs::new("vfat", "", "")
            .file("/loader/entries/a.conf", "linux /k\n")
            .files(&["/k"]);
        let fs = settings
            .into_iter()
            .fold(fs, |fs, text| fs.file("/loader/loader.conf", text));
        let menu = menu(&gpt(vec![fs]), &[base(0, "")]);
        (menu.timeout, menu.style)
    };
    let at_once = (Some(Timeout::Seconds(0)), MenuStyle::Hidden);
    assert_eq!(of(Some("#timeout 3\n")), at_once);
    assert_eq!(of(None), (None, MenuStyle::Menu));
}

proptest::proptest! {
    #[test]
    fn changed_files_never_panic(
        at in 0_usize..200, byte in 0_u8.., name in "[a+0-9-]{0,8}(\\.conf|\\.efi)",
    ) {
        let mut text = b"title   Arch Linux\nlinux   /vmlinuz-linux\ninitrd  /i $x\n\
            initrd  /initramfs-linux.img\noptions root=UUID=c0ffee00-0000 rw\n".to_vec();
        let at = at % text.len();
        text[at] = byte;
        let fs = arch()
            .file(&alloc::format!("/loader/entries/{name}"), &text)
            .file("/loader/loader.conf", &text);
        let menu = menu(&gpt(vec![fs]), &[base(0, "")]);
        // The change may be to the kernel's name, or to the key before it.
        assert!(!menu.entries.is_empty());
    }
}

/// Of too many the order decides which are left out, not the folder that is
/// read first.
#[test]
fn the_last_of_too_many_give_way() {
    let full = |letter: char| {
        (0..MAX_ENTRIES)
            .fold(TestFs::new("ext4", "", ""), |fs, n| {
                let path = alloc::format!("/loader/entries/{letter}-{n:03}.conf");
                fs.file(&path, "title t\nlinux /k\n")
            })
            .files(&["/k"])
    };
    let volumes = gpt(vec![full('a'), full('b')]);
    let menu = menu(&volumes, &[base(0, ""), base(1, "")]);
    assert_eq!(menu.entries.len(), MAX_ENTRIES);
    assert!(
        ids(&menu).iter().all(|id| id.starts_with("b-")),
        "{:?}",
        ids(&menu)
    );
}
