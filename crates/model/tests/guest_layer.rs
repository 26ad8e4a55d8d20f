//! The guest layer, unchanged, on the model.

use kexen_abi::PAGE_SIZE;
use kexen_guest::{Extent, Extents, Machine, hvm, pv};
use kexen_model::{Build, Kind, PvImage, Vcpu, Xen};

fn start(build: Build, image: PvImage) -> (Vcpu, pv::Start, pv::AddressSpace) {
    let xen = Xen::default();
    let guest = xen.pv_guest(build, image);
    let m = guest.vcpu(0);
    let day = guest.start_of_day().unwrap();
    let start = pv::Start::read(&m, day.start_info, day.virt_base).unwrap();
    let boot = start.boot_pages();
    let root = m
        .read64(start.info.mfn_list + (start.info.pt_base - day.virt_base) / PAGE_SIZE * 8)
        .unwrap();
    let padding = pv::start::PADDING_PAGES;
    let space = pv::AddressSpace::new(&start, root, boot + padding, Extent::new(boot, padding));
    (m, start, space)
}

#[test]
fn a_window_is_mapped_and_written() {
    for p2m_base in [None, Some(0x80_0000_0000)] {
        let build = Build {
            pages: 8192,
            ..Build::default()
        };
        let (m, start, mut space) = start(
            build,
            PvImage {
                p2m_base,
                ..PvImage::default()
            },
        );
        let mut pages = Extents::new();
        pages.insert(Extent::new(5000, 2000));
        space
            .map_window(&m, &pages)
            .unwrap_or_else(|e| panic!("{e}: {:?}", m.xen().take_log()));
        for pfn in 5000..7000 {
            m.write64(space.address(pfn), pfn).unwrap();
        }
        for pfn in 5000..7000 {
            assert_eq!(m.read64(space.address(pfn)).unwrap(), pfn);
            assert_eq!(space.lookup(&m, space.address(pfn)).unwrap(), Some(pfn));
        }
        assert_eq!(start.info.nr_pages, 8192);
    }
}

#[test]
fn what_was_written_is_known_by_large_pages() {
    use kexen_abi::mmu::{PAGE_DIRTY, PAGE_PRESENT, PAGE_PSE, PAGE_RW};
    let guest = Xen::default().domain(Kind::Pvh, Build::default());
    let m = guest.vcpu(0);
    let (l4, l3, l2) = (PAGE_SIZE, 2 * PAGE_SIZE, 3 * PAGE_SIZE);
    m.write64(l4, l3 | PAGE_PRESENT | PAGE_RW).unwrap();
    m.write64(l3, l2 | PAGE_PRESENT | PAGE_RW).unwrap();
    for n in 0..4 {
        let dirty = if n == 1 { PAGE_DIRTY } else { 0 };
        let entry = (n << 21) | PAGE_PRESENT | PAGE_RW | PAGE_PSE | dirty;
        m.write64(l2 + n * 8, entry).unwrap();
    }
    let space = hvm::AddressSpace::new(l4);
    let written = |start, count| {
        let found = space.written(&m, Extent::new(start, count)).unwrap();
        found.runs().to_vec()
    };
    assert_eq!(written(100, 1400), [Extent::new(512, 512)]);
    assert_eq!(written(1000, 10), [Extent::new(1000, 10)]);
    assert_eq!(written(1020, 10), [Extent::new(1020, 4)]);
    assert_eq!(written(0, 512), []);
    // Nothing is mapped there.
    assert_eq!(written(4 * 512, 100), []);
}
