//! A block device's frontend.
//!
//! Protocol: `public/io/blkif.h`, `public/io/ring.h`. Shared with the
//! backend's domain: the ring's page, writable, from connect to close; the
//! pages of a request, from the moment that it is put into the ring until its
//! response has come, read-only where the device is written to. The backend
//! may write any byte of the ring at any time, so responses are copied, and
//! the copy is checked: known number, in flight, answered once, of the same
//! operation. A ring that says what cannot be is given up ([`Problem::Lie`]);
//! all that can be done with the device then is to close it.
//!
//! Order of steps: reset what an earlier kernel left; grant the ring, as large
//! as both sides can have it, open a port, tell the backend of both
//! (Initialised); wait for it to be Connected and read what the device is;
//! Connected; take the ring's size out of the store. Several devices go through
//! this side by side ([`Connecting`]). Requests and responses. At the
//! end: wait for the responses, close by [`crate::xenbus`], end the grants,
//! close the port; several devices side by side, too ([`close_all`]).
//!
//! A request has up to 11 pages, or up to [`INDIRECT_PAGES`] where the backend
//! takes their list in a page of its own (an indirect request), for which the
//! caller gives pages, one for each of such requests in flight.
//!
//! Grants are not persistent: each is of the page that the caller wants filled,
//! so nothing is copied here. A page that is still mapped after its response
//! is an error, and is named when the device is closed.
//! A [`Block`] that is dropped without [`Block::close`] leaves all of this to
//! the backend.
//!
//! ```no_run
//! # use kexen_guest::{Machine, block::*, grants::Grants, references::References};
//! # use kexen_guest::{wait::Wait, xenbus::Device, xenstore::Store};
//! # fn example(m: &dyn Machine, wait: &mut dyn Wait, ring: Page, page: Page) {
//! let mut store = Store::new(0x1000, 1);
//! let mut references = References::new(Grants::new(0x2000));
//! let mut session = store.on(m, wait);
//! let device = Device::open(&mut session, "vbd", 51712).unwrap();
//! let memory = Memory { ring: &[ring], lists: &[] };
//! let mut disk = Block::connect(&mut session, &mut references, device, memory).unwrap();
//! let mut io = Io { m, wait, references: &mut references };
//! disk.read(&mut io, 0, 8, &[page]).unwrap();
//! let closing = disk.close(&mut store.on(m, wait), &mut references);
//! assert!(closing.held.is_empty(), "a blocker of the hand-off");
//! # }
//! ```

mod close;
mod connect;
mod error;
mod geometry;
mod name;
mod request;
mod ring;
mod transfer;

use alloc::vec::Vec;

pub use self::close::{Closing, close_all};
pub use self::connect::{Connecting, NotConnected};
pub use self::error::{BlockError, Lie, Problem};
pub use self::geometry::Geometry;
pub use self::name::name;
pub use self::request::{INDIRECT_PAGES, Operation};
use self::ring::FrontRing;
pub use self::transfer::{Done, Ticket};
use crate::{references::References, wait::Wait, xenbus::Device};

/// A page that the caller gives: of its own, and of nothing else's while
/// the device has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    /// The guest's number of it (pfn or gfn).
    pub number: u64,
    /// Guest address where it is mapped.
    pub address: u64,
    /// The number to grant it by: gfn, or mfn of a PV guest.
    pub frame: u32,
}

/// Memory that a device is driven with: pages of the caller's, given for as
/// long as it is connected.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    /// For the ring: as many of them as both sides can use, a power of two.
    pub ring: &'a [Page],
    /// For the lists of large requests, one for each of them in flight; none:
    /// all requests are small.
    pub lists: &'a [Page],
}

/// A page by a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The reference.
    pub reference: u32,
    /// The page.
    pub page: Page,
}

/// What requests are made and waited for with.
pub struct Io<'a, M: ?Sized> {
    /// The machine.
    pub m: &'a M,
    /// How to wait.
    pub wait: &'a mut dyn Wait,
    /// Grant references.
    pub references: &'a mut References,
}

impl<M: ?Sized> core::fmt::Debug for Io<'_, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Io")
            .field("references", &self.references)
            .finish_non_exhaustive()
    }
}

/// A request that has no response yet.
#[derive(Clone, Debug)]
struct Flight {
    id: u64,
    operation: Operation,
    sector: u64,
    pages: Vec<Granted>,
    /// The page with the list of them, if it is a large one.
    list: Option<Granted>,
    /// Nobody waits for it any more.
    abandoned: bool,
}

impl Flight {
    /// All pages that the backend may reach for it.
    fn granted(self) -> impl Iterator<Item = Granted> {
        self.pages.into_iter().chain(self.list)
    }
}

/// What has gone over a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests.
    pub requests: u64,
    /// Bytes that they were about.
    pub bytes: u64,
}

/// A connected block device.
#[derive(Debug)]
pub struct Block {
    device: Device,
    geometry: Geometry,
    ring: FrontRing,
    port: Option<u32>,
    connected: bool,
    /// The ring has said what cannot be: nothing in it is believed.
    lied: bool,
    /// Requests had their time, and no answer: they get no more.
    silent: bool,
    /// By entry of the ring; its index is the low part of a request's id.
    flights: Vec<Option<Flight>>,
    /// Makes a request's id unlike that of any before.
    serial: u32,
    figures: Figures,
    /// Pages for lists that no request uses.
    lists: Vec<Page>,
    /// The ring's grants, and those that outlived their requests.
    held: Vec<Granted>,
}

impl Block {
    /// Whose frontend this is.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// What the device is.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Its port, while that is open.
    #[must_use]
    pub const fn port(&self) -> Option<u32> {
        self.port
    }

    /// What has been asked of it so far.
    #[must_use]
    pub const fn figures(&self) -> Figures {
        self.figures
    }

    /// Requests that have no response yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.iter().flatten().count()
    }

    /// Every page that the backend may reach: the ring's, those of requests
    /// in flight, and those that it has not let go.
    pub fn granted(&self) -> impl Iterator<Item = Granted> {
        let flights = self.flights.iter().flatten();
        let pages = flights.flat_map(|flight| flight.pages.iter().chain(&flight.list));
        self.held.iter().chain(pages).copied()
    }
}
