//! Why a hand-off stopped. The running kernel goes on.

use alloc::{string::String, vec::Vec};

use kexen_guest::{Fault, HypercallError, hvm, pv};

/// Why a hand-off stopped, with what to do about it where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandoffError {
    /// Guest memory could not be reached.
    Fault(Fault),
    /// Xen refused a call.
    Hypercall(HypercallError),
    /// The address space of a PV guest could not be changed.
    Pv(pv::SpaceError),
    /// The address space of a PVH guest could not be changed.
    Pvh(hvm::space::SpaceError),
    /// The guest has too little memory.
    Memory {
        /// What it was for.
        what: &'static str,
        /// Pages that are wanted.
        want: u64,
        /// Pages that are there.
        have: u64,
    },
    /// A value of the kernel that cannot be honoured.
    Kernel {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// Why not.
        why: &'static str,
    },
    /// The command line is longer than the start structure holds.
    CommandLine {
        /// Bytes it has.
        len: usize,
        /// Bytes that fit.
        limit: usize,
    },
    /// The start structure is not one that can be used.
    StartOfDay(hvm::start::StartError),
    /// Claims that nothing gave up.
    Blocked(Vec<String>),
}

impl From<Fault> for HandoffError {
    fn from(error: Fault) -> Self {
        Self::Fault(error)
    }
}
impl From<hvm::start::StartError> for HandoffError {
    fn from(error: hvm::start::StartError) -> Self {
        Self::StartOfDay(error)
    }
}
impl From<HypercallError> for HandoffError {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}
impl From<pv::SpaceError> for HandoffError {
    fn from(error: pv::SpaceError) -> Self {
        Self::Pv(error)
    }
}
impl From<hvm::space::SpaceError> for HandoffError {
    fn from(error: hvm::space::SpaceError) -> Self {
        Self::Pvh(error)
    }
}

impl core::fmt::Display for HandoffError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fault(error) => error.fmt(f),
            Self::Hypercall(error) => error.fmt(f),
            Self::Pv(error) => error.fmt(f),
            Self::Pvh(error) => error.fmt(f),
            Self::StartOfDay(error) => error.fmt(f),
            Self::Memory { what, want, have } => write!(
                f,
                "not enough memory for {what}: {} KiB wanted, {} KiB free; \
                 give the guest more memory, or a smaller kernel or initrd",
                want * 4,
                have * 4
            ),
            Self::Kernel { field, value, why } => {
                write!(f, "kernel: {field} is {value:#x}: {why}")
            }
            Self::CommandLine { len, limit } => write!(
                f,
                "the command line has {len} bytes and at most {limit} fit; shorten \
                 it, or replace the module's with kexen.cmdline=replace"
            ),
            Self::Blocked(blockers) => {
                write!(f, "claims are outstanding: {}", blockers.join("; "))
            }
        }
    }
}
