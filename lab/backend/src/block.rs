//! A block backend that lies: it serves a ring of one page, and no disk.
//!
//! Protocol: Xen's `xen/include/public/io/blkif.h` and `ring.h`, the layout of
//! x86_64. Order of steps: a request's id is read; an answer, right or wrong,
//! is written; the producer; the event. No data is moved ever.
//!
//! Shared memory: the ring, with the frontend, as atomic words.

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::evtchn::Bell;
use crate::gntdev::Mapping;

/// Words of the page: the producers, and what lies in an entry.
const REQ_PROD: usize = 0;
const RSP_PROD: usize = 2;
const FIRST: usize = 16;
const ENTRY: usize = 28;
const ENTRIES: u32 = 32;
/// Of a request: its id.
const REQ_ID: usize = 2;
/// Of a response: its id, and operation with status.
const RSP_ID: usize = 0;
const RSP_STATUS: usize = 2;

/// Status of a response that went well, and of one that did not.
const OKAY: i16 = 0;
const ERROR: i16 = -1;

/// In which way it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// No answer.
    Silent,
    /// All fails.
    Errors,
    /// Ids that nobody has used.
    Ids,
    /// Each answer twice.
    Twice,
    /// More answers than questions.
    Ahead,
    /// All went well, though nothing was done.
    Nothing,
    /// One answer, and no more.
    Vanish,
}

impl Lie {
    /// By its name on the command line.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "silent" => Self::Silent,
            "errors" => Self::Errors,
            "ids" => Self::Ids,
            "twice" => Self::Twice,
            "ahead" => Self::Ahead,
            "nothing" => Self::Nothing,
            "vanish" => Self::Vanish,
            _ => return None,
        })
    }
}

/// How often the ring is looked at: many backends share dom0's processors.
const IDLE: Duration = Duration::from_millis(20);

/// Serves the ring until there is a file of that name.
pub(crate) fn serve(
    ring: Mapping,
    bell: &Bell,
    lie: Lie,
    stop: &Path,
) -> Result<u32, Box<dyn Error>> {
    let (mut seen, mut answered) = (0_u32, 0_u32);
    while !stop.exists() {
        let asked = ring.load(0, REQ_PROD);
        let quiet = lie == Lie::Silent || (lie == Lie::Vanish && answered > 0);
        if asked == seen || quiet {
            thread::sleep(IDLE);
            continue;
        }
        let at = entry(seen);
        seen = seen.wrapping_add(1);
        let id = [ring.load(0, at + REQ_ID), ring.load(0, at + REQ_ID + 1)];
        let status = match lie {
            Lie::Errors => ERROR,
            _ => OKAY,
        };
        let id = match lie {
            Lie::Ids => [id[0] ^ 0x5a5a, id[1] ^ 0x5a5a],
            _ => id,
        };
        let times = if lie == Lie::Twice { 2 } else { 1 };
        for _ in 0..times {
            answer(&ring, answered, id, status);
            answered = answered.wrapping_add(1);
        }
        let told = match lie {
            Lie::Ahead => answered.wrapping_add(1000),
            _ => answered,
        };
        ring.store(0, RSP_PROD, told);
        bell.ring()?;
    }
    ring.unmap()?;
    Ok(answered)
}

const fn entry(number: u32) -> usize {
    FIRST + ENTRY * (number % ENTRIES) as usize
}

fn answer(ring: &Mapping, number: u32, id: [u32; 2], status: i16) {
    let at = entry(number);
    ring.store(0, at + RSP_ID, id[0]);
    ring.store(0, at + RSP_ID + 1, id[1]);
    let status = u32::from(status.cast_unsigned()) << 16;
    ring.store(0, at + RSP_STATUS, status);
}
