//! The one trait through which hypercalls and guest memory are reached.
//!
//! A guest address (`u64`) given to these methods lies in *guest memory*:
//! pages that Xen, a toolstack or the guest layer mapped, and that are not
//! the running program's own image, stack or heap. An implementation
//! refuses the latter, so that the trait is safe to call.

use kexen_abi::PAGE_SIZE;

/// One argument of a hypercall.
#[derive(Debug)]
pub enum Arg<'a> {
    /// A number.
    Value(u64),
    /// A structure that Xen reads.
    In(&'a [u8]),
    /// A structure that Xen reads and writes.
    InOut(&'a mut [u8]),
}

/// One of several hypercalls that are made in one go.
#[derive(Debug)]
pub struct MultiCall<'a, 'b> {
    /// Which call.
    pub call: kexen_abi::hypercall::Hypercall,
    /// Its arguments, at most six.
    pub args: &'a mut [Arg<'b>],
    /// What it returned.
    pub result: i64,
}

/// An access that guest memory does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first address of the access.
    pub address: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Why it was refused.
    pub why: &'static str,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "memory {:#x}, {} bytes: {}",
            self.address, self.len, self.why
        )
    }
}

/// A defence of the hand-off that a test can leave out, to see the failure that it
/// prevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Defence {
    /// New page tables are mapped read-only before Xen is shown them.
    ReadOnlyTables,
    /// The old L4 is unpinned.
    OldTables,
    /// The M2P is brought in step with the p2m list.
    M2p,
    /// A pool of tables is read-only before any page of it becomes one.
    ReadOnlyPool,
    /// What is left of a pool is writable before it is given back.
    WritableTail,
    /// Translations of pages that were read-only are flushed.
    Flush,
    /// Reading disks leaves memory for what is read.
    Room,
    /// Backends that came too late are told to let go.
    Late,
    /// What backends keep is entered in the ledger before they are forgotten.
    Kept,
    /// In a guest that is populated on demand, no more is touched than it has.
    OnDemand,
}

impl Defence {
    /// All of them, with their names in an option.
    pub const ALL: [(&'static str, Self); 10] = [
        ("writable-tables", Self::ReadOnlyTables),
        ("pinned-tables", Self::OldTables),
        ("m2p", Self::M2p),
        ("writable-pool", Self::ReadOnlyPool),
        ("read-only-tail", Self::WritableTail),
        ("flush", Self::Flush),
        ("room", Self::Room),
        ("late", Self::Late),
        ("kept", Self::Kept),
        ("on-demand", Self::OnDemand),
    ];
}

/// The hypervisor and guest memory, as one vCPU sees them.
pub trait Machine {
    /// Calls the hypervisor; returns what it returned, negative for an error.
    /// At most five arguments.
    fn hypercall(&self, call: kexen_abi::hypercall::Hypercall, args: &mut [Arg<'_>]) -> i64;

    /// Makes several hypercalls in order, each with its own result; in one
    /// trap where the machine can. A call that fails does not stop the rest.
    fn multicall(&self, calls: &mut [MultiCall<'_, '_>]) {
        for one in calls {
            one.result = self.hypercall(one.call, one.args);
        }
    }

    /// Copies guest memory out. The other side may write it meanwhile: the
    /// copy is what the caller then checks.
    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Fault>;

    /// Copies into guest memory.
    fn write(&self, at: u64, from: &[u8]) -> Result<(), Fault>;

    /// Fills guest memory with one byte.
    fn fill(&self, at: u64, len: u64, byte: u8) -> Result<(), Fault>;

    /// Copies guest memory, a page at a time; the two do not overlap, or the
    /// copy goes down.
    fn copy(&self, from: u64, to: u64, len: u64) -> Result<(), Fault> {
        let mut page = [0_u8; 4096];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(PAGE_SIZE);
            let part = &mut page[..usize::try_from(n).unwrap_or(0)];
            self.read(from + done, part)?;
            self.write(to + done, part)?;
            done += n;
        }
        Ok(())
    }

    /// Lends guest memory that nobody else writes as a slice. The same
    /// memory cannot be lent twice at a time.
    fn lend(&self, at: u64, len: u64, to: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault>;

    /// Reads a 32-bit word that another side may be writing (acquire).
    /// `at` is 4-byte aligned.
    fn load32(&self, at: u64) -> Result<u32, Fault>;

    /// Writes a 32-bit word that another side may be reading (release).
    /// `at` is 4-byte aligned.
    fn store32(&self, at: u64, value: u32) -> Result<(), Fault>;

    /// Writes a 32-bit word if it is still `old`; what it was (acquire and
    /// release). `at` is 4-byte aligned.
    fn exchange32(&self, at: u64, old: u32, new: u32) -> Result<u32, Fault>;

    /// Drops the translation of one address from this vCPU's TLB, where the
    /// guest may do that itself (PVH). Under PV it is a hypercall instead.
    fn invalidate(&self, at: u64);

    /// The processor's time stamp counter; always 0 on a machine without one.
    fn tsc(&self) -> u64 {
        0
    }

    /// Whether a defence is left out, which only a test's machine ever says.
    fn omits(&self, defence: Defence) -> bool {
        let _ = defence;
        false
    }

    /// Reads a 64-bit word.
    fn read64(&self, at: u64) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a 64-bit word.
    fn write64(&self, at: u64, value: u64) -> Result<(), Fault> {
        self.write(at, &value.to_le_bytes())
    }
}
