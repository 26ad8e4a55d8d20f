//! What a kernel finds that the one before should not have left: open ports, a
//! callback, vCPUs that run, and memory that changed or still changes.
//!
//! Memory: each free page gets a word that depends on its number and the stage,
//! all over every fourth page and at the places where Xen would write in the
//! others; the next stage counts the pages that carry their word, and compares
//! number and sum with what the command line says. For translated guests, whose
//! pages are at their own addresses.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use kexen_abi::{
    PAGE_SIZE,
    hvm::{HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN},
};
use kexen_guest::{Extent, Extents, Machine, events, hypercall, vcpus};
use kexen_platform::Xen;

/// Ports that are looked at.
const PORTS: u32 = 128;

/// How many pages carry their word, and a sum over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) pages: u64,
    pub(crate) sum: u64,
}

impl Marked {
    const NONE: Self = Self { pages: 0, sum: 0 };

    fn add(&mut self, page: u64) {
        self.pages += 1;
        self.sum = self.sum.wrapping_add(word(u64::MAX, page));
    }

    /// As the command line has it; always as many characters.
    pub(crate) fn text(self) -> String {
        format!("{:010}:{:016x}", self.pages, self.sum)
    }
}

fn word(stage: u64, page: u64) -> u64 {
    let mut x =
        page.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stage.wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^= x >> 29;
    x.wrapping_mul(0x94d0_49bb_1331_11eb) | 1
}

fn low(free: &Extents) -> Extents {
    free.within(Extent::new(256, (1 << 20) - 256))
}

/// Every so many pages, all of a page is filled; of the others the lines at
/// these offsets, where Xen would write (areas of vCPUs are at the beginning of
/// a page or in its middle here).
const WHOLE: u64 = 4;
const LINES: [u64; 2] = [0, 2048];
const LINE: usize = 64;

/// The parts of a page that carry its word: offset and bytes.
fn parts(page: u64) -> impl Iterator<Item = (u64, usize)> {
    let whole = page.is_multiple_of(WHOLE).then_some((0, 4096));
    let lines = LINES.map(|at| (at, LINE));
    let lines = lines.into_iter().filter(move |_| whole.is_none());
    whole.into_iter().chain(lines)
}

/// Fills all free pages.
pub(crate) fn mark(m: &Xen, stage: u64, free: &Extents) -> Marked {
    let mut marked = Marked::NONE;
    let mut bytes = Box::new([0_u8; 4096]);
    for page in low(free).pages() {
        let word = word(stage, page).to_le_bytes();
        let len = parts(page).map(|(_, len)| len).max().unwrap_or(0);
        for part in bytes[..len].as_chunks_mut::<8>().0 {
            *part = word;
        }
        let written =
            parts(page).all(|(at, len)| m.write(page * PAGE_SIZE + at, &bytes[..len]).is_ok());
        if written {
            marked.add(page);
        }
    }
    marked
}

/// Counts the free pages that are as the stage before left them.
pub(crate) fn count(m: &Xen, stage: u64, free: &Extents) -> Marked {
    let mut marked = Marked::NONE;
    let mut bytes = Box::new([0_u8; 4096]);
    for page in low(free).pages() {
        let word = word(stage, page).to_le_bytes();
        let same = parts(page).all(|(at, len)| {
            let part = &mut bytes[..len];
            m.read(page * PAGE_SIZE + at, part).is_ok()
                && part.as_chunks::<8>().0.iter().all(|found| *found == word)
        });
        if same {
            marked.add(page);
        }
    }
    marked
}

/// What is left of another kernel's, in words.
pub(crate) fn find(m: &Xen) -> Vec<String> {
    let mut found = Vec::new();
    let param = |index| hypercall::hvm_param(m, "leftovers", index).unwrap_or(0);
    let known = [
        param(HVM_PARAM_STORE_EVTCHN),
        param(HVM_PARAM_CONSOLE_EVTCHN),
    ];
    for port in 1..PORTS {
        if known.contains(&port.into()) {
            continue;
        }
        if let Ok(status) = events::status(m, port)
            && status.status != 0
        {
            found.push(format!("port {port} is open (status {})", status.status));
        }
    }
    if param(HVM_PARAM_CALLBACK_IRQ) != 0 {
        found.push(String::from("a callback is set"));
    }
    let mut vcpu = 1;
    while let Ok(Some(up)) = vcpus::is_up(m, vcpu) {
        if up {
            found.push(format!("vCPU {vcpu} is up"));
        }
        vcpu += 1;
    }
    found
}

/// The stage of the words that a kernel fills its own memory with, to see
/// whether somebody else writes there.
const OWN: u64 = u64::MAX / 2;
/// How often it gives the processor up meanwhile.
const TURNS: u32 = 40;

/// Whether all free memory is memory, and this kernel's alone: what is written
/// there stays. Xen writes areas of vCPUs whenever one gets a processor.
pub(crate) fn steady(m: &Xen, free: &Extents) -> Result<(), String> {
    let before = mark(m, OWN, free);
    for _ in 0..TURNS {
        let _ = hypercall::nap(m, 0);
    }
    let after = count(m, OWN, free);
    if before == after {
        return Ok(());
    }
    Err(format!(
        "{} pages of free memory are holes, or somebody else's to write",
        before.pages - after.pages
    ))
}
