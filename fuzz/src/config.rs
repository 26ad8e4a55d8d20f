//! Boot loaders' configurations, with the files that they are about.

use kexen_bootconfig::{
    bls::{self, Base, loader_conf::LoaderConf, osrel, uki, version},
    entry::{self, MAX_DOUBTS, MAX_ENTRIES, MAX_NOTES, Menu, Place},
    extlinux, find,
    grub::{self, Platform, envblock},
};

use crate::files::{MemoryFile, volumes};

fn place(path: &str) -> Place {
    Place {
        volume: 0,
        path: path.into(),
    }
}

/// What is true of every menu.
fn check(menu: &Menu) {
    assert!(menu.entries.len() <= MAX_ENTRIES, "entries");
    // One more says that there are more.
    assert!(menu.notes.len() <= MAX_NOTES + 1, "notes");
    assert!(menu.default.is_none_or(|at| at < menu.entries.len()));
    for one in &menu.entries {
        let _boots = one.bootable();
        let shown = one.problem.as_ref().map(ToString::to_string);
        assert!(shown.is_none_or(|text| !text.contains(char::is_control)));
        assert!(!one.title.contains(char::is_control));
        let named = entry::find(&menu.entries, &one.id);
        assert!(one.id.is_empty() || named.is_some());
    }
    assert!(menu.doubts.len() <= MAX_DOUBTS, "doubts");
    for note in menu.notes.iter().chain(&menu.doubts) {
        assert!(!note.to_string().contains(char::is_control));
    }
    for path in ["0", "1>0", "a>b", ">", "4294967296"] {
        let _found = entry::by_steps(&menu.entries, path);
    }
}

/// grub.cfg with what it sources, loads and takes in.
pub fn grub(data: &[u8]) {
    let path = "/boot/grub/grub.cfg";
    let volumes = volumes(data, path);
    for platform in [Platform::Pv, Platform::Hvm] {
        for found in [
            grub::read(&volumes, &place(path), platform),
            grub::read_legacy(&volumes, &place(path), platform),
        ] {
            check(&found.menu);
            assert!(found.steps <= grub::MAX_STEPS);
        }
    }
}

/// An environment block: GRUB's, and what Fedora's entries take from it.
pub fn grubenv(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for (name, value) in envblock::parse(&text) {
        assert!(name.len() + value.len() < text.len());
    }
}

/// Boot Loader Specification entries, with settings and images.
pub fn bls(data: &[u8]) {
    let volumes = volumes(data, "/loader/entries/first+3-1.conf");
    let bases = ["", "/boot"].map(|folder| Base {
        volume: 0,
        folder: folder.into(),
    });
    check(&bls::menu(&volumes, &bases));
}

/// loader.conf, and the order and patterns of names.
pub fn loader_conf(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut menu = Menu::default();
    let conf = LoaderConf::parse(&place("/loader/loader.conf"), &text, &mut menu);
    check(&menu);
    let pattern = conf.default.unwrap_or_default();
    for name in text.lines() {
        let _matches = version::matches(&pattern, name);
        let order = version::compare(&pattern, name);
        assert_eq!(version::compare(name, &pattern), order.reverse());
        assert!(version::compare(name, name).is_eq());
    }
}

/// extlinux.conf with what it includes.
pub fn extlinux(data: &[u8]) {
    let path = "/boot/extlinux/extlinux.conf";
    check(&extlinux::read(&volumes(data, path), &place(path)));
}

/// All that is on two volumes, as one menu.
pub fn find(data: &[u8]) {
    let volumes = volumes(data, "/boot/grub/grub.cfg");
    for platform in [Platform::Pvh, Platform::Hvm] {
        check(&find::find(&volumes, platform).menu);
    }
}

/// A unified kernel image, or an add-on of one.
pub fn uki(data: &[u8]) {
    let mut file = MemoryFile(data);
    let Ok(image) = uki::Image::read(&mut file) else {
        return;
    };
    let len = u64::try_from(data.len()).unwrap_or(0);
    let mut sections = Vec::new();
    if let Ok(addon) = image.addon() {
        sections.extend([addon.ucode, addon.initrd, addon.cmdline, addon.uname]);
    }
    for profile in 0..image.profiles() {
        let Ok(found) = image.uki(profile) else {
            continue;
        };
        sections.extend([Some(found.linux), found.ucode, found.initrd]);
        sections.extend([found.cmdline, found.osrel, found.uname, found.profile]);
    }
    for section in sections.into_iter().flatten() {
        assert!(section.bytes > 0 && section.offset + section.bytes <= len);
        if let Ok(text) = uki::text(&mut file, ".osrel", section) {
            let _title = osrel::title(&osrel::names(&text), "a file");
            let _profile = osrel::profile(&text);
        }
    }
}
