//! A backend that does not let go: it runs in the lab's dom0, maps grants of
//! a guest and goes on writing to them, whatever the guest does.
//!
//! ```text
//! kexen-lab-backend write DOMID FIRST COUNT STOP   a counter to every page,
//!                                                  until the file STOP is there
//! kexen-lab-backend read DOMID FIRST COUNT         looks twice, writes nothing
//! kexen-lab-backend garbage DOMID FIRST COUNT STOP numbers without sense all over
//!                                                  the pages, until STOP
//! kexen-lab-backend block DOMID RING PORT LIE STOP a block device's ring, served
//!                                                  as LIE says, until STOP
//! ```
//!
//! It says what it does in lines `kexen-backend: KEY=VALUE`; the last one is
//! `done=ok`. The counter is in the first and the last word of each page.
//! Grants are mapped by `gntdev`, which has all that is unsafe here.

mod block;
mod evtchn;
mod gntdev;

use std::error::Error;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use block::Lie;
use evtchn::Bell;
use gntdev::Mapping;

/// The last word of a page.
const LAST: usize = 1023;
/// How often a line tells of the counter.
const TELL: Duration = Duration::from_millis(500);

fn say(key: &str, value: impl Display) {
    println!("kexen-backend: {key}={value}");
}

/// Writes until there is a file of that name.
fn write(mapping: Mapping, stop: &Path) -> Result<(), Box<dyn Error>> {
    let mut counter = 0_u32;
    let mut told: Option<Instant> = None;
    loop {
        // Never 0, which is what the guest's pages begin with.
        counter = counter.checked_add(1).unwrap_or(1);
        for page in 0..mapping.pages() {
            for word in [0, LAST] {
                mapping.store(page, word, counter);
            }
        }
        if told.is_none_or(|at| at.elapsed() >= TELL) {
            told = Some(Instant::now());
            say("counter", counter);
            if stop.exists() {
                // The guest waits now: what was written must be there.
                for page in 0..mapping.pages() {
                    let found = mapping.load(page, 0);
                    if found != counter {
                        say("lost", format!("page {page}: {found:#x}"));
                    }
                }
                break;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    mapping.unmap()?;
    say("unmapped", counter);
    Ok(())
}

/// Fills the pages with numbers without sense, again and again.
fn garbage(mapping: Mapping, stop: &Path) -> Result<(), Box<dyn Error>> {
    let mut number = 0x2545_f491_u32;
    while !stop.exists() {
        for page in 0..mapping.pages() {
            for word in 0..=LAST {
                // Xorshift: each but 0 comes up.
                number ^= number << 13;
                number ^= number >> 17;
                number ^= number << 5;
                mapping.store(page, word, number);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    mapping.unmap()?;
    Ok(())
}

/// Looks at the first and the last word of each page, twice.
fn read(mapping: Mapping) -> Result<(), Box<dyn Error>> {
    for _ in 0..2 {
        for page in 0..mapping.pages() {
            let (first, last) = (mapping.load(page, 0), mapping.load(page, LAST));
            say("found", format!("{first} {last}"));
        }
        thread::sleep(TELL);
    }
    mapping.unmap()?;
    Ok(())
}

fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [mode, domid, first, count, rest @ ..] = args else {
        return Err("usage: write|read|garbage|block DOMID FIRST COUNT [STOP]".into());
    };
    let (domid, first, count) = (domid.parse()?, first.parse()?, count.parse()?);
    match (mode.as_str(), rest) {
        ("write", [stop]) => {
            let mapping = Mapping::new(domid, first, count, true)?;
            say("mapped", mapping.pages());
            write(mapping, Path::new(stop))
        }
        ("garbage", [stop]) => {
            let mapping = Mapping::new(domid, first, count, true)?;
            say("mapped", mapping.pages());
            garbage(mapping, Path::new(stop))
        }
        ("block", [lie, stop]) => {
            let bell = Bell::new(domid, count)?;
            let mapping = Mapping::new(domid, first, 1, true)?;
            say("mapped", mapping.pages());
            if lie == "garbage" {
                return garbage(mapping, Path::new(stop));
            }
            let lie = Lie::named(lie).ok_or("no such lie")?;
            let answered = block::serve(mapping, &bell, lie, Path::new(stop))?;
            say("answered", answered);
            Ok(())
        }
        ("read", []) => {
            let mapping = Mapping::new(domid, first, count, false)?;
            say("mapped", mapping.pages());
            read(mapping)
        }
        _ => Err("no such mode: write or garbage with STOP, or read".into()),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => {
            say("done", "ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            say("done", format!("failed {error}"));
            ExitCode::FAILURE
        }
    }
}
