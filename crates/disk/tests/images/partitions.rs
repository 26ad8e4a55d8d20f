//! Partition tables.

use kexen_disk::{
    BlockSource,
    partition::{self, PartitionType, Scheme, Table},
};

use super::{
    disk::FileDisk,
    tools::{Temporary, run, run_with},
};

fn read(image: &Temporary, sector: u32) -> Table {
    partition::read(&FileDisk::new(image).with_sector(sector).shared()).unwrap()
}

/// Whether a table says the same as `partx`, which is Linux's own view.
fn compare(image: &Temporary, table: &Table) {
    let text = run(
        "partx",
        &[
            "-g",
            "-b",
            "-r",
            "-o",
            "NR,START,SIZE,TYPE,UUID,NAME",
            image.as_str(),
        ],
    );
    let mut lines = text.lines();
    for entry in &table.partitions {
        let kind = match &entry.kind {
            PartitionType::Mbr(kind) => format!("0x{kind:x}"),
            PartitionType::Guid(guid) => guid.clone(),
        };
        let line = format!(
            "{} {} {} {kind} {} {}",
            entry.number,
            entry.start / 512,
            entry.bytes,
            entry.part_uuid,
            entry.label.replace(' ', "\\x20"),
        );
        let want = loop {
            let want = lines.next().unwrap();
            // Extended partitions are no partitions here.
            if want.split(' ').nth(3) != Some("0x5") {
                break want;
            }
        };
        assert_eq!(line.trim_end(), want.trim_end());
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn gpt_is_what_linux_says() {
    let image = Temporary::file(16 << 20);
    let args = [
        "-n",
        "1:2048:4095",
        "-t",
        "1:ef00",
        "-c",
        "1:EFI System",
        "-A",
        "1:set:2",
        "-n",
        "3:8192:+1M",
        "-c",
        "3:Größe",
        "-n",
        "128:0:0",
        "-t",
        "128:8300",
        image.as_str(),
    ];
    run("sgdisk", &args);
    let table = read(&image, 512);
    assert_eq!((table.scheme, table.whole), (Scheme::Gpt, false));
    assert_eq!(table.notes, Vec::<String>::new());
    let numbers: Vec<u32> = table.partitions.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [1, 3, 128]);
    assert_eq!(table.partitions[0].flags, 4);
    assert_eq!(table.partitions[1].label, "Größe");
    assert_eq!(table.partitions[2].name, "xvda128");
    let esp = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
    assert_eq!(table.partitions[0].kind, PartitionType::Guid(esp.into()));
    // `partx` quotes what is not ASCII in its own way.
    let mut plain = table.clone();
    run("sgdisk", &["-c", "3:plain", image.as_str()]);
    plain.partitions[1].label = "plain".into();
    compare(&image, &plain);
}

/// Every byte of the header and of an entry matters; the backup stands in.
#[test]
fn a_damaged_gpt_has_a_backup() {
    let image = Temporary::file(4 << 20);
    run("sgdisk", &["-n", "1:0:0", "-c", "1:root", image.as_str()]);
    let good = read(&image, 512);
    for at in (512..512 + 92).chain(1024..1024 + 128) {
        let byte = std::fs::read(image.as_path()).unwrap()[at];
        let change = [(at as u64, !byte)].into();
        let disk = FileDisk::new(&image).with_changes(change).shared();
        let table = partition::read(&disk).unwrap();
        assert_eq!(table.partitions, good.partitions, "{at}");
        assert_eq!(table.notes.len(), 1, "{at}");
    }
    let changes = [(520, 0xff), ((4 << 20) - 500, 0xff)].into();
    let disk = FileDisk::new(&image).with_changes(changes).shared();
    let error = partition::read(&disk).unwrap_err().to_string();
    assert!(error.starts_with("xvda: damaged GPT: primary: "), "{error}");
    // A disk that shrank has the primary alone; one that grew too.
    for bytes in [3 << 20, 4 << 20] {
        let disk = FileDisk::new(&image).with_bytes(bytes).shared();
        assert!(partition::read(&disk).is_ok());
    }
}

/// Where on the disk an entry is decides, not what the header calls usable.
#[test]
fn a_gpt_counts_outside_its_usable_range() {
    let image = Temporary::file(16 << 20);
    let args = ["-n", "1:2048:4095", "-n", "2:8192:0", image.as_str()];
    run("sgdisk", &args);
    let good = read(&image, 512);
    let mut bytes = std::fs::read(image.as_path()).unwrap();
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let mut set = |changes: &[(usize, u64)]| {
        for (at, value) in changes {
            bytes[*at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let sum = crc.checksum(&bytes[1024..1024 + 128 * 128]);
        bytes[512 + 88..512 + 92].copy_from_slice(&sum.to_le_bytes());
        bytes[512 + 16..512 + 20].fill(0);
        let sum = crc.checksum(&bytes[512..512 + 92]);
        bytes[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(image.as_path(), &bytes).unwrap();
        read(&image, 512)
    };
    // The first usable sector, the last one.
    assert_eq!(set(&[(512 + 40, 6000), (512 + 48, 20_000)]), good);
    // The second partition ends beyond the disk: what is there is read.
    let table = set(&[(1024 + 128 + 40, 1 << 40)]);
    assert_eq!(table.partitions[1].bytes, (16 << 20) - 8192 * 512);
    let cut = "partition 2 ends beyond the end of the disk and is cut";
    assert_eq!(table.notes, [cut]);
    // It begins there, or ends before it begins.
    for change in [(1024 + 128 + 32, 1 << 40), (1024 + 128 + 40, 8000)] {
        let table = set(&[change]);
        assert_eq!(table.partitions, good.partitions[..1]);
        assert_eq!(table.notes, ["partition 2 is not on the disk"]);
    }
}

/// An image that moved to a disk with other sectors.
#[test]
fn a_gpt_for_other_sectors_is_found() {
    let found = |table: &Table| -> Vec<(u64, u64)> {
        let entries = table.partitions.iter();
        entries.map(|entry| (entry.start, entry.bytes)).collect()
    };
    let image = Temporary::file(16 << 20);
    for sector in [512_u64, 4096] {
        let script = format!(
            "g\nn\n1\n{}\n{}\nn\n2\n{}\n{}\nw\n",
            (1 << 20) / sector,
            (3 << 20) / sector - 1,
            (4 << 20) / sector,
            (8 << 20) / sector - 1
        );
        run_with(
            "fdisk",
            &["-b", &sector.to_string(), image.as_str()],
            &script,
        );
        for disk in [512, 1024, 2048, 4096] {
            let table = read(&image, disk);
            assert_eq!(found(&table), [(1 << 20, 2 << 20), (4 << 20, 4 << 20)]);
            let note = format!(
                "the GPT counts sectors of {sector} bytes, and those of the disk have {disk}: \
                 Linux does not read it here"
            );
            let note = (u64::from(disk) != sector).then_some(note);
            assert_eq!(table.notes, Vec::from_iter(note));
        }
        // The backup, too.
        let changes = (sector..sector + 92).map(|at| (at, 0)).collect();
        let disk = FileDisk::new(&image).with_changes(changes).shared();
        let table = partition::read(&disk).unwrap();
        assert_eq!(found(&table), [(1 << 20, 2 << 20), (4 << 20, 4 << 20)]);
        std::fs::write(image.as_path(), vec![0; 16 << 20]).unwrap();
    }
}

#[test]
fn large_sectors_are_understood() {
    // `sgdisk` takes a file's sectors for 512 bytes; `fdisk` can be told.
    let image = Temporary::file(16 << 20);
    let fdisk = |script: &str| run_with("fdisk", &["-b", "4096", image.as_str()], script);
    fdisk("g\nn\n1\n256\n767\nn\n2\n1024\n2047\nw\n");
    let table = read(&image, 4096);
    let found: Vec<(u64, u64)> = table
        .partitions
        .iter()
        .map(|entry| (entry.start, entry.bytes))
        .collect();
    assert_eq!(found, [(1 << 20, 2 << 20), (4 << 20, 4 << 20)]);
    fdisk("o\nn\np\n1\n256\n767\nn\ne\n2\n1024\n2047\nn\nl\n1280\n1535\nw\n");
    let table = read(&image, 4096);
    let found: Vec<(u32, u64, u64)> = table
        .partitions
        .iter()
        .map(|entry| (entry.number, entry.start, entry.bytes))
        .collect();
    assert_eq!(found, [(1, 1 << 20, 2 << 20), (5, 5 << 20, 1 << 20)]);
}

#[test]
fn mbr_is_what_linux_says() {
    let image = Temporary::file(64 << 20);
    let mut script = "label: dos\nlabel-id: 0xabcd0123\n\
        start=2048, size=2048, type=c, bootable\nstart=4096, size=110000, type=5\n\
        start=120000, size=4096, type=83\n"
        .to_string();
    for n in 0..20 {
        script += &format!("start={}, size=2048, type=8e\n", 6144 + n * 4096);
    }
    run_with("sfdisk", &["-q", image.as_str()], &script);
    let table = read(&image, 512);
    assert_eq!((table.scheme, table.whole), (Scheme::Mbr, false));
    assert_eq!(table.partitions.len(), 22);
    assert_eq!(table.partitions[0].part_uuid, "abcd0123-01");
    assert_eq!(table.partitions[0].flags, 0x80);
    assert_eq!(table.partitions[2].part_uuid, "abcd0123-05");
    assert_eq!(table.partitions[21].name, "xvda24");
    compare(&image, &table);
}

/// The records of DR-DOS, with the link first; and several extended partitions.
#[test]
fn a_chain_may_have_its_links_first() {
    let image = Temporary::file(64 << 20);
    let script = "label: dos\nstart=2048, size=60000, type=5\n\
        start=64000, size=60000, type=83\n\
        start=4096, size=2048, type=83\nstart=8192, size=2048, type=83\n\
        start=12288, size=2048, type=83\n";
    run_with("sfdisk", &["-q", image.as_str()], script);
    let good = read(&image, 512);
    let mut bytes = std::fs::read(image.as_path()).unwrap();
    let mut at = 2048 * 512;
    let mut records = 0;
    while bytes[at + 462 + 4] != 0 {
        let next = at + 462 + 8;
        let next = u32::from_le_bytes(*bytes[next..].first_chunk().unwrap());
        let (data, link) = bytes[at + 446..at + 478].split_at_mut(16);
        data.swap_with_slice(link);
        at = (2048 + next as usize) * 512;
        records += 1;
    }
    assert_eq!(records, 2);
    std::fs::write(image.as_path(), &bytes).unwrap();
    let table = read(&image, 512);
    assert_eq!(table, good);
    assert_eq!(table.partitions.len(), 4);
    compare(&image, &table);
    // OS/2 has data in the third and fourth; garbage there is not taken.
    let slot = |bytes: &mut [u8], at: usize, start: u32, sectors: u32| {
        bytes[at + 4] = 0x83;
        bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    };
    slot(&mut bytes, 2048 * 512 + 478, 20_000, 2048);
    slot(&mut bytes, 2048 * 512 + 494, 59_000, 2048);
    // Another chain.
    bytes[446 + 16 + 4] = 0xf;
    let other = 64_000 * 512;
    slot(&mut bytes, other + 446, 2048, 4096);
    bytes[other + 510..other + 512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(image.as_path(), &bytes).unwrap();
    let found: Vec<(u32, u64)> = read(&image, 512)
        .partitions
        .iter()
        .map(|entry| (entry.number, entry.start / 512))
        .collect();
    let want = [4096, 22_048, 8192, 12_288, 66_048];
    assert_eq!(found, Vec::from_iter((5..).zip(want)));
}

#[test]
fn a_file_system_on_the_whole_disk_is_no_table() {
    let image = Temporary::file(16 << 20);
    for args in [
        &["mke2fs", "-q", "-F"][..],
        &["mkfs.vfat"],
        &["mkfs.vfat", "--mbr=y"],
    ] {
        run(args[0], &[&args[1..], &[image.as_str()]].concat());
        let table = read(&image, 512);
        assert_eq!(table.partitions, [], "{args:?}");
        assert!(table.whole, "{args:?}");
    }
}

/// A file system in a partition, through everything there is.
#[test]
fn a_partition_is_a_disk() {
    let image = Temporary::file(16 << 20);
    run("sgdisk", &["-n", "1:2048:0", image.as_str()]);
    let inner = Temporary::file(14 << 20);
    run("mke2fs", &["-q", "-F", "-L", "inner", inner.as_str()]);
    let mut bytes = std::fs::read(image.as_path()).unwrap();
    bytes[1 << 20..15 << 20].copy_from_slice(&std::fs::read(inner.as_path()).unwrap());
    std::fs::write(image.as_path(), bytes).unwrap();
    let disk: std::rc::Rc<dyn BlockSource> = FileDisk::new(&image).cached();
    let table = partition::read(&disk).unwrap();
    let partition = table.partitions[0].open(&disk).unwrap();
    assert_eq!(partition.name(), "xvda1");
    let fs = kexen_disk::fs::probe(std::rc::Rc::new(partition));
    assert_eq!(fs.unwrap().unwrap().label(), "inner");
}
