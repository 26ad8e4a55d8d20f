//! Lines for the guest's console.

use alloc::{format, string::String};
use core::{
    fmt::{Arguments, Write},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use kexen_bootconfig::entry::plain;
use kexen_guest::{Machine, console::Console};

use crate::native::Native;

/// Where lines go.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    console: Console,
}

impl Report {
    /// Lines for a console.
    #[must_use]
    pub const fn new(console: Console) -> Self {
        Self { console }
    }

    /// Has a panic written there, too.
    pub fn keep_for_panic(&self) {
        if let Console::Ring { page, port } = self.console {
            PANIC_PORT.store(port, Ordering::Relaxed);
            PANIC_PAGE.store(page, Ordering::Relaxed);
        }
    }

    /// Writes `kexen: ` and a line, [`plain`]: what is said may be a disk's or a
    /// backend's words.
    pub fn line<M: Machine + ?Sized>(&self, m: &M, text: Arguments<'_>) {
        let line = plain(&format!("kexen: {text}\n"));
        self.console.write(m, line.as_bytes());
    }

    /// Writes text as it is, which has to be [`plain`] or this program's own.
    pub fn raw<M: Machine + ?Sized>(&self, m: &M, text: &str) {
        self.console.write(m, text.as_bytes());
    }

    /// The console itself.
    #[must_use]
    pub const fn console(&self) -> Console {
        self.console
    }
}

/// The guest's console, for a panic: its page (0 for none) and port.
static PANIC_PAGE: AtomicU64 = AtomicU64::new(0);
static PANIC_PORT: AtomicU32 = AtomicU32::new(0);

/// Bytes of a line: what is longer is cut.
const LINE: usize = 1024;

/// A line that needs no heap, whose lock a panic may hold.
struct Line {
    bytes: [u8; LINE],
    len: usize,
}

impl Line {
    fn new(text: Arguments<'_>) -> Self {
        let mut line = Self {
            bytes: [0; LINE],
            len: 0,
        };
        // The last byte is kept for the end of the line.
        let _ = line.write_fmt(format_args!("kexen: {text}"));
        line.bytes[line.len] = b'\n';
        line.len += 1;
        line
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = &mut self.bytes[self.len..LINE - 1];
        let n = room.len().min(text.len());
        room[..n].copy_from_slice(&text.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

/// A panic's line: on the guest's console if it is known, on Xen's anyway.
pub fn panic<M: Native>(m: &M, text: Arguments<'_>) {
    let page = PANIC_PAGE.load(Ordering::Relaxed);
    if page != 0 {
        let port = PANIC_PORT.load(Ordering::Relaxed);
        let console = Console::Ring { page, port };
        console.write(m, Line::new(text).bytes());
        console.drain(m);
    }
    early(m, text);
}

/// A line for the hypervisor's console, before the guest's own is known: by
/// `console_io`, which a domU may not always use, and in a PVH guest by the
/// port that Xen logs.
pub fn early<M: Native>(m: &M, text: Arguments<'_>) {
    let line = Line::new(text);
    if kexen_guest::hypercall::console_write(m, line.bytes()).is_err() && !m.is_pv() {
        line.bytes()
            .iter()
            .copied()
            .for_each(|byte| m.debug_port(byte));
    }
}

/// Bytes as a person reads them.
#[must_use]
pub fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes >= MIB {
        format!("{}.{} MiB", bytes / MIB, (bytes % MIB) * 10 / MIB)
    } else {
        format!("{} KiB", bytes.div_ceil(1024))
    }
}
