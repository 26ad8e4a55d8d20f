//! The slots of a case, set up the same way everywhere.
//!
//! PV: page slots are free pages, each seen through a read-only mapping of
//! its own (so its contents can be compared whatever type it has) and with an
//! entry of its own in a region that has private L1, L2 and L3 tables.
//! PVH: page slots are RAM, holes are page numbers outside the memory map.

use alloc::vec::Vec;

use kexen_abi::{PAGE_SHIFT, PAGE_SIZE, mmu::PAGE_FRAME_MASK};
use kexen_guest::{Extents, Machine, hypercall, machine::Fault, pv};

use crate::Kind;
use crate::generate::{BALLOON, HOLES, PLACES, PORTS, SLOTS};
use crate::op::Target;

/// PV: where the region is.
pub const REGION: u64 = 0x0000_0700_0000_0000;
/// PV: where the slots are seen.
pub const VIEW: u64 = 0x0000_0680_0000_0000;
/// First entry of the region's L1 that is a place for grant mappings.
pub const FIRST_PLACE: u64 = 16;
/// Unused entries of the page directory, the first of them.
pub const ROOT_ENTRY: u64 = 20;

/// Where the world is, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tables {
    /// Frame of the region's L1.
    pub l1: u64,
    /// Frame of its L2.
    pub l2: u64,
    /// Frame of its L3.
    pub l3: u64,
    /// Frame of the page directory.
    pub root: u64,
    /// Guest addresses of the same four, read-only.
    pub at: [u64; 4],
}

/// What a page number of the case's own holds (PVH).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// RAM.
    Ram,
    /// A page of Xen's.
    Special,
}

/// The world of a case.
#[derive(Clone, Debug)]
pub struct World {
    /// Which kind of guest.
    pub kind: Kind,
    /// The guest's own number.
    pub own: u16,
    /// PV: frames; PVH: page numbers.
    pub slots: Vec<u64>,
    /// Guest addresses at which the slots can be read.
    pub views: Vec<u64>,
    /// PV: (page number, frame); PVH: (page number, the same).
    pub balloon: Vec<(u64, Option<u64>)>,
    /// PV: frames that came over and above.
    pub extra: Vec<u64>,
    /// PVH: what the balloon's and the holes' page numbers hold.
    pub held: Vec<(u64, Held)>,
    /// PVH: page numbers for grant mappings.
    pub places: Vec<u64>,
    /// Handle of what is mapped at a place.
    pub handles: Vec<Option<u32>>,
    /// Whether what is at a place was mapped by its entry.
    pub by_entry: Vec<bool>,
    /// Ports, by slot.
    pub ports: Vec<Option<u32>>,
    /// Ports whose pending bit moves by itself.
    pub noisy: Vec<u32>,
    /// The first port that was free.
    pub first_port: u32,
    /// PV tables.
    pub tables: Tables,
    /// Guest address of shared info, and where it belongs (PVH).
    pub shared_info: u64,
    /// Frame of shared info (PV).
    pub shared_info_frame: u64,
    /// Guest address of the grant table's first frame.
    pub grants: u64,
    /// The grant table's version.
    pub version: u32,
    /// A page of guest memory for arrays.
    pub scratch: u64,
    /// Pages charged at the start.
    pub charged: u64,
}

/// Why a world could not be set up.
#[derive(Debug)]
pub enum WorldError {
    /// The address space could not be changed.
    Space(pv::SpaceError),
    /// Xen refused.
    Hypercall(hypercall::HypercallError),
    /// Guest memory could not be reached.
    Fault(Fault),
    /// What should be there is not.
    Missing(&'static str),
}

impl From<pv::SpaceError> for WorldError {
    fn from(error: pv::SpaceError) -> Self {
        Self::Space(error)
    }
}
impl From<hypercall::HypercallError> for WorldError {
    fn from(error: hypercall::HypercallError) -> Self {
        Self::Hypercall(error)
    }
}
impl From<Fault> for WorldError {
    fn from(error: Fault) -> Self {
        Self::Fault(error)
    }
}

impl core::fmt::Display for WorldError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Space(error) => error.fmt(f),
            Self::Hypercall(error) => error.fmt(f),
            Self::Fault(error) => error.fmt(f),
            Self::Missing(what) => write!(f, "{what} is missing"),
        }
    }
}

/// Where a PV guest has mapped what the world needs.
#[derive(Clone, Copy, Debug)]
pub struct PvPlaces {
    /// Frame of shared info.
    pub shared_info_frame: u64,
    /// Guest address of shared info.
    pub shared_info: u64,
    /// Guest address of the grant table.
    pub grants: u64,
    /// A page of guest memory for arrays.
    pub scratch: u64,
}

/// Where a PVH guest has what the world needs.
#[derive(Clone, Copy, Debug)]
pub struct PvhPlaces {
    /// First of the page numbers that are holes: shared info and grant table
    /// are in the two before it.
    pub first_hole: u64,
    /// A page of guest memory for arrays.
    pub scratch: u64,
}

fn none<T: Clone>(count: u8) -> Vec<Option<T>> {
    alloc::vec![None; usize::from(count)]
}

impl World {
    fn empty(kind: Kind) -> Self {
        Self {
            kind,
            own: 0,
            slots: Vec::new(),
            views: Vec::new(),
            balloon: Vec::new(),
            extra: Vec::new(),
            held: Vec::new(),
            places: Vec::new(),
            handles: none(PLACES),
            by_entry: alloc::vec![false; usize::from(PLACES)],
            ports: none(PORTS),
            noisy: Vec::new(),
            first_port: 0,
            tables: Tables::default(),
            shared_info: 0,
            shared_info_frame: 0,
            grants: 0,
            version: 1,
            scratch: 0,
            charged: 0,
        }
    }

    /// The world of a PV guest: takes its pages from `free` for good.
    pub fn pv<M: Machine + ?Sized>(
        m: &M,
        space: &mut pv::AddressSpace,
        free: &mut Extents,
        places: PvPlaces,
    ) -> Result<Self, WorldError> {
        let mut world = Self::empty(Kind::Pv);
        world.shared_info_frame = places.shared_info_frame;
        world.shared_info = places.shared_info;
        world.grants = places.grants;
        world.scratch = places.scratch;
        space.reserve_tables(m, free, 24)?;
        let slots = free.take_run(u64::from(SLOTS));
        let slots = slots.ok_or(WorldError::Missing("memory"))?;
        for (n, pfn) in (0_u64..).zip(slots.start..slots.end()) {
            let mfn = space.mfn(m, pfn)?;
            world.slots.push(mfn);
            world.views.push(VIEW + n * PAGE_SIZE);
        }
        space.map_frames(m, VIEW, &world.slots, false)?;
        // One mapping makes the region's tables; it goes again.
        space.map_frames(m, REGION, &world.slots[..1], false)?;
        space.unmap(m, REGION, 1)?;
        let balloon = free.take_run(u64::from(BALLOON));
        let balloon = balloon.ok_or(WorldError::Missing("memory"))?;
        for pfn in balloon.start..balloon.end() {
            world.balloon.push((pfn, Some(space.mfn(m, pfn)?)));
        }
        let table = |level| space.table(m, REGION, level);
        let [l1, l2, l3, root] = [table(1)?, table(2)?, table(3)?, table(4)?];
        let missing = || WorldError::Missing("a table of the region");
        let frames = [l1, l2, l3, root].map(|table| table.map(|(mfn, _)| mfn));
        let at = [l1, l2, l3, root].map(|table| table.map_or(0, |(_, at)| at));
        world.tables = Tables {
            l1: frames[0].ok_or_else(missing)?,
            l2: frames[1].ok_or_else(missing)?,
            l3: frames[2].ok_or_else(missing)?,
            root: frames[3].ok_or_else(missing)?,
            at,
        };
        world.begin(m)?;
        Ok(world)
    }

    /// The world of a PVH guest whose memory is mapped one to one.
    pub fn pvh<M: Machine + ?Sized>(
        m: &M,
        free: &mut Extents,
        places: PvhPlaces,
    ) -> Result<Self, WorldError> {
        let mut world = Self::empty(Kind::Pvh);
        world.scratch = places.scratch;
        world.shared_info = (places.first_hole - 2) << PAGE_SHIFT;
        world.grants = (places.first_hole - 1) << PAGE_SHIFT;
        hypercall::map_shared_info(m, places.first_hole - 2)?;
        hypercall::map_grant_frame(m, 0, places.first_hole - 1)?;
        let slots = free.take_run(u64::from(SLOTS));
        let slots = slots.ok_or(WorldError::Missing("memory"))?;
        for gfn in slots.start..slots.end() {
            world.slots.push(gfn);
            world.views.push(gfn << PAGE_SHIFT);
        }
        let balloon = free.take_run(u64::from(BALLOON));
        let balloon = balloon.ok_or(WorldError::Missing("memory"))?;
        for gfn in balloon.start..balloon.end() {
            world.balloon.push((gfn, Some(gfn)));
            world.held.push((gfn, Held::Ram));
        }
        for gfn in places.first_hole..places.first_hole + u64::from(HOLES) {
            world.held.push((gfn, Held::Nothing));
        }
        let first = places.first_hole + u64::from(HOLES);
        world.places = (first..first + u64::from(PLACES)).collect();
        world.begin(m)?;
        Ok(world)
    }

    /// What both kinds begin with: pages zeroed, own number, first port.
    fn begin<M: Machine + ?Sized>(&mut self, m: &M) -> Result<(), WorldError> {
        for slot in 0..SLOTS {
            if self.kind == Kind::Pv {
                self.clear_page(m, usize::from(slot));
            } else {
                m.fill(self.views[usize::from(slot)], PAGE_SIZE, 0)?;
            }
        }
        let (own, port) = self.find_own(m).ok_or(WorldError::Missing("a port"))?;
        self.own = own;
        self.first_port = port;
        self.charged = hypercall::current_reservation(m)?;
        Ok(())
    }

    /// The frame that a target means: a page number in a PVH guest.
    #[must_use]
    pub fn frame(&self, target: Target) -> u64 {
        match target {
            Target::Slot(n) => self.slots[usize::from(n) % self.slots.len()],
            Target::RegionL1 => self.tables.l1,
            Target::RegionL2 => self.tables.l2,
            Target::RegionL3 => self.tables.l3,
            Target::Root => self.tables.root,
            Target::SharedInfo => self.shared_info_frame,
            Target::NoFrame => PAGE_FRAME_MASK >> PAGE_SHIFT,
            Target::Zero => 0,
        }
    }

    /// A frame as a small number that means the same everywhere.
    #[must_use]
    pub fn name(&self, mfn: u64) -> u64 {
        let slots = (0_u64..).zip(&self.slots);
        if let Some((n, _)) = slots.into_iter().find(|(_, slot)| **slot == mfn) {
            return 0x100 + n;
        }
        let tables = &self.tables;
        let known = [tables.l1, tables.l2, tables.l3, tables.root];
        if let Some((n, _)) = (0_u64..).zip(known).find(|(_, table)| *table == mfn) {
            return 0x200 + n;
        }
        match mfn {
            0 => 0,
            mfn if mfn == self.shared_info_frame => 0x300,
            mfn if mfn == PAGE_FRAME_MASK >> PAGE_SHIFT => 0x301,
            _ => 0x3ff,
        }
    }

    /// An entry with its frame's name in place of the frame.
    #[must_use]
    pub fn entry(&self, entry: u64) -> u64 {
        let frame = (entry & PAGE_FRAME_MASK) >> PAGE_SHIFT;
        (entry & !PAGE_FRAME_MASK) | (self.name(frame) << PAGE_SHIFT)
    }
}
