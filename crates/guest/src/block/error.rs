//! What goes wrong with a block device.

use alloc::string::String;
use core::fmt::{Display, Formatter, Result};

use super::{Granted, Operation};
use crate::{HypercallError, machine::Fault, references::ReferenceError, xenbus};

/// Something about a block device that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockError {
    /// Its frontend's path, `device/vbd/51712`.
    pub device: String,
    /// Its backend's domain.
    pub backend_id: u16,
    /// Why.
    pub problem: Problem,
}

impl BlockError {
    pub(super) fn new(device: &xenbus::Device, problem: Problem) -> Self {
        Self {
            device: device.frontend().into(),
            backend_id: device.backend_id(),
            problem,
        }
    }
}

/// Why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The two ends did not come together, or apart.
    Xenbus(xenbus::Problem),
    /// No page could be granted.
    Grant(ReferenceError),
    /// Xen refused.
    Hypercall(HypercallError),
    /// The ring could not be reached.
    Fault(Fault),
    /// The ring says what cannot be.
    Lie(Lie),
    /// So many requests were not answered in the time given. Their pages are
    /// still the backend's.
    Unanswered(usize),
    /// The backend said that a request failed.
    Failed {
        /// Which operation.
        operation: Operation,
        /// From where on.
        sector: u64,
        /// `BLKIF_RSP_*`
        status: i16,
    },
    /// A request is answered, and the backend still has its page.
    StillMapped(Granted),
    /// No such sectors.
    OutOfRange {
        /// The first.
        sector: u64,
        /// How many.
        sectors: u32,
    },
    /// Not a multiple of the device's sector size.
    Unaligned {
        /// The first.
        sector: u64,
        /// How many.
        sectors: u32,
    },
    /// More or fewer pages than the sectors need, or than a request has.
    Pages(usize),
    /// It is read-only.
    ReadOnly,
    /// It cannot flush.
    NoFlush,
    /// The ring has no room.
    Full,
    /// Requests of [`super::Block::submit`]'s are in flight.
    Busy,
    /// It is not connected, or no more.
    NotConnected,
}

/// What a ring says that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lie {
    /// Responses to more requests than there are.
    Producer {
        /// What it says.
        rsp_prod: u32,
        /// How far the frontend has read.
        rsp_cons: u32,
        /// How far the frontend has asked.
        req_prod: u32,
    },
    /// A response to no request that is in flight.
    Id(u64),
    /// A response of another operation.
    Operation {
        /// To this request.
        id: u64,
        /// Which.
        operation: u8,
    },
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<HypercallError> for Problem {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}

impl From<ReferenceError> for Problem {
    fn from(error: ReferenceError) -> Self {
        Self::Grant(error)
    }
}

impl From<Lie> for Problem {
    fn from(lie: Lie) -> Self {
        Self::Lie(lie)
    }
}

impl From<xenbus::DeviceError> for Problem {
    fn from(error: xenbus::DeviceError) -> Self {
        Self::Xenbus(error.problem)
    }
}

impl Display for BlockError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if let Problem::Xenbus(problem) = &self.problem {
            let problem = problem.clone();
            let device = self.device.clone();
            return xenbus::DeviceError { device, problem }.fmt(f);
        }
        write!(
            f,
            "{} (backend in domain {}): {}",
            self.device, self.backend_id, self.problem
        )
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Xenbus(_) => f.write_str("the device's other end"),
            Self::Grant(error) => error.fmt(f),
            Self::Hypercall(error) => error.fmt(f),
            Self::Fault(fault) => write!(f, "the ring: {fault}"),
            Self::Lie(lie) => lie.fmt(f),
            Self::Unanswered(count) => write!(
                f,
                "{count} requests were not answered in time; their pages are still the backend's"
            ),
            Self::Failed {
                operation,
                sector,
                status,
            } => write!(
                f,
                "{operation} at sector {sector} failed: {}",
                match *status {
                    -1 => "input or output error (-1)",
                    -2 => "the backend does not support it (-2)",
                    _ => "for no known reason",
                }
            ),
            Self::StillMapped(granted) => write!(
                f,
                "page {:#x} (grant {}) is still mapped after its request was answered",
                granted.page.number, granted.reference
            ),
            Self::OutOfRange { sector, sectors } => {
                write!(
                    f,
                    "it has no sectors {sector} and the {sectors} from there on"
                )
            }
            Self::Unaligned { sector, sectors } => write!(
                f,
                "sector {sector} or the count {sectors} is not a multiple of its sector size"
            ),
            Self::Pages(count) => write!(f, "{count} pages do not fit the request"),
            Self::ReadOnly => f.write_str("it is read-only"),
            Self::NoFlush => f.write_str("it cannot flush"),
            Self::Full => f.write_str("its ring is full"),
            Self::Busy => f.write_str("requests are in flight that somebody else waits for"),
            Self::NotConnected => f.write_str("it is not connected"),
        }
    }
}

impl Display for Lie {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Producer {
                rsp_prod,
                rsp_cons,
                req_prod,
            } => write!(
                f,
                "the ring cannot be: response producer {rsp_prod:#x}, of which {rsp_cons:#x} \
                 are read, and {req_prod:#x} requests"
            ),
            Self::Id(id) => write!(f, "a response to request {id:#x}, which is not in flight"),
            Self::Operation { id, operation } => {
                write!(
                    f,
                    "the response to request {id:#x} is of operation {operation}"
                )
            }
        }
    }
}
