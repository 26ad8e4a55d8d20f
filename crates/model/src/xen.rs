//! The model from outside: a machine, its guests, their vCPUs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kexen_abi::hypercall::Hypercall;
use kexen_guest::{Arg, Defence, Fault, Machine};

use crate::frame::DomId;
use crate::layout::TypeLayout;
use crate::state::{PageFault, State, Version, Who};

/// What kind of machine and Xen to model.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The release whose rules hold where releases differ.
    pub version: Version,
    /// How type words are printed in Xen's messages.
    pub layout: TypeLayout,
    /// Frames of the machine.
    pub frames: u64,
    /// Whether Xen has Kexen's extension: revocation of grants.
    pub revocation: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: Version::default(),
            layout: TypeLayout::default(),
            frames: 1 << 14,
            revocation: false,
        }
    }
}

type Hook = Arc<dyn Fn() + Send + Sync>;

/// A machine that runs Xen. Clones are the same machine.
#[derive(Clone)]
pub struct Xen {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl fmt::Debug for Xen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Xen")
    }
}

impl Default for Xen {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Xen {
    /// A machine with no domain on it.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let state = State::new(
            config.version,
            config.layout,
            config.frames,
            config.revocation,
        );
        Self {
            state: Arc::new(Mutex::new(state)),
            hook: Arc::default(),
        }
    }

    /// Has `hook` called before each step of any vCPU and of the outside
    /// world: where a schedule may switch (see [`crate::explore`]).
    pub fn before_each_step(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// A point between two steps.
    pub(crate) fn step(&self) {
        let hook = self
            .hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(hook) = hook {
            hook();
        }
    }

    /// The state, for one step.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a debug build of Xen would have printed since it was last asked.
    #[must_use]
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    /// Leaves a defence of guests' code out, to see what it prevents.
    pub fn omit(&self, defence: Defence) {
        self.state().omitted.insert(defence);
    }

    /// Hypercalls of one number carried out so far.
    #[must_use]
    pub fn calls(&self, call: Hypercall) -> u64 {
        self.state().calls.get(&call.0).copied().unwrap_or(0)
    }
}

/// One domain of a machine.
#[derive(Clone, Debug)]
pub struct Guest {
    xen: Xen,
    id: DomId,
    index: usize,
}

impl Guest {
    pub(crate) const fn new(xen: Xen, id: DomId, index: usize) -> Self {
        Self { xen, id, index }
    }

    /// The domain's number.
    #[must_use]
    pub const fn id(&self) -> DomId {
        self.id
    }

    /// The machine.
    #[must_use]
    pub const fn xen(&self) -> &Xen {
        &self.xen
    }

    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    /// A vCPU, through which the guest's code acts.
    #[must_use]
    pub fn vcpu(&self, number: usize) -> Vcpu {
        Vcpu {
            xen: self.xen.clone(),
            who: Who {
                domain: self.index,
                vcpu: number,
            },
        }
    }
}

/// A vCPU: the [`Machine`] that guest code is given.
#[derive(Clone, Debug)]
pub struct Vcpu {
    xen: Xen,
    who: Who,
}

impl Vcpu {
    /// The last page fault that this vCPU took.
    #[must_use]
    pub fn last_fault(&self) -> Option<PageFault> {
        self.xen.state().vcpu(self.who).last_fault
    }

    pub(crate) const fn who(&self) -> Who {
        self.who
    }

    /// The machine.
    #[must_use]
    pub const fn xen(&self) -> &Xen {
        &self.xen
    }

    /// HVM, PVH: loads the page-table base (`cr3` with paging on), or turns
    /// paging off. The TLB is flushed.
    pub fn set_base(&self, gfn: Option<u64>) {
        self.xen.step();
        let mut state = self.xen.state();
        state.vcpu(self.who).base = gfn;
        state.flush_vcpu(self.who.domain, self.who.vcpu);
    }

    /// PV: loads a segment register with an entry of the LDT. Whether Xen
    /// let that stand.
    #[must_use]
    pub fn use_ldt(&self, entry: u64) -> bool {
        self.xen.step();
        self.xen.state().use_ldt(self.who, entry)
    }

    fn lent(state: &mut State, who: Who, at: u64, len: u64) -> bool {
        let end = at.saturating_add(len);
        let mut lent = state.domain(who).lent.iter();
        lent.any(|(start, size)| *start < end && at < start + size)
    }

    fn check(&self, state: &mut State, at: u64, len: usize) -> Result<(), Fault> {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        if Self::lent(state, self.who, at, len) {
            return Err(Fault {
                address: at,
                len,
                why: "is lent out",
            });
        }
        Ok(())
    }
}

/// A page fault as the guest layer's fault.
fn fault(fault: PageFault, len: usize) -> Fault {
    let why = match fault.error_code & 3 {
        0 => "page fault, error code 0: read of a page that is not mapped",
        1 => "page fault, error code 1: read that is not allowed",
        2 => "page fault, error code 2: write to a page that is not mapped",
        _ => "page fault, error code 3: write to a page that is read-only for this processor",
    };
    Fault {
        address: fault.address,
        len: u64::try_from(len).unwrap_or(u64::MAX),
        why,
    }
}

impl Machine for Vcpu {
    fn hypercall(&self, call: Hypercall, args: &mut [Arg<'_>]) -> i64 {
        self.xen.step();
        self.xen.state().hypercall(self.who, call, args)
    }

    fn omits(&self, defence: Defence) -> bool {
        self.xen.state().omitted.contains(&defence)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.xen.step();
        let mut state = self.xen.state();
        self.check(&mut state, at, into.len())?;
        let len = into.len();
        state.load(self.who, at, into).map_err(|f| fault(f, len))
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<(), Fault> {
        self.xen.step();
        let mut state = self.xen.state();
        self.check(&mut state, at, from.len())?;
        state
            .store(self.who, at, from)
            .map_err(|f| fault(f, from.len()))
    }

    fn fill(&self, at: u64, len: u64, byte: u8) -> Result<(), Fault> {
        let page = [byte; 4096];
        let mut done = 0;
        while done < len {
            let start = at + done;
            let part = (len - done).min(0x1000 - (start & 0xfff));
            self.write(start, &page[..usize::try_from(part).unwrap_or(0)])?;
            done += part;
        }
        Ok(())
    }

    fn lend(&self, at: u64, len: u64, to: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        let too_long = Fault {
            address: at,
            len,
            why: "is too long",
        };
        let size = usize::try_from(len).map_err(|_| too_long)?;
        let mut bytes = vec![0; size];
        self.read(at, &mut bytes)?;
        self.xen.state().domain(self.who).lent.push((at, len));
        to(&mut bytes);
        self.xen
            .state()
            .domain(self.who)
            .lent
            .retain(|loan| *loan != (at, len));
        self.write(at, &bytes)
    }

    fn load32(&self, at: u64) -> Result<u32, Fault> {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn store32(&self, at: u64, value: u32) -> Result<(), Fault> {
        self.write(at, &value.to_le_bytes())
    }

    fn exchange32(&self, at: u64, old: u32, new: u32) -> Result<u32, Fault> {
        self.xen.step();
        let mut state = self.xen.state();
        self.check(&mut state, at, 4)?;
        let mut bytes = [0; 4];
        state
            .load(self.who, at, &mut bytes)
            .map_err(|f| fault(f, 4))?;
        let was = u32::from_le_bytes(bytes);
        if was == old {
            let store = state.store(self.who, at, &new.to_le_bytes());
            store.map_err(|f| fault(f, 4))?;
        }
        Ok(was)
    }

    fn invalidate(&self, at: u64) {
        self.xen.step();
        let mut state = self.xen.state();
        if state.domain(self.who).kind.translated() {
            state
                .vcpu(self.who)
                .tlb
                .remove(&(at >> kexen_abi::PAGE_SHIFT));
        }
    }
}
