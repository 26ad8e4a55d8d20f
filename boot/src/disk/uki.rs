//! The parts of a unified kernel image: kernel, microcode and initrd, each at
//! its place in the file, and the command line.

use alloc::{string::String, vec::Vec};

use kexen_bootconfig::bls::uki::{self, Section};
use kexen_disk::{
    FsError,
    fs::{File, Problem},
};
use kexen_guest::Machine as _;
use kexen_platform::{Xen, failure::Failure, kernel};

use super::load::{Loaded, Part, failed};

/// The kernel, the initrds, and the command line. `open` opens the image once
/// more.
pub(super) fn parts<'a>(
    open: impl Fn() -> Result<Part<'a>, Failure>,
) -> Result<(Part<'a>, Vec<Part<'a>>, String), Failure> {
    let mut whole = open()?;
    let wrong = |name: &str, error| failed(alloc::format!("{name}: {error}"));
    let found = uki::sections(&mut *whole.file).map_err(|e| wrong(&whole.name, e))?;
    let part = |at: Section, what: &str| -> Result<Part<'a>, Failure> {
        let mut part = open()?;
        part.name.push_str(what);
        part.from = at.offset;
        part.len = at.bytes;
        Ok(part)
    };
    let kernel = part(found.linux, " .linux")?;
    let initrds = [(found.ucode, " .ucode"), (found.initrd, " .initrd")];
    let initrds = initrds
        .into_iter()
        .filter_map(|(at, what)| Some((at?, what)));
    let initrds = initrds.map(|(at, what)| part(at, what));
    let initrds = initrds.collect::<Result<Vec<_>, _>>()?;
    let line = match found.cmdline {
        Some(at) => {
            let text = uki::text(&mut *whole.file, ".cmdline", at);
            text.map_err(|e| wrong(&whole.name, e))?
        }
        None => String::new(),
    };
    Ok((kernel, initrds, trimmed(&line)))
}

/// An image in memory.
struct InMemory {
    m: &'static Xen,
    at: u64,
    len: u64,
}

impl File for InMemory {
    fn bytes(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), FsError> {
        let wrong = |why: &str| FsError {
            path: String::new(),
            problem: Problem::Corrupt(why.into()),
        };
        let len = u64::try_from(into.len()).unwrap_or(u64::MAX);
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(wrong("beyond the end of the image"));
        }
        let read = self.m.read(self.at + offset, into);
        read.map_err(|fault| wrong(&alloc::format!("{fault}")))
    }
}

/// The parts of an image that is in memory, at an address, and has been checked
/// there. Microcode is left out: no guest can load any.
pub(super) fn of_memory(
    m: &'static Xen,
    at: u64,
    image: &Part<'_>,
    cmdline: Option<&str>,
) -> Result<Loaded, Failure> {
    let mut file = InMemory {
        m,
        at,
        len: image.len,
    };
    let wrong = |error| failed(alloc::format!("{}: {error}", image.name));
    let found = uki::sections(&mut file).map_err(wrong)?;
    let own = match (cmdline, found.cmdline) {
        (Some(line), _) => String::from(line),
        (None, Some(section)) => uki::text(&mut file, ".cmdline", section).map_err(wrong)?,
        (None, None) => String::new(),
    };
    Ok(Loaded {
        kernel: kernel::File {
            name: alloc::format!("{} .linux", image.name),
            at: at + found.linux.offset,
            len: found.linux.bytes,
        },
        initrd: found.initrd.map(|section| (section.offset, section.bytes)),
        command_line: trimmed(&own),
    })
}

/// A command line as it is meant: without what ends its section.
fn trimmed(line: &str) -> String {
    let end = |c: char| c.is_ascii_whitespace() || c == '\0';
    line.trim_matches(end).into()
}
