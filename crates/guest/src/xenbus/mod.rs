//! Devices of this guest, and the states of their two ends.
//!
//! Protocol: `public/io/xenbus.h`, `public/io/blkif.h` (state diagram),
//! `docs/misc/xenstore-paths.pandoc`. Nothing but the store is shared: the
//! frontend's directory `device/CLASS/NUMBER` is the guest's to write, the
//! backend's is the backend domain's.
//!
//! Order of steps of a close, which leaves the device as a new kernel's
//! frontend expects it:
//!
//! | frontend | then waits for the backend to be |
//! |---|---|
//! | Closing | Closing, Closed, or gone |
//! | Closed | Closed, or gone |
//! | *what it wrote is removed* | |
//! | Initialising | InitWait |
//!
//! A backend that has come to Closed has unmapped all grants, if it is
//! honest; [`crate::grants::Grants::try_end`] finds out.

mod close;
mod course;
mod device;
mod error;
mod follow;

pub(crate) use self::close::Steps;
pub use self::close::{Closed, close, close_all, reset, written_by_frontend};
pub(crate) use self::course::{Course, SideBySide, alone};
pub use self::device::{Device, classes, numbers};
pub use self::error::{DeviceError, Problem};
pub(crate) use self::follow::Follow;
pub use kexen_abi::io::xenbus::XenbusState;
