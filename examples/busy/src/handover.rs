//! How everything that the busy guest does stops for a hand-off.

use alloc::{format, string::String, vec::Vec};

use kexen_abi::{grant_table::GTF_WRITING, shared_info::VCPU_TIME, vcpu::VcpuTimeInfo};
use kexen_guest::{
    Extents, Machine, clock, events, grants::Grants, hypercall::sched_yield, shared_info::Leave,
};
use kexen_handoff::{
    Ledger,
    ledger::{Claim, Holder, Kind},
};
use kexen_platform::{
    Xen,
    exec::{Swing, Times},
    native::Native as _,
    report::Report,
    vcpus,
};

use crate::{
    disks::Disks,
    field::Field,
    hold::{self, Held},
    leftovers::{self, Marked},
    options::Options,
    text,
};

/// The words of the next stage's command line that are known last: their
/// room.
const LAST_WORDS: usize = "busy.marker=".len() + 27 + " busy.times=".len() + 5 * 18 - 1;

/// The busy guest, as the hand-off sees it.
#[derive(Debug)]
pub(crate) struct Busy {
    m: &'static Xen,
    options: Options,
    held: Held,
    report: Report,
    /// What is left in free memory for the next stage to check.
    marked: Marked,
    /// Where the times go in the next stage's command line.
    times_at: Option<u64>,
}

impl Busy {
    /// Takes all claims that are asked for.
    pub(crate) fn new<G: Field>(
        guest: &mut G,
        report: &Report,
        options: &Options,
    ) -> Result<Self, String> {
        Ok(Self {
            m: guest.machine(),
            options: options.clone(),
            held: hold::all(guest, options)?,
            report: *report,
            marked: Marked { pages: 0, sum: 0 },
            times_at: None,
        })
    }

    /// vCPUs that work.
    pub(crate) const fn vcpus(&self) -> u32 {
        self.held.vcpus
    }

    /// Moves shared info and back, while all vCPUs read the clock.
    pub(crate) fn move_there_and_back(&self) -> Result<(), String> {
        let m = self.m;
        let relax = || sched_yield(m).is_ok();
        let place = self.held.place;
        let leave = if self.held.in_ram {
            Leave::Ram(m.scratch())
        } else {
            Leave::Nothing
        };
        let (other, careless) = (self.held.other, self.options.omits("move"));
        let go = |to, leave| {
            if careless {
                // As if no other vCPU read it: for the omission test alone.
                place.move_now(m, to, leave)
            } else {
                place.move_to(m, to, leave, &relax)
            }
        };
        let home = go(other, leave).map_err(text)?;
        go(home, Leave::Nothing).map_err(text)?;
        Ok(())
    }

    /// The phases of the hand-off that led here, in nanoseconds: to stage, to
    /// quiesce, to release, to jump, and from the last instruction there to
    /// the first here.
    pub(crate) fn phases(&self, times: &str, entered: u64) -> Result<String, String> {
        let m = self.m;
        let relax = || sched_yield(m).is_ok();
        let look = |at| clock::time_info(m, at + VCPU_TIME);
        let info = self.held.place.read(m, 0, &relax, look);
        let info = info.map_err(text)?.map_err(text)?;
        let scale = VcpuTimeInfo {
            tsc_timestamp: 0,
            system_time: 0,
            ..info
        };
        let mut ends: Vec<u64> = times.split(',').map_while(|n| n.parse().ok()).collect();
        ends.push(entered);
        let names = ["stage", "quiesce", "release", "jump", "entry"];
        let phases = names.iter().zip(ends.windows(2)).map(|(name, pair)| {
            let [from, to] = pair else {
                return String::new();
            };
            let ns = clock::nanoseconds(&scale, to.saturating_sub(*from));
            format!("{name}_ns={ns}")
        });
        Ok(phases.collect::<Vec<_>>().join(" "))
    }

    /// Waits until a backend has all granted pages mapped, for writing.
    pub(crate) fn wait_for_backend(&self, claims: &[Claim]) -> Result<(), String> {
        let m = self.m;
        let Some(references) = &self.held.references else {
            return Ok(());
        };
        let grants = references.borrow().grants();
        let mapped = |kind: Kind| match kind {
            Kind::Grant { reference, .. } => grants
                .flags(m, reference)
                .is_ok_and(|flags| flags & GTF_WRITING != 0),
            _ => true,
        };
        // A minute and more on any processor.
        let start = m.tsc();
        while m.tsc().wrapping_sub(start) < 200_000_000_000 {
            if claims.iter().all(|claim| mapped(claim.kind)) {
                return Ok(());
            }
            sched_yield(m).map_err(text)?;
        }
        Err(String::from("no backend has mapped the granted pages"))
    }

    /// The references that are granted: the first, and how many.
    pub(crate) fn granted(claims: &[Claim]) -> Option<(u32, usize)> {
        let to_dom0 = claims
            .iter()
            .filter(|claim| claim.holder == Holder::Domain(0));
        let references = to_dom0.filter_map(|claim| match claim.kind {
            Kind::Grant { reference, .. } => Some(reference),
            _ => None,
        });
        Some((references.clone().min()?, references.count()))
    }

    /// Reads all disks once more; how many there are.
    pub(crate) fn disks(&self) -> Result<Option<usize>, String> {
        self.held.disks.as_ref().map(Disks::work).transpose()
    }

    /// Has each device interrupt; the kinds, and how many events came.
    pub(crate) fn interrupts(&self) -> Result<Vec<(&'static str, u32)>, String> {
        let m = self.m;
        let relax = || sched_yield(m).is_ok();
        let mut all = Vec::new();
        for interrupt in &self.held.interrupts {
            let came = interrupt.events(m, |port| {
                let look = |at| events::take(m, at, port).unwrap_or(false);
                self.held.place.read(m, 0, &relax, look).unwrap_or(false)
            })?;
            all.push((interrupt.name(), came));
        }
        Ok(all)
    }

    /// Shared info leaves RAM, and RAM its memory back.
    fn leave_ram(&mut self, m: &'static Xen, ledger: &mut Ledger) -> Result<(), String> {
        let leave = Leave::Ram(m.scratch());
        let was = self.held.place.move_now(m, self.held.other, leave);
        let was = was.map_err(text)?;
        ledger.strike(Kind::SharedInfoInRam { gfn: was.into() });
        ledger.enter(Claim::of(
            Kind::SharedInfoPhysmap {
                gfn: self.held.other.into(),
            },
            Holder::Xen,
        ));
        self.held.in_ram = false;
        Ok(())
    }

    /// The command line for another stage of the same.
    pub(crate) fn next_command_line(&mut self, own: &str) -> String {
        let mut words: Vec<String> = Vec::new();
        for word in own.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("busy.times" | "busy.marker", _)) => {}
                Some(("busy.hops", _)) => {
                    words.push(format!("busy.hops={}", self.options.hops - 1))
                }
                None if word == "busy.backend" => {}
                _ => words.push(String::from(word)),
            }
        }
        let line = words.join(" ");
        self.times_at = u64::try_from(line.len() + 1).ok();
        format!("{line} {}", " ".repeat(LAST_WORDS))
    }
}

impl Swing<Xen> for Busy {
    fn quiesce(&mut self, m: &'static Xen, ledger: &mut Ledger) -> Result<(), Vec<String>> {
        if !self.options.omits("park") {
            vcpus::park(m).map_err(|error| alloc::vec![text(error)])?;
        }
        if let Some(disks) = &mut self.held.disks
            && !self.options.omits("device")
        {
            disks.close(ledger)?;
        }
        for interrupt in &self.held.interrupts {
            interrupt.stop(m);
        }
        if self.held.in_ram && !self.options.omits("shared-info") {
            self.leave_ram(m, ledger)
                .map_err(|error| alloc::vec![error])?;
        }
        Ok(())
    }

    fn resume(&mut self, m: &'static Xen, ledger: &mut Ledger) {
        if let Some(disks) = &mut self.held.disks
            && let Err(error) = disks.reopen(ledger)
        {
            self.report.line(m, format_args!("reopen: {error}"));
        }
        vcpus::unpark(m);
    }

    fn grants(&self) -> Option<Grants> {
        let references = self.held.references.as_ref()?;
        Some(references.borrow().grants())
    }

    fn patience(&self) -> u64 {
        self.options.patience_ms * 1_000_000
    }

    fn abandon(&self) -> bool {
        self.options.abandon
    }

    fn soft_reset(&self) -> bool {
        self.options.soft_reset
    }

    fn omit(&self, kind: Kind) -> bool {
        let name = match kind {
            Kind::SharedInfoPhysmap { .. } | Kind::SharedInfoInRam { .. } => "shared-info",
            Kind::EventChannel { .. } => "ports",
            Kind::Grant { .. } => "grants",
            Kind::Hole { .. } => "balloon",
            Kind::Vcpu { .. } => "init",
            Kind::RunstateAddress { .. }
            | Kind::RunstatePage { .. }
            | Kind::TimeAddress { .. }
            | Kind::TimePage { .. } => "areas",
            Kind::Callback { .. } => "callback",
            Kind::Pirq { .. } => "pirqs",
            Kind::Device { .. } => "device",
            Kind::ForeignMapping { .. } => "foreign",
            Kind::VcpuInfo { .. } => "vcpu-info",
            _ => return false,
        };
        self.options.omits(name)
    }

    fn staged(&mut self, m: &'static Xen, free: &Extents) {
        if self.times_at.is_some() && !m.is_pv() {
            self.marked = leftovers::mark(m, self.options.hops, free);
        }
    }

    fn at_jump(&mut self, m: &'static Xen, times: &Times, command_line_at: u64) {
        let Some(offset) = self.times_at else {
            return;
        };
        let line = format!(
            "busy.marker={} busy.times={:017},{:017},{:017},{:017},{:017}",
            self.marked.text(),
            times.start,
            times.staged,
            times.quiesced,
            times.released,
            m.tsc()
        );
        let _ = m.write(command_line_at + offset, line.as_bytes());
    }
}
