//! The FIFO interface: an event word per port in pages of the guest's, and
//! queues whose heads lie in a control block of each vCPU.
//!
//! Rules: `common/event_fifo.c`. Memory shared with the guest: the event
//! array's pages and the control blocks' pages; each is held by a general
//! and a writable-type reference until the ports are reset, and no call of
//! the guest's gives up a single one.

use kexen_abi::errno::Errno;
use kexen_abi::event_channel::{
    EvtchnExpandArray, EvtchnInitControl, FIFO_BUSY, FIFO_CONTROL_BLOCK_BYTES, FIFO_HEAD,
    FIFO_LINK_BITS, FIFO_LINKED, FIFO_MASKED, FIFO_NR_CHANNELS, FIFO_PENDING,
    FIFO_PRIORITY_DEFAULT, FIFO_READY,
};
use kexen_abi::shared_info::EVTCHN_2L_PORTS;

use crate::call::{Answer, Call};
use crate::frame::PGT_WRITABLE;
use crate::state::State;

/// Event words of a page.
const WORDS: u32 = 1024;
/// Pages of a full event array.
const PAGES: usize = 128;

/// One vCPU's queues.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues {
    pub(crate) control: Option<(u64, u64)>,
    /// The last port of each queue; 0 for none.
    tails: [u32; 16],
}

/// The interface, once it is switched on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fifo {
    /// Frames of the event array.
    pub(crate) pages: Vec<u64>,
    pub(crate) vcpus: Vec<Queues>,
}

impl Fifo {
    /// Whether a frame is one of its pages.
    pub(crate) fn holds(&self, mfn: u64) -> bool {
        let mut controls = self.vcpus.iter().filter_map(|queues| queues.control);
        self.pages.contains(&mfn) || controls.any(|(frame, _)| frame == mfn)
    }
}

/// Bits of an event word that are the link.
const LINK: u32 = (1 << FIFO_LINK_BITS) - 1;

/// Where a 32-bit word lies.
type Word = (u64, u64);

impl State {
    /// A reference to a page of the guest's that Xen will write.
    fn map_guest_page(&mut self, domain: usize, gfn: u64) -> Result<u64, Errno> {
        let id = self.domains[domain].id;
        let mfn = self.frame_of_gfn(domain, gfn).ok_or(Errno::EINVAL)?;
        self.get_page_and_type(mfn, id, PGT_WRITABLE)?;
        Ok(mfn)
    }

    fn word32(&self, (mfn, offset): Word) -> u32 {
        let word = self.word(mfn, offset) >> ((offset & 4) * 8);
        u32::try_from(word & 0xffff_ffff).unwrap_or(0)
    }

    fn set_word32(&mut self, (mfn, offset): Word, value: u32) {
        let at = usize::try_from(offset & 0xffc).unwrap_or(0);
        self.bytes_mut(mfn)[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Sets or clears a bit of an event word; what it was.
    fn change_word(&mut self, word: Word, bit: u32, on: bool) -> bool {
        let old = self.word32(word);
        let new = if on {
            old | 1 << bit
        } else {
            old & !(1 << bit)
        };
        if new != old {
            self.set_word32(word, new);
        }
        old & (1 << bit) != 0
    }

    /// The event word of a port, if its page is there.
    fn event_word(&self, domain: usize, port: u32) -> Option<Word> {
        let fifo = self.domains[domain].events.fifo.as_ref()?;
        let page = usize::try_from(port / WORDS).ok()?;
        Some((*fifo.pages.get(page)?, u64::from(port % WORDS) * 4))
    }

    fn event_bit(&self, domain: usize, port: u32, bit: u32) -> bool {
        self.event_word(domain, port)
            .is_some_and(|word| self.word32(word) & (1 << bit) != 0)
    }

    pub(super) fn fifo_is_pending(&self, domain: usize, port: u32) -> bool {
        self.event_bit(domain, port, FIFO_PENDING)
    }

    pub(super) fn fifo_is_linked(&self, domain: usize, port: u32) -> bool {
        self.event_bit(domain, port, FIFO_LINKED)
    }

    /// `evtchn_fifo_init`: a port is bound.
    pub(super) fn fifo_port_init(&mut self, domain: usize, port: u32) {
        let events = &mut self.domains[domain].events;
        if events.fifo.is_none() {
            return;
        }
        if let Some(channel) = events.port_mut(port) {
            channel.priority = FIFO_PRIORITY_DEFAULT;
        }
        if self.fifo_is_linked(domain, port) {
            let id = self.domains[domain].id;
            self.say(format!("domain {id}, port {port} already on a queue"));
        }
    }

    pub(super) fn fifo_clear_pending(&mut self, domain: usize, port: u32) {
        if let Some(word) = self.event_word(domain, port) {
            self.change_word(word, FIFO_PENDING, false);
        }
    }

    pub(super) fn fifo_unmask(&mut self, domain: usize, port: u32) {
        let Some(word) = self.event_word(domain, port) else {
            return;
        };
        self.change_word(word, FIFO_MASKED, false);
        if self.word32(word) & (1 << FIFO_PENDING) != 0
            && let Some(vcpu) = self.domains[domain].events.port(port).map(|c| c.vcpu)
        {
            self.fifo_set_pending(domain, vcpu, port);
        }
    }

    /// The last port of a queue, to change.
    fn tail(&mut self, domain: usize, (vcpu, queue): (usize, u32)) -> Option<&mut u32> {
        let fifo = self.domains[domain].events.fifo.as_mut()?;
        let queues = fifo.vcpus.get_mut(vcpu)?;
        queues.tails.get_mut(usize::try_from(queue).ok()?)
    }

    /// `evtchn_fifo_set_link`: whether the tail was still linked, and points
    /// to the port now.
    fn set_link(&mut self, domain: usize, tail: u32, port: u32) -> bool {
        let Some(word) = self.event_word(domain, tail) else {
            return false;
        };
        let old = self.word32(word);
        if old & (1 << FIFO_LINKED) == 0 {
            return false;
        }
        self.set_word32(word, (old & !(1 << FIFO_BUSY | LINK)) | port);
        true
    }

    pub(super) fn fifo_set_pending(&mut self, domain: usize, vcpu: usize, port: u32) {
        let Some(word) = self.event_word(domain, port) else {
            if let Some(channel) = self.domains[domain].events.port_mut(port) {
                channel.pending = true;
            }
            return;
        };
        let events = &self.domains[domain].events;
        let Some(channel) = events.port(port).copied() else {
            return;
        };
        let control = events
            .fifo
            .as_ref()
            .and_then(|f| f.vcpus.get(vcpu)?.control);
        let Some((mfn, offset)) = control else {
            let id = self.domains[domain].id;
            self.say(format!(
                "d{id}v{vcpu} has no FIFO event channel control block"
            ));
            return;
        };
        self.change_word(word, FIFO_PENDING, true);
        if self.word32(word) & (1 << FIFO_MASKED) != 0 || self.change_word(word, FIFO_LINKED, true)
        {
            return;
        }
        let queue = (vcpu, channel.priority);
        if let Some(tail) = self.tail(domain, channel.last_queue)
            && *tail == port
        {
            *tail = 0;
        }
        if let Some(channel) = self.domains[domain].events.port_mut(port) {
            channel.last_queue = queue;
        }
        let tail = self.tail(domain, queue).map_or(0, |tail| *tail);
        let linked = tail != 0 && self.set_link(domain, tail, port);
        if !linked {
            let head = offset + FIFO_HEAD + u64::from(channel.priority) * 4;
            self.set_word32((mfn, head), port);
        }
        if let Some(tail) = self.tail(domain, queue) {
            *tail = port;
        }
        if !linked && !self.change_word((mfn, offset + FIFO_READY), channel.priority, true) {
            self.mark_events_pending(domain, vcpu);
        }
    }

    /// `map_control_block`
    fn map_control_block(
        &mut self,
        domain: usize,
        vcpu: usize,
        gfn: u64,
        offset: u64,
    ) -> Result<(), Errno> {
        let queues = |state: &Self| {
            let fifo = state.domains[domain].events.fifo.as_ref()?;
            fifo.vcpus.get(vcpu)?.control
        };
        if queues(self).is_some() {
            return Err(Errno::EINVAL);
        }
        let mfn = self.map_guest_page(domain, gfn)?;
        let fifo = self.domains[domain].events.fifo.as_mut();
        if let Some(queues) = fifo.and_then(|fifo| fifo.vcpus.get_mut(vcpu)) {
            queues.control = Some((mfn, offset));
        }
        Ok(())
    }

    /// The first control block: switches over from the 2-level interface,
    /// whose pending bits are kept until there are words for them.
    fn switch_on(
        &mut self,
        domain: usize,
        vcpu: usize,
        gfn: u64,
        offset: u64,
    ) -> Result<(), Errno> {
        let vcpus = self.domains[domain].vcpus.len();
        self.domains[domain].events.fifo = Some(Fifo {
            pages: Vec::new(),
            vcpus: vec![Queues::default(); vcpus],
        });
        if let Err(error) = self.map_control_block(domain, vcpu, gfn, offset) {
            self.fifo_destroy(domain);
            return Err(error);
        }
        let ports = self.domains[domain].events.ports.len();
        let ports = u32::try_from(ports).unwrap_or(u32::MAX);
        for port in 1..ports.min(EVTCHN_2L_PORTS) {
            let pending = self.two_level_is_pending(domain, port);
            if let Some(channel) = self.domains[domain].events.port_mut(port) {
                channel.pending |= pending;
                channel.priority = FIFO_PRIORITY_DEFAULT;
            }
        }
        Ok(())
    }

    /// `add_page_to_event_array`: the next page, and what waited for it.
    fn add_event_page(&mut self, domain: usize, gfn: u64) -> Result<(), Errno> {
        let Some(fifo) = &self.domains[domain].events.fifo else {
            return Err(Errno::EOPNOTSUPP);
        };
        let slot = fifo.pages.len();
        if slot >= PAGES {
            return Err(Errno::ENOSPC);
        }
        let mfn = self.map_guest_page(domain, gfn)?;
        if let Some(fifo) = &mut self.domains[domain].events.fifo {
            fifo.pages.push(mfn);
        }
        let first = u32::try_from(slot)
            .unwrap_or(u32::MAX)
            .saturating_mul(WORDS);
        for port in first..(first + WORDS).min(FIFO_NR_CHANNELS) {
            let Some(channel) = self.domains[domain].events.port(port) else {
                break;
            };
            if channel.pending {
                let vcpu = channel.vcpu;
                self.fifo_set_pending(domain, vcpu, port);
            }
        }
        Ok(())
    }

    /// `evtchn_fifo_destroy`: back to the 2-level interface.
    pub(super) fn fifo_destroy(&mut self, domain: usize) {
        let Some(fifo) = self.domains[domain].events.fifo.take() else {
            return;
        };
        let controls = fifo.vcpus.iter().filter_map(|queues| queues.control);
        for mfn in controls.map(|(mfn, _)| mfn).chain(fifo.pages.clone()) {
            self.put_page_and_type(mfn);
        }
    }
}

/// `EVTCHNOP_init_control`
pub(super) fn init_control(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnInitControl = call.read(1, 0)?;
    let (state, domain) = (&mut *call.state, call.who.domain);
    let vcpu = usize::try_from(arg.vcpu).unwrap_or(usize::MAX);
    if vcpu >= state.domains[domain].vcpus.len() {
        return Err(Errno::ENOENT);
    }
    let offset = u64::from(arg.offset);
    if offset > 0x1000 - FIFO_CONTROL_BLOCK_BYTES || offset & 7 != 0 {
        return Err(Errno::EINVAL);
    }
    if state.domains[domain].events.fifo.is_none() {
        state.switch_on(domain, vcpu, arg.control_gfn, offset)?;
    } else {
        state.map_control_block(domain, vcpu, arg.control_gfn, offset)?;
    }
    arg.link_bits = u8::try_from(FIFO_LINK_BITS).unwrap_or(0);
    call.write(1, 0, &arg)?;
    Ok(0)
}

/// `EVTCHNOP_expand_array`
pub(super) fn expand_array(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: EvtchnExpandArray = call.read(1, 0)?;
    call.state.add_event_page(call.who.domain, arg.array_gfn)?;
    Ok(0)
}
