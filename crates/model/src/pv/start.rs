//! The PV start of day, as the toolstack's builder makes it.
//!
//! Protocol: "Start-of-day memory layout" in Xen's `include/public/xen.h`.
//! Order in the region from the virtual base, pfn 0 first: the kernel's
//! image, the p2m list (unless it has a place of its own), `start_info`,
//! xenstore ring, console ring, page tables, boot stack, padding. Page
//! tables are mapped read-only, the L4 is pinned and is vCPU 0's base.

use kexen_abi::mmu::{PAGE_ACCESSED, PAGE_DIRTY, PAGE_PRESENT, PAGE_RW, PAGE_USER};
use kexen_abi::start_info::StartInfo;
use kexen_abi::{PAGE_SHIFT, PAGE_SIZE};
use zerocopy::{FromZeros, IntoBytes};

use crate::builder::Build;
use crate::frame::PGT_L4;
use crate::state::{Kind, State, Who};
use crate::xen::{Guest, Xen};

/// Where the builder put what a PV guest starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartOfDay {
    /// Virtual address of pfn 0.
    pub virt_base: u64,
    /// Virtual address of `start_info` (register `rsi`).
    pub start_info: u64,
    /// End of what is mapped from the virtual base.
    pub end: u64,
}

/// A PV kernel as far as the builder looks at it.
#[derive(Clone, Copy, Debug)]
pub struct PvImage {
    /// Its `VIRT_BASE` note.
    pub virt_base: u64,
    /// Pages of its image, from pfn 0.
    pub pages: u64,
    /// Its `INIT_P2M` note.
    pub p2m_base: Option<u64>,
}

impl Default for PvImage {
    fn default() -> Self {
        Self {
            virt_base: 0xffff_ffff_8000_0000,
            pages: 16,
            p2m_base: None,
        }
    }
}

const PADDING: u64 = 512 * 1024;
const ROUND: u64 = 4 << 20;
const TABLE: u64 = PAGE_PRESENT | PAGE_RW | PAGE_ACCESSED | PAGE_DIRTY | PAGE_USER;
const PAGE: u64 = PAGE_PRESENT | PAGE_RW | PAGE_ACCESSED | PAGE_USER;

/// Tables of one level that cover `[start, end)`.
const fn tables(start: u64, end: u64, level: u32) -> u64 {
    let size = 1_u128 << (PAGE_SHIFT + 9 * level);
    let last = (end as u128).div_ceil(size);
    (last - start as u128 / size) as u64
}

/// What lies where, in pfns.
#[derive(Clone, Copy, Debug)]
struct Places {
    p2m: u64,
    p2m_pages: u64,
    p2m_tables: u64,
    start_info: u64,
    tables: u64,
    nr_tables: u64,
    end: u64,
}

impl Places {
    fn find(image: PvImage, nr_pages: u64) -> Self {
        let p2m_pages = (nr_pages * 8).div_ceil(PAGE_SIZE);
        let inside = if image.p2m_base.is_none() {
            p2m_pages
        } else {
            0
        };
        let start_info = image.pages + inside;
        let first_table = start_info + 3;
        let mut nr_tables = 4;
        let end = loop {
            let stack_end = (first_table + nr_tables + 1) * PAGE_SIZE;
            let end = (image.virt_base + stack_end + PADDING).next_multiple_of(ROUND);
            let need = (1..4)
                .map(|level| tables(image.virt_base, end, level))
                .sum::<u64>()
                + 1;
            if need <= nr_tables {
                break end;
            }
            nr_tables = need;
        };
        let mapped = (end - image.virt_base) / PAGE_SIZE;
        let (p2m, p2m_tables) = match image.p2m_base {
            None => (image.pages, 0),
            Some(base) => {
                let end = base + p2m_pages * PAGE_SIZE;
                (mapped, (1..4).map(|level| tables(base, end, level)).sum())
            }
        };
        Self {
            p2m,
            p2m_pages,
            p2m_tables,
            start_info,
            tables: first_table,
            nr_tables,
            end,
        }
    }
}

impl Xen {
    /// A PV guest at its start of day.
    ///
    /// # Panics
    /// If its memory is too small for what it starts with.
    #[must_use]
    pub fn pv_guest(&self, build: Build, image: PvImage) -> Guest {
        let guest = self.domain(Kind::Pv, build);
        let mut state = self.state();
        let places = Places::find(image, build.pages);
        let mapped = (places.end - image.virt_base) / PAGE_SIZE;
        assert!(
            mapped + places.p2m_pages + places.p2m_tables <= build.pages,
            "{} pages are too few for a start of day that ends at page {mapped:#x}",
            build.pages
        );
        let mut builder = Builder {
            frames: state.frames_by_pfn(build.id, build.pages),
            state: &mut state,
            next: places.tables + 1,
            l4: places.tables,
        };
        builder.map_region(&image, &places, mapped);
        if let Some(base) = image.p2m_base {
            builder.next = places.p2m + places.p2m_pages;
            for page in 0..places.p2m_pages {
                builder.map(base + page * PAGE_SIZE, places.p2m + page, true);
            }
        }
        builder.write_p2m(&places);
        let frames = builder.frames;
        state.write_start_info(&guest, &image, &places, build.pages, &frames);
        let l4 = frames[usize::try_from(places.tables).unwrap_or(0)];
        let who = Who {
            domain: guest.index(),
            vcpu: 0,
        };
        state
            .pin(guest.index(), l4, PGT_L4)
            .expect("the builder's own tables are valid");
        state
            .new_base(who, l4)
            .expect("the builder's own tables are valid");
        state.domains[guest.index()].start = Some(StartOfDay {
            virt_base: image.virt_base,
            start_info: image.virt_base + places.start_info * PAGE_SIZE,
            end: places.end,
        });
        drop(state);
        guest
    }
}

impl Guest {
    /// A PV guest's start of day, as the toolstack made it.
    #[must_use]
    pub fn start_of_day(&self) -> Option<StartOfDay> {
        self.xen().state().domains[self.index()].start
    }
}

struct Builder<'a> {
    state: &'a mut State,
    frames: Vec<u64>,
    /// Pfn of the next free table.
    next: u64,
    l4: u64,
}

impl Builder<'_> {
    fn mfn(&self, pfn: u64) -> u64 {
        self.frames[usize::try_from(pfn).unwrap_or(usize::MAX)]
    }

    fn map_region(&mut self, image: &PvImage, places: &Places, mapped: u64) {
        let tables = places.tables..places.tables + places.nr_tables;
        for pfn in 0..mapped {
            self.map(
                image.virt_base + pfn * PAGE_SIZE,
                pfn,
                !tables.contains(&pfn),
            );
        }
        assert!(self.next <= tables.end, "the count of tables is wrong");
    }

    /// Writes the entries that map one page; missing tables are taken.
    fn map(&mut self, va: u64, pfn: u64, writable: bool) {
        let mut table = self.mfn(self.l4);
        for level in (2..=4_u32).rev() {
            let slot = ((va >> (PAGE_SHIFT + 9 * (level - 1))) & 511) * 8;
            let entry = self.state.word(table, slot);
            let next = if entry & PAGE_PRESENT == 0 {
                let next = self.mfn(self.next);
                self.next += 1;
                self.state
                    .set_word(table, slot, (next << PAGE_SHIFT) | TABLE);
                next
            } else {
                super::validate::frame_of(entry)
            };
            table = next;
        }
        let bits = if writable { PAGE } else { PAGE & !PAGE_RW };
        let value = (self.mfn(pfn) << PAGE_SHIFT) | bits;
        self.state
            .set_word(table, ((va >> PAGE_SHIFT) & 511) * 8, value);
    }

    fn write_p2m(&mut self, places: &Places) {
        for (pfn, mfn) in (0_u64..).zip(self.frames.clone()) {
            let page = self.mfn(places.p2m + pfn / 512);
            self.state.set_word(page, (pfn % 512) * 8, mfn);
        }
    }
}

impl State {
    /// A PV guest's frames in the order of their pfns.
    fn frames_by_pfn(&self, owner: u16, pages: u64) -> Vec<u64> {
        let mut frames = vec![0; usize::try_from(pages).unwrap_or(0)];
        for (mfn, frame) in (0_u64..).zip(&self.frames) {
            if frame.owner == Some(owner) && !frame.special {
                frames[usize::try_from(frame.m2p).unwrap_or(0)] = mfn;
            }
        }
        frames
    }

    fn write_start_info(
        &mut self,
        guest: &Guest,
        image: &PvImage,
        places: &Places,
        nr_pages: u64,
        frames: &[u64],
    ) {
        let mfn = |pfn: u64| frames[usize::try_from(pfn).unwrap_or(0)];
        let at = |pfn: u64| image.virt_base + pfn * PAGE_SIZE;
        let mut info = StartInfo::new_zeroed();
        info.magic[..14].copy_from_slice(b"xen-3.0-x86_64");
        info.nr_pages = nr_pages;
        info.shared_info = self.domains[guest.index()].shared_info << PAGE_SHIFT;
        info.store_mfn = mfn(places.start_info + 1);
        info.store_evtchn = 1;
        info.console_mfn = mfn(places.start_info + 2);
        info.console_evtchn = 2;
        info.pt_base = at(places.tables);
        info.nr_pt_frames = places.nr_tables;
        info.mfn_list = image.p2m_base.unwrap_or_else(|| at(places.p2m));
        if image.p2m_base.is_some() {
            info.first_p2m_pfn = places.p2m;
            info.nr_p2m_frames = places.p2m_pages + places.p2m_tables;
        }
        let page = self.bytes_mut(mfn(places.start_info));
        page[..size_of::<StartInfo>()].copy_from_slice(info.as_bytes());
    }
}
