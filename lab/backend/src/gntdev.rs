//! Grants of another domain, mapped through `/dev/xen/gntdev`.
//!
//! Protocol: Linux's `include/uapi/xen/gntdev.h`. Order of steps: the ioctl
//! `MAP_GRANT_REF` reserves a range of the device's offsets for the grants,
//! `mmap` at that offset maps them, `munmap` unmaps them, `UNMAP_GRANT_REF`
//! frees the range.
//!
//! Shared memory: the mapped pages, with the domain that granted them, which
//! may write them at any time; they are only accessed as atomic words.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const PAGE_SIZE: usize = 4096;

/// `IOCTL_GNTDEV_MAP_GRANT_REF`: `_IOC(_IOC_NONE, 'G', 0, 24)`
const MAP_GRANT_REF: Opcode = 0x0018_4700;
/// `IOCTL_GNTDEV_UNMAP_GRANT_REF`: `_IOC(_IOC_NONE, 'G', 1, 16)`
const UNMAP_GRANT_REF: Opcode = 0x0010_4701;

/// A request: the words of its structure, which Linux reads and writes.
///
/// - `MAP_GRANT_REF`: count, padding, index (two words, out), then domid and
///   reference of each grant.
/// - `UNMAP_GRANT_REF`: index (two words), count, padding.
struct Request<'a> {
    opcode: Opcode,
    words: &'a mut [u32],
}

// SAFETY: both structures are made of 32-bit words and are as long as their
// `count` says (`Mapping` makes them so); Linux writes inside them alone.
unsafe impl Ioctl for Request<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.words.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Grants of one domain, mapped one after the other.
#[derive(Debug)]
pub(crate) struct Mapping {
    device: File,
    index: [u32; 2],
    pages: usize,
    memory: NonNull<c_void>,
}

impl Mapping {
    /// Maps `count` grants from `first`, writable or for reading alone.
    pub(crate) fn new(domid: u16, first: u32, count: u32, writable: bool) -> io::Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/xen/gntdev")?;
        let mut words = vec![count, 0, 0, 0];
        for reference in first..first.saturating_add(count) {
            words.extend([u32::from(domid), reference]);
        }
        let request = Request {
            opcode: MAP_GRANT_REF,
            words: &mut words,
        };
        // SAFETY: the opcode belongs to this structure and to this device.
        unsafe { ioctl(&device, request) }?;
        let index = [words[2], words[3]];
        let pages = usize::try_from(count).map_err(io::Error::other)?;
        let protection = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        let offset = u64::from(index[0]) | (u64::from(index[1]) << 32);
        let len = pages * PAGE_SIZE;
        // SAFETY: a new mapping, at an address of Linux's choice.
        let memory = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                &device,
                offset,
            )
        }?;
        let memory = NonNull::new(memory).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self {
            device,
            index,
            pages,
            memory,
        })
    }

    /// How many pages are mapped.
    pub(crate) const fn pages(&self) -> usize {
        self.pages
    }

    fn word(&self, page: usize, n: usize) -> &AtomicU32 {
        assert!(page < self.pages && n < PAGE_SIZE / 4);
        let words = self.memory.cast::<u32>();
        // SAFETY: the word is inside the mapping (asserted).
        let word = unsafe { words.add(page * (PAGE_SIZE / 4) + n) };
        // SAFETY: mapped until `self` goes, aligned, and, by us, only ever
        // accessed as an atomic.
        unsafe { AtomicU32::from_ptr(word.as_ptr()) }
    }

    /// Reads word `n` of a page.
    pub(crate) fn load(&self, page: usize, n: usize) -> u32 {
        self.word(page, n).load(Ordering::Acquire)
    }

    /// Writes word `n` of a page; the mapping must be a writable one.
    pub(crate) fn store(&self, page: usize, n: usize, value: u32) {
        self.word(page, n).store(value, Ordering::Release);
    }

    /// Unmaps the grants.
    pub(crate) fn unmap(self) -> io::Result<()> {
        let len = self.pages * PAGE_SIZE;
        // SAFETY: the whole mapping, which nobody uses after `self`.
        unsafe { munmap(self.memory.as_ptr(), len) }?;
        let count = u32::try_from(self.pages).map_err(io::Error::other)?;
        let mut words = [self.index[0], self.index[1], count, 0];
        let request = Request {
            opcode: UNMAP_GRANT_REF,
            words: &mut words,
        };
        // SAFETY: the opcode belongs to this structure and to this device.
        unsafe { ioctl(&self.device, request) }?;
        Ok(())
    }
}
