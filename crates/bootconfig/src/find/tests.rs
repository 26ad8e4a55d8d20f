use super::*;
use crate::{
    entry::Timeout,
    testfs::{TestFs, gpt},
};
use alloc::vec;

const SIMPLE: &str = "set timeout=7\nset default=1\nmenuentry one --id one { linux /k one }\n\
    menuentry two --id two { linux /k two }\n";

fn ids(found: &Found) -> Vec<&str> {
    let ids = found.menu.entries.iter().map(|entry| entry.id.as_str());
    ids.collect()
}

fn default(found: &Found) -> &str {
    &found.menu.entries[found.menu.default.unwrap()].id
}

fn bls(fs: TestFs, folder: &str, name: &str) -> TestFs {
    fs.file(
        &format!("{folder}/loader/entries/{name}.conf"),
        format!("title {name}\nlinux /k\noptions {name}\n"),
    )
}

#[test]
fn every_place_is_looked_at() {
    let label = "label a\nlinux /k\n";
    for path in GRUB {
        let fs = TestFs::new("ext4", "", "")
            .file(path, SIMPLE)
            .files(&["/k"]);
        let found = find(&gpt(vec![TestFs::new("xfs", "", ""), fs]), Platform::Pv);
        assert_eq!(ids(&found), ["one", "two"], "{path}");
        assert_eq!(default(&found), "two");
        assert_eq!(found.menu.timeout, Some(Timeout::Seconds(7)));
        let btrfs = TestFs::new("btrfs", "", "")
            .file(&format!("/@{path}"), SIMPLE)
            .files(&["/@/k", "/@/etc/fstab"]);
        assert_eq!(find(&gpt(vec![btrfs]), Platform::Pv).menu.entries.len(), 2);
    }
    for path in EXTLINUX {
        let fs = TestFs::new("ext4", "", "").file(path, label).files(&["/k"]);
        let found = find(&gpt(vec![fs]), Platform::Pv);
        assert_eq!(ids(&found), ["a"], "{path}");
    }
    for path in BLS {
        let fs = bls(TestFs::new("vfat", "", "").files(&["/k"]), path, "x");
        assert_eq!(
            ids(&find(&gpt(vec![fs]), Platform::Pv)),
            ["x.conf"],
            "{path}"
        );
    }
    for path in CHAIN {
        let fs = || TestFs::new("ext4", "", "").files(&[path]);
        let found = find(&gpt(vec![fs()]), Platform::Pv);
        assert!(found.menu.entries[0].bootable().is_ok());
        let found = find(&gpt(vec![fs()]), Platform::Pvh);
        assert!(found.menu.entries[0].bootable().is_err());
    }
    let found = find(&gpt(vec![]), Platform::Pv);
    assert_eq!(found, Found::default());
}

#[test]
fn the_image_that_firmware_starts_is_the_last_resort() {
    let image = bls::uki::tests::image(&[(".linux", b"k"), (".osrel", b"ID=x\n")]);
    let esp = || TestFs::new("vfat", "", "").file("/EFI/BOOT/BOOTX64.EFI", &image);
    let found = find(&gpt(vec![esp()]), Platform::Pvh);
    assert_eq!(ids(&found), ["BOOTX64.EFI"]);
    assert_eq!(found.menu.default, Some(0));
    let root = TestFs::new("ext4", "", "")
        .file("/boot/grub/grub.cfg", SIMPLE)
        .files(&["/k"]);
    let found = find(&gpt(vec![esp(), root]), Platform::Pvh);
    assert_eq!(ids(&found), ["one", "two", "BOOTX64.EFI"]);
    assert_eq!(default(&found), "two");
}

#[test]
fn a_grub_cfg_that_takes_entries_in_leads() {
    let cfg = "set default=b\nset timeout=3\nblscfg\nmenuentry m --id m { linux /k m }\n";
    let fs = TestFs::new("ext4", "", "")
        .file("/grub2/grub.cfg", cfg)
        .files(&["/k"]);
    let fs = bls(bls(fs, "", "a"), "", "b");
    let found = find(&gpt(vec![fs]), Platform::Pv);
    assert_eq!(ids(&found), ["b.conf", "a.conf", "m"]);
    assert_eq!(default(&found), "b.conf");
    assert_eq!(found.configs.len(), 1);
    assert_eq!(found.menu.timeout, Some(Timeout::Seconds(3)));
}

#[test]
fn settings_of_systemd_boot_lead() {
    let esp = |settings| {
        let fs = bls(TestFs::new("vfat", "", "").files(&["/k"]), "", "a");
        if settings {
            fs.file("/loader/loader.conf", "default b.conf\ntimeout 2\n")
        } else {
            fs
        }
    };
    let root = || {
        let fs = TestFs::new("ext4", "", "")
            .file("/boot/grub/grub.cfg", SIMPLE)
            .files(&["/k"]);
        bls(fs, "/boot", "b")
    };
    let found = find(&gpt(vec![esp(true), root()]), Platform::Pv);
    assert_eq!(ids(&found), ["b.conf", "a.conf", "one", "two"]);
    assert_eq!(default(&found), "b.conf");
    assert_eq!(found.menu.timeout, Some(Timeout::Seconds(2)));
    let found = find(&gpt(vec![esp(false), root()]), Platform::Pv);
    assert_eq!(ids(&found), ["one", "two", "b.conf", "a.conf"]);
    assert_eq!(default(&found), "two");
}

#[test]
fn stubs_lead_to_what_is_read_once() {
    let stub = "search.fs_uuid aa root\nset prefix=($root)/boot/grub\n\
                configfile $prefix/grub.cfg\n";
    let esp = || {
        TestFs::new("vfat", "", "")
            .file("/EFI/debian/grub.cfg", stub)
            .file("/EFI/BOOT/grub.cfg", stub)
    };
    let root = TestFs::new("ext4", "", "aa")
        .file("/boot/grub/grub.cfg", SIMPLE)
        .files(&["/k"]);
    let found = find(&gpt(vec![esp(), root]), Platform::Pv);
    assert_eq!(found.configs.len(), 1, "{found}");
    assert_eq!(found.menu.entries.len(), 2);
    // Where nobody looks but the stub says.
    let stub = stub.replace("/boot/grub\n", "/odd\n");
    let esp = TestFs::new("vfat", "", "").file("/EFI/debian/grub.cfg", stub);
    let root = TestFs::new("ext4", "", "aa")
        .file("/odd/grub.cfg", SIMPLE)
        .files(&["/k"]);
    let found = find(&gpt(vec![esp, root]), Platform::Pv);
    assert_eq!(default(&found), "two");
}

#[test]
fn a_broken_configuration_does_not_lead() {
    let broken = TestFs::new("ext4", "", "").file(
        "/boot/grub/grub.cfg",
        "menuentry x --id x { linux /gone }\nmenuentry y { fwsetup }",
    );
    let good = TestFs::new("ext4", "", "")
        .file("/extlinux.conf", "label a\nlinux /k\n")
        .files(&["/k"]);
    let found = find(&gpt(vec![broken, good]), Platform::Pv);
    assert_eq!(ids(&found), ["a", "x", ""]);
    assert_eq!(default(&found), "a");
}

#[test]
fn the_same_twice_is_there_once() {
    let fs = TestFs::new("ext4", "", "")
        .file(
            "/boot/grub/grub.cfg",
            "menuentry 1 { linux /k }\nmenuentry 2 { linux /k }\n",
        )
        .file(
            "/extlinux.conf",
            "default b\nlabel a\nlinux /k\nlabel b\nlinux /k\nappend b\n",
        )
        .files(&["/k"]);
    let found = find(&gpt(vec![fs]), Platform::Pv);
    // One configuration may have an entry twice: Debian's does.
    assert_eq!(found.menu.entries.len(), 3);
    assert_eq!(
        format!("{found}"),
        "GRUB, /boot/grub/grub.cfg: 2 entries\nextlinux, /extlinux.conf: 1 entry"
    );
    let volumes = gpt(vec![]);
    assert_eq!(
        spoken(&volumes, &found.configs[0].1),
        "?:/boot/grub/grub.cfg"
    );
}

#[test]
fn the_first_disk_leads() {
    let mut first = TestFs::new("ext4", "", "").file("/extlinux.conf", "label a\nlinux /k\n");
    first = first.files(&["/k"]);
    let second = TestFs::new("ext4", "", "")
        .file("/boot/grub/grub.cfg", SIMPLE)
        .files(&["/k"]);
    let volume = |disk: &str, fs| crate::volumes::Volume {
        name: disk.into(),
        disk: disk.into(),
        partition: None,
        table: None,
        partuuid: String::new(),
        type_guid: String::new(),
        partlabel: String::new(),
        attributes: 0,
        fs: alloc::boxed::Box::new(fs),
        raw: None,
    };
    let volumes = Volumes::new(vec![volume("xvda", first), volume("xvdb", second)]);
    let found = find(&volumes, Platform::Pvh);
    assert_eq!(ids(&found), ["a", "one", "two"]);
    assert_eq!(default(&found), "a");
}
