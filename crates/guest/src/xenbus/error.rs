//! What goes wrong with a device.

use alloc::string::String;
use core::fmt::{Display, Formatter, Result};

use super::XenbusState;
use crate::xenstore::StoreError;

/// Something about a device that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceError {
    /// Its frontend's path, `device/vbd/51712`.
    pub device: String,
    /// Why.
    pub problem: Problem,
}

/// Why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The store failed.
    Store(StoreError),
    /// An entry of the device's is not what it has to be.
    Entry {
        /// Which.
        path: String,
        /// What it is.
        value: String,
        /// What it has to be.
        expected: String,
    },
    /// The backend did not do its part in time.
    NotInTime {
        /// The backend's domain.
        backend_id: u16,
        /// The backend's last state; none if it is gone.
        state: Option<XenbusState>,
        /// What was waited for.
        wanted: &'static [XenbusState],
    },
    /// The backend went elsewhere.
    Unexpected {
        /// The backend's domain.
        backend_id: u16,
        /// Its state; none if it is gone.
        state: Option<XenbusState>,
        /// What was waited for.
        wanted: &'static [XenbusState],
    },
    /// The toolstack has removed the frontend.
    Removed,
}

impl DeviceError {
    pub(crate) fn new(device: &str, problem: Problem) -> Self {
        Self {
            device: device.into(),
            problem,
        }
    }
}

impl From<StoreError> for DeviceError {
    /// Of no device in particular: [`DeviceError::device`] is empty.
    fn from(error: StoreError) -> Self {
        Self::new("", Problem::Store(error))
    }
}

fn states(f: &mut Formatter<'_>, wanted: &[XenbusState]) -> Result {
    for (n, state) in wanted.iter().enumerate() {
        write!(f, "{}{state}", if n == 0 { "" } else { " or " })?;
    }
    Ok(())
}

fn backend(f: &mut Formatter<'_>, id: u16, state: Option<XenbusState>) -> Result {
    write!(f, "its backend in domain {id} is ")?;
    match state {
        Some(state) => write!(f, "{state}"),
        None => f.write_str("gone"),
    }
}

impl Display for DeviceError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if !self.device.is_empty() {
            write!(f, "{}: ", self.device)?;
        }
        match &self.problem {
            Problem::Store(error) => error.fmt(f),
            Problem::Entry {
                path,
                value,
                expected,
            } => write!(f, "{path} is \"{value}\", and has to be {expected}"),
            Problem::NotInTime {
                backend_id,
                state,
                wanted,
            } => {
                backend(f, *backend_id, *state)?;
                f.write_str(", and did not come in time to ")?;
                states(f, wanted)
            }
            Problem::Unexpected {
                backend_id,
                state,
                wanted,
            } => {
                backend(f, *backend_id, *state)?;
                f.write_str(" instead of ")?;
                states(f, wanted)
            }
            Problem::Removed => f.write_str("the toolstack has removed it"),
        }
    }
}
