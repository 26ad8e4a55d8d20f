//! From a device in the store to one that answers requests; several of them
//! side by side.
//!
//! Each device goes as far as it can without its backend; then all backends are
//! waited for together. Order of steps for each: see [`super`]. One that fails on
//! the way is closed in the same manner, while the others go on.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::task::Poll;

use kexen_abi::io::blkif::{
    BlkifRequest, EVENT_CHANNEL, MAX_RING_PAGE_ORDER, PROTOCOL, PROTOCOL_X86_64, RING_PAGE_ORDER,
    RING_REF,
};

use super::{Block, BlockError, Figures, Geometry, Granted, Memory, Problem, ring::FrontRing};
use crate::{
    Machine, events,
    references::{Access, References},
    xenbus::{self, Closed, Course, Device, Follow, SideBySide, Steps, XenbusState, alone},
    xenstore::{Session, StoreError, Why, if_present},
};

/// A device that could not be connected.
#[derive(Debug)]
pub struct NotConnected {
    /// Which.
    pub device: Device,
    /// Why.
    pub error: BlockError,
    /// Pages that the backend has not let go.
    pub held: Vec<Granted>,
    /// The port, if the backend could not be brought to close: it is open.
    pub port: Option<u32>,
}

/// What has become of a device.
type Outcome = Result<Block, Box<NotConnected>>;

/// The rank of a device whose backend has been told of the ring.
const TOLD: u32 = Steps::END;
const CONNECTED: &[XenbusState] = &[XenbusState::CONNECTED];

impl Block {
    /// Connects a device, in memory of the caller's. For several see
    /// [`Connecting`].
    ///
    /// # Errors
    /// Why not; all that could be undone is.
    pub fn connect<M: Machine + ?Sized>(
        s: &mut Session<'_, M>,
        references: &mut References,
        device: Device,
        memory: Memory<'_>,
    ) -> Result<Self, Box<NotConnected>> {
        alone(Handshake::new(device, memory), s, references)
    }
}

/// Devices that are connected side by side, in the time of one wait: a backend
/// that does not answer costs the others nothing.
///
/// No device may be among them twice. Each has one of the 32 watches of a
/// connection to the store while its backend is waited for.
#[derive(Debug)]
pub struct Connecting<'a>(SideBySide<Handshake<'a>>);

impl<'a> Connecting<'a> {
    /// These devices, each in memory of its own. Nothing is done yet.
    pub fn new(devices: impl IntoIterator<Item = (Device, Memory<'a>)>) -> Self {
        let handshake = |(device, memory)| Handshake::new(device, memory);
        Self(SideBySide::new(devices.into_iter().map(handshake)))
    }

    /// Has each device go as far as it can, and then waits once, for all of
    /// them; whether there are any left to wait for. At the end of the wait's
    /// time there are none. The wait is told when one has got further.
    pub fn step<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        references: &mut References,
    ) -> bool {
        self.0.step(s, references)
    }

    /// The devices whose backends are waited for.
    pub fn waits_for(&self) -> impl Iterator<Item = &Device> {
        self.0.underway().map(|one| &one.device)
    }

    /// Waits for those that are left: what has become of each device, in the
    /// order in which they were given. Of one that is not connected all that
    /// could be undone is.
    pub fn finish<M: Machine + ?Sized>(
        self,
        s: &mut Session<'_, M>,
        references: &mut References,
    ) -> Vec<Result<Block, Box<NotConnected>>> {
        self.0.finish(s, references)
    }
}

/// How far a device has come.
#[derive(Debug)]
enum Stage {
    /// It is brought back to its beginning.
    Reset(Steps),
    /// The backend may have been told of the ring.
    Told(FrontRing),
    /// Something has failed, and the device is closed again.
    Undo(Steps, Problem),
}

/// A device on its way, with what there is to be undone.
#[derive(Debug)]
struct Handshake<'a> {
    device: Device,
    memory: Memory<'a>,
    follow: Follow,
    stage: Stage,
    held: Vec<Granted>,
    port: Option<u32>,
}

impl<'a> Handshake<'a> {
    fn new(device: Device, memory: Memory<'a>) -> Self {
        Self {
            follow: Follow::new(&device),
            device,
            memory,
            stage: Stage::Reset(Steps::reset()),
            held: Vec::new(),
            port: None,
        }
    }

    /// The way to a device that is connected.
    fn advance<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        references: &mut References,
    ) -> Result<Poll<Block>, Problem> {
        if let Stage::Reset(steps) = &mut self.stage {
            match steps.poll(s, &self.device, &mut self.follow)? {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Closed::Gone) => {
                    return Err(Problem::Xenbus(xenbus::Problem::Removed));
                }
                Poll::Ready(Closed::Ready) => self.tell(s, references)?,
            }
        }
        let device = &self.device;
        if self.follow.poll(s, device)?.is_pending() {
            return Ok(Poll::Pending);
        }
        self.follow.end(s, device)?;
        let geometry = Geometry::read(s, device)?;
        device.switch_state(s, XenbusState::CONNECTED, &[])?;
        if self.held.len() > 1 {
            forget_order(s, device)?;
        }
        let Stage::Told(ring) = &self.stage else {
            return Err(Problem::NotConnected);
        };
        let entries = usize::try_from(ring.entries()).unwrap_or(0);
        Ok(Poll::Ready(Block {
            device: device.clone(),
            geometry,
            ring: ring.clone(),
            port: self.port,
            connected: true,
            lied: false,
            silent: false,
            flights: core::iter::repeat_with(|| None).take(entries).collect(),
            serial: 0,
            figures: Figures::default(),
            lists: if geometry.indirect_segments > 0 {
                self.memory.lists.into()
            } else {
                Vec::new()
            },
            held: core::mem::take(&mut self.held),
        }))
    }

    /// Grants the ring, opens the port, and tells the backend, which waits for
    /// that.
    fn tell<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        references: &mut References,
    ) -> Result<(), Problem> {
        let m = s.machine();
        let entry = u64::try_from(size_of::<BlkifRequest>()).unwrap_or(u64::MAX);
        let pages = self.memory.ring;
        let order = ring_order(s, &self.device, pages.len())?;
        let pages = pages.get(..1 << order).unwrap_or_default();
        let ring = FrontRing::new(m, pages, entry)?;
        let backend = self.device.backend_id();
        for page in pages {
            let reference = references.grant(m, backend, page.frame, Access::Write)?;
            self.held.push(Granted {
                reference,
                page: *page,
            });
        }
        let port = events::alloc_unbound(m, backend)?;
        self.port = Some(port);
        self.stage = Stage::Told(ring);
        let mut told = ring_entries(order, &self.held);
        told.push((EVENT_CHANNEL.into(), format!("{port}")));
        told.push((PROTOCOL.into(), PROTOCOL_X86_64.into()));
        let told: Vec<(&str, &str)> = told.iter().map(|(k, v)| (&**k, &**v)).collect();
        self.device
            .switch_state(s, XenbusState::INITIALISED, &told)?;
        self.follow.expect(CONNECTED, false);
        Ok(())
    }

    /// Takes back what can be. The problem is the one that led here; what is
    /// left is in `held` and `port`.
    fn over<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        references: &mut References,
        problem: Problem,
        closed: bool,
    ) -> Box<NotConnected> {
        self.follow.end_without_waiting(s);
        super::close::end(s.machine(), references, &mut self.held);
        if closed {
            super::close::close_port(s.machine(), &mut self.port);
        }
        Box::new(NotConnected {
            device: self.device.clone(),
            error: BlockError::new(&self.device, problem),
            held: core::mem::take(&mut self.held),
            port: self.port,
        })
    }
}

impl Course for Handshake<'_> {
    type Context = References;
    type Outcome = Outcome;
    const END: u32 = TOLD + Steps::END + 1;

    fn poll<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        references: &mut References,
    ) -> Poll<Outcome> {
        loop {
            let (problem, closed) = if let Stage::Undo(steps, problem) = &mut self.stage {
                match steps.poll(s, &self.device, &mut self.follow) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    result => (problem.clone(), result.is_ok()),
                }
            } else {
                let told = |stage: &Stage| matches!(stage, Stage::Told(_));
                match self.advance(s, references) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(block)) => return Poll::Ready(Ok(block)),
                    Err(problem) if told(&self.stage) && !is_late(&problem) => {
                        self.stage = Stage::Undo(Steps::close(), problem);
                        continue;
                    }
                    Err(problem) => (problem, !told(&self.stage)),
                }
            };
            return Poll::Ready(Err(self.over(s, references, problem, closed)));
        }
    }

    fn rank(&self) -> u32 {
        match &self.stage {
            Stage::Reset(steps) => steps.rank(),
            Stage::Told(_) => TOLD,
            Stage::Undo(steps, _) => steps.rank().saturating_add(TOLD + 1),
        }
    }

    fn token(&self) -> &str {
        self.follow.token()
    }

    fn give_up<M: Machine + ?Sized>(
        &mut self,
        s: &mut Session<'_, M>,
        references: &mut References,
        error: StoreError,
    ) -> Outcome {
        let problem = match &self.stage {
            Stage::Undo(_, problem) => problem.clone(),
            _ => self.follow.failed(&self.device, error).into(),
        };
        let closed = matches!(self.stage, Stage::Reset(_));
        Err(self.over(s, references, problem, closed))
    }
}

/// Whether the time was over: the store is not asked any more then. Transactions
/// that it is not given time to end would count against the few that it has.
fn is_late(problem: &Problem) -> bool {
    match problem {
        Problem::Xenbus(xenbus::Problem::NotInTime { .. }) => true,
        Problem::Xenbus(xenbus::Problem::Store(error)) => error.why == Why::TimeOver,
        _ => false,
    }
}

/// log2 of the pages of the ring: what the backend offers and the caller gives.
fn ring_order<M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    device: &Device,
    pages: usize,
) -> Result<u32, Problem> {
    let path = format!("{}/{MAX_RING_PAGE_ORDER}", device.backend());
    let offered = if_present(s.read_number(&path));
    let offered: u32 = offered
        .map_err(|error| Problem::Xenbus(xenbus::Problem::Store(error)))?
        .unwrap_or(0);
    let given = pages.checked_ilog2().ok_or(Problem::Pages(pages))?;
    Ok(offered.min(given))
}

/// Takes the size of the ring out of the store; the backend has read it.
///
/// A kernel that comes after a crash brings the device back to its beginning
/// by the states alone. Linux then writes `ring-ref` and leaves a size that it
/// finds: the backend would map the dead kernel's ring, and answer nothing.
fn forget_order<M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    device: &Device,
) -> Result<(), Problem> {
    let removed = s.rm(&format!("{}/{RING_PAGE_ORDER}", device.frontend()));
    if_present(removed).map_err(|error| Problem::Xenbus(xenbus::Problem::Store(error)))?;
    Ok(())
}

/// What the backend is told of the ring.
fn ring_entries(order: u32, ring: &[Granted]) -> Vec<(String, String)> {
    if let (0, [only, ..]) = (order, ring) {
        return Vec::from([(RING_REF.into(), format!("{}", only.reference))]);
    }
    let entry = |(n, granted): (usize, &Granted)| {
        (format!("{RING_REF}{n}"), format!("{}", granted.reference))
    };
    let mut entries: Vec<_> = ring.iter().enumerate().map(entry).collect();
    entries.push((RING_PAGE_ORDER.into(), format!("{order}")));
    entries
}
