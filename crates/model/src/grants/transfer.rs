//! `GNTTABOP_transfer`: a PV guest gives a frame away.
//!
//! Rules: `gnttab_transfer`, `gnttab_prepare_for_transfer`, the same in 4.17
//! and 4.20; `steal_page`. The frame must be held by nothing but its
//! allocation. Once stolen it is lost to the giver whatever happens: a
//! transfer that then fails frees it.

use kexen_abi::errno::Errno;
use kexen_abi::grant_table::{
    GNTST_BAD_DOMAIN, GNTST_BAD_PAGE, GNTST_GENERAL_ERROR, GNTST_OKAY, GTF_ACCEPT_TRANSFER,
    GTF_TRANSFER_COMMITTED, GTF_TRANSFER_COMPLETED, GnttabTransfer,
};

use super::write_status;
use crate::call::Call;
use crate::frame::Frame;
use crate::state::{State, Who};

impl State {
    /// `steal_page`: nobody's from here on, with no reference.
    fn steal_frame(&mut self, domain: usize, mfn: u64) -> Result<(), i16> {
        if self.domains[domain].kind.translated() {
            return Err(GNTST_GENERAL_ERROR);
        }
        let id = self.domains[domain].id;
        let frame = self.at(mfn);
        if frame.owner != Some(id) || frame.special || frame.refs != 1 || !frame.allocated {
            self.say(format!("Bad steal mfn {mfn:x} from d{id}"));
            return Err(GNTST_BAD_PAGE);
        }
        let frame = self.at(mfn);
        frame.owner = None;
        frame.allocated = false;
        frame.type_info = 0;
        frame.refs = 0;
        self.domains[domain].tot_pages -= 1;
        Ok(())
    }

    fn transfer(&mut self, who: Who, op: &GnttabTransfer) -> i16 {
        let Some(mfn) = self.frame_of_gfn(who.domain, op.mfn) else {
            self.say(format!("out-of-range {:x}", op.mfn));
            return GNTST_BAD_PAGE;
        };
        if let Err(status) = self.steal_frame(who.domain, mfn) {
            return status;
        }
        self.flush_after_unmap(who.domain);
        match self.receive(who, op, mfn) {
            Ok(status) => status,
            Err(status) => {
                // Freed: the last reference goes.
                self.at(mfn).refs = 1;
                self.put_page(mfn);
                status
            }
        }
    }

    /// The receiver's side; an error is one before the frame is its own.
    fn receive(&mut self, who: Who, op: &GnttabTransfer, mfn: u64) -> Result<i16, i16> {
        let giver = self.id(who);
        let Some(receiver) = self.index_of(op.domid) else {
            self.say(format!("can't find d{}", op.domid));
            return Err(GNTST_BAD_DOMAIN);
        };
        self.init_table(receiver);
        let domain = &self.domains[receiver];
        let (id, total, max) = (domain.id, domain.tot_pages, domain.max_pages);
        if total >= max {
            self.say(format!(
                "Transferee d{id} has no headroom (tot {total}, max {max})"
            ));
            return Err(GNTST_GENERAL_ERROR);
        }
        if op.gref >= self.nr_entries(receiver) {
            self.say(format!(
                "Bad grant reference {:#x} for transfer to d{id}",
                op.gref
            ));
            return Err(GNTST_GENERAL_ERROR);
        }
        let header = self.header(receiver, op.gref);
        if header.flags != GTF_ACCEPT_TRANSFER || header.domid != giver {
            self.say(format!(
                "Bad flags ({:x}) or dom ({}); expected d{giver}",
                header.flags, header.domid
            ));
            return Err(GNTST_GENERAL_ERROR);
        }
        let place = self.entry(receiver, op.gref);
        self.set_half(place, header.flags | GTF_TRANSFER_COMMITTED);
        let clock = self.flush_clock;
        *self.at(mfn) = Frame {
            owner: Some(id),
            refs: 1,
            allocated: true,
            flush_stamp: clock,
            ..Frame::FREE
        };
        self.domains[receiver].tot_pages += 1;
        let gfn = self.entry_frame(receiver, op.gref);
        // The receiver's physmap may refuse it: then it has a frame that it
        // cannot reach, and Xen says so to the giver, who has lost it.
        let added = self.physmap_add(receiver, gfn, mfn);
        if !self.domains[receiver].kind.translated() {
            self.set_entry_frame(receiver, op.gref, mfn);
        }
        let flags = self.half(place, 0) | GTF_TRANSFER_COMPLETED;
        self.set_half(place, flags);
        Ok(if added.is_ok() {
            GNTST_OKAY
        } else {
            GNTST_GENERAL_ERROR
        })
    }
}

/// `GNTTABOP_transfer`
pub(super) fn transfer(call: &mut Call<'_, '_, '_>, count: u32) -> Result<(), Errno> {
    let field = std::mem::offset_of!(GnttabTransfer, status);
    for n in 0..count {
        let op: GnttabTransfer = call.read(1, u64::from(n))?;
        let status = call.state.transfer(call.who, &op);
        write_status(call, n, size_of::<GnttabTransfer>(), field, status)?;
    }
    Ok(())
}
