//! From a device in the store to one that answers requests.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use kexen_abi::io::blkif::{
    BlkifRequest, EVENT_CHANNEL, MAX_RING_PAGE_ORDER, PROTOCOL, PROTOCOL_X86_64, RING_PAGE_ORDER,
    RING_REF,
};

use super::{
    Block, BlockError, Figures, Geometry, Granted, Memory, Page, Problem, ring::FrontRing,
};
use crate::{
    Machine, events,
    references::{Access, References},
    xenbus::{self, Closed, Device, XenbusState},
    xenstore::{Session, if_present},
};

/// A device that could not be connected.
#[derive(Debug)]
pub struct NotConnected {
    /// Why.
    pub error: BlockError,
    /// Pages that the backend has not let go.
    pub held: Vec<Granted>,
    /// The port, if the backend could not be brought to close: it is open.
    pub port: Option<u32>,
}

const INIT_WAIT: &[XenbusState] = &[XenbusState::INIT_WAIT];
const CONNECTED: &[XenbusState] = &[XenbusState::CONNECTED];

/// What has been done so far, to be undone.
#[derive(Default)]
struct Sofar {
    port: Option<u32>,
    held: Vec<Granted>,
    told: bool,
}

impl Block {
    /// Connects a device, in memory of the caller's.
    ///
    /// # Errors
    /// Why not; all that could be undone is.
    pub fn connect<M: Machine + ?Sized>(
        s: &mut Session<'_, M>,
        references: &mut References,
        device: Device,
        memory: Memory<'_>,
    ) -> Result<Self, Box<NotConnected>> {
        let mut sofar = Sofar::default();
        match sofar.go(s, references, &device, memory.ring) {
            Ok((ring, geometry)) => {
                let entries = usize::try_from(ring.entries()).unwrap_or(0);
                Ok(Self {
                    device,
                    geometry,
                    ring,
                    port: sofar.port,
                    connected: true,
                    lied: false,
                    silent: false,
                    flights: core::iter::repeat_with(|| None).take(entries).collect(),
                    serial: 0,
                    figures: Figures::default(),
                    lists: if geometry.indirect_segments > 0 {
                        memory.lists.into()
                    } else {
                        Vec::new()
                    },
                    held: sofar.held,
                })
            }
            Err(problem) => {
                sofar.undo(s, references, &device);
                Err(Box::new(NotConnected {
                    error: BlockError {
                        device: device.frontend().into(),
                        backend_id: device.backend_id(),
                        problem,
                    },
                    held: sofar.held,
                    port: sofar.port,
                }))
            }
        }
    }
}

impl Sofar {
    fn go<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        references: &mut References,
        device: &Device,
        pages: &[Page],
    ) -> Result<(FrontRing, Geometry), Problem> {
        let m = s.machine();
        if xenbus::reset(s, device)? == Closed::Gone {
            return Err(Problem::Xenbus(xenbus::Problem::Removed));
        }
        device.wait_for_backend(s, INIT_WAIT, false)?;
        let entry = u64::try_from(size_of::<BlkifRequest>()).unwrap_or(u64::MAX);
        let order = ring_order(s, device, pages.len())?;
        let pages = pages.get(..1 << order).unwrap_or_default();
        let ring = FrontRing::new(m, pages, entry)?;
        let backend = device.backend_id();
        for page in pages {
            let reference = references.grant(m, backend, page.frame, Access::Write)?;
            self.held.push(Granted {
                reference,
                page: *page,
            });
        }
        let port = events::alloc_unbound(m, backend)?;
        self.port = Some(port);
        self.told = true;
        let mut told = ring_entries(order, &self.held);
        told.push((EVENT_CHANNEL.into(), format!("{port}")));
        told.push((PROTOCOL.into(), PROTOCOL_X86_64.into()));
        let told: Vec<(&str, &str)> = told.iter().map(|(k, v)| (&**k, &**v)).collect();
        device.switch_state(s, XenbusState::INITIALISED, &told)?;
        device.wait_for_backend(s, CONNECTED, false)?;
        let geometry = Geometry::read(s, device)?;
        device.switch_state(s, XenbusState::CONNECTED, &[])?;
        if order > 0 {
            forget_order(s, device)?;
        }
        Ok((ring, geometry))
    }

    /// Takes back what can be. The error that is reported is the one that
    /// led here; what is left is in `held` and `port`.
    fn undo<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        references: &mut References,
        device: &Device,
    ) {
        let closed = !self.told || xenbus::close(s, device).is_ok();
        super::close::end(s.machine(), references, &mut self.held);
        if closed {
            super::close::close_port(s.machine(), &mut self.port);
        }
    }
}

/// log2 of the pages of the ring: what the backend offers and the caller gives.
fn ring_order<M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    device: &Device,
    pages: usize,
) -> Result<u32, Problem> {
    let path = format!("{}/{MAX_RING_PAGE_ORDER}", device.backend());
    let offered = if_present(s.read_number(&path));
    let offered: u32 = offered
        .map_err(|error| Problem::Xenbus(xenbus::Problem::Store(error)))?
        .unwrap_or(0);
    let given = pages.checked_ilog2().ok_or(Problem::Pages(pages))?;
    Ok(offered.min(given))
}

/// Takes the size of the ring out of the store; the backend has read it.
///
/// A kernel that comes after a crash brings the device back to its beginning
/// by the states alone. Linux then writes `ring-ref` and leaves a size that it
/// finds: the backend would map the dead kernel's ring, and answer nothing.
fn forget_order<M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    device: &Device,
) -> Result<(), Problem> {
    let removed = s.rm(&format!("{}/{RING_PAGE_ORDER}", device.frontend()));
    if_present(removed).map_err(|error| Problem::Xenbus(xenbus::Problem::Store(error)))?;
    Ok(())
}

/// What the backend is told of the ring.
fn ring_entries(order: u32, ring: &[Granted]) -> Vec<(String, String)> {
    if let (0, [only, ..]) = (order, ring) {
        return Vec::from([(RING_REF.into(), format!("{}", only.reference))]);
    }
    let entry = |(n, granted): (usize, &Granted)| {
        (format!("{RING_REF}{n}"), format!("{}", granted.reference))
    };
    let mut entries: Vec<_> = ring.iter().enumerate().map(entry).collect();
    entries.push((RING_PAGE_ORDER.into(), format!("{order}")));
    entries
}
