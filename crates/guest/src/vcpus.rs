//! Virtual processors: how many, up and down, timers.
//!
//! Protocol: `public/vcpu.h`. A PV or PVH vCPU is given its first context
//! with `VCPUOP_initialise`, once: a PV one keeps it for the domain's life, a
//! translated guest's can be made as new by an INIT of its local APIC
//! (`vlapic_init_sipi_one`). Memory shared with others: none.

use alloc::boxed::Box;

use kexen_abi::{
    errno::Errno,
    hvm::HVM_PARAM_CALLBACK_IRQ,
    hypercall::Hypercall,
    vcpu::{
        HVM_MODE_64B, TrapInfo, VCPUOP_INITIALISE, VCPUOP_IS_UP, VCPUOP_REGISTER_VCPU_INFO,
        VCPUOP_SET_SINGLESHOT_TIMER, VCPUOP_STOP_SINGLESHOT_TIMER, VCPUOP_UP, VGCF_IN_KERNEL,
        VcpuGuestContext, VcpuHvmContext, VcpuHvmX86_64, VcpuRegisterVcpuInfo,
        VcpuSetSingleshotTimer,
    },
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{HypercallError, Machine, hypercall::check, machine::Arg};

/// More vCPUs than this are not looked for (`MAX_VIRT_CPUS` of a PV guest).
const MOST: u32 = 8192;

/// `FLAT_KERNEL_CS` of a 64-bit PV guest.
const KERNEL_CS: u16 = 0xe033;
/// `FLAT_KERNEL_SS`
const KERNEL_SS: u64 = 0xe02b;

/// The context of a PV vCPU that starts at `rip` with this stack, first
/// argument and L4 table's frame, and with event upcalls masked.
#[must_use]
pub fn pv_context(rip: u64, rsp: u64, rdi: u64, root: u64) -> Box<VcpuGuestContext> {
    let mut context = Box::new(VcpuGuestContext::new_zeroed());
    // Not `VGCF_online`: Xen would call the vCPU up without waking it, and
    // `VCPUOP_up` then finds nothing to do (`arch_set_info_guest`).
    context.flags = VGCF_IN_KERNEL;
    context.user_regs.general[14] = rdi;
    context.user_regs.rip = rip;
    context.user_regs.cs = KERNEL_CS;
    context.user_regs.rflags = 1 << 9;
    context.user_regs.rsp = rsp;
    context.user_regs.segments[0] = KERNEL_SS;
    context.kernel_ss = KERNEL_SS;
    context.kernel_sp = rsp;
    context.ctrlreg[3] = root << 12;
    context
}

fn vcpu_op<M: Machine + ?Sized>(
    m: &M,
    what: &'static str,
    op: u64,
    vcpu: u32,
    arg: Arg<'_>,
) -> Result<u64, HypercallError> {
    let mut args = [Arg::Value(op), Arg::Value(u64::from(vcpu)), arg];
    check(
        Hypercall::VCPU_OP,
        what,
        m.hypercall(Hypercall::VCPU_OP, &mut args),
    )
}

/// Whether a vCPU runs, or would; `None` if the domain has no such vCPU.
pub fn is_up<M: Machine + ?Sized>(m: &M, vcpu: u32) -> Result<Option<bool>, HypercallError> {
    match vcpu_op(m, "is_up", VCPUOP_IS_UP, vcpu, Arg::Value(0)) {
        Ok(up) => Ok(Some(up != 0)),
        Err(error) if error.errno == Errno::ENOENT => Ok(None),
        Err(error) => Err(error),
    }
}

/// How many vCPUs the domain has.
pub fn count<M: Machine + ?Sized>(m: &M) -> Result<u32, HypercallError> {
    let mut count = 0;
    while count < MOST && is_up(m, count)?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// The registers with which a vCPU of a translated guest starts in 64-bit mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context64 {
    /// Where it starts.
    pub rip: u64,
    /// Its stack.
    pub rsp: u64,
    /// First argument.
    pub rdi: u64,
    /// Page tables, physical.
    pub cr3: u64,
}

/// PE, ET, WP, PG
const CR0: u64 = 1 | (1 << 4) | (1 << 16) | (1 << 31);
/// PAE, OSFXSR, OSXMMEXCPT
const CR4: u64 = (1 << 5) | (1 << 9) | (1 << 10);
/// LME, LMA
const EFER: u64 = (1 << 8) | (1 << 10);

/// Gives a vCPU of a translated guest its context. `EEXIST` from a vCPU that
/// has one and was not made as new.
pub fn initialise<M: Machine + ?Sized>(
    m: &M,
    vcpu: u32,
    with: &Context64,
) -> Result<(), HypercallError> {
    let mut regs = VcpuHvmX86_64::new_zeroed();
    regs.rip = with.rip;
    regs.general[4] = with.rsp;
    regs.general[7] = with.rdi;
    regs.rflags = 2;
    regs.cr0 = CR0;
    regs.cr3 = with.cr3;
    regs.cr4 = CR4;
    regs.efer = EFER;
    let mut context = VcpuHvmContext {
        mode: HVM_MODE_64B,
        pad: 0,
        cpu_regs: [0; 15],
    };
    context
        .cpu_regs
        .as_mut_bytes()
        .copy_from_slice(regs.as_bytes());
    let arg = Arg::In(context.as_bytes());
    vcpu_op(m, "initialise", VCPUOP_INITIALISE, vcpu, arg).map(drop)
}

/// Gives a PV vCPU its context, which nothing can take back.
pub fn initialise_pv<M: Machine + ?Sized>(
    m: &M,
    vcpu: u32,
    context: &VcpuGuestContext,
) -> Result<(), HypercallError> {
    let arg = Arg::In(context.as_bytes());
    vcpu_op(m, "initialise", VCPUOP_INITIALISE, vcpu, arg).map(drop)
}

/// Has a vCPU with a context run.
pub fn up<M: Machine + ?Sized>(m: &M, vcpu: u32) -> Result<(), HypercallError> {
    vcpu_op(m, "up", VCPUOP_UP, vcpu, Arg::Value(0)).map(drop)
}

/// Has `VIRQ_TIMER` of a vCPU raised once, at this time of its clock.
pub fn set_timer<M: Machine + ?Sized>(
    m: &M,
    vcpu: u32,
    at_nanoseconds: u64,
) -> Result<(), HypercallError> {
    let arg = VcpuSetSingleshotTimer {
        timeout_abs_ns: at_nanoseconds,
        flags: 0,
        pad: 0,
    };
    let arg = Arg::In(arg.as_bytes());
    vcpu_op(
        m,
        "set_singleshot_timer",
        VCPUOP_SET_SINGLESHOT_TIMER,
        vcpu,
        arg,
    )
    .map(drop)
}

/// Has `VIRQ_TIMER` of a vCPU raised no more.
pub fn stop_timer<M: Machine + ?Sized>(m: &M, vcpu: u32) -> Result<(), HypercallError> {
    let none = Arg::Value(0);
    vcpu_op(
        m,
        "stop_singleshot_timer",
        VCPUOP_STOP_SINGLESHOT_TIMER,
        vcpu,
        none,
    )
    .map(drop)
}

/// Has Xen keep a vCPU's `vcpu_info` in a frame of the guest's, for good:
/// nothing unregisters it, and Linux panics on finding it taken.
pub fn register_vcpu_info<M: Machine + ?Sized>(
    m: &M,
    vcpu: u32,
    frame: u64,
    offset: u32,
) -> Result<(), HypercallError> {
    let arg = VcpuRegisterVcpuInfo {
        mfn: frame,
        offset,
        rsvd: 0,
    };
    let arg = Arg::In(arg.as_bytes());
    vcpu_op(
        m,
        "register_vcpu_info",
        VCPUOP_REGISTER_VCPU_INFO,
        vcpu,
        arg,
    )
    .map(drop)
}

/// Has Xen write a vCPU's runstate or time to an address or page of the
/// guest's; the opposite is [`crate::release::unregister_area`].
pub fn register_area<M: Machine + ?Sized>(
    m: &M,
    vcpu: u32,
    area: crate::release::Area,
    at: u64,
) -> Result<(), HypercallError> {
    let arg = Arg::In(at.as_bytes());
    vcpu_op(m, "register an area", area.register(), vcpu, arg).map(drop)
}

/// The vector of event upcalls of a translated guest (`HVM_PARAM_CALLBACK_IRQ`,
/// type 2). In a PVH guest nothing unsets it.
pub fn set_callback_vector<M: Machine + ?Sized>(m: &M, vector: u8) -> Result<(), HypercallError> {
    let value = (2 << 56) | u64::from(vector);
    crate::hypercall::set_hvm_param(m, "callback vector", HVM_PARAM_CALLBACK_IRQ, value)
}

/// Has Xen enter a PV guest at this address for events, failures and system
/// calls, and for the breakpoint trap. The opposite is
/// [`crate::release::no_upcalls`].
pub fn set_pv_callbacks<M: Machine + ?Sized>(m: &M, address: u64) -> Result<(), HypercallError> {
    let mut args = [
        Arg::Value(address),
        Arg::Value(address),
        Arg::Value(address),
    ];
    let result = m.hypercall(Hypercall::SET_CALLBACKS, &mut args);
    check(Hypercall::SET_CALLBACKS, "set", result)?;
    let mut table = [TrapInfo::new_zeroed(); 2];
    table[0].vector = 3;
    table[0].cs = KERNEL_CS;
    table[0].address = address;
    let mut args = [Arg::In(table.as_bytes())];
    let result = m.hypercall(Hypercall::SET_TRAP_TABLE, &mut args);
    check(Hypercall::SET_TRAP_TABLE, "set", result).map(drop)
}

/// No event upcalls any more: for HVM guests alone.
pub fn no_callback<M: Machine + ?Sized>(m: &M) -> Result<(), HypercallError> {
    crate::hypercall::set_hvm_param(m, "no callback", HVM_PARAM_CALLBACK_IRQ, 0)
}
