//! Scripts as people have them: a test for each kind that was once read
//! otherwise than GRUB reads it.

use alloc::{format, vec};

use super::*;
use crate::{
    entry::{Entry, Kind, Timeout},
    testfs::{TestFs, gpt},
};

const ENV: &str = "# GRUB Environment Block\n";

fn read_at(volumes: &Volumes<'_>, volume: usize, path: &str, platform: Platform) -> Menu {
    let path = path.into();
    read(volumes, &Place { volume, path }, platform).menu
}

/// Kernel, initrds and command line: `1:/k /i /j: words`.
fn boots(entry: &Entry) -> String {
    match entry.bootable() {
        Ok(Kind::Linux {
            kernel,
            initrds,
            cmdline,
        }) => {
            let mut text = format!("{}:{}", kernel.volume, kernel.path);
            for initrd in initrds {
                text.push_str(&format!(" {}", initrd.path));
            }
            format!("{text}: {cmdline}")
        }
        other => panic!("{other:?}"),
    }
}

/// What a script sets `r` to, on an ESP with a root and a copy of it behind.
fn value(script: &str, platform: Platform) -> String {
    let esp = TestFs::new("vfat", "ESP", "1234-ABCD").files(&["/EFI/x"]);
    let root = || TestFs::new("ext4", "root", "aa").files(&["/k", "/dir/file"]);
    let root = root().file(
        "/grub.cfg",
        format!("{script}\nmenuentry x {{ linux ($home)/k \"$r\" }}"),
    );
    let copy = TestFs::new("ext4", "root", "aa").files(&["/k"]);
    let script = gpt(vec![esp, root, copy]);
    let menu = read_at(&script, 1, "/grub.cfg", platform);
    boots(&menu.entries[0]).rsplit_once(": ").unwrap().1.into()
}

/// As `grub-emu` 2.06 finds it, but for the names of disks.
#[test]
fn options_of_search_take_the_next_word() {
    let esp = "xen/xvda,gpt1";
    let root = "xen/xvda,gpt2";
    let copy = "xen/xvda,gpt3";
    for (command, want) in [
        ("search --fs-uuid 1234-ABCD --set r", esp),
        ("search --fs-uuid 1234-abcd --set r --no-floppy", esp),
        // Of two with one name it is the last.
        ("search --no-floppy --set r --fs-uuid AA", copy),
        ("search --label --set r ESP", esp),
        ("search --label ESP --set=r", esp),
        ("search -s r -l ESP", esp),
        ("search -ls r ESP", esp),
        ("search -n -u --hint hd0,gpt2 aa --set r", root),
        ("search -u --hint hd0,gpt2 --set=r aa", root),
        ("search -u -h hd0,gpt2 --set=r aa", root),
        ("search --fs-uuid --set=r --hint=hd0, aa", root),
        (
            "search --fs-uuid --set=r --hint-baremetal hd0,gpt2 aa",
            root,
        ),
        // Hints for other platforms do not count.
        ("search --fs-uuid --set=r --hint-efi hd0,gpt2 aa", copy),
        ("search --fs-uuid --set=r --hint-bios hd0,gpt2 aa", copy),
        ("search --fs-uuid --set=r --hint-other=hd0,gpt2 aa", copy),
        // The first kind in GRUB's list counts, not the first or last here.
        ("search --fs-uuid --label --set=r ESP", esp),
        ("search --file --fs-uuid --set=r aa", copy),
        ("search --file /dir/file --set r", root),
        ("search.fs_label ESP r", esp),
        ("search.fs_uuid aa r hd0,gpt2", root),
        // Where there is no other word, the variable's name is what is sought.
        ("search --label --set ESP; r=$root", esp),
        ("search --label --set=ESP; r=$root", esp),
    ] {
        let script = format!("home=$root\n{command}");
        assert_eq!(value(&script, Platform::Pvh), want, "{command}");
    }
    let command = "home=$root\nsearch --fs-uuid --set=r --hint-bios hd0,gpt2 aa";
    assert_eq!(value(command, Platform::Hvm), root);
    for fails in [
        "search --set=r aa",
        "search --fs-uuid --set=r",
        "search --file --set=r /dir",
        "search --file --set=r dir/file",
        "search --fs-uuid --set=r --hint",
        "search --file=/k --set=r",
        "search --fs-uuid --set=r \"\"",
    ] {
        let script = format!("home=$root\nif {fails}; then r=found; else r=\"not$r\"; fi");
        assert_eq!(value(&script, Platform::Pv), "not", "{fails}");
    }
}

/// RHEL's: ESP, /boot and root; `grub.cfg` on the ESP sets `boot` to it.
#[test]
fn entries_are_those_of_root_not_of_boot() {
    let cfg = "load_env -f ($root)/grub2/grubenv\nset default=\"${saved_entry}\"\n\
        set timeout=5\nset boot='hd0,gpt1'\nset root='hd0,gpt2'\n\
        if [ -s ($boot)/EFI/redhat/grubenv ]; then load_env -f ($boot)/EFI/redhat/grubenv; fi\n\
        set default=\"${saved_entry}\"\nblscfg\n";
    let id = |version: &str| format!("c0ffee-{version}.el8.x86_64");
    let entry = |version: &str| {
        format!(
            "title A system ({version})\nversion {version}\nlinux /vmlinuz-{version}\n\
             initrd /initramfs-{version}.img $tuned_initrd\noptions $kernelopts $tuned_params\n\
             id x\ngrub_users $grub_users\ngrub_arg --unrestricted\ngrub_class kernel\n"
        )
    };
    let (old, new) = ("4.18.0-80", "4.18.0-193");
    let esp = || {
        TestFs::new("vfat", "", "")
            .file("/EFI/redhat/grub.cfg", cfg)
            .file(
                "/EFI/redhat/grubenv",
                format!("{ENV}saved_entry={}\nkernelopts=root=/dev/x ro\n", id(old)),
            )
    };
    let mut boot = TestFs::new("xfs", "", "");
    for version in [old, new, "0-rescue"] {
        boot = boot
            .file(
                &format!("/loader/entries/{}.conf", id(version)),
                entry(version),
            )
            .files(&[
                &format!("/vmlinuz-{version}"),
                &format!("/initramfs-{version}.img"),
            ]);
    }
    let root = TestFs::new("xfs", "", "").files(&["/etc/fstab"]);
    let volumes = gpt(vec![esp(), boot, root]);
    let menu = read_at(&volumes, 0, "/EFI/redhat/grub.cfg", Platform::Hvm);
    assert!(menu.notes.is_empty(), "{:?}", menu.notes);
    assert_eq!(menu.doubts, []);
    let titles: Vec<&str> = menu.entries.iter().map(|one| one.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "A system (4.18.0-193)",
            "A system (4.18.0-80)",
            "A system (0-rescue)"
        ]
    );
    assert_eq!(menu.default, Some(1));
    assert_eq!(menu.timeout, Some(Timeout::Seconds(5)));
    assert_eq!(
        boots(&menu.entries[1]),
        "1:/vmlinuz-4.18.0-80 /initramfs-4.18.0-80.img: root=/dev/x ro"
    );
}

/// A grub.cfg with `blscfg` and one entry, `/loader/entries/a.conf`.
fn with_entry(cfg: &str, entry: &str) -> Menu {
    let fs = TestFs::new("ext4", "", "")
        .file("/grub.cfg", cfg)
        .file("/loader/entries/a.conf", entry)
        .file("/loader/entries/b.conf", "title B\nefi /x.efi\n")
        .file("/loader/entries/c.CONF", "linux /k\n")
        .file("/loader/entries/.d.conf", "linux /k\n")
        .file("/own/e.conf", "title E\nlinux /k\n")
        .files(&["/k", "/i", "/j", "/early", "/boot/k"]);
    read_at(&gpt(vec![fs]), 0, "/grub.cfg", Platform::Pv)
}

#[test]
fn entries_are_run_as_scripts() {
    for (cfg, entry, want) in [
        ("blscfg", "title T\nlinux /k\n", "0:/k: "),
        // The first value of a key; several initrds.
        (
            "blscfg",
            "linux /k\nlinux /no\noptions a\noptions b\ninitrd /i\ninitrd /j",
            "0:/k /i /j: a",
        ),
        (
            "x='1 2'; blscfg",
            "linux /k\noptions a $x b",
            "0:/k: a 1 2 b",
        ),
        (
            "blscfg",
            "linux /k\noptions a $x b '$x  y' #c",
            "0:/k: a b \" y\"",
        ),
        (
            "x=1; blscfg",
            "linux /k\noptions \"a b\"\\$x=$x",
            "0:/k: \"a b$x=1\"",
        ),
        (
            "early_initrd='early j'; blscfg",
            "linux /k\ninitrd /i",
            "0:/k /early /j /i: ",
        ),
        ("early_initrd=early; blscfg", "linux /boot/k", ""),
        ("early_initrd=early; blscfg", "linux /k", "0:/k /early: "),
        (
            "default_kernelopts='ro $x'; x=1; blscfg",
            "linux /k",
            "0:/k: ro 1",
        ),
        ("blscfg", "linux /k\ninitrd /i $more", "0:/k /i: "),
        (
            "blscfg; more=/j",
            "linux /k\ninitrd /i $more",
            "0:/k /i /j: ",
        ),
        ("blsdir=/own; blscfg", "linux /gone", "0:/k: "),
        ("blscfg ($root)/own", "linux /gone", "0:/k: "),
        ("blscfg --path=/own", "linux /gone", "0:/k: "),
        ("blscfg -p ($root)/own/e.conf", "linux /gone", "0:/k: "),
        ("blscfg -f --path /none", "linux /k", "0:/k: "),
    ] {
        let menu = with_entry(cfg, entry);
        assert_eq!(menu.entries.len(), 1, "{cfg}: {menu:?}");
        match want {
            "" => assert_eq!(
                menu.entries[0].problem.as_ref().unwrap().word,
                "($root)/boot/early".replace("($root)", "(xen/xvda,gpt1)")
            ),
            want => assert_eq!(boots(&menu.entries[0]), want, "{cfg} {entry}"),
        }
    }
    // What is wrong names the entry's own line; what ends the file is said.
    let menu = with_entry("blscfg", "title T\nlinux /gone\n");
    let problem = menu.entries[0].problem.as_ref().unwrap();
    assert_eq!(
        (problem.source.line, &*problem.source.place.path),
        (2, "/loader/entries/a.conf")
    );
    let menu = with_entry("blscfg", "linux /k\n\noptions ro\n");
    assert_eq!(boots(&menu.entries[0]), "0:/k: ");
    assert_eq!(menu.notes[0].source.line, 2);
    let menu = with_entry("blscfg", "linux /boot/k\n");
    assert_eq!(menu.entries[0].title, "/boot/k");
}

#[test]
fn some_entries_can_be_chosen() {
    let entry = "title A\nlinux /k\n";
    for (cfg, count) in [
        ("blscfg", 1),
        ("blscfg; blscfg", 1),
        ("default=a; blscfg --show-default", 1),
        ("default=A; blscfg default", 1),
        ("default=0; blscfg -d", 1),
        ("default=1; blscfg -d", 0),
        ("default=a; blscfg --show-non-default", 0),
        ("default=a; blscfg non-default", 0),
        ("blscfg -n", 1),
        ("blscfg a", 1),
        ("blscfg b", 0),
        ("blscfg --entry=a.conf", 1),
        ("blscfg --entry=c", 0),
        ("blscfg --path=/none", 0),
        ("blscfg --what", 0),
    ] {
        assert_eq!(with_entry(cfg, entry).entries.len(), count, "{cfg}");
    }
}

/// openSUSE's, and Debian's since GRUB 2.14: `grubenv` names the block.
#[test]
fn the_environment_may_be_outside_files() {
    let cfg = "if [ -s $prefix/grubenv ]; then load_env; fi\n\
        if [ \"${env_block}\" ] ; then set env_block=\"(${root})${env_block}\"\n\
        export env_block\nload_env -f \"${env_block}\"\nfi\n\
        if [ \"${next_entry}\" ] ; then set default=\"${next_entry}\"\nset next_entry=\n\
        if [ \"${env_block}\" ] ; then save_env -f \"${env_block}\" next_entry\n\
        else save_env next_entry; fi\nelse set default=\"${saved_entry}\"; fi\n\
        menuentry 1 --id one { linux /k }\nmenuentry 2 --id two { linux /k }\n";
    let on = |list: &str, block: &str| {
        let fs = TestFs::new("btrfs", "", "")
            .file("/boot/grub2/grub.cfg", cfg)
            .file("/boot/grub2/grubenv", format!("{ENV}env_block={list}\n###"))
            .files(&["/k"])
            .raw(
                512 * 512,
                format!("{block}{}", "#".repeat(512 - block.len())).as_bytes(),
            );
        read_at(&gpt(vec![fs]), 0, "/boot/grub2/grub.cfg", Platform::Hvm)
    };
    let menu = on("512+1", &format!("{ENV}saved_entry=two\n"));
    assert_eq!((menu.default, &*menu.doubts), (Some(1), [].as_slice()));
    let menu = on("512+1", &format!("{ENV}next_entry=two\nsaved_entry=one\n"));
    assert_eq!(menu.default, Some(1));
    assert!(
        menu.notes[0].text.contains("next_entry"),
        "{:?}",
        menu.notes
    );
    // What cannot be read is said: GRUB may know more.
    for (list, block, why) in [
        ("512+1", "saved_entry=two\n", "no environment block"),
        ("2048+1", "", "beyond the partition's end"),
        ("512+", "", "more than 65536 bytes"),
        ("what", "", "no list of sectors"),
    ] {
        let menu = on(list, block);
        assert_eq!(menu.default, Some(0));
        let doubt = &menu.doubts[0];
        assert_eq!(doubt.source.line, 4);
        assert!(doubt.text.contains(why), "{doubt}");
        assert!(doubt.text.contains("the default may be another"), "{doubt}");
    }
}

#[test]
fn an_environment_that_cannot_be_read_is_a_doubt() {
    for (cfg, doubts) in [
        ("load_env", 0),
        ("load_env -f ($root)/grubenv", 1),
        ("load_env --file ($root)/none", 0),
        ("load_env -f (lvm/vg-boot)/grubenv", 1),
        ("load_env --what", 1),
    ] {
        let fs = TestFs::new("ext4", "", "")
            .file(
                "/grub/grub.cfg",
                format!("{cfg}\nmenuentry x {{ linux /k }}"),
            )
            .file("/grubenv", "no block")
            .files(&["/k"]);
        let menu = read_at(&gpt(vec![fs]), 0, "/grub/grub.cfg", Platform::Pv);
        assert_eq!(menu.doubts.len(), doubts, "{cfg}: {:?}", menu.doubts);
        assert_eq!(menu.default, Some(0));
    }
}

#[test]
fn files_know_what_they_are_called() {
    let list = "r=\"$r $config_file $config_directory\"\n";
    let fs = TestFs::new("ext4", "", "")
        .file(
            "/grub/grub.cfg",
            format!(
                "{list}source /other/a.cfg\n{list}source /gone\n{list}\
                     menuentry x {{ linux /k $r [$config_file] }}"
            ),
        )
        .file("/other/a.cfg", list)
        .files(&["/k"]);
    let menu = read_at(&gpt(vec![fs]), 0, "/grub/grub.cfg", Platform::Pv);
    let own = "/grub/grub.cfg /grub";
    let all = boots(&menu.entries[0]).replace("(xen/xvda,gpt1)", "");
    assert_eq!(
        all,
        format!("0:/k: {own} /other/a.cfg /other {own} {own} []")
    );
}

#[test]
fn a_configuration_without_a_menu_comes_back() {
    let fs = |other: &str| {
        let fs = TestFs::new("ext4", "", "")
            .file(
                "/grub/grub.cfg",
                "a=1; configfile /other.cfg\nmenuentry x { linux /k $a $b }",
            )
            .file("/other.cfg", other)
            .files(&["/k"]);
        let menu = read_at(&gpt(vec![fs]), 0, "/grub/grub.cfg", Platform::Pv);
        boots(&menu.entries[0])
    };
    assert_eq!(fs("a=2; b=3"), "0:/k: 1");
    assert_eq!(fs("menuentry y { linux /k other }"), "0:/k: other");
}

/// As `grub-emu` 2.06 does, on an image with the same files.
#[test]
fn wildcards_are_names_of_files() {
    let on = |script: &str| {
        let files = [
            "/boot/a.cfg",
            "/boot/b.cfg",
            "/boot/e[1].cfg",
            "/boot/d/z.cfg",
            "/k",
        ];
        let first = TestFs::new("ext4", "", "").files(&files).file(
            "/grub.cfg",
            format!("home=$root\n{script}\nmenuentry x {{ linux ($home)/k \"$r\" }}"),
        );
        let second = TestFs::new("vfat", "", "").files(&["/boot/d/z.cfg"]);
        let volumes = gpt(vec![first, second]);
        let menu = read_at(&volumes, 0, "/grub.cfg", Platform::Pv);
        let all = boots(&menu.entries[0]);
        String::from(all.split_once(": ").unwrap().1)
    };
    for (word, want) in [
        ("/boot/*.cfg", "/boot/e[1].cfg /boot/b.cfg /boot/a.cfg"),
        ("/boot/[ab].cfg", "/boot/[ab].cfg"),
        ("/boot/?.cfg", "/boot/b.cfg /boot/a.cfg"),
        (
            "'/boot/?.cfg' \"/boot/*\" /boot/\\*",
            "/boot/?.cfg /boot/* /boot/*",
        ),
        ("/b*/d/*.cfg", "/boot/d/z.cfg"),
        ("/boot/*/z.cfg", "/boot/d/z.cfg"),
        ("/boot/none* *.cfg", "/boot/none* *.cfg"),
        ("boot/*", "boot/*"),
        ("(*)/boot", "(xen/xvda,gpt2)/boot (xen/xvda,gpt1)/boot"),
        (
            "(hd0,gpt*)/boot/*.cfg",
            "(hd0,gpt1)/boot/e[1].cfg (hd0,gpt1)/boot/b.cfg (hd0,gpt1)/boot/a.cfg",
        ),
        ("($root)/boot/d/*", "(xen/xvda,gpt1)/boot/d/z.cfg"),
        ("$p \"$p\"", "/boot/b.cfg /boot/a.cfg /boot/?.cfg"),
    ] {
        let script = format!("p='/boot/?.cfg'\nfor x in {word}; do r=\"$r $x\"; done");
        assert_eq!(on(&script).trim_matches(['"', ' ']), want, "{word}");
    }
    // VyOS': each version has a file of its own.
    let script = "for x in /boot/*.cfg; do if regexp '/([a-z]).cfg$' $x --set 1:v; then \
        r=\"$r$v\"; fi; done";
    assert_eq!(on(script), "ba");
}

#[test]
fn parts_that_fit_are_variables() {
    for (command, want) in [
        (
            "regexp --set=1:a --set 2:r '^(.*)/([^/]*)$' /x/y/z; r=$a:$r",
            "/x/y:z",
        ),
        ("regexp --set r 'a(.)c' xabcx", "b"),
        ("regexp -s 0:r 'a(.)c' xabcx", "abc"),
        ("r=old; regexp --set r '(x)|y' y; r=[$r]", "[]"),
        ("r=old; regexp --set r '(x)' y; r=$?$r", "1old"),
        ("regexp --set r x; r=$?", "18"),
        ("regexp '[' x; r=$?", "1"),
    ] {
        assert_eq!(
            value(&format!("home=$root\n{command}"), Platform::Pv),
            want,
            "{command}"
        );
    }
}

#[test]
fn variables_of_the_guest_are_variables_of_the_script() {
    let cfg = "if [ \"$xen_grub_env_mode\" = rescue ]; then set default=two; fi\n\
        submenu s { menuentry 1 --id one { linux /k $xen_grub_env_more } }\n\
        menuentry 2 --id two { linux /k }\n";
    let fs = TestFs::new("ext4", "", "")
        .file("/grub.cfg", cfg)
        .files(&["/k"]);
    let place = Place {
        volume: 0,
        path: "/grub.cfg".into(),
    };
    let line = "ro xen_grub_env_mode=rescue xen_grub_env_more='a b' mode=x";
    let guest = Guest {
        platform: Platform::Pvh,
        variables: variables::of(line),
    };
    let menu = read(&gpt(vec![fs]), &place, guest).menu;
    assert_eq!(menu.default, Some(1));
    assert_eq!(boots(&menu.entries[0]), "0:/k: a b");
}

#[test]
fn kernels_of_other_systems_need_xens_notes() {
    let elf = notes::tests::elf(true, b"Xen\0", 18);
    let fs = || {
        TestFs::new("ext4", "", "")
            .file("/netbsd", &elf)
            .file("/pc", notes::tests::elf(true, b"BSD\0", 18))
            .files(&["/k", "/module"])
    };
    let entry = |body: &str| {
        let cfg = format!("set kFreeBSD.a.b=c\nmenuentry x {{\n{body}\n}}");
        let volumes = gpt(vec![fs().file("/grub.cfg", cfg)]);
        read_at(&volumes, 0, "/grub.cfg", Platform::Pvh)
            .entries
            .remove(0)
    };
    for (body, want) in [
        ("knetbsd /netbsd", "0:/netbsd: "),
        ("knetbsd -s -r xbd0a /netbsd", "0:/netbsd: -s root=xbd0a"),
        ("knetbsd --root=xbd0a -h /netbsd", "0:/netbsd: root=xbd0a"),
        (
            "kfreebsd /netbsd\nkfreebsd_loadenv /none",
            "0:/netbsd: a.b=c",
        ),
        ("multiboot2 /netbsd a b", "0:/netbsd: a b"),
        ("multiboot --quirk-bad-kludge /netbsd", "0:/netbsd: "),
    ] {
        assert_eq!(boots(&entry(body)), want, "{body}");
    }
    for (body, line, word) in [
        ("knetbsd /pc", 3, "knetbsd"),
        ("kfreebsd /k", 3, "kfreebsd"),
        ("knetbsd -s", 3, "knetbsd"),
        ("multiboot2 /none", 3, "/none"),
        ("multiboot2 /netbsd\nmodule2 /module", 4, "module2"),
        (
            "kfreebsd /netbsd\nkfreebsd_module /module",
            4,
            "kfreebsd_module",
        ),
        ("kopenbsd /bsd", 3, "kopenbsd"),
    ] {
        let problem = entry(body).problem.unwrap();
        assert_eq!(
            (problem.source.line, &*problem.word),
            (line, word),
            "{body}"
        );
    }
}
