//! Taking a page back that another domain has mapped and does not give up.
//!
//! Rules: Xen's `common/memory.c` (`decrease_reservation`,
//! `populate_physmap`), `common/grant_table.c` (`map_grant_ref`) and
//! `arch/x86/mm.c`. A mapping holds a reference on the *frame*; the page
//! number can get another frame. Order of steps:
//!
//! 1. zero the page: what is in it stays the other domain's to read, and Xen
//!    does not scrub frames that a living domain frees;
//! 2. PV: unmap it (PVH: Xen does);
//! 3. `XENMEM_decrease_reservation`: the frame is an orphan now. It belongs
//!    to the guest, and is charged to it, until the last mapping goes. PV:
//!    the page's p2m entry is invalid from here on;
//! 4. `XENMEM_populate_physmap`: another frame for the same page number. PV:
//!    enter it in the p2m list and map it (Xen has written M2P);
//! 5. zero the page again: its new frame was not scrubbed either.
//!
//! Shared memory: the orphan alone, from step 3 on; nothing here reads it.
//!
//! Limits:
//! - Orphans are charged. A guest may have as many as `max_pages` exceeds its
//!   pages (libxl: 256 over the target, less what the toolstack takes), and
//!   then needs to give back one free page for each more ([`release`]).
//! - The grant is not ended by this. Its entry must be left as it is: while
//!   the frame is mapped, the same domain that maps the reference again gets
//!   the orphan, whatever frame the entry names.
//! - The page must not be mapped anywhere else by the guest itself, must not
//!   be a page table, and nobody else may use it meanwhile (one vCPU).
//! - A vcpu_info that was registered in the page stays in the orphan.
//! - Not for a guest that was built populate-on-demand.

use kexen_abi::PAGE_SIZE;

use crate::{
    HypercallError, Machine,
    hypercall::{current_reservation, decrease_reservation, maximum_reservation, populate_physmap},
    machine::Fault,
    pv::{self, SpaceError},
};

/// Why a page could not be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbandonError {
    /// Guest memory could not be reached.
    Fault(Fault),
    /// Xen refused a call.
    Hypercall(HypercallError),
    /// The address space of a PV guest could not be changed.
    Space(SpaceError),
    /// No page more may be charged to the guest. Nothing was changed.
    NoSlack {
        /// Pages that are charged to it.
        current: u64,
        /// Pages that may be.
        maximum: u64,
    },
    /// Xen did not take the page, which is as it was (but zero).
    NotTaken(u64),
    /// Xen gave no frame: the page is a hole until [`refill`] succeeds.
    Hole(u64),
}

impl From<Fault> for AbandonError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
impl From<HypercallError> for AbandonError {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}
impl From<SpaceError> for AbandonError {
    fn from(error: SpaceError) -> Self {
        Self::Space(error)
    }
}

impl core::fmt::Display for AbandonError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Hypercall(error) => error.fmt(f),
            Self::Space(error) => error.fmt(f),
            Self::NoSlack { current, maximum } => write!(
                f,
                "{current} pages are charged to the guest and {maximum} may be: \
                 none can be abandoned; give the domain a higher maxmem"
            ),
            Self::NotTaken(page) => write!(f, "Xen did not take page {page:#x}"),
            Self::Hole(page) => write!(f, "Xen gave no new frame for page {page:#x}"),
        }
    }
}

/// A guest's memory, by the type of the guest.
#[derive(Debug)]
pub enum Memory<'a> {
    /// Frames in page tables and in the p2m list.
    Pv(&'a mut pv::AddressSpace),
    /// Page numbers alone: the frames are Xen's matter.
    Pvh,
}

/// A page and the one address at which it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its number (pfn or gfn).
    pub number: u64,
    /// Guest address.
    pub address: u64,
}

/// Pages that can still be charged to the guest.
pub fn slack<M: Machine + ?Sized>(m: &M) -> Result<(u64, u64), HypercallError> {
    Ok((current_reservation(m)?, maximum_reservation(m)?))
}

/// Takes a page back: it is zero, writable at its address, and nobody else
/// has its frame. `scratch` is a word of guest memory.
pub fn abandon<M: Machine + ?Sized>(
    m: &M,
    memory: &mut Memory<'_>,
    page: Page,
    scratch: u64,
) -> Result<(), AbandonError> {
    let (current, maximum) = slack(m)?;
    if current >= maximum {
        return Err(AbandonError::NoSlack { current, maximum });
    }
    release(m, memory, page, scratch)?;
    refill(m, memory, page, scratch)
}

/// Zeroes a page and gives its frame up (steps 1 to 3): the page is a hole
/// then, and must not be touched. A frame that nobody else has mapped goes
/// back to Xen, and is no longer charged.
pub fn release<M: Machine + ?Sized>(
    m: &M,
    memory: &mut Memory<'_>,
    page: Page,
    scratch: u64,
) -> Result<(), AbandonError> {
    m.fill(page.address, PAGE_SIZE, 0)?;
    let frame = match memory {
        Memory::Pvh => page.number,
        Memory::Pv(space) => {
            let mfn = space.mfn(m, page.number)?;
            space.unmap(m, page.address, 1)?;
            mfn
        }
    };
    let taken = m
        .write64(scratch, frame)
        .map_err(AbandonError::from)
        .and_then(|()| Ok(decrease_reservation(m, scratch)?));
    if taken != Ok(true) {
        if let Memory::Pv(space) = memory {
            space.map_frames(m, page.address, &[frame], true)?;
        }
        taken?;
        return Err(AbandonError::NotTaken(page.number));
    }
    if let Memory::Pv(space) = memory {
        space.set_mfn(m, page.number, None)?;
    }
    Ok(())
}

/// Gets a frame for a hole that [`release`] left (steps 4 and 5).
pub fn refill<M: Machine + ?Sized>(
    m: &M,
    memory: &mut Memory<'_>,
    page: Page,
    scratch: u64,
) -> Result<(), AbandonError> {
    m.write64(scratch, page.number)?;
    if !populate_physmap(m, scratch)? {
        return Err(AbandonError::Hole(page.number));
    }
    if let Memory::Pv(space) = memory {
        let mfn = m.read64(scratch)?;
        space.set_mfn(m, page.number, Some(mfn))?;
        space.map_frames(m, page.address, &[mfn], true)?;
    }
    m.fill(page.address, PAGE_SIZE, 0)?;
    Ok(())
}
