//! FAT12, FAT16, FAT32.

use kexen_disk::fs::{FileSystem, Problem, probe};

use super::{
    content::{Noise, Thing, Things, With, check, check_file, fill},
    disk::FileDisk,
    tools::{Temporary, blkid, run, run_with},
};

/// Copies things into an image by mtools.
fn copy(image: &Temporary, root: &Temporary) {
    let mut args = vec!["-s".to_string(), "-i".into(), image.as_str().into()];
    for entry in std::fs::read_dir(root.as_path()).unwrap() {
        args.push(entry.unwrap().path().to_str().unwrap().into());
    }
    args.push("::/".into());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    run("mcopy", &args);
}

fn open(image: &Temporary) -> Box<dyn FileSystem> {
    let fs = probe(FileDisk::new(image).cached()).unwrap().unwrap();
    let said = [fs.kind(), fs.label(), fs.uuid()].map(String::from);
    assert_eq!(said, blkid(image));
    fs
}

/// An image made with these options, and what is in it.
pub(crate) fn image(mib: u64, options: &[&str]) -> (Temporary, Things) {
    let (root, mut things) = fill(With::Fat);
    let image = Temporary::file(mib << 20);
    run("mkfs.vfat", &[options, &[image.as_str()]].concat());
    // What mtools' idea of a name is not, it changes.
    let odd = "/Größe — 日本 🦀.txt";
    std::fs::rename(
        root.as_path().join(&odd[1..]),
        root.as_path().join("Größe.txt"),
    )
    .unwrap();
    let bytes = things.remove(odd).unwrap();
    things.insert("/Größe.txt".into(), bytes);
    copy(&image, &root);
    (image, things)
}

#[test]
fn every_kind_of_fat_is_read() {
    let kinds: &[(u64, &[&str])] = &[
        (4, &["-F", "12", "-n", "A LABEL"]),
        (8, &["-F", "12", "-s", "8", "-n", "low"]),
        (24, &["-F", "16"]),
        (24, &["-F", "16", "-s", "1", "-f", "1", "-i", "0012abcd"]),
        (40, &["-F", "32", "-s", "1", "-n", "EFI"]),
        (280, &["-F", "32", "-S", "4096", "-s", "1"]),
        (32, &["-F", "16", "-S", "4096", "-s", "1"]),
        (
            24,
            &[
                "-F", "16", "-S", "2048", "-s", "1", "-r", "1024", "-h", "99",
            ],
        ),
        (300, &["-F", "32", "-s", "8", "-R", "64"]),
    ];
    for (mib, options) in kinds {
        println!("{options:?}");
        let (image, things) = image(*mib, options);
        let fs = open(&image);
        check(&*fs, &things, &[]);
        for (path, thing) in &things {
            let other = path.to_uppercase();
            if let Thing::File(bytes) = thing {
                assert_eq!(fs.read(&other, 8 << 20).as_ref(), Ok(bytes), "{other}");
            }
        }
    }
}

#[test]
fn short_names_lead_to_the_same_files() {
    let (image, things) = image(24, &["-F", "16"]);
    let fs = open(&image);
    for (short, long) in [
        ("/BOOT/VMLINU~1", "/boot/vmlinuz-6.1.0-13-amd64"),
        ("/boot/SYSTEM~1.MAP", "/boot/System.map"),
        ("/boot/initrd.img", "/boot/initrd.img"),
        ("/many/filenu~1", "/many/file number 0 of many"),
    ] {
        // Not every name got the short one that is guessed here.
        let Ok(bytes) = fs.read(short, 8 << 20) else {
            assert!(short.contains('~'), "{short}");
            continue;
        };
        assert!(
            things
                .values()
                .any(|thing| *thing == Thing::File(bytes.clone())),
            "{long}"
        );
    }
}

/// Linux and GRUB read what is there of one that says it is longer than its
/// partition.
#[test]
fn one_that_was_cut_off_is_read() {
    for (mib, options) in [(24, ["-F", "16"]), (60, ["-F", "32"])] {
        let (image, things) = image(mib, &options);
        let whole = FileDisk::new(&image);
        assert_eq!(probe(whole.shared()).unwrap().unwrap().note(), None);
        let cut = FileDisk::new(&image).with_bytes((mib - 4) << 20);
        let fs = probe(cut.cached()).unwrap().unwrap();
        check(&*fs, &things, &[]);
        assert!(fs.note().unwrap().ends_with("it was cut off"));
        // Where something is missing, that is said.
        let cut = FileDisk::new(&image).with_bytes(1 << 20);
        if let Ok(Some(fs)) = probe(cut.cached()) {
            let error = fs.read("/boot/initrd.img", 8 << 20).unwrap_err();
            assert!(matches!(error.problem, Problem::Read(_)), "{error}");
        }
    }
}

/// Linux does not ask for the signature of a boot sector.
#[test]
fn no_signature_is_needed() {
    for options in [["-F", "12"], ["-F", "16"], ["-F", "32"]] {
        let image = Temporary::file(40 << 20);
        let size = match options[1] {
            "12" => "-s32",
            "16" => "-s4",
            _ => "-s1",
        };
        run(
            "mkfs.vfat",
            &[&options[..], &[size, "-f", "4", image.as_str()]].concat(),
        );
        let changes = [(510, 0), (511, 0)].into();
        let disk = FileDisk::new(&image).with_changes(changes).shared();
        assert_eq!(probe(disk).unwrap().unwrap().kind(), "vfat");
    }
}

#[test]
fn a_fragmented_and_full_one_is_read() {
    for (mib, options) in [
        (8, ["-F", "12", "-s", "4"]),
        (20, ["-F", "16", "-s", "4"]),
        (40, ["-F", "32", "-s", "1"]),
    ] {
        let image = Temporary::file(mib << 20);
        run("mkfs.vfat", &[&options[..], &[image.as_str()]].concat());
        let root = Temporary::directory();
        let mut noise = Noise(11);
        let files: Vec<Vec<u8>> = (0..120).map(|n| noise.bytes(20_000 + n * 100)).collect();
        for (n, bytes) in files.iter().enumerate() {
            std::fs::write(root.as_path().join(format!("file number {n}")), bytes).unwrap();
        }
        run_with("mmd", &["-i", image.as_str(), "::/d"], "");
        let all = |parity: usize| {
            let names = (0..120).filter(move |n| n % 2 == parity);
            names.map(|n| format!("::/d/file number {n}"))
        };
        let from = format!("{}/", root.as_str());
        let sources: Vec<String> = (0..120).map(|n| format!("{from}file number {n}")).collect();
        let mut args = vec!["-i", image.as_str()];
        args.extend(sources.iter().map(String::as_str));
        args.push("::/d");
        run("mcopy", &args);
        // Every second one goes.
        let gone: Vec<String> = all(0).collect();
        let mut args = vec!["-i", image.as_str()];
        args.extend(gone.iter().map(String::as_str));
        run("mdel", &args);
        // What is written now fills the holes, and then all the rest.
        let free = run("mdir", &["-i", image.as_str(), "::/"]);
        let free: String = free
            .lines()
            .find_map(|line| line.strip_suffix(" bytes free"))
            .unwrap()
            .split_whitespace()
            .collect();
        let big = noise.bytes(free.parse().unwrap());
        let path = root.as_path().join("big");
        std::fs::write(&path, &big).unwrap();
        run(
            "mcopy",
            &["-i", image.as_str(), path.to_str().unwrap(), "::/big"],
        );
        let fs = open(&image);
        check_file(&*fs, "/big", &big);
        for n in (1..120).step_by(2) {
            check_file(&*fs, &format!("/D/FILE NUMBER {n}"), &files[n]);
        }
        assert_eq!(fs.read_dir("/d").unwrap().len(), 60);
    }
}

#[test]
fn a_chain_that_is_a_loop_or_too_short_is_an_error() {
    let image = Temporary::file(4 << 20);
    run(
        "mkfs.vfat",
        &["-F", "12", "-s", "2", "-r", "64", image.as_str()],
    );
    let root = Temporary::directory();
    std::fs::write(root.as_path().join("FILE"), [1; 5000]).unwrap();
    run("mmd", &["-i", image.as_str(), "::/DIR"]);
    copy(&image, &root);
    // The directory has cluster 2, the file 3 and on: two entries of 12 bits
    // are 3 bytes.
    let bytes = std::fs::read(image.as_path()).unwrap();
    let at = usize::from(bytes[14]) * 512;
    let change = |bytes: &[u8]| {
        let changes = (at as u64..).zip(bytes.iter().copied()).collect();
        probe(FileDisk::new(&image).with_changes(changes).shared())
    };
    let table = bytes[at..at + 12].to_vec();
    let with = |at: usize, entry: u16| {
        let mut table = table.clone();
        let place = at * 3 / 2;
        let [low, high] = if at.is_multiple_of(2) {
            entry
        } else {
            entry << 4
        }
        .to_le_bytes();
        if at.is_multiple_of(2) {
            table[place] = low;
            table[place + 1] = table[place + 1] & 0xf0 | high;
        } else {
            table[place] = table[place] & 0x0f | low;
            table[place + 1] = high;
        }
        change(&table).unwrap().unwrap()
    };
    assert!(with(4, 5).read("/file", 8192).is_ok());
    for (entry, what) in [
        (0xfff, "ends after 2048"),
        (0, "cluster 0"),
        (0xff7, "cluster 4087"),
    ] {
        let error = with(4, entry).read("/file", 8192).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert!(matches!(error.problem, Problem::Corrupt(_)));
    }
    let error = with(2, 2).read_dir("/dir").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("more than 2097152 bytes of a directory")
            || error.to_string().contains("loop"),
        "{error}"
    );
}
