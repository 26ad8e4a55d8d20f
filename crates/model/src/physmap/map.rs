//! `add_to_physmap` and `remove_from_physmap`, for translated guests.
//!
//! Rules: `xenmem_add_to_physmap_one` in Xen's `arch/x86/mm/p2m.c`. What was
//! at the page number before: a page of Xen's is unhooked, RAM is *freed*.
//! Where the frame was before: a hole stays.

use kexen_abi::errno::Errno;
use kexen_abi::memory::{
    AddToPhysmap, RemoveFromPhysmap, XENMAPSPACE_DEV_MMIO, XENMAPSPACE_GMFN,
    XENMAPSPACE_GMFN_FOREIGN, XENMAPSPACE_GMFN_RANGE, XENMAPSPACE_GRANT_TABLE,
    XENMAPSPACE_SHARED_INFO,
};

use super::Entry;
use super::memory_op::own_domain;
use crate::call::{Answer, Call};
use crate::frame::INVALID_M2P;
use crate::grants;
use crate::state::{State, Version};

/// `INVALID_GFN`
const INVALID_GFN: u64 = u64::MAX;

pub(super) fn add(call: &mut Call<'_, '_, '_>, start: u64) -> Answer {
    if start > u64::from(u16::MAX) {
        return Err(Errno::EDOM);
    }
    let arg: AddToPhysmap = call.read(1, 0)?;
    if arg.space == XENMAPSPACE_GMFN_FOREIGN {
        return Err(Errno::ENOSYS);
    }
    let domain = call.state.resolve(call.who, arg.domid)?;
    if !call.state.domains[domain].kind.translated() || arg.space == XENMAPSPACE_DEV_MMIO {
        return Err(Errno::EACCES);
    }
    own_domain(call, arg.domid)?;
    if arg.gpfn == INVALID_GFN {
        return Err(Errno::EINVAL);
    }
    if arg.space != XENMAPSPACE_GMFN_RANGE {
        return call
            .state
            .add_one(domain, arg.space, arg.idx, arg.gpfn)
            .map(|()| 0);
    }
    let size = u64::from(arg.size);
    if size < start {
        return Err(Errno::EILSEQ);
    }
    if arg.gpfn.checked_add(size).is_none() || arg.idx.checked_add(size).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    for n in start..size {
        call.state
            .add_one(domain, XENMAPSPACE_GMFN, arg.idx + n, arg.gpfn + n)?;
    }
    Ok(0)
}

impl State {
    fn add_one(&mut self, domain: usize, space: u32, idx: u64, gfn: u64) -> Result<(), Errno> {
        let mfn = match space {
            XENMAPSPACE_SHARED_INFO if idx == 0 => self.domains[domain].shared_info,
            XENMAPSPACE_GRANT_TABLE => grants::grant_frame(self, domain, idx)?,
            XENMAPSPACE_GMFN => {
                let id = self.domains[domain].id;
                let populated = self.populated(domain, idx);
                let entry = self.domains[domain].physmap.entries.get(&idx);
                // Since a fix in 4.20's series only plain RAM is moved.
                let ram = matches!(entry, Some(Entry::Ram(_)));
                if !ram && self.version >= Version::Xen4_20 {
                    return Err(Errno::EACCES);
                }
                let mfn = populated.ok_or(Errno::EINVAL)?;
                if self.frame(mfn).and_then(|frame| frame.owner) != Some(id) {
                    return Err(Errno::EINVAL);
                }
                mfn
            }
            _ => return Err(Errno::EINVAL),
        };
        let old = self.at(mfn).m2p;
        if space == XENMAPSPACE_GMFN && old != idx {
            return Err(Errno::EXDEV);
        }
        let before = self.domains[domain].physmap.entries.get(&gfn).copied();
        match before {
            Some(Entry::Ram(there)) if self.at(there).special => {
                self.physmap_remove(domain, gfn);
            }
            Some(
                Entry::Ram(there)
                | Entry::Grant { mfn: there, .. }
                | Entry::Foreign { mfn: there, .. },
            ) if there != mfn => {
                // Freed, so that it does not leak: what was in it is lost.
                self.remove_guest_page(domain, gfn).map_err(not_absent)?;
            }
            _ => {}
        }
        // Where the frame was; `m2p` may have gone with the page above.
        if old != INVALID_M2P && old != gfn {
            self.physmap_remove(domain, old);
        }
        self.physmap_add(domain, gfn, mfn)
    }
}

/// An empty entry is no error of its own here.
fn not_absent(error: Errno) -> Errno {
    if error == Errno::ENOENT {
        Errno::EINVAL
    } else {
        error
    }
}

pub(super) fn remove(call: &mut Call<'_, '_, '_>) -> Answer {
    let arg: RemoveFromPhysmap = call.read(1, 0)?;
    let domain = call.state.resolve(call.who, arg.domid)?;
    if !call.state.domains[domain].kind.translated() {
        return Err(Errno::EACCES);
    }
    own_domain(call, arg.domid)?;
    call.state
        .populated(domain, arg.gpfn)
        .ok_or(Errno::ENOENT)?;
    call.state.physmap_remove(domain, arg.gpfn);
    Ok(0)
}
