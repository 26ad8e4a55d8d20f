//! From the file `kernel` of an entry to a kernel in memory.
//!
//! Order of steps: look at the headers; decompress just the first bytes,
//! which say where the segments go; choose the pages behind the buffer
//! accordingly; give the heap what the decompressor needs; decompress;
//! read the notes, which say how it is entered and what comes behind it; copy
//! and zero what is left; move it where its own place is no RAM.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use kexen_abi::PAGE_SIZE;
use kexen_bootconfig::module::Entry;
use kexen_guest::{Extent, Extents, Machine as _, hvm::space::IDENTITY_PAGES};
use kexen_handoff::placement::{Behind, Chosen, Placement, Segment, finish};
use kexen_image::{Compression, Elf, Kernel as Image, Plan, Symbols, heap_for};

use crate::{
    failure::Failure,
    guest::{BUFFER, Guest, Ready, lists_for},
    loan::{lent, offset_len},
    native::Native as _,
    report::{Report, size},
};

/// Bytes of the decompressed kernel that are looked at first.
const PEEK: usize = 64 * 1024;

/// A kernel in memory.
#[derive(Debug)]
pub struct Kernel {
    /// For messages: `entry default: kernel 6.1.0 (bzImage, LZ4)`.
    pub what: String,
    /// Bytes of the decompressed file.
    pub buffer_len: u64,
    /// Bytes of the compressed one.
    pub packed_len: u64,
    plan: Plan,
    setup_header: Option<Vec<u8>>,
    placement: Placement,
    chosen: Chosen,
}

impl Kernel {
    /// What a hand-off needs.
    #[must_use]
    pub fn ready<'a>(&'a self, initrd: Option<(u64, u64)>, command_line: &'a str) -> Ready<'a> {
        Ready {
            plan: &self.plan,
            setup_header: self.setup_header.as_deref(),
            placement: &self.placement,
            chosen: &self.chosen,
            buffer_len: self.buffer_len,
            initrd,
            command_line,
        }
    }
}

/// What the headers of the file say.
#[derive(Debug)]
struct Head {
    what: String,
    size: u64,
    packed: u64,
    scratch: usize,
    peek_scratch: usize,
    setup_header: Option<Vec<u8>>,
}

/// Loads the kernel of an entry of the boot module at `at`.
pub fn load<G: Guest>(
    guest: &mut G,
    report: &Report,
    quiet: bool,
    at: u64,
    entry: &Entry,
) -> Result<Kernel, Failure> {
    let name = format!("{}kernel", entry.prefix());
    let (offset, len) = offset_len(&entry.kernel);
    let file = File {
        name,
        at: at + offset,
        len,
    };
    load_file(guest, report, quiet, file)
}

/// A kernel's file in memory.
#[derive(Clone, Debug)]
pub struct File {
    /// How it is called in messages.
    pub name: String,
    /// Where it is.
    pub at: u64,
    /// Its bytes.
    pub len: u64,
}

/// Loads a kernel from a file in memory.
pub fn load_file<G: Guest>(
    guest: &mut G,
    report: &Report,
    quiet: bool,
    file: File,
) -> Result<Kernel, Failure> {
    let m = guest.machine();
    let (file, place, len) = (file.name, file.at, file.len);
    let head = lent(m, place, len, |bytes| head(&file, bytes))?;
    guest.grow_heap(heap_for(head.peek_scratch + PEEK))?;
    let elf = lent(m, place, len, |bytes| first(&file, bytes))?;
    if !quiet {
        report.line(
            m,
            format_args!(
                "{file}: {}, {} packed, {} unpacked",
                head.what,
                size(head.packed),
                size(head.size)
            ),
        );
    }
    guest.grow_heap(lists_for(head.size))?;
    let segments: Vec<Segment> = elf
        .segments()
        .iter()
        .map(|s| Segment {
            offset: s.offset,
            address: s.paddr,
            filesz: s.filesz,
            memsz: s.memsz,
        })
        .collect();
    let pages = guest.memory() / PAGE_SIZE;
    let mut placement = Placement::plan(&segments, head.size, pages)?;
    let mut chosen = guest.choose(&placement)?;
    if head.scratch > 0 {
        guest.grow_heap(heap_for(head.scratch))?;
    }
    map_fresh(guest, &chosen)?;
    guest.map(BUFFER, &chosen.file)?;

    lent(m, place, len, |bytes| {
        let image = Image::parse(bytes).map_err(|error| bad(&file, error))?;
        lent(m, BUFFER, head.size, |out| {
            image
                .payload()
                .decompress(out)
                .map_err(|error| bad_data(&file, error))
        })
    })?;
    m.count_written(head.size);
    let guest_type = guest.guest_type();
    let mut plan = lent(m, BUFFER, head.size, |whole| {
        let notes = elf.notes(whole).map_err(|error| bad(&file, error))?;
        kexen_image::plan(&elf, &notes, whole, guest_type).map_err(|why| Failure::CannotStart {
            file: file.clone(),
            guest: guest_type.name(),
            why: why.to_string(),
        })
    })?;
    placement.rebase(&mut chosen, plan.paddr_offset)?;
    let behind = match &plan.symbols {
        None => None,
        Some(symbols) => {
            let offset = plan.paddr_offset;
            Some(put_behind(
                guest,
                &mut placement,
                &mut chosen,
                symbols,
                offset,
            )?)
        }
    };
    let address = |page| guest.address(page);
    finish(m, &placement, &chosen, BUFFER, &address, behind.as_ref())?;
    relocate(guest, &elf, &mut placement, &mut chosen, &mut plan)?;
    Ok(Kernel {
        what: format!("{file} ({})", head.what),
        buffer_len: head.size,
        packed_len: head.packed,
        plan,
        setup_header: head.setup_header,
        placement,
        chosen,
    })
}

/// Makes pages accessible that no page of the file becomes.
fn map_fresh<G: Guest>(guest: &mut G, chosen: &Chosen) -> Result<(), Failure> {
    let mut fresh = Extents::new();
    for (_, page) in &chosen.fresh {
        fresh.insert(Extent::new(*page, 1));
    }
    Ok(guest.map_in_place(&fresh)?)
}

/// Finds room for a kernel's symbols behind it.
fn put_behind<G: Guest>(
    guest: &mut G,
    placement: &mut Placement,
    chosen: &mut Chosen,
    symbols: &Symbols,
    offset: u64,
) -> Result<Behind, Failure> {
    // They are behind the kernel, which is not below the offset.
    let moved = |address: u64| address.saturating_sub(offset);
    let parts = symbols.parts.map(|(from, to, len)| (from, moved(to), len));
    let headers = (moved(symbols.start), symbols.headers.as_slice());
    let (more, behind) = placement.behind(headers, &parts, guest.memory() / PAGE_SIZE)?;
    guest.grow_heap(lists_for(more.kernel.count * PAGE_SIZE))?;
    let pages = guest.choose(&more)?;
    map_fresh(guest, &pages)?;
    placement.join(chosen, &more, pages);
    Ok(behind)
}

/// Moves a kernel whose own place is not RAM, where its notes allow that.
fn relocate<G: Guest>(
    guest: &mut G,
    elf: &Elf,
    placement: &mut Placement,
    chosen: &mut Chosen,
    plan: &mut Plan,
) -> Result<(), Failure> {
    let end = plan.symbols.as_ref().map_or(elf.end, |s| s.written_end);
    let place = plan
        .relocation
        .and_then(|how| guest.elsewhere((elf.start, end), &how));
    let Some(place) = place else {
        return Ok(());
    };
    let was = placement.kernel.start * PAGE_SIZE;
    let mut low = guest.free().within(Extent::new(0, IDENTITY_PAGES));
    let before = low.clone();
    let moves = placement.relocate(chosen, place / PAGE_SIZE, &mut low)?;
    for run in before.runs() {
        guest.free().remove(*run);
    }
    guest.free().extend(&low);
    for (from, to) in moves {
        let (from, to) = (guest.address(from), guest.address(to));
        guest.machine().copy(from, to, PAGE_SIZE)?;
    }
    plan.entry = plan.entry - was + place;
    Ok(())
}

fn bad(file: &str, error: kexen_image::ImageError) -> Failure {
    Failure::Kernel {
        file: file.to_string(),
        error,
    }
}

fn bad_data(file: &str, error: kexen_image::DecompressError) -> Failure {
    Failure::KernelData {
        file: file.to_string(),
        error,
    }
}

/// Reads the file's own headers.
fn head(file: &str, bytes: &[u8]) -> Result<Head, Failure> {
    let image = Image::parse(bytes).map_err(|error| bad(file, error))?;
    let payload = image.payload();
    let data = |error| bad_data(file, error);
    Ok(Head {
        what: image.describe(),
        size: payload.size,
        packed: u64::try_from(payload.bytes.len()).unwrap_or(0),
        scratch: payload.scratch().map_err(data)?,
        peek_scratch: payload.peek_scratch(PEEK).map_err(data)?,
        setup_header: image.setup_header().map(<[u8]>::to_vec),
    })
}

/// Reads the headers of the ELF file inside.
fn first(file: &str, bytes: &[u8]) -> Result<Elf, Failure> {
    let image = Image::parse(bytes).map_err(|error| bad(file, error))?;
    let payload = image.payload();
    if payload.compression == Compression::None {
        return image.elf(payload.bytes).map_err(|error| bad(file, error));
    }
    let mut first = vec![0; PEEK];
    let n = payload
        .peek(&mut first)
        .map_err(|error| bad_data(file, error))?;
    image
        .elf(first.get(..n).unwrap_or_default())
        .map_err(|error| bad(file, error))
}
