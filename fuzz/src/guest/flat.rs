//! A machine that is memory and nothing else: what is in it is the input's,
//! and time (a yield) goes on with the input.

use std::cell::{Cell, RefCell};

use kexen_abi::hypercall::Hypercall;
use kexen_guest::{Arg, Machine, machine::Fault};

/// Memory from address 0, and bytes that somebody writes into it meanwhile.
#[derive(Debug)]
pub(super) struct Flat<'a> {
    memory: RefCell<Vec<u8>>,
    /// Writes to come: an offset (two bytes) and a word each.
    later: RefCell<std::iter::Copied<std::slice::Iter<'a, u8>>>,
    /// Calls of Xen so far.
    pub(super) calls: Cell<u32>,
}

impl<'a> Flat<'a> {
    pub(super) fn new(memory: Vec<u8>, later: &'a [u8]) -> Self {
        Self {
            memory: RefCell::new(memory),
            later: RefCell::new(later.iter().copied()),
            calls: Cell::new(0),
        }
    }

    /// Runs something on memory that is there.
    fn at<T>(&self, at: u64, len: usize, with: impl FnOnce(&mut [u8]) -> T) -> Result<T, Fault> {
        let mut memory = self.memory.borrow_mut();
        let start = usize::try_from(at).ok();
        let part = start.and_then(|start| memory.get_mut(start..)?.get_mut(..len));
        part.map(with).ok_or(Fault {
            address: at,
            len: u64::try_from(len).unwrap_or(0),
            why: "there is nothing",
        })
    }

    /// The next of the writes.
    fn somebody_writes(&self) {
        let mut later = self.later.borrow_mut();
        let [Some(low), Some(high), Some(a), Some(b)] = [(); 4].map(|()| later.next()) else {
            return;
        };
        let at = u64::from(u16::from_le_bytes([low, high]) % 4096);
        // Beyond the end nothing is written.
        let _ = self.write(at, &[a, b]);
    }
}

impl Machine for Flat<'_> {
    fn hypercall(&self, call: Hypercall, _: &mut [Arg<'_>]) -> i64 {
        self.calls.set(self.calls.get() + 1);
        match call {
            Hypercall::SCHED_OP | Hypercall::EVENT_CHANNEL_OP => {
                self.somebody_writes();
                0
            }
            Hypercall::MEMORY_OP => 0,
            _ => -38,
        }
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.at(at, into.len(), |from| into.copy_from_slice(from))
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<(), Fault> {
        self.at(at, from.len(), |to| to.copy_from_slice(from))
    }

    fn fill(&self, at: u64, len: u64, byte: u8) -> Result<(), Fault> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.at(at, len, |to| to.fill(byte))
    }

    fn lend(&self, at: u64, len: u64, to: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.at(at, len, to)
    }

    fn load32(&self, at: u64) -> Result<u32, Fault> {
        let mut word = [0; 4];
        self.read(at, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    fn store32(&self, at: u64, value: u32) -> Result<(), Fault> {
        self.write(at, &value.to_le_bytes())
    }

    fn exchange32(&self, at: u64, old: u32, new: u32) -> Result<u32, Fault> {
        let was = self.load32(at)?;
        if was == old {
            self.store32(at, new)?;
        }
        Ok(was)
    }

    fn invalidate(&self, _: u64) {}
}
