//! Where the shared info page is, and how it moves while others read it.
//!
//! Protocol: `XENMEM_add_to_physmap` with `XENMAPSPACE_shared_info`
//! (`public/memory.h`). A translated guest chooses the page number. RAM that
//! is there goes back to Xen; and when shared info moves on, its old place is
//! a hole, which reads as all ones (`xenmem_add_to_physmap_one` in Xen's
//! `arch/x86/mm/p2m.c`). So a reader that comes while it moves would read
//! neither the old page nor the new one.
//!
//! Order of steps. Reader: say that it reads; look whether a move is on; if
//! so take that back and wait; else read, and say that it is done. Mover: say
//! that a move is on; wait until nobody reads; move; give the old page its
//! memory back; name the new place; say that the move is over. Both say with
//! a locked exchange before they look, so that one of them sees the other.
//!
//! The words are guest memory that all vCPUs of this kernel share, and nobody
//! else; shared info itself is Xen's to write at any time.

use kexen_abi::PAGE_SIZE;

use crate::{
    HypercallError, Machine,
    hypercall::{map_shared_info, populate_physmap, remove_from_physmap},
    machine::Fault,
};

/// Offsets of the words: a move is on; the place; then one for each vCPU.
const MOVING: u64 = 0;
const PLACE: u64 = 4;
const READERS: u64 = 8;

/// Why shared info could not be reached or moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceError {
    /// The words could not be reached.
    Fault(Fault),
    /// Xen refused a call.
    Hypercall(HypercallError),
    /// A move does not come to an end.
    Moving,
    /// This vCPU does not come to the end of its reading.
    Reader(u32),
    /// Xen has no memory for the page that shared info left.
    Hole(u64),
}

impl From<Fault> for PlaceError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<HypercallError> for PlaceError {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}

impl core::fmt::Display for PlaceError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Hypercall(error) => error.fmt(f),
            Self::Moving => f.write_str("shared info: another move does not come to its end"),
            Self::Reader(vcpu) => {
                write!(
                    f,
                    "shared info: vCPU {vcpu} does not end its reading; park it first"
                )
            }
            Self::Hole(gfn) => write!(
                f,
                "shared info left page {gfn:#x}, and Xen has no memory to put there; \
                 raise the domain's memory"
            ),
        }
    }
}

/// What is to be where shared info was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Nothing: it was no RAM.
    Nothing,
    /// RAM again; the list for Xen is the word of guest memory here.
    Ram(u64),
}

/// Shared info of a translated guest, and who reads it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    words: u64,
    vcpus: u32,
}

impl Place {
    /// Bytes of guest memory that [`Self::map`] needs, 4-byte aligned.
    #[must_use]
    pub const fn bytes(vcpus: u32) -> u64 {
        READERS + 4 * vcpus as u64
    }

    /// Maps shared info at `gfn` for the first time. The words at `words`
    /// are zeroed.
    pub fn map<M: Machine + ?Sized>(
        m: &M,
        words: u64,
        vcpus: u32,
        gfn: u32,
    ) -> Result<Self, PlaceError> {
        m.fill(words, Self::bytes(vcpus), 0)?;
        map_shared_info(m, gfn.into())?;
        m.store32(words + PLACE, gfn)?;
        Ok(Self { words, vcpus })
    }

    /// Shared info that is mapped already, at `gfn` pages: of a PV guest, by
    /// virtual address, where it does not move.
    pub fn found<M: Machine + ?Sized>(
        m: &M,
        words: u64,
        vcpus: u32,
        gfn: u32,
    ) -> Result<Self, PlaceError> {
        m.fill(words, Self::bytes(vcpus), 0)?;
        m.store32(words + PLACE, gfn)?;
        Ok(Self { words, vcpus })
    }

    /// Where it is now. For a vCPU that knows of no move.
    pub fn gfn<M: Machine + ?Sized>(&self, m: &M) -> Result<u32, Fault> {
        m.load32(self.words + PLACE)
    }

    const fn reader(&self, vcpu: u32) -> u64 {
        self.words + READERS + 4 * vcpu as u64
    }

    /// Has `look` see shared info, at the address that it is given, on
    /// `vcpu`; no move happens meanwhile. `relax` is called while a move is
    /// on; `false` ends the wait.
    pub fn read<M: Machine + ?Sized, T>(
        &self,
        m: &M,
        vcpu: u32,
        relax: &dyn Fn() -> bool,
        look: impl FnOnce(u64) -> T,
    ) -> Result<T, PlaceError> {
        let reader = self.reader(vcpu);
        loop {
            m.exchange32(reader, 0, 1)?;
            if m.load32(self.words + MOVING)? == 0 {
                break;
            }
            m.store32(reader, 0)?;
            while m.load32(self.words + MOVING)? != 0 {
                if !relax() {
                    return Err(PlaceError::Moving);
                }
            }
        }
        let result = look(u64::from(self.gfn(m)?) * PAGE_SIZE);
        m.store32(reader, 0)?;
        Ok(result)
    }

    /// Moves shared info to `gfn`, with nobody reading it meanwhile; where it
    /// was. On an error it is where it was, but for [`PlaceError::Hole`].
    pub fn move_to<M: Machine + ?Sized>(
        &self,
        m: &M,
        gfn: u32,
        leave: Leave,
        relax: &dyn Fn() -> bool,
    ) -> Result<u32, PlaceError> {
        while m.exchange32(self.words + MOVING, 0, 1)? != 0 {
            if !relax() {
                return Err(PlaceError::Moving);
            }
        }
        let result = self
            .wait_for_readers(m, relax)
            .and_then(|()| self.move_now(m, gfn, leave));
        m.store32(self.words + MOVING, 0)?;
        result
    }

    fn wait_for_readers<M: Machine + ?Sized>(
        &self,
        m: &M,
        relax: &dyn Fn() -> bool,
    ) -> Result<(), PlaceError> {
        for vcpu in 0..self.vcpus {
            while m.load32(self.reader(vcpu))? != 0 {
                if !relax() {
                    return Err(PlaceError::Reader(vcpu));
                }
            }
        }
        Ok(())
    }

    /// Moves shared info, whoever reads it: only where the caller knows that
    /// nobody does, because all other vCPUs are parked.
    pub fn move_now<M: Machine + ?Sized>(
        &self,
        m: &M,
        gfn: u32,
        leave: Leave,
    ) -> Result<u32, PlaceError> {
        let was = self.gfn(m)?;
        map_shared_info(m, gfn.into())?;
        m.store32(self.words + PLACE, gfn)?;
        if let Leave::Ram(list) = leave {
            m.write64(list, was.into())?;
            if !populate_physmap(m, list)? {
                return Err(PlaceError::Hole(was.into()));
            }
        }
        Ok(was)
    }

    /// Takes shared info out of the physmap, when nobody will read it any
    /// more. Its place is a hole.
    pub fn remove<M: Machine + ?Sized>(self, m: &M) -> Result<(), PlaceError> {
        Ok(remove_from_physmap(m, self.gfn(m)?.into())?)
    }
}
