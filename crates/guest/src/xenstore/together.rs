//! Several requests in the time of one.
//!
//! What a request costs is mostly the wait for xenstored to run: where none
//! needs another's answer all are put into the ring before the first wait. The
//! store carries the requests of a connection out in their order.

use alloc::vec::Vec;
use core::str::FromStr;

use kexen_abi::io::xs_wire::MessageType;

use super::{
    OTHERS, Session, StoreError, Why,
    operations::{check_done, number_of},
    payload,
    wire::path_is_good,
};
use crate::Machine;

/// A request among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// An entry's value.
    Read(&'a str),
    /// Sets it.
    Write(&'a str, &'a [u8]),
    /// Removes it, and all below it.
    Remove(&'a str),
}

impl<'a> Ask<'a> {
    const fn path(&self) -> &'a str {
        match self {
            Self::Read(path) | Self::Write(path, _) | Self::Remove(path) => path,
        }
    }

    const fn kind(&self) -> MessageType {
        match self {
            Self::Read(_) => MessageType::READ,
            Self::Write(..) => MessageType::WRITE,
            Self::Remove(_) => MessageType::RM,
        }
    }

    const fn doing(&self) -> &'static str {
        match self {
            Self::Read(_) => "read",
            Self::Write(..) => "write",
            Self::Remove(_) => "rm",
        }
    }

    fn failed(&self, why: Why) -> StoreError {
        StoreError::new(self.doing(), self.path(), why)
    }

    /// What came of it: a value, or nothing where there is nothing to say.
    fn answered(&self, answer: Result<Vec<u8>, Why>) -> Result<Vec<u8>, StoreError> {
        let payload = answer.map_err(|why| self.failed(why))?;
        if matches!(self, Self::Read(_)) {
            return Ok(payload);
        }
        check_done(self.doing(), self.path(), &payload)?;
        Ok(Vec::new())
    }
}

impl<M: Machine + ?Sized> Session<'_, M> {
    /// Makes several requests and waits for all of their answers: those, in the
    /// order of the requests. All of them are carried out, whatever comes of the
    /// others.
    ///
    /// # Errors
    /// See [`Why`], where the connection is what failed, or the time is over.
    pub fn together(
        &mut self,
        asks: &[Ask<'_>],
    ) -> Result<Vec<Result<Vec<u8>, StoreError>>, StoreError> {
        let Some(first) = asks.first() else {
            return Ok(Vec::new());
        };
        if let Some(bad) = asks.iter().find(|ask| !path_is_good(ask.path())) {
            return Err(bad.failed(Why::Path));
        }
        if !self.store.synchronised {
            self.begin().map_err(|why| first.failed(why))?;
        }
        let mut ids = Vec::new();
        for ask in asks {
            let path = ask.path().as_bytes();
            let id = match ask {
                Ask::Write(_, value) => self.post(ask.kind(), self.tx, &[path, &[0], value]),
                _ => self.post(ask.kind(), self.tx, &[path, &[0]]),
            };
            ids.push(id.map_err(|why| ask.failed(why))?);
        }
        let mut answers: Vec<Option<_>> = asks.iter().map(|_| None).collect();
        let mut left = asks.len();
        for _ in 0..OTHERS {
            if left == 0 {
                break;
            }
            let message = self.next().map_err(|why| first.failed(why))?;
            let Some(message) = message else {
                continue;
            };
            if message.header.kind == MessageType::WATCH_EVENT {
                continue;
            }
            let which = ids.iter().position(|id| *id == message.header.req_id);
            let asked = which.and_then(|n| Some((asks.get(n)?, answers.get_mut(n)?)));
            if let Some((ask, slot)) = asked
                && slot.is_none()
            {
                *slot = Some(payload(message, ask.kind()));
                left -= 1;
            }
        }
        let both = asks.iter().zip(answers);
        both.map(|(ask, answer)| {
            let answer = answer.ok_or_else(|| ask.failed(Why::Flood(OTHERS)))?;
            Ok(ask.answered(answer))
        })
        .collect()
    }

    /// Numbers of several entries, as [`Self::read_number`] reads each.
    ///
    /// # Errors
    /// As [`Self::together`].
    pub fn read_numbers<N: FromStr, const COUNT: usize>(
        &mut self,
        paths: [&str; COUNT],
    ) -> Result<[Result<N, StoreError>; COUNT], StoreError> {
        let mut answers = self.together(&paths.map(Ask::Read))?.into_iter();
        Ok(paths.map(|path| match answers.next() {
            Some(answer) => number_of(path, &answer?),
            None => Err(StoreError::new("read", path, Why::Flood(OTHERS))),
        }))
    }
}
