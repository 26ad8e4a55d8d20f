//! What comes with a guest: boot module, command line, keys and signatures;
//! and what somebody types at the menu.

use kexen_bootconfig::{
    compose,
    module::{MAX_CMDLINE, MAX_ENTRIES, Module, NewEntry, write},
    options::{CmdlineMode, Options},
};
use kexen_menu::{Item, Keys as Typed, Menu};
use kexen_trust::Keys;

use crate::bytes::Bytes;

/// A boot module's archive.
pub fn module(data: &[u8]) {
    let Ok(module) = Module::parse(data) else {
        return;
    };
    assert!(module.entries().len() <= MAX_ENTRIES);
    let bytes = |range: &core::ops::Range<usize>| data.get(range.clone()).expect("in the archive");
    let _keys = module.keys().as_ref().map(bytes);
    let entries: Vec<NewEntry<'_>> = module
        .entries()
        .iter()
        .map(|entry| NewEntry {
            name: entry.name(),
            kernel: bytes(&entry.kernel),
            initrd: entry.initrd.as_ref().map(bytes),
            cmdline: entry.cmdline.as_deref(),
        })
        .collect();
    let texts = entries.iter().filter_map(|entry| entry.cmdline);
    assert!(texts.into_iter().all(|text| text.len() <= MAX_CMDLINE));
    // What is in it can be written again, and read.
    let total: usize = entries.iter().map(|entry| entry.kernel.len()).sum();
    if entries.is_empty() || total > 1 << 20 {
        return;
    }
    let again = write(&entries);
    let again = Module::parse(&again).expect("what was written");
    assert_eq!(again.entries().len(), module.entries().len());
}

/// The guest's command line.
pub fn options(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _where = Options::module_of(&text);
    let _then = Options::on_error_of(&text);
    match Options::parse(&text) {
        Err(error) => drop(error.to_string()),
        Ok((options, words)) => {
            assert!(words.len() <= text.len());
            let _next = options.next_chain_command_line(&text, Some("a marker"));
            let all = compose("quiet", &words, CmdlineMode::Append);
            assert!(all.len() <= words.len() + 6);
        }
    }
}

/// Public keys, and a signature that says it is by one of them. The first
/// line that begins with `%%` parts the two.
pub fn trust(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (keys, signature) = text.split_once("%%\n").unwrap_or((&text, ""));
    let Ok(keys) = Keys::parse(keys) else {
        return;
    };
    assert!(keys.ids().count() > 0);
    if let Err(error) = keys.check(b"a kernel", signature) {
        drop(error.to_string());
    }
}

/// Keys at the menu, a second after each byte of 0.
pub fn menu(data: &[u8]) {
    let mut input = Bytes::new(data);
    let items = (0..input.u8() % 40)
        .map(|n| Item {
            title: input.text(),
            detail: format!("number {n}"),
            command_line: (n % 2 == 0).then(|| input.text()),
            problem: (n % 5 == 4).then(|| input.text()),
        })
        .collect::<Vec<_>>();
    let count = items.len();
    let chosen = input.u8().into();
    let mut menu = Menu::new(&input.text(), items, chosen, Some(3));
    let _screen = menu.open();
    let mut typed = Typed::default();
    for byte in input.rest() {
        let step = if *byte == 0 {
            let key = typed.pause();
            match key {
                Some(key) => menu.key(key),
                None => menu.tick(),
            }
        } else if let Some(key) = typed.byte(*byte) {
            menu.key(key)
        } else {
            continue;
        };
        assert!(step.screen.len() < 64 << 10);
        if let Some(kexen_menu::Answer::Start(at, _)) = step.answer {
            assert!(at < count);
            return;
        }
    }
}
