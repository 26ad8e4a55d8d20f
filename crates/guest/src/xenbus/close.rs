//! Closing a device so that a new kernel can open it.
//!
//! The frontend may be one of this kernel's or one that an earlier kernel
//! left behind: how far the two ends have got is read from the store, and
//! the steps that are left are taken.

use alloc::format;

use super::{Device, DeviceError, Problem, XenbusState};
use crate::{
    Machine,
    xenstore::{Session, if_present},
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
    close_from(s, device, Step::Closing)
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
    let frontend = device.frontend_state(s)?;
    let Some(backend) = device.backend_state(s)? else {
        return Ok(Closed::Gone);
    };
    let begun = !matches!(
        frontend,
        Some(XenbusState::UNKNOWN | XenbusState::INITIALISING)
    );
    let step = match backend {
        XenbusState::UNKNOWN | XenbusState::INITIALISING => Step::Initialising,
        XenbusState::INIT_WAIT if !begun => {
            remove_what_was_written(s, device)?;
            return Ok(Closed::Ready);
        }
        XenbusState::CLOSING => Step::Closed,
        XenbusState::CLOSED => Step::Initialising,
        _ => Step::Closing,
    };
    close_from(s, device, step)
}

/// The states that a frontend goes through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Closing,
    Closed,
    Initialising,
}

fn close_from<M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    device: &Device,
    first: Step,
) -> Result<Closed, DeviceError> {
    let states = [
        (Step::Closing, XenbusState::CLOSING, AT_LEAST_CLOSING),
        (Step::Closed, XenbusState::CLOSED, CLOSED),
    ];
    for (_, state, wanted) in states.iter().filter(|(step, ..)| *step >= first) {
        match device.switch_state(s, *state, &[]) {
            Err(error) if error.problem == Problem::Removed => return Ok(Closed::Gone),
            result => result?,
        }
        if device.wait_for_backend(s, wanted, true)?.is_none() {
            remove_what_was_written(s, device)?;
            return Ok(Closed::Gone);
        }
    }
    remove_what_was_written(s, device)?;
    match device.switch_state(s, XenbusState::INITIALISING, &[]) {
        Err(error) if error.problem == Problem::Removed => return Ok(Closed::Gone),
        result => result?,
    }
    Ok(match device.wait_for_backend(s, INIT_WAIT, true)? {
        Some(_) => Closed::Ready,
        None => Closed::Gone,
    })
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
    for name in names.iter().flatten() {
        if written_by_frontend(name) {
            let removed = s.rm(&format!("{}/{name}", device.frontend()));
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
