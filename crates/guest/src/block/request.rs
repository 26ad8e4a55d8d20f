//! One request: its pages granted, its entry made; its response checked,
//! its grants ended.

use alloc::vec::Vec;

use kexen_abi::io::blkif::{
    BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_INDIRECT, BLKIF_OP_READ,
    BLKIF_OP_WRITE, BLKIF_RSP_OKAY, BlkifRequest, BlkifRequestIndirect, BlkifResponse,
    BlkifSegment, SECTOR_BYTES, SECTORS_PER_PAGE, SEGMENTS_PER_INDIRECT_PAGE,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{Block, Flight, Granted, Io, Lie, Page, Problem, Ticket};
use crate::{Machine, events, grants::End, references::Access};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// From the device into pages.
    Read,
    /// From pages to the device.
    Write,
    /// What was written is on the medium.
    Flush,
}

impl Operation {
    const fn code(self) -> u8 {
        match self {
            Self::Read => BLKIF_OP_READ,
            Self::Write => BLKIF_OP_WRITE,
            Self::Flush => BLKIF_OP_FLUSH_DISKCACHE,
        }
    }
}

impl core::fmt::Display for Operation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
        })
    }
}

/// Pages of a small request.
const DIRECT_PAGES: usize = BLKIF_MAX_SEGMENTS_PER_REQUEST;
/// Pages of a large request at most, whatever the backend offers: so that
/// several of them are in flight with the grants of one frame of the table.
pub const INDIRECT_PAGES: usize = 64;
/// Sectors of a page.
const PER_PAGE: u32 = 8;
const _: () = assert!(SECTORS_PER_PAGE == 8 && SEGMENTS_PER_INDIRECT_PAGE > 64);

/// A request that is to be entered.
struct Request<'a> {
    id: u64,
    operation: Operation,
    sector: u64,
    sectors: u32,
    pages: &'a [Granted],
}

impl Request<'_> {
    /// Its pages with the sectors that belong there.
    fn segments(&self) -> impl Iterator<Item = BlkifSegment> {
        let mut left = self.sectors;
        self.pages.iter().map(move |granted| {
            let here = left.min(PER_PAGE);
            left = left.saturating_sub(here);
            BlkifSegment {
                gref: granted.reference,
                first_sect: 0,
                last_sect: u8::try_from(here.saturating_sub(1)).unwrap_or(0),
                pad: 0,
            }
        })
    }
}

/// A request that has its response.
pub(super) struct Answered {
    pub(super) flight: Flight,
    pub(super) outcome: Result<(), Problem>,
}

impl Block {
    pub(super) fn check(
        &self,
        operation: Operation,
        sector: u64,
        sectors: u32,
        pages: &[Page],
    ) -> Result<(), Problem> {
        if !self.connected {
            return Err(Problem::NotConnected);
        }
        match operation {
            Operation::Flush if !self.geometry.flush => return Err(Problem::NoFlush),
            Operation::Flush => {}
            Operation::Write if self.geometry.read_only => return Err(Problem::ReadOnly),
            Operation::Read | Operation::Write => self.geometry.check(sector, sectors)?,
        }
        let needed = usize::try_from(sectors.div_ceil(PER_PAGE));
        if needed != Ok(pages.len()) {
            return Err(Problem::Pages(pages.len()));
        }
        Ok(())
    }

    /// Pages of the next request at most: a large one takes a page for its
    /// list.
    pub(super) fn most_pages(&self) -> usize {
        let offered = usize::try_from(self.geometry.indirect_segments).unwrap_or(0);
        if self.lists.is_empty() || offered <= DIRECT_PAGES {
            DIRECT_PAGES
        } else {
            offered.min(INDIRECT_PAGES)
        }
    }

    /// Sectors of as many pages.
    pub(super) fn sectors_of(pages: usize) -> u32 {
        u32::try_from(pages).map_or(u32::MAX, |pages| pages.saturating_mul(PER_PAGE))
    }

    /// Grants the pages of one request and puts it into the ring.
    pub(super) fn enter<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
        operation: Operation,
        sector: u64,
        sectors: u32,
        pages: &[Page],
    ) -> Result<Ticket, Problem> {
        self.check(operation, sector, sectors, pages)?;
        if pages.len() > self.most_pages() {
            return Err(Problem::Pages(pages.len()));
        }
        let slot = self.flights.iter().position(Option::is_none);
        let slot = slot.filter(|_| self.ring.room()).ok_or(Problem::Full)?;
        let access = match operation {
            // The device is read, the page is written.
            Operation::Read => Access::Write,
            Operation::Write | Operation::Flush => Access::Read,
        };
        let mut granted = Vec::with_capacity(pages.len());
        for page in pages {
            let domid = self.device.backend_id();
            match io.references.grant(io.m, domid, page.frame, access) {
                Ok(reference) => granted.push(Granted {
                    reference,
                    page: *page,
                }),
                Err(error) => {
                    self.take_back(io, &granted);
                    return Err(error.into());
                }
            }
        }
        self.serial = self.serial.wrapping_add(1);
        let index = u32::try_from(slot).unwrap_or(u32::MAX);
        let id = (u64::from(self.serial) << 32) | u64::from(index);
        let request = Request {
            id,
            operation,
            sector,
            sectors,
            pages: &granted,
        };
        let entered = if granted.len() > DIRECT_PAGES {
            self.enter_indirect(io, &request).map(Some)
        } else {
            self.enter_direct(io, &request).map(|()| None)
        };
        let list = match entered {
            Ok(list) => list,
            Err(problem) => {
                self.take_back(io, &granted);
                return Err(problem);
            }
        };
        self.figures.requests += 1;
        self.figures.bytes += u64::from(sectors) * SECTOR_BYTES;
        if let Some(flight) = self.flights.get_mut(slot) {
            *flight = Some(Flight {
                id,
                operation,
                sector,
                pages: granted,
                list,
                abandoned: false,
            });
        }
        Ok(Ticket(id))
    }

    /// The device's number, as far as a request has room for it.
    fn handle(&self) -> u16 {
        let [low, high, ..] = self.device.number().to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    fn enter_direct<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
        what: &Request<'_>,
    ) -> Result<(), Problem> {
        let mut request = BlkifRequest {
            operation: what.operation.code(),
            nr_segments: u8::try_from(what.pages.len()).unwrap_or(0),
            handle: self.handle(),
            id: what.id,
            sector_number: what.sector,
            ..BlkifRequest::new_zeroed()
        };
        for (to, segment) in request.seg.iter_mut().zip(what.segments()) {
            *to = segment;
        }
        Ok(self.ring.fill(io.m, request.as_bytes())?)
    }

    /// The same with the list of pages in a page of its own; that page, as the
    /// backend may read it.
    fn enter_indirect<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
        what: &Request<'_>,
    ) -> Result<Granted, Problem> {
        let list: Vec<BlkifSegment> = what.segments().collect();
        let page = *self.lists.last().ok_or(Problem::Full)?;
        io.m.write(page.address, list.as_bytes())?;
        let domid = self.device.backend_id();
        let reference = io.references.grant(io.m, domid, page.frame, Access::Read)?;
        let list = Granted { reference, page };
        let mut request = BlkifRequestIndirect {
            operation: BLKIF_OP_INDIRECT,
            indirect_op: what.operation.code(),
            nr_segments: u16::try_from(what.pages.len()).unwrap_or(0),
            handle: self.handle(),
            id: what.id,
            sector_number: what.sector,
            ..BlkifRequestIndirect::new_zeroed()
        };
        request.indirect_grefs[0] = reference;
        if let Err(fault) = self.ring.fill(io.m, request.as_bytes()) {
            self.take_back(io, &[list]);
            return Err(fault.into());
        }
        self.lists.pop();
        Ok(list)
    }

    /// Shows the requests to the backend. It is always told: whether it
    /// wants to be stands in a word that it may write, and one call less for
    /// some batches is not worth a wait that never ends.
    pub(super) fn push<M: Machine + ?Sized>(&mut self, m: &M) -> Result<(), Problem> {
        if self.ring.push(m)? {
            let port = self.port.ok_or(Problem::NotConnected)?;
            events::notify(m, port)?;
        }
        Ok(())
    }

    /// Ends the grants of a request; those that are in use are kept in mind.
    /// The first of them.
    fn take_back<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
        pages: &[Granted],
    ) -> Option<Granted> {
        let mut first = None;
        for granted in pages {
            // A table that cannot be reached says nothing: in use.
            if io.references.end(io.m, granted.reference) != Ok(End::Ended) {
                self.held.push(*granted);
                first.get_or_insert(*granted);
            }
        }
        first
    }

    /// Takes one response, checks it and ends the grants of its request.
    pub(super) fn respond<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
    ) -> Result<Option<Answered>, Problem> {
        let mut response = BlkifResponse::new_zeroed();
        if !self.ring.take(io.m, response.as_mut_bytes())? {
            return Ok(None);
        }
        let slot = usize::try_from(response.id & u64::from(u32::MAX)).ok();
        let slot = slot.and_then(|slot| self.flights.get_mut(slot));
        let slot = slot.filter(|slot| slot.as_ref().is_some_and(|one| one.id == response.id));
        let Some(slot) = slot else {
            return Err(Lie::Id(response.id).into());
        };
        // Linux's backend answers a large request by what it was to do, not by
        // how it was asked (`dispatch_rw_block_io`).
        let fits = slot.as_ref().is_some_and(|flight| {
            response.operation == flight.operation.code()
                || flight.list.is_some() && response.operation == BLKIF_OP_INDIRECT
        });
        if !fits {
            return Err(Problem::Lie(Lie::Operation {
                id: response.id,
                operation: response.operation,
            }));
        }
        let Some(flight) = slot.take() else {
            return Err(Lie::Id(response.id).into());
        };
        let mut mapped = self.take_back(io, &flight.pages);
        if let Some(list) = flight.list {
            match self.take_back(io, &[list]) {
                None => self.lists.push(list.page),
                still => mapped = mapped.or(still),
            }
        }
        let outcome = match (response.status, mapped) {
            (BLKIF_RSP_OKAY, None) => Ok(()),
            (BLKIF_RSP_OKAY, Some(granted)) => Err(Problem::StillMapped(granted)),
            (status, _) => Err(Problem::Failed {
                operation: flight.operation,
                sector: flight.sector,
                status,
            }),
        };
        Ok(Some(Answered { flight, outcome }))
    }
}
