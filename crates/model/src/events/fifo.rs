//! The FIFO interface, as far as it holds on to the guest's pages.
//!
//! Rules: Xen's `common/event_fifo.c`. The first control block switches the
//! domain over; control blocks and pages of the event array hold a reference
//! and a writable type each, and only a reset gives them back.

use kexen_abi::errno::Errno;
use kexen_abi::event_channel::EvtchnInitControl;

use crate::call::{Answer, Call};
use crate::frame::PGT_WRITABLE;
use crate::state::State;

/// Ports of the interface (`EVTCHN_FIFO_NR_CHANNELS`).
pub(crate) const PORTS: u32 = 1 << 17;
/// Words of an event array's page.
const WORDS: u32 = 1024;
/// Bits of a link (`EVTCHN_FIFO_LINK_BITS`).
const LINK_BITS: u8 = 17;
/// `EVTCHN_FIFO_PENDING`
const PENDING: u32 = 1 << 31;

/// A domain's control blocks and event array.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    /// By vCPU: frame and offset.
    pub(crate) control: Vec<Option<(u64, u64)>>,
    /// Frames of the array.
    pub(crate) array: Vec<u64>,
}

impl Fifo {
    /// Whether the domain has switched over.
    pub(crate) fn active(&self) -> bool {
        self.control.iter().any(Option::is_some)
    }

    /// Whether a frame is one of its pages.
    pub(crate) fn holds(&self, mfn: u64) -> bool {
        self.array.contains(&mfn)
            || self
                .control
                .iter()
                .flatten()
                .any(|(frame, _)| *frame == mfn)
    }
}

impl State {
    /// A page of the guest for Xen to write: reference and writable type.
    pub(crate) fn hold_page(&mut self, domain: usize, gfn: u64) -> Result<u64, Errno> {
        let id = self.domains[domain].id;
        let mfn = self.frame_of_gfn(domain, gfn).ok_or(Errno::EINVAL)?;
        self.get_page_and_type(mfn, id, PGT_WRITABLE)?;
        Ok(mfn)
    }

    pub(super) fn fifo_pending(&mut self, domain: usize, port: u32) {
        let page = usize::try_from(port / WORDS).unwrap_or(usize::MAX);
        if let Some(mfn) = self.domains[domain].events.fifo.array.get(page).copied() {
            let at = usize::try_from(port % WORDS * 4).unwrap_or(0);
            let bytes = self.bytes_mut(mfn);
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            let word = u32::from_le_bytes(word) | PENDING;
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Gives all pages back, and goes back to 2-level.
    pub(super) fn destroy_fifo(&mut self, domain: usize) {
        let fifo = std::mem::take(&mut self.domains[domain].events.fifo);
        let control = fifo.control.into_iter().flatten().map(|(mfn, _)| mfn);
        for mfn in control.chain(fifo.array) {
            self.put_page_and_type(mfn);
        }
    }
}

pub(super) fn init_control(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: EvtchnInitControl = call.read(1, 0)?;
    arg.link_bits = LINK_BITS;
    let domain = call.who.domain;
    let vcpu = usize::try_from(arg.vcpu).map_err(|_| Errno::ENOENT)?;
    let count = call.state.domains[domain].vcpus.len();
    if vcpu >= count {
        return Err(Errno::ENOENT);
    }
    // 40 bytes, aligned to 8, in one page.
    if arg.offset & 7 != 0 || arg.offset > 4096 - 40 {
        return Err(Errno::EINVAL);
    }
    let there = call.state.domains[domain].events.fifo.control.get(vcpu);
    if matches!(there, Some(Some(_))) {
        return Err(Errno::EINVAL);
    }
    let mfn = call.state.hold_page(domain, arg.control_gfn)?;
    let fifo = &mut call.state.domains[domain].events.fifo;
    fifo.control.resize(count, None);
    fifo.control[vcpu] = Some((mfn, u64::from(arg.offset)));
    call.write(1, 0, &arg)?;
    Ok(0)
}

pub(super) fn expand_array(call: &mut Call<'_, '_, '_>) -> Answer {
    let gfn: u64 = call.read(1, 0)?;
    let domain = call.who.domain;
    let fifo = &call.state.domains[domain].events.fifo;
    if !fifo.active() {
        return Err(Errno::EOPNOTSUPP);
    }
    if fifo.array.len() >= usize::try_from(PORTS / WORDS).unwrap_or(0) {
        return Err(Errno::ENOSPC);
    }
    let mfn = call.state.hold_page(domain, gfn)?;
    call.state.domains[domain].events.fifo.array.push(mfn);
    Ok(0)
}

pub(super) fn set_priority(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: [u32; 2] = call.read(1, 0)?;
    let events = &call.state.domains[call.who.domain].events;
    if arg[0] >= events.valid {
        return Err(Errno::EINVAL);
    }
    if !events.fifo.active() {
        return Err(Errno::ENOSYS);
    }
    if arg[1] > 15 {
        Err(Errno::EINVAL)
    } else {
        Ok(0)
    }
}
