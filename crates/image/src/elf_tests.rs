//! Headers, as libelf reads them.

use alloc::vec::Vec;

use crate::{
    Elf, ImageError, Segment,
    elf::{Class, Processor},
    testelf::{File, elf, seg},
};

#[test]
fn segments_come_sorted() {
    let file = elf(
        &[seg(0x3000, 0x20_0000, 8, 16), seg(0x1000, 0x10_0000, 8, 8)],
        &[],
    );
    let elf = Elf::parse(&file).unwrap();
    assert_eq!(elf.entry, 0x10_0000);
    assert_eq!(
        (elf.start, elf.end, elf.align),
        (0x10_0000, 0x20_0010, 4096)
    );
    let addresses: Vec<u64> = elf.segments().iter().map(|s| s.paddr).collect();
    assert_eq!(addresses, [0x10_0000, 0x20_0000]);
}

#[test]
fn a_file_of_either_class_is_read() {
    for machine in [3, 62] {
        let file = File::new(&[seg(0x1000, 0x10_0000, 8, 9)]).narrow(machine);
        let elf = Elf::parse(&file.bytes()).unwrap();
        assert_eq!(elf.class, Class::Elf32);
        assert_eq!(elf.processor == Processor::I386, machine == 3);
        assert_eq!(elf.entry, 0x10_0000);
        assert_eq!(elf.segments(), [seg(0x1000, 0x10_0000, 8, 9)]);
    }
}

#[test]
fn headers_may_be_further_apart_than_they_are_long() {
    let mut file = File::new(&[seg(0x1000, 0x1000, 8, 8), seg(0x2000, 0x2000, 8, 8)]);
    file.apart = 24;
    assert_eq!(Elf::parse(&file.bytes()).unwrap().segments().len(), 2);
}

#[test]
fn a_segment_without_flags_is_not_loaded() {
    let off = Segment {
        flags: 0,
        ..seg(0x3000, 0x9000, 8, 8)
    };
    let elf = Elf::parse(&elf(&[seg(0x1000, 0x1000, 8, 8), off], &[])).unwrap();
    assert_eq!((elf.segments().len(), elf.end), (1, 0x1008));
}

#[test]
fn the_later_of_two_segments_in_one_place_counts() {
    let overlaid = |segments: &[Segment]| {
        let file = elf(segments, &[]);
        Elf::parse(&file).unwrap().segments().to_vec()
    };
    // In the middle: three parts.
    let middle = overlaid(&[
        seg(0x1000, 0x1000, 0x300, 0x400),
        seg(0x2000, 0x1100, 0x80, 0x100),
    ]);
    assert_eq!(
        middle,
        [
            seg(0x1000, 0x1000, 0x100, 0x100),
            seg(0x2000, 0x1100, 0x80, 0x100),
            seg(0x1200, 0x1200, 0x100, 0x200),
        ]
    );
    // Over the end; all of it.
    let end = overlaid(&[
        seg(0x1000, 0x1000, 0x80, 0x100),
        seg(0x2000, 0x10c0, 8, 0x100),
    ]);
    assert_eq!(
        end,
        [
            seg(0x1000, 0x1000, 0x80, 0xc0),
            seg(0x2000, 0x10c0, 8, 0x100)
        ]
    );
    let all = overlaid(&[seg(0x2000, 0x1010, 8, 8), seg(0x1000, 0x1000, 0x20, 0x20)]);
    assert_eq!(all, [seg(0x1000, 0x1000, 0x20, 0x20)]);
}

#[test]
fn bad_segments_are_named() {
    let named =
        |segments: &[Segment], name: &str| match Elf::parse(&elf(segments, &[])).unwrap_err() {
            ImageError::Field { field, .. } => assert_eq!(field, name),
            other => panic!("{other}"),
        };
    named(&[seg(0, 0x1000, 9, 8)], "p_filesz");
    named(&[seg(0, u64::MAX, 0, 8)], "p_paddr");
    named(&[seg(0, 0x1000, 0, 0x2000); 3], "p_memsz");
    named(&[], "e_phnum");
}

#[test]
fn other_files_are_named() {
    let mut file = elf(&[seg(0, 0x1000, 8, 8)], &[]);
    file[18] = 183;
    assert_eq!(
        Elf::parse(&file).unwrap_err(),
        ImageError::Machine {
            class: 2,
            machine: 183
        }
    );
    file[5] = 2;
    assert!(matches!(
        Elf::parse(&file),
        Err(ImageError::Field {
            field: "e_ident[EI_DATA]",
            ..
        })
    ));
    assert!(matches!(
        Elf::parse(b"\x7fELF"),
        Err(ImageError::Truncated { .. })
    ));
    assert!(matches!(
        Elf::parse(&[0; 64]),
        Err(ImageError::UnknownFormat { .. })
    ));
    let mut far = elf(&[seg(0, 0x1000, 8, 8)], &[]);
    far[33] = 0xff;
    assert!(matches!(
        Elf::parse(&far),
        Err(ImageError::Field {
            field: "e_phoff",
            ..
        })
    ));
}
