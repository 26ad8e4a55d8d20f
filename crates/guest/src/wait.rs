//! Waiting for another domain, for a limited time.
//!
//! Only the caller knows how time is told and what else has to be done
//! meanwhile, so everything here that may have to wait takes a [`Wait`].
//! Order of steps: look at what is shared; if it is not there, wait for the
//! port; look again. A pending bit is cleared before looking, so that no
//! event is lost.

/// The time that the caller gave is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOver;

/// How a caller waits.
pub trait Wait {
    /// Waits until the port may be pending, and clears it; may return
    /// sooner. The end of the time is fixed beforehand: a peer that sends
    /// one event after another does not put it off.
    ///
    /// # Errors
    /// When the time is over.
    fn wait(&mut self, port: u32) -> Result<(), TimeOver>;

    /// Is told of progress, which only so much of can be: a wait for several
    /// peers may then begin its time anew, up to an end that is fixed too.
    fn progress(&mut self) {}
}
