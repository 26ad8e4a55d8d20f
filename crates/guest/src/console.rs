//! The guest's console: the shared ring, or the hypervisor's own console.
//!
//! Protocol: `public/io/console.h`. One page is shared with the console
//! backend, which may write any of it at any time: indices are read once,
//! checked against the ring's size, and masked. Text is dropped rather than
//! waited for without end when the backend does not drain the ring.

use kexen_abi::console as abi;

use crate::{Machine, events, hypercall};

/// Where text goes and comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The ring at a guest address, with its port.
    Ring {
        /// Guest address of the ring page.
        page: u64,
        /// Port to notify.
        port: u32,
    },
    /// `HYPERVISOR_console_io` (dom0, and early lines).
    Hypervisor,
}

/// How often to yield to the backend for room before text is dropped.
const PATIENCE: u32 = 200_000;

impl Console {
    /// Writes bytes, each `\n` as `\r\n`.
    pub fn write<M: Machine + ?Sized>(&self, m: &M, text: &[u8]) {
        match *self {
            Self::Hypervisor => {
                // A domU may not; there is nowhere to report that.
                let _ = hypercall::console_write(m, text);
            }
            Self::Ring { page, port } => {
                for line in text.split_inclusive(|byte| *byte == b'\n') {
                    match line.split_last() {
                        Some((b'\n', rest)) => {
                            put(m, page, port, rest);
                            put(m, page, port, b"\r\n");
                        }
                        _ => put(m, page, port, line),
                    }
                }
                // Where it fails there is nowhere to say so.
                let _ = events::notify(m, port);
            }
        }
    }

    /// Whether something was typed that is not read yet. Of the hypervisor's
    /// console that is not known.
    pub fn has_input<M: Machine + ?Sized>(&self, m: &M) -> bool {
        let Self::Ring { page, .. } = *self else {
            return false;
        };
        let (prod, cons) = (m.load32(page + abi::IN_PROD), m.load32(page + abi::IN_CONS));
        matches!((prod, cons), (Ok(prod), Ok(cons)) if prod != cons)
    }

    /// Reads what was typed, without waiting; returns how many bytes.
    pub fn read<M: Machine + ?Sized>(&self, m: &M, into: &mut [u8]) -> usize {
        match *self {
            Self::Hypervisor => hypercall::console_read(m, into).unwrap_or(0),
            Self::Ring { page, port } => take(m, page, port, into).unwrap_or(0),
        }
    }

    /// Waits, for a bounded number of yields, until the backend has taken
    /// everything that was written.
    pub fn drain<M: Machine + ?Sized>(&self, m: &M) {
        let Self::Ring { page, .. } = *self else {
            return;
        };
        for _ in 0..PATIENCE {
            let (Ok(prod), Ok(cons)) = (
                m.load32(page + abi::OUT_PROD),
                m.load32(page + abi::OUT_CONS),
            ) else {
                return;
            };
            if prod == cons || hypercall::sched_yield(m).is_err() {
                return;
            }
        }
    }
}

fn put<M: Machine + ?Sized>(m: &M, page: u64, port: u32, mut text: &[u8]) {
    let mut patience = PATIENCE;
    while !text.is_empty() {
        let (Ok(prod), Ok(cons)) = (
            m.load32(page + abi::OUT_PROD),
            m.load32(page + abi::OUT_CONS),
        ) else {
            return;
        };
        let used = prod.wrapping_sub(cons);
        if used >= abi::OUT_BYTES {
            // Full, or the backend's index is nonsense.
            if patience == 0 {
                return;
            }
            if patience == PATIENCE {
                let _ = events::notify(m, port);
            }
            patience -= 1;
            // It has no way to fail; the loop is bounded anyway.
            let _ = hypercall::sched_yield(m);
            continue;
        }
        let at = prod % abi::OUT_BYTES;
        let room = (abi::OUT_BYTES - used).min(abi::OUT_BYTES - at);
        let n = text.len().min(usize::try_from(room).unwrap_or(0));
        let (now, later) = text.split_at(n);
        if m.write(page + abi::OUT + u64::from(at), now).is_err() {
            return;
        }
        let next = prod.wrapping_add(u32::try_from(n).unwrap_or(0));
        if m.store32(page + abi::OUT_PROD, next).is_err() {
            return;
        }
        text = later;
    }
}

fn take<M: Machine + ?Sized>(m: &M, page: u64, port: u32, into: &mut [u8]) -> Option<usize> {
    let prod = m.load32(page + abi::IN_PROD).ok()?;
    let mut cons = m.load32(page + abi::IN_CONS).ok()?;
    let mut n = 0;
    // More than the ring holds cannot be there: look at a ring's worth.
    for _ in 0..prod.wrapping_sub(cons).min(abi::IN_BYTES) {
        let slot = into.get_mut(n..=n)?;
        m.read(page + u64::from(cons % abi::IN_BYTES), slot).ok()?;
        cons = cons.wrapping_add(1);
        n += 1;
        if n == into.len() {
            break;
        }
    }
    if n > 0 {
        m.store32(page + abi::IN_CONS, cons).ok()?;
        // Only tells the backend that there is room again.
        let _ = events::notify(m, port);
    }
    Some(n)
}
