//! The frame table: owners, general references, page types.
//!
//! Rules: `get_page`, `_get_page_type`, `_put_page_type` in Xen's
//! `arch/x86/mm.c`; bits of the type word in `arch/x86/include/asm/mm.h`.
//! A frame changes its type only when its type count is 0; then stale
//! translations are flushed where a vCPU has not flushed since.
//! What a page table's entries hold on to is in `pv::validate`.

use kexen_abi::errno::Errno;

use crate::state::State;

/// A domain's number.
pub type DomId = u16;

/// The bits of the type word that say which type.
pub(crate) const PGT_TYPE_MASK: u64 = 7 << 61;
/// An L1 table.
pub(crate) const PGT_L1: u64 = 1 << 61;
/// An L2 table.
pub(crate) const PGT_L2: u64 = 2 << 61;
/// An L3 table.
pub(crate) const PGT_L3: u64 = 3 << 61;
/// An L4 table.
pub(crate) const PGT_L4: u64 = 4 << 61;
/// A page of a GDT or LDT.
pub(crate) const PGT_SEG_DESC: u64 = 5 << 61;
/// A page shared between domains (mem_sharing).
pub(crate) const PGT_SHARED: u64 = 6 << 61;
/// A page with writable mappings.
pub(crate) const PGT_WRITABLE: u64 = 7 << 61;
/// An update of the table is under way.
pub(crate) const PGT_LOCKED: u64 = 1 << 60;
/// Pinned by the guest: the type stays without a mapping.
pub(crate) const PGT_PINNED: u64 = 1 << 59;
/// The contents were found to be what the type demands.
pub(crate) const PGT_VALIDATED: u64 = 1 << 58;
/// Validated, or given up again, in part.
pub(crate) const PGT_PARTIAL: u64 = 1 << 56;
/// How often the type is used.
pub(crate) const PGT_COUNT_MASK: u64 = (1 << 55) - 1;

/// M2P entry of a frame that has no page number.
pub(crate) const INVALID_M2P: u64 = u64::MAX;

/// A frame that is Xen's own, and nobody else's ever.
pub(crate) const XEN_FRAME: u64 = 1;

/// What Xen knows of one frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Whose it is; nobody's when it is free.
    pub(crate) owner: Option<DomId>,
    /// General references, the allocation's own among them.
    pub(crate) refs: u32,
    /// The allocation's reference is still there.
    pub(crate) allocated: bool,
    /// Xen's own page that a domain may map: shared info, grant frames.
    pub(crate) special: bool,
    /// The type word, in today's layout.
    pub(crate) type_info: u64,
    /// Uses as (positive) or by (negative) a linear page table.
    pub(crate) linear: i32,
    /// Flush clock when the type count fell to 0.
    pub(crate) flush_stamp: u64,
    /// The machine-to-physical entry.
    pub(crate) m2p: u64,
}

impl Frame {
    pub(crate) const FREE: Self = Self {
        owner: None,
        refs: 0,
        allocated: false,
        special: false,
        type_info: 0,
        linear: 0,
        flush_stamp: 0,
        m2p: INVALID_M2P,
    };

    pub(crate) const fn kind(&self) -> u64 {
        self.type_info & PGT_TYPE_MASK
    }

    pub(crate) const fn type_count(&self) -> u64 {
        self.type_info & PGT_COUNT_MASK
    }
}

impl State {
    /// A frame of the machine, if there is one of that number.
    pub(crate) fn frame(&self, mfn: u64) -> Option<&Frame> {
        self.frames.get(usize::try_from(mfn).ok()?)
    }

    /// As [`Self::frame`], for a frame that is known to exist.
    pub(crate) fn at(&mut self, mfn: u64) -> &mut Frame {
        let index = usize::try_from(mfn).unwrap_or(usize::MAX);
        &mut self.frames[index]
    }

    /// `get_page`: a general reference, if the frame is that domain's.
    pub(crate) fn get_page(&mut self, mfn: u64, owner: DomId) -> bool {
        match self.frame(mfn) {
            Some(frame) if frame.owner == Some(owner) && frame.refs > 0 => {
                self.at(mfn).refs += 1;
                true
            }
            _ => false,
        }
    }

    /// `put_page`: the last one frees the frame.
    pub(crate) fn put_page(&mut self, mfn: u64) {
        let frame = self.at(mfn);
        debug_assert!(frame.refs > 0, "a reference too many dropped: {mfn:#x}");
        frame.refs = frame.refs.saturating_sub(1);
        if frame.refs == 0 {
            self.free_frame(mfn);
        }
    }

    /// A new reference to a type that is `kind` already, or a change of type
    /// of a frame whose type nobody uses.
    pub(crate) fn get_page_type(&mut self, mfn: u64, kind: u64) -> Result<(), Errno> {
        let old = self.at(mfn).type_info;
        let count = old & PGT_COUNT_MASK;
        if count == 0 {
            let frame = self.at(mfn);
            if old & PGT_TYPE_MASK != kind {
                frame.type_info &= !(PGT_TYPE_MASK | PGT_VALIDATED);
                frame.type_info |= kind;
            }
            frame.type_info += 1;
            let fresh = frame.type_info & PGT_VALIDATED == 0;
            if old & PGT_TYPE_MASK != kind {
                self.flush_for_type_change(mfn);
            }
            if !fresh {
                return Ok(());
            }
            if kind == PGT_WRITABLE || kind == PGT_SHARED {
                self.at(mfn).type_info |= PGT_VALIDATED;
                return Ok(());
            }
            self.at(mfn).linear = 0;
            return self.validate(mfn, kind);
        }
        if old & PGT_TYPE_MASK != kind {
            // A table used one level up may still be a linear page table.
            let up = |table, wanted| old & PGT_TYPE_MASK == table && kind == wanted;
            if !(up(PGT_L2, PGT_L1) || up(PGT_L3, PGT_L2) || up(PGT_L4, PGT_L3)) {
                self.bad_type(mfn, old, kind);
            }
            return Err(Errno::EINVAL);
        }
        if old & PGT_VALIDATED == 0 {
            // Reached again while it is being validated: in Xen this spins
            // until a preemption, so a table that hooks itself in fails.
            return Err(Errno::EINVAL);
        }
        self.at(mfn).type_info += 1;
        Ok(())
    }

    /// Xen's line of a debug build for a wrong type.
    fn bad_type(&mut self, mfn: u64, saw: u64, wanted: u64) {
        let pfn = self.at(mfn).m2p;
        let (saw, wanted) = (self.layout.show(saw), self.layout.show(wanted));
        self.say(format!(
            "Bad type (saw {saw:016x} != exp {wanted:016x}) for mfn {mfn:x} (pfn {pfn:x})"
        ));
    }

    fn validate(&mut self, mfn: u64, kind: u64) -> Result<(), Errno> {
        let result = match kind {
            PGT_SEG_DESC => self.validate_descriptors(mfn),
            _ => self.validate_table(mfn, kind),
        };
        match result {
            Ok(()) => {
                self.at(mfn).type_info |= PGT_VALIDATED;
                Ok(())
            }
            Err(error) => {
                let frame = self.at(mfn);
                let (pfn, caf, taf) = (frame.m2p, frame.refs, frame.type_info);
                // The type goes; entries that had been counted were dropped.
                frame.type_info = 0;
                let (kind, taf) = (self.layout.show(kind), self.layout.show(taf));
                self.say(format!(
                    "Error while validating mfn {mfn:x} (pfn {pfn:x}) for type \
                     {kind:016x}: caf={caf:08x} taf={taf:016x}"
                ));
                Err(error)
            }
        }
    }

    /// `_put_page_type`; `holder` is the table whose entry held it.
    pub(crate) fn put_page_type_of(&mut self, mfn: u64, holder: Option<u64>) {
        let frame = self.at(mfn);
        let old = frame.type_info;
        debug_assert!(
            old & PGT_COUNT_MASK > 0,
            "a type too many dropped: {mfn:#x}"
        );
        let kind = old & PGT_TYPE_MASK;
        if old & (PGT_COUNT_MASK | PGT_LOCKED) == 1
            && (PGT_L1..=PGT_L4).contains(&kind)
            && old & PGT_VALIDATED != 0
        {
            frame.type_info &= !PGT_VALIDATED;
            self.invalidate_table(mfn, kind);
            self.drop_linear(mfn, kind, holder);
            let now = self.flush_clock;
            let frame = self.at(mfn);
            frame.flush_stamp = now;
            frame.type_info -= 1;
            return;
        }
        frame.type_info -= 1;
        if frame.type_info & PGT_COUNT_MASK == 0 {
            let now = self.flush_clock;
            self.at(mfn).flush_stamp = now;
        }
        self.drop_linear(mfn, kind, holder);
    }

    fn drop_linear(&mut self, mfn: u64, kind: u64, holder: Option<u64>) {
        if let Some(holder) = holder
            && (PGT_L2..=PGT_L4).contains(&kind)
            && self.at(holder).kind() == kind
        {
            self.at(mfn).linear += 1;
            self.at(holder).linear -= 1;
        }
    }

    /// Drops one type reference.
    pub(crate) fn put_page_type(&mut self, mfn: u64) {
        self.put_page_type_of(mfn, None);
    }

    /// Drops a type and a general reference.
    pub(crate) fn put_page_and_type(&mut self, mfn: u64) {
        self.put_page_type(mfn);
        self.put_page(mfn);
    }

    /// A general and a type reference, both or none (`EINVAL`).
    pub(crate) fn get_page_and_type(
        &mut self,
        mfn: u64,
        owner: DomId,
        kind: u64,
    ) -> Result<(), Errno> {
        if !self.get_page(mfn, owner) {
            return Err(Errno::EINVAL);
        }
        self.get_page_type(mfn, kind)
            .inspect_err(|_| self.put_page(mfn))
    }

    /// Flushes the TLBs that may still hold translations to a frame from
    /// before its type count fell to 0; those flushed since are left alone.
    fn flush_for_type_change(&mut self, mfn: u64) {
        let stamp = self.at(mfn).flush_stamp;
        let Some(owner) = self.at(mfn).owner else {
            return;
        };
        let Some(domain) = self.index_of(owner) else {
            return;
        };
        let mut flushed = false;
        let clock = self.flush_clock + 1;
        for vcpu in &mut self.domains[domain].vcpus {
            if vcpu.up && vcpu.last_flush <= stamp {
                vcpu.tlb.clear();
                vcpu.last_flush = clock;
                flushed = true;
            }
        }
        if flushed {
            self.flush_clock = clock;
        }
    }

    /// Gives a free frame to a domain; its bytes are what they were.
    pub(crate) fn allocate(&mut self, owner: DomId) -> Option<u64> {
        let mfn = self.free.pop()?;
        let clock = self.flush_clock;
        *self.at(mfn) = Frame {
            owner: Some(owner),
            refs: 1,
            allocated: true,
            flush_stamp: clock,
            ..Frame::FREE
        };
        if let Some(domain) = self.index_of(owner) {
            self.domains[domain].tot_pages += 1;
        }
        Some(mfn)
    }

    /// A page of Xen's own heap that a domain may map; not charged to it.
    pub(crate) fn allocate_special(&mut self, owner: DomId) -> Option<u64> {
        let mfn = self.allocate(owner)?;
        if let Some(domain) = self.index_of(owner) {
            self.domains[domain].tot_pages -= 1;
        }
        let frame = self.at(mfn);
        frame.special = true;
        // `share_xen_page_with_guest`: a writable type for the mapping.
        frame.type_info = PGT_WRITABLE | PGT_VALIDATED | 1;
        self.bytes_mut(mfn).fill(0);
        Some(mfn)
    }

    /// `put_page_alloc_ref`: drops the allocation's reference, once.
    pub(crate) fn put_allocation(&mut self, mfn: u64) {
        let frame = self.at(mfn);
        if frame.allocated {
            frame.allocated = false;
            self.put_page(mfn);
        }
    }

    fn free_frame(&mut self, mfn: u64) {
        let frame = self.at(mfn);
        let (owner, special) = (frame.owner, frame.special);
        *frame = Frame::FREE;
        if let Some(domain) = owner.and_then(|owner| self.index_of(owner))
            && !special
        {
            self.domains[domain].tot_pages -= 1;
        }
        self.free.push(mfn);
    }
}
