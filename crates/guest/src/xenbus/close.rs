//! Closing a device so that a new kernel can open it.
//!
//! The frontend may be one of this kernel's or one that an earlier kernel
//! left behind: how far the two ends have got is read from the store, and
//! the steps that are left are taken.

use alloc::{format, string::String, vec::Vec};
use core::{ops::ControlFlow, task::Poll};

use super::{Course, Device, DeviceError, Follow, Problem, SideBySide, XenbusState, alone};
use crate::{
    Machine,
    xenstore::{Ask, Session, StoreError, if_present},
};

/// How a device was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The backend waits for a new frontend (InitWait).
    Ready,
    /// The backend is gone: the device was unplugged.
    Gone,
}

const AT_LEAST_CLOSING: &[XenbusState] = &[XenbusState::CLOSING, XenbusState::CLOSED];
const CLOSED: &[XenbusState] = &[XenbusState::CLOSED];
/// Requests that are made together.
const AT_A_TIME: usize = 16;
const INIT_WAIT: &[XenbusState] = &[XenbusState::INIT_WAIT];

/// Closes a device in the order that the next kernel expects.
///
/// # Errors
/// The backend that did not do its part in time, or the store's. The device
/// is then as far closed as it came.
pub fn close<M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    device: &Device,
) -> Result<Closed, DeviceError> {
    alone(Leaving::new(device, Steps::close()), s, &mut ())
}

/// Closes several devices side by side: what came of them, in their order. With
/// each is whether it is connected as far as is known, and closed as [`close`]
/// does; otherwise it is looked at first, as [`reset`] does. A backend that does
/// not do its part costs the others no time; the wait is told when one of them
/// gets on.
///
/// No device may be among them twice. Each has one of the 32 watches of a
/// connection to the store while its backend is waited for.
pub fn close_all<'a, M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    devices: impl IntoIterator<Item = (&'a Device, bool)>,
) -> Vec<Result<Closed, DeviceError>> {
    let leaving = |(device, connected)| Leaving::new(device, Steps::leave(connected));
    SideBySide::new(devices.into_iter().map(leaving)).finish(s, &mut ())
}

/// Brings a device back to its beginning, however far an earlier kernel had
/// got with it: Connected, Closed, or in between. Where nothing was begun,
/// nothing is done.
///
/// # Errors
/// As [`close`].
pub fn reset<M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    device: &Device,
) -> Result<Closed, DeviceError> {
    alone(Leaving::new(device, Steps::reset()), s, &mut ())
}

/// A device that is being closed or reset.
struct Leaving<'a> {
    device: &'a Device,
    follow: Follow,
    steps: Steps,
}

impl<'a> Leaving<'a> {
    fn new(device: &'a Device, steps: Steps) -> Self {
        Self {
            device,
            follow: Follow::new(device),
            steps,
        }
    }
}

impl Course for Leaving<'_> {
    type Context = ();
    type Outcome = Result<Closed, DeviceError>;
    const END: u32 = Steps::END;

    fn poll<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        (): &mut (),
    ) -> Poll<Self::Outcome> {
        Poll::Ready(match self.steps.poll(s, self.device, &mut self.follow) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(closed)) => self.follow.end(s, self.device).map(|()| closed),
            Err(error) => {
                self.follow.end_without_waiting(s);
                Err(error)
            }
        })
    }

    fn rank(&self) -> u32 {
        self.steps.rank()
    }

    fn token(&self) -> &str {
        self.follow.token()
    }

    fn give_up<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        (): &mut (),
        error: StoreError,
    ) -> Self::Outcome {
        self.follow.end_without_waiting(s);
        Err(self.follow.failed(self.device, error))
    }
}

/// What is left to do of a close or of a reset.
#[derive(Debug)]
pub(crate) struct Steps {
    step: Step,
    /// The frontend's part of it is done, and the backend is waited for.
    done: bool,
}

/// A look at how far the two ends have got, and the states that a frontend then
/// goes through.
#[derive(Clone, Copy, Debug)]
enum Step {
    Look,
    Closing,
    Closed,
    Initialising,
}

impl Steps {
    /// As [`close`] takes them.
    pub(crate) const fn close() -> Self {
        Self {
            step: Step::Closing,
            done: false,
        }
    }

    /// As [`reset`] takes them.
    pub(crate) const fn reset() -> Self {
        Self {
            step: Step::Look,
            done: false,
        }
    }

    /// As [`close`] takes them from a device that is connected, and [`reset`]
    /// from another.
    const fn leave(connected: bool) -> Self {
        if connected {
            Self::close()
        } else {
            Self::reset()
        }
    }

    /// More than [`Self::rank`] ever is.
    pub(crate) const END: u32 = 4;

    /// How far they have got.
    pub(crate) const fn rank(&self) -> u32 {
        match self.step {
            Step::Look => 0,
            Step::Closing => 1,
            Step::Closed => 2,
            Step::Initialising => 3,
        }
    }

    /// Takes the steps that can be taken without waiting for the backend. With
    /// [`Closed::Ready`] it was last seen in InitWait.
    ///
    /// # Errors
    /// As [`close`], but for the time.
    pub(crate) fn poll<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        device: &Device,
        follow: &mut Follow,
    ) -> Result<Poll<Closed>, DeviceError> {
        loop {
            let (state, wanted, next) = match self.step {
                Step::Look => match first(s, device, follow)? {
                    ControlFlow::Continue(step) => {
                        self.step = step;
                        continue;
                    }
                    ControlFlow::Break(closed) => return Ok(Poll::Ready(closed)),
                },
                Step::Closing => (XenbusState::CLOSING, AT_LEAST_CLOSING, Some(Step::Closed)),
                Step::Closed => (XenbusState::CLOSED, CLOSED, Some(Step::Initialising)),
                Step::Initialising => (XenbusState::INITIALISING, INIT_WAIT, None),
            };
            if !self.done {
                if next.is_none() {
                    remove_what_was_written(s, device)?;
                }
                match device.switch_state(s, state, &[]) {
                    Err(error) if error.problem == Problem::Removed => {
                        return Ok(Poll::Ready(Closed::Gone));
                    }
                    result => result?,
                }
                follow.expect(wanted, true);
                self.done = true;
            }
            match (follow.poll(s, device)?, next) {
                (Poll::Pending, _) => return Ok(Poll::Pending),
                (Poll::Ready(Some(_)), Some(next)) => {
                    self.step = next;
                    self.done = false;
                }
                (Poll::Ready(Some(_)), None) => return Ok(Poll::Ready(Closed::Ready)),
                (Poll::Ready(None), next) => {
                    if next.is_some() {
                        remove_what_was_written(s, device)?;
                    }
                    return Ok(Poll::Ready(Closed::Gone));
                }
            }
        }
    }
}

/// The step to begin a reset with, or how the device is where none is needed.
fn first<M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    device: &Device,
    follow: &mut Follow,
) -> Result<ControlFlow<Closed, Step>, DeviceError> {
    let frontend = device.frontend_state(s)?;
    let Some(backend) = follow.look(s, device)? else {
        return Ok(ControlFlow::Break(Closed::Gone));
    };
    let begun = !matches!(
        frontend,
        Some(XenbusState::UNKNOWN | XenbusState::INITIALISING)
    );
    Ok(ControlFlow::Continue(match backend {
        XenbusState::UNKNOWN | XenbusState::INITIALISING => Step::Initialising,
        XenbusState::INIT_WAIT if !begun => {
            remove_what_was_written(s, device)?;
            return Ok(ControlFlow::Break(Closed::Ready));
        }
        XenbusState::CLOSING => Step::Closed,
        XenbusState::CLOSED => Step::Initialising,
        _ => Step::Closing,
    }))
}

/// Whether an entry of a frontend's directory is one that frontends write:
/// rings, ports, and what they have agreed on. The toolstack's are links,
/// names and addresses.
#[must_use]
pub fn written_by_frontend(name: &str) -> bool {
    const BEGINNINGS: [&str; 8] = [
        "ring-ref",
        "event-channel",
        "tx-ring-ref",
        "rx-ring-ref",
        "queue-",
        "feature-",
        "page-",
        "request-",
    ];
    const NAMES: [&str; 6] = [
        "protocol",
        "ring-page-order",
        "num-ring-pages",
        "num-rings",
        "multi-queue-num-queues",
        "version",
    ];
    BEGINNINGS.iter().any(|one| name.starts_with(one)) || NAMES.contains(&name)
}

fn remove_what_was_written<M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    device: &Device,
) -> Result<(), DeviceError> {
    let store = |error| device.store(error);
    let names = if_present(s.directory(device.frontend())).map_err(store)?;
    let written = names.iter().flatten();
    let written = written.filter(|name| written_by_frontend(name));
    let written: Vec<String> = written
        .map(|name| format!("{}/{name}", device.frontend()))
        .collect();
    // As many at a time as go into the ring.
    for some in written.chunks(AT_A_TIME) {
        let asks: Vec<Ask<'_>> = some.iter().map(|path| Ask::Remove(path)).collect();
        for removed in s.together(&asks).map_err(store)? {
            if_present(removed).map_err(store)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_toolstack_wrote_stays() {
        for name in [
            "ring-ref",
            "ring-ref0",
            "event-channel",
            "protocol",
            "feature-persistent",
        ] {
            assert!(written_by_frontend(name), "{name}");
        }
        for name in [
            "backend",
            "backend-id",
            "state",
            "virtual-device",
            "device-type",
            "trusted",
            "handle",
            "mac",
        ] {
            assert!(!written_by_frontend(name), "{name}");
        }
    }
}
