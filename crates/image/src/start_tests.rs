//! A table of small ELF files, and what Xen's builders do with each.

use alloc::{format, string::String, vec::Vec};

use crate::{
    CannotStart, Elf, GuestType, Plan, Segment, plan,
    start::Relocation,
    testelf::{File, note, seg},
};

const BASE: u64 = 0xffff_ffff_8000_0000;

fn kernel() -> [Segment; 1] {
    [seg(0x1000, 0x10_0000, 0x800, 0x1234)]
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn long(kind: u32, value: u64) -> Vec<u8> {
    note(kind, &value.to_le_bytes())
}

/// The notes that each PV kernel has.
fn pv() -> Vec<Vec<u8>> {
    alloc::vec![note(8, b"generic\0"), note(5, b"xen-3.0\0")]
}

fn pv_with(more: &[Vec<u8>]) -> File {
    let mut notes = pv();
    notes.extend_from_slice(more);
    File::new(&kernel()).notes(&notes)
}

fn pvh(entry: u32) -> File {
    File::new(&kernel()).notes(&[note(18, &words(&[entry]))])
}

fn ask(file: &File, guest: GuestType) -> Result<Plan, CannotStart> {
    let bytes = file.bytes();
    let elf = Elf::parse(&bytes).unwrap();
    let notes = elf.notes(&bytes).unwrap();
    plan(&elf, &notes, &bytes, guest)
}

fn starts(file: &File, guest: GuestType) -> Plan {
    ask(file, guest).unwrap_or_else(|why| panic!("{guest:?}: {why}"))
}

fn why_not(file: &File, guest: GuestType) -> String {
    match ask(file, guest) {
        Ok(plan) => panic!("{guest:?}: {plan:?}"),
        Err(why) => format!("{why}"),
    }
}

/// Entry, base and offset.
fn addresses(file: &File) -> (u64, u64, u64) {
    let plan = starts(file, GuestType::Pv);
    (plan.entry, plan.virt_base, plan.paddr_offset)
}

#[test]
fn what_is_missing_in_pv_has_a_value() {
    // The micro-VM tests of Xen's own: no ENTRY, no VIRT_BASE.
    assert_eq!(addresses(&pv_with(&[])), (0x10_0000, 0, 0));
    assert_eq!(
        addresses(&pv_with(&[long(1, 0x10_0010)])),
        (0x10_0010, 0, 0)
    );
    let mut based = pv_with(&[long(3, BASE)]);
    assert!(why_not(&based, GuestType::Pv).contains("e_entry"));
    based.entry = BASE + 0x10_0000;
    assert_eq!(addresses(&based), (BASE + 0x10_0000, BASE, 0));
    let linked_high = pv_with(&[long(3, BASE), long(4, 0x10_0000), long(1, BASE)]);
    assert_eq!(addresses(&linked_high), (BASE, BASE, 0x10_0000));
    let unset: Vec<Vec<u8>> = [1, 2, 3, 4, 15].map(|kind| long(kind, u64::MAX)).into();
    assert_eq!(addresses(&pv_with(&unset)), (0x10_0000, 0, 0));
    assert!(why_not(&pvh(u32::MAX), GuestType::Pvh).contains("no note PHYS32_ENTRY"));
    let offset = pv_with(&[long(4, 0)]);
    assert!(why_not(&offset, GuestType::Pv).contains("VIRT_BASE"));
}

#[test]
fn bounds_are_those_of_libelf() {
    let entry = |at| pv_with(&[long(1, at)]);
    assert_eq!(addresses(&entry(0x10_1234)).0, 0x10_1234);
    assert!(why_not(&entry(0x10_1235), GuestType::Pv).contains("ENTRY"));
    assert!(why_not(&entry(0xf_ffff), GuestType::Pv).contains("ENTRY"));
    let offset = pv_with(&[long(3, BASE), long(4, 0x10_0001), long(1, BASE)]);
    assert!(why_not(&offset, GuestType::Pv).contains("PADDR_OFFSET"));
    let p2m = |at| pv_with(&[long(15, at)]);
    assert!(why_not(&p2m(0x10_1000), GuestType::Pv).contains("INIT_P2M"));
    assert_eq!(
        starts(&p2m(0x10_1234), GuestType::Pv).p2m_base,
        Some(0x10_1234)
    );
    let in_pvh = File::new(&kernel()).notes(&[note(18, &words(&[0x10_0000])), long(15, 0x10_0000)]);
    assert!(why_not(&in_pvh, GuestType::Pvh).contains("INIT_P2M"));
    assert_eq!(starts(&pvh(0x10_1234), GuestType::Pvh).entry, 0x10_1234);
    assert!(why_not(&pvh(0x10_1235), GuestType::Pvh).contains("PHYS32_ENTRY"));
    assert!(why_not(&pvh(0), GuestType::Pvh).contains("PHYS32_ENTRY"));
}

#[test]
fn a_32_bit_file_starts_in_pvh() {
    for machine in [3, 62] {
        let file = pvh(0x10_0004).narrow(machine);
        assert_eq!(starts(&file, GuestType::Pvh).entry, 0x10_0004);
        assert_eq!(starts(&file, GuestType::Dom0Pvh).entry, 0x10_0004);
        assert!(why_not(&file, GuestType::Hvm).contains("32-bit"));
    }
    // The machine says a PV kernel's width, the class dom0's.
    let file = pv_with(&[]).narrow(3);
    assert!(why_not(&file, GuestType::Pv).contains("32-bit PV kernel"));
    let file = pv_with(&[]).narrow(62);
    assert_eq!(addresses(&file), (0x10_0000, 0, 0));
    assert!(why_not(&file, GuestType::Dom0Pv).contains("32-bit"));
}

#[test]
fn the_old_section_is_for_pv_alone() {
    let old = |text: &str| {
        let mut file = File::new(&[seg(0x1000, BASE + 0x10_0000, 8, 8)]);
        file.entry = BASE + 0x10_0000;
        file.section("__xen_guest", 1, text.as_bytes(), 0)
    };
    let file =
        old("LOADER=generic,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000,HYPERCALL_PAGE=0x100\0");
    // Its addresses count from VIRT_BASE.
    assert_eq!(addresses(&file), (BASE + 0x10_0000, BASE, BASE));
    let page = starts(&file, GuestType::Pv).hypercall_page;
    assert_eq!(page, Some(BASE + 0x10_0000));
    assert!(why_not(&file, GuestType::Pvh).contains("no Xen ELF notes"));
    let low = old("LOADER=generic,XEN_VER=xen-3.0,VIRT_BASE=0,ELF_PADDR_OFFSET=0\0");
    assert_eq!(addresses(&low), (BASE + 0x10_0000, 0, 0));
    let unknown = old("GUEST_OS=linux,XEN_VER=xen-3.0,FEATURES=!mystery\0");
    assert!(ask(&unknown, GuestType::Pv).is_ok());
}

#[test]
fn features_decide() {
    let with = |text: &[u8]| {
        let mut notes = pv();
        notes.extend([note(18, &words(&[0x10_0000])), note(10, text)]);
        File::new(&kernel()).notes(&notes)
    };
    use GuestType::{Dom0Pv, Dom0Pvh, Pv, Pvh};
    let refused = |text: &[u8]| -> Vec<GuestType> {
        let all = [Pv, Pvh, Dom0Pv, Dom0Pvh];
        all.into_iter()
            .filter(|guest| ask(&with(text), *guest).is_err())
            .collect()
    };
    assert_eq!(refused(b"!writable_page_tables|mystery\0"), []);
    assert_eq!(refused(b"!mystery\0"), [Pv, Pvh, Dom0Pv, Dom0Pvh]);
    assert_eq!(refused(b"!dom0\0"), [Pv, Pvh]);
    assert_eq!(refused(b"!auto_translated_physmap\0"), [Pv]);
    assert_eq!(refused(b"!supervisor_mode_kernel\0"), [Dom0Pv]);
    assert_eq!(refused(b"!hvm_callback_vector\0"), []);
    let supported = |bits: u32| {
        let mut notes = pv();
        notes.push(note(17, &words(&[bits])));
        File::new(&kernel()).notes(&notes)
    };
    assert!(ask(&supported(1), Pv).is_ok());
    assert!(why_not(&supported(1), Dom0Pv).contains("dom0"));
    assert!(ask(&supported(1 << 11), Dom0Pv).is_ok());
}

#[test]
fn loaders_and_versions_are_prefixes() {
    let of = |loader: &[u8], os: &[u8], version: &[u8]| {
        let notes = [note(8, loader), note(6, os), note(5, version)];
        ask(&File::new(&kernel()).notes(&notes), GuestType::Pv)
    };
    assert!(of(b"generic+\0", b"x\0", b"xen-3.0-x86_64\0").is_ok());
    assert!(of(b"grub\0", b"linux 2\0", b"xen-3.0\0").is_ok());
    assert!(of(b"grub\0", b"Linux\0", b"xen-3.0\0").is_err());
    assert!(of(b"generic\0", b"\0", b"xen-2.0\0").is_err());
    assert!(matches!(
        ask(&File::new(&kernel()), GuestType::Pv),
        Err(CannotStart::NoNotes)
    ));
    let none = File::new(&kernel()).notes(&[note(8, b"generic\0")]);
    assert!(why_not(&none, GuestType::Pv).contains("XEN_VERSION"));
    assert!(why_not(&none, GuestType::Pvh).contains("PHYS32_ENTRY"));
}

#[test]
fn a_hypercall_page_is_a_whole_page() {
    let page = |at| starts(&pv_with(&[long(2, at)]), GuestType::Pv).hypercall_page;
    assert_eq!(page(0x10_1234), Some(0x10_1000));
    assert_eq!(page(u64::MAX), None);
    let outside = |at| why_not(&pv_with(&[long(2, at)]), GuestType::Pv);
    assert!(outside(0x10_2000).contains("HYPERCALL_PAGE"));
    assert!(outside(0xf_f000).contains("HYPERCALL_PAGE"));
    let odd = pv_with(&[long(3, 8), long(4, 8), long(1, 0x10_0000)]);
    assert!(why_not(&odd, GuestType::Pv).contains("VIRT_BASE"));
}

#[test]
fn a_kernel_may_be_elsewhere_in_pvh() {
    let reloc = |desc: &[u32]| {
        let notes = [note(18, &words(&[0x10_0000])), note(19, &words(desc))];
        starts(&File::new(&kernel()).notes(&notes), GuestType::Pvh)
            .relocation
            .unwrap()
    };
    let of = |align, min, max| Relocation {
        align: Some(align),
        min,
        max,
    };
    assert_eq!(reloc(&[]), of(4096, 0, u32::MAX));
    assert_eq!(reloc(&[0x20_0000]), of(0x20_0000, 0, u32::MAX));
    assert_eq!(
        reloc(&[0x20_0000, 0x10_0000, 0x3fff_ffff]),
        of(0x20_0000, 0x10_0000, 0x3fff_ffff)
    );
    assert_eq!(starts(&pvh(0x10_0000), GuestType::Pvh).relocation, None);
}

#[test]
fn an_hvm_guest_starts_linux_alone() {
    let os = |os: &[u8]| File::new(&kernel()).notes(&[note(6, os)]);
    let mut vmlinux = os(b"linux\0");
    vmlinux.entry = BASE + 0x10_0000;
    assert_eq!(starts(&vmlinux, GuestType::Hvm).entry, 0x10_0000);
    assert_eq!(
        starts(&File::new(&kernel()), GuestType::Hvm).entry,
        0x10_0000
    );
    assert!(why_not(&os(b"FreeBSD\0"), GuestType::Hvm).contains("FreeBSD"));
}

/// A file with symbols, which its notes ask for.
fn bsd(answer: &[u8]) -> File {
    let mut notes = pv();
    notes.extend([note(18, &words(&[0x10_0000])), note(11, answer)]);
    File::new(&kernel())
        .notes(&notes)
        .section(".symtab", 2, &[0xaa; 50], 2)
        .section(".strtab", 3, b"\0name\0", 0)
}

#[test]
fn symbols_lie_behind_the_kernel() {
    for guest in [GuestType::Pv, GuestType::Pvh] {
        let file = bsd(b"yes\0");
        let symbols = starts(&file, guest).symbols.unwrap();
        assert_eq!(symbols.start, 0x10_1238);
        let [symtab, strtab] = symbols.parts;
        assert_eq!((symtab.1, symtab.2), (0x10_1238 + 264, 50));
        assert_eq!((strtab.1, strtab.2), (0x10_1238 + 264 + 56, 6));
        assert_eq!(symbols.end, 0x10_1238 + 264 + 56 + 8);
        assert_eq!(symbols.written_end, strtab.1 + 6);
        let bytes = file.bytes();
        let at = usize::try_from(symtab.0).unwrap();
        assert_eq!(&bytes[at..at + 50], &[0xaa; 50]);

        // The headers, read by the library that reads any other ELF file.
        use object::{
            LittleEndian as LE,
            elf::{FileHeader64, SHT_STRTAB, SHT_SYMTAB},
            read::elf::{FileHeader as _, SectionHeader as _},
        };
        let size = u32::from_le_bytes(*symbols.headers.first_chunk().unwrap());
        assert_eq!(u64::from(size), symbols.written_end - symbols.start - 4);
        let elf = &symbols.headers[4..];
        let header = FileHeader64::<LE>::parse(elf).unwrap();
        assert_eq!((header.e_phnum.get(LE), header.e_shnum.get(LE)), (0, 3));
        let sections = header.section_headers(LE, elf).unwrap();
        assert_eq!(sections[0].sh_type.get(LE).0, 0);
        assert_eq!(sections[1].sh_type(LE), SHT_SYMTAB);
        assert_eq!(sections[1].sh_link.get(LE), 2);
        assert_eq!(sections[1].sh_offset.get(LE), symtab.1 - symbols.start - 4);
        assert_eq!(sections[2].sh_type(LE), SHT_STRTAB);
        assert_eq!(sections[2].sh_offset.get(LE), strtab.1 - symbols.start - 4);
    }
}

#[test]
fn a_narrow_files_symbols_are_narrow() {
    let symbols = starts(&bsd(b"yes\0").narrow(3), GuestType::Pvh)
        .symbols
        .unwrap();
    assert_eq!(symbols.start, 0x10_1234);
    let [symtab, strtab] = symbols.parts;
    assert_eq!(symtab.1, 0x10_1234 + 260);
    assert_eq!(strtab.1, 0x10_1234 + 260 + 52);
    // As libelf counts, which is less than what it writes.
    assert_eq!(symbols.end, 0x10_1234 + 192 + 52 + 8);
    assert_eq!(symbols.headers.len(), 68 + 3 * 40);
}

#[test]
fn symbols_come_only_where_they_are_asked_for() {
    assert_eq!(starts(&bsd(b"no\0"), GuestType::Pv).symbols, None);
    // No table, or one without strings: libelf starts it all the same.
    let none = pv_with(&[note(11, b"yes\0")]);
    assert_eq!(starts(&none, GuestType::Pv).symbols, None);
    let mut odd = bsd(b"yes\0");
    odd.sections[0].3 = 9;
    assert_eq!(starts(&odd, GuestType::Pv).symbols, None);
    odd.sections[0].3 = 1;
    assert_eq!(starts(&odd, GuestType::Pv).symbols, None);
}
