//! What a vCPU's own loads and stores do: TLB, page walk, fault.
//!
//! Rules: a translation is cached when it is used, and leaves only by a
//! flush, an invlpg or a new base pointer (a processor may drop it sooner;
//! one that never does is the case a kernel must be right for). A PV guest
//! walks its own tables, which Xen validated; a translated guest walks its
//! tables in its own numbers, and each of them goes through the physmap.
//! A store to an L1 table that is mapped read-only is carried out by Xen
//! (`ptwr_do_page_fault` in `arch/x86/pv/ro-page-fault.c`).

use kexen_abi::PAGE_SHIFT;
use kexen_abi::errno::Errno;
use kexen_abi::mmu::{
    HYPERVISOR_VIRT_END, MACH2PHYS_VIRT_START, PAGE_FRAME_MASK, PAGE_PRESENT, PAGE_PSE, PAGE_RW,
};

use crate::frame::PGT_L1;
use crate::physmap::Entry;
use crate::state::{Cached, PageFault, State, Who};

/// What an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A frame.
    Frame(u64),
    /// A granted frame in a physmap; stores to one that was mapped
    /// read-only are lost (`p2m_is_discard_write`), and Xen takes no
    /// argument of a hypercall from there (`hvm_translate_get_page`).
    Granted {
        /// The frame.
        mfn: u64,
        /// Whether stores reach it.
        writable: bool,
    },
    /// Nothing: reads give all ones, writes are lost.
    Hole,
    /// The machine-to-physical table (PV, read-only), from this entry on.
    M2p(u64),
}

impl State {
    /// Translates one address for an access.
    pub(crate) fn translate(
        &mut self,
        who: Who,
        va: u64,
        write: bool,
    ) -> Result<Target, PageFault> {
        let fault = |present: bool, entry| PageFault {
            address: va,
            error_code: u32::from(present) | (u32::from(write) << 1),
            entry,
        };
        let translated = self.domain(who).kind.translated();
        if !translated && (MACH2PHYS_VIRT_START..HYPERVISOR_VIRT_END).contains(&va) {
            let index = (va - MACH2PHYS_VIRT_START) / 8;
            if write || self.frame(index).is_none() {
                return Err(fault(true, None));
            }
            return Ok(Target::M2p(index));
        }
        let page = va >> PAGE_SHIFT;
        if let Some(cached) = self.vcpu(who).tlb.get(&page).copied() {
            if write && !cached.writable {
                let entry = self.walk(who, va).map(|(_, _, entry)| entry);
                return Err(fault(true, entry));
            }
            return Ok(self.target(who, cached.frame));
        }
        if translated && self.vcpu(who).base.is_none() {
            return Ok(self.target(who, page));
        }
        let Some((frame, writable, entry)) = self.walk(who, va) else {
            return Err(fault(false, None));
        };
        if write && !writable {
            return Err(fault(true, Some(entry)));
        }
        self.vcpu(who).tlb.insert(page, Cached { frame, writable });
        Ok(self.target(who, frame))
    }

    /// PV: the frame itself. Translated: what the physmap has there.
    fn target(&mut self, who: Who, frame: u64) -> Target {
        if !self.domain(who).kind.translated() {
            return Target::Frame(frame);
        }
        if let Some(Entry::Grant { mfn, writable }) =
            self.domain(who).physmap.entries.get(&frame).copied()
        {
            return Target::Granted { mfn, writable };
        }
        match self.populated(who.domain, frame) {
            Some(mfn) => Target::Frame(mfn),
            None => Target::Hole,
        }
    }

    /// Walks the tables in memory: (frame, writable all the way, entry).
    pub(crate) fn walk(&mut self, who: Who, va: u64) -> Option<(u64, bool, u64)> {
        let translated = self.domain(who).kind.translated();
        let mut table = self.vcpu(who).base?;
        let mut writable = true;
        for level in (1..=4_u32).rev() {
            let at = PAGE_SHIFT + 9 * (level - 1);
            let mfn = if translated {
                self.populated(who.domain, table)?
            } else {
                table
            };
            self.frame(mfn)?;
            let entry = self.word(mfn, ((va >> at) & 511) * 8);
            if entry & PAGE_PRESENT == 0 {
                return None;
            }
            writable &= entry & PAGE_RW != 0;
            let frame = (entry & PAGE_FRAME_MASK) >> PAGE_SHIFT;
            if level == 1 {
                return Some((frame, writable, entry));
            }
            if entry & PAGE_PSE != 0 && (level == 2 || level == 3) {
                let pages = 1_u64 << (9 * (level - 1));
                let within = (va >> PAGE_SHIFT) & (pages - 1);
                return Some(((frame & !(pages - 1)) + within, writable, entry));
            }
            table = frame;
        }
        None
    }

    /// A guest's load of bytes that lie in one page.
    fn load_in_page(&mut self, who: Who, va: u64, into: &mut [u8]) -> Result<(), PageFault> {
        let offset = usize::try_from(va & 0xfff).unwrap_or(0);
        match self.translate(who, va, false)? {
            Target::Frame(mfn) | Target::Granted { mfn, .. } => {
                into.copy_from_slice(&self.bytes(mfn)[offset..offset + into.len()])
            }
            Target::Hole => into.fill(0xff),
            Target::M2p(_) => {
                for (byte, at) in into.iter_mut().zip(va..) {
                    let index = (at - MACH2PHYS_VIRT_START) / 8;
                    let word = self.frame(index).map_or(u64::MAX, |frame| frame.m2p);
                    *byte = word.to_le_bytes()[usize::try_from(at & 7).unwrap_or(0)];
                }
            }
        }
        Ok(())
    }

    /// A guest's store of bytes that lie in one page.
    fn store_in_page(&mut self, who: Who, va: u64, from: &[u8]) -> Result<(), PageFault> {
        let offset = usize::try_from(va & 0xfff).unwrap_or(0);
        match self.translate(who, va, true) {
            Ok(
                Target::Frame(mfn)
                | Target::Granted {
                    mfn,
                    writable: true,
                },
            ) => {
                self.bytes_mut(mfn)[offset..offset + from.len()].copy_from_slice(from);
                Ok(())
            }
            Ok(Target::Hole | Target::M2p(_) | Target::Granted { .. }) => Ok(()),
            Err(fault) => {
                if self.emulated_store(who, va, from) {
                    Ok(())
                } else {
                    Err(fault)
                }
            }
        }
    }

    /// Xen's emulation of stores to L1 tables that are mapped read-only.
    fn emulated_store(&mut self, who: Who, va: u64, from: &[u8]) -> bool {
        if self.domain(who).kind.translated() {
            return false;
        }
        let owner = self.id(who);
        let Some((mfn, false, _)) = self.walk(who, va) else {
            return false;
        };
        let is_table = self.frame(mfn).is_some_and(|frame| {
            frame.owner == Some(owner) && frame.kind() == PGT_L1 && frame.type_count() > 0
        });
        if !is_table {
            return false;
        }
        let mut at = va & 0xfff;
        let mut rest = from;
        while !rest.is_empty() {
            let within = usize::try_from(at & 7).unwrap_or(0);
            let (part, more) = rest.split_at(rest.len().min(8 - within));
            let mut word = self.word(mfn, at & !7).to_le_bytes();
            word[within..within + part.len()].copy_from_slice(part);
            if self
                .update_l1(who, mfn, at & !7, u64::from_le_bytes(word), false, owner)
                .is_err()
            {
                return false;
            }
            at += u64::try_from(part.len()).unwrap_or(0);
            rest = more;
        }
        true
    }

    /// A guest's own load; a fault is remembered.
    pub(crate) fn load(&mut self, who: Who, va: u64, into: &mut [u8]) -> Result<(), PageFault> {
        let mut done = 0;
        while done < into.len() {
            let at = va.wrapping_add(u64::try_from(done).unwrap_or(0));
            let end = into.len().min(done + room(at));
            let part = &mut into[done..end];
            self.load_in_page(who, at, part)
                .inspect_err(|fault| self.fault(who, *fault))?;
            done = end;
        }
        Ok(())
    }

    /// A guest's own store; a fault is remembered.
    pub(crate) fn store(&mut self, who: Who, va: u64, from: &[u8]) -> Result<(), PageFault> {
        let mut done = 0;
        while done < from.len() {
            let at = va.wrapping_add(u64::try_from(done).unwrap_or(0));
            let end = from.len().min(done + room(at));
            self.store_in_page(who, at, &from[done..end])
                .inspect_err(|fault| self.fault(who, *fault))?;
            done = end;
        }
        Ok(())
    }

    /// Remembers a fault, in the words of Xen's log.
    fn fault(&mut self, who: Who, fault: PageFault) {
        let id = self.id(who);
        self.vcpu(who).last_fault = Some(fault);
        self.say(format!(
            "d{id}v{}: unhandled page fault (ec={:04x})",
            who.vcpu, fault.error_code
        ));
        self.say(format!("Pagetable walk from {:016x}:", fault.address));
        if let Some(entry) = fault.entry {
            let index = (fault.address >> PAGE_SHIFT) & 511;
            let frame = (entry & PAGE_FRAME_MASK) >> PAGE_SHIFT;
            let pfn = self.frame(frame).map_or(u64::MAX, |frame| frame.m2p);
            self.say(format!(" L1[0x{index:03x}] = {entry:016x} {pfn:016x}"));
        }
    }

    /// `copy_from_guest`: through the guest's own mapping, no fault to it.
    pub(crate) fn copy_from_guest(
        &mut self,
        who: Who,
        va: u64,
        into: &mut [u8],
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < into.len() {
            let at = va.wrapping_add(u64::try_from(done).unwrap_or(0));
            let end = into.len().min(done + room(at));
            let target = self.translate(who, at, false).map_err(|_| Errno::EFAULT)?;
            if matches!(target, Target::Hole | Target::Granted { .. }) {
                return Err(Errno::EFAULT);
            }
            let part = &mut into[done..end];
            self.load_in_page(who, at, part)
                .map_err(|_| Errno::EFAULT)?;
            done = end;
        }
        Ok(())
    }

    /// `copy_to_guest`.
    pub(crate) fn copy_to_guest(&mut self, who: Who, va: u64, from: &[u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < from.len() {
            let at = va.wrapping_add(u64::try_from(done).unwrap_or(0));
            let end = from.len().min(done + room(at));
            match self.translate(who, at, true).map_err(|_| Errno::EFAULT)? {
                Target::Frame(mfn) => {
                    let offset = usize::try_from(at & 0xfff).unwrap_or(0);
                    self.bytes_mut(mfn)[offset..offset + end - done]
                        .copy_from_slice(&from[done..end]);
                }
                Target::Hole | Target::M2p(_) | Target::Granted { .. } => {
                    return Err(Errno::EFAULT);
                }
            }
            done = end;
        }
        Ok(())
    }

    /// Flushes the whole TLB of one vCPU.
    pub(crate) fn flush_vcpu(&mut self, domain: usize, vcpu: usize) {
        self.flush_clock += 1;
        let clock = self.flush_clock;
        if let Some(vcpu) = self.domains[domain].vcpus.get_mut(vcpu) {
            vcpu.tlb.clear();
            vcpu.last_flush = clock;
        }
    }

    /// Flushes the TLBs of all vCPUs of a domain.
    pub(crate) fn flush_domain(&mut self, domain: usize) {
        for vcpu in 0..self.domains[domain].vcpus.len() {
            self.flush_vcpu(domain, vcpu);
        }
    }
}

/// Bytes from an address to the end of its page.
fn room(at: u64) -> usize {
    usize::try_from(0x1000 - (at & 0xfff)).unwrap_or(0)
}
