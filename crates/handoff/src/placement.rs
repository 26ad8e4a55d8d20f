//! Which page of the kernel file becomes which page of memory.
//!
//! The decompressor writes the ELF file into a contiguous virtual buffer.
//! The pages behind that buffer are chosen here, before it runs, so that a
//! segment's bytes are at once where they belong, or (PV) in frames that
//! are exchanged to there: no byte of a page-aligned segment moves twice.
//!
//! Left to do afterwards: bytes of segments that share a file page with
//! another one are copied; what no file byte covers is zeroed.

use alloc::vec::Vec;

use kexen_abi::PAGE_SIZE;
use kexen_guest::{Extent, Extents, Machine};

use crate::HandoffError;

/// A loadable segment; addresses in bytes, relative to page 0 of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where its bytes begin in the file.
    pub offset: u64,
    /// Where it begins in memory.
    pub address: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// Bytes in memory; what exceeds `filesz` is zero.
    pub memsz: u64,
}

/// Bytes to copy from the file to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where in the file.
    pub offset: u64,
    /// Where in memory.
    pub address: u64,
    /// How many; never across a page of memory.
    pub len: u64,
}

/// Bytes to zero in memory, never across a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zero {
    /// Where in memory.
    pub address: u64,
    /// How many.
    pub len: u64,
}

/// Where everything of a kernel file goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Pages of memory that the kernel takes, holes between segments too.
    pub kernel: Extent,
    /// For each page of the file: the page of memory that it becomes.
    pub targets: Vec<Option<u64>>,
    /// Copies that remain.
    pub copies: Vec<Copy>,
    /// Zeroing that remains.
    pub zeroes: Vec<Zero>,
    /// Pages of memory that no file page becomes.
    pub fresh: Extents,
}

const fn bad(field: &'static str, value: u64, why: &'static str) -> HandoffError {
    HandoffError::Kernel { field, value, why }
}

impl Placement {
    /// Plans for a file of `file_len` bytes. Segments are sorted by address
    /// and do not overlap (the ELF reader checked that); at most `max_pages`
    /// pages of memory are taken.
    pub fn plan(segments: &[Segment], file_len: u64, max_pages: u64) -> Result<Self, HandoffError> {
        let first = segments
            .first()
            .ok_or(bad("e_phnum", 0, "there is no PT_LOAD segment"))?;
        let mut end = 0;
        for segment in segments {
            let file_end = segment
                .offset
                .checked_add(segment.filesz)
                .filter(|end| *end <= file_len);
            if file_end.is_none() {
                return Err(bad(
                    "p_offset",
                    segment.offset,
                    "beyond the end of the file",
                ));
            }
            end = segment
                .address
                .checked_add(segment.memsz)
                .ok_or(bad("p_memsz", segment.memsz, "wraps around"))?
                .max(end);
        }
        let start_page = first.address / PAGE_SIZE;
        let pages = end.div_ceil(PAGE_SIZE) - start_page;
        if pages > max_pages {
            return Err(HandoffError::Memory {
                what: "the kernel",
                want: pages,
                have: max_pages,
            });
        }
        let file_pages = usize::try_from(file_len.div_ceil(PAGE_SIZE))
            .map_err(|_| bad("file size", file_len, "too large"))?;
        let mut plan = Self {
            kernel: Extent::new(start_page, pages),
            targets: alloc::vec![None; file_pages],
            ..Self::default()
        };
        plan.fresh.insert(plan.kernel);
        for segment in segments {
            plan.place(segment);
        }
        plan.zero_the_rest(segments);
        Ok(plan)
    }

    /// Takes `bytes` off all addresses, in the pages chosen for it too: a PV
    /// kernel says in a note, which is known only once it is decompressed,
    /// which of its physical addresses is page 0.
    pub fn rebase(&mut self, chosen: &mut Chosen, bytes: u64) -> Result<(), HandoffError> {
        if !bytes.is_multiple_of(PAGE_SIZE) || bytes / PAGE_SIZE > self.kernel.start {
            return Err(bad(
                "PADDR_OFFSET",
                bytes,
                "not page-aligned, or above the kernel's first address",
            ));
        }
        let pages = bytes / PAGE_SIZE;
        self.kernel.start -= pages;
        for target in self.targets.iter_mut().flatten() {
            *target -= pages;
        }
        for copy in &mut self.copies {
            copy.address -= bytes;
        }
        for zero in &mut self.zeroes {
            zero.address -= bytes;
        }
        let mut fresh = Extents::new();
        for run in self.fresh.runs() {
            fresh.insert(Extent::new(run.start - pages, run.count));
        }
        self.fresh = fresh;
        for (target, _) in &mut chosen.fresh {
            *target -= pages;
        }
        Ok(())
    }

    /// Lets the file's pages become the segment's, or notes a copy where
    /// they cannot.
    fn place(&mut self, segment: &Segment) {
        let aligned = segment.offset % PAGE_SIZE == segment.address % PAGE_SIZE;
        let mut done = 0;
        while done < segment.filesz {
            let address = segment.address + done;
            let offset = segment.offset + done;
            let len = (PAGE_SIZE - address % PAGE_SIZE).min(segment.filesz - done);
            let page = address / PAGE_SIZE;
            let slot = usize::try_from(offset / PAGE_SIZE)
                .ok()
                .and_then(|n| self.targets.get_mut(n));
            match slot {
                Some(slot) if aligned && slot.is_none() && self.fresh.contains(page) => {
                    *slot = Some(page);
                    self.fresh.remove(Extent::new(page, 1));
                }
                _ => self.copies.push(Copy {
                    offset,
                    address,
                    len,
                }),
            }
            done += len;
        }
    }

    /// Notes what of the kernel's pages no segment's file bytes cover.
    fn zero_the_rest(&mut self, segments: &[Segment]) {
        let mut at = self.kernel.start * PAGE_SIZE;
        let end = self.kernel.end() * PAGE_SIZE;
        let bytes = segments.iter().map(|s| (s.address, s.address + s.filesz));
        for (from, to) in bytes.chain([(end, end)]) {
            while at < from {
                let len = (PAGE_SIZE - at % PAGE_SIZE).min(from - at);
                self.zeroes.push(Zero { address: at, len });
                at += len;
            }
            at = at.max(to);
        }
    }

    /// Chooses the pages behind the decompressor's buffer from `free`: the
    /// target itself where it is free, any page otherwise; and a page for
    /// each fresh page of the kernel likewise.
    pub fn choose(&self, free: &mut Extents) -> Result<Chosen, HandoffError> {
        let want = u64::try_from(self.targets.len()).unwrap_or(u64::MAX) + self.fresh.count();
        let have = free.count();
        let short = HandoffError::Memory {
            what: "the decompressed kernel",
            want,
            have,
        };
        // All targets first, so that no other page is taken from them.
        let mut file: Vec<Option<u64>> = alloc::vec![None; self.targets.len()];
        for (slot, target) in file.iter_mut().zip(&self.targets) {
            if let Some(page) = target.filter(|page| free.contains(*page)) {
                free.remove(Extent::new(page, 1));
                *slot = Some(page);
            }
        }
        let mut fresh = Vec::new();
        let mut homeless = Vec::new();
        for page in self.fresh.pages() {
            if free.contains(page) {
                free.remove(Extent::new(page, 1));
                fresh.push((page, page));
            } else {
                homeless.push(page);
            }
        }
        let missing = file.iter().filter(|slot| slot.is_none()).count() + homeless.len();
        let spare = free
            .take(u64::try_from(missing).unwrap_or(u64::MAX))
            .ok_or(short)?;
        let mut spare = spare.pages();
        for slot in &mut file {
            if slot.is_none() {
                *slot = spare.next();
            }
        }
        fresh.extend(homeless.into_iter().zip(&mut spare));
        Ok(Chosen {
            file: file.into_iter().flatten().collect(),
            fresh,
        })
    }
}

/// The pages chosen for a placement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The page behind each page of the file.
    pub file: Vec<u64>,
    /// For each fresh page: (page of memory, page that stands in for it).
    pub fresh: Vec<(u64, u64)>,
}

impl Chosen {
    /// Pairs (page of memory, page that holds its bytes), sorted by the first.
    #[must_use]
    pub fn content(&self, placement: &Placement) -> Vec<(u64, u64)> {
        let mut content: Vec<(u64, u64)> = placement
            .targets
            .iter()
            .zip(&self.file)
            .filter_map(|(target, page)| target.map(|target| (target, *page)))
            .chain(self.fresh.iter().copied())
            .collect();
        content.sort_unstable();
        content
    }

    /// Pages of the file that become no page of the kernel: free again once
    /// the file has been read.
    pub fn scratch<'a>(&'a self, placement: &'a Placement) -> impl Iterator<Item = u64> + 'a {
        placement
            .targets
            .iter()
            .zip(&self.file)
            .filter(|(target, _)| target.is_none())
            .map(|(_, page)| *page)
    }

    /// All pages that were chosen.
    pub fn all(&self) -> impl Iterator<Item = u64> + '_ {
        self.file
            .iter()
            .copied()
            .chain(self.fresh.iter().map(|(_, page)| *page))
    }
}

/// Does what the plan left to do once the file is in its buffer at `file`:
/// copies and zeroing. `address` tells where a fresh page can be written.
pub fn finish<M: Machine + ?Sized>(
    m: &M,
    placement: &Placement,
    chosen: &Chosen,
    file: u64,
    address: &dyn Fn(u64) -> u64,
) -> Result<(), HandoffError> {
    let mut at: Vec<(u64, u64)> = (0_u64..)
        .zip(&placement.targets)
        .filter_map(|(n, target)| target.map(|page| (page, file + n * PAGE_SIZE)))
        .chain(
            chosen
                .fresh
                .iter()
                .map(|(page, own)| (*page, address(*own))),
        )
        .collect();
    at.sort_unstable();
    let place = |byte: u64| {
        holder(&at, byte / PAGE_SIZE)
            .map(|page| page + byte % PAGE_SIZE)
            .ok_or(bad("p_paddr", byte, "no page was chosen for it"))
    };
    let mut page = [0_u8; 4096];
    for copy in &placement.copies {
        let part = &mut page[..usize::try_from(copy.len).unwrap_or(0)];
        m.read(file + copy.offset, part)?;
        m.write(place(copy.address)?, part)?;
    }
    for zero in &placement.zeroes {
        m.fill(place(zero.address)?, zero.len, 0)?;
    }
    Ok(())
}

/// The page that holds the bytes of a page of memory.
#[must_use]
pub fn holder(content: &[(u64, u64)], page: u64) -> Option<u64> {
    let at = content.binary_search_by_key(&page, |(target, _)| *target);
    at.ok().map(|at| content[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn segment(offset: u64, address: u64, filesz: u64, memsz: u64) -> Segment {
        Segment {
            offset,
            address,
            filesz,
            memsz,
        }
    }

    /// Loads by the plan and by the book, and compares all of memory.
    fn check(segments: &[Segment], file: &[u8], free: &mut Extents) {
        let file_len = u64::try_from(file.len()).unwrap();
        let plan = Placement::plan(segments, file_len, 1 << 20).unwrap();
        let chosen = plan.choose(free).unwrap();
        let mut pages = alloc::collections::BTreeMap::<u64, Vec<u8>>::new();
        for (n, page) in chosen.file.iter().enumerate() {
            let mut bytes = file[n * 4096..file.len().min((n + 1) * 4096)].to_vec();
            bytes.resize(4096, 0xee);
            assert!(pages.insert(*page, bytes).is_none(), "a page chosen twice");
        }
        for (_, page) in &chosen.fresh {
            assert!(pages.insert(*page, vec![0xdd; 4096]).is_none());
        }
        let content = chosen.content(&plan);
        let at = |address: u64| {
            let page = holder(&content, address / 4096).unwrap();
            (page, usize::try_from(address % 4096).unwrap())
        };
        for copy in &plan.copies {
            let (page, start) = at(copy.address);
            let len = usize::try_from(copy.len).unwrap();
            let from = usize::try_from(copy.offset).unwrap();
            pages.get_mut(&page).unwrap()[start..start + len]
                .copy_from_slice(&file[from..from + len]);
        }
        for zero in &plan.zeroes {
            let (page, start) = at(zero.address);
            let len = usize::try_from(zero.len).unwrap();
            pages.get_mut(&page).unwrap()[start..start + len].fill(0);
        }
        let base = plan.kernel.start * 4096;
        let mut want = vec![0; usize::try_from(plan.kernel.count * 4096).unwrap()];
        for s in segments {
            let to = usize::try_from(s.address - base).unwrap();
            let from = usize::try_from(s.offset).unwrap();
            let len = usize::try_from(s.filesz).unwrap();
            want[to..to + len].copy_from_slice(&file[from..from + len]);
        }
        assert_eq!(u64::try_from(content.len()).unwrap(), plan.kernel.count);
        for (n, (target, page)) in content.iter().enumerate() {
            assert_eq!(*target, plan.kernel.start + u64::try_from(n).unwrap());
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
        }
    }
}
