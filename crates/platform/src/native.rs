//! What this platform needs of the machine beside hypercalls and guest memory:
//! the running image and its heap, vCPUs, I/O ports, and the jump.
//!
//! The real one is `arch::Xen`. Everything else in this crate is generic over
//! it, so that a test on a host can bring a machine on the model of Xen.

use core::fmt::{self, Debug, Display};

use kexen_abi::hypercall::Hypercall;
use kexen_guest::{Fault, HypercallError, Machine};
use kexen_handoff::Released;

/// How the next kernel is entered: which trampoline goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A PV kernel, on page tables of its own.
    Pv,
    /// A PVH kernel, in 32-bit mode with paging off.
    Pvh,
    /// Linux's own 64-bit boot protocol.
    Linux,
}

/// The function that a further vCPU runs.
pub type VcpuMain<M> = fn(&'static M, u32) -> !;

/// I/O ports of 32 bits, which a device model answers in an HVM guest.
pub trait Ports: Debug {
    /// Reads a port.
    fn port_in(&self, port: u16) -> u32;

    /// Writes a port.
    fn port_out(&self, port: u16, value: u32);
}

/// The machine that a kernel runs on.
pub trait Native: Machine + Ports + Sized + 'static {
    /// What an address that the image is moved to is a multiple of, in bytes.
    const IMAGE_ALIGN: u64;

    /// Whether this is a PV guest.
    fn is_pv(&self) -> bool;

    /// Address of a page for what hypercalls read or write by address.
    fn scratch(&self) -> u64;

    /// Physical addresses of the running image in a translated guest: its first
    /// byte, and the one behind its last.
    fn image(&self) -> (u64, u64);

    /// Virtual minus physical address of the image in a translated guest.
    fn image_offset(&self) -> u64;

    /// Physical address of the L4 that a translated guest runs on.
    fn root_table(&self) -> u64;

    /// Moves the image of a translated guest to another physical address, while
    /// one vCPU runs; whether that was done.
    fn move_image(&self, to: u64) -> bool;

    /// Gives mapped guest pages to the heap; whether there was room for one more
    /// piece. They are refused to [`Machine`] from then on.
    fn give_to_heap(&self, address: u64, len: u64) -> bool;

    /// Takes the end of such a piece back, as far as it is not in use, but for
    /// `spare` bytes: how many bytes are left of `len`.
    fn cut_heap(&self, address: u64, len: u64, spare: u64) -> u64;

    /// Gives what was cut off to the heap again, `new` bytes in all; whether that
    /// was done.
    fn lengthen_heap(&self, address: u64, len: u64, new: u64) -> bool;

    /// Bytes of heap that can still be had, not all in one piece.
    fn heap_free() -> u64;

    /// Copies the page that Xen filled with hypercall stubs (PV).
    fn hypercall_stubs(&self, into: &mut [u8; 4096]);

    /// The code of a trampoline.
    fn trampoline(&self, entry: Entry) -> &'static [u8];

    /// Jumps to the trampoline of a hand-off of which nothing else is left.
    fn jump(&self, released: Released) -> !;

    /// Writes a byte to the port that Xen logs for a translated guest.
    fn debug_port(&self, byte: u8);

    /// Starts a further vCPU in `main` and waits until it is there: in a PV guest
    /// on the page tables with this L4 frame.
    ///
    /// # Errors
    /// Why it does not run.
    fn start_vcpu(
        &'static self,
        number: u32,
        root: Option<u64>,
        main: VcpuMain<Self>,
    ) -> Result<(), VcpuError>;

    /// Has all other vCPUs come to their checkpoints.
    ///
    /// # Errors
    /// The one that does not in time; all are let on then.
    fn park_vcpus(&self) -> Result<(), VcpuError>;

    /// Lets parked vCPUs on.
    fn unpark_vcpus(&self);

    /// Makes a parked vCPU as new; whether that was done.
    fn init_vcpu(&self, number: u32) -> bool;

    /// Hypercalls made so far, by number; those made at least once.
    fn calls(&self) -> impl Iterator<Item = (Hypercall, u32)>;

    /// Bytes written to guest memory so far, copies and decompressed bytes alike.
    fn written(&self) -> u64;

    /// Bytes filled so far.
    fn zeroed(&self) -> u64;

    /// Counts bytes that were written through a lent slice.
    fn count_written(&self, bytes: u64);
}

/// Why a vCPU does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuError {
    /// Xen refused a call.
    Hypercall(HypercallError),
    /// The local APIC could not be reached.
    Fault(Fault),
    /// There is no slot for this one, or it was started before.
    Taken(u32),
    /// It did not come up in time.
    Silent(u32),
    /// It did not come to its checkpoint in time.
    Unparked(u32),
}

impl From<Fault> for VcpuError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<HypercallError> for VcpuError {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}

impl Display for VcpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hypercall(error) => Display::fmt(error, f),
            Self::Fault(fault) => Display::fmt(fault, f),
            Self::Taken(n) => write!(
                f,
                "vCPU {n} was started before, or is beyond those that are started"
            ),
            Self::Silent(n) => write!(f, "vCPU {n} did not come up"),
            Self::Unparked(n) => write!(
                f,
                "vCPU {n} runs and does not come to its checkpoint; \
                 have it call vcpus::checkpoint"
            ),
        }
    }
}
