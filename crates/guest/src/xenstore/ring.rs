//! The two byte rings of the store's page.
//!
//! Shared with xenstored, which may write any of it. The guest's own two
//! indices (`req_prod`, `rsp_cons`) are read once, when it takes the ring
//! over, and from then on only written; the other two are checked at each
//! look. Order of steps: bytes, then the index (release); the index
//! (acquire), then bytes.

use kexen_abi::io::xs_wire::{
    CONNECTED, CONNECTION, ERROR, RECONNECT, REQ, REQ_CONS, REQ_PROD, RING_SIZE, RSP, RSP_CONS,
    RSP_PROD, SERVER_FEATURE_ERROR, SERVER_FEATURE_RECONNECTION, SERVER_FEATURES,
};

use super::error::Why;
use crate::{Machine, events};

/// Bytes of a ring.
pub(super) const BYTES: usize = 1024;

/// The page, and how far the guest has got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    page: u64,
    port: u32,
    req_prod: u32,
    rsp_cons: u32,
}

impl Ring {
    pub(super) const fn new(page: u64, port: u32) -> Self {
        Self {
            page,
            port,
            req_prod: 0,
            rsp_cons: 0,
        }
    }

    pub(super) const fn port(&self) -> u32 {
        self.port
    }

    pub(super) const fn req_prod(&self) -> u32 {
        self.req_prod
    }

    /// Begins where the page says that the last kernel ended.
    pub(super) fn take_over<M: Machine + ?Sized>(&mut self, m: &M) -> Result<(), Why> {
        self.req_prod = m.load32(self.page + REQ_PROD)?;
        self.rsp_cons = m.load32(self.page + RSP_CONS)?;
        self.unread(m)?;
        self.untaken(m).map(drop)
    }

    /// Requests that xenstored has not taken, in bytes.
    pub(super) fn untaken<M: Machine + ?Sized>(&self, m: &M) -> Result<u32, Why> {
        let cons = m.load32(self.page + REQ_CONS)?;
        apart("requests", self.req_prod, cons)
    }

    /// Answers that the guest has not read, in bytes.
    pub(super) fn unread<M: Machine + ?Sized>(&self, m: &M) -> Result<u32, Why> {
        let prod = m.load32(self.page + RSP_PROD)?;
        apart("answers", prod, self.rsp_cons)
    }

    /// Puts as many bytes as there is room for; how many.
    pub(super) fn put<M: Machine + ?Sized>(&mut self, m: &M, bytes: &[u8]) -> Result<usize, Why> {
        let mut done = 0;
        let mut room = RING_SIZE - self.untaken(m)?;
        // Twice, where it wraps.
        while done < bytes.len() && room > 0 {
            let at = self.req_prod % RING_SIZE;
            let n = part(&bytes[done..], room.min(RING_SIZE - at));
            m.write(self.page + REQ + u64::from(at), &bytes[done..done + n])?;
            let moved = u32::try_from(n).unwrap_or(0);
            self.req_prod = self.req_prod.wrapping_add(moved);
            room = room.saturating_sub(moved);
            done += n;
        }
        if done > 0 {
            m.store32(self.page + REQ_PROD, self.req_prod)?;
            self.notify(m)?;
        }
        Ok(done)
    }

    /// Takes as many bytes as there are and `into` holds; how many.
    pub(super) fn take<M: Machine + ?Sized>(
        &mut self,
        m: &M,
        into: &mut [u8],
    ) -> Result<usize, Why> {
        let mut done = 0;
        let mut there = self.unread(m)?;
        // Only then may xenstored be waiting for room.
        let full = there == RING_SIZE;
        while done < into.len() && there > 0 {
            let at = self.rsp_cons % RING_SIZE;
            let n = part(&into[done..], there.min(RING_SIZE - at));
            m.read(self.page + RSP + u64::from(at), &mut into[done..done + n])?;
            let moved = u32::try_from(n).unwrap_or(0);
            self.rsp_cons = self.rsp_cons.wrapping_add(moved);
            there = there.saturating_sub(moved);
            done += n;
        }
        if done > 0 {
            m.store32(self.page + RSP_CONS, self.rsp_cons)?;
            if full {
                self.notify(m)?;
            }
        }
        Ok(done)
    }

    /// The last bytes that were put, oldest first.
    pub(super) fn last_put<M: Machine + ?Sized>(
        &self,
        m: &M,
        into: &mut [u8; BYTES],
    ) -> Result<(), Why> {
        m.read(self.page + REQ, into)?;
        let at = usize::try_from(self.req_prod % RING_SIZE).unwrap_or(0);
        into.rotate_left(at);
        Ok(())
    }

    /// Fails if xenstored has said that it listens no more.
    pub(super) fn check_connection<M: Machine + ?Sized>(&self, m: &M) -> Result<(), Why> {
        if m.load32(self.page + SERVER_FEATURES)? & SERVER_FEATURE_ERROR == 0 {
            return Ok(());
        }
        match m.load32(self.page + ERROR)? {
            0 => Ok(()),
            code => Err(Why::Disconnected(code)),
        }
    }

    /// Whether xenstored can begin anew, or is about to.
    pub(super) fn can_reconnect<M: Machine + ?Sized>(&self, m: &M) -> Result<bool, Why> {
        let features = m.load32(self.page + SERVER_FEATURES)?;
        Ok(features & SERVER_FEATURE_RECONNECTION != 0)
    }

    /// Asks xenstored to begin anew.
    pub(super) fn reconnect<M: Machine + ?Sized>(&self, m: &M) -> Result<(), Why> {
        m.store32(self.page + CONNECTION, RECONNECT)?;
        self.notify(m)
    }

    /// Whether it has.
    pub(super) fn connected<M: Machine + ?Sized>(&self, m: &M) -> Result<bool, Why> {
        Ok(m.load32(self.page + CONNECTION)? == CONNECTED)
    }

    pub(super) fn notify<M: Machine + ?Sized>(&self, m: &M) -> Result<(), Why> {
        events::notify(m, self.port).map_err(Why::Notify)
    }
}

/// How far two indices are apart, if that can be.
fn apart(ring: &'static str, prod: u32, cons: u32) -> Result<u32, Why> {
    match prod.wrapping_sub(cons) {
        bytes @ 0..=RING_SIZE => Ok(bytes),
        _ => Err(Why::Index(ring, prod, cons)),
    }
}

/// The length of a slice, but at most `limit`.
fn part(bytes: &[u8], limit: u32) -> usize {
    bytes.len().min(usize::try_from(limit).unwrap_or(0))
}
