//! How a vCPU is started, and by whom it can be started again.
//!
//! Rules: `arch_initialise_vcpu`, `arch_set_info_guest` in
//! `arch/x86/domain.c`; `arch_set_info_hvm_guest` in
//! `arch/x86/hvm/domain.c`; `vlapic_init_sipi_one` in
//! `arch/x86/hvm/vlapic.c`. A vCPU is initialised once: for PV for good, for
//! HVM and PVH until it gets an INIT. What a processor has (CR4, EFER) is
//! what any recent one has; control-flow protection is not offered.

use kexen_abi::PAGE_SHIFT;
use kexen_abi::errno::Errno;
use kexen_abi::mmu::HYPERVISOR_VIRT_END;
use kexen_abi::vcpu::{
    HVM_MODE_32B, HVM_MODE_64B, VGCF_IN_KERNEL, VGCF_ONLINE, VcpuGuestContext, VcpuHvmContext,
    VcpuHvmX86_32, VcpuHvmX86_64,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::call::Call;
use crate::domain::callbacks::canonical;
use crate::frame::{PGT_L4, PGT_SEG_DESC};
use crate::state::{Kind, State, Version, Who};
use crate::xen::Vcpu;

/// Descriptors of a GDT before Xen's own begin.
const GDT_ENTRIES: u64 = 14 * 512;
/// Bits of CR4 that a guest may set.
const CR4_VALID: u64 = 0x0077_0fff;
/// Bits of EFER: SCE, LME, LMA, NXE, FFXSE.
const EFER_VALID: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11 | 1 << 14;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;

/// `VCPUOP_initialise`
pub(super) fn initialise(call: &mut Call<'_, '_, '_>, target: Who) -> Result<(), Errno> {
    let kind = call.state.domain(target).kind;
    let dummy = call.state.vcpu_info(target.domain, target.vcpu).is_none();
    if dummy && (kind == Kind::Pv || call.state.version == Version::Xen4_17) {
        return Err(Errno::EINVAL);
    }
    if kind.translated() {
        let context: VcpuHvmContext = call.read(2, 0)?;
        if call.state.vcpu(target).initialised {
            return Err(Errno::EEXIST);
        }
        let base = hvm_base(&context)?;
        call.state.vcpu(target).base = base;
        call.state.flush_vcpu(target.domain, target.vcpu);
        let vcpu = call.state.vcpu(target);
        vcpu.initialised = true;
        vcpu.up = false;
    } else {
        let context: Box<VcpuGuestContext> = Box::new(call.read(2, 0)?);
        if call.state.vcpu(target).initialised {
            return Err(Errno::EEXIST);
        }
        check_pv(&context)?;
        call.state.start_pv(target, &context)?;
    }
    Ok(())
}

/// The checks of a PV context that need no page.
fn check_pv(context: &VcpuGuestContext) -> Result<(), Errno> {
    let regs = &context.user_regs;
    let ldt = if context.ldt_ents > 0 {
        context.ldt_base
    } else {
        0
    };
    let addresses = [
        regs.rip,
        regs.rsp,
        context.kernel_sp,
        ldt,
        context.fs_base,
        context.gs_base_kernel,
        context.gs_base_user,
        context.event_callback_eip,
        context.syscall_callback_eip,
        context.failsafe_callback_eip,
    ];
    let traps = context.trap_ctxt.iter().map(|trap| trap.address);
    let fine = addresses.into_iter().chain(traps).all(canonical);
    let xens = (1 << 47..HYPERVISOR_VIRT_END).contains(&context.ldt_base);
    let ldt = context.ldt_base & 0xfff == 0 && context.ldt_ents <= 8192;
    let tables = context.flags & VGCF_IN_KERNEL != 0 || context.ctrlreg[1] != 0;
    if fine && !xens && ldt && tables && context.gdt_ents <= 16 * 512 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

impl State {
    /// Takes GDT and page tables of a new PV vCPU, or none of them.
    fn start_pv(&mut self, target: Who, context: &VcpuGuestContext) -> Result<(), Errno> {
        let id = self.id(target);
        if context.gdt_ents > GDT_ENTRIES {
            return Err(Errno::EINVAL);
        }
        let count = usize::try_from(context.gdt_ents.div_ceil(512)).unwrap_or(0);
        let mut held = Vec::new();
        for mfn in context.gdt_frames.iter().take(count) {
            if self.get_page_and_type(*mfn, id, PGT_SEG_DESC).is_err() {
                self.let_go(&held);
                return Err(Errno::EINVAL);
            }
            held.push(*mfn);
        }
        let gdt = held.clone();
        let base = context.ctrlreg[3] >> PAGE_SHIFT;
        let user = context.ctrlreg[1] >> PAGE_SHIFT;
        let tables = [Some(base), (context.ctrlreg[1] != 0).then_some(user)];
        for mfn in tables.into_iter().flatten() {
            if let Err(error) = self.get_page_and_type(mfn, id, PGT_L4) {
                self.let_go(&held);
                return Err(error);
            }
            held.push(mfn);
        }
        let vcpu = self.vcpu(target);
        vcpu.gdt = gdt;
        vcpu.base = Some(base);
        vcpu.user_base = if context.ctrlreg[1] == 0 { 0 } else { user };
        vcpu.ldt = (context.ldt_base, context.ldt_ents);
        vcpu.initialised = true;
        vcpu.up = context.flags & VGCF_ONLINE != 0;
        let callbacks = &mut vcpu.areas.callbacks;
        callbacks.event = context.event_callback_eip;
        callbacks.failsafe = context.failsafe_callback_eip;
        callbacks.syscall = context.syscall_callback_eip;
        let traps = (0..=255).zip(&context.trap_ctxt);
        callbacks.traps = traps
            .filter(|(_, trap)| trap.address != 0)
            .map(|(vector, trap)| (vector, *trap))
            .collect();
        self.flush_vcpu(target.domain, target.vcpu);
        Ok(())
    }

    fn let_go(&mut self, held: &[u64]) {
        for mfn in held {
            self.put_page_and_type(*mfn);
        }
    }

    /// INIT: the vCPU stops and can be initialised again. Its areas stay.
    pub(crate) fn init(&mut self, target: Who) {
        if !self.vcpu(target).initialised {
            return;
        }
        let vcpu = self.vcpu(target);
        vcpu.up = false;
        vcpu.initialised = false;
        if !self.domain(target).vcpus.iter().any(|vcpu| vcpu.up) {
            self.shut_down(target.domain, super::POWEROFF);
        }
    }

    /// SIPI: a vCPU that was reset starts, in real mode.
    fn startup(&mut self, target: Who) {
        if self.vcpu(target).initialised {
            return;
        }
        self.flush_vcpu(target.domain, target.vcpu);
        let vcpu = self.vcpu(target);
        vcpu.base = None;
        vcpu.initialised = true;
        vcpu.up = true;
    }
}

/// The page-table base of a context that Xen accepts. Legacy paging is not
/// walked here: such a vCPU counts as one without paging.
fn hvm_base(context: &VcpuHvmContext) -> Result<Option<u64>, Errno> {
    if context.pad != 0 {
        return Err(Errno::EINVAL);
    }
    let bytes = context.cpu_regs.as_bytes();
    let (fine, cr0, cr3, cr4, efer) = match context.mode {
        HVM_MODE_32B => {
            let regs = VcpuHvmX86_32::read_from_bytes(bytes).map_err(|_| Errno::EINVAL)?;
            let (cr0, cr3, cr4) = (regs.cr0.into(), regs.cr3.into(), regs.cr4.into());
            (fine_32(&regs), cr0, cr3, cr4, regs.efer)
        }
        HVM_MODE_64B => {
            let regs = VcpuHvmX86_64::read_from_bytes(bytes).map_err(|_| Errno::EINVAL)?;
            let fine = canonical(regs.rip)
                && regs.cr0 & CR0_PG != 0
                && regs.cr4 & CR4_PAE != 0
                && regs.efer & EFER_LME != 0;
            (fine, regs.cr0, regs.cr3, regs.cr4, regs.efer)
        }
        _ => return Err(Errno::EINVAL),
    };
    if !fine || cr4 & !CR4_VALID != 0 || efer & !EFER_VALID != 0 {
        return Err(Errno::EINVAL);
    }
    Ok((cr0 & CR0_PG != 0 && efer & EFER_LME != 0).then_some(cr3 >> PAGE_SHIFT))
}

/// Checks of a 32-bit context: segments are what their registers need.
fn fine_32(regs: &VcpuHvmX86_32) -> bool {
    let [cs, ds, ss, es, tr] = regs.ar;
    let privilege = |ar: u16| (ar >> 5) & 3;
    let present = |ar: u16| ar & 0x80 != 0;
    let (code, code_or_data) = (0x8, 0x10);
    // Code or data, present; bit 1 is writable or, for code, readable.
    let segment = |ar: u16| ar >> 12 == 0 && ar & code_or_data != 0 && present(ar);
    let data = |ar: u16| ar == 0 || (segment(ar) && (ar & code == 0 || ar & 2 != 0));
    let below = |ar: u16| !present(ar) || privilege(ar) <= privilege(cs);
    let tss = tr >> 12 == 0 && tr & 0x10 == 0 && present(tr) && (tr & 0xf) | 2 == 0xb;
    let limit = if cs & 0x800 != 0 {
        (u64::from(regs.limit[0]) << 12) | 0xfff
    } else {
        u64::from(regs.limit[0])
    };
    // The sum is 32 bits wide.
    let limit = limit & 0xffff_ffff;
    regs.pad1 == 0
        && regs.pad2 == [0; 3]
        && segment(cs)
        && cs & code != 0
        && segment(ss)
        && ss & code == 0
        && ss & 2 != 0
        && data(ds)
        && data(es)
        && tss
        && u64::from(regs.eip) <= limit
        && privilege(ss) == privilege(cs)
        && below(ds)
        && below(es)
        && (regs.efer & EFER_LMA == 0 || regs.efer & EFER_LME != 0)
}

impl Vcpu {
    /// HVM, PVH: sends INIT through the local APIC, and SIPI if `start`: the
    /// target starts in real mode then, with an empty TLB, whatever it was
    /// doing. A PV guest has no local APIC: nothing happens.
    pub fn send_init(&self, target: usize, start: bool) {
        self.with_apic(target, State::init);
        if start {
            self.with_apic(target, State::startup);
        }
    }

    fn with_apic(&self, target: usize, then: impl Fn(&mut State, Who)) {
        self.xen().step();
        let mut state = self.xen().state();
        let domain = self.who().domain;
        let owner = &state.domains[domain];
        if owner.kind.translated() && target < owner.vcpus.len() && !owner.life.ended() {
            then(
                &mut state,
                Who {
                    domain,
                    vcpu: target,
                },
            );
        }
    }
}
