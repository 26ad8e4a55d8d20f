//! Which page of the kernel file becomes which page of memory.
//!
//! The decompressor writes the ELF file into a contiguous virtual buffer.
//! The pages behind that buffer are chosen here, before it runs, so that a
//! segment's bytes are at once where they belong, or (PV) in frames that
//! are exchanged to there: no byte of a page-aligned segment moves twice.
//!
//! Left to do afterwards: bytes of segments that share a file page with
//! another one are copied; what no file byte covers is zeroed.
//!
//! | module | what it is |
//! |---|---|
//! | `finish` | what is left to do, done |
//! | `behind` | what comes behind the kernel |
//! | `relocate` | the kernel in another place than its own |

mod behind;
mod finish;
mod relocate;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use kexen_abi::PAGE_SIZE;
use kexen_guest::{Extent, Extents};

pub use self::{
    behind::Behind,
    finish::{finish, holder},
    relocate::elsewhere,
};
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
        let mut parts = alloc::vec![None; file_pages];
        for segment in segments {
            plan.place(segment, &mut parts);
        }
        plan.zero_the_rest(segments);
        plan.keep_sources(&parts);
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
    /// they cannot. `parts` gets the copy that each such page saves.
    fn place(&mut self, segment: &Segment, parts: &mut [Option<Copy>]) {
        let aligned = segment.offset % PAGE_SIZE == segment.address % PAGE_SIZE;
        let mut done = 0;
        while done < segment.filesz {
            let address = segment.address + done;
            let offset = segment.offset + done;
            let len = (PAGE_SIZE - address % PAGE_SIZE).min(segment.filesz - done);
            let page = address / PAGE_SIZE;
            let copy = Copy {
                offset,
                address,
                len,
            };
            let n = usize::try_from(offset / PAGE_SIZE).unwrap_or(usize::MAX);
            match self.targets.get_mut(n).zip(parts.get_mut(n)) {
                Some((slot, part)) if aligned && slot.is_none() && self.fresh.contains(page) => {
                    *slot = Some(page);
                    *part = Some(copy);
                    self.fresh.remove(Extent::new(page, 1));
                }
                _ => self.copies.push(copy),
            }
            done += len;
        }
    }

    /// A file page whose bytes a copy needs, and which another copy writes over
    /// where they are, becomes no page of memory: it is copied, too. (Zeroes are
    /// written after all copies.)
    fn keep_sources(&mut self, parts: &[Option<Copy>]) {
        // What is written into each page of memory, from and to where in it.
        let mut writes: Vec<(u64, u64, u64)> = Vec::new();
        for copy in &self.copies {
            let from = copy.address % PAGE_SIZE;
            writes.push((copy.address / PAGE_SIZE, from, from + copy.len));
        }
        writes.sort_unstable();
        let spoilt = |page: u64, from: u64, to: u64| {
            let at = writes.partition_point(|(target, ..)| *target < page);
            let here = writes.iter().skip(at);
            here.take_while(|(target, ..)| *target == page)
                .any(|(_, start, end)| *start < to && from < *end)
        };
        let mut lost = Vec::new();
        for copy in &self.copies {
            let end = copy.offset + copy.len;
            for n in copy.offset / PAGE_SIZE..end.div_ceil(PAGE_SIZE) {
                let slot = usize::try_from(n).unwrap_or(usize::MAX);
                let Some(page) = self.targets.get(slot).copied().flatten() else {
                    continue;
                };
                let at = n * PAGE_SIZE;
                let (from, to) = (copy.offset.max(at), end.min(at + PAGE_SIZE));
                if spoilt(page, from - at, to - at) {
                    lost.push((slot, page));
                }
            }
        }
        for (slot, page) in lost {
            let part = parts.get(slot).copied().flatten();
            if let (Some(target), Some(part)) = (self.targets.get_mut(slot), part)
                && target.take().is_some()
            {
                self.fresh.insert(Extent::new(page, 1));
                self.copies.push(part);
            }
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
