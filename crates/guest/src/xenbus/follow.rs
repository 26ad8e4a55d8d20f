//! Following the state of a backend without waiting for it, so that several
//! backends can be waited for at a time.
//!
//! Order of steps: say what is wanted; a watch is set when it is not so yet; the
//! state is read once for all events that have come, the first of which the
//! store sends for the watch itself; the watch is ended. Nothing is taken to
//! have failed by what was read before the wait began.

use alloc::{format, string::String};
use core::task::Poll;

use super::{Device, DeviceError, Problem, XenbusState};
use crate::{
    Machine,
    xenstore::{Session, StoreError, Why, if_present},
};

/// How often a state may change: one that changes it so often will not come to
/// rest.
const LOOKS: u32 = 1024;

/// A backend's state, as it was seen last, and what it is to become.
#[derive(Debug)]
pub(crate) struct Follow {
    path: String,
    token: String,
    /// Nothing before the first look; then its state, or that it is gone.
    seen: Option<Option<XenbusState>>,
    wanted: &'static [XenbusState],
    /// Whether it may be gone, too.
    gone: bool,
    looks: u32,
}

impl Follow {
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            path: format!("{}/state", device.backend()),
            token: format!("kexen-{}-{}", device.class(), device.number()),
            seen: None,
            wanted: &[],
            gone: false,
            looks: 0,
        }
    }

    /// What its watch is set with.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Begins to wait for one of some states, or, where `gone` says that this is
    /// good too, for the backend to be no more.
    pub(crate) fn expect(&mut self, wanted: &'static [XenbusState], gone: bool) {
        self.wanted = wanted;
        self.gone = gone;
        self.looks = 0;
    }

    /// Reads the state, whether it has changed or not.
    pub(super) fn look<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        device: &Device,
    ) -> Result<Option<XenbusState>, DeviceError> {
        let state = device.backend_state(s)?;
        self.seen = Some(state);
        Ok(state)
    }

    /// Whether it has come to what is wanted. It is looked at once, at most.
    ///
    /// # Errors
    /// That it went elsewhere, or away; the store's.
    pub(crate) fn poll<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        device: &Device,
    ) -> Result<Poll<Option<XenbusState>>, DeviceError> {
        match self.seen {
            Some(state) if self.is_good(state) => return Ok(Poll::Ready(state)),
            _ => {}
        }
        let news = self.news(s).map_err(|error| self.failed(device, error))?;
        if !news {
            return Ok(Poll::Pending);
        }
        self.looks = self.looks.saturating_add(1);
        let state = match self.look(s, device) {
            Ok(state) => state,
            Err(DeviceError {
                problem: Problem::Store(error),
                ..
            }) => return Err(self.failed(device, error)),
            Err(error) => return Err(error),
        };
        if self.is_good(state) {
            return Ok(Poll::Ready(state));
        }
        if self.is_refused(state) || self.looks >= LOOKS {
            return Err(device.error(Problem::Unexpected {
                backend_id: device.backend_id(),
                state,
                wanted: self.wanted,
            }));
        }
        Ok(Poll::Pending)
    }

    fn is_good(&self, state: Option<XenbusState>) -> bool {
        state.map_or(self.gone, |state| self.wanted.contains(&state))
    }

    /// Whether it is no use to wait on.
    fn is_refused(&self, state: Option<XenbusState>) -> bool {
        match state {
            None => true,
            Some(XenbusState::CLOSING | XenbusState::CLOSED) => {
                !self.wanted.contains(&XenbusState::CLOSED)
                    && self.wanted.contains(&XenbusState::CONNECTED)
            }
            Some(_) => false,
        }
    }

    /// Whether the state may have changed since it was looked at.
    fn news<M: Machine + ?Sized>(&self, s: &mut Session<'_, M>) -> Result<bool, StoreError> {
        if !s.watches(&self.token) {
            s.watch(&self.path, &self.token)?;
        }
        s.changed(&self.token)
    }

    /// What is wrong with the device if waiting for it failed.
    pub(crate) fn failed(&self, device: &Device, error: StoreError) -> DeviceError {
        match self.seen {
            Some(state) if error.why == Why::TimeOver => device.error(Problem::NotInTime {
                backend_id: device.backend_id(),
                state,
                wanted: self.wanted,
            }),
            _ => device.store(error),
        }
    }

    /// Ends the watch.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn end<M: Machine + ?Sized>(
        &self,
        s: &mut Session<'_, M>,
        device: &Device,
    ) -> Result<(), DeviceError> {
        if s.watches(&self.token) {
            // A store that has begun anew meanwhile knows it no more.
            if_present(s.unwatch(&self.path, &self.token)).map_err(|error| device.store(error))?;
        }
        Ok(())
    }

    /// As [`Self::end`], for when something has failed already.
    pub(crate) fn end_without_waiting<M: Machine + ?Sized>(&self, s: &mut Session<'_, M>) {
        if s.watches(&self.token) {
            s.unwatch_without_waiting(&self.path, &self.token);
        }
    }
}
