//! The real [`Machine`]: hypercalls by instruction, guest memory by address.
//!
//! Protocol: Xen's hypercall ABI for 64-bit guests (`rax` = number, `rdi`,
//! `rsi`, `rdx`, `r10`, `r8` = arguments, `rax` = result): `syscall` under
//! PV, `vmmcall` or `vmcall` in a PVH guest. No hypercall page is needed.
//!
//! Guest memory is every address outside what Rust owns: the image up to
//! its page tables, and pages given to the heap. An access to the rest is
//! refused; one to memory that is not mapped is a fault of the guest (Xen
//! ends the domain), never a broken invariant of Rust.

use core::{
    arch::{asm, x86_64},
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

use kexen_abi::hypercall::{HYPERCALL_COUNT, Hypercall};
#[cfg(feature = "omission")]
use kexen_guest::Defence;
use kexen_guest::{Arg, Fault, Machine, MultiCall};
use spin::Mutex;
use zerocopy::{FromZeros as _, IntoBytes as _};

unsafe extern "C" {
    static kexen_image_start: u8;
    static kexen_owned_end: u8;
    static kexen_image_end: u8;
    static kexen_boot_l4: u8;
    static kexen_boot_l3: u8;
    static kexen_image_l3: u8;
    static kexen_image_l2: u8;
    static kexen_gdt: u8;
    static kexen_scratch: u8;
    static hypercall_page: u8;
}

/// Virtual address of the image.
const IMAGE: u64 = 0xffff_ffff_c000_0000;
/// Its physical address in a PVH guest: as linked, until it is moved.
static IMAGE_AT: AtomicU64 = AtomicU64::new(0x0600_0000);

/// Virtual minus physical address of the image in a PVH guest.
pub fn image_offset() -> u64 {
    IMAGE - IMAGE_AT.load(Ordering::Relaxed)
}

const KIND_PV: u8 = 1;
const KIND_AMD: u8 = 2;
const KIND_INTEL: u8 = 3;

/// A table of address ranges `[start, end)`; an empty slot is `(0, 0)`.
#[derive(Debug)]
struct Ranges<const N: usize>([(AtomicU64, AtomicU64); N]);

impl<const N: usize> Ranges<N> {
    const fn new() -> Self {
        Self([const { (AtomicU64::new(0), AtomicU64::new(0)) }; N])
    }

    fn hit(&self, start: u64, end: u64) -> bool {
        self.0
            .iter()
            .any(|(s, e)| start < e.load(Ordering::SeqCst) && end > s.load(Ordering::SeqCst))
    }

    fn add(&self, start: u64, end: u64) -> bool {
        for (s, e) in &self.0 {
            if e.load(Ordering::Relaxed) == 0 {
                s.store(start, Ordering::SeqCst);
                e.store(end, Ordering::SeqCst);
                return true;
            }
        }
        false
    }

    fn remove(&self, start: u64, end: u64) {
        for (s, e) in &self.0 {
            if s.load(Ordering::Relaxed) == start && e.load(Ordering::Relaxed) == end {
                e.store(0, Ordering::Relaxed);
                s.store(0, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// The hypervisor and this guest's memory.
#[derive(Debug)]
pub struct Xen {
    kind: AtomicU8,
    owned: Ranges<16>,
    lent: Ranges<8>,
    /// Accesses under way, on all vCPUs: a loan begins when there are none.
    accesses: AtomicU32,
    lending: Mutex<()>,
    calls: [AtomicU32; HYPERCALL_COUNT],
    written: AtomicU64,
    zeroed: AtomicU64,
}

static XEN: Xen = Xen {
    kind: AtomicU8::new(0),
    owned: Ranges::new(),
    lent: Ranges::new(),
    accesses: AtomicU32::new(0),
    lending: Mutex::new(()),
    calls: [const { AtomicU32::new(0) }; HYPERCALL_COUNT],
    written: AtomicU64::new(0),
    zeroed: AtomicU64::new(0),
};

/// Defences that are left out, by their place among all.
#[cfg(feature = "omission")]
static OMITTED: AtomicU32 = AtomicU32::new(0);

#[cfg(feature = "omission")]
fn bit(defence: Defence) -> u32 {
    let mut all = Defence::ALL.iter();
    let place = all.position(|(_, known)| *known == defence);
    place.map_or(0, |place| 1 << place)
}

/// The machine, for a panic alone; everybody else is handed it.
#[must_use]
pub fn in_panic() -> &'static Xen {
    &XEN
}

impl Xen {
    /// The machine of a PV guest. Once, from the entry point.
    pub(super) fn start_pv() -> &'static Self {
        Self::start(KIND_PV)
    }

    /// The machine of a PVH guest, if this is one. Once, from the entry
    /// point.
    pub(super) fn start_pvh() -> Option<&'static Self> {
        let vendor = x86_64::__cpuid(0);
        let amd = matches!(&vendor.ebx.to_le_bytes(), b"Auth" | b"Hygo");
        let machine = Self::start(if amd { KIND_AMD } else { KIND_INTEL });
        let xen = (0x4000_0000..0x4001_0000_u32).step_by(0x100).any(|leaf| {
            let id = x86_64::__cpuid(leaf);
            (id.ebx, id.ecx, id.edx) == (0x566e_6558, 0x6558_4d4d, 0x4d4d_566e)
        });
        xen.then_some(machine)
    }

    fn start(kind: u8) -> &'static Self {
        let (start, end) = image();
        XEN.kind.store(kind, Ordering::Relaxed);
        XEN.owned.add(start, end);
        if kind != KIND_PV {
            // The identity map shows the image a second time.
            XEN.owned.add(start - image_offset(), end - image_offset());
        }
        super::heap::start();
        &XEN
    }

    /// Leaves a defence out.
    #[cfg(feature = "omission")]
    pub fn omit(&self, defence: Defence) {
        OMITTED.fetch_or(bit(defence), Ordering::Relaxed);
    }

    /// Whether this is a PV guest.
    pub fn is_pv(&self) -> bool {
        self.kind.load(Ordering::Relaxed) == KIND_PV
    }

    /// Makes mapped guest pages Rust's own and gives them to the heap.
    pub(super) fn add_to_heap(&self, address: u64, len: u64) -> bool {
        let end = address.saturating_add(len);
        !self.owned.hit(address, end)
            && !self.lent.hit(address, end)
            && self.owned.add(address, end)
            && super::heap::add(address, len)
    }

    /// Takes the end of such pages from the heap again, as far as it is not in
    /// use, but for `spare` bytes: how many bytes are left of `len`.
    pub(super) fn cut(&self, address: u64, len: u64, spare: u64) -> u64 {
        let left = super::heap::cut(address, len, spare);
        if left < len {
            self.owned.remove(address, address.saturating_add(len));
            self.owned.add(address, address.saturating_add(left));
        }
        left
    }

    /// Gives pages that were cut off to the heap again.
    pub(super) fn lengthen(&self, address: u64, len: u64, new: u64) -> bool {
        let (end, new_end) = (address.saturating_add(len), address.saturating_add(new));
        if self.owned.hit(end, new_end) || self.lent.hit(end, new_end) {
            return false;
        }
        self.owned.remove(address, end);
        self.owned.add(address, new_end) && super::heap::lengthen(address, len, new)
    }

    /// Hypercalls made so far, by number; those made at least once.
    pub(super) fn counted_calls(&self) -> impl Iterator<Item = (Hypercall, u32)> {
        (0..).zip(&self.calls).filter_map(|(number, count)| {
            let count = count.load(Ordering::Relaxed);
            (count > 0).then_some((Hypercall(number), count))
        })
    }

    /// Bytes written to guest memory, copies and decompressed bytes alike.
    pub(super) fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Bytes filled.
    pub(super) fn bytes_zeroed(&self) -> u64 {
        self.zeroed.load(Ordering::Relaxed)
    }

    /// Counts bytes that were written through a lent slice.
    pub(super) fn add_written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    fn check(&self, at: u64, len: u64) -> Result<*mut u8, Fault> {
        let fault = |why| Fault {
            address: at,
            len,
            why,
        };
        let end = at.checked_add(len).ok_or_else(|| fault("wraps around"))?;
        if self.owned.hit(at, end) {
            return Err(fault("belongs to Kexen itself"));
        }
        if self.lent.hit(at, end) {
            return Err(fault("is lent out"));
        }
        let address = usize::try_from(at).map_err(|_| fault("is no address"))?;
        Ok(core::ptr::with_exposed_provenance_mut(address))
    }
}

/// An access that is under way; a loan waits for its end.
struct Access<'a> {
    xen: &'a Xen,
    at: *mut u8,
}

impl Drop for Access<'_> {
    fn drop(&mut self) {
        self.xen.accesses.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Xen {
    /// Begins an access: counted before it is checked, so that a loan that
    /// is made meanwhile is seen by one or the other.
    fn access(&self, at: u64, len: u64) -> Result<Access<'_>, Fault> {
        self.accesses.fetch_add(1, Ordering::SeqCst);
        let mut access = Access {
            xen: self,
            at: core::ptr::null_mut(),
        };
        access.at = self.check(at, len)?;
        Ok(access)
    }
}

/// Ticks that a loan waits for accesses of other vCPUs.
const PATIENCE: u64 = 20_000_000_000;

/// First and one past the last address of what Rust owns of the image.
fn image() -> (u64, u64) {
    let address = |symbol: *const u8| u64::try_from(symbol.addr()).unwrap_or(0);
    (
        address(&raw const kexen_image_start),
        address(&raw const kexen_owned_end),
    )
}

/// First and one past the last physical address of the whole image, its
/// page tables too, in a PVH guest.
#[must_use]
pub fn physical_image() -> (u64, u64) {
    let address = |symbol: *const u8| {
        let address = u64::try_from(symbol.addr()).unwrap_or(0);
        address.wrapping_sub(image_offset())
    };
    (
        address(&raw const kexen_image_start),
        address(&raw const kexen_image_end),
    )
}

/// Physical address of the page directory that a PVH guest starts on.
#[must_use]
pub fn boot_l4() -> u64 {
    let address = (&raw const kexen_boot_l4).addr();
    u64::try_from(address)
        .unwrap_or(0)
        .wrapping_sub(image_offset())
}

/// What a large page of the image's mapping begins at a multiple of.
pub(crate) const IMAGE_ALIGN: u64 = 2 << 20;

/// Moves the image of a PVH guest, with its stack and its tables, to another
/// physical address; the virtual ones stay. Only while one vCPU runs.
///
/// Order of steps: all of it is copied, by its one-to-one mapping; the tables of
/// the copy, which say where tables and image are, are made to say the new
/// place; the processor is given them. Whether that was done: not where the
/// place is not aligned, reaches beyond 4 GiB, or overlaps memory that is
/// Rust's.
pub(crate) fn move_image(to: u64) -> bool {
    let (from, from_end) = physical_image();
    let len = from_end - from;
    let Some(end) = to.checked_add(len).filter(|end| *end <= 1 << 32) else {
        return false;
    };
    let free = !XEN.owned.hit(to, end) && !XEN.lent.hit(to, end);
    // Tables are no Rust's, but the image all the same.
    let apart = end <= from || from_end <= to;
    if XEN.is_pv() || !to.is_multiple_of(IMAGE_ALIGN) || !free || !apart {
        return false;
    }
    let (owned, owned_end) = image();
    let old = image_offset();
    let copy_of = |table: *const u8| u64::try_from(table.addr()).unwrap_or(0) - IMAGE + to;
    // SAFETY: nothing but this instruction writes memory between the copy and
    // the new tables: the copy is what memory is then, at the same addresses.
    // All that it writes is the new place (checked).
    unsafe {
        asm!(
            "rep movsq",
            "add [{image_l3} + 511 * 8], {by}",
            "add [{l4}], {by}",
            "add [{l4} + 511 * 8], {by}",
            "2: add [{l3} + 8 * {n} - 8], {by}",
            "dec {n}",
            "jnz 2b",
            "mov {n:e}, 16",
            "3: add [{l2} + 8 * {n} - 8], {by}",
            "dec {n}",
            "jnz 3b",
            "mov cr3, {l4}",
            inout("rcx") len / 8 => _, inout("rsi") from => _, inout("rdi") to => _,
            by = in(reg) to.wrapping_sub(from),
            l4 = in(reg) copy_of(&raw const kexen_boot_l4),
            l3 = in(reg) copy_of(&raw const kexen_boot_l3),
            image_l3 = in(reg) copy_of(&raw const kexen_image_l3),
            l2 = in(reg) copy_of(&raw const kexen_image_l2),
            n = inout(reg) 4_u64 => _,
            options(nostack)
        );
    }
    IMAGE_AT.store(to, Ordering::Relaxed);
    XEN.owned.remove(owned - old, owned_end - old);
    XEN.owned
        .add(owned - image_offset(), owned_end - image_offset());
    // The old place is not the table's any more, either.
    let mut pointer = [0_u8; 10];
    let (limit, base) = pointer.split_at_mut(2);
    limit.copy_from_slice(&23_u16.to_le_bytes());
    base.copy_from_slice(&(&raw const kexen_gdt).addr().to_le_bytes());
    // SAFETY: the same three descriptors, by the image's own address, which is
    // mapped as long as this kernel runs.
    unsafe { asm!("lgdt [{}]", in(reg) &raw const pointer, options(readonly, nostack)) };
    true
}

/// A page of guest memory for what a hypercall reads or writes by address.
#[must_use]
pub fn scratch() -> u64 {
    u64::try_from((&raw const kexen_scratch).addr()).unwrap_or(0)
}

/// A copy of the page that Xen filled with hypercall stubs (PV).
pub fn copy_of_hypercall_page(into: &mut [u8; 4096]) {
    let from = &raw const hypercall_page;
    // SAFETY: 4096 bytes of the image are reserved at that symbol; Xen wrote
    // them, behind the compiler's back, before the first instruction ran.
    unsafe {
        asm!("rep movsb", inout("rcx") 4096 => _, inout("rsi") from => _,
            inout("rdi") into.as_mut_ptr() => _, options(nostack, preserves_flags))
    };
}

/// Writes a byte to the port that Xen logs for an HVM or PVH guest.
pub fn debug_port(byte: u8) {
    // SAFETY: port 0xe9 is Xen's debug port; it only logs.
    unsafe { asm!("out 0xe9, al", in("al") byte, options(nomem, nostack, preserves_flags)) };
}

/// Stops this vCPU for good, where Xen is not there to be asked.
pub fn halt() -> ! {
    loop {
        // SAFETY: no interrupt is enabled; the CPU stays here.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}

/// One entry of `HYPERVISOR_multicall` (`public/xen.h`).
#[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
struct MulticallEntry {
    op: u64,
    result: u64,
    args: [u64; 6],
}

/// More calls than this in one go are made one by one.
const MULTICALL_MAX: usize = 8;

/// The arguments as Xen takes them: numbers and addresses.
fn raw<const N: usize>(args: &mut [Arg<'_>]) -> [u64; N] {
    let mut raw = [0_u64; N];
    for (slot, arg) in raw.iter_mut().zip(args) {
        let pointer = |p: *const u8| u64::try_from(p.expose_provenance()).unwrap_or(0);
        *slot = match arg {
            Arg::Value(value) => *value,
            Arg::In(bytes) => pointer(bytes.as_ptr()),
            Arg::InOut(bytes) => pointer(bytes.as_mut_ptr()),
        };
    }
    raw
}

impl Machine for Xen {
    fn hypercall(&self, call: Hypercall, args: &mut [Arg<'_>]) -> i64 {
        if let Some(count) = usize::try_from(call.0).ok().and_then(|n| self.calls.get(n)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let [mut a, mut b, mut c, mut d, mut e] = raw(args);
        let mut result = u64::from(call.0);
        macro_rules! trap {
            ($instruction:literal) => {
                // SAFETY: Xen reads and writes only what the arguments point
                // to: structures that `Arg` borrows for the call, or guest
                // memory. All registers that it may change are named.
                unsafe {
                    asm!($instruction,
                        inout("rax") result, inout("rdi") a, inout("rsi") b, inout("rdx") c,
                        inout("r10") d, inout("r8") e, out("rcx") _, out("r11") _)
                }
            };
        }
        match self.kind.load(Ordering::Relaxed) {
            KIND_PV => trap!("syscall"),
            KIND_AMD => trap!("vmmcall"),
            _ => trap!("vmcall"),
        }
        let _ = (a, b, c, d, e);
        result.cast_signed()
    }

    fn multicall(&self, calls: &mut [MultiCall<'_, '_>]) {
        let mut entries = [MulticallEntry::new_zeroed(); MULTICALL_MAX];
        let Some(entries) = entries.get_mut(..calls.len()) else {
            for one in calls {
                one.result = self.hypercall(one.call, one.args);
            }
            return;
        };
        for (entry, one) in entries.iter_mut().zip(&mut *calls) {
            entry.op = u64::from(one.call.0);
            entry.args = raw(one.args);
        }
        let count = u64::try_from(entries.len()).unwrap_or(0);
        let mut args = [Arg::InOut(entries.as_mut_bytes()), Arg::Value(count)];
        let result = self.hypercall(Hypercall::MULTICALL, &mut args);
        for (entry, one) in entries.iter().zip(calls) {
            // A multicall that failed as a whole has carried nothing out.
            let own = entry.result.cast_signed();
            one.result = if result < 0 { result } else { own };
        }
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        let len = u64::try_from(into.len()).unwrap_or(u64::MAX);
        let access = self.access(at, len)?;
        let from = access.at;
        // SAFETY: the source is guest memory (checked), the destination a
        // slice of that length; the copy is one instruction, so that a
        // writer on the other side is no data race of Rust's.
        unsafe {
            asm!("rep movsb", inout("rcx") into.len() => _, inout("rsi") from => _,
                inout("rdi") into.as_mut_ptr() => _, options(nostack, preserves_flags))
        };
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<(), Fault> {
        let len = u64::try_from(from.len()).unwrap_or(u64::MAX);
        let access = self.access(at, len)?;
        let to = access.at;
        self.written.fetch_add(len, Ordering::Relaxed);
        // SAFETY: as in `read`, the other way round.
        unsafe {
            asm!("rep movsb", inout("rcx") from.len() => _, inout("rsi") from.as_ptr() => _,
                inout("rdi") to => _, options(nostack, preserves_flags))
        };
        Ok(())
    }

    fn fill(&self, at: u64, len: u64, byte: u8) -> Result<(), Fault> {
        let access = self.access(at, len)?;
        let to = access.at;
        self.zeroed.fetch_add(len, Ordering::Relaxed);
        // SAFETY: `len` bytes from `to` are guest memory (checked).
        unsafe {
            asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte,
                options(nostack, preserves_flags))
        };
        Ok(())
    }

    fn lend(&self, at: u64, len: u64, to: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        let fault = |why| Fault {
            address: at,
            len,
            why,
        };
        let size = usize::try_from(len).map_err(|_| fault("is too long"))?;
        let start = {
            let _one_at_a_time = self.lending.lock();
            let start = self.check(at, len)?;
            if !self.lent.add(at, at + len) {
                return Err(fault("is one loan too many"));
            }
            start
        };
        let since = self.tsc();
        while self.accesses.load(Ordering::SeqCst) != 0 {
            if self.tsc().wrapping_sub(since) > PATIENCE {
                self.lent.remove(at, at + len);
                return Err(fault("is not let go by another vCPU"));
            }
            super::vcpu::relax();
        }
        // SAFETY: guest memory that Rust owns nowhere else and that was not
        // lent before (both checked); entered as lent until the slice dies,
        // and no access that was checked before is still under way.
        let slice = unsafe { core::slice::from_raw_parts_mut(start, size) };
        to(slice);
        self.lent.remove(at, at + len);
        Ok(())
    }

    fn load32(&self, at: u64) -> Result<u32, Fault> {
        let access = self.access(at, 4)?;
        let word = access.at.cast::<u32>();
        // SAFETY: four bytes of guest memory (checked), aligned by contract.
        let word = unsafe { AtomicU32::from_ptr(word) };
        Ok(word.load(Ordering::Acquire))
    }

    fn store32(&self, at: u64, value: u32) -> Result<(), Fault> {
        let access = self.access(at, 4)?;
        let word = access.at.cast::<u32>();
        // SAFETY: four bytes of guest memory (checked), aligned by contract.
        let word = unsafe { AtomicU32::from_ptr(word) };
        word.store(value, Ordering::Release);
        Ok(())
    }

    fn exchange32(&self, at: u64, old: u32, new: u32) -> Result<u32, Fault> {
        let access = self.access(at, 4)?;
        let word = access.at.cast::<u32>();
        // SAFETY: four bytes of guest memory (checked), aligned by contract.
        let word = unsafe { AtomicU32::from_ptr(word) };
        let result = word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
        Ok(match result {
            Ok(was) | Err(was) => was,
        })
    }

    #[cfg(feature = "omission")]
    fn omits(&self, defence: Defence) -> bool {
        OMITTED.load(Ordering::Relaxed) & bit(defence) != 0
    }

    fn tsc(&self) -> u64 {
        super::vcpu::tsc()
    }

    fn invalidate(&self, at: u64) {
        if self.is_pv() {
            return;
        }
        // SAFETY: drops one translation; the tables say what is true.
        unsafe { asm!("invlpg [{0}]", in(reg) at, options(nostack, preserves_flags)) };
    }
}
