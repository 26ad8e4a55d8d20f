//! What the tests share: two domains, their entries, their calls.

use kexen_abi::grant_table::{
    GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF,
    GTF_PERMIT_ACCESS, GTF_READONLY, GnttabMapGrantRef, GnttabUnmapGrantRef,
};
use kexen_abi::hypercall::Hypercall;
use kexen_abi::{PAGE_SHIFT, PAGE_SIZE};
use kexen_guest::{Arg, Machine};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::frame::PGT_L1;
use crate::physmap::Entry;
use crate::{Build, Config, Guest, Kind, PvImage, Version, Xen};

/// A granter and a user of its grants.
pub(super) struct Two {
    pub(super) xen: Xen,
    pub(super) front: Guest,
    pub(super) back: Guest,
}

pub(super) const FRONT: u16 = 1;
pub(super) const BACK: u16 = 2;
/// A page of a PV guest's that is mapped at its start.
pub(super) const PFN: u64 = 100;
/// A page number of a translated guest where nothing is.
pub(super) const HOLE: u64 = 0x9000;

pub(super) const BOTH: [Version; 2] = [Version::Xen4_17, Version::Xen4_20];
pub(super) const KINDS: [Kind; 2] = [Kind::Pv, Kind::Pvh];

pub(super) fn guest(xen: &Xen, kind: Kind, id: u16) -> Guest {
    let build = Build {
        id,
        pages: 2048,
        ..Build::default()
    };
    let guest = match kind {
        Kind::Pv => xen.pv_guest(build, PvImage::default()),
        kind => xen.domain(kind, build),
    };
    xen.state().init_table(guest.index());
    guest
}

pub(super) fn two(front: Kind, back: Kind, config: Config) -> Two {
    let xen = Xen::new(config);
    Two {
        front: guest(&xen, front, FRONT),
        back: guest(&xen, back, BACK),
        xen,
    }
}

pub(super) fn pair(front: Kind, back: Kind) -> Two {
    two(front, back, Config::default())
}

/// The frame of a guest's page.
pub(super) fn mfn(guest: &Guest, pfn: u64) -> u64 {
    let translated = guest.kind().translated();
    let mut state = guest.xen().state();
    if translated {
        return state.populated(guest.index(), pfn).unwrap();
    }
    let frames = (0_u64..).zip(&state.frames);
    frames
        .filter(|(_, frame)| frame.owner == Some(guest.id()) && !frame.special && frame.m2p == pfn)
        .map(|(mfn, _)| mfn)
        .next()
        .unwrap()
}

/// What a guest writes into an entry for its page.
pub(super) fn frame_number(guest: &Guest, pfn: u64) -> u64 {
    if guest.kind().translated() {
        pfn
    } else {
        mfn(guest, pfn)
    }
}

/// Where a PV guest's page is mapped at its start.
pub(super) fn va(guest: &Guest, pfn: u64) -> u64 {
    guest.start_of_day().unwrap().virt_base + pfn * PAGE_SIZE
}

/// A host address for a mapping: over `PFN + n` (PV), in a hole (PVH).
pub(super) fn address(guest: &Guest, n: u64) -> u64 {
    if guest.kind().translated() {
        (HOLE + n) << PAGE_SHIFT
    } else {
        va(guest, PFN + n)
    }
}

impl Guest {
    pub(super) fn kind(&self) -> Kind {
        self.xen().state().domains[self.index()].kind
    }

    /// Writes an entry.
    pub(super) fn entry(&self, gref: u32, flags: u16, domid: u16, frame: u64) {
        let mut state = self.xen().state();
        let place = state.entry(self.index(), gref);
        let header = u64::from(flags) | u64::from(domid) << 16;
        state.set_word(place.mfn, place.offset, header);
        state.set_entry_frame(self.index(), gref, frame);
    }

    /// Grants a page.
    pub(super) fn grant(&self, gref: u32, to: u16, pfn: u64, readonly: bool) {
        let flags = GTF_PERMIT_ACCESS | if readonly { GTF_READONLY } else { 0 };
        self.entry(gref, flags, to, frame_number(self, pfn));
    }

    pub(super) fn flags(&self, gref: u32) -> u16 {
        self.xen().state().header(self.index(), gref).flags
    }

    /// The status word of version 2.
    pub(super) fn status(&self, gref: u32) -> u16 {
        let state = self.xen().state();
        state.half(state.status_place(self.index(), gref), 0)
    }

    pub(super) fn pin(&self, gref: u32) -> u32 {
        self.xen().state().active(self.index(), gref).pin
    }

    /// One operation.
    pub(super) fn op<T: FromBytes + IntoBytes + Immutable>(&self, command: u64, op: &mut T) -> i64 {
        let mut args = [
            Arg::Value(command),
            Arg::InOut(op.as_mut_bytes()),
            Arg::Value(1),
        ];
        self.vcpu(0).hypercall(Hypercall::GRANT_TABLE_OP, &mut args)
    }

    pub(super) fn map_flags(
        &self,
        dom: u16,
        gref: u32,
        host_addr: u64,
        flags: u32,
    ) -> GnttabMapGrantRef {
        let mut op = GnttabMapGrantRef::new_zeroed();
        op.host_addr = host_addr;
        op.flags = flags;
        op.gref = gref;
        op.dom = dom;
        op.handle = u32::MAX;
        assert_eq!(self.op(GNTTABOP_MAP_GRANT_REF, &mut op), 0);
        op
    }

    /// Maps for the processors.
    pub(super) fn map(
        &self,
        dom: u16,
        gref: u32,
        host_addr: u64,
        writable: bool,
    ) -> Result<u32, i16> {
        let readonly = if writable { 0 } else { GNTMAP_READONLY };
        let op = self.map_flags(dom, gref, host_addr, GNTMAP_HOST_MAP | readonly);
        if op.status == 0 {
            Ok(op.handle)
        } else {
            Err(op.status)
        }
    }

    pub(super) fn unmap(&self, handle: u32, host_addr: u64, dev_bus_addr: u64) -> i16 {
        let mut op = GnttabUnmapGrantRef::new_zeroed();
        op.handle = handle;
        op.host_addr = host_addr;
        op.dev_bus_addr = dev_bus_addr;
        assert_eq!(self.op(GNTTABOP_UNMAP_GRANT_REF, &mut op), 0);
        op.status
    }
}

/// References, type word and owner of a frame.
pub(super) fn counts(xen: &Xen, mfn: u64) -> (u32, u64) {
    let mut state = xen.state();
    let frame = state.at(mfn);
    (frame.refs, frame.type_count())
}

/// All that must be as before when nothing is mapped any more: references
/// and types of every frame, but for where a mapping overwrote an entry.
pub(super) fn census(xen: &Xen) -> Vec<(u32, u64)> {
    let state = xen.state();
    let count = |frame: &crate::frame::Frame| (frame.refs, frame.type_count());
    state.frames.iter().map(count).collect()
}

/// Fails if a frame is held otherwise than it was.
#[track_caller]
pub(super) fn same_as(before: &[(u32, u64)], xen: &Xen) {
    let now = census(xen);
    let pairs = before.iter().zip(&now).enumerate();
    let changed: Vec<_> = pairs.filter(|(_, (before, now))| before != now).collect();
    assert!(changed.is_empty(), "(frame, (before, now)): {changed:x?}");
}

/// Empties the places that [`address`] gives out, so that mappings there
/// overwrite nothing.
pub(super) fn make_room(guest: &Guest, places: u64) {
    if guest.kind().translated() {
        return;
    }
    for n in 0..places {
        let mut args = [
            Arg::Value(address(guest, n)),
            Arg::Value(0),
            Arg::Value(kexen_abi::mmu::UVMF_TLB_FLUSH | kexen_abi::mmu::UVMF_ALL),
        ];
        let done = guest
            .vcpu(0)
            .hypercall(Hypercall::UPDATE_VA_MAPPING, &mut args);
        assert_eq!(done, 0);
    }
}

/// The L1 entry that maps an address of a PV guest, and where it is.
pub(super) fn l1(guest: &Guest, va: u64) -> (u64, u64) {
    let mut state = guest.xen().state();
    let table = state.l1_table(guest.vcpu(0).who(), va).unwrap();
    assert_eq!(state.at(table).kind(), PGT_L1);
    let offset = ((va >> PAGE_SHIFT) & 511) * 8;
    (state.word(table, offset), (table << PAGE_SHIFT) + offset)
}

pub(super) fn physmap(guest: &Guest, gfn: u64) -> Option<Entry> {
    let state = guest.xen().state();
    state.domains[guest.index()]
        .physmap
        .entries
        .get(&gfn)
        .copied()
}
