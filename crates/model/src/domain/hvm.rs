//! Parameters of HVM and PVH domains, and how Xen interrupts them.
//!
//! Rules: `hvm_allow_set_param`, `hvm_set_param`, `hvm_allow_get_param`,
//! `hvmop_set_evtchn_upcall_vector`, `do_hvm_op` in Xen's
//! `arch/x86/hvm/hvm.c`; `hvm_set_callback_via` in `arch/x86/hvm/irq.c`;
//! `pmtimer_change_ioport` in `arch/x86/hvm/pmtimer.c`. A vector is never
//! unset; a callback of another kind needs a PC's interrupt controllers, so
//! that a PVH guest cannot unset its callback either: the parameter is
//! written, and nothing else happens. Not here: altp2m, memory types,
//! tracing.

use kexen_abi::errno::Errno;
use kexen_abi::hvm::{
    HVM_NR_PARAMS, HVM_PARAM_ACPI_IOPORTS_LOCATION, HVM_PARAM_ALTP2M, HVM_PARAM_CALLBACK_IRQ,
    HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN,
    HVM_PARAM_VM_GENERATION_ID_ADDR, HVM_PARAM_VM86_TSS, HVM_PARAM_VM86_TSS_SIZED,
    HVM_PARAM_X87_FIP_WIDTH, HVMOP_FLUSH_TLBS, HVMOP_GET_PARAM, HVMOP_GET_TIME,
    HVMOP_GUEST_REQUEST_VM_EVENT, HVMOP_PAGETABLE_DYING, HVMOP_SET_EVTCHN_UPCALL_VECTOR,
    HVMOP_SET_PARAM, HvmEvtchnUpcallVector, HvmPagetableDying, HvmParam,
};

use crate::call::{Answer, Call};
use crate::state::{Kind, State, Version, Who};

/// Parameters that a guest may set of itself.
const SETTABLE: [u32; 8] = [
    HVM_PARAM_CALLBACK_IRQ,
    HVM_PARAM_STORE_EVTCHN,
    HVM_PARAM_VM86_TSS,
    HVM_PARAM_CONSOLE_EVTCHN,
    HVM_PARAM_ACPI_IOPORTS_LOCATION,
    HVM_PARAM_VM_GENERATION_ID_ADDR,
    HVM_PARAM_X87_FIP_WIDTH,
    HVM_PARAM_VM86_TSS_SIZED,
];
/// Parameters that it may read beside.
const READABLE: [u32; 3] = [HVM_PARAM_STORE_PFN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_ALTP2M];
/// Parameters that exist no more.
const DEPRECATED: [u32; 10] = [4, 13, 20, 21, 22, 23, 24, 25, 26, 30];
/// Lines of the interrupt controller (`NR_HVM_DOMU_IRQS`).
const GSIS: u8 = 48;
/// `VM86_TSS_UPDATED`
const TSS_UPDATED: u64 = 1 << 63;
/// Bytes of a task state segment, without and with all its bitmaps.
const TSS: (u64, u64) = (104, 104 + 32 + 8192 + 1);

/// How Xen tells a domain of events (`HVM_PARAM_CALLBACK_IRQ`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Via {
    #[default]
    None,
    Gsi(u8),
    /// Device and pin.
    PciIntx(u8, u8),
    Vector(u8),
}

impl Via {
    /// What a value of the parameter means.
    fn of(value: u64) -> Self {
        let [low, second, ..] = value.to_le_bytes();
        match value >> 56 {
            0 if low > 0 && low < GSIS => Self::Gsi(low),
            1 => Self::PciIntx(second >> 3, low & 3),
            2 => Self::Vector(low),
            _ => Self::None,
        }
    }
}

/// `HYPERVISOR_hvm_op`
pub(crate) fn hvm_op(call: &mut Call<'_, '_, '_>) -> Answer {
    let domain = call.who.domain;
    let translated = call.state.domains[domain].kind.translated();
    match call.value(0) {
        HVMOP_SET_PARAM => {
            let arg: HvmParam = call.read(1, 0)?;
            let target = named(call, &arg)?;
            set_param(call, target, arg.index, arg.value)?;
        }
        HVMOP_GET_PARAM => {
            let mut arg: HvmParam = call.read(1, 0)?;
            let target = named(call, &arg)?;
            arg.value = get_param(call, target, arg.index)?;
            call.write(1, 0, &arg)?;
        }
        HVMOP_SET_EVTCHN_UPCALL_VECTOR => {
            if !translated {
                return Err(Errno::EINVAL);
            }
            let arg: HvmEvtchnUpcallVector = call.read(1, 0)?;
            if arg.vector < 0x10 {
                return Err(Errno::EINVAL);
            }
            crate::vcpus::named(call, arg.vcpu)?;
            let vectors = &mut call.state.domains[domain].life.upcall_vectors;
            vectors.insert(arg.vcpu, arg.vector);
        }
        HVMOP_FLUSH_TLBS => {
            if !call.is_null(1) || !translated {
                return Err(Errno::EINVAL);
            }
            call.state.flush_domain(domain);
        }
        HVMOP_PAGETABLE_DYING => {
            let arg: HvmPagetableDying = call.read(1, 0)?;
            let target = call.state.resolve(call.who, arg.domid)?;
            // With hardware's own paging there is nothing to be told.
            let own = target == domain;
            return Err(if own {
                Errno::EINVAL
            } else {
                Errno::EOPNOTSUPP
            });
        }
        HVMOP_GET_TIME => {
            let now = call.state.now();
            call.write(1, 0, &now)?;
        }
        HVMOP_GUEST_REQUEST_VM_EVENT => {
            if !call.is_null(1) {
                return Err(Errno::EINVAL);
            }
        }
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// The domain that a parameter is of.
fn named(call: &Call<'_, '_, '_>, arg: &HvmParam) -> Result<usize, Errno> {
    if arg.index >= HVM_NR_PARAMS {
        return Err(Errno::EINVAL);
    }
    let target = match call.state.resolve(call.who, arg.domid) {
        // Domain 0 is always there, and is PV.
        Err(_) if arg.domid == 0 => return Err(Errno::EINVAL),
        other => other?,
    };
    if !call.state.domains[target].kind.translated() {
        return Err(Errno::EINVAL);
    }
    if target != call.who.domain && call.state.id(call.who) != 0 {
        return Err(Errno::EPERM);
    }
    if DEPRECATED.contains(&arg.index) {
        return Err(Errno::EINVAL);
    }
    Ok(target)
}

fn get_param(call: &Call<'_, '_, '_>, target: usize, index: u32) -> Answer {
    let known = SETTABLE.contains(&index) || READABLE.contains(&index);
    if !known && target == call.who.domain {
        return Err(Errno::EPERM);
    }
    let params = &call.state.domains[target].life.params;
    let value = |index| params.get(&index).copied();
    Ok(match index {
        HVM_PARAM_VM86_TSS => value(HVM_PARAM_VM86_TSS_SIZED).unwrap_or(0) & 0xffff_ffff,
        HVM_PARAM_VM86_TSS_SIZED => value(index).unwrap_or(0) & !TSS_UPDATED,
        // Processors of today do not keep the selectors.
        HVM_PARAM_X87_FIP_WIDTH => value(index).unwrap_or(8),
        _ => value(index).unwrap_or(0),
    })
}

fn set_param(
    call: &mut Call<'_, '_, '_>,
    target: usize,
    index: u32,
    value: u64,
) -> Result<(), Errno> {
    let state = &mut *call.state;
    if index == HVM_PARAM_ALTP2M && state.version == Version::Xen4_20 {
        return Err(Errno::EEXIST);
    }
    if target == call.who.domain && !SETTABLE.contains(&index) {
        return Err(Errno::EPERM);
    }
    let (index, value) = match index {
        HVM_PARAM_CALLBACK_IRQ => {
            state.set_callback_via(target, value);
            (index, value)
        }
        HVM_PARAM_ACPI_IOPORTS_LOCATION => {
            if state.domains[target].kind != Kind::Hvm {
                return Err(Errno::ENODEV);
            }
            let old = state.domains[target].life.params.get(&index).copied();
            if (value ^ old.unwrap_or(0)) > 1 {
                return Err(Errno::EINVAL);
            }
            (index, value)
        }
        HVM_PARAM_X87_FIP_WIDTH if !matches!(value, 0 | 4 | 8) => return Err(Errno::EINVAL),
        HVM_PARAM_VM86_TSS if value >> 32 != 0 => return state.bad_tss(call.who, target),
        HVM_PARAM_VM86_TSS if value > 0 => {
            (HVM_PARAM_VM86_TSS_SIZED, value | 128 << 32 | TSS_UPDATED)
        }
        HVM_PARAM_VM86_TSS => (HVM_PARAM_VM86_TSS_SIZED, 0),
        HVM_PARAM_VM86_TSS_SIZED if value >> 32 < TSS.0 => {
            return state.bad_tss(call.who, target);
        }
        HVM_PARAM_VM86_TSS_SIZED => {
            let size = (value >> 32).min(TSS.1);
            (index, (value & 0xffff_ffff) | size << 32 | TSS_UPDATED)
        }
        _ => (index, value),
    };
    state.domains[target].life.params.insert(index, value);
    Ok(())
}

impl State {
    /// `hvm_set_callback_via`
    fn set_callback_via(&mut self, domain: usize, value: u64) {
        let via = Via::of(value);
        let pc = self.domains[domain].kind == Kind::Hvm;
        // The kind counts here, not what comes of it.
        if pc || value >> 56 == 2 {
            self.domains[domain].life.via = via;
        }
    }

    /// A domain that sets itself a task state that cannot be is ended.
    fn bad_tss(&mut self, who: Who, target: usize) -> Result<(), Errno> {
        if target == who.domain {
            self.crash(target, "a task state segment that cannot be".into());
        }
        Err(Errno::EINVAL)
    }
}
