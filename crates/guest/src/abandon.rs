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
//! - Not for a guest that is populated on demand: what it gives back goes to its
//!   cache as it is (`p2m_pod_decrease_reservation` in `arch/x86/mm/p2m-pod.c`),
//!   and comes back as another page, with the mapping still there.

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

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};
    use core::cell::{Cell, RefCell};

    use kexen_abi::{
        hypercall::Hypercall,
        memory::{
            XENMEM_CURRENT_RESERVATION, XENMEM_DECREASE_RESERVATION, XENMEM_MAXIMUM_RESERVATION,
            XENMEM_POPULATE_PHYSMAP,
        },
    };

    use super::*;
    use crate::Arg;

    const PAGE: Page = Page {
        number: 1,
        address: PAGE_SIZE,
    };
    const SCRATCH: u64 = 0;
    /// What is in a frame that Xen gives, and in the page before.
    const LEFT_OVER: u8 = 0x77;

    /// A PVH guest of two pages; somebody else has the second one mapped.
    struct Xen {
        memory: RefCell<Vec<u8>>,
        hole: Cell<bool>,
        current: Cell<u64>,
        maximum: u64,
        takes: bool,
    }

    impl Xen {
        fn new(maximum: u64) -> Self {
            Self {
                memory: RefCell::new(vec![LEFT_OVER; 8192]),
                hole: Cell::new(false),
                current: Cell::new(2),
                maximum,
                takes: true,
            }
        }
        fn at<T>(&self, at: u64, len: u64, f: impl FnOnce(&mut [u8]) -> T) -> Result<T, Fault> {
            assert!(at < PAGE_SIZE || !self.hole.get(), "access to a hole");
            let range = usize::try_from(at).unwrap()..usize::try_from(at + len).unwrap();
            Ok(f(&mut self.memory.borrow_mut()[range]))
        }
        fn page(&self) -> u8 {
            let memory = self.memory.borrow();
            let (first, rest) = memory[4096..].split_first().unwrap();
            assert!(rest.iter().all(|byte| byte == first));
            *first
        }
    }

    impl Machine for Xen {
        fn hypercall(&self, call: Hypercall, args: &mut [Arg<'_>]) -> i64 {
            assert_eq!(call, Hypercall::MEMORY_OP);
            let [Arg::Value(op), Arg::In(arg)] = args else {
                panic!("not as memory operations are called");
            };
            let number = || {
                assert_eq!(&arg[..8], SCRATCH.to_le_bytes());
                assert_eq!(self.read64(SCRATCH), Ok(PAGE.number));
            };
            match *op {
                XENMEM_CURRENT_RESERVATION => self.current.get().cast_signed(),
                XENMEM_MAXIMUM_RESERVATION => self.maximum.cast_signed(),
                XENMEM_DECREASE_RESERVATION => {
                    number();
                    assert!(!self.hole.replace(self.takes));
                    i64::from(self.takes)
                }
                XENMEM_POPULATE_PHYSMAP => {
                    number();
                    assert!(self.hole.get());
                    if self.current.get() == self.maximum {
                        return 0;
                    }
                    self.current.set(self.current.get() + 1);
                    self.hole.set(false);
                    self.memory.borrow_mut()[4096..].fill(LEFT_OVER);
                    1
                }
                other => panic!("memory operation {other}"),
            }
        }
        fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
            let len = u64::try_from(into.len()).unwrap();
            self.at(at, len, |bytes| into.copy_from_slice(bytes))
        }
        fn write(&self, at: u64, from: &[u8]) -> Result<(), Fault> {
            let len = u64::try_from(from.len()).unwrap();
            self.at(at, len, |bytes| bytes.copy_from_slice(from))
        }
        fn fill(&self, at: u64, len: u64, byte: u8) -> Result<(), Fault> {
            self.at(at, len, |bytes| bytes.fill(byte))
        }
        fn lend(&self, _: u64, _: u64, _: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
            panic!("the page is shared")
        }
        fn load32(&self, _: u64) -> Result<u32, Fault> {
            panic!("nothing here is read by the word")
        }
        fn store32(&self, _: u64, _: u32) -> Result<(), Fault> {
            panic!("nothing here is written by the word")
        }
        fn exchange32(&self, _: u64, _: u32, _: u32) -> Result<u32, Fault> {
            panic!("nothing here is exchanged")
        }
        fn invalidate(&self, _: u64) {}
    }

    #[test]
    fn a_page_gets_a_frame_that_is_zero() {
        let m = Xen::new(3);
        abandon(&m, &mut Memory::Pvh, PAGE, SCRATCH).unwrap();
        assert_eq!((m.page(), m.current.get()), (0, 3));
    }

    #[test]
    fn without_slack_nothing_is_changed() {
        let m = Xen::new(2);
        assert_eq!(
            abandon(&m, &mut Memory::Pvh, PAGE, SCRATCH),
            Err(AbandonError::NoSlack {
                current: 2,
                maximum: 2
            })
        );
        assert_eq!((m.page(), m.hole.get()), (LEFT_OVER, false));
    }

    #[test]
    fn a_hole_can_be_filled_later() {
        let mut m = Xen::new(2);
        release(&m, &mut Memory::Pvh, PAGE, SCRATCH).unwrap();
        // What the other side keeps was zeroed before it was given up.
        assert_eq!(m.page(), 0);
        let short = refill(&m, &mut Memory::Pvh, PAGE, SCRATCH);
        assert_eq!(short, Err(AbandonError::Hole(1)));
        assert!(m.hole.get());
        m.maximum = 3;
        refill(&m, &mut Memory::Pvh, PAGE, SCRATCH).unwrap();
        assert_eq!(m.page(), 0);
    }

    #[test]
    fn a_page_that_xen_leaves_is_no_hole() {
        let mut m = Xen::new(3);
        m.takes = false;
        let result = abandon(&m, &mut Memory::Pvh, PAGE, SCRATCH);
        assert_eq!(result, Err(AbandonError::NotTaken(1)));
        assert_eq!(m.page(), 0);
    }
}
