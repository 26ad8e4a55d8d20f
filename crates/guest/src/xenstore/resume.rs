//! Taking the connection over from another kernel, and leaving it to one.
//!
//! What the last kernel may have left: answers that it did not read, half
//! of one (it had taken the rest), and half a request, after which xenstored
//! waits for more. Where xenstored can begin anew (`xenstore-ring.txt`,
//! ring reconnection), it is asked to. Otherwise, in this order:
//!
//! 1. wait until it has taken all that was sent;
//! 2. if the last bytes sent are a request that lacks some, add zeros: it is
//!    refused, or has a value that its sender would have replaced;
//! 3. send a request with a number of our own, and read byte by byte until
//!    that number comes back: what was before it is thrown away.
//!
//! Not found out is a request of which not even the header was sent whole.

use kexen_abi::io::xs_wire::{HEADER_BYTES, MessageType};

use super::{
    OTHERS, Session, StoreError, Why,
    ring::BYTES,
    wire::{header, payload_len},
};
use crate::Machine;

/// Bytes that may lie before the first answer.
const SKIPPED: u32 = 64 * 1024;

impl<M: Machine + ?Sized> Session<'_, M> {
    /// Brings the connection to a known state, whatever was done with it
    /// before. The first operation does it, if this was not called.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn resynchronise(&mut self) -> Result<(), StoreError> {
        self.begin()
            .map_err(|why| StoreError::new("take the connection over", "", why))
    }

    pub(super) fn begin(&mut self) -> Result<(), Why> {
        let store = &mut *self.store;
        store.synchronised = false;
        store.outgoing.clear();
        store.incoming.clear();
        store.watches.clear();
        store.unanswered = 0;
        store.ring.check_connection(self.m)?;
        if store.ring.can_reconnect(self.m)? {
            store.ring.reconnect(self.m)?;
            for _ in 0..OTHERS {
                if self.store.ring.connected(self.m)? {
                    self.store.ring.take_over(self.m)?;
                    self.number_requests();
                    self.store.synchronised = true;
                    return Ok(());
                }
                self.wait.wait(self.store.ring.port())?;
            }
            return Err(Why::Flood(OTHERS));
        }
        store.ring.take_over(self.m)?;
        self.let_it_take_all()?;
        let mut last = [0; BYTES];
        self.store.ring.last_put(self.m, &mut last)?;
        if let Some(lacking) = lacking(&last) {
            self.store.outgoing.resize(lacking, 0);
        }
        self.number_requests();
        let id = self.post(MessageType::READ, 0, &[b"domid\0"])?;
        self.find_answer(id)?;
        self.answer(id)?;
        self.store.unanswered = 0;
        self.store.synchronised = true;
        Ok(())
    }

    fn number_requests(&mut self) {
        // Linux counts from 1.
        self.store.last_id = self.store.ring.req_prod() ^ 0x8000_0000;
    }

    /// Waits until xenstored has taken all requests; answers are thrown
    /// away, so that it never waits for room.
    fn let_it_take_all(&mut self) -> Result<(), Why> {
        let mut bytes = [0; 256];
        for _ in 0..OTHERS {
            if self.store.ring.untaken(self.m)? == 0 {
                return Ok(());
            }
            if self.store.ring.take(self.m, &mut bytes)? == 0 {
                self.store.ring.notify(self.m)?;
                self.pause()?;
            }
        }
        Err(Why::Flood(OTHERS))
    }

    /// Reads up to the beginning of the answer to a request.
    fn find_answer(&mut self, id: u32) -> Result<(), Why> {
        let mut window = [0; HEADER_BYTES];
        for _ in 0..SKIPPED {
            let mut byte = [0];
            while self.store.ring.take(self.m, &mut byte)? == 0 {
                self.pause()?;
            }
            window.rotate_left(1);
            window[HEADER_BYTES - 1] = byte[0];
            let found = header(&window).filter(|header| {
                let kinds = [MessageType::READ, MessageType::ERROR];
                header.req_id == id
                    && header.tx_id == 0
                    && kinds.contains(&header.kind)
                    && payload_len(header).is_ok()
            });
            if let Some(header) = found {
                self.store.incoming.begin(&header);
                return Ok(());
            }
        }
        Err(Why::Flood(SKIPPED))
    }

    /// Leaves the connection as a new kernel expects it: all watches ended,
    /// each request answered, the rings empty.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn finish(&mut self) -> Result<(), StoreError> {
        match self.reset_watches() {
            // An old store has no such operation; what it sends then is
            // thrown away here, and by the next kernel.
            Err(error) if !error.is("ENOSYS") && !error.is("EINVAL") => return Err(error),
            _ => {}
        }
        let failed = |why| StoreError::new("leave the connection", "", why);
        for _ in 0..OTHERS {
            if self.idle().map_err(failed)? {
                return Ok(());
            }
            self.next().map_err(failed)?;
        }
        Err(failed(Why::Flood(OTHERS)))
    }

    fn idle(&self) -> Result<bool, Why> {
        let store = &*self.store;
        Ok(store.outgoing.is_empty()
            && !store.incoming.half()
            && store.unanswered == 0
            && store.ring.untaken(self.m)? == 0
            && store.ring.unread(self.m)? == 0)
    }
}

/// How many bytes the last request lacks, if it does: there is no request
/// that ends with the last byte, and just one that ends after it.
fn lacking(last: &[u8; BYTES]) -> Option<usize> {
    let mut half = None;
    for (at, bytes) in last.windows(HEADER_BYTES).enumerate() {
        let Some(header) = header(bytes) else {
            continue;
        };
        let known = header.kind.name().is_some() && header.kind != MessageType::CONTROL;
        let len = payload_len(&header).unwrap_or(0);
        if !known || len == 0 {
            continue;
        }
        let there = BYTES.saturating_sub(at).saturating_sub(HEADER_BYTES);
        match len.checked_sub(there) {
            Some(0) => return None,
            Some(lacks) if half.is_none() => half = Some(lacks),
            Some(_) => return None,
            None => {}
        }
    }
    half
}

#[cfg(test)]
mod tests {
    use super::super::wire::encode;
    use super::*;

    fn last(sent: &[u8]) -> [u8; BYTES] {
        let mut last = [0; BYTES];
        last[BYTES - sent.len()..].copy_from_slice(sent);
        last
    }

    #[test]
    fn a_half_request_is_seen_and_a_whole_one_is_not() {
        let path = b"device/vbd/51712/state\0";
        let one = encode(MessageType::WRITE, 31, 0, &[path, b"4"]).unwrap();
        let mut sent = encode(MessageType::READ, 30, 0, &[b"domid\0"]).unwrap();
        assert_eq!(lacking(&last(&sent)), None);
        for n in HEADER_BYTES..one.len() {
            let mut half = sent.clone();
            half.extend_from_slice(&one[..n]);
            assert_eq!(lacking(&last(&half)), Some(one.len() - n), "{n} bytes sent");
        }
        sent.extend_from_slice(&one);
        assert_eq!(lacking(&last(&sent)), None);
    }

    #[test]
    fn a_ring_that_nobody_used_has_no_half_request() {
        assert_eq!(lacking(&[0; BYTES]), None);
        assert_eq!(lacking(&[0xff; BYTES]), None);
    }
}
