//! Placing kernels, byte for byte.

use alloc::{collections::BTreeMap, vec, vec::Vec};
use core::cell::RefCell;

use kexen_abi::hypercall::Hypercall;
use kexen_guest::{Arg, Extent, Extents, Fault, Machine};
use proptest::prelude::*;

use super::{Placement, Segment, elsewhere, finish};
use crate::HandoffError;

fn segment(offset: u64, address: u64, filesz: u64, memsz: u64) -> Segment {
    Segment {
        offset,
        address,
        filesz,
        memsz,
    }
}

/// Where the file is unpacked.
const FILE: u64 = 1 << 40;

/// Pages, each at its own address, and the file's once more in order.
struct Pages {
    pages: RefCell<BTreeMap<u64, Vec<u8>>>,
    file: Vec<u64>,
}

impl Pages {
    /// The page at an address, and where in it that is.
    fn at(&self, address: u64) -> (u64, usize) {
        let page = match address.checked_sub(FILE) {
            Some(at) => self.file[usize::try_from(at / 4096).unwrap()],
            None => address / 4096,
        };
        (page, usize::try_from(address % 4096).unwrap())
    }

    /// Has `act` see each page's part of a range, and how far it is in.
    fn each(&self, at: u64, len: usize, act: &mut dyn FnMut(usize, &mut [u8])) {
        let mut pages = self.pages.borrow_mut();
        let mut done = 0;
        while done < len {
            let (page, start) = self.at(at + u64::try_from(done).unwrap());
            let n = (4096 - start).min(len - done);
            act(done, &mut pages.get_mut(&page).unwrap()[start..start + n]);
            done += n;
        }
    }
}

impl Machine for Pages {
    fn hypercall(&self, _: Hypercall, _: &mut [Arg<'_>]) -> i64 {
        unreachable!()
    }
    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.each(at, into.len(), &mut |n, part| {
            into[n..n + part.len()].copy_from_slice(part);
        });
        Ok(())
    }
    fn write(&self, at: u64, from: &[u8]) -> Result<(), Fault> {
        self.each(at, from.len(), &mut |n, part| {
            part.copy_from_slice(&from[n..n + part.len()]);
        });
        Ok(())
    }
    fn fill(&self, at: u64, len: u64, with: u8) -> Result<(), Fault> {
        self.each(at, usize::try_from(len).unwrap(), &mut |_, part| {
            part.fill(with)
        });
        Ok(())
    }
    fn lend(&self, _: u64, _: u64, _: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        unreachable!()
    }
    fn load32(&self, _: u64) -> Result<u32, Fault> {
        unreachable!()
    }
    fn store32(&self, _: u64, _: u32) -> Result<(), Fault> {
        unreachable!()
    }
    fn exchange32(&self, _: u64, _: u32, _: u32) -> Result<u32, Fault> {
        unreachable!()
    }
    fn invalidate(&self, _: u64) {}
}

/// What comes behind the kernel: bytes at an address, and parts of the file.
type After<'a> = ((u64, &'a [u8]), &'a [(u64, u64, u64)]);

/// Loads by the plan and by the book, and compares all of memory.
fn check(segments: &[Segment], file: &[u8], free: &mut Extents) {
    check_all(segments, file, free, None, None);
}

/// The same with something behind the kernel, and at another page.
fn check_all(
    segments: &[Segment],
    file: &[u8],
    free: &mut Extents,
    after: Option<After<'_>>,
    elsewhere: Option<u64>,
) {
    let file_len = u64::try_from(file.len()).unwrap();
    let mut plan = Placement::plan(segments, file_len, 1 << 20).unwrap();
    let mut chosen = plan.choose(free).unwrap();
    let mut behind = None;
    if let Some((bytes, parts)) = after {
        let (more, what) = plan.behind(bytes, parts, 1 << 20).unwrap();
        let more_chosen = more.choose(free).unwrap();
        plan.join(&mut chosen, &more, more_chosen);
        behind = Some(what);
    }
    let mut pages = BTreeMap::new();
    for (n, page) in chosen.file.iter().enumerate() {
        let mut bytes = file[n * 4096..file.len().min((n + 1) * 4096)].to_vec();
        bytes.resize(4096, 0xee);
        assert!(pages.insert(*page, bytes).is_none(), "a page chosen twice");
    }
    for (_, page) in &chosen.fresh {
        assert!(pages.insert(*page, vec![0xdd; 4096]).is_none());
    }
    let m = Pages {
        pages: RefCell::new(pages),
        file: chosen.file.clone(),
    };
    finish(
        &m,
        &plan,
        &chosen,
        FILE,
        &|page| page * 4096,
        behind.as_ref(),
    )
    .unwrap();
    let base = plan.kernel.start * 4096;
    if let Some(start) = elsewhere {
        for (from, to) in plan.relocate(&mut chosen, start, free).unwrap() {
            let mut pages = m.pages.borrow_mut();
            let bytes = pages.remove(&from).unwrap();
            assert!(pages.insert(to, bytes).is_none());
        }
        assert_eq!(plan.kernel.start, start);
    }
    let pages = m.pages.into_inner();
    let content = chosen.content(&plan);
    let mut want = vec![0; usize::try_from(plan.kernel.count * 4096).unwrap()];
    let mut put = |address: u64, bytes: &[u8]| {
        let to = usize::try_from(address - base).unwrap();
        want[to..to + bytes.len()].copy_from_slice(bytes);
    };
    let part = |offset: u64, len: u64| {
        let from = usize::try_from(offset).unwrap();
        &file[from..from + usize::try_from(len).unwrap()]
    };
    for s in segments {
        put(s.address, part(s.offset, s.filesz));
    }
    if let Some(((address, bytes), parts)) = after {
        put(address, bytes);
        for (offset, address, len) in parts {
            put(*address, part(*offset, *len));
        }
    }
    assert_eq!(u64::try_from(content.len()).unwrap(), plan.kernel.count);
    for (n, (target, page)) in content.iter().enumerate() {
        assert_eq!(*target, plan.kernel.start + u64::try_from(n).unwrap());
        // What is copied last is not written over before.
        assert!(target == page || elsewhere.is_none() || !plan.kernel.contains(*page));
        assert_eq!(
            pages[page],
            want[n * 4096..(n + 1) * 4096],
            "page {target:#x}"
        );
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from(state >> 24).unwrap() | 1
        })
        .collect()
}

fn free(start: u64, count: u64) -> Extents {
    let mut set = Extents::new();
    set.insert(Extent::new(start, count));
    set
}

#[test]
fn linux_like_segments_need_no_copy() {
    let segments = [
        segment(0x1000, 0x10_0000, 0x2a10, 0x2a10),
        segment(0x4000, 0x10_3000, 0x1000, 0x1000),
        segment(0x6000, 0x10_4000, 0x800, 0x3000),
    ];
    let plan = Placement::plan(&segments, 0x7000, 1 << 20).unwrap();
    assert_eq!(plan.copies, []);
    check(&segments, &noise(0x7000), &mut free(0, 0x200));
}

#[test]
fn a_shared_file_page_is_copied_once() {
    let segments = [
        segment(0x100, 0x20_0100, 0x1200, 0x1200),
        segment(0x1300, 0x20_2300, 0xd00, 0x2000),
    ];
    let plan = Placement::plan(&segments, 0x2000, 1 << 20).unwrap();
    assert_eq!(plan.copies.len(), 1);
    check(&segments, &noise(0x2000), &mut free(0x200, 0x10));
    check(&segments, &noise(0x2000), &mut free(0x900, 0x10));
}

#[test]
fn bytes_that_are_copied_are_not_written_over_before() {
    // The file's second page is the end of the first segment and the start of
    // the last one; the middle one's bytes go where the last one's are.
    let segments = [
        segment(0x1000, 0x20_0000, 0x400, 0x400),
        segment(0x2000, 0x20_0400, 0x400, 0x400),
        segment(0x1400, 0x20_1400, 0x600, 0x600),
    ];
    check(&segments, &noise(0x3000), &mut free(0x200, 0x10));
    // Zeroes do the same.
    let segments = [
        segment(0x1000, 0x20_0000, 0x400, 0x1000),
        segment(0x1400, 0x20_1400, 0x600, 0x600),
    ];
    check(&segments, &noise(0x3000), &mut free(0x200, 0x10));
}

#[test]
fn symbols_come_behind_the_kernel() {
    // Its last page is the file page that has the symbols, too.
    let segments = [segment(0x1000, 0x20_0000, 0x1480, 0x1500)];
    let header = noise(0x108);
    let parts = [(0x2480, 0x20_1608, 0x300), (0x2790, 0x20_1908, 0x2345)];
    let after = ((0x20_1500, header.as_slice()), parts.as_slice());
    let file = noise(0x5000);
    check_all(&segments, &file, &mut free(0x200, 0x20), Some(after), None);
    check_all(&segments, &file, &mut free(0x500, 0x20), Some(after), None);
    check_all(
        &segments,
        &file,
        &mut free(0x200, 0x20),
        Some(after),
        Some(0x201),
    );
    // All in one page.
    let parts = [(0x2480, 0x20_1608, 0x30), (0x24b0, 0x20_1640, 0x30)];
    let after = ((0x20_1500, header.as_slice()), parts.as_slice());
    check_all(&segments, &file, &mut free(0x200, 0x20), Some(after), None);
    let plan = Placement::plan(&segments, 0x5000, 1 << 20).unwrap();
    assert!(
        plan.behind((0x20_1500, &[]), &[(0, 1 << 40, 1)], 100)
            .is_err()
    );
    assert!(
        plan.behind((0x20_1500, &[]), &[(0, 8, u64::MAX)], 100)
            .is_err()
    );
}

#[test]
fn another_place_is_the_highest_that_will_do() {
    let mut ram = free(0, 0xa0);
    ram.insert(Extent::new(0x100, 0x700));
    ram.insert(Extent::new(0x10_0000, 0x400));
    let kernel = (0x100_0000, 0x120_1234);
    let at = |align, min, max| elsewhere(&ram, kernel, align, (min, max));
    assert_eq!(at(0x20_0000, 0, u64::MAX), Some(0x1_0000_0000));
    assert_eq!(at(0x20_0000, 0, 0xffff_ffff), Some(0x40_0000));
    assert_eq!(at(0x1000, 0, 0xffff_ffff), Some(0x5f_e000));
    assert_eq!(at(0x1000, 0, 0x3f_ffff), Some(0x1f_e000));
    assert_eq!(at(0x20_0000, 0, 0x3f_ffff), None);
    assert_eq!(at(0x20_0000, 0x40_0001, 0xffff_ffff), None);
    assert_eq!(at(0, 0, u64::MAX), None);
    assert_eq!(at(0x3000, 0, u64::MAX), None);
    assert_eq!(elsewhere(&ram, (0x10, 0x20), 4096, (0, u64::MAX)), None);
}

#[test]
fn too_little_memory_says_how_much() {
    let segments = [segment(0, 0x10_0000, 0x2000, 0x2000)];
    let plan = Placement::plan(&segments, 0x2000, 1 << 20).unwrap();
    assert_eq!(
        plan.choose(&mut free(0, 1)),
        Err(HandoffError::Memory {
            what: "the decompressed kernel",
            want: 2,
            have: 1
        })
    );
    assert!(matches!(
        Placement::plan(&segments, 0x2000, 1),
        Err(HandoffError::Memory {
            want: 2,
            have: 1,
            ..
        })
    ));
    assert!(matches!(
        Placement::plan(&segments, 0x1fff, 9),
        Err(HandoffError::Kernel {
            field: "p_offset",
            ..
        })
    ));
}

proptest! {
    #[test]
    fn any_kernel_is_placed_byte_for_byte(
        parts in proptest::collection::vec((0_u64..3, 1_u64..9000, 0_u64..6000, 0_u64..9000), 1..6),
        aligned in any::<bool>(),
        free_start in 0_u64..0x140,
        turn in 0_usize..6,
        elsewhere in proptest::option::of(0x80_u64..0x140),
    ) {
        let mut segments = Vec::new();
        let (mut offset, mut address) = (0x340_u64, 0x10_0340_u64);
        for (skip, filesz, bss, gap) in parts {
            offset += skip * 4096 + if aligned { gap } else { gap / 3 };
            address += skip * 8192 + gap;
            segments.push(segment(offset, address, filesz, filesz + bss));
            offset += filesz;
            address += filesz + bss;
            if aligned {
                // Congruent, as linkers make them.
                address += (offset % 4096 + 4096 - address % 4096) % 4096;
            }
        }
        let file = noise(usize::try_from(offset + 77).unwrap());
        check(&segments, &file, &mut free(free_start, 0x400));
        // The same addresses with the file's parts in another order.
        let count = segments.len();
        let was = segments.clone();
        for (n, segment) in segments.iter_mut().enumerate() {
            let other = was[(n + turn) % count];
            segment.offset = other.offset;
            segment.filesz = segment.memsz.min(other.filesz);
        }
        check_all(&segments, &file, &mut free(free_start, 0x400), None, elsewhere);
    }
}
