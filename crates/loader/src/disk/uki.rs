//! The parts of a unified kernel image and its add-ons: kernel, microcode and
//! initrds, each at its place in its file, and the command line.

use alloc::{boxed::Box, string::String, vec::Vec};

use kexen_bootconfig::{
    bls::{
        image::{self, Parts, Piece},
        uki::UkiError,
    },
    entry::{Place, plain},
    volumes::Volumes,
};
use kexen_disk::{
    FsError,
    fs::{File, Problem},
};
use kexen_guest::Machine;
use kexen_platform::{failure::Failure, kernel};

use super::load::{Loaded, Part, failed, open};

/// An image as an entry has it.
#[derive(Clone, Copy)]
pub(super) struct Uki<'a> {
    pub(super) image: &'a Place,
    pub(super) profile: usize,
    pub(super) addons: &'a [Place],
    /// A command line instead of the image's own.
    pub(super) cmdline: Option<&'a str>,
}

impl Uki<'_> {
    fn parts(&self, open: &image::Open<'_>) -> Result<Parts, Failure> {
        let parts = image::parts(open, self.image, self.profile, self.addons, self.cmdline);
        parts.map_err(|error: UkiError| failed(alloc::format!("{}: {error}", self.image)))
    }

    /// All its files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Place> {
        core::iter::once(self.image).chain(self.addons)
    }

    /// The kernel, the initrds, and the command line.
    pub(super) fn on_disk<'a>(
        &self,
        volumes: &'a Volumes<'_>,
    ) -> Result<(Part<'a>, Vec<Part<'a>>, String), Failure> {
        let parts = self.parts(&|place| volumes.fs(place)?.open(&place.path))?;
        let part = |piece: &Piece| -> Result<Part<'a>, Failure> {
            let mut part = open(volumes, &piece.place)?;
            part.name.push(' ');
            part.name.push_str(piece.name);
            part.from = piece.at.offset;
            part.len = piece.at.bytes;
            Ok(part)
        };
        let initrds = parts.initrds.iter().map(part);
        let initrds = initrds.collect::<Result<Vec<_>, _>>()?;
        Ok((part(&parts.kernel)?, initrds, parts.cmdline))
    }
}

/// A part of a file that is in memory.
struct InMemory<M: 'static> {
    m: &'static M,
    at: u64,
    len: u64,
}

impl<M: Machine> File for InMemory<M> {
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
            return Err(wrong("beyond the end of the file"));
        }
        let read = self.m.read(self.at + offset, into);
        read.map_err(|fault| wrong(&alloc::format!("{fault}")))
    }
}

/// What is started of files that are in memory and have been checked there.
pub(super) enum InPlace<'a> {
    /// Kernel and initrd are each in one piece.
    Yes(Loaded),
    /// The initrds have to be put behind one another: the kernel, they, and the
    /// command line.
    No(Part<'a>, Vec<Part<'a>>, String),
}

/// Where these files, at an address, have what is started. Microcode is left
/// out: no guest can load any.
pub(super) fn in_memory<'a, M: Machine + 'static>(
    m: &'static M,
    at: u64,
    files: &[Part<'_>],
    uki: Uki<'_>,
) -> Result<InPlace<'a>, Failure> {
    let find = |place: &Place| files.iter().find(|file| file.place == *place);
    let missing = |place: &Place| FsError {
        path: place.path.clone(),
        problem: Problem::Missing,
    };
    let parts = uki.parts(&|place| {
        let file = find(place).ok_or_else(|| missing(place))?;
        let (at, len) = (at + file.to, file.len);
        Ok(Box::new(InMemory { m, at, len }))
    })?;
    let name = |piece: &Piece| {
        let file = find(&piece.place).map_or("", |file| &file.name);
        alloc::format!("{} {}", plain(file), piece.name)
    };
    let offset = |piece: &Piece| -> Result<u64, Failure> {
        let file = find(&piece.place).ok_or_else(|| failed(missing(&piece.place)))?;
        Ok(file.to + piece.at.offset)
    };
    let initrds = parts.initrds.iter();
    let initrds: Vec<&Piece> = initrds.filter(|piece| piece.name == ".initrd").collect();
    if let [] | [_] = &*initrds {
        let initrd = match initrds.first() {
            Some(piece) => Some((offset(piece)?, piece.at.bytes)),
            None => None,
        };
        return Ok(InPlace::Yes(Loaded {
            kernel: kernel::File {
                name: name(&parts.kernel),
                at: at + offset(&parts.kernel)?,
                len: parts.kernel.at.bytes,
            },
            initrd,
            command_line: parts.cmdline,
        }));
    }
    let part = |piece: &Piece| -> Result<Part<'a>, Failure> {
        let (at, len) = (at + offset(piece)?, piece.at.bytes);
        let file = Box::new(InMemory { m, at, len });
        Ok(Part::new(name(piece), file, piece.place.clone()))
    };
    let initrds = initrds.into_iter().map(part);
    let initrds = initrds.collect::<Result<Vec<_>, Failure>>()?;
    Ok(InPlace::No(part(&parts.kernel)?, initrds, parts.cmdline))
}
