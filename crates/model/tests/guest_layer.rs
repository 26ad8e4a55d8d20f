//! The guest layer, unchanged, on the model.

use kexen_abi::PAGE_SIZE;
use kexen_guest::{Extent, Extents, Machine, pv};
use kexen_model::{Build, PvImage, Vcpu, Xen};

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
