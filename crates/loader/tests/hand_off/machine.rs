//! The model's vCPU as the machine of a running kernel: with an image, a console
//! that domain 0 reads, and a jump that the test gets back.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::Mutex;

use kexen_abi::PAGE_SIZE;
use kexen_abi::console::{OUT, OUT_BYTES, OUT_CONS, OUT_PROD};
use kexen_abi::hypercall::Hypercall;
use kexen_abi::sched::SCHEDOP_SHUTDOWN;
use kexen_guest::{Arg, Defence, Fault, Machine};
use kexen_handoff::Released;
use kexen_model::dom0::{BlockBackend, Xenstored};
use kexen_model::{Guest, Vcpu};
use kexen_platform::native::{Entry, Native, Ports, VcpuError, VcpuMain};

/// Nanoseconds that domain 0 has the processor for.
const MOMENT: u64 = 5_000_000;

/// What a jump leaves with: the trampoline's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Jumped(u64);

/// Runs a kernel up to its jump; where the trampoline is.
pub(crate) fn jumped(m: &OnModel, run: impl FnOnce()) -> u64 {
    let left = catch_unwind(AssertUnwindSafe(run)).expect_err("a kernel does not come back");
    match left.downcast::<Jumped>() {
        Ok(jumped) => jumped.0,
        Err(other) => {
            eprintln!("{}", m.said());
            resume_unwind(other)
        }
    }
}

/// Where the running kernel's own things are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    /// Physical addresses of the image.
    pub(crate) image: (u64, u64),
    /// Physical address of its L4.
    pub(crate) root: u64,
    /// Address of its scratch page.
    pub(crate) scratch: u64,
    /// Address of the console's ring.
    pub(crate) console: u64,
}

/// A kernel's machine on the model.
#[derive(Debug)]
pub(crate) struct OnModel {
    pub(crate) vcpu: Vcpu,
    pub(crate) own: Own,
    pv: bool,
    said: Mutex<String>,
    peers: Mutex<Option<Peers>>,
}

/// What runs in domain 0 for the guest.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) guest: Guest,
    pub(crate) store: Xenstored,
    pub(crate) disk: BlockBackend,
}

impl OnModel {
    /// For as long as the test runs.
    pub(crate) fn new(vcpu: Vcpu, own: Own, pv: bool) -> &'static Self {
        Box::leak(Box::new(Self {
            vcpu,
            own,
            pv,
            said: Mutex::default(),
            peers: Mutex::default(),
        }))
    }

    /// What was written to the console so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Has a store and a disk.
    pub(crate) fn with_peers(&self, peers: Peers) {
        *self.peers.lock().unwrap() = Some(peers);
    }

    /// Domain 0 has the processor for a moment.
    fn turn(&self) {
        if let Some(Peers { guest, store, disk }) = &mut *self.peers.lock().unwrap() {
            disk.turn(store);
            store.turn();
            guest.time_passes(MOMENT);
            guest.xen_tells_time(0);
        }
    }

    /// Domain 0 reads the console.
    fn read_console(&self) {
        let ring = self.own.console;
        let word = |at| self.vcpu.load32(ring + at).unwrap();
        let (mut at, end) = (word(OUT_CONS), word(OUT_PROD));
        let mut text = Vec::new();
        while at != end {
            let mut byte = [0];
            let from = ring + OUT + u64::from(at % OUT_BYTES);
            self.vcpu.read(from, &mut byte).unwrap();
            text.extend(byte);
            at = at.wrapping_add(1);
        }
        self.vcpu.store32(ring + OUT_CONS, end).unwrap();
        self.said
            .lock()
            .unwrap()
            .push_str(&String::from_utf8_lossy(&text));
    }
}

impl Machine for OnModel {
    fn hypercall(&self, call: Hypercall, args: &mut [Arg<'_>]) -> i64 {
        let result = self.vcpu.hypercall(call, args);
        if call == Hypercall::EVENT_CHANNEL_OP || call == Hypercall::SCHED_OP {
            self.read_console();
        }
        if call == Hypercall::SCHED_OP && matches!(args, [Arg::Value(SCHEDOP_SHUTDOWN), ..]) {
            panic!("the guest ends");
        }
        if call == Hypercall::SCHED_OP {
            self.turn();
        }
        result
    }
    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.vcpu.read(at, into)
    }
    fn write(&self, at: u64, from: &[u8]) -> Result<(), Fault> {
        self.vcpu.write(at, from)
    }
    fn fill(&self, at: u64, len: u64, byte: u8) -> Result<(), Fault> {
        self.vcpu.fill(at, len, byte)
    }
    fn lend(&self, at: u64, len: u64, to: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        self.vcpu.lend(at, len, to)
    }
    fn load32(&self, at: u64) -> Result<u32, Fault> {
        self.vcpu.load32(at)
    }
    fn store32(&self, at: u64, value: u32) -> Result<(), Fault> {
        self.vcpu.store32(at, value)
    }
    fn exchange32(&self, at: u64, old: u32, new: u32) -> Result<u32, Fault> {
        self.vcpu.exchange32(at, old, new)
    }
    fn invalidate(&self, at: u64) {
        self.vcpu.invalidate(at);
    }
    fn omits(&self, defence: Defence) -> bool {
        self.vcpu.omits(defence)
    }
}

impl Ports for OnModel {
    fn port_in(&self, _: u16) -> u32 {
        u32::MAX
    }
    fn port_out(&self, _: u16, _: u32) {}
}

impl Native for OnModel {
    const IMAGE_ALIGN: u64 = 512 * PAGE_SIZE;

    fn is_pv(&self) -> bool {
        self.pv
    }
    fn scratch(&self) -> u64 {
        self.own.scratch
    }
    fn image(&self) -> (u64, u64) {
        self.own.image
    }
    fn image_offset(&self) -> u64 {
        0
    }
    fn root_table(&self) -> u64 {
        self.own.root
    }
    fn move_image(&self, _: u64) -> bool {
        false
    }
    // The heap is the test's own.
    fn give_to_heap(&self, _: u64, _: u64) -> bool {
        true
    }
    fn cut_heap(&self, _: u64, len: u64, spare: u64) -> u64 {
        len.min(spare)
    }
    fn lengthen_heap(&self, _: u64, _: u64, _: u64) -> bool {
        true
    }
    fn heap_free() -> u64 {
        1 << 30
    }
    fn hypercall_stubs(&self, into: &mut [u8; 4096]) {
        into.fill(0x90);
    }
    fn trampoline(&self, entry: Entry) -> &'static [u8] {
        match entry {
            Entry::Pv => b"pv",
            Entry::Pvh => b"pvh",
            Entry::Linux => b"linux",
        }
    }
    fn jump(&self, released: Released) -> ! {
        released.jump(|trampoline| panic_any(Jumped(trampoline)))
    }
    fn debug_port(&self, _: u8) {}
    fn start_vcpu(
        &'static self,
        number: u32,
        _: Option<u64>,
        _: VcpuMain<Self>,
    ) -> Result<(), VcpuError> {
        Err(VcpuError::Silent(number))
    }
    fn park_vcpus(&self) -> Result<(), VcpuError> {
        Ok(())
    }
    fn unpark_vcpus(&self) {}
    fn init_vcpu(&self, _: u32) -> bool {
        false
    }
    fn calls(&self) -> impl Iterator<Item = (Hypercall, u32)> {
        core::iter::empty()
    }
    fn written(&self) -> u64 {
        0
    }
    fn zeroed(&self) -> u64 {
        0
    }
    fn count_written(&self, _: u64) {}
}
