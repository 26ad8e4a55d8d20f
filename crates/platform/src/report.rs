//! Lines for the guest's console.

use alloc::{format, string::String};
use core::{
    fmt::Arguments,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use kexen_guest::{Machine, console::Console};

use crate::arch::{Xen, machine};

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

    /// Writes `kexen: ` and a line.
    pub fn line<M: Machine + ?Sized>(&self, m: &M, text: Arguments<'_>) {
        let line = format!("kexen: {text}\n");
        self.console.write(m, line.as_bytes());
    }

    /// Writes text as it is.
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

/// A panic's line: on the guest's console if it is known, on Xen's anyway.
pub fn panic(m: &Xen, text: Arguments<'_>) {
    let page = PANIC_PAGE.load(Ordering::Relaxed);
    if page != 0 {
        let port = PANIC_PORT.load(Ordering::Relaxed);
        let report = Report::new(Console::Ring { page, port });
        report.line(m, text);
        report.console.drain(m);
    }
    early(m, text);
}

/// A line for the hypervisor's console, before the guest's own is known: by
/// `console_io`, which a domU may not always use, and in a PVH guest by the
/// port that Xen logs.
pub fn early(m: &Xen, text: Arguments<'_>) {
    let line = format!("kexen: {text}\n");
    if kexen_guest::hypercall::console_write(m, line.as_bytes()).is_err() && !m.is_pv() {
        line.bytes().for_each(machine::debug_port);
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
