//! Transactions: several operations, all of them or none.

use alloc::format;

use kexen_abi::io::xs_wire::MessageType;

use super::{Session, StoreError, Why, operations::check_done, wire::printable};
use crate::Machine;

/// How often others may get in between.
const TRIES: u32 = 16;

impl<M: Machine + ?Sized> Session<'_, M> {
    /// Carries out operations in one transaction; anew, a bounded number of
    /// times, if others changed the same entries meanwhile. When they fail
    /// it is given up. One inside another is part of that.
    ///
    /// # Errors
    /// What the operations gave; or see [`Why`].
    pub fn transaction<T, E: From<StoreError>>(
        &mut self,
        mut operations: impl FnMut(&mut Session<'_, M>) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.tx != 0 {
            return operations(self);
        }
        for _ in 0..TRIES {
            let tx = self.start()?;
            let mut inside = Session {
                store: &mut *self.store,
                m: self.m,
                wait: &mut *self.wait,
                tx,
            };
            let value = match operations(&mut inside) {
                Ok(value) => value,
                Err(error) => {
                    // The error is what counts; if this fails too, the store
                    // ends it with the connection or at a reset.
                    let _ = inside.post(MessageType::TRANSACTION_END, tx, &[b"F\0"]);
                    return Err(error);
                }
            };
            let failed = |why| StoreError::new("end a transaction", "", why);
            match inside.exchange(MessageType::TRANSACTION_END, &[b"T\0"]) {
                Ok(payload) => {
                    check_done("end a transaction", "", &payload)?;
                    return Ok(value);
                }
                Err(why) if failed(why.clone()).is("EAGAIN") => {}
                Err(why) => return Err(failed(why).into()),
            }
        }
        let why = Why::Disturbed(TRIES);
        Err(StoreError::new("end a transaction", "", why).into())
    }

    fn start(&mut self) -> Result<u32, StoreError> {
        let failed = |why| StoreError::new("start a transaction", "", why);
        let payload = self
            .exchange(MessageType::TRANSACTION_START, &[&[0]])
            .map_err(failed)?;
        let number = payload.strip_suffix(&[0]).unwrap_or(&payload);
        let number = core::str::from_utf8(number)
            .ok()
            .and_then(|text| text.parse().ok());
        number
            .filter(|number| *number != 0)
            .ok_or_else(|| failed(Why::Answer(format!("number {}", printable(&payload)))))
    }
}
