//! The parts of a unified kernel image: kernel, microcode and initrd, each at
//! its place in the file, and the command line.

use alloc::{string::String, vec::Vec};

use kexen_bootconfig::bls::uki::{self, Section};
use kexen_platform::failure::Failure;

use super::load::{Part, failed};

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
    let line = line.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0');
    Ok((kernel, initrds, line.into()))
}
