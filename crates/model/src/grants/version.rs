//! `GNTTABOP_set_version`, `get_version`, `swap_grant_ref`
//!
//! Rules: `gnttab_set_version`: no entry from 8 on may be pinned, whatever
//! its flags say; then every entry is cleared but the first 8, which are
//! carried over. "(You need to change the version number for e.g. kexec.)"

use kexen_abi::DOMID_SELF;
use kexen_abi::errno::Errno;
use kexen_abi::grant_table::{
    GNTST_BAD_GNTREF, GNTST_EAGAIN, GNTST_OKAY, GNTTAB_NR_RESERVED_ENTRIES, GTF_INVALID,
    GTF_PERMIT_ACCESS, GTF_READING, GTF_TRANSITIVE, GTF_TYPE_MASK, GTF_WRITING, GnttabGetVersion,
    GnttabSetVersion, GnttabSwapGrantRef,
};

use super::write_status;
use crate::call::{Answer, Call};
use crate::frame::INVALID_M2P;
use crate::state::State;

/// An entry that both versions can say.
#[derive(Clone, Copy, Debug, Default)]
struct Reserved {
    flags: u16,
    domid: u16,
    frame: u64,
}

impl State {
    fn change_version(&mut self, domain: usize, version: u32) -> Result<(), Errno> {
        let old = self.table(domain).version;
        let mut used = self.table(domain).active.keys();
        if used.any(|gref| *gref >= GNTTAB_NR_RESERVED_ENTRIES) {
            self.say(format!(
                "tried to change grant table version from {old} to {version}, but some grant \
                 entries still in use"
            ));
            return Err(Errno::EBUSY);
        }
        if old == 1 {
            let frames = self.nr_frames(domain);
            self.populate_status(domain, frames)?;
        }
        let reserved = self.reserved_entries(domain)?;
        if old == 2 {
            self.drop_status(domain)?;
        }
        for mfn in self.table(domain).frames.clone() {
            self.bytes_mut(mfn).fill(0);
        }
        self.table(domain).version = version;
        let bits = GTF_READING | GTF_WRITING;
        for (gref, entry) in (0_u32..).zip(reserved) {
            let place = self.entry(domain, gref);
            let flags = if version == 1 {
                entry.flags
            } else {
                let status = self.status_place(domain, gref);
                self.set_half(status, entry.flags & bits);
                entry.flags & !bits
            };
            let header = u64::from(flags) | u64::from(entry.domid) << 16;
            self.set_word(place.mfn, place.offset, header);
            self.set_entry_frame(domain, gref, entry.frame);
        }
        Ok(())
    }

    /// The entries that stay, and whether the other version can say them.
    fn reserved_entries(&mut self, domain: usize) -> Result<Vec<Reserved>, Errno> {
        let version = self.table(domain).version;
        let mut entries = Vec::new();
        for gref in 0..GNTTAB_NR_RESERVED_ENTRIES {
            let header = self.header(domain, gref);
            let frame = self.entry_frame(domain, gref);
            let mut entry = Reserved {
                flags: header.flags,
                domid: header.domid,
                frame,
            };
            if version == 2 {
                match header.flags & GTF_TYPE_MASK {
                    GTF_PERMIT_ACCESS if frame >> 32 == 0 => {
                        entry.flags |= self.half(self.status_place(domain, gref), 0);
                    }
                    GTF_PERMIT_ACCESS | GTF_TRANSITIVE => {
                        self.say(
                            "tried to change grant table version to 1 with non-representable \
                             entries"
                                .into(),
                        );
                        return Err(Errno::ERANGE);
                    }
                    GTF_INVALID => entry = Reserved::default(),
                    _ => {
                        self.say(format!(
                            "bad flags {:#x} in grant {gref:#x} when switching version",
                            header.flags
                        ));
                        entry = Reserved::default();
                    }
                }
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// `gnttab_unpopulate_status_frames`: one that the guest has mapped
    /// stops it; for a translated guest that is the end.
    fn drop_status(&mut self, domain: usize) -> Result<(), Errno> {
        let frames = self.table(domain).status.clone();
        let translated = self.domains[domain].kind.translated();
        for (n, mfn) in frames.iter().enumerate() {
            let gfn = self.at(*mfn).m2p;
            if translated && gfn != INVALID_M2P {
                self.physmap_remove(domain, gfn);
            }
            if self.at(*mfn).refs > 1 {
                if translated {
                    let why = format!("Wrong page state of status frame {n} (GFN {gfn:#x})");
                    self.crash(domain, why);
                }
                return Err(Errno::EBUSY);
            }
        }
        for mfn in frames {
            self.put_allocation(mfn);
        }
        self.table(domain).status.clear();
        Ok(())
    }

    fn swap_entries(&mut self, domain: usize, a: u32, b: u32) -> i16 {
        let entries = self.nr_entries(domain);
        for (name, gref) in [("a", a), ("b", b)] {
            if gref >= entries {
                self.say(format!("Bad ref-{name} {gref:#x}"));
                return GNTST_BAD_GNTREF;
            }
        }
        if a == b {
            return GNTST_OKAY;
        }
        for (name, gref) in [("a", a), ("b", b)] {
            if self.active(domain, gref).pin != 0 {
                self.say(format!("ref {name} {gref:#x} busy"));
                return GNTST_EAGAIN;
            }
        }
        let words = if self.table(domain).version == 1 {
            1
        } else {
            2
        };
        let (at_a, at_b) = (self.entry(domain, a), self.entry(domain, b));
        for word in (0..words).map(|n| n * 8) {
            let one = self.word(at_a.mfn, at_a.offset + word);
            let other = self.word(at_b.mfn, at_b.offset + word);
            self.set_word(at_a.mfn, at_a.offset + word, other);
            self.set_word(at_b.mfn, at_b.offset + word, one);
        }
        if words == 2 {
            let (at_a, at_b) = (self.status_place(domain, a), self.status_place(domain, b));
            let (one, other) = (self.half(at_a, 0), self.half(at_b, 0));
            self.set_half(at_a, other);
            self.set_half(at_b, one);
        }
        GNTST_OKAY
    }
}

/// `GNTTABOP_set_version`; the version in use comes back in any case.
pub(super) fn set(call: &mut Call<'_, '_, '_>) -> Answer {
    let op: GnttabSetVersion = call.read(1, 0)?;
    let domain = call.who.domain;
    let table = call.state.table(domain);
    let result = match op.version {
        2 if table.max_version == 1 => Err(Errno::ENOSYS),
        version if version == table.version => Ok(()),
        version @ (1 | 2) => call.state.change_version(domain, version),
        _ => Err(Errno::EINVAL),
    };
    let version = call.state.table(domain).version;
    call.write(1, 0, &GnttabSetVersion { version })?;
    result.map(|()| 0)
}

/// `GNTTABOP_get_version`
pub(super) fn get(call: &mut Call<'_, '_, '_>) -> Answer {
    let op: GnttabGetVersion = call.read(1, 0)?;
    let domain = if op.dom == DOMID_SELF {
        call.who.domain
    } else {
        call.state.index_of(op.dom).ok_or(Errno::ESRCH)?
    };
    if !call.state.may_target(call.who.domain, domain) {
        return Err(Errno::EPERM);
    }
    let version = call.state.table(domain).version;
    let field = std::mem::offset_of!(GnttabGetVersion, version);
    let field = u64::try_from(field).unwrap_or(0);
    call.write_bytes(1, field, &version.to_le_bytes())?;
    Ok(0)
}

/// `GNTTABOP_swap_grant_ref`
pub(super) fn swap(call: &mut Call<'_, '_, '_>, count: u32) -> Result<(), Errno> {
    let field = std::mem::offset_of!(GnttabSwapGrantRef, status);
    for n in 0..count {
        let op: GnttabSwapGrantRef = call.read(1, u64::from(n))?;
        let domain = call.who.domain;
        let status = call.state.swap_entries(domain, op.ref_a, op.ref_b);
        write_status(call, n, size_of::<GnttabSwapGrantRef>(), field, status)?;
    }
    Ok(())
}
