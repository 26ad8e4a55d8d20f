//! `kexen.probe=abandon`: what Xen does with a page that the guest takes
//! back while a backend in dom0 has it mapped and goes on writing to it.
//!
//! Protocol: grants of `public/grant_table.h` on this side, the lab's backend
//! (`lab/backend`) on the other. The guest says what it does and sees in lines
//! `kexen-probe: KEY=VALUE` on its console, the last of which is `done=`; a
//! line `ask=` waits until the host has typed a line.
//!
//! Order of steps: grant pages to dom0; wait until its writes arrive in all
//! of them; abandon the first, and watch over its new frame; have the host
//! map the grant again; abandon the others until Xen has no frame to give;
//! go on by giving a free page back; have the host unmap everything, and end
//! the grants. With `abandon-omit` the page is used without abandoning it:
//! the writes must be seen in it.
//!
//! Shared memory: the granted pages, with dom0, which may write them at any
//! time; the grant table, with Xen. Nothing is undone at the end: the guest
//! powers off.

use alloc::{boxed::Box, format, string::String, vec, vec::Vec};
use core::fmt::Display;

use kexen_abi::{
    PAGE_SIZE,
    errno::Errno,
    grant_table::{GTF_READING, GTF_WRITING},
    sched,
};
use kexen_bootconfig::options::Probe;
use kexen_guest::{
    Machine,
    abandon::{self, AbandonError, Page},
    grants::{End, Grants},
    hypercall,
};

use kexen_platform::{guest::Guest, native::Native, report::Report};

/// Whom the pages are granted to.
const BACKEND: u16 = 0;
/// Pages that are granted beyond those that can be abandoned at no cost.
const BEYOND: u64 = 4;
/// What the guest fills its new frames with.
const PATTERN: u8 = 0xa5;
/// How long the first new frame is watched, in nanoseconds.
const WATCH: u64 = 5 * SECOND;
const SECOND: u64 = 1_000_000_000;
/// How long the backend may take for anything.
const PATIENCE: u64 = 60 * SECOND;

/// Runs a probe; says how it came out and powers off.
pub(crate) fn run<G: Guest>(guest: &mut G, report: &Report, probe: Probe) {
    let m = guest.machine();
    let console = Lines { m, report };
    match (Abandon { guest, console }).run(probe == Probe::AbandonOmit) {
        Ok(()) => console.say("done", "ok"),
        Err(why) => console.say("done", format!("failed {why}")),
    }
    if let Err(error) = hypercall::shutdown(m, sched::SHUTDOWN_POWEROFF) {
        report.line(m, format_args!("error: {error}"));
    }
}

/// The probe's side of the console.
struct Lines<'a, M: 'static> {
    m: &'static M,
    report: &'a Report,
}

impl<M> Clone for Lines<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Lines<'_, M> {}

impl<M: Native> Lines<'_, M> {
    fn say(&self, key: &str, value: impl Display) {
        self.report
            .raw(self.m, &format!("kexen-probe: {key}={value}\n"));
        self.report.console().drain(self.m);
    }

    /// Asks the host for something, and waits until it has done it.
    fn ask(&self, what: &str) -> Result<(), String> {
        self.say("ask", what);
        until(self.m, PATIENCE, || {
            let mut bytes = [0; 64];
            let n = self.report.console().read(self.m, &mut bytes);
            Ok(bytes.iter().take(n).any(|byte| b"\r\n".contains(byte)))
        })?
        .then_some(())
        .ok_or_else(|| format!("nobody did what was asked: {what}"))
    }
}

fn text(error: impl Display) -> String {
    format!("{error}")
}

/// Nanoseconds since the vCPU was made.
fn now<M: Native>(m: &M) -> Result<u64, String> {
    Ok(hypercall::runstate(m).map_err(text)?.time.iter().sum())
}

/// Asks again and again, for so long; whether it came true.
fn until<M: Native>(
    m: &M,
    time: u64,
    mut what: impl FnMut() -> Result<bool, String>,
) -> Result<bool, String> {
    let end = now(m)? + time;
    loop {
        if what()? {
            return Ok(true);
        }
        if now(m)? > end {
            return Ok(false);
        }
        hypercall::sched_yield(m).map_err(text)?;
    }
}

struct Abandon<'a, G: Guest> {
    guest: &'a mut G,
    console: Lines<'a, G::M>,
}

impl<G: Guest> Abandon<'_, G> {
    fn m(&self) -> &'static G::M {
        self.guest.machine()
    }

    fn page(&self, number: u64) -> Page {
        Page {
            number,
            address: self.guest.address(number),
        }
    }

    /// Pages that nothing else uses, mapped at their one address.
    fn take(&mut self, count: u64) -> Result<Vec<u64>, String> {
        let free = self.guest.free();
        let pages = free.take(count).ok_or("too few pages are free")?;
        self.guest.map_in_place(&pages).map_err(text)?;
        Ok(pages.pages().collect())
    }

    /// The counter that the backend writes to a page.
    fn counter(&self, page: u64) -> Result<u32, String> {
        self.m().load32(self.guest.address(page)).map_err(text)
    }

    /// Whether a word that the backend writes changes.
    fn moves(&self, at: u64) -> Result<bool, String> {
        let m = self.m();
        let first = m.load32(at).map_err(text)?;
        until(m, PATIENCE, || Ok(m.load32(at).map_err(text)? != first))
    }

    /// How often any of these pages is looked at within that time, and how
    /// often one is not as the guest filled it.
    fn watch(&self, pages: &[u64], time: u64) -> Result<(u64, u64), String> {
        let m = self.m();
        let (mut looks, mut changes) = (0, 0);
        let mut bytes = Box::new([0_u8; 4096]);
        for page in pages {
            m.fill(self.guest.address(*page), PAGE_SIZE, PATTERN)
                .map_err(text)?;
        }
        until(m, time, || {
            for page in pages {
                let at = self.guest.address(*page);
                m.read(at, &mut bytes[..]).map_err(text)?;
                looks += 1;
                if bytes.iter().any(|byte| *byte != PATTERN) {
                    changes += 1;
                    m.fill(at, PAGE_SIZE, PATTERN).map_err(text)?;
                }
            }
            Ok(false)
        })?;
        Ok((looks, changes))
    }

    /// Says how many pages are charged to the guest, and may be.
    fn reservation(&self, key: &str) -> Result<(u64, u64), String> {
        let (current, maximum) = abandon::slack(self.m()).map_err(text)?;
        self.console.say(key, format!("{current} of {maximum}"));
        Ok((current, maximum))
    }

    /// Finds the first grant in use, by its flags and by Xen's own word.
    fn in_use(&self, grants: &Grants, when: &str) -> Result<(), String> {
        let m = self.m();
        let flags = grants.flags(m, Grants::FIRST).map_err(text)?;
        self.console
            .say(&format!("flags-{when}"), format!("{flags:#x}"));
        let both = GTF_READING | GTF_WRITING;
        if flags & both != both {
            return Err(format!("the grant does not look mapped {when}"));
        }
        match grants.try_end(m, Grants::FIRST).map_err(text)? {
            End::InUse(_) => {}
            End::Ended => return Err(format!("a mapped grant was ended {when}")),
        }
        // Xen itself counts mappings, whatever the entry's flags say.
        match hypercall::set_grant_version(m, 2) {
            Err(error) if error.errno == Errno::EBUSY => {
                self.console.say(&format!("set-version-{when}"), "EBUSY");
                Ok(())
            }
            Err(error) => Err(text(error)),
            Ok(()) => Err(format!("Xen found no grant mapped {when}")),
        }
    }

    fn run(&mut self, omit: bool) -> Result<(), String> {
        let m = self.m();
        self.console.say("kind", self.guest.kind());
        let (current, maximum) = self.reservation("reservation")?;
        let slack = maximum.saturating_sub(current);
        let first = Grants::FIRST;
        let room = u64::from(Grants::PER_FRAME - first);
        let count = if omit { 1 } else { slack + BEYOND };
        if count > room {
            return Err(format!("{count} pages need more than one grant frame"));
        }
        let grants = Grants::new(self.guest.grant_table()?);
        let version = hypercall::grant_version(m).map_err(text)?;
        self.console.say("grant-version", version);
        let pages = self.take(count)?;
        for (reference, page) in (first..).zip(&pages) {
            m.fill(self.guest.address(*page), PAGE_SIZE, 0)
                .map_err(text)?;
            let frame = self.guest.frame(*page).map_err(text)?;
            let frame = u32::try_from(frame).map_err(text)?;
            if !grants
                .grant_access(m, reference, BACKEND, frame)
                .map_err(text)?
            {
                return Err(format!("grant {reference} is not free"));
            }
        }
        // The host reads this line, and starts the backend.
        self.console.say("refs", format!("{first} {count}"));
        if !until(m, PATIENCE, || {
            for page in &pages {
                if self.counter(*page)? == 0 {
                    return Ok(false);
                }
            }
            Ok(true)
        })? {
            return Err("the backend's writes did not arrive".into());
        }
        if !self.moves(self.guest.address(pages[0]))? {
            return Err("the backend does not go on writing".into());
        }
        self.console.say("writes", "arrive");
        self.in_use(&grants, "before")?;

        if omit {
            let (looks, changes) = self.watch(&pages, WATCH)?;
            self.console.say("looks", looks);
            self.console.say("changes", changes);
            self.console.ask("unmap")?;
            return if changes > 0 {
                Ok(())
            } else {
                Err("no write of the backend was seen".into())
            };
        }

        self.first(&grants, pages[0])?;
        let orphans = self.exhaust(&pages)?;
        self.give_up(&grants, count, orphans)
    }

    /// Abandons the first page and watches over what it is then.
    fn first(&mut self, grants: &Grants, number: u64) -> Result<(), String> {
        let m = self.m();
        let page = self.page(number);
        let old = self.guest.frame(number).map_err(text)?;
        abandon::abandon(m, &mut self.guest.memory_to_abandon(), page, m.scratch())
            .map_err(text)?;
        let mut bytes = vec![0xff; 4096];
        m.read(page.address, &mut bytes).map_err(text)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Err("the new frame is not zero".into());
        }
        let new = self.guest.frame(number).map_err(text)?;
        self.console
            .say("abandoned", format!("page {number:#x}: {old:#x} {new:#x}"));
        let (looks, changes) = self.watch(&[number], WATCH)?;
        self.console.say("looks", looks);
        self.console.say("changes", changes);
        if changes > 0 {
            return Err("the backend's writes reach the new frame".into());
        }
        if let Some((orphan, m2p)) = self.guest.map_orphan(old).map_err(text)? {
            if old == new {
                return Err("the page has its old frame".into());
            }
            // A PV guest still owns the orphan, and may look at it.
            if !self.moves(orphan)? {
                return Err("the backend's writes do not reach the orphan".into());
            }
            self.console.say("orphan", format!("moves, M2P {m2p:#x}"));
            self.guest.unmap(orphan, 1).map_err(text)?;
        }
        self.in_use(grants, "after")?;
        self.reservation("reservation-after")?;
        // By the same domain, through the same grant, though its entry names
        // the new frame now (in a PVH guest it does anyway).
        let frame = u32::try_from(new).map_err(text)?;
        grants.set_frame(m, Grants::FIRST, frame).map_err(text)?;
        self.console.ask(&format!("again {}", Grants::FIRST))?;
        let mut found = vec![0; 4096];
        m.read(page.address, &mut found).map_err(text)?;
        if found.iter().any(|byte| *byte != PATTERN) {
            return Err("a second mapping reaches the new frame".into());
        }
        self.console.say("again", "old frame");
        Ok(())
    }

    /// Abandons the other pages until Xen has no frame to give, and one more
    /// at the cost of a free page; how many orphans there are then.
    fn exhaust(&mut self, pages: &[u64]) -> Result<u64, String> {
        let m = self.m();
        let scratch = m.scratch();
        let mut orphans = 1;
        let mut hole = None;
        for number in &pages[1..] {
            let page = self.page(*number);
            let mut memory = self.guest.memory_to_abandon();
            abandon::release(m, &mut memory, page, scratch).map_err(text)?;
            orphans += 1;
            match abandon::refill(m, &mut memory, page, scratch) {
                Ok(()) => {}
                Err(AbandonError::Hole(_)) => {
                    hole = Some(page);
                    break;
                }
                Err(error) => return Err(text(error)),
            }
        }
        let hole = hole.ok_or("Xen gave more frames than the guest may have")?;
        self.console.say("abandons", orphans - 1);
        let (current, maximum) = self.reservation("reservation-short")?;
        if current != maximum {
            return Err("populate came short below the maximum".into());
        }
        if !m.is_pv() {
            // Nothing is there: Xen answers for it.
            let word = m.load32(hole.address).map_err(text)?;
            self.console.say("hole-reads", format!("{word:#x}"));
        }
        // A further abandonment is refused before it does anything.
        let page = self.page(pages[pages.len() - 1]);
        match abandon::abandon(m, &mut self.guest.memory_to_abandon(), page, scratch) {
            Err(AbandonError::NoSlack { .. }) => {}
            other => return Err(format!("abandoned without slack: {other:?}")),
        }
        if !self.moves(page.address)? {
            return Err("a refused abandonment changed the page".into());
        }
        let spare = self.take(1)?[0];
        let spare = self.page(spare);
        let mut memory = self.guest.memory_to_abandon();
        abandon::release(m, &mut memory, spare, scratch).map_err(text)?;
        abandon::refill(m, &mut memory, hole, scratch).map_err(text)?;
        self.console.say("refilled", "by a page given back");
        let count = usize::try_from(orphans).map_err(text)?;
        let (looks, changes) = self.watch(&pages[..count], SECOND)?;
        self.console.say("looks-all", looks);
        self.console.say("changes-all", changes);
        if changes > 0 {
            return Err("the backend's writes reach new frames".into());
        }
        Ok(orphans)
    }

    /// Has the backend unmap everything: the orphans go, the grants end.
    fn give_up(&mut self, grants: &Grants, count: u64, orphans: u64) -> Result<(), String> {
        let m = self.m();
        let (before, _) = self.reservation("reservation-orphans")?;
        self.console.ask("unmap")?;
        let freed = || -> Result<u64, String> {
            let (current, _) = abandon::slack(m).map_err(text)?;
            Ok(before.saturating_sub(current))
        };
        until(m, PATIENCE, || Ok(freed()? >= orphans))?;
        self.reservation("reservation-unmapped")?;
        let freed = freed()?;
        self.console.say("freed", freed);
        if freed != orphans {
            return Err(format!("{freed} frames were freed of {orphans} orphans"));
        }
        for (reference, _) in (Grants::FIRST..).zip(0..count) {
            match grants.try_end(m, reference).map_err(text)? {
                End::Ended => {}
                End::InUse(flags) => {
                    return Err(format!("grant {reference} is in use, {flags:#x}"));
                }
            }
        }
        hypercall::set_grant_version(m, 2).map_err(text)?;
        hypercall::set_grant_version(m, 1).map_err(text)?;
        self.console.say("grants", "ended");
        Ok(())
    }
}
