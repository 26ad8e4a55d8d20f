//! From a device in the store to one that answers requests.

use alloc::{boxed::Box, format, vec::Vec};

use kexen_abi::io::blkif::{BlkifRequest, EVENT_CHANNEL, PROTOCOL, PROTOCOL_X86_64, RING_REF};

use super::{Block, BlockError, Geometry, Granted, Page, Problem, ring::FrontRing};
use crate::{
    Machine, events,
    references::{Access, References},
    xenbus::{self, Closed, Device, XenbusState},
    xenstore::Session,
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
    /// Connects a device, with a ring in a page of the caller's.
    ///
    /// # Errors
    /// Why not; all that could be undone is.
    pub fn connect<M: Machine + ?Sized>(
        s: &mut Session<'_, M>,
        references: &mut References,
        device: Device,
        ring: Page,
    ) -> Result<Self, Box<NotConnected>> {
        let mut sofar = Sofar::default();
        match sofar.go(s, references, &device, ring) {
            Ok((ring, geometry)) => {
                let entries = usize::try_from(ring.entries()).unwrap_or(0);
                Ok(Self {
                    device,
                    geometry,
                    ring,
                    port: sofar.port,
                    connected: true,
                    lied: false,
                    flights: core::iter::repeat_with(|| None).take(entries).collect(),
                    serial: 0,
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
        page: Page,
    ) -> Result<(FrontRing, Geometry), Problem> {
        let m = s.machine();
        if xenbus::reset(s, device)? == Closed::Gone {
            return Err(Problem::Xenbus(xenbus::Problem::Removed));
        }
        device.wait_for_backend(s, INIT_WAIT, false)?;
        let entry = u64::try_from(size_of::<BlkifRequest>()).unwrap_or(u64::MAX);
        let ring = FrontRing::new(m, &[page], entry)?;
        let backend = device.backend_id();
        let reference = references.grant(m, backend, page.frame, Access::Write)?;
        self.held.push(Granted { reference, page });
        let port = events::alloc_unbound(m, backend)?;
        self.port = Some(port);
        self.told = true;
        device.switch_state(
            s,
            XenbusState::INITIALISED,
            &[
                (RING_REF, &format!("{reference}")),
                (EVENT_CHANNEL, &format!("{port}")),
                (PROTOCOL, PROTOCOL_X86_64),
            ],
        )?;
        device.wait_for_backend(s, CONNECTED, false)?;
        let geometry = Geometry::read(s, device)?;
        device.switch_state(s, XenbusState::CONNECTED, &[])?;
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
