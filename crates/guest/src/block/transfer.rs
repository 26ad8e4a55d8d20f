//! Operations: as many requests as they take, and waiting for them.

use super::{Block, BlockError, Io, Operation, Page, Problem, request::Answered};
use crate::Machine;

/// A request that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub(super) u64);

/// A request that is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which.
    pub ticket: Ticket,
    /// What came of it.
    pub outcome: Result<(), BlockError>,
}

impl Block {
    /// Reads sectors of 512 bytes into pages, eight in each.
    ///
    /// # Errors
    /// See [`Problem`]. After [`Problem::Unanswered`] the backend may still
    /// write the pages.
    pub fn read<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
        sector: u64,
        sectors: u32,
        pages: &[Page],
    ) -> Result<(), BlockError> {
        let result = self.transfer(io, Operation::Read, sector, sectors, pages);
        result.map_err(|problem| self.error(problem))
    }

    /// Writes sectors of 512 bytes from pages, eight from each.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn write<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
        sector: u64,
        sectors: u32,
        pages: &[Page],
    ) -> Result<(), BlockError> {
        let result = self.transfer(io, Operation::Write, sector, sectors, pages);
        result.map_err(|problem| self.error(problem))
    }

    /// Waits until what was written is on the medium.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn flush<M: Machine + ?Sized>(&mut self, io: &mut Io<'_, M>) -> Result<(), BlockError> {
        let result = self.transfer(io, Operation::Flush, 0, 0, &[]);
        result.map_err(|problem| self.error(problem))
    }

    /// Puts one request of at most 11 pages, or [`super::INDIRECT_PAGES`] where
    /// the backend takes such, into the ring, and returns without waiting.
    ///
    /// # Errors
    /// See [`Problem`]; then nothing is granted.
    pub fn submit<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
        operation: Operation,
        sector: u64,
        sectors: u32,
        pages: &[Page],
    ) -> Result<Ticket, BlockError> {
        let ticket = self
            .enter(io, operation, sector, sectors, pages)
            .and_then(|ticket| self.push(io.m).map(|()| ticket));
        ticket.map_err(|problem| self.error(problem))
    }

    /// The next request that is answered, if there is one; does not wait.
    ///
    /// # Errors
    /// See [`Problem`]: those of the ring, not of a request.
    pub fn complete<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
    ) -> Result<Option<Done>, BlockError> {
        self.next_done(io).map_err(|problem| self.error(problem))
    }

    /// Waits for the next request that is answered; none if none is in
    /// flight.
    ///
    /// # Errors
    /// As [`Self::complete`], and [`Problem::Unanswered`].
    pub fn wait_complete<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
    ) -> Result<Option<Done>, BlockError> {
        self.wait_done(io).map_err(|problem| self.error(problem))
    }

    /// Whether the ring has room for one more request.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.ring.room() && self.flights.iter().any(Option::is_none)
    }

    pub(super) fn error(&self, problem: Problem) -> BlockError {
        BlockError::new(&self.device, problem)
    }

    /// All requests that an operation takes, as many at a time as fit.
    fn transfer<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
        operation: Operation,
        sector: u64,
        sectors: u32,
        pages: &[Page],
    ) -> Result<(), Problem> {
        self.check(operation, sector, sectors, pages)?;
        if self.flights.iter().flatten().any(|one| !one.abandoned) {
            return Err(Problem::Busy);
        }
        let mut left = (sector, sectors, pages);
        let mut more = true;
        let mut first_error = None;
        loop {
            while more && first_error.is_none() && self.has_room() {
                let most = self.most_pages().min(left.2.len());
                // One short of grants waits for those of others.
                if self.in_flight() > 0 && io.references.free() <= most {
                    break;
                }
                let (here, rest) = left.2.split_at(most);
                let now = left.1.min(Self::sectors_of(most));
                if let Err(problem) = self.enter(io, operation, left.0, now, here) {
                    first_error = Some(problem);
                }
                left = (left.0.saturating_add(u64::from(now)), left.1 - now, rest);
                more = left.1 > 0;
            }
            let done = self.push(io.m).and_then(|()| self.wait_done(io));
            match done {
                Ok(Some(done)) => {
                    if let Err(error) = done.outcome {
                        first_error.get_or_insert(error.problem);
                    }
                }
                Ok(None) if more && first_error.is_none() => {
                    // Requests that nobody waits for have ring or grants.
                    self.wait_one(io)?;
                }
                Ok(None) => return first_error.map_or(Ok(()), Err),
                Err(problem) => {
                    self.abandon();
                    return Err(problem);
                }
            }
        }
    }

    /// Nobody waits for what is in flight any more.
    pub(super) fn abandon(&mut self) {
        for flight in self.flights.iter_mut().flatten() {
            flight.abandoned = true;
        }
    }

    /// The next response that somebody waits for.
    fn next_done<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
    ) -> Result<Option<Done>, Problem> {
        if self.port.is_none() {
            return Err(Problem::NotConnected);
        }
        // No more responses than entries without new requests.
        for _ in 0..=self.ring.entries() {
            let answered = self.respond(io).inspect_err(|problem| {
                self.connected = false;
                self.lied |= matches!(problem, Problem::Lie(_));
            })?;
            let Some(Answered { flight, outcome }) = answered else {
                return Ok(None);
            };
            if !flight.abandoned {
                return Ok(Some(Done {
                    ticket: Ticket(flight.id),
                    outcome: outcome.map_err(|problem| self.error(problem)),
                }));
            }
        }
        Ok(None)
    }

    fn wait_done<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
    ) -> Result<Option<Done>, Problem> {
        loop {
            if let Some(done) = self.next_done(io)? {
                return Ok(Some(done));
            }
            if !self.flights.iter().flatten().any(|one| !one.abandoned) {
                return Ok(None);
            }
            self.ring.want_event(io.m)?;
            if let Some(done) = self.next_done(io)? {
                return Ok(Some(done));
            }
            self.pause(io)?;
        }
    }

    /// Waits until one of the requests in flight is answered, whoever's.
    fn wait_one<M: Machine + ?Sized>(&mut self, io: &mut Io<'_, M>) -> Result<(), Problem> {
        let before = self.in_flight();
        while before > 0 && self.in_flight() >= before {
            self.ring.want_event(io.m)?;
            self.next_done(io)?;
            if self.in_flight() >= before {
                self.pause(io)?;
            }
        }
        Ok(())
    }

    /// Waits until nothing is in flight; outcomes are dropped.
    pub(super) fn wait_all<M: Machine + ?Sized>(
        &mut self,
        io: &mut Io<'_, M>,
    ) -> Result<(), Problem> {
        self.abandon();
        while self.in_flight() > 0 {
            self.ring.want_event(io.m)?;
            self.next_done(io)?;
            if self.in_flight() > 0 {
                self.pause(io)?;
            }
        }
        Ok(())
    }

    fn pause<M: Machine + ?Sized>(&mut self, io: &mut Io<'_, M>) -> Result<(), Problem> {
        let port = self.port.ok_or(Problem::NotConnected)?;
        if io.wait.wait(port).is_ok() {
            return Ok(());
        }
        self.silent = true;
        Err(Problem::Unanswered(self.in_flight()))
    }
}
