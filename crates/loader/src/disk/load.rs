//! An entry's files, from the disk into memory.
//!
//! Order of steps: how long each file is; pages for all of them, the kernel's
//! first, then the initrds behind one another from a page of their own on;
//! the reads, straight into those pages; their signatures are checked, if keys
//! are asked for; the pages are the boot module's from
//! then on, and the hand-off goes on as if a toolstack had loaded them.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};

use kexen_abi::PAGE_SIZE;
use kexen_bootconfig::{
    entry::{Kind, Place, initrd_offsets, plain},
    volumes::Volumes,
};
use kexen_disk::fs::File;
use kexen_guest::{Extent, Machine as _, block::Page};
use kexen_handoff::HandoffError;
use kexen_platform::{
    disks::Disks,
    failure::Failure,
    ground::Ground,
    guest::UNPACKED,
    kernel,
    loan::lent,
    native::Native,
    report::{Report, size},
};

use kexen_trust::{Keys, MAX_SIGNATURE};

use super::uki::{self, InPlace, Uki};

/// What the name of a signature's file ends with.
const SIGNATURE: &str = ".minisig";

/// Bytes of one read: between two of them the console tells how far it is.
const STEP: u64 = 4 << 20;

/// A part of a file that is to be in memory.
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) file: Box<dyn File + 'a>,
    /// Where it begins in the file, and its bytes.
    pub(super) from: u64,
    pub(super) len: u64,
    /// Where it goes.
    pub(super) to: u64,
    /// The file that it is all of.
    pub(super) place: Place,
}

impl<'a> Part<'a> {
    /// All of a file.
    pub(super) fn new(name: String, file: Box<dyn File + 'a>, place: Place) -> Self {
        let len = file.bytes();
        Self {
            name,
            file,
            from: 0,
            len,
            to: 0,
            place,
        }
    }
}

/// What is in memory.
pub(crate) struct Loaded {
    pub(crate) kernel: kernel::File,
    /// Offset in the boot module, and bytes.
    pub(crate) initrd: Option<(u64, u64)>,
    pub(crate) command_line: String,
}

pub(super) fn failed(why: impl core::fmt::Display) -> Failure {
    Failure::Disk(why.to_string())
}

/// Whether a file is there and has no bytes.
fn is_empty(volumes: &Volumes<'_>, place: &Place) -> bool {
    let data = volumes.fs(place).and_then(|fs| fs.metadata(&place.path));
    data.is_ok_and(|data| data.len == 0)
}

/// Opens a file on its volume; how it is called.
pub(super) fn open<'a>(volumes: &'a Volumes<'_>, place: &Place) -> Result<Part<'a>, Failure> {
    let volume = volumes.get(place.volume);
    let volume = volume.ok_or_else(|| failed("no such volume"))?;
    let name = format!("{}:{}", volume.name, place.path);
    let file = volume.fs.open(&place.path);
    let file = file.map_err(|error| failed(format!("{}: {error}", volume.name)))?;
    if file.bytes() == 0 {
        return Err(failed(format!("{name}: the file is empty")));
    }
    Ok(Part::new(name, file, place.clone()))
}

/// Reads what an entry needs. With keys each of its files must be signed, and
/// what is checked is what is in memory, where no backend reaches it any more.
pub(super) fn load<G: Ground>(
    guest: &mut G,
    report: &Report,
    quiet: bool,
    disks: &Disks<G::M>,
    volumes: &Volumes<'_>,
    kind: &Kind,
    keys: Option<&Keys>,
) -> Result<Loaded, Failure> {
    let mut keys = keys.map(|keys| (keys, volumes));
    let (kernel, initrds, command_line) = match kind {
        Kind::Linux {
            kernel,
            initrds,
            cmdline,
        } => {
            // An empty one is none, as other boot loaders have it.
            let full = |place: &&Place| !is_empty(volumes, place);
            let initrds = initrds.iter().filter(full);
            let initrds = initrds.map(|place| open(volumes, place));
            let initrds = initrds.collect::<Result<Vec<_>, _>>()?;
            (open(volumes, kernel)?, initrds, cmdline.clone())
        }
        Kind::Chain { image } => (open(volumes, image)?, Vec::new(), String::new()),
        Kind::Uki {
            image,
            profile,
            addons,
            cmdline,
        } => {
            let uki = Uki {
                image,
                profile: *profile,
                addons,
                cmdline: cmdline.as_deref(),
            };
            if keys.is_none() {
                uki.on_disk(volumes)?
            } else {
                let files = uki.files().map(|place| open(volumes, place));
                let mut files = files.collect::<Result<Vec<_>, _>>()?;
                let at = fill(guest, report, quiet, disks, &mut files, keys.take())?;
                match uki::in_memory(guest.machine(), at, &files, uki)? {
                    InPlace::Yes(loaded) => return Ok(loaded),
                    InPlace::No(kernel, initrds, line) => (kernel, initrds, line),
                }
            }
        }
    };
    let mut parts = Vec::from([kernel]);
    parts.extend(initrds);
    let initrd = lay_out(&mut parts)?.0;
    let at = fill(guest, report, quiet, disks, &mut parts, keys)?;
    let [kernel, ..] = &parts[..] else {
        return Err(failed("no kernel"));
    };
    Ok(Loaded {
        kernel: kernel::File {
            name: kernel.name.clone(),
            at,
            len: kernel.len,
        },
        initrd,
        command_line,
    })
}

/// Reads the parts into memory of their own, which takes the boot module's
/// place; where that is.
fn fill<G: Ground>(
    guest: &mut G,
    report: &Report,
    quiet: bool,
    disks: &Disks<G::M>,
    parts: &mut [Part<'_>],
    trust: Option<(&Keys, &Volumes<'_>)>,
) -> Result<u64, Failure> {
    let (initrd, len) = lay_out(parts)?;
    let pages = take(guest, initrd.map_or(0, |(start, _)| start), len)?;
    guest.map(UNPACKED, &pages)?;
    let window = (0..).zip(&pages).map(|(n, number)| {
        Ok(Page {
            number: *number,
            address: UNPACKED + n * PAGE_SIZE,
            frame: u32::try_from(guest.frame(*number)?).map_err(failed)?,
        })
    });
    let window = window.collect::<Result<Vec<Page>, Failure>>()?;
    disks.aim(UNPACKED, window);
    let mut result = read(guest, report, quiet, parts, len);
    disks.aim(UNPACKED, Vec::new());
    if let (Ok(()), Some((keys, volumes))) = (&result, trust) {
        let mut all = parts.iter();
        result =
            all.try_for_each(|part| check(guest.machine(), report, quiet, part, keys, volumes));
    }
    guest.unmap(UNPACKED, len.div_ceil(PAGE_SIZE))?;
    result?;
    for page in &pages {
        guest.stock().kept.insert(Extent::new(*page, 1));
    }
    guest.replace_module(pages, len)?;
    let (at, _) = guest.map_module()?.ok_or(Failure::NoModule)?;
    Ok(at)
}

/// Checks a file in memory by the signature beside it on the disk.
fn check<M: Native>(
    m: &M,
    report: &Report,
    quiet: bool,
    part: &Part<'_>,
    keys: &Keys,
    volumes: &Volumes<'_>,
) -> Result<(), Failure> {
    let wrong = |why: &dyn core::fmt::Display| {
        failed(format!(
            "{}: not started, since keys are asked for: {why}",
            part.name
        ))
    };
    let path = format!("{}{SIGNATURE}", part.place.path);
    let volume = volumes.get(part.place.volume);
    let volume = volume.ok_or_else(|| failed("no such volume"))?;
    let text = volume.fs.read(&path, MAX_SIGNATURE);
    let text = text.map_err(|error| wrong(&format!("its signature: {error}")))?;
    let text = String::from_utf8_lossy(&text);
    let signed = lent(m, UNPACKED + part.to, part.len, |bytes| {
        keys.check(bytes, &text).map_err(|error| wrong(&error))
    })?;
    if !quiet {
        report.line(
            m,
            format_args!("{}: signed by key {}", part.name, signed.key),
        );
    }
    Ok(())
}

/// Says where each part goes: where the initrds are, and the length of all.
fn lay_out(parts: &mut [Part<'_>]) -> Result<(Option<(u64, u64)>, u64), Failure> {
    let [kernel, initrds @ ..] = parts else {
        return Err(failed("no kernel"));
    };
    let start = kernel.len.next_multiple_of(PAGE_SIZE);
    if initrds.is_empty() {
        return Ok((None, kernel.len));
    }
    let lengths: Vec<u64> = initrds.iter().map(|part| part.len).collect();
    let (offsets, len) = initrd_offsets(&lengths).ok_or_else(|| failed("initrds are too long"))?;
    for (part, offset) in initrds.iter_mut().zip(offsets) {
        part.to = start + offset;
    }
    Ok((Some((start, len)), start + len))
}

/// Pages for so many bytes: from `initrd` on in one piece if there is one, which
/// is not copied then; what is before that may be anywhere.
fn take<G: Ground>(guest: &mut G, initrd: u64, len: u64) -> Result<Vec<u64>, Failure> {
    let want = len.div_ceil(PAGE_SIZE);
    let have = guest.free().count();
    let short = HandoffError::Memory {
        what: "the files of the entry",
        want,
        have,
    };
    if have < want {
        return Err(short.into());
    }
    let before = initrd.div_ceil(PAGE_SIZE);
    let mut low = guest.free().within(Extent::new(0, 1 << 20));
    let run = low.take_run(want - before);
    if let Some(run) = run {
        guest.free().remove(run);
    }
    let rest = if run.is_some() { before } else { want };
    let rest = guest.free().take(rest).ok_or(short)?;
    let run = run.map_or(0..0, |run| run.start..run.end());
    Ok(rest.pages().chain(run).collect())
}

/// Fills the memory, and says how far it is.
fn read<G: Ground>(
    guest: &mut G,
    report: &Report,
    quiet: bool,
    parts: &mut [Part<'_>],
    len: u64,
) -> Result<(), Failure> {
    let m = guest.machine();
    // What is between the parts is zeroes.
    let pages = len.div_ceil(PAGE_SIZE);
    for part in &*parts {
        let end = part.to + part.len;
        m.fill(
            UNPACKED + end,
            end.next_multiple_of(PAGE_SIZE).min(pages * PAGE_SIZE) - end,
            0,
        )?;
    }
    for part in parts {
        let mut done = 0;
        while done < part.len {
            let now = (part.len - done).min(STEP);
            let at = UNPACKED + part.to + done;
            lent(m, at, now, |bytes| {
                let read = part.file.read_at(part.from + done, bytes);
                read.map_err(|error| failed(format!("{}: {error}", part.name)))
            })?;
            done += now;
            if !quiet && part.len > STEP {
                let name = plain(&part.name);
                let far = format!("\r  {name}  {} of {} ", size(done), size(part.len));
                report.raw(m, &far);
            }
        }
        m.count_written(part.len);
        if !quiet {
            report.raw(m, "\r\x1b[K");
            report.line(m, format_args!("{}: {}", part.name, size(part.len)));
        }
    }
    Ok(())
}
