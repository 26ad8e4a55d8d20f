//! How much memory inputs of anybody's making take, at most: Kexen's boot
//! image has a heap that does not grow while it reads a disk.
//!
//! Alone in its process: the peak is that of everything that runs.

use std::{
    fmt::Write,
    fs,
    path::Path,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use kexen_bootconfig::{
    disk::{self, Memory},
    find,
    grub::Platform,
};
use kexen_disk::{BlockSource, CacheOptions, ReadError};
use kexen_fuzz::{TARGETS, files};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that configurations may take, of the longest there are.
const CONFIGS: usize = 10 << 20;
/// Bytes that reading disks may take, of a heap that is as large as the boot
/// image's in a small guest.
const DISKS: usize = HEAP / 5 * 2;
const HEAP: usize = 24 << 20;
/// Bytes that an input of the corpora may take, with the disk image that it
/// changes, or what it unpacks to.
const INPUTS: usize = 8 << 20;

fn peak(work: impl FnOnce()) -> usize {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    work();
    MEMORY.peak_usage().saturating_sub(before)
}

/// What it takes to find what these files ask for.
fn configured(name: &str, text: &str) -> (usize, String) {
    let volumes = files::volumes(text.as_bytes(), "/boot/grub/grub.cfg");
    let mut entries = 0;
    let peak = peak(|| {
        let found = find::find(&volumes, Platform::Pvh);
        entries = found.menu.entries.len();
    });
    println!("{:6} KiB {entries:3} entries: {name}", peak >> 10);
    (peak, name.into())
}

/// Something again and again, up to the longest file.
fn filled(pattern: &str) -> String {
    pattern.repeat((1 << 20) / pattern.len())
}

/// Something 300 times, with its number in place of `#`.
fn numbered(pattern: &str) -> String {
    let one = |n: u32| pattern.replace('#', &n.to_string());
    (0..300).map(one).collect()
}

fn configs() {
    let mut seen = Vec::new();
    for pattern in [
        "a ",
        "a;",
        "a\n",
        "$a",
        "$a ",
        "{",
        "} ",
        "'a'",
        "\"$a\" ",
        "if ",
        "\\",
        "#a\n",
        "if a;then b;fi\n",
        "menuentry a {\nlinux /vmlinuz\n}\n",
        "menuentry a { linux /vmlinuz; initrd /initrd; }\n",
        "submenu a {\n",
        "function a {\nb c\n}\n",
        "for a in b; do c; done\n",
        "set a=b\n",
        "a=${b}c${d}e ",
        "[ a = b ] ",
    ] {
        seen.push(configured(pattern, &filled(pattern)));
    }
    // A variable of 32 KiB.
    let mut long = String::from("set a=x\n");
    for _ in 0..15 {
        long.push_str("set a=$a$a\n");
    }
    for pattern in [
        "menuentry #$a {\nlinux /vmlinuz # $a\n}\n",
        "menuentry # $a $a $a $a {\nlinux /vmlinuz #\n}\n",
        "menuentry # {\nlinux /vmlinuz #\ninitrd /initrd$a /initrd$a\n}\n",
        "menuentry # {\n$a\n}\n",
        "submenu $a { submenu $a { menuentry # {\nlinux /vmlinuz #\n} } }\n",
        "set v#=$a\n",
        "function f# { echo $a; }\nf#\n",
        "source /boot/grub/grub.cfg\n",
    ] {
        seen.push(configured(pattern, &format!("{long}{}", numbered(pattern))));
    }
    let mut variables = String::new();
    for n in 0..100_000 {
        writeln!(variables, "v{n}=").unwrap();
    }
    seen.push(configured("v#=", &variables));
    let x = |len: usize| "x".repeat(len);
    let options = x(60 << 10);
    for pattern in [
        format!("%% /loader/entries/#.conf\ntitle #\nlinux /vmlinuz\noptions # {options}\n"),
        format!("%% /loader/entries/#.conf\ntitle #\nlinux /vmlinuz\nversion # {options}\n"),
        format!("%% /boot/loader/entries/#.conf\nlinux /vmlinuz\noptions # {options}\n"),
    ] {
        let short: String = pattern.chars().take(50).collect();
        let text = numbered(&pattern);
        seen.push(configured(&short, &text));
        seen.push(configured(
            &format!("blscfg, {short}"),
            &format!("blscfg\n{text}"),
        ));
    }
    let labels = numbered(&format!("label #\nkernel /vmlinuz\nappend # {}\n", x(3000)));
    let mut extlinux = String::new();
    for folder in ["/extlinux", "/boot/extlinux", "/syslinux", "/isolinux"] {
        write!(extlinux, "%% {folder}/{}.conf\n{labels}", &folder[1..]).unwrap();
    }
    seen.push(configured("label #", &extlinux));
    let mut included = String::from("%% /extlinux/extlinux.conf\n");
    for n in 0..30 {
        writeln!(included, "include {n}").unwrap();
    }
    for n in 0..30 {
        let line = x(1 << 19);
        write!(
            included,
            "%% /extlinux/{n}\nlabel {n}\nkernel /k\nappend {line}\n"
        )
        .unwrap();
    }
    seen.push(configured("include #", &included));
    seen.retain(|(peak, _)| *peak > CONFIGS);
    assert!(seen.is_empty(), "more than {CONFIGS} bytes: {seen:?}");
}

fn inputs() {
    let mut seen = Vec::new();
    for (name, target) in TARGETS {
        for which in ["corpus", "found"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(which).join(name);
            for file in fs::read_dir(folder).into_iter().flatten() {
                let path = file.unwrap().path();
                let data = fs::read(&path).unwrap();
                let peak = peak(|| target(&data));
                if peak > INPUTS {
                    seen.push((peak, path));
                }
            }
        }
    }
    assert!(seen.is_empty(), "more than {INPUTS} bytes: {seen:?}");
}

/// A disk with an ext4 of as many groups of blocks as are read, and of nothing
/// else.
#[derive(Debug)]
struct Greedy(String, [u8; 4096]);

impl Greedy {
    fn new(number: usize) -> Self {
        let mut sectors = [0; 4096];
        for (at, field) in [
            (0x0, 16 << 18),
            (0x4, 256 << 18),
            (0x14, 1),
            (0x20, 256),
            (0x24, 256),
            (0x28, 16),
            (0x38, 0xef53),
            (0x4c, 1),
            (0x54, 11),
            (0x58, 256),
            (0x60, 0x42),
        ] {
            let field: u32 = field;
            sectors[1024 + at..][..4].copy_from_slice(&field.to_le_bytes());
        }
        Self(format!("xvd{number}"), sectors)
    }
}

impl BlockSource for Greedy {
    fn name(&self) -> &str {
        &self.0
    }

    fn bytes(&self) -> u64 {
        1 << 40
    }

    fn sector(&self) -> u32 {
        512
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        into.fill(0);
        let from = usize::try_from(offset).unwrap().min(self.1.len());
        let part = &self.1[from..];
        let len = part.len().min(into.len());
        into[..len].copy_from_slice(&part[..len]);
        Ok(())
    }
}

static BEFORE: AtomicUsize = AtomicUsize::new(0);

/// Sixteen of them, with a limit and without.
fn disks() {
    let read = |has_room| {
        BEFORE.store(MEMORY.current_usage(), Relaxed);
        let (mut opened, mut refused) = (Vec::new(), Vec::new());
        let peak = peak(|| {
            for number in 0..16 {
                let memory = Memory {
                    cache: CacheOptions::for_one_of(16),
                    has_room,
                };
                let disk = Rc::new(Greedy::new(number));
                let found = disk::volumes(disk, None, memory);
                opened.extend(found.volumes);
                refused.extend(found.problems);
            }
        });
        (peak, opened.len(), refused)
    };
    let (peak, opened, refused) = read(|| true);
    assert!(peak > HEAP, "nothing to bound: {peak} bytes");
    assert_eq!((opened, refused.len()), (16, 0), "{refused:?}");
    let (peak, opened, refused) =
        read(|| MEMORY.current_usage().saturating_sub(BEFORE.load(Relaxed)) < DISKS);
    assert!(peak < HEAP, "{peak} bytes");
    assert!(opened > 0 && opened + refused.len() == 16, "{refused:?}");
    let named = refused.iter().all(|why| why.contains("set aside"));
    assert!(named, "{refused:?}");
}

#[test]
fn memory_has_a_bound() {
    disks();
    configs();
    inputs();
}
