//! `GNTTABOP_cache_flush`
//!
//! Rules: `_cache_flush`, `grant_map_exists`. There are no caches here: what
//! is left is who may. Invalidation alone is not supported on x86.

use kexen_abi::PAGE_SHIFT;
use kexen_abi::errno::Errno;
use kexen_abi::grant_table::{GNTTAB_CACHE_CLEAN, GNTTAB_CACHE_INVAL, GnttabCacheFlush};

use crate::call::Call;
use crate::state::State;

impl State {
    fn cache_flush(&mut self, caller: usize, op: &GnttabCacheFlush) -> Result<(), Errno> {
        let (offset, length) = (u32::from(op.offset), u32::from(op.length));
        let inside = offset < 4096 && length <= 4096 && offset + length <= 4096;
        if !inside || op.op & !(GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL) != 0 {
            return Err(Errno::EINVAL);
        }
        if length == 0 || op.op == 0 {
            return Ok(());
        }
        let mfn = op.dev_bus_addr >> PAGE_SHIFT;
        let owner = self.frame(mfn).ok_or(Errno::EINVAL)?.owner;
        let owner = owner.and_then(|owner| self.index_of(owner));
        let owner = owner.ok_or(Errno::EPERM)?;
        let id = self.domains[caller].id;
        let mut used = self.table(owner).active.values();
        if owner != caller && !used.any(|active| active.domid == id && active.mfn == mfn) {
            return Err(Errno::EINVAL);
        }
        if op.op & GNTTAB_CACHE_CLEAN == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(())
    }
}

/// `GNTTABOP_cache_flush`
pub(super) fn cache_flush(call: &mut Call<'_, '_, '_>, count: u32) -> Result<(), Errno> {
    for n in 0..u64::from(count) {
        let op: GnttabCacheFlush = call.read(1, n)?;
        call.state.cache_flush(call.who.domain, &op)?;
    }
    Ok(())
}
