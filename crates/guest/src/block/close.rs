//! Giving a block device back, so that nothing of it reaches this guest's
//! memory any more, or saying what does.

use alloc::vec::Vec;

use super::{Block, BlockError, Flight, Granted, Io, NotConnected};
use crate::{
    HypercallError, Machine,
    grants::End,
    references::References,
    release,
    xenbus::{self, Closed, Device, DeviceError},
    xenstore::Session,
};

/// How a block device was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "pages may still be the backend's"]
pub struct Closing {
    /// Whether the backend did its part.
    pub outcome: Result<Closed, BlockError>,
    /// Pages that the backend still has: nothing may be put there, and the
    /// references not be used, by this kernel or the next.
    pub held: Vec<Granted>,
    /// The port, if it is still open.
    pub port: Option<u32>,
}

impl Block {
    /// Waits for what is in flight, closes the device, ends the grants,
    /// closes the port. If the backend does not do its part in time, what
    /// can be ended is; it may be called again, with more time, and takes the
    /// steps that are left. The port is closed when the backend has closed. For
    /// several see [`close_all`].
    pub fn close<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        references: &mut References,
    ) -> Closing {
        let was_connected = self.drain(s, references);
        let outcome = if was_connected {
            xenbus::close(s, &self.device)
        } else {
            xenbus::reset(s, &self.device)
        };
        self.closed(s.machine(), references, outcome)
    }

    /// Waits for what is in flight; whether it was connected until now. One that
    /// does not answer, or begins to lie, has to close all the same; what it then
    /// keeps is seen by its grants.
    fn drain<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        references: &mut References,
    ) -> bool {
        let was_connected = core::mem::replace(&mut self.connected, false);
        let m = s.machine();
        // The time that there is would be gone before the device is closed, if a
        // backend were waited for that has not answered before.
        if self.port.is_some() && !self.lied && !self.silent {
            let wait = s.wait();
            let _ = self.wait_all(&mut Io {
                m,
                wait,
                references,
            });
        }
        was_connected
    }

    /// Takes back what the backend had.
    fn closed<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        references: &mut References,
        outcome: Result<Closed, DeviceError>,
    ) -> Closing {
        for flight in &mut self.flights {
            self.held
                .extend(flight.take().into_iter().flat_map(Flight::granted));
        }
        let left = (&mut self.held, &mut self.port);
        take_back(m, references, &self.device, left, outcome)
    }
}

/// Ends grants and, if the device is closed, closes the port.
fn take_back<M: Machine + ?Sized>(
    m: &M,
    references: &mut References,
    device: &Device,
    (held, port): (&mut Vec<Granted>, &mut Option<u32>),
    outcome: Result<Closed, DeviceError>,
) -> Closing {
    end(m, references, held);
    let outcome = match outcome {
        Ok(closed) => close_port(m, port).map_or(Ok(closed), |error| Err(error.into())),
        Err(error) => Err(error.into()),
    };
    Closing {
        outcome: outcome.map_err(|problem| BlockError::new(device, problem)),
        held: held.clone(),
        port: *port,
    }
}

/// Closes several devices side by side, as [`Block::close`] does each: what came
/// of them, in their order. What is in flight has one wait for all; the wait is
/// told when that is over, and when a device gets on.
///
/// Behind them those that came to no [`Block`], of whose ring the backend may
/// have something all the same.
pub fn close_all<M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    references: &mut References,
    blocks: &mut [&mut Block],
    late: &mut [NotConnected],
) -> Vec<Closing> {
    let drained = blocks.iter_mut().map(|block| block.drain(s, references));
    let connected: Vec<bool> = drained.collect();
    s.progress();
    let devices = blocks.iter().map(|block| &block.device).zip(connected);
    let devices = devices.chain(late.iter().map(|one| (&one.device, false)));
    let mut outcomes = xenbus::close_all(s, devices).into_iter();
    let m = s.machine();
    let mut closings = Vec::new();
    for (block, outcome) in blocks.iter_mut().zip(&mut outcomes) {
        closings.push(block.closed(m, references, outcome));
    }
    for (one, outcome) in late.iter_mut().zip(outcomes) {
        let left = (&mut one.held, &mut one.port);
        closings.push(take_back(m, references, &one.device, left, outcome));
    }
    closings
}

/// Ends grants; those that are in use remain in the list.
pub(super) fn end<M: Machine + ?Sized>(
    m: &M,
    references: &mut References,
    held: &mut Vec<Granted>,
) {
    // A table that cannot be reached says nothing: in use.
    held.retain(|granted| references.end(m, granted.reference) != Ok(End::Ended));
}

/// Closes a port, which is then no more; or why not.
pub(super) fn close_port<M: Machine + ?Sized>(
    m: &M,
    port: &mut Option<u32>,
) -> Option<HypercallError> {
    let error = port.map(|port| release::close_port(m, port))?.err();
    if error.is_none() {
        *port = None;
    }
    error
}
