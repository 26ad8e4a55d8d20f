//! Whole configurations, and the language.

use alloc::{format, vec};

use super::{configs::*, *};
use crate::{
    entry::{Entry, Kind, MenuStyle, Timeout},
    testfs::{TestFs, gpt},
};

const UUID: &str = "3f2a9c51-7d0e-4b7a-9c63-0d5f6d1b1e11";

pub(super) fn run_on(volumes: &Volumes<'_>, volume: usize, path: &str) -> Grub {
    let path = path.into();
    read(volumes, &Place { volume, path }, Platform::Pv)
}

/// A script on an ext4 with a kernel and an initrd.
pub(super) fn run(script: &str) -> Menu {
    let fs = TestFs::new("ext4", "root", "aa")
        .file("/grub/grub.cfg", script)
        .files(&["/k", "/i", "/j", "/xen.gz"]);
    run_on(&gpt(vec![fs]), 0, "/grub/grub.cfg").menu
}

/// What a script with one entry boots: kernel, initrds, command line.
pub(super) fn boots(entry: &Entry) -> (String, Vec<String>, String) {
    match entry.bootable() {
        Ok(Kind::Linux {
            kernel,
            initrds,
            cmdline,
        }) => (
            format!("{}:{}", kernel.volume, kernel.path),
            initrds.iter().map(|place| place.path.clone()).collect(),
            cmdline.clone(),
        ),
        other => panic!("{other:?}"),
    }
}

/// The command line that a script ends up with.
pub(super) fn cmdline(script: &str) -> String {
    let menu = run(&format!("{script}\nmenuentry x {{ linux /k $r }}"));
    assert!(menu.notes.is_empty(), "{script}: {:?}", menu.notes);
    boots(&menu.entries[0]).2
}

#[test]
fn an_initrd_without_a_file_is_an_error_of_that_command_alone() {
    let menu = run("menuentry x {\nlinux /k\ninitrd\nlinux /k r=$?\n}");
    assert_eq!(boots(&menu.entries[0]).2, "r=18");
    let notes = &menu.notes;
    assert!(
        notes.iter().any(|note| note.text.contains("names no file")),
        "{notes:?}"
    );
    for (script, problem) in [
        (
            "menuentry x {\ninitrd /i\nlinux /k\n}",
            "no `linux` before it",
        ),
        ("menuentry x {\nlinux\n}", "no file follows"),
    ] {
        let menu = run(script);
        let found = menu.entries[0].bootable().unwrap_err().unwrap();
        assert!(found.what.contains(problem), "{script}: {found:?}");
    }
}

fn submenu() -> TestFs {
    TestFs::new("ext4", "", UUID)
        .file("/boot/grub/grub.cfg", SUBMENU)
        .files(&["/boot/vmlinuz-2", "/boot/initrd-2", "/boot/vmlinuz-1"])
}

#[test]
fn kernels_in_a_submenu() {
    let Grub { menu, .. } = run_on(&gpt(vec![submenu()]), 0, "/boot/grub/grub.cfg");
    assert!(menu.notes.is_empty(), "{:?}", menu.notes);
    assert_eq!(menu.timeout, Some(Timeout::Seconds(5)));
    assert_eq!((menu.default, menu.entries.len()), (Some(0), 5));
    let (kernel, initrds, cmdline) = boots(&menu.entries[0]);
    assert_eq!(kernel, "0:/boot/vmlinuz-2");
    assert_eq!(initrds, ["/boot/initrd-2"]);
    assert_eq!(cmdline, "root=/dev/xvda1 ro quiet");
    assert_eq!(boots(&menu.entries[2]).2, "root=/dev/xvda1 ro single");
    // The older kernel's initrd is gone: that is a matter of its entries.
    let problem = menu.entries[3].problem.as_ref().unwrap();
    assert_eq!(problem.word, "/boot/initrd-1");
    let line = SUBMENU.lines().nth(problem.source.line as usize - 1);
    assert_eq!(line.unwrap().trim(), "initrd /boot/initrd-1");
}

#[test]
fn the_next_entry_of_the_environment() {
    let saved = "# GRUB Environment Block\nnext_entry=more-3f2a>repair-3f2a\n###";
    let fs = submenu().file("/boot/grub/grubenv", saved);
    let Grub { menu, .. } = run_on(&gpt(vec![fs]), 0, "/boot/grub/grub.cfg");
    assert_eq!(menu.default, Some(2));
    // It stays chosen, since nothing is written: that is told.
    assert!(
        menu.notes[0].text.contains("next_entry"),
        "{:?}",
        menu.notes
    );
}

#[test]
fn a_hypervisor_beside_the_kernels() {
    let fs = submenu()
        .file("/boot/grub/grub.cfg", HYPERVISOR)
        .file(
            "/boot/grub/grubenv",
            "# GRUB Environment Block\nsaved_entry=one\n",
        )
        .files(&["/boot/initrd-1", "/boot/xen.gz"]);
    let Grub { menu, .. } = run_on(&gpt(vec![fs]), 0, "/boot/grub/grub.cfg");
    // Both entries ask for it; it is told once.
    let notes: Vec<_> = menu.notes.iter().map(|note| note.source.line).collect();
    assert_eq!(notes, [4], "{:?}", menu.notes);
    assert!(
        menu.notes[0]
            .text
            .starts_with("saved_entry is not written back")
    );
    assert_eq!(menu.style, MenuStyle::Hidden);
    let default = &menu.entries[menu.default.unwrap()];
    assert_eq!(default.id, "one");
    assert_eq!(
        boots(default).2,
        "root=/dev/xvda1 ro console=hvc0 dyndbg=\"file x +p\" quiet"
    );
    let words: Vec<&str> = menu
        .entries
        .iter()
        .filter_map(|entry| Some(entry.problem.as_ref()?.word.as_str()))
        .collect();
    assert_eq!(words, ["xen_hypervisor", "xen_hypervisor"]);
}

#[test]
fn an_image_of_a_cloud() {
    let fs = TestFs::new("ext4", "cloud", "5b8a")
        .file("/boot/grub/grub.cfg", CLOUD)
        .files(&["/boot/vmlinuz", "/boot/initrd"]);
    let Grub { menu, .. } = run_on(&gpt(vec![fs]), 0, "/boot/grub/grub.cfg");
    assert!(menu.notes.is_empty(), "{:?}", menu.notes);
    assert_eq!(menu.timeout, Some(Timeout::Seconds(0)));
    assert_eq!(menu.style, MenuStyle::Hidden);
    let (_, initrds, cmdline) = boots(&menu.entries[0]);
    assert!(initrds.is_empty());
    assert_eq!(
        cmdline,
        "root=PARTUUID=0a3f8a10-d66d-4a3c-a0bd-8d6d6b1d0a01 ro console=tty1 console=ttyS0 \
         vt.handoff=7 panic=-1"
    );
    assert_eq!(boots(&menu.entries[1]).1, ["/boot/initrd"]);
    let problem = menu.entries[2].problem.as_ref().unwrap();
    assert_eq!(problem.word, "fwsetup");
}

#[test]
fn entries_that_a_script_takes_in() {
    let entry = |version: &str| {
        format!(
            "title A system ({version})\nversion {version}\nlinux /vmlinuz-{version}\n\
             initrd /initramfs-{version}.img $tuned_initrd\noptions $kernelopts $tuned_params\n\
             grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class fedora\n"
        )
    };
    let (old, new) = ("6.5.9-300.x86_64", "6.5.12-300.x86_64");
    let boot = |grubenv: &str| {
        let mut fs = TestFs::new("ext4", "", "6e9d-boot")
            .file("/grub2/grub.cfg", ENTRIES)
            .file(
                "/grub2/grubenv",
                format!("# GRUB Environment Block\n{grubenv}"),
            );
        for version in [old, new] {
            fs = fs
                .file(
                    &format!("/loader/entries/1f2e-{version}.conf"),
                    entry(version),
                )
                .file(&format!("/vmlinuz-{version}"), "k")
                .file(&format!("/initramfs-{version}.img"), "i");
        }
        let esp = TestFs::new("vfat", "", "").files(&["/x"]);
        let root = TestFs::new("btrfs", "", "b7f1a2c4-root").files(&["/root/etc/fstab"]);
        run_on(&gpt(vec![esp, fs, root]), 1, "/grub2/grub.cfg")
    };
    let grub = boot(&format!(
        "saved_entry=1f2e-{old}\nboot_success=1\nmenu_auto_hide=1\n"
    ));
    let menu = &grub.menu;
    assert_eq!(grub.blscfg.len(), 1);
    assert_eq!(menu.entries.len(), 2);
    assert_eq!(menu.entries[0].title, format!("A system ({new})"));
    assert_eq!(menu.default, Some(1));
    let (kernel, initrds, cmdline) = boots(&menu.entries[0]);
    assert_eq!(kernel, format!("1:/vmlinuz-{new}"));
    assert_eq!(initrds, [format!("/initramfs-{new}.img")]);
    assert_eq!(
        cmdline,
        "root=UUID=b7f1a2c4-root ro rootflags=subvol=root rhgb quiet"
    );
    assert_eq!(
        (menu.timeout, menu.style),
        (Some(Timeout::Seconds(1)), MenuStyle::Hidden)
    );
    // The counter has run out: the second entry.
    let grub = boot("boot_counter=0\nboot_success=0\nkernelopts=ro\ntuned_params=isolcpus=1\n");
    assert_eq!(grub.menu.default, Some(1));
    assert_eq!(boots(&grub.menu.entries[0]).2, "ro isolcpus=1");
}

#[test]
fn a_root_of_snapshots() {
    let root = "/@/.snapshots/1/snapshot";
    let snapshots = "if [ ! x$found = xtrue ]; then\n\
        submenu \"An older state\" {\n\
        source \"/.snapshots/2/snapshot.cfg\"\n\
        if [ x$found != xtrue ]; then\n\
        submenu \"None\" { true; }\nfi\n}\nfi\n";
    let snapshot = "set found=true\nmenuentry \"snapshot 2\" {\n\
        linux /.snapshots/2/snapshot/boot/vmlinuz-default\n}\n";
    let fs = TestFs::new("btrfs", "", "d41d")
        .file(&format!("{root}/boot/grub2/grub.cfg"), SNAPSHOTS)
        .file("/@/.snapshots/list.cfg", snapshots)
        .file("/@/.snapshots/2/snapshot.cfg", snapshot)
        .file("/@/.snapshots/2/snapshot/boot/vmlinuz-default", "k")
        .file(&format!("{root}/boot/vmlinuz-default"), "k")
        .file(&format!("{root}/boot/initrd-default"), "i")
        .file(&format!("{root}/boot/xen.gz"), "x");
    let esp = TestFs::new("vfat", "", "").files(&["/x"]);
    let grub = run_on(
        &gpt(vec![esp, fs]),
        1,
        &format!("{root}/boot/grub2/grub.cfg"),
    );
    let menu = grub.menu;
    assert!(menu.notes.is_empty(), "{:?}", menu.notes);
    assert_eq!(menu.entries.len(), 4);
    assert_eq!(menu.timeout, Some(Timeout::Seconds(8)));
    let (kernel, _, cmdline) = boots(&menu.entries[0]);
    assert_eq!(kernel, format!("1:{root}/boot/vmlinuz-default"));
    assert_eq!(cmdline, "root=UUID=d41d splash=silent quiet");
    let problem = menu.entries[2].problem.as_ref().unwrap();
    assert_eq!(problem.word, "multiboot2");
    assert_eq!(menu.entries[3].steps.len(), 2);
    assert!(menu.entries[3].bootable().is_ok());
}

#[test]
fn a_stub_on_the_esp_leads_elsewhere() {
    // In the two forms that installers write.
    for stub in [
        format!(
            "search.fs_uuid {UUID} root hd0,gpt2\n\
             set prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
        ),
        format!(
            "search --no-floppy --root-dev-only --fs-uuid --set=dev {UUID}\n\
             set prefix=($dev)/boot/grub\nexport $prefix\nconfigfile $prefix/grub.cfg\n"
        ),
    ] {
        let esp = TestFs::new("vfat", "", "").file("/EFI/debian/grub.cfg", stub);
        let grub = run_on(&gpt(vec![esp, submenu()]), 0, "/EFI/debian/grub.cfg");
        assert_eq!(grub.menu.entries.len(), 5, "{:?}", grub.menu.notes);
        assert_eq!(boots(&grub.menu.entries[0]).0, "1:/boot/vmlinuz-2");
        assert_eq!(grub.configs.len(), 2);
        assert_eq!(grub.configs[1].volume, 1);
    }
}

#[test]
fn command_lines_stay_as_they_are() {
    for (words, want) in [
        ("a  b", "a b"),
        ("'a b' c", "\"a b\" c"),
        ("dyndbg=\\\"file x +p\\\"", "dyndbg=\"file x +p\""),
        ("a=\\\\x2d b='it'\"'\"'s'", "a=\\x2d b=it's"),
        ("$none \"\" x", "x"),
    ] {
        let menu = run(&format!("menuentry x {{ linux /k {words}\n }}"));
        assert_eq!(boots(&menu.entries[0]).2, want, "{words}");
    }
}

#[test]
fn entries_know_nothing_of_each_other() {
    let menu = run(
        "set a=1\nmenuentry 1 { set a=2; export a; linux /k a=$a; initrd /i /j }\n\
         menuentry 2 { nonsense }\nmenuentry 3 { if x\n}\n\
         menuentry 4 arg --id four { linux /k a=$a $2 $chosen }\n\
         submenu s { set b=1\nmenuentry 5 { linux /k a=$a b=$b } }\n\
         menuentry 6 { true }\nmenuentry 7 { initrd /i }\nmenuentry 8 { linux /gone }\n\
         menuentry 9 { linux (lvm/x)/k }\n",
    );
    // What is broken is no entry to GRUB, either.
    assert_eq!(menu.entries.len(), 8);
    assert!(menu.notes[0].text.contains("`then` must stand here"));
    assert_eq!(
        boots(&menu.entries[0]),
        ("0:/k".into(), vec!["/i".into(), "/j".into()], "a=2".into())
    );
    assert_eq!(boots(&menu.entries[2]).2, "a=1 arg four");
    assert_eq!(boots(&menu.entries[3]).2, "a= b=1");
    for (index, line, word) in [
        (1, 3, "nonsense"),
        (4, 9, "6"),
        (5, 10, "initrd"),
        (6, 11, "/gone"),
        (7, 12, "(lvm/x)/k"),
    ] {
        let problem = menu.entries[index].problem.as_ref().unwrap();
        assert_eq!((problem.source.line, &*problem.word), (line, word));
    }
}

#[test]
fn what_no_guest_can_do_is_the_entrys_problem() {
    for command in [
        "multiboot2 /xen.gz",
        "multiboot /xen.gz",
        "xen_hypervisor /xen.gz",
        "chainloader /k",
        "chainloader +1",
        "fwsetup",
        "reboot",
        "loopback loop /k",
        "initrd newc:x:/i",
        "legacy_configfile /menu.lst",
        "knetbsd /k",
    ] {
        let menu = run(&format!("menuentry x {{\n {command}\n}}"));
        let problem = menu.entries[0].problem.as_ref().unwrap();
        assert_eq!(problem.source.line, 2, "{command}");
    }
    // Outside entries it is a doubt, and what is behind it counts.
    let menu = run("nonsense 1\nmenuentry x { linux /k }\nfi\nmenuentry y { linux /k }");
    // A mistake of the language is none to GRUB alone.
    let counts = (menu.entries.len(), menu.doubts.len(), menu.notes.len());
    assert_eq!(counts, (2, 1, 1));
}

#[test]
fn the_guests_own_boot_loader_is_chained_to() {
    let fs = TestFs::new("ext4", "", "")
        .file(
            "/g.cfg",
            "menuentry x { multiboot /boot/xen/pvboot-x86_64.elf\nboot }",
        )
        .files(&["/boot/xen/pvboot-x86_64.elf"]);
    let menu = run_on(&gpt(vec![fs]), 0, "/g.cfg").menu;
    assert!(matches!(menu.entries[0].bootable(), Ok(Kind::Chain { .. })));
}

#[test]
fn unified_images_are_chainloaded() {
    let image = crate::bls::uki::tests::image(&[(".linux", b"k")]);
    let fs = TestFs::new("vfat", "", "")
        .file(
            "/g.cfg",
            "menuentry x { chainloader /EFI/Linux/a.efi quiet }",
        )
        .file("/EFI/Linux/a.efi", image);
    let menu = run_on(&gpt(vec![fs]), 0, "/g.cfg").menu;
    let Ok(Kind::Uki { cmdline, .. }) = menu.entries[0].bootable() else {
        panic!("{menu:?}");
    };
    assert_eq!(cmdline.as_deref(), Some("quiet"));
}

#[test]
fn the_default_is_found() {
    let entries = "menuentry a --id A { linux /k }\nsubmenu b --id B {\n\
        menuentry 'c > d' --id C { linux /k }\nmenuentry e { linux /k } }\n\
        menuentry f { linux /k }\n";
    for (default, index) in [
        ("0", 0),
        ("2", 3),
        ("1>1", 2),
        ("1", 1),
        ("B>C", 1),
        ("b>e", 2),
        ("b>c >> d", 1),
        ("f", 3),
        ("", 0),
        ("0x1>01", 2),
        (" 2 ", 3),
    ] {
        let menu = run(&format!("set default='{default}'\n{entries}"));
        assert_eq!(menu.default, Some(index), "{default}");
        assert!(menu.notes.is_empty());
    }
    // Neither an entry of another menu nor blanks are in a name.
    for default in ["C", "b > e", "-1", "5", "99999999999999999999"] {
        let menu = run(&format!("set default='{default}'\n{entries}"));
        assert_eq!((menu.default, menu.notes.len()), (Some(0), 1), "{default}");
    }
    let menu = run(&format!(
        "default=f; fallback='1 2>1 0'; timeout=-1; timeout_style=countdown\n\
         {entries}"
    ));
    assert_eq!((menu.default, menu.fallback), (Some(3), vec![1, 3]));
    assert_eq!(
        (menu.timeout, menu.style),
        (Some(Timeout::Forever), MenuStyle::Countdown)
    );
    // A submenu may have a default of its own.
    let menu = run(&format!(
        "default=1; export default\nsubmenu x {{ default=1\n{entries} }}\n{entries}"
    ));
    assert_eq!(menu.default, Some(4));
    let menu = run(&format!(
        "default='1>1'\nmenuentry z {{ linux /k }}\nsubmenu x {{ {entries} }}"
    ));
    assert_eq!(menu.default, Some(2));
    for (timeout, want) in [
        ("4s", Some(Timeout::Seconds(4))),
        ("010", Some(Timeout::Seconds(8))),
        ("' 7'", Some(Timeout::Seconds(7))),
        ("4294967295", Some(Timeout::Forever)),
    ] {
        assert_eq!(
            run(&format!("timeout={timeout}\n{entries}")).timeout,
            want,
            "{timeout}"
        );
    }
    let menu = run(&format!(
        "default=9; timeout=soon; superusers=root\n{entries}"
    ));
    assert_eq!(
        (menu.default, menu.timeout, menu.notes.len()),
        (Some(0), None, 3)
    );
}

#[test]
fn everything_ends() {
    for script in [
        "while true; do true; done",
        "function f { f; }\nf",
        "function f { f; f; }\nf",
        "function f { eval 'f; f'; }\nf",
        "x='eval $x'\neval $x",
        "set a=aaaaaaaaaaaaaaaa\nwhile true; do set a=\"$a$a\"; done",
        "while true; do set b=$b.; eval set v$b=x; done",
        "source /grub/grub.cfg\nsource /grub/grub.cfg",
        "configfile /grub/grub.cfg",
        "while true; do configfile /grub/grub.cfg; done",
        "while true; do menuentry x { true }; done",
        "for a in 1 2 3 4 5 6 7 8; do for b in 1 2 3 4 5 6 7 8; do search --file /x; blscfg; done; done",
        "function f { menuentry x { f; } }\nf",
        "x='a a a a a a a a'; for i in 1 2 3 4 5 6; do x=\"$x $x\"; done; while true; do [ $x ]; done",
        "submenu a { submenu b { submenu c { submenu d { submenu e { menuentry f { true } } } } } }",
    ] {
        let menu = run(script);
        assert!(
            !menu.doubts.is_empty() || !menu.notes.is_empty() || !menu.entries.is_empty(),
            "{script}"
        );
        let within = format!("menuentry x {{ {script}\n }}\nmenuentry y {{ linux /k }}");
        let menu = run(&within);
        // A configuration that leads to itself, or is full, has no other ones.
        if !["configfile", "source", "menuentry"]
            .iter()
            .any(|word| script.contains(word))
        {
            assert!(menu.entries.last().unwrap().bootable().is_ok(), "{script}");
        }
    }
}

#[test]
fn real_configurations_take_few_steps() {
    let grub = run_on(&gpt(vec![submenu()]), 0, "/boot/grub/grub.cfg");
    assert!(grub.steps < 4000, "{}", grub.steps);
    // Memory for what is read has a bound, too; what is before it stays.
    for long in ["a;", "$a", "'a'b", "\"$a$b\" "] {
        let long = long.repeat(1_000_000 / long.len());
        let menu = run(&format!("menuentry x {{ linux /k }}\n{long}"));
        assert!(
            (menu.doubts.iter()).any(|note| {
                let text = &note.text;
                text.contains("more than 32768") || text.contains("more than 256 parts")
            }),
            "{:?}",
            menu.doubts
        );
        assert!(menu.entries.first().unwrap().bootable().is_ok());
    }
}

fn volumes_with(script: &[u8]) -> Volumes<'static> {
    gpt(vec![
        submenu()
            .file("/boot/grub/grub.cfg", script)
            .file("/boot/grub/grubenv", script),
    ])
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(0_u8.., 0..300)) {
        let grub = run_on(&volumes_with(&bytes), 0, "/boot/grub/grub.cfg");
        assert!(grub.steps <= MAX_STEPS);
    }

    #[test]
    fn random_words_never_panic(
        words in "((if|then|fi|for|in|do|done|while|true|function|f|menuentry|\\{|\\}|;|\n|\"|\
            \\$x|x=|search|eval|\\[|\\]|=|linux|initrd|/k|break|configfile|source|shift) ?){0,80}"
    ) {
        let _ = run(&words);
    }

    #[test]
    fn changed_configurations_never_panic(
        which in 0_usize..5,
        changes in proptest::collection::vec((0_usize..20_000, 0_u8..), 1..8),
        cut in 0_usize..20_000,
    ) {
        let mut text = [SUBMENU, HYPERVISOR, CLOUD, ENTRIES, SNAPSHOTS][which].as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at % text.len();
            text[at] = byte;
        }
        let grub = run_on(&volumes_with(&text), 0, "/boot/grub/grub.cfg");
        assert!(grub.steps <= MAX_STEPS);
        text.truncate(cut);
        let grub = run_on(&volumes_with(&text), 0, "/boot/grub/grub.cfg");
        assert!(grub.steps <= MAX_STEPS);
    }
}
