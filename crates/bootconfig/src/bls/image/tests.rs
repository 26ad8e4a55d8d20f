use super::*;
use crate::{
    bls::{Base, fallback, menu, uki::tests::image as pe},
    entry::Menu,
    testfs::{TestFs, gpt},
};
use alloc::vec;

const OSREL: (&str, &[u8]) = (".osrel", b"ID=x\nPRETTY_NAME=\"X 1\"\n");

fn esp() -> TestFs {
    TestFs::new("vfat", "", "")
}

fn find(volumes: &Volumes<'_>) -> Menu {
    let folder = String::new();
    menu(volumes, &[Base { volume: 0, folder }])
}

/// What an entry starts: files with sections, and the command line.
fn starts(volumes: &Volumes<'_>, menu: &Menu, id: &str) -> (Vec<String>, String) {
    let entry = menu.entries.iter().find(|entry| entry.id == id).expect(id);
    let Ok(Kind::Uki {
        image,
        profile,
        addons,
        cmdline,
    }) = entry.bootable()
    else {
        panic!("{entry:?}");
    };
    let open = |place: &Place| volumes.fs(place)?.open(&place.path);
    let parts = parts(&open, image, *profile, addons, cmdline.as_deref()).unwrap();
    let read = |piece: &Piece| {
        let mut file = open(&piece.place).unwrap();
        let mut bytes = vec![0; piece.at.bytes as usize];
        file.read_at(piece.at.offset, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let mut files = vec![read(&parts.kernel)];
    files.extend(parts.initrds.iter().map(read));
    (files, parts.cmdline)
}

#[test]
fn addons_are_applied_in_the_order_of_systemd_stub() {
    let image = pe(&[
        OSREL,
        (".cmdline", b"root=a"),
        (".uname", b"6.1"),
        (".ucode", b"own ucode"),
        (".initrd", b"own initrd"),
        (".linux", b"kernel"),
    ]);
    let addon = |line: &[u8], ucode: &[u8], initrd: &[u8]| {
        pe(&[(".cmdline", line), (".ucode", ucode), (".initrd", initrd)])
    };
    let fs = esp()
        .file("/EFI/Linux/x+3-1.efi", &image)
        .file("/EFI/Linux/y.efi", &image)
        .file("/loader/addons/b.addon.efi", addon(b"b", b"b ucode", b""))
        .file("/loader/addons/a.ADDON.efi", addon(b"a ", b"a ucode", b"a"))
        .file("/loader/addons/c.efi", addon(b"no add-on's name", b"", b""))
        .file(
            "/EFI/Linux/x.efi.extra.d/own.addon.efi",
            addon(b"own", b"", b"own"),
        )
        .file(
            "/EFI/Linux/x.efi.extra.d/other.addon.efi",
            pe(&[(".cmdline", b"6.2"), (".uname", b"6.2")]),
        )
        .file(
            "/EFI/Linux/x.efi.extra.d/fits.addon.efi",
            pe(&[(".cmdline", b"6.1"), (".uname", b"6.1\0")]),
        )
        .file(
            "/EFI/Linux/x.efi.extra.d/tree.addon.efi",
            pe(&[(".dtb", b"t")]),
        )
        .file("/EFI/Linux/x.efi.extra.d/kernel.addon.efi", &image)
        .file("/EFI/Linux/x.efi.extra.d/text.addon.efi", "no image")
        .file(
            "/EFI/Linux/x+3-1.efi.extra.d/z.addon.efi",
            addon(b"z", b"", b""),
        )
        .file(
            "/loader/entries/t.conf",
            "uki /EFI/Linux/x+3-1.efi\noptions mine\n",
        );
    let volumes = gpt(vec![fs]);
    let menu = find(&volumes);
    let all = [
        "kernel",
        "b ucode",
        "a ucode",
        "own ucode",
        "own initrd",
        "a",
        "own",
    ];
    let (files, line) = starts(&volumes, &menu, "x.efi");
    assert_eq!(files, all);
    assert_eq!(line, "root=a a b 6.1 own");
    let (files, line) = starts(&volumes, &menu, "t.conf");
    assert_eq!(files, all);
    assert_eq!(line, "mine a b 6.1 own");
    let (files, line) = starts(&volumes, &menu, "y.efi");
    assert_eq!(files, all[..6]);
    assert_eq!(line, "root=a a b");
    let told = |name: &str, why: &str| {
        let is = |note: &&Note| note.source.place.path.ends_with(name) && note.text.contains(why);
        assert!(menu.notes.iter().any(|note| is(&note)), "{:?}", menu.notes);
    };
    told("other.addon.efi", "another kernel");
    told("kernel.addon.efi", "it has a kernel");
    told("text.addon.efi", "no x86-64 PE file");
}

#[test]
fn each_profile_is_an_entry() {
    let image = pe(&[
        OSREL,
        (".linux", b"k"),
        (".cmdline", b"base"),
        (".profile", b"ID=main\nTITLE=Everyday\n"),
        (".profile", b"ID=reset\n"),
        (".cmdline", b"reset it"),
        (".profile", b"TITLE=\"Rescue me\"\n"),
        (".cmdline", b"rescue"),
        (".linux", b"another kernel"),
        (".profile", b""),
    ]);
    let fs = esp()
        .file("/EFI/Linux/x+2.efi", &image)
        .file("/loader/loader.conf", "default x+2.efi@2\n")
        .file(
            "/loader/entries/a.conf",
            "uki /EFI/Linux/x+2.efi\nprofile 1\n",
        )
        .file(
            "/loader/entries/b.conf",
            "uki /EFI/Linux/x+2.efi\noptions @2 mine\n",
        )
        .file(
            "/loader/entries/c.conf",
            "uki /EFI/Linux/x+2.efi\nprofile 9\n",
        );
    let volumes = gpt(vec![fs]);
    let menu = find(&volumes);
    let listed: Vec<(&str, &str)> = menu
        .entries
        .iter()
        .map(|entry| (entry.id.as_str(), entry.title.as_str()))
        .collect();
    assert_eq!(
        listed,
        [
            ("x.efi", "X 1 (Everyday)"),
            ("x.efi@reset", "X 1 (reset)"),
            ("x.efi@2", "X 1 (Rescue me)"),
            ("x.efi@3", "X 1 (Profile #4)"),
            ("c.conf", "c.conf"),
            ("b.conf", "b.conf"),
            ("a.conf", "a.conf"),
        ]
    );
    assert_eq!(menu.default, Some(2));
    for (id, kernel, line) in [
        ("x.efi", "k", "base"),
        ("x.efi@reset", "k", "reset it"),
        ("x.efi@2", "another kernel", "rescue"),
        ("x.efi@3", "k", "base"),
        ("a.conf", "k", "reset it"),
        ("b.conf", "another kernel", "mine"),
    ] {
        let (files, cmdline) = starts(&volumes, &menu, id);
        assert_eq!((&*files[0], &*cmdline), (kernel, line), "{id}");
    }
    let problem = menu.entries[4].problem.as_ref().unwrap();
    assert!(problem.what.contains("no profile 9"), "{problem}");
}

/// Lanzaboote's: the files are beside the image, the sections are paths.
#[test]
fn paths_in_an_image_are_followed() {
    let hash = [7; 32];
    let image = |kernel: &[u8]| {
        pe(&[
            OSREL,
            (".cmdline", b"init=/nix/store/x/init"),
            (".linux", kernel),
            (".linuxh", &hash),
            (".initrd", b"\\EFI\\nixos\\initrd-1.efi"),
            (".initrdh", &hash),
        ])
    };
    let fs = esp()
        .file("/EFI/Linux/a.efi", image(b"\\EFI\\nixos\\kernel-1.efi"))
        .file("/EFI/Linux/b.efi", image(b"\\EFI\\nixos\\gone.efi"))
        .file("/EFI/nixos/kernel-1.efi", "kernel")
        .file("/EFI/nixos/initrd-1.efi", "initrd");
    let menu = find(&gpt(vec![fs]));
    let place = |path: &str| Place {
        volume: 0,
        path: path.into(),
    };
    assert_eq!(menu.entries[0].id, "a.efi");
    assert_eq!(
        menu.entries[0].bootable(),
        Ok(&Kind::Linux {
            kernel: place("/EFI/nixos/kernel-1.efi"),
            initrds: vec![place("/EFI/nixos/initrd-1.efi")],
            cmdline: "init=/nix/store/x/init".into(),
        })
    );
    let problem = menu.entries[1].problem.as_ref().unwrap();
    assert!(problem.what.contains("gone.efi"), "{problem}");
    assert_eq!(menu.default, Some(0));
}

#[test]
fn the_image_that_firmware_starts() {
    let image = pe(&[(".linux", b"k"), (".cmdline", b"ro"), OSREL]);
    let volumes = gpt(vec![esp().file("/efi/Boot/bootx64.efi", &image)]);
    let (place, menu) = fallback(&volumes, 0, "").unwrap();
    assert_eq!(place.path, "/efi/Boot/bootx64.efi");
    assert_eq!(menu.entries[0].title, "X 1");
    assert_eq!(menu.default, Some(0));
    // Most of them are boot loaders.
    let volumes = gpt(vec![
        esp().file("/EFI/BOOT/BOOTX64.EFI", pe(&[(".text", b"x")])),
    ]);
    assert!(fallback(&volumes, 0, "").is_none());
    assert!(fallback(&gpt(vec![esp()]), 0, "").is_none());
}

#[test]
fn boot_counting_is_no_part_of_a_folders_name() {
    for (name, want) in [
        ("a.efi", "a.efi"),
        ("a+3.efi", "a.efi"),
        ("a+3-1.efi", "a.efi"),
        ("a+3-.efi", "a+3-.efi"),
        ("a+b+3.efi", "a+b+3.efi"),
        ("a+3", "a"),
        ("a+3x.efi", "a+3x.efi"),
    ] {
        assert_eq!(without_counting(name), want);
    }
}

#[test]
fn too_long_a_command_line_is_refused() {
    let image = pe(&[(".linux", b"k"), (".cmdline", &[b'a'; 60_000])]);
    let addon = pe(&[(".cmdline", &[b'b'; 60_000])]);
    let volumes = gpt(vec![esp().file("/u.efi", &image).file("/a.efi", &addon)]);
    let place = |path: &str| Place {
        volume: 0,
        path: path.into(),
    };
    let open = |place: &Place| volumes.fs(place)?.open(&place.path);
    let (image, addon) = (place("/u.efi"), [place("/a.efi")]);
    assert!(parts(&open, &image, 0, &[], None).is_ok());
    let long = parts(&open, &image, 0, &addon, None);
    assert!(matches!(long, Err(UkiError::TooMuch(_))), "{long:?}");
    assert!(parts(&open, &image, 0, &addon, Some("short")).is_ok());
}
