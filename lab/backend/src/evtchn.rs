//! An event channel to another domain, through `/dev/xen/evtchn`.
//!
//! Protocol: Linux's `include/uapi/xen/evtchn.h`: `BIND_INTERDOMAIN` gives the
//! local port of a channel that the other domain has opened, `NOTIFY` rings it.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

/// `IOCTL_EVTCHN_BIND_INTERDOMAIN`: `_IOC(_IOC_NONE, 'E', 1, 8)`
const BIND_INTERDOMAIN: Opcode = 0x0008_4501;
/// `IOCTL_EVTCHN_NOTIFY`: `_IOC(_IOC_NONE, 'E', 4, 4)`
const NOTIFY: Opcode = 0x0004_4504;

/// A request: the words of its structure.
///
/// - `BIND_INTERDOMAIN`: domid, remote port; returns the local port.
/// - `NOTIFY`: local port.
struct Request<'a> {
    opcode: Opcode,
    words: &'a mut [u32],
}

// SAFETY: both structures are made of 32-bit words, as many as `Bell` gives;
// Linux reads them alone.
unsafe impl Ioctl for Request<'_> {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.words.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<u32> {
        u32::try_from(output).map_err(|_| rustix::io::Errno::INVAL)
    }
}

/// The channel.
#[derive(Debug)]
pub(crate) struct Bell {
    device: File,
    port: u32,
}

impl Bell {
    /// Binds to the port that a domain has opened for this one.
    pub(crate) fn new(domid: u16, remote: u32) -> io::Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/xen/evtchn")?;
        let mut words = [u32::from(domid), remote];
        let request = Request {
            opcode: BIND_INTERDOMAIN,
            words: &mut words,
        };
        // SAFETY: the opcode belongs to this structure and to this device.
        let port = unsafe { ioctl(&device, request) }?;
        Ok(Self { device, port })
    }

    /// Tells the other domain that there is something for it.
    pub(crate) fn ring(&self) -> io::Result<()> {
        let mut words = [self.port];
        let request = Request {
            opcode: NOTIFY,
            words: &mut words,
        };
        // SAFETY: the opcode belongs to this structure and to this device.
        unsafe { ioctl(&self.device, request) }?;
        Ok(())
    }
}
